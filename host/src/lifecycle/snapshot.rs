//! Snapshots: a workspace's writable layer as an image, with copies of its volumes beside it.
//!
//! Nothing secret gets into one: a workspace with secret variables is kept as one layer of files without its configuration,
//! and secret files are no part of it. A restore is a creation like any other: the policies decide about it, with the snapshot as its request.

use std::collections::BTreeMap;

use super::create::{LABEL_ATTEMPT, Progress, Recreate};
use super::secret_files::SECRETS_TARGET;
use super::{Error, Lifecycle, Project, WorkspaceRequest, WorkspaceView};
use crate::docker::{self, CommitRequest};
use crate::hooks::Adjustment;
use crate::hooks::adjust::diff;
use crate::hooks::redact::REDACTED;
use crate::store::{Snapshot, Verb};
use crate::workspace::{
    Container, ContainerSpec, LABEL_HOST, LABEL_IMAGE, LABEL_IMAGE_HOST, LABEL_IMAGE_WORKSPACE, LABEL_MANAGED,
    LABEL_SNAPSHOT, LABEL_WORKSPACE, MountKind, State, WorkspaceId,
};

/// Pieces of a volume's archive that wait in memory.
const WAITING: usize = 16;

/// How a snapshot is restored.
#[derive(Debug, Clone, Default)]
pub struct RestoreRequest {
    /// Makes another workspace of this name for the same project; otherwise the workspace itself is made anew.
    pub name: Option<String>,
    /// Environment, beside what the snapshot has: values of secrets are no part of it.
    pub env: BTreeMap<String, String>,
    /// Whether a workspace that exists may be replaced.
    pub recreate: bool,
}

