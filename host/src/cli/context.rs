//! The context that all commands share: the parts of the program, the output, and the resolution of names and folders.

use std::path::PathBuf;

use tokio::signal::unix::SignalKind;

use super::Failure;
use super::output::Output;
use super::signals::Ends;
use crate::app::App;
use crate::backend::Backend;
use crate::hooks::Hook;
use crate::records::Target;

/// The context that all commands share.
pub(crate) struct Context {
    pub(crate) app: App,
    pub(crate) out: Output,
    /// `--project`
    pub(super) project: Option<PathBuf>,
}

impl Context {
    /// Returns the backend: this process or a service. Its first verb runs these hooks, and Ctrl-C interrupts its
    /// verbs.
    pub(crate) fn backend(&self, hooks: &'static [Hook]) -> Result<Backend, Failure> {
        Ok(Backend::new(self.app.clone(), hooks, Some(stop_at_signals))?)
    }

    /// Returns the backend like [`Self::backend`], but leaves Ctrl-C to the command that runs there.
    pub(crate) fn backend_without_signals(&self, hooks: &'static [Hook]) -> Result<Backend, Failure> {
        Ok(Backend::new(self.app.clone(), hooks, None)?)
    }

    /// Resolves a name, or the lack of one.
    pub(crate) fn target(&self, name: Option<&str>) -> Result<Target, Failure> {
        if let Some(name) = name {
            return Ok(Target::Named(name.to_owned()));
        }
        let folder = self.project_folder();
        let failed = |error| {
            let text = format!("cannot use the project '{}': {error}", folder.display());
            Failure::new("project-unusable", text, "name an existing folder, or a workspace", 5)
        };
        folder.canonicalize().map(Target::Folder).map_err(failed)
    }

    /// Returns the project for commands that name none: `--project`, or the current folder.
    pub(crate) fn project_folder(&self) -> PathBuf {
        self.project.clone().unwrap_or_else(|| PathBuf::from("."))
    }
}

/// Forwards Ctrl-C and SIGTERM to the stopper.
pub(super) fn stop_at_signals(stopper: tokio::sync::watch::Sender<bool>) {
    tokio::spawn(async move {
        let Ok(mut ends) = Ends::take(&[SignalKind::interrupt(), SignalKind::terminate()]) else { return };
        ends.next().await;
        let _ = stopper.send(true);
    });
}
