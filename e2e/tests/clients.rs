//! Real programs do not notice the gate, but for the masks: each works once directly on a database that holds the masks
//! and once through the gate on the original, and has to report the same, step by step. The programs, the schema and the
//! policy are in `clients/`.
//!
//! They work once more with row filters beside the masks, where the original has rows outside of them.
//!
//! `limits.txt` there holds the steps that the design refuses, with the outcome and the reason; anything else that differs fails. The table in
//! `docs/clients.md` says what was run: `POSTERN_BLESS=1` writes the rows of the programs that are run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::leak::Needles;
use postern_e2e::postgres::{Server, ServerOptions};
use postern_e2e::programs::{self, Prepared, Target};
use postern_e2e::wire::{Message, Wire};

const SCHEMA: &str = include_str!("../clients/schema.sql");
const POLICY: &str = include_str!("../clients/policy.yaml");
const LIMITS: &str = include_str!("../clients/limits.txt");
const PASSWORD: &str = "password-of-app-51";

/// A test for each program: its name in the table, its folder, its name there. And one beside row filters, but for those of which
/// most steps build on tables that refer to a filtered one, or are COPY.
macro_rules! programs {
    (sample { $($sample:ident: $title:literal, $folder:literal, $entry:literal;)* }
     long { $($long:ident: $long_title:literal, $long_folder:literal, $long_entry:literal;)* }
     not_beside_row_filters { $($only:ident: $only_title:literal, $only_folder:literal, $only_entry:literal;)* }) => {
        const SAMPLE: &[&str] = &[$($title),*];
        const LONG: &[&str] = &[$($long_title),*, $($only_title),*];
        const FILTERED: &[&str] = &[$($title),*, $($long_title),*];
        $(#[test] fn $sample() { reports_the_same($title, $folder, $entry, false); })*
        $(#[test] #[ignore = "long: run by `make test-all`"] fn $long() { reports_the_same($long_title, $long_folder, $long_entry, false); })*
        $(#[test] #[ignore = "long: run by `make test-all`"] fn $only() { reports_the_same($only_title, $only_folder, $only_entry, false); })*
        mod beside_row_filters {
            $(#[test] fn $sample() { super::reports_the_same($title, $folder, $entry, true); })*
            $(#[test] #[ignore = "long: run by `make test-all`"] fn $long() {
                super::reports_the_same($long_title, $long_folder, $long_entry, true);
            })*
        }
    };
}

programs! {
    sample {
        psycopg_3: "psycopg 3", "python", "psycopg3_program";
    }
    long {
        pg_dump: "pg_dump", "postgres", "pg_dump";
        psycopg_2: "psycopg 2", "python", "psycopg2_program";
        asyncpg: "asyncpg", "python", "asyncpg_program";
        sqlalchemy: "SQLAlchemy", "python", "sqlalchemy_program";
        django: "Django", "python", "django_program";
        node_postgres: "node-postgres", "node", "node-postgres";
        postgres_js: "postgres.js", "node", "postgresjs";
        prisma: "Prisma", "node", "prisma";
        typeorm: "TypeORM", "node", "typeorm";
        sequelize: "Sequelize", "node", "sequelize";
        pgjdbc: "pgjdbc with HikariCP", "java", "Pgjdbc";
        hibernate: "Hibernate", "java", "Hibernate";
        pgx: "pgx", "go", "pgx";
        gorm: "GORM", "go", "gorm";
        lib_pq: "lib/pq", "go", "pq";
        sqlx: "sqlx", "rust", "sqlx_program";
    }
    not_beside_row_filters {
        psql: "psql", "postgres", "psql";
        pgbench: "pgbench", "postgres", "pgbench";
        drizzle: "drizzle", "node", "drizzle";
        knex: "knex", "node", "knex";
        tokio_postgres: "tokio-postgres", "rust", "tokio_postgres_program";
        diesel: "diesel", "rust", "diesel_program";
    }
}

/// A server with the originals and one with the twins, so that a program's databases have the same name on both.
fn servers() -> &'static (Server, Server) {
    static SERVERS: OnceLock<(Server, Server)> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let start = || {
            let server = Server::start(&ServerOptions::default()).unwrap();
            server.psql("postgres", &format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")).unwrap();
            server
        };
        (start(), start())
    })
}

/// The shop in a database of that name; of its masks, if it is the twin.
fn shop(server: &Server, name: &str, twin: bool, filtered: bool) {
    server.psql("postgres", &format!("CREATE DATABASE {name} OWNER app")).unwrap();
    server.psql(name, "ALTER SCHEMA public OWNER TO app").unwrap();
    server.psql_as("app", name, SCHEMA).unwrap();
    let kinds = [("-- twin: ", twin), ("-- filtered: ", filtered), ("-- outside: ", filtered && !twin)];
    for (kind, _) in kinds.into_iter().filter(|(_, wanted)| *wanted) {
        for line in SCHEMA.lines().filter_map(|line| line.strip_prefix(kind)) {
            server.psql_as("app", name, line).unwrap();
        }
    }
}

/// What of the original is outside of the row filters.
fn outside(original: &Server, database: &str) -> String {
    let line = SCHEMA.lines().find_map(|line| line.strip_prefix("-- read outside: ")).unwrap();
    original.psql(database, line).unwrap()
}

/// A step that the design refuses.
struct Limit<'a> {
    step: &'a str,
    outcome: &'a str,
}

