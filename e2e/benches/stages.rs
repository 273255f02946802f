//! What each stage of a statement's way costs, by `cargo bench -p postern-e2e --bench stages`: reading frames, the
//! decision on a new text (walk, decide, rewrite, proof), and the caches that spare it. The catalog is a real server's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark")]

#[path = "../tests/binding/mod.rs"]
mod binding;

use std::fmt::Write as _;
use std::hint::black_box;

use binding::{Client, policy};
use criterion::{Criterion, Throughput};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire;
use postern_sidecar::analyze::{Analysis, Decided, SessionView, analyze};
use postern_sidecar::catalog::load::LoadError;
use postern_sidecar::catalog::refresh::{CatalogKeeper, Connect, KeeperOptions};
use postern_sidecar::decide::bind::bind;
use postern_sidecar::gate::Gate;
use postern_sidecar::metrics::Metrics;
use postern_sidecar::policy_files::Loaded;
use postern_sidecar::session::Decide as _;
use postern_sidecar::sql::{ParseLimits, measure, parse_measured, shape};
use postern_sidecar::wire::frontend::{BindHead, Execute, Parse};
use postern_sidecar::wire::{backend, frontend};

const SCHEMA: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, card text, city text);
CREATE TABLE orders (id int PRIMARY KEY, customer int, placed date, total numeric);
CREATE TABLE items (parcel int, product text, quantity int);
";

const POLICY: &str = "
masks:
- columns: [public.customers.card]
  mask: {partial: {keepLast: 4}}
- columns: [public.customers.email]
  mask: {email: {}}
rules:
- {name: reads, to: {groups: [apps]}, allow: [Select], relations: ['public.*']}
";

const KEY_SELECT: &str = "SELECT id, name, email, card FROM customers WHERE id = 4711";
const JOIN: &str = "SELECT c.name, c.email, c.card, o.id, o.total, i.product, i.quantity FROM customers c \
    JOIN orders o ON o.customer = c.id JOIN items i ON i.parcel = o.id WHERE c.id = 4711 ORDER BY o.id";

/// How the gate comes to its server.
struct Connection {
    port: u16,
    database: String,
}

impl Connect for Connection {
    type Rows = Client;
    async fn connect(&self) -> Result<Client, LoadError> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(ADMIN).password(ADMIN_PASSWORD).dbname(&self.database);
        let (client, connection) =
            config.connect(tokio_postgres::NoTls).await.map_err(|error| LoadError::Connection(error.into()))?;
        tokio::spawn(connection);
        Ok(Client(client))
    }
}

fn view() -> SessionView {
    SessionView { search_path: ["public".to_owned()].as_slice().into(), ..SessionView::default() }
}

/// What comes of a text that the policy allows.
fn decided(analysis: Analysis) -> std::sync::Arc<Decided> {
    match analysis {
        Analysis::Decided(decided) if decided.denial.is_none() => decided,
        other => panic!("{other:?}"),
    }
}

/// The messages of a prepared statement's run, and rows as they come back.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    let sent = [
        wire::parse("s1", KEY_SELECT),
        wire::bind("", "s1", &[Some(b"4711")], wire::Format::Text),
        wire::execute("", 0),
        wire::sync(),
    ]
    .concat();
    group.throughput(Throughput::Elements(4));
    group.bench_function("parse, bind, execute, sync", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(sent.as_slice());
            while let Some(header) = frontend::peek(rest).unwrap() {
                let body = header.body(rest).unwrap();
                match header.tag {
                    b'P' => _ = black_box(Parse::read(body).unwrap()),
                    b'B' => _ = black_box(BindHead::read(body, body.len()).unwrap()),
                    b'E' => _ = black_box(Execute::read(body).unwrap()),
                    _ => frontend::read_empty(body).unwrap(),
                }
                rest = &rest[header.frame_len()..];
            }
        });
    });
    let row = wire::frame(b'D', &[&1_u16.to_be_bytes()[..], &200_u32.to_be_bytes(), &[b'x'; 200]].concat());
    let rows = row.repeat(1000);
    group.throughput(Throughput::Bytes(rows.len() as u64));
    group.bench_function("1,000 rows of 200 bytes", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(rows.as_slice());
            while let Some(header) = backend::peek(rest).unwrap() {
                rest = &rest[header.frame_len()..];
            }
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    frames(&mut criterion);

    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (policy, identity) = policy(server, POLICY, "apps");
    let gate = runtime.block_on(async {
        let connection = Connection { port: server.port(), database: database.name.clone() };
        let keeper = CatalogKeeper::start(connection, KeeperOptions::default());
        keeper.ready().await;
        let loaded = Loaded { policy: policy.clone(), identity: identity.clone() };
        Gate::new(keeper, loaded, Metrics::new("bench").unwrap(), 256 << 20, 32 << 20)
    });
    let bound = bind(policy, identity, gate.bound().catalog.clone(), 1, None);
    let limits = ParseLimits::default();
    let view = view();

    for (name, sql) in [("key select", KEY_SELECT), ("join of three", JOIN)] {
        let mut group = criterion.benchmark_group(name);
        group.bench_function("shape", |bencher| bencher.iter(|| shape(black_box(sql)).unwrap()));
        group.bench_function("measure", |bencher| bencher.iter(|| measure(black_box(sql), &limits).unwrap()));
        group.bench_function("parse", |bencher| {
            let measured = measure(sql, &limits).unwrap();
            bencher.iter(|| parse_measured(black_box(sql), measured).unwrap());
        });
        group.bench_function("a new text: parse, walk, decide, rewrite, proof", |bencher| {
            let measured = measure(sql, &limits).unwrap();
            bencher.iter(|| decided(analyze(black_box(sql), measured, &bound, &view, &[])));
        });
        group.bench_function("the same text again", |bencher| {
            bencher.iter(|| decided(runtime.block_on(gate.decide(&view, black_box(sql), &[]))));
        });
        group.bench_function("another text of a known shape", |bencher| {
            let mut number = 0_u32;
            let mut text = String::new();
            bencher.iter(|| {
                number += 1;
                text.clear();
                _ = write!(text, "{}", sql.split("4711").next().unwrap());
                _ = write!(text, "{number}{}", sql.split("4711").nth(1).unwrap());
                decided(runtime.block_on(gate.decide(&view, black_box(&text), &[])))
            });
        });
        group.finish();
    }
    server.stop().unwrap();
    criterion.final_summary();
}
