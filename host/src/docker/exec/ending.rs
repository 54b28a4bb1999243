//! A command that fails to start because its container is just ending: the runtime then reports that its own helper
//! died.

use std::time::Duration;

use tokio::time::Instant;

use crate::docker::Docker;
use crate::docker::error::Error;
use crate::workspace::State;

/// The messages of runc and containerd when the container's first process, and with it the namespaces, is gone while
/// they join the namespaces. Observed with a command in a loop while its container was stopped.
const SAID: [&str; 8] = [
    "broken pipe",
    "connection reset by peer",
    "EOF",
    "setns",
    "no such process",
    "namespace path",
    "stopped",
    "not found: not found",
];
/// How long the engine may take to notice that a container has ended.
const NOTICED: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);

impl Docker {
    /// Returns the real cause of a command's failure to start, in a container that may be ending.
    pub(super) async fn unless_ending(&self, container: &str, error: Error) -> Error {
        // `CommandNotExecutable` is only certain with the engine's message; a bare exit code 126 can mean anything.
        let (Error::StartFailed { cause } | Error::CommandNotExecutable { cause }) = &error else { return error };
        let ending = SAID.iter().any(|words| cause.contains(words));
        let begin = Instant::now();
        loop {
            match self.inspect(container).await {
                Ok(there) if there.state != State::Running => {
                    return Error::NotRunning { operation: super::OPERATION, name: there.name };
                }
                Ok(_) if ending && begin.elapsed() < NOTICED => tokio::time::sleep(LOOK).await,
                Err(gone @ Error::NotFound { .. }) => return gone,
                Ok(_) | Err(_) => return error,
            }
        }
    }
}
