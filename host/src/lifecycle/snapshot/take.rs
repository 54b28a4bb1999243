//! Snapshots: a workspace's writable layer as an image, with copies of its volumes beside it.
//!
//! No secret gets into a snapshot: a workspace with secret variables is stored as one layer of files without its
//! configuration, and secret files are no part of it. See [`super::restore`] for the way back.

use std::collections::BTreeMap;

use crate::docker::{self, CommitRequest};
use crate::hooks::redact::REDACTED;
use crate::lifecycle::error::Missing;
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{JournalEntry, Snapshot, Verb};
use crate::wire::Progress;
use crate::workspace::{
    Container, LABEL_ATTEMPT, LABEL_HOST, LABEL_IMAGE, LABEL_IMAGE_HOST, LABEL_IMAGE_NAME, LABEL_IMAGE_WORKSPACE,
    LABEL_MANAGED, LABEL_SNAPSHOT, LABEL_WORKSPACE, MountKind, State, WorkspaceId,
};

/// The limit of pieces of a volume's archive that wait in memory.
const WAITING: usize = 16;

impl Lifecycle {
    /// Takes a snapshot of a workspace. The workspace is frozen meanwhile, and resumes afterwards.
    ///
    /// # Errors
    /// [`Error::Request`] for a bad name or one that is taken, [`Error::NotRunning`] without a container, and the
    /// engine's; then nothing of the snapshot is left.
    pub async fn create_snapshot(
        &self,
        id: &WorkspaceId,
        name: Option<&str>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Snapshot, Error> {
        let _lock = self.lock(id).await?;
        let stored = self.store.workspace(id)?.ok_or_else(|| Error::not_found(id.to_string()))?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string(),
        };
        if !is_plain(&name) {
            let text =
                format!("'{name}' is not a snapshot name: use 1 to 40 of a-z, 0-9, '-' and '_', without a leading '-'");
            return Err(Error::Request(text));
        }
        let full = format!("{id}/{name}");
        if self.store.snapshot(&full)?.is_some() {
            return Err(Error::Request(format!("a snapshot '{full}' already exists; choose another --name")));
        }
        let image = format!("wharf/{id}:{}", tag(&name));
        // Another installation gives a workspace of the same folder the same ID.
        if self.docker.image(&image).await?.is_some_and(|image| !self.made_here(&image)) {
            let text = format!("an image '{image}' exists that this Wharf did not create; choose another --name");
            return Err(Error::Request(text));
        }
        let container = self
            .container(id)
            .await?
            .ok_or_else(|| Error::NotRunning { id: id.to_string(), state: State::Missing.to_string() })?;
        let freeze = container.state == State::Running;
        let entry = self.store.begin_with(id, Verb::Snapshot, freeze.then_some(JournalEntry::FROZEN))?;
        let kept = async {
            if freeze {
                self.docker.pause(&container.id).await?;
            }
            self.keep_as(entry, &container, &stored, &full, &name, progress).await
        };
        let kept = kept.await;
        // Whatever the result, the workspace resumes.
        let thawed = if freeze { self.thaw(&container.id).await } else { Ok(()) };
        match kept.and_then(|snapshot| thawed.map(|()| snapshot)) {
            Ok(snapshot) => {
                self.store.put_snapshot(&snapshot)?;
                self.store.done(entry, "done")?;
                Ok(snapshot)
            }
            Err(first) => Err(self.undo_snapshot(entry, first).await),
        }
    }

