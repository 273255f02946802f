//! What of a policy is wrong, or may surprise. Pure: policies, identities and catalog in, findings out.
//!
//! An *error* keeps something closed or the sidecar from starting. A *warning* is most likely not what was meant, or
//! lets out or takes away more than it seems. A *note* is what users of the database will stumble over.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::protobuf::Node;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as Kind;
use postern_crds::{
    BulkAction, CheckedIdentity, CheckedPolicy, ColumnPattern, Database, MaskKind, Mode, RelationPattern, TlsMode, To,
    Verb,
};
use serde::Serialize;

use crate::catalog::{Catalog, Function, Oid, Relation, RelationKind};
use crate::decide::bound::{BoundPolicy, ColumnView};
use crate::decide::expression::{UnknownNode, for_each_child, text_of};
use crate::decide::grant::is_special;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work.
    Error,
    /// It is most likely not what was meant.
    Warning,
    /// It is good to know.
    Note,
}

impl Severity {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Path of the field, such as `spec.rules[0].relations[1]`; empty if it is about the whole.
    pub path: String,
    /// Which check found it; stable, for programs.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// The identities that it is about; empty for all.
    pub identities: Vec<String>,
}

/// Findings, each once however many identities it is about.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one that is about all identities.
    pub fn add(&mut self, severity: Severity, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.push(Finding { severity, code, path: path.into(), message: message.into(), identities: Vec::new() });
    }

    fn about(&mut self, identity: &str, severity: Severity, code: &'static str, path: &str, message: String) {
        let identities = vec![identity.to_owned()];
        self.push(Finding { severity, code, path: path.to_owned(), message, identities });
    }

    fn push(&mut self, finding: Finding) {
        let same = |known: &&mut Finding| {
            (known.code, &known.path, &known.message) == (finding.code, &finding.path, &finding.message)
        };
        match self.0.iter_mut().find(same) {
            Some(known) => {
                for identity in finding.identities {
                    if !known.identities.contains(&identity) {
                        known.identities.push(identity);
                    }
                }
            }
            None => self.0.push(finding),
        }
    }

    /// The findings, the worst first.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0
    }
}

/// What can be seen without a database. `identities` are those of the policy's namespace.
pub fn without_catalog(policy: &CheckedPolicy, identities: &[Arc<CheckedIdentity>], findings: &mut Findings) {
    if policy.mode == Mode::Audit {
        let message = "the mode is Audit: every statement passes and no value is masked; refusals are only recorded";
        findings.add(Severity::Warning, "mode-audit", "spec.mode", message);
    }
    transport(&policy.database, findings);
    for rule in &policy.rules {
        unknown_names(&rule.to, &format!("{}.to", rule.path), identities, findings);
        if rule.allow.contains(Verb::CopyOut) {
            match policy.bulk_export.action {
                BulkAction::Allow => {}
                BulkAction::Deny => {
                    let message = format!(
                        "rule {} gives CopyOut, but spec.bulkExport.action is Deny: it stays refused",
                        rule.name
                    );
                    findings.add(Severity::Warning, "copy-out-denied", format!("{}.allow", rule.path), message);
                }
                BulkAction::RequireApproval => {
                    let message = "RequireApproval needs the broker: a sidecar that runs alone refuses";
                    findings.add(Severity::Note, "no-approver", "spec.bulkExport.action", message);
                }
            }
        }
    }
    for mask in &policy.masks {
        unknown_names(&mask.exempt, &format!("{}.exempt", mask.path), identities, findings);
    }
    for identity in identities {
        if policy.rules_for(identity).next().is_none() {
            let message = "no rule applies to this identity: everything is refused".to_owned();
            findings.about(&identity.name, Severity::Warning, "no-rule", "spec.rules", message);
        }
        client_settings(policy, identity, findings);
    }
}

fn transport(database: &Database, findings: &mut Findings) {
    let host = database.host.as_str();
    let local = host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if local {
        return;
    }
    let message = match database.tls {
        TlsMode::Disable => "the password's proof and every row cross the network unencrypted; use VerifyFull",
        TlsMode::Require => "the server is not verified: whoever answers in its place reads everything; use VerifyFull",
        TlsMode::VerifyCa => return,
        TlsMode::VerifyFull => return,
    };
    findings.add(Severity::Warning, "unverified-server", "spec.database.tls.mode", message);
}

