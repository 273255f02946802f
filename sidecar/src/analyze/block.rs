//! DO blocks of two forms: definitions that may meet what is there already, and statements under a condition.
//!
//! Libraries guard a definition so, because CREATE TYPE and ADD CONSTRAINT know no IF NOT EXISTS:
//!
//! ```sql
//! DO $$ BEGIN CREATE TYPE mood AS ENUM ('sad'); EXCEPTION WHEN duplicate_object THEN NULL; END $$
//! DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_type WHERE typname = 'mood') THEN CREATE TYPE mood AS …; END IF; END $$
//! ```
//!
//! **Promise.** A body is read only if it is one block of definitions, plain writes, PERFORM and messages of a constant text, some under
//! conditions, with handlers that do nothing but such messages. It has no variables but FOUND, which only a condition of its own may name, so
//! that its statements mean within it what they mean alone: each is decided as it would be alone, a condition and a PERFORM as the SELECT
//! that the server makes of it. Where something was rewritten, or there is a condition, the body is written anew from them. Every other
//! body is refused.

use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::protobuf::{ScanToken, Token};
use pg_query::{Node, NodeEnum};

use super::tree::{self, string_of};
use super::utility::forbidden;
use super::{Analyzer, Doubt, Effect, Statement};
use crate::catalog::names::PG_TEMP;
use crate::catalog::{Relation, WrittenName};
use crate::decide::Denial;
use crate::sql;

/// A body is one token of the text around it: what it costs to read was not counted with that.
const LIMITS: sql::ParseLimits = sql::ParseLimits { bytes: 16 << 10, depth: sql::deep::INLINE_DEPTH, memory: 8 << 20 };

/// What a body consists of.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    steps: Vec<Step<'a>>,
    handlers: Vec<Handler<'a>>,
}

/// What is done about errors.
#[derive(Debug, PartialEq, Eq)]
struct Handler<'a> {
    /// Which, as written.
    conditions: Vec<&'a str>,
    steps: Vec<Harmless<'a>>,
}

/// What reads and changes nothing.
#[derive(Debug, PartialEq, Eq)]
enum Harmless<'a> {
    Null,
    /// RAISE of a constant text, or of nothing, which raises again what is handled: what stands behind the word.
    Raise(&'a str),
}

