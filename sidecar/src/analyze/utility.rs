//! Utility statements: everything that is not SELECT, INSERT, UPDATE, DELETE or MERGE.
//!
//! **Promise.** Every kind of statement that the grammar knows is named here or in [`super::ddl`], with what it needs or
//! that no policy can allow it; one that is not named is refused. A statement within a statement (PREPARE, DECLARE,
//! EXPLAIN, COPY) is decided as it would be alone.

use std::slice;
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::{ISOLATION_SETTING, MaskKind, Verb};

use super::scope::{Column, Item, Scope, Source};
use super::tree::{self, string_of, unsupported};
use super::view::select;
use super::{Analyzer, Effect, Place, Statement, function};
use crate::catalog::load::is_system_schema;
use crate::catalog::names::cut_identifier;
use crate::catalog::{Relation, RelationKind};
use crate::decide::bound::ColumnView;
use crate::decide::settings::{self, SetDecision, ShowDecision};
use crate::decide::{Denial, Reason};
use crate::sql;

/// Refuses a kind of statement that no policy can allow.
pub(crate) fn forbidden(what: &str) -> Denial {
    Denial::new(Reason::Forbidden, format!("permission denied: no policy can allow {what}"))
}

/// `CURSOR_OPT_HOLD` of the server.
const CURSOR_HOLD: i32 = 0x0020;

/// An option of EXPLAIN, off.
fn switched_off(option: &str) -> Node {
    tree::node(NodeEnum::DefElem(Box::new(pb::DefElem {
        defname: option.to_owned(),
        arg: tree::boxed(tree::string("off")),
        defaction: pb::DefElemAction::DefelemUnspec as i32,
        location: -1,
        ..pb::DefElem::default()
    })))
}

/// Lock mode of SELECT.
const ACCESS_SHARE: i32 = 1;

/// Options of EXPLAIN that the proxy knows.
const EXPLAIN_OPTIONS: [&str; 11] = [
    "analyze",
    "verbose",
    "costs",
    "settings",
    "generic_plan",
    "buffers",
    "serialize",
    "wal",
    "timing",
    "summary",
    "memory",
];

/// Options of COPY that the proxy knows.
const COPY_OPTIONS: [&str; 15] = [
    "format",
    "freeze",
    "delimiter",
    "null",
    "default",
    "header",
    "quote",
    "escape",
    "force_quote",
    "force_not_null",
    "force_null",
    "encoding",
    "on_error",
    "reject_limit",
    "log_verbosity",
];

