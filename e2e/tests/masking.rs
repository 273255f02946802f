//! A masked value never leaves: the corpus in `corpus/masking`, through the gate and without it, against a real server
//! on which the gate's role owns every table.
//!
//! `POSTERN_CASE=text` runs the cases whose name holds the text and shows what came; `POSTERN_DIRECT=1` leaves the
//! gate out, to check a new case; `POSTERN_SAMPLE=n` runs every n-th case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context, Result};
use postern_e2e::corpus::{self, Case};
use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::leak::Needles;
use postern_e2e::postgres::{ADMIN, Server};
use postern_e2e::wire::{Format, Message, Wire};

const SCHEMA: &str = include_str!("../corpus/masking.schema.sql");
const TWIN: &str = include_str!("../corpus/masking.twin.sql");
const POLICY: &str = include_str!("../corpus/masking.policy.yaml");

/// Copies of the tables as they were, a function that puts them back, and one that says what raw value is lost.
const KEPT: &str = r"
CREATE SCHEMA kept;
DO $$ DECLARE t regclass; n int := 0;
BEGIN
    CREATE TABLE kept.tables (t regclass, k regclass, columns text, raw text);
    FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'other'::regnamespace) LOOP
        n := n + 1;
        EXECUTE format('CREATE TABLE kept.t%s AS SELECT * FROM ONLY %s', n, t);
        INSERT INTO kept.tables SELECT t, format('kept.t%s', n),
            string_agg(quote_ident(attname), ',') FILTER (WHERE attgenerated = ''),
            string_agg(quote_ident(attname), ',') FILTER (WHERE attname = ANY ('{email,card,ssn,note,secret,code,label,birth,seen,balance,salary,doc,blob,tags,phone,bonus,payload,customer_email,token,pin,Select}'))
            FROM pg_attribute WHERE attrelid = t AND attnum > 0 AND NOT attisdropped;
    END LOOP;
END $$;
CREATE FUNCTION kept.restore() RETURNS void LANGUAGE plpgsql SET session_replication_role = replica AS $$
DECLARE r record;
BEGIN
    EXECUTE 'TRUNCATE ' || (SELECT string_agg(t::text, ',') FROM kept.tables);
    FOR r IN SELECT * FROM kept.tables LOOP
        EXECUTE format('INSERT INTO %s (%s) SELECT %2$s FROM %s', r.t, r.columns, r.k);
    END LOOP;
END $$;
CREATE FUNCTION kept.lost() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
    FOR r IN SELECT * FROM kept.tables WHERE raw IS NOT NULL AND t::text <> 'other.customers' LOOP
        RETURN QUERY EXECUTE format('SELECT %L || '' id '' || k.id FROM %s k JOIN ONLY %s t ON t.id = k.id WHERE (SELECT md5(s::text) FROM (SELECT %s FROM (SELECT t.*) x) s) <> (SELECT md5(s::text) FROM (SELECT %4$s FROM (SELECT k.*) x) s)',
            r.t::text, r.k, r.t, (SELECT string_agg('x.' || c, ',') FROM unnest(string_to_array(r.raw, ',')) c));
    END LOOP;
    FOR r IN SELECT * FROM kept.tables WHERE t = 'orders'::regclass LOOP
        RETURN QUERY EXECUTE format('SELECT ''orders id '' || k.id FROM %s k WHERE k.region <> ''eu'' AND NOT EXISTS (SELECT FROM orders t WHERE t::text = k::text)', r.k);
    END LOOP;
END $$;
";

/// A database with the corpus's tables, and how to reset it.
struct Stage {
    server: &'static Server,
    name: String,
    admin: Wire,
    shape: String,
}

/// What a change of the schema that a case has no business with would change.
const SHAPE: &str = "SELECT md5(string_agg(x, ',' ORDER BY x)) FROM (
    SELECT concat(c.oid, c.relname, c.relowner, c.relrowsecurity, c.relacl, a.attname, a.atttypid, a.attisdropped) x FROM pg_class c
        JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_attribute a ON attrelid = c.oid WHERE nspname IN ('public', 'other')
    UNION ALL SELECT concat(conname, conrelid) FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace WHERE nspname IN ('public', 'other')
    UNION ALL SELECT concat(tgname, tgrelid) FROM pg_trigger WHERE NOT tgisinternal UNION ALL SELECT rulename || ev_class FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM pg_class WHERE relpersistence <> 't')
    UNION ALL SELECT pubname FROM pg_publication UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace) s";