impl Lifecycle {
    /// Keeps a workspace as it is now. It is frozen meanwhile, and goes on afterwards.
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
        let stored = self.store.workspace(id)?.ok_or_else(|| Error::NotFound(id.to_string()))?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string(),
        };
        if !is_plain(&name) {
            let text = format!("'{name}' is no snapshot's name: 1 to 40 of a-z, 0-9, '-' and '_', not first a '-'");
            return Err(Error::Request(text));
        }
        let full = format!("{id}/{name}");
        if self.store.snapshot(&full)?.is_some() {
            return Err(Error::Request(format!("there is a snapshot '{full}' already; choose another --name")));
        }
        let container = self.container(id).await?.ok_or_else(|| Error::NotRunning {
            id: id.to_string(),
            state: "missing (make it again with 'wharf up')".into(),
        })?;
        let entry = self.store.begin(id, Verb::Snapshot)?;
        let freeze = container.state == State::Running;
        let kept = async {
            if freeze {
                self.docker.pause(&container.id).await?;
            }
            self.keep_as(entry, &container, &stored, &full, &name, progress).await
        };
        let kept = kept.await;
        // Whatever came of it, the workspace goes on.
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
        let tag = format!("snapshot-{name}");
        let attempt = entry.to_string();
        let labels = [
            (LABEL_IMAGE_HOST, self.store.host_id()),
            (LABEL_IMAGE_WORKSPACE, id.as_str()),
            (LABEL_IMAGE, "snapshot"),
            (LABEL_SNAPSHOT, full),
            (LABEL_ATTEMPT, attempt.as_str()),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        progress(Progress::Step(format!("keeping {id} as {repository}:{tag}")));
        let spec = &stored.draft.spec;
        let request = CommitRequest {
            repository: &repository,
            tag: &tag,
            labels: &labels,
            blank_labels: container.labels.keys().cloned().collect(),
        };
        // The engine would keep their values beside the image; then only the files are taken.
        let secrets = spec.env.keys().any(|name| self.secrets.contains(name));
        let from = if secrets { self.docker.image(&container.image_id).await? } else { None };
        let image_id = match from {
            Some(from) => self.docker.flatten(&container.id, &from, &request).await?,
            None if secrets => {
                return Err(docker::Error::ImageMissing { reference: container.image.clone() }.into());
            }
            None => self.docker.commit(&container.id, &request).await?,
        };
        let image = format!("{repository}:{tag}");
        let mut volumes = BTreeMap::new();
        for mount in spec.mounts.values().filter(|mount| mount.kind == MountKind::Volume) {
            self.check_interrupt()?;
            let copy = format!("{}-{tag}-{entry}", mount.source);
            progress(Progress::Step(format!("copying the volume {}", mount.source)));
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

    fn volume_labels(&self, id: &WorkspaceId, snapshot: &str, attempt: &str) -> BTreeMap<String, String> {
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
    async fn copy_volume(
        &self,
        image: &str,
        from: &str,
        to: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let copier = self.docker.create_copier(image, from, to, labels).await?;
        let copied = async {
            let mut archive = self.docker.read_archive(&copier, "/from/.").await?;
            let (sender, pieces) = tokio::sync::mpsc::channel(WAITING);
            let read = async move {
                while let Some(bytes) = archive.next().await {
                    let bytes = bytes.map_err(|error| std::io::Error::other(error.to_string()));
                    // Who writes says itself why it does not go on.
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

    async fn undo_snapshot(&self, entry: i64, first: Error) -> Error {
        match self.remove_snapshot_attempt(entry).await.and_then(|()| Ok(self.store.done(entry, "undone")?)) {
            Ok(()) => first,
            Err(undo) => Error::NotUndone { first: Box::new(first), undo: undo.to_string() },
        }
    }

    /// Removes what was made under a journal entry of a snapshot or restore: helpers, volumes, and an image that no
    /// snapshot knows.
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

    /// Ends a snapshot or restore that was interrupted, under its workspace's lock. Says whether it had come to its end
    /// but for the journal: then the snapshot, or the workspace made from it, is written, and what it has stays.
    pub(super) async fn finish_snapshot(&self, entry: i64, id: &WorkspaceId) -> Result<bool, Error> {
        if let Some(container) = self.container(id).await?.filter(|container| container.state == State::Paused) {
            self.thaw(&container.id).await?;
        }
        let attempt = entry.to_string();
        let volumes = self.docker.our_volumes(&[(LABEL_ATTEMPT, attempt.as_str())]).await?;
        let labels = [(LABEL_IMAGE_HOST, self.store.host_id()), (LABEL_ATTEMPT, attempt.as_str())];
        let images = self.docker.labelled_images(&labels).await?;
        let (kept, workspaces) = (self.store.snapshots(None)?, self.store.workspaces()?);
        let written = images.iter().any(|(image, _)| kept.iter().any(|snapshot| snapshot.image_id == image.id))
            || workspaces.iter().flat_map(|stored| stored.draft.spec.mounts.values()).any(|mount| {
                mount.kind == MountKind::Volume && volumes.iter().any(|volume| volume.name == mount.source)
            });
        if !written {
            self.remove_snapshot_attempt(entry).await?;
        }
        Ok(written)
    }

    /// Makes a workspace from a snapshot. Its volumes are copied, so that the snapshot stays what it is.
    ///
    /// # Errors
    /// Those of [`Lifecycle::up`], and [`Error::Request`] when there is no such snapshot.
    pub async fn restore_snapshot(
        &self,
        name: &str,
        restore: &RestoreRequest,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let snapshot = self.snapshot(name)?;
        if self.docker.image(&snapshot.image).await?.is_none_or(|image| image.id != snapshot.image_id) {
            return Err(Error::Request(format!("the image {} of the snapshot is gone", snapshot.image)));
        }
        let name = restore.name.as_deref().unwrap_or(&snapshot.workspace_name);
        let target = Project::resolve(snapshot.project.as_ref(), Some(name), &self.loaded())?.id;
        let entry = self.store.begin(&target, Verb::Snapshot)?;
        let made = async {
            let mut volumes = BTreeMap::new();
            for (source, kept) in &snapshot.volumes {
                let copy = format!("{source}-restored-{entry}");
                progress(Progress::Step(format!("copying the volume {kept}")));
                let mut labels = self.volume_labels(&snapshot.workspace, &snapshot.name, &entry.to_string());
                // From now on it is a workspace's, and no part of the snapshot.
                labels.remove(LABEL_SNAPSHOT);
                labels.insert(LABEL_WORKSPACE.to_owned(), target.to_string());
                self.copy_volume(&snapshot.image_id, kept, &copy, &labels).await?;
                volumes.insert(source.clone(), copy);
            }
            let request = request(&snapshot, restore, &volumes);
            let recreate = if restore.recreate { Recreate::IfDifferent } else { Recreate::Never };
            self.up(&request, recreate, progress).await
        };
        match made.await {
            Ok(view) => {
                self.store.done(entry, "done")?;
                Ok(view)
            }
            Err(first) => Err(self.undo_snapshot(entry, first).await),
        }
    }

    /// Snapshots, sorted by name: all, or those of a workspace.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshots(&self, id: Option<&WorkspaceId>) -> Result<Vec<Snapshot>, Error> {
        Ok(self.store.snapshots(id)?)
    }

    /// One snapshot.
    ///
    /// # Errors
    /// [`Error::Request`] when there is none of this name.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let none = || Error::Request(format!("there is no snapshot '{name}'; 'wharf snapshot ls' shows them"));
        self.store.snapshot(name)?.ok_or_else(none)
    }

    /// Removes a snapshot: its image and the copies of its volumes. Workspaces that were made from it stay.
    ///
    /// # Errors
    /// `conflict` while a container uses its image.
    pub async fn remove_snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let snapshot = self.snapshot(name)?;
        // An image that somebody has given another meaning since is not removed.
        if self.docker.image(&snapshot.image).await?.is_some_and(|image| image.id == snapshot.image_id) {
            self.docker.remove_image(&snapshot.image).await?;
        }
        for volume in snapshot.volumes.values() {
            self.docker.remove_volume(volume).await?;
        }
        self.store.remove_snapshot(name)?;
        Ok(snapshot)
    }
}

fn is_plain(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    (1..=40).contains(&name.len()) && !name.starts_with('-') && name.chars().all(letter)
}

/// What the snapshot had, as a request: whatever differs from a spec that asks for nothing.
fn request(snapshot: &Snapshot, restore: &RestoreRequest, volumes: &BTreeMap<String, String>) -> WorkspaceRequest {
    let mut spec = snapshot.spec.clone();
    for mount in spec.mounts.values_mut().filter(|mount| mount.kind == MountKind::Volume) {
        if let Some(copy) = volumes.get(&mount.source) {
            mount.source.clone_from(copy);
        }
    }
    // Its secret files are this workspace's own, if it has any; its project is mounted as ever.
    spec.mounts.remove(SECRETS_TARGET);
    spec.mounts.retain(|_, mount| mount.kind == MountKind::Volume || mount.source != snapshot.project);
    let secret = |(name, value): (&String, &String)| value == REDACTED || name.starts_with("WORKSPACE_");
    let env = spec.env.iter().filter(|pair| !secret(*pair) && pair.0 != "WHARF_MANAGED");
    let mut env: BTreeMap<String, String> = env.map(|(name, value)| (name.clone(), value.clone())).collect();
    env.extend(restore.env.clone());
    let fields = diff(&ContainerSpec::empty(), &spec).into_iter().filter(|edit| {
        !matches!(
            edit,
            Adjustment::Image(_)
                | Adjustment::Env(..)
                | Adjustment::Label(..)
                | Adjustment::Hostname(_)
                | Adjustment::Command(_)
                | Adjustment::Network(_)
        )
    });
    let words = format!("the snapshot {}", snapshot.name);
    let mut fields: Vec<_> = fields.map(|edit| (edit, words.clone())).collect();
    fields.push((Adjustment::Network(spec.network), words));
    WorkspaceRequest {
        project: snapshot.project.clone().into(),
        name: Some(restore.name.clone().unwrap_or_else(|| snapshot.workspace_name.clone())),
        image: Some(snapshot.image.clone()),
        pull: Some(crate::workspace::PullPolicy::Never),
        command: spec.command,
        env,
        labels: spec.labels,
        fields,
        ..WorkspaceRequest::default()
    }
}
