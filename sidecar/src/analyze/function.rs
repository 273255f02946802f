//! Function calls: which function a name means, and whether the identity may run it.

use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::Verb;

use super::Analyzer;
use super::parameters::bare_parameter;
use super::scope::Column;
use super::select::{figure_name, named};
use super::tree::{self, unsupported};
use crate::catalog::names::{CallForm, is_polymorphic, quote_name, types};
use crate::catalog::{self, Function, Oid, Relation, RelationKind};
use crate::decide::bound::ROW;
use crate::decide::builtins::{self, FunctionClass, Makes};
use crate::decide::expression::instantiate_with;
use crate::decide::{Denial, Reason, settings, system};

impl Analyzer<'_> {
    /// Decides a call whose arguments were walked; tells its result's type where it is certain.
    pub(crate) fn decide_call(
        &mut self,
        call: &mut pb::FuncCall,
        arguments: &[Option<Oid>],
        form: CallForm,
        windowed: bool,
    ) -> Result<Option<Oid>, Denial> {
        self.walked.insert(call.location);
        let (schema, name) = match tree::strings(&call.funcname).as_deref() {
            Some([name]) => (None, (*name).to_owned()),
            Some([schema, name]) => (Some((*schema).to_owned()), (*name).to_owned()),
            Some([database, schema, name]) if *database == self.policy.policy.database.name => {
                (Some((*schema).to_owned()), (*name).to_owned())
            }
            _ => return Err(unsupported("a function's name")),
        };
        let catalog = self.catalog;
        let path = self.session.search_path.clone();
        let choice = catalog.resolve_call(&path, schema.as_deref(), &name, arguments, form);
        let chosen: Vec<Function> = choice.all().iter().map(|function| (*function).clone()).collect();
        if chosen.is_empty() {
            return self.no_function(call, schema.as_deref(), &name, arguments);
        }
        if chosen.iter().all(is_current_setting) && self.setting_is_computed(&call.args) {
            return self.computed_setting(call);
        }
        if chosen.iter().all(|function| builtins::classify(function) == FunctionClass::Notify)
            && call.args.first().and_then(text_of).is_none()
        {
            return self.computed_channel(call);
        }
        if chosen.iter().all(|function| builtins::classify(function) == FunctionClass::OfRelation)
            && let Some(condition) = system::shown_relation("v.name", self.policy)
        {
            self.test_first(call, "regclass", &condition)?;
            call.funcname = vec![tree::string("pg_catalog"), tree::string(&*name)];
            return Ok(chosen.first().map(|function| function.result));
        }
        if chosen.iter().all(|function| builtins::classify(function) == FunctionClass::RelationCounter) {
            if let Some(condition) = system::counted_condition(self.policy, "v.name") {
                self.test_first(call, "oid", &condition)?;
                call.funcname = vec![tree::string("pg_catalog"), tree::string(name.as_str())];
            }
            return Ok(Some(types::INT8));
        }
        if chosen.iter().all(|function| matches!(builtins::classify(function), FunctionClass::Sequence { .. })) {
            self.name_serial_sequence(call);
            if name == "pg_sequence_last_value" && call.args.first().is_some_and(|sequence| text_of(sequence).is_none())
            {
                // As for who may not read a sequence; what it is called with was decided.
                call.args = vec![tree::null()];
                self.changed = true;
                return Ok(Some(types::INT8));
            }
        }
        for function in &chosen {
            self.may_call(function, &call.args)?;
            if function.arguments.iter().any(|parameter| is_polymorphic(*parameter)) {
                self.may_become(arguments, true)?;
            }
            self.casts_to_text(function, arguments)?;
            match (builtins::makes(function), arguments.first()) {
                (None, _) => {}
                (Some(Makes::Argument), Some(Some(kind))) if *kind != types::UNKNOWN => self.may_make(*kind)?,
                (Some(_), _) => self.may_make_any()?,
            }
            self.may_return_rows |= function.set_returning;
            self.has_aggregate |= function.kind == 'a' && !windowed;
        }
        // Left as written where every function of that name is allowed; else the one decided on is named.
        if schema.is_none()
            && let [one] = chosen.as_slice()
            && call.funcformat != pb::CoercionForm::CoerceSqlSyntax as i32
        {
            let others: Vec<Function> =
                catalog.functions_named(&path, None, &name).into_iter().filter(|f| f.oid != one.oid).cloned().collect();
            let all_allowed = self.only_asking(|asking| {
                others.iter().all(|other| other.schema == one.schema || asking.may_call(other, &call.args).is_ok())
            });
            if !all_allowed {
                call.funcname = vec![tree::string(&*one.schema), tree::string(&*one.name)];
                self.changed = true;
            }
        }
        match chosen.as_slice() {
            [one] if !one.set_returning || one.out_columns.is_empty() => {
                Ok(catalog.result_type(&one.arguments, one.result, arguments))
            }
            _ => Ok(None),
        }
    }

    fn no_function(
        &mut self,
        call: &pb::FuncCall,
        schema: Option<&str>,
        name: &str,
        arguments: &[Option<Oid>],
    ) -> Result<Option<Oid>, Denial> {
        if self.catalog.is_cast_call(&self.session.search_path, schema, name, arguments) {
            let target = self.type_called(schema, name).cloned();
            if let Some(target) = target {
                self.may_make(target.oid)?;
                return Ok(Some(target.oid));
            }
        }
        // `id(c)` is the column `id` of the row `c`.
        if let ([argument], None) = (call.args.as_slice(), schema)
            && let Some(NodeEnum::ColumnRef(reference)) = &argument.node
            && let Some(names) = tree::strings(&reference.fields)
        {
            let whole = self.scopes.meaning(&names).whole;
            let has =
                |id: &usize| self.scopes.columns_of(*id).0.iter().any(|column| column.name.as_deref() == Some(name));
            if whole.iter().any(has) {
                return Ok(None);
            }
        }
        // Parameters of type void are left out by the server: that is how JDBC's calls name what they want back. Their
        // types aren't known here, so every function of that name must be one that may be called.
        if call.args.iter().any(|argument| matches!(argument.node, Some(NodeEnum::ParamRef(_)))) {
            let path = self.session.search_path.clone();
            let fewer = |function: &&Function| function.arguments.len() < arguments.len();
            let named: Vec<Function> =
                self.catalog.functions_named(&path, schema, name).into_iter().filter(fewer).cloned().collect();
            if !named.is_empty() {
                return named.iter().try_for_each(|function| self.may_call(function, &call.args)).map(|()| None);
            }
        }
        self.unknown.push((schema.map(str::to_owned), name.to_owned()));
        let known = self.catalog.functions.contains_key(name);
        let hint = if known {
            "No function of that name takes these arguments; a cast of the arguments may help."
        } else {
            "Check the function's name and the search_path."
        };
        Err(Denial::new(Reason::Function, format!("function {name} with {} arguments does not exist", arguments.len()))
            .sqlstate("42883")
            .hint(hint))
    }

    /// Whether the identity may run a function. `arguments` is what the client wrote, where it wrote something.
    pub(crate) fn may_call(&mut self, function: &Function, arguments: &[Node]) -> Result<(), Denial> {
        let full = || format!("{}.{}", function.schema, function.name);
        let class = builtins::classify(function);
        self.changes_state |= changes_state(function);
        match class {
            FunctionClass::Compute => Ok(()),
            FunctionClass::Database => {
                self.out.opens_cursors |= self.catalog.may_open_cursor(function);
                let limits = self.call_of(function)?;
                self.out.limits = self.out.limits.and(limits);
                self.need(Verb::Call);
                Ok(())
            }
            FunctionClass::Setting => self.setting_call(function, arguments),
            FunctionClass::Sequence { .. } => self.sequence_call(function, arguments),
            FunctionClass::WalPosition if self.policy.row_filters || self.policy.may_overwrite_masked() => {
                // The server notes on a row that it comes upon whether it is there for all, and may log its page for that.
                let why = if self.policy.row_filters {
                    "how much is written tells of rows that you don't see"
                } else {
                    "you may overwrite masked values, and how much is written tells about them"
                };
                Err(Denial::new(Reason::Function, format!("the function {} is not allowed: {why}", full()))
                    .object(full()))
            }
            FunctionClass::WalPosition => Ok(()),
            FunctionClass::LastValue if self.policy.lastval_tells => {
                let why = "a masked or hidden column may have got the last value of a sequence";
                Err(Denial::new(Reason::Function, format!("the function {} is not allowed: {why}", full()))
                    .hint("INSERT … RETURNING gives what was stored in a column of yours.")
                    .object(full()))
            }
            FunctionClass::LastValue => Ok(()),
            FunctionClass::OfRelation if !self.policy.telling_partitions.is_empty() => {
                // Where its argument can be tested it does not come here.
                Err(Denial::new(Reason::Function, format!("the function {} is not allowed so", full())).object(full()))
            }
            FunctionClass::OfRelation => Ok(()),
            FunctionClass::RelationCounter if self.policy.views.is_empty() => Ok(()),
            FunctionClass::RelationCounter => Err(Denial::new(
                Reason::Function,
                format!("the function {} is not allowed here: it may count rows that you don't see", full()),
            )
            .object(full())),
            FunctionClass::AdvisoryLock => {
                let grant = self.allows_either(Verb::Lock, Some(Verb::Ddl))?;
                self.granted(&grant, Verb::Lock);
                Ok(())
            }
            FunctionClass::Notify => match arguments.first().and_then(text_of) {
                Some(channel) => self.may_notify(&channel),
                None => Err(Denial::new(Reason::Channel, "pg_notify needs its channel as a literal here")
                    .hint("Write the channel's name as a constant, or use NOTIFY.")),
            },
            FunctionClass::Denied(why) => {
                Err(Denial::new(Reason::Function, format!("the function {} is not allowed: {why}", full()))
                    .object(full()))
            }
        }
    }

    /// Whether it is only known as it runs which setting is meant.
    fn setting_is_computed(&self, arguments: &[Node]) -> bool {
        let Some(name) = arguments.first() else { return false };
        let is_named = arguments.iter().any(|argument| matches!(argument.node, Some(NodeEnum::NamedArgExpr(_))));
        let is_picked = self.picked_setting.is_some() && is_name_column(name);
        !is_named && !is_picked && text_of(name).is_none()
    }

    /// `current_setting` of a computed name: the name is tested as it runs, and is NULL for what SHOW would refuse.
    fn computed_setting(&mut self, call: &mut pb::FuncCall) -> Result<Option<Oid>, Denial> {
        self.test_first(call, "text", &settings::shown_condition("v.name"))?;
        call.funcname = vec![tree::string("pg_catalog"), tree::string("current_setting")];
        Ok(Some(types::TEXT))
    }

    /// `pg_notify` of a computed channel, such as a parameter: it is tested as it runs, and is NULL, which the server
    /// refuses, for one that no rule names.
    fn computed_channel(&mut self, call: &mut pb::FuncCall) -> Result<Option<Oid>, Denial> {
        let Some(condition) = self.policy.channel_condition("v.name") else {
            return Err(Denial::new(Reason::Channel, "no rule names a channel").hint("Add it to a rule's `channels`."));
        };
        self.test_first(call, "text", &condition)?;
        call.funcname = vec![tree::string("pg_catalog"), tree::string("pg_notify")];
        self.need(Verb::Notify);
        Ok(None)
    }

    /// Puts NULL for a call's first argument, which is of this type, where a condition on it, named `v.name`, does not hold.
    fn test_first(&mut self, call: &mut pb::FuncCall, kind: &str, condition: &str) -> Result<(), Denial> {
        // OFFSET 0 keeps the name from being computed twice.
        let tested = tree::parse_expression(&format!(
            "(SELECT CASE WHEN {condition} THEN v.name END FROM (SELECT \"{ROW}\".name::pg_catalog.{kind} AS name OFFSET 0) AS v)"
        ))?;
        if let Some(name) = call.args.first_mut() {
            let written = tree::take(name);
            *name = instantiate_with(&tested, &mut |_| written.clone());
        }
        self.changed = true;
        Ok(())
    }

    /// `set_config` and `current_setting` are decided as SET and SHOW of their constant name.
    fn setting_call(&mut self, function: &Function, arguments: &[Node]) -> Result<(), Denial> {
        if &*function.name == "set_config" {
            self.out.switches.extend(arguments.get(2).and_then(bare_parameter).map(|(number, _)| number));
        }
        let picked = || self.picked_setting.clone().filter(|_| arguments.first().is_some_and(is_name_column));
        let Some(name) = arguments.first().and_then(text_of).or_else(picked) else {
            if &*function.name == "set_config" && is_parameter(arguments.first()) {
                self.out.by_values = true;
                return Ok(());
            }
            // It may be the role, which does not change in mode Audit either.
            let reason = if &*function.name == "set_config" { Reason::Role } else { Reason::Setting };
            return Err(Denial::new(reason, format!("{} needs the setting's name as a literal", function.name))
                .hint("Write the name of the setting as a constant."));
        };
        if &*function.name == "current_setting" {
            return self.settings(|context| settings::show(context, &name)).map(|_| ());
        }
        let Some(value) = arguments.get(1).and_then(text_of) else {
            // A parameter, as of `SELECT set_config('app.tenant', $1, true)`, or computed from the views.
            if self.settings(|context| settings::takes_any_value(context, &name))? {
                return Ok(());
            }
            if is_parameter(arguments.get(1)) {
                self.out.by_values = true;
                return Ok(());
            }
            return Err(Denial::new(Reason::Setting, "set_config needs the value as a literal")
                .hint("Use SET, or write the value as a constant."));
        };
        let Some(local) = arguments.get(2).and_then(text_of).as_deref().and_then(truth) else {
            if is_parameter(arguments.get(2)) {
                self.out.by_values = true;
                return Ok(());
            }
            return Err(Denial::new(Reason::Setting, "set_config needs true or false as a literal")
                .hint("Use SET or SET LOCAL."));
        };
        self.set_config(&name, &value, local)
    }

    /// `setval(pg_get_serial_sequence('t', 'id'), …)`, as ORMs write it: the sequence that is meant is put in its place.
    fn name_serial_sequence(&mut self, call: &mut pb::FuncCall) {
        let Some(first) = call.args.first_mut() else { return };
        let argument = match &mut first.node {
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref_mut(),
            _ => Some(first),
        };
        let Some(argument) = argument else { return };
        let Some(sequence) = self.serial_sequence(argument) else { return };
        *argument = tree::literal(&sequence);
        self.changed = true;
    }

    fn serial_sequence(&mut self, node: &Node) -> Option<String> {
        let Some(NodeEnum::FuncCall(inner)) = &only_target(node).unwrap_or(node).node else { return None };
        let (schema, name) = match tree::strings(&inner.funcname)?.as_slice() {
            ["pg_catalog", name] => (Some("pg_catalog"), *name),
            [name] => (None, *name),
            _ => return None,
        };
        let meant = self.catalog.functions_named(&self.session.search_path, schema, name);
        if name != "pg_get_serial_sequence" || meant.iter().any(|function| &*function.schema != "pg_catalog") {
            return None;
        }
        let [table, column] = inner.args.as_slice() else { return None };
        let (schema, name) = super::name_of(&text_of(table)?).ok()?;
        let table = self.relation_named(schema.as_deref(), &name).ok()?;
        let number = table.column(&text_of(column)?)?.number;
        if self.policy.hidden(table.oid, number) {
            return None;
        }
        let owned = |relation: &&Arc<Relation>| {
            relation.kind == RelationKind::Sequence && relation.owned_by == Some((table.oid, number))
        };
        let sequence = self.catalog.relations.values().find(owned)?;
        Some(format!("{}.{}", quote_name(&sequence.schema), quote_name(&sequence.name)))
    }

    /// A function of a sequence is decided by which one it is: that must be a constant.
    fn sequence_call(&mut self, function: &Function, arguments: &[Node]) -> Result<(), Denial> {
        let Some(text) = arguments.first().and_then(text_of) else {
            return Err(Denial::new(Reason::Function, format!("{} needs its sequence as a literal", function.name))
                .hint("Write the sequence's name as a constant."));
        };
        let (schema, name) = super::name_of(&text)?;
        let sequence = self.relation_named(schema.as_deref(), &name)?;
        // What it is set to is the client's own.
        if &*function.name != "setval" {
            self.tells_nothing(&sequence)?;
        }
        if sequence.temporary { Ok(()) } else { self.may_use_sequence(&sequence) }
    }

    /// Refuses a sequence that a masked or hidden column takes its values from.
    fn tells_nothing(&self, sequence: &Relation) -> Result<(), Denial> {
        let Some(why) = self.policy.view(sequence.oid).and_then(|view| view.closed.as_deref()) else { return Ok(()) };
        let name = sequence.qualified_name();
        Err(Denial::new(Reason::Closed, format!("the sequence {name} is closed: {why}"))
            .hint("Leave the column out of an INSERT: its default runs.")
            .object(name))
    }

    /// The columns that a function in FROM gives; None if that isn't known.
    pub(crate) fn function_columns(
        &self,
        call: &Node,
        result: Option<Oid>,
        alias: Option<&str>,
    ) -> Option<Vec<Column>> {
        let Some(NodeEnum::FuncCall(function)) = &call.node else {
            let name = alias.map(str::to_owned).or_else(|| figure_name(call))?;
            return Some(vec![Column { guessed: true, ..named(&name) }]);
        };
        let (schema, name) = tree::schema_and_name(&function.funcname)?;
        let candidates = self.catalog.function_candidates(&self.session.search_path, schema, name, function.args.len());
        let (one, others) = candidates.split_first()?;
        let same_names = others.iter().all(|other| other.out_columns == one.out_columns);
        if !same_names || one.out_columns.is_empty() && others.iter().any(|other| other.result != one.result) {
            let is_value = |kind: Oid| {
                let of = self.catalog.types.get(&self.catalog.base_type(kind));
                of.is_some_and(|of| of.relation == 0 && of.category != 'P')
            };
            return match result {
                Some(kind) => self.columns_of_value(kind, alias.unwrap_or(name)),
                // One value, of a type that depends on which of them it is.
                None if same_names && candidates.iter().all(|each| is_value(each.result)) => {
                    Some(vec![typed(alias.unwrap_or(name), None)])
                }
                None => None,
            };
        }
        if !one.out_columns.is_empty() {
            return Some(one.out_columns.iter().map(|(name, oid)| typed(name, Some(*oid))).collect());
        }
        if one.result == types::RECORD {
            return None;
        }
        let declared = Some(one.result).filter(|kind| !is_polymorphic(*kind));
        match result.or(declared) {
            Some(kind) => self.columns_of_value(kind, alias.unwrap_or(name)),
            None => Some(vec![guessed(alias.unwrap_or(name), None)]),
        }
    }

    /// The columns that values of a type are in FROM: a row's fields, or one of this name; None if that isn't known.
    fn columns_of_value(&self, kind: Oid, name: &str) -> Option<Vec<Column>> {
        let of = self.catalog.types.get(&self.catalog.base_type(kind))?;
        if of.relation == 0 {
            let is_known = kind != types::UNKNOWN && of.category != 'P';
            return Some(vec![if is_known { typed(name, Some(kind)) } else { guessed(name, None) }]);
        }
        let field = |column: &catalog::Column| Column { field: true, ..typed(&column.name, Some(column.type_oid)) };
        Some(self.row_now(of.relation)?.columns.iter().map(field).collect())
    }
}

