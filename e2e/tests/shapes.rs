//! Statements that differ in their literals only share a decision: what comes of them is what came of each by itself.
//! A comment in a text keeps it from sharing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{Format, Message, Wire};

const SCHEMA: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, card text, born date, balance numeric, region text);
INSERT INTO customers SELECT i, 'name ' || i, 'user' || i || '@example.com', lpad(i::text, 16, '4'), date '2000-01-01' + i,
    i * 1.5, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END FROM generate_series(-3, 40) i;
CREATE TABLE orders (id bigint PRIMARY KEY, customer int, note text, region text);
INSERT INTO orders SELECT i, i % 40, 'note ''' || i, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END FROM generate_series(1, 100) i;
CREATE SEQUENCE open_numbers;
CREATE SEQUENCE closed_numbers;
";

const POLICY: &str = r#"
masks:
- columns: [public.customers.card]
  mask: {partial: {keepLast: 4}}
- columns: [public.customers.email]
  mask: {email: {}}
- columns: [public.customers.born]
  mask: {truncateDate: {to: Year}}
rules:
- name: all
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete]
  relations: [public.customers, public.orders, public.open_numbers]
  rowFilters: [{relation: public.orders, where: "region = 'eu'"}]
  channels: [open]
"#;

/// Forms with a place for a literal, and what may stand there.
const FORMS: &[(&str, &[&str])] = &[
    (
        "SELECT id, email, card FROM customers WHERE id = ?",
        &["1", "2", "-3", "99", "2147483647", "3000000000", "1.0", "'7'"],
    ),
    ("SELECT id FROM customers WHERE id = -?", &["1", "2", "3", "2147483648", "9223372036854775808"]),
    (
        "SELECT * FROM customers WHERE name = ?",
        &["'name 1'", "'name 2'", "'it''s'", "''", "'--'", "'/*'", "'\\'", "E'name 3'"],
    ),
    (
        "SELECT * FROM customers c WHERE c.card = ? AND c.region = 'eu'",
        &["'************4444'", "'x'", "'4444444444444441'"],
    ),
    ("SELECT id, born FROM customers WHERE born = ?::date ORDER BY id", &["'2000-01-01'", "'2000-06-01'", "'junk'"]),
    ("SELECT id FROM customers WHERE id IN (?, 5, 6) ORDER BY 1", &["1", "2", "3", "NULL"]),
    ("SELECT id FROM customers ORDER BY ? LIMIT 3", &["1", "id", "'x'"]),
    ("SELECT id, name FROM customers ORDER BY id LIMIT ?", &["1", "2", "3"]),
    ("SELECT id, name FROM customers ORDER BY id OFFSET ? LIMIT 2", &["1", "2", "30", "-1"]),
    ("SELECT ?, count(*) FROM orders WHERE note <> ?", &["'a'", "'b'", "1", "2", "1.5", "'note ''2'"]),
    ("SELECT id, note FROM orders WHERE length(note) > ? AND id < 20 ORDER BY id", &["1", "7", "8"]),
    (
        "SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer AND c.name > ? WHERE o.id = 1 / ?",
        &["1", "2", "0"],
    ),
    ("SELECT CASE WHEN balance > ? THEN email ELSE ? END FROM customers WHERE id = 4", &["1", "2", "'x'", "'y'"]),
    ("INSERT INTO orders VALUES (?, 1, 'new', 'eu') RETURNING *", &["500", "501", "1", "3000000001"]),
    ("INSERT INTO orders (id, customer, note, region) VALUES (600, 1, ?, ?) RETURNING id", &["'eu'", "'us'", "'o''k'"]),
    (
        "UPDATE customers SET name = ?, card = ? WHERE id = 3 RETURNING name, card",
        &["'a'", "'b'", "'************4443'"],
    ),
    ("UPDATE orders SET note = ?, region = 'eu' WHERE id = ?", &["2", "4", "5", "'6'"]),
    ("DELETE FROM orders WHERE id = ?", &["1", "2", "3", "4"]),
    ("SELECT nextval(?)", &["'open_numbers'", "'closed_numbers'", "'open_numbers'", "'closed_numbers'"]),
    ("SELECT ?::regclass", &["'customers'", "'orders'", "'customers'", "'nothing'"]),
    ("SELECT pg_notify(?, 'x')", &["'open'", "'closed'", "'open'", "'closed'"]),
    ("SELECT current_setting(?)", &["'DateStyle'", "'config_file'", "'TimeZone'", "'postern.key'"]),
    ("SELECT set_config('search_path', ?, false)", &["'public'", "'public, pg_catalog'", "'public'"]),
    (
        "SELECT set_config(name, 'none', true) FROM pg_settings WHERE name = ?",
        &["'bytea_output'", "'session_authorization'", "'role'"],
    ),
    ("SET statement_timeout = ?", &["1000", "2000", "0"]),
    ("SELECT substring(email from ? for 2) FROM customers WHERE id = 1", &["1", "2", "3"]),
    ("SELECT email FROM customers WHERE email LIKE ? ORDER BY email LIMIT 2", &["'u%'", "'user1%'", "'%\\_%'"]),
];

