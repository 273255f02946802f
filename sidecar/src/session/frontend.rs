//! What the client sends: each message is decided, refused or passed on, and what is owed for it noted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use postern_crds::ParameterRecording;
use tokio::io::{AsyncRead, AsyncWrite};

use super::decision::{Hindrance, no_portal, no_statement, reserved_name};
use super::pending::{Chosen, Kind, Pending, Placed, Run, Running, Taken};
use super::statements::{Bound, Portal, Prepared};
use super::{Decide, End, FAILING, RESERVED, Session, Steps};
use crate::analyze::{Decided, Effect, Statement};
use crate::audit::{Parameter, Parameters, SQLSTATE_AUDIT_FULL, StatementEvent, StatementKind};
use crate::catalog::names::MAX_IDENTIFIER;
use crate::decide::{Denial, Reason};
use crate::metrics::Outcome;
use crate::sql;
use crate::wire::frame::HEADER;
use crate::wire::frontend::{
    BIND, BindHead, CLOSE, COPY_DATA, COPY_DONE, COPY_FAIL, Close, DESCRIBE, Describe, EXECUTE, Execute, FLUSH,
    FUNCTION_CALL, PARSE, Parse, QUERY, Query, SYNC, TERMINATE,
};
use crate::wire::{Header, Malformed, frontend};

/// Longest Bind whose parameters are held for the audit; longer ones stream through.
const MAX_RECORDED: usize = 64 << 10;
/// Most replies that may be due; a client that sends more at once waits until some have come.
const MAX_PENDING: usize = 8192;
/// Names are cut to 63 bytes by the server; far more is none.
const MAX_NAME: usize = 8 << 10;

/// What came of looking at a message.
enum Step {
    /// It is dealt with.
    Done,
    /// More of it is needed.
    More,
    /// All that was sent must be answered first.
    Barrier,
}