/// Whether a function may change what others give.
pub(super) fn changes_state(function: &Function) -> bool {
    let class = builtins::classify(function);
    function.volatility == 'v' && matches!(class, FunctionClass::Database | FunctionClass::Setting)
}

/// Whether it is a parameter, cast to a text at most.
fn is_parameter(argument: Option<&Node>) -> bool {
    match argument.and_then(|argument| argument.node.as_ref()) {
        Some(NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => is_cast_to(cast, &["text", "varchar"]) && is_parameter(cast.arg.as_deref()),
        _ => false,
    }
}

/// Whether a statement is a SELECT of values and nothing else.
pub(crate) fn gives_only_targets(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::SelectStmt(select)) if has_only_targets(select))
}

/// The one value of a `(SELECT value)`.
fn only_target(node: &Node) -> Option<&Node> {
    let Some(NodeEnum::SubLink(link)) = &node.node else { return None };
    let Some(NodeEnum::SelectStmt(select)) = &link.subselect.as_deref()?.node else { return None };
    let [Node { node: Some(NodeEnum::ResTarget(target)) }] = select.target_list.as_slice() else { return None };
    let is_plain = link.sub_link_type == pb::SubLinkType::ExprSublink as i32 && has_only_targets(select);
    target.val.as_deref().filter(|_| is_plain)
}