/// The limits that a program meets. A line is `program | step | outcome through the gate | reason`.
fn limits(title: &str) -> Vec<Limit<'static>> {
    let lines = LIMITS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let fields = lines.map(|line| line.split(" | ").collect::<Vec<_>>());
    fields
        .inspect(|fields| assert_eq!(fields.len(), 4, "limits.txt: {fields:?}"))
        .filter(|fields| fields[0] == title)
        .map(|fields| Limit { step: fields[1], outcome: fields[2] })
        .collect()
}

/// A line of a program's report.
fn step(line: &str) -> (&str, &str) {
    line.split_once(": ").unwrap_or((line, ""))
}

fn steps(report: &str) -> Vec<(&str, &str)> {
    report.lines().filter(|line| !line.starts_with('#')).map(step).collect()
}

fn versions(report: &str) -> String {
    let lines: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("# versions: ")).collect();
    assert!(!lines.is_empty(), "it does not say its versions:\n{report}");
    lines.join(", ")
}

/// What differs between the reports, but for the limits, each of which has to be met.
fn differences(direct: &[(&str, &str)], gate: &[(&str, &str)], limits: &[Limit<'_>]) -> String {
    let mut wrong = String::new();
    let mut met = Vec::new();
    for (expected, got) in direct.iter().zip(gate) {
        if expected == got {
            continue;
        }
        let limit = limits.iter().position(|limit| expected.0 == got.0 && *got == (limit.step, limit.outcome));
        match limit {
            Some(limit) => met.push(limit),
            None => {
                writeln!(wrong, "directly: {}: {}\n the gate: {}: {}", expected.0, expected.1, got.0, got.1).unwrap()
            }
        }
    }
    if direct.len() != gate.len() {
        writeln!(wrong, "{} steps directly, {} through the gate", direct.len(), gate.len()).unwrap();
    }
    for (number, limit) in limits.iter().enumerate() {
        if !met.contains(&number) {
            writeln!(wrong, "limits.txt has a step that does not differ so: {}", limit.step).unwrap();
        }
    }
    wrong
}

fn reports_the_same(title: &str, folder: &str, entry: &str, filtered: bool) {
    let source = postern_e2e::workspace().join("e2e/clients").join(folder);
    let program = match programs::prepare(&source, entry).unwrap() {
        Prepared::Ready(program) => program,
        Prepared::Without(tool) => return eprintln!("{title}: skipped: no {tool}"),
    };
    let (original, twin) = servers();
    let database = title.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_lowercase();
    let database = if filtered { format!("{database}_f") } else { database };
    shop(original, &database, false, filtered);
    shop(twin, &database, true, filtered);
    let policy = if filtered { POLICY.replace("  # rowFilters:", "  rowFilters:") } else { POLICY.to_owned() };
    let mut options = GateOptions::new(original, &database, "app", &policy);
    options.secrets =
        vec![("db".into(), "username".into(), "app".into()), ("db".into(), "password".into(), PASSWORD.into())];
    let gate = Gate::start(&options).unwrap();
    let before = if filtered { outside(original, &database) } else { String::new() };
    let target = |port| Target { port, user: "app", password: PASSWORD, database: &database };

    let direct = program.run(target(twin.port()), twin.bin()).unwrap();
    let through = program.run(target(gate.port()), original.bin()).unwrap();

    assert!(!direct.contains("FAILED"), "{title} fails without the gate:\n{direct}");
    let seen = Needles::new(&[]).find(&[Message { tag: b'd', body: through.clone().into_bytes() }]);
    assert!(seen.is_empty(), "{title} saw {seen:?}:\n{through}");
    let (expected, got) = (steps(&direct), steps(&through));
    let kind = if filtered { format!("{title} beside row filters") } else { title.to_owned() };
    let limits = limits(&kind);
    let wrong = differences(&expected, &got, &limits);
    assert!(wrong.is_empty(), "{kind}:\n{wrong}");
    // What was to be copied in is missing.
    if !(filtered && limits.iter().any(|limit| limit.step.starts_with("copy"))) {
        ends_the_same(&gate, twin, &database);
    }
    let kept = "SELECT count(*) FROM customers WHERE id <= 3 AND email LIKE 'mailzqx88%' AND card LIKE 'CARDZQX81%'
                AND (id = 3 OR (ssn LIKE 'SSNZQX82%' AND birth = '1937-04-19' AND credit = 918273.64))";
    assert_eq!(original.psql(&database, kept).unwrap().trim(), "3", "raw values were lost in {database}");
    if filtered {
        assert_eq!(outside(original, &database), before, "rows outside of the filters changed");
        return;
    }
    table(title, &versions(&direct), &covered(&expected, limits.len()));
}

/// Both databases hold the same, seen with the masks.
fn ends_the_same(gate: &Gate, twin: &Server, database: &str) {
    let mut through = Wire::connect(gate.port(), "app", "", database).unwrap();
    let mut direct = Wire::connect(twin.port(), "app", PASSWORD, database).unwrap();
    for (relation, key) in [
        ("customers", "id"),
        ("products", "id"),
        ("orders", "id"),
        ("order_items", "order_id, line"),
        ("customer_orders", "id"),
    ] {
        let sql = format!("SELECT * FROM {relation} ORDER BY {key}");
        assert_eq!(through.simple(&sql).unwrap().len(), direct.simple(&sql).unwrap().len(), "{relation}");
        let rows = |wire: &mut Wire| postern_e2e::wire::rows(&wire.simple(&sql).unwrap());
        assert_eq!(rows(&mut through), rows(&mut direct), "{relation} of {database}");
    }
}

/// How many steps there were of each kind, in the order in which they came: a step's kind is its first word.
fn covered(steps: &[(&str, &str)], limits: usize) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for (name, _) in steps {
        let kind = name.split(' ').next().unwrap_or_default();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let result = if limits == 0 { "the same".into() } else { format!("the same but for {limits} (below)") };
    format!("{} | {} | {result}", steps.len(), kinds.join(", "))
}

fn docs() -> PathBuf {
    postern_e2e::workspace().join("docs/clients.md")
}

/// The rows of the table in a text, by program.
fn rows(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let lines = lines.take_while(|line| line.starts_with('|'));
    lines.map(|line| (line.split('|').nth(1).unwrap().trim(), line)).collect()
}

/// Holds the table's row of a program to what was run, versions apart; writes it under `POSTERN_BLESS`.
fn table(title: &str, versions: &str, covered: &str) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = std::fs::read_to_string(docs()).unwrap();
    let row = format!("| {title} | {versions} | {covered} |");
    if std::env::var_os("POSTERN_BLESS").is_some() {
        let old = rows(&text);
        let new: Vec<&str> = [SAMPLE, LONG]
            .concat()
            .iter()
            .filter_map(|name| match *name == title {
                true => Some(row.as_str()),
                false => old.iter().find(|(known, _)| known == name).map(|(_, row)| *row),
            })
            .collect();
        let rule = text.lines().find(|line| line.starts_with("|---")).unwrap();
        let (before, after) = text.split_once(rule).unwrap();
        let after = after.lines().skip(1 + old.len());
        let lines = before.lines().chain([rule]).chain(new).chain(after);
        std::fs::write(docs(), lines.fold(String::new(), |text, line| text + line + "\n")).unwrap();
        return;
    }
    let known = rows(&text).into_iter().find(|(known, _)| *known == title).map(|(_, row)| row.to_owned());
    let without_versions = |row: &str| row.split(" | ").skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        known.as_deref().map(without_versions),
        Some(without_versions(&row)),
        "docs/clients.md is not what was run: POSTERN_BLESS=1 writes it"
    );
}

