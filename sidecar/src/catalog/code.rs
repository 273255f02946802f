//! What names mean in the code of the database's owner, which runs for a session: in triggers, checks, views, filters.
//!
//! A function is parsed as it runs. A name without a schema in it is then found by the session's search_path, in which temporary
//! relations come first, so that what a client makes under such a name is taken for what the owner meant: his trigger would write
//! raw values into it, and his filter would ask it which rows to show. Unless the function says otherwise
//! (<https://www.postgresql.org/docs/current/sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY>).
//!
//! Bodies are read as words, not parsed: a word that is no name there costs another name, or a `SET search_path`.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::load::{FIRST_USER_OID, is_system_schema};
use super::{Catalog, Function, Oid};

/// By what a function finds names that have no schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lookup {
    /// By the session's search_path.
    #[default]
    Session,
    /// By one of its own, in which temporary relations come first.
    Own,
    /// By nothing that a session can change.
    Fixed,
}

/// By these a body runs SQL that is made as it runs, or reads what is not named in it.
const RUN_TEXT: [&str; 17] = [
    "execute",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "cursor_to_xml",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "crosstab",
    "connectby",
    "xpath_table",
];

/// Whether a body of these words may run SQL that does not stand in it, or names what doesn't.
pub fn may_run_text(body: &str, words: &HashSet<String>) -> bool {
    body.to_lowercase().contains("u&\"") || RUN_TEXT.iter().any(|name| words.contains(*name))
}

/// The function that a view's definition calls to run SQL given as text.
pub fn text_runner(definition: &str) -> Option<&'static str> {
    let text = definition.to_lowercase();
    let is_called = |name: &&&str| **name != "execute" && text.contains(**name) && mentions_word(&text, name);
    RUN_TEXT.iter().find(is_called).copied()
}

/// Whether a text holds a name as a word of its own, with quotes in it doubled as SQL has them, or not.
pub fn mentions_word(text: &str, name: &str) -> bool {
    mentions(text, name, |_, _| true) || name.contains('"') && mentions(text, &name.replace('"', "\"\""), |_, _| true)
}

/// Whether a body holds a name as a word of its own that may be looked up by the search_path: no schema stands right before it (a
/// dot further before may end a comment), and where it stands no relation, type or function is named.
fn mentions_bare(body: &str, name: &str) -> bool {
    let written = name.replace('"', "\"\"");
    let says = |word: &str| mentions(body, word, |_, _| true);
    // `log.id%TYPE` looks `log` up.
    let names_types = body.contains('%') && says("type");
    // `DROP FUNCTION f(log)` does.
    let names_functions = ["aggregate", "function", "procedure", "routine"].into_iter().any(says);
    mentions(body, &written, |before, after| {
        let unquoted = before.strip_suffix('"').zip(after.strip_prefix('"'));
        let (before, after) = unquoted.unwrap_or((before, after));
        let has_schema = before.ends_with('.');
        // A column of what has this name by a mention of its own, or what is in a schema of this name.
        let qualifies = after.starts_with('.') && !names_types;
        !(has_schema || qualifies || is_alias(before, after) || is_argument(before, after) && !names_functions)
    })
}

/// Whether a name is given to something, with columns: `INSERT INTO jobs.all AS log (id)`. Without them it may be a type.
fn is_alias(before: &str, after: &str) -> bool {
    // On the same line: what stands before may be a comment.
    let spaceless = before.trim_end_matches(' ');
    spaceless.len() < before.len() && last_word(spaceless) == "as" && after.trim_start().starts_with('(')
}

/// Whether a name is all that a function is called with: a column, a variable or a parameter, as in `unnest(log)`.
fn is_argument(before: &str, after: &str) -> bool {
    let called = before.strip_suffix('(').map(last_word);
    after.starts_with(')') && called.is_some_and(|called| !matches!(called, "" | "only" | "inherits"))
}

/// The word that a text ends with; none where it is quoted or behind a dot.
fn last_word(text: &str) -> &str {
    let start = text.trim_end_matches(is_part).len();
    let (before, word) = text.split_at_checked(start).unwrap_or_default();
    if before.ends_with(['.', '"']) { "" } else { word }
}

