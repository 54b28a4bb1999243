//! `up --recreate`: the old container is set aside, and restored when the new one cannot be made.

use std::time::Duration;

use crate::docker;
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::recovery::reconcile::{STRAGGLERS, attempt_of};
use crate::lifecycle::run::stop::lives;
use crate::lifecycle::{Error, Lifecycle, WorkspaceView};
use crate::store::{JournalEntry, Verb};
use crate::wire::Progress;
use crate::workspace::{Container, LABEL_HOST, LABEL_WORKSPACE, State, WorkspaceId};

/// The suffix of the name of a container that is set aside; no ID of a sidecar contains a dot.
const ASIDE: &str = ".replaced";

/// Returns whether a container is set aside.
pub(in crate::lifecycle) fn is_aside(container: &Container) -> bool {
    container.name.ends_with(ASIDE)
        && container.labels.get(LABEL_WORKSPACE).is_some_and(|id| {
            id.parse::<WorkspaceId>().is_ok_and(|id| container.name == format!("{}{ASIDE}", id.container_name()))
        })
}

impl Lifecycle {
    /// Makes a new container in place of the old one. If that fails, the old one is restored in its former state.
    pub(in crate::lifecycle) async fn replace(
        &self,
        id: &WorkspaceId,
        old: &Container,
        decided: Decided,
        init: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        progress(Progress::step(format!("replacing the container of {id}")));
        if self.aside(id).await?.is_some() {
            // The lock was just taken, and that already tried to remove the container.
            let cause = "cannot remove the container that an earlier replacement set aside yet".to_owned();
            return Err(docker::Error::Conflict { operation: "replace the container", cause }.into());
        }
        let entry = self.store.begin_with(id, Verb::Replace, lives(old).then_some(JournalEntry::RAN))?;
        // The old one is stopped before the new one starts, because it may hold ports.
        let before = self.store.workspace(id)?.map(|stored| stored.container_id);
        let result = async {
            self.secrets_aside(id)?;
            self.stop_locked(id, "remove", None).await?;
            self.docker.rename(&old.id, &format!("{}{ASIDE}", id.container_name())).await?;
            self.create(self.store.begin(id, Verb::Create)?, decided, init, progress).await
        };
        let result = result.await;
        let known = self.store.workspace(id).ok().flatten().map(|stored| stored.container_id);
        if known.is_some() && known != before {
            // The new container is made, even if a later step failed or was interrupted.
            match self.remove_from_engine(id, old).await.and_then(|()| self.secrets_replaced(id)) {
                Ok(()) => self.store.done(entry, "done")?,
                Err(error) => {
                    tracing::warn!("the previous container of {id} is kept for now: {error}");
                    self.store.abandon(entry)?;
                }
            }
            return result;
        }
        let first = match result {
            Err(error) => error,
            Ok(_) => Error::Internal(format!("{id} was replaced but is not in the store")),
        };
        match self.bring_back(id, old.state).await.and_then(|()| Ok(self.store.done(entry, "undone")?)) {
            Ok(()) => Err(first),
            Err(undo) => Err(self.not_undone(entry, first, &undo)),
        }
    }

    /// Ends an interrupted replacement: the container that the store knows stays, the other one is removed. The old one
    /// runs again if it ran.
    pub(in crate::lifecycle) async fn finish_replace(&self, entry: &JournalEntry) -> Result<(), Error> {
        let id = &entry.workspace;
        let known = self.store.workspace(id)?.map(|stored| stored.container_id);
        match self.aside(id).await? {
            Some(aside) if Some(&aside.id) == known.as_ref() => {
                let begin = tokio::time::Instant::now();
                loop {
                    // The creation was undone, but the engine may have been late with it.
                    self.remove_stragglers(id).await?;
                    match self.bring_back(id, State::Exited).await {
                        Err(Error::Docker(docker::Error::NameTaken { .. })) if begin.elapsed() < STRAGGLERS => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        other => break other?,
                    }
                }
            }
            Some(aside) => {
                self.remove_from_engine(id, &aside).await?;
                return self.secrets_replaced(id);
            }
            None => match self.container(id).await? {
                Some(container) if attempt_of(&container.labels) > entry.id => return self.secrets_replaced(id),
                _ => self.secrets_back(id)?,
            },
        }
        // Only once: a later stop is deliberate.
        let first = entry.undone.is_none();
        if first
            && entry.detail.as_deref() == Some(JournalEntry::RAN)
            && let Some(container) = self.container(id).await?
        {
            let container = self.docker.inspect(&container.id).await?;
            let old = container.started_at.is_some_and(|time| time < entry.begun);
            if old && container.state == State::Exited {
                self.start_again(id, &container).await?;
            }
        }
        Ok(())
    }

    /// Returns whether a workspace without a current container is being replaced: the old container is set aside, and
    /// is removed when the new one exists.
    pub(in crate::lifecycle) async fn is_replaced(&self, id: &WorkspaceId) -> Result<bool, Error> {
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_WORKSPACE, id.as_str())];
        for container in self.docker.list(&labels, true).await? {
            if self.is_ours(&container)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn aside(&self, id: &WorkspaceId) -> Result<Option<Container>, Error> {
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_WORKSPACE, id.as_str())];
        Ok(self.docker.list(&labels, true).await?.into_iter().find(is_aside))
    }

    /// Restores the name of the container that is set aside, and the state that it was in.
    async fn bring_back(&self, id: &WorkspaceId, state: State) -> Result<(), Error> {
        if let Some(aside) = self.aside(id).await? {
            self.docker.rename(&aside.id, &id.container_name()).await?;
        }
        self.secrets_back(id)?;
        if let Some(container) = self.container(id).await?.filter(|container| container.state != state)
            && matches!(state, State::Running | State::Restarting | State::Paused)
        {
            // This is a start like any other: policies are evaluated, and their actions carried out.
            match self.start_existing(id, &container, &mut |_| {}).await {
                Ok(_) | Err(Error::LeftOff(_)) => {}
                Err(error) => return Err(error),
            }
            if state == State::Paused {
                self.docker.pause(&container.id).await?;
            }
        }
        Ok(())
    }
}
