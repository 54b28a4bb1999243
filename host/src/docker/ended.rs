//! Why a container ended right after its start.

use super::Docker;
use super::error::{Error, Result};
use super::logs::LogOptions;
use crate::workspace::{Container, State};

/// What the engine's init process (tini) writes when it cannot execute the command:
/// `[FATAL tini (7)] exec nope failed: No such file or directory`.
const INIT: &str = "[FATAL tini (";

impl Docker {
    /// Tells whether a container has ended because its command could not be executed.
    ///
    /// Without an init process [`Docker::start`] fails then. With one the start succeeds, because the init process
    /// runs; a few milliseconds later it ends with exit code 126 or 127 and a line on stderr.
    ///
    /// # Errors
    /// The ones of a failing engine or a broken connection; what this looks for is the result, not an error.
    pub async fn refused_command(&self, container: &Container) -> Result<Option<Error>> {
        let ended = matches!(container.state, State::Exited | State::Restarting);
        if !ended || !matches!(container.exit_code, Some(126 | 127)) {
            return Ok(None);
        }
        let options = LogOptions { tail: Some(3), stdout: false, ..LogOptions::default() };
        // Wharf's containers have no terminal.
        let mut logs = match self.logs(&container.id, false, &options).await {
            Ok(logs) => logs,
            // A log driver that cannot be read.
            Err(Error::Unsupported { .. } | Error::Engine { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut cause = None;
        while let Some(lines) = logs.next().await {
            for line in lines? {
                let text = String::from_utf8_lossy(&line.message);
                if let Some((_, words)) = text.strip_prefix(INIT).and_then(|rest| rest.split_once(")] ")) {
                    cause = Some(words.trim().to_owned());
                }
            }
        }
        Ok(cause.map(|cause| match container.exit_code {
            Some(127) => Error::CommandNotFound { cause },
            _ => Error::CommandNotExecutable { cause },
        }))
    }
}