#[test]
fn the_table_lists_every_program() {
    eprintln!(
        "clients: {} of {} programs; `make test-all` runs the rest: {}",
        SAMPLE.len(),
        SAMPLE.len() + LONG.len(),
        LONG.join(", ")
    );
    if std::env::var_os("POSTERN_BLESS").is_some() {
        return; // The rows are being written.
    }
    let text = std::fs::read_to_string(docs()).unwrap();
    let listed: Vec<&str> = rows(&text).into_iter().map(|(title, _)| title).collect();
    assert_eq!(listed, [SAMPLE, LONG].concat());
}

#[test]
fn the_docs_list_the_programs_that_run_beside_row_filters() {
    let text = std::fs::read_to_string(docs()).unwrap();
    assert!(text.contains(&FILTERED.join(", ")), "docs/clients.md: {}", FILTERED.join(", "));
}

/// Every limit names a program that is run, and the docs give its reason.
#[test]
fn the_docs_give_the_reason_of_every_limit() {
    let text = std::fs::read_to_string(docs()).unwrap();
    for line in LIMITS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(" | ").collect();
        let programs = [SAMPLE, LONG].concat();
        let is_run = match fields[0].strip_suffix(" beside row filters") {
            Some(program) => FILTERED.contains(&program),
            None => programs.contains(&fields[0]),
        };
        assert!(is_run, "limits.txt: no program {}", fields[0]);
        assert!(text.contains(fields[3]), "docs/clients.md does not give the reason: {}", fields[3]);
    }
}
