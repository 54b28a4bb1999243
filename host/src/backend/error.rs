//! Failures of either backend, with one kind, code and remedy each.

use crate::wire::{ErrorKind, TrailStep};
use crate::{client, config, docker, lifecycle, records, store};

/// The failure of a method.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A verb of this process failed.
    #[error(transparent)]
    Here(#[from] lifecycle::Error),
    /// The service refused the call, failed, or is unreachable.
    #[error(transparent)]
    Service(#[from] client::Error),
    /// The configuration is unusable.
    #[error("{}", .0.message)]
    Configuration(config::Error),
    /// This backend cannot carry out the call.
    #[error("{message}")]
    Usage {
        /// The cause.
        message: String,
        /// The remedy.
        remedy: String,
    },
    /// The caller was interrupted while the service works.
    #[error("interrupted; the service at {0} completes the request")]
    LeftToService(String),
    /// The service could not remove one of several images.
    #[error("{message}")]
    #[allow(missing_docs)]
    Kept { code: String, message: String, remedy: String },
    /// A failure with a separate code.
    #[error("{message}")]
    #[allow(missing_docs)]
    Other { kind: ErrorKind, code: &'static str, message: String, remedy: String },
}

impl Error {
    /// Returns the error of a call that makes no sense with this backend.
    pub(super) fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), remedy: remedy.into() }
    }

    /// Returns the kind, which determines the exit code of a command.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Here(error) => error.kind(),
            Self::Service(client::Error::Problem(problem)) => problem.kind(),
            Self::Service(client::Error::Setting { .. } | client::Error::Request(_)) | Self::Usage { .. } => {
                ErrorKind::BadRequest
            }
            Self::Service(client::Error::Unreachable { .. }) => ErrorKind::EngineUnreachable,
            Self::Service(client::Error::Answer { .. }) => ErrorKind::Unknown,
            Self::Configuration(_) => ErrorKind::Configuration,
            Self::LeftToService(_) => ErrorKind::Interrupted,
            Self::Kept { .. } => ErrorKind::Conflict,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// Returns a stable code for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Here(error) => error.code(),
            Self::Service(client::Error::Problem(problem)) => &problem.code,
            Self::Service(client::Error::Setting { .. }) => "server",
            Self::Service(client::Error::Request(_)) | Self::Usage { .. } => "bad-request",
            Self::Service(client::Error::Unreachable { .. }) => "service-unreachable",
            Self::Service(client::Error::Answer { .. }) => "service-answer",
            Self::Configuration(_) => "configuration",
            Self::LeftToService(_) => "interrupted",
            Self::Kept { code, .. } => code,
            Self::Other { code, .. } => code,
        }
    }

    /// Returns the remedy, in one line.
    pub fn remedy(&self) -> String {
        match self {
            Self::Here(error) => error.remedy(),
            Self::Service(client::Error::Problem(problem)) => problem.remedy.clone(),
            Self::Service(client::Error::Setting { remedy, .. }) => remedy.clone(),
            Self::Service(client::Error::Request(_)) => {
                "run the command on the machine of the service, without --server".into()
            }
            Self::Service(client::Error::Unreachable { .. }) => {
                "check that 'wharf serve' is running there, and that --server is its address".into()
            }
            Self::Service(client::Error::Answer { .. }) => {
                "check that a service of the same version is running there".into()
            }
            Self::Configuration(error) => error.remedy.clone(),
            Self::Usage { remedy, .. } | Self::Kept { remedy, .. } | Self::Other { remedy, .. } => remedy.clone(),
            Self::LeftToService(_) => "'wharf ls' shows the result".into(),
        }
    }

    /// Returns extra lines, and whether people see them at once or only with `--backtrace`.
    pub fn detail(&self) -> Option<(String, bool)> {
        match self {
            Self::Here(error) => error.detail(),
            Self::Configuration(error) => error.detail.clone().map(|text| (text, true)),
            _ => None,
        }
    }

    /// Returns the steps of the policies up to a denial.
    pub fn trail(&self) -> Vec<TrailStep> {
        match self {
            Self::Here(lifecycle::Error::Denied { trail, .. }) => crate::wire::trail(trail),
            Self::Service(client::Error::Problem(problem)) => problem.trail.clone(),
            _ => Vec::new(),
        }
    }
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Self {
        Self::Configuration(error)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Here(error.into())
    }
}

impl From<docker::Error> for Error {
    fn from(error: docker::Error) -> Self {
        Self::Here(error.into())
    }
}

impl From<records::Error> for Error {
    fn from(error: records::Error) -> Self {
        Self::Here(error.into())
    }
}