impl Stage {
    fn new(server: &'static Server, twin: bool) -> Result<Self> {
        let database = server.database()?;
        let name = database.name;
        server.psql(
            &name,
            &format!(
                "ALTER SCHEMA public OWNER TO app; GRANT CREATE, TEMPORARY ON DATABASE {name} TO app;
                 ALTER DATABASE {name} SET statement_timeout = '10s'; ALTER DATABASE {name} SET lock_timeout = '3s';
                 SET ROLE app; {SCHEMA}"
            ),
        )?;
        if twin {
            server.psql(&name, &format!("SET ROLE app; {TWIN}"))?;
        }
        server.psql(&name, KEPT)?;
        let mut admin =
            Wire::connect_unix(server.socket_folder(), server.port(), &[("user", ADMIN), ("database", &name)])?;
        let shape = text(&admin.simple(SHAPE)?);
        Ok(Self { server, name, admin, shape })
    }

    fn direct(&self) -> Result<Wire> {
        Wire::connect_unix(
            self.server.socket_folder(),
            self.server.port(),
            &[("user", "app"), ("database", &self.name)],
        )
    }

    /// What raw values were lost.
    fn lost(&mut self) -> Result<String> {
        let answer = self.admin.simple("SELECT kept.lost()")?;
        Ok(text(&answer))
    }

    /// Puts the rows back; false if the schema is not what it was, so that only a new stage helps.
    fn restore(&mut self) -> Result<bool> {
        for row in postern_e2e::wire::rows(
            &self.admin.simple("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")?,
        ) {
            self.admin.simple(&format!("ROLLBACK PREPARED '{}'", row[0]))?;
        }
        let scratch = "SELECT 1 FROM pg_class WHERE relnamespace = 'scratch'::regnamespace UNION ALL SELECT 1 FROM pg_proc
            WHERE pronamespace = 'scratch'::regnamespace UNION ALL SELECT 1 FROM pg_type WHERE typnamespace = 'scratch'::regnamespace";
        if !postern_e2e::wire::rows(&self.admin.simple(scratch)?).is_empty() {
            self.admin.simple("SET client_min_messages = warning; DROP SCHEMA scratch CASCADE; CREATE SCHEMA scratch AUTHORIZATION app")?;
        }
        if text(&self.admin.simple(SHAPE)?) != self.shape {
            return Ok(false);
        }
        let answer = self.admin.simple("SELECT kept.restore()")?;
        Ok(postern_e2e::wire::error(&answer).is_none())
    }
}

fn text(messages: &[Message]) -> String {
    if let Some(error) = postern_e2e::wire::error(messages) {
        return format!("{error:?}");
    }
    postern_e2e::wire::rows(messages).concat().join(", ")
}

/// Runs a case on a new connection; everything that came after the start-up, with the start-up's messages at the end.
fn run(wire: Result<Wire>, case: &Case, extended: bool) -> Result<Vec<Message>> {
    let mut wire = wire?;
    for message in &case.messages {
        let answer = if extended { wire.extended(message, Format::Binary) } else { wire.simple(message) };
        if answer.is_err() {
            break; // The connection is gone; what came before that counts.
        }
    }
    Ok(wire.received[wire.start_up..].to_vec())
}

fn states(messages: &[Message]) -> Vec<String> {
    messages.iter().filter(|message| message.tag == b'E').filter_map(Message::sqlstate).collect()
}

/// Rows, row counts and errors: what an application acts on.
fn essence(messages: &[Message]) -> Vec<String> {
    let mut essence = Vec::new();
    for message in messages {
        match message.tag {
            b'D' | b'C' | b'd' => essence.push(format!("{message:?}")),
            b'E' => essence.push(format!("E {}", message.sqlstate().unwrap_or_default())),
            _ => {}
        }
    }
    essence
}