fn unknown_names(to: &To, path: &str, identities: &[Arc<CheckedIdentity>], findings: &mut Findings) {
    for name in &to.identities {
        if !identities.iter().any(|identity| identity.name == *name) {
            let message = format!("no identity of the files is called {name}");
            findings.add(Severity::Warning, "unknown-identity", format!("{path}.identities"), message);
        }
    }
    for group in &to.groups {
        if !identities.iter().any(|identity| identity.groups.contains(group)) {
            let message = format!("no identity of the files is in the group {group}");
            findings.add(Severity::Warning, "unknown-group", format!("{path}.groups"), message);
        }
    }
}

/// A filter that asks a setting which the client may set lets the client choose its rows.
fn client_settings(policy: &CheckedPolicy, identity: &CheckedIdentity, findings: &mut Findings) {
    for rule in policy.rules_for(identity) {
        for filter in &rule.row_filters {
            for setting in settings_asked(&filter.where_sql) {
                if !setting.contains('.') || policy.setting_allowed(identity, &setting).is_some() {
                    let message = format!(
                        "the filter asks the setting {setting}, which the client may set: whoever sets it chooses the rows"
                    );
                    findings.about(&identity.name, Severity::Warning, "client-setting", &filter.path, message);
                }
            }
        }
    }
}

/// The settings that an expression reads by `current_setting`.
fn settings_asked(expression: &str) -> Vec<String> {
    let Ok(parsed) = pg_query::parse(&format!("SELECT {expression}"), 0) else { return Vec::new() };
    let mut found = Vec::new();
    for statement in parsed.protobuf.stmts {
        if let Some(mut node) = statement.stmt {
            // A node that isn't known here is refused where the filter is bound, and told there.
            let _ = find_settings(&mut node, &mut found);
        }
    }
    found
}

fn find_settings(node: &mut Node, found: &mut Vec<String>) -> Result<(), UnknownNode> {
    if let Some(Kind::FuncCall(call)) = &node.node
        && call.funcname.last().and_then(text_of) == Some("current_setting")
        && let Some(Kind::AConst(constant)) = call.args.first().and_then(|argument| argument.node.as_ref())
        && let Some(Val::Sval(setting)) = &constant.val
    {
        found.push(setting.sval.to_ascii_lowercase());
    }
    for_each_child(&mut *node, &mut |child| find_settings(child, found))
}

/// What the patterns of a policy match in the database.
pub fn patterns(policy: &CheckedPolicy, catalog: &Catalog, findings: &mut Findings) {
    let nothing = |path: String, pattern: String, what: &str, findings: &mut Findings| {
        findings.add(
            Severity::Warning,
            "matches-nothing",
            path,
            format!("{pattern} matches no {what} of the database"),
        );
    };
    let relation = |pattern: &RelationPattern| {
        catalog.relations.values().any(|r| pattern.matches(&r.schema, &r.name, is_special(r)))
    };
    let column = |pattern: &ColumnPattern| {
        catalog.relations.values().any(|r| {
            let special = is_special(r);
            r.columns.iter().any(|column| pattern.matches(&r.schema, &r.name, special, &column.name))
        })
    };
    let function = |pattern: &RelationPattern| {
        catalog
            .functions
            .values()
            .flatten()
            .any(|f| pattern.schema.matches(&f.schema) && pattern.relation.matches(&f.name))
    };
    for mask in &policy.masks {
        for (at, pattern) in mask.columns.iter().enumerate().filter(|(_, pattern)| !column(pattern)) {
            nothing(format!("{}.columns[{at}]", mask.path), pattern.to_string(), "column", findings);
        }
    }
    for rule in &policy.rules {
        for (at, pattern) in rule.relations.iter().enumerate().filter(|(_, pattern)| !relation(pattern)) {
            nothing(format!("{}.relations[{at}]", rule.path), pattern.to_string(), "relation", findings);
        }
        for (at, pattern) in rule.hide_columns.iter().enumerate().filter(|(_, pattern)| !column(pattern)) {
            nothing(format!("{}.hideColumns[{at}]", rule.path), pattern.to_string(), "column", findings);
        }
        for (at, pattern) in rule.functions.iter().enumerate().filter(|(_, pattern)| !function(pattern)) {
            nothing(format!("{}.functions[{at}]", rule.path), pattern.to_string(), "function", findings);
        }
        for filter in rule.row_filters.iter().filter(|filter| !relation(&filter.relation)) {
            nothing(format!("{}.relation", filter.path), filter.relation.to_string(), "relation", findings);
        }
    }
}

