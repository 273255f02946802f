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
    mentions(text, name, |_| true) || name.contains('"') && mentions(text, &name.replace('"', "\"\""), |_| true)
}

/// Whether a body holds a name as a word of its own that no schema stands right before. (A dot further before may end a comment.)
fn mentions_bare(body: &str, name: &str) -> bool {
    let written = name.replace('"', "\"\"");
    mentions(body, &written, |before| !before.strip_suffix('"').unwrap_or(before).ends_with('.'))
}

/// Whether a text holds a name as a word of its own, in any case, behind something that fits (in lower case).
fn mentions(text: &str, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    text.match_indices(&name).any(|(at, found)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at.saturating_add(found.len())..).and_then(|text| text.chars().next());
        !before.chars().next_back().is_some_and(is_word) && !after.is_some_and(is_word) && fits(before)
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
    fn a_name_is_bare_where_no_dot_stands_before_it() {
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
        ] {
            assert_eq!(mentions_bare(body, "log"), bare, "{body}");
        }
    }
}
