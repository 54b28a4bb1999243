//! The facts of a sweep: every object in the engine that this installation made, with its measurements.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::docker::DiskUsage;
use crate::hooks::{Candidate, CandidateKind, LocalTime, SweepFacts};
use crate::lifecycle::{Error, Lifecycle, local_time};
use crate::workspace::{LABEL_IMAGE_WORKSPACE, LABEL_PREFIX, LABEL_SNAPSHOT, State, WorkspaceId};

/// The number of containers that are inspected concurrently.
const AT_ONCE: usize = 8;

/// An object of this installation in the engine.
pub(in crate::lifecycle) struct Found {
    pub(in crate::lifecycle) candidate: Candidate,
    pub(in crate::lifecycle) object: Object,
    /// For a sidecar, the workspace that it belongs to.
    pub(in crate::lifecycle) part_of: Option<WorkspaceId>,
    /// Distinguishes it from a later object of the same name.
    pub(in crate::lifecycle) identity: String,
}

/// The object of an action.
pub(in crate::lifecycle) enum Object {
    Workspace(WorkspaceId),
    /// A tag, or the ID of an image without one.
    Image(String),
    Volume(String),
    Network(String),
}

fn ms(time: Option<Timestamp>) -> Option<u64> {
    u64::try_from(time?.as_millisecond()).ok()
}

/// Returns the labels from people and policies, without those that the host itself uses. A part of a snapshot has the
/// snapshot's name as the label `snapshot`.
fn shown(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let given = labels.iter().filter(|(name, _)| !name.starts_with(LABEL_PREFIX));
    let mut shown: BTreeMap<String, String> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(snapshot) = labels.get(LABEL_SNAPSHOT).filter(|name| !name.is_empty()) {
        shown.insert("snapshot".to_owned(), snapshot.clone());
    }
    shown
}

impl Lifecycle {
    /// Collects all objects of this installation, and the secret values of all workspaces. With `note`, the time of
    /// each object's last use is recorded.
    pub(in crate::lifecycle) async fn sweep_facts(
        &self,
        note: bool,
    ) -> Result<(SweepFacts, Vec<Found>, Vec<String>), Error> {
        let (usage, networks) = tokio::join!(self.docker.disk_usage(), self.docker.our_networks());
        let (usage, networks) = (usage?, networks?);
        let (mut found, values) = self.workspaces_found(&usage).await?;
        let mut objects = self.images_found(&usage, note)?;
        objects.extend(volumes_found(&usage));
        objects.extend(networks.into_iter().map(|(name, created_at)| Found {
            candidate: Candidate {
                used: usage.containers.iter().any(|container| container.networks.contains(&name)),
                created_ms: ms(created_at).unwrap_or_default(),
                size: Some(0),
                ..object(CandidateKind::Network, "network", &name)
            },
            identity: created_at.map(|time| time.to_string()).unwrap_or_default(),
            object: Object::Network(name),
            part_of: None,
        }));
        let used = objects.iter().map(|found| (found.candidate.id.clone(), found.candidate.used)).collect();
        let last_used = self.store.last_used(&used, note)?;
        for found in &mut objects {
            found.candidate.last_activity_ms = ms(last_used.get(&found.candidate.id).copied());
        }
        found.extend(objects);
        let (disk_free, disk_total) = self.disk_space().await?;
        let LocalTime { minute: local_minute, weekday: local_weekday } = local_time();
        let facts = SweepFacts {
            candidates: found.iter().map(|found| found.candidate.clone()).collect(),
            disk_free,
            disk_total,
            local_minute,
            local_weekday,
        };
        Ok((facts, found, values))
    }

