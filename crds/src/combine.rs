//! What a checked policy says about one identity: which rules apply, and how grants, filters, hidden columns, limits
//! and masks of several combine. Pure look-ups; nothing here knows a catalog.
//!
//! - Rules that allow are searched for the verb; the first in the policy's order gives its name.
//! - Whichever rule let a statement in, *every* rule that applies to the identity adds what it restricts: filters by
//!   AND, hidden columns by union, limits by minimum. A rule more can therefore show less, never more of a row.
//! - Of several masks on a column the most private holds. `exempt` lifts its own entry only.

use std::time::Duration;

use crate::checked::{CheckedFilter, CheckedIdentity, CheckedMask, CheckedPolicy, CheckedRule, Limits, To, Window};
use crate::pattern::{ColumnPattern, NamePattern, RelationPattern};
use crate::verb::Verb;

/// The setting that stands for transactions at SERIALIZABLE beside row filters.
pub const ISOLATION_SETTING: &str = "transaction_isolation";

/// Class of settings that belongs to Postern; keys of `hash` masks travel in it, so no client may touch it.
pub const RESERVED_SETTING_CLASS: &str = "postern";

impl CheckedPolicy {
    /// Whether the words mean the identity. The namespace is the boundary: a policy means identities of its own only,
    /// whatever name or group one elsewhere has.
    fn is_for(&self, to: &To, identity: &CheckedIdentity) -> bool {
        self.namespace == identity.namespace && to.includes(identity)
    }

    /// The rules that apply to the identity, in the policy's order.
    pub fn rules_for<'a>(&'a self, identity: &'a CheckedIdentity) -> impl Iterator<Item = &'a CheckedRule> {
        self.rules.iter().filter(move |rule| self.is_for(&rule.to, identity))
    }

    /// The first rule that allows the verb on the relation, with the limits that hold for the relation.
    /// `special` marks system, toast, temporary and foreign relations, see [`RelationPattern::matches`].
    pub fn grant(
        &self,
        identity: &CheckedIdentity,
        schema: &str,
        relation: &str,
        special: bool,
        verb: Verb,
    ) -> Option<(&CheckedRule, Limits)> {
        let rule = self.rules.iter().find(|rule| {
            self.is_for(&rule.to, identity) && rule.allow.contains(verb) && rule.covers(schema, relation, special)
        })?;
        Some((rule, self.limits(identity, schema, relation, special)))
    }

    /// The first rule that has the verb at all; for what has no relation, such as temporary tables, advisory locks or
    /// CREATE SCHEMA.
    pub fn allows(&self, identity: &CheckedIdentity, verb: Verb) -> Option<&CheckedRule> {
        self.rules.iter().find(|rule| self.is_for(&rule.to, identity) && rule.allow.contains(verb))
    }

    /// The limits that hold for a relation: the minimum over every rule of the identity that names it, whatever verbs
    /// it allows.
    pub fn limits(&self, identity: &CheckedIdentity, schema: &str, relation: &str, special: bool) -> Limits {
        self.rules
            .iter()
            .filter(|rule| self.is_for(&rule.to, identity) && rule.covers(schema, relation, special))
            .fold(Limits::default(), |limits, rule| limits.and(rule.limits))
    }

    /// The row filters that hold for a relation, each with its rule; they are joined by AND. A filter holds if its own
    /// pattern matches, whether or not its rule lets the statement in.
    pub fn filters(
        &self,
        identity: &CheckedIdentity,
        schema: &str,
        relation: &str,
        special: bool,
    ) -> Vec<(&CheckedRule, &CheckedFilter)> {
        self.rules
            .iter()
            .filter(|rule| self.is_for(&rule.to, identity))
            .flat_map(|rule| rule.row_filters.iter().map(move |filter| (rule, filter)))
            .filter(|(_, filter)| filter.relation.matches(schema, relation, special))
            .collect()
    }

    /// Whether the column does not exist for the identity.
    pub fn hides(&self, identity: &CheckedIdentity, schema: &str, relation: &str, special: bool, column: &str) -> bool {
        self.rules
            .iter()
            .filter(|rule| self.is_for(&rule.to, identity))
            .flat_map(|rule| &rule.hide_columns)
            .any(|pattern| pattern.matches(schema, relation, special, column))
    }

