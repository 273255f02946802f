//! Definitions: CREATE, ALTER, DROP of relations, indexes, types, schemas and comments, and temporary relations.
//!
//! **Promise.** Only what is named here is defined, and only where a rule has `Ddl` for the name as it is and as it
//! becomes (`Temp` for temporary relations). A relation with masks, hidden columns or filters, or with a descendant that
//! has some, is not touched by any of it, nor does a view or index come to hold raw values of one; but a foreign key may
//! point at a key of one that is seen as it is, with all its rows. Expressions in definitions are decided like any other.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::Verb;

use super::scope::{Column, Item};
use super::tree::{self, string_of, unsupported};
use super::utility::{forbidden, plain_columns};
use super::{Analyzer, Doubt, Effect, FIRST_PREDICTED, Receiver};
use crate::catalog::code::mentions_word;
use crate::catalog::load::{FIRST_USER_OID, is_system_schema};
use crate::catalog::names::{MAX_IDENTIFIER, PG_TEMP, Resolution, types};
use crate::catalog::{self, Function, Oid, Relation, RelationKind, WrittenName};
use crate::decide::bound::{ColumnView, Grant};
use crate::decide::{Denial, Reason};

/// Options of LIKE that copy expressions, as `TableLikeOption` of the server numbers them.
const LIKE_CONSTRAINTS: u32 = 1 << 2;
const LIKE_DEFAULTS: u32 = 1 << 3;
const LIKE_GENERATED: u32 = 1 << 4;
const LIKE_INDEXES: u32 = 1 << 6;
const LIKE_STATISTICS: u32 = 1 << 7;
/// All options that there are: ALL is read as all that there may ever be, and written as these.
const LIKE_KNOWN: u32 = (1 << 9) - 1;

/// A schema that the session made stands in its overlay as a relation of no name, which nothing can be called.
const NO_NAME: &str = "";

