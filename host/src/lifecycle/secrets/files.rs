//! Secrets as files: in a folder of the state that only this user can enter, mounted read-only at `/run/secrets`.
//!
//! Unlike variables, they appear in no inspect output and in no child's environment, and can be changed while the
//! workspace runs. Inside the container every user can read them, so that the user of the image does not matter. On the
//! host the state folder (mode 0700) keeps other users out.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::lifecycle::error::Missing;
use crate::lifecycle::{Error, Lifecycle, ResolvedRequest};
use crate::wire::SecretBytes;
use crate::workspace::{Container, LABEL_WORKSPACE, WorkspaceId};

/// The folder in which a workspace finds its secrets.
pub(in crate::lifecycle) const SECRETS_TARGET: &str = "/run/secrets";
/// The message that secrets are impossible with an engine on another machine.
pub(in crate::lifecycle) const REMOTE: &str =
    "--secret needs an engine on this machine: secret files cannot be mounted on another machine";
/// The length from which a line of a secret must appear in no text by itself; shorter lines, such as `}`, reveal
/// nothing.
const TELLING: usize = 8;
/// The limit of one secret in bytes, as in Docker.
const MOST_BYTES: usize = 500 << 10;

/// Returns the folder with the secret files of all workspaces, without links: its path is passed to the engine.
pub fn secrets_dir(state_dir: &Path) -> PathBuf {
    let state = state_dir.canonicalize().or_else(|_| std::path::absolute(state_dir));
    state.unwrap_or_else(|_| state_dir.to_path_buf()).join("secrets")
}

/// Returns the folder of a workspace's secrets, if it has any or the request contains some.
pub(in crate::lifecycle) fn folder(state_dir: &Path, id: &WorkspaceId, request: &ResolvedRequest) -> Option<PathBuf> {
    let folder = secrets_dir(state_dir).join(id.as_str());
    (!request.secrets.is_empty() || folder.is_dir()).then_some(folder)
}

/// Checks whether a workspace may get this secret.
pub(in crate::lifecycle) fn check(name: &str, value: &SecretBytes) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
        let text = format!(
            "'{name}' is not a secret name: use 1 to 64 letters, digits, '_', '-' and '.', without a leading '.'"
        );
        return Err(Error::Request(text));
    }
    if value.0.len() > MOST_BYTES {
        return Err(Error::Request(format!("the secret '{name}' is larger than {} KiB", MOST_BYTES >> 10)));
    }
    Ok(())
}

/// Returns the texts by which secrets, given or in a folder, could appear in another text: each as a whole, and its
/// longer lines.
pub(in crate::lifecycle) fn texts<'a>(
    given: impl IntoIterator<Item = &'a SecretBytes>,
    folder: Option<&Path>,
) -> Vec<String> {
    let mut all: Vec<Vec<u8>> = given.into_iter().map(|secret| secret.0.clone()).collect();
    // A file that is being written, whose name begins with a dot, is a secret too.
    let kept = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    all.extend(kept.filter_map(|entry| std::fs::read(entry.path()).ok()));
    let mut texts = Vec::new();
    for bytes in all {
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= TELLING);
        texts.extend([text.trim()].into_iter().chain(lines).filter(|text| !text.is_empty()).map(str::to_owned));
    }
    // A whole secret comes before its lines, because it would no longer be found after they were removed. Each occurs
    // once.
    texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    texts.dedup();
    texts
}

/// Makes the folder of all secrets, and closes it if others may enter it.
///
/// # Errors
/// When it can be neither made nor closed.
pub(in crate::lifecycle) fn make_secrets_dir(state_dir: &Path) -> std::io::Result<PathBuf> {
    let all = secrets_dir(state_dir);
    DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
    close(&all)?;
    Ok(all)
}

