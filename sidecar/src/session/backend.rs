//! What the server sends: each message goes to the pending reply that it belongs to, and from there to the client.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite};

use super::frontend::is_held;
use super::limits::Over;
use super::pending::{Asked, Kind, Pending, Running, Taken};
use super::state::Ended;
use super::statements::Prepared;
use super::{After, Decide, End, Session, Stop, scrub, second_wall};
use crate::analyze::{Effect, Notice};
use crate::audit::StatementEnd;
use crate::catalog::names::MAX_IDENTIFIER;
use crate::catalog::overlay::decode_overlay;
use crate::decide::settings::{parse_list, with_user};
use crate::decide::{Denial, Reason};
use crate::sql;
use crate::wire::backend::{
    AUTHENTICATION, BACKEND_KEY_DATA, BIND_COMPLETE, CLOSE_COMPLETE, COMMAND_COMPLETE, COPY_BOTH_RESPONSE, COPY_DATA,
    COPY_DONE, COPY_IN_RESPONSE, COPY_OUT_RESPONSE, DATA_ROW, DataRow, EMPTY_QUERY_RESPONSE, ERROR_RESPONSE,
    FUNCTION_CALL_RESPONSE, Fields, NO_DATA, NOTICE_RESPONSE, NOTIFICATION_RESPONSE, Notification,
    PARAMETER_DESCRIPTION, PARAMETER_STATUS, PARSE_COMPLETE, PORTAL_SUSPENDED, ParameterStatus, READY_FOR_QUERY,
    ROW_DESCRIPTION, TransactionStatus, read_command_complete, write_data_row,
};
use crate::wire::{Header, backend};

/// Longest error or notice that is read; a longer one is told without its text.
const MAX_MESSAGE: usize = 4 << 20;
/// Most rows that a catalog query of the proxy's own may give.
const MAX_LOOKUP: usize = 10_000;

const UNEXPECTED: End = End::Server("a message that is not owed");