impl Analyzer<'_> {
    /// Decides a statement that is no query and no plain write.
    pub(crate) fn utility(&mut self, node: &mut Node) -> Result<(), Denial> {
        let Some(statement) = &mut node.node else { return Err(unsupported("an empty statement")) };
        match statement {
            // The session
            NodeEnum::TransactionStmt(transaction) => self.transaction(transaction),
            NodeEnum::VariableSetStmt(set) => self.set(set),
            NodeEnum::VariableShowStmt(show) if show.name.eq_ignore_ascii_case("all") => self.show_all(node),
            NodeEnum::VariableShowStmt(show) => self.show(&show.name),
            NodeEnum::DiscardStmt(discard) => self.discard(discard.target),
            NodeEnum::ConstraintsSetStmt(_) => Ok(()),
            // It is there: the server says so, and does nothing.
            NodeEnum::CreateExtensionStmt(create)
                if create.if_not_exists && self.catalog.extensions.contains(create.extname.as_str()) =>
            {
                let grant = self.allows(Verb::Ddl)?;
                self.granted(&grant, Verb::Ddl);
                Ok(())
            }
            NodeEnum::LockStmt(lock) => self.lock(lock),
            NodeEnum::ListenStmt(listen) => {
                let channel = listen.conditionname.clone();
                self.may_notify(&channel)
            }
            NodeEnum::NotifyStmt(notify) => {
                let channel = notify.conditionname.clone();
                self.may_notify(&channel)
            }
            NodeEnum::UnlistenStmt(_) => Ok(()),
            // Statements within statements
            NodeEnum::PrepareStmt(prepare) => self.prepare(prepare),
            NodeEnum::ExecuteStmt(execute) => self.execute(execute),
            NodeEnum::DeallocateStmt(deallocate) => {
                let name = Some(deallocate.name.clone()).filter(|name| !deallocate.isall && !name.is_empty());
                self.out.effect = Effect::Deallocate(name);
                Ok(())
            }
            NodeEnum::DeclareCursorStmt(declare) => self.declare(declare),
            NodeEnum::FetchStmt(fetch) => {
                self.out.effect = Effect::Fetch { name: fetch.portalname.clone() };
                self.out.returns_rows = !fetch.ismove;
                Ok(())
            }
            NodeEnum::ClosePortalStmt(close) => {
                let name = Some(close.portalname.clone()).filter(|name| !name.is_empty());
                self.out.effect = Effect::CloseCursor(name);
                Ok(())
            }
            NodeEnum::ExplainStmt(explain) => self.explain(explain),
            NodeEnum::CopyStmt(copy) => self.copy(copy),
            NodeEnum::CallStmt(call) => self.call(call),
            NodeEnum::DoStmt(block) => self.block(block),
            // Relations as a whole
            NodeEnum::TruncateStmt(truncate) => self.truncate(truncate),
            NodeEnum::VacuumStmt(vacuum) => self.vacuum(vacuum),
            NodeEnum::ReindexStmt(reindex) => self.reindex(reindex),
            NodeEnum::ClusterStmt(cluster) => match &mut cluster.relation {
                // Rows are then in the order of an index, beside those that the client stores: that tells their values.
                Some(range) => {
                    let relation = self.maintains(range)?;
                    self.is_plain(&relation)?;
                    self.no_verbose(&cluster.params, &relation)
                }
                // What was clustered before, by the index that its owner chose.
                None => self.maintains_all(None, &cluster.params),
            },
            NodeEnum::RefreshMatViewStmt(refresh) => {
                let range = refresh.relation.as_mut().ok_or_else(|| unsupported("REFRESH"))?;
                self.maintains(range).map(|_| ())
            }
            NodeEnum::CheckPointStmt(_) => {
                let grant = self.allows(Verb::Maintenance)?;
                self.granted(&grant, Verb::Maintenance);
                Ok(())
            }
            // Definitions
            NodeEnum::SelectStmt(_)
            | NodeEnum::CreateTableAsStmt(_)
            | NodeEnum::CreateStmt(_)
            | NodeEnum::ViewStmt(_)
            | NodeEnum::IndexStmt(_)
            | NodeEnum::CreateSeqStmt(_)
            | NodeEnum::AlterSeqStmt(_)
            | NodeEnum::CreateSchemaStmt(_)
            | NodeEnum::CreateEnumStmt(_)
            | NodeEnum::CompositeTypeStmt(_)
            | NodeEnum::CreateDomainStmt(_)
            | NodeEnum::AlterEnumStmt(_)
            | NodeEnum::AlterDomainStmt(_)
            | NodeEnum::AlterTableStmt(_)
            | NodeEnum::RenameStmt(_)
            | NodeEnum::AlterObjectSchemaStmt(_)
            | NodeEnum::DropStmt(_)
            | NodeEnum::CommentStmt(_) => self.define(node),
            other => Err(refusal(other)),
        }
    }

    fn transaction(&mut self, transaction: &mut pb::TransactionStmt) -> Result<(), Denial> {
        use pb::TransactionStmtKind as Kind;
        let name = transaction.savepoint_name.clone();
        let chain = transaction.chain;
        self.out.effect = match Kind::try_from(transaction.kind) {
            Ok(Kind::TransStmtBegin | Kind::TransStmtStart) => {
                self.transaction_modes(&transaction.options)?;
                Effect::Begin
            }
            Ok(Kind::TransStmtCommit) => Effect::Commit { chain },
            Ok(Kind::TransStmtRollback) => Effect::Rollback { chain },
            Ok(Kind::TransStmtSavepoint) => Effect::Savepoint(name),
            Ok(Kind::TransStmtRelease) => Effect::Release(name),
            Ok(Kind::TransStmtRollbackTo) => Effect::RollbackTo(name),
            // All that was decided is checked by now, deferred constraints too. What it made is seen once it is committed.
            Ok(Kind::TransStmtPrepare) => {
                self.own_transaction(transaction)?;
                Effect::Commit { chain: false }
            }
            Ok(Kind::TransStmtCommitPrepared) => {
                self.own_transaction(transaction)?;
                Effect::CatalogChange { names: Vec::new(), types: Vec::new(), temporary: false }
            }
            Ok(Kind::TransStmtRollbackPrepared) => {
                self.own_transaction(transaction)?;
                Effect::None
            }
            Ok(Kind::Undefined) | Err(_) => return Err(unsupported("a transaction statement")),
        };
        Ok(())
    }

    fn transaction_modes(&mut self, modes: &[Node]) -> Result<(), Denial> {
        for mode in modes {
            let Some(NodeEnum::DefElem(mode)) = &mode.node else { return Err(unsupported("a transaction mode")) };
            if mode.defname == ISOLATION_SETTING {
                let level = mode
                    .arg
                    .as_deref()
                    .and_then(function::text_of)
                    .ok_or_else(|| unsupported("this isolation level"))?;
                self.settings(|context| settings::set(context, ISOLATION_SETTING, Some(slice::from_ref(&level))))?;
            }
        }
        Ok(())
    }

    /// Two-phase commit. What is prepared keeps its locks when the session is over, and is nobody's in the server: so each
    /// identity has names of its own for it.
    fn own_transaction(&mut self, transaction: &mut pb::TransactionStmt) -> Result<(), Denial> {
        let grant = self.allows(Verb::Lock)?;
        self.granted(&grant, Verb::Lock);
        transaction.gid.insert_str(0, &self.policy.prepared_prefix());
        self.changed = true;
        Ok(())
    }

    fn set(&mut self, set: &mut pb::VariableSetStmt) -> Result<(), Denial> {
        use pb::VariableSetKind as Kind;
        let kind = Kind::try_from(set.kind).unwrap_or(Kind::Undefined);
        let values: Option<Vec<String>> = match kind {
            Kind::VarSetValue => {
                // TIME ZONE may be given as an interval, all else as what it is.
                let of_each = |value: &Node| match &value.node {
                    Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().and_then(function::text_of),
                    _ => function::text_of(value),
                };
                let values = set.args.iter().map(of_each).collect::<Option<Vec<String>>>();
                Some(values.ok_or_else(|| unsupported("the value of this setting"))?)
            }
            Kind::VarSetDefault | Kind::VarReset => None,
            Kind::VarResetAll => {
                self.out.effect = Effect::ResetAll;
                return Ok(());
            }
            // Another transaction's view of the same rows.
            Kind::VarSetMulti if set.name == "TRANSACTION SNAPSHOT" => return Ok(()),
            // SET TRANSACTION, SET SESSION CHARACTERISTICS: isolation, read only, deferrable.
            Kind::VarSetMulti => return self.transaction_modes(&set.args),
            Kind::VarSetCurrent | Kind::Undefined => return Err(unsupported("SET … FROM CURRENT")),
        };
        if values.is_none() && set.name == "session_authorization" {
            // Connection pools send it. On some versions of the server it would end the role too; the role's own
            // reset is all that it can mean here.
            set.name = "role".to_owned();
            self.changed = true;
            self.out.session_rewrite = true;
        }
        match self.settings(|context| settings::set(context, &set.name, values.as_deref()))? {
            SetDecision::Pass => {}
            SetDecision::SearchPath(value) => {
                self.out.effect = Effect::SearchPath { value, local: set.is_local };
            }
            SetDecision::ApplicationName(value) => {
                if let Some(name) = &value {
                    let identity = &self.policy.identity;
                    let full = format!("postern/{}/{}/{name}", identity.namespace, identity.name);
                    set.args = vec![tree::literal(cut_identifier(&full))];
                    self.changed = true;
                    self.out.session_rewrite = true;
                }
                self.out.effect = Effect::ApplicationName { value, local: set.is_local };
            }
            SetDecision::Value(value) => {
                set.kind = Kind::VarSetValue as i32;
                set.args = vec![tree::literal(&value)];
                self.changed = true;
            }
        }
        Ok(())
    }

    fn show(&mut self, name: &str) -> Result<(), Denial> {
        self.out.returns_rows = true;
        self.out.at_most_one_row = true;
        match self.settings(|context| settings::show(context, name))? {
            ShowDecision::Pass => {}
            ShowDecision::ApplicationName => self.out.effect = Effect::ShowApplicationName,
        }
        Ok(())
    }

    /// SHOW ALL as a query over what pg_settings shows to the identity.
    fn show_all(&mut self, node: &mut Node) -> Result<(), Denial> {
        let sql = "SELECT s.name, s.setting, s.short_desc AS description FROM pg_catalog.pg_settings s ORDER BY 1";
        let mut tree = sql::parse(sql, &sql::ParseLimits::default())?.tree;
        let statement = tree.stmts.pop().and_then(|raw| raw.stmt).ok_or_else(|| unsupported("SHOW ALL"))?;
        *node = *statement;
        self.changed = true;
        self.statement(node)
    }

    fn discard(&mut self, target: i32) -> Result<(), Denial> {
        use pb::DiscardMode as Mode;
        self.out.effect = match Mode::try_from(target) {
            Ok(Mode::DiscardAll) => Effect::DiscardAll,
            Ok(Mode::DiscardTemp) => Effect::DiscardTemp,
            Ok(Mode::DiscardPlans | Mode::DiscardSequences) => Effect::None,
            Ok(Mode::Undefined) | Err(_) => return Err(unsupported("DISCARD")),
        };
        Ok(())
    }

    fn lock(&mut self, lock: &mut pb::LockStmt) -> Result<(), Denial> {
        for node in &mut lock.relations {
            let Some(NodeEnum::RangeVar(range)) = &mut node.node else { return Err(unsupported("LOCK")) };
            let relation = self.relation(range)?;
            if relation.temporary {
                continue;
            }
            if relation.system {
                return Err(forbidden("LOCK of a catalog relation"));
            }
            // pg_dump locks what it reads; stronger modes are in the way of others.
            let verb = if lock.mode == ACCESS_SHARE { Verb::Select } else { Verb::Lock };
            let grant = self.ask(&relation, verb)?;
            self.record(&relation, &grant, verb);
        }
        Ok(())
    }

    fn prepare(&mut self, prepare: &mut pb::PrepareStmt) -> Result<(), Denial> {
        let mut types = Vec::with_capacity(prepare.argtypes.len());
        for kind in &mut prepare.argtypes {
            match &mut kind.node {
                Some(NodeEnum::TypeName(name)) => types.push(self.type_name(Some(name))?.unwrap_or(0)),
                _ => return Err(unsupported("PREPARE")),
            }
        }
        let query = prepare.query.as_deref_mut().ok_or_else(|| unsupported("PREPARE"))?;
        // Kept as the client meant it, to be decided again under another policy.
        let inner = pb::ParseResult {
            version: 0,
            stmts: vec![pb::RawStmt { stmt: Some(Box::new(query.clone())), stmt_location: 0, stmt_len: 0 }],
        };
        self.parameters.declare(&types);
        self.statement(query)?;
        // Not before: what can't be written is refused by the walk.
        let inner = sql::emit(&inner)?;
        let decided = Box::new(self.out.clone());
        self.out.returns_rows = false;
        self.out.writes = false;
        self.out.effect = Effect::Prepare { name: prepare.name.clone(), inner: inner.into(), types, decided };
        Ok(())
    }

    fn execute(&mut self, execute: &mut pb::ExecuteStmt) -> Result<(), Denial> {
        for parameter in &mut execute.params {
            self.alone(parameter)?;
        }
        self.out.returns_rows = true;
        self.out.effect = Effect::Execute { name: execute.name.clone() };
        Ok(())
    }

    /// EXECUTE as a part of another statement: what was prepared is what that is decided by.
    pub(crate) fn execute_within(&mut self, execute: &mut pb::ExecuteStmt) -> Result<(), Denial> {
        let prepared = self.session.prepared.get(&execute.name).and_then(|decided| match &*decided.statements {
            [Statement { effect: Effect::None, .. }] => decided.statements.first(),
            _ => None,
        });
        let Some(prepared) = prepared else {
            let message = format!("prepared statement \"{}\" does not exist", execute.name);
            return Err(Denial::new(Reason::Protocol, message).sqlstate("26000"));
        };
        let own = std::mem::replace(&mut self.out, prepared.clone());
        own.verbs.iter().for_each(|verb| self.need(verb));
        self.out.limits = self.out.limits.and(own.limits);
        self.out.rule = own.rule.or(self.out.rule.take());
        self.out.runs_prepared = Some(execute.name.clone());
        execute.params.iter_mut().try_for_each(|parameter| self.alone(parameter))
    }

    fn declare(&mut self, declare: &mut pb::DeclareCursorStmt) -> Result<(), Denial> {
        let query = declare.query.as_deref_mut().ok_or_else(|| unsupported("DECLARE"))?;
        if !matches!(query.node, Some(NodeEnum::SelectStmt(_))) {
            return Err(unsupported("a cursor over something that is no query"));
        }
        self.statement(query)?;
        let decided = Box::new(self.out.clone());
        self.out.returns_rows = false;
        self.out.effect =
            Effect::Declare { name: declare.portalname.clone(), hold: declare.options & CURSOR_HOLD != 0, decided };
        Ok(())
    }

    fn call(&mut self, call: &mut pb::CallStmt) -> Result<(), Denial> {
        let inner = call.funccall.take().ok_or_else(|| unsupported("CALL"))?;
        let mut node = tree::node(NodeEnum::FuncCall(inner));
        self.alone(&mut node)?;
        match node.node {
            Some(NodeEnum::FuncCall(walked)) => call.funccall = Some(walked),
            _ => return Err(unsupported("CALL")),
        }
        self.need(Verb::Call);
        self.out.writes = true;
        // INOUT arguments come back as a row.
        self.out.returns_rows = true;
        self.out.at_most_one_row = true;
        Ok(())
    }

    /// Walks an expression that stands alone: no columns are in its scope.
    pub(crate) fn alone(&mut self, node: &mut Node) -> Result<(), Denial> {
        self.over(Vec::new(), true, "", node)
    }

    /// Walks an expression over columns that hold what the client gives, such as those of a relation that it defines.
    pub(crate) fn over(
        &mut self,
        columns: Vec<Column>,
        complete: bool,
        alias: &str,
        node: &mut Node,
    ) -> Result<(), Denial> {
        self.scopes.levels.push(Scope::default());
        self.scopes.add(Item {
            alias: Some(Arc::from(alias)).filter(|_| !alias.is_empty()),
            aliased: true,
            source: Source::Derived { columns, complete },
        });
        let result = self.expression(node, Place::default()).map(|_| ());
        self.scopes.levels.pop();
        result
    }

    fn explain(&mut self, explain: &mut pb::ExplainStmt) -> Result<(), Denial> {
        let mut analyze = false;
        for option in &explain.options {
            let Some(NodeEnum::DefElem(option)) = &option.node else { return Err(unsupported("EXPLAIN")) };
            let name = option.defname.to_ascii_lowercase();
            if name != "format" && !EXPLAIN_OPTIONS.contains(&name.as_str()) {
                return Err(unsupported(&format!("EXPLAIN ({name})")));
            }
            // The last of several holds; any that may be on counts here.
            analyze |= name == "analyze" && is_on(option);
        }
        let query = explain.query.as_deref_mut().ok_or_else(|| unsupported("EXPLAIN"))?;
        match &query.node {
            Some(of) if tree::is_query(of) || matches!(of, NodeEnum::DeclareCursorStmt(_)) => self.statement(query)?,
            Some(NodeEnum::ExecuteStmt(_)) => {}
            _ => {
                return Err(unsupported("EXPLAIN of something else than a query or a write")
                    .hint("EXPLAIN the query itself, not its CREATE TABLE AS."));
            }
        }
        if let Some(NodeEnum::ExecuteStmt(execute)) = &mut query.node {
            self.execute_within(execute)?;
        }
        let writes = self.out.writes;
        self.out.effect = Effect::None;
        self.out.writes &= analyze;
        self.out.returns_rows = true;
        self.out.at_most_one_row = false;
        let filtered = |oid| self.policy.view(oid).is_some_and(|view| view.filter.is_some() || view.place_tells);
        // A write looks at what refers to its rows.
        let dependants = |oid: &u32| self.catalog.foreign_keys_to(*oid).map(|(dependant, _)| dependant.oid);
        let beside = self.out.touched.iter().filter(|_| writes).flat_map(dependants);
        let Some(oid) = self.out.touched.iter().copied().chain(beside).find(|oid| filtered(*oid)) else {
            if self.out.writes && self.out.second_wall {
                self.runs_no_triggers()?;
                // How much a write logs and touches tells how much of a masked value it repeats.
                explain.options.retain(|option| match &option.node {
                    Some(NodeEnum::DefElem(option)) => {
                        !["wal", "buffers"].iter().any(|name| option.defname.eq_ignore_ascii_case(name))
                    }
                    _ => false,
                });
                explain.options.push(switched_off("buffers"));
                self.changed = true;
            }
            return Ok(());
        };
        if analyze {
            let name = self.catalog.relations.get(&oid).map(|relation| relation.qualified_name()).unwrap_or_default();
            let has_filter = self.policy.view(oid).is_some_and(|view| view.filter.is_some());
            let (reason, what) = if has_filter {
                (Reason::RowFilter, format!("count rows of {name} that a row filter hides"))
            } else {
                (Reason::SystemRelation, format!("tell in which partition rows of {name} are, and so what is masked"))
            };
            return Err(Denial::new(reason, format!("EXPLAIN ANALYZE would {what}"))
                .object(name)
                .hint("EXPLAIN without ANALYZE shows the plan."));
        }
        // Estimates come from all rows. What a plan's nodes put out is how drivers find out which columns an outer join may leave NULL.
        explain.options.retain(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) => {
                ["format", "verbose", "generic_plan"].iter().any(|name| option.defname.eq_ignore_ascii_case(name))
            }
            _ => false,
        });
        explain.options.push(switched_off("costs"));
        self.changed = true;
        Ok(())
    }

    /// EXPLAIN ANALYZE names the triggers that a write ran: one that checks a key runs only if that is not what it was.
    fn runs_no_triggers(&self) -> Result<(), Denial> {
        let runs = |relation: &&Arc<Relation>| {
            let is_referred_to = || self.catalog.foreign_keys_to(relation.oid).next().is_some();
            !relation.foreign_keys.is_empty() || !relation.triggers.is_empty() || is_referred_to()
        };
        let relations =
            self.out.touched.iter().flat_map(|oid| self.catalog.descendants(*oid).into_iter().chain([*oid]));
        let Some(relation) = relations.filter_map(|oid| self.catalog.relations.get(&oid)).find(runs) else {
            return Ok(());
        };
        let name = relation.qualified_name();
        let message = format!("EXPLAIN ANALYZE of a write would tell which triggers of {name} ran for a masked value");
        Err(Denial::new(Reason::Forbidden, message).object(name).hint("EXPLAIN without ANALYZE shows the plan."))
    }

    fn copy(&mut self, copy: &mut pb::CopyStmt) -> Result<(), Denial> {
        if copy.is_program || !copy.filename.is_empty() {
            return Err(forbidden("COPY with a file or program of the server").hint("COPY … TO STDOUT or FROM STDIN."));
        }
        for option in &mut copy.options {
            let Some(NodeEnum::DefElem(option)) = &mut option.node else { return Err(unsupported("COPY")) };
            plain_switch(option);
            if !COPY_OPTIONS.contains(&option.defname.to_ascii_lowercase().as_str()) {
                return Err(unsupported(&format!("COPY with the option {}", option.defname)));
            }
            has_value_to_write(option)?;
        }
        if copy.is_from { self.copy_in(copy) } else { self.copy_out(copy) }
    }

    fn copy_out(&mut self, copy: &mut pb::CopyStmt) -> Result<(), Denial> {
        self.out.effect = Effect::CopyOut;
        self.out.main_verb = Some(Verb::CopyOut);
        if let Some(range) = &mut copy.relation {
            let relation = self.relation(range)?;
            let (view, system_view) = self.reads(&relation, Verb::Select)?;
            if self.learner.is_some() && !relation.system && !relation.temporary {
                let names = self.copied_columns(&relation, &copy.attlist)?;
                self.learn_columns_of(&relation, |column| names.iter().any(|name| **name == *column.name));
            }
            if view.is_some() || system_view.is_some() {
                // The server copies neither; and what it may learn to copy would not be the view.
                if matches!(relation.kind, RelationKind::View | RelationKind::PartitionedTable) && !relation.system {
                    return Err(Denial::new(
                        Reason::Unsupported,
                        format!("cannot copy from \"{}\": it is no plain table", relation.name),
                    )
                    .sqlstate("42809")
                    .hint("Try the COPY (SELECT ...) TO variant."));
                }
                let names = self.copied_columns(&relation, &copy.attlist)?;
                let targets = names.iter().map(|name| tree::target("", tree::column(&relation.name, name))).collect();
                let only = pb::RangeVar { inh: false, alias: None, ..range.clone() };
                let query = select(targets, vec![tree::node(NodeEnum::RangeVar(only))], None);
                copy.query = tree::boxed(tree::query(query));
                copy.relation = None;
                copy.attlist.clear();
                self.changed = true;
            }
        }
        if let Some(query) = copy.query.as_deref_mut() {
            self.statement(query)?;
            self.out.effect = Effect::CopyOut;
            self.out.returns_rows = false;
        }
        self.may_copy_out()
    }

    /// CopyOut: the verb on everything that is read, and the policy's own word.
    fn may_copy_out(&mut self) -> Result<(), Denial> {
        let mut any = false;
        for oid in self.out.touched.clone() {
            let Some(relation) = self.catalog.relations.get(&oid).cloned() else { continue };
            if relation.system || relation.temporary {
                continue;
            }
            any = true;
            let grant = self.ask(&relation, Verb::CopyOut)?;
            self.record(&relation, &grant, Verb::CopyOut);
        }
        if !any {
            let grant = self.allows(Verb::CopyOut)?;
            self.granted(&grant, Verb::CopyOut);
        }
        self.out.main_verb = Some(Verb::CopyOut);
        self.bulk_export()
    }

    /// The columns that COPY of a relation means: those listed, else all that are visible and not generated.
    fn copied_columns(&self, relation: &Relation, listed: &[Node]) -> Result<Vec<String>, Denial> {
        if !listed.is_empty() {
            let names = listed.iter().map(|node| string_of(node).map(str::to_owned)).collect::<Option<Vec<_>>>();
            return names.ok_or_else(|| unsupported("a column list"));
        }
        let names: Vec<String> = relation
            .columns
            .iter()
            .filter(|column| column.generated.is_none() && !self.policy.hidden(relation.oid, column.number))
            .map(|column| column.name.to_string())
            .collect();
        if names.is_empty() { Err(unsupported("COPY of a relation without columns")) } else { Ok(names) }
    }

    fn copy_in(&mut self, copy: &mut pb::CopyStmt) -> Result<(), Denial> {
        self.out.effect = Effect::CopyIn;
        self.out.writes = true;
        let range = copy.relation.as_mut().ok_or_else(|| unsupported("COPY FROM"))?;
        let relation = self.relation(range)?;
        if relation.system && !relation.temporary {
            return Err(forbidden("a write to a catalog relation"));
        }
        if !relation.temporary {
            let grant = self.ask(&relation, Verb::CopyIn)?;
            self.record(&relation, &grant, Verb::CopyIn);
        }
        let name = relation.qualified_name();
        for oid in self.with_descendants(&relation) {
            if let Some(filter) = self.policy.view(oid).and_then(|view| view.filter.as_ref()) {
                return Err(Denial {
                    rule: Some(filter.rule.clone()),
                    ..Denial::new(Reason::RowFilter, format!("COPY into {name} can't be held to its row filter"))
                        .object(name)
                        .hint("Use INSERT: its rows are checked one by one.")
                });
            }
        }
        let view = self.policy.view(relation.oid).cloned();
        if let Some(view) = view.filter(|view| !view.columns.is_empty()) {
            let names = self.copied_columns(&relation, &copy.attlist)?;
            for written in &names {
                let Some(column) = relation.column(written) else { continue };
                match view.columns.get(&column.number) {
                    Some(ColumnView::Hidden) => {
                        return Err(Denial::new(
                            Reason::UnknownColumn,
                            format!("column \"{written}\" of relation \"{}\" does not exist", relation.name),
                        )
                        .sqlstate("42703")
                        .object(format!("{name}.{written}")));
                    }
                    Some(ColumnView::Masked(mask)) if matches!(mask.kind, MaskKind::Hash { .. }) => {
                        return Err(Denial::new(
                            Reason::MaskedWrite,
                            format!("{name}.{written} is seen as a hash and can't be written"),
                        )
                        .object(format!("{name}.{written}"))
                        .hint("Leave the column out of the list."));
                    }
                    Some(ColumnView::Masked(_)) | None => {}
                }
            }
            if copy.attlist.is_empty() {
                copy.attlist = names.iter().map(tree::string).collect();
                self.changed = true;
            }
        }
        if let Some(condition) = copy.where_clause.as_deref_mut() {
            // It reads what the client sends, not what is stored.
            let columns = plain_columns(&relation);
            self.over(columns, true, &relation.name, condition)?;
        }
        Ok(())
    }

    fn truncate(&mut self, truncate: &mut pb::TruncateStmt) -> Result<(), Denial> {
        self.out.writes = true;
        let cascade = truncate.behavior == pb::DropBehavior::DropCascade as i32;
        let mut todo = Vec::new();
        for node in &mut truncate.relations {
            let Some(NodeEnum::RangeVar(range)) = &mut node.node else { return Err(unsupported("TRUNCATE")) };
            todo.push(self.relation(range)?);
        }
        let mut done = Vec::new();
        while let Some(relation) = todo.pop() {
            if done.contains(&relation.oid) || relation.temporary {
                continue;
            }
            done.push(relation.oid);
            if relation.system {
                return Err(forbidden("a write to a catalog relation"));
            }
            let grant = self.ask(&relation, Verb::Truncate)?;
            self.record(&relation, &grant, Verb::Truncate);
            for oid in self.with_descendants(&relation) {
                if let Some(filter) = self.policy.view(oid).and_then(|view| view.filter.as_ref()) {
                    let name = relation.qualified_name();
                    return Err(Denial {
                        rule: Some(filter.rule.clone()),
                        ..Denial::new(
                            Reason::RowFilter,
                            format!("TRUNCATE of {name} would remove rows that don't exist for you"),
                        )
                        .object(name)
                        .hint("Use DELETE.")
                    });
                }
                if cascade {
                    let referencing = self.catalog.referenced_by.get(&oid).into_iter().flatten();
                    todo.extend(referencing.filter_map(|oid| self.catalog.relations.get(oid)).cloned());
                }
            }
        }
        Ok(())
    }

    /// A relation and all that inherit from it.
    pub(crate) fn with_descendants(&self, relation: &Relation) -> Vec<u32> {
        let mut all = self.catalog.descendants(relation.oid);
        if !all.contains(&relation.oid) {
            all.push(relation.oid);
        }
        all
    }

    fn maintains(&mut self, range: &mut pb::RangeVar) -> Result<Arc<Relation>, Denial> {
        let mut relation = self.relation(range)?;
        if relation.temporary {
            return Ok(relation);
        }
        if let (RelationKind::Index, Some((owner, _))) = (relation.kind, relation.owned_by)
            && let Some(owner) = self.catalog.relations.get(&owner)
        {
            relation = owner.clone();
        }
        if relation.system {
            return Err(forbidden("maintenance of a catalog relation"));
        }
        let grant = self.ask(&relation, Verb::Maintenance)?;
        self.record(&relation, &grant, Verb::Maintenance);
        Ok(relation)
    }

    /// Where no table is named each one that is there must be one to maintain.
    fn maintains_all(&mut self, schema: Option<&str>, options: &[Node]) -> Result<(), Denial> {
        use RelationKind::{MaterializedView, PartitionedTable, Table};
        let mut all: Vec<Arc<Relation>> = self.catalog.relations.values().cloned().collect();
        all.retain(|relation| {
            matches!(relation.kind, Table | PartitionedTable | MaterializedView)
                && !relation.system
                // With its table.
                && !self.policy.telling_partitions.contains(&relation.oid)
                && schema.is_none_or(|schema| *relation.schema == *schema)
        });
        // In one order, so that the same text always gets the same answer.
        all.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        for relation in all {
            let grant = self.ask(&relation, Verb::Maintenance)?;
            self.record(&relation, &grant, Verb::Maintenance);
            self.no_verbose(options, &relation)?;
        }
        let grant = self.allows(Verb::Maintenance)?;
        self.granted(&grant, Verb::Maintenance);
        Ok(())
    }

    /// VERBOSE counts all rows.
    fn no_verbose(&self, options: &[Node], relation: &Relation) -> Result<(), Denial> {
        let verbose = options.iter().any(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) => option.defname.eq_ignore_ascii_case("verbose") && is_on(option),
            _ => true,
        });
        let filtered = self
            .with_descendants(relation)
            .into_iter()
            .any(|oid| self.policy.view(oid).is_some_and(|view| view.filter.is_some()));
        if verbose && filtered {
            let name = relation.qualified_name();
            return Err(Denial::new(
                Reason::RowFilter,
                format!("VERBOSE would count rows of {name} that a row filter hides"),
            )
            .object(name)
            .hint("Leave VERBOSE out."));
        }
        Ok(())
    }

    fn vacuum(&mut self, vacuum: &mut pb::VacuumStmt) -> Result<(), Denial> {
        if vacuum.rels.is_empty() {
            return self.maintains_all(None, &vacuum.options);
        }
        let options = vacuum.options.clone();
        for node in &mut vacuum.rels {
            let Some(NodeEnum::VacuumRelation(of)) = &mut node.node else { return Err(unsupported("VACUUM")) };
            let range = of.relation.as_mut().ok_or_else(|| unsupported("VACUUM"))?;
            let relation = self.maintains(range)?;
            self.no_verbose(&options, &relation)?;
        }
        Ok(())
    }

    fn reindex(&mut self, reindex: &mut pb::ReindexStmt) -> Result<(), Denial> {
        use pb::ReindexObjectType as Kind;
        match (Kind::try_from(reindex.kind), &mut reindex.relation) {
            (Ok(Kind::ReindexObjectIndex | Kind::ReindexObjectTable), Some(range)) => {
                let relation = self.maintains(range)?;
                self.no_verbose(&reindex.params, &relation)
            }
            (Ok(Kind::ReindexObjectSchema), _) if !is_system_schema(&reindex.name) => {
                self.maintains_all(Some(&reindex.name), &reindex.params)
            }
            // The server knows no other name than that of its own database.
            (Ok(Kind::ReindexObjectDatabase), _) => self.maintains_all(None, &reindex.params),
            _ => Err(forbidden("maintenance of a catalog relation")),
        }
    }
}

