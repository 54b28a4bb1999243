//! The engine's message within an error.

use super::Error;

impl Error {
    /// Returns the engine's message in this error. It may repeat text of the request.
    pub fn engine_words(&mut self) -> Option<&mut String> {
        match self {
            Self::PullFailed { cause, .. }
            | Self::BuildFailed { cause, .. }
            | Self::CommandNotFound { cause }
            | Self::CommandNotExecutable { cause }
            | Self::PortInUse { cause }
            | Self::StartFailed { cause }
            | Self::Unsupported { cause, .. }
            | Self::Conflict { cause, .. }
            | Self::BadRequest { cause, .. }
            | Self::Engine { message: cause, .. }
            | Self::Protocol { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
