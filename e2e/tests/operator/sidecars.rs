//! A sidecar as the webhook makes it, run on this machine in place of its pod, between a real client and a real server.

use std::time::Duration;

use postern_e2e::gate::{self, http_get};
use postern_e2e::guard::{Ending, Guard};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use serde_json::{Value, json};

use crate::broker::{let_read, pod_token, running_pod, secret};
use crate::{Shop, eventually, on_both, policy};

on_both! {
    a_sidecar_serves_under_its_lease_and_no_longer => sidecar;
}

/// A running sidecar, gone when dropped.
struct Sidecar {
    guard: Guard,
    port: u16,
}

impl Sidecar {
    /// The first sidecar of a pod, by what its container says, and waits until it serves.
    fn start(shop: &Shop, pod: &str) -> Self {
        let folder = postern_e2e::temporary_folder("sidecar").unwrap();
        let file = |name: &str| folder.join(name).display().to_string();
        std::fs::write(folder.join("token"), pod_token(shop, pod, &[])).unwrap();
        let container = shop.get(&["pod", pod])["spec"]["initContainers"][0].clone();
        let (port, admin) = (postern_e2e::free_port().unwrap(), postern_e2e::free_port().unwrap());
        let replaced = [
            ("--token-file=", file("token")),
            ("--spool=", file("spool")),
            ("--listen=", format!("127.0.0.1:{port}")),
            ("--admin=", format!("127.0.0.1:{admin}")),
        ];
        let mut command = vec![gate::sidecar().unwrap().display().to_string()];
        for argument in container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()) {
            let other = replaced.iter().find(|(flag, _)| argument.starts_with(flag));
            command.push(other.map_or(argument.to_owned(), |(flag, value)| format!("{flag}{value}")));
        }
        let entry = &container["env"][0];
        let environment = [(entry["name"].as_str().unwrap().to_owned(), entry["value"].as_str().unwrap().to_owned())];
        let ending = Ending { signal: "TERM", folder: Some(&folder), patience: Duration::from_secs(10) };
        let mut guard = Guard::spawn(&command, &environment, &folder.join("log"), &ending).unwrap();
        let serves = || http_get(admin, "/startup").is_ok_and(|(status, _)| status == 200);
        guard.wait_until("the sidecar", Duration::from_secs(120), serves).unwrap();
        Self { guard, port }
    }

    /// What a client gets that asks for this: what it prints, or what it is told.
    fn psql(&self, server: &Server, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = server.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-w", "-U", "app", "-d", database, "-c", sql]);
        psql.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGSSLMODE", "disable");
        let output = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

fn sidecar(shop: &Shop) {
    let server = Server::start(&ServerOptions { tls: true, ..ServerOptions::default() }).unwrap();
    let database = server
        .database_with(
            "CREATE ROLE reporting_ro; CREATE TABLE customers (id int PRIMARY KEY, email text);
             INSERT INTO customers VALUES (1, 'ada@example.com'); GRANT SELECT ON customers TO reporting_ro;",
        )
        .unwrap();
    let masked = |mask: &Value| {
        let mut policy = policy("shop");
        let spec = &mut policy["spec"];
        spec["database"]["host"] = json!("127.0.0.1");
        spec["database"]["port"] = json!(server.port());
        spec["database"]["name"] = json!(database.name);
        spec["masks"] = json!([{"columns": ["public.customers.email"], "mask": mask}]);
        policy
    };
    secret(shop, "shop-postern", &[("username", ADMIN), ("password", ADMIN_PASSWORD)]);
    secret(shop, "shop-pg-ca", &[("ca.crt", server.ca().unwrap())]);
    let_read(shop);
    shop.apply(&masked(&json!({"email": {}})));
    running_pod(shop, "app");
    let sidecar = Sidecar::start(shop, "app");
    let ask = || sidecar.psql(&server, &database.name, "SELECT email FROM customers");
    let first = ask().unwrap();
    assert!(first.contains("@example.com") && !first.contains("ada"), "{first}");
    sidecar.psql(&server, &database.name, "COPY customers TO STDOUT").unwrap_err();

    // A change reaches it while it runs.
    shop.apply(&masked(&json!({"fixed": {"value": "hidden"}})));
    assert_eq!(eventually(|| ask().ok().filter(|email| *email != first)).as_deref(), Some("hidden"));

    // What it did is kept where the operator keeps it.
    let audited = || {
        let log = shop.operator.log();
        let lines = log.lines().filter(|line| line.starts_with('{') && line.contains(&shop.namespace));
        let events: Vec<Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
        let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
        (of("statement") >= 3 && of("gap") == 0).then_some(events)
    };
    let events = eventually(audited).expect("the audit does not arrive");
    let statement = events.iter().find(|event| event["event"] == "statement").unwrap();
    assert_eq!((&statement["proven"]["pod"], &statement["proven"]["identity"]), (&json!("app"), &json!("report")));

    // Its right ends, and so do its sessions.
    shop.kubectl(&["delete", "nonhumanidentity", "report"]);
    let refused = eventually(|| ask().err()).expect("it serves without a right");
    assert!(refused.contains("lease") || refused.contains("identity"), "{refused}");
    let log = sidecar.guard.log();
    assert!(!log.contains(ADMIN_PASSWORD), "a password is in the log");
}