    /// Whether a mask, hidden column or filter may be for a relation of this name, whatever its columns are.
    pub fn may_guard(&self, identity: &CheckedIdentity, schema: &str, relation: &str) -> bool {
        let concerns = |patterns: &[ColumnPattern]| patterns.iter().any(|pattern| pattern.concerns(schema, relation));
        let mut masks = self.masks.iter().filter(|mask| !self.is_for(&mask.exempt, identity));
        masks.any(|mask| concerns(&mask.columns))
            || self.rules_for(identity).any(|rule| concerns(&rule.hide_columns))
            || !self.filters(identity, schema, relation, false).is_empty()
    }

    /// The mask that holds for the column: of those that match and do not exempt the identity the most private, and of
    /// equally private ones the first.
    pub fn mask(
        &self,
        identity: &CheckedIdentity,
        schema: &str,
        relation: &str,
        special: bool,
        column: &str,
    ) -> Option<&CheckedMask> {
        self.masks
            .iter()
            .filter(|mask| !self.is_for(&mask.exempt, identity))
            .filter(|mask| mask.columns.iter().any(|pattern| pattern.matches(schema, relation, special, column)))
            // `reduce` and not `max_by_key`, which would take the last of equals.
            .reduce(|held, mask| if mask.kind.privacy() > held.kind.privacy() { mask } else { held })
    }

    /// The first rule that names the function. A function of a system schema is named only by a pattern without stars.
    pub fn function_allowed(&self, identity: &CheckedIdentity, schema: &str, name: &str) -> Option<&CheckedRule> {
        self.rules.iter().find(|rule| self.is_for(&rule.to, identity) && names(&rule.functions, schema, name))
    }

    /// The limits that hold for a statement that calls the function: the minimum over every rule of the identity that
    /// names it, for a function can return as much as a table.
    pub fn function_limits(&self, identity: &CheckedIdentity, schema: &str, name: &str) -> Limits {
        self.rules
            .iter()
            .filter(|rule| self.is_for(&rule.to, identity) && names(&rule.functions, schema, name))
            .fold(Limits::default(), |limits, rule| limits.and(rule.limits))
    }

    /// The first rule that names the procedure and has `Call`: a procedure may commit, so naming it is not enough.
    pub fn procedure_allowed(&self, identity: &CheckedIdentity, schema: &str, name: &str) -> Option<&CheckedRule> {
        self.rules.iter().find(|rule| {
            self.is_for(&rule.to, identity) && rule.allow.contains(Verb::Call) && names(&rule.functions, schema, name)
        })
    }

    /// The first rule that lets the client set a custom setting (`class.name`, in any case), or [`ISOLATION_SETTING`]. Another setting
    /// without a class is the server's own, and one of Postern's class is nobody's: no rule gives either.
    pub fn setting_allowed(&self, identity: &CheckedIdentity, name: &str) -> Option<&CheckedRule> {
        // Postgres compares the names of settings without regard to ASCII case.
        let name = name.to_ascii_lowercase();
        if name != ISOLATION_SETTING && name.split_once('.').is_none_or(|(class, _)| class == RESERVED_SETTING_CLASS) {
            return None;
        }
        self.rules
            .iter()
            .find(|rule| self.is_for(&rule.to, identity) && rule.settings.iter().any(|pattern| pattern.matches(&name)))
    }

    /// The channels that rules for the identity name.
    pub fn channel_patterns<'a>(&'a self, identity: &'a CheckedIdentity) -> impl Iterator<Item = &'a NamePattern> {
        self.rules_for(identity).flat_map(|rule| &rule.channels)
    }

    /// The first rule that names the channel.
    pub fn channel_allowed(&self, identity: &CheckedIdentity, channel: &str) -> Option<&CheckedRule> {
        self.rules.iter().find(|rule| {
            self.is_for(&rule.to, identity) && rule.channels.iter().any(|pattern| pattern.matches(channel))
        })
    }
}

impl CheckedRule {
    /// Whether the rule names the relation.
    pub fn covers(&self, schema: &str, relation: &str, special: bool) -> bool {
        self.relations.iter().any(|pattern| pattern.matches(schema, relation, special))
    }
}

impl Limits {
    /// Both limits together: the lesser of each.
    #[must_use]
    pub fn and(self, other: Limits) -> Limits {
        let Limits { rows, bytes, statement_timeout, window } = other;
        Limits {
            rows: least(self.rows, rows),
            bytes: least(self.bytes, bytes),
            statement_timeout: least(self.statement_timeout, statement_timeout),
            window: match (self.window, window) {
                (Some(one), Some(two)) => Some(one.and(two)),
                (one, two) => one.or(two),
            },
        }
    }
}

