//! `up --recreate`: the old container is set aside, and comes back when the new one cannot be made.

use std::time::Duration;

use super::create::{Decided, Progress};
use super::reconcile::STRAGGLERS;
use super::{Error, Lifecycle, WorkspaceView};
use crate::docker;
use crate::store::{JournalEntry, Verb};
use crate::workspace::{Container, LABEL_HOST, LABEL_WORKSPACE, State, WorkspaceId};

/// What the name of a container that is set aside ends with.
const ASIDE: &str = "-replaced";

/// Whether a container is set aside.
pub(super) fn is_aside(container: &Container) -> bool {
    container.name.ends_with(ASIDE)
        && container.labels.get(LABEL_WORKSPACE).is_some_and(|id| {
            id.parse::<WorkspaceId>().is_ok_and(|id| container.name == format!("{}{ASIDE}", id.container_name()))
        })
}

impl Lifecycle {
    /// Makes a new container in the place of the old one. When that fails, the old one is back as it was.
    pub(super) async fn replace(
        &self,
        id: &WorkspaceId,
        old: &Container,
        decided: Decided,
        init: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        progress(Progress::Step(format!("replacing the container of {id}")));
        let ran = old.state == State::Running;
        let entry = self.store.begin_with(id, Verb::Replace, ran.then_some(JournalEntry::RAN))?;
        // Stopped before the new one starts: it may hold ports.
        let result = async {
            self.stop_locked(id, "remove", None).await?;
            self.docker.rename(&old.id, &format!("{}{ASIDE}", id.container_name())).await?;
            self.create(decided, init, progress).await
        };
        match result.await {
            Ok(view) => {
                self.remove_from_engine(id, old).await?;
                self.store.done(entry, "done")?;
                Ok(view)
            }
            Err(first) => match self.bring_back(id, ran).await.and_then(|()| Ok(self.store.done(entry, "undone")?)) {
                Ok(()) => Err(first),
                Err(undo) => Err(Error::NotUndone { first: Box::new(first), undo: undo.to_string() }),
            },
        }
    }

    /// Ends a replacement that was interrupted: the container that the store knows stays, the other one goes. The old one
    /// runs again if it ran.
    pub(super) async fn finish_replace(&self, entry: &JournalEntry) -> Result<(), Error> {
        let id = &entry.workspace;
        let known = self.store.workspace(id)?.map(|stored| stored.container_id);
        match self.aside(id).await? {
            Some(aside) if Some(&aside.id) == known.as_ref() => {
                let begin = tokio::time::Instant::now();
                loop {
                    // The creation was undone, but the engine may have been late with it.
                    self.remove_stragglers(id).await?;
                    match self.bring_back(id, false).await {
                        Err(Error::Docker(docker::Error::NameTaken { .. })) if begin.elapsed() < STRAGGLERS => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        other => break other?,
                    }
                }
            }
            Some(aside) => return self.remove_from_engine(id, &aside).await,
            None => {}
        }
        // Once: whoever stops it after that means it.
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

    async fn aside(&self, id: &WorkspaceId) -> Result<Option<Container>, Error> {
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_WORKSPACE, id.as_str())];
        Ok(self.docker.list(&labels, true).await?.into_iter().find(is_aside))
    }

    async fn bring_back(&self, id: &WorkspaceId, start: bool) -> Result<(), Error> {
        if let Some(aside) = self.aside(id).await? {
            self.docker.rename(&aside.id, &id.container_name()).await?;
        }
        if start && let Some(container) = self.container(id).await? {
            self.docker.start(&container.id).await?;
            // A start like any other: policies are asked, and what they want is done.
            if let Some(workspace) = self.store.workspace(id)? {
                let container = self.docker.inspect(&container.id).await?;
                self.after_start(workspace, container, false, &mut |_| {}).await?;
            }
        }
        Ok(())
    }
}
