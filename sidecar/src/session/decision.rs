//! Decisions, and what they need of the session: what names mean now, what was prepared and declared, whether what was
//! decided once still holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use postern_crds::Verb;
use tokio::io::{AsyncRead, AsyncWrite};

use super::limits::{self, Over};
use super::pending::{Asked, Chosen, Kind, Run, Taken};
use super::state;
use super::statements::{Meaning, Portal, Prepared};
use super::{Decide, RESERVED, Session};
use crate::analyze::{Analysis, Decided, Effect, PathEnds, SessionView, Statement};
use crate::audit::Parameter;
use crate::catalog::names::{quote_text, types};
use crate::catalog::overlay::{MAX_NAMES, overlay_query};
use crate::catalog::{Oid, WrittenName};
use crate::decide::{Denial, Reason};
use crate::wire::backend::TransactionStatus;
use crate::wire::frontend::{self, BindHead, Close, Describe, Execute, Parse};

/// Names that are looked up for one message, one after another as the analysis comes to them: each makes it begin anew.
const MAX_LOOKED_UP: usize = 16;

/// What the server finds names by.
const PATH: &str = "SELECT pg_catalog.current_setting('search_path')";

/// Why a message does not go on now.
pub(super) enum Hindrance {
    /// Everything that was sent must be answered first.
    Barrier,
    /// It is refused.
    Denied(Box<Denial>),
}

impl From<Denial> for Hindrance {
    fn from(denial: Denial) -> Self {
        Hindrance::Denied(Box::new(denial))
    }
}

