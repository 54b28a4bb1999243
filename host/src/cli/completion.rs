//! Completions of shells. The script that `wharf completions` prints calls this program with the words of the command
//! line, and the variable [`VARIABLE`] names the shell. Names of workspaces come from the store, or from the service
//! that the command line or the configuration names.
//!
//! Whatever fails, the shell gets no candidates and no message.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;

use crate::app::App;
use crate::backend::Backend;
use crate::config;
use crate::hooks::Hook;
use crate::records::Target;
use crate::workspace::ContainerSpec;

/// The variable with the name of the shell that asks.
const VARIABLE: &str = "_WHARF_COMPLETE";
/// The time after which the shell gets no candidates: a key press must not wait for a service.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Answers a shell, if one asks. Returns the exit code.
pub(crate) fn answer() -> Option<u8> {
    std::env::var_os(VARIABLE)?;
    let folder = std::env::current_dir().ok();
    let complete = CompleteEnv::with_factory(command).var(VARIABLE).bin("wharf").completer("wharf");
    Some(u8::from(complete.try_complete(std::env::args_os(), folder.as_deref()).is_err()))
}

/// Returns the script of a shell.
///
/// # Errors
/// When the shell has none.
pub(crate) fn script(shell: clap_complete::Shell) -> std::io::Result<Vec<u8>> {
    let shells = clap_complete::env::Shells::builtins();
    let mut script = Vec::new();
    let Some(adapter) = shells.completer(&shell.to_string()) else {
        return Err(std::io::Error::other(format!("no completions for {shell}")));
    };
    adapter.write_registration(VARIABLE, "wharf", "wharf", "wharf", &mut script)?;
    Ok(script)
}

/// Returns the command line with the sources of the values.
fn command() -> clap::Command {
    let mut command = super::command();
    command.build();
    with_values(command, &[], is_flag_begun())
}

/// Returns whether the current word begins with a dash. Other words are completed with flags only if nothing else fits.
fn is_flag_begun() -> bool {
    let index = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse::<usize>().ok());
    let words: Vec<_> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let current = index.map_or_else(|| words.last(), |index| words.get(index));
    current.is_some_and(|word| word.to_string_lossy().starts_with('-'))
}

fn with_values(command: clap::Command, path: &[String], flags: bool) -> clap::Command {
    let words = path.to_vec();
    let command = command.mut_args(|arg| match values(&words, arg.get_id().as_str()) {
        Some(values) => arg.add(ArgValueCompleter::new(move |current: &OsStr| candidates(values, current))),
        // Hidden candidates are offered only where no others are.
        None if !flags && !arg.is_positional() => arg.hide(true),
        None => arg,
    });
    command.mut_subcommands(|below| {
        let path = [path, &[below.get_name().to_owned()]].concat();
        with_values(below, &path, flags)
    })
}

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    Workspaces,
    /// Workspaces, and the fields of this folder's workspace.
    WorkspacesOrFields,
    Fields,
    Policies,
    Snapshots,
    Hooks,
}

/// Returns the values of an argument of a command.
fn values(path: &[String], arg: &str) -> Option<Values> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Some(match (path.as_slice(), arg) {
        (["why"], "workspace") => Values::WorkspacesOrFields,
        (["why"], "field") => Values::Fields,
        (["lease"], "words") => Values::Workspaces,
        (["snapshot", ..], "snapshot" | "snapshots") => Values::Snapshots,
        (["policy", ..] | ["audit"], "policy") => Values::Policies,
        (_, "hook") => Values::Hooks,
        (["plan"], "diff") => Values::Workspaces,
        (_, "workspace" | "workspaces") => Values::Workspaces,
        _ => return None,
    })
}

/// Returns the candidates that begin with the current word.
fn candidates(values: Values, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let mut all = match values {
        Values::Hooks => Hook::ALL.iter().map(|hook| (hook.as_str().to_owned(), None)).collect(),
        _ => Line::of_process().map(|line| line.values(values, current)).unwrap_or_default(),
    };
    all.retain(|(value, _)| value.starts_with(current) && is_plain(value));
    all.sort();
    let candidate =
        |(value, help): (String, Option<String>)| CompletionCandidate::new(value).help(help.map(Into::into));
    all.into_iter().map(candidate).collect()
}

/// Returns whether a shell takes a text as one word without a meaning of its own. Names come from folders and services,
/// and a shell inserts a candidate as it is.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "._-/:@+=".contains(c))
}

/// The words of the command line.
struct Line(ArgMatches);

impl Line {
    fn of_process() -> Option<Self> {
        let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
        // The line is unfinished, so errors are usual.
        super::command().ignore_errors(true).try_get_matches_from(words).ok().map(Self)
    }

    fn get<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Option<T> {
        self.0.try_get_one::<T>(name).ok().flatten().cloned()
    }

    /// Opens the configuration and the state that the command would use.
    fn app(&self) -> Option<App> {
        let mut set: Vec<String> =
            self.0.try_get_many::<String>("set").ok().flatten().into_iter().flatten().cloned().collect();
        set.extend(self.get::<String>("server").map(|server| format!("client.server={server}")));
        let sources = config::Sources::of_process(self.get::<PathBuf>("config"), set);
        let state_dir = self.get::<PathBuf>("state_dir").unwrap_or_else(App::usual_state_dir);
        let loaded = config::load(&sources).ok()?;
        let mut app = App::new(sources, loaded, state_dir);
        app.check_trust().ok()?;
        app.checked = true;
        Some(app)
    }