/// What a body does.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Statement(&'a str),
    /// A query whose rows nobody sees: what stands behind the word.
    Perform(&'a str),
    Harmless(Harmless<'a>),
    /// IF … THEN … ELSIF … THEN … ELSE … END IF; the last has no condition. None of the steps is one.
    If(Vec<(Option<&'a str>, Vec<Step<'a>>)>),
}

/// What a body was decided to do, as text and as what comes of it.
#[derive(Default)]
struct Outcome {
    text: String,
    names: Vec<WrittenName>,
    dropped: Vec<WrittenName>,
    types: Vec<(String, Doubt)>,
    made: Vec<Relation>,
    /// Whether all that was defined is temporary; None if nothing was.
    temporary: Option<bool>,
}

impl Analyzer<'_> {
    /// Decides a DO block by the statements in it.
    pub(crate) fn block(&mut self, statement: &mut pb::DoStmt) -> Result<(), Denial> {
        let body = body(statement).ok_or_else(refused)?;
        sql::measure(body, &LIMITS)?;
        let block = read(body).ok_or_else(refused)?;
        let outer = std::mem::take(&mut self.changed);
        let mut outcome = Outcome { text: "BEGIN ".to_owned(), ..Outcome::default() };
        for step in &block.steps {
            let result = match step {
                Step::If(branches) => self.conditional(branches, &mut outcome),
                step => self.block_step(step, &mut outcome),
            };
            // Places are such in the statement by itself.
            result.map_err(|denial| Denial { position: None, ..denial })?;
        }
        write_handlers(&block.handlers, &mut outcome.text);
        // What fails is forgiven.
        if !block.handlers.is_empty() {
            outcome.made.retain(|made| self.may_be_taken_for_made(made));
        }
        if self.changed {
            set_body(statement, &outcome.text);
        }
        self.changed |= outer;
        self.out.writes = true;
        if let Some(temporary) = outcome.temporary {
            self.out.effect = Effect::CatalogChange { names: outcome.names, types: outcome.types, temporary };
        }
        self.dropped = outcome.dropped;
        self.made = outcome.made;
        Ok(())
    }

    /// Whether it does no harm if something else has the name of what may not have been made.
    fn may_be_taken_for_made(&self, made: &Relation) -> bool {
        let (schema, name) = (&*made.schema, &*made.name);
        schema != PG_TEMP && !self.policy.policy.may_guard(&self.policy.identity, schema, name)
    }

    /// Steps under conditions. They may not have run, so what they make is found by what follows only where it does no harm if something
    /// else has that name.
    fn conditional(&mut self, branches: &[(Option<&str>, Vec<Step<'_>>)], outcome: &mut Outcome) -> Result<(), Denial> {
        for (number, (condition, steps)) in branches.iter().enumerate() {
            match condition {
                Some(condition) => {
                    let word = if number == 0 { "IF" } else { "ELSIF" };
                    let condition = self.condition(condition)?;
                    // The server takes the first THEN outside of parentheses.
                    let holds_word = condition.to_ascii_lowercase().contains("then");
                    let (open, close) = if holds_word { ("(", ")") } else { ("", "") };
                    outcome.text.push_str(&format!("{word} {open}{condition}{close} THEN "));
                }
                None => outcome.text.push_str("ELSE "),
            }
            self.branch(steps, outcome)?;
        }
        outcome.text.push_str("END IF; ");
        // What the server reads is then what was read here.
        self.changed = true;
        Ok(())
    }

    /// A condition as it is sent: of what the statement before it found, or one that is decided as a query.
    fn condition(&mut self, condition: &str) -> Result<String, Denial> {
        let words: Vec<String> = condition.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["found"] => return Ok("FOUND".to_owned()),
            ["not", "found"] => return Ok("NOT FOUND".to_owned()),
            _ => {}
        }
        self.selected(condition)
    }

    /// What stands behind SELECT, decided as that.
    fn selected(&mut self, what: &str) -> Result<String, Denial> {
        let (text, inner) = self.inner(&format!("SELECT {what}"))?;
        let text =
            text.strip_prefix("SELECT ").filter(|_| inner.returns_rows).map(str::to_owned).ok_or_else(refused)?;
        self.absorb(inner);
        Ok(text)
    }

    fn branch(&mut self, steps: &[Step<'_>], outcome: &mut Outcome) -> Result<(), Denial> {
        let before = self.session.clone();
        let (dropped, certain) = (outcome.dropped.len(), outcome.made.len());
        for step in steps {
            self.block_step(step, outcome)?;
        }
        outcome.dropped.truncate(dropped);
        let within = std::mem::replace(&mut self.session, before);
        let maybe = outcome.made.split_off(certain.min(outcome.made.len()));
        outcome.made.extend(maybe.into_iter().filter(|made| self.may_be_taken_for_made(made)));
        let is_new = |made: &&Arc<Relation>| {
            !self.session.overlay.iter().any(|known| known.oid == made.oid) && self.may_be_taken_for_made(made)
        };
        let made: Vec<Arc<Relation>> = within.overlay.iter().filter(is_new).cloned().collect();
        Arc::make_mut(&mut self.session.overlay).extend(made);
        self.session.retyped = within.retyped;
        let before = Arc::clone(&self.session.types_in_doubt);
        let doubted = within.types_in_doubt.iter().map(|(name, doubt)| match before.get(name) == Some(doubt) {
            true => (name.clone(), doubt.clone()),
            false => (name.clone(), doubt.uncertain()),
        });
        self.session.types_in_doubt = Arc::new(doubted.collect());
        Ok(())
    }

    fn block_step(&mut self, step: &Step<'_>, outcome: &mut Outcome) -> Result<(), Denial> {
        match step {
            Step::Statement(text) => self.block_statement(text, outcome),
            Step::Perform(what) => {
                let what = self.selected(what)?;
                outcome.text.push_str(&format!("PERFORM {what}; "));
                Ok(())
            }
            Step::Harmless(harmless) => {
                write_harmless(harmless, &mut outcome.text);
                Ok(())
            }
            Step::If(_) => Err(refused()),
        }
    }

    fn block_statement(&mut self, text: &str, outcome: &mut Outcome) -> Result<(), Denial> {
        let server = self.catalog.server_version;
        let mut tree = parse(text, server)?;
        let [pb::RawStmt { stmt: Some(node), .. }] = tree.stmts.as_mut_slice() else { return Err(refused()) };
        if is_write(node) {
            let (text, inner) = self.inner(text)?;
            if inner.returns_rows {
                return Err(refused());
            }
            self.absorb(inner);
            outcome.text.push_str(&text);
            outcome.text.push_str("; ");
            return Ok(());
        }
        if !is_definition(node) {
            return Err(refused());
        }
        // What stands in CREATE SCHEMA finds the new schema first; what follows it does not.
        let path = self.session.search_path.clone();
        self.define(node)?;
        self.session.search_path = path;
        let made = std::mem::take(&mut self.made);
        outcome.made.extend(made.iter().cloned());
        self.session.predict(&self.out.effect, made, &self.dropped);
        outcome.dropped.append(&mut self.dropped);
        if let Effect::CatalogChange { names, types, temporary } = std::mem::take(&mut self.out.effect) {
            outcome.names.extend(names);
            // It may not run, or fail and be forgiven.
            outcome.types.extend(types.into_iter().map(|(name, doubt)| (name, doubt.uncertain())));
            outcome.temporary = Some(temporary && outcome.temporary.unwrap_or(true));
        }
        outcome.text.push_str(&sql::emit_owned(tree, server)?);
        outcome.text.push_str("; ");
        Ok(())
    }

    /// Decides a query or write by itself. Tells its text, which names no variable of PL/pgSQL.
    fn inner(&mut self, text: &str) -> Result<(String, Statement), Denial> {
        let server = self.catalog.server_version;
        let mut tree = parse(text, server)?;
        let [pb::RawStmt { stmt: Some(node), .. }] = tree.stmts.as_mut_slice() else { return Err(refused()) };
        let mut inner = Analyzer::new(self.policy, self.session.clone());
        inner.learner = self.learner.take();
        let result = inner.statement(node);
        inner.learn_columns();
        self.learner = inner.learner.take();
        self.unknown.append(&mut inner.unknown);
        self.missing_columns.append(&mut inner.missing_columns);
        result?;
        self.changed |= inner.changed;
        let text = sql::emit_owned(tree, server)?;
        let names_variable = sql::scan(&text).map_err(sql::refuse)?.iter().any(|token| {
            slice(&text, token, token).is_some_and(|word| word.trim_matches('"').eq_ignore_ascii_case("found"))
        });
        if names_variable || !matches!(inner.out.effect, Effect::None) {
            return Err(refused());
        }
        Ok((text, inner.out))
    }

    /// What a statement of a block does is done by the block.
    fn absorb(&mut self, inner: Statement) {
        inner.verbs.iter().for_each(|verb| self.need(verb));
        let out = &mut self.out;
        out.rule = out.rule.take().or(inner.rule);
        out.relations.extend(inner.relations);
        out.touched.extend(inner.touched);
        out.masked_columns.extend(inner.masked_columns);
        out.notices.extend(inner.notices);
        out.limits = out.limits.and(inner.limits);
        out.scrub |= inner.scrub;
        out.row_filter_rule = out.row_filter_rule.take().or(inner.row_filter_rule);
    }
}

/// What is no SQL may be PL/pgSQL.
fn parse(text: &str, server: u32) -> Result<pb::ParseResult, Denial> {
    let parsed = sql::as_server_reads(text, server).and_then(|text| sql::parse(&text, &LIMITS));
    Ok(parsed.map_err(|_| refused())?.tree)
}

fn refused() -> Denial {
    forbidden("DO: its code would run unseen").hint(
        "DO may hold definitions (CREATE TYPE, ALTER TABLE, …) and writes, some in IF … THEN … END IF, and handlers that \
         do nothing (EXCEPTION WHEN … THEN NULL). Send other code as statements of its own.",
    )
}

/// The text of a block in PL/pgSQL.
fn body(statement: &pb::DoStmt) -> Option<&str> {
    let mut body = None;
    for option in &statement.args {
        let Some(NodeEnum::DefElem(option)) = &option.node else { return None };
        let value = option.arg.as_deref().and_then(string_of)?;
        match option.defname.as_str() {
            "as" if body.is_none() => body = Some(value),
            "language" if value == "plpgsql" => {}
            _ => return None,
        }
    }
    body
}

fn set_body(statement: &mut pb::DoStmt, text: &str) {
    for option in &mut statement.args {
        if let Some(NodeEnum::DefElem(option)) = &mut option.node
            && option.defname == "as"
        {
            option.arg = tree::boxed(tree::string(text));
        }
    }
}

/// Writes, which in PL/pgSQL can't give their rows away.
fn is_write(node: &Node) -> bool {
    matches!(node.node, Some(NodeEnum::InsertStmt(_) | NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_)))
}

/// Definitions that hold no query.
fn is_definition(node: &Node) -> bool {
    matches!(
        node.node,
        Some(
            NodeEnum::CreateStmt(_)
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
                | NodeEnum::DropStmt(_)
                | NodeEnum::CommentStmt(_)
        )
    )
}

/// The tokens of a body, read as PL/pgSQL reads them: its scanner is the server's own.
struct Reader<'a> {
    text: &'a str,
    tokens: Vec<ScanToken>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).and_then(|token| slice(self.text, token, token))
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// Whether a word or sign comes next, which is taken then.
    fn takes(&mut self, wanted: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(wanted));
        self.at += usize::from(found);
        found
    }

    /// `condition THEN steps ELSIF condition THEN steps ELSE steps END IF;`, after IF. The server, too, takes the first THEN outside of
    /// parentheses.
    fn conditional(&mut self) -> Option<Step<'a>> {
        let mut branches = vec![(Some(self.up_to("THEN")?), Vec::new())];
        loop {
            let (condition, steps) = branches.last_mut()?;
            let is_last = condition.is_none();
            if self.takes("END") {
                break;
            } else if !is_last && (self.takes("ELSIF") || self.takes("ELSEIF")) {
                branches.push((Some(self.up_to("THEN")?), Vec::new()));
            } else if !is_last && self.takes("ELSE") {
                branches.push((None, Vec::new()));
            } else if ["ELSE", "ELSIF", "ELSEIF"].iter().any(|word| self.takes(word)) {
                return None;
            } else {
                steps.push(self.step()?);
            }
        }
        let ends = self.takes("IF") && self.takes(";");
        (ends && branches.iter().all(|(_, steps)| !steps.is_empty())).then_some(Step::If(branches))
    }

    /// A step that is no condition.
    fn step(&mut self) -> Option<Step<'a>> {
        if self.takes("PERFORM") {
            return self.up_to(";").map(Step::Perform);
        }
        match self.harmless(false) {
            Ok(harmless) => harmless.map(Step::Harmless),
            Err(NoSuch) => self.up_to(";").map(Step::Statement),
        }
    }

    /// `NULL;` or `RAISE level 'text';`, within a handler `RAISE;`, too. None if it is a RAISE of another form.
    fn harmless(&mut self, handles: bool) -> Result<Option<Harmless<'a>>, NoSuch> {
        if self.takes("NULL") {
            return Ok(self.takes(";").then_some(Harmless::Null));
        }
        if !self.takes("RAISE") {
            return Err(NoSuch);
        }
        if self.takes(";") {
            return Ok(handles.then_some(Harmless::Raise("")));
        }
        let first = self.at;
        let _ = LEVELS.iter().any(|level| self.takes(level));
        // A sign for a value that is not given would be an error, and backslashes mean what a setting says.
        let is_constant = |text: &str| {
            let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            inner.is_some_and(|inner| !inner.contains(['%', '\\']))
        };
        if !self.next().is_some_and(is_constant) || !self.takes(";") {
            return Ok(None);
        }
        let last = self.at.saturating_sub(2);
        let ends = self.tokens.get(first).zip(self.tokens.get(last));
        Ok(ends.and_then(|(first, last)| slice(self.text, first, last)).map(Harmless::Raise))
    }

    /// What stands before a word or sign outside of parentheses, which is taken, too.
    fn up_to(&mut self, end: &str) -> Option<&'a str> {
        let first = self.at;
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                "(" => depth += 1,
                ")" => depth = depth.checked_sub(1)?,
                word if depth == 0 && word.eq_ignore_ascii_case(end) => break,
                ";" => return None,
                _ => {}
            }
        }
        let last = self.at.checked_sub(2)?;
        slice(self.text, self.tokens.get(first)?, self.tokens.get(last)?).filter(|_| last >= first)
    }

    /// `WHEN condition OR … THEN steps`, but for its first word.
    fn handler(&mut self) -> Option<Handler<'a>> {
        let mut conditions = Vec::new();
        loop {
            let condition = self.next()?;
            let is_name = condition.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            // SQLSTATE is followed by a code.
            if !is_name || condition.eq_ignore_ascii_case("sqlstate") {
                return None;
            }
            conditions.push(condition);
            if !self.takes("OR") {
                break;
            }
        }
        let mut steps = Vec::new();
        if !self.takes("THEN") {
            return None;
        }
        while let Ok(step) = self.harmless(true) {
            steps.push(step?);
        }
        (!steps.is_empty()).then_some(Handler { conditions, steps })
    }
}