    /// Returns free and total bytes of the file system of the engine's data; zeros for an engine on another machine.
    async fn disk_space(&self) -> Result<(u64, u64), Error> {
        if !self.docker.is_local() {
            return Ok((0, 0));
        }
        let root = &self.engine_info().await?.docker_root_dir;
        match rustix::fs::statvfs(root.as_str()) {
            Ok(disk) => Ok((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize))),
            // Not every user has access there.
            Err(error) => {
                tracing::debug!("cannot measure the disk of {root}: {error}");
                Ok((0, 0))
            }
        }
    }

    async fn workspaces_found(&self, usage: &DiskUsage) -> Result<(Vec<Found>, Vec<String>), Error> {
        let sizes: BTreeMap<&str, Option<u64>> = usage.containers.iter().map(|c| (c.id.as_str(), c.size)).collect();
        let activity: BTreeMap<WorkspaceId, Option<Timestamp>> =
            self.store.workspaces()?.iter().map(|stored| (stored.id.clone(), stored.last_activity)).collect();
        let views = self.list().await?.into_iter();
        let inspected = views.map(async |view| {
            let Some(id) = &view.container_id else { return Ok((view, None)) };
            match self.docker.inspect(id).await {
                Ok(container) => Ok((view, Some(container))),
                Err(crate::docker::Error::NotFound { .. }) => Ok((view, None)),
                Err(error) => Err(Error::from(error)),
            }
        });
        let all: Vec<_> = futures_util::stream::iter(inspected).buffered(AT_ONCE).try_collect().await?;
        let mut values = self.loaded().policy_secrets();
        values
            .extend(all.iter().filter_map(|(_, container)| container.as_ref()).flat_map(|one| self.secret_values(one)));
        values.sort();
        values.dedup();
        let labels: BTreeMap<WorkspaceId, BTreeMap<String, String>> =
            all.iter().map(|(view, _)| (view.id.clone(), view.labels.clone())).collect();
        let found = all.into_iter().map(|(view, container)| {
            // A policy for a label applies to a workspace with its sidecars.
            let mut all = view.part_of.as_ref().and_then(|whole| labels.get(whole)).cloned().unwrap_or_default();
            all.extend(view.labels);
            let labels = all;
            let state = container.as_ref().map_or(State::Missing, |container| container.state);
            let time =
                |pick: fn(&crate::workspace::Container) -> Option<Timestamp>| ms(container.as_ref().and_then(pick));
            let identity = view.container_id.clone().unwrap_or_default();
            Found {
                candidate: Candidate {
                    kind: CandidateKind::Workspace,
                    id: view.id.to_string(),
                    name: view.name,
                    part_of: view.part_of.as_ref().map(ToString::to_string),
                    project: view.project,
                    labels,
                    state: Some(state),
                    used: matches!(state, State::Running | State::Paused | State::Restarting),
                    exit_code: container.as_ref().and_then(|container| container.exit_code),
                    created_ms: ms(view.created_at).unwrap_or_default(),
                    started_ms: time(|container| container.started_at),
                    finished_ms: time(|container| container.finished_at),
                    last_activity_ms: ms(activity.get(&view.id).copied().flatten()),
                    size: sizes.get(identity.as_str()).copied().flatten(),
                },
                identity,
                part_of: view.part_of,
                object: Object::Workspace(view.id),
            }
        });
        Ok((found.collect(), values))
    }

    /// Returns images under the names that Wharf gave them, and pulled images whose names still mean the pulled image.
    fn images_found(&self, usage: &DiskUsage, note: bool) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        let workspaces = self.store.workspaces()?;
        let snapshots = self.store.snapshots(None)?;
        // Labels from a Dockerfile or a registry decide nothing: an image has the labels of the workspace that it was
        // made for, and the name of its snapshot.
        let labels = |name: &str, image: &crate::docker::ImageUsage| {
            let of = image.labels.get(LABEL_IMAGE_WORKSPACE).filter(|_| image.given.iter().any(|given| given == name));
            let of = of.and_then(|of| workspaces.iter().find(|workspace| workspace.id.as_str() == of));
            let mut labels = of.map(|workspace| workspace.draft.spec.labels.clone()).unwrap_or_default();
            let kept = snapshots.iter().find(|kept| kept.image_id == image.id && kept.image == name);
            labels.extend(kept.map(|kept| ("snapshot".to_owned(), kept.name.clone())));
            labels
        };
        let mut add = |name: &str, image: &crate::docker::ImageUsage| {
            let used = usage.containers.iter().any(|container| container.image_id == image.id);
            found.push(Found {
                candidate: Candidate {
                    labels: labels(name, image),
                    used,
                    created_ms: ms(image.created_at).unwrap_or_default(),
                    size: image.size,
                    ..object(CandidateKind::Image, "image", name)
                },
                object: Object::Image(name.to_owned()),
                part_of: None,
                identity: image.id.clone(),
            });
        };
        for image in &usage.images {
            image.given.iter().for_each(|reference| add(reference, image));
        }
        for pulled in self.store.pulled_images()? {
            let tagged = format!("{}:latest", pulled.reference);
            let is = |image: &&crate::docker::ImageUsage| {
                let named = image.references.iter().any(|name| *name == pulled.reference || *name == tagged);
                // An image that was built here and has since lost its name is identified by its ID.
                let nameless = pulled.reference == image.id && image.references.is_empty();
                image.id == pulled.image_id && (named || nameless || pulled.reference.contains('@'))
            };
            match usage.images.iter().find(is) {
                Some(image) if !image.given.is_empty() => {}
                Some(image) => add(&pulled.reference, image),
                // Another client removed the image, or gave its name to another image, so it no longer belongs to
                // Wharf. An image that is identified by its ID still has its name.
                None if usage.images.iter().any(|image| image.id == pulled.reference) => {}
                None if note => self.store.forget_pulled_image(&pulled.reference)?,
                None => {}
            }
        }
        Ok(found)
    }
}

fn volumes_found(usage: &DiskUsage) -> Vec<Found> {
    let ours = usage.volumes.iter().filter(|volume| volume.ours);
    let found = ours.map(|volume| Found {
        candidate: Candidate {
            labels: shown(&volume.labels),
            used: volume.used,
            created_ms: ms(volume.created_at).unwrap_or_default(),
            size: volume.size,
            ..object(CandidateKind::Volume, "volume", &volume.name)
        },
        object: Object::Volume(volume.name.clone()),
        part_of: None,
        identity: volume.created_at.map(|time| time.to_string()).unwrap_or_default(),
    });
    found.collect()
}

fn object(kind: CandidateKind, word: &str, name: &str) -> Candidate {
    Candidate {
        kind,
        id: format!("{word}:{name}"),
        name: name.to_owned(),
        part_of: None,
        project: String::new(),
        labels: BTreeMap::new(),
        state: None,
        used: true,
        exit_code: None,
        created_ms: 0,
        started_ms: None,
        finished_ms: None,
        last_activity_ms: None,
        size: None,
    }
}
