//! Types shared by several hooks: those of the WIT interface `types`, with short ways to read and create them.

pub use crate::bindings::host_imports::wharf::policy::types::{
    Action, CommandAction, ContainerSpec, Denial, Engine, FileContent, HealthCheck, ImageChoice, LocalImage, Mount,
    MountKind, Network, Pair, Port, Project, Protocol, PullPolicy, Resources, RestartPolicy, Security, TmpfsMount,
    Ulimit, Workspace,
};

/// The host's time limit for a command that a policy requests: ten minutes.
const LONGEST_COMMAND_MS: u64 = 10 * 60 * 1000;

impl Workspace {
    /// Returns the value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        value(&self.labels, name)
    }
}

impl Project {
    /// Returns the text of a file that the plugin requested with `wanted_files`, if it exists.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&str> {
        self.contents.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// Returns whether the project has a file, among the files that the host lists: the top level and
    /// `.devcontainer/`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file == path)
    }
}

impl ContainerSpec {
    /// Returns the value of a label, with all adjustments so far.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        value(&self.labels, name)
    }

    /// Returns the value of an environment variable, with all adjustments so far.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        value(&self.env, name)
    }
}

impl Action {
    /// Runs a command with its arguments, for at most the ten minutes that the host allows. No shell is involved.
    pub fn run<A: Into<String>>(command: impl IntoIterator<Item = A>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self::Run(CommandAction { command, timeout_ms: LONGEST_COMMAND_MS })
    }

    /// Stores a note with the workspace.
    pub fn note(text: impl Into<String>) -> Self {
        Self::Note(text.into())
    }

    /// Stops the workspace for the given reason.
    pub fn stop(reason: impl Into<String>) -> Self {
        Self::Stop(reason.into())
    }
}

/// Returns the value for a name.
pub(crate) fn value<'a>(pairs: &'a [Pair], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