/// What a client makes of it; positions are those of texts that differ.
fn answer(messages: &[Message]) -> Vec<(char, Vec<u8>)> {
    let plain = |message: &Message| match message.tag {
        b'E' | b'N' => {
            let fields = message.body.split(|byte| *byte == 0).filter(|field| field.first() != Some(&b'P'));
            fields.collect::<Vec<_>>().join(&0)
        }
        _ => message.body.clone(),
    };
    messages.iter().map(|message| (message.tag as char, plain(message))).collect()
}

fn in_transaction(wire: &mut Wire, text: &str, extended: bool) -> Vec<(char, Vec<u8>)> {
    wire.simple("BEGIN").unwrap();
    let got = if extended { wire.extended(text, Format::Text) } else { wire.simple(text) }.unwrap();
    wire.simple("ROLLBACK").unwrap();
    answer(&got)
}

#[test]
fn texts_of_one_shape_answer_as_each_by_itself() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, POLICY)).unwrap();
    // NOTICEs come once in a session: so there are two, which see the same.
    let connect = || Wire::connect(gate.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let (mut shared, mut alone) = (connect(), connect());
    for (form, values) in FORMS {
        // Twice round: the first texts make the templates that the later ones fill.
        for round in 0..2 {
            for (at, value) in values.iter().enumerate() {
                let other = values[(at + round) % values.len()];
                let text = form.replacen('?', value, 1).replace('?', other);
                for extended in [false, true] {
                    // Sequences go on, rolled back or not.
                    if !text.contains("nextval") {
                        let by_itself = in_transaction(&mut alone, &format!("{text} /* by itself */"), extended);
                        assert_eq!(in_transaction(&mut shared, &text, extended), by_itself, "{text}");
                    }
                }
            }
        }
    }
    let code = |wire: &mut Wire, text: &str| wire.simple(text).unwrap().iter().find_map(Message::sqlstate);
    for _ in 0..3 {
        assert_eq!(code(&mut shared, "SELECT nextval('open_numbers')"), None);
        assert_eq!(code(&mut shared, "SELECT nextval('closed_numbers')").as_deref(), Some("42501"));
    }
}

#[test]
fn a_text_with_values_in_it_is_analysed_for_its_first_few_values_only() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, POLICY)).unwrap();
    let mut wire = Wire::connect(gate.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let analysed = || {
        let metrics = gate.metrics().unwrap();
        let line = metrics.lines().find(|line| line.starts_with("postern_decision_cache_misses_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = analysed();
    for id in 0..50 {
        let messages = wire.simple(&format!("SELECT card FROM customers WHERE id = {id} AND name <> 'x{id}'")).unwrap();
        assert!(messages.iter().all(|message| message.tag != b'E'));
    }
    assert_eq!(analysed() - before, 2);
    let texts: Vec<String> =
        gate.audit().unwrap().iter().filter_map(|event| event["text"].as_str().map(str::to_owned)).collect();
    assert_eq!(texts.len(), 50);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}
