//! Failures in the words for their caller. One who sees a part of the installation does not learn from them what is on the host
//! beside: then every such failure has the same words, and its own are in the log.

use crate::api::http::access::Caller;
use crate::api::http::error::Problem;
use crate::{docker, lifecycle};

impl Problem {
    /// A failure of a verb in the words for its caller.
    pub(in crate::api) fn told(error: lifecycle::Error, caller: &Caller) -> Self {
        if caller.sees_all() || !(tells_of_host(&error) || has_engine_words(&error)) {
            return error.into();
        }
        Self::logged(&error, caller)
    }

    /// The same for a command: what the engine says about it is about the workspace.
    pub(in crate::api) fn told_of_command(error: lifecycle::Error, caller: &Caller) -> Self {
        if caller.sees_all() || !tells_of_host(&error) {
            return error.into();
        }
        Self::logged(&error, caller)
    }

    fn logged(error: &lifecycle::Error, caller: &Caller) -> Self {
        tracing::warn!(caller = caller.name(), code = error.code(), "api: withheld from a caller with labels: {error}");
        Self::withheld()
    }
}

/// Whether a failure tells what is at a path of the host, or which images and volumes there are.
fn tells_of_host(error: &lifecycle::Error) -> bool {
    use docker::Error as D;
    use lifecycle::Error as E;
    match error {
        E::Project { .. } | E::ProjectFile(_) | E::NotAsDecided(_) => true,
        E::Denied { refusal, .. } => {
            refusal.policy == "host" && ["invariant", "mount-changed"].contains(&refusal.code.as_str())
        }
        E::Docker(D::NotFound { what, .. }) => *what != "container",
        E::Docker(
            D::NotOurs { .. }
            | D::ImageMissing { .. }
            | D::PullFailed { .. }
            | D::BuildFailed { .. }
            | D::MountSourceMissing { .. },
        ) => true,
        E::NotUndone { first, .. } => tells_of_host(first),
        _ => false,
    }
}

/// Whether a failure repeats what the engine says about a start, which may name any path.
fn has_engine_words(error: &lifecycle::Error) -> bool {
    use docker::Error as D;
    use lifecycle::Error as E;
    match error {
        E::Docker(
            D::StartFailed { .. }
            | D::Unsupported { .. }
            | D::BadRequest { .. }
            | D::Engine { .. }
            | D::Protocol { .. },
        ) => true,
        E::NotUndone { first, .. } => has_engine_words(first),
        _ => false,
    }
}
