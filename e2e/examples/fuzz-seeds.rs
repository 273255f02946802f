//! Makes what the fuzz targets of `sidecar/fuzz` start from: the catalog and policy that the target `decision` decides
//! under; seeds of all targets, out of the test corpora and the answers of a real server; and what fuzzing once found
//! beyond them, from `sidecar/fuzz/kept`. With `keep` it writes that: what stands in `sidecar/fuzz/merged` and is no seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool of the tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use postern_e2e::gate::GateOptions;
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{Format, Message, Wire, frame};
use postern_e2e::{corpus, kept, replay, workspace};
use postern_sidecar::catalog::load::{EachRow, LoadError, Rows, fingerprint, load};
use serde_json::{Map, Value};
use tokio_postgres::SimpleQueryMessage;

/// Longer inputs make a fuzzer slow.
const LONGEST: usize = 4096;
/// Longer ones, and all of a target that are more, are not kept: they are in the tree.
const LONGEST_KEPT: usize = 1024;
/// See [`LONGEST_KEPT`].
const ROOM: usize = 200 << 10;
/// Messages of one seed of the wire targets.
const TOGETHER: usize = 6;

/// A connection that keeps what it was answered.
struct Recorder {
    client: tokio_postgres::Client,
    answers: BTreeMap<String, Vec<Vec<Option<String>>>>,
}

impl Rows for Recorder {
    async fn rows(&mut self, sql: &str, each: EachRow<'_>) -> Result<(), LoadError> {
        let messages = self.client.simple_query(sql).await.map_err(|error| LoadError::Connection(error.into()))?;
        let kept = self.answers.entry(sql.to_owned()).or_default();
        kept.clear();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let fields: Vec<Option<&str>> = (0..row.len()).map(|index| row.get(index)).collect();
                each(&fields)?;
                kept.push(fields.into_iter().map(|field| field.map(str::to_owned)).collect());
            }
        }
        Ok(())
    }
}

/// Writes inputs, numbered.
fn write(folder: &Path, name: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
    fs::create_dir_all(folder).unwrap();
    let mut count = 0;
    for input in inputs.into_iter().filter(|input| input.len() <= LONGEST) {
        count += 1;
        fs::write(folder.join(format!("{name}-{count:04}")), input).unwrap();
    }
    println!("{count} of {name} in {}", folder.display());
}

/// The inputs in a folder, in an order that doesn't depend on their names.
fn inputs(folder: &Path) -> BTreeSet<Vec<u8>> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| fs::read(entry.path()).unwrap()).collect()
}

/// Keeps what fuzzing found beyond the seeds, the smallest first, as far as there is room.
fn keep(fuzz: &Path) {
    for target in kept::TARGETS {
        let seeds = inputs(&fuzz.join("seeds").join(target));
        let merged = inputs(&fuzz.join("merged").join(target));
        let mut found: Vec<_> = merged.difference(&seeds).filter(|input| input.len() <= LONGEST_KEPT).collect();
        found.sort_by_key(|input| input.len());
        let mut room = ROOM;
        found.retain(|input| {
            room = room.saturating_sub(input.escape_ascii().count() + 1);
            room > 0
        });
        let bytes = kept::write(target, found.iter().copied()).unwrap();
        println!("{} inputs of {target} in {bytes} bytes", found.len());
    }
}

/// Every statement of the corpora.
fn statements(corpora: &Path) -> Vec<String> {
    let cases = corpus::read(&corpora.join("masking")).unwrap();
    let mut all: Vec<String> = cases.into_iter().flat_map(|case| case.messages).collect();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    for folder in ["rewrite/shop", "rewrite/constants"] {
        for entry in fs::read_dir(corpora.join(folder)).unwrap().flatten() {
            all.extend(read(&entry.path()).lines().filter_map(|line| line.strip_prefix("> ")).map(str::to_owned));
        }
    }
    let ordinary = read(&corpora.join("ordinary.sql"));
    all.extend(ordinary.lines().filter(|line| line.ends_with(';')).map(str::to_owned));
    all
}

