//! Records the transparency corpus: runs real programs against a real Postgres through a relay that writes down every
//! message they send. Needs pip, npm and mvn, which fetch the programs; the tests need only what was recorded.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use postern_e2e::postgres::{Server, ServerOptions, clean_environment};
use postern_e2e::replay;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../corpus/transparency.schema.sql");

type Sessions = Arc<Mutex<Vec<Vec<Value>>>>;

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
        let sessions = Sessions::default();
        let port = relay(server.port(), Arc::clone(&sessions))?;
        for command in commands {
            let (program, arguments) = command.split_first().context("no command")?;
            println!("{name}: {}", command.join(" "));
            let mut command = Command::new(program);
            clean_environment(&mut command);
            let status = command
                .args(arguments)
                .env("PGHOST", "127.0.0.1")
                .env("PGPORT", port.to_string())
                .env("PGDATABASE", "shop")
                .env("PGUSER", "app")
                .env("PGSSLMODE", "disable")
                .env("PGGSSENCMODE", "disable")
                .env("NODE_PATH", tools.join("node/node_modules"))
                .stdout(fs::File::create(tools.join(format!("{name}.out")))?)
                .status()?;
            ensure!(status.success(), "{name} failed");
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        let sessions = sessions.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
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

/// A relay to the server on a port of its own.
fn relay(server: u16, sessions: Sessions) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let Ok(mut held) = sessions.lock() else { return };
            let index = held.len();
            held.push(Vec::new());
            drop(held);
            let sessions = Arc::clone(&sessions);
            if let (Ok(mut from), Ok(mut to)) = (upstream.try_clone(), client.try_clone()) {
                std::thread::spawn(move || {
                    _ = io::copy(&mut from, &mut to);
                    _ = to.shutdown(Shutdown::Both);
                });
            }
            std::thread::spawn(move || _ = record(client, upstream, index, &sessions));
        }
    });
    Ok(port)
}

fn record(mut client: TcpStream, mut upstream: TcpStream, index: usize, sessions: &Sessions) -> Result<()> {
    let mut started = false;
    loop {
        let mut tag = [0; 1];
        if started && client.read_exact(&mut tag).is_err() {
            break;
        }
        let mut length = [0; 4];
        if client.read_exact(&mut length).is_err() {
            break;
        }
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length))?.saturating_sub(4)];
        client.read_exact(&mut body)?;
        let mut frame = if started { tag.to_vec() } else { Vec::new() };
        frame.extend(length);
        frame.extend(&body);
        let value = if started { replay::decode(tag[0], &body)? } else { replay::decode_startup(&body)? };
        started |= value.is_some();
        if let Some(value) = value {
            let mut sessions = sessions.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
            if let Some(session) = sessions.get_mut(index) {
                session.push(value);
            }
        }
        upstream.write_all(&frame)?;
    }
    _ = upstream.shutdown(Shutdown::Write);
    Ok(())
}
