//! Pages of Markdown with tables.

/// A page.
pub(crate) struct Page {
    pub(crate) file: &'static str,
    title: String,
    /// What is on it, in a line.
    pub(crate) has: String,
    body: String,
}

impl Page {
    /// A page that begins with what is on it; the first sentence goes into the list of pages.
    pub(crate) fn new(file: &'static str, title: impl Into<String>, intro: &str) -> Self {
        let has = intro.split_inclusive(['.', ':', ';']).next().unwrap_or_default();
        let has = has.trim_end_matches(['.', ':', ';']).to_owned();
        Self { file, title: title.into(), has, body: format!("{intro}\n") }
    }

    pub(crate) fn link(&self) -> String {
        format!("[{}]({})", self.title, self.file)
    }

    pub(crate) fn heading(&mut self, level: usize, text: &str) {
        self.body.push_str(&format!("\n{} {text}\n", "#".repeat(level)));
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.body.push_str(&format!("\n{text}\n"));
    }

    pub(crate) fn code(&mut self, text: &str) {
        self.body.push_str(&format!("\n```text\n{text}\n```\n"));
    }

    /// A table; without rows it is left out.
    pub(crate) fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        self.body.push_str(&format!("\n| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len())));
        for row in rows {
            assert_eq!(row.len(), head.len());
            let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
            self.body.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
    }

    pub(crate) fn text(&self) -> String {
        format!("<!-- Written by `make generate`; do not edit. -->\n# {}\n\n{}", self.title, self.body)
    }
}

/// Text in a cell of a table: on one line, and without its delimiter.
fn cell(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("<br>").replace('|', "\\|")
}

/// As code, unless it is empty.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}
