//! Bytes that are no protocol, at every state that a connection can be in.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD};
use postern_e2e::random::Random;
use postern_e2e::wire::{self, Format, Message, SSL_REQUEST, Wire, frame, query};

use super::{FEW, SOON, Stage, soon};

/// What may be said to it; besides, the connection may end without a word.
/// 25P02 is the server's, where a transaction has failed, and 26000, where a statement is not there.
const CODES: [&str; 10] = ["08P01", "54000", "0A000", "22021", "25P02", "26000", "3D000", "42501", "42601", "57014"];

const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

fn startup(database: &str) -> Vec<u8> {
    wire::startup(wire::PROTOCOL_3_0, &[("user", "x"), ("database", database)])
}

/// States of a connection: what is sent to reach it, and the type of the message that shows that it is reached.
fn states(database: &str) -> Vec<(&'static str, Vec<u8>, Option<u8>)> {
    let ready = |more: &[Vec<u8>]| [startup(database), more.concat()].concat();
    let execute = |sql: &str| {
        [wire::parse("", sql), wire::bind("", "", &[], Format::Text), wire::execute("", 0), wire::flush()].concat()
    };
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    vec![
        ("before the start-up", Vec::new(), None),
        ("after SSLRequest", SSL_REQUEST.to_vec(), Some(b'N')),
        ("after GSSENCRequest", GSSENC_REQUEST.to_vec(), Some(b'N')),
        ("while it is logged in", startup(database), None),
        ("idle", ready(&[]), Some(b'Z')),
        ("after Parse", ready(&[wire::parse("s", "SELECT 1"), wire::flush()]), Some(b'1')),
        ("within a portal", ready(&[execute("SELECT 1")]), Some(b'C')),
        (
            "after a refusal, before Sync",
            ready(&[wire::parse("", "SELECT pg_read_file('x')"), wire::flush()]),
            Some(b'E'),
        ),
        ("in a transaction", ready(&[query("BEGIN")]), Some(b'C')),
        ("in a failed transaction", ready(&[query("BEGIN; SELECT 1/0")]), Some(b'E')),
        ("in COPY IN", ready(&[query("COPY t FROM STDIN")]), Some(b'G')),
        ("in COPY IN by the extended protocol", ready(&[execute("COPY t FROM STDIN")]), Some(b'G')),
        ("in COPY OUT", ready(&[query(&format!("COPY ({rows}) TO STDOUT"))]), Some(b'H')),
        ("while rows stream", ready(&[query(rows)]), Some(b'T')),
        ("while a statement waits", ready(&[query("SELECT a FROM locked")]), Some(b'Z')),
    ]
}

fn garbage() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> =
        (1..=8).map(|seed| (format!("noise {seed}"), Random::new(seed).bytes(200))).collect();
    let mut add = |name: &str, bytes: &[u8]| all.push((name.to_owned(), bytes.to_vec()));
    add("zeros", &[0; 64]);
    add("ones", &[0xff; 64]);
    add("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    add("a TLS hello", &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3, 3]);
    add("a start-up packet", &startup("x"));
    add("a length below its own", b"Q\0\0\0\x03");
    add("a length of 2 GiB", b"Q\x7f\xff\xff\xff");
    add("a length below 0", b"d\xff\xff\xff\xff");
    add("a gigabyte of data to come", b"d\x3f\xff\xff\xff");
    add("a gigabyte of parameters to come", b"B\x3f\xff\xff\xff\0\0");
    add("half a message", b"Q\0\0\0\x20SELECT");
    add("a text without its end", &frame(b'Q', b"SELECT 1"));
    add("counts without their values", &frame(b'B', b"\0\0\xff\xff\xff\xff"));
    add("a list of types without them", &frame(b'P', b"\0SELECT 1\0\xff\xff"));
    add("a password", &frame(b'p', b"secret\0"));
    for tag in *b"BCcdDEfFHPpQSX" {
        add(&format!("{} without a body", char::from(tag)), &frame(tag, b""));
    }
    for tag in *b"RKZTDCEN13\0" {
        add(&format!("{:?} of the server", char::from(tag)), &frame(tag, b"\0\0\0\0\0"));
    }
    all
}

/// The messages that come until the connection ends.
fn to_the_end(socket: &mut TcpStream) -> Vec<Message> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}, after {} bytes", bytes.len()),
        }
    }
    let mut rest = bytes.as_slice();
    let mut messages = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let Some((body, next)) = after.split_at_checked(length) else { break };
        messages.push(Message { tag: head[0], body: body.to_vec() });
        rest = next;
    }
    messages
}

fn reach(socket: &mut TcpStream, bytes: &[u8], shows: Option<u8>) {
    socket.write_all(bytes).unwrap();
    let Some(shows) = shows else { return };
    if shows == b'N' {
        let mut answer = [0];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [b'N']);
        return;
    }
    loop {
        let mut head = [0; 5];
        socket.read_exact(&mut head).unwrap();
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        socket.read_exact(&mut body).unwrap();
        if head[0] == shows {
            return;
        }
    }
}

/// Every `step`th kind of garbage at each state, beginning elsewhere each time.
fn throw(step: usize) {
    let stage = Stage::new();
    stage.server.psql(&stage.database, "CREATE TABLE locked (a int)").unwrap();
    let mut lock = Wire::connect(stage.server.port(), ADMIN, ADMIN_PASSWORD, &stage.database).unwrap();
    lock.simple("BEGIN; LOCK TABLE locked").unwrap();
    for (number, (state, before, shows)) in states(&stage.database).into_iter().enumerate() {
        for (name, bytes) in garbage().into_iter().skip(number % step).step_by(step) {
            let what = format!("{name}, {state}");
            let mut socket = TcpStream::connect(("127.0.0.1", stage.gate.port())).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            reach(&mut socket, &before, shows);
            // The gate may have closed it at the first byte.
            _ = socket.write_all(&bytes);
            _ = socket.shutdown(Shutdown::Write);
            let messages = soon(&what, || to_the_end(&mut socket));
            for message in messages.iter().filter(|message| message.tag == b'E') {
                let code = message.sqlstate().unwrap();
                assert!(CODES.contains(&code.as_str()), "{what}: {:?}", message.fields());
            }
        }
        stage.reads(&mut stage.connect());
    }
    lock.simple("ROLLBACK").unwrap();
    stage.is_as_before(FEW);
    assert_eq!(stage.server.psql(&stage.database, "SELECT count(*) FROM t").unwrap().trim(), "100");
}

#[test]
fn garbage_at_every_state_of_the_protocol_gets_an_error_or_an_end() {
    println!("a quarter of it at each state; all of it is with the long tests (--ignored)");
    throw(4);
}

#[test]
#[ignore = "700 connections"]
fn all_garbage_at_every_state_of_the_protocol_gets_an_error_or_an_end() {
    throw(1);
}
