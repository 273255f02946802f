//! Roles that are made for sidecars: what they may, and that none is left behind.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use postern_e2e::gate::http_get;
use postern_e2e::kubernetes::operator::{Operator, SIDECAR_IMAGE};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use postern_e2e::wire::{Wire, query};
use serde_json::{Value, json};

use crate::shop::{Shop, end_of, shop, sqlstate, wait_until};

/// Tables of an owner, and a role that makes roles and is a member of the owner.
const TABLES: &str = "
    CREATE ROLE owner_{db}; CREATE ROLE maker_{db} LOGIN CREATEROLE PASSWORD 'maker-password'; GRANT owner_{db} TO maker_{db} WITH ADMIN OPTION;
    GRANT CREATE ON DATABASE {db} TO owner_{db};
    SET ROLE owner_{db};
    CREATE SCHEMA app;
    CREATE TABLE app.customers (id serial PRIMARY KEY, ssn text, email text, salary int, region text);
    INSERT INTO app.customers (ssn, email, salary, region)
        VALUES ('123-45', 'ada@example.com', 100, 'eu'), ('678-90', 'bob@example.com', 200, 'us');
    CREATE TABLE app.orders (id serial PRIMARY KEY, customer int REFERENCES app.customers ON DELETE CASCADE, note text);
    CREATE TABLE app.secrets (key text);
    CREATE FUNCTION app.fee(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
    REVOKE EXECUTE ON FUNCTION app.fee(int) FROM PUBLIC;
    RESET ROLE";

/// A shop whose policy has roles made, with these fields of `ephemeralRole` and of the policy beside.
pub(crate) fn shop_with_roles(max_lease: &str, role: Value, spec: &Value) -> Option<Shop> {
    let shop = shop(max_lease)?;
    let database = &shop.database;
    Server::shared().unwrap().psql(database, &TABLES.replace("{db}", database)).unwrap();
    let maker = format!("--from-literal=username=maker_{database}");
    for arguments in [
        &["create", "secret", "generic", "maker", &maker, "--from-literal=password=maker-password"][..],
        &["delete", "role", "db"],
        &[
            "create",
            "role",
            "db",
            "--verb=get,watch",
            "--resource=secrets",
            "--resource-name=db",
            "--resource-name=maker",
            "--resource-name=authority",
        ],
    ] {
        shop.namespace.kubectl(arguments).unwrap();
    }
    let mut ephemeral = json!({"adminSecret": {"name": "maker"}});
    ephemeral.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
    shop.policy_of(database, &json!({"ephemeralRole": ephemeral}), spec);
    Some(shop)
}

fn spec() -> Value {
    let to = json!({"identities": ["report"]});
    json!({
        "masks": [
            {"columns": ["app.customers.email"], "mask": {"email": {}}},
            {"columns": ["app.customers.salary"], "mask": {"nullify": {}}},
        ],
        "rules": [
            {
                "name": "reads", "to": to, "allow": ["Select"], "relations": ["app.customers", "app.new_*"],
                "hideColumns": ["app.customers.ssn"], "functions": ["app.fee"],
                "rowFilters": [{"relation": "app.customers", "where": "region = 'eu'"}],
            },
            {
                "name": "writes", "to": to, "allow": ["Select", "Insert", "Update", "Delete", "Temp"],
                "relations": ["app.orders"],
            },
        ],
    })
}

/// As the superuser.
pub(crate) fn ask(shop: &Shop, sql: &str) -> String {
    Server::shared().unwrap().psql(&shop.database, sql).unwrap().trim().to_owned()
}

/// The roles of the shop's policy: of sidecars, and all.
pub(crate) fn roles(shop: &Shop) -> (Vec<String>, usize) {
    let policy = shop.namespace.json(&["get", "dap", "orders"]).unwrap();
    roles_of(shop, policy["metadata"]["uid"].as_str().unwrap())
}

fn roles_of(shop: &Shop, policy: &str) -> (Vec<String>, usize) {
    let of = format!("FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE '%{policy}%'");
    let own = ask(shop, &format!("SELECT rolname {of} AND rolcanlogin ORDER BY 1"));
    let all = ask(shop, &format!("SELECT count(*) {of}"));
    (own.lines().map(str::to_owned).collect(), all.parse().unwrap())
}

/// The one role of the shop's sidecar.
fn role(shop: &Shop) -> String {
    let (own, all) = roles(shop);
    let [only] = own.as_slice() else { panic!("{own:?}") };
    assert_eq!(all, 2, "and the one that holds the grants");
    only.clone()
}

#[test]
fn a_sidecar_logs_in_as_a_role_of_its_own_that_may_do_what_the_policy_says_and_no_more() {
    let Some(mut shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    for sql in [
        "SELECT * FROM app.customers",
        "SELECT count(*), min(xmin::text) FROM app.customers c",
        "SELECT app.fee(id) FROM app.customers FOR KEY SHARE",
        "INSERT INTO app.orders (customer, note) SELECT id, email FROM app.customers RETURNING id",
        "UPDATE app.orders SET note = note || '!' WHERE id = 1",
        "DELETE FROM app.orders WHERE id = 1",
        "INSERT INTO app.orders DEFAULT VALUES ON CONFLICT (id) DO UPDATE SET note = 'again'",
        "CREATE TEMP TABLE scratch AS SELECT email FROM app.customers",
        "SELECT c.email, o.note FROM app.customers c LEFT JOIN app.orders o ON o.customer = c.id",
    ] {
        let code = sqlstate(&mut wire, sql);
        let only_locks_what_it_may_change = sql.contains("FOR KEY SHARE");
        assert_eq!(code.as_deref(), only_locks_what_it_may_change.then_some("42501"), "{sql}");
    }
    assert_eq!(sqlstate(&mut wire, "SELECT key FROM app.secrets").as_deref(), Some("42501"));

    // What the server itself lets the role do, without a gate before it.
    let role = role(&shop);
    let may = |what: &str| ask(&shop, &format!("SELECT has_{what}")) == "t";
    assert!(may(&format!("column_privilege('{role}', 'app.customers', 'email', 'SELECT')")));
    assert!(may(&format!("column_privilege('{role}', 'app.customers', 'region', 'SELECT')")));
    assert!(may(&format!("function_privilege('{role}', 'app.fee(int)', 'EXECUTE')")));
    for denied in
        ["'app.customers', 'ssn', 'SELECT'", "'app.customers', 'salary', 'SELECT'", "'app.customers', 'id', 'UPDATE'"]
    {
        assert!(!may(&format!("column_privilege('{role}', {denied})")), "{denied}");
    }
    assert!(!may(&format!("table_privilege('{role}', 'app.secrets', 'SELECT,INSERT,UPDATE,DELETE')")));
    let attributes = "rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls";
    let facts = format!(
        "SELECT {attributes}, rolvaliduntil > now() + interval '59 min', rolvaliduntil < now() + interval '62 min'
         FROM pg_roles WHERE rolname = '{role}'"
    );
    assert_eq!(ask(&shop, &facts), "f|t|t");
    let kept = ask(&shop, &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"));
    assert!(kept.starts_with("SCRAM-SHA-256$"), "{kept}");
    assert!(!Server::shared().unwrap().log().contains("maker-password"));

    // Another replica finds the role, and makes no other.
    let broker = shop.operator().broker();
    shop.operator = None;
    shop.operator = Some(Operator::start_again(shop.server, "postern-1", broker, SIDECAR_IMAGE).unwrap());
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);

    // A table that the policy's pattern means is granted once it is there.
    ask(&shop, &format!("SET ROLE owner_{0}; CREATE TABLE app.new_things AS SELECT 1 AS a", shop.database));
    wait_until("the grant", || sqlstate(&mut wire, "TABLE app.new_things").is_none());
    assert_eq!(self::role(&shop), role);

    // The right ends, and all of it with it.
    shop.namespace.kubectl(&["delete", "nhi", "report", "--wait=false"]).unwrap();
    assert_eq!(end_of(&mut wire).as_deref(), Some("57P01"));
    wait_until("the roles' end", || roles(&shop) == (Vec::new(), 0));
}

#[test]
fn a_role_whose_time_is_over_is_dropped_with_its_sessions_and_another_clusters_is_not() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let mut sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    let first = role(&shop);
    // Of a cluster and a policy whose names begin alike.
    let foreign = format!("{}ffff", &first[..first.len() - 4]);
    ask(
        &shop,
        &format!(
            "CREATE ROLE {foreign} LOGIN VALID UNTIL '2001-01-01';
             COMMENT ON ROLE {foreign} IS '{{\"cluster\":\"another\",\"policy\":\"p\",\"namespace\":\"n\",\"identity\":\"i\"}}'"
        ),
    );
    // A sidecar that is killed leaves its role until that is over; the next one has another.
    sidecar.guard.process().unwrap().signal("KILL").unwrap();
    wait_until("the sidecar's end", || sidecar.guard.ended());
    let next = shop.sidecar().started();
    let mut wire = next.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    let second = roles(&shop).0.into_iter().find(|name| *name != first).unwrap();

    // As a client that has got the role's password would: with a session that nobody ends, and an object of its own.
    let database = &shop.database;
    ask(&shop, &format!("GRANT CREATE ON SCHEMA app TO {first}; ALTER ROLE {first} PASSWORD 'stolen'"));
    let server = Server::shared().unwrap();
    let mut thief = server.program("psql");
    thief.args(["-X", "-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", &first, "-d", database]);
    thief.args(["-c", "CREATE TABLE app.mine (a int)", "-c", "SELECT pg_sleep(600)"]).env("PGPASSWORD", "stolen");
    thief.stdout(Stdio::null()).stderr(Stdio::null());
    let mut thief = thief.spawn().unwrap();
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{first}' AND query LIKE '%sleep%'");
    wait_until("the session", || ask(&shop, &sessions) == "1");
    ask(&shop, &format!("REVOKE CREATE ON SCHEMA app FROM {first}; ALTER ROLE {first} VALID UNTIL '2001-01-01'"));
    wait_until("the role's end", || roles(&shop) == (vec![second.clone()], 2));
    assert!(!thief.wait().unwrap().success());
    assert_eq!(
        ask(&shop, "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'mine'"),
        format!("{}left", &first[..first.rfind('_').unwrap() + 1]),
        "what it made is given away, not dropped"
    );
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None, "the other sidecar's goes on");
    assert_eq!(ask(&shop, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{foreign}'")), "1");
    ask(&shop, &format!("DROP ROLE {foreign}"));
}

#[test]
fn what_a_member_of_a_role_makes_belongs_to_that_role_and_stays() {
    let rules = json!([
        {"name": "moves", "to": {"identities": ["report"]}, "allow": ["Select", "Insert", "Ddl"], "relations": ["app.*"]},
    ]);
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let owner = format!("owner_{}", shop.database);
    let credentials = json!({"ephemeralRole": {"adminSecret": {"name": "maker"}, "memberOf": owner}});
    shop.policy_of(&shop.database, &credentials, &json!({"rules": rules}));
    // An identity that would run as another one gets nothing by it.
    let sidecar = shop.sidecar();
    wait_until("the refusal", || {
        std::fs::read_to_string(shop.folder.join("log"))
            .is_ok_and(|log| log.contains("postgresRole of report is another"))
    });
    shop.runs_as(&owner);
    let sidecar = sidecar.started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "CREATE TABLE app.moved AS SELECT 1 AS a"), None);
    let own = roles(&shop);
    assert_eq!((own.0.len(), own.1), (1, 1), "no role that holds grants");
    assert_eq!(ask(&shop, "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'moved'"), owner);
    shop.namespace.kubectl(&["delete", "nhi", "report", "--wait=false"]).unwrap();
    wait_until("the role's end", || roles(&shop).1 == 0);
    assert_eq!(ask(&shop, "TABLE app.moved"), "1");
}

