//! Secret files during a replacement of a container: the old ones are kept until the new container is made.

use std::path::{Path, PathBuf};

use crate::lifecycle::secrets::files::{make_secrets_dir, secrets_dir, unusable};
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::WorkspaceId;

/// The suffix of the name of a copy; no ID contains a dot.
const ASIDE: &str = ".replaced";
/// The suffix of an incomplete copy.
const HALF: &str = ".copying";

impl Lifecycle {
    /// Keeps a copy of a workspace's secrets, or the fact that it has none, until [`Lifecycle::secrets_replaced`] or
    /// [`Lifecycle::secrets_back`].
    pub(in crate::lifecycle) fn secrets_aside(&self, id: &WorkspaceId) -> Result<(), Error> {
        let (folder, aside) = self.places(id);
        let keep = || {
            let half = aside.with_extension(HALF.trim_start_matches('.'));
            // Removes leftovers of an earlier replacement that did not complete.
            remove(&half)?;
            remove(&aside)?;
            if folder.is_dir() {
                copy(&folder, &half)?;
            } else {
                make_secrets_dir(self.store.dir())?;
                std::fs::write(&half, "")?;
            }
            std::fs::rename(&half, &aside)
        };
        keep().map_err(|error| unusable(&aside, &error))
    }

    /// Removes the copy of the secrets from before a replacement.
    pub(in crate::lifecycle) fn secrets_replaced(&self, id: &WorkspaceId) -> Result<(), Error> {
        let (_, aside) = self.places(id);
        remove(&aside).map_err(|error| unusable(&aside, &error))
    }

    /// Restores the secrets that a workspace had before a replacement. Without a copy nothing is done.
    pub(in crate::lifecycle) fn secrets_back(&self, id: &WorkspaceId) -> Result<(), Error> {
        let (folder, aside) = self.places(id);
        let back = || {
            let Ok(kind) = aside.symlink_metadata() else { return Ok(()) };
            if !kind.is_dir() {
                remove(&folder)?;
            } else if folder.is_dir() {
                bring_back(&aside, &folder)?;
            } else {
                return std::fs::rename(&aside, &folder);
            }
            remove(&aside)
        };
        back().map_err(|error| unusable(&folder, &error))
    }

    fn places(&self, id: &WorkspaceId) -> (PathBuf, PathBuf) {
        let all = secrets_dir(self.store.dir());
        (all.join(id.as_str()), all.join(format!("{id}{ASIDE}")))
    }
}

/// Copies the files of a folder with their modes.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, from.metadata()?.permissions())?;
    for entry in from.read_dir()? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Replaces the files of a folder with those of its copy. The folder itself stays the same: a running container sees
/// it.
fn bring_back(copy: &Path, folder: &Path) -> std::io::Result<()> {
    for entry in copy.read_dir()? {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        // A name with a leading dot marks an incomplete secret.
        let half = folder.join(format!(".{}", name.display()));
        remove(&half)?;
        std::fs::copy(&from, &half)?;
        std::fs::rename(&half, folder.join(name))?;
    }
    for entry in folder.read_dir()? {
        let entry = entry?;
        if !copy.join(entry.file_name()).exists() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or folder, if it exists.
fn remove(path: &Path) -> std::io::Result<()> {
    let gone = match path.symlink_metadata() {
        Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