impl<C, S, G> Session<C, S, G>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
    G: Decide,
{
    /// Decides a text under the state that it will meet, with the types that the client gives its parameters. The decision may be a
    /// refusal.
    pub(super) async fn decide(&mut self, text: &str, types: &[Oid]) -> Result<Arc<Decided>, Hindrance> {
        if std::mem::take(&mut self.look_up_failed) {
            return Err(could_not_ask().into());
        }
        let failed = self.is_in_failed();
        if !failed {
            if self.catalog_is_old {
                if !self.pending.is_empty() {
                    return Err(Hindrance::Barrier);
                }
                self.shared.gate.look_again().await;
                self.catalog_is_old = false;
            }
            let version = self.shared.gate.bound().version;
            if std::mem::replace(&mut self.bound_version, version) != version {
                self.confirmed.doubt_temporary();
                if let Some(predicted) = &mut self.predicted {
                    predicted.doubt_temporary();
                }
            }
            let stale = self.state().stale().to_vec();
            if !stale.is_empty() {
                return Err(self.look_up(stale)?);
            }
        }
        self.refresh_view();
        self.view.path_ends = self.state().path_ends(failed);
        // Whether the end of the transaction keeps what it did, is only known when all of it has run.
        let may_turn =
            self.view.path_ends.is_changed() || self.state().has_savepoints() || self.confirmed.has_savepoints();
        if may_turn && !self.pending.is_empty() && text.trim_end_matches(';').contains(';') {
            return Err(Hindrance::Barrier);
        }
        self.view.looked = false;
        let began = Instant::now();
        let mut analysis = self.shared.gate.decide(&self.view, text, types).await;
        if let Analysis::Lookup(names) = analysis {
            let is_new = |name| !self.looked_up.contains(name);
            let may_look = self.looked_up.len() < MAX_LOOKED_UP && self.state().has_own_relations();
            if !failed && may_look && names.iter().any(is_new) {
                if self.pending.is_empty() {
                    self.looked_up.extend(names.iter().take(MAX_NAMES).cloned());
                }
                return Err(self.look_up(names)?);
            }
            // What neither the catalog nor the session's own connection knows does not exist, and whose error that is, is
            // decided.
            self.view.looked = true;
            analysis = self.shared.gate.decide(&self.view, text, types).await;
        }
        self.shared.metrics.decision_took(began.elapsed());
        match analysis {
            Analysis::Decided(decided) if self.is_enforcing() && self.names_after_doubt(&decided) => {
                let message =
                    "after this CALL, or end of a transaction, it is not certain by which search_path names are found";
                let denial = Denial::new(Reason::Unsupported, message).sqlstate("0A000");
                Err(denial.hint("Send what follows it as a message of its own, or SET search_path before that.").into())
            }
            Analysis::Decided(decided) => Ok(decided),
            Analysis::Lookup(_) => {
                Err(Denial::new(Reason::Internal, "the names in this statement are not known").into())
            }
        }
    }

    fn refresh_view(&mut self) {
        let bound = self.shared.gate.bound();
        if !self.policy.as_ref().is_some_and(|policy| Arc::ptr_eq(policy, &bound.policy)) {
            let before = self.policy.replace(Arc::clone(&bound.policy));
            if before.is_none_or(|policy| policy != bound.policy) {
                self.policy_since = bound.version;
            }
        }
        self.view.temporary_is_old = self.temporary_since.is_some_and(|made| made < self.policy_since);
        let state = self.predicted.as_ref().unwrap_or(&self.confirmed);
        if self.view_stamp != state.stamp() {
            self.view_stamp = state.stamp();
            let meaning = self.meaning();
            self.view.overlay_version = meaning.version();
            self.view.search_path = meaning.search_path;
            self.view.overlay = meaning.overlay;
            self.view.types_in_doubt = meaning.types_in_doubt;
        }
    }

    /// Asks the server, on the session's own connection, for relations that others don't see. Unseen by the client, and
    /// without ending the implicit transaction of a batch.
    fn look_up(&mut self, mut names: Vec<WrittenName>) -> Result<Hindrance, Hindrance> {
        // The others are asked for after these.
        names.truncate(MAX_NAMES);
        // DDL of which no name is known can only be told to the catalog; a schema stands as one of no name.
        let is_known = |(schema, name): &&WrittenName| schema.is_some() || !name.is_empty();
        let known: Vec<WrittenName> = names.iter().filter(is_known).cloned().collect();
        self.ask(&overlay_query(&known), Asked::Relations(names))
    }

    fn ask(&mut self, sql: &str, of: Asked) -> Result<Hindrance, Hindrance> {
        if !self.pending.is_empty() {
            return Ok(Hindrance::Barrier);
        }
        let out = self.up.out();
        let statement = Close { kind: frontend::Kind::Statement, name: RESERVED };
        let parse = Parse { statement: RESERVED, sql, param_types: Vec::new() };
        // One that failed halfway may have left its statement behind.
        let written = statement
            .write(out)
            .and_then(|()| parse.write(out))
            .and_then(|()| frontend::write_bind(out, BindHead { portal: RESERVED, statement: RESERVED }, &[]))
            .and_then(|()| Execute { portal: RESERVED, max_rows: 0 }.write(out))
            .and_then(|()| Close { kind: frontend::Kind::Portal, name: RESERVED }.write(out))
            .and_then(|()| statement.write(out));
        if written.is_err() {
            return Err(Denial::new(Reason::Internal, "a name can't be looked up").into());
        }
        self.ask_unseen(vec![
            Kind::Close(Vec::new()),
            Kind::Parse(None, None),
            Kind::Bind(None),
            Kind::Lookup { of, rows: Vec::new() },
            Kind::Close(Vec::new()),
            Kind::Close(Vec::new()),
        ]);
        Ok(Hindrance::Barrier)
    }

    /// Whether what is sent now meets a transaction that failed: nothing is run in it but its end, and nothing can be asked.
    fn is_in_failed(&self) -> bool {
        self.status == TransactionStatus::Failed && self.pending.is_empty() && !self.recovered
    }

    /// Asks for the path where it is in doubt. Tells whether something has to be waited for.
    pub(super) fn settle_path(&mut self) -> Result<bool, Denial> {
        if std::mem::take(&mut self.look_up_failed) {
            return Err(could_not_ask());
        }
        if self.path_in_doubt == 0 || self.is_in_failed() {
            return Ok(false);
        }
        match self.ask(PATH, Asked::Path) {
            Ok(_) | Err(Hindrance::Barrier) => Ok(true),
            Err(Hindrance::Denied(denial)) => Err(*denial),
        }
    }

    /// Whether a statement of a text has names, where one before it may have turned the path in a way that is not followed.
    fn names_after_doubt(&self, decided: &Decided) -> bool {
        let is_astray = self.state().is_astray() || self.path_in_doubt > 0;
        let mut in_doubt = false;
        decided.statements.iter().any(|statement| {
            if in_doubt && reads_names(statement) {
                return true;
            }
            in_doubt = match &statement.effect {
                Effect::SearchPath { .. } => false,
                Effect::Commit { .. } | Effect::Rollback { .. } | Effect::RollbackTo(_) => in_doubt || is_astray,
                _ => {
                    in_doubt
                        || statement.main_verb == Some(Verb::Call) && self.shared.gate.bound().catalog.may_turn_path
                }
            };
            false
        })
    }

    /// What names mean now.
    pub(super) fn meaning(&self) -> Meaning {
        let state = self.state();
        Meaning {
            search_path: Arc::clone(state.search_path()),
            overlay: Arc::clone(state.overlay()),
            types_in_doubt: Arc::clone(state.types_in_doubt()),
            stamp: state.stamp(),
        }
    }

    /// Version of the policy in force.
    pub(super) fn policy_version(&self) -> u64 {
        self.shared.gate.bound().version
    }

    /// Whether a prepared statement is what it would be if it were prepared now.
    pub(super) fn is_fresh(&self, prepared: &Prepared) -> bool {
        prepared.decided.policy_version == self.policy_version()
            && prepared.meaning.stamp == self.state().stamp()
            && !prepared.lost.load(Ordering::Relaxed)
    }

    /// Decides a statement with the values that are bound to it, where it depends on them: what it does then. They stand in its text
    /// for that, which is neither sent nor recorded.
    pub(super) async fn decide_by_values(
        &mut self,
        prepared: &Prepared,
        values: &[Parameter<'_>],
    ) -> Result<(Arc<str>, Arc<Decided>), Hindrance> {
        let switches: Vec<i32> = prepared.decided.statements.iter().flat_map(|one| one.switches.clone()).collect();
        let Some(text) = with_values(&prepared.text, &prepared.param_types, values, &switches) else {
            let message = "the values of set_config's parameters can't be read: they must be text";
            return Err(Denial::new(Reason::Setting, message).hint("Write them as constants.").into());
        };
        let decided = self.decide(&text, &[]).await?;
        if let Some(denial) = &decided.denial {
            return Err(denial.clone().into());
        }
        if decided.rewritten != prepared.decided.rewritten || decided.statements.iter().any(|one| one.by_values) {
            return Err(Denial::new(Reason::Setting, "set_config can't set this to the value of a parameter")
                .hint("Use SET, or write name and value as constants.")
                .into());
        }
        let statements = Arc::clone(&decided.statements);
        Ok((text.into(), Arc::new(Decided { statements, ..Decided::clone(&prepared.decided) })))
    }

    /// Whether what was decided in another time would still be sent as it was. Names mean what they meant then.
    async fn still_allowed(&self, text: &str, types: &[Oid], meaning: &Meaning, then: &Decided) -> Result<(), Denial> {
        let mut view = SessionView {
            search_path: Arc::clone(&meaning.search_path),
            path_ends: PathEnds::default(),
            overlay: Arc::clone(&meaning.overlay),
            types_in_doubt: Arc::clone(&meaning.types_in_doubt),
            overlay_version: meaning.version(),
            prepared: Arc::clone(&self.view.prepared),
            looked: false,
            temporary_is_old: self.view.temporary_is_old,
            retyped: Arc::default(),
        };
        let mut analysis = self.shared.gate.decide(&view, text, types).await;
        if matches!(analysis, Analysis::Lookup(_)) {
            view.looked = true;
            analysis = self.shared.gate.decide(&view, text, types).await;
        }
        match analysis {
            Analysis::Decided(now) => match &now.denial {
                Some(denial) => Err(denial.clone()),
                None if now.rewritten == then.rewritten => Ok(()),
                None => Err(changed()),
            },
            Analysis::Lookup(_) => Err(changed()),
        }
    }

    /// What is prepared under a name, ready to be run by SQL: prepared again if it would be another text now. A portal
    /// that is bound to it keeps what it was bound to, or ends. None if there is no such name.
    async fn prepared_to_run(&mut self, name: &str, bound: bool) -> Result<Option<Arc<Prepared>>, Hindrance> {
        if !self.statements.is_settled(name, self.batch, self.answered) {
            return Err(Hindrance::Barrier);
        }
        let Some(prepared) = self.statements.get(name).cloned() else { return Ok(None) };
        let prepared = if self.is_fresh(&prepared) {
            prepared
        } else if bound {
            self.still_allowed(&prepared.text, &prepared.param_types, &self.meaning(), &prepared.decided).await?;
            if prepared.lost.load(Ordering::Relaxed) {
                return Err(no_statement(name).into());
            }
            prepared
        } else {
            self.renew(name, &prepared).await?
        };
        let followed = |statement: &Statement| statement.by_values || !matches!(statement.effect, Effect::None);
        if self.is_enforcing() && prepared.decided.statements.iter().any(followed) {
            let message = "EXECUTE of a statement that changes the session is not supported through the gate";
            return Err(Denial::new(Reason::Unsupported, message)
                .sqlstate("0A000")
                .hint("Send the statement itself.")
                .into());
        }
        Ok(Some(prepared))
    }

    /// Whether the types that a client names for parameters are such as it may make values of.
    pub(super) fn may_take_parameters(&self, types: &[Oid]) -> Result<(), Denial> {
        if !self.is_enforcing() {
            return Ok(());
        }
        let bound = self.shared.gate.bound();
        types.iter().try_for_each(|kind| bound.parameter(*kind))
    }

    /// Before a statement that runs what is prepared under a name is bound: its columns are settled as it is bound.
    pub(super) async fn prepare_again(&mut self, decided: &Decided) -> Result<(), Hindrance> {
        for name in decided.statements.iter().filter_map(runs_prepared) {
            self.prepared_to_run(name, false).await?;
        }
        Ok(())
    }

    /// A prepared statement that was decided under another policy, catalog or search_path is decided again; if another
    /// text comes of it, it is prepared again, unseen by the client.
    pub(super) async fn renew(&mut self, name: &str, prepared: &Arc<Prepared>) -> Result<Arc<Prepared>, Hindrance> {
        if prepared.columns.load(Ordering::Relaxed) == u64::MAX {
            return Err(other_columns().into());
        }
        let decided = self.decide(&prepared.text, &prepared.param_types).await?;
        if let Some(denial) = &decided.denial {
            return Err(denial.clone().into());
        }
        self.may_take_parameters(&prepared.param_types)?;
        let same = decided.rewritten == prepared.decided.rewritten && !prepared.lost.load(Ordering::Relaxed);
        if !same && !self.pending.is_empty() {
            return Err(Hindrance::Barrier);
        }
        if !same && self.status == TransactionStatus::Failed {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Denial::new(Reason::Protocol, message).sqlstate("25P02").into());
        }
        let anew = Arc::new(Prepared {
            text: Arc::clone(&prepared.text),
            decided: Arc::clone(&decided),
            meaning: self.meaning(),
            param_types: Arc::clone(&prepared.param_types),
            by_sql: prepared.by_sql,
            columns: AtomicU64::new(prepared.columns.load(Ordering::Relaxed)),
            lost: AtomicBool::new(!same),
        });
        self.statements.replace(name, Arc::clone(&anew));
        self.show_prepared(name, Some(&anew));
        if same {
            return Ok(anew);
        }
        let sql = decided.rewritten.as_deref().unwrap_or(&prepared.text);
        let out = self.up.out();
        let written = Close { kind: frontend::Kind::Statement, name }
            .write(out)
            .and_then(|()| Parse { statement: name, sql, param_types: prepared.param_types.to_vec() }.write(out))
            .and_then(|()| Describe { kind: frontend::Kind::Statement, name }.write(out));
        if written.is_err() {
            return Err(Denial::new(Reason::Internal, "a statement can't be prepared again").into());
        }
        let owed = vec![
            Kind::Close(Vec::new()),
            Kind::Parse(None, None),
            // Its columns are held against what the client was told; then it is no longer lost.
            Kind::DescribeStatement(Some(anew)),
        ];
        self.ask_unseen(owed);
        Err(Hindrance::Barrier)
    }

    /// What was written to the server is of the proxy's own: what it owes for that is not for the client. In the midst
    /// of a batch a Sync would end its implicit transaction.
    fn ask_unseen(&mut self, owed: Vec<Kind>) {
        let in_batch = self.in_batch;
        if in_batch {
            frontend::write_flush(self.up.out());
        } else {
            frontend::write_sync(self.up.out());
        }
        for kind in owed {
            self.push_ours(kind);
        }
        if !in_batch {
            self.push_ours(Kind::Sync);
            self.batch += 1;
        }
        self.unflushed = false;
    }

    /// A portal or cursor may go on under the policy in force.
    pub(super) async fn check_portal(&self, portal: &Portal) -> Result<(), Denial> {
        let version = self.policy_version();
        if portal.checked.load(Ordering::Relaxed) != version {
            let (text, types): (_, &[Oid]) = match &portal.with_values {
                Some(text) => (text, &[]),
                None => (&portal.text, &portal.param_types),
            };
            self.still_allowed(text, types, &portal.meaning, &portal.decided).await?;
            portal.checked.store(version, Ordering::Relaxed);
        }
        // What the server only reads as it runs means what names mean then.
        if portal.meaning.stamp != self.state().stamp() && portal.decided.statements.iter().any(|one| one.read_late) {
            self.still_allowed(&portal.text, &portal.param_types, &self.meaning(), &portal.decided).await?;
        }
        Ok(())
    }

    /// Refuses to run what was prepared after a change of search_path in the same text: it was decided under another.
    pub(super) fn runs_elsewhere(&self, decided: &Decided, index: usize) -> Option<Denial> {
        let (before, from_here) = decided.statements.split_at_checked(index)?;
        let changes = |statement: &Statement| match statement.effect {
            Effect::SearchPath { .. } | Effect::ResetAll | Effect::DiscardAll => true,
            Effect::Commit { .. } | Effect::Rollback { .. } | Effect::RollbackTo(_) => self.view.path_ends.is_changed(),
            _ => false,
        };
        let runs = from_here.first().and_then(runs_prepared).is_some();
        (self.is_enforcing() && runs && before.iter().any(changes)).then(|| {
            let message = "EXECUTE after a change of search_path in the same message is not supported through the gate";
            Denial::new(Reason::Unsupported, message).sqlstate("0A000").hint("Send it as a message of its own.")
        })
    }

    /// What a statement of a decided text will run, and the names that it defines; those count from here on, and must be
    /// taken back if it isn't sent. `portal` is what an Execute runs.
    pub(super) async fn plan(
        &mut self,
        text: &Arc<str>,
        decided: &Arc<Decided>,
        index: usize,
        portal: Option<&Arc<Portal>>,
    ) -> Result<Run, Hindrance> {
        let own = Chosen { decided: Arc::clone(decided), index, inner: false };
        let usage = portal.map_or_else(Arc::default, |portal| Arc::clone(&portal.usage));
        let mut run = Run { what: own, usage, counted: false, names: Vec::new() };
        let statement = decided.statements.get(index);
        let effect = statement.map_or(&Effect::None, |statement| &statement.effect);
        let enforcing = self.is_enforcing();
        if let Some(name) = statement.and_then(runs_prepared) {
            let Some(prepared) = self.prepared_to_run(name, portal.is_some()).await? else {
                // In mode Audit names may come from what the proxy does not understand.
                return if enforcing { Err(no_statement(name).into()) } else { Ok(run) };
            };
            if matches!(effect, Effect::Execute { .. }) {
                run.what = Chosen { decided: Arc::clone(&prepared.decided), index: 0, inner: false };
            }
        }
        match effect {
            Effect::Fetch { name } => {
                if !self.portals.is_settled(name, self.batch, self.answered) {
                    return Err(Hindrance::Barrier);
                }
                let Some(cursor) = self.portals.get(name).cloned() else {
                    return if enforcing { Err(no_cursor(name).into()) } else { Ok(run) };
                };
                // Of a portal that the protocol made, what runs is its statement, effects included.
                let acts = |statement: &Statement| {
                    statement.by_values
                        || runs_prepared(statement).is_some()
                        || !matches!(statement.effect, Effect::None)
                };
                if enforcing && cursor.chosen.statement().is_some_and(acts) {
                    let message = "FETCH from a portal of such a statement is not supported through the gate";
                    let denial = Denial::new(Reason::Unsupported, message).sqlstate("0A000");
                    return Err(denial.hint("Execute the portal itself.").into());
                }
                self.check_portal(&cursor).await?;
                run.what = cursor.chosen.clone();
                run.usage = Arc::clone(&cursor.usage);
            }
            Effect::Prepare { name, inner, types, .. } => {
                if !self.statements.is_settled(name, self.batch, self.answered) {
                    return Err(Hindrance::Barrier);
                }
                let decided = self.decide_inner(decided, index, inner, types).await;
                let prepared = Prepared {
                    text: Arc::clone(inner),
                    decided,
                    meaning: self.meaning(),
                    param_types: types.as_slice().into(),
                    by_sql: true,
                    columns: AtomicU64::new(0),
                    lost: AtomicBool::new(false),
                };
                run.names.push(self.name_statement(name, Some(prepared))?);
            }
            Effect::Deallocate(Some(name)) => {
                if !self.statements.is_settled(name, self.batch, self.answered) {
                    return Err(Hindrance::Barrier);
                }
                run.names.push(self.name_statement(name, None)?);
            }
            // What is under way may yet fail, and bring another definition back.
            Effect::Deallocate(None) | Effect::CloseCursor(None) | Effect::DiscardAll
                if !self.statements.all_settled(self.batch, self.answered)
                    || !self.portals.all_settled(self.batch, self.answered) =>
            {
                return Err(Hindrance::Barrier);
            }
            Effect::Deallocate(None) => run.names.extend(self.forget_statements()?),
            Effect::Declare { name, .. } if name == RESERVED => return Err(reserved_name().into()),
            Effect::Declare { name, hold, .. } => {
                if !self.portals.is_settled(name, self.batch, self.answered) {
                    return Err(Hindrance::Barrier);
                }
                let portal = Portal {
                    text: Arc::clone(text),
                    param_types: portal.map_or_else(Arc::default, |portal| Arc::clone(&portal.param_types)),
                    decided: Arc::clone(decided),
                    meaning: self.meaning(),
                    chosen: Chosen { decided: Arc::clone(decided), index, inner: true },
                    checked: AtomicU64::new(decided.policy_version),
                    usage: Arc::default(),
                    hold: *hold,
                    ran: AtomicBool::new(false),
                    described: AtomicU64::new(0),
                    parameters: None,
                    with_values: None,
                };
                run.names.push(self.name_portal(name, Some(portal))?);
            }
            Effect::CloseCursor(Some(name)) => {
                if !self.portals.is_settled(name, self.batch, self.answered) {
                    return Err(Hindrance::Barrier);
                }
                run.names.push(self.name_portal(name, None)?);
            }
            Effect::CloseCursor(None) => run.names.extend(self.forget_portals()?),
            Effect::DiscardAll => {
                run.names.extend(self.forget_statements()?);
                run.names.extend(self.forget_portals()?);
            }
            Effect::Savepoint(_) if !self.state().may_save() => {
                let message = "too many savepoints are open in this transaction";
                let denial = Denial::new(Reason::Bounds, message).sqlstate("54000");
                return Err(denial.hint("RELEASE those that are not needed.").into());
            }
            _ => {}
        }
        let opens = |statement: Option<&Statement>| statement.is_some_and(|statement| statement.opens_cursors);
        if opens(statement) || opens(run.what.statement()) {
            match self.give_up_portals() {
                Ok(taken) => run.names.extend(taken),
                Err(hindrance) => {
                    self.take_back(run.names);
                    return Err(hindrance);
                }
            }
        }
        if let Some(statement) = run.what.statement() {
            let returns = statement.returns_rows || matches!(statement.effect, Effect::CopyOut);
            run.counted = enforcing && returns && limits::counts(&statement.limits);
            if run.counted
                && let Some(window) = &statement.limits.window
            {
                let now = Instant::now();
                let left = self.shared.budget.left(window, now);
                let over = match left {
                    (Some(0), _) => window.rows.map(|rows| Over::WindowRows(rows, window.every)),
                    (_, Some(0)) => window.bytes.map(|bytes| Over::WindowBytes(bytes, window.every)),
                    _ => None,
                };
                if let Some(over) = over {
                    let denial = over.denial(statement.rule.as_deref());
                    self.take_back(run.names);
                    return Err(denial.into());
                }
            }
        }
        Ok(run)
    }

    /// What a statement that SQL prepares is decided to be, apart from the PREPARE around it.
    async fn decide_inner(
        &mut self,
        outer: &Arc<Decided>,
        index: usize,
        inner: &Arc<str>,
        types: &[Oid],
    ) -> Arc<Decided> {
        self.refresh_view();
        if let Analysis::Decided(decided) = self.shared.gate.decide(&self.view, inner, types).await
            && decided.denial.is_none()
            && decided.statements.len() == 1
        {
            return decided;
        }
        // Parameters whose types PREPARE gives may leave it undecided by itself. It is what the outer decision says, and
        // can't be compared under another policy: then it ends.
        let chosen = Chosen { decided: Arc::clone(outer), index, inner: true };
        Arc::new(Decided {
            rewritten: Some(Arc::from("")),
            statements: chosen.statement().cloned().into_iter().collect(),
            ..Decided::clone(outer)
        })
    }

    /// What a cursor that SQL declared gives when it is executed by name.
    pub(super) fn plan_rows(&self, portal: &Arc<Portal>) -> Run {
        let counted =
            self.is_enforcing() && portal.chosen.statement().is_some_and(|statement| limits::counts(&statement.limits));
        Run { what: portal.chosen.clone(), usage: Arc::clone(&portal.usage), counted, names: Vec::new() }
    }

    /// The next messages are decided as if this had run.
    pub(super) fn foresee(&mut self, decided: &Decided, runs: &[Run]) {
        if runs.iter().filter_map(|run| run.what.statement()).any(|statement| statement.scrub) {
            self.scrub = self.batch;
        }
        for statement in decided.statements.iter() {
            if statement.scrub {
                self.scrub = self.batch;
            }
            let ends =
                matches!(statement.effect, Effect::Commit { .. } | Effect::Rollback { .. } | Effect::RollbackTo(_));
            let calls = statement.main_verb == Some(Verb::Call);
            // A procedure may end the transaction, or set the path.
            if calls || ends && self.state().is_astray() {
                self.path_in_doubt = self.batch;
            }
            if calls || matches!(statement.effect, Effect::DiscardAll) {
                self.odd = self.batch;
            }
            if matches!(statement.effect, Effect::CatalogChange { temporary: true, .. }) {
                self.temporary_since.get_or_insert(decided.policy_version);
            }
            if matches!(statement.effect, Effect::None) {
                continue;
            }
            if state::is_significant(&statement.effect, self.state()) {
                self.significant = self.batch;
                // In a transaction that failed it is another end.
                self.unsettled |= matches!(statement.effect, Effect::Commit { .. } | Effect::RollbackTo(_));
            }
            self.predict().apply(&statement.effect);
        }
    }

    pub(super) fn name_statement(&mut self, name: &str, value: Option<Prepared>) -> Result<Taken, Denial> {
        let bytes = value.as_ref().map_or(0, |value| value.text.len() + name.len());
        if !name.is_empty() && value.is_some() && !self.statements.has_room(bytes) {
            return Err(too_many("prepared statements"));
        }
        let value = value.map(Arc::new);
        self.show_prepared(name, value.as_ref());
        Ok(Taken::Statement(self.statements.set(name, value, bytes, self.batch)))
    }

    pub(super) fn name_portal(&mut self, name: &str, value: Option<Portal>) -> Result<Taken, Denial> {
        let bytes = value.as_ref().map_or(0, |value| value.bytes() + name.len());
        if !name.is_empty() && value.is_some() && !self.portals.has_room(bytes) {
            return Err(too_many("portals and cursors"));
        }
        Ok(Taken::Portal(self.portals.set(name, value.map(Arc::new), bytes, self.batch)))
    }

    fn forget_statements(&mut self) -> Result<Vec<Taken>, Denial> {
        // The unnamed one is none of SQL's.
        let names: Vec<_> = self.statements.names().into_iter().filter(|name| !name.is_empty()).collect();
        names.iter().map(|name| self.name_statement(name, None)).collect()
    }

    /// What the server has dropped of these, as a transaction ended or a part of it, is not followed: a cursor that a function opens may
    /// have any of their names. The unnamed one is none of a function's.
    fn give_up_portals(&mut self) -> Result<Vec<Taken>, Hindrance> {
        let mut taken = Vec::new();
        for name in self.portals.names().into_iter().filter(|name| !name.is_empty()) {
            if !self.portals.is_settled(&name, self.batch, self.answered) {
                self.take_back(taken);
                return Err(Hindrance::Barrier);
            }
            taken.push(self.name_portal(&name, None)?);
        }
        Ok(taken)
    }

    fn forget_portals(&mut self) -> Result<Vec<Taken>, Denial> {
        self.portals.names().iter().map(|name| self.name_portal(name, None)).collect()
    }

    /// What failed, or was not sent after all, defined nothing.
    pub(super) fn take_back(&mut self, names: Vec<Taken>) {
        for taken in names.into_iter().rev() {
            match taken {
                Taken::Statement(undo) => {
                    let name = undo.name().to_owned();
                    self.statements.undo(undo);
                    let value = self.statements.get(&name).cloned();
                    self.show_prepared(&name, value.as_ref());
                }
                Taken::Portal(undo) => self.portals.undo(undo),
            }
        }
    }

    /// Lets decisions see what a name stands for.
    pub(super) fn show_prepared(&mut self, name: &str, value: Option<&Arc<Prepared>>) {
        if name.is_empty() {
            return;
        }
        let prepared: &mut HashMap<_, _> = Arc::make_mut(&mut self.view.prepared);
        match value {
            Some(value) => prepared.insert(name.to_owned(), Arc::clone(&value.decided)),
            None => prepared.remove(name),
        };
    }
}

