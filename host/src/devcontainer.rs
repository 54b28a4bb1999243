//! `devcontainer.json`: what a project brings along about its own workspace, as typed requests.
//!
//! The format is that of the Development Container Specification (containers.dev, "Dev Container metadata reference").
//! The file is not trusted: it asks, and defaults, configuration, policies and invariants decide as about any request.
//! What is not honoured is listed, and nothing in it is ever run on the host.
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

/// What the text is read against.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Path of the file in the project, for messages.
    pub file: &'a str,
    /// Absolute path of the project on the host.
    pub folder: &'a str,
    /// The workspace's id.
    pub id: &'a str,
    /// Where the project is mounted when the file names no other place.
    pub working_dir: &'a str,
    /// Who set that place so that the file cannot change it, if it was set.
    pub working_dir_fixed: Option<String>,
    /// The variables of the host that the file may read, with their values.
    pub local_env: &'a BTreeMap<String, Option<String>>,
    /// Which variables are secrets.
    pub secrets: &'a SecretNames,
    /// The capabilities that the workspace begins with.
    pub capabilities: &'a BTreeSet<String>,
    /// The most that it may have.
    pub allowed_capabilities: &'a BTreeSet<String>,
    /// Whether security profiles may be turned off.
    pub unconfined: bool,
    /// Cores of the engine's machine; 0 when they are not known.
    pub cpus: u32,
    /// Memory of the engine's machine in bytes; 0 when it is not known.
    pub memory: u64,
}

/// What a file asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Devcontainer {
    /// The image, and the line that names it.
    pub image: Option<(String, usize)>,
    /// What the image is built from, when none is named.
    pub build: Option<Build>,
    /// Fields, each with the line that asks for it.
    pub fields: Vec<(Adjustment, usize)>,
    /// Commands that run in the workspace.
    pub commands: Commands,
    /// What is not honoured.
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
    /// The line that asks for it.
    pub line: usize,
}

/// Commands that run in the workspace, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DevcontainerCommands)]
pub struct Commands {
    /// Once, after the creation: `onCreateCommand`, `updateContentCommand`, `postCreateCommand`.
    pub once: Vec<Command>,
    /// After each start: `postStartCommand`.
    pub each_start: Vec<Command>,
    /// The user who runs them; none means the container's.
    pub user: Option<String>,
}

impl Commands {
    /// Puts the names of secret variables, as `***NAME***`, in the place of their values: commands are kept for later starts, and
    /// shown.
    pub fn hide(&mut self, variables: &BTreeMap<String, String>) {
        // The longest first: one may be a part of another.
        let mut all: Vec<_> = variables.iter().filter(|(_, value)| value.len() >= LEAST_SECRET).collect();
        all.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (name, value) in all {
            self.replace(value, &mark(name));
        }
    }

    /// Puts the values back.
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

/// Shorter values are found everywhere, so they stay.
const LEAST_SECRET: usize = 6;

fn mark(name: &str) -> String {
    format!("***{name}***")
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DevcontainerCommand)]
pub struct Command {
    /// The property, e.g. `postCreateCommand`, or `postCreateCommand.server` for one of several.
    pub property: String,
    /// The command and its arguments.
    pub words: Vec<String>,
}

/// A property, or a part of one, that has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotHonoured {
    /// E.g. `features` or `runArgs --gpus`.
    pub property: String,
    /// 1-based.
    pub line: usize,
    /// One line for people.
    pub why: String,
}

/// What is kept of a file about a workspace that was made with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DevcontainerRecord)]
pub struct Record {
    /// Path of the file in the project.
    pub file: String,
    /// What had no effect.
    pub not_honoured: Vec<NotHonoured>,
    /// What runs in the workspace.
    pub commands: Commands,
    /// Whether the commands that run once have all succeeded.
    pub once_done: bool,
    /// Why a command failed, if one did.
    pub failed: Option<String>,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}")]
pub struct Error {
    /// Path of the file in the project.
    pub file: String,
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// One line for people.
    pub what: String,
}

/// Reads a file's text.
///
/// # Errors
/// With line and column: what is no JSON (comments and trailing commas are fine), and a property that is honoured and has
/// a value that it cannot have.
pub fn read(text: &str, around: &Surroundings<'_>) -> Result<Devcontainer, Error> {
    let parsed = json::parse(text).and_then(|root| properties::read(&root, around));
    parsed.map_err(|wrong| {
        let (line, column) = json::position(text, wrong.offset);
        Error { file: around.file.to_owned(), line, column, what: plain(&wrong.what) }
    })
}

/// A text of a project, fit for a terminal and a record: one line, without control characters, not too long.
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