    fn values(&self, values: Values, current: &str) -> Vec<(String, Option<String>)> {
        let Some(app) = self.app() else { return Vec::new() };
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return Vec::new();
        };
        let found = async {
            match values {
                Values::Workspaces => workspaces(&app, current).await,
                Values::Fields => self.fields(&app).await,
                Values::WorkspacesOrFields => {
                    let mut all = workspaces(&app, current).await.unwrap_or_default();
                    all.extend(self.fields(&app).await?);
                    Some(all)
                }
                Values::Policies => policies(&app).await,
                Values::Snapshots => snapshots(&app).await,
                Values::Hooks => None,
            }
        };
        let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, found).await });
        found.ok().flatten().unwrap_or_default()
    }

    /// Returns the fields of the workspace on the line, or of this folder's; without any, those of all workspaces.
    async fn fields(&self, app: &App) -> Option<Vec<(String, Option<String>)>> {
        let named = self.0.subcommand().and_then(|(_, why)| why.try_get_one::<String>("workspace").ok().flatten());
        let folder = self.get::<PathBuf>("project").unwrap_or_else(|| PathBuf::from("."));
        let target = match named.filter(|_| self.names_a_workspace()) {
            Some(name) => Target::Named(name.clone()),
            None => Target::Folder(folder.canonicalize().ok()?),
        };
        let known = if is_new(app) { None } else { backend(app)?.why(&target, None).await.ok() };
        let mut fields: BTreeSet<String> = match known {
            Some(why) => why.fields.into_keys().collect(),
            None => serde_json::to_value(ContainerSpec::empty()).ok()?.as_object()?.keys().cloned().collect(),
        };
        let groups: Vec<String> = fields.iter().filter_map(|field| Some(field.split_once('.')?.0.to_owned())).collect();
        fields.extend(groups);
        Some(fields.into_iter().map(|field| (field, None)).collect())
    }

    /// Returns whether a finished word precedes the current one.
    fn names_a_workspace(&self) -> bool {
        let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
        words.filter(|word| !word.to_string_lossy().starts_with('-')).skip_while(|word| word != "why").count() > 2
    }
}

/// Returns whether this machine has no state so far. Completion must not create it.
fn is_new(app: &App) -> bool {
    app.loaded.config.client.server.as_deref().is_none_or(str::is_empty) && !app.state_dir.join("wharf.db").exists()
}

fn backend(app: &App) -> Option<Backend> {
    Backend::new(app.clone(), &[], None).ok()
}

/// Returns names of workspaces, and the ids of those whose name is not theirs alone, or once an id is begun.
async fn workspaces(app: &App, current: &str) -> Option<Vec<(String, Option<String>)>> {
    if is_new(app) {
        return None;
    }
    let backend = backend(app)?;
    let all: Vec<(String, String, String)> = match backend.server() {
        Some(_) => {
            let all = backend.list().await.ok()?;
            all.into_iter().map(|one| (one.id.to_string(), one.name, one.project)).collect()
        }
        None => {
            let all = app.store().ok()?.known_workspaces().ok()?;
            all.into_iter().map(|one| (one.id.to_string(), one.name, one.project)).collect()
        }
    };
    let unique = |name: &str| all.iter().filter(|(_, other, _)| other == name).count() == 1;
    let named = |(id, name, project): &(String, String, String)| {
        let is_name = unique(name) && name.starts_with(current);
        (if is_name { name.clone() } else { id.clone() }, Some(project.clone()))
    };
    Some(all.iter().map(named).collect())
}

async fn policies(app: &App) -> Option<Vec<(String, Option<String>)>> {
    let backend = backend(app)?;
    if backend.server().is_some() {
        let (rows, _) = backend.policies().await.ok()?;
        return Some(rows.into_iter().map(|row| (row.name, Some(row.mode))).collect());
    }
    Some(crate::builtin::chain(&app.loaded.config).into_iter().map(|policy| (policy.name, None)).collect())
}

async fn snapshots(app: &App) -> Option<Vec<(String, Option<String>)>> {
    if is_new(app) {
        return None;
    }
    let backend = backend(app)?;
    let all = match backend.server() {
        Some(_) => backend.snapshots(None).await.ok()?,
        None => app.store().ok()?.snapshots(None).ok()?,
    };
    Some(all.into_iter().map(|snapshot| (snapshot.name, Some(snapshot.image))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_values_belongs_to_an_argument() {
        fn count(command: &clap::Command, path: &[String], found: &mut Vec<Values>) {
            found.extend(command.get_arguments().filter_map(|arg| values(path, arg.get_id().as_str())));
            for below in command.get_subcommands() {
                count(below, &[path, &[below.get_name().to_owned()]].concat(), found);
            }
        }
        let mut command = crate::cli::command();
        command.build();
        let mut found = Vec::new();
        count(&command, &[], &mut found);
        for values in [
            Values::WorkspacesOrFields,
            Values::Fields,
            Values::Policies,
            Values::Snapshots,
            Values::Hooks,
            Values::Workspaces,
        ] {
            assert!(found.contains(&values), "{values:?}");
        }
        assert!(found.iter().filter(|values| **values == Values::Workspaces).count() > 25, "{found:?}");
    }

    #[test]
    fn no_candidate_has_a_meaning_for_a_shell() {
        assert!(is_plain("shop-5d9b3c.db") && is_plain("env.A_B") && is_plain("größe") && is_plain("debian:12"));
        for bad in ["a b", "$(reboot)", "`x`", "a;b", "a'b", "a\nb", "*", "~x", "a\"", "a\\b", "!x", "\u{202e}x"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
