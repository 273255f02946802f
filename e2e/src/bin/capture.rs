//! Records the transparency corpus: runs real programs against a real Postgres through a relay that writes down every
//! message they send. Needs pip, npm and mvn, which fetch the programs; the tests need only what was recorded.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_e2e::postgres::{Server, ServerOptions, clean_environment};
use postern_e2e::replay::{self, Recorder};

const SCHEMA: &str = include_str!("../../corpus/transparency.schema.sql");

fn main() -> Result<()> {
    let root = postern_e2e::workspace().join("e2e");
    let tools = std::env::temp_dir().join("postern-capture");
    fs::create_dir_all(&tools)?;
    set_up(&tools)?;
    let capture = root.join("capture");
    let python = tools.join("venv/bin/python").display().to_string();
    let file = |name: &str| capture.join(name).display().to_string();
    let jar = tools.join("jars/*").display().to_string();
    let pg = postern_e2e::postgres::binaries(None)?;
    let psql = pg.join("psql").display().to_string();
    let pg_dump = pg.join("pg_dump").display().to_string();
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let programs: Vec<(&str, Vec<Vec<String>>)> = vec![
        ("psql", vec![own(&[&psql, "-X", "-f", &file("psql.sql")])]),
        (
            "pg_dump",
            vec![
                own(&[&pg_dump]),
                own(&[&pg_dump, "--schema-only", "--no-owner", "-n", "archive"]),
                own(&[&pg_dump, "--data-only", "--column-inserts", "-t", "customers"]),
                own(&[&pg_dump, "--format=custom", "--serializable-deferrable"]),
            ],
        ),
        ("psycopg", vec![own(&[&python, &file("psycopg_.py")])]),
        ("sqlalchemy", vec![own(&[&python, &file("sqlalchemy_.py")])]),
        ("django", vec![own(&[&python, &file("django_.py")])]),
        ("node-postgres", vec![own(&["node", &file("node.js")])]),
        ("pgjdbc", vec![own(&["java", "-cp", &jar, &file("Jdbc.java")])]),
    ];
    for (name, commands) in programs {
        // A server each, so that object ids are the same when it is replayed.
        let server = Server::start(&ServerOptions { auth: "trust".into(), ..Default::default() })?;
        replay::prepare(&server, SCHEMA)?;
        let recorder = Recorder::start(server.port())?;
        for command in commands {
            let (program, arguments) = command.split_first().context("no command")?;
            println!("{name}: {}", command.join(" "));
            let mut command = Command::new(program);
            clean_environment(&mut command);
            let status = command
                .args(arguments)
                .env("PGHOST", "127.0.0.1")
                .env("PGPORT", recorder.port().to_string())
                .env("PGDATABASE", "shop")
                .env("PGUSER", "app")
                .env("PGSSLMODE", "disable")
                .env("PGGSSENCMODE", "disable")
                .env("NODE_PATH", tools.join("node/node_modules"))
                .stdout(fs::File::create(tools.join(format!("{name}.out")))?)
                .status()?;
            ensure!(status.success(), "{name} failed");
        }
        let sessions = recorder.take()?;
        let mut text = String::new();
        let (mut queries, mut messages) = (0, 0);
        for message in sessions.iter().flatten() {
            messages += 1;
            queries += usize::from(message.get("query").is_some() || message.get("parse").is_some());
            text.push_str(&serde_json::to_string(message)?);
            text.push('\n');
        }
        println!("{name}: {} sessions, {messages} messages, {queries} queries", sessions.len());
        fs::write(root.join("corpus/transparency").join(format!("{name}.jsonl")), text)?;
    }
    Ok(())
}

fn set_up(tools: &Path) -> Result<()> {
    let shell = |script: &str| -> Result<()> {
        let status = Command::new("/bin/sh").args(["-ec", script]).current_dir(tools).status()?;
        ensure!(status.success(), "failed: {script}");
        Ok(())
    };
    if !tools.join("venv").exists() {
        shell("python3 -m venv venv && venv/bin/pip -q install 'psycopg[binary]' sqlalchemy django")?;
    }
    if !tools.join("node/node_modules/pg").exists() {
        shell("mkdir -p node && cd node && npm init -y >/dev/null && npm install --silent pg")?;
    }
    if !tools.join("jars").exists() {
        shell("mvn -q dependency:copy -Dartifact=org.postgresql:postgresql:42.7.4 -DoutputDirectory=jars")?;
    }
    Ok(())
}
