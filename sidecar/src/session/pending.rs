//! What the server still owes: a reply, in order, for each message that was sent to it.

use std::sync::Arc;
use std::time::Instant;

use super::limits::Usage;
use super::statements::{Portal, Prepared, Undo};
use crate::analyze::{Decided, Effect, Statement};
use crate::catalog::WrittenName;
use crate::decide::Denial;

/// One message that was sent, and is not answered.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) kind: Kind,
    /// The batch that it is in: the messages up to a Sync, or one Query.
    pub(super) batch: u64,
    /// Sent by the proxy itself: the client must not see the answer.
    pub(super) ours: bool,
}

/// What is owed.
#[derive(Debug)]
pub(super) enum Kind {
    /// ParseComplete.
    Parse(Option<Undo<Prepared>>, Option<Placed>),
    /// BindComplete.
    Bind(Option<Undo<Portal>>),
    /// For a statement: ParameterDescription, then RowDescription or NoData.
    DescribeStatement(Option<Arc<Prepared>>),
    /// RowDescription or NoData.
    DescribePortal,
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Box<Running>),
    /// CloseComplete.
    Close(Vec<Taken>),
    /// ReadyForQuery.
    Sync,
    /// For each statement rows and CommandComplete or EmptyQueryResponse; then ReadyForQuery.
    Query(Box<Running>),
    /// An error: in place of what was refused, a statement went up that must fail. For a Query ReadyForQuery follows.
    Refused { denial: Box<Denial>, query: bool },
    /// Rows of the proxy's own catalog query, then CommandComplete.
    Lookup { of: Asked, rows: Vec<Vec<Option<String>>> },
}

/// A client's text and what was sent in its place: errors have places in it.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) text: Arc<str>,
    pub(super) decided: Arc<Decided>,
}

/// What the proxy asks on the session's own connection.
#[derive(Debug)]
pub(super) enum Asked {
    /// Relations of these names.
    Relations(Vec<WrittenName>),
    /// `search_path`.
    Path,
}

/// A definition that is taken back if what made it fails.
#[derive(Debug)]
pub(super) enum Taken {
    Statement(Undo<Prepared>),
    Portal(Undo<Portal>),
}

/// One statement among those of a text that was decided.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) decided: Arc<Decided>,
    pub(super) index: usize,
    /// What it prepares or declares, instead of itself.
    pub(super) inner: bool,
}

impl Chosen {
    /// The statement; None for an empty text.
    pub(super) fn statement(&self) -> Option<&Statement> {
        let statement = self.decided.statements.get(self.index)?;
        match &statement.effect {
            Effect::Prepare { decided, .. } | Effect::Declare { decided, .. } if self.inner => Some(decided),
            _ => Some(statement),
        }
    }
}

/// A statement as it runs.
#[derive(Debug)]
pub(super) struct Run {
    /// What gives the rows: for EXECUTE and FETCH, what was prepared or declared.
    pub(super) what: Chosen,
    /// What of its result left so far.
    pub(super) usage: Arc<Usage>,
    /// Whether that is counted against limits.
    pub(super) counted: bool,
    /// Names that it defines or removes.
    pub(super) names: Vec<Taken>,
}

/// An Execute or a Query as it runs.
#[derive(Debug)]
pub(super) struct Running {
    /// The client's text, of a Query: errors have places in it.
    pub(super) text: Option<Arc<str>>,
    /// The text's decision; its effects are those that happen.
    pub(super) decided: Arc<Decided>,
    /// Its statements.
    pub(super) runs: Vec<Run>,
    /// Which of them runs now.
    pub(super) at: usize,
    /// Its id in the audit.
    pub(super) audit: u64,
    pub(super) started: Instant,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Rows that the server's command tag says were written.
    pub(super) written: u64,
    /// COPYs of it whose data the client ended before it was asked for them.
    pub(super) copies_ended: usize,
    /// Syncs that were sent in the midst of such data.
    pub(super) syncs_in_copy: usize,
    /// The limit that ended it.
    pub(super) limit: Option<&'static str>,
    /// SQLSTATE of its error.
    pub(super) sqlstate: Option<String>,
}

impl Running {
    /// The statement that runs now.
    pub(super) fn run(&self) -> Option<&Run> {
        self.runs.get(self.at)
    }

    /// What the statement that runs now does.
    pub(super) fn effect(&self) -> &Effect {
        self.decided.statements.get(self.at).map_or(&Effect::None, |statement| &statement.effect)
    }
}

impl Pending {
    /// What runs, if this is what runs.
    pub(super) fn running(&mut self) -> Option<&mut Running> {
        match &mut self.kind {
            Kind::Execute(running) | Kind::Query(running) => Some(running),
            _ => None,
        }
    }

    /// The text in which an error of it has its place, if that was rewritten.
    pub(super) fn placed(&self) -> Option<(Option<&str>, &str)> {
        let (text, decided) = match &self.kind {
            Kind::Execute(running) | Kind::Query(running) => (running.text.as_deref(), &running.decided),
            Kind::Parse(_, Some(Placed { text, decided })) => (Some(&**text), decided),
            _ => return None,
        };
        Some((text, decided.rewritten.as_deref()?))
    }

    /// Whether ReadyForQuery ends it.
    pub(super) const fn ends_batch(&self) -> bool {
        matches!(self.kind, Kind::Sync | Kind::Query(_) | Kind::Refused { query: true, .. })
    }
}