/// The same, and with it what a RowDescription says of names and types.
fn shape_and_essence(messages: &[Message]) -> Vec<String> {
    let mut all = Vec::new();
    for message in messages {
        match message.tag {
            b'T' => all.extend(message.columns().iter().map(|c| format!("{} {} {}", c.name, c.type_oid, c.modifier))),
            _ => all.extend(essence(std::slice::from_ref(message))),
        }
    }
    all
}

fn writes(case: &Case) -> bool {
    let all = case.messages.join(" ").to_ascii_uppercase();
    [
        "INSERT",
        "UPDATE ",
        "DELETE",
        "MERGE",
        "INTO ",
        "COPY",
        "CREATE",
        "ALTER",
        "DROP",
        "TRUNCATE",
        "REFRESH",
        "PREPARE TRAN",
        "GRANT",
        "COMMENT",
        "VACUUM",
        "DO $$",
        "CALL",
    ]
    .iter()
    .any(|word| all.contains(word))
}

struct Runner {
    server: &'static Server,
    needles: Needles,
    raw: Stage,
    twin: Stage,
    gated: Option<(Stage, Gate)>,
    show: bool,
}

impl Runner {
    fn new(direct_only: bool, show: bool) -> Result<Self> {
        let server = Server::shared()?;
        server.psql("postgres", "CREATE ROLE app LOGIN")?;
        let raw = Stage::new(server, false)?;
        let twin = Stage::new(server, true)?;
        // Digests of whole values, as a client could have them made.
        let digests = server.psql(
            &raw.name,
            "WITH v AS (SELECT unnest(ARRAY[card, lower(card), upper(card), ssn, note, secret, code, label, email, salary::text, balance::text, birth::text]) v FROM customers
                        UNION SELECT item FROM orders WHERE region <> 'eu' UNION SELECT token FROM payments)
             SELECT md5(v) FROM v UNION SELECT encode(sha256(v::bytea), 'hex') FROM v UNION SELECT encode(sha512(v::bytea), 'hex') FROM v",
        )?;
        let digests: Vec<String> = digests.lines().map(str::to_owned).collect();
        let mut runner = Self { server, needles: Needles::new(&digests), raw, twin, gated: None, show };
        if !direct_only {
            runner.start_gate()?;
        }
        Ok(runner)
    }

    fn start_gate(&mut self) -> Result<()> {
        self.gated = None;
        let stage = Stage::new(self.server, false)?;
        let options =
            GateOptions::new(self.server, &stage.name, "app", POLICY).secret("mask-key", "key", "a key of the tests");
        let gate = Gate::start(&options).context("start the gate")?;
        self.gated = Some((stage, gate));
        Ok(())
    }

    /// What is wrong with a case; empty if nothing is.
    fn case(&mut self, case: &Case) -> Result<(Vec<String>, bool)> {
        let mut wrong = Vec::new();
        let mut refused = false;
        let writes = writes(case);
        let (mut shown, mut differed) = (false, false);
        for extended in [false, true] {
            let protocol = if extended { "extended" } else { "simple" };
            let raw = run(self.raw.direct(), case, extended)?;
            if writes && !self.raw.restore()? {
                self.raw = Stage::new(self.server, false)?;
            }
            shown |= !self.needles.find(&raw).is_empty();
            let twin = if case.says("same") || case.says("table") {
                let twin = run(self.twin.direct(), case, extended)?;
                if writes && !self.twin.restore()? {
                    self.twin = Stage::new(self.server, true)?;
                }
                differed |= essence(&raw) != essence(&twin);
                Some(twin)
            } else {
                None
            };
            let Some((stage, gate)) = &mut self.gated else { continue };
            let port = gate.port();
            let gated = run(Wire::connect(port, "app", "", &stage.name), case, extended)?;
            if self.show {
                let mut err = std::io::stderr();
                writeln!(err, "--- {} ({protocol})\nwithout: {raw:#?}\nthrough: {gated:#?}", case.name())?;
                if let Some(twin) = &twin {
                    writeln!(err, "twin: {twin:#?}")?;
                }
            }
            let leaks = self.needles.find(&gated);
            if (case.says("leak") || case.says("table")) && !leaks.is_empty() {
                wrong.push(format!("{protocol}: LEAK {}", leaks.join(", ")));
            }
            let (with, without) = (states(&gated), states(twin.as_ref().unwrap_or(&raw)));
            refused |= with != without;
            if case.says("table")
                && let Some(twin) = &twin
                && shape_and_essence(&gated) != shape_and_essence(twin)
            {
                wrong.push(format!(
                    "{protocol}: is no table: {:?} is not {:?}",
                    shape_and_essence(&gated),
                    shape_and_essence(twin)
                ));
            }
            if let Some(twin) = twin.as_ref().filter(|_| case.says("same")) {
                // What the gate refuses tells nothing either, unless it must work.
                let refused_here = with.iter().any(|state| !without.contains(state)) && !case.says("works");
                if !refused_here && essence(&gated) != essence(twin) {
                    wrong.push(format!(
                        "{protocol}: differs from the masked twin: {:?} is not {:?}",
                        essence(&gated),
                        essence(twin)
                    ));
                }
            }
            let none = Vec::new();
            let wanted = if case.says("succeeds") { &none } else { &without };
            if (case.says("works") || case.says("succeeds")) && with != *wanted {
                let messages: Vec<String> =
                    gated.iter().filter(|m| m.tag == b'E').filter_map(|m| m.fields().remove(&'M')).collect();
                wrong.push(format!("{protocol}: should work: {with:?} is not {wanted:?}: {messages:?}"));
            }
            if case.says("refused") && with == without {
                wrong.push(format!("{protocol}: should be refused"));
            }
            if writes {
                let lost = stage.lost()?;
                if !lost.is_empty() && !case.says("overwrites") {
                    wrong.push(format!("{protocol}: LOST {lost}"));
                }
                if !stage.restore()? {
                    wrong.push(format!("{protocol}: the schema was changed"));
                    self.start_gate()?;
                }
            }
        }
        if case.says("leak") && !shown {
            wrong.push("tests nothing: without the gate no marker is shown".into());
        }
        if case.says("same") && !differed {
            wrong.push("tests nothing: the masked twin answers the same as the raw database".into());
        }
        Ok((wrong, refused))
    }
}

