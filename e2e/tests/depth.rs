//! Generated SQL is long and deep: what a server takes, it takes through the gate too, over masked tables as over plain
//! ones; what goes beyond the bounds gets an error, and the connection goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Database, Server};
use postern_e2e::wire::{self, Format, Message, Wire};

const SCHEMA: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, a int, b text);
    CREATE TABLE masked (id int PRIMARY KEY, a int, b text, secret text DEFAULT 'marker', hidden text DEFAULT 'marker');
    CREATE TABLE filtered (id int PRIMARY KEY, a int, b text, region text DEFAULT 'eu');
    INSERT INTO plain SELECT n, n, 't' || n FROM generate_series(1, 20) n;
    INSERT INTO masked SELECT n, n, 't' || n FROM generate_series(1, 20) n;
    INSERT INTO filtered SELECT n, n, 't' || n FROM generate_series(1, 20) n;
    INSERT INTO filtered SELECT n, n, 't' || n, 'us' FROM generate_series(21, 40) n;
    CREATE VIEW filtered_as_seen AS SELECT * FROM filtered WHERE region = 'eu';
";

const TYPICAL: &str = r#"
mode: Enforce
masks:
- {columns: [public.masked.secret], mask: {redact: {}}}
rules:
- name: tables
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete]
  relations: ["public.*"]
  hideColumns: [public.masked.hidden]
  rowFilters: [{relation: public.filtered, where: "region = 'eu'"}]
"#;

/// A server's database with a gate before it, and one client on each way to it.
struct Ways {
    direct: Wire,
    gate: Wire,
    running: (Gate, Database),
}

fn ways() -> Ways {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, TYPICAL)).unwrap();
    Ways {
        direct: Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap(),
        gate: Wire::connect(gate.port(), "anyone", "", &database.name).unwrap(),
        running: (gate, database),
    }
}

/// Data, tags and errors, without what a mask takes from a column: where it came from.
fn answer(messages: &[Message]) -> Vec<(u8, Vec<u8>)> {
    messages
        .iter()
        .filter(|message| message.tag != b'T')
        .map(|message| match message.tag {
            b'E' => (b'E', message.fields()[&'C'].clone().into_bytes()),
            tag => (tag, message.body.clone()),
        })
        .collect()
}

impl Ways {
    /// Both ways answer alike; directly, a view stands for the filter.
    fn agree(&mut self, what: &str, sql: &str) {
        let seen = sql.replace("filtered", "filtered_as_seen");
        for extended in [false, true] {
            let send = |wire: &mut Wire, sql: &str| {
                if extended { wire.extended(sql, Format::Text) } else { wire.simple(sql) }
            };
            let direct = send(&mut self.direct, &seen).unwrap();
            assert!(wire::error(&direct).is_none(), "{what} fails without the gate: {:?}", wire::error(&direct));
            let gate = send(&mut self.gate, sql).unwrap();
            assert!(wire::error(&gate).is_none(), "{what}: {:?}", wire::error(&gate).map(Message::fields));
            let (direct, gate) = (answer(&direct), answer(&gate));
            let at = direct.iter().zip(&gate).take_while(|(a, b)| a == b).count();
            assert!(direct == gate, "{what}: from message {at} on {:?} is not {:?}", gate.get(at), direct.get(at));
        }
    }

    fn refused(&mut self, what: &str, bytes: &[u8], states: &[&str]) {
        self.gate.send(bytes).unwrap();
        let messages = self.gate.until_ready().unwrap();
        let error = wire::error(&messages).unwrap_or_else(|| panic!("{what} passed")).fields();
        assert!(states.contains(&error[&'C'].as_str()), "{what}: {error:?}");
        assert_eq!(wire::rows(&self.gate.simple("SELECT 42").unwrap()), [["42"]], "{what}");
    }
}

fn joined(count: usize, separator: &str, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(separator)
}