/// What one identity will meet in the database.
pub fn bound(bound: &BoundPolicy, findings: &mut Findings) {
    let identity = bound.identity.name.as_str();
    for problem in &bound.problems {
        findings.about(identity, Severity::Error, "not-bound", &problem.path, problem.message.clone());
    }
    if !bound.catalog.roles.contains_key(bound.identity.postgres_role.as_str()) {
        let message = format!("the database has no role {}", bound.identity.postgres_role);
        findings.about(identity, Severity::Error, "unknown-role", "spec.postgresRole", message);
    } else if bound.catalog.roles.get(bound.identity.postgres_role.as_str()) == Some(&true) {
        let message = format!(
            "{} is a superuser: nothing of the server's own stands behind the gate",
            bound.identity.postgres_role
        );
        findings.about(identity, Severity::Warning, "superuser-role", "spec.postgresRole", message);
    }
    let mut oids: Vec<&Oid> = bound.views.keys().collect();
    oids.sort();
    for oid in oids {
        if let Some(relation) = bound.catalog.relations.get(oid) {
            relation_findings(bound, relation, findings);
        }
    }
    functions(bound, findings);
}

/// The columns of a relation that the identity does not see as they are, with the path of what says so.
fn covered<'a>(bound: &'a BoundPolicy, relation: &Relation) -> Vec<(i16, &'a ColumnView)> {
    let Some(view) = bound.views.get(&relation.oid) else { return Vec::new() };
    let mut columns: Vec<_> = view.columns.iter().map(|(number, column)| (*number, column)).collect();
    columns.sort_by_key(|(number, _)| *number);
    columns
}

fn path_of(column: &ColumnView) -> &str {
    match column {
        ColumnView::Hidden => "spec.rules",
        ColumnView::Masked(mask) => &mask.path,
    }
}

/// Whether a rule gives the verb, be the relation closed for now or not.
fn may(bound: &BoundPolicy, relation: &Relation, verb: Verb) -> bool {
    let special = is_special(relation);
    bound.policy.grant(&bound.identity, &relation.schema, &relation.name, special, verb).is_some()
}

fn reads(bound: &BoundPolicy, relation: &Relation) -> bool {
    may(bound, relation, Verb::Select)
}