impl Analyzer<'_> {
    /// Decides a definition.
    pub(crate) fn define(&mut self, node: &mut Node) -> Result<(), Denial> {
        let Some(statement) = &mut node.node else { return Err(unsupported("an empty statement")) };
        let mut names = Vec::new();
        let temporary = match statement {
            NodeEnum::SelectStmt(_) => self.select_into(node, &mut names)?,
            NodeEnum::CreateTableAsStmt(create) => self.create_as(create, &mut names)?,
            NodeEnum::CreateStmt(create) => self.create_table(create, &mut names)?,
            NodeEnum::ViewStmt(view) => self.create_view(view, &mut names)?,
            NodeEnum::IndexStmt(index) => self.create_index(index, &mut names)?,
            NodeEnum::CreateSeqStmt(create) => {
                let range = create.sequence.as_mut().ok_or_else(|| unsupported("CREATE SEQUENCE"))?;
                let temporary = self.new_relation(range, &mut names)?;
                self.sequence_options(&mut create.options)?;
                if !create.if_not_exists || self.may_be_there(&names) {
                    self.will_make(&names, RelationKind::Sequence, &[], &[]);
                }
                temporary
            }
            NodeEnum::AlterSeqStmt(alter) => {
                let missing_ok = alter.missing_ok;
                let range = alter.sequence.as_mut().ok_or_else(|| unsupported("ALTER SEQUENCE"))?;
                let sequence = self.defined(range, missing_ok, &mut names)?;
                self.sequence_options(&mut alter.options)?;
                sequence.is_some_and(|sequence| sequence.temporary)
            }
            NodeEnum::CreateSchemaStmt(create) => self.create_schema(create, &mut names)?,
            NodeEnum::CreateEnumStmt(create) => self.new_type(&mut create.type_name)?,
            NodeEnum::CompositeTypeStmt(create) => {
                let range = create.typevar.as_mut().ok_or_else(|| unsupported("CREATE TYPE"))?;
                let temporary = self.new_relation(range, &mut names)?;
                self.takes_no_types_place(if temporary { PG_TEMP } else { &range.schemaname }, &range.relname)?;
                for column in &mut create.coldeflist {
                    self.column_definition(column, &[], true)?;
                }
                let columns: Vec<Column> = create.coldeflist.iter().filter_map(defined_column).collect();
                self.will_make(&names, RelationKind::Composite, &columns, &[]);
                let schema = if temporary { PG_TEMP } else { &range.schemaname };
                self.changed_types.push((range.relname.clone(), Doubt::Made(schema.to_owned())));
                temporary
            }
            NodeEnum::CreateDomainStmt(create) => {
                self.type_name(create.type_name.as_mut())?;
                for constraint in &mut create.constraints {
                    self.constraint(constraint, &[named("value")], true)?;
                }
                self.new_type(&mut create.domainname)?
            }
            // A new label changes no value that is there.
            NodeEnum::AlterEnumStmt(alter) if alter.old_val.is_empty() => {
                self.existing_type(&alter.type_name)?;
                false
            }
            NodeEnum::AlterEnumStmt(alter) => self.altered_type(&alter.type_name, &mut names)?,
            NodeEnum::AlterDomainStmt(alter) => {
                if let Some(definition) = alter.def.as_deref_mut() {
                    match &definition.node {
                        Some(NodeEnum::Constraint(_)) => self.constraint(definition, &[named("value")], true)?,
                        _ => self.alone(definition)?,
                    }
                }
                self.altered_type(&alter.type_name, &mut names)?
            }
            NodeEnum::AlterTableStmt(alter) => self.alter_table(alter, &mut names)?,
            NodeEnum::RenameStmt(rename) => self.rename(rename, &mut names)?,
            NodeEnum::AlterObjectSchemaStmt(alter) => self.move_to_schema(alter, &mut names)?,
            NodeEnum::DropStmt(drop) => {
                let temporary = self.drop_objects(drop, &mut names)?;
                self.dropped.clone_from(&names);
                temporary
            }
            NodeEnum::CommentStmt(comment) => self.comment(comment)?,
            other => return Err(unsupported(&tree::kind(other))),
        };
        // What a client's view or default sets as it is read would go unseen between what is checked and what is stored.
        let runs_now = matches!(node.node, Some(NodeEnum::SelectStmt(_) | NodeEnum::CreateTableAsStmt(_)));
        if self.changes_state && self.policy.row_filters && !runs_now {
            let message =
                "beside row filters a definition can't call set_config, nor volatile functions of the database";
            return Err(Denial::new(Reason::RowFilter, message));
        }
        self.out.writes = true;
        self.out.returns_rows = false;
        self.out.effect = Effect::CatalogChange { names, types: std::mem::take(&mut self.changed_types), temporary };
        Ok(())
    }

    /// Decides that a relation of a new name may be made; its name is written out. Tells whether it is temporary.
    fn new_relation(&mut self, range: &mut pb::RangeVar, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        self.own_database(range)?;
        if range.relpersistence == "t" || range.schemaname == PG_TEMP {
            self.new_temporary(range, names)?;
            return Ok(true);
        }
        if range.schemaname.is_empty() {
            range.schemaname = self.creation_schema()?;
            self.changed = true;
        }
        self.may_define(&range.schemaname.clone(), &range.relname.clone())?;
        names.push((Some(range.schemaname.clone()), range.relname.clone()));
        Ok(false)
    }

    fn new_temporary(&mut self, range: &pb::RangeVar, names: &mut Vec<WrittenName>) -> Result<(), Denial> {
        self.captures_nothing(PG_TEMP, &range.relname)?;
        let grant = self.allows(Verb::Temp)?;
        self.granted(&grant, Verb::Temp);
        names.push((Some(PG_TEMP.to_owned()), range.relname.clone()));
        Ok(())
    }

    /// Whether it does no harm if a relation of the new name is there already, unknown to the catalog yet.
    fn may_be_there(&self, names: &[WrittenName]) -> bool {
        match names.first() {
            Some((Some(schema), name)) => {
                schema == PG_TEMP || !self.policy.policy.may_guard(&self.policy.identity, schema, name)
            }
            _ => false,
        }
    }

    /// What later statements of the same text find under the new name.
    fn will_make(&mut self, names: &[WrittenName], kind: RelationKind, columns: &[Column], renamed: &[Node]) {
        let Some((Some(schema), name)) = names.first() else { return };
        let columns = columns.iter().enumerate().filter_map(|(index, column)| {
            let name = renamed.get(index).and_then(string_of).map(Arc::from).or_else(|| column.name.clone())?;
            Some(catalog::Column {
                number: i16::try_from(index + 1).ok()?,
                name,
                type_oid: column.type_oid.unwrap_or(0),
                type_modifier: -1,
                type_sql: Arc::from(""),
                collation: 0,
                not_null: false,
                default: None,
                generated: None,
                is_virtual: false,
                identity: None,
            })
        });
        let columns = columns.collect();
        self.predict(Relation::bare(0, schema, name, kind, columns));
    }

    /// Notes what later statements of the same text find. Where something has that name already, they find that, or
    /// nothing. Tells the oid that it has until it is there.
    fn predict(&mut self, relation: Relation) -> Option<Oid> {
        let (schema, name) = (&relation.schema, &relation.name);
        let known = self.catalog.resolve_relation(&[], &self.session.overlay, Some(schema), name);
        if matches!(known, Resolution::Found(_)) {
            return None;
        }
        let before = self.session.overlay.iter().map(|relation| relation.oid);
        let highest = before.chain(self.made.iter().map(|made| made.oid)).max();
        let oid = highest.map_or(FIRST_PREDICTED, |oid| oid.saturating_add(1).max(FIRST_PREDICTED));
        self.made.push(Relation { oid, ..relation });
        Some(oid)
    }

    /// What the statement has made so far is found by what is yet to come of it.
    fn see_made_beside(&mut self, before: &[Arc<Relation>]) {
        let made = self.made.iter().cloned().map(Arc::new);
        self.session.overlay = Arc::new(before.iter().cloned().chain(made).collect());
    }

    /// The sequences of serial and identity columns, where the server need not cut their names.
    fn will_make_sequences(&mut self, names: &[WrittenName], elements: &[Node]) {
        let (Some((Some(schema), table)), Some(owner)) = (names.first(), self.made.last().map(|made| made.oid)) else {
            return;
        };
        let columns = elements.iter().filter_map(|element| match &element.node {
            Some(NodeEnum::ColumnDef(column)) => Some(column),
            _ => None,
        });
        for (number, column) in (1i16..).zip(columns) {
            let name = format!("{table}_{}_seq", column.colname);
            if has_sequence(column) && name.len() <= MAX_IDENTIFIER {
                let sequence = Relation::bare(0, schema, &name, RelationKind::Sequence, Vec::new());
                self.predict(Relation { owned_by: Some((owner, number)), ..sequence });
            }
        }
    }

    /// Columns of a relation, and of those under it, have other names or types after this.
    fn retype(&mut self, relation: &Relation, names: &mut Vec<WrittenName>) {
        let mut changed = self.with_descendants(relation);
        names
            .extend(changed.iter().filter_map(|oid| self.catalog.relations.get(oid)).map(|relation| written(relation)));
        // A temporary relation may be under it, too, or be of its row's type.
        changed.extend(self.session.overlay.iter().map(|relation| relation.oid));
        Arc::make_mut(&mut self.session.retyped).extend(changed);
    }

    /// The same relation under its next name.
    fn will_be_called(&mut self, relation: &Relation, schema: &str, name: &str) {
        let before = (Some(relation.schema.to_string()), relation.name.to_string());
        self.predict(Relation { schema: schema.into(), name: name.into(), ..relation.clone() });
        self.dropped.push(before);
    }

    fn own_database(&mut self, range: &mut pb::RangeVar) -> Result<(), Denial> {
        if range.catalogname.is_empty() {
            return Ok(());
        }
        if range.catalogname != self.policy.policy.database.name {
            return Err(
                Denial::new(Reason::UnknownRelation, "cross-database references are not implemented").sqlstate("0A000")
            );
        }
        range.catalogname.clear();
        self.changed = true;
        Ok(())
    }

    /// Where an unqualified new name goes: the first schema of the search_path that exists.
    fn creation_schema(&self) -> Result<String, Denial> {
        let path = self.session.search_path.iter();
        let is_there = |schema: &&String| {
            let was_made = || self.session.overlay.iter().any(|made| *made.schema == ***schema);
            self.catalog.schemas.contains_key(schema.as_str()) || was_made()
        };
        let found = path.filter(|schema| *schema != "$user").find(is_there);
        found.cloned().ok_or_else(|| {
            Denial::new(Reason::UnknownRelation, "no schema has been selected to create in").sqlstate("3F000")
        })
    }

    /// Refuses a new name under which code of the database's owner would find what the client makes in place of what the owner means:
    /// that code sees raw values and all rows.
    fn captures_nothing(&self, schema: &str, name: &str) -> Result<(), Denial> {
        let (policy, identity) = (&self.policy.policy, &self.policy.identity);
        if self.policy.views.is_empty() {
            return Ok(());
        }
        let in_filter = |function: &Function| {
            let mut filters = policy.rules_for(identity).flat_map(|rule| &rule.row_filters);
            filters.any(|filter| mentions_word(&filter.where_sql, &function.name))
        };
        let called = |function: &Function| {
            let (schema, name) = (&function.schema, &function.name);
            policy.function_allowed(identity, schema, name).is_some()
        };
        let Some(function) = self.catalog.captured_by(schema, name, in_filter, called) else { return Ok(()) };
        let (path, arguments) = (format!("{}.{}", function.schema, function.name), function.arguments.iter());
        let arguments: Vec<&str> =
            arguments.filter_map(|oid| self.catalog.types.get(oid)).map(|kind| &*kind.name).collect();
        let message = format!(
            "permission denied: {path} may take this {name} for another one, as it finds names by the search_path"
        );
        Err(Denial::new(Reason::Forbidden, message).object(format!("{schema}.{name}")).hint(format!(
            "Choose another name. ALTER FUNCTION {path}({}) SET search_path = …, pg_temp would allow it.",
            arguments.join(", ")
        )))
    }

    /// Ddl for a name.
    fn may_define(&mut self, schema: &str, name: &str) -> Result<(), Denial> {
        if is_system_schema(schema) || schema.starts_with("pg_") {
            return Err(forbidden("changes to the system catalogs"));
        }
        self.captures_nothing(schema, name)?;
        let answer = match self.policy.policy.grant(&self.policy.identity, schema, name, false, Verb::Ddl) {
            Some((rule, limits)) => Ok(Grant { rule: Arc::from(rule.name.as_str()), limits }),
            None => {
                let identity = &self.policy.identity.name;
                Err(Denial::new(
                    Reason::NoRule,
                    format!("permission denied: no rule lets {identity} define {schema}.{name}"),
                )
                .object(format!("{schema}.{name}"))
                .hint(format!("a rule with `allow: [Ddl]` and `relations: [\"{schema}.{name}\"]` would allow it")))
            }
        };
        let grant = self.grant_new(schema, name, Verb::Ddl, answer)?;
        self.granted(&grant, Verb::Ddl);
        Ok(())
    }

    /// Decides that an existing relation may be changed. None if it isn't there and needn't be.
    fn defined(
        &mut self,
        range: &mut pb::RangeVar,
        missing_ok: bool,
        names: &mut Vec<WrittenName>,
    ) -> Result<Option<Arc<Relation>>, Denial> {
        let relation = match self.relation(range) {
            Ok(relation) => relation,
            // Looked up and not there: the server says that it skips it.
            Err(denial) if missing_ok && self.session.looked && denial.reason == Reason::UnknownRelation => {
                self.unknown.clear();
                let grant = self.allows_either(Verb::Ddl, Some(Verb::Temp))?;
                self.granted(&grant, Verb::Ddl);
                if range.schemaname.is_empty() {
                    // Should it be made in the meantime, it must be the name that was decided on.
                    range.schemaname = self.creation_schema()?;
                    self.changed = true;
                }
                if range.schemaname != PG_TEMP {
                    self.may_define(&range.schemaname.clone(), &range.relname.clone())?;
                }
                return Ok(None);
            }
            Err(denial) => return Err(denial),
        };
        self.may_change(&relation)?;
        names.push(written(&relation));
        Ok(Some(relation))
    }

    /// Ddl on a relation that exists, and nothing of it or under it is masked or filtered.
    fn may_change(&mut self, relation: &Arc<Relation>) -> Result<(), Denial> {
        if relation.temporary {
            let grant = self.allows(Verb::Temp)?;
            self.granted(&grant, Verb::Temp);
            return Ok(());
        }
        if relation.system {
            return Err(forbidden("changes to the system catalogs"));
        }
        match (relation.kind, relation.owned_by) {
            (RelationKind::Index, Some((owner, _))) => {
                let made_here = || self.session.overlay.iter().find(|relation| relation.oid == owner);
                let Some(owner) = self.catalog.relations.get(&owner).or_else(made_here).cloned() else {
                    return Err(unsupported("an index whose table is not known"));
                };
                return self.may_change(&owner);
            }
            (RelationKind::Toast | RelationKind::ForeignTable, _) => {
                return Err(forbidden("changes to foreign and toast tables"));
            }
            _ => {}
        }
        let grant = self.ask(relation, Verb::Ddl)?;
        self.record(relation, &grant, Verb::Ddl);
        if relation.kind == RelationKind::Composite {
            self.is_type_of_plain(relation.row_type)?;
        }
        self.is_plain(relation)
    }

    /// Refuses if the identity sees the relation, or one under it, otherwise than it is.
    pub(super) fn is_plain(&self, relation: &Relation) -> Result<(), Denial> {
        let seen = self.with_descendants(relation).into_iter().find(|oid| {
            let view = self.policy.view(*oid);
            view.is_some_and(|view| view.closed.is_some() || view.filter.is_some() || !view.columns.is_empty())
        });
        let Some(oid) = seen else { return Ok(()) };
        let name = self.catalog.relations.get(&oid).map_or_else(|| relation.qualified_name(), |r| r.qualified_name());
        Err(Denial::new(
            Reason::Forbidden,
            format!("permission denied: {name} has masks or row filters for you, so no DDL"),
        )
        .object(name)
        .hint("Definitions would print or copy raw values; run migrations as an identity that is exempt."))
    }

    /// Refuses LIKE of a relation that has hidden columns, and to copy what is computed of columns if the identity does not see all of
    /// the relation: on rows of its own it would be answered what it may not ask.
    fn may_be_like(&self, source: &Relation, copied: &[Copied]) -> Result<(), Denial> {
        let Some(view) = self.policy.view(source.oid) else { return Ok(()) };
        if view.closed.is_some() || view.columns.values().any(|column| matches!(column, ColumnView::Hidden)) {
            return self.is_plain(source);
        }
        let Some(Copied { option, .. }) = copied.iter().find(|copied| copied.option != "DEFAULTS") else {
            return Ok(());
        };
        let name = source.qualified_name();
        let message = format!("{name} has masks or row filters for you: its expressions can't be copied");
        Err(Denial::new(Reason::Forbidden, message)
            .object(name)
            .hint(format!("Add EXCLUDING {option}, or leave INCLUDING {option} out.")))
    }

    /// What LIKE copies of expressions is decided as if it were written: it runs on rows of the identity's own.
    fn decide_copied(&mut self, source: &Relation, copied: Vec<Copied>) -> Result<(), Denial> {
        for Copied { option, sql } in copied {
            let mut expression = tree::parse_expression(&sql)?;
            match option {
                "DEFAULTS" => self.alone(&mut expression)?,
                _ => self.over(plain_columns(source), true, &source.name, &mut expression)?,
            }
        }
        Ok(())
    }

    /// Nothing that was read is masked or filtered: what is defined over it would hold that view for everyone.
    fn read_only_plain(&self) -> Result<(), Denial> {
        for oid in &self.out.touched {
            if let Some(relation) = self.catalog.relations.get(oid) {
                self.is_plain(relation)?;
            }
        }
        Ok(())
    }

    fn select_into(&mut self, node: &mut Node, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        let Some(NodeEnum::SelectStmt(select)) = &mut node.node else { return Err(unsupported("SELECT INTO")) };
        let mut into = select.into_clause.take().ok_or_else(|| unsupported("SELECT INTO"))?;
        let range = into.rel.as_mut().ok_or_else(|| unsupported("SELECT INTO"))?;
        let temporary = self.new_relation(range, names)?;
        let output = self.select(select, Receiver::Query)?;
        no_rows_as_columns(&output.columns)?;
        self.may_hold_all(&output.columns)?;
        self.will_make(names, RelationKind::Table, &output.columns, &into.col_names);
        self.put_views(node)?;
        if let Some(NodeEnum::SelectStmt(select)) = &mut node.node {
            select.into_clause = Some(into);
        }
        Ok(temporary)
    }

    fn create_as(&mut self, create: &mut pb::CreateTableAsStmt, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        let into = create.into.as_deref_mut().ok_or_else(|| unsupported("CREATE TABLE AS"))?;
        let range = into.rel.as_mut().ok_or_else(|| unsupported("CREATE TABLE AS"))?;
        let temporary = self.new_relation(range, names)?;
        let query = create.query.as_deref_mut().ok_or_else(|| unsupported("CREATE TABLE AS"))?;
        match &mut query.node {
            Some(NodeEnum::SelectStmt(select)) => {
                let output = self.select(select, Receiver::Query)?;
                no_rows_as_columns(&output.columns)?;
                self.may_hold_all(&output.columns)?;
                if !create.if_not_exists || self.may_be_there(names) {
                    self.will_make(names, RelationKind::Table, &output.columns, &into.col_names);
                }
                self.put_views(query)?;
            }
            Some(NodeEnum::ExecuteStmt(execute)) => {
                self.execute_within(execute)?;
                self.may_hold_all(&[named("")])?;
            }
            _ => return Err(unsupported("CREATE TABLE AS")),
        }
        if create.objtype == pb::ObjectType::ObjectMatview as i32 {
            self.read_only_plain()?;
        }
        Ok(temporary)
    }

    fn create_view(&mut self, view: &mut pb::ViewStmt, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        let range = view.view.as_mut().ok_or_else(|| unsupported("CREATE VIEW"))?;
        let query = view.query.as_deref_mut().ok_or_else(|| unsupported("CREATE VIEW"))?;
        let Some(NodeEnum::SelectStmt(select)) = &mut query.node else { return Err(unsupported("CREATE VIEW")) };
        let output = self.select(select, Receiver::Query)?;
        // A view of temporary relations is temporary, which the server says; its name has to be left as it is for that.
        let becomes_temporary = range.schemaname.is_empty()
            && range.catalogname.is_empty()
            && self.scopes.items.iter().filter_map(Item::relation).any(|item| item.relation.temporary);
        let temporary = if becomes_temporary {
            self.new_temporary(range, names)?;
            true
        } else {
            self.new_relation(range, names)?
        };
        if view.replace
            && !temporary
            && let Some(existing) = self.catalog.relation(&range.schemaname, &range.relname).cloned()
        {
            self.may_change(&existing)?;
        }
        // Of one that it takes the place of, the columns stay as they are.
        self.will_make(names, RelationKind::View, &output.columns, &view.aliases);
        self.put_views(query)?;
        self.read_only_plain()?;
        Ok(temporary)
    }

    fn create_table(&mut self, create: &mut pb::CreateStmt, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        let range = create.relation.as_mut().ok_or_else(|| unsupported("CREATE TABLE"))?;
        let temporary = self.new_relation(range, names)?;
        let mut complete = true;
        let (mut columns, mut parents) = (Vec::<Column>::new(), Vec::new());
        if let Some(of) = create.of_typename.as_mut() {
            let kind = self.type_name(Some(of))?;
            let of = kind.and_then(|kind| self.catalog.types.get(&kind)).and_then(|kind| self.row_now(kind.relation));
            let row = of.map(plain_columns).or_else(|| self.columns_of_new_type(create.of_typename.as_ref()?));
            complete = row.is_some();
            if kind.is_some() {
                self.may_hold_all(&row.clone().unwrap_or_else(|| vec![named("")]))?;
            }
            columns.extend(row.unwrap_or_default());
        }
        for parent in &mut create.inh_relations {
            let Some(NodeEnum::RangeVar(parent)) = &mut parent.node else { return Err(unsupported("INHERITS")) };
            if let Some(parent) = self.defined(parent, false, &mut Vec::new())? {
                self.may_hold_all(&plain_columns(&parent))?;
                columns.extend(plain_columns(&parent));
                parents.push(parent.oid);
            }
        }
        for element in &mut create.table_elts {
            match &mut element.node {
                Some(NodeEnum::ColumnDef(column)) => columns.push(named(&column.colname)),
                // What it is like is there before it is, maybe under the same name.
                Some(NodeEnum::TableLikeClause(like)) => {
                    let range = like.relation.as_mut().ok_or_else(|| unsupported("LIKE"))?;
                    let source = self.relation_at(range)?;
                    self.reads(&source, Verb::Select)?;
                    let copied = copied_of(&source, like.options);
                    self.may_be_like(&source, &copied)?;
                    self.decide_copied(&source, copied)?;
                    self.may_hold_all(&plain_columns(&source))?;
                    if like.options & LIKE_STATISTICS != 0 {
                        // Their expressions are not known here, and would run as the new table is analysed.
                        like.options &= !LIKE_STATISTICS;
                        self.changed = true;
                    }
                    like.options &= LIKE_KNOWN;
                    columns.extend(plain_columns(&source));
                }
                _ => {}
            }
        }
        // Parents share columns, and what is said of one here is said of theirs.
        let mut seen = HashSet::new();
        columns.retain(|column| column.name.as_ref().is_none_or(|name| seen.insert(Arc::clone(name))));
        // Its own foreign keys may name it.
        let already = self.made.len();
        self.will_make(names, RelationKind::Table, &columns, &[]);
        if let Some(made) = self.made.get_mut(already) {
            made.parents = parents;
        }
        let before = Arc::clone(&self.session.overlay);
        self.see_made_beside(&before);
        for element in &mut create.table_elts {
            match &mut element.node {
                Some(NodeEnum::ColumnDef(_)) => self.column_definition(element, &columns, complete)?,
                Some(NodeEnum::Constraint(_)) => self.constraint(element, &columns, complete)?,
                Some(NodeEnum::TableLikeClause(_)) => {}
                _ => return Err(unsupported("an element of CREATE TABLE")),
            }
        }
        for constraint in create.constraints.iter_mut().chain(&mut create.nnconstraints) {
            self.constraint(constraint, &columns, complete)?;
        }
        if let Some(spec) = &mut create.partspec {
            for part in &mut spec.part_params {
                let Some(NodeEnum::PartitionElem(part)) = &mut part.node else {
                    return Err(unsupported("PARTITION BY"));
                };
                if let Some(expression) = part.expr.as_deref_mut() {
                    self.over(columns.clone(), complete, "", expression)?;
                }
            }
        }
        if let Some(bound) = &mut create.partbound {
            self.partition_bound(bound)?;
        }
        self.session.overlay = before;
        if complete && (!create.if_not_exists || self.may_be_there(names)) {
            self.will_make_sequences(names, &create.table_elts);
        } else {
            self.made.truncate(already);
        }
        Ok(temporary)
    }

    /// The columns of a row's type that this text made.
    fn columns_of_new_type(&self, name: &pb::TypeName) -> Option<Vec<Column>> {
        let (schema, name) = tree::schema_and_name(&name.names)?;
        let found = self.catalog.resolve_relation(&self.session.search_path, &self.session.overlay, schema, name);
        let made = found.found().filter(|found| found.kind == RelationKind::Composite)?;
        Some(plain_columns(&made))
    }

    fn partition_bound(&mut self, bound: &mut pb::PartitionBoundSpec) -> Result<(), Denial> {
        let pb::PartitionBoundSpec { listdatums, lowerdatums, upperdatums, .. } = bound;
        for datum in listdatums.iter_mut().chain(lowerdatums).chain(upperdatums) {
            // MINVALUE and MAXVALUE are read as column names.
            let is_end = match &datum.node {
                Some(NodeEnum::ColumnRef(reference)) => matches!(
                    tree::strings(&reference.fields).as_deref(),
                    Some([name]) if name.eq_ignore_ascii_case("minvalue") || name.eq_ignore_ascii_case("maxvalue")
                ),
                Some(NodeEnum::PartitionRangeDatum(_)) => true,
                _ => false,
            };
            if !is_end {
                self.alone(datum)?;
            }
        }
        Ok(())
    }

    /// The type of a new column. `serial` is none: the server makes an integer of it, with a sequence.
    fn column_type(&mut self, name: Option<&mut pb::TypeName>) -> Result<(), Denial> {
        match name {
            Some(_) if !is_serial(name.as_deref()) => self.type_name(name)?.map_or(Ok(()), |kind| self.may_hold(kind)),
            _ => Ok(()),
        }
    }

    /// What a new column of a type runs as it is written: CHECKs, and the default of its domain, as if it were written here.
    fn may_hold(&mut self, kind: Oid) -> Result<(), Denial> {
        self.may_make(kind)?;
        let default = self.catalog.types.get(&kind).and_then(|kind| kind.default.as_deref());
        default.map_or(Ok(()), |default| self.alone(&mut tree::parse_expression(default)?))
    }

    /// The same for what a query gives; a column of a type that is not known has that of any that was read.
    fn may_hold_all(&mut self, columns: &[Column]) -> Result<(), Denial> {
        let read = self.out.touched.iter().filter_map(|oid| self.catalog.relations.get(oid));
        let of_read = read.flat_map(|relation| &relation.columns).map(|column| column.type_oid);
        let of_read = of_read.filter(|_| columns.iter().any(|column| column.type_oid.is_none()));
        let kinds: BTreeSet<Oid> = columns.iter().filter_map(|column| column.type_oid).chain(of_read).collect();
        kinds.into_iter().try_for_each(|kind| self.may_hold(kind))
    }

    fn column_definition(&mut self, node: &mut Node, columns: &[Column], complete: bool) -> Result<(), Denial> {
        let Some(NodeEnum::ColumnDef(column)) = &mut node.node else { return Err(unsupported("a column definition")) };
        if !column.fdwoptions.is_empty() {
            return Err(forbidden("changes to foreign tables"));
        }
        self.column_type(column.type_name.as_mut())?;
        if let Some(default) = column.raw_default.as_deref_mut() {
            self.alone(default)?;
        }
        for constraint in &mut column.constraints {
            self.constraint(constraint, columns, complete)?;
        }
        Ok(())
    }

    fn constraint(&mut self, node: &mut Node, columns: &[Column], complete: bool) -> Result<(), Denial> {
        use pb::ConstrType as Kind;
        let Some(NodeEnum::Constraint(constraint)) = &mut node.node else { return Err(unsupported("a constraint")) };
        match Kind::try_from(constraint.contype) {
            Ok(Kind::ConstrDefault) => {
                if let Some(expression) = constraint.raw_expr.as_deref_mut() {
                    self.alone(expression)?;
                }
                Ok(())
            }
            Ok(Kind::ConstrCheck | Kind::ConstrGenerated) => {
                if let Some(expression) = constraint.raw_expr.as_deref_mut() {
                    self.over(columns.to_vec(), complete, "", expression)?;
                }
                Ok(())
            }
            Ok(Kind::ConstrIdentity) => self.sequence_options(&mut constraint.options),
            Ok(Kind::ConstrForeign) => self.foreign_key(constraint),
            Ok(Kind::ConstrExclusion) => {
                for exclusion in &mut constraint.exclusions {
                    let Some(NodeEnum::List(pair)) = &mut exclusion.node else { return Err(unsupported("EXCLUDE")) };
                    if let Some(element) = pair.items.first_mut() {
                        self.index_element(element, columns, complete)?;
                    }
                }
                match constraint.where_clause.as_deref_mut() {
                    Some(condition) => self.over(columns.to_vec(), complete, "", condition),
                    None => Ok(()),
                }
            }
            Ok(
                Kind::ConstrNull
                | Kind::ConstrNotnull
                | Kind::ConstrPrimary
                | Kind::ConstrUnique
                | Kind::ConstrAttrDeferrable
                | Kind::ConstrAttrNotDeferrable
                | Kind::ConstrAttrDeferred
                | Kind::ConstrAttrImmediate
                | Kind::ConstrAttrEnforced
                | Kind::ConstrAttrNotEnforced,
            ) => Ok(()),
            Ok(Kind::Undefined) | Err(_) => Err(unsupported("a constraint")),
        }
    }

    /// A key is checked against what the other relation holds: so it has to be seen as it is, and no row filtered.
    fn foreign_key(&mut self, constraint: &mut pb::Constraint) -> Result<(), Denial> {
        let range = constraint.pktable.as_mut().ok_or_else(|| unsupported("a foreign key"))?;
        let relation = self.relation(range)?;
        if self.is_plain(&relation).is_err() && self.shows_key(&relation, &mut constraint.pk_attrs) {
            let grant = self.ask(&relation, Verb::Ddl)?;
            self.record(&relation, &grant, Verb::Ddl);
            return Ok(());
        }
        self.may_change(&relation)
    }

    /// Whether all rows of a relation and those under it are shown, with the columns of a key as they are. Without
    /// columns the primary key is meant, which is written out.
    fn shows_key(&mut self, relation: &Relation, key: &mut Vec<Node>) -> bool {
        if key.is_empty() {
            let primary = relation.indexes.iter().find(|index| index.primary);
            let columns = primary.iter().flat_map(|index| &index.columns).map(|number| relation.column_at(*number));
            let Some(columns) = columns.collect::<Option<Vec<_>>>() else { return false };
            key.extend(columns.into_iter().map(|column| tree::string(&*column.name)));
            self.changed = true;
        }
        let Some(key) = tree::strings(key).filter(|key| !key.is_empty()) else { return false };
        self.with_descendants(relation).into_iter().all(|oid| {
            let Some(view) = self.policy.view(oid) else { return true };
            let columns = || key.iter().map(|name| self.catalog.relations.get(&oid)?.column(name));
            view.closed.is_none()
                && view.filter.is_none()
                && columns().all(|column| column.is_some_and(|column| !view.columns.contains_key(&column.number)))
        })
    }

    fn index_element(&mut self, node: &mut Node, columns: &[Column], complete: bool) -> Result<(), Denial> {
        let Some(NodeEnum::IndexElem(element)) = &mut node.node else { return Err(unsupported("an index column")) };
        match element.expr.as_deref_mut() {
            Some(expression) => self.over(columns.to_vec(), complete, "", expression),
            None => Ok(()),
        }
    }

    fn create_index(&mut self, index: &mut pb::IndexStmt, made: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        let range = index.relation.as_mut().ok_or_else(|| unsupported("CREATE INDEX"))?;
        let relation = self.relation(range)?;
        self.may_change(&relation)?;
        let columns = plain_columns(&relation);
        for element in index.index_params.iter_mut().chain(&mut index.index_including_params) {
            self.index_element(element, &columns, true)?;
        }
        if let Some(condition) = index.where_clause.as_deref_mut() {
            self.over(columns, true, &relation.name, condition)?;
        }
        let name = index.idxname.as_str();
        let names = [(Some(relation.schema.to_string()), name.to_owned())];
        if !name.is_empty() && (!index.if_not_exists || self.may_be_there(&names)) {
            let bare = Relation::bare(0, &relation.schema, name, RelationKind::Index, Vec::new());
            self.predict(Relation { owned_by: Some((relation.oid, 0)), ..bare });
        }
        // It comes before one of the catalog's of the same name.
        if !name.is_empty() && relation.temporary {
            made.extend(names);
        }
        Ok(relation.temporary)
    }

    /// OWNED BY names a column of a relation; the rest are numbers and flags.
    fn sequence_options(&mut self, options: &mut [Node]) -> Result<(), Denial> {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &mut option.node else {
                return Err(unsupported("a sequence option"));
            };
            match option.defname.as_str() {
                "as" | "cache" | "cycle" | "increment" | "maxvalue" | "minvalue" | "restart" | "start" | "logged"
                | "unlogged" => {}
                // As pg_dump writes it for the sequence of an identity column.
                "sequence_name" => match option.arg.as_deref().and_then(|arg| arg.node.as_ref()) {
                    Some(NodeEnum::List(list)) => match tree::strings(&list.items).as_deref() {
                        Some([schema, name]) => self.may_define(schema, name)?,
                        _ => return Err(unsupported("a sequence's name without its schema")),
                    },
                    _ => return Err(unsupported("SEQUENCE NAME")),
                },
                "owned_by" => {
                    let Some(NodeEnum::List(list)) = option.arg.as_deref_mut().and_then(|arg| arg.node.as_mut()) else {
                        return Err(unsupported("OWNED BY"));
                    };
                    let parts: Vec<String> = list.items.iter().filter_map(string_of).map(str::to_owned).collect();
                    if parts.len() != list.items.len() {
                        return Err(unsupported("OWNED BY"));
                    }
                    match parts.as_slice() {
                        [none] if none == "none" => {}
                        [table, column] => {
                            let relation = self.relation_named(None, table)?;
                            self.may_change(&relation)?;
                            let schema = tree::string(&*relation.schema);
                            list.items = vec![schema, tree::string(table.as_str()), tree::string(column.as_str())];
                            self.changed = true;
                        }
                        [schema, table, _] => {
                            let relation = self.relation_named(Some(schema), table)?;
                            self.may_change(&relation)?;
                        }
                        _ => return Err(unsupported("OWNED BY")),
                    }
                }
                _ => return Err(unsupported("a sequence option")),
            }
        }
        Ok(())
    }

    fn create_schema(
        &mut self,
        create: &mut pb::CreateSchemaStmt,
        names: &mut Vec<WrittenName>,
    ) -> Result<bool, Denial> {
        if create.authrole.is_some() || create.schemaname.is_empty() {
            return Err(forbidden("CREATE SCHEMA AUTHORIZATION"));
        }
        if create.schemaname.starts_with("pg_") {
            return Err(forbidden("changes to the system catalogs"));
        }
        let grant = self.allows(Verb::Ddl)?;
        self.granted(&grant, Verb::Ddl);
        let name = (Some(create.schemaname.clone()), NO_NAME.to_owned());
        names.push(name);
        self.will_make(names, RelationKind::Composite, &[], &[]);
        // What stands in it is made in this order, and finds what is in the new schema first.
        let path = std::iter::once(&create.schemaname).chain(self.session.search_path.iter());
        self.session.search_path = path.cloned().collect();
        let mut elements: Vec<(u8, &mut Node)> = Vec::with_capacity(create.schema_elts.len());
        for element in &mut create.schema_elts {
            let rank = match &element.node {
                Some(NodeEnum::CreateSeqStmt(_)) => 0,
                Some(NodeEnum::CreateStmt(_)) => 1,
                Some(NodeEnum::ViewStmt(_)) => 2,
                Some(NodeEnum::IndexStmt(_)) => 3,
                _ => return Err(forbidden("grants and triggers in CREATE SCHEMA")),
            };
            elements.push((rank, element));
        }
        elements.sort_by_key(|(rank, _)| *rank);
        let before = Arc::clone(&self.session.overlay);
        for (_, element) in elements {
            self.see_made_beside(&before);
            self.define(element)?;
            if let Effect::CatalogChange { names: made, .. } = &mut self.out.effect {
                names.append(made);
            }
        }
        Ok(false)
    }

    /// Ddl for a type of a new name, which is written out.
    fn new_type(&mut self, names: &mut Vec<Node>) -> Result<bool, Denial> {
        match tree::strings(names).as_deref() {
            Some([name]) => {
                let (schema, name) = (self.creation_schema()?, (*name).to_owned());
                self.takes_no_types_place(&schema, &name)?;
                self.may_define(&schema, &name)?;
                self.changed_types.push((name.clone(), Doubt::Made(schema.clone())));
                *names = vec![tree::string(schema), tree::string(name)];
                self.changed = true;
            }
            Some([PG_TEMP, name]) => {
                self.takes_no_types_place(PG_TEMP, name)?;
                self.captures_nothing(PG_TEMP, name)?;
                let grant = self.allows(Verb::Temp)?;
                self.granted(&grant, Verb::Temp);
                self.changed_types.push(((*name).to_owned(), Doubt::Made(PG_TEMP.to_owned())));
                return Ok(true);
            }
            Some([schema, name]) => {
                let (schema, name) = ((*schema).to_owned(), (*name).to_owned());
                self.takes_no_types_place(&schema, &name)?;
                self.may_define(&schema, &name)?;
                self.changed_types.push((name, Doubt::Made(schema)));
            }
            _ => return Err(unsupported("a type's name")),
        }
        Ok(false)
    }

    /// Refuses a new type where its bare name may come to mean it in place of one that is known: of the server's own by any schema, as
    /// the path may name that first, and of any by pg_temp, which comes first always. What is decided of casts would be of the other.
    fn takes_no_types_place(&self, schema: &str, name: &str) -> Result<(), Denial> {
        let takes_servers = self.catalog.type_named("pg_catalog", name).is_some();
        let may_take_any = schema == PG_TEMP && !self.policy.views.is_empty();
        if takes_servers || may_take_any && self.catalog.names_type(name) {
            let message =
                format!("permission denied: there is another type {name}, whose bare name would mean this one");
            return Err(Denial::new(Reason::Forbidden, message).object(name.to_owned()).hint("Choose another name."));
        }
        Ok(())
    }

    /// Ddl for a type that exists, by the name that it has in the catalog; which one, unless this transaction made it.
    fn existing_type(&mut self, names: &[Node]) -> Result<Option<Oid>, Denial> {
        let (schema, name) = tree::schema_and_name(names).ok_or_else(|| unsupported("a type's name"))?;
        let (schema, name) = (schema.map(str::to_owned), name.to_owned());
        let found = self.type_called(schema.as_deref(), &name);
        let Some((oid, schema, name)) =
            found.map(|found| (found.oid, found.schema.to_string(), found.name.to_string()))
        else {
            // Made by this transaction, if it is there at all: in one of these schemas.
            if self.session.looked {
                let path = self.session.search_path.clone();
                let exists = |schema: &&String| self.catalog.schemas.contains_key(schema.as_str());
                let schemas: Vec<String> =
                    schema.map_or_else(|| path.iter().filter(exists).cloned().collect(), |one| vec![one]);
                for schema in &schemas {
                    self.may_define(schema, &name)?;
                }
                if !schemas.is_empty() {
                    return Ok(None);
                }
            }
            self.unknown.push((None, name.clone()));
            return Err(
                Denial::new(Reason::UnknownRelation, format!("type \"{name}\" does not exist")).sqlstate("42704")
            );
        };
        self.may_define(&schema, &name)?;
        Ok(Some(oid))
    }

    /// Ddl for a type that is called otherwise after it, or is there no more.
    fn changed_type(&mut self, type_name: &[Node], names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        if let Some([.., name]) = tree::strings(type_name).as_deref() {
            self.changed_types.push(((*name).to_owned(), Doubt::Gone));
        }
        self.altered_type(type_name, names)
    }

    /// Ddl for a type that exists and may change for all that is stored under it. No such type is temporary.
    fn altered_type(&mut self, type_name: &[Node], names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        if let Some(oid) = self.existing_type(type_name)? {
            self.is_type_of_plain(oid)?;
            let types = self.catalog.types_made_of(oid);
            let has =
                |relation: &&Arc<Relation>| relation.columns.iter().any(|column| types.contains(&column.type_oid));
            let mut having: Vec<Arc<Relation>> = self.catalog.relations.values().filter(has).cloned().collect();
            having.sort_by_key(|relation| relation.oid);
            having.iter().for_each(|relation| self.retype(relation, names));
        }
        Ok(false)
    }

    /// Relations that the identity sees otherwise than they are, in one order.
    fn guarded_relations(&self) -> Vec<&Arc<Relation>> {
        let mut guarded: Vec<&Arc<Relation>> =
            self.policy.views.keys().filter_map(|oid| self.catalog.relations.get(oid)).collect();
        guarded.sort_by_key(|relation| relation.oid);
        guarded
    }

    /// Refuses if a relation that the identity sees otherwise than it is has a column of the type, or of one made of
    /// it: a new CHECK of a domain is tried on every stored value, and a label that changes its name turns a filter.
    fn is_type_of_plain(&self, oid: Oid) -> Result<(), Denial> {
        // Indexes and sequences have no row's type; that of what this text made is no column's that was not decided in it.
        if oid == 0 {
            return Ok(());
        }
        let types = self.catalog.types_made_of(oid);
        self.guarded_relations()
            .into_iter()
            .filter(|relation| relation.columns.iter().any(|column| types.contains(&column.type_oid)))
            .try_for_each(|relation| self.is_plain(relation))
    }

    /// Refuses CASCADE of a composite type's change where something is guarded: tables that are typed by it change, too,
    /// and the catalog does not tell which these are.
    fn stays_in_type(&self, behavior: i32) -> Result<(), Denial> {
        if behavior == pb::DropBehavior::DropCascade as i32 && !self.policy.views.is_empty() {
            return Err(forbidden("ALTER TYPE … CASCADE where relations have masks or row filters for you"));
        }
        Ok(())
    }

    fn alter_table(&mut self, alter: &mut pb::AlterTableStmt, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        use pb::ObjectType as Of;
        match Of::try_from(alter.objtype) {
            Ok(
                Of::ObjectTable
                | Of::ObjectIndex
                | Of::ObjectView
                | Of::ObjectMatview
                | Of::ObjectSequence
                | Of::ObjectType,
            ) => {}
            _ => return Err(forbidden("ALTER of this kind of object")),
        }
        let range = alter.relation.as_mut().ok_or_else(|| unsupported("ALTER TABLE"))?;
        let Some(relation) = self.defined(range, alter.missing_ok, names)? else { return Ok(false) };
        self.retype(&relation, names);
        let loses = |command: &Node| match &command.node {
            Some(NodeEnum::AlterTableCmd(command)) => {
                command.subtype == pb::AlterTableType::AtDropColumn as i32
                    || command.behavior == pb::DropBehavior::DropCascade as i32
            }
            _ => true,
        };
        if alter.cmds.iter().any(loses) {
            self.only_plain_depend_on(&relation)?;
        }
        // Which types they have by then, depends on the order of the commands.
        let untyped = |column: Column| Column { type_oid: None, ..column };
        let mut columns: Vec<Column> = plain_columns(&relation).into_iter().map(untyped).collect();
        for command in &alter.cmds {
            if let Some(NodeEnum::AlterTableCmd(command)) = &command.node
                && let Some(NodeEnum::ColumnDef(column)) = command.def.as_deref().and_then(|def| def.node.as_ref())
            {
                columns.push(named(&column.colname));
            }
        }
        for command in &mut alter.cmds {
            let Some(NodeEnum::AlterTableCmd(command)) = &mut command.node else {
                return Err(unsupported("ALTER TABLE"));
            };
            self.alter_command(command, &columns)?;
            if alter.objtype == Of::ObjectType as i32 {
                self.stays_in_type(command.behavior)?;
            }
        }
        Ok(relation.temporary)
    }

    fn alter_command(&mut self, command: &mut pb::AlterTableCmd, columns: &[Column]) -> Result<(), Denial> {
        use pb::AlterTableType as Kind;
        let definition = command.def.as_deref_mut();
        match Kind::try_from(command.subtype) {
            Ok(Kind::AtAddColumn) => {
                let definition = definition.ok_or_else(|| unsupported("ADD COLUMN"))?;
                self.column_definition(definition, columns, true)
            }
            Ok(Kind::AtColumnDefault | Kind::AtSetExpression) => match definition {
                Some(expression) => self.over(columns.to_vec(), true, "", expression),
                None => Ok(()),
            },
            Ok(Kind::AtAlterColumnType) => {
                let Some(NodeEnum::ColumnDef(column)) = definition.and_then(|def| def.node.as_mut()) else {
                    return Err(unsupported("ALTER COLUMN TYPE"));
                };
                self.column_type(column.type_name.as_mut())?;
                match column.raw_default.as_deref_mut() {
                    Some(using) => self.over(columns.to_vec(), true, "", using),
                    None => Ok(()),
                }
            }
            Ok(Kind::AtAddConstraint) => {
                let definition = definition.ok_or_else(|| unsupported("ADD CONSTRAINT"))?;
                self.constraint(definition, columns, true)
            }
            Ok(Kind::AtAddIdentity) => {
                let definition = definition.ok_or_else(|| unsupported("ADD GENERATED"))?;
                self.constraint(definition, columns, true)
            }
            Ok(Kind::AtSetIdentity) => match definition.and_then(|def| def.node.as_mut()) {
                Some(NodeEnum::List(options)) => {
                    // `generated` is the kind, the others are those of a sequence.
                    options.items.iter().try_for_each(|option| match &option.node {
                        Some(NodeEnum::DefElem(option)) if option.defname != "owned_by" => Ok(()),
                        _ => Err(unsupported("SET GENERATED")),
                    })
                }
                _ => Err(unsupported("SET GENERATED")),
            },
            Ok(Kind::AtAddInherit | Kind::AtDropInherit) => {
                let Some(NodeEnum::RangeVar(range)) = definition.and_then(|def| def.node.as_mut()) else {
                    return Err(unsupported("INHERIT"));
                };
                self.defined(range, false, &mut Vec::new()).map(|_| ())
            }
            Ok(Kind::AtAttachPartition | Kind::AtDetachPartition | Kind::AtDetachPartitionFinalize) => {
                let Some(NodeEnum::PartitionCmd(partition)) = definition.and_then(|def| def.node.as_mut()) else {
                    return Err(unsupported("a partition command"));
                };
                if let Some(range) = partition.name.as_mut() {
                    self.defined(range, false, &mut Vec::new())?;
                }
                match partition.bound.as_mut() {
                    Some(bound) => self.partition_bound(bound),
                    None => Ok(()),
                }
            }
            Ok(
                Kind::AtDropNotNull
                | Kind::AtSetNotNull
                | Kind::AtDropExpression
                | Kind::AtSetStatistics
                | Kind::AtSetOptions
                | Kind::AtResetOptions
                | Kind::AtSetStorage
                | Kind::AtSetCompression
                | Kind::AtDropColumn
                | Kind::AtAlterConstraint
                | Kind::AtValidateConstraint
                | Kind::AtDropConstraint
                | Kind::AtClusterOn
                | Kind::AtDropCluster
                | Kind::AtSetLogged
                | Kind::AtSetUnLogged
                | Kind::AtSetTableSpace
                | Kind::AtSetRelOptions
                | Kind::AtResetRelOptions
                | Kind::AtReplicaIdentity
                | Kind::AtDropIdentity,
            ) => Ok(()),
            Ok(Kind::AtChangeOwner) => Err(forbidden("a change of owner")),
            Ok(
                Kind::AtEnableTrig
                | Kind::AtEnableAlwaysTrig
                | Kind::AtEnableReplicaTrig
                | Kind::AtDisableTrig
                | Kind::AtEnableTrigAll
                | Kind::AtDisableTrigAll
                | Kind::AtEnableTrigUser
                | Kind::AtDisableTrigUser
                | Kind::AtEnableRule
                | Kind::AtEnableAlwaysRule
                | Kind::AtEnableReplicaRule
                | Kind::AtDisableRule,
            ) => Err(forbidden("switching triggers and rules")),
            Ok(
                Kind::AtEnableRowSecurity
                | Kind::AtDisableRowSecurity
                | Kind::AtForceRowSecurity
                | Kind::AtNoForceRowSecurity,
            ) => Err(forbidden("switching row level security")),
            _ => Err(unsupported("this form of ALTER TABLE")),
        }
    }

    fn rename(&mut self, rename: &mut pb::RenameStmt, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        use pb::ObjectType as Of;
        match Of::try_from(rename.rename_type) {
            Ok(
                of @ (Of::ObjectTable
                | Of::ObjectView
                | Of::ObjectMatview
                | Of::ObjectSequence
                | Of::ObjectIndex
                | Of::ObjectColumn
                | Of::ObjectAttribute
                | Of::ObjectTabconstraint),
            ) => {
                if rename.relation_type == Of::ObjectForeignTable as i32 {
                    return Err(forbidden("changes to foreign tables"));
                }
                let range = rename.relation.as_mut().ok_or_else(|| unsupported("RENAME"))?;
                let Some(relation) = self.defined(range, rename.missing_ok, names)? else { return Ok(false) };
                let whole = !matches!(of, Of::ObjectColumn | Of::ObjectAttribute | Of::ObjectTabconstraint);
                if whole {
                    let schema = if relation.temporary { PG_TEMP } else { &*relation.schema };
                    names.push((Some(schema.to_owned()), rename.newname.clone()));
                    // An index is no relation that a rule names.
                    match relation.temporary {
                        true => self.captures_nothing(PG_TEMP, &rename.newname)?,
                        false if relation.kind == RelationKind::Index => {}
                        false => self.may_define(&relation.schema, &rename.newname.clone())?,
                    }
                    self.will_be_called(&relation, schema, &rename.newname);
                }
                if of == Of::ObjectAttribute {
                    self.stays_in_type(rename.behavior)?;
                }
                if matches!(of, Of::ObjectColumn | Of::ObjectAttribute) {
                    self.retype(&relation, names);
                }
                Ok(relation.temporary)
            }
            Ok(of @ (Of::ObjectType | Of::ObjectDomain | Of::ObjectDomconstraint)) => {
                let schema = self.creation_schema();
                let listed = match rename.object.as_deref_mut().and_then(|object| object.node.as_mut()) {
                    Some(NodeEnum::List(list)) => &mut list.items,
                    Some(NodeEnum::TypeName(name)) => &mut name.names,
                    _ => return Err(unsupported("RENAME")),
                };
                let mut parts = listed.clone();
                if self.existing_type(&parts)?.is_none() && parts.len() == 1 {
                    // Made by this transaction, and there; a temporary type would be meant by the bare name.
                    parts.insert(0, tree::string(schema?));
                    listed.clone_from(&parts);
                    self.changed = true;
                }
                if of != Of::ObjectDomconstraint {
                    self.takes_no_types_place(NO_NAME, &rename.newname)?;
                    self.captures_nothing(NO_NAME, &rename.newname)?;
                    let before = parts.last().and_then(string_of);
                    let new = before.and_then(|name| self.session.types_in_doubt.get(name));
                    let doubt = new.filter(|doubt| matches!(doubt, Doubt::Made(_))).cloned().unwrap_or(Doubt::Turned);
                    self.changed_types.push((rename.newname.clone(), doubt));
                    return self.changed_type(&parts, names);
                }
                self.altered_type(&parts, names)
            }
            _ => Err(forbidden("RENAME of this kind of object")),
        }
    }

    fn move_to_schema(
        &mut self,
        alter: &mut pb::AlterObjectSchemaStmt,
        names: &mut Vec<WrittenName>,
    ) -> Result<bool, Denial> {
        use pb::ObjectType as Of;
        match Of::try_from(alter.object_type) {
            Ok(Of::ObjectTable | Of::ObjectView | Of::ObjectMatview | Of::ObjectSequence) => {}
            _ => return Err(forbidden("SET SCHEMA of this kind of object")),
        }
        let range = alter.relation.as_mut().ok_or_else(|| unsupported("SET SCHEMA"))?;
        let Some(relation) = self.defined(range, alter.missing_ok, names)? else { return Ok(false) };
        self.may_define(&alter.newschema.clone(), &relation.name)?;
        names.push((Some(alter.newschema.clone()), relation.name.to_string()));
        self.will_be_called(&relation, &alter.newschema, &relation.name);
        Ok(relation.temporary)
    }

    fn drop_objects(&mut self, drop: &mut pb::DropStmt, names: &mut Vec<WrittenName>) -> Result<bool, Denial> {
        use pb::ObjectType as Of;
        let kind = Of::try_from(drop.remove_type).ok();
        let cascade = drop.behavior == pb::DropBehavior::DropCascade as i32;
        let mut all_temporary = true;
        for object in &mut drop.objects {
            let temporary = match (kind, &mut object.node) {
                (
                    Some(Of::ObjectTable | Of::ObjectView | Of::ObjectMatview | Of::ObjectIndex | Of::ObjectSequence),
                    Some(NodeEnum::List(list)),
                ) => {
                    let mut range = range_of(&list.items)?;
                    let relation = self.defined(&mut range, drop.missing_ok, names);
                    let relation = relation.map_err(|denial| as_dropped(denial, kind, &range.relname))?;
                    if let Some(relation) = relation.as_deref().filter(|_| cascade) {
                        self.only_plain_depend_on(relation)?;
                    }
                    // The name as it was resolved.
                    let mut parts = Vec::new();
                    if !range.schemaname.is_empty() {
                        parts.push(tree::string(range.schemaname));
                    }
                    parts.push(tree::string(range.relname));
                    self.changed |= parts.len() != list.items.len();
                    list.items = parts;
                    relation.is_some_and(|relation| relation.temporary)
                }
                (Some(Of::ObjectType | Of::ObjectDomain), Some(NodeEnum::TypeName(name))) => {
                    let listed = name.names.clone();
                    match self.changed_type(&listed, names) {
                        Err(denial) if drop.missing_ok && self.session.looked && denial.sqlstate == "42704" => {
                            self.unknown.clear();
                            let grant = self.allows(Verb::Ddl)?;
                            self.granted(&grant, Verb::Ddl);
                            false
                        }
                        other => other?,
                    }
                }
                (Some(Of::ObjectSchema), Some(NodeEnum::String(name))) => {
                    let name = name.sval.clone();
                    self.drop_schema(&name, cascade)?;
                    false
                }
                _ => return Err(forbidden("DROP of this kind of object")),
            };
            all_temporary &= temporary;
        }
        Ok(all_temporary)
    }

    fn drop_schema(&mut self, schema: &str, cascade: bool) -> Result<(), Denial> {
        if is_system_schema(schema) || schema.starts_with("pg_") {
            return Err(forbidden("changes to the system catalogs"));
        }
        let grant = self.allows(Verb::Ddl)?;
        self.granted(&grant, Verb::Ddl);
        if cascade {
            let mut inside: Vec<Arc<Relation>> = self
                .catalog
                .relation_names
                .get(schema)
                .into_iter()
                .flat_map(|names| names.values())
                .filter_map(|oid| self.catalog.relations.get(oid))
                .filter(|relation| !matches!(relation.kind, RelationKind::Index | RelationKind::Toast))
                .cloned()
                .collect();
            // In one order, so that the same text always gets the same answer.
            inside.sort_by(|a, b| a.name.cmp(&b.name));
            for relation in inside {
                self.may_change(&relation)?;
                self.only_plain_depend_on(&relation)?;
            }
            self.only_plain_use(schema)?;
            let mut types: Vec<Oid> =
                self.catalog.types.values().filter(|one| &*one.schema == schema).map(|one| one.oid).collect();
            types.sort_unstable();
            types.into_iter().try_for_each(|oid| self.is_type_of_plain(oid))?;
        }
        Ok(())
    }

    /// Refuses CASCADE if a relation that the identity sees otherwise than it is would lose something: a column of the row's type, a
    /// foreign key, or itself as a view.
    fn only_plain_depend_on(&self, relation: &Relation) -> Result<(), Denial> {
        let mut gone: Vec<Oid> = self.with_descendants(relation);
        let mut next = 0;
        while let Some(oid) = gone.get(next).copied() {
            let is_of = |view: &&Arc<Relation>| view.depends_on.iter().any(|(of, _)| *of == oid);
            let views = self.catalog.relations.values().filter(is_of).map(|view| view.oid);
            let new: Vec<Oid> = views.filter(|oid| !gone.contains(oid)).collect();
            gone.extend(new);
            next += 1;
        }
        for oid in &gone {
            let Some(relation) = self.catalog.relations.get(oid) else { continue };
            self.is_plain(relation)?;
            self.is_type_of_plain(relation.row_type)?;
            for (dependant, _) in self.catalog.foreign_keys_to(*oid) {
                self.is_plain(dependant)?;
            }
        }
        // Of row level security the catalog does not tell what it reads.
        let names =
            |column: &catalog::Column| column.default.as_deref().is_some_and(|sql| mentions_word(sql, &relation.name));
        let depends = |of: &&&Arc<Relation>| of.row_security || of.columns.iter().any(names);
        self.guarded_relations().iter().find(depends).map_or(Ok(()), |relation| self.is_plain(relation))
    }

    /// Refuses to drop a schema with what such a relation may be computed or compared by: functions, and collations, of which the
    /// catalog does not tell where they are.
    fn only_plain_use(&self, schema: &str) -> Result<(), Denial> {
        let has_functions = self.catalog.functions.values().flatten().any(|function| &*function.schema == schema);
        let collates = |column: &catalog::Column| column.collation >= FIRST_USER_OID;
        let may_use = |relation: &&Arc<Relation>| has_functions || relation.columns.iter().any(collates);
        self.guarded_relations().into_iter().filter(may_use).try_for_each(|relation| self.is_plain(relation))
    }

    fn comment(&mut self, comment: &mut pb::CommentStmt) -> Result<bool, Denial> {
        use pb::ObjectType as Of;
        let object = comment.object.as_deref_mut().ok_or_else(|| unsupported("COMMENT"))?;
        let kind = Of::try_from(comment.objtype);
        match (kind, &mut object.node) {
            (
                Ok(Of::ObjectTable | Of::ObjectView | Of::ObjectMatview | Of::ObjectIndex | Of::ObjectSequence),
                Some(NodeEnum::List(list)),
            ) => self.commented(&mut list.items, 0),
            // The last name is the column's or the constraint's; in the text of a constraint it comes first.
            (Ok(Of::ObjectColumn | Of::ObjectTabconstraint), Some(NodeEnum::List(list))) => {
                self.commented(&mut list.items, 1)
            }
            (Ok(Of::ObjectType | Of::ObjectDomain), Some(NodeEnum::TypeName(name))) => {
                let listed = name.names.clone();
                self.existing_type(&listed).map(|_| false)
            }
            (Ok(Of::ObjectSchema), Some(NodeEnum::String(_))) => {
                let grant = self.allows(Verb::Ddl)?;
                self.granted(&grant, Verb::Ddl);
                Ok(false)
            }
            _ => Err(forbidden("COMMENT on this kind of object")),
        }
    }

    fn commented(&mut self, items: &mut Vec<Node>, trailing: usize) -> Result<bool, Denial> {
        let end = items.len().checked_sub(trailing).ok_or_else(|| unsupported("COMMENT"))?;
        let mut range = range_of(items.get(..end).unwrap_or_default())?;
        let relation = self.defined(&mut range, false, &mut Vec::new())?;
        if end == 1 && !range.schemaname.is_empty() {
            items.insert(0, tree::string(range.schemaname));
            self.changed = true;
        }
        Ok(relation.is_some_and(|relation| relation.temporary))
    }
}

