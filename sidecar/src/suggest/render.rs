//! A suggested policy as YAML, with comments that say why. Pure.
//!
//! **Promise.** What comes from the audit (names, statements, errors) is data here: a name is quoted where need be, and
//! in a comment no character ends the line. Statements are shown without their literals.

use std::fmt::Write as _;

use postern_crds::{MaskKind, Verb};
use serde_json::{Map, Value, json};

use super::gather::{Identity, LeftOut, Shape};
use super::plan::{MaskEntry, Plan, Rule};
use super::replay::Replayed;
use crate::sql;

/// How wide comments are.
const WIDTH: usize = 110;
/// Longest that one statement or error is shown.
const MAX_SHOWN: usize = 200;
/// Most statements of one kind that are listed.
const MAX_LISTED: usize = 50;
/// Fewest rows that a limit is suggested for.
const LEAST_LIMIT: u64 = 1_000;

/// What a suggestion is made of.
#[derive(Debug)]
pub struct Document<'a> {
    /// The policy's namespace and name.
    pub name: (&'a str, &'a str),
    /// The fields of its spec that are not suggested: `database`, and more of the policy that was in force.
    pub given: &'a Map<String, Value>,
    /// What is to be said of them.
    pub remark: Option<&'a str>,
    /// Whose traffic it is.
    pub identities: &'a [&'a Identity],
    /// What the policy says.
    pub plan: &'a Plan,
    /// What was not understood of the audit.
    pub left_out: LeftOut,
    /// What came of the traffic under it, if that was tried.
    pub replayed: Option<&'a Replayed>,
}

impl Document<'_> {
    /// The YAML.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.head(&mut out);
        self.refusals(&mut out);
        let (namespace, name) = self.name;
        let _ = writeln!(out, "apiVersion: {}", postern_crds::api::API_VERSION);
        let _ = writeln!(out, "kind: DatabaseAccessPolicy");
        let _ = writeln!(out, "metadata: {{name: {}, namespace: {}}}", scalar(name), scalar(namespace));
        let _ = writeln!(out, "spec:\n  mode: Enforce");
        if let Some(remark) = self.remark {
            comment(&mut out, "  ", remark);
        }
        for (key, value) in self.given {
            match value.as_object().filter(|_| key == "database") {
                Some(fields) => {
                    let _ = writeln!(out, "  database:");
                    for (key, value) in fields {
                        let _ = writeln!(out, "    {}: {}", scalar(key), flow(value));
                    }
                }
                None => {
                    let _ = writeln!(out, "  {}: {}", scalar(key), flow(value));
                }
            }
        }
        if !self.plan.masks.is_empty() {
            let _ = writeln!(out, "  masks:");
            self.plan.masks.iter().for_each(|mask| write_mask(&mut out, mask));
        }
        if !self.plan.rules.is_empty() {
            let _ = writeln!(out, "  rules:");
            self.plan.rules.iter().for_each(|rule| write_rule(&mut out, rule));
        }
        if !self.plan.exporters.is_empty() {
            comment(&mut out, "  ", &format!("{} copied tables out.", self.plan.exporters.join(", ")));
            let _ = writeln!(out, "  bulkExport: {{action: Allow}}");
        }
        out
    }

    fn head(&self, out: &mut String) {
        let (_, name) = self.name;
        let mut say = |text: &str| comment(out, "", text);
        say(&format!(
            "A first policy for {name}, made by postern-sidecar suggest of what its traffic needed, and nothing more. \
             Read it before you use it: what should not have been done is allowed too if it was done, and what is \
             done once a month is missing if it was not."
        ));
        for identity in self.identities {
            let runs: u64 = identity.shapes.values().map(Shape::times).sum();
            let seen = identity.seen.as_ref().map_or_else(String::new, |(first, last)| {
                let day = |time: &str| time.get(..10).unwrap_or_default().to_owned();
                format!(", {} to {}", day(first), day(last))
            });
            say(&format!(
                "- {} (role {}): {}, {} different ones, in {}{seen}",
                identity.name,
                identity.role,
                count(runs, "statement"),
                identity.shapes.len(),
                count(identity.sessions, "session")
            ));
        }
        let LeftOut { malformed, without_start, enforced, not_told_apart } = self.left_out;
        for (count, what) in [
            (malformed, "lines were no audit events"),
            (without_start, "statements were of sessions whose start was not in the audit"),
            (enforced, "statements were decided in mode Enforce and don't say what they need"),
            (not_told_apart, "statements were too many to be told apart"),
        ] {
            if count > 0 {
                say(&format!("Of the audit, {count} {what}."));
            }
        }
        if !self.plan.remarks.is_empty() {
            say("Look at these columns, too; they are not masked:");
            list(out, self.plan.remarks.iter().cloned());
        }
    }

    /// What of the traffic the policy does not allow, and what it would change.
    fn refusals(&self, out: &mut String) {
        let shapes = || {
            self.identities
                .iter()
                .flat_map(|identity| identity.shapes.values().map(move |shape| (identity.name.as_str(), shape)))
        };
        let beyond = shapes().filter(|(_, shape)| !shape.fails_anyway()).filter_map(|(identity, shape)| {
            let (beyond, times) = shape.beyond.as_ref()?;
            let often = often(*times);
            Some(format!("{identity}, {often}: {} ({}: {})", shown(shape), beyond.reason, cut(&beyond.error)))
        });
        section(out, "No rule can allow these statements of the traffic; they will be refused:", beyond);
        let forbidden = shapes()
            .filter(|(_, shape)| shape.is_forbidden() && shape.beyond.is_none())
            .map(|(identity, shape)| format!("{identity}, {}: {}", often(shape.times()), shown(shape)));
        section(out, "The server refused these to the role, so no rule allows them:", forbidden);
        let Some(replayed) = self.replayed else {
            comment(
                out,
                "",
                "Without --database no statement was tried under this policy: masks may refuse some writes.",
            );
            return;
        };
        let Replayed { tried, not_tried, refused, compares, problems } = replayed;
        let not_tried = match not_tried {
            0 => String::new(),
            some => format!(" {some} could not be tried, for want of their text, or without their literals."),
        };
        let tried = count(*tried as u64, "different statement");
        comment(out, "", &format!("Tried under this policy, against the database: {tried}.{not_tried}"));
        let refused = refused.iter().map(|it| {
            format!("{}, {}: {} ({}: {})", it.identity, often(it.times), cut(&it.text), it.reason, cut(&it.error))
        });
        section(out, "The masks refuse these:", refused);
        let compares = compares.iter().map(|it| format!("{}: {} in {}", it.identity, it.column, cut(&it.text)));
        section(out, "These are allowed, but compare, join or sort by masks, not by what is stored:", compares);
        section(out, "These parts do not fit the database; what they name stays closed:", problems.iter().cloned());
    }
}

