//! Why a look-up failed.

use crate::store;
use crate::wire::ErrorKind;

/// Why a look-up failed; [`Error::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// The store knows no such workspace.
    #[error("there is no workspace {0}")]
    NotFound(String),
    /// The name or folder means more than one workspace.
    #[error("'{name}' means several workspaces: {}", .ids.join(", "))]
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
    /// The request makes no sense in itself.
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
    /// The kind, which gives a command its exit code and an answer its status. That of a store's error is the caller's.
    pub fn kind(&self) -> Option<ErrorKind> {
        Some(match self {
            Self::NotFound(_) | Self::NoPolicy(_) | Self::NoRecord { .. } | Self::NoField { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } => ErrorKind::Ambiguous,
            Self::Request(_) => ErrorKind::BadRequest,
            Self::Internal(_) => ErrorKind::Internal,
            Self::Store(_) => return None,
        })
    }

    /// A stable word for programs.
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

    /// The remedy, in one line.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotFound(_) => "'wharf ls' lists them; 'wharf up' makes one for this folder".into(),
            Self::Ambiguous { .. } => "use one of the ids".into(),
            Self::NoPolicy(_) => "'wharf policy ls' lists the chain".into(),
            Self::NoRecord { .. } => "'wharf audit --limit 0' lists all; a number or an id names one".into(),
            Self::NoField { .. } => "'wharf why' without a field lists them all".into(),
            Self::Request(_) => "correct the request; see --help".into(),
            Self::Internal(_) => "please report it, with the output of --backtrace".into(),
            Self::Store(error) => error.remedy(),
        }
    }
}
