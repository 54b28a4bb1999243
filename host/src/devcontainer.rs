//! `devcontainer.json`: a project's settings for its own workspace, as typed requests.
//!
//! The format is that of the Development Container Specification (containers.dev, "Dev Container metadata
//! reference"). The file is not trusted: its requests pass through defaults, configuration, policies and invariants
//! like any other request. Properties that are not honoured are listed, and nothing in the file ever runs on the
//! host.
//!
//! May touch: nothing. Text in, typed request out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::hooks::Adjustment;
use crate::hooks::redact::SecretNames;

mod commands;
mod image;
mod json;
mod properties;
mod run_args;
mod values;
mod variables;

/// Owner of the fields that a project's file sets.
pub const OWNER: &str = "project";

/// The context for reading a file.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Path of the file in the project, for messages.
    pub file: &'a str,
    /// Absolute path of the project on the host.
    pub folder: &'a str,
    /// The workspace's id.
    pub id: &'a str,
    /// The project's mount point if the file names no other.
    pub working_dir: &'a str,
    /// The setting that fixes this mount point so that the file cannot change it, if any.
    pub working_dir_fixed: Option<String>,
    /// The host's variables that the file may read, with their values.
    pub local_env: &'a BTreeMap<String, Option<String>>,
    /// The names of secret variables.
    pub secrets: &'a SecretNames,
    /// The initial capabilities of the workspace.
    pub capabilities: &'a BTreeSet<String>,
    /// The maximum set of its capabilities.
    pub allowed_capabilities: &'a BTreeSet<String>,
    /// Whether security profiles may be disabled.
    pub unconfined: bool,
    /// Cores of the engine's machine; 0 if unknown.
    pub cpus: u32,
    /// Memory of the engine's machine in bytes; 0 if unknown.
    pub memory: u64,
    /// Cores and memory in bytes that a workspace has unless the project requires more.
    pub usual_cpus: f64,
    #[allow(missing_docs)]
    pub usual_memory: u64,
    /// The most that a workspace may have.
    pub most_cpus: f64,
    #[allow(missing_docs)]
    pub most_memory: u64,
}

/// The requests of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Devcontainer {
    /// The image, and the line that names it.
    pub image: Option<(String, usize)>,
    /// The build of the image, if none is named.
    pub build: Option<Build>,
    /// Fields, each with the requesting line.
    pub fields: Vec<(Adjustment, usize)>,
    /// Commands that run in the workspace.
    pub commands: Commands,
    /// The properties that are not honoured.
    pub not_honoured: Vec<NotHonoured>,
}

/// An image to build; paths are relative to the folder of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Build {
    pub dockerfile: String,
    pub context: String,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    /// The line that requests it.
    pub line: usize,
}

/// Commands that run in the workspace, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DevcontainerCommands)]
pub struct Commands {
    /// Run once, after the creation: `onCreateCommand`, `updateContentCommand`, `postCreateCommand`.
    pub once: Vec<Command>,
    /// Run after each start: `postStartCommand`.
    pub each_start: Vec<Command>,
    /// The user that runs them; none means the container's user.
    pub user: Option<String>,
}

impl Commands {
    /// Replaces the values of secret variables with their names, as `***NAME***`: commands are stored for later
    /// starts, and shown.
    pub fn hide(&mut self, variables: &BTreeMap<String, String>) {
        // Longest first, because one value may be a part of another.
        let mut all: Vec<_> = variables.iter().filter(|(_, value)| value.len() >= LEAST_SECRET).collect();
        all.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (name, value) in all {
            self.replace(value, &mark(name));
        }
    }

    /// Restores the values.
    pub fn fill_in(&mut self, variables: &BTreeMap<String, String>) {
        for (name, value) in variables {
            self.replace(&mark(name), value);
        }
    }

    fn replace(&mut self, from: &str, to: &str) {
        let words = self.once.iter_mut().chain(&mut self.each_start).flat_map(|command| &mut command.words);
        for word in words.chain(&mut self.user) {
            if word.contains(from) {
                *word = word.replace(from, to);
            }
        }
    }
}

/// Shorter values would match everywhere, so they are not replaced.
const LEAST_SECRET: usize = 6;

fn mark(name: &str) -> String {
    format!("***{name}***")
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DevcontainerCommand)]
pub struct Command {
    /// The property, e.g. `postCreateCommand`, or `postCreateCommand.server` for one of several commands.
    pub property: String,
    /// The command and its arguments.
    pub words: Vec<String>,
}

/// A property, or a part of one, that has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotHonoured {
    /// The property, e.g. `features` or `runArgs --gpus`.
    pub property: String,
    /// 1-based line.
    pub line: usize,
    /// The reason, in one line for users.
    pub why: String,
}

/// The stored data about the file that a workspace was created with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DevcontainerRecord)]
pub struct Record {
    /// Path of the file in the project.
    pub file: String,
    /// The properties without effect.
    pub not_honoured: Vec<NotHonoured>,
    /// The commands that run in the workspace.
    pub commands: Commands,
    /// Whether all commands that run once have succeeded.
    pub once_done: bool,
    /// The cause of a command's failure, if any.
    pub failed: Option<String>,
}

/// The reason why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}")]
pub struct Error {
    /// Path of the file in the project.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// The error, in one line for users.
    pub what: String,
}

/// Parses a file's text.
///
/// # Errors
/// With line and column: text that is not JSON (comments and trailing commas are allowed), and a supported property
/// with an invalid value.
pub fn read(text: &str, around: &Surroundings<'_>) -> Result<Devcontainer, Error> {
    let parsed = json::parse(text).and_then(|root| properties::read(&root, around));
    parsed.map_err(|wrong| {
        let (line, column) = json::position(text, wrong.offset);
        Error { file: around.file.to_owned(), line, column, what: plain(&wrong.what) }
    })
}

/// Returns a text of a project in a safe form for a terminal and a record: one line, without control characters,
/// limited in length.
fn plain(text: &str) -> String {
    const MOST: usize = 300;
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut clean: String = clean.take(MOST + 1).collect();
    if clean.chars().count() > MOST {
        clean.pop();
        clean.push_str("...");
    }
    clean
}

#[cfg(test)]
mod tests;
