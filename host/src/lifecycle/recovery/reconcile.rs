//! Reconciling: finishing or undoing the unfinished work of dead processes.
//!
//! An intent belongs to a process, identified by its ID and start time. While that process is alive its work is left
//! alone. After its death, the objects that it made under that journal entry (and nothing else) are removed.
//!
//! The engine carries out a request even after the requesting process has died, so a container or network may appear
//! after its creation was undone. The intent therefore stays open for [`STRAGGLERS`]. Each command in this time, and
//! the first one after it, undoes it again.

use std::time::Duration;

use crate::docker;
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{JournalEntry, Verb};
use crate::workspace::{Container, LABEL_ATTEMPT, LABEL_HOST, LABEL_WORKSPACE, WorkspaceId};

/// The longest delay with which the engine carries out a request of a dead process.
pub(in crate::lifecycle) const STRAGGLERS: Duration = Duration::from_secs(10);

/// Workspaces and numbers of creations, see [`Lifecycle::undone_attempts`].
pub(in crate::lifecycle) struct UndoneAttempts(Vec<(WorkspaceId, String)>);

impl UndoneAttempts {
    /// Returns whether one of them made a container.
    pub(in crate::lifecycle) fn holds(&self, container: &Container) -> bool {
        let label = |key: &str| container.labels.get(key).map(String::as_str).unwrap_or_default();
        self.0.iter().any(|(id, attempt)| label(LABEL_WORKSPACE) == id.as_str() && label(LABEL_ATTEMPT) == attempt)
    }
}

/// Returns the number of the creation that made an object, from its label; 0 without the label.
pub(in crate::lifecycle) fn attempt_of(labels: &std::collections::BTreeMap<String, String>) -> i64 {
    labels.get(LABEL_ATTEMPT).and_then(|attempt| attempt.parse().ok()).unwrap_or_default()
}

/// Returns the entries of dead processes in the order in which they must be reconciled. Steps inside a replacement or a
/// restart have their own, newer entries, which come before the outer one.
fn left(open: Vec<JournalEntry>) -> Vec<JournalEntry> {
    let left = open.into_iter().filter(|entry| !entry.owner.alive());
    let (outer, mut all): (Vec<_>, Vec<_>) = left.partition(|entry| matches!(entry.verb, Verb::Replace | Verb::Start));
    all.extend(outer);
    all
}

impl Lifecycle {
    /// Undoes or finishes the intents of dead processes. Returns the failures: those intents stay for the next time,
    /// and other workspaces can be used meanwhile.
    ///
    /// # Errors
    /// When the engine is unreachable or the store fails.
    pub async fn reconcile(&self) -> Result<Vec<String>, Error> {
        let mut failed = Vec::new();
        for entry in left(self.store.open_entries()?) {
            // If another process is reconciling the same entry right now, it is left to that process.
            let Some(_lock) = self.store.try_lock(&entry.workspace)? else { continue };
            failed.extend(self.put_right(&entry).await?);
        }
        Ok(failed)
    }

    /// Reconciles one workspace, whose lock is held.
    pub(in crate::lifecycle) async fn put_right_first(&self, id: &WorkspaceId) -> Result<(), Error> {
        let open = self.store.open_entries()?.into_iter().filter(|entry| entry.workspace == *id).collect();
        for entry in left(open) {
            if let Some(failure) = Box::pin(self.put_right(&entry)).await? {
                tracing::warn!("{failure}");
            }
        }
        Ok(())
    }

    /// Reconciles one entry, with its workspace's lock held; returns the reason if it cannot be reconciled.
    async fn put_right(&self, entry: &JournalEntry) -> Result<Option<String>, Error> {
        // Its process, or another one that reconciles, may have ended it just before.
        if !self.store.is_open(entry.id)? {
            return Ok(None);
        }
        match self.put_right_locked(entry).await {
            Err(error @ (Error::Store(_) | Error::Docker(docker::Error::Unreachable { .. }))) => Err(error),
            Err(error) => {
                let (verb, id) = (entry.verb.as_str(), &entry.workspace);
                Ok(Some(format!("cannot finish or undo the work of a dead process yet ({verb} {id}): {error}")))
            }
            Ok(()) => Ok(None),
        }
    }

    async fn put_right_locked(&self, entry: &JournalEntry) -> Result<(), Error> {
        let id = &entry.workspace;
        match entry.verb {
            Verb::Create => {
                // If the workspace was written before the entry ended, only the last step is missing.
                let attempt = entry.id.to_string();
                let container = self.container(id).await?;
                let made = container.filter(|container| container.labels.get(LABEL_ATTEMPT) == Some(&attempt));
                let stored = self.store.workspace(id)?;
                if let (Some(made), Some(stored)) = (made, stored)
                    && made.id == stored.container_id
                {
                    if stored.start_unfinished {
                        self.mark_unfinished(id)?;
                    }
                    return Ok(self.store.done(entry.id, "finished by another process")?);
                }
                self.remove_attempt(entry.id, id).await?;
                self.undone(entry, "undid the creation")
            }
            Verb::Snapshot => {
                if self.finish_snapshot(entry).await? {
                    return Ok(self.store.done(entry.id, "finished by another process")?);
                }
                self.undone(entry, "undid a snapshot or restore")
            }
            Verb::Update => {
                self.restore_limits(id).await?;
                tracing::warn!("undid a change of the limits of {id} that a dead process had started");
                Ok(self.store.done(entry.id, "undone by another process")?)
            }
            Verb::Stop => {
                self.finish_stop(entry).await?;
                Ok(self.store.done(entry.id, "finished by another process")?)
            }
            Verb::Start => {
                self.finish_start(entry).await?;
                Ok(self.store.done(entry.id, "finished by another process")?)
            }
            Verb::Replace => {
                self.finish_replace(entry).await?;
                self.undone(entry, "finished or undid the replacement")
            }
            // The workspace was recreated since; the ID alone does not distinguish the two.
            Verb::Remove
                if self.container(id).await?.is_some_and(|container| attempt_of(&container.labels) > entry.id) =>
            {
                Ok(self.store.done(entry.id, "left, there is a new one")?)
            }
            Verb::Remove => {
                for sidecar in self.sidecars(id).await? {
                    if let Some(container) = self.container(&sidecar).await? {
                        self.remove_container(&container.id).await?;
                    }
                    self.store.remove_workspace(&sidecar)?;
                    self.remove_secrets(&sidecar)?;
                }
                if let Some(container) = self.container(id).await? {
                    self.remove_container(&container.id).await?;
                }
                self.drop_networks(id).await?;
                self.store.remove_workspace(id)?;
                self.remove_secrets(id)?;
                let owners = entry.detail.iter().flat_map(|detail| detail.split(' ').map(str::parse));
                let owners: Vec<WorkspaceId> = owners.collect::<Result<_, _>>().map_err(Error::Internal)?;
                // This failure is logged and not retried: by then there may be a new workspace with the same ID.
                if let Err(error) = self.remove_volumes(&owners, None, Some(entry.id)).await {
                    tracing::warn!("volumes of {id} are kept: {error}");
                }
                tracing::warn!("finished the removal of {id} that a dead process had started");
                Ok(self.store.done(entry.id, "finished by another process")?)
            }
        }
    }