#[test]
fn the_roles_of_a_policy_end_with_it() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    role(&shop);
    let policy = shop.namespace.json(&["get", "dap", "orders"]).unwrap();
    let uid = policy["metadata"]["uid"].as_str().unwrap();
    shop.namespace.kubectl(&["delete", "dap", "orders"]).unwrap();
    assert_eq!(roles_of(&shop, uid), (Vec::new(), 0), "before the policy is gone");
    assert_eq!(end_of(&mut wire).as_deref(), Some("57P01"));
}

/// Everything of a namespace is deleted at the same time: also the Secret by which the roles were made, and the right to it.
#[test]
fn a_namespace_deleted_under_load_is_gone_soon_and_its_roles_with_it() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let policy = shop.namespace.json(&["get", "dap", "orders"]).unwrap();
    let uid = policy["metadata"]["uid"].as_str().unwrap();
    let sidecar = shop.sidecar().started();
    let wires: Vec<_> = (0..4).map(|_| sidecar.connect(&shop.database).unwrap()).collect();
    role(&shop);
    let answered = AtomicUsize::new(0);
    let answered = &answered;
    let (began, ended, gone) = std::thread::scope(|scope| {
        let ends: Vec<_> =
            wires.into_iter().map(|mut wire| scope.spawn(move || until_it_ends(&mut wire, answered))).collect();
        wait_until("queries", || answered.load(Ordering::Relaxed) > 100);
        let began = Instant::now();
        shop.namespace.kubectl(&["delete", "namespace", shop.namespace.name(), "--timeout=180s"]).unwrap();
        let gone = began.elapsed();
        let ends: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
        (began, ends, gone)
    });
    println!(
        "the namespace was gone after {gone:?}, sessions had ended after {:?}, {} queries were answered",
        ended.iter().map(|(_, at)| at.duration_since(began)).max().unwrap(),
        answered.load(Ordering::Relaxed)
    );
    for (code, _) in ended {
        assert_eq!(code.as_deref(), Some("57P01"));
    }
    assert_eq!(roles_of(&shop, uid), (Vec::new(), 0));
    assert!(!shop.operator().log().contains("roles that were made for it are left"), "{}", shop.operator().log());
}

