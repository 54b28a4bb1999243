//! `pause`, `unpause` and `kill`.

use std::time::Duration;

use super::{Error, Lifecycle, WorkspaceView};
use crate::workspace::{State, WorkspaceId};

/// How long the end after a SIGKILL is waited for.
const DEATH: Duration = Duration::from_secs(10);

/// Signals that end a process unless it takes care of them: policies are asked before those, as before a stop.
const ENDING: [&str; 8] = ["KILL", "TERM", "INT", "QUIT", "ABRT", "9", "15", "2"];

impl Lifecycle {
    /// Freezes all processes of a workspace and its sidecars. One that is paused stays as it is.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or the engine's.
    pub async fn pause(&self, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        let container = match self.container(id).await? {
            Some(container) if container.state == State::Paused => container,
            _ => self.running(id).await?,
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

    /// Lets the processes of a paused workspace and its sidecars go on. One that runs stays as it is.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it is neither paused nor running, or the engine's.
    pub async fn unpause(&self, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        for sidecar in self.sidecars(id).await? {
            if let Some(container) = self.container(&sidecar).await?.filter(|c| c.state == State::Paused) {
                self.docker.unpause(&container.id).await?;
            }
        }
        match self.container(id).await? {
            Some(container) if container.state == State::Paused => self.docker.unpause(&container.id).await?,
            _ => drop(self.running(id).await?),
        }
        self.inspect(id).await
    }

    /// Sends a signal to the first process of a workspace, e.g. `KILL`, `SIGHUP` or `10`. Sidecars get none. Before a
    /// signal that ends it, the policies of `pre-stop` are asked.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or the engine's: `bad-request` for an unknown signal.
    pub async fn kill(&self, id: &WorkspaceId, signal: &str) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        let container = match self.container(id).await? {
            Some(container) if container.state == State::Paused => {
                self.docker.unpause(&container.id).await?;
                container
            }
            _ => self.running(id).await?,
        };
        let upper = signal.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if ENDING.contains(&name) {
            self.before_stop(id, &container, "kill").await?;
        }
        self.docker.kill(&container.id, signal).await?;
        if name == "KILL" || name == "9" {
            // Nothing survives it, so what is shown afterwards should be its end. A process that hangs in the kernel is
            // not waited for any longer.
            if let Ok(ended) = tokio::time::timeout(DEATH, self.docker.wait(&container.id)).await {
                ended?;
            }
        }
        self.inspect(id).await
    }
}