fn deep(table: &str) -> Vec<(&'static str, String)> {
    let item = |n: usize| format!("({n}, 'text of {n}')");
    vec![
        ("1,000 terms of +", format!("SELECT id, {} FROM {table} ORDER BY id", ["a"; 1000].join(" + "))),
        ("1,000 terms of ||", format!("SELECT id, {} FROM {table} ORDER BY id", ["b"; 1000].join(" || "))),
        (
            "1,000 terms of AND and OR",
            format!(
                "SELECT id FROM {table} WHERE {} ORDER BY id",
                joined(500, " OR ", |n| format!("a = {n} AND b <> 'x{n}'"))
            ),
        ),
        (
            "60 nested derived tables",
            format!(
                "{}SELECT id, b FROM {table}{} ORDER BY id",
                "SELECT * FROM (".repeat(60),
                joined(60, "", |n| format!(") x{n}"))
            ),
        ),
        (
            "60 nested sub-selects",
            format!(
                "SELECT id, b FROM {table} WHERE id >= {}0{} ORDER BY id",
                format!("(SELECT min(id) FROM {table} WHERE id >= ").repeat(60),
                ")".repeat(60)
            ),
        ),
        ("60 nested scalar sub-selects", {
            format!("SELECT id, {}a{} FROM {table} ORDER BY id", "(SELECT ".repeat(60), ")".repeat(60))
        }),
        ("60 CTEs one upon the other", {
            let more = joined(59, "", |n| format!(", c{} AS (SELECT * FROM c{n})", n + 1));
            format!("WITH c0 AS (SELECT id, b FROM {table}){more} SELECT * FROM c59 ORDER BY id")
        }),
        ("2,000 UNION ALLs of constants", joined(2001, " UNION ALL ", |n| format!("SELECT {n}"))),
        (
            "200 UNION ALLs of the table",
            joined(201, " UNION ALL ", |n| format!("SELECT {n}, b FROM {table}")) + " ORDER BY 1, 2",
        ),
        (
            "10,000 integers in a list",
            format!("SELECT id FROM {table} WHERE a IN ({}) ORDER BY id", joined(10_000, ", ", |n| n.to_string())),
        ),
        (
            "10,000 texts in a list",
            format!("SELECT id FROM {table} WHERE b IN ({}) ORDER BY id", joined(10_000, ", ", |n| format!("'t{n}'"))),
        ),
        (
            "1 MiB of VALUES in a join",
            format!(
                "SELECT t.id, v.b FROM {table} t JOIN (VALUES {}) v(a, b) USING (a) ORDER BY t.id",
                joined(45_000, ", ", item)
            ),
        ),
        (
            "1 MiB of CASE",
            format!(
                "SELECT id, CASE b {} ELSE 'none' END FROM {table} ORDER BY id",
                joined(20_000, " ", |n| format!("WHEN 't{n}' THEN 'the text of {n}, and some more of it'"))
            ),
        ),
        (
            "1 MiB literal",
            format!("SELECT id, length('{}') FROM {table} ORDER BY id", "{\"key\": \"value\"} ".repeat(62_000)),
        ),
        (
            "1 MiB INSERT",
            format!(
                "INSERT INTO {table} (id, a, b) VALUES {} ON CONFLICT (id) DO NOTHING RETURNING id, b",
                joined(30_000, ", ", |n| format!("({}, {n}, 'the text of row {n}')", n + 1000))
            ),
        ),
        (
            "1 MiB UPDATE",
            format!(
                "UPDATE {table} t SET b = v.b FROM (VALUES {}) v(id, b) WHERE t.id = v.id AND t.id < 10",
                joined(45_000, ", ", item)
            ),
        ),
        (
            "1 MiB DELETE",
            format!(
                "DELETE FROM {table} WHERE id > 900 AND id IN ({})",
                joined(150_000, ",", |n| (n + 900).to_string())
            ),
        ),
    ]
}

#[test]
fn what_generated_sql_does_works_through_the_gate() {
    let mut ways = ways();
    let mut err = std::io::stderr();
    for table in ["plain", "masked", "filtered"] {
        for (what, sql) in deep(table) {
            // Both ways write to the same rows: each in a transaction that is rolled back.
            for begin in [&mut ways.direct, &mut ways.gate] {
                begin.simple("BEGIN").unwrap();
            }
            let started = std::time::Instant::now();
            if sql.starts_with("SELECT") || sql.starts_with("WITH") {
                ways.agree(&format!("{what} over {table}"), &sql);
            } else {
                ways.write_agrees(&format!("{what} over {table}"), &sql);
            }
            for end in [&mut ways.direct, &mut ways.gate] {
                end.simple("ROLLBACK").unwrap();
            }
            _ = std::io::Write::write_fmt(&mut err, format_args!("{what} over {table}: {:?}\n", started.elapsed()));
        }
    }
}