/// A statement's text with the values of its parameters as literals; None if one can't be written so.
fn with_values(text: &str, declared: &[Oid], values: &[Parameter<'_>], switches: &[i32]) -> Option<String> {
    let mut written = String::with_capacity(text.len());
    let mut seen = Vec::new();
    let mut at = 0;
    for token in crate::sql::scan(text).ok()? {
        let (start, end) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
        if token.token != pg_query::protobuf::Token::Param as i32 {
            continue;
        }
        let number: usize = text.get(start..end)?.strip_prefix('$')?.parse().ok()?;
        let place = number.checked_sub(1)?;
        // Another place could make it of another type, which has another text.
        if seen.contains(&place) {
            return None;
        }
        seen.push(place);
        let value = values.get(place)?;
        let is_switch = i32::try_from(number).is_ok_and(|number| switches.contains(&number));
        // A text is the same in both formats; what has no type is one where it decides anything.
        let is_text = match declared.get(place).copied() {
            Some(types::BOOL) => is_switch,
            Some(types::TEXT | types::VARCHAR) => !is_switch,
            None | Some(0 | types::UNKNOWN) => true,
            Some(_) => false,
        };
        written.push_str(text.get(at..start)?);
        match value.value {
            None => written.push_str("NULL"),
            // Any byte but 0 is true.
            Some([byte]) if is_text && is_switch && value.binary => {
                written.push_str(if *byte == 0 { "'false'" } else { "'true'" });
            }
            Some(value) if !is_text || value.contains(&0) => return None,
            Some(value) => written.push_str(&quote_text(std::str::from_utf8(value).ok()?)),
        }
        at = end;
    }
    written.push_str(text.get(at..)?);
    Some(written)
}

/// Whether a statement has names that mean one thing or another by the path.
fn reads_names(statement: &Statement) -> bool {
    match &statement.effect {
        Effect::None | Effect::Prepare { .. } | Effect::Declare { .. } | Effect::CatalogChange { .. } => true,
        Effect::CopyIn | Effect::CopyOut => true,
        _ => runs_prepared(statement).is_some(),
    }
}

/// The name of what is prepared that a statement runs.
fn runs_prepared(statement: &Statement) -> Option<&str> {
    match &statement.effect {
        Effect::Execute { name } => Some(name),
        _ => statement.runs_prepared.as_deref(),
    }
}

/// As the server says it.
pub(super) fn other_columns() -> Denial {
    Denial::new(Reason::PolicyChanged, "cached plan must not change result type").sqlstate("0A000")
}

fn could_not_ask() -> Denial {
    Denial::new(Reason::Internal, "what this statement means could not be asked of the database").sqlstate("57014")
}

fn changed() -> Denial {
    Denial::new(Reason::PolicyChanged, "permission denied: the policy changed since this was prepared or opened")
        .hint("Prepare or open it again.")
}

/// As the server says it.
pub(super) fn no_statement(name: &str) -> Denial {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!("prepared statement \"{name}\" does not exist")
    };
    Denial::new(Reason::Protocol, message).sqlstate("26000")
}

fn no_cursor(name: &str) -> Denial {
    Denial::new(Reason::Protocol, format!("cursor \"{name}\" does not exist")).sqlstate("34000")
}

/// As the server says it.
pub(super) fn no_portal(name: &str) -> Denial {
    Denial::new(Reason::Protocol, format!("portal \"{name}\" does not exist")).sqlstate("34000")
}

pub(super) fn reserved_name() -> Denial {
    Denial::new(Reason::Protocol, "this name of a prepared statement or portal is reserved").sqlstate("42939")
}

fn too_many(what: &str) -> Denial {
    Denial::new(Reason::Bounds, format!("too many {what}, or too large ones, are open in this session"))
        .sqlstate("54000")
        .hint("Close or DEALLOCATE those that are not needed.")
}
