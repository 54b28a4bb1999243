//! Failures in words for their caller. A caller who sees only a part of the installation must not learn about the rest
//! of the host from them: every such failure has the same words, and its details are in the log.

use crate::api::http::access::Caller;
use crate::api::http::error::Problem;
use crate::{docker, lifecycle};

impl Problem {
    /// Converts the failure of a verb into words for its caller.
    pub(in crate::api) fn told(error: lifecycle::Error, caller: &Caller) -> Self {
        if caller.sees_all() || !(tells_of_host(&error) || has_engine_words(&error)) {
            return error.into();
        }
        Self::logged(&error, caller)
    }

    /// Converts the failure of a command in the same way; the engine's message about it concerns only the workspace.
    pub(in crate::api) fn told_of_command(error: lifecycle::Error, caller: &Caller) -> Self {
        if caller.sees_all() || !tells_of_host(&error) {
            return error.into();
        }
        Self::logged(&error, caller)
    }

    fn logged(error: &lifecycle::Error, caller: &Caller) -> Self {
        tracing::warn!(caller = caller.name(), code = error.code(), "api: hidden from a caller with labels: {error}");
        Self::withheld()
    }
}

/// Returns whether a failure reveals the content of a path of the host, or the existence of images and volumes.
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

/// Returns whether a failure repeats the engine's message about a start, which may name any path.
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
