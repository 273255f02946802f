//! DO blocks of one form: definitions that may meet what is there already.
//!
//! Libraries guard a definition so, because CREATE TYPE and ADD CONSTRAINT know no IF NOT EXISTS:
//!
//! ```sql
//! DO $$ BEGIN CREATE TYPE mood AS ENUM ('sad'); EXCEPTION WHEN duplicate_object THEN NULL; END $$
//! ```
//!
//! **Promise.** A body is read only if it is nothing but definitions in one block, with handlers that do nothing. It has
//! no variables, so that its statements mean within it what they mean alone: each is decided as it would be alone, and
//! where one was rewritten the body is written anew from them. Every other body is refused.

use pg_query::protobuf as pb;
use pg_query::protobuf::{ScanToken, Token};
use pg_query::{Node, NodeEnum};

use super::tree::{self, string_of};
use super::utility::forbidden;
use super::{Analyzer, Effect};
use crate::decide::Denial;
use crate::sql;

/// A body is one token of the text around it: what it costs to read was not counted with that.
const LIMITS: sql::ParseLimits = sql::ParseLimits { bytes: 16 << 10, depth: sql::deep::INLINE_DEPTH, memory: 8 << 20 };

/// What a body consists of.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    /// Its statements.
    statements: Vec<&'a str>,
    /// The conditions of each of its handlers, as written.
    handlers: Vec<Vec<&'a str>>,
}

impl Analyzer<'_> {
    /// Decides a DO block by the definitions in it.
    pub(crate) fn block(&mut self, statement: &mut pb::DoStmt) -> Result<(), Denial> {
        let body = body(statement).ok_or_else(refused)?;
        sql::measure(body, &LIMITS)?;
        let block = read(body).ok_or_else(refused)?;
        let server = self.catalog.server_version;
        let outer = std::mem::take(&mut self.changed);
        let mut written = Vec::with_capacity(block.statements.len());
        let (mut all_names, mut all_dropped, mut all_temporary) = (Vec::new(), Vec::new(), true);
        for text in block.statements {
            // What is no SQL may be PL/pgSQL.
            let parsed = sql::as_server_reads(text, server).and_then(|text| sql::parse(&text, &LIMITS));
            let mut tree = parsed.map_err(|_| refused())?.tree;
            let [pb::RawStmt { stmt: Some(node), .. }] = tree.stmts.as_mut_slice() else { return Err(refused()) };
            if !is_definition(node) {
                return Err(refused());
            }
            // What stands in CREATE SCHEMA finds the new schema first; what follows it does not.
            let path = self.session.search_path.clone();
            self.define(node)?;
            self.session.search_path = path;
            let made = std::mem::take(&mut self.made);
            self.session.predict(&self.out.effect, made, &self.dropped);
            all_dropped.append(&mut self.dropped);
            if let Effect::CatalogChange { names, temporary } = std::mem::take(&mut self.out.effect) {
                all_names.extend(names);
                all_temporary &= temporary;
            }
            written.push(sql::emit_owned(tree, server)?);
        }
        self.out.effect = Effect::CatalogChange { names: all_names, temporary: all_temporary };
        self.dropped = all_dropped;
        if self.changed {
            set_body(statement, &write(&written, &block.handlers));
        }
        self.changed |= outer;
        Ok(())
    }
}

fn refused() -> Denial {
    forbidden("DO: its code would run unseen").hint(
        "DO BEGIN … EXCEPTION WHEN … THEN NULL; END may hold definitions (CREATE TYPE, ALTER TABLE, …), nothing else.",
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

/// Definitions that hold no query: PL/pgSQL would put its variables into one.
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

    /// A statement up to its semicolon.
    fn statement(&mut self) -> Option<&'a str> {
        let first = self.at;
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                "(" => depth += 1,
                ")" => depth = depth.checked_sub(1)?,
                ";" if depth == 0 => break,
                _ => {}
            }
        }
        let last = self.at.checked_sub(2)?;
        slice(self.text, self.tokens.get(first)?, self.tokens.get(last)?).filter(|_| last >= first)
    }

    /// `WHEN condition OR … THEN NULL;`, but for its first word.
    fn handler(&mut self) -> Option<Vec<&'a str>> {
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
        (self.takes("THEN") && self.takes("NULL") && self.takes(";")).then_some(conditions)
    }
}

fn slice<'a>(text: &'a str, first: &ScanToken, last: &ScanToken) -> Option<&'a str> {
    text.get(usize::try_from(first.start).ok()?..usize::try_from(last.end).ok()?)
}

/// Reads a body; None if it is of any other form.
fn read(text: &str) -> Option<Block<'_>> {
    let mut tokens = sql::scan(text).ok()?;
    tokens.retain(|token| !matches!(token.token(), Token::SqlComment | Token::CComment));
    let mut reader = Reader { text, tokens, at: 0 };
    let mut block = Block { statements: Vec::new(), handlers: Vec::new() };
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
        block.statements.push(reader.statement()?);
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
    (reader.peek().is_none() && !block.statements.is_empty()).then_some(block)
}

/// The body of what was decided.
fn write(statements: &[String], handlers: &[Vec<&str>]) -> String {
    let mut text = String::from("BEGIN ");
    for statement in statements {
        text.push_str(statement);
        text.push_str("; ");
    }
    if !handlers.is_empty() {
        text.push_str("EXCEPTION ");
    }
    for conditions in handlers {
        text.push_str("WHEN ");
        text.push_str(&conditions.join(" OR "));
        text.push_str(" THEN NULL; ");
    }
    text.push_str("END");
    text
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
        assert_eq!(block.statements, ["CREATE TYPE a AS ENUM ('x;y')", "CREATE TABLE t (a int, b text DEFAULT ';')"]);
        assert_eq!(block.handlers, [vec!["duplicate_object", "duplicate_table"], vec!["others"]]);
        let written: Vec<String> = block.statements.iter().map(|&text| text.to_owned()).collect();
        let again = write(&written, &block.handlers);
        assert_eq!(read(&again), Some(Block { ..block }));
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
            "BEGIN SELECT 1; EXCEPTION WHEN others THEN RAISE; END",
            "BEGIN SELECT 'open; END",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
