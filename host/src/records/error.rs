//! The errors of a look-up.

use crate::store;
use crate::wire::ErrorKind;

/// The reason why a look-up failed; [`Error::remedy`] gives the remedy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// The store has no such workspace.
    #[error("there is no workspace {0}")]
    NotFound(String),
    /// The name or folder matches more than one workspace.
    #[error("'{name}' matches several workspaces: {}", .ids.join(", "))]
    Ambiguous { name: String, ids: Vec<String> },
    /// Neither the chain nor a record has such a policy.
    #[error("there is no policy '{0}'")]
    NoPolicy(String),
    /// There is no such decision record.
    #[error("{}", no_record(.wanted, *.pruned))]
    NoRecord { wanted: String, pruned: bool },
    /// A workspace has no such field.
    #[error("{id} has no field '{field}'")]
    NoField { id: String, field: String },
    /// The request is invalid in itself.
    #[error("{0}")]
    Request(String),
    /// A defect of Wharf.
    #[error("{0}")]
    Internal(String),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] store::Error),
}

fn no_record(wanted: &str, pruned: bool) -> String {
    if pruned { format!("record {wanted} was pruned") } else { format!("there is no record '{wanted}'") }
}

impl Error {
    /// Returns the kind, which determines a command's exit code and an answer's status. For a store's error, the
    /// caller determines it.
    pub fn kind(&self) -> Option<ErrorKind> {
        Some(match self {
            Self::NotFound(_) | Self::NoPolicy(_) | Self::NoRecord { .. } | Self::NoField { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } => ErrorKind::Ambiguous,
            Self::Request(_) => ErrorKind::BadRequest,
            Self::Internal(_) => ErrorKind::Internal,
            Self::Store(_) => return None,
        })
    }

    /// Returns a stable identifier for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "workspace-not-found",
            Self::Ambiguous { .. } => "workspace-ambiguous",
            Self::NoPolicy(_) => "policy-not-found",
            Self::NoRecord { .. } => "record-not-found",
            Self::NoField { .. } => "no-field",
            Self::Request(_) => "bad-request",
            Self::Internal(_) => "internal",
            Self::Store(_) => "store",
        }
    }

    /// Returns the remedy, in one line.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotFound(_) => "see 'wharf ls' for all workspaces; 'wharf up' creates one for this folder".into(),
            Self::Ambiguous { .. } => "use one of these ids".into(),
            Self::NoPolicy(_) => "see 'wharf policy ls' for the chain".into(),
            Self::NoRecord { .. } => "see 'wharf audit --limit 0' for all records; use a number or an id".into(),
            Self::NoField { .. } => "see 'wharf why' without a field for all fields".into(),
            Self::Request(_) => "correct the request; see --help".into(),
            Self::Internal(_) => "report the bug, with the output of --backtrace".into(),
            Self::Store(error) => error.remedy(),
        }
    }
}