/// Asks again and again; with what and when the session is ended.
fn until_it_ends(wire: &mut Wire, answered: &AtomicUsize) -> (Option<String>, Instant) {
    loop {
        // The end may come while it asks.
        _ = wire.send(&query("TABLE app.orders"));
        loop {
            match wire.read() {
                Ok(message) if message.tag == b'Z' => break,
                Ok(message) if message.tag != b'E' => {}
                ended => return (ended.ok().and_then(|message| message.sqlstate()), Instant::now()),
            }
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_can_not_be_granted_is_told_and_the_rest_works() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    ask(&shop, "ALTER TABLE app.customers OWNER TO admin");
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    assert_eq!(sqlstate(&mut wire, "TABLE app.customers").as_deref(), Some("42501"));
    wait_until("the event", || {
        let events = shop.namespace.json(&["get", "events.events.k8s.io"]).unwrap();
        events["items"].as_array().unwrap().iter().any(|event| {
            let note = event["note"].as_str().unwrap_or_default();
            event["reason"] == "NotGranted" && note.contains("ON TABLE \"app\".\"customers\"")
        })
    });
    // With the right it is granted, and works.
    ask(&shop, &format!("ALTER TABLE app.customers OWNER TO owner_{}", shop.database));
    wait_until("the grant", || sqlstate(&mut wire, "TABLE app.customers").is_none());
}

#[test]
fn a_sidecar_of_a_replica_gets_its_lease_once_the_replica_knows_its_role() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let primary = Server::shared().unwrap();
    if !primary.bin().join("pg_basebackup").exists() {
        println!("left out: this Postgres came without pg_basebackup, by which a replica is made");
        return;
    }
    ask(&shop, &format!("GRANT pg_monitor TO maker_{}", shop.database));
    // It is behind, so that a role is not there the moment that it is made.
    let replica = primary.replica(&[("recovery_min_apply_delay", "1500ms")]).unwrap();
    let credentials = json!({"ephemeralRole": {
        "adminSecret": {"name": "maker"},
        "primary": {"host": "127.0.0.1", "port": primary.port()},
    }});
    shop.policy_at(replica.port(), &shop.database, &credentials, &spec());
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    assert_eq!(sqlstate(&mut wire, "INSERT INTO app.orders DEFAULT VALUES").as_deref(), Some("25006"));
    let log = std::fs::read_to_string(shop.folder.join("log")).unwrap();
    assert!(!log.contains("password authentication failed") && !log.contains("does not exist"), "{log}");
    assert!(!replica.log().contains("password authentication failed"), "{}", replica.log());
}

#[test]
fn a_database_that_can_not_make_roles_lets_a_sidecar_wait_and_says_why() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    ask(&shop, &format!("ALTER ROLE maker_{} NOCREATEROLE", shop.database));
    let sidecar = shop.sidecar();
    wait_until("the reason", || {
        std::fs::read_to_string(shop.folder.join("log")).is_ok_and(|log| log.contains("adminSecret needs CREATEROLE"))
    });
    assert!(http_get(sidecar.admin, "/startup").is_ok_and(|(status, _)| status != 200));
    ask(&shop, &format!("ALTER ROLE maker_{} CREATEROLE", shop.database));
    let sidecar = sidecar.started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
}