/// It is nothing of the kind.
struct NoSuch;

/// What RAISE may say of how bad it is.
const LEVELS: [&str; 6] = ["DEBUG", "LOG", "INFO", "NOTICE", "WARNING", "EXCEPTION"];

fn slice<'a>(text: &'a str, first: &ScanToken, last: &ScanToken) -> Option<&'a str> {
    text.get(usize::try_from(first.start).ok()?..usize::try_from(last.end).ok()?)
}

/// Reads a body; None if it is of any other form.
fn read(text: &str) -> Option<Block<'_>> {
    let mut tokens = sql::scan(text).ok()?;
    tokens.retain(|token| !matches!(token.token(), Token::SqlComment | Token::CComment));
    let mut reader = Reader { text, tokens, at: 0 };
    let mut block = Block { steps: Vec::new(), handlers: Vec::new() };
    if !reader.takes("BEGIN") {
        return None;
    }
    let guarded = loop {
        if reader.takes("EXCEPTION") {
            break true;
        }
        if reader.takes("END") {
            break false;
        }
        block.steps.push(match reader.takes("IF") {
            true => reader.conditional()?,
            false => reader.step()?,
        });
    };
    if guarded {
        while reader.takes("WHEN") {
            block.handlers.push(reader.handler()?);
        }
        if block.handlers.is_empty() || !reader.takes("END") {
            return None;
        }
    }
    reader.takes(";");
    (reader.peek().is_none() && !block.steps.is_empty()).then_some(block)
}