/// Whether a text holds a name as a word of its own, in any case, between what fits (in lower case).
fn mentions(text: &str, name: &str, fits: impl Fn(&str, &str) -> bool) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    text.match_indices(&name).any(|(at, found)| {
        let before = text.get(..at).unwrap_or_default();
        let rest = text.get(at.saturating_add(found.len())..).unwrap_or_default();
        let after = rest.chars().next();
        !before.chars().next_back().is_some_and(is_word) && !after.is_some_and(is_word) && fits(before, rest)
    })
}

impl Catalog {
    /// A function of the owner's in which a new relation or type of this name would be taken for another that is there already,
    /// of those that run for an identity: by themselves (triggers, checks, defaults, views), in filters, or because it may call them.
    pub fn captured_by(
        &self,
        schema: &str,
        name: &str,
        is_filter: impl Fn(&Function) -> bool,
        is_called: impl Fn(&Function) -> bool,
    ) -> Option<&Function> {
        let relations =
            self.relation_names.iter().filter(|(_, names)| names.contains_key(name)).map(|(schema, _)| schema);
        let types = self.type_names.get(name).into_iter().flatten().map(|(schema, _)| schema);
        let mut holders = relations.chain(types).peekable();
        if holders.peek().is_none() || holders.any(|holder| **holder == *schema) {
            return None;
        }
        let by_itself = self.reached(|function| function.stored || is_filter(function));
        let called = self.reached(is_called);
        let is_found = |function: &&&Function| function.lookup != Lookup::Fixed;
        let dynamic = by_itself.iter().filter(is_found).find(|function| function.is_dynamic());
        let names = |function: &&&Function| function.body.as_ref().is_some_and(|body| mentions_bare(body, name));
        dynamic.or_else(|| by_itself.iter().chain(&called).filter(is_found).find(names)).copied()
    }

    /// Why what a function means depends on the session's search_path, if it does, the owner's relations and functions being what they are.
    pub fn depends_on_path(&self, function: &Function) -> Option<String> {
        if !function.is_own() {
            return None;
        }
        let places = self.places();
        let is_several = |name: &str| places.get(name).is_some_and(|schemas| schemas.len() > 1);
        for function in self.reached(|one| one.oid == function.oid) {
            if function.lookup != Lookup::Session {
                continue;
            }
            let path = format!("{}.{}", function.schema, function.name);
            let hint = format!("ALTER FUNCTION {path} SET search_path = …, pg_temp");
            if function.is_dynamic() {
                return Some(format!("what {path} reads depends on the search_path: {hint}"));
            }
            let body = function.body.as_deref().unwrap_or_default();
            if let Some(name) = words(body).into_iter().find(|name| is_several(name) && mentions_bare(body, name)) {
                return Some(format!(
                    "{name} in {path} is found by the search_path, and there are several of that name: {hint}"
                ));
            }
        }
        None
    }

    /// Whether a function of the owner's may open a cursor, under a name that its caller picks perhaps, by itself or by what it calls.
    pub fn may_open_cursor(&self, function: &Function) -> bool {
        /// `refcursor`.
        const REFCURSOR: Oid = 1790;
        let takes_cursor = |function: &Function| {
            let of_columns = function.out_columns.iter().map(|(_, kind)| kind);
            function.arguments.iter().chain([&function.result]).chain(of_columns).any(|kind| *kind == REFCURSOR)
        };
        let reached = self.reached(|one| one.oid == function.oid);
        reached.into_iter().any(|one| takes_cursor(one) || one.may_say(&["cursor"]))
    }

    /// The schemas in which relations and functions of a name are.
    fn places(&self) -> HashMap<&str, HashSet<&str>> {
        let mut places: HashMap<&str, HashSet<&str>> = HashMap::new();
        // Nothing of the system's has the columns of the owner's.
        for (schema, names) in self.relation_names.iter().filter(|(schema, _)| !is_system_schema(schema)) {
            for name in names.keys() {
                places.entry(name).or_default().insert(schema);
            }
        }
        for function in self.functions.values().flatten().filter(|function| function.extension.is_none()) {
            places.entry(&function.name).or_default().insert(&function.schema);
        }
        places
    }