/// The columns of a relation, as ones that hold what the client gives.
pub(crate) fn plain_columns(relation: &Relation) -> Vec<Column> {
    relation.columns.iter().map(plain_column).collect()
}

/// A column that holds what the client gives.
pub(crate) fn plain_column(column: &crate::catalog::Column) -> Column {
    Column { name: Some(column.name.clone()), type_oid: column.known_type(), ..Column::default() }
}

/// Whether an option is on, or may be.
fn is_on(option: &pb::DefElem) -> bool {
    let Some(value) = &option.arg else { return true };
    match &value.node {
        Some(NodeEnum::String(text)) => !matches!(text.sval.to_ascii_lowercase().as_str(), "off" | "false" | "0"),
        Some(NodeEnum::Integer(number)) => number.ival != 0,
        Some(NodeEnum::Boolean(value)) => value.boolval,
        _ => true,
    }
}

/// Whether an option of COPY has a value of a kind that it can have. The deparser takes that for granted, and would read
/// another as if it were one.
fn has_value_to_write(option: &pb::DefElem) -> Result<(), Denial> {
    let value = option.arg.as_ref().and_then(|value| value.node.as_ref());
    let fits = match (option.defname.as_str(), value) {
        ("format", Some(NodeEnum::String(text))) => {
            if !matches!(text.sval.as_str(), "text" | "csv" | "binary") {
                let message = format!("COPY format \"{}\" not recognized", text.sval);
                return Err(Denial::new(Reason::Syntax, message).sqlstate("22023"));
            }
            true
        }
        ("delimiter" | "null" | "quote" | "escape" | "encoding", value) => matches!(value, Some(NodeEnum::String(_))),
        ("force_quote" | "force_not_null" | "force_null", value) => {
            matches!(value, Some(NodeEnum::List(_) | NodeEnum::AStar(_)))
        }
        ("freeze" | "header", value) => {
            matches!(value, None | Some(NodeEnum::String(_) | NodeEnum::Integer(_) | NodeEnum::Boolean(_)))
        }
        ("format", _) => false,
        // These are written by the kind of their value.
        _ => true,
    };
    match fits {
        true => Ok(()),
        false => {
            let message = format!("COPY option \"{}\" can't have this value, or needs one", option.defname);
            Err(Denial::new(Reason::Syntax, message).sqlstate("42601"))
        }
    }
}

