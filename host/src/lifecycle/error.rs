//! The failures of verbs.

use std::path::PathBuf;

use crate::hooks::record::Refusal;
use crate::hooks::redact::Values;
use crate::hooks::{PolicyError, Step};
use crate::wire::ErrorKind;
use crate::workspace::State;
use crate::{docker, records, store};

/// A field with a difference between the existing workspace and the new decision.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The field.
    pub field: String,
    /// The existing value.
    pub is: serde_json::Value,
    /// The newly decided value.
    pub decided: serde_json::Value,
    /// The owner of the new value.
    pub by: String,
}

/// Objects other than a workspace that can be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A snapshot.
    Snapshot,
    /// A secret of a workspace.
    Secret {
        /// The workspace.
        of: String,
    },
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot => f.write_str("snapshot"),
            Self::Secret { of } => write!(f, "secret of {of}"),
        }
    }
}

/// The failure of a verb: the operation, its object, and the cause. [`Error::remedy`] returns the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project folder is unusable.
    #[error("cannot use the project '{path}': {cause}")]
    Project {
        /// The path as it was given.
        path: PathBuf,
        /// The cause.
        cause: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The request is invalid.
    #[error("{0}")]
    Request(String),
    /// The `devcontainer.json` of the project is unusable.
    #[error("{0}")]
    ProjectFile(String),
    /// A policy or an invariant refused it.
    #[error("denied by {}: {} ({})", place(.refusal), .refusal.reason, .refusal.code)]
    Denied {
        /// The refusing policy or invariant, and the reason.
        refusal: Refusal,
        /// The steps of the policies up to the refusal.
        trail: Vec<Step>,
    },
    /// A policy cannot be loaded.
    #[error("cannot load the policy '{policy}' ({from}): {error}")]
    #[allow(missing_docs)]
    PolicyNotLoaded { policy: String, from: String, error: PolicyError },
    /// The store has no such workspace, record, field or policy, or the name means several workspaces.
    #[error("{0}")]
    Records(records::Error),
    /// A workspace has no such secret, or there is no such snapshot.
    #[error("there is no {what} '{name}'")]
    #[allow(missing_docs)]
    Missing { what: Missing, name: String },
    /// The existing workspace differs from the new decision.
    #[error("the workspace {id} exists and differs from the current decision: {}", list(.differences))]
    #[allow(missing_docs)]
    Differs { id: String, sidecar: Option<String>, differences: Vec<Difference> },
    /// The engine deviated from the decision; its container was removed.
    #[error("the container differs from the decision and was removed: {}", .0.join("; "))]
    NotAsDecided(Vec<String>),
    /// It needs a running workspace.
    #[error("the workspace {id} is {state}")]
    #[allow(missing_docs)]
    NotRunning { id: String, state: String },
    /// It did not happen in time.
    #[error("waited {} s for {id} to be {awaited}; it is {}", .after.as_secs_f32(), or_unknown(.state))]
    #[allow(missing_docs)]
    TimedOut { id: String, awaited: &'static str, after: std::time::Duration, state: String },
    /// It needs a stopped workspace.
    #[error("the workspace {id} is {state}")]
    #[allow(missing_docs)]
    Running { id: String, state: State },
    /// Another object needs it.
    #[error("{text}")]
    #[allow(missing_docs)]
    InUse { text: String, remedy: String },
    /// The verb was interrupted; its changes were undone.
    #[error("interrupted; all changes were undone")]
    Interrupted,
    /// The verb was interrupted, and the objects that it made stay.
    #[error("interrupted; {0}")]
    LeftOff(String),
    /// The engine failed.
    #[error("{0}")]
    Docker(#[from] docker::Error),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// A verb failed, and so did its undo.
    #[error("{first}; and cannot undo the changes: {undo}")]
    #[allow(missing_docs)]
    NotUndone { first: Box<Self>, undo: String },
    /// A defect of Wharf.
    #[error("a bug in Wharf: {0}")]
    Internal(String),
}

impl From<records::Error> for Error {
    fn from(error: records::Error) -> Self {
        match error {
            records::Error::Store(error) => Self::Store(error),
            records::Error::Request(text) => Self::Request(text),
            records::Error::Internal(text) => Self::Internal(text),
            error => Self::Records(error),
        }
    }
}

fn place(refusal: &Refusal) -> String {
    match &refusal.at {
        Some(at) if !at.starts_with("sha256:") => at.clone(),
        _ => refusal.policy.clone(),
    }
}

fn or_unknown(state: &str) -> &str {
    if state.is_empty() { "in an unknown state" } else { state }
}

fn list(differences: &[Difference]) -> String {
    let each = differences.iter().map(|difference| {
        format!("{} is {}, but {} is decided ({})", difference.field, difference.is, difference.decided, difference.by)
    });
    each.collect::<Vec<_>>().join("; ")
}

impl Error {
    /// Returns the error that there is no such workspace.
    pub(crate) fn not_found(workspace: impl Into<String>) -> Self {
        Self::Records(records::Error::NotFound(workspace.into()))
    }

    /// Returns whether the error is that there is no such workspace.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Records(records::Error::NotFound(_)))
    }

    /// Removes these values from the error: messages of the engine, and names of objects that it made, may contain
    /// them.
    pub(super) fn without(mut self, values: &Values) -> Self {
        match &mut self {
            Self::Docker(error) => error.engine_words().into_iter().for_each(|words| values.clean(words)),
            Self::NotAsDecided(differences) => differences.iter_mut().for_each(|words| values.clean(words)),
            Self::LeftOff(text) | Self::Request(text) | Self::ProjectFile(text) => values.clean(text),
            _ => {}
        }
        self
    }

    /// Returns the kind, which determines the exit code of a command and the HTTP status of an answer.
    pub fn kind(&self) -> ErrorKind {
        use docker::Error as D;
        match self {
            Self::Request(_) | Self::Store(store::Error::BadAnchor { .. }) | Self::Docker(D::BadRequest { .. }) => {
                ErrorKind::BadRequest
            }
            Self::ProjectFile(_) => ErrorKind::ProjectFile,
            Self::Project { .. } => ErrorKind::Project,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Records(error) => error.kind().unwrap_or(ErrorKind::Internal),
            Self::Missing { .. } => ErrorKind::NotFound,
            // A missing container is a state of a workspace. A missing image, volume or path is a missing object of the
            // request.
            Self::Docker(D::NotFound { what, .. }) if *what != "container" => ErrorKind::NoObject,
            Self::Differs { .. } => ErrorKind::Differs,
            Self::NotRunning { .. }
            | Self::Running { .. }
            | Self::InUse { .. }
            | Self::Store(store::Error::Locked(_))
            | Self::Docker(
                D::NotFound { .. }
                | D::NameTaken { .. }
                | D::PortInUse { .. }
                | D::Conflict { .. }
                | D::NotRunning { .. }
                | D::NotOurs { .. },
            ) => ErrorKind::Conflict,
            Self::Docker(
                D::ImageMissing { .. }
                | D::MountSourceMissing { .. }
                | D::StartFailed { .. }
                | D::CommandNotFound { .. }
                | D::CommandNotExecutable { .. },
            ) => ErrorKind::Unusable,
            Self::Interrupted | Self::LeftOff(_) => ErrorKind::Interrupted,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Docker(
                D::Unreachable { .. } | D::TooOld { .. } | D::TooNew { .. } | D::UnsupportedEndpoint { .. },
            ) => ErrorKind::EngineUnreachable,
            Self::Docker(D::Stream { .. }) => ErrorKind::EngineLost,
            Self::Docker(D::Timeout { .. }) => ErrorKind::EngineTimeout,
            Self::Docker(_) | Self::NotAsDecided(_) => ErrorKind::Engine,
            Self::PolicyNotLoaded { .. } | Self::Store(store::Error::Untrusted(_)) => ErrorKind::Configuration,
            Self::NotUndone { .. } => ErrorKind::NotUndone,
            Self::Store(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Returns a stable code for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Project { .. } => "project-unusable",
            Self::Request(_) => "bad-request",
            Self::ProjectFile(_) => "devcontainer",
            Self::Denied { refusal, .. } => &refusal.code,
            Self::PolicyNotLoaded { .. } => "policy-not-loaded",
            Self::Records(error) => error.code(),
            Self::Missing { what: Missing::Snapshot, .. } => "snapshot-not-found",
            Self::Missing { what: Missing::Secret { .. }, .. } => "secret-not-found",
            Self::Differs { .. } => "spec-differs",
            Self::NotAsDecided(_) => "not-as-decided",
            Self::NotRunning { .. } => "not-running",
            Self::TimedOut { .. } => "timeout",
            Self::Running { .. } => "running",
            Self::InUse { .. } => "conflict",
            Self::Interrupted | Self::LeftOff(_) => "interrupted",
            Self::Docker(error) => error.code(),
            Self::Store(store::Error::Locked(_)) => "locked",
            Self::Store(store::Error::Damaged { .. }) => "records-damaged",
            Self::Store(store::Error::NothingLost { .. }) => "nothing-lost",
            Self::Store(store::Error::BadAnchor { .. }) => "bad-anchor",
            Self::Store(_) => "store",
            Self::NotUndone { first, .. } => first.code(),
            Self::Internal(_) => "internal",
        }
    }

    /// Returns the remedy, in one line.
    pub fn remedy(&self) -> String {
        match self {
            Self::Project { remedy, .. } => (*remedy).to_owned(),
            Self::Request(_) => "correct the request; see --help".into(),
            Self::ProjectFile(_) => "correct that file, or skip it with --no-devcontainer".into(),
            Self::Denied { refusal, .. } => match refusal.code.as_str() {
                "policy-failed" => "correct that policy or remove it from the chain; see 'wharf policy check'".into(),
                "mount-changed" => {
                    "check that the change is intended; then run 'wharf up --recreate' to create the workspace with \
                     the current files"
                        .into()
                }
                "conflict" => "change the chain; see 'wharf policy ls'".into(),
                "invariant" => "request less, or let an admin change the configuration; see 'wharf config show'".into(),
                _ => "change the request according to the reason; 'wharf plan' shows the steps of every policy".into(),
            },
            Self::PolicyNotLoaded { .. } => {
                "correct the policy or its entry in the configuration; see 'wharf policy check'".into()
            }
            Self::Records(error) => error.remedy(),
            Self::Missing { what: Missing::Snapshot, .. } => "see 'wharf snapshot ls' for all snapshots".into(),
            Self::Missing { what: Missing::Secret { .. }, .. } => "see 'wharf secret ls' for all secrets".into(),
            Self::Differs { sidecar: Some(name), .. } => format!(
                "nothing was changed; run the same 'wharf sidecar add {name} ...' with --recreate to replace it (its \
                 writable layer is lost)"
            ),
            Self::Differs { .. } => {
                "nothing was changed; 'wharf start' starts it as it is; 'wharf up --recreate' replaces it (its writable \
                 layer is lost)"
                    .into()
            }
            Self::NotAsDecided(_) => {
                "see 'wharf doctor' for the features of this engine, and change the policy that requests more".into()
            }
            Self::NotRunning { state, .. } => match state.split(' ').next() {
                Some("paused") => "resume it with 'wharf unpause'".into(),
                Some("missing") => "create it again with 'wharf up'".into(),
                _ => "start it with 'wharf start' or 'wharf up'".into(),
            },
            Self::TimedOut { awaited: "healthy", .. } => {
                "see the last output of its health check in 'wharf inspect', and see 'wharf logs'; or wait \
                 longer"
                    .into()
            }
            Self::TimedOut { .. } => "see 'wharf logs', or wait longer with --timeout".into(),
            Self::Running { .. } => "stop it first, or use --force".into(),
            Self::InUse { remedy, .. } => remedy.clone(),
            Self::Interrupted | Self::LeftOff(_) => "run the command again".into(),
            Self::Docker(error) => error.remedy(),
            Self::Store(error) => error.remedy(),
            Self::NotUndone { .. } => "run any wharf command when the engine is reachable; it undoes the rest".into(),
            Self::Internal(_) => "report the bug, with the output of --backtrace".into(),
        }
    }

    /// Returns extra lines, and whether people see them at once (a marked source line) or only with `--backtrace`.
    pub fn detail(&self) -> Option<(String, bool)> {
        match self {
            Self::PolicyNotLoaded { error, .. } => Some((error.detail.clone()?, error.marked)),
            Self::Denied { trail, .. } => trail.iter().rev().find_map(|step| {
                let error = step.error.as_ref()?;
                Some((error.detail.clone()?, error.marked))
            }),
            Self::NotUndone { first, .. } => first.detail(),
            _ => None,
        }
    }
}
