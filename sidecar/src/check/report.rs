//! What `check` found, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::lint::{Finding, Severity};

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Whether nothing is wrong, as the exit code says.
    pub ok: bool,
    /// What was checked.
    pub subject: Subject,
    /// Findings about the policy, the worst first.
    pub findings: Vec<Finding>,
    /// Statements, in their order.
    pub statements: Vec<Statement>,
}

/// What was checked.
#[derive(Debug, Default, Serialize)]
pub struct Subject {
    /// Policies, `namespace/name`.
    pub policies: Vec<String>,
    /// Identities that were looked at.
    pub identities: Vec<String>,
    /// `server_version_num` of the database; none without one.
    pub server_version: Option<u32>,
    /// How many tables, views and sequences of users it has.
    pub relations: Option<usize>,
}

/// One statement, as each identity may run it.
#[derive(Debug, Serialize)]
pub struct Statement {
    /// Its number, from 1.
    pub number: usize,
    /// Its text.
    pub sql: String,
    /// The decisions.
    pub decisions: Vec<Decision>,
}

/// What comes of a statement for one identity.
#[derive(Debug, Serialize)]
pub struct Decision {
    /// The identity.
    pub identity: String,
    /// allow, deny or would_deny.
    pub decision: &'static str,
    /// The rule that allowed or refused.
    pub rule: Option<String>,
    /// Why it was refused.
    pub reason: Option<&'static str>,
    /// SQLSTATE of the refusal.
    pub sqlstate: Option<&'static str>,
    /// The refusal as the client reads it.
    pub error: Option<String>,
    /// What would help.
    pub hint: Option<String>,
    /// The relation or column that the refusal is about.
    pub object: Option<String>,
    /// The text that the server gets; none if the client's own is sent, or nothing.
    pub rewritten: Option<String>,
    /// Verbs that it needs.
    pub verbs: Vec<&'static str>,
    /// Relations that it touches.
    pub relations: Vec<String>,
    /// Masked columns that it reads.
    pub masked_columns: Vec<String>,
    /// NOTICEs that the client gets.
    pub notices: Vec<String>,
    /// Most rows that it may return.
    pub row_limit: Option<u64>,
    /// Most bytes that it may return.
    pub byte_limit: Option<u64>,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// With or without colours.
    pub const fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn severity(self, severity: Severity) -> String {
        let code = match severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Note => "1;36",
        };
        self.paint(code, severity.as_str())
    }

    fn decision(self, decision: &str) -> String {
        let code = match decision {
            "allow" => "1;32",
            "deny" => "1;31",
            _ => "1;33",
        };
        self.paint(code, decision)
    }
}

impl Report {
    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// As text.
    pub fn to_text(&self, style: Style) -> String {
        let mut text = String::new();
        self.write_subject(&mut text, style);
        if self.statements.is_empty() || !self.findings.is_empty() {
            self.write_findings(&mut text, style);
        }
        for statement in &self.statements {
            statement.write(&mut text, style);
        }
        if self.statements.len() > 1 {
            self.write_table(&mut text, style);
        }
        text
    }

    fn write_subject(&self, text: &mut String, style: Style) {
        let Subject { policies, identities, server_version, relations } = &self.subject;
        if policies.is_empty() {
            return;
        }
        let against = match (server_version, relations) {
            (Some(version), Some(relations)) => {
                format!("Postgres {}, {relations} relations", version / 10_000)
            }
            _ => "no database to compare with".to_owned(),
        };
        let names = if identities.is_empty() { "no identities".to_owned() } else { identities.join(", ") };
        let _ =
            writeln!(text, "{}  {}", style.bold(&policies.join(", ")), style.dim(&format!("for {names} · {against}")));
    }

    fn write_findings(&self, text: &mut String, style: Style) {
        let identities = self.subject.identities.len();
        let mut counts = [0_usize; 3];
        for finding in &self.findings {
            if let Some(count) = counts.get_mut(finding.severity as usize) {
                *count += 1;
            }
            let place = if finding.path.is_empty() { String::new() } else { format!(" {}", style.bold(&finding.path)) };
            let _ = writeln!(
                text,
                "\n{}{place} {}",
                style.severity(finding.severity),
                style.dim(&format!("[{}]", finding.code))
            );
            for line in finding.message.lines() {
                let _ = writeln!(text, "  {line}");
            }
            // Who is concerned is worth a line only if not everybody is.
            if !finding.identities.is_empty() && finding.identities.len() < identities {
                let _ = writeln!(text, "  {}", style.dim(&format!("for {}", finding.identities.join(", "))));
            }
        }
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let [errors, warnings, notes] = counts;
        let summary = if self.findings.is_empty() {
            style.paint("1;32", "nothing wrong")
        } else {
            [count(errors, "error"), count(warnings, "warning"), count(notes, "note")].join(", ")
        };
        let _ = writeln!(text, "\n{summary}");
    }