/// An expression that LIKE copies, as SQL, and the option that has it copied.
struct Copied {
    option: &'static str,
    sql: String,
}

/// A relation's name as it is looked up.
fn written(relation: &Relation) -> WrittenName {
    let schema = if relation.temporary { PG_TEMP } else { &*relation.schema };
    (Some(schema.to_owned()), relation.name.to_string())
}

/// What these options of LIKE copy. All but a default is computed of the relation's columns.
fn copied_of(source: &Relation, options: u32) -> Vec<Copied> {
    let defaults = source.columns.iter().filter_map(|column| column.default.as_deref().map(str::to_owned));
    let generated = source.columns.iter().filter_map(|column| column.generated.as_deref().map(str::to_owned));
    let checks = source.checks.iter().map(|check| check.expression.to_string());
    // Expressions of an index are a list.
    let of_indexes = source.indexes.iter().flat_map(|index| [&index.expressions, &index.predicate]).flatten();
    let of_indexes = of_indexes.map(|text| format!("ROW({text})"));
    let mut copied = Vec::new();
    let mut add = |bit: u32, option: &'static str, expressions: &mut dyn Iterator<Item = String>| {
        if options & bit != 0 {
            copied.extend(expressions.map(|sql| Copied { option, sql }));
        }
    };
    add(LIKE_DEFAULTS, "DEFAULTS", &mut { defaults });
    add(LIKE_CONSTRAINTS, "CONSTRAINTS", &mut { checks });
    add(LIKE_GENERATED, "GENERATED", &mut { generated });
    add(LIKE_INDEXES, "INDEXES", &mut { of_indexes });
    copied
}

