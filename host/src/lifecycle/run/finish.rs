//! Starts and stops of an existing container. They are recorded before the engine is called, and finished by the next
//! process if this one dies meanwhile.
//!
//! The engine carries out a stop even after the requesting process is gone. Until the stop is done, a command would run
//! in a container that is about to end. So the next process requests the same stop again, which returns when it is
//! done.

use std::time::Duration;

use jiff::Timestamp;

use crate::docker;
use crate::lifecycle::recovery::reconcile::STRAGGLERS;
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{JournalEntry, Verb};
use crate::workspace::{Container, State, WorkspaceId};

/// The reason that a workspace is degraded if another process finished its start.
const UNFINISHED: &str =
    "the process that started it died before it asked the post-start policies; 'wharf start' asks them";

impl Lifecycle {
    /// Stops a live container.
    pub(in crate::lifecycle) async fn stop_container(
        &self,
        id: &WorkspaceId,
        container: &Container,
        timeout: Duration,
    ) -> Result<(), Error> {
        let detail = format!("{} {}", container.id, timeout.as_secs());
        // A workspace can be stopped even when the disk is full and the entry cannot be written.
        let entry = self.store.begin_with(id, Verb::Stop, Some(&detail));
        let stopped = self.stop_living(container, timeout).await;
        let result = if stopped.is_ok() { "done" } else { "failed" };
        if let Err(error) = entry.and_then(|entry| self.store.done(entry, result)) {
            tracing::warn!("cannot record the stop of {id}: {error}");
        }
        stopped
    }

    async fn stop_living(&self, container: &Container, timeout: Duration) -> Result<(), Error> {
        if container.state == State::Paused {
            self.go_on(&container.id).await?;
        }
        self.docker.stop(&container.id, timeout).await?;
        Ok(())
    }

    /// Carries out the start of a workspace, with [`JournalEntry::RESTART`] as the detail if this includes a stop.
    pub(in crate::lifecycle) async fn starting<T>(
        &self,
        id: &WorkspaceId,
        detail: Option<&str>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let entry = self.store.begin_with(id, Verb::Start, detail)?;
        let started = work.await;
        // The caller learns of a failure, so there is nothing to finish then.
        let result = if started.is_ok() { "done" } else { "failed" };
        if let Err(error) = self.store.done(entry, result) {
            tracing::warn!("cannot record the start of {id}: {error}");
        }
        started
    }

    /// Finishes a stop, unless the container was started since.
    pub(in crate::lifecycle) async fn finish_stop(&self, entry: &JournalEntry) -> Result<(), Error> {
        let detail = entry.detail.as_deref().unwrap_or_default();
        let damaged = || Error::Internal(format!("'{detail}' in the journal is not a container with seconds"));
        let (container, seconds) = detail.split_once(' ').ok_or_else(damaged)?;
        let seconds = seconds.parse().map_err(|_| damaged())?;
        let container = match self.docker.inspect(container).await {
            Err(docker::Error::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        let since = container.started_at.is_some_and(|time| time > entry.begun);
        if crate::lifecycle::run::stop::lives(&container) && !since && self.is_ours(&container)? {
            // The engine continues without a waiting client. A stop that may take an hour must not delay other commands
            // for so long.
            let stop = self.stop_living(&container, Duration::from_secs(seconds));
            match tokio::time::timeout(STRAGGLERS, stop).await {
                Ok(stopped) => stopped?,
                Err(_) => {
                    tracing::warn!("{} is still being stopped for a dead process", entry.workspace);
                    return Ok(());
                }
            }
            tracing::warn!("finished the stop of {} that a dead process had started", entry.workspace);
        }
        Ok(())
    }

    /// Finishes a start, or the second half of a restart. Containers that a restart has not yet stopped are left alone.
    pub(in crate::lifecycle) async fn finish_start(&self, entry: &JournalEntry) -> Result<(), Error> {
        let restart = entry.detail.as_deref() == Some(JournalEntry::RESTART);
        let mut all = if restart { self.sidecars(&entry.workspace).await? } else { Vec::new() };
        all.push(entry.workspace.clone());
        for id in &all {
            let Some(container) = self.container(id).await? else { continue };
            let container = self.docker.inspect(&container.id).await?;
            if restart
                && crate::lifecycle::run::stop::lives(&container)
                && container.started_at.is_none_or(|time| time < entry.begun)
            {
                continue;
            }
            self.start_again(id, &container).await?;
        }
        Ok(())
    }

    /// Starts a container for a dead process, and marks the workspace: the next start with a waiting caller runs its
    /// policies. A container that does not start is reported as degraded, and is not started later when the obstacle is
    /// gone.
    pub(in crate::lifecycle) async fn start_again(&self, id: &WorkspaceId, container: &Container) -> Result<(), Error> {
        let start = async {
            match container.state {
                State::Running => Ok(()),
                State::Paused => self.go_on(&container.id).await,
                _ => self.start_container(self.store.workspace(id)?.as_ref(), container).await,
            }
        };
        match start.await {
            Ok(()) => {}
            Err(error @ Error::Docker(docker::Error::Unreachable { .. } | docker::Error::Timeout { .. })) => {
                return Err(error);
            }
            Err(error @ (Error::Docker(_) | Error::Denied { .. } | Error::Project { .. })) => {
                tracing::warn!("cannot finish the start of {id} that a dead process had started: {error}");
                let reason =
                    format!("its start was interrupted because the process died, and it cannot be started: {error}");
                self.store.update_workspace(id, |workspace| workspace.degraded = Some(reason))?;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.mark_unfinished(id)?;
        tracing::warn!("finished the start of {id} that a dead process had started");
        Ok(())
    }

    /// Marks a workspace that was started without running its `post-start` policies.
    pub(in crate::lifecycle) fn mark_unfinished(&self, id: &WorkspaceId) -> Result<(), Error> {
        self.store.update_workspace(id, |workspace| {
            workspace.start_unfinished = true;
            workspace.degraded = Some(UNFINISHED.to_owned());
            workspace.stopped = None;
            workspace.last_activity = Some(Timestamp::now());
        })?;
        Ok(())
    }
}