/// A switch of COPY in the spelling that the deparser keeps: it writes `(FREEZE on)` as the older `FREEZE`, which means the
/// same but is another tree.
fn plain_switch(option: &mut pb::DefElem) {
    if !matches!(option.defname.as_str(), "freeze" | "header") {
        return;
    }
    let on = match option.arg.as_ref().and_then(|value| value.node.as_ref()) {
        Some(NodeEnum::String(text)) => match text.sval.to_ascii_lowercase().as_str() {
            "on" | "true" => true,
            "off" | "false" => false,
            _ => return,
        },
        Some(NodeEnum::Integer(pb::Integer { ival: 1 }) | NodeEnum::Boolean(pb::Boolean { boolval: true })) => true,
        Some(NodeEnum::Integer(pb::Integer { ival: 0 }) | NodeEnum::Boolean(pb::Boolean { boolval: false })) => false,
        _ => return,
    };
    option.arg = if on { None } else { tree::boxed(tree::string("false")) };
}

/// Whether the server, asked to prepare a statement, looks at nothing that it names.
pub(crate) fn is_read_late(statement: &NodeEnum) -> bool {
    !tree::is_query(statement)
        && !matches!(
            statement,
            NodeEnum::DeclareCursorStmt(_)
                | NodeEnum::ExplainStmt(_)
                | NodeEnum::CreateTableAsStmt(_)
                | NodeEnum::CallStmt(_)
        )
}