impl<C, S, G> Session<C, S, G>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
    G: Decide,
{
    /// Deals with what the server sent, as far as it is there.
    pub(super) fn server_messages(&mut self) -> Result<(), End> {
        loop {
            if !self.down.body() || self.down.is_congested() {
                return Ok(());
            }
            let header = match backend::peek(self.down.unread()) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::error!(%error, "the database broke the protocol");
                    return Err(End::Server("a malformed message"));
                }
            };
            let done = match header.tag {
                DATA_ROW => self.row(header)?,
                COPY_DATA => {
                    self.copied(header)?;
                    true
                }
                ERROR_RESPONSE | NOTICE_RESPONSE if header.body_len > MAX_MESSAGE => {
                    let fields = Fields::new("ERROR", "54000", "the database's message is too long to be shown");
                    self.down.skip(header.frame_len());
                    if header.tag == ERROR_RESPONSE {
                        // The rest of the body is yet to come; what stands for it can't be put before it is over.
                        if !self.down.body() {
                            return Err(End::Server("an error message beyond all bounds"));
                        }
                        self.failed_with(fields)?;
                    }
                    true
                }
                _ if self.down.whole(header.frame_len()) => {
                    self.server_message(header)?;
                    true
                }
                _ => false,
            };
            if !done {
                return Ok(());
            }
        }
    }

    fn body(&self, header: Header) -> &[u8] {
        header.body(self.down.unread()).unwrap_or_default()
    }

    fn server_message(&mut self, header: Header) -> Result<(), End> {
        match header.tag {
            PARSE_COMPLETE => {
                let Pending { ours, .. } = self.pop(|kind| matches!(kind, Kind::Parse(..)))?;
                self.show(header, !ours);
            }
            BIND_COMPLETE => {
                let Pending { ours, .. } = self.pop(|kind| matches!(kind, Kind::Bind(_)))?;
                self.show(header, !ours);
            }
            CLOSE_COMPLETE => {
                let Pending { ours, .. } = self.pop(|kind| matches!(kind, Kind::Close(_)))?;
                self.show(header, !ours);
            }
            PARAMETER_DESCRIPTION => {
                let front = self.pending.front().ok_or(UNEXPECTED)?;
                if !matches!(front.kind, Kind::DescribeStatement(_)) {
                    return Err(UNEXPECTED);
                }
                let shown = !front.ours;
                self.show(header, shown);
            }
            ROW_DESCRIPTION | NO_DATA => self.described(header)?,
            COMMAND_COMPLETE | EMPTY_QUERY_RESPONSE | PORTAL_SUSPENDED => self.completed(header)?,
            READY_FOR_QUERY => self.ready(header)?,
            ERROR_RESPONSE => {
                let fields = Fields::read(self.body(header)).map_err(|_| End::Server("a malformed error"))?;
                self.down.skip(header.frame_len());
                self.failed_with(fields)?;
            }
            NOTICE_RESPONSE => self.notice(header)?,
            NOTIFICATION_RESPONSE => {
                let read =
                    Notification::read(self.body(header)).map_err(|_| End::Server("a malformed notification"))?;
                let granted = !self.is_enforcing() || {
                    let bound = self.shared.gate.bound();
                    bound.policy.channel_allowed(&bound.identity, &read.channel).is_some()
                };
                self.show(header, granted);
            }
            PARAMETER_STATUS => self.setting(header)?,
            COPY_IN_RESPONSE => self.copy_in(header)?,
            COPY_OUT_RESPONSE => {
                self.front_running()?;
                let shown = self.stop.is_none();
                self.show(header, shown);
            }
            COPY_DONE => {
                self.front_running()?;
                let shown = self.stop.is_none();
                self.show(header, shown);
            }
            // A key is told at the start-up only, and the client has one of the proxy's own.
            BACKEND_KEY_DATA => self.down.skip(header.frame_len()),
            AUTHENTICATION | COPY_BOTH_RESPONSE | FUNCTION_CALL_RESPONSE => return Err(UNEXPECTED),
            _ => return Err(UNEXPECTED),
        }
        Ok(())
    }

    fn show(&mut self, header: Header, shown: bool) {
        if shown { self.down.pass(header.frame_len()) } else { self.down.skip(header.frame_len()) }
    }

    fn pop(&mut self, owed: impl Fn(&Kind) -> bool) -> Result<Pending, End> {
        self.pending.pop_front_if(|front| owed(&front.kind)).ok_or(UNEXPECTED)
    }

    fn front_running(&mut self) -> Result<&mut Running, End> {
        self.pending.front_mut().and_then(Pending::running).ok_or(UNEXPECTED)
    }

    // --- rows ---------------------------------------------------------------------------------------------------

    /// A row: counted, then passed as it is. False if more of it is needed.
    fn row(&mut self, header: Header) -> Result<bool, End> {
        let Some(front) = self.pending.front_mut() else { return Err(UNEXPECTED) };
        if let Kind::Lookup { .. } = &front.kind {
            return self.looked_up_row(header);
        }
        let Some(running) = front.running() else { return Err(UNEXPECTED) };
        if matches!(running.effect(), Effect::ShowApplicationName) {
            if !self.down.whole(header.frame_len()) {
                return Ok(false);
            }
            // As it is when the statement runs, whatever was sent after it.
            let name = Arc::clone(self.confirmed.application_name());
            self.down.skip(header.frame_len());
            write_data_row(self.down.out(), std::iter::once(Some(name.as_bytes())));
            return Ok(true);
        }
        self.copied(header)?;
        Ok(true)
    }

    fn copied(&mut self, header: Header) -> Result<(), End> {
        let Some(running) = self.pending.front_mut().and_then(Pending::running) else { return Err(UNEXPECTED) };
        if self.stop.is_some() {
            self.down.skip(header.frame_len());
            return Ok(());
        }
        let bytes = header.body_len as u64;
        if let Some(run) = running.runs.get(running.at)
            && run.counted
            && let Some(statement) = run.what.statement()
        {
            if is_held(run) {
                if let Err(over) = run.usage.count(bytes, &statement.limits, &self.shared.budget) {
                    let denial = over.denial(statement.rule.as_deref());
                    self.stop_running(over, denial);
                    self.down.skip(header.frame_len());
                    return Ok(());
                }
            } else if let Err(over) = run.usage.count_single(bytes, &statement.limits, &self.shared.budget) {
                // Later statements may be on their way: a cancel could hit one of those.
                return Err(End::Limit(over.denial(statement.rule.as_deref()).message));
            }
        }
        running.rows += 1;
        running.bytes += bytes;
        self.down.pass(header.frame_len());
        Ok(())
    }

    fn looked_up_row(&mut self, header: Header) -> Result<bool, End> {
        if header.body_len > MAX_MESSAGE {
            return Err(End::Internal("a catalog row beyond all bounds"));
        }
        if !self.down.whole(header.frame_len()) {
            return Ok(false);
        }
        let mut row = Vec::new();
        let mut values =
            DataRow::read(header.body(self.down.unread()).unwrap_or_default()).map_err(|_| End::Server("a bad row"))?;
        while let Some(value) = values.value().map_err(|_| End::Server("a malformed row"))? {
            row.push(value.map(|value| String::from_utf8_lossy(value).into_owned()));
        }
        if let Some(Pending { kind: Kind::Lookup { rows, .. }, .. }) = self.pending.front_mut() {
            if rows.len() >= MAX_LOOKUP {
                return Err(End::Internal("a catalog answer beyond all bounds"));
            }
            rows.push(row);
        }
        self.down.skip(header.frame_len());
        Ok(true)
    }

    /// A limit is met: no more rows pass, and the server is asked to stop.
    fn stop_running(&mut self, over: Over, denial: Denial) {
        if let Some(running) = self.pending.front_mut().and_then(Pending::running) {
            running.limit = Some(over.as_str());
        }
        self.shared.metrics.denial(denial.reason);
        self.stop = Some(Stop { denial, ended: false, after: After::Nothing });
        self.cancelling = Some(tokio::spawn((self.cancel)()));
    }

    // --- descriptions -------------------------------------------------------------------------------------------

    fn described(&mut self, header: Header) -> Result<(), End> {
        let front = self.pending.front().ok_or(UNEXPECTED)?;
        let is_describe = matches!(front.kind, Kind::DescribeStatement(_) | Kind::DescribePortal);
        // Of a Query it comes before its rows.
        if !(is_describe || matches!(front.kind, Kind::Query(_)) && header.tag == ROW_DESCRIPTION) {
            return Err(UNEXPECTED);
        }
        let ours = front.ours;
        if header.tag == ROW_DESCRIPTION {
            let bound = self.shared.gate.bound();
            if !bound.views.is_empty() && self.is_enforcing() {
                let raw = second_wall::raw_column(self.body(header), &bound)
                    .map_err(|_| End::Server("a malformed description"))?;
                if let Some(raw) = raw {
                    tracing::error!(
                        relation = raw.relation,
                        attribute = raw.attribute,
                        "a column that should be masked arrived raw"
                    );
                    self.shared.metrics.second_wall();
                    return Err(End::SecondWall);
                }
            }
        }
        if is_describe {
            let Pending { kind, .. } = self.pop(|_| true)?;
            if let Kind::DescribeStatement(Some(prepared)) = kind {
                let columns = columns_hash(header.tag, self.body(header));
                self.know_columns(&prepared, columns, ours);
            }
        }
        // A Query is told of columns only where there are some.
        let asked = self.steps.is_none() || header.tag == ROW_DESCRIPTION;
        let shown = !ours && asked && self.stop.is_none();
        self.show(header, shown);
        Ok(())
    }

    /// What the client was told of a statement's columns, or, if it was prepared anew, whether that still holds.
    fn know_columns(&mut self, prepared: &Prepared, columns: u64, ours: bool) {
        let told = prepared.columns.load(Ordering::Relaxed);
        if ours && told != 0 && told != columns {
            // Stays lost: Bind is told so.
            prepared.columns.store(u64::MAX, Ordering::Relaxed);
            return;
        }
        if ours {
            prepared.lost.store(false, Ordering::Relaxed);
        } else {
            prepared.columns.store(columns, Ordering::Relaxed);
        }
    }

    // --- ends ---------------------------------------------------------------------------------------------------

    fn completed(&mut self, header: Header) -> Result<(), End> {
        let front = self.pending.front_mut().ok_or(UNEXPECTED)?;
        match &mut front.kind {
            Kind::Lookup { .. } => {
                let Pending { kind, .. } = self.pop(|_| true)?;
                match kind {
                    Kind::Lookup { of: Asked::Relations(names), rows } => {
                        let found = decode_overlay(&rows).map_err(|_| End::Internal("the overlay is unreadable"))?;
                        let all = self.confirmed.looked_up(&names, found.into_iter().map(Arc::new).collect());
                        self.catalog_is_old |= !all;
                    }
                    Kind::Lookup { of: Asked::Path, rows } => {
                        let value = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
                        let path = self.path_of(value.unwrap_or_default())?;
                        self.path_is(&path);
                        self.path_in_doubt = 0;
                        if self.status == TransactionStatus::Idle && !self.in_batch {
                            self.confirmed.leave_transaction();
                        }
                    }
                    _ => {}
                }
                self.predicted = None;
                self.down.skip(header.frame_len());
                return Ok(());
            }
            Kind::Execute(_) => {}
            Kind::Query(_) if header.tag != PORTAL_SUSPENDED => {}
            _ => return Err(UNEXPECTED),
        }
        let is_query = matches!(front.kind, Kind::Query(_));
        let tag = if header.tag == COMMAND_COMPLETE {
            read_command_complete(self.body(header)).map_err(|_| End::Server("a malformed tag"))?.into_owned()
        } else {
            String::new()
        };
        let running = self.front_running()?;
        if let Some(count) = written(&tag) {
            running.written += count;
        }
        let decided = Arc::clone(&running.decided);
        let at = running.at;
        let was_held = running.runs.iter().skip(at).any(is_held);
        if header.tag != PORTAL_SUSPENDED {
            // What it defined stays defined.
            if let Some(run) = running.runs.get_mut(at) {
                run.names.clear();
            }
        }
        running.at += 1;
        let still_held = running.runs.iter().skip(running.at).any(is_held);
        if was_held && !still_held {
            self.counted = self.counted.saturating_sub(1);
        }
        if let Some(statement) = decided.statements.get(at) {
            if header.tag == COMMAND_COMPLETE {
                self.confirm(&statement.effect, &tag);
            }
            if self.stop.is_none() {
                for notice in &statement.notices {
                    self.own_notice(notice);
                }
            }
        }
        let stopping = self.stop.is_some();
        if !is_query {
            let Pending { kind, .. } = self.pop(|_| true)?;
            if let Kind::Execute(mut running) = kind {
                match &mut self.steps {
                    Some(steps) if !stopping && !steps.texts.is_empty() => steps.running = Some(running),
                    steps => {
                        // What of a Query is not sent any more defines nothing.
                        if steps.is_some() {
                            let left = running.runs.iter_mut().skip(at + 1);
                            let names = left.flat_map(|run| std::mem::take(&mut run.names)).collect();
                            self.take_back(names);
                        }
                        self.record_end(&running);
                    }
                }
            }
            if stopping {
                self.finished_before_cancel();
            }
        }
        self.show(header, !stopping);
        Ok(())
    }

    /// The server says that a statement was done.
    fn confirm(&mut self, effect: &Effect, tag: &str) {
        if matches!(effect, Effect::None) {
            return;
        }
        if matches!(effect, Effect::DiscardAll) {
            self.temporary_since = None;
        }
        self.recovered |= matches!(effect, Effect::Commit { .. } | Effect::Rollback { .. } | Effect::RollbackTo(_));
        let ended = match effect {
            // COMMIT of a failed transaction.
            Effect::Commit { chain } if tag == "ROLLBACK" => {
                // Or PREPARE TRANSACTION where none was begun, which commits.
                self.path_in_doubt = self.batch;
                self.confirmed.apply(&Effect::Rollback { chain: *chain })
            }
            effect => self.confirmed.apply(effect),
        };
        self.catalog_is_old |= ended == Ended::Ddl;
    }

    /// The statement that met a limit was over before the cancel came. It must fail all the same.
    fn finished_before_cancel(&mut self) {
        let batch_is_open = !self.pending.iter().any(Pending::ends_batch);
        if let Some(stop) = &mut self.stop
            && batch_is_open
        {
            stop.after = After::FailBatch;
            stop.ended = true;
        }
    }

    fn ready(&mut self, header: Header) -> Result<(), End> {
        let status = TransactionStatus::read(self.body(header)).map_err(|_| End::Server("an unknown status"))?;
        let Pending { kind, batch, ours } =
            self.pop(|kind| matches!(kind, Kind::Sync | Kind::Query(_) | Kind::Refused { query: true, .. }))?;
        self.answered = batch;
        self.status = status;
        if status == TransactionStatus::Idle {
            // The implicit transaction of the batch, or what ended without the proxy seeing how.
            if self.failed {
                self.confirmed.rollback();
            } else {
                let ended = self.confirmed.commit();
                self.catalog_is_old |= ended == Ended::Ddl;
            }
            if self.scrub <= batch {
                self.scrub = 0;
            }
        }
        self.confirmed.set_block(status != TransactionStatus::Idle);
        self.failed = false;
        self.recovered = false;
        // In a transaction that failed the server tells of what is left by then, and its end may bring back another.
        if status != TransactionStatus::Failed
            && let Some(path) = self.path_told.take()
        {
            self.path_is(&path);
            self.path_told = Some(path);
            if self.path_in_doubt <= batch {
                self.path_in_doubt = 0;
            }
        }
        if status == TransactionStatus::Idle && self.confirmed.leave_transaction() && self.path_told.is_none() {
            self.path_in_doubt = self.batch;
        }
        if let Kind::Query(running) = kind {
            self.record_end(&running);
        }
        if self.pending.is_empty() {
            self.predicted = None;
            self.statements.settle(batch);
            let in_block = status != TransactionStatus::Idle;
            self.portals.settle_by(batch, |portal| in_block || portal.hold);
        }
        let mut shown = !ours;
        if let Some(stop) = &mut self.stop
            && !stop.ended
        {
            // The batch is over before the cancel came.
            stop.ended = true;
            if status == TransactionStatus::InTransaction {
                // The block must not go on as if nothing had been.
                stop.after = After::FailBlock;
                shown = false;
            } else {
                let fields = told(&stop.denial);
                fields.write_error(self.down.out());
            }
        }
        self.show(header, shown);
        Ok(())
    }

    /// The schemas of a search_path as the server writes it.
    fn path_of(&self, value: &str) -> Result<Vec<String>, End> {
        let names = parse_list(value).ok_or(End::Server("a search_path that can't be read"))?;
        Ok(with_user(&names, &self.shared.gate.bound().identity.postgres_role))
    }

    /// The server has this search_path.
    fn path_is(&mut self, path: &[String]) {
        if self.confirmed.correct_path(path) {
            tracing::info!("the search_path is another than followed from what was sent; the server's own is taken");
            self.predicted = None;
        }
    }

    pub(super) fn record_end(&mut self, running: &Running) {
        let rows = if running.rows > 0 { running.rows } else { running.written };
        self.delivered_rows += running.rows;
        self.delivered_bytes += running.bytes;
        self.shared.metrics.delivered(running.rows, running.bytes);
        let duration = running.started.elapsed();
        self.shared.metrics.upstream_took(duration);
        if let Some(window) =
            running.runs.iter().filter_map(|run| run.what.statement()).find_map(|one| one.limits.window)
        {
            let (rows, bytes) = self.shared.budget.left(&window, std::time::Instant::now());
            self.shared.metrics.window_left(rows, bytes);
        }
        self.audit.statement_end(&StatementEnd {
            statement: running.audit,
            rows,
            bytes: running.bytes,
            duration,
            sqlstate: running.sqlstate.as_deref(),
            limit: running.limit,
        });
    }

    // --- errors and notices -------------------------------------------------------------------------------------

    /// The server reports an error; it has been taken out of what goes to the client.
    fn failed_with(&mut self, mut fields: Fields) -> Result<(), End> {
        self.failed = true;
        self.copy_in = false;
        let fatal = matches!(fields.severity(), "FATAL" | "PANIC");
        self.told_fatal |= fatal;
        // An error ends more than a transaction, or less, by ways that are not followed here.
        let of_batch = self.pending.front().map_or(u64::MAX, |front| front.batch);
        if self.odd >= of_batch || fields.code().starts_with("XX") {
            self.path_in_doubt = self.batch;
        }
        let Some(front) = self.pending.front_mut() else {
            // Of no statement: the server ends the session.
            let fields = self.scrubbed(fields);
            fields.write_error(self.down.out());
            return Ok(());
        };
        // What the proxy asks in the midst of a client's batch fails that batch; what it asks between them fails the
        // message that it is asked for.
        let hidden = front.ours && !self.in_batch && !fatal;
        if hidden {
            tracing::warn!(code = fields.code(), "a catalog query of the proxy's own failed");
            self.look_up_failed = true;
        }
        let fields_say_timeout = fields.message().contains("statement timeout");
        let placed =
            self.steps.is_none() && front.placed().is_none_or(|(text, sent)| replace_position(text, sent, &mut fields));
        let statement = front.running().and_then(|running| running.run()).and_then(|run| run.what.statement());
        let marked = scrub::marked(&fields, statement).filter(|_| !fatal);
        let was_held = front.running().is_some_and(|running| running.runs.iter().skip(running.at).any(is_held));
        let shown = match (&front.kind, &mut self.stop) {
            (Kind::Refused { denial, .. }, _) if fields.code() != "25P02" && !fatal => told(denial),
            (_, Some(stop)) if !stop.ended && !fatal => {
                stop.ended = true;
                told(&stop.denial)
            }
            _ => match marked {
                Some(denial) => {
                    self.shared.metrics.denial(denial.reason);
                    told(&denial)
                }
                None => {
                    let mut fields = self.scrubbed(fields);
                    if !placed {
                        fields.remove(Fields::POSITION);
                    }
                    fields
                }
            },
        };
        let code = shown.code().to_owned();
        if code == "57014"
            && let Some(running) = self.pending.front_mut().and_then(Pending::running)
            && fields_say_timeout
        {
            running.limit = Some("statement_timeout");
        }
        if !hidden {
            shown.write_error(self.down.out());
        }
        if was_held {
            self.counted = self.counted.saturating_sub(1);
        }
        self.skip_failed(&code);
        Ok(())
    }

    /// The server skips what is left of the batch.
    fn skip_failed(&mut self, code: &str) {
        match self.pending.front_mut().map(|front| &mut front.kind) {
            Some(Kind::Query(running)) => {
                running.sqlstate = Some(code.to_owned());
                let names = running.runs.iter_mut().flat_map(|run| std::mem::take(&mut run.names)).collect();
                // Nothing of it runs any more.
                running.at = running.runs.len();
                self.take_back(names);
            }
            Some(Kind::Sync | Kind::Refused { query: true, .. }) | None => {}
            Some(_) => {
                let mut names: Vec<Taken> = Vec::new();
                let mut first = true;
                while let Some(pending) = self.pending.pop_front_if(|pending| !matches!(pending.kind, Kind::Sync)) {
                    match pending.kind {
                        Kind::Parse(undo, _) => names.extend(undo.map(Taken::Statement)),
                        Kind::Bind(undo) => names.extend(undo.map(Taken::Portal)),
                        Kind::Close(taken) => names.extend(taken),
                        Kind::Execute(mut running) | Kind::Query(mut running) => {
                            names.extend(running.runs.iter_mut().flat_map(|run| std::mem::take(&mut run.names)));
                            if !first && running.runs.iter().skip(running.at).any(is_held) {
                                self.counted = self.counted.saturating_sub(1);
                            }
                            running.sqlstate = Some(code.to_owned());
                            self.record_end(&running);
                        }
                        _ => {}
                    }
                    first = false;
                }
                self.take_back(names);
                if self.pending.is_empty() {
                    // Its Sync is yet to be sent.
                    self.skip_to_sync = true;
                    self.predicted = None;
                }
            }
        }
    }

    fn is_scrubbing(&self) -> bool {
        self.scrub > 0 && self.is_enforcing()
    }

    fn scrubbed(&self, mut fields: Fields) -> Fields {
        if self.is_scrubbing() {
            scrub::scrub(&mut fields, &self.shared.gate.bound());
        }
        fields
    }

    fn notice(&mut self, header: Header) -> Result<(), End> {
        if self.pending.front().is_some_and(|front| front.ours && matches!(front.kind, Kind::Lookup { .. })) {
            self.down.skip(header.frame_len());
            return Ok(());
        }
        if !self.is_scrubbing() {
            self.down.pass(header.frame_len());
            return Ok(());
        }
        let mut fields = Fields::read(self.body(header)).map_err(|_| End::Server("a malformed notice"))?;
        scrub::scrub(&mut fields, &self.shared.gate.bound());
        self.down.skip(header.frame_len());
        fields.write_notice(self.down.out());
        Ok(())
    }

    /// A notice of the proxy's own, once in a session.
    fn own_notice(&mut self, notice: &Notice) {
        /// What one session remembers of them.
        const MOST: usize = 1000;
        if self.noticed.len() < MOST && self.noticed.insert((notice.about, Arc::clone(&notice.column))) {
            Fields::new("NOTICE", "01000", &*notice.text).write_notice(self.down.out());
        }
    }

    // --- settings and COPY --------------------------------------------------------------------------------------

    fn setting(&mut self, header: Header) -> Result<(), End> {
        let status = ParameterStatus::read(self.body(header)).map_err(|_| End::Server("a malformed setting"))?;
        if status.name == "application_name" {
            // What the client will set later may be on its way: so it is read from what the server has.
            let value = self.own_application_name(&status.value);
            self.down.skip(header.frame_len());
            ParameterStatus { name: "application_name".into(), value: value.into() }.write(self.down.out());
            return Ok(());
        }
        let shown = !status.name.starts_with("postern.");
        if status.name == "search_path" {
            let value = status.value.into_owned();
            self.path_told = Some(self.path_of(&value)?);
        }
        self.show(header, shown);
        Ok(())
    }

    /// The client's part of the upstream's `application_name`.
    fn own_application_name(&self, upstream: &str) -> String {
        match upstream.splitn(4, '/').nth(3) {
            Some(own) if upstream.len() < MAX_IDENTIFIER => own.to_owned(),
            Some(cut) => {
                let known = [self.confirmed.application_name(), self.state().application_name()];
                known.into_iter().map(|name| &**name).find(|name| name.starts_with(cut)).unwrap_or(cut).to_owned()
            }
            None => self.state().application_name().to_string(),
        }
    }

    fn copy_in(&mut self, header: Header) -> Result<(), End> {
        let running = self.front_running()?;
        let ended = running.copies_ended > 0;
        running.copies_ended = running.copies_ended.saturating_sub(1);
        // Up to the end of the data the server ignores Sync; what of that is on its way is not owed.
        let most = if ended { std::mem::take(&mut running.syncs_in_copy) } else { usize::MAX };
        let syncs = self.pending.iter().skip(1).take_while(|pending| matches!(pending.kind, Kind::Sync)).count();
        let ignored = syncs.min(most);
        if ignored > 0 {
            self.pending.drain(1..=ignored);
            self.in_batch |= self.pending.len() == 1 && !self.pending.iter().any(Pending::ends_batch);
        }
        self.copy_in = !ended;
        self.down.pass(header.frame_len());
        Ok(())
    }
}

