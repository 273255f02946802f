//! The command lines of both programs.

use clap::{Command, CommandFactory as _};

use super::markdown::{Page, code};

pub(crate) fn page() -> Page {
    let mut page = Page::new(
        "commands.md",
        "Command lines",
        "The commands of `postern-sidecar` and `postern-operator`, and of the plugin `kubectl-postern`, with their options. Where \
         a variable stands beside an option, it can also be set by that; what is typed goes before it.",
    );
    let programs = [
        postern_sidecar::config::Cli::command(),
        postern_operator::config::Cli::command(),
        postern_operator::plugin::Plugin::command(),
    ];
    for program in programs {
        page.heading(2, &format!("`{}`", program.get_bin_name().unwrap_or(program.get_name())));
        page.paragraph(&program.get_about().unwrap().to_string());
        options(&mut page, &program);
        for command in program.get_subcommands() {
            let name = program.get_bin_name().unwrap_or(program.get_name());
            page.heading(3, &format!("`{name} {}`", command.get_name()));
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
    let takes_value = option.get_action().takes_values();
    let value = option.get_value_names().filter(|_| takes_value).map(|names| names[0].as_str()).unwrap_or_default();
    // What has no name is told by its place.
    let name = option.get_long().map_or_else(|| value.to_owned(), |long| format!("--{long} {value}"));
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
    vec![code(name.trim_end()), code(variable), default, help]
}