impl<C, S, G> Session<C, S, G>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
    G: Decide,
{
    /// Deals with what the client sent, as far as it is there and may go on.
    pub(super) async fn client_messages(&mut self) -> Result<(), End> {
        loop {
            if !self.up.body() || self.up.is_congested() {
                return Ok(());
            }
            let Some(header) = frontend::peek(self.up.unread())? else { return Ok(()) };
            if !self.may_take(header.tag)? {
                self.flush_if_waiting();
                return Ok(());
            }
            self.check_keys()?;
            match self.client_message(header).await? {
                Step::Done => self.looked_up.clear(),
                Step::More => return Ok(()),
                Step::Barrier => {
                    self.barrier = true;
                    self.flush_if_waiting();
                    return Ok(());
                }
            }
        }
    }

    /// Whether a whole message of the client's waits.
    pub(super) fn has_client_message(&self) -> bool {
        matches!(frontend::peek(self.up.unread()), Ok(Some(header)) if self.up.unread().len() >= header.frame_len())
    }

    /// Whether a message may be dealt with now, or must wait for the server.
    fn may_take(&mut self, tag: u8) -> Result<bool, End> {
        if self.copy_in {
            return match tag {
                COPY_DATA | COPY_DONE | COPY_FAIL | SYNC | FLUSH | TERMINATE => Ok(true),
                _ => Err(End::OutOfPlace("unexpected message during COPY from the client")),
            };
        }
        if self.stop.is_some() || self.held_sync || self.pending.len() >= MAX_PENDING {
            return Ok(false);
        }
        if self.barrier {
            if !self.pending.is_empty() {
                return Ok(false);
            }
            self.barrier = false;
        }
        if self.unsettled && !matches!(tag, SYNC | FLUSH | TERMINATE) {
            if !self.pending.is_empty() {
                return Ok(false);
            }
            self.unsettled = false;
            self.predicted = None;
        }
        // At a limit the statement is cancelled. That must not hit a later one, so none is sent until its end is known.
        if self.counted > 0 && !(matches!(tag, SYNC | FLUSH) && self.in_batch) {
            return Ok(false);
        }
        // Should it fail, what is said in later batches would mean something else.
        if self.significant > self.answered && self.significant < self.batch && !self.pending.is_empty() {
            self.barrier = true;
            return Ok(false);
        }
        Ok(true)
    }

    /// What was sent must be answered, or what waits for the answer would wait for ever.
    fn flush_if_waiting(&mut self) {
        if self.unflushed && !self.pending.is_empty() {
            frontend::write_flush(self.up.out());
            self.unflushed = false;
        }
    }

    async fn client_message(&mut self, header: Header) -> Result<Step, End> {
        let whole = header.frame_len();
        if self.skip_to_sync && !matches!(header.tag, SYNC | TERMINATE) {
            self.up.skip(whole);
            return Ok(Step::Done);
        }
        match header.tag {
            COPY_DATA => {
                self.up.pass(whole);
                return Ok(Step::Done);
            }
            BIND => {
                return match self.path_is_settled(header).await {
                    Some(step) => step,
                    None => self.bind(header).await,
                };
            }
            QUERY if frontend::is_too_long(header) => return self.refused_query(header, None, too_long()).await,
            PARSE if frontend::is_too_long(header) => {
                return self.refused(header, StatementKind::Parse, "", too_long()).await;
            }
            FUNCTION_CALL => {
                let denial = Denial::new(Reason::Protocol, "function calls by the fast-path protocol are not offered")
                    .hint("Call the function by SELECT.");
                return self.refused_query(header, None, denial).await;
            }
            _ => {}
        }
        if !self.up.whole(whole) {
            return Ok(Step::More);
        }
        if matches!(header.tag, QUERY | PARSE | EXECUTE)
            && let Some(step) = self.path_is_settled(header).await
        {
            return step;
        }
        let body = self.up.unread().get(HEADER..whole).unwrap_or_default();
        match header.tag {
            QUERY => {
                let text = Query::read(body).map(|query| Arc::from(query.sql));
                self.query(header, text).await
            }
            PARSE => {
                let parse = Parse::read(body)
                    .map(|parse| (parse.statement.to_owned(), Arc::from(parse.sql), parse.param_types));
                match &parse {
                    Ok((name, ..)) if is_cut(name) => {
                        self.refused(header, StatementKind::Parse, "", too_long_name()).await
                    }
                    _ => self.parse(header, parse).await,
                }
            }
            EXECUTE => {
                let read = Execute::read(body)?;
                let portal = read.portal.to_owned();
                if is_cut(&portal) {
                    return self.refused(header, StatementKind::Execute, "", too_long_name()).await;
                }
                self.execute(header, portal).await
            }
            DESCRIBE => {
                let Describe { kind, name } = Describe::read(body)?;
                if is_cut(name) {
                    return self.refused(header, StatementKind::Parse, "", too_long_name()).await;
                }
                match kind {
                    frontend::Kind::Statement => {
                        let prepared = self.statements.get(name).cloned();
                        self.push(Kind::DescribeStatement(prepared));
                    }
                    frontend::Kind::Portal => {
                        if let Some(portal) = self.portals.get(name) {
                            portal.described.store(self.batch, Ordering::Relaxed);
                        }
                        self.push(Kind::DescribePortal);
                    }
                }
                self.up.pass(whole);
                Ok(Step::Done)
            }
            CLOSE => {
                let Close { kind, name } = Close::read(body)?;
                let name = name.to_owned();
                if is_cut(&name) {
                    return self.refused(header, StatementKind::Parse, "", too_long_name()).await;
                }
                let settled = match kind {
                    frontend::Kind::Statement => self.statements.is_settled(&name, self.batch, self.answered),
                    frontend::Kind::Portal => self.portals.is_settled(&name, self.batch, self.answered),
                };
                if !settled && !name.is_empty() {
                    return Ok(Step::Barrier);
                }
                let taken = match kind {
                    frontend::Kind::Statement => self.name_statement(&name, None),
                    frontend::Kind::Portal => self.name_portal(&name, None),
                };
                self.push(Kind::Close(taken.into_iter().collect()));
                self.up.pass(whole);
                Ok(Step::Done)
            }
            SYNC => {
                frontend::read_empty(body)?;
                if self.copy_in {
                    // The server ignores it, and it must not be owed.
                    self.up.skip(whole);
                } else if self.counted_write && !self.skip_to_sync {
                    // Sync would commit: first it must be known how many rows there are.
                    self.up.skip(whole);
                    frontend::write_flush(self.up.out());
                    self.unflushed = false;
                    self.held_sync = true;
                } else {
                    self.up.pass(whole);
                    self.sync_sent();
                }
                Ok(Step::Done)
            }
            FLUSH => {
                frontend::read_empty(body)?;
                if self.copy_in {
                    self.up.skip(whole);
                } else {
                    self.up.pass(whole);
                    self.unflushed = false;
                }
                Ok(Step::Done)
            }
            COPY_DONE | COPY_FAIL => {
                if !std::mem::take(&mut self.copy_in) {
                    self.copy_ended_early();
                }
                self.up.pass(whole);
                if self.steps.is_some() {
                    // The flush that went up with the COPY was for its beginning.
                    frontend::write_flush(self.up.out());
                }
                Ok(Step::Done)
            }
            TERMINATE => {
                self.up.pass(whole);
                Err(End::ClientClosed)
            }
            // A password has no place after the start-up.
            tag => Err(End::Client(Malformed::UnknownTag(tag))),
        }
    }

    /// What names something is looked at when it is certain by which path the server finds it; None if it is.
    async fn path_is_settled(&mut self, header: Header) -> Option<Result<Step, End>> {
        match self.settle_path() {
            Ok(false) => None,
            Ok(true) => Some(Ok(Step::Barrier)),
            Err(denial) if header.tag == QUERY => Some(self.refused_query(header, None, denial).await),
            Err(denial) => Some(self.refused(header, StatementKind::Execute, "", denial).await),
        }
    }

    /// The client need not wait until it is asked for data: these are for what it sent last, a Sync aside.
    fn copy_ended_early(&mut self) {
        let syncs = self.pending.iter().rev().take_while(|pending| matches!(pending.kind, Kind::Sync)).count();
        if let Some(running) = self.pending.iter_mut().rev().nth(syncs).and_then(Pending::running) {
            running.copies_ended += 1;
            running.syncs_in_copy = syncs;
        }
    }

    /// A Sync goes up: the batch is complete.
    pub(super) fn sync_sent(&mut self) {
        self.push(Kind::Sync);
        self.batch_sent();
    }

    fn batch_sent(&mut self) {
        self.batch += 1;
        self.in_batch = false;
        self.skip_to_sync = false;
        self.unflushed = false;
        self.counted_write = false;
        if let Some(predicted) = &mut self.predicted
            && !predicted.in_block()
        {
            predicted.commit();
        }
    }

    // --- simple Query -------------------------------------------------------------------------------------------

    async fn query(&mut self, header: Header, text: Result<Arc<str>, Malformed>) -> Result<Step, End> {
        let text = match text {
            Ok(text) => text,
            Err(error) if error.in_step() => return self.refused_query(header, None, not_text(error)).await,
            Err(error) => return Err(error.into()),
        };
        let decided = match self.decide(&text, &[]).await {
            Ok(decided) => decided,
            Err(Hindrance::Barrier) => return Ok(Step::Barrier),
            Err(Hindrance::Denied(denial)) => return self.refused_query(header, Some(&text), *denial).await,
        };
        if let Some(denial) = &decided.denial {
            let denial = at_character(denial, &text);
            self.record(StatementKind::Query, &decided, &text, Parameters::Absent).await.ok();
            self.refuse_query(denial);
            self.up.skip(header.frame_len());
            return Ok(Step::Done);
        }
        let mut runs: Vec<Run> = Vec::with_capacity(decided.statements.len());
        for index in 0..decided.statements.len() {
            let planned = match self.runs_elsewhere(&decided, index) {
                Some(denial) => Err(denial.into()),
                None => self.plan(&text, &decided, index, None).await,
            };
            match planned {
                Ok(run) => runs.push(run),
                Err(hindrance) => {
                    self.take_back(runs.into_iter().flat_map(|run| run.names).collect());
                    return match hindrance {
                        Hindrance::Barrier => Ok(Step::Barrier),
                        Hindrance::Denied(denial) => self.refused_query(header, Some(&text), *denial).await,
                    };
                }
            }
        }
        let steps = if needs_steps(&runs) { Some(step_texts(&decided, &text)) } else { None };
        if let Some(unready) = match &steps {
            Some(Ok(_)) if !self.pending.is_empty() => Some(Hindrance::Barrier),
            Some(Err(denial)) => Some(denial.clone().into()),
            _ => None,
        } {
            self.take_back(runs.into_iter().flat_map(|run| run.names).collect());
            return match unready {
                Hindrance::Barrier => Ok(Step::Barrier),
                Hindrance::Denied(denial) => self.refused_query(header, Some(&text), *denial).await,
            };
        }
        let Ok(audit) = self.record(StatementKind::Query, &decided, &text, Parameters::Absent).await else {
            self.take_back(runs.into_iter().flat_map(|run| run.names).collect());
            self.refuse_query(audit_full());
            self.up.skip(header.frame_len());
            return Ok(Step::Done);
        };
        self.foresee(&decided, &runs);
        // A Query ends the unnamed statement and portal.
        if self.statements.get("").is_some() {
            let _ = self.statements.set("", None, 0, self.batch);
        }
        if self.portals.get("").is_some() {
            let _ = self.portals.set("", None, 0, self.batch);
        }
        self.counted += usize::from(runs.iter().any(is_held));
        let running = Box::new(Running { text: Some(text.clone()), ..Running::new(Arc::clone(&decided), runs, audit) });
        if let Some(Ok(texts)) = steps {
            self.up.skip(header.frame_len());
            self.steps = Some(Steps { texts, running: None });
            self.held_sync = true;
            self.counted_write = true;
            self.send_step(running)?;
            return Ok(Step::Done);
        }
        match &decided.rewritten {
            None => self.up.pass(header.frame_len()),
            Some(rewritten) => {
                Query { sql: rewritten }.write(self.up.out())?;
                self.up.skip(header.frame_len());
            }
        }
        self.push(Kind::Query(running));
        self.batch_sent();
        Ok(Step::Done)
    }

    /// Sends the next statement of a Query that goes up one by one. The client sees a Query's replies.
    pub(super) fn send_step(&mut self, running: Box<Running>) -> Result<(), End> {
        let next = self.steps.as_mut().and_then(|steps| steps.texts.pop_front());
        let sql = next.ok_or(End::Internal("a statement is missing"))?;
        let out = self.up.out();
        Parse { statement: "", sql: &sql, param_types: Vec::new() }.write(out)?;
        frontend::write_bind(out, BindHead { portal: "", statement: "" }, &[])?;
        Describe { kind: frontend::Kind::Portal, name: "" }.write(out)?;
        Execute { portal: "", max_rows: 0 }.write(out)?;
        frontend::write_flush(out);
        self.push_ours(Kind::Parse(None, None));
        self.push_ours(Kind::Bind(None));
        self.push(Kind::DescribePortal);
        self.push(Kind::Execute(running));
        self.unflushed = false;
        Ok(())
    }

    async fn refused_query(&mut self, header: Header, text: Option<&str>, denial: Denial) -> Result<Step, End> {
        self.record_refusal(StatementKind::Query, text.unwrap_or_default(), &denial).await;
        self.refuse_query(denial);
        self.up.skip(header.frame_len());
        Ok(Step::Done)
    }

    /// In place of a Query that is refused one goes up that fails.
    pub(super) fn refuse_query(&mut self, denial: Denial) {
        if (Query { sql: FAILING }).write(self.up.out()).is_ok() {
            self.push(Kind::Refused { denial: Box::new(denial), query: true });
            self.batch_sent();
        }
    }

    // --- extended query -----------------------------------------------------------------------------------------

    async fn parse(
        &mut self,
        header: Header,
        parse: Result<(String, Arc<str>, Vec<u32>), Malformed>,
    ) -> Result<Step, End> {
        let (name, text, param_types) = match parse {
            Ok(parse) => parse,
            Err(error) if error.in_step() => {
                return self.refused(header, StatementKind::Parse, "", not_text(error)).await;
            }
            Err(error) => return Err(error.into()),
        };
        if !name.is_empty() && !self.statements.is_settled(&name, self.batch, self.answered) {
            return Ok(Step::Barrier);
        }
        if name == RESERVED {
            return self.refused(header, StatementKind::Parse, &text, reserved_name()).await;
        }
        let decided = match self.decide(&text, &param_types).await {
            Ok(decided) => decided,
            Err(Hindrance::Barrier) => return Ok(Step::Barrier),
            Err(Hindrance::Denied(denial)) => {
                return self.refused(header, StatementKind::Parse, &text, *denial).await;
            }
        };
        // What it names may be there as it runs: it is decided then, before it is bound.
        let later = is_for_later(&decided);
        if let Some(denial) = decided.denial.as_ref().filter(|_| !later) {
            let denial = at_character(denial, &text);
            self.record(StatementKind::Parse, &decided, &text, Parameters::Absent).await.ok();
            self.refuse_in_batch(denial);
            self.up.skip(header.frame_len());
            return Ok(Step::Done);
        }
        let decided = if later { Arc::new(Decided::default()) } else { decided };
        if let Err(denial) = self.may_take_parameters(&param_types) {
            return self.refused(header, StatementKind::Parse, &text, denial).await;
        }
        let prepared = Prepared {
            text: Arc::clone(&text),
            decided: Arc::clone(&decided),
            meaning: self.meaning(),
            param_types: param_types.into(),
            by_sql: false,
            columns: AtomicU64::new(0),
            lost: AtomicBool::new(later),
        };
        // A name that is taken stays what it is: the server says so.
        let is_taken = |have: &Arc<Prepared>| !have.lost.load(Ordering::Relaxed);
        let taken = if !name.is_empty() && self.statements.get(&name).is_some_and(is_taken) {
            None
        } else {
            let param_types = Arc::clone(&prepared.param_types);
            match self.name_statement(&name, Some(prepared)) {
                Ok(taken) => Some((taken, param_types)),
                Err(denial) => return self.refused(header, StatementKind::Parse, &text, denial).await,
            }
        };
        match &decided.rewritten {
            None => self.up.pass(header.frame_len()),
            Some(rewritten) => {
                let param_types = taken.as_ref().map(|(_, types)| types.to_vec()).unwrap_or_default();
                Parse { statement: &name, sql: rewritten, param_types }.write(self.up.out())?;
                self.up.skip(header.frame_len());
            }
        }
        let undo = taken.and_then(|(taken, _)| match taken {
            Taken::Statement(undo) => Some(undo),
            Taken::Portal(_) => None,
        });
        self.push(Kind::Parse(undo, Some(Placed { text, decided })));
        Ok(Step::Done)
    }

    async fn bind(&mut self, header: Header) -> Result<Step, End> {
        let recording = self.shared.gate.bound().policy.recording.parameters;
        let held = recording != ParameterRecording::None && header.body_len <= MAX_RECORDED;
        if held && !self.up.whole(header.frame_len()) {
            return Ok(Step::More);
        }
        let unread = self.up.unread();
        let Some((head, head_len)) = BindHead::read(unread.get(HEADER..).unwrap_or_default(), header.body_len)? else {
            if unread.len() > MAX_NAME {
                return Err(End::Client(Malformed::Value("name")));
            }
            let more = unread.len() + 1;
            self.up.whole(more);
            return Ok(Step::More);
        };
        let parameters = match recording {
            ParameterRecording::None => None,
            _ if held => {
                let body = unread.get(HEADER + head_len..header.frame_len()).unwrap_or_default();
                Some(Bound::Body(body.into()))
            }
            _ => Some(Bound::Streamed(header.body_len as u64)),
        };
        let (portal, name) = (head.portal.to_owned(), head.statement.to_owned());
        if is_cut(&portal) || is_cut(&name) {
            return self.refused(header, StatementKind::Execute, "", too_long_name()).await;
        }
        let is_settled = self.statements.is_settled(&name, self.batch, self.answered)
            && (portal.is_empty() || self.portals.is_settled(&portal, self.batch, self.answered));
        if !is_settled {
            return Ok(Step::Barrier);
        }
        let Some(prepared) = self.statements.get(&name).cloned() else {
            self.refuse_in_batch(no_statement(&name));
            self.up.skip(header.frame_len());
            return Ok(Step::Done);
        };
        let renewed = if self.is_fresh(&prepared) { Ok(prepared.clone()) } else { self.renew(&name, &prepared).await };
        let ready = match renewed {
            Ok(prepared) => self.prepare_again(&prepared.decided).await.map(|()| prepared),
            Err(hindrance) => Err(hindrance),
        };
        let prepared = match ready {
            Ok(prepared) => prepared,
            Err(Hindrance::Barrier) => return Ok(Step::Barrier),
            Err(Hindrance::Denied(denial)) => {
                return self.refused(header, StatementKind::Execute, &prepared.text, *denial).await;
            }
        };
        if portal == RESERVED {
            return self.refused(header, StatementKind::Execute, &prepared.text, reserved_name()).await;
        }
        let (mut decided, mut with_values) = (Arc::clone(&prepared.decided), None);
        if decided.statements.iter().any(|statement| statement.by_values) {
            if header.body_len <= MAX_RECORDED && !self.up.whole(header.frame_len()) {
                return Ok(Step::More);
            }
            let body = self.up.unread().get(HEADER + head_len..header.frame_len()).unwrap_or_default().to_vec();
            let values = read_parameters(&body).unwrap_or_default();
            match self.decide_by_values(&prepared, &values).await {
                Ok((text, by_values)) => (decided, with_values) = (by_values, Some(text)),
                Err(Hindrance::Barrier) => return Ok(Step::Barrier),
                Err(Hindrance::Denied(denial)) if self.is_enforcing() => {
                    return self.refused(header, StatementKind::Execute, &prepared.text, *denial).await;
                }
                Err(Hindrance::Denied(_)) => {}
            }
        }
        let value = Portal {
            text: Arc::clone(&prepared.text),
            param_types: Arc::clone(&prepared.param_types),
            chosen: Chosen { decided: Arc::clone(&decided), index: 0, inner: prepared.by_sql },
            decided,
            with_values,
            meaning: prepared.meaning.clone(),
            checked: AtomicU64::new(prepared.decided.policy_version),
            usage: Arc::default(),
            hold: false,
            ran: AtomicBool::new(false),
            described: AtomicU64::new(0),
            parameters,
        };
        let taken = match self.name_portal(&portal, Some(value)) {
            Ok(Taken::Portal(undo)) => Some(undo),
            Ok(Taken::Statement(_)) => None,
            Err(denial) => return self.refused(header, StatementKind::Execute, &prepared.text, denial).await,
        };
        self.up.pass(header.frame_len());
        self.push(Kind::Bind(taken));
        Ok(Step::Done)
    }

    async fn execute(&mut self, header: Header, name: String) -> Result<Step, End> {
        if !self.portals.is_settled(&name, self.batch, self.answered) {
            return Ok(Step::Barrier);
        }
        let Some(portal) = self.portals.get(&name).cloned() else {
            self.refuse_in_batch(no_portal(&name));
            self.up.skip(header.frame_len());
            return Ok(Step::Done);
        };
        if let Err(denial) = self.check_portal(&portal).await {
            return self.refused(header, StatementKind::Execute, &portal.text, denial).await;
        }
        // A cursor that SQL declared gives rows here; its DECLARE does not happen again.
        // A row of `SELECT set_config('search_path', …)` sets it; the server gives it once, however often it is asked for more.
        let sets = |statement: &Statement| matches!(statement.effect, Effect::SearchPath { .. });
        let has_effect = portal.decided.statements.iter().any(sets);
        let declared = portal.chosen.inner || has_effect && portal.ran.load(Ordering::Relaxed);
        let run = if declared {
            Ok(self.plan_rows(&portal))
        } else {
            self.plan(&portal.text, &portal.decided, portal.chosen.index, Some(&portal)).await
        };
        let run = match run {
            Ok(run) => run,
            Err(Hindrance::Barrier) => return Ok(Step::Barrier),
            Err(Hindrance::Denied(denial)) => {
                return self.refused(header, StatementKind::Execute, &portal.text, *denial).await;
            }
        };
        let Ok(audit) = self.record_execute(&portal).await else {
            self.take_back(run.names);
            self.refuse_in_batch(audit_full());
            self.up.skip(header.frame_len());
            return Ok(Step::Done);
        };
        let statement = run.what.statement();
        let wall = statement.is_some_and(|statement| statement.second_wall && statement.returns_rows);
        if wall && portal.described.load(Ordering::Relaxed) != self.batch {
            Describe { kind: frontend::Kind::Portal, name: &name }.write(self.up.out())?;
            portal.described.store(self.batch, Ordering::Relaxed);
            self.push_ours(Kind::DescribePortal);
        }
        self.counted += usize::from(is_held(&run));
        self.counted_write |= is_counted_write(&run);
        let decided = if declared { chosen_only(&portal.chosen) } else { Arc::clone(&portal.decided) };
        let runs = vec![run];
        self.foresee(&decided, &runs);
        // An Execute before this one may have failed, or been skipped.
        if has_effect && portal.ran.swap(true, Ordering::Relaxed) {
            self.path_in_doubt = self.batch;
        }
        if has_effect && !declared {
            // All at once: what it does is done when it has ended, which a limit of rows would leave open.
            Execute { portal: &name, max_rows: 0 }.write(self.up.out())?;
            self.up.skip(header.frame_len());
        } else {
            self.up.pass(header.frame_len());
        }
        self.push(Kind::Execute(Box::new(Running::new(decided, runs, audit))));
        Ok(Step::Done)
    }

    /// In place of what is refused a Parse goes up that fails; the server then skips all up to Sync, so nothing else of
    /// the batch is sent.
    pub(super) fn refuse_in_batch(&mut self, denial: Denial) {
        let failing = Parse { statement: RESERVED, sql: FAILING, param_types: Vec::new() };
        if failing.write(self.up.out()).is_ok() {
            self.push(Kind::Refused { denial: Box::new(denial), query: false });
            self.skip_to_sync = true;
        }
    }

    async fn refused(&mut self, header: Header, kind: StatementKind, text: &str, denial: Denial) -> Result<Step, End> {
        self.record_refusal(kind, text, &denial).await;
        self.refuse_in_batch(denial);
        self.up.skip(header.frame_len());
        Ok(Step::Done)
    }

    // --- records ------------------------------------------------------------------------------------------------

    async fn record_execute(&mut self, portal: &Portal) -> Result<u64, ()> {
        let mut values: Vec<Parameter<'_>> = Vec::new();
        let parameters = match &portal.parameters {
            None => Parameters::Absent,
            Some(Bound::Streamed(bytes)) => Parameters::Streamed { bytes: *bytes },
            Some(Bound::Body(body)) => match read_parameters(body) {
                Ok(read) => {
                    values = read;
                    if values.is_empty() { Parameters::Absent } else { Parameters::Values(&values) }
                }
                // The server will say so.
                Err(_) => Parameters::Streamed { bytes: body.len() as u64 },
            },
        };
        let result = self.record(StatementKind::Execute, &portal.decided, &portal.text, parameters).await;
        drop(values);
        result
    }

    /// Hands the event over: only then may what it is about be sent.
    async fn record(
        &mut self,
        kind: StatementKind,
        decided: &Decided,
        text: &str,
        parameters: Parameters<'_>,
    ) -> Result<u64, ()> {
        self.decided += 1;
        let outcome = Outcome::of(decided);
        if let Some(denial) = decided.denial.as_ref().or(decided.would_deny.as_ref()) {
            self.shared.metrics.denial(denial.reason);
        }
        match &*decided.statements {
            [] => self.shared.metrics.statement(None, outcome),
            statements => statements.iter().for_each(|one| self.shared.metrics.statement(one.main_verb, outcome)),
        }
        if decided.masked_predicates().next().is_some() {
            self.shared.metrics.masked_predicate();
        }
        let event = StatementEvent { kind, decided, text, parameters };
        self.audit.statement(&event).await.map_err(|_| ())
    }

    /// A refusal that is the session's own, not a decision's.
    async fn record_refusal(&mut self, kind: StatementKind, text: &str, denial: &Denial) {
        let normalized = sql::normalize(text);
        let decided = Decided {
            fingerprint: sql::fingerprint(&normalized).into(),
            normalized: normalized.into(),
            ..Decided::refused(denial.clone(), self.policy_version())
        };
        self.record(kind, &decided, text, Parameters::Absent).await.ok();
    }
}

