//! Which workspace is meant, and reading: list, inspect, decisions.

use std::path::{Path, PathBuf};

use super::view::view;
use super::{Error, Lifecycle, WorkspaceView};
use crate::hooks::Decision;
use crate::store;
use crate::workspace::{Container, LABEL_NAME, LABEL_PART_OF, LABEL_PROJECT, LABEL_WORKSPACE, State, WorkspaceId};

/// A workspace as somebody names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Its id or name.
    Named(String),
    /// The workspace of the project that this folder is in.
    Folder(PathBuf),
}

impl Lifecycle {
    /// Finds the one workspace that is meant: in the store, and where that does not know it, by the containers' labels
    /// (the store may have been lost).
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Ambiguous`].
    pub async fn find(&self, target: &Target) -> Result<WorkspaceId, Error> {
        let known: Vec<Known> = self.store.workspaces()?.iter().map(Known::from).collect();
        let found = pick(&known, target);
        if !found.is_empty() {
            return one(found, target);
        }
        let label = |container: &Container, key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let labelled = self.containers().await?.into_iter().filter_map(|(id, container)| {
            let (name, project) = (label(&container, LABEL_NAME), label(&container, LABEL_PROJECT));
            Some(Known { id: id.parse().ok()?, name, project, sidecar: container.labels.contains_key(LABEL_PART_OF) })
        });
        one(pick(&labelled.collect::<Vec<_>>(), target), target)
    }

    /// The workspace with its container; the container is missing when somebody removed it.
    pub(super) async fn running(&self, id: &WorkspaceId) -> Result<Container, Error> {
        match self.container(id).await? {
            Some(container) if container.state == State::Running => Ok(container),
            Some(container) => Err(Error::NotRunning { id: id.to_string(), state: container.state.to_string() }),
            None => Err(Error::NotRunning { id: id.to_string(), state: State::Missing.to_string() }),
        }
    }

    /// All workspaces of this installation, sorted by id.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn list(&self) -> Result<Vec<WorkspaceView>, Error> {
        let mut containers = self.containers().await?;
        for state in self.store.states()? {
            // What the service has seen, where it is of the same run: the engine's list has no times.
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

    /// One workspace in full.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the engine or the store fails.
    pub async fn inspect(&self, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        let stored = self.store.workspace(id)?;
        let container = match self.container(id).await? {
            Some(listed) => Some(self.docker.inspect(&listed.id).await?),
            None => None,
        };
        let mut view = view(stored.as_ref(), container.as_ref()).ok_or_else(|| Error::NotFound(id.to_string()))?;
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

    /// What was meant, with owners and history, for `why`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the store does not know it.
    pub fn stored(&self, id: &WorkspaceId) -> Result<store::Workspace, Error> {
        self.store.workspace(id)?.ok_or_else(|| Error::NotFound(format!("{id} in the store")))
    }

    /// The newest decisions about a workspace, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decisions(&self, id: &WorkspaceId, most: u32) -> Result<Vec<Decision>, Error> {
        Ok(self.store.decisions(id, most)?)
    }

    /// The containers that logs or stats are read from: of one workspace with its sidecars, or of all.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the workspace has no container.
    pub async fn containers_of(&self, id: Option<&WorkspaceId>) -> Result<Vec<(WorkspaceId, Container)>, Error> {
        let mut found = Vec::new();
        for container in self.containers().await?.into_values() {
            let Some(Ok(this)) = container.labels.get(LABEL_WORKSPACE).map(|id| id.parse::<WorkspaceId>()) else {
                continue;
            };
            let part_of = container.labels.get(LABEL_PART_OF);
            if id.is_none_or(|id| *id == this || part_of.is_some_and(|parent| parent == id.as_str())) {
                found.push((this, container));
            }
        }
        match id {
            Some(id) if found.is_empty() => Err(Error::NotRunning { id: id.to_string(), state: "missing".into() }),
            _ => Ok(found),
        }
    }
}

/// Finds a workspace in the store alone: for what needs no engine.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Ambiguous`].
pub fn find_stored(store: &store::Store, target: &Target) -> Result<store::Workspace, Error> {
    find_among(store.workspaces()?, target)
}

