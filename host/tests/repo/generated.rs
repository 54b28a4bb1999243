//! Documentation that is generated from the program's own definitions. `WHARF_RENEW=1` renews it.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::root;

/// Compares a file with its expected contents, and renews it if requested.
#[track_caller]
fn held(path: &str, now: &str) {
    let file = root().join(path);
    if std::env::var_os("WHARF_RENEW").is_some() {
        std::fs::write(&file, now).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == now, "{path} is old: renew it with WHARF_RENEW=1 cargo nextest run -p wharf --test repo generated");
}

/// Escapes a text of the program for a page: text between angle brackets is not an HTML element.
fn plain(text: &str) -> String {
    text.replace('<', "\\<").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Formats `-i, --image <IMAGE>`, or `[PATH]`.
fn spelled(arg: &Arg) -> String {
    if arg.is_positional() {
        return arg.to_string();
    }
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let values: Vec<String> = match arg.get_action().takes_values() {
        true => arg.get_value_names().into_iter().flatten().map(|name| format!(" <{name}>")).collect(),
        false => Vec::new(),
    };
    names.join(", ") + &*values.concat()
}

/// Writes one argument with its whole help text.
fn argument(page: &mut String, arg: &Arg) {
    let help = arg.get_long_help().or(arg.get_help()).map(|help| plain(&help.to_string())).unwrap_or_default();
    write!(page, "- `{}`: {help}", spelled(arg)).unwrap();
    let possible = arg.get_possible_values();
    let values: Vec<_> = possible.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
    if arg.get_action().takes_values() && !arg.is_hide_possible_values_set() && !values.is_empty() {
        write!(page, " (one of `{}`)", values.join("`, `")).unwrap();
    }
    let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if arg.get_action().takes_values() && !arg.is_hide_default_value_set() && !default.is_empty() {
        write!(page, " (default `{}`)", default.join(" ")).unwrap();
    }
    page.push('\n');
}

/// Writes the text below the help of a command: examples as they are, other text as a paragraph.
fn notes(page: &mut String, text: &str) {
    match text.strip_prefix("Examples:\n") {
        Some(examples) => {
            let examples = examples.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>();
            write!(page, "\n```text\n{}\n```\n", examples.join("\n")).unwrap();
        }
        None => write!(page, "\n{}\n", plain(text)).unwrap(),
    }
}

/// Writes a command and its subcommands, with the words that lead to it.
fn section(page: &mut String, words: &str, command: &Command) {
    let about = command.get_long_about().or(command.get_about()).map(|about| plain(&about.to_string()));
    write!(page, "\n## `{words}`\n\n{}.\n", about.unwrap_or_default().trim_end_matches('.')).unwrap();
    let aliases: Vec<_> = command.get_all_aliases().collect();
    if !aliases.is_empty() {
        write!(page, "\nAlso `{}`.\n", aliases.join("`, `")).unwrap();
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    write!(page, "\n```text\n{usage}\n```\n").unwrap();
    let own = |arg: &&Arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help";
    let (named, positional): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(own).partition(|arg| !arg.is_positional());
    if named.len() + positional.len() > 0 {
        page.push('\n');
        positional.into_iter().chain(named).for_each(|arg| argument(page, arg));
    }
    if let Some(text) = command.get_after_long_help().or(command.get_after_help()) {
        notes(page, &text.to_string());
    }
    for below in visible(command) {
        section(page, &format!("{words} {}", below.get_name()), below);
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

/// Returns the reference of all commands.
fn reference() -> String {
    let mut command = wharf::cli::command();
    command.build();
    let about = command.get_about().map(|about| plain(&about.to_string())).unwrap_or_default();
    let mut page = format!(
        "# Commands\n\n<!-- Written from the program's definitions by tests/repo/generated.rs; WHARF_RENEW=1 renews it. -->\n\n\
         {}.\n\n",
        about.trim_end_matches('.')
    );
    page.push_str("| command | |\n| --- | --- |\n");
    for below in visible(&command) {
        let (name, about) = (below.get_name(), below.get_about().map(ToString::to_string).unwrap_or_default());
        let about = plain(&about).replace('|', "\\|");
        writeln!(page, "| [`{name}`](#wharf-{name}) | {about} |").unwrap();
    }
    page.push_str("\n## Options of every command\n\n");
    let global = command.get_arguments().filter(|arg| arg.is_global_set() && !arg.is_hide_set());
    global.for_each(|arg| argument(&mut page, arg));
    if let Some(text) = command.get_after_help() {
        write!(page, "\n{}\n", plain(&text.to_string())).unwrap();
    }
    visible(&command).for_each(|below| section(&mut page, &format!("wharf {}", below.get_name()), below));
    page
}

#[test]
fn the_reference_of_commands_is_what_the_program_takes() {
    held("docs/cli.md", &reference());
}

#[test]
fn the_schema_of_the_configuration_is_that_of_its_types() {
    held("docs/wharf.schema.json", &format!("{:#}\n", wharf::config::schema()));
}