#[test]
fn no_masked_value_leaves_in_any_form() {
    let only = std::env::var("POSTERN_CASE").ok();
    let direct_only = std::env::var_os("POSTERN_DIRECT").is_some();
    let mut cases = corpus::read(&postern_e2e::workspace().join("e2e/corpus/masking")).unwrap();
    let sample = corpus::sample();
    if let Some(sample) = sample {
        let all = cases.len();
        cases = cases.into_iter().step_by(sample).collect();
        eprintln!("of the masking corpus {} cases are left out (POSTERN_SAMPLE={sample})", all - cases.len());
    }
    let mut runner = Runner::new(direct_only, only.is_some()).unwrap();
    let version = runner.server.version().unwrap();
    let mut forms: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut failures = String::new();
    for case in &cases {
        if only.as_ref().is_some_and(|only| !case.name().contains(only.as_str())) || case.since() > version {
            continue;
        }
        let (wrong, refused) = match runner.case(case) {
            Ok(result) => result,
            Err(error) => (vec![format!("{error:#}")], true),
        };
        let count = forms.entry(case.form.clone()).or_default();
        count[0] += 1;
        count[1] += usize::from(refused);
        count[2] += usize::from(!wrong.is_empty());
        if !wrong.is_empty() {
            writeln!(failures, "{}\n    {}\n    {}", case.name(), case.messages.join("\n    "), wrong.join("\n    "))
                .unwrap();
        }
    }
    let mut err = std::io::stderr();
    writeln!(err, "\n{:<28}{:>7}{:>9}{:>8}", "masking corpus: form", "cases", "refused", "failed").unwrap();
    let mut sum = [0; 3];
    for (form, count) in &forms {
        writeln!(err, "{form:<28}{:>7}{:>9}{:>8}", count[0], count[1], count[2]).unwrap();
        (0..3).for_each(|index| sum[index] += count[index]);
    }
    writeln!(err, "{:<28}{:>7}{:>9}{:>8}", "all", sum[0], sum[1], sum[2]).unwrap();
    assert!(failures.is_empty(), "{failures}");
    assert!(only.is_some() || sample.is_some() || sum[0] >= 300, "the corpus has {} cases", sum[0]);
}