impl Running {
    fn new(decided: Arc<Decided>, runs: Vec<Run>, audit: u64) -> Self {
        Self {
            text: None,
            decided,
            runs,
            at: 0,
            audit,
            started: Instant::now(),
            rows: 0,
            bytes: 0,
            written: 0,
            copies_ended: 0,
            syncs_in_copy: 0,
            limit: None,
            sqlstate: None,
        }
    }
}

/// Whether nothing may be sent after it until its end is known.
pub(super) fn is_held(run: &Run) -> bool {
    run.counted && run.what.statement().is_some_and(|statement| !statement.at_most_one_row)
}

/// Whether it is a write whose rows have to be counted before it may be committed.
fn is_counted_write(run: &Run) -> bool {
    run.counted && run.what.statement().is_some_and(|statement| statement.writes && !statement.at_most_one_row)
}

/// Whether the statements of a Query go up one by one: rows have to be counted before anything is committed, and before
/// what comes after them runs.
fn needs_steps(runs: &[Run]) -> bool {
    let statements = || runs.iter().filter_map(|run| run.what.statement());
    let writes = || statements().any(|one| one.writes || matches!(one.effect, Effect::Commit { .. }));
    runs.iter().any(is_counted_write) || runs.len() > 1 && runs.iter().any(is_held) && writes()
}