/// Whether a SELECT gives one row of its targets, without any other clause.
fn has_only_targets(select: &pb::SelectStmt) -> bool {
    *select
        == pb::SelectStmt {
            target_list: select.target_list.clone(),
            ..super::view::select(Vec::new(), Vec::new(), None)
        }
}

fn is_current_setting(function: &Function) -> bool {
    &*function.schema == "pg_catalog" && &*function.name == "current_setting"
}

fn typed(name: &str, type_oid: Option<Oid>) -> Column {
    Column { name: Some(Arc::from(name)), type_oid, ..Column::default() }
}

/// The one column of a value that is thought to be no row.
fn guessed(name: &str, type_oid: Option<Oid>) -> Column {
    Column { guessed: true, ..typed(name, type_oid) }
}

/// The text of a literal, casts of it included.
pub(crate) fn text_of(node: &Node) -> Option<String> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(pb::a_const::Val::Sval(text)) => Some(text.sval.clone()),
            Some(pb::a_const::Val::Ival(number)) => Some(number.ival.to_string()),
            Some(pb::a_const::Val::Fval(number)) => Some(number.fval.clone()),
            Some(pb::a_const::Val::Boolval(value)) => Some(if value.boolval { "on" } else { "off" }.to_owned()),
            _ => None,
        },
        // Any other cast may make another text of it.
        Some(NodeEnum::TypeCast(cast)) => {
            let arg = cast.arg.as_deref()?;
            let of_text =
                matches!(&arg.node, Some(NodeEnum::TypeCast(inner)) if is_cast_to(inner, &["text", "varchar"]));
            let is_plain = is_cast_to(cast, &["text", "varchar", "bool", "regclass"]);
            (is_plain && (of_text || matches!(arg.node, Some(NodeEnum::AConst(_))))).then(|| text_of(arg)).flatten()
        }
        _ => None,
    }
}

