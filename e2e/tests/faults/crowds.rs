//! Many at once.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use postern_e2e::postgres::{Server, ServerOptions};
use postern_e2e::wire::Wire;

use super::{MIB, Stage, soon, wait_until};

/// What a gate lets stand that has not said anything yet.
const SEATS: usize = 512;

fn has_ended(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    matches!((&mut &*socket).read(&mut [0]), Ok(0))
}

/// Those that have been silent for longest are closed without a word when others come.
#[test]
fn a_client_gets_in_among_1_500_connections_that_say_nothing() {
    let stage = Stage::new();
    let mut silent: Vec<TcpStream> = Vec::new();
    for count in [1000, 1500] {
        let address = ("127.0.0.1", stage.gate.port());
        silent.extend((silent.len()..count).map(|_| TcpStream::connect(address).unwrap()));
        let mut client = soon("a session", || stage.connect());
        stage.reads(&mut client);
        wait_until("the end of those over the number", || stage.descriptors() - stage.before.1 <= SEATS + 2);
    }
    let ended = || silent.iter().filter(|socket| has_ended(socket)).count();
    wait_until("the ends", || ended() >= 1500 - SEATS);
    assert!(ended() <= 1500 - SEATS + 2, "{} were closed", ended());
    assert!(!has_ended(silent.last().unwrap()), "the last one was closed");
    assert!(stage.metric("postern_sessions_refused_total") >= ended() as i64);
    drop(silent);
    stage.is_as_before(16 * MIB);
}

/// A pool that fills itself, or many at once: nobody is sent away for coming at the same moment.
#[test]
fn clients_that_come_at_the_same_moment_all_get_in() {
    let stage = Stage::on(Server::shared().unwrap(), |options| options.arguments(["--workers", "1"]));
    let barrier = std::sync::Barrier::new(100);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                barrier.wait();
                stage.reads(&mut stage.connect());
            });
        }
    });
    stage.is_as_before(16 * MIB);
}

fn idle_sessions(count: usize) {
    let settings = vec![("max_connections".into(), (count + 20).to_string())];
    let server = Server::start(&ServerOptions { settings, ..ServerOptions::default() }).unwrap();
    let stage = Stage::on(&server, |options| options);
    let mut sessions: Vec<Wire> = (0..count).map(|_| stage.connect()).collect();
    sessions.iter_mut().for_each(|session| stage.reads(session));
    std::thread::sleep(Duration::from_secs(1));
    let each = stage.process.resident().unwrap().saturating_sub(stage.before.0) / count as u64;
    println!("{count} idle sessions: {} KiB each", each >> 10);
    assert_eq!(stage.metric("postern_sessions"), count as i64);
    // The catalog's own connection may stand beside them for the moment of a look.
    wait_until("two descriptors for each", || stage.descriptors() - stage.before.1 == 2 * count);
    // An unoptimised build needs more than an optimised one.
    assert!(each < 64 << 10, "{each} bytes for each");
    // All of them still work, and a cancelled one among them disturbs none.
    sessions.iter_mut().for_each(|session| stage.reads(session));
    drop(sessions);
    stage.is_as_before(count as u64 * (96 << 10));
}

#[test]
fn idle_sessions_cost_two_descriptors_and_little_memory_each() {
    println!("100 sessions; the 500 are with the long tests (--ignored)");
    idle_sessions(100);
}

#[test]
#[ignore = "500 processes of the server"]
fn five_hundred_idle_sessions_cost_two_descriptors_and_little_memory_each() {
    idle_sessions(500);
}