/// The texts of a Query's statements as they are to be sent.
fn step_texts(decided: &Decided, text: &Arc<str>) -> Result<VecDeque<Arc<str>>, Denial> {
    let whole = decided.rewritten.as_ref().unwrap_or(text);
    if decided.statements.len() == 1 {
        return Ok(VecDeque::from([Arc::clone(whole)]));
    }
    sql::statements(whole).filter(|texts| texts.len() == decided.statements.len()).map(VecDeque::from).ok_or_else(
        || {
            Denial::new(Reason::Limit, "under limits so long a message can't hold both a write and a result")
                .sqlstate("54000")
                .hint("Send its statements one by one.")
        },
    )
}

/// The statement by itself, without the effect of declaring it.
fn chosen_only(chosen: &Chosen) -> Arc<Decided> {
    let statements: Arc<[Statement]> =
        chosen.statement().cloned().map(|one| Statement { effect: Effect::None, ..one }).into_iter().collect();
    Arc::new(Decided { statements, ..Decided::clone(&chosen.decided) })
}

/// Parameters from what follows the head of a Bind.
fn read_parameters(body: &[u8]) -> Result<Vec<Parameter<'_>>, Malformed> {
    let mut reader = crate::wire::Reader::new(body);
    let formats = reader.formats()?;
    let count = usize::from(reader.u16()?);
    let mut values = Vec::with_capacity(count.min(body.len() / 4));
    for at in 0..count {
        values.push(Parameter { binary: formats.at(at) == 1, value: reader.value()? });
    }
    Ok(values)
}

