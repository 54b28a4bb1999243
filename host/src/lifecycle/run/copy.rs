//! `cp`: files of a workspace, in and out.
//!
//! A copy counts as an action in a workspace, so the policies of `pre-exec` are called. They see the command
//! `wharf cp in PATH` or `wharf cp out PATH`, and can deny it. Their adjustments have no effect here.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::archive::{self, Owner as FileOwner, Pieces};
use crate::docker::{self, Archive, PathKind};
use crate::hooks::ExecSpec;
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::{MountKind, WorkspaceId};

/// A path in a workspace that may be the target of a copy.
pub struct CopyIn<'a> {
    lifecycle: &'a Lifecycle,
    container: String,
    /// The path that policies have judged.
    path: String,
    /// The current kind of the path.
    pub kind: PathKind,
    /// The numeric user and group of the workspace, `uid:gid`, if they are known.
    pub user: Option<String>,
}

/// A path in a workspace, as a place for files
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PathView {
    /// The workspace.
    #[schema(value_type = String)]
    pub workspace: WorkspaceId,
    /// Its current kind.
    pub kind: PathKind,
    /// The numeric user and group of the workspace, `uid:gid`, if they are known.
    pub user: Option<String>,
}

/// A path in a workspace that is the source of a copy.
pub struct CopyOut {
    /// The archive; the first name in it is that of the path.
    pub archive: Archive,
    /// The kind of the path.
    pub kind: PathKind,
}

impl Lifecycle {
    /// Checks whether a copy to a path of a workspace is allowed, running or not.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NotRunning`] when it has no container, or the engine's.
    pub async fn copy_in(&self, id: &WorkspaceId, path: &str) -> Result<CopyIn<'_>, Error> {
        let path = &plain(path)?;
        let container = self.may_copy(id, "in", path).await?;
        self.check_reachable(id, path)?;
        let kind = self.docker.path_kind(&container, path).await?;
        let owner = self.file_owner(&container).await?;
        let user = owner.map(|FileOwner { uid, gid }| format!("{uid}:{gid}"));
        Ok(CopyIn { lifecycle: self, container, path: path.clone(), kind, user })
    }

    /// Reads a path of a workspace, running or not.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NotRunning`] when it has no container, or the engine's when there is no such path.
    pub async fn copy_out(&self, id: &WorkspaceId, path: &str) -> Result<CopyOut, Error> {
        let path = &plain(path)?;
        let container = self.may_copy(id, "out", path).await?;
        self.check_reachable(id, path)?;
        let kind = self.docker.path_kind(&container, path).await?;
        Ok(CopyOut { archive: self.docker.read_archive(&container, path).await?, kind })
    }

    /// Returns folders and files of the host that workspaces can write: their projects, and other mounts that are not
    /// read-only.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn written_by_workspaces(&self) -> Result<Vec<PathBuf>, Error> {
        let mut written = std::collections::BTreeSet::new();
        for workspace in self.store.workspaces()? {
            let mounts = workspace.draft.spec.mounts.values();
            let binds = mounts.filter(|mount| mount.kind == MountKind::Bind && !mount.read_only);
            written.extend(binds.map(|mount| PathBuf::from(&mount.source)));
            written.insert(PathBuf::from(&workspace.project));
        }
        Ok(written.into_iter().collect())
    }

    /// Refuses a path in a memory file system: the engine copies below it, where no process sees the file
    /// (moby/moby#22020).
    fn check_reachable(&self, id: &WorkspaceId, path: &str) -> Result<(), Error> {
        let Some(stored) = self.store.workspace(id)? else { return Ok(()) };
        let spec = &stored.draft.spec;
        let path = path.trim_end_matches('.').trim_end_matches('/');
        let around = |target: &&String| path == target.as_str() || path.starts_with(&format!("{target}/"));
        let mounted = spec.mounts.keys().filter(around).map(String::len).max();
        match spec.tmpfs.keys().filter(around).max_by_key(|target| target.len()) {
            Some(target) if mounted.is_none_or(|other| other < target.len()) => Err(Error::Request(format!(
                "{target} is a memory file system, which copies do not reach; run a command that reads or writes the \
                 file, e.g. wharf exec -i -- sh -c 'cat > {path}' < FILE"
            ))),
            _ => Ok(()),
        }
    }

    async fn may_copy(&self, id: &WorkspaceId, way: &str, path: &str) -> Result<String, Error> {
        let container = self.container(id).await?.ok_or_else(|| Error::NotRunning {
            id: id.to_string(),
            state: "missing (create it again with 'wharf up')".into(),
        })?;
        let command = ["wharf", "cp", way, path].map(str::to_owned).into();
        self.allow_exec(id, &container, ExecSpec { command, ..ExecSpec::default() }).await?;
        Ok(container.id)
    }
}