#[test]
fn a_renewal_moves_the_end_of_a_role_and_leaves_its_sessions_and_its_password() {
    let Some(shop) = shop_with_roles("1m", json!({}), &spec()) else { return };
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    let process = |wire: &mut Wire| {
        let rows = wire.simple("SELECT pg_backend_pid()").unwrap();
        rows.iter().find(|message| message.tag == b'D').unwrap().body.clone()
    };
    let (role, before) = (role(&shop), process(&mut wire));
    let end = || ask(&shop, &format!("SELECT rolvaliduntil FROM pg_roles WHERE rolname = '{role}'"));
    let first = end();
    assert!(!first.is_empty());
    // A third of the lease's life later.
    wait_until("the renewal", || end() != first);
    assert_eq!(ask(&shop, &format!("SELECT '{}'::timestamptz > '{first}'::timestamptz", end())), "t");
    assert!(process(&mut wire) == before, "the session goes on");
    assert_eq!(roles(&shop).0, [role]);
    let mut another = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut another, "TABLE app.orders"), None);
}

#[test]
fn an_admin_whose_password_is_another_one_goes_on_making_roles_by_that() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let mut first = shop.sidecar().started();
    assert_eq!(sqlstate(&mut first.connect(&shop.database).unwrap(), "TABLE app.orders"), None);
    assert_eq!(first.guard.stop().unwrap(), Some(0));
    let maker = format!("maker_{}", shop.database);
    ask(&shop, &format!("ALTER ROLE {maker} PASSWORD 'another-password'"));
    let patch = json!({"stringData": {"password": "another-password"}}).to_string();
    shop.namespace.kubectl(&["patch", "secret", "maker", "-p", &patch]).unwrap();
    ask(&shop, &format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{maker}'"));
    let second = shop.sidecar().started();
    assert_eq!(sqlstate(&mut second.connect(&shop.database).unwrap(), "TABLE app.orders"), None);
}

