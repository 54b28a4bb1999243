//! Sidecars: extra containers of a workspace, such as its database.
//!
//! Each sidecar is decided, made, recorded and undone like a workspace, under a separate ID. It is on the network of
//! the workspace that it belongs to, starts before it, stops after it, and is removed with it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hooks::redact::REDACTED;
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::create::up::Recreate;
use crate::lifecycle::recovery::reconcile::attempt_of;
use crate::lifecycle::{Error, Lifecycle, Parent, Project, ResolvedRequest, WorkspaceView};
use crate::store::{self, Snapshot};
use crate::wire::{Progress, SidecarRequest};
use crate::workspace::{Container, LABEL_HOST, LABEL_PART_OF, LABEL_PROJECT, LABEL_WORKSPACE, Network, WorkspaceId};

/// The label with the sidecar's name in the specs of sidecars, so that policies and their scopes can recognize them.
const SIDECAR: &str = "sidecar";

/// Gives a sidecar the labels of its workspace, so that policies for a label apply to both. It cannot override them.
fn inherit(labels: &mut BTreeMap<String, String>, parent: &store::Workspace) -> Result<(), Error> {
    for (label, value) in parent.draft.spec.labels.iter().filter(|(_, value)| *value != REDACTED) {
        match labels.insert(label.clone(), value.clone()) {
            Some(own) if own != *value => {
                let text = format!(
                    "the label {label}={own}: a sidecar has the labels of its workspace {}, which has {label}={value}",
                    parent.id
                );
                return Err(Error::Request(text));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the workspace and the name of the sidecar that a snapshot was made of; `None` for the snapshot of a
/// workspace.
pub(in crate::lifecycle) fn sidecar_kept(snapshot: &Snapshot) -> Option<(WorkspaceId, &str)> {
    let name =
        snapshot.spec.labels.get(SIDECAR).filter(|name| snapshot.workspace_name.ends_with(&format!("/{name}")))?;
    let parent = snapshot.workspace.as_str().strip_suffix(name.as_str())?.strip_suffix('-')?.parse().ok()?;
    Some((parent, name))
}

impl Lifecycle {
    /// Returns the workspace that a container is a sidecar of, according to the store. The container's label counts
    /// only if the store does not know the container, because an image may carry the label of a container that an
    /// earlier Wharf made.
    pub(in crate::lifecycle) fn parent_of(&self, container: &Container) -> Result<Option<WorkspaceId>, Error> {
        let label = |key: &str| container.labels.get(key).and_then(|id| id.parse::<WorkspaceId>().ok());
        let Some(id) = label(LABEL_WORKSPACE) else { return Ok(None) };
        match self.store.part_of(&id)? {
            Some(known) => Ok(known),
            None => Ok(label(LABEL_PART_OF)),
        }
    }

    /// Returns the workspace whose own network a container is on: its own, or for a sidecar the one that it belongs to.
    pub(in crate::lifecycle) fn network_owner(
        &self,
        id: &WorkspaceId,
        container: &Container,
    ) -> Result<WorkspaceId, Error> {
        Ok(self.parent_of(container)?.unwrap_or_else(|| id.clone()))
    }

    /// Makes a sidecar of a workspace, or starts the existing one. The request must name an image; its project and name
    /// are those of the workspace.
    ///
    /// # Errors
    /// Those of [`Lifecycle::up`]; [`Error::Request`] when the name is invalid for a sidecar, or the workspace itself
    /// is a sidecar.
    pub async fn add_sidecar(
        &self,
        parent: &WorkspaceId,
        name: &str,
        request: &SidecarRequest,
        recreate: Recreate,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        // The configured health check is meant for projects.
        let request = ResolvedRequest::of(&request.0, None)?;
        Box::pin(self.add_resolved_sidecar(parent, name, &request, recreate, progress)).await
    }

    /// [`Lifecycle::add_sidecar`] with a resolved request.
    pub(in crate::lifecycle) async fn add_resolved_sidecar(
        &self,
        parent: &WorkspaceId,
        name: &str,
        request: &ResolvedRequest,
        recreate: Recreate,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let id = parent.sidecar(name).map_err(Error::Request)?;
        if request.image.is_none() {
            return Err(Error::Request(format!("the sidecar '{name}' needs an image; name one with --image")));
        }
        // The workspace must not be removed while it gets a sidecar.
        let _parent = self.lock(parent).await?;
        let stored = self.store.workspace(parent)?.ok_or_else(|| Error::not_found(parent.to_string()))?;
        if let Some(of) = &stored.part_of {
            return Err(Error::Request(format!(
                "{parent} is a sidecar of {of}, and sidecars have no sidecars of their own"
            )));
        }
        if self.store.workspace(&id)?.is_some_and(|other| other.part_of.as_ref() != Some(parent)) {
            return Err(Error::Request(format!("a workspace {id} already exists; choose another name")));
        }
        let _lock = self.lock(&id).await?;
        let part_of = Some(Parent { id: parent.clone(), network: stored.draft.spec.network });
        let name_of = format!("{}/{name}", stored.name);
        let project = Project {
            path: stored.project.clone().into(),
            id,
            name: name_of,
            part_of,
            secrets: None,
            devcontainer: None,
            no_devcontainer: false,
            hints: Vec::new(),
        };
        let mut request = request.clone();
        inherit(&mut request.labels, &stored)?;
        request.labels.insert(SIDECAR.to_owned(), name.to_owned());
        self.up_locked(project, &request, recreate, progress).await
    }

    /// Returns the IDs of a workspace's sidecars, sorted: those in the store, and those that only the engine knows.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn sidecars(&self, id: &WorkspaceId) -> Result<Vec<WorkspaceId>, Error> {
        let mut all: Vec<WorkspaceId> = self.store.sidecars(id)?.into_iter().map(|known| known.id).collect();
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_PART_OF, id.as_str())];
        for container in self.docker.list(&labels, true).await? {
            if !self.is_ours(&container)? || self.parent_of(&container)?.as_ref() != Some(id) {
                continue;
            }
            all.extend(container.labels.get(LABEL_WORKSPACE).and_then(|id| id.parse().ok()));
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Checks the network: sidecars are on the network of their workspace, and stay on the one that they were made on.
    pub(in crate::lifecycle) async fn check_network(&self, decided: &Decided) -> Result<(), Error> {
        let id = &decided.project.id;
        let Some(stored) = self.store.workspace(id)? else { return Ok(()) };
        let (is, wanted) = (stored.draft.spec.network, decided.draft.spec.network);
        if is == wanted || decided.project.part_of.is_some() {
            return Ok(());
        }
        let sidecars = self.sidecars(id).await?;
        if sidecars.is_empty() {
            return Ok(());
        }
        let names = sidecars.iter().map(WorkspaceId::as_str).collect::<Vec<_>>().join(", ");
        let word = |network: Network| serde_json::to_string(&network).unwrap_or_default();
        let (is, wanted) = (word(is), word(wanted));
        Err(Error::Request(format!(
            "the network would change from {is} to {wanted}, but the sidecars ({names}) would stay on the old one: \
             remove them with 'wharf rm' first and add them again, or keep the network"
        )))
    }

    /// Starts the sidecars of a workspace whose lock is held. A failure does not prevent the start of the others.
    pub(in crate::lifecycle) async fn start_sidecars(&self, sidecars: &[WorkspaceId]) -> Result<(), Error> {
        let mut failed = Ok(());
        for sidecar in sidecars {
            let _lock = self.lock(sidecar).await?;
            let Some(container) = self.container(sidecar).await? else { continue };
            if let Err(error) = self.start_existing(sidecar, &container, &mut |_| {}).await {
                tracing::warn!("cannot start the sidecar {sidecar}: {error}");
                failed = failed.and(Err(error));
            }
        }
        failed
    }

    /// Stops a workspace whose lock is held, and then its sidecars; returns the sidecars.
    pub(in crate::lifecycle) async fn stop_with_sidecars(
        &self,
        id: &WorkspaceId,
        verb: &str,
        timeout: Option<Duration>,
    ) -> Result<Vec<WorkspaceId>, Error> {
        // While its lock is held, it gets no other sidecars.
        let (stopped, sidecars) = tokio::join!(self.stop_locked(id, verb, timeout), self.sidecars(id));
        stopped?;
        let sidecars = sidecars?;
        let mut failed = Ok(());
        for sidecar in &sidecars {
            let _lock = self.lock(sidecar).await?;
            if let Err(error) = self.stop_locked(sidecar, verb, timeout).await {
                tracing::warn!("cannot stop the sidecar {sidecar}: {error}");
                failed = failed.and(Err(error));
            }
        }
        failed.map(|()| sidecars)
    }

    /// Removes the named volumes that were made for these workspaces or sidecars. A volume that another container uses
    /// stays, and is logged. With `before`, volumes of a later creation stay.
    pub(in crate::lifecycle) async fn remove_volumes(
        &self,
        owners: &[WorkspaceId],
        project: Option<&str>,
        before: Option<i64>,
    ) -> Result<(), Error> {
        for id in owners {
            for volume in self.docker.our_volumes(&[(LABEL_WORKSPACE, id.as_str())]).await? {
                let of = volume.labels.get(LABEL_PROJECT).map(String::as_str);
                // The IDs of an earlier version were so short that two projects could share one.
                if project.is_some() && of.is_some() && of != project {
                    continue;
                }
                if before.is_some_and(|before| attempt_of(&volume.labels) > before) {
                    continue;
                }
                match self.docker.remove_volume(&volume.name).await {
                    Ok(_) => {}
                    Err(error @ crate::docker::Error::Conflict { .. }) => {
                        tracing::warn!("the volume '{}' is kept, it is still in use: {error}", volume.name);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
