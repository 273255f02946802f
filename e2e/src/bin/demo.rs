//! `make demo`: a shop's database behind the gate, shown in a terminal. Starts everything it needs and, unless told to
//! keep it, leaves nothing running.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};

use anyhow::{Context, Result};
use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions, clean_environment};
use postern_e2e::wire::{Message, Wire, rows};
use serde_json::Value;

const SHOP: &str = include_str!("../../demo/shop.sql");
const POLICY: &str = include_str!("../../demo/policy.yaml");
const IDENTITIES: &str = include_str!("../../demo/identities.yaml");
const WIDTH: usize = 100;
/// The metrics that are shown.
const TOLD: [&str; 7] = [
    "postern_statements_total",
    "postern_denials_total",
    "postern_masked_predicates_total",
    "postern_rows_delivered_total",
    "postern_bytes_delivered_total",
    "postern_sessions_total",
    "postern_decision_seconds_count",
];

/// Terminal colours, or nothing where the output is no terminal.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
    fn red(self, text: &str) -> String {
        self.with("31", text)
    }
    fn green(self, text: &str) -> String {
        self.with("32", text)
    }
    fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }
    fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }
}

struct Demo {
    paint: Paint,
    server: Server,
    report: Gate,
    support: Gate,
}

fn main() -> Result<()> {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let paint = Paint(stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let step = |text: &str| println!("{}", paint.dim(&format!("… {text}")));

    step("starting a private Postgres with a small shop in it");
    let server = Server::start(&ServerOptions::default())?;
    server.psql("postgres", "CREATE DATABASE shop")?;
    server.psql("shop", SHOP)?;
    step("starting the gate for nightly-report and for support-agent");
    let gate = |identity: &str| {
        Gate::start(&GateOptions {
            policy: POLICY.replace("${PORT}", &server.port().to_string()),
            identities: IDENTITIES.into(),
            identity: identity.into(),
            secrets: vec![
                ("shop-postern".into(), "username".into(), "postern".into()),
                ("shop-postern".into(), "password".into(), "known-to-the-gate-only".into()),
            ],
            arguments: Vec::new(),
            environment: Vec::new(),
        })
    };
    let (report, support) = (gate("nightly-report")?, gate("support-agent")?);
    let demo = Demo { paint, server, report, support };

    demo.title("The same SELECT, three pairs of eyes");
    demo.compare("SELECT * FROM customers WHERE id = 1")?;
    demo.compare("SELECT region, count(*), sum(total) FROM orders GROUP BY region ORDER BY region")?;
    println!(
        "{}",
        paint.dim("No result was rewritten: each identity has its own view of the table, put into the statement.")
    );

    demo.title("Ways around it, tried as nightly-report");
    demo.note("Allowed, and it works on the mask:");
    for sql in [
        "SELECT card_number AS name FROM customers WHERE id = 1",
        "SELECT to_jsonb(c) FROM customers c WHERE id = 1",
        "SELECT encode(card_number::bytea, 'hex') FROM customers WHERE id = 1",
        "SELECT id FROM customers WHERE card_number = '4929 1111 2222 9012'",
        "SELECT card_number::int FROM customers WHERE id = 1",
    ] {
        demo.attempt(&demo.report, sql)?;
    }
    demo.note("Refused, before anything reaches the server:");
    for sql in [
        "SELECT ssn FROM customers",
        "SELECT * FROM employees",
        "SELECT card_of(1)",
        "UPDATE customers SET city = 'Rome' WHERE id = 1",
        "COPY customers TO STDOUT",
        "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
        "SET ROLE postgres",
        "SELECT 1; DROP TABLE customers",
    ] {
        demo.attempt(&demo.report, sql)?;
    }
    demo.pg_dump()?;

    demo.title("support-agent may write, and destroys nothing");
    demo.note("It saves a whole row as an ORM would, with the masked card as it read it:");
    demo.attempt(
        &demo.support,
        "UPDATE customers SET name = 'Ada', card_number = '***************9012' WHERE id = 1 RETURNING *",
    )?;
    let stored = demo.server.psql("shop", "SELECT name || ', ' || card_number FROM customers WHERE id = 1")?;
    println!("  stored in the database: {}\n", paint.bold(stored.trim()));

    demo.audit()?;
    demo.metrics()?;

    if keep {
        demo.title("Left running");
        let line = |who: &str, port: u16, user: &str| {
            println!("  {who:<16} psql 'host=127.0.0.1 port={port} dbname=shop user={user} sslmode=disable'");
        };
        line("nightly-report", demo.report.port(), "me");
        line("support-agent", demo.support.port(), "me");
        println!(
            "  {:<16} psql 'host={} port={} dbname=shop user={ADMIN}'",
            "directly",
            demo.server.socket_folder().display(),
            demo.server.port()
        );
        println!("  {:<16} {}", "policy", demo.report.folder().join("policy.yaml").display());
        println!("  {:<16} curl http://127.0.0.1:{}/metrics", "metrics", demo.report.admin_port());
        println!("  {:<16} {}", "audit", demo.report.folder().join("audit.jsonl").display());
        println!("\n{}", paint.bold("Press Ctrl-C to stop it all."));
        loop {
            std::thread::park();
        }
    }
    println!("{}", paint.dim("… stopped; nothing is left running. `make demo KEEP=1` leaves it for you to try."));
    Ok(())
}

impl Demo {
    fn title(&self, text: &str) {
        println!("\n{} {}\n", self.paint.bold(text), self.paint.dim(&"─".repeat(WIDTH.saturating_sub(text.len() + 1))));
    }

    fn note(&self, text: &str) {
        println!("{}\n", self.paint.bold(text));
    }

    fn wire(&self, gate: Option<&Gate>) -> Result<Wire> {
        match gate {
            None => Wire::connect(self.server.port(), ADMIN, ADMIN_PASSWORD, "shop"),
            Some(gate) => Wire::connect(gate.port(), "me", "", "shop"),
        }
    }

    /// One statement directly and as each identity, answers side by side.
    fn compare(&self, sql: &str) -> Result<()> {
        println!("{}", self.paint.cyan(&format!("  {sql}")));
        let viewers =
            [("directly", None), ("nightly-report", Some(&self.report)), ("support-agent", Some(&self.support))];
        let mut columns: Vec<(String, BTreeMap<String, String>)> = Vec::new();
        let mut labels: Vec<String> = Vec::new();
        for (name, gate) in viewers {
            let answer = self.wire(gate)?.simple(sql)?;
            let names =
                answer.iter().find(|message| message.tag == b'T').map(Message::column_names).unwrap_or_default();
            let rows = rows(&answer);
            let single = rows.len() == 1 && names.len() > 3;
            let mut cells = BTreeMap::new();
            for row in rows {
                if single {
                    cells.extend(names.iter().cloned().zip(row));
                } else if let Some((first, rest)) = row.split_first() {
                    cells.insert(first.clone(), rest.join("  "));
                }
            }
            let order: Vec<String> = if single { names } else { cells.keys().cloned().collect() };
            labels.extend(order.into_iter().filter(|label| !labels.contains(label)).collect::<Vec<_>>());
            if let Some(error) = postern_e2e::wire::error(&answer) {
                cells.insert("".into(), error.fields().remove(&'M').unwrap_or_default());
            }
            columns.push((name.to_owned(), cells));
        }
        self.table(&labels, &columns);
        Ok(())
    }

    fn table(&self, labels: &[String], columns: &[(String, BTreeMap<String, String>)]) {
        let first = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = columns
            .iter()
            .map(|(name, cells)| {
                let shown = labels.iter().filter_map(|label| cells.get(label));
                shown.chain([name]).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let rule = |left: &str, middle: &str, right: &str| {
            let mut line = format!("  {left}{}", "─".repeat(first + 2));
            for width in &widths {
                line += &format!("{middle}{}", "─".repeat(width + 2));
            }
            println!("{}", self.paint.dim(&(line + right)));
        };
        let bar = self.paint.dim("│");
        rule("┌", "┬", "┐");
        let mut line = format!("  {bar} {:<first$} ", "");
        for ((name, _), width) in columns.iter().zip(&widths) {
            line += &format!("{bar} {} ", self.paint.bold(&format!("{name:<width$}")));
        }
        println!("{line}{bar}");
        rule("├", "┼", "┤");
        let raw = columns.first().map(|(_, cells)| cells);
        for label in labels {
            let mut line = format!("  {bar} {label:<first$} ");
            for (index, ((_, cells), width)) in columns.iter().zip(&widths).enumerate() {
                let cell = cells.get(label);
                let text = format!("{:<width$}", cell.map_or("—", String::as_str));
                let same = cell == raw.and_then(|raw| raw.get(label));
                let differs = columns.iter().any(|(_, other)| other.get(label) != cell);
                let text = match cell {
                    None => self.paint.dim(&text),
                    Some(_) if index == 0 && differs => self.paint.red(&text),
                    Some(_) if !same => self.paint.green(&text),
                    Some(_) => text,
                };
                line += &format!("{bar} {text} ");
            }
            println!("{line}{bar}");
        }
        rule("└", "┴", "┘");
        println!();
    }

    /// A statement through a gate, and its answer as psql would read it.
    fn attempt(&self, gate: &Gate, sql: &str) -> Result<()> {
        self.folded(sql, 2, |line| self.paint.cyan(line));
        let answer = self.wire(Some(gate))?.simple(sql)?;
        for message in &answer {
            match message.tag {
                b'D' => {
                    let row = rows(std::slice::from_ref(message)).concat().join(" │ ");
                    println!("  {}", self.paint.green(&row));
                }
                b'E' => self.complaint(message, Paint::red),
                b'N' => self.complaint(message, Paint::yellow),
                b'C' if !answer.iter().any(|message| matches!(message.tag, b'D' | b'E')) => {
                    let tag = String::from_utf8_lossy(&message.body);
                    println!("  {}", self.paint.green(&format!("({})", tag.trim_end_matches('\0'))));
                }
                _ => {}
            }
        }
        println!();
        Ok(())
    }

    fn complaint(&self, message: &Message, colour: fn(Paint, &str) -> String) {
        let fields = message.fields();
        let field = |code: char| fields.get(&code).map(String::as_str).unwrap_or_default();
        let text = format!("{}:  {} [{}]", field('S'), field('M'), field('C'));
        self.folded(&text, 9, |line| colour(self.paint, line));
        for (code, name) in [('D', "DETAIL"), ('H', "HINT")] {
            if let Some(text) = fields.get(&code) {
                self.folded(&format!("{name}:  {text}"), 9, |line| self.paint.dim(line));
            }
        }
    }

    fn pg_dump(&self) -> Result<()> {
        println!("{}", self.paint.cyan("  $ pg_dump shop > everything.sql"));
        let mut command = std::process::Command::new(self.server.client_program("pg_dump"));
        clean_environment(&mut command);
        let output = command
            .args(["-h", "127.0.0.1", "-p", &self.report.port().to_string(), "-U", "me", "shop"])
            .output()
            .context("run pg_dump")?;
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            self.folded(line, 9, |line| self.paint.red(line));
        }
        println!("  {}\n", self.paint.dim(&format!("exit status {}", output.status.code().unwrap_or(-1))));
        Ok(())
    }

    /// Text in lines of the terminal's width, those after the first indented by `hang` more.
    fn folded(&self, text: &str, hang: usize, colour: impl Fn(&str) -> String) {
        let mut line = String::new();
        let mut indent = 2;
        for word in text.split(' ') {
            if line.trim_start().is_empty() || indent + line.chars().count() + 1 + word.chars().count() <= WIDTH {
                line += &if line.is_empty() { word.to_owned() } else { format!(" {word}") };
            } else {
                println!("{:indent$}{}", "", colour(&line));
                (line, indent) = (word.to_owned(), 2 + hang);
            }
        }
        println!("{:indent$}{}", "", colour(&line));
    }

    fn audit(&self) -> Result<()> {
        self.title("The audit log has it all");
        self.note(
            "One line of JSON for each event; a statement's is written before it is sent. Folded here to be read:",
        );
        let text = std::fs::read_to_string(self.report.folder().join("audit.jsonl"))?;
        let told = ["to_jsonb", "card_of"];
        for line in told.iter().filter_map(|word| text.lines().find(|line| line.contains(word))) {
            self.event(line);
            let event: Value = serde_json::from_str(line)?;
            let same = |other: &Value, field: &str| other.get(field) == event.get(field);
            let end = |line: &&str| {
                serde_json::from_str::<Value>(line).is_ok_and(|other| {
                    other.get("event").is_some_and(|kind| kind == "statement_end")
                        && same(&other, "session")
                        && same(&other, "statement")
                })
            };
            if let Some(line) = text.lines().find(end) {
                self.event(line);
            }
        }
        Ok(())
    }

    /// An audit event, folded at its fields.
    fn event(&self, line: &str) {
        let (allow, deny) = ("\"decision\":\"allow\"", "\"decision\":\"deny\"");
        self.folded(&line.replace(",\"", ", \""), 1, |line| {
            line.replace(allow, &self.paint.green(allow)).replace(deny, &self.paint.red(deny))
        });
        println!();
    }

    fn metrics(&self) -> Result<()> {
        self.title("and so do the metrics");
        let text = self.report.metrics()?;
        for name in TOLD {
            for line in text.lines().filter(|line| line.starts_with(name) && !line.ends_with(" 0")) {
                println!("  {line}");
            }
        }
        println!(
            "  {}\n",
            self.paint.dim("… and more, with histograms of the time that decisions and the server take")
        );
        stdout().flush()?;
        Ok(())
    }
}