    async fn keep_as(
        &self,
        entry: i64,
        container: &Container,
        stored: &crate::store::Workspace,
        full: &str,
        name: &str,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Snapshot, Error> {
        let id = &stored.id;
        let repository = format!("wharf/{id}");
        let tag = tag(name);
        let image = format!("{repository}:{tag}");
        let attempt = entry.to_string();
        let labels = [
            (LABEL_IMAGE_HOST, self.store.host_id()),
            (LABEL_IMAGE_NAME, image.as_str()),
            (LABEL_IMAGE_WORKSPACE, id.as_str()),
            (LABEL_IMAGE, "snapshot"),
            (LABEL_SNAPSHOT, full),
            (LABEL_ATTEMPT, attempt.as_str()),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        progress(Progress::step(format!("saving {id} as {repository}:{tag}")));
        let spec = &stored.draft.spec;
        let request = CommitRequest {
            repository: &repository,
            tag: &tag,
            labels: &labels,
            blank_labels: container.labels.keys().cloned().collect(),
        };
        // The engine would store their values with the image, so only the files are taken.
        let hidden = |(name, value): (&String, &String)| self.secrets.contains(name) || value.contains(REDACTED);
        let words = spec.command.iter().chain(spec.health_check.iter().flat_map(|check| &check.command));
        let secrets =
            spec.env.iter().chain(&spec.labels).any(hidden) || words.into_iter().any(|word| word.contains(REDACTED));
        let from = if secrets { self.docker.image(&container.image_id).await? } else { None };
        let image_id = match from {
            Some(from) => self.docker.flatten(&container.id, &from, &request).await?,
            None if secrets => {
                return Err(docker::Error::ImageMissing { reference: container.image.clone() }.into());
            }
            None => self.docker.commit(&container.id, &request).await?,
        };
        let mut volumes = BTreeMap::new();
        for mount in spec.mounts.values().filter(|mount| mount.kind == MountKind::Volume) {
            self.check_interrupt()?;
            let copy = format!("{}-{tag}-{entry}", mount.source);
            progress(Progress::step(format!("copying the volume {}", mount.source)));
            let labels = self.volume_labels(id, full, &attempt);
            self.copy_volume(&image_id, &mount.source, &copy, &labels).await?;
            volumes.insert(mount.source.clone(), copy);
        }
        Ok(Snapshot {
            name: full.to_owned(),
            workspace: id.clone(),
            workspace_name: stored.name.clone(),
            project: stored.project.clone(),
            created_at: jiff::Timestamp::now(),
            image,
            image_id,
            volumes,
            spec: spec.clone(),
        })
    }

    pub(in crate::lifecycle) fn volume_labels(
        &self,
        id: &WorkspaceId,
        snapshot: &str,
        attempt: &str,
    ) -> BTreeMap<String, String> {
        let labels = [
            (LABEL_MANAGED, "true"),
            (LABEL_HOST, self.store.host_id()),
            (LABEL_IMAGE_WORKSPACE, id.as_str()),
            (LABEL_SNAPSHOT, snapshot),
            (LABEL_ATTEMPT, attempt),
        ];
        labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Copies all files of a volume into a new one, through a container that never runs.
    pub(in crate::lifecycle) async fn copy_volume(
        &self,
        image: &str,
        from: &str,
        to: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let made = self.docker.create_volume(to, labels).await?;
        if labels.iter().any(|(name, value)| made.labels.get(name) != Some(value)) {
            return Err(docker::Error::NotOurs { what: "volume", name: to.to_owned() }.into());
        }
        let copier = self.docker.create_copier(image, from, to, labels).await?;
        let copied = async {
            // The engine makes a missing volume: an empty one, with the labels of this attempt.
            let there = self.docker.volume(from).await?;
            if there.is_none_or(|volume| volume.labels.get(LABEL_ATTEMPT) == labels.get(LABEL_ATTEMPT)) {
                return Err(docker::Error::NotFound { what: "volume", name: from.to_owned() }.into());
            }
            let mut archive = self.docker.read_archive(&copier, "/from/.").await?;
            let (sender, pieces) = tokio::sync::mpsc::channel(WAITING);
            let read = async move {
                while let Some(bytes) = archive.next().await {
                    let bytes = bytes.map_err(|error| std::io::Error::other(error.to_string()));
                    // The writer itself reports why it stopped.
                    if sender.send(bytes).await.is_err() {
                        break;
                    }
                }
            };
            let (written, ()) = tokio::join!(self.docker.write_archive(&copier, "/to", pieces), read);
            Ok::<(), Error>(written?)
        };
        let copied = tokio::select! {
            copied = copied => copied,
            () = self.interrupted() => Err(Error::Interrupted),
        };
        self.remove_container(&copier).await?;
        copied
    }

    async fn thaw(&self, container: &str) -> Result<(), Error> {
        match self.docker.unpause(container).await {
            Ok(()) | Err(docker::Error::Conflict { .. } | docker::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::lifecycle) async fn undo_snapshot(&self, entry: i64, first: Error) -> Error {
        match self.remove_snapshot_attempt(entry).await.and_then(|()| Ok(self.store.done(entry, "undone")?)) {
            Ok(()) => first,
            Err(undo) => self.not_undone(entry, first, &undo),
        }
    }

    /// Removes the objects that were made under a journal entry of a snapshot or restore: helpers, volumes, and an
    /// image that no snapshot knows.
    async fn remove_snapshot_attempt(&self, entry: i64) -> Result<(), Error> {
        let attempt = entry.to_string();
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_ATTEMPT, attempt.as_str())];
        for container in self.docker.list(&labels, true).await? {
            self.remove_container(&container.id).await?;
        }
        for volume in self.docker.our_volumes(&[(LABEL_ATTEMPT, attempt.as_str())]).await? {
            self.docker.remove_volume(&volume.name).await?;
        }
        let known = self.store.snapshots(None)?;
        let labels = [(LABEL_IMAGE_HOST, self.store.host_id()), (LABEL_ATTEMPT, attempt.as_str())];
        for (image, _) in self.docker.labelled_images(&labels).await? {
            if known.iter().any(|snapshot| snapshot.image_id == image.id) {
                continue;
            }
            // A later snapshot of the same name has taken the name away.
            let names = if image.references.is_empty() { vec![image.id] } else { image.references };
            for name in names {
                self.docker.remove_image(&name).await?;
            }
        }
        Ok(())
    }

    /// Ends an interrupted snapshot or restore, under its workspace's lock. Returns whether it was complete except for
    /// the journal: then the snapshot, or the workspace made from it, is stored, and its objects stay.
    pub(in crate::lifecycle) async fn finish_snapshot(&self, entry: &JournalEntry) -> Result<bool, Error> {
        // A workspace that its user had paused stays paused.
        if entry.detail.as_deref() == Some(JournalEntry::FROZEN)
            && let Some(container) = self.container(&entry.workspace).await?
            && container.state == State::Paused
        {
            self.thaw(&container.id).await?;
        }
        let attempt = entry.id.to_string();
        let volumes = self.docker.our_volumes(&[(LABEL_ATTEMPT, attempt.as_str())]).await?;
        let labels = [(LABEL_IMAGE_HOST, self.store.host_id()), (LABEL_ATTEMPT, attempt.as_str())];
        let images = self.docker.labelled_images(&labels).await?;
        let (kept, workspaces) = (self.store.snapshots(None)?, self.store.workspaces()?);
        let written = images.iter().any(|(image, _)| kept.iter().any(|snapshot| snapshot.image_id == image.id))
            || workspaces.iter().flat_map(|stored| stored.draft.spec.mounts.values()).any(|mount| {
                mount.kind == MountKind::Volume && volumes.iter().any(|volume| volume.name == mount.source)
            });
        if !written {
            self.remove_snapshot_attempt(entry.id).await?;
        }
        Ok(written)
    }

    /// Returns snapshots, sorted by name: all, or those of a workspace.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshots(&self, id: Option<&WorkspaceId>) -> Result<Vec<Snapshot>, Error> {
        Ok(self.store.snapshots(id)?)
    }

    /// Returns one snapshot.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none of this name.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let none = || Error::Missing { what: Missing::Snapshot, name: name.to_owned() };
        self.store.snapshot(name)?.ok_or_else(none)
    }

    /// Removes a snapshot: its image and the copies of its volumes. Workspaces that were made from it stay.
    ///
    /// # Errors
    /// [`Error::InUse`] while a container uses its image.
    pub async fn remove_snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let snapshot = self.snapshot(name)?;
        self.check_unused(&snapshot).await?;
        if let Some(image) = self.image_of(&snapshot).await? {
            // Names that others have given it stay, and the image with them.
            let nameless = self.docker.image(&image).await?.is_some_and(|image| image.references.is_empty());
            if image == snapshot.image || nameless {
                self.docker.remove_image(&image).await?;
            }
        }
        for volume in snapshot.volumes.values() {
            self.docker.remove_volume(volume).await?;
        }
        self.store.remove_snapshot(name)?;
        Ok(snapshot)
    }