impl Ways {
    /// As [`Ways::agree`], for writes: one way after the other, else the second waits for the first one's locks.
    fn write_agrees(&mut self, what: &str, sql: &str) {
        let direct = self.direct.simple(&sql.replace("filtered", "filtered_as_seen")).unwrap();
        assert!(wire::error(&direct).is_none(), "{what} fails without the gate: {:?}", wire::error(&direct));
        self.direct.simple("ROLLBACK").unwrap();
        let gate = self.gate.simple(sql).unwrap();
        assert!(wire::error(&gate).is_none(), "{what}: {:?}", wire::error(&gate).map(Message::fields));
        let status = |messages: Vec<(u8, Vec<u8>)>| messages.into_iter().filter(|(tag, _)| *tag != b'Z').collect();
        let (direct, gate): (Vec<_>, Vec<_>) = (status(answer(&direct)), status(answer(&gate)));
        assert!(direct == gate, "{what}: the answers differ");
    }
}

#[test]
fn what_is_too_deep_gets_an_error_and_the_connection_goes_on() {
    let n = 100_000;
    let mut ways = ways();
    let cases = [
        ("parentheses", format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n))),
        ("open parentheses", format!("SELECT {}", "(".repeat(n))),
        ("sub-selects", format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n))),
        ("derived tables", format!("SELECT * FROM {}masked{}", "(SELECT * FROM ".repeat(n), ") x".repeat(n))),
        ("terms", format!("SELECT 1{}", "+1".repeat(n))),
        ("NOT", format!("SELECT {}true", "NOT ".repeat(n))),
        ("arrays", format!("SELECT {}1{}", "ARRAY[".repeat(n), "]".repeat(n))),
        ("CASE", format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(n), " END".repeat(n))),
        ("UNION", format!("SELECT 1{}", " UNION SELECT 1".repeat(n))),
    ];
    for (what, sql) in cases {
        ways.refused(what, &wire::query(&sql), &["54001", "54000"]);
        let extended = [wire::parse("", &sql), wire::bind("", "", &[], Format::Text), wire::sync()].concat();
        ways.refused(what, &extended, &["54001", "54000"]);
    }
}

#[test]
fn a_nul_byte_and_invalid_utf_8_are_refused_and_the_connection_goes_on() {
    let mut ways = ways();
    let with = |sql: &[u8]| wire::frame(b'Q', &[sql, b"\0"].concat());
    ways.refused("invalid UTF-8", &with(b"SELECT '\xff'"), &["22021"]);
    ways.refused("a cut sequence", &with(b"SELECT '\xc3'"), &["22021"]);
    ways.refused("a surrogate", &with(b"SELECT '\xed\xa0\x80'"), &["22021"]);
    ways.refused("an overlong sequence", &with(b"SELECT '\xc0\xaf'"), &["22021"]);
    let parse = |sql: &[u8]| [wire::frame(b'P', &[b"\0", sql, b"\0\0\0"].concat()), wire::sync()].concat();
    ways.refused("invalid UTF-8 in Parse", &parse(b"SELECT '\xff'"), &["22021"]);
}

/// Bytes after the text's end are no second text: as without the gate, the message is refused as malformed.
#[test]
fn a_text_that_ends_before_its_message_is_refused() {
    let mut ways = ways();
    for sql in [&b"SELECT 1\0; SELECT 2"[..], b"\0SELECT 1", b"SELECT 'a\0b'"] {
        let message = wire::frame(b'Q', &[sql, b"\0"].concat());
        let state = |wire: &mut Wire| {
            wire.send(&message).unwrap();
            let messages = wire.until(b'E');
            messages.ok().and_then(|messages| wire::error(&messages).and_then(Message::sqlstate))
        };
        assert_eq!(state(&mut ways.gate).as_deref(), Some("08P01"));
        ways.gate = Wire::connect(ways.running.0.port(), "anyone", "", &ways.running.1.name).unwrap();
    }
}