fn section(out: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        comment(out, "", title);
        list(out, items);
    }
}

fn list(out: &mut String, items: impl Iterator<Item = String>) {
    let mut left_out = 0;
    for (at, item) in items.enumerate() {
        if at < MAX_LISTED {
            comment(out, "", &format!("- {item}"));
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        comment(out, "", &format!("- and {left_out} more"));
    }
}

fn write_mask(out: &mut String, mask: &MaskEntry) {
    let _ = writeln!(out, "  - columns:");
    for (column, why) in &mask.columns {
        let _ = writeln!(out, "    - {}  # {}", scalar(column), one_line(why));
    }
    let _ = writeln!(out, "    mask: {}", flow(&mask_value(&mask.kind)));
    if !mask.exempt.is_empty() {
        for (identity, reason) in &mask.exempt {
            comment(out, "    ", &format!("{identity} sees the values: it {}", cut(reason)));
        }
        let names: Vec<String> = mask.exempt.keys().map(|name| scalar(name)).collect();
        let _ = writeln!(out, "    exempt: {{identities: [{}]}}", names.join(", "));
    }
}

fn mask_value(kind: &MaskKind) -> Value {
    let options = match kind {
        MaskKind::Nullify | MaskKind::Default | MaskKind::Redact | MaskKind::Email => json!({}),
        MaskKind::Fixed { value } => json!({ "value": value }),
        MaskKind::Hash { key_secret: (name, key) } => json!({"keySecret": {"name": name, "key": key}}),
        MaskKind::TruncateDate { to } => {
            let unit: String = to.chars().take(1).flat_map(char::to_uppercase).chain(to.chars().skip(1)).collect();
            json!({ "to": unit })
        }
        MaskKind::Bucket { size } => json!({ "size": size }),
        MaskKind::Partial { keep_first, keep_last, with } => {
            let kept = [("keepFirst", *keep_first), ("keepLast", *keep_last)];
            let mut options: Map<String, Value> = kept
                .into_iter()
                .filter(|(_, kept)| *kept > 0)
                .map(|(key, kept)| (key.to_owned(), kept.into()))
                .collect();
            if *with != '*' {
                options.insert("with".to_owned(), with.to_string().into());
            }
            options.into()
        }
    };
    json!({ kind.as_str(): options })
}

fn write_rule(out: &mut String, rule: &Rule) {
    let Rule { name, identities, allow, relations, functions, settings, channels, most_rows } = rule;
    let scalars = |texts: &[String]| texts.iter().map(|text| scalar(text)).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "  - name: {}", scalar(name));
    let _ = writeln!(out, "    to: {{identities: [{}]}}", scalars(identities));
    if !allow.is_empty() {
        let verbs: Vec<&str> = allow.iter().map(|verb| verb.as_str()).collect();
        let _ = writeln!(out, "    allow: [{}]", verbs.join(", "));
    }
    if !relations.is_empty() {
        let _ = writeln!(out, "    relations:");
        for (relation, remark) in relations {
            let _ = writeln!(out, "    - {}  # {}", scalar(relation), one_line(remark));
        }
    }
    for (key, names) in [("functions", functions), ("settings", settings), ("channels", channels)] {
        if !names.is_empty() {
            let _ = writeln!(out, "    {key}: [{}]", scalars(names));
        }
    }
    if *most_rows > 0 && allow.contains(&Verb::Select) {
        let _ = writeln!(
            out,
            "    # limits: {{rows: {}}}  # ten times the most that one statement returned",
            limit(*most_rows)
        );
    }
}

