//! Capabilities: readable folders and environment variables that a plugin's configuration entry grants it.
//!
//! Data that a plugin reads this way is not part of the recorded input, so its digest is recorded with each step. A
//! decision can be replayed if the digest is the same, and a difference is detected. For that, a folder has a size
//! limit, contains only plain files, folders and links, and must not change during a call of the plugin.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::hooks::PolicyError;
use crate::workspace::sha256_hex;

/// Maximum files and folders of all granted folders. [`MOST_BYTES`] limits the bytes of all files.
const MOST_FILES: usize = 2_000;
/// Maximum bytes of all files, see [`MOST_FILES`].
const MOST_BYTES: u64 = 16 << 20;

/// The resources that a plugin may read in addition to its input; by default none.
#[derive(Debug, Default)]
pub struct Grants {
    /// Path in the plugin -> folder of the host.
    dirs: BTreeMap<String, PathBuf>,
    env: BTreeMap<String, String>,
    /// The state of the folders when they were last read, and their digest then.
    known: Mutex<Option<(Vec<Entry>, String)>>,
}

/// One file, folder or link: its path and all data that distinguish its states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    path: PathBuf,
    mode: u32,
    size: u64,
    inode: u64,
    changed: (i64, i64, i64, i64),
}

impl Grants {
    /// Grants folders, and variables with their current values. A variable that is not set is absent.
    pub fn new(dirs: BTreeMap<String, PathBuf>, env: &[String]) -> Self {
        let env = env.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))).collect();
        Self { dirs, env, known: Mutex::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.env.is_empty()
    }

    /// Provides the grants to one call.
    pub(super) fn give(&self, wasi: &mut WasiCtxBuilder) -> Result<(), PolicyError> {
        for (name, value) in &self.env {
            wasi.env(name, value);
        }
        for (path, folder) in &self.dirs {
            // Reading a plain file does not block for long, and this thread may block.
            wasi.allow_blocking_current_thread(true);
            let opened = wasi.preopened_dir(folder, path, FsPerms::ReadOnly);
            opened.map_err(|error| refuse(format!("{}: {error:#}", folder.display())))?;
        }
        Ok(())
    }

    /// Returns the SHA-256 (hex) of the current state of all grants.
    pub(super) fn digest(&self) -> Result<String, PolicyError> {
        let mut files = Vec::new();
        for (path, folder) in &self.dirs {
            let meta = std::fs::metadata(folder).map_err(|error| refuse(format!("{}: {error}", folder.display())))?;
            if !meta.is_dir() {
                return Err(refuse(format!("'{}' is not a folder", folder.display())));
            }
            walk(Path::new(path), folder, &mut files)?;
        }
        files.sort();
        if files.iter().map(|file| file.size).sum::<u64>() > MOST_BYTES {
            return Err(refuse(format!("the folders contain more than {} MiB", MOST_BYTES >> 20)));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((was, digest)) = known.as_ref()
            && *was == files
        {
            return Ok(digest.clone());
        }
        let mut hash = Sha256::new();
        for (name, value) in &self.env {
            hash.update(format!("env {name} {}\n", sha256_hex(value.as_bytes())));
        }
        for file in &files {
            let real = self.real(&file.path).ok_or_else(|| refuse("a path that was not granted".to_owned()))?;
            let content = match file.mode & S_IFMT {
                S_IFREG => std::fs::read(&real).map(|bytes| sha256_hex(&bytes)),
                S_IFLNK => std::fs::read_link(&real).map(|to| to.display().to_string()),
                _ => Ok(String::new()),
            };
            let content = content.map_err(|error| refuse(format!("{}: {error}", real.display())))?;
            let (path, mode, time) = (file.path.display(), file.mode, (file.changed.0, file.changed.1));
            hash.update(format!("{path} {mode:o} {} {time:?} {content}\n", file.size));
        }
        let digest = hex::encode(hash.finalize());
        *known = Some((files, digest.clone()));
        Ok(digest)
    }

    fn real(&self, path: &Path) -> Option<PathBuf> {
        self.dirs.iter().find_map(|(seen, folder)| {
            let rest = path.strip_prefix(seen).ok()?;
            Some(if rest.as_os_str().is_empty() { folder.clone() } else { folder.join(rest) })
        })
    }
}

const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFDIR: u32 = 0o040_000;

fn walk(seen: &Path, folder: &Path, files: &mut Vec<Entry>) -> Result<(), PolicyError> {
    let failed = |error: std::io::Error| refuse(format!("{}: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let meta = entry.metadata().map_err(failed)?;
        let path = seen.join(entry.file_name());
        let kind = meta.mode() & S_IFMT;
        if ![S_IFREG, S_IFLNK, S_IFDIR].contains(&kind) {
            // Opening a pipe could block forever, beyond the reach of any deadline.
            return Err(refuse(format!("'{}' is not a regular file, folder or link", entry.path().display())));
        }
        let changed = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let size = if kind == S_IFREG { meta.len() } else { 0 };
        files.push(Entry { path: path.clone(), mode: meta.mode(), size, inode: meta.ino(), changed });
        if files.len() > MOST_FILES {
            return Err(refuse(format!("the folders contain more than {MOST_FILES} files")));
        }
        if kind == S_IFDIR {
            walk(&path, &entry.path(), files)?;
        }
    }
    Ok(())
}

fn refuse(text: String) -> PolicyError {
    PolicyError::new("capability", format!("cannot grant it the folders of its entry: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_follows_what_a_plugin_can_read_and_refuses_what_could_block_it() {
        let dir = std::env::temp_dir().join(format!("wharf-grants-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("sub/a"), "1").unwrap();
        let grants = Grants::new([("/data".to_owned(), dir.clone())].into(), &[]);
        let first = grants.digest().unwrap();
        assert_eq!(grants.digest().unwrap(), first);
        std::fs::write(dir.join("sub/a"), "2").unwrap();
        let second = grants.digest().unwrap();
        assert_ne!(second, first);
        let with_env =
            Grants::new([("/data".to_owned(), dir.clone())].into(), &["PATH".into(), "NOT_SET_AT_ALL".into()]);
        assert_ne!(with_env.digest().unwrap(), second);

        let sized = std::fs::File::create(dir.join("large")).unwrap();
        sized.set_len(MOST_BYTES + 1).unwrap();
        assert!(grants.digest().unwrap_err().message.contains("more than 16 MiB"));
        std::fs::remove_file(dir.join("large")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        assert!(grants.digest().unwrap_err().message.contains("not a regular file"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(grants.digest().unwrap_err().message.contains("cannot grant"));
    }
}