#[test]
fn roles_are_made_over_tls_and_only_at_a_server_of_the_authority_that_the_policy_names() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let start = || {
        let hba = vec!["hostnossl all all 0.0.0.0/0 reject".to_owned()];
        Server::start(&ServerOptions { tls: true, hba, ..ServerOptions::default() }).unwrap()
    };
    let (server, another) = (start(), start());
    let database = &shop.database;
    server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
    server.psql(database, &TABLES.replace("{db}", database)).unwrap();
    let authority = |server: &Server| json!({"ca.crt": server.ca().unwrap()});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "authority"}, "stringData": authority(&another),
    });
    shop.namespace.apply(&secret.to_string()).unwrap();
    let tls = json!({"mode": "VerifyFull", "caSecret": {"name": "authority", "key": "ca.crt"}});
    let credentials = json!({"ephemeralRole": {"adminSecret": {"name": "maker"}}});
    shop.policy_by(server.port(), database, &tls, &credentials, &spec());

    let sidecar = shop.sidecar();
    wait_until("the reason", || {
        std::fs::read_to_string(shop.folder.join("log")).is_ok_and(|log| {
            log.contains("no role can be made: TLS with the database failed: invalid peer certificate")
        })
    });
    let ours = "SELECT count(*) FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE '%policy%'";
    assert_eq!(server.psql(database, ours).unwrap().trim(), "0");

    let patch = json!({"stringData": authority(&server)}).to_string();
    shop.namespace.kubectl(&["patch", "secret", "authority", "-p", &patch]).unwrap();
    let sidecar = sidecar.started();
    let mut wire = sidecar.connect(database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    let by_tls = "SELECT bool_and(ssl), count(DISTINCT usename) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                  WHERE client_addr IS NOT NULL";
    assert_eq!(server.psql(database, by_tls).unwrap().trim(), "t|2", "the maker's connection, and the sidecar's");
}

