//! From traffic to the parts of a policy: masks, rules, and what of the traffic stays out. Pure.
//!
//! A rule gives each relation the verbs that the identity's statements needed on it, and no others. Columns that
//! look personal or secret are masked for everyone, but not for who picks rows by them (under the mask a look-up would
//! find nothing) or changes their table (DDL on a masked one is refused).

use std::collections::{BTreeMap, BTreeSet};

use postern_crds::pattern::literal;
use postern_crds::{ColumnPattern, MaskKind, NamePattern, Verb};

use super::gather::Identity;
use super::mask::{self, Holds, Sampled};
use super::render::count;
use crate::analyze::needs::Needs;
use crate::catalog::{Catalog, Column, Relation, RelationKind};
use crate::sql;

/// Most relations or functions of one rule, as the schema has it.
const MAX_LIST: usize = 256;
/// Most settings or channels of one rule.
const MAX_SHORT_LIST: usize = 64;
/// Most columns of one mask.
const MAX_COLUMNS: usize = 256;

/// What a policy would say.
#[derive(Debug, Default)]
pub struct Plan {
    /// Masks; each covers columns that are masked alike.
    pub masks: Vec<MaskEntry>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Who exports in bulk; the policy must allow that as a whole.
    pub exporters: Vec<String>,
    /// Columns that should be looked at, with the reason.
    pub remarks: Vec<String>,
}

/// Columns that are masked alike.
#[derive(Debug)]
pub struct MaskEntry {
    /// How.
    pub kind: MaskKind,
    /// The columns as patterns, each with the reason.
    pub columns: Vec<(String, String)>,
    /// Who sees the raw values, each with the reason.
    pub exempt: BTreeMap<String, String>,
}

/// A rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// To whom it applies.
    pub identities: Vec<String>,
    /// The verbs.
    pub allow: Vec<Verb>,
    /// The relations as patterns, each with a remark on its use.
    pub relations: Vec<(String, String)>,
    /// The functions and procedures.
    pub functions: Vec<String>,
    /// The custom settings.
    pub settings: Vec<String>,
    /// The channels.
    pub channels: Vec<String>,
    /// Most rows that one statement delivered of the relations.
    pub most_rows: u64,
}

/// What is known of the database, beyond the audit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Its catalog.
    pub catalog: Option<&'a Catalog>,
    /// What samples of columns look like, by the column's pattern.
    pub samples: Option<&'a BTreeMap<String, Sampled>>,
}

impl Plan {
    /// For the identities of one policy.
    pub fn new(identities: &[&Identity], known: Known<'_>) -> Self {
        let needs: Vec<(&Identity, Needs)> =
            identities.iter().map(|identity| (*identity, least(identity.needs(), known.catalog))).collect();
        let mut plan = Plan::default();
        plan.mask(&needs, known);
        for (identity, needs) in &needs {
            if needs.bulk_export {
                plan.exporters.push(identity.name.clone());
            }
            for rule in rules(identity, needs) {
                plan.add(rule);
            }
        }
        plan.name_rules();
        plan
    }

    /// Adds a rule, or its identity to one that says the same.
    fn add(&mut self, rule: Rule) {
        let says = |rule: &Rule| {
            let relations: Vec<String> = rule.relations.iter().map(|(name, _)| name.clone()).collect();
            (rule.allow.clone(), relations, rule.functions.clone(), rule.settings.clone(), rule.channels.clone())
        };
        let same = self.rules.iter_mut().find(|known| says(known) == says(&rule));
        match same {
            Some(known) => {
                known.identities.extend(rule.identities);
                known.most_rows = known.most_rows.max(rule.most_rows);
                for ((_, remark), (_, more)) in known.relations.iter_mut().zip(rule.relations) {
                    *remark = format!("{remark}; {more}");
                }
            }
            None => self.rules.push(rule),
        }
    }