/// Whether a statement is refused for a name that is not there, and the server would not look for it before it runs.
fn is_for_later(decided: &Decided) -> bool {
    let is_missing = |denial: &Denial| matches!(denial.sqlstate, "42P01" | "42703" | "42704" | "42883" | "3F000");
    let is_read_late = matches!(&*decided.statements, [statement] if statement.read_late);
    is_read_late && decided.denial.as_ref().is_some_and(is_missing)
}

/// With its position in characters from 1, as clients count, and not in bytes.
fn at_character(denial: &Denial, text: &str) -> Denial {
    let position = denial.position.and_then(|at| {
        let before = text.get(..usize::try_from(at).ok()?)?;
        u32::try_from(before.chars().count() + 1).ok()
    });
    Denial { position, ..denial.clone() }
}

/// Whether the server would cut a name, by bytes: then it is another's.
fn is_cut(name: &str) -> bool {
    name.len() > MAX_IDENTIFIER
}

fn too_long_name() -> Denial {
    Denial::new(Reason::Bounds, "the name of a prepared statement or portal may be 63 bytes long at most")
        .sqlstate("42622")
}

fn not_text(error: Malformed) -> Denial {
    Denial::new(Reason::Bounds, error.to_string()).sqlstate("22021")
}

fn too_long() -> Denial {
    Denial::new(Reason::Bounds, "a statement may be 16 MiB long at most")
        .sqlstate("54000")
        .hint("Send data as parameters or by COPY, which have no such bound.")
}

fn audit_full() -> Denial {
    Denial::new(Reason::Internal, crate::audit::AuditFull.to_string()).sqlstate(SQLSTATE_AUDIT_FULL)
}