/// What is to be dropped and is not there is called by its kind, as the server does.
fn as_dropped(denial: Denial, kind: Option<pb::ObjectType>, name: &str) -> Denial {
    use pb::ObjectType as Of;
    let (what, sqlstate) = match kind {
        _ if denial.sqlstate != "42P01" => return denial,
        Some(Of::ObjectTable) => ("table", "42P01"),
        Some(Of::ObjectView) => ("view", "42P01"),
        Some(Of::ObjectMatview) => ("materialized view", "42P01"),
        Some(Of::ObjectSequence) => ("sequence", "42P01"),
        Some(Of::ObjectIndex) => ("index", "42704"),
        _ => return denial,
    };
    Denial { message: format!("{what} \"{name}\" does not exist"), sqlstate, ..denial }
}

/// The column that a definition makes.
fn defined_column(definition: &Node) -> Option<Column> {
    match &definition.node {
        Some(NodeEnum::ColumnDef(column)) => Some(named(&column.colname)),
        _ => None,
    }
}

fn named(name: &str) -> Column {
    Column { name: Some(Arc::from(name)), ..Column::default() }
}

/// The row of a relation that is seen through a view has no type of its own, so there is no column for it.
fn no_rows_as_columns(columns: &[Column]) -> Result<(), Denial> {
    let Some(column) = columns.iter().find(|column| column.type_oid == Some(types::RECORD)) else { return Ok(()) };
    let name = column.name.as_deref().unwrap_or("?column?");
    Err(Denial::new(Reason::Unsupported, format!("column \"{name}\" has pseudo-type record"))
        .sqlstate("42P16")
        .hint("A row can't be stored as one column if it is masked or filtered for you: select its columns."))
}

