//! Ordinary programs do not notice the gate: what psql, pg_dump, drivers and ORMs sent to a real server (recorded on the
//! wire, see `capture/`) is sent again, once directly and once through a policy that allows everything, and the
//! answers are compared message by message.
//!
//! `POSTERN_PROGRAM=name` replays one program; `POSTERN_DIRECT=1` compares two servers without the gate, to check a new
//! recording.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use postern_e2e::gate::{EVERYTHING, Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use postern_e2e::replay::{self, Turn};
use postern_e2e::wire::{Message, Wire};
use serde_json::Value;

const SCHEMA: &str = include_str!("../corpus/transparency.schema.sql");

/// The start-up's answer; ParameterStatus has no order.
fn greeting(wire: &Wire) -> Vec<Message> {
    let mut messages = replay::comparable(&wire.received[..wire.start_up]);
    messages.retain(|message| message.tag != b'R');
    messages.sort();
    messages
}

fn startup(session: &[Value], direct: bool) -> Vec<(String, String)> {
    let recorded = session[0]["startup"].as_object().unwrap();
    let mut parameters: Vec<(String, String)> =
        recorded.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    if direct {
        // As the gate logs in: as one user, to run as another.
        parameters.iter_mut().filter(|(name, _)| name == "user").for_each(|(_, value)| *value = ADMIN.into());
        parameters.push(("role".into(), "app".into()));
    }
    parameters
}

/// The start-up's answer, and that to each turn.
fn play(port: u16, session: &[Value], turns: &[Turn], direct: bool) -> Result<(Vec<Message>, Vec<Vec<Message>>)> {
    let parameters = startup(session, direct);
    let parameters: Vec<(&str, &str)> =
        parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut wire = Wire::connect_with(port, ADMIN_PASSWORD, &parameters)?;
    let greeting = greeting(&wire);
    Ok((greeting, turns.iter().map(|turn| turn.play(&mut wire)).collect::<Result<_>>()?))
}

fn shown(messages: &[Message]) -> String {
    let mut text = messages.iter().map(|message| format!("\n      {message:?}")).collect::<String>();
    if text.len() > 1500 {
        text.truncate((0..1500).rev().find(|at| text.is_char_boundary(*at)).unwrap());
        text.push('…');
    }
    text
}

fn program(name: &str, text: &str, queries: &mut BTreeSet<String>) -> Result<(usize, String)> {
    // Two servers with the same history have the same object ids.
    let options = ServerOptions::default();
    let (one, two) = (Server::start(&options)?, Server::start(&options)?);
    replay::prepare(&one, SCHEMA)?;
    replay::prepare(&two, SCHEMA)?;
    let gate = match std::env::var_os("POSTERN_DIRECT") {
        None => {
            let spec = format!("mode: Enforce\n{EVERYTHING}");
            Some(Gate::start(&GateOptions::new(&two, "shop", "app", &spec))?)
        }
        Some(_) => None,
    };
    let mut failures = String::new();
    let mut count = 0;
    for (number, session) in replay::sessions(text)?.iter().enumerate() {
        let turns = replay::turns(session);
        queries.extend(turns.iter().flat_map(Turn::sql).map(str::to_owned));
        let (greeting, direct) = play(one.port(), session, &turns, true)?;
        count += direct.len();
        let port = gate.as_ref().map_or(two.port(), Gate::port);
        let (gate_greeting, through) = match play(port, session, &turns, gate.is_none()) {
            Ok(played) => played,
            Err(error) => {
                writeln!(failures, "{name}, session {number}: broke off through the gate: {error:#}")?;
                continue;
            }
        };
        if greeting != gate_greeting {
            writeln!(
                failures,
                "{name}, session {number}, start-up:\n    direct:{}\n    gate:{}",
                shown(&greeting),
                shown(&gate_greeting)
            )?;
        }
        for (turn, (direct, through)) in turns.iter().zip(direct.iter().zip(&through)) {
            let (expected, got) = (replay::comparable(direct), replay::comparable(through));
            if expected != got {
                let at = expected.iter().zip(&got).take_while(|(a, b)| a == b).count();
                writeln!(
                    failures,
                    "{name}, session {number}: {:?}\n    differs from message {at} on; direct:{}\n    gate:{}",
                    turn.sql(),
                    shown(&expected[at..]),
                    shown(&got[at..])
                )?;
            }
        }
    }
    Ok((count, failures))
}

#[test]
fn ordinary_programs_do_not_notice_the_gate() {
    let only = std::env::var("POSTERN_PROGRAM").ok();
    let folder = postern_e2e::workspace().join("e2e/corpus/transparency");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    names.sort();
    let mut queries = BTreeSet::new();
    let mut failures = String::new();
    let mut err = std::io::stderr();
    writeln!(err, "\n{:<28}{:>10}{:>8}", "transparency: program", "exchanges", "differ").unwrap();
    for path in names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let (count, wrong) = match program(&name, &std::fs::read_to_string(&path).unwrap(), &mut queries) {
            Ok(result) => result,
            Err(error) => (0, format!("{name}: {error:#}\n")),
        };
        let differ = wrong.lines().filter(|line| line.starts_with(&name)).count();
        writeln!(err, "{name:<28}{count:>10}{differ:>8}").unwrap();
        failures.push_str(&wrong);
    }
    writeln!(err, "{} different queries", queries.len()).unwrap();
    assert!(failures.is_empty(), "{failures}");
    assert!(only.is_some() || queries.len() >= 300, "the corpus has {} queries", queries.len());
}

/// The recording is what the programs sent: encoding it again and decoding that gives it back.
#[test]
fn recorded_messages_are_sent_as_they_were() {
    for entry in std::fs::read_dir(postern_e2e::workspace().join("e2e/corpus/transparency")).unwrap().flatten() {
        for session in replay::sessions(&std::fs::read_to_string(entry.path()).unwrap()).unwrap() {
            for message in session.iter().skip(1) {
                let bytes = replay::encode(message).unwrap();
                assert_eq!(replay::decode(bytes[0], &bytes[5..]).unwrap().as_ref(), Some(message));
            }
        }
    }
}