fn relation_findings(bound: &BoundPolicy, relation: &Relation, findings: &mut Findings) {
    let identity = bound.identity.name.as_str();
    let name = relation.qualified_name();
    let special = is_special(relation);
    let filters = bound.policy.filters(&bound.identity, &relation.schema, &relation.name, special);
    if let [(_, first), .., (_, last)] = filters.as_slice() {
        let rules: BTreeSet<&str> = filters.iter().map(|(rule, _)| rule.name.as_str()).collect();
        let message = format!(
            "{} filters hold for {name} together ({}): only rows that pass all of them exist",
            filters.len(),
            rules.into_iter().collect::<Vec<_>>().join(", ")
        );
        let path = if first.path == last.path { &first.path } else { &last.path };
        findings.about(identity, Severity::Warning, "filters-combine", path, message);
    }
    if let Some((_, filter)) = filters.first() {
        for verb in [Verb::CopyIn, Verb::Truncate] {
            if may(bound, relation, verb) {
                let message = format!("{verb} on {name} stays refused: its rows are filtered");
                findings.about(identity, Severity::Note, "filtered-write", &filter.path, message);
            }
        }
    }

    if let Some(why) = closed(bound, relation).filter(|_| reads(bound, relation)) {
        let message = format!("{name} is closed: {why}");
        match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => {
                findings.about(identity, Severity::Warning, "closed-view", "spec.rules", message);
            }
            RelationKind::Sequence => {
                findings.about(identity, Severity::Note, "closed-sequence", "spec.rules", message)
            }
            // What the policy says of it did not bind, or it is told with its partitioned table.
            _ => {}
        }
    }

    let covered = covered(bound, relation);
    let column_name = |number: i16| relation.column_at(number).map_or("?", |column| &*column.name);
    for (number, column) in &covered {
        let path = path_of(column);
        let column_name = column_name(*number);
        if let ColumnView::Masked(mask) = column {
            if mask.constant && may(bound, relation, Verb::Update) && mask.kind != MaskKind::Redact {
                let message = format!(
                    "the mask of {name}.{column_name} is a constant, so a row that is saved as it was read can't be told \
                     from an erasure: UPDATE keeps what is stored there, with a NOTICE"
                );
                findings.about(identity, Severity::Warning, "constant-mask", path, message);
            }
            if reads(bound, relation) {
                let message = match mask.on_predicate {
                    postern_crds::OnPredicate::Notice => format!(
                        "WHERE, JOIN and ORDER BY on {name}.{column_name} see the mask: a search for a real value finds nothing"
                    ),
                    postern_crds::OnPredicate::Refuse => {
                        format!("WHERE, JOIN and ORDER BY on {name}.{column_name} are refused")
                    }
                };
                findings.about(identity, Severity::Note, "masked-predicate", path, message);
            }
        }
        foreign_keys(bound, relation, *number, path, findings);
    }
    let Some((_, first)) = covered.first() else { return };
    let numbers: Vec<i16> = covered.iter().map(|(number, _)| *number).collect();
    let named = |reads: &[i16]| {
        let names: Vec<&str> = reads.iter().filter(|n| numbers.contains(n)).map(|n| column_name(*n)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let updates = may(bound, relation, Verb::Update);
    for index in &relation.indexes {
        let expression = index.expressions.as_deref().or(index.predicate.as_deref());
        if let (Some(names), Some(expression)) = (named(&index.reads), expression) {
            let mut message = format!("index {} of {name} computes on {names}: {expression}", index.name);
            if updates {
                message.push_str(
                    "; an UPDATE of another column in it may be refused, since its error would tell the value",
                );
            }
            findings.about(identity, Severity::Warning, "index-expression", path_of(first), message);
        }
    }
    for check in relation.checks.iter().filter(|_| updates) {
        let others = check.columns.iter().any(|number| !numbers.contains(number));
        if let (Some(names), true) = (named(&check.columns), others) {
            let message = format!(
                "CHECK {} of {name} reads {names}: an UPDATE of another column in it is refused unless it sets that one, too",
                check.name
            );
            findings.about(identity, Severity::Note, "check-constraint", path_of(first), message);
        }
    }
    if let Some(names) = named(&relation.partition_key) {
        let mut partitions: Vec<String> = bound
            .catalog
            .descendants(relation.oid)
            .iter()
            .filter_map(|oid| bound.catalog.relations.get(oid))
            .map(|partition| partition.qualified_name())
            .collect();
        partitions.sort();
        let message = format!(
            "{name} is partitioned by {names}, so that a partition's name tells the value of its rows: its partitions are closed by \
             themselves ({}), and tableoid and ctid of {name} are refused",
            partitions.join(", ")
        );
        findings.about(identity, Severity::Warning, "partition-key", path_of(first), message);
    }
    for trigger in &relation.triggers {
        let function = bound
            .catalog
            .function(trigger.function)
            .map_or_else(String::new, |f| format!(" ({}.{})", f.schema, f.name));
        let message = format!(
            "trigger {} of {name}{function} is its owner's code and sees the raw values; make sure that it doesn't store \
             them where they can be read",
            trigger.name
        );
        findings.about(identity, Severity::Warning, "trigger", path_of(first), message);
    }
    for view in bound.catalog.views_over(relation.oid) {
        let Some(view) = bound.catalog.relations.get(&view) else { continue };
        let read: Vec<i16> =
            view.depends_on.iter().filter(|(of, _)| *of == relation.oid).map(|(_, number)| *number).collect();
        if let (Some(names), true) = (named(&read), reads(bound, view)) {
            let kind = if view.kind == RelationKind::MaterializedView { "materialized view" } else { "view" };
            let shown = covered_names(bound, view);
            let message =
                format!("{kind} {} reads {names} of {name}; masked or hidden in it: {shown}", view.qualified_name());
            findings.about(identity, Severity::Note, "view", path_of(first), message);
        }
    }
}

fn closed<'a>(bound: &'a BoundPolicy, relation: &Relation) -> Option<&'a str> {
    bound.views.get(&relation.oid)?.closed.as_deref()
}