    fn name_rules(&mut self) {
        let mut taken = BTreeSet::new();
        for rule in &mut self.rules {
            let who = match rule.identities.as_slice() {
                [] => String::new(),
                [one] => one.clone(),
                [one, other] => format!("{one}-and-{other}"),
                [one, ..] => format!("{one}-and-others"),
            };
            let which = match rule.relations.as_slice() {
                [(only, _)] => only.split_once('.').map_or("", |(_, name)| name),
                _ => "",
            };
            let deed = deed(&rule.allow, !rule.relations.is_empty());
            let parts = [label(&who, 28), deed.to_owned(), label(which, 20)];
            let base = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
            let numbered = (2..).map(|number: usize| format!("{base}-{number}"));
            let name = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name));
            rule.name = name.unwrap_or_default();
            taken.insert(rule.name.clone());
        }
    }

    fn mask(&mut self, needs: &[(&Identity, Needs)], known: Known<'_>) {
        let mut entries: BTreeMap<(Holds, String, Vec<String>), MaskEntry> = BTreeMap::new();
        for (pattern, found) in columns(needs, known.catalog) {
            let sampled = known.samples.and_then(|samples| samples.get(&pattern)).copied().unwrap_or_default();
            let by_name = mask::by_name(&found.relation_name, &found.name, &found.type_sql);
            let holds = sampled.holds.map(|(holds, _)| holds).or(by_name);
            let Some(holds) = holds else {
                if sampled.mentions > 0 {
                    let Sampled { mentions, values, .. } = sampled;
                    self.remarks.push(format!(
                        "{pattern}: {mentions} of {values} values sampled have an e-mail address in them"
                    ));
                }
                continue;
            };
            let kinds = mask::masks(holds, &found.type_sql);
            let Some(kind) = kinds.into_iter().find(|kind| found.fits(kind, &pattern, known)) else {
                self.remarks.push(format!("{pattern}: seems to hold {}, but no mask fits its type", holds.as_str()));
                continue;
            };
            let exempt = exempt(needs, &pattern, &found);
            let key = (holds, format!("{kind:?}"), exempt.keys().cloned().collect());
            let why = why(holds, by_name.is_some(), sampled, &found.name, needs, &pattern);
            match entries.get_mut(&key).filter(|entry| entry.columns.len() < MAX_COLUMNS) {
                Some(entry) => {
                    entry.columns.push((pattern, why));
                    for (identity, reason) in exempt {
                        entry.exempt.entry(identity).or_insert(reason);
                    }
                }
                None => {
                    let entry = MaskEntry { kind, columns: vec![(pattern, why)], exempt };
                    if let Some(full) = entries.insert(key, entry) {
                        self.masks.push(full);
                    }
                }
            }
        }
        self.masks.extend(entries.into_values());
    }
}

/// Without what other needs give: Insert on a table is good for the sequences that it owns.
fn least(mut needs: Needs, catalog: Option<&Catalog>) -> Needs {
    for sequence in catalog.iter().flat_map(|catalog| catalog.relations.values()) {
        let owner = sequence.owned_by.and_then(|(owner, _)| catalog?.relations.get(&owner));
        let inserts = |relation: &Relation| needs.relations.get(&pattern_of(relation))?.get(&Verb::Insert).copied();
        if sequence.kind == RelationKind::Sequence && owner.and_then(|owner| inserts(owner)).is_some() {
            let pattern = pattern_of(sequence);
            let verbs = needs.relations.get_mut(&pattern);
            if verbs.is_some_and(|verbs| verbs.remove(&Verb::Insert) && verbs.is_empty()) {
                needs.relations.remove(&pattern);
            }
        }
    }
    needs
}

/// A column that somebody could read.
struct Found<'a> {
    /// The pattern of its relation.
    relation: String,
    relation_name: String,
    name: String,
    type_sql: String,
    /// As the catalog has it.
    column: Option<&'a Column>,
}

impl Found<'_> {
    /// Whether the mask fits; without a catalog the type's name alone has told which may.
    fn fits(&self, kind: &MaskKind, pattern: &str, known: Known<'_>) -> bool {
        match (known.catalog, self.column) {
            (Some(catalog), Some(column)) => {
                let mut known = crate::decide::mask::Expressions::default();
                crate::decide::mask::bind(kind, catalog, column, pattern, None, &mut known).is_ok()
            }
            _ => *kind != MaskKind::Default || !self.type_sql.contains('.'),
        }
    }
}