/// What a statement is refused with that no policy can allow.
fn refusal(statement: &NodeEnum) -> Denial {
    let what = match statement {
        NodeEnum::CreateFunctionStmt(_) | NodeEnum::AlterFunctionStmt(_) => "CREATE or ALTER FUNCTION",
        NodeEnum::CreateTrigStmt(_) | NodeEnum::CreateEventTrigStmt(_) | NodeEnum::AlterEventTrigStmt(_) => "triggers",
        NodeEnum::RuleStmt(_) => "rewrite rules",
        NodeEnum::GrantStmt(_) | NodeEnum::GrantRoleStmt(_) | NodeEnum::AlterDefaultPrivilegesStmt(_) => {
            "GRANT or REVOKE"
        }
        NodeEnum::CreateRoleStmt(_)
        | NodeEnum::AlterRoleStmt(_)
        | NodeEnum::AlterRoleSetStmt(_)
        | NodeEnum::DropRoleStmt(_)
        | NodeEnum::DropOwnedStmt(_)
        | NodeEnum::ReassignOwnedStmt(_)
        | NodeEnum::AlterOwnerStmt(_) => "roles and ownership",
        NodeEnum::CreatePolicyStmt(_) | NodeEnum::AlterPolicyStmt(_) => "row level security policies",
        NodeEnum::CreateExtensionStmt(_)
        | NodeEnum::AlterExtensionStmt(_)
        | NodeEnum::AlterExtensionContentsStmt(_) => "extensions",
        NodeEnum::CreateFdwStmt(_)
        | NodeEnum::AlterFdwStmt(_)
        | NodeEnum::CreateForeignServerStmt(_)
        | NodeEnum::AlterForeignServerStmt(_)
        | NodeEnum::CreateForeignTableStmt(_)
        | NodeEnum::CreateUserMappingStmt(_)
        | NodeEnum::AlterUserMappingStmt(_)
        | NodeEnum::DropUserMappingStmt(_)
        | NodeEnum::ImportForeignSchemaStmt(_) => "foreign servers and tables",
        NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::AlterPublicationStmt(_)
        | NodeEnum::CreateSubscriptionStmt(_)
        | NodeEnum::AlterSubscriptionStmt(_)
        | NodeEnum::DropSubscriptionStmt(_) => "publications and subscriptions",
        NodeEnum::CreatedbStmt(_)
        | NodeEnum::AlterDatabaseStmt(_)
        | NodeEnum::AlterDatabaseRefreshCollStmt(_)
        | NodeEnum::AlterDatabaseSetStmt(_)
        | NodeEnum::DropdbStmt(_)
        | NodeEnum::CreateTableSpaceStmt(_)
        | NodeEnum::DropTableSpaceStmt(_)
        | NodeEnum::AlterTableSpaceOptionsStmt(_)
        | NodeEnum::AlterTableMoveAllStmt(_) => "databases and tablespaces",
        NodeEnum::AlterSystemStmt(_) | NodeEnum::LoadStmt(_) => "the server's configuration and code",
        NodeEnum::CreateAmStmt(_)
        | NodeEnum::CreatePlangStmt(_)
        | NodeEnum::DefineStmt(_)
        | NodeEnum::CreateRangeStmt(_)
        | NodeEnum::AlterTypeStmt(_)
        | NodeEnum::CreateOpClassStmt(_)
        | NodeEnum::CreateOpFamilyStmt(_)
        | NodeEnum::AlterOpFamilyStmt(_)
        | NodeEnum::AlterOperatorStmt(_)
        | NodeEnum::AlterCollationStmt(_)
        | NodeEnum::CreateConversionStmt(_)
        | NodeEnum::CreateCastStmt(_)
        | NodeEnum::CreateTransformStmt(_)
        | NodeEnum::AlterTsdictionaryStmt(_)
        | NodeEnum::AlterTsconfigurationStmt(_)
        | NodeEnum::AlterObjectDependsStmt(_) => "aggregates, operators, base types, casts, languages and the like",
        NodeEnum::SecLabelStmt(_) => "security labels",
        NodeEnum::CreateStatsStmt(_) | NodeEnum::AlterStatsStmt(_) => "extended statistics",
        other => return unsupported(&tree::kind(other)),
    };
    forbidden(what)
}