/// `1 row`, `2 rows`.
pub fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn often(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

/// Ten times as many, as a round number.
fn limit(rows: u64) -> u64 {
    let wanted = rows.saturating_mul(10).max(LEAST_LIMIT);
    let power = 10_u64.pow(wanted.ilog10());
    [1, 2, 5, 10].into_iter().map(|step| power.saturating_mul(step)).find(|round| *round >= wanted).unwrap_or(wanted)
}

/// A statement without its literals.
fn shown(shape: &Shape) -> String {
    shape
        .text
        .as_deref()
        .map_or_else(|| "a statement whose text was not recorded".to_owned(), |text| cut(&sql::normalize(text)))
}

/// As much of a text as fits, in one line.
pub fn cut(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{} …", line.get(..end).unwrap_or_default().trim_end()),
        None => line,
    }
}

/// In one line: YAML takes more characters than the line feed for the end of one, and knows no control characters.
fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let plain: String = text.chars().map(|c| if is_break(c) { ' ' } else { c }).collect();
    plain.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A comment, broken into lines between words; an item of a list is indented.
fn comment(out: &mut String, indent: &str, text: &str) {
    let text = one_line(text);
    let hang = if text.starts_with("- ") { "  " } else { "" };
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + word.chars().count() >= WIDTH {
            let _ = writeln!(out, "{indent}# {line}");
            line = hang.to_owned();
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{indent}# {line}");
}

/// A text as a YAML scalar; JSON's form of it, which is YAML's too, where it could be read as something else.
fn scalar(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c));
    const OTHER: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !OTHER.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        json!(text).to_string()
    }
}