/// The columns that the traffic read; with a catalog, all of the relations that it may read then.
fn columns<'a>(needs: &[(&Identity, Needs)], catalog: Option<&'a Catalog>) -> BTreeMap<String, Found<'a>> {
    let mut found = BTreeMap::new();
    for (pattern, type_sql) in needs.iter().flat_map(|(_, needs)| &needs.columns) {
        let Ok(ColumnPattern { relation, column: NamePattern::Literal(name) }) = ColumnPattern::parse(pattern) else {
            continue;
        };
        let NamePattern::Literal(relation_name) = &relation.relation else { continue };
        let type_sql = type_sql.clone();
        let column = Found {
            relation: relation.to_string(),
            relation_name: relation_name.clone(),
            name,
            type_sql,
            column: None,
        };
        found.insert(pattern.clone(), column);
    }
    let readable: BTreeSet<&str> = needs.iter().flat_map(|(_, needs)| readable(needs)).collect();
    for relation in catalog.iter().flat_map(|catalog| catalog.relations.values()).filter(|relation| !relation.system) {
        let pattern = pattern_of(relation);
        if readable.contains(pattern.as_str()) {
            for column in &relation.columns {
                let of = Found {
                    relation: pattern.clone(),
                    relation_name: relation.name.to_string(),
                    name: column.name.to_string(),
                    type_sql: column.type_sql.to_string(),
                    column: Some(column),
                };
                found.insert(literal(&[&relation.schema, &relation.name, &column.name]), of);
            }
        }
    }
    found
}

/// The relations whose rows may be read.
pub fn readable(needs: &Needs) -> impl Iterator<Item = &str> {
    let reads = |verbs: &BTreeSet<Verb>| verbs.contains(&Verb::Select) || verbs.contains(&Verb::CopyOut);
    needs.relations.iter().filter(move |(_, verbs)| reads(verbs)).map(|(relation, _)| relation.as_str())
}

/// The relation as a policy names it.
pub fn pattern_of(relation: &Relation) -> String {
    literal(&[&relation.schema, &relation.name])
}

/// Whose traffic a mask on the column would break.
fn exempt(needs: &[(&Identity, Needs)], pattern: &str, found: &Found<'_>) -> BTreeMap<String, String> {
    let mut exempt = BTreeMap::new();
    for (identity, needs) in needs {
        let wanted = || identity.shapes.values().filter(|shape| shape.is_wanted());
        if needs.compared.contains(pattern) {
            let text =
                wanted().find(|shape| shape.needs.compared.contains(pattern)).and_then(|shape| shape.text.as_deref());
            let text = text.map_or_else(String::new, |text| format!(": {}", sql::normalize(text)));
            exempt.insert(identity.name.clone(), format!("picks rows by {pattern}{text}"));
        } else if needs.relations.get(&found.relation).is_some_and(|verbs| verbs.contains(&Verb::Ddl)) {
            exempt.insert(
                identity.name.clone(),
                format!("changes the table {}, which a mask on it forbids", found.relation),
            );
        }
    }
    exempt
}

fn why(
    holds: Holds,
    by_name: bool,
    sampled: Sampled,
    name: &str,
    needs: &[(&Identity, Needs)],
    pattern: &str,
) -> String {
    let holds = holds.as_str();
    let seen = match sampled.holds {
        Some((_, hits)) => format!("{hits} of {} values sampled look like {holds}", sampled.values),
        None if by_name => format!("{holds}, going by the name {name}"),
        None => holds.to_owned(),
    };
    let readers: Vec<&str> = needs
        .iter()
        .filter(|(_, needs)| needs.columns.contains_key(pattern))
        .map(|(identity, _)| identity.name.as_str())
        .collect();
    match readers.as_slice() {
        [] => format!("{seen}; nobody read it"),
        readers => format!("{seen}; read by {}", readers.join(", ")),
    }
}

/// The rules of one identity: one for each set of verbs, and one for what has no relation.
fn rules(identity: &Identity, needs: &Needs) -> Vec<Rule> {
    let mut relations = needs.relations.clone();
    for relation in &needs.row_locks {
        let verbs = relations.entry(relation.clone()).or_default();
        if ![Verb::Update, Verb::Delete, Verb::Lock].iter().any(|verb| verbs.contains(verb)) {
            verbs.insert(Verb::Lock);
        }
    }
    let mut by_verbs: BTreeMap<Vec<Verb>, Vec<(String, String)>> = BTreeMap::new();
    for (relation, verbs) in relations {
        let remark = use_of(identity, &relation);
        by_verbs.entry(verbs.into_iter().collect()).or_default().push((relation, remark));
    }
    let given: BTreeSet<Verb> = by_verbs.keys().flatten().copied().collect();
    let mut others: BTreeSet<Verb> = needs.verbs.difference(&given).copied().collect();
    if !needs.procedures.is_empty() {
        others.insert(Verb::Call);
    }
    if !needs.channels.is_empty() {
        others.insert(Verb::Notify);
    }
    let new = |allow: Vec<Verb>| Rule { identities: vec![identity.name.clone()], allow, ..Rule::default() };
    let mut rules = Vec::new();
    for (allow, relations) in by_verbs {
        for relations in relations.chunks(MAX_LIST) {
            let most_rows = relations.iter().map(|(relation, _)| identity.use_of(relation).1).max().unwrap_or(0);
            rules.push(Rule { relations: relations.to_vec(), most_rows, ..new(allow.clone()) });
        }
    }
    let functions: Vec<String> = needs.functions.union(&needs.procedures).cloned().collect();
    let settings: Vec<String> = needs.settings.iter().cloned().collect();
    let channels: Vec<String> = needs.channels.iter().cloned().collect();
    let part = |list: &[String], number: usize, length: usize| -> Vec<String> {
        list.chunks(length).nth(number).map(<[String]>::to_vec).unwrap_or_default()
    };
    for number in 0.. {
        let rule = Rule {
            functions: part(&functions, number, MAX_LIST),
            settings: part(&settings, number, MAX_SHORT_LIST),
            channels: part(&channels, number, MAX_SHORT_LIST),
            ..new(Vec::new())
        };
        let is_used = |verb: &Verb| match verb {
            Verb::Call => !rule.functions.is_empty(),
            Verb::Notify => !rule.channels.is_empty(),
            _ => number == 0,
        };
        let rule = Rule { allow: others.iter().copied().filter(is_used).collect(), ..rule };
        if rule == new(Vec::new()) {
            break;
        }
        rules.push(rule);
    }
    rules
}