fn covered_names(bound: &BoundPolicy, relation: &Relation) -> String {
    let names: Vec<&str> = covered(bound, relation)
        .into_iter()
        .filter_map(|(number, _)| relation.column_at(number).map(|column| &*column.name))
        .collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Both ends of a foreign key hold the same value: one that is masked at one end only is not masked.
fn foreign_keys(bound: &BoundPolicy, relation: &Relation, number: i16, path: &str, findings: &mut Findings) {
    let mut other_end = |other: &Relation, other_number: i16, constraint: &str| {
        let plain = bound.views.get(&other.oid).is_none_or(|view| !view.columns.contains_key(&other_number));
        if plain && reads(bound, other) {
            let column = |of: &Relation, number| {
                let column = of.column_at(number).map_or("?", |column| &*column.name);
                format!("{}.{column}", of.qualified_name())
            };
            let message = format!(
                "{} shows what {} masks: the foreign key {constraint} gives both the same values",
                column(other, other_number),
                column(relation, number)
            );
            findings.about(&bound.identity.name, Severity::Warning, "foreign-key", path, message);
        }
    };
    for key in &relation.foreign_keys {
        let pairs = key.columns.iter().zip(key.referenced_columns.iter());
        for (_, referenced) in pairs.filter(|(own, _)| **own == number) {
            if let Some(other) = bound.catalog.relations.get(&key.references) {
                other_end(other, *referenced, &key.name);
            }
        }
    }
    for (other, key) in bound.catalog.foreign_keys_to(relation.oid) {
        let pairs = key.columns.iter().zip(key.referenced_columns.iter());
        for (own, _) in pairs.filter(|(_, referenced)| **referenced == number) {
            other_end(other, *own, &key.name);
        }
    }
}

/// Functions that a rule allows run as their owner wrote them: what they read is not masked.
fn functions(bound: &BoundPolicy, findings: &mut Findings) {
    let identity = bound.identity.name.as_str();
    for rule in bound.policy.rules_for(&bound.identity) {
        for (at, pattern) in rule.functions.iter().enumerate() {
            let path = format!("{}.functions[{at}]", rule.path);
            let matches = |f: &&Function| pattern.schema.matches(&f.schema) && pattern.relation.matches(&f.name);
            for function in bound.catalog.functions.values().flatten().filter(matches) {
                let name = format!("{}.{}", function.schema, function.name);
                match &function.body {
                    Some(body) => {
                        for relation in read_by(bound, body) {
                            let message = format!(
                                "{name} reads {relation}, which is masked or filtered for this identity: what the function \
                                 returns is not"
                            );
                            findings.about(identity, Severity::Warning, "function-reads", &path, message);
                        }
                    }
                    None if function.extension.is_none() && &*function.language != "internal" => {
                        let message = format!(
                            "{name} is written in {}: what it reads can't be seen, and is not masked",
                            function.language
                        );
                        findings.about(identity, Severity::Note, "function-unseen", &path, message);
                    }
                    None => {}
                }
            }
        }
    }
}

/// The masked, filtered or closed relations whose name stands in a function's body as a word.
fn read_by(bound: &BoundPolicy, body: &str) -> Vec<String> {
    let words: BTreeSet<String> =
        body.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase).collect();
    let mut found: Vec<String> = bound
        .views
        .keys()
        .filter_map(|oid| bound.catalog.relations.get(oid))
        .filter(|relation| words.contains(&relation.name.to_lowercase()))
        .map(|relation| relation.qualified_name())
        .collect();
    found.sort();
    found
}
