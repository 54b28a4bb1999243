//! Secrets as files: in a folder of the state that only this user can enter, mounted read-only at `/run/secrets`.
//!
//! Unlike variables they are in no inspect output, in no child's environment, and can be changed while the workspace
//! runs. Inside the container every user can read them, so that it does not matter which one the image runs as; on the
//! host the state folder (mode 0700) keeps others out.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::lifecycle::error::Missing;
use crate::lifecycle::{Error, Lifecycle, ResolvedRequest};
use crate::wire::SecretBytes;
use crate::workspace::{Container, LABEL_WORKSPACE, WorkspaceId};

/// Where a workspace finds its secrets.
pub(in crate::lifecycle) const SECRETS_TARGET: &str = "/run/secrets";
/// Why there are none with an engine elsewhere.
pub(in crate::lifecycle) const REMOTE: &str =
    "--secret needs an engine on this machine: its files cannot be mounted on another one";
/// So long is a line of a secret that must be in no text by itself; shorter ones, such as `}`, tell nothing.
const TELLING: usize = 8;
/// Most bytes of one secret, as with Docker's own.
const MOST_BYTES: usize = 500 << 10;

/// Where the secret files of all workspaces are, without links: it is handed to the engine.
pub fn secrets_dir(state_dir: &Path) -> PathBuf {
    let state = state_dir.canonicalize().or_else(|_| std::path::absolute(state_dir));
    state.unwrap_or_else(|_| state_dir.to_path_buf()).join("secrets")
}

/// The folder of a workspace's secrets, if it has any or the request brings some.
pub(in crate::lifecycle) fn folder(state_dir: &Path, id: &WorkspaceId, request: &ResolvedRequest) -> Option<PathBuf> {
    let folder = secrets_dir(state_dir).join(id.as_str());
    (!request.secrets.is_empty() || folder.is_dir()).then_some(folder)
}

/// Whether a workspace may get this secret.
pub(in crate::lifecycle) fn check(name: &str, value: &SecretBytes) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
        let text = format!("'{name}' is no secret's name: 1 to 64 letters, digits, '_', '-' and '.', not first a '.'");
        return Err(Error::Request(text));
    }
    if value.0.len() > MOST_BYTES {
        return Err(Error::Request(format!("the secret '{name}' is larger than {} KiB", MOST_BYTES >> 10)));
    }
    Ok(())
}

/// What of secrets could be seen in a text, those given and those in a folder: each as a whole, and its longer lines.
pub(in crate::lifecycle) fn texts<'a>(
    given: impl IntoIterator<Item = &'a SecretBytes>,
    folder: Option<&Path>,
) -> Vec<String> {
    let mut all: Vec<Vec<u8>> = given.into_iter().map(|secret| secret.0.clone()).collect();
    // One that is being written, whose name begins with a dot, is a secret, too.
    let kept = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    all.extend(kept.filter_map(|entry| std::fs::read(entry.path()).ok()));
    let mut texts = Vec::new();
    for bytes in all {
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= TELLING);
        texts.extend([text.trim()].into_iter().chain(lines).filter(|text| !text.is_empty()).map(str::to_owned));
    }
    // A whole one before its lines, or they could not be found in it any more; each once.
    texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    texts.dedup();
    texts
}

/// Makes the folder of all secrets, and closes one that others may enter.
///
/// # Errors
/// When it can be neither made nor closed.
pub(in crate::lifecycle) fn make_secrets_dir(state_dir: &Path) -> std::io::Result<PathBuf> {
    let all = secrets_dir(state_dir);
    DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
    close(&all)?;
    Ok(all)
}

/// Takes away that others may enter the folder of all secrets, as an earlier version left it.
///
/// # Errors
/// When it cannot be closed.
pub(in crate::lifecycle) fn close(all: &Path) -> std::io::Result<()> {
    let found = match all.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.permissions().mode() & 0o077 != 0 && found.is_dir() {
        tracing::warn!("others could enter {}; its mode is 0700 now", all.display());
        std::fs::set_permissions(all, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

impl Lifecycle {
    /// The names of a workspace's secrets, sorted.
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

    /// What of a workspace's secret files could be seen in a text: each as a whole, and its longer lines.
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
        let text = format!("{id} was made without secrets, so it sees none; use 'wharf up --recreate --secret NAME'");
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
        // Whatever the umask: users inside the container must get in, and only the folder above keeps others out.
        let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode));
        open(&folder, 0o755).map_err(|error| unusable(&folder, &error))?;
        for (name, value) in secrets {
            check(name, value)?;
            let (path, fresh) = (folder.join(name), folder.join(format!(".{name}")));
            // Never half a secret: written beside it, then put in its place.
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

    /// Removes all secrets of a workspace that is gone.
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
