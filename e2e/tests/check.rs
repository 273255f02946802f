//! `postern-sidecar check`: what it finds, what it says of statements, and its exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use postern_e2e::gate::{identity, policy, sidecar};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use serde_json::Value;

const SCHEMA: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, email text UNIQUE, ssn text UNIQUE, region text, tenant int,
    CONSTRAINT sane CHECK (name <> email));
CREATE INDEX by_domain ON customers (split_part(email, '@', 2));
CREATE TABLE orders (id int PRIMARY KEY, ssn text REFERENCES customers (ssn), total numeric);
CREATE VIEW contacts AS SELECT id, email FROM customers;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER noted AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION note();
CREATE FUNCTION first_email() RETURNS text LANGUAGE sql AS $$ SELECT email FROM customers LIMIT 1 $$;
CREATE FUNCTION any_email() RETURNS text LANGUAGE sql AS $$ SELECT first_email() $$;
CREATE VIEW emails AS SELECT any_email() AS e;
CREATE TABLE visits (kind text, number serial, n int, other text) PARTITION BY LIST (lower(kind));
CREATE TABLE visits_b PARTITION OF visits FOR VALUES IN ('b');
CREATE TABLE visits_a PARTITION OF visits FOR VALUES IN ('a');
";

const SPEC: &str = r#"masks:
- columns: [public.customers.email]
  mask: {email: {}}
- columns: [public.customers.ssn]
  mask: {nullify: {}}
- columns: ["*.*.gone"]
  mask: {nullify: {}}
- columns: [public.visits.kind, public.visits.number]
  mask: {nullify: {}}
rules:
- name: reads
  to: {groups: [apps]}
  allow: [Select, Update, CopyOut]
  relations: [public.customers, public.orders, public.contacts, public.nothing, public.emails, "public.visits*"]
  rowFilters: [{relation: public.customers, where: "region = 'eu'"}]
  functions: [public.first_email]
  settings: ["app.*"]
- name: tenants
  to: {groups: [apps], identities: [nobody]}
  allow: [Select]
  relations: [public.customers]
  rowFilters: [{relation: public.customers, where: "tenant = current_setting('app.tenant')::int"}]
"#;

/// Files for `check`, gone when dropped.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(server: &Server, database: &str, spec: &str) -> Self {
        let folder = postern_e2e::temporary_folder("check").unwrap();
        fs::write(folder.join("policy.yaml"), policy(server, database, spec)).unwrap();
        let identities = format!("{}---\n{}", identity("app", "apps", ADMIN), identity("idle", "none", ADMIN));
        fs::write(folder.join("identities.yaml"), identities).unwrap();
        fs::create_dir_all(folder.join("secrets/db")).unwrap();
        fs::write(folder.join("secrets/db/username"), ADMIN).unwrap();
        fs::write(folder.join("secrets/db/password"), ADMIN_PASSWORD).unwrap();
        Self { folder }
    }

    fn check(&self, arguments: &[&str]) -> Output {
        Command::new(sidecar().unwrap())
            .args(["check", "--policy", "policy.yaml", "--identity", "identities.yaml"])
            .args(arguments)
            .current_dir(&self.folder)
            .env_remove("PGPASSWORD")
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.check(&[arguments, &["--output", "json"]].concat());
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), value)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const LIVE: &[&str] = &["--secrets-dir", "secrets", "--database"];

#[test]
fn each_trap_of_a_policy_is_found_where_it_is() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let files = Files::new(server, &database.name, SPEC);
    let (_, report) = files.json(LIVE);
    let findings = report["findings"].as_array().unwrap();
    let find = |code: &str, path: &str, part: &str| {
        let found = findings.iter().any(|finding| {
            finding["code"] == code && finding["path"] == path && finding["message"].as_str().unwrap().contains(part)
        });
        assert!(found, "no {code} at {path} that says {part}:\n{report:#}");
    };
    find("foreign-key", "spec.masks[1]", "public.orders.ssn shows what public.customers.ssn masks");
    find("index-expression", "spec.masks[0]", "by_domain");
    find("trigger", "spec.masks[0]", "noted");
    find("view", "spec.masks[0]", "public.contacts reads email");
    find("check-constraint", "spec.masks[0]", "sane");
    find("constant-mask", "spec.masks[1]", "public.customers.ssn");
    find("masked-predicate", "spec.masks[0]", "public.customers.email");
    find("matches-nothing", "spec.masks[2].columns[0]", "*.*.gone");
    find("matches-nothing", "spec.rules[0].relations[3]", "public.nothing");
    find("filters-combine", "spec.rules[1].rowFilters[0]", "reads, tenants");
    find("function-reads", "spec.rules[0].functions[0]", "public.first_email reads public.customers");
    find("closed-view", "spec.rules", "public.emails is closed: it calls public.any_email");
    find("closed-sequence", "spec.rules", "public.visits_number_seq is closed");
    find("partition-key", "spec.masks[3]", "closed by themselves (public.visits_a, public.visits_b)");
    find("client-setting", "spec.rules[1].rowFilters[0]", "app.tenant");
    find("copy-out-denied", "spec.rules[0].allow", "CopyOut");
    find("unknown-identity", "spec.rules[1].to.identities", "nobody");
    find("no-rule", "spec.rules", "no rule applies");
}

