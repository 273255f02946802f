//! The statements by which roles are made and dropped, over one connection as the role that may do so.

use std::sync::Arc;
use std::time::Duration;

use postern_crds::CheckedPolicy;
use postern_sidecar::catalog::names::{quote_identifier, quote_name, quote_text};
use postern_sidecar::decide::grants::{Grants, On, Privilege};
use postern_sidecar::upstream::{self, Credential, QueryError, Tls, Upstream, UpstreamConfig};
use postern_sidecar::wire::backend::TransactionStatus;
use postern_sidecar::wire::startup::PROTOCOL_3_0;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::name::{Comment, Owner};
use super::{LOCK_NOT_AVAILABLE, RoleError};
use crate::secrets::SecretData;

/// How long transport, TLS and login may take.
const CONNECT: Duration = Duration::from_secs(10);
/// What holds for each statement here, in milliseconds. Who holds a lock is waited for only shortly: others wait meanwhile.
const SETTINGS: [(&str, &str); 7] = [
    ("application_name", "postern/roles"),
    ("client_encoding", "UTF8"),
    ("search_path", "pg_catalog"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "30000"),
    ("lock_timeout", "2000"),
    ("idle_in_transaction_session_timeout", "30000"),
];
/// How long sessions that are ended may take to be gone, and replicas to know a role.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long other replicas are waited for.
const TURN: Duration = Duration::from_secs(2);
/// Most of an answer that is kept.
const MAX_ANSWER: usize = 8 << 20;
/// Most characters of what a server says that are told.
const MAX_TOLD: usize = 500;

/// SQLSTATE of a role that is there already.
const DUPLICATE_OBJECT: &str = "42710";

/// A role as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) name: String,
    /// What its comment says, if it is one of ours.
    pub(super) comment: Option<Comment>,
    /// Its time is over.
    pub(super) over: bool,
    /// Whether it may log in: one of a sidecar; one that holds GRANTs may not.
    pub(super) login: bool,
}

/// A connection as the role that makes roles.
pub(super) struct Admin(pub(super) Upstream);

impl Admin {
    /// Connects as the Secret says.
    pub(super) async fn connect(
        policy: &CheckedPolicy,
        secret: &SecretData,
        ca: Option<&[u8]>,
    ) -> Result<Self, RoleError> {
        let database = &policy.database;
        let role = database.credentials.ephemeral();
        let (host, port) = role.and_then(|role| role.primary.clone()).unwrap_or((database.host.clone(), database.port));
        let (user, password) = (line(secret, "username")?, line(secret, "password")?);
        let tls = Tls::new(database.tls, ca).map_err(|error| RoleError::Settings(error.to_string()))?;
        let config = UpstreamConfig {
            host,
            port,
            database: database.name.clone(),
            credential: Credential::guarded(&user, &password),
            tls,
            timeout: CONNECT,
        };
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let connected = upstream::connect(&Arc::new(config), &settings, PROTOCOL_3_0).await;
        connected.map(Self).map_err(|error| RoleError::Connection(cut(&error.to_string())))
    }

    /// Whether the connection is of use after what was done with it: it did not break, and no transaction is open, for one that
    /// failed would fail all that comes after it.
    pub(super) fn is_usable_after<T>(&self, worked: &Result<T, RoleError>) -> bool {
        self.0.status == TransactionStatus::Idle && !matches!(worked, Err(RoleError::Connection(_)))
    }

    async fn run(&mut self, sql: &str) -> Result<Vec<upstream::Row>, RoleError> {
        let (mut rows, mut size) = (Vec::new(), 0);
        let each = |row: &[Option<&str>]| {
            size += row.iter().map(|value| value.map_or(0, str::len) + size_of::<Option<String>>()).sum::<usize>();
            if size <= MAX_ANSWER {
                rows.push(row.iter().map(|value| value.map(str::to_owned)).collect());
            }
        };
        self.0.for_each_row(sql, each).await?;
        if size > MAX_ANSWER {
            return Err(RoleError::Connection("an answer that is far too long".to_owned()));
        }
        Ok(rows)
    }