/// The same among some workspaces only, as if there were no others.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Ambiguous`].
pub fn find_among(all: Vec<store::Workspace>, target: &Target) -> Result<store::Workspace, Error> {
    let known: Vec<_> = all.iter().map(Known::from).collect();
    let id = one(pick(&known, target), target)?;
    all.into_iter().find(|workspace| workspace.id == id).ok_or_else(|| Error::NotFound(id.to_string()))
}

/// The same in a list of all workspaces, such as a service gives.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Ambiguous`].
pub fn find_listed(all: &[WorkspaceView], target: &Target) -> Result<WorkspaceId, Error> {
    let known = |view: &WorkspaceView| Known {
        id: view.id.clone(),
        name: view.name.clone(),
        project: view.project.clone(),
        sidecar: view.part_of.is_some(),
    };
    one(pick(&all.iter().map(known).collect::<Vec<_>>(), target), target)
}

#[derive(Clone)]
struct Known {
    id: WorkspaceId,
    name: String,
    project: String,
    sidecar: bool,
}

impl From<&store::Workspace> for Known {
    fn from(stored: &store::Workspace) -> Self {
        let (id, name, project) = (stored.id.clone(), stored.name.clone(), stored.project.clone());
        Self { id, name, project, sidecar: stored.part_of.is_some() }
    }
}

/// An id is matched exactly, then a name exactly; nothing is matched in part.
fn pick(known: &[Known], target: &Target) -> Vec<Known> {
    match target {
        Target::Named(name) => {
            let by_id: Vec<_> = known.iter().filter(|known| known.id.as_str() == name).cloned().collect();
            if !by_id.is_empty() {
                return by_id;
            }
            known.iter().filter(|known| known.name == *name).cloned().collect()
        }
        Target::Folder(folder) => of_folder(known, folder),
    }
}

fn one(mut found: Vec<Known>, target: &Target) -> Result<WorkspaceId, Error> {
    match (found.len(), target) {
        (1, _) => found.pop().map(|known| known.id).ok_or_else(|| Error::NotFound(String::new())),
        (0, Target::Named(name)) => Err(Error::NotFound(format!("named '{name}'"))),
        (0, Target::Folder(folder)) => Err(Error::NotFound(format!("for the folder {}", folder.display()))),
        (_, target) => {
            let name = match target {
                Target::Named(name) => name.clone(),
                Target::Folder(folder) => folder.display().to_string(),
            };
            Err(Error::Ambiguous { name, ids: found.into_iter().map(|known| known.id.to_string()).collect() })
        }
    }
}

/// The workspaces whose project is this folder, or the nearest one above it. A sidecar is only meant when it is named.
fn of_folder(known: &[Known], folder: &Path) -> Vec<Known> {
    for above in folder.ancestors() {
        let at = |known: &&Known| !known.sidecar && Path::new(&known.project) == above;
        let here: Vec<_> = known.iter().filter(at).cloned().collect();
        // Beside others made with --name, the one named after the folder is meant.
        let own = above.file_name().map(|name| name.to_string_lossy().into_owned());
        if let Some(own) = here.iter().find(|known| Some(&known.name) == own.as_ref()) {
            return vec![own.clone()];
        }
        if !here.is_empty() {
            return here;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_the_nearest_project_and_the_workspace_named_after_it() {
        let ws = |name: &str, project: &str| {
            let (id, sidecar) = (WorkspaceId::derive(name, project), name.contains('/'));
            Known { id, name: name.to_owned(), project: project.to_owned(), sidecar }
        };
        let known = [
            ws("a", "/srv/a"),
            ws("other", "/srv/a"),
            ws("b", "/srv/a/b"),
            ws("b/db", "/srv/a/b"),
            ws("x", "/srv/c"),
            ws("y", "/srv/c"),
        ];
        let names = |folder: &str| -> Vec<String> {
            of_folder(&known, Path::new(folder)).into_iter().map(|known| known.name).collect()
        };
        assert_eq!(names("/srv/a"), ["a"]);
        assert_eq!(names("/srv/a/src"), ["a"]);
        assert_eq!(names("/srv/a/b/c"), ["b"]);
        assert_eq!(names("/srv/c"), ["x", "y"]);
        assert!(names("/srv").is_empty() && names("/srv/ab").is_empty());
    }
}