/// The end of a body.
fn write_handlers(handlers: &[Handler<'_>], text: &mut String) {
    if !handlers.is_empty() {
        text.push_str("EXCEPTION ");
    }
    for Handler { conditions, steps } in handlers {
        text.push_str("WHEN ");
        text.push_str(&conditions.join(" OR "));
        text.push_str(" THEN ");
        steps.iter().for_each(|step| write_harmless(step, text));
    }
    text.push_str("END");
}

fn write_harmless(step: &Harmless<'_>, text: &mut String) {
    match step {
        Harmless::Null => text.push_str("NULL; "),
        Harmless::Raise("") => text.push_str("RAISE; "),
        Harmless::Raise(what) => text.push_str(&format!("RAISE {what}; ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_body_of_statements_and_handlers_that_do_nothing_is_read() {
        let text = "begin\n -- one; two\n CREATE TYPE a AS ENUM ('x;y'); CREATE TABLE t (a int, b text DEFAULT ';');\n\
                    exception when duplicate_object or duplicate_table then null; WHEN others THEN NULL; end;";
        let block = read(text).unwrap();
        let statements = ["CREATE TYPE a AS ENUM ('x;y')", "CREATE TABLE t (a int, b text DEFAULT ';')"];
        assert_eq!(block.steps, statements.map(Step::Statement));
        let handled: Vec<_> = block.handlers.iter().map(|handler| handler.conditions.clone()).collect();
        assert_eq!(handled, [vec!["duplicate_object", "duplicate_table"], vec!["others"]]);
        let mut again = format!("BEGIN {}; {}; ", statements[0], statements[1]);
        write_handlers(&block.handlers, &mut again);
        assert_eq!(read(&again), Some(block));
    }

    #[test]
    fn statements_under_a_condition_are_read() {
        let text = "BEGIN IF NOT EXISTS (SELECT CASE WHEN true THEN 1 END) then CREATE TYPE a AS ENUM ('x'); ALTER TYPE a \
                    ADD VALUE 'THEN'; end if; CREATE TABLE t (); END";
        let block = read(text).unwrap();
        let condition = "NOT EXISTS (SELECT CASE WHEN true THEN 1 END)";
        let statements = vec!["CREATE TYPE a AS ENUM ('x')", "ALTER TYPE a ADD VALUE 'THEN'"];
        let statements = statements.into_iter().map(Step::Statement).collect();
        assert_eq!(block.steps, [Step::If(vec![(Some(condition), statements)]), Step::Statement("CREATE TABLE t ()")]);
    }

    #[test]
    fn a_body_of_any_other_form_is_not_read() {
        for text in [
            "",
            "BEGIN END",
            "BEGIN ; END",
            "BEGIN SELECT 1 END",
            "BEGIN SELECT 1; END x",
            "BEGIN SELECT 1; END; SELECT 2",
            "BEGIN SELECT 1); END",
            "DECLARE x int; BEGIN SELECT 1; END",
            "#variable_conflict use_variable BEGIN SELECT 1; END",
            "<<a>> BEGIN SELECT 1; END",
            "\"BEGIN\" SELECT 1; END",
            "BEGIN SELECT 1; EXCEPTION END",
            "BEGIN SELECT 1; EXCEPTION WHEN others THEN END",
            "BEGIN SELECT 1; EXCEPTION WHEN others THEN SELECT 2; END",
            "BEGIN SELECT 1; EXCEPTION WHEN others THEN NULL; SELECT 2; END",
            "BEGIN SELECT 1; EXCEPTION WHEN SQLSTATE '42710' THEN NULL; END",
            "BEGIN SELECT 1; EXCEPTION WHEN \"others\" THEN NULL; END",
            "BEGIN SELECT 1; EXCEPTION WHEN others THEN RAISE SQLSTATE '42710'; END",
            "BEGIN RAISE; END",
            "BEGIN RAISE NOTICE '%', 1; END",
            "BEGIN RAISE NOTICE 'a' USING HINT = (SELECT 1)::text; END",
            "BEGIN RAISE NOTICE E'a'; END",
            "BEGIN RAISE NOTICE; END",
            "BEGIN PERFORM; END",
            "BEGIN IF true THEN IF true THEN NULL; END IF; END IF; END",
            "BEGIN IF true THEN NULL; ELSE NULL; ELSE NULL; END IF; END",
            "BEGIN IF true THEN NULL; ELSE NULL; ELSIF true THEN NULL; END IF; END",
            "BEGIN IF true THEN NULL; ELSE END IF; END",
            "BEGIN SELECT 'open; END",
            "BEGIN IF true THEN END IF; END",
            "BEGIN IF true THEN SELECT 1; END; END",
            "BEGIN IF THEN SELECT 1; END IF; END",
            "BEGIN IF true; THEN SELECT 1; END IF; END",
            "BEGIN IF (true; THEN SELECT 1; END IF; END",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