/// As much of a name as a rule's name can have in it.
fn label(name: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).collect();
    let words: Vec<&str> = label.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-").chars().take(most).collect::<String>().trim_end_matches('-').to_owned()
}

fn use_of(identity: &Identity, relation: &str) -> String {
    let (times, rows) = identity.use_of(relation);
    match rows {
        0 => count(times, "statement"),
        rows => format!("{}, at most {}", count(times, "statement"), count(rows, "row")),
    }
}

/// What a rule is for, in a word or two.
fn deed(allow: &[Verb], has_relations: bool) -> &'static str {
    let any = |verbs: &[Verb]| verbs.iter().any(|verb| allow.contains(verb));
    if !has_relations {
        "also"
    } else if any(&[Verb::Ddl]) {
        "alters"
    } else if any(&[Verb::CopyOut]) {
        "exports"
    } else if any(&[Verb::Insert, Verb::Update, Verb::Delete, Verb::Truncate, Verb::CopyIn]) {
        "writes"
    } else if any(&[Verb::Maintenance]) {
        "maintains"
    } else if any(&[Verb::Lock]) {
        "locks"
    } else {
        "reads"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::super::gather::Shape;
    use super::*;

    fn identity(name: &str, needs: &str) -> Identity {
        let shape = Shape {
            needs: serde_json::from_str(needs).unwrap(),
            allowable: true,
            text: Some("SELECT 'x'".into()),
            runs: 2,
            rows: 7,
            ..Shape::default()
        };
        Identity { name: name.into(), shapes: BTreeMap::from([("f".into(), shape)]), ..Identity::default() }
    }

    fn plan(identities: &[Identity], samples: &BTreeMap<String, Sampled>) -> Plan {
        let identities: Vec<&Identity> = identities.iter().collect();
        Plan::new(&identities, Known { catalog: None, samples: Some(samples) })
    }

    /// Name, identities, verbs and names of a rule.
    fn shown(plan: &Plan) -> Vec<String> {
        let line = |rule: &Rule| {
            let relations: Vec<&str> = rule.relations.iter().map(|(relation, _)| relation.as_str()).collect();
            let names =
                [relations.join(","), rule.functions.join(","), rule.settings.join(","), rule.channels.join(",")];
            format!("{} {:?} {:?} {}", rule.name, rule.identities, rule.allow, names.join("|"))
        };
        plan.rules.iter().map(line).collect()
    }

    #[test]
    fn each_set_of_verbs_is_one_rule_and_equal_rules_of_identities_are_one() {
        let needs = r#"{"relations":{"a.x":["Select"],"a.y":["Select"],"a.z":["Select","Insert"]}}"#;
        let plan = plan(&[identity("one", needs), identity("two", needs)], &BTreeMap::new());
        assert_eq!(
            shown(&plan),
            [
                r#"one-and-two-reads ["one", "two"] [Select] a.x,a.y|||"#,
                r#"one-and-two-writes-z ["one", "two"] [Select, Insert] a.z|||"#,
            ]
        );
        assert_eq!(plan.rules[0].relations[0].1, "2 statements, at most 7 rows; 2 statements, at most 7 rows");
    }

    #[test]
    fn what_has_no_relation_is_a_rule_of_its_own_with_no_verb_that_others_give() {
        let needs = r#"{"relations":{"a.x":["Ddl"]},"verbs":["Ddl","Temp"],"functions":["a.f"],"procedures":["a.p"],
            "settings":["app.x"],"channels":["c"]}"#;
        assert_eq!(
            shown(&plan(&[identity("i.v1", needs)], &BTreeMap::new())),
            [r#"i-v1-alters-x ["i.v1"] [Ddl] a.x|||"#, r#"i-v1-also ["i.v1"] [Call, Temp, Notify] |a.f,a.p|app.x|c"#,]
        );
    }

    #[test]
    fn locking_rows_takes_the_least_verb_that_does() {
        let of = |verbs: &str| {
            let needs = format!(r#"{{"relations":{{"a.x":[{verbs}]}},"row_locks":["a.x"]}}"#);
            plan(&[identity("i", &needs)], &BTreeMap::new()).rules[0].allow.clone()
        };
        assert_eq!(of(r#""Select""#), [Verb::Select, Verb::Lock]);
        assert_eq!(of(r#""Select","Delete""#), [Verb::Select, Verb::Delete]);
    }

    #[test]
    fn lists_end_where_the_schema_says() {
        let relations: Vec<String> = (0..300).map(|n| format!(r#""a.t{n}":["Select"]"#)).collect();
        let settings: Vec<String> = (0..70).map(|n| format!(r#""app.s{n}""#)).collect();
        let needs = format!(r#"{{"relations":{{{}}},"settings":[{}]}}"#, relations.join(","), settings.join(","));
        let plan = plan(&[identity("i", &needs)], &BTreeMap::new());
        let lengths: Vec<_> = plan.rules.iter().map(|r| (&*r.name, r.relations.len(), r.settings.len())).collect();
        assert_eq!(lengths, [("i-reads", 256, 0), ("i-reads-2", 44, 0), ("i-also", 0, 64), ("i-also-2", 0, 6)]);
    }

    #[test]
    fn who_picks_rows_by_a_column_or_changes_its_table_is_exempt_from_its_mask() {
        let columns = r#""columns":{"a.users.email":"text","a.users.id":"integer","a.users.phone":"text"}"#;
        let reads = format!(r#"{{"relations":{{"a.users":["Select"]}},{columns}}}"#);
        let picks =
            format!(r#"{{"relations":{{"a.users":["Select"]}},{columns},"compared":["a.users.email","a.users.id"]}}"#);
        let changes = r#"{"relations":{"a.users":["Ddl"]}}"#;
        let plan = plan(&[identity("r", &reads), identity("p", &picks), identity("c", changes)], &BTreeMap::new());
        let masks: Vec<_> =
            plan.masks.iter().map(|mask| (&*mask.columns[0].0, mask.kind.as_str(), &mask.exempt)).collect();
        let changes = "changes the table a.users, which a mask on it forbids".to_owned();
        let of_email = BTreeMap::from([
            ("c".to_owned(), changes.clone()),
            ("p".to_owned(), "picks rows by a.users.email: SELECT $1".to_owned()),
        ]);
        let of_phone = BTreeMap::from([("c".to_owned(), changes)]);
        assert_eq!(masks, [("a.users.email", "email", &of_email), ("a.users.phone", "partial", &of_phone)]);
        assert_eq!(plan.masks[0].columns[0].1, "e-mail addresses, going by the name email; read by r, p");
    }

    #[test]
    fn values_decide_before_the_name_and_mentions_are_remarked() {
        let needs = r#"{"relations":{"a.t":["Select"]},"columns":{"a.t.contact":"text","a.t.notes":"text","a.t.phone":"text"}}"#;
        let samples = BTreeMap::from([
            ("a.t.contact".to_owned(), Sampled { holds: Some((Holds::Emails, 9)), mentions: 0, values: 10 }),
            ("a.t.notes".to_owned(), Sampled { holds: None, mentions: 2, values: 5 }),
        ]);
        let plan = plan(&[identity("i", needs)], &samples);
        let masked: Vec<&str> = plan.masks.iter().map(|mask| &*mask.columns[0].0).collect();
        assert_eq!(masked, ["a.t.contact", "a.t.phone"]);
        assert_eq!(plan.masks[0].columns[0].1, "9 of 10 values sampled look like e-mail addresses; read by i");
        assert_eq!(plan.remarks, ["a.t.notes: 2 of 5 values sampled have an e-mail address in them"]);
    }
}