/// Whether it is a cast to one of the server's own types of these names, without a modifier.
fn is_cast_to(cast: &pb::TypeCast, names: &[&str]) -> bool {
    let Some(name) = cast.type_name.as_ref() else { return false };
    let is_named = match tree::strings(&name.names).as_deref() {
        Some([name] | ["pg_catalog", name]) => names.contains(name),
        _ => false,
    };
    is_named && name.typmods.is_empty() && name.array_bounds.is_empty() && !name.setof && !name.pct_type
}

/// What a literal of type boolean means.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "t" | "true" | "1" | "y" | "yes" => Some(true),
        "off" | "of" | "f" | "false" | "0" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// Whether a statement is a SELECT without FROM and conditions in whose select list set_config sets `search_path`: then
/// it runs, and once.
pub(crate) fn sets_path_alone(node: &Node) -> bool {
    let Some(NodeEnum::SelectStmt(select)) = &node.node else { return false };
    let sets_path = |target: &Node| {
        let Some(NodeEnum::ResTarget(target)) = &target.node else { return false };
        let Some(NodeEnum::FuncCall(call)) = target.val.as_deref().and_then(|value| value.node.as_ref()) else {
            return false;
        };
        call.funcname.last().and_then(tree::string_of) == Some("set_config")
            && call.args.first().and_then(text_of).is_some_and(|name| name.eq_ignore_ascii_case("search_path"))
    };
    has_only_targets(select) && select.target_list.iter().any(sets_path)
}

/// `name`, bare: with a qualifier it may be that of a query around this one.
fn is_name_column(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::ColumnRef(reference)) => tree::strings(&reference.fields).as_deref() == Some(&["name"]),
        _ => false,
    }
}

/// The setting that a query over pg_settings picks by a constant name: pg_dump sets settings in this form where the
/// server has them.
pub(crate) fn picked_setting(select: &pb::SelectStmt) -> Option<String> {
    let [from] = select.from_clause.as_slice() else { return None };
    let Some(NodeEnum::RangeVar(range)) = &from.node else { return None };
    let settings = range.relname == "pg_settings" && matches!(range.schemaname.as_str(), "" | "pg_catalog");
    let Some(NodeEnum::AExpr(expr)) = &select.where_clause.as_deref()?.node else { return None };
    let equality = expr.kind == pb::AExprKind::AexprOp as i32 && tree::is_equality(&expr.name);
    let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
    (settings && equality && is_name_column(left)).then(|| text_of(right)).flatten()
}