    /// The one value of a query that gives one.
    async fn value(&mut self, sql: &str) -> Result<String, RoleError> {
        let rows = self.run(sql).await?;
        let value = rows.into_iter().flatten().next().flatten();
        value.ok_or_else(|| RoleError::Connection("an answer without a value".to_owned()))
    }

    /// Whether no other replica works on what has this name until [`Admin::unlock`], or the end of the connection. Replicas
    /// are kept apart only so that they don't undo each other's work for a moment: whoever may connect to the database can
    /// take the lock too, so that who does not get it goes on without.
    pub(super) async fn lock(&mut self, name: &str) -> Result<bool, RoleError> {
        let sql = format!("SELECT pg_try_advisory_lock(hashtextextended({}, 0))", quote_text(name));
        let until = Instant::now() + TURN;
        while self.value(&sql).await? != "t" {
            if Instant::now() > until {
                tracing::warn!(
                    role = name,
                    "somebody holds the lock by which replicas wait for each other; not waited for"
                );
                return Ok(false);
            }
            sleep(LOOK).await;
        }
        Ok(true)
    }

    /// See [`Admin::lock`].
    pub(super) async fn unlock(&mut self, name: &str) -> Result<(), RoleError> {
        self.run(&format!("SELECT pg_advisory_unlock(hashtextextended({}, 0))", quote_text(name))).await.map(|_| ())
    }

    /// Whether the server is one that can be written, so that roles can be made there.
    pub(super) async fn is_primary(&mut self) -> Result<bool, RoleError> {
        Ok(self.value("SELECT pg_is_in_recovery()").await? == "f")
    }

