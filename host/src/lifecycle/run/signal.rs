//! `pause`, `unpause` and `kill`.

use std::time::Duration;

use crate::docker;
use crate::lifecycle::observe::find::must_run;
use crate::lifecycle::{Error, Lifecycle, WorkspaceView};
use crate::workspace::{State, WorkspaceId};

/// The longest wait for the end after a SIGKILL.
const DEATH: Duration = Duration::from_secs(10);

/// Signals that end a process unless it handles them, see signal(7); by number on x86-64 and arm64. Policies are called
/// before them, as before a stop. HUP, USR1 and USR2 are not included: programs use them as notifications.
const ENDING: [&str; 22] = [
    "ABRT", "ALRM", "BUS", "FPE", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV",
    "STKFLT", "SYS", "TERM", "TRAP", "VTALRM", "XCPU", "XFSZ",
];

/// Returns whether a signal ends a process that does not handle it.
fn ends(name: &str) -> bool {
    match name.parse::<u32>() {
        Ok(number) => matches!(number, 2..=9 | 11 | 13..=16 | 24..=27 | 29..=31 | 34..=64),
        Err(_) => ENDING.contains(&name) || name.starts_with("RTM"),
    }
}

impl Lifecycle {
    /// Freezes all processes of a workspace and its sidecars. A paused workspace stays as it is.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or the engine's.
    pub async fn pause(&self, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        let container = match self.container(id).await? {
            Some(container) if container.state == State::Paused => container,
            found => must_run(id, found)?,
        };
        if container.state == State::Running {
            self.docker.pause(&container.id).await?;
        }
        for sidecar in self.sidecars(id).await? {
            if let Some(container) = self.container(&sidecar).await?.filter(|c| c.state == State::Running) {
                self.docker.pause(&container.id).await?;
            }
        }
        self.inspect(id).await
    }

    /// Resumes the processes of a paused workspace and its sidecars. A running workspace stays as it is.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it is neither paused nor running, or the engine's.
    pub async fn unpause(&self, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        for sidecar in self.sidecars(id).await? {
            if let Some(container) = self.container(&sidecar).await?.filter(|c| c.state == State::Paused) {
                self.check_stored_mounts(self.store.workspace(&sidecar)?.as_ref(), &container).await?;
                self.go_on(&container.id).await?;
            }
        }
        match self.container(id).await? {
            Some(container) if container.state == State::Paused => {
                self.check_stored_mounts(self.store.workspace(id)?.as_ref(), &container).await?;
                self.go_on(&container.id).await?;
            }
            found => drop(must_run(id, found)?),
        }
        self.inspect(id).await
    }

    /// Unpauses a container that was seen paused. It is no error if it was unpaused since.
    pub(in crate::lifecycle) async fn go_on(&self, container: &str) -> Result<(), Error> {
        match self.docker.unpause(container).await {
            Err(docker::Error::Conflict { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Sends a signal to the first process of a workspace, e.g. `KILL`, `SIGHUP` or `10`. Sidecars get none. The
    /// policies of `pre-stop` are called before a signal that ends the workspace.
    ///
    /// # Errors
    /// [`Error::Request`] for an invalid signal, [`Error::NotRunning`], or the engine's: `bad-request` for an unknown
    /// one.
    pub async fn kill(&self, id: &WorkspaceId, signal: &str) -> Result<WorkspaceView, Error> {
        let upper = known_as(signal)?;
        let _lock = self.lock(id).await?;
        let container = match self.container(id).await? {
            Some(container) if container.state == State::Paused => {
                self.go_on(&container.id).await?;
                container
            }
            found => must_run(id, found)?,
        };
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if ends(name) {
            self.before_stop(id, &container, "kill").await?;
        }
        self.docker.kill(&container.id, name).await?;
        if name == "KILL" || name == "9" {
            // No process survives it, so the returned state must show the end. A process that hangs in the kernel is
            // not waited for any longer.
            if let Ok(ended) = tokio::time::timeout(DEATH, self.docker.wait(&container.id)).await {
                ended?;
            }
        }
        self.inspect(id).await
    }
}

/// Normalizes a signal, so that an ending signal is recognized in any notation: the engine accepts `+09` for 9, and an
/// empty text for `KILL`.
fn known_as(signal: &str) -> Result<String, Error> {
    let number = signal.parse::<u32>().map(|number| number.to_string());
    let upper = number.unwrap_or_else(|_| signal.to_ascii_uppercase());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-');
    if upper.is_empty()
        || upper == "0"
        || !upper.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !upper.chars().all(plain)
    {
        return Err(Error::Request(format!("'{}' is not a signal such as TERM, SIGHUP or 10", signal.escape_debug())));
    }
    Ok(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_end_are_told_from_those_that_tell_something() {
        for name in ["KILL", "9", "TERM", "15", "ALRM", "14", "PIPE", "RTMIN+3", "34"] {
            assert!(ends(name), "{name}");
        }
        for name in
            ["HUP", "1", "USR1", "10", "USR2", "12", "WINCH", "28", "CONT", "18", "CHLD", "17", "URG", "23", "NOPE"]
        {
            assert!(!ends(name), "{name}");
        }
    }

    #[test]
    fn a_signal_has_one_spelling_and_nothing_is_none() {
        for (given, known) in
            [("term", "TERM"), ("SigHup", "SIGHUP"), ("9", "9"), ("+009", "9"), ("RTMIN+3", "RTMIN+3")]
        {
            assert_eq!(known_as(given).unwrap(), known);
        }
        for none in ["", " ", " 9", "0", "-9", "KILL\n", "+KILL", "00"] {
            assert_eq!(known_as(none).unwrap_err().code(), "bad-request", "{none:?}");
        }
    }
}