#[test]
fn a_schema_file_stands_for_the_database() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let files = Files::new(server, &database.name, SPEC);
    let (_, live) = files.json(&[LIVE, &["--write-schema", "schema.json"]].concat());
    let (_, snapshot) = files.json(&["--schema", "schema.json"]);
    assert_eq!(live, snapshot);
    let dsn = format!("postgres://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{}/{}", server.port(), database.name);
    assert_eq!(files.json(&["--database", &dsn]).1, live);
    let sql = ["--sql", "SELECT email FROM customers", "--as", "app"];
    let (code, explained) = files.json(&[&["--schema", "schema.json"], &sql[..]].concat());
    assert_eq!(explained, files.json(&[LIVE, &sql[..]].concat()).1);
    let decision = &explained["statements"][0]["decisions"][0];
    assert_eq!((code, &decision["decision"], &decision["rule"]), (0, &"allow".into(), &"reads".into()));
    assert_eq!(decision["masked_columns"][0], "public.customers.email");
    assert!(decision["rewritten"].as_str().unwrap().contains("region"), "{decision:#}");
}

#[test]
fn each_statement_of_a_file_gets_a_row_for_each_identity() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let files = Files::new(server, &database.name, SPEC);
    fs::write(files.folder.join("s.sql"), "SELECT id FROM orders;\n-- a ; in a comment\nDELETE FROM orders;SELEC 1;")
        .unwrap();
    let (code, report) = files.json(&[LIVE, &["--file", "s.sql"]].concat());
    assert_eq!(code, 1);
    let decisions: Vec<Vec<String>> = report["statements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|statement| {
            let decisions = statement["decisions"].as_array().unwrap();
            decisions
                .iter()
                .map(|d| format!("{} {} {}", d["identity"], d["decision"], d["reason"]).replace('"', ""))
                .collect()
        })
        .collect();
    assert_eq!(
        decisions,
        [
            ["app allow null", "idle deny no_rule"],
            ["app deny no_rule", "idle deny no_rule"],
            ["app deny syntax", "idle deny syntax"]
        ]
    );
    let text = String::from_utf8(files.check(&[LIVE, &["--file", "s.sql"]].concat()).stdout).unwrap();
    assert!(text.contains("   1  allow") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn exit_codes_are_for_ci() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int)").unwrap();
    let good = "rules: [{name: reads, to: {groups: [apps, none]}, allow: [Select], relations: [public.t]}]";
    let files = Files::new(server, &database.name, good);
    let code = |arguments: &[&str]| files.check(arguments).status.code();
    assert_eq!(code(&[]), Some(0));
    assert_eq!(code(&[LIVE, &["--sql", "TABLE t"]].concat()), Some(0));
    assert_eq!(code(&[LIVE, &["--sql", "DELETE FROM t"]].concat()), Some(1));
    assert_eq!(code(&["--sql", "TABLE t"]), Some(2));
    assert_eq!(code(&["--schema", "missing.json"]), Some(2));
    assert_eq!(code(&["--as", "nobody"]), Some(2));
    assert_eq!(code(&["--no-such-option"]), Some(2));
    assert_eq!(code(&["--database", "postgres://x:y@127.0.0.1:1/z"]), Some(2));
    let wrong = "masks: [{columns: [public.t.a], mask: {partial: {keepLast: 4}}}]\n".to_owned() + good;
    let files = Files::new(server, &database.name, &wrong);
    assert_eq!(files.check(LIVE).status.code(), Some(1), "a mask that does not fit its column");
    let files = Files::new(server, &database.name, &good.replace("none", "nobodys"));
    assert_eq!(files.check(&[]).status.code(), Some(0), "warnings don't fail");
    assert_eq!(files.check(&["--strict"]).status.code(), Some(1));
    let files = Files::new(server, &database.name, &good.replace("allow", "alow"));
    let output = files.check(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("alow"));
}

#[test]
fn every_option_has_an_environment_variable() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int)").unwrap();
    let files = Files::new(
        server,
        &database.name,
        "rules: [{name: r, to: {groups: [apps]}, allow: [Select], relations: [public.t]}]",
    );
    let output = Command::new(sidecar().unwrap())
        .arg("check")
        .current_dir(&files.folder)
        .env("POSTERN_POLICY", "policy.yaml")
        .env("POSTERN_IDENTITY", "identities.yaml")
        .env("POSTERN_AS", "app")
        .env("POSTERN_OUTPUT", "json")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["subject"]["identities"][0]), (Some(0), &"app".into()));
}