/// Moves an error's position from the rewritten text to the client's; false if it has no place there.
fn replace_position(text: Option<&str>, rewritten: &str, fields: &mut Fields) -> bool {
    let position = fields.get(Fields::POSITION).and_then(|position| position.parse().ok());
    let original = text.zip(position).and_then(|(text, position)| sql::original_position(text, rewritten, position));
    if let Some(original) = original {
        fields.set(Fields::POSITION, original.to_string());
    }
    original.is_some()
}

/// A refusal as the client reads it; its position is in characters from 1 by now.
fn told(denial: &Denial) -> Fields {
    let mut fields = Fields::new("ERROR", denial.sqlstate, denial.message.as_str());
    let mut detail = format!("Reason: {}.", denial.reason.as_str());
    if let Some(rule) = &denial.rule {
        detail.push_str(&format!(" Rule: {rule}."));
    }
    if let Some(object) = &denial.object {
        detail.push_str(&format!(" Object: {object}."));
    }
    // What the server says just so needs no reason.
    let is_the_servers = matches!(denial.sqlstate, "26000" | "34000" | "42601" | "42P01")
        || (denial.sqlstate == "42704" && denial.reason == Reason::UnknownRelation);
    if !is_the_servers {
        fields.set(Fields::DETAIL, detail);
    }
    if let Some(hint) = &denial.hint {
        fields.set(Fields::HINT, hint.as_ref());
    }
    if let Some(position) = denial.position {
        fields.set(Fields::POSITION, position.to_string());
    }
    fields
}

/// Result columns by name, type and modifier; never 0.
fn columns_hash(tag: u8, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    tag.hash(&mut hasher);
    if let Ok(fields) = backend::read_row_description(body)
        && tag == ROW_DESCRIPTION
    {
        for field in fields {
            (field.name, field.type_oid, field.type_modifier).hash(&mut hasher);
        }
    }
    hasher.finish().clamp(1, u64::MAX - 1)
}

/// Rows that a command tag says were written.
fn written(tag: &str) -> Option<u64> {
    let (command, rest) = tag.split_once(' ')?;
    matches!(command, "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY")
        .then(|| rest.rsplit(' ').next()?.parse().ok())?
}
