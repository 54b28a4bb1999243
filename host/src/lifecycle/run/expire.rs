//! Stops by the service: workspaces whose time to live is over, and idle ones (see `idle`).

use std::time::Duration;

use jiff::Timestamp;

use crate::docker;
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::{Event, Happening, State, WorkspaceId};

impl Lifecycle {
    /// Returns the end of the time to live of each running container, soonest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn deadlines(&self) -> Result<Vec<(Timestamp, WorkspaceId)>, Error> {
        let limits = self.store.times_to_live()?;
        if limits.is_empty() {
            return Ok(Vec::new());
        }
        let mut deadlines = Vec::new();
        for state in self.store.states()? {
            let Some(&limit) = limits.get(&state.container_id) else { continue };
            if matches!(state.state, State::Running | State::Paused)
                && let Some(started) = state.started_at
                && let Ok(end) = started.checked_add(Duration::from_millis(limit))
            {
                deadlines.push((end, state.workspace));
            }
        }
        deadlines.sort();
        Ok(deadlines)
    }

    /// Stops a workspace if its time to live is over once its lock is free. Returns the reason if it was stopped.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn expire(&self, id: &WorkspaceId) -> Result<Option<String>, Error> {
        let _lock = self.lock(id).await?;
        let Some(workspace) = self.store.workspace(id)? else { return Ok(None) };
        let Some(limit) = workspace.draft.spec.time_to_live_ms.map(Duration::from_millis) else { return Ok(None) };
        let container = match self.docker.inspect(&workspace.container_id).await {
            Ok(container) => container,
            Err(docker::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let over = container.started_at.and_then(|started| started.checked_add(limit).ok());
        let runs = matches!(container.state, State::Running | State::Paused);
        if !runs || over.is_none_or(|over| over > Timestamp::now()) {
            return Ok(None);
        }
        let reason = format!("its time to live of {} is over", crate::config::Span(limit));
        self.stop_by_service(id, Happening::Expired, &reason).await?;
        Ok(Some(reason))
    }

    /// Stops a workspace, whose lock is held, with its sidecars and the hook `pre-stop`, and records the reason.
    pub(in crate::lifecycle) async fn stop_by_service(
        &self,
        id: &WorkspaceId,
        why: Happening,
        reason: &str,
    ) -> Result<(), Error> {
        let Some(workspace) = self.store.workspace(id)? else { return Ok(()) };
        let event = Event {
            time: Timestamp::now(),
            workspace: id.clone(),
            part_of: workspace.part_of,
            container_id: workspace.container_id,
            what: why,
            exit_code: None,
            detail: None,
        };
        self.tell(&event, why, reason)?;
        // This is written before the stop, so that a command right after the stop sees that it may start the workspace
        // again.
        self.store.update_workspace(id, |workspace| workspace.stopped = Some(why))?;
        self.stop_with_sidecars(id, "stop", None).await?;
        self.add_notes(id, vec![format!("stopped by the service: {reason}")])
    }
}