/// Frames as one stream each few.
fn streams(frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.chunks(TOGETHER).map(<[Vec<u8>]>::concat).collect()
}

/// A packet of before the first message.
fn packet(code: u32, more: &[u8]) -> Vec<u8> {
    [&(8 + more.len() as u32).to_be_bytes(), &code.to_be_bytes(), more].concat()
}

/// A start-up with these parameters.
fn start(parameters: &Map<String, Value>) -> Vec<u8> {
    let pairs = parameters.iter().map(|(name, value)| format!("{name}\0{}\0", value.as_str().unwrap()));
    packet(196_608, format!("{}\0", pairs.collect::<String>()).as_bytes())
}

#[tokio::main]
async fn main() {
    let (corpora, fuzz) = (workspace().join("e2e/corpus"), workspace().join("sidecar/fuzz"));
    if std::env::args().nth(1).is_some_and(|argument| argument == "keep") {
        return keep(&fuzz);
    }
    for target in kept::TARGETS {
        write(&fuzz.join("corpus").join(target), "kept", kept::read(target).unwrap());
    }
    let read = |name: &str| fs::read_to_string(corpora.join(name)).unwrap();
    let server = Server::shared().unwrap();
    server.psql("postgres", "CREATE ROLE app LOGIN").unwrap();
    let database = server.database_with(&read("masking.schema.sql")).unwrap();

    let client = server.client(ADMIN, &database.name).await.unwrap();
    let mut recorder = Recorder { client, answers: BTreeMap::new() };
    load(&mut recorder).await.unwrap();
    fingerprint(&mut recorder).await.unwrap();
    let options = GateOptions::new(server, &database.name, "app", &read("masking.policy.yaml"));
    let recorded = fuzz.join("recorded");
    fs::create_dir_all(&recorded).unwrap();
    fs::write(recorded.join("catalog.json"), serde_json::to_string(&recorder.answers).unwrap()).unwrap();
    fs::write(recorded.join("policy.yaml"), format!("{}---\n{}", options.policy, options.identities)).unwrap();

    let statements = statements(&corpora);
    let seeds = fuzz.join("seeds");
    write(&seeds.join("decision"), "seed", statements.iter().map(|text| text.clone().into_bytes()));

    let (mut frontend, mut startup) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(corpora.join("transparency")).unwrap().flatten() {
        for session in replay::sessions(&fs::read_to_string(entry.path()).unwrap()).unwrap() {
            for message in session {
                match message.get("startup").and_then(Value::as_object) {
                    Some(parameters) => startup.push(start(parameters)),
                    None => frontend.push(replay::encode(&message).unwrap()),
                }
            }
        }
    }
    // What no program of the corpus sent: requests for encryption, a cancel, another version.
    for (code, more) in [
        (80_877_103u32, &b""[..]),
        (80_877_104, b""),
        (80_877_102, b"\0\0\0\x01key!"),
        (196_610, b"user\0a\0_pq_.x\0\x31\0\0"),
    ] {
        startup.push(packet(code, more));
    }
    frontend
        .push([frame(b'd', b"1\tx\n"), frame(b'c', b""), frame(b'f', b"why\0"), frame(b'F', b"\0\0\0\x01")].concat());
    write(&seeds.join("frontend"), "seed", streams(frontend));
    write(&seeds.join("startup"), "seed", startup);

    let mut wire = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    for text in statements.iter().step_by(3).filter(|text| !text.contains("COPY")) {
        wire.simple("BEGIN").unwrap();
        wire.simple(text).unwrap();
        wire.simple("ROLLBACK").unwrap();
        wire.simple("BEGIN").unwrap();
        wire.extended(text, Format::Binary).unwrap();
        wire.simple("ROLLBACK").unwrap();
    }
    wire.simple("COPY customers TO STDOUT").unwrap();
    wire.simple("LISTEN a; NOTIFY a, 'b'").unwrap();
    let answers = wire.received.iter().map(|Message { tag, body }| frame(*tag, body)).collect();
    write(&seeds.join("backend"), "seed", streams(answers));
}