impl Window {
    /// Both windows together: the lesser budget over the longer time, so that neither is ever exceeded.
    #[must_use]
    pub fn and(self, other: Window) -> Window {
        let Window { every, rows, bytes } = other;
        Window {
            every: Duration::max(self.every, every),
            rows: least(self.rows, rows),
            bytes: least(self.bytes, bytes),
        }
    }
}

/// The lesser of two limits, of which each may be missing.
fn least<T: Ord>(one: Option<T>, two: Option<T>) -> Option<T> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    }
}

/// Whether a function is named; those of the system by literal names only, for `*.*` would give `pg_read_file`.
fn names(functions: &[RelationPattern], schema: &str, name: &str) -> bool {
    let special = is_system_schema(schema);
    functions.iter().any(|pattern| pattern.matches(schema, name, special))
}

/// Whether the schema is the server's own, temporary or toast.
pub fn is_system_schema(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;
    use crate::checked::{
        BulkAction, BulkExport, Credentials, Database, MaskKind, Mode, OnPredicate, ParameterRecording, Recording,
        StatementRecording, TlsMode,
    };
    use crate::pattern::{ColumnPattern, NamePattern};

    fn strings(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn identity(name: &str, groups: &str) -> CheckedIdentity {
        CheckedIdentity {
            namespace: "shop".into(),
            name: name.into(),
            groups: strings(groups),
            postgres_role: "app".into(),
            max_lease: Duration::from_secs(900),
            outage_grace: Duration::ZERO,
        }
    }

    fn to(identities: &str, groups: &str) -> To {
        To { identities: strings(identities), groups: strings(groups) }
    }

    fn rule(name: &str, to: To, allow: &[Verb], relations: &str) -> CheckedRule {
        CheckedRule {
            path: format!("spec.rules[{name}]"),
            name: name.into(),
            to,
            allow: allow.iter().copied().collect(),
            relations: relations.split_whitespace().map(|p| RelationPattern::parse(p).unwrap()).collect(),
            hide_columns: vec![],
            row_filters: vec![],
            functions: vec![],
            settings: vec![],
            channels: vec![],
            limits: Limits::default(),
        }
    }

    fn mask(path: &str, columns: &str, kind: MaskKind, exempt: To) -> CheckedMask {
        CheckedMask {
            path: path.into(),
            columns: columns.split_whitespace().map(|p| ColumnPattern::parse(p).unwrap()).collect(),
            kind,
            exempt,
            on_predicate: OnPredicate::Notice,
        }
    }

    fn policy(masks: Vec<CheckedMask>, rules: Vec<CheckedRule>) -> CheckedPolicy {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        CheckedPolicy {
            namespace: "shop".into(),
            name: "shop".into(),
            mode: Mode::Enforce,
            database: Database {
                host: "pg".into(),
                port: 5432,
                name: "shop".into(),
                tls: TlsMode::Disable,
                ca_secret: None,
                credentials: Credentials::Secret("s".into()),
            },
            masks,
            rules,
            bulk_export: BulkExport {
                action: BulkAction::Deny,
                approval_timeout: minutes(10),
                approval_valid_for: minutes(30),
            },
            recording: Recording { statements: StatementRecording::Full, parameters: ParameterRecording::Hash },
        }
    }

    fn filter(path: &str, relation: &str, sql: &str) -> CheckedFilter {
        CheckedFilter { path: path.into(), relation: RelationPattern::parse(relation).unwrap(), where_sql: sql.into() }
    }

    #[test]
    fn a_verb_needs_a_rule_for_the_identity_and_the_relation_and_the_first_gives_its_name() {
        use Verb::{Delete, Insert, Select};
        let policy = policy(
            vec![],
            vec![
                rule("reads", to("", "reporting"), &[Select], "public.customers reporting.*"),
                rule("job", to("nightly", ""), &[Select, Insert], "public.customers public.runs"),
                rule("others", to("someone", "elsewhere"), &[Delete], "*.*"),
                rule("foreign", to("nightly", ""), &[Select], "pg_catalog.pg_stats"),
            ],
        );
        for (who, groups, schema, relation, special, verb, expected) in [
            ("nightly", "reporting", "public", "customers", false, Select, Some("reads")),
            ("nightly", "", "public", "customers", false, Select, Some("job")),
            ("nightly", "reporting", "public", "customers", false, Insert, Some("job")),
            ("nightly", "reporting", "public", "customers", false, Delete, None),
            ("x", "reporting", "public", "customers", false, Insert, None),
            ("x", "reporting", "reporting", "anything", false, Select, Some("reads")),
            ("x", "reporting", "reporting", "anything", true, Select, None),
            ("x", "reporting", "public", "runs", false, Select, None),
            ("x", "", "public", "customers", false, Select, None),
            ("reporting", "", "public", "customers", false, Select, None),
            ("x", "nightly", "public", "customers", false, Select, None),
            ("someone", "", "any", "thing", false, Delete, Some("others")),
            ("x", "elsewhere", "any", "thing", false, Delete, Some("others")),
            ("nightly", "", "pg_catalog", "pg_stats", true, Select, Some("foreign")),
            ("someone", "", "pg_catalog", "pg_class", true, Delete, None),
        ] {
            let id = identity(who, groups);
            let found = policy.grant(&id, schema, relation, special, verb).map(|(rule, _)| rule.name.as_str());
            assert_eq!(found, expected, "{who} [{groups}] {verb} {schema}.{relation} special={special}");
        }
        let id = identity("nightly", "reporting");
        let names: Vec<_> = policy.rules_for(&id).map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["reads", "job", "foreign"]);
        assert_eq!(policy.allows(&id, Insert).map(|rule| rule.name.as_str()), Some("job"));
        assert_eq!(policy.allows(&id, Delete), None);
    }

    #[test]
    fn filters_of_every_rule_of_the_identity_join_whichever_let_the_statement_in() {
        let mut eu = rule("eu", to("", "reporting"), &[Verb::Select], "public.orders");
        eu.row_filters = vec![filter("f0", "public.orders", "region = 'eu'"), filter("f1", "public.*", "NOT deleted")];
        let mut all = rule("all", to("nightly", ""), &[Verb::Select], "public.*");
        all.row_filters = vec![filter("f2", "public.orders", "total < 100")];
        let mut elsewhere = rule("elsewhere", to("nightly", ""), &[Verb::Insert], "other.log");
        elsewhere.row_filters = vec![filter("f3", "public.orders", "true")];
        let policy = policy(vec![], vec![eu, all, elsewhere]);
        for (who, groups, relation, special, expected) in [
            ("nightly", "reporting", "orders", false, vec!["f0", "f1", "f2", "f3"]),
            ("nightly", "", "orders", false, vec!["f2", "f3"]),
            ("x", "reporting", "orders", false, vec!["f0", "f1"]),
            ("x", "reporting", "customers", false, vec!["f1"]),
            ("x", "reporting", "customers", true, vec![]),
            ("x", "reporting", "orders", true, vec!["f0"]),
            ("x", "", "orders", false, vec![]),
        ] {
            let id = identity(who, groups);
            let found: Vec<_> =
                policy.filters(&id, "public", relation, special).iter().map(|(_, f)| f.path.as_str()).collect();
            assert_eq!(found, expected, "{who} [{groups}] {relation}");
        }
        assert_eq!(policy.filters(&identity("nightly", ""), "public", "orders", false)[0].0.name, "all");
    }

    #[test]
    fn hidden_columns_join_by_union() {
        let hides = |name: &str, to, columns: &str| {
            let mut rule = rule(name, to, &[Verb::Select], "public.customers");
            rule.hide_columns = columns.split_whitespace().map(|p| ColumnPattern::parse(p).unwrap()).collect();
            rule
        };
        let policy = policy(
            vec![],
            vec![
                hides("a", to("", "reporting"), "public.customers.ssn"),
                hides("b", to("nightly", ""), "public.*.secret_* *.*.token"),
            ],
        );
        for (who, groups, column, expected) in [
            ("nightly", "reporting", "ssn", true),
            ("nightly", "reporting", "secret_note", true),
            ("nightly", "reporting", "token", true),
            ("nightly", "reporting", "name", false),
            ("nightly", "", "ssn", false),
            ("x", "reporting", "token", false),
            ("x", "", "ssn", false),
        ] {
            let id = identity(who, groups);
            assert_eq!(policy.hides(&id, "public", "customers", false, column), expected, "{who} [{groups}] {column}");
        }
    }

    #[test]
    fn limits_combine_by_minimum_over_every_rule_that_names_the_relation() {
        let limited = |name: &str, to, allow: &[Verb], relations: &str, limits| {
            let mut rule = rule(name, to, allow, relations);
            rule.limits = limits;
            rule
        };
        let seconds = Duration::from_secs;
        let policy = policy(
            vec![],
            vec![
                limited(
                    "a",
                    to("job", ""),
                    &[Verb::Select],
                    "public.*",
                    Limits {
                        rows: Some(100),
                        bytes: Some(1000),
                        statement_timeout: None,
                        window: Some(Window { every: seconds(3600), rows: Some(1000), bytes: None }),
                    },
                ),
                limited(
                    "b",
                    to("job", ""),
                    &[Verb::Insert],
                    "public.orders",
                    Limits {
                        rows: Some(10),
                        bytes: Some(9999),
                        statement_timeout: Some(seconds(5)),
                        window: Some(Window { every: seconds(60), rows: Some(5000), bytes: Some(77) }),
                    },
                ),
                limited("c", to("other", ""), &[Verb::Select], "*.*", Limits { rows: Some(1), ..Limits::default() }),
            ],
        );
        let job = identity("job", "");
        assert_eq!(
            policy.limits(&job, "public", "orders", false),
            Limits {
                rows: Some(10),
                bytes: Some(1000),
                statement_timeout: Some(seconds(5)),
                window: Some(Window { every: seconds(3600), rows: Some(1000), bytes: Some(77) }),
            }
        );
        assert_eq!(policy.limits(&job, "public", "customers", false).rows, Some(100));
        assert_eq!(policy.limits(&job, "public", "customers", false).statement_timeout, None);
        assert_eq!(policy.limits(&job, "private", "x", false), Limits::default());
        let (rule, limits) = policy.grant(&job, "public", "orders", false, Verb::Select).unwrap();
        assert_eq!((rule.name.as_str(), limits.rows), ("a", Some(10)));
    }

    #[test]
    fn the_most_private_mask_that_does_not_exempt_holds_and_of_equals_the_first() {
        let partial = |last| MaskKind::Partial { keep_first: 0, keep_last: last, with: '*' };
        let policy = policy(
            vec![
                mask("m0", "public.customers.card", partial(4), to("", "fraud")),
                mask("m1", "public.customers.*", MaskKind::Redact, to("boss", "")),
                mask("m2", "*.*.card", partial(2), to("", "")),
                mask("m3", "*.*.email", MaskKind::Email, to("", "fraud")),
                mask("m4", "public.customers.ssn public.employees.salary", MaskKind::Nullify, to("", "hr")),
                mask("m5", "public.employees.salary", MaskKind::Default, to("", "")),
            ],
            vec![],
        );
        for (who, groups, relation, column, expected) in [
            ("x", "", "customers", "card", Some("m1")),
            ("boss", "", "customers", "card", Some("m0")),
            ("boss", "fraud", "customers", "card", Some("m2")),
            ("x", "fraud", "customers", "card", Some("m1")),
            ("x", "", "payments", "card", Some("m2")),
            ("x", "", "payments", "email", Some("m3")),
            ("x", "fraud", "payments", "email", None),
            ("x", "fraud", "customers", "email", Some("m1")),
            ("x", "", "customers", "ssn", Some("m4")),
            ("x", "hr", "customers", "ssn", Some("m1")),
            ("boss", "hr", "customers", "ssn", None),
            ("x", "", "employees", "salary", Some("m4")),
            ("x", "hr", "employees", "salary", Some("m5")),
            ("x", "", "employees", "name", None),
        ] {
            let id = identity(who, groups);
            let found = policy.mask(&id, "public", relation, false, column).map(|m| m.path.as_str());
            assert_eq!(found, expected, "{who} [{groups}] {relation}.{column}");
        }
        assert_eq!(policy.mask(&identity("x", ""), "public", "foreign_table", true, "card"), None);
    }

    #[test]
    fn an_identity_of_another_namespace_is_nobody_to_a_policy() {
        let mut all = rule("all", to("job", "team"), &Verb::ALL, "*.*");
        all.functions = vec![RelationPattern::parse("*.*").unwrap()];
        all.settings = vec![NamePattern::Glob(vec!["app.".into(), String::new()])];
        all.channels = vec![NamePattern::parse("*").unwrap()];
        let policy = policy(vec![mask("m0", "*.*.*", MaskKind::Redact, to("job", "team"))], vec![all]);
        let mut job = identity("job", "team");
        assert!(policy.grant(&job, "public", "x", false, Verb::Select).is_some());
        assert_eq!(policy.mask(&job, "public", "x", false, "c"), None);
        job.namespace = "elsewhere".into();
        assert_eq!(policy.rules_for(&job).count(), 0);
        assert_eq!(policy.grant(&job, "public", "x", false, Verb::Select), None);
        assert_eq!(policy.allows(&job, Verb::Temp), None);
        assert!(policy.mask(&job, "public", "x", false, "c").is_some(), "nor is it exempt");
        assert_eq!(policy.function_allowed(&job, "public", "f"), None);
        assert_eq!(policy.procedure_allowed(&job, "public", "f"), None);
        assert_eq!(policy.setting_allowed(&job, "app.x"), None);
        assert_eq!(policy.channel_allowed(&job, "c"), None);
    }

    #[test]
    fn privacy_ranks_as_the_api_lists_the_masks() {
        let ranked = [
            MaskKind::Nullify,
            MaskKind::Default,
            MaskKind::Fixed { value: "x".into() },
            MaskKind::Redact,
            MaskKind::Hash { key_secret: ("s".into(), "k".into()) },
            MaskKind::TruncateDate { to: "month".into() },
            MaskKind::Bucket { size: "10".into() },
            MaskKind::Partial { keep_first: 0, keep_last: 4, with: '*' },
            MaskKind::Email,
        ];
        assert!(ranked.windows(2).all(|pair| pair[0].privacy() > pair[1].privacy()));
    }

    #[test]
    fn functions_settings_and_channels_need_a_rule_that_names_them() {
        let mut named = rule("named", to("job", ""), &[Verb::Select], "public.*");
        named.functions =
            ["public.fx_rate", "*.*", "pg_catalog.pg_sleep"].map(|p| RelationPattern::parse(p).unwrap()).to_vec();
        named.settings = vec![
            NamePattern::Glob(vec!["app.".into(), String::new()]),
            NamePattern::Glob(vec![String::new(), String::new()]),
        ];
        named.channels = vec![NamePattern::parse("order_*").unwrap()];
        let mut caller = rule("caller", to("job", ""), &[Verb::Call], "");
        caller.functions = vec![RelationPattern::parse("public.settle").unwrap()];
        caller.limits.rows = Some(10);
        let policy = policy(vec![], vec![named, caller]);
        let job = identity("job", "");
        let other = identity("other", "");
        let name = |rule: Option<&CheckedRule>| rule.map(|rule| rule.name.clone());
        for (schema, function, expected) in [
            ("public", "fx_rate", Some("named")),
            ("any", "thing", Some("named")),
            ("pg_catalog", "pg_read_file", None),
            ("pg_catalog", "pg_sleep", Some("named")),
            ("pg_temp_3", "f", None),
            ("information_schema", "f", None),
        ] {
            assert_eq!(
                name(policy.function_allowed(&job, schema, function)).as_deref(),
                expected,
                "{schema}.{function}"
            );
            assert_eq!(name(policy.function_allowed(&other, schema, function)), None);
        }
        assert_eq!(name(policy.procedure_allowed(&job, "public", "settle")).as_deref(), Some("caller"));
        assert_eq!(name(policy.procedure_allowed(&job, "public", "fx_rate")), None, "naming a procedure is not Call");
        assert_eq!(policy.function_limits(&job, "public", "settle").rows, Some(10));
        assert_eq!(policy.function_limits(&job, "public", "fx_rate").rows, None);
        for (setting, expected) in [
            ("app.tenant", true),
            ("App.Tenant", true),
            ("role", false),
            ("session_authorization", false),
            ("postern.key", false),
            ("POSTERN.key", false),
        ] {
            assert_eq!(policy.setting_allowed(&job, setting).is_some(), expected, "{setting}");
            assert_eq!(policy.setting_allowed(&other, setting), None);
        }
        assert_eq!(name(policy.channel_allowed(&job, "order_events")).as_deref(), Some("named"));
        assert_eq!(name(policy.channel_allowed(&job, "Order_events")), None);
        assert_eq!(name(policy.channel_allowed(&other, "order_events")), None);
    }
}
