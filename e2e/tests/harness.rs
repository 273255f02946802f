//! The harness itself: servers of one's own that leave nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use postern_e2e::wire::{Format, Wire, rows};

#[test]
fn a_server_is_gone_when_dropped() {
    let server = Server::start(&ServerOptions::default()).unwrap();
    assert_eq!(server.psql("postgres", "SELECT 6 * 7").unwrap().trim(), "42");
    let folder = server.socket_folder().to_owned();
    assert!(folder.exists());
    drop(server);
    assert!(!folder.exists());
}

#[test]
fn each_way_to_log_in_works() {
    for auth in ["scram-sha-256", "md5", "password", "trust"] {
        let server = Server::start(&ServerOptions { auth: auth.into(), tls: true, ..Default::default() }).unwrap();
        let mut wire = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, "postgres").unwrap();
        assert_eq!(rows(&wire.simple("SELECT 1, NULL").unwrap()), [["1", "∅"]], "{auth}");
        assert_eq!(
            wire.extended("SELECT 1::int4", Format::Binary).unwrap()[3].cells().unwrap()[0],
            Some(vec![0, 0, 0, 1])
        );
        if auth != "trust" {
            assert!(Wire::connect(server.port(), ADMIN, "wrong", "postgres").is_err(), "{auth}");
        }
    }
}

#[test]
fn databases_on_the_shared_server_are_apart() {
    let server = Server::shared().unwrap();
    let one = server.database_with("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let two = server.database().unwrap();
    assert_eq!(server.psql(&one.name, "TABLE t").unwrap().trim(), "1");
    assert!(server.psql(&two.name, "TABLE t").is_err());
}

/// Runs this very program again as a child that is killed while it has a server.
#[test]
fn a_killed_test_leaves_no_server() {
    if std::env::var_os("HARNESS_CHILD").is_some() {
        let server = Server::start(&ServerOptions::default()).unwrap();
        println!("folder={}", server.socket_folder().display());
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    use std::io::{BufRead, BufReader};
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_no_server", "--nocapture"])
        .env("HARNESS_CHILD", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let folder = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("folder=").map(|(_, folder)| std::path::PathBuf::from(folder)))
        .unwrap();
    assert!(folder.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while folder.exists() {
        assert!(std::time::Instant::now() < until, "{} is still there", folder.display());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