    /// Removes an image for a sweep. For a snapshot's image the record is removed first, so that there is never a
    /// record that cannot be restored. If this process ends in between, the next sweep finds the rest and the copies of
    /// its volumes, each with a separate verdict.
    pub(in crate::lifecycle) async fn sweep_image(&self, reference: &str, id: &str) -> Result<(), Error> {
        let named = |kept: &Snapshot| kept.image_id == id && (kept.image == reference || id == reference);
        let kept = self.store.snapshots(None)?.into_iter().find(named);
        if let Some(kept) = &kept {
            self.store.remove_snapshot(&kept.name)?;
        }
        let removed = self.docker.remove_image(reference).await;
        if let (Err(_), Some(kept)) = (&removed, &kept) {
            self.store.put_snapshot(kept)?;
        }
        Ok(removed.map(drop)?)
    }

    /// Returns the image of a snapshot, if the engine has it: under its name, or by its ID when the name is gone or
    /// means another image now.
    pub(in crate::lifecycle) async fn image_of(&self, snapshot: &Snapshot) -> Result<Option<String>, Error> {
        if self.docker.image(&snapshot.image).await?.is_some_and(|image| image.id == snapshot.image_id) {
            return Ok(Some(snapshot.image.clone()));
        }
        let image = self.docker.image(&snapshot.image_id).await?.filter(|image| self.made_here(image));
        Ok(image.map(|image| image.id))
    }

    fn made_here(&self, image: &docker::ImageInfo) -> bool {
        image.labels.get(LABEL_IMAGE_HOST).is_some_and(|host| host == self.store.host_id())
    }

    async fn check_unused(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let all = self.docker.list(&[], true).await?;
        let Some(user) = all.iter().find(|container| container.image_id == snapshot.image_id) else { return Ok(()) };
        let label = |key: &str| user.labels.get(key).map(String::as_str);
        let ours = label(LABEL_WORKSPACE).filter(|_| label(LABEL_HOST) == Some(self.store.host_id()));
        let (who, remedy) = match ours {
            Some(id) => (format!("the workspace {id}"), format!("remove it first: 'wharf down {id}'")),
            None => (format!("the container {}", user.name), "remove it first".to_owned()),
        };
        Err(Error::InUse { text: format!("{who} uses the image of the snapshot {}", snapshot.name), remedy })
    }
}

/// Returns the tag of the image of a snapshot.
fn tag(name: &str) -> String {
    format!("snapshot-{name}")
}

fn is_plain(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    (1..=40).contains(&name.len()) && !name.starts_with('-') && name.chars().all(letter)
}
