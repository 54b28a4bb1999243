//! The page of `wharf --help`: commands in groups, and examples below the important commands.

use std::fmt::Write;

/// The commands in the order of the page. A test checks that each has exactly one place.
pub(crate) const GROUPS: [(&str, &[&str]); 8] = [
    (
        "Workspaces",
        &["up", "ls", "inspect", "start", "stop", "restart", "pause", "unpause", "kill", "update", "rm", "down"],
    ),
    ("Work in a workspace", &["exec", "shell", "cp", "logs", "wait", "sidecar", "secret"]),
    ("Usage and idleness", &["stats", "top", "metrics", "events", "idle", "lease"]),
    ("Images, snapshots and volumes", &["image", "snapshot", "volume", "cleanup"]),
    ("Decisions and policies", &["plan", "why", "audit", "policy", "script"]),
    ("Service", &["serve", "token", "backup"]),
    ("Configuration", &["config", "doctor"]),
    ("Shell", &["completions", "man"]),
];

/// Returns the definition of the command line with the page that shows commands in groups.
pub(crate) fn grouped(command: clap::Command) -> clap::Command {
    let mut page = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    for (title, names) in GROUPS {
        // Bold and underlined, as clap shows its own headings; clap removes it where the output is no terminal.
        let _ = write!(page, "\n\x1b[1m\x1b[4m{title}:\x1b[0m\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(page, "  \x1b[1m{name}\x1b[0m{:1$}  {about}", "", width - name.len());
        }
    }
    page.push_str("\n\x1b[1m\x1b[4mOptions:\x1b[0m\n{options}{after-help}");
    command.help_template(page)
}

/// Examples below the help of a command.
pub(crate) mod examples {
    pub(crate) const UP: &str = "\
Examples:
  wharf up                                    the workspace of this folder
  wharf up --image node:22-slim -p 3000       with this image and a port
  wharf up --build . -e NODE_ENV=development  from the Dockerfile of this folder
  wharf up --memory 4GiB --cpus 2 --wait      with limits, until it is healthy
  wharf up -- python3 -m http.server          with this command";
    pub(crate) const LS: &str = "\
Examples:
  wharf ls
  wharf ls --watch        the list, again at each change
  wharf ls --json         all facts, for programs";
    pub(crate) const EXEC: &str = "\
Examples:
  wharf exec -- npm test             in the workspace of this folder
  wharf exec shop -it -- sh          with a terminal
  wharf exec shop -u 0 -- apt-get update";
    pub(crate) const LOGS: &str = "\
Examples:
  wharf logs                         of the workspace of this folder
  wharf logs shop api -f             of two workspaces, and go on
  wharf logs --all --since 10m       of all, of the last ten minutes";
    pub(crate) const STOP: &str = "\
Examples:
  wharf stop                         the workspace of this folder
  wharf stop shop api -t 30s         two workspaces, with time to end
  wharf stop --label team=web        all with this label";
    pub(crate) const RM: &str = "\
Examples:
  wharf rm shop
  wharf rm shop --force --volumes    also while it runs, with its volumes
  wharf rm --label team=web";
    pub(crate) const PLAN: &str = "\
Examples:
  wharf plan                         what 'wharf up' would make here
  wharf plan --memory 4GiB --all     every field, also defaults
  wharf plan --diff=shop             changes that a recreation would bring";
    pub(crate) const WHY: &str = "\
Examples:
  wharf why                          decided fields of this folder's workspace
  wharf why resources.memory
  wharf why shop env --all           a group of fields of the workspace shop";
    pub(crate) const AUDIT: &str = "\
Examples:
  wharf audit --outcome denied --since 1d
  wharf audit show 74
  wharf audit verify";
    pub(crate) const SERVE: &str = "\
Examples:
  wharf serve
  wharf serve --check                check the configuration and exit
  wharf ls --server unix:///run/wharf/wharf.sock";
    pub(crate) const CLEANUP: &str = "\
Examples:
  wharf cleanup --dry-run            objects with the verdict of the policies
  wharf cleanup ls                   planned removals
  wharf cleanup undo 12";
    pub(crate) const COMPLETIONS: &str = "\
Examples:
  bash  add to ~/.bashrc:                   source <(wharf completions bash)
  zsh   add to ~/.zshrc, after compinit:    source <(wharf completions zsh)
  fish  wharf completions fish > ~/.config/fish/completions/wharf.fish";
    pub(crate) const MAN: &str = "\
Examples:
  wharf man | man -l -
  wharf man --dir ~/.local/share/man/man1";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_command_has_one_place_on_the_page_and_a_line_that_fits_80_columns() {
        let command = crate::cli::command();
        let listed: Vec<&str> = super::GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let there: BTreeSet<&str> =
            command.get_subcommands().filter(|one| !one.is_hide_set()).map(|one| one.get_name()).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), there);
        assert_eq!(listed.len(), there.len(), "a command is in two groups");
        let page = command.clone().term_width(80).render_help().to_string();
        for line in page.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for name in there {
            assert!(page.contains(&format!("\n  {name}  ")), "{name}: {page}");
        }
    }

    #[test]
    fn every_example_is_a_command_line_that_wharf_takes() {
        let mut command = crate::cli::command();
        command.build();
        let mut taken = 0;
        for below in command.clone().get_subcommands() {
            let Some(text) = below.get_after_help().map(ToString::to_string) else { continue };
            for line in text.lines().filter_map(|line| line.strip_prefix("  wharf ")) {
                // An explanation follows after two spaces; a pipe or a redirection is the shell's.
                let line = line.split("  ").next().unwrap().split(['|', '>']).next().unwrap();
                let words = std::iter::once("wharf").chain(line.split_whitespace());
                let matches = crate::cli::command().try_get_matches_from(words);
                assert!(matches.is_ok(), "wharf {line}: {}", matches.unwrap_err());
                taken += 1;
            }
        }
        assert!(taken > 25, "{taken}");
    }

    #[test]
    fn no_help_page_is_wider_than_80_columns_where_it_can_break() {
        fn check(command: &clap::Command) {
            let page = command.clone().term_width(80).render_help().to_string();
            for line in page.lines() {
                assert!(line.chars().count() <= 80 || line.starts_with("Usage:"), "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = crate::cli::command();
        command.build();
        check(&command);
    }

    #[test]
    fn the_flags_of_every_command_come_last() {
        let mut command = crate::cli::command();
        command.build();
        let page = command.find_subcommand("up").unwrap().clone().term_width(80).render_help().to_string();
        let at = |title: &str| page.find(title).unwrap_or_else(|| panic!("{title} is missing: {page}"));
        let order = [
            "\nArguments:",
            "\nOptions:",
            "\nImage:",
            "\nLimits:",
            "\nHealth and end:",
            "\nGlobal options:",
            "\nExamples:",
        ];
        assert!(order.windows(2).all(|two| at(two[0]) < at(two[1])), "{page}");
        assert!(page[at("\nGlobal options:")..].contains("--state-dir"), "{page}");
    }
}