/// Removes the permission of others to enter the folder of all secrets, which an earlier version left.
///
/// # Errors
/// When it cannot be closed.
pub(in crate::lifecycle) fn close(all: &Path) -> std::io::Result<()> {
    let found = match all.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.permissions().mode() & 0o077 != 0 && found.is_dir() {
        tracing::warn!("other users could enter '{}'; its mode is now 0700", all.display());
        std::fs::set_permissions(all, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

impl Lifecycle {
    /// Returns the names of a workspace's secrets, sorted.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn secret_names(&self, id: &WorkspaceId) -> Result<Vec<String>, Error> {
        let folder = secrets_dir(self.store.dir()).join(id.as_str());
        let list = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| unusable(&folder, &error))?,
        };
        let names = list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        Ok(names)
    }

    /// Sets a secret of a workspace that was made with secrets; it sees the new value at once.
    ///
    /// # Errors
    /// [`Error::Request`] for a bad name, or when the workspace was made without secrets.
    pub async fn set_secret(&self, id: &WorkspaceId, name: &str, value: SecretBytes) -> Result<(), Error> {
        let _lock = self.lock(id).await?;
        self.has_secrets(id)?;
        self.write_secrets(id, &BTreeMap::from([(name.to_owned(), value)]))
    }

    /// Removes a secret of a workspace.
    ///
    /// # Errors
    /// [`Error::Missing`] when it has no such secret.
    pub async fn remove_secret(&self, id: &WorkspaceId, name: &str) -> Result<(), Error> {
        let _lock = self.lock(id).await?;
        check(name, &SecretBytes::default())?;
        let path = secrets_dir(self.store.dir()).join(id.as_str()).join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::Missing { what: Missing::Secret { of: id.to_string() }, name: name.to_owned() })
            }
            other => other.map_err(|error| unusable(&path, &error)),
        }
    }

    /// Returns the texts by which a workspace's secret files could appear in another text: each as a whole, and its
    /// longer lines.
    pub(in crate::lifecycle) fn secret_texts(&self, container: &Container) -> Vec<String> {
        let Some(id) = container.labels.get(LABEL_WORKSPACE).and_then(|id| id.parse::<WorkspaceId>().ok()) else {
            return Vec::new();
        };
        texts([], Some(&secrets_dir(self.store.dir()).join(id.as_str())))
    }

    fn has_secrets(&self, id: &WorkspaceId) -> Result<(), Error> {
        let stored = self.store.workspace(id)?.ok_or_else(|| Error::not_found(id.to_string()))?;
        if stored.draft.spec.mounts.contains_key(SECRETS_TARGET) {
            return Ok(());
        }
        let text =
            format!("{id} was created without secrets and cannot see any; run 'wharf up --recreate --secret NAME'");
        Err(Error::Request(text))
    }

    pub(in crate::lifecycle) fn write_secrets(
        &self,
        id: &WorkspaceId,
        secrets: &BTreeMap<String, SecretBytes>,
    ) -> Result<(), Error> {
        if secrets.is_empty() {
            return Ok(());
        }
        let all = secrets_dir(self.store.dir());
        let folder = all.join(id.as_str());
        make_secrets_dir(self.store.dir()).map_err(|error| unusable(&all, &error))?;
        DirBuilder::new().recursive(true).create(&folder).map_err(|error| unusable(&folder, &error))?;
        // The modes are set regardless of the umask: users inside the container need access, and only the folder above
        // keeps others out.
        let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode));
        open(&folder, 0o755).map_err(|error| unusable(&folder, &error))?;
        for (name, value) in secrets {
            check(name, value)?;
            let (path, fresh) = (folder.join(name), folder.join(format!(".{name}")));
            // A secret is never incomplete: it is written to another file, which then replaces the old one.
            let write = || {
                let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
                file.write_all(&value.0)?;
                open(&fresh, 0o444)?;
                std::fs::rename(&fresh, &path)
            };
            write().map_err(|error| unusable(&path, &error))?;
        }
        Ok(())
    }

    /// Removes all secrets of a removed workspace.
    pub(in crate::lifecycle) fn remove_secrets(&self, id: &WorkspaceId) -> Result<(), Error> {
        self.secrets_replaced(id)?;
        let folder = secrets_dir(self.store.dir()).join(id.as_str());
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(&folder, &error)),
            _ => Ok(()),
        }
    }
}

pub(in crate::lifecycle) fn unusable(path: &Path, error: &std::io::Error) -> Error {
    crate::store::Error::Unusable { path: path.to_path_buf(), cause: error.to_string() }.into()
}