    /// Each statement × each identity, to see at a glance.
    fn write_table(&self, text: &mut String, style: Style) {
        let names: Vec<&str> = self.subject.identities.iter().map(String::as_str).collect();
        let widths: Vec<usize> = names.iter().map(|name| name.chars().count().max("would_deny".len())).collect();
        let _ = write!(text, "\n{:>4}", "#");
        for (name, width) in names.iter().zip(&widths) {
            let _ = write!(text, "  {}{}", style.bold(name), " ".repeat(width - name.chars().count()));
        }
        text.push('\n');
        for statement in &self.statements {
            let _ = write!(text, "{:>4}", statement.number);
            for (name, width) in names.iter().zip(&widths) {
                let decision =
                    statement.decisions.iter().find(|decision| decision.identity == *name).map_or("", |d| d.decision);
                let _ = write!(text, "  {}{}", style.decision(decision), " ".repeat(width - decision.len()));
            }
            let _ = writeln!(text, "  {}", style.dim(&first_line(&statement.sql, 60)));
        }
    }
}

/// The first line of a text, cut to a width.
fn first_line(text: &str, width: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let more = line.chars().count() > width || text.trim().lines().count() > 1;
    let cut: String = line.chars().take(width).collect();
    if more { format!("{cut} …") } else { cut }
}

impl Statement {
    fn write(&self, text: &mut String, style: Style) {
        let _ = writeln!(text, "\n{} {}", style.dim(&format!("#{}", self.number)), indented(&self.sql, "   "));
        for decision in &self.decisions {
            decision.write(text, style);
        }
    }
}

fn indented(sql: &str, by: &str) -> String {
    sql.trim().lines().collect::<Vec<_>>().join(&format!("\n{by}"))
}

impl Decision {
    fn write(&self, text: &mut String, style: Style) {
        let mut line = format!("  {}  {}", style.bold(&self.identity), style.decision(self.decision));
        if let Some(reason) = self.reason {
            let _ = write!(line, "  {reason}");
        }
        if let Some(rule) = &self.rule {
            let _ = write!(line, "  {}", style.dim(&format!("rule {rule}")));
        }
        let _ = writeln!(text, "{line}");
        let mut field = |name: &str, value: &str| {
            let _ = writeln!(text, "    {} {}", style.dim(&format!("{name:<8}")), indented(value, "             "));
        };
        if let Some(error) = &self.error {
            field("error", &format!("{error} ({})", self.sqlstate.unwrap_or("42501")));
        }
        if let Some(hint) = &self.hint {
            field("hint", hint);
        }
        if !self.masked_columns.is_empty() {
            field("masked", &self.masked_columns.join(", "));
        }
        for notice in &self.notices {
            field("notice", notice);
        }
        let limits: Vec<String> = [(self.row_limit, "rows"), (self.byte_limit, "bytes")]
            .into_iter()
            .filter_map(|(limit, word)| limit.map(|limit| format!("{limit} {word}")))
            .collect();
        if self.decision == "allow" && !limits.is_empty() {
            field("limits", &limits.join(", "));
        }
        if self.decision != "deny" {
            match &self.rewritten {
                Some(rewritten) => field("sent", rewritten),
                None => field("sent", "as written"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_statements_are_cut_in_the_table() {
        assert_eq!(first_line("SELECT 1", 60), "SELECT 1");
        assert_eq!(first_line("\n  SELECT 1\nFROM t", 60), "SELECT 1 …");
        assert_eq!(first_line("SELECT 123", 8), "SELECT 1 …");
    }

    #[test]
    fn no_colour_means_no_escapes() {
        let report = Report {
            version: 1,
            ok: false,
            subject: Subject {
                policies: vec!["shop/shop".into()],
                identities: vec!["a".into(), "b".into()],
                ..Subject::default()
            },
            findings: vec![Finding {
                severity: Severity::Warning,
                code: "no-rule",
                path: "spec.rules".into(),
                message: "no rule applies".into(),
                identities: vec!["a".into()],
            }],
            statements: Vec::new(),
        };
        let text = report.to_text(Style::new(false));
        assert_eq!(
            text,
            "shop/shop  for a, b · no database to compare with\n\nwarning spec.rules [no-rule]\n  no rule applies\n  for a\n\n\
             0 errors, 1 warning, 0 notes\n"
        );
        assert!(report.to_text(Style::new(true)).contains('\u{1b}'));
    }
}
