//! Restarting failing workspaces, and giving up.

use jiff::Timestamp;

use crate::docker;
use crate::lifecycle::observe::events::same_time;
use crate::lifecycle::{Error, Lifecycle};
use crate::store::JournalEntry;
use crate::workspace::{Container, Event, Happening, Restart, State};

/// The reason for a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its health check reports it as unhealthy.
    Unhealthy,
    /// It ended by itself with this code.
    Failed(i64),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unhealthy => f.write_str("unhealthy"),
            Self::Failed(code) => write!(f, "exited with code {code}"),
        }
    }
}

impl Lifecycle {
    /// Restarts a workspace if it is still in the trouble that an event reported: with `pre-stop` before and
    /// `post-start` after, as `restart` does. `which` is the number of the attempt. Returns whether it was done.
    ///
    /// # Errors
    /// When the engine or the store fails. The attempt is in the history all the same.
    pub async fn recover(&self, event: &Event, trouble: Trouble, which: &str) -> Result<bool, Error> {
        let id = &event.workspace;
        let _lock = self.lock(id).await?;
        let Some(container) = self.in_trouble(event, trouble).await? else { return Ok(false) };
        // This comes first, so that an attempt that fails, or ends this process, counts.
        self.tell(event, Happening::Recovered, &format!("{trouble}; {which}"))?;
        // This precedes the stop: a workspace that cannot be started again must not be stopped.
        self.check_stored_mounts(self.store.workspace(id)?.as_ref(), &container).await?;
        if trouble == Trouble::Unhealthy {
            self.before_stop(id, &container, "restart").await?;
        }
        let timeout = self.loaded().config.engine.stop_timeout.0;
        let restart = async {
            // If this process ends meanwhile, the next one starts it again.
            self.docker.stop(&container.id, timeout).await?;
            self.start_container(self.store.workspace(id)?.as_ref(), &container).await?;
            let container = self.docker.inspect(&container.id).await?;
            if let Some(mut workspace) = self.store.workspace(id)? {
                workspace.last_activity = Some(Timestamp::now());
                self.after_start(workspace, container, false, &mut |_| {}).await?;
            }
            Ok(())
        };
        self.starting(id, Some(JournalEntry::RESTART), restart).await?;
        self.add_notes(id, vec![format!("restarted by the service: {trouble} ({which})")])?;
        Ok(true)
    }

    /// Leaves a workspace that is still in trouble as it is, and marks it degraded. Returns whether it was.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn give_up(&self, event: &Event, trouble: Trouble, budget: &str) -> Result<bool, Error> {
        let id = &event.workspace;
        let _lock = self.lock(id).await?;
        if self.in_trouble(event, trouble).await?.is_none() {
            return Ok(false);
        }
        let reason = format!("{trouble}, and not restarted again: the restart budget of {budget} is used up");
        self.tell(event, Happening::GivenUp, &reason)?;
        self.store.update_workspace(id, |workspace| workspace.degraded = Some(reason))?;
        Ok(true)
    }

    /// Returns the workspace's container, if it is still the one of the event and in that trouble.
    async fn in_trouble(&self, event: &Event, trouble: Trouble) -> Result<Option<Container>, Error> {
        let Some(workspace) = self.store.workspace(&event.workspace)? else { return Ok(None) };
        if workspace.container_id != event.container_id {
            return Ok(None);
        }
        // An inspection instead of a list: while the engine sends the event, a list still has the earlier state.
        let container = match self.docker.inspect(&event.container_id).await {
            Ok(container) => container,
            Err(docker::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is = match trouble {
            Trouble::Unhealthy => container.state == State::Running && container.health.as_deref() == Some("unhealthy"),
            Trouble::Failed(_) => {
                // Another client may have started and stopped it meanwhile, or the engine may restart it by itself.
                let same = self
                    .store
                    .state(&container.id)?
                    .is_some_and(|s| same_time(s.finished_at, Some(event.time)) && !s.end_requested);
                same && container.state == State::Exited && workspace.draft.spec.restart == Restart::No
            }
        };
        Ok(is.then_some(container))
    }

    /// Records an action of Wharf in the history.
    pub(in crate::lifecycle) fn tell(&self, about: &Event, what: Happening, detail: &str) -> Result<(), Error> {
        let detail = Some(detail.to_owned());
        self.store.note_event(&Event { time: Timestamp::now(), what, exit_code: None, detail, ..about.clone() })?;
        Ok(())
    }
}
