//! Finds the known workspace that a name or a folder refers to.

use std::path::{Path, PathBuf};

use super::Error;
use crate::store::{self, KnownWorkspace};
use crate::workspace::WorkspaceId;

/// A reference to a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The workspace's id or name.
    Named(String),
    /// The workspace of the project that contains this folder.
    Folder(PathBuf),
}

impl Target {
    /// Returns the name or the folder, for messages.
    pub fn shown(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Folder(folder) => folder.display().to_string(),
        }
    }
}

impl From<&str> for Target {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl From<String> for Target {
    fn from(name: String) -> Self {
        Self::Named(name)
    }
}

impl From<&WorkspaceId> for Target {
    fn from(id: &WorkspaceId) -> Self {
        Self::Named(id.to_string())
    }
}

/// Finds a workspace through the store alone, for operations without an engine.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Ambiguous`].
pub fn find_stored(store: &store::Store, target: &Target) -> Result<store::Workspace, Error> {
    find_among(store, store.known_workspaces()?, target)
}

/// Finds a workspace among the given workspaces only, as if there were no others.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Ambiguous`].
pub fn find_among(store: &store::Store, some: Vec<KnownWorkspace>, target: &Target) -> Result<store::Workspace, Error> {
    let id = one(pick(&some, target), target)?;
    store.workspace(&id)?.ok_or_else(|| Error::NotFound(id.to_string()))
}

/// Returns the matching workspaces: an exact match of the id, otherwise of the name. There are no partial matches.
pub(crate) fn pick(known: &[KnownWorkspace], target: &Target) -> Vec<KnownWorkspace> {
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

pub(crate) fn one(mut found: Vec<KnownWorkspace>, target: &Target) -> Result<WorkspaceId, Error> {
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

/// Returns the workspaces whose project is this folder or its nearest ancestor. A sidecar only matches by name.
fn of_folder(known: &[KnownWorkspace], folder: &Path) -> Vec<KnownWorkspace> {
    for above in folder.ancestors() {
        let at = |known: &&KnownWorkspace| known.part_of.is_none() && Path::new(&known.project) == above;
        let here: Vec<_> = known.iter().filter(at).cloned().collect();
        // Of several workspaces (made with --name), choose the one named after the folder.
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
            let part_of = name.split_once('/').map(|(parent, _)| WorkspaceId::derive(parent, project));
            let id = WorkspaceId::derive(name, project);
            KnownWorkspace { id, name: name.to_owned(), project: project.to_owned(), part_of }
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
