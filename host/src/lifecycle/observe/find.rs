//! Finding the workspace for a name, and reading: list, inspect, decisions.

use crate::hooks::Decision;
use crate::lifecycle::observe::view::view;
use crate::lifecycle::{Error, Lifecycle, WorkspaceView};
use crate::records::{Target, one, pick};
use crate::store::{self, KnownWorkspace};
use crate::workspace::{
    Container, LABEL_HOST, LABEL_NAME, LABEL_PART_OF, LABEL_PROJECT, LABEL_WORKSPACE, State, WorkspaceId,
};

impl Lifecycle {
    /// Finds the single workspace for a target: in the store, and if the store does not know it, by the containers'
    /// labels (the store may have been lost).
    ///
    /// # Errors
    /// [`Error::Records`].
    pub async fn find(&self, target: &Target) -> Result<WorkspaceId, Error> {
        let found = pick(&self.store.known_workspaces()?, target);
        if !found.is_empty() {
            return Ok(one(found, target)?);
        }
        let label = |container: &Container, key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let labelled = self.containers().await?.into_iter().filter_map(|(id, container)| {
            let (name, project) = (label(&container, LABEL_NAME), label(&container, LABEL_PROJECT));
            let part_of = container.labels.get(LABEL_PART_OF).and_then(|id| id.parse().ok());
            Some(KnownWorkspace { id: id.parse().ok()?, name, project, part_of })
        });
        Ok(one(pick(&labelled.collect::<Vec<_>>(), target), target)?)
    }

    /// Returns the running container of a workspace. Another client may have removed it, which is an error.
    pub(in crate::lifecycle) async fn running(&self, id: &WorkspaceId) -> Result<Container, Error> {
        must_run(id, self.container(id).await?)
    }

    /// Returns all workspaces of this installation, sorted by ID.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn list(&self) -> Result<Vec<WorkspaceView>, Error> {
        let mut containers = self.containers().await?;
        for state in self.store.states()? {
            // The engine's list has no times, so those of the service are used if they are of the same run.
            let same =
                |container: &&mut Container| container.id == state.container_id && container.state == state.state;
            if let Some(container) = containers.get_mut(state.workspace.as_str()).filter(same) {
                (container.started_at, container.finished_at) = (state.started_at, state.finished_at);
                container.oom_killed = state.oom_killed;
            }
        }
        let mut views = Vec::new();
        for stored in self.store.workspaces()? {
            let container = containers.remove(stored.id.as_str());
            views.extend(view(Some(&stored), container.as_ref()));
        }
        views.extend(containers.values().filter_map(|container| view(None, Some(container))));
        views.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(views)
    }

    /// Returns one workspace in full.
    ///
    /// # Errors
    /// [`Error::Records`], or when the engine or the store fails.
    pub async fn inspect(&self, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        let stored = self.store.workspace(id)?;
        let container = self.container_in_full(id).await?;
        let mut view = view(stored.as_ref(), container.as_ref()).ok_or_else(|| Error::not_found(id.to_string()))?;
        if let Some(container) = &container {
            view.last_check = container.last_check.clone().map(|mut check| {
                check.output = self.scrub(container, &check.output);
                check
            });
            if let Some(stored) = &stored {
                view.disk = self.disk_view(stored, container)?;
            }
        }
        Ok(view)
    }

    /// Returns the intended state, with owners and history, for `why`.
    ///
    /// # Errors
    /// [`Error::Records`] when the store does not know it.
    pub fn stored(&self, id: &WorkspaceId) -> Result<store::Workspace, Error> {
        self.store.workspace(id)?.ok_or_else(|| Error::not_found(format!("{id} in the store")))
    }

    /// Returns the newest decisions about a workspace, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decisions(&self, id: &WorkspaceId, most: u32) -> Result<Vec<Decision>, Error> {
        Ok(self.store.decisions(id, most)?)
    }

    /// Returns the containers for logs or stats: of one workspace with its sidecars, or of all.
    ///
    /// # Errors
    /// [`Error::Records`] when the workspace has no container.
    pub async fn containers_of(&self, id: Option<&WorkspaceId>) -> Result<Vec<(WorkspaceId, Container)>, Error> {
        let Some(id) = id else { return Ok(by_id(self.containers().await?.into_values())) };
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_PART_OF, id.as_str())];
        let (own, parts) = tokio::join!(self.container(id), self.docker.list(&labels, true));
        let mut found: Vec<Container> = own?.into_iter().collect();
        for part in self.current(parts?)? {
            if self.parent_of(&part)?.as_ref() == Some(id) {
                found.push(part);
            }
        }
        let found = by_id(found.into_iter());
        match found.is_empty() {
            true => Err(Error::NotRunning { id: id.to_string(), state: "missing".into() }),
            false => Ok(found),
        }
    }
}

/// Returns the container of a workspace, if it runs.
pub(in crate::lifecycle) fn must_run(id: &WorkspaceId, found: Option<Container>) -> Result<Container, Error> {
    match found {
        Some(container) if container.state == State::Running => Ok(container),
        Some(container) => Err(Error::NotRunning { id: id.to_string(), state: container.state.to_string() }),
        None => Err(Error::NotRunning { id: id.to_string(), state: State::Missing.to_string() }),
    }
}

/// Returns containers with the IDs of their workspaces, sorted by ID.
fn by_id(containers: impl Iterator<Item = Container>) -> Vec<(WorkspaceId, Container)> {
    let id = |container: &Container| container.labels.get(LABEL_WORKSPACE)?.parse::<WorkspaceId>().ok();
    let mut all: Vec<_> = containers.filter_map(|container| Some((id(&container)?, container))).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// Finds the workspace in a list of all workspaces, such as the answer of a service.
///
/// # Errors
/// [`Error::Records`].
pub fn find_listed(all: &[WorkspaceView], target: &Target) -> Result<WorkspaceId, Error> {
    let known = |view: &WorkspaceView| KnownWorkspace {
        id: view.id.clone(),
        name: view.name.clone(),
        project: view.project.clone(),
        part_of: view.part_of.clone(),
    };
    Ok(one(pick(&all.iter().map(known).collect::<Vec<_>>(), target), target)?)
}