/// A value in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::collections::BTreeMap;

    use postern_crds::files::{self, Object};

    use super::super::replay::{Compares, Refused};
    use super::*;
    use crate::analyze::needs::Beyond;

    fn given() -> Map<String, Value> {
        let database = json!({"host": "pg", "port": 5432, "name": "yes", "tls": {"mode": "Disable"},
            "credentials": {"secret": {"name": "db"}}});
        Map::from_iter([("database".to_owned(), database)])
    }

    fn document(plan: &Plan, identities: &[&Identity], replayed: Option<&Replayed>) -> String {
        let given = given();
        let left_out = LeftOut { malformed: 2, ..LeftOut::default() };
        Document { name: ("shop", "shop"), given: &given, remark: None, identities, plan, left_out, replayed }.to_yaml()
    }

    fn policy(yaml: &str) -> postern_crds::CheckedPolicy {
        match files::read(yaml).unwrap_or_else(|errors| panic!("{errors:?}\n{yaml}")).as_slice() {
            [Object::Policy(policy)] => policy.compile().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_compiles_to_what_was_meant() {
        let kinds = [
            MaskKind::Nullify,
            MaskKind::Default,
            MaskKind::Fixed { value: "on".into() },
            MaskKind::Redact,
            MaskKind::Hash { key_secret: ("s".into(), "k".into()) },
            MaskKind::TruncateDate { to: "year".into() },
            MaskKind::Bucket { size: "0.5".into() },
            MaskKind::Partial { keep_first: 1, keep_last: 0, with: '#' },
            MaskKind::Email,
        ];
        let plan = Plan {
            masks: kinds
                .iter()
                .map(|kind| MaskEntry {
                    kind: kind.clone(),
                    columns: vec![("public.\"Order Items\".\"e#\"".into(), "why\nnot".into())],
                    exempt: BTreeMap::from([("no".to_owned(), "changes it".to_owned())]),
                })
                .collect(),
            rules: vec![Rule {
                name: "no-reads".into(),
                identities: vec!["no".into()],
                allow: vec![Verb::Select, Verb::CopyOut],
                relations: vec![("public.\"Order Items\"".into(), "1 statement".into()), ("null.x".into(), "x".into())],
                functions: vec!["public.f".into()],
                settings: vec!["app.x".into()],
                channels: vec!["\"Ä b\"".into()],
                most_rows: 12,
            }],
            exporters: vec!["no".into()],
            remarks: Vec::new(),
        };
        let yaml = document(&plan, &[], None);
        let policy = policy(&yaml);
        assert_eq!(policy.database.name, "yes");
        assert_eq!(policy.masks.iter().map(|mask| mask.kind.clone()).collect::<Vec<_>>(), kinds);
        assert!(policy.masks.iter().all(|mask| mask.exempt.identities == ["no"]));
        let [rule] = policy.rules.as_slice() else { panic!("{yaml}") };
        assert_eq!((rule.to.identities.as_slice(), rule.limits.rows), (&["no".to_owned()][..], None));
        assert!(rule.covers("public", "Order Items", false) && rule.covers("null", "x", false));
        assert!(yaml.contains("    # limits: {rows: 1000}  # ten"), "{yaml}");
    }

    #[test]
    fn nothing_of_the_audit_leaves_its_comment() {
        let hostile = "x\nspec: {mode: Audit}\r\u{85}\u{2028}rules: []\u{0}\u{2029} # y";
        let shape = Shape {
            text: Some(format!("SELECT \"{hostile}\" FROM t WHERE a = 'secret value'")),
            runs: 1,
            beyond: Some((Beyond { reason: "forbidden".into(), error: hostile.into() }, 1)),
            ..Shape::default()
        };
        let mut identity = Identity { name: "app".into(), role: hostile.into(), ..Identity::default() };
        identity.shapes.insert("f".into(), shape);
        let plan = Plan { remarks: vec![hostile.into()], ..Plan::default() };
        let replayed = Replayed {
            refused: vec![Refused {
                identity: "app".into(),
                times: 1,
                text: hostile.into(),
                reason: "masked_write",
                error: hostile.into(),
            }],
            compares: vec![Compares { identity: "app".into(), column: hostile.into(), text: hostile.into() }],
            problems: vec![hostile.into()],
            tried: 1,
            not_tried: 1,
        };
        let yaml = document(&plan, &[&identity], Some(&replayed));
        assert_eq!(policy(&yaml).mode, postern_crds::Mode::Enforce);
        assert!(policy(&yaml).rules.is_empty());
        let is_inside = |line: &str| line.starts_with('#') || !line.contains("mode: Audit");
        assert!(yaml.lines().all(is_inside) && !yaml.contains("secret value"), "{yaml}");
        for character in ['\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{0}'] {
            assert!(!yaml.contains(character));
        }
    }

    #[test]
    fn a_limit_is_ten_times_the_most_rounded_up() {
        for (rows, expected) in
            [(1, 1_000), (100, 1_000), (101, 2_000), (350, 5_000), (501, 10_000), (u64::MAX, u64::MAX)]
        {
            assert_eq!(limit(rows), expected, "{rows}");
        }
    }

    #[test]
    fn long_comments_are_broken_between_words_and_lists_are_cut() {
        let mut out = String::new();
        comment(&mut out, "  ", &format!("- {}", "word ".repeat(40)));
        assert!(out.lines().all(|line| line.starts_with("  # ") && line.len() < 120), "{out}");
        assert!(out.lines().nth(1).unwrap().starts_with("  #   word"), "{out}");
        let mut out = String::new();
        list(&mut out, (0..60).map(|n| n.to_string()));
        assert!(out.ends_with("# - 49\n# - and 10 more\n"), "{out}");
    }
}