fn is_serial(name: Option<&pb::TypeName>) -> bool {
    let names = name.and_then(|name| tree::strings(&name.names));
    matches!(names.as_deref(), Some(["serial" | "serial2" | "serial4" | "serial8" | "smallserial" | "bigserial"]))
}

/// Whether the server makes a sequence for a new column.
fn has_sequence(column: &pb::ColumnDef) -> bool {
    let is_identity = |constraint: &Node| match &constraint.node {
        Some(NodeEnum::Constraint(constraint)) => constraint.contype == pb::ConstrType::ConstrIdentity as i32,
        _ => false,
    };
    is_serial(column.type_name.as_ref()) || column.constraints.iter().any(is_identity)
}

/// A relation's name, as DROP and COMMENT list it.
fn range_of(items: &[Node]) -> Result<pb::RangeVar, Denial> {
    let names = tree::strings(items).ok_or_else(|| unsupported("a relation's name"))?;
    let (catalogname, schemaname, relname) = match names.as_slice() {
        [name] => ("", "", *name),
        [schema, name] => ("", *schema, *name),
        [database, schema, name] => (*database, *schema, *name),
        _ => return Err(unsupported("a relation's name")),
    };
    Ok(pb::RangeVar {
        catalogname: catalogname.to_owned(),
        schemaname: schemaname.to_owned(),
        relname: relname.to_owned(),
        inh: true,
        relpersistence: "p".to_owned(),
        alias: None,
        location: -1,
    })
}