/// As who got the role's password would come: past the sidecar.
pub(crate) fn thief(shop: &Shop, role: &str) -> Wire {
    ask(shop, &format!("ALTER ROLE {role} PASSWORD 'stolen'"));
    Wire::connect(Server::shared().unwrap().port(), role, "stolen", &shop.database).unwrap()
}

/// The one role of the shop that holds grants.
fn holder(shop: &Shop, role: &str) -> String {
    ask(shop, &format!("SELECT roleid::regrole FROM pg_auth_members WHERE member = '{role}'::regrole"))
}

#[test]
fn a_session_that_holds_its_own_role_ends_with_the_right_to_it() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let mut sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    let role = role(&shop);
    let mut thief = thief(&shop, &role);
    // Never committed: whoever changes the role would wait for it.
    assert_eq!(sqlstate(&mut thief, "BEGIN"), None);
    assert_eq!(sqlstate(&mut thief, &format!("ALTER ROLE {role} PASSWORD 'another'")), None);
    // It is in the way of its own renewals, of no other role's.
    sidecar.guard.process().unwrap().signal("KILL").unwrap();
    wait_until("the sidecar's end", || sidecar.guard.ended());
    let next = shop.sidecar().started();
    assert_eq!(sqlstate(&mut next.connect(&shop.database).unwrap(), "TABLE app.orders"), None);
    shop.namespace.kubectl(&["delete", "nhi", "report", "--wait=false"]).unwrap();
    assert_eq!(end_of(&mut thief).as_deref(), Some("57P01"));
    wait_until("the roles' end", || roles(&shop) == (Vec::new(), 0));
}

