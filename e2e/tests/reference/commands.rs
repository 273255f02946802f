//! The command lines of both programs.

use clap::{Command, CommandFactory as _};

use super::markdown::{Page, code};

pub(crate) fn page() -> Page {
    let mut page = Page::new(
        "commands.md",
        "Command lines",
        "The commands of `postern-sidecar` and `postern-operator` and their options. Each option can also be set by the \
         environment variable beside it; what is typed goes before it.",
    );
    for program in [postern_sidecar::config::Cli::command(), postern_operator::config::Cli::command()] {
        page.heading(2, &format!("`{}`", program.get_name()));
        page.paragraph(&program.get_about().unwrap().to_string());
        for command in program.get_subcommands() {
            page.heading(3, &format!("`{} {}`", program.get_name(), command.get_name()));
            page.paragraph(&format!("{}.", command.get_about().unwrap()));
            options(&mut page, command);
            if let Some(examples) = command.get_after_help() {
                page.code(&examples.to_string());
            }
        }
    }
    page
}

/// The options of a command; those under a heading come as a table of their own, as in `--help`.
fn options(page: &mut Page, command: &Command) {
    let mut headings: Vec<Option<&str>> = Vec::new();
    for option in command.get_arguments() {
        if !headings.contains(&option.get_help_heading()) {
            headings.push(option.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            page.paragraph(&format!("**{heading}**"));
        }
        let of_it = command.get_arguments().filter(|option| option.get_help_heading() == heading);
        page.table(&["option", "variable", "default", "meaning"], of_it.map(row));
    }
}

fn row(option: &clap::Arg) -> Vec<String> {
    let long = option.get_long().expect("options have long names");
    let takes_value = option.get_action().takes_values();
    let value = option.get_value_names().filter(|_| takes_value).map(|names| format!(" {}", names[0]));
    let help = option.get_help().unwrap().to_string();
    // What is worked out where it is used can't be clap's default, and stands in the text.
    let (help, worked_out) = match help.strip_suffix(']').and_then(|rest| rest.split_once(" [default: ")) {
        Some((help, default)) => (help.to_owned(), default.to_owned()),
        None => (help, String::new()),
    };
    let default = option.get_default_values().iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(",");
    let default = match (option.is_required_set(), takes_value, default.as_str()) {
        (true, ..) => "**required**".to_owned(),
        (_, false, _) | (_, _, "") => worked_out,
        _ => code(&default),
    };
    let words: Vec<String> = option
        .get_possible_values()
        .iter()
        .filter(|_| takes_value)
        .map(|value| {
            let meaning = value.get_help().map(|help| format!(": {help}")).unwrap_or_default();
            format!("`{}`{meaning}", value.get_name())
        })
        .collect();
    let variable = option.get_env().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    let help = std::iter::once(help).chain(words).collect::<Vec<_>>().join("\n");
    vec![code(&format!("--{long}{}", value.unwrap_or_default())), code(variable), default, help]
}