    /// These functions of the owner's, and those that their bodies may call.
    fn reached(&self, is_first: impl Fn(&Function) -> bool) -> Vec<&Function> {
        let is_own = |function: &&Function| function.is_own();
        let mut found: Vec<&Function> =
            self.functions.values().flatten().filter(is_own).filter(|function| is_first(function)).collect();
        // Their names are no single words.
        let odd: Vec<&Function> = self
            .functions
            .iter()
            .filter(|(name, _)| !is_plain(name))
            .flat_map(|(_, named)| named)
            .filter(is_own)
            .collect();
        let mut seen: HashSet<_> = found.iter().map(|function| function.oid).collect();
        let mut next = 0;
        while let Some(function) = found.get(next) {
            next = next.saturating_add(1);
            let body = function.body.as_deref().unwrap_or_default();
            let words = words(body);
            let named = words.iter().filter_map(|word| self.functions.get(word.as_str())).flatten().filter(is_own);
            found.extend(named.filter(|function| seen.insert(function.oid)));
            found
                .extend(odd.iter().filter(|function| mentions_bare(body, &function.name) && seen.insert(function.oid)));
        }
        found.sort_by_key(|function| function.oid);
        found
    }
}

impl Function {
    /// Whether the database's owner wrote it: it is neither built in nor an extension's.
    fn is_own(&self) -> bool {
        self.oid >= FIRST_USER_OID && self.extension.is_none()
    }

    /// Whether its body, which may not be known, says one of these, in small letters.
    pub(super) fn may_say(&self, any: &[&str]) -> bool {
        match (&self.body, &*self.language) {
            (_, "internal" | "c") => false,
            (Some(body), _) => {
                let body = body.to_ascii_lowercase();
                any.iter().any(|words| body.contains(words))
            }
            (None, _) => true,
        }
    }

    /// Whether it may name what does not stand in its body.
    fn is_dynamic(&self) -> bool {
        match (&self.body, &*self.language) {
            (_, "internal" | "c") => false,
            (Some(body), _) => may_run_text(body, &words(body)),
            (None, _) => true,
        }
    }
}

/// Whether it is part of a name that needs no quotes.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Whether a name is a single word of a body: one with blanks or signs in it is none.
pub fn is_plain(name: &str) -> bool {
    name.chars().all(is_part)
}

/// The words of a body, in lower case, as which names without quotes are meant, and as they are: quoted names keep their case.
pub fn words(body: &str) -> HashSet<String> {
    let split = |text: &str| text.split(|c: char| !is_part(c)).map(str::to_owned).collect::<Vec<_>>();
    split(body).into_iter().chain(split(&body.to_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_bare_where_it_may_be_looked_up() {
        for (body, bare) in [
            ("INSERT INTO log VALUES (1)", true),
            ("INSERT INTO \"log\" VALUES (1)", true),
            ("insert into LOG values (1)", true),
            ("SELECT FROM public.log", false),
            ("SELECT FROM public . \"log\"", true),
            ("SELECT FROM public.\"log\"", false),
            ("INSERT INTO -- where changes go.\n log VALUES (1)", true),
            ("SELECT FROM public.log, log", true),
            ("SELECT FROM public./* */log", true),
            ("SELECT FROM catalog", false),
            ("SELECT FROM log_2", false),
            ("DECLARE r log%ROWTYPE", true),
            ("DECLARE r log.id%TYPE", true),
            ("DECLARE r \"log\".id /* */ % TYPE", true),
            ("UPDATE jobs.all SET id = log.id", false),
            ("UPDATE jobs.all SET id = \"log\".id, at = log.at", false),
            ("UPDATE log SET id = log.id", true),
            ("FROM unnest(log) AS one", false),
            ("FROM ONLY(log)", true),
            ("FROM ONLY (log)", true),
            ("FROM unnest (log)", true),
            ("CREATE TABLE made () INHERITS(log)", true),
            ("DROP FUNCTION f(log)", true),
            ("INSERT INTO jobs.all AS log (id) VALUES (1)", false),
            ("INSERT INTO -- as\n log (id) VALUES (1)", true),
            ("INSERT INTO /* as */ log (id) VALUES (1)", true),
            ("SELECT CAST(x AS log)", true),
            ("SELECT CAST(x AS log[])", true),
            ("SELECT x::log", true),
        ] {
            assert_eq!(mentions_bare(body, "log"), bare, "{body}");
        }
    }
}