/// Normalizes a path in a workspace, so that policies judge the same text that the engine receives. `..` is resolved by
/// the text alone. A `/` or `/.` at the end stays, because it requests a folder.
///
/// # Errors
/// [`Error::Request`] for a path that is not absolute.
fn plain(path: &str) -> Result<String, Error> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::Request(format!("'{path}' is not an absolute path in the workspace")));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let plain = format!("/{}", parts.join("/"));
    let folder = if plain == "/" { "" } else { "/" };
    Ok(match path.rsplit('/').next() {
        Some(".") => format!("{plain}{folder}."),
        Some("") => format!("{plain}{folder}"),
        _ => plain,
    })
}

impl CopyIn<'_> {
    /// Unpacks an archive like [`CopyIn::unpack`], for a caller of the API, who cannot write as any other user than the
    /// decided one: the files belong to the user of the workspace, and lose bits such as setuid.
    ///
    /// # Errors
    /// Those of [`CopyIn::unpack`], and an invalid archive.
    pub async fn unpack_for_caller(&self, folder: &str, pieces: Pieces) -> Result<(), Error> {
        let allowed = &self.lifecycle.loaded().config.allow.exec_users;
        if ["*", "root", "0"].iter().any(|user| allowed.contains(*user)) {
            return self.unpack(folder, pieces).await;
        }
        let owner = self.lifecycle.file_owner(&self.container).await?;
        let wrong = Arc::new(OnceLock::new());
        let done = self.unpack(folder, archive::restamp(pieces, owner, wrong.clone())).await;
        match (done, wrong.get()) {
            // To the engine it is only an aborted request, so the cause is reported here.
            (Err(_), Some(cause)) => Err(docker::Error::BadRequest {
                operation: "copy into the container",
                cause: format!("the upload is not a complete tar archive: {cause}"),
            }
            .into()),
            (done, _) => done,
        }
    }

    /// Unpacks an archive into a folder of the workspace.
    ///
    /// # Errors
    /// The engine's, e.g. `not-found` for a missing folder.
    pub async fn unpack(&self, folder: &str, pieces: Pieces) -> Result<(), Error> {
        let folder = &plain(folder)?;
        let bare = |path: &str| path.trim_end_matches('.').trim_end_matches('/').to_owned();
        let above = bare(&self.path).rsplit_once('/').map(|(above, _)| above.to_owned());
        if bare(folder) != bare(&self.path) && Some(bare(folder)) != above {
            return Err(Error::Request(format!("'{folder}' is not the requested folder, {}", self.path)));
        }
        Ok(self.lifecycle.docker.write_archive(&self.container, folder, pieces).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        let same =
            ["/run/secrets/K", "//run/secrets/K", "/run/./secrets/K", "/run/../run/secrets/K", "/../run/secrets//K"];
        for path in same {
            assert_eq!(plain(path).unwrap(), "/run/secrets/K", "{path}");
        }
        for (path, wanted) in
            [("/a/b/.", "/a/b/."), ("/a//b/", "/a/b/"), ("/", "/"), ("/.", "/."), ("/a/..", "/"), ("/a/b/../.", "/a/.")]
        {
            assert_eq!(plain(path).unwrap(), wanted, "{path}");
        }
        for wrong in ["", "a", "./a", "/a\0b"] {
            assert!(plain(wrong).is_err(), "{wrong:?}");
        }
    }
}