    /// The roles whose names begin so.
    pub(super) async fn roles(&mut self, prefix: &str) -> Result<Vec<Registered>, RoleError> {
        let sql = format!(
            "SELECT rolname, shobj_description(oid, 'pg_authid'), coalesce(rolvaliduntil < now(), false), rolcanlogin
             FROM pg_roles WHERE starts_with(rolname, {})",
            quote_text(prefix)
        );
        let rows = self.run(&sql).await?;
        let read = |row: upstream::Row| {
            let mut values = row.into_iter();
            let mut next = || values.next().flatten();
            let name = next()?;
            let comment = next().and_then(|text| serde_json::from_str(&text).ok());
            Some(Registered {
                name,
                comment,
                over: next().as_deref() == Some("t"),
                login: next().as_deref() == Some("t"),
            })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Makes a role that holds GRANTs and nothing else, if it isn't there.
    pub(super) async fn make_holder(&mut self, name: &str, comment: &Comment) -> Result<(), RoleError> {
        let known = self.run(&format!("SELECT FROM pg_roles WHERE rolname = {}", quote_text(name))).await?;
        if known.is_empty() {
            let sql = format!("CREATE ROLE {} NOLOGIN; {}", quote_name(name), comment_on(name, comment));
            match self.run(&sql).await {
                // Another replica was faster.
                Err(RoleError::Refused { sqlstate, .. }) if sqlstate == DUPLICATE_OBJECT => {}
                made => _ = made?,
            }
        }
        Ok(())
    }

    /// That a role is one that others may be members of here: it is there, and no more than a role of an application.
    pub(super) async fn check_group(&mut self, name: &str) -> Result<(), RoleError> {
        let sql = format!(
            "SELECT rolsuper OR rolcreaterole OR rolreplication FROM pg_roles WHERE rolname = {}",
            quote_text(name)
        );
        match self.run(&sql).await?.into_iter().flatten().next().flatten().as_deref() {
            None => Err(RoleError::Settings(format!("memberOf: there is no role {name}"))),
            Some("t") => Err(RoleError::Settings(format!(
                "memberOf: {name} is a superuser, makes roles or replicates; take a role without that"
            ))),
            Some(_) => Ok(()),
        }
    }

    /// Makes a sidecar's role, or gives it this password, life and membership. One that has them stays as it is: a role of
    /// a name is of one key, and its process has one password. Sessions that are not `kept` end where it gets another
    /// membership: one that took on the former role by SET ROLE would have that for as long as it lives.
    pub(super) async fn lend(
        &mut self,
        name: &str,
        group: &str,
        comment: &Comment,
        verifier: &str,
        life: Duration,
        kept: bool,
    ) -> Result<(), RoleError> {
        let (text, life) = (quote_text(name), life.as_secs());
        let found = format!(
            "SELECT to_char(now() + interval '{life} seconds', 'YYYY-MM-DD\"T\"HH24:MI:SSOF'),
                    EXISTS (SELECT FROM pg_roles WHERE rolname = {text}),
                    EXISTS (SELECT FROM pg_roles WHERE rolname = {text} AND rolcanlogin
                            AND rolvaliduntil >= now() + interval '{life} seconds' - interval '10 seconds'
                            AND ARRAY[{group}] = ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = pg_roles.oid))",
            group = quote_text(&quote_identifier(group)),
        );
        let mut row = self.run(&found).await?.into_iter().flatten();
        let until = row.next().flatten().ok_or_else(|| RoleError::Connection("an answer without a time".to_owned()))?;
        let mut is = || row.next().flatten().as_deref() == Some("t");
        let (known, lasts) = (is(), is());
        if lasts {
            return Ok(());
        }
        let (role, group_name) = (quote_name(name), quote_name(group));
        let held = format!("LOGIN PASSWORD {} VALID UNTIL {}", quote_text(verifier), quote_text(&until));
        if known {
            let others: Vec<String> =
                self.groups(name).await?.into_iter().filter(|other| other.as_str() != group).collect();
            let revoked: String =
                others.iter().map(|other| format!("REVOKE {} FROM {role}; ", quote_name(other))).collect();
            let sql = format!("ALTER ROLE {role} {held}; {revoked}GRANT {group_name} TO {role}");
            self.run(&sql).await?;
            if !others.is_empty() && !kept {
                self.join(name).await?;
                self.terminate(name).await?;
            }
        } else {
            // Who is a member of it from before anybody has it can end its sessions, whatever they hold up.
            let sql = format!(
                "CREATE ROLE {role} {held} IN ROLE {group_name}; {}; GRANT {role} TO CURRENT_USER",
                comment_on(name, comment)
            );
            self.run(&sql).await?;
            self.replicas_know().await?;
        }
        Ok(())
    }

    /// Waits, for a while, until the replicas that stream from here have what was written here. They are seen only by a
    /// member of pg_monitor.
    async fn replicas_know(&mut self) -> Result<(), RoleError> {
        let written = self.value("SELECT pg_current_wal_insert_lsn()").await?;
        let behind = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn < {}::pg_lsn",
            quote_text(&written)
        );
        let until = Instant::now() + PATIENCE;
        while self.value(&behind).await? != "0" {
            if Instant::now() > until {
                tracing::warn!("a replica of the database does not know a new role yet; its sidecar may have to wait");
                break;
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// What a role holds in this database, and what everybody does.
    pub(super) async fn privileges(&mut self, role: &str) -> Result<(Grants, Grants), RoleError> {
        let sql = format!(
            "WITH me AS (SELECT oid FROM pg_roles WHERE rolname = {role}), whose AS (SELECT oid FROM me UNION ALL SELECT 0)
             SELECT 'd', '0', '0', a.privilege_type, a.grantee = 0
               FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
               WHERE d.datname = current_database() AND a.grantee IN (TABLE whose)
             UNION ALL SELECT 's', n.oid::text, '0', a.privilege_type, a.grantee = 0
               FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee IN (TABLE whose)
             UNION ALL SELECT 'r', c.oid::text, '0', a.privilege_type, a.grantee = 0
               FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee IN (TABLE whose)
             UNION ALL SELECT 'c', t.attrelid::text, t.attnum::text, a.privilege_type, a.grantee = 0
               FROM pg_attribute t, aclexplode(t.attacl) a WHERE t.attacl IS NOT NULL AND a.grantee IN (TABLE whose)
             UNION ALL SELECT 'f', p.oid::text, '0', a.privilege_type, a.grantee = 0
               FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               WHERE a.grantee IN (TABLE whose)",
            role = quote_text(role)
        );
        let (mut held, mut public) = (Grants::new(), Grants::new());
        for row in self.run(&sql).await? {
            let texts: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
            let [kind, oid, number, privilege, everybody] = texts.as_slice() else { continue };
            let (Ok(oid), Ok(number)) = (oid.parse(), number.parse()) else { continue };
            let on = match kind.as_str() {
                "d" => On::Database,
                "s" => On::Schema(oid),
                "r" => On::Relation(oid),
                "c" => On::Column(oid, number),
                _ => On::Routine(oid),
            };
            let Some(privilege) = Privilege::read(privilege) else { continue };
            if everybody == "t" {
                public.insert((on, privilege))
            } else {
                held.insert((on, privilege))
            };
        }
        Ok((held, public))
    }

    /// Runs statements one by one, whether or not the server refuses some.
    pub(super) async fn run_each(&mut self, statements: &[String]) -> Result<(), RoleError> {
        for statement in statements {
            match self.run(statement).await {
                Ok(_) => {}
                Err(RoleError::Refused { message, .. }) => {
                    tracing::warn!(statement, message, "refused by the database")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends a sidecar's role: its sessions, its rights, and itself. What it owns, or its sessions made as the role that
    /// holds their grants, is given away before.
    pub(super) async fn drop(&mut self, name: &str, owner: &Owner, policy: &CheckedPolicy) -> Result<(), RoleError> {
        let (role, groups) = (quote_name(name), self.groups(name).await?);
        // First of all: whatever holds up its end, it is that of a role that may do nothing.
        for group in &groups {
            self.run(&format!("REVOKE {} FROM {role}", quote_name(group))).await?;
        }
        self.end_sessions(name).await?;
        match policy.database.credentials.ephemeral().and_then(|role| role.member_of.as_deref()) {
            Some(group) => {
                if self.owns(name).await? {
                    self.run(&format!("REASSIGN OWNED BY {role} TO {}", quote_name(group))).await?;
                }
            }
            None => {
                self.put_aside(name, owner, policy).await?;
                for holder in groups.iter().filter(|group| owner.is_holder(group)) {
                    self.put_aside(holder, owner, policy).await?;
                }
            }
        }
        // What is left are privileges, and defaults for what it would make.
        self.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.map(|_| ())
    }

    /// Ends the sessions of a role, and sees to it that none begins any more. One of them may hold the role itself, by a
    /// change of its password that it never commits: so they end before the role is changed, too.
    async fn end_sessions(&mut self, name: &str) -> Result<(), RoleError> {
        self.join(name).await?;
        let until = Instant::now() + PATIENCE;
        let no_login = format!("SET LOCAL lock_timeout = 500; ALTER ROLE {} NOLOGIN", quote_name(name));
        let (mut closed, sessions) = (false, format!("FROM pg_stat_activity WHERE usename = {}", quote_text(name)));
        loop {
            self.terminate(name).await?;
            if !closed {
                closed = match self.run(&no_login).await {
                    Err(RoleError::Refused { sqlstate, .. }) if sqlstate == LOCK_NOT_AVAILABLE => false,
                    altered => altered.map(|_| true)?,
                };
            }
            if closed && self.value(&format!("SELECT count(*) {sessions}")).await? == "0" {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(RoleError::Settings(format!("sessions of role {name} do not end")));
            }
            sleep(LOOK).await;
        }
    }

    async fn terminate(&mut self, name: &str) -> Result<(), RoleError> {
        let sql =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}", quote_text(name));
        self.run(&sql).await.map(|_| ())
    }

    /// Makes who is connected here a member of a role, if it is none: as such it may end the role's sessions, and give away
    /// what is the role's.
    async fn join(&mut self, name: &str) -> Result<(), RoleError> {
        let sql = format!("SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = {}", quote_text(name));
        if self.run(&sql).await?.into_iter().flatten().next().flatten().as_deref() == Some("f") {
            self.run(&format!("GRANT {} TO CURRENT_USER", quote_name(name))).await?;
        }
        Ok(())
    }

    /// The roles that a role is a member of.
    async fn groups(&mut self, name: &str) -> Result<Vec<String>, RoleError> {
        let sql = format!(
            "SELECT DISTINCT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = {}",
            quote_text(name)
        );
        Ok(self.run(&sql).await?.into_iter().flatten().flatten().collect())
    }

    /// Whether anything in this database is owned by a role.
    pub(super) async fn owns(&mut self, name: &str) -> Result<bool, RoleError> {
        let sql = format!(
            "SELECT count(*) FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
             WHERE r.rolname = {} AND s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o'
               AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)
               AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))",
            quote_text(name)
        );
        Ok(self.value(&sql).await? != "0")
    }

    /// Gives what a role owns to one that may do nothing. A policy whose roles hold GRANTs lets them make nothing, so that it
    /// came past the sidecar; and a function, a view or an index runs with the rights of its owner, whoever that is by then.
    async fn put_aside(&mut self, name: &str, owner: &Owner, policy: &CheckedPolicy) -> Result<(), RoleError> {
        if !self.owns(name).await? {
            return Ok(());
        }
        let heir = owner.heir();
        let known = self.run(&format!("SELECT FROM pg_roles WHERE rolname = {}", quote_text(&heir))).await?;
        if known.is_empty() {
            let about =
                format!("owns what roles of {}/{} made, for somebody to look at", policy.namespace, policy.name);
            let (heir, about) = (quote_name(&heir), quote_text(&about));
            self.run(&format!("CREATE ROLE {heir} NOLOGIN; COMMENT ON ROLE {heir} IS {about}")).await?;
        }
        self.join(&heir).await?;
        self.join(name).await?;
        self.run(&format!("REASSIGN OWNED BY {} TO {}", quote_name(name), quote_name(&heir))).await?;
        tracing::warn!(role = name, heir, "a role made something that its policy does not let it; look at it");
        Ok(())
    }

    /// Drops a role that holds GRANTs, which were revoked, and that nobody is a member of.
    pub(super) async fn drop_holder(
        &mut self,
        name: &str,
        owner: &Owner,
        policy: &CheckedPolicy,
    ) -> Result<(), RoleError> {
        self.join(name).await?;
        self.put_aside(name, owner, policy).await?;
        self.run(&format!("DROP OWNED BY {0}; DROP ROLE {0}", quote_name(name))).await.map(|_| ())
    }

    /// Drops the role that owns what others made, if that is nothing any more.
    pub(super) async fn drop_heir(&mut self, name: &str) -> Result<(), RoleError> {
        if self.owns(name).await? {
            return Ok(());
        }
        self.run(&format!("DROP ROLE {}", quote_name(name))).await.map(|_| ())
    }

    /// Whether a role has members beside the one that made it.
    pub(super) async fn has_members(&mut self, name: &str) -> Result<bool, RoleError> {
        let sql = format!(
            "SELECT count(*) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
             WHERE g.rolname = {} AND r.rolname <> current_user",
            quote_text(name)
        );
        Ok(self.value(&sql).await? != "0")
    }
}

/// What of a server's text is told: it can be of any length.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_TOLD).collect()
}

fn comment_on(name: &str, comment: &Comment) -> String {
    let text = serde_json::to_string(comment).unwrap_or_default();
    format!("COMMENT ON ROLE {} IS {}", quote_name(name), quote_text(&text))
}

/// A key of a Secret as one line; the line feed that editors leave is no part of it.
fn line(secret: &SecretData, key: &str) -> Result<Zeroizing<String>, RoleError> {
    let value = secret.values.get(key).ok_or_else(|| RoleError::Settings(format!("the Secret has no key {key}")))?;
    let text = std::str::from_utf8(value).map_err(|_| RoleError::Settings(format!("key {key} is not UTF-8")))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

impl From<QueryError> for RoleError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Server(fields) => {
                RoleError::Refused { sqlstate: cut(fields.code()), message: cut(fields.message()) }
            }
            other => RoleError::Connection(cut(&other.to_string())),
        }
    }
}