    /// Removes the objects of an attempt, so that nothing of it is left. Returns the error to report.
    pub(in crate::lifecycle) async fn undo(&self, entry: i64, id: &WorkspaceId, first: Error) -> Error {
        match self.remove_attempt(entry, id).await.and_then(|()| Ok(self.store.done(entry, "undone")?)) {
            Ok(()) => first,
            Err(undo) => self.not_undone(entry, first, &undo),
        }
    }

    /// Leaves an intent that could be neither carried out nor undone. It stays open and belongs to no process, so that
    /// the next process reconciles it.
    pub(in crate::lifecycle) fn not_undone(&self, entry: i64, first: Error, undo: &Error) -> Error {
        if let Err(error) = self.store.abandon(entry) {
            tracing::warn!("the rest is undone only after this process has ended: {error}");
        }
        Error::NotUndone { first: Box::new(first), undo: undo.to_string() }
    }

    /// Records that an intent was undone, and ends it once the engine cannot be late any more.
    fn undone(&self, entry: &JournalEntry, what: &str) -> Result<(), Error> {
        match entry.undone.map(|time| jiff::Timestamp::now().duration_since(time)) {
            None => {
                tracing::warn!("{what} of {} that a dead process had started", entry.workspace);
                Ok(self.store.undone(entry.id)?)
            }
            Some(age) if age.unsigned_abs() < STRAGGLERS => Ok(()),
            Some(_) => Ok(self.store.done(entry.id, "undone by another process")?),
        }
    }

    /// Returns the undone creations that the engine may still carry out.
    pub(in crate::lifecycle) fn undone_attempts(&self) -> Result<UndoneAttempts, Error> {
        let open = self.store.open_entries()?.into_iter();
        let undone = open.filter(|entry| entry.verb == Verb::Create && entry.undone.is_some());
        Ok(UndoneAttempts(undone.map(|entry| (entry.workspace, entry.id.to_string())).collect()))
    }

    /// Removes late objects of undone creations of a workspace. Returns whether there were such creations.
    pub(in crate::lifecycle) async fn remove_stragglers(&self, id: &WorkspaceId) -> Result<bool, Error> {
        let undone = self.undone_attempts()?;
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_WORKSPACE, id.as_str())];
        for container in self.docker.list(&labels, true).await?.iter().filter(|container| undone.holds(container)) {
            if self.is_ours(container)? {
                self.remove_container(&container.id).await?;
            }
        }
        Ok(undone.0.iter().any(|(workspace, _)| workspace == id))
    }

    /// Removes the objects that were made under one journal entry: its container, and the workspace's own network if
    /// nothing uses it.
    pub(in crate::lifecycle) async fn remove_attempt(&self, entry: i64, id: &WorkspaceId) -> Result<(), Error> {
        let attempt = entry.to_string();
        let labels =
            [(LABEL_HOST, self.store.host_id()), (LABEL_WORKSPACE, id.as_str()), (LABEL_ATTEMPT, attempt.as_str())];
        for container in self.docker.list(&labels, true).await? {
            if self.is_ours(&container)? {
                self.remove_container(&container.id).await?;
            }
        }
        // The engine makes missing volumes implicitly. The volumes of this attempt are empty, and no other container
        // uses them yet.
        for volume in self.docker.our_volumes(&[(LABEL_ATTEMPT, attempt.as_str())]).await? {
            if let Err(error) = self.docker.remove_volume(&volume.name).await {
                tracing::warn!("cannot remove the volume '{}' of an undone creation: {error}", volume.name);
            }
        }
        if self.store.workspace(id)?.is_none() {
            self.remove_secrets(id)?;
        }
        self.drop_networks(id).await
    }

    /// Removes a container. A missing container is no error, and a container that is being removed is waited for.
    pub(in crate::lifecycle) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        use crate::docker::Error as E;
        let begin = tokio::time::Instant::now();
        loop {
            match self.docker.remove(id, true, true).await {
                Ok(()) | Err(E::NotFound { .. }) => return Ok(()),
                Err(E::Conflict { .. }) if begin.elapsed() < STRAGGLERS => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // "device or resource busy": the kernel has not yet released its file system.
                Err(E::Engine { message, .. }) if message.contains("busy") && begin.elapsed() < STRAGGLERS => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