#[test]
fn what_a_role_makes_past_its_policy_comes_by_no_rights_when_the_role_ends_and_keeps_none() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    // As in databases that were made before Postgres 15.
    ask(&shop, "GRANT CREATE ON SCHEMA public TO PUBLIC");
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "INSERT INTO app.orders (note) VALUES ('one')"), None);
    let role = role(&shop);
    let mut thief = thief(&shop, &role);
    let definer = "RETURNS text LANGUAGE sql SECURITY DEFINER AS";
    for sql in [
        &format!("CREATE FUNCTION public.all_secrets() {definer} $$SELECT string_agg(key, ',') FROM app.secrets$$"),
        "CREATE VIEW public.all_salaries AS SELECT salary FROM app.customers",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        &format!("SET ROLE {}", holder(&shop, &role)),
        &format!("CREATE FUNCTION public.all_orders() {definer} $$SELECT string_agg(note, ',') FROM app.orders$$"),
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "SELECT public.all_orders()",
    ] {
        assert_eq!(sqlstate(&mut thief, sql), None, "{sql}");
    }
    shop.namespace.kubectl(&["delete", "nhi", "report", "--wait=false"]).unwrap();
    wait_until("the roles' end", || roles(&shop) == (Vec::new(), 0));
    for sql in ["SELECT public.all_secrets()", "SELECT public.all_orders()", "TABLE public.all_salaries"] {
        let error = format!("{:#}", Server::shared().unwrap().psql(&shop.database, sql).unwrap_err());
        assert!(error.contains("permission denied"), "{sql}: {error}");
    }
    // It is for somebody to look at; and once it is nothing any more, its owner is gone too.
    let heir = ask(&shop, "SELECT DISTINCT proowner::regrole FROM pg_proc WHERE proname LIKE 'all\\_%'");
    assert!(ask(&shop, &format!("SELECT shobj_description('{heir}'::regrole, 'pg_authid')")).contains("/orders made"));
    ask(&shop, &format!("DROP OWNED BY {heir}"));
    wait_until("its end", || ask(&shop, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{heir}'")) == "0");
}

#[test]
fn who_is_away_before_he_has_his_role_leaves_no_answer_to_who_asks_next() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let server = Server::shared().unwrap();
    let mut first = shop.sidecar().started();
    assert_eq!(sqlstate(&mut first.connect(&shop.database).unwrap(), "TABLE app.orders"), None);
    assert_eq!(first.guard.stop().unwrap(), Some(0));
    let mut lock = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &shop.database).unwrap();
    assert_eq!(sqlstate(&mut lock, "BEGIN; LOCK TABLE pg_auth_members IN EXCLUSIVE MODE"), None);
    let mut second = shop.sidecar();
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'maker_{}' AND wait_event_type = 'Lock'",
        shop.database
    );
    wait_until("the wait", || ask(&shop, &waits) == "1");
    second.guard.process().unwrap().signal("KILL").unwrap();
    wait_until("the sidecar's end", || second.guard.ended());
    assert_eq!(sqlstate(&mut lock, "COMMIT"), None);
    let third = shop.sidecar().started();
    assert_eq!(sqlstate(&mut third.connect(&shop.database).unwrap(), "TABLE app.orders"), None);
    assert!(!shop.operator().log().contains("an answer without"), "{}", shop.operator().log());
}

#[test]
fn who_locks_a_table_or_what_replicas_wait_for_each_other_by_keeps_no_grant_alive() {
    let Some(shop) = shop_with_roles("1h", json!({}), &spec()) else { return };
    let server = Server::shared().unwrap();
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE app.orders"), None);
    let (role, holder) = (role(&shop), holder(&shop, &role(&shop)));
    let mut thief = thief(&shop, &role);
    // Any login may.
    assert_eq!(sqlstate(&mut thief, &format!("SELECT pg_advisory_lock(hashtextextended('{holder}', 0))")), None);
    let mut lock = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &shop.database).unwrap();
    // Its CHECK is deparsed with the table open.
    assert_eq!(sqlstate(&mut lock, "ALTER TABLE app.orders ADD CHECK (orders IS NOT NULL) NOT VALID"), None);
    assert_eq!(sqlstate(&mut lock, "BEGIN; LOCK TABLE app.orders"), None);
    let mut less = spec();
    less["rules"].as_array_mut().unwrap().pop();
    shop.policy_of(&shop.database, &json!({"ephemeralRole": {"adminSecret": {"name": "maker"}}}), &less);
    // The catalog can't be read as long as the table is locked; and it is again after that.
    wait_until("the failure", || shop.operator().log().contains("lock timeout"));
    assert_eq!(sqlstate(&mut lock, "COMMIT"), None);
    let may = format!("SELECT has_table_privilege('{role}', 'app.orders', 'SELECT')");
    wait_until("the revocation", || ask(&shop, &may) == "f");
}
