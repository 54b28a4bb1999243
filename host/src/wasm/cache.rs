//! Compiled code on disk: compile once per digest.
//!
//! Loading compiled code is the one place where a wrong byte could run as machine code, so: the folder must be this
//! user's and closed to everyone else, a file is named after the component's digest and wasmtime's compatibility hash,
//! and it begins with the SHA-256 of what follows. Anything that does not fit is compiled again.

use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Makes a folder if needed, and sees that it is this user's and closed to all others.
///
/// # Errors
/// One line, when it is not.
pub fn private_folder(dir: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("{}: {error}", dir.display()))?;
    let meta = std::fs::symlink_metadata(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // The owner of a process's own proc folder is its effective user; the standard library has no geteuid.
    let user = std::fs::metadata("/proc/self").map(|meta| meta.uid()).ok();
    if !meta.is_dir() || Some(meta.uid()) != user || meta.mode() & 0o077 != 0 {
        return Err(format!("{} must be a folder of this user with mode 0700", dir.display()));
    }
    Ok(())
}

/// A private folder of compiled components.
pub(super) struct Cache {
    dir: PathBuf,
    compatibility: u64,
}

impl Cache {
    /// Opens the folder, making it if needed.
    pub(super) fn open(dir: &Path, engine: &Engine) -> Result<Self, String> {
        private_folder(dir)?;
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_path_buf(), compatibility: hasher.finish() })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{:016x}.cwasm", self.compatibility))
    }

    /// The component, if it is there and whole.
    #[allow(unsafe_code)]
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).ok()?;
        let (sum, code) = bytes.split_at_checked(32)?;
        if Sha256::digest(code).as_slice() != sum {
            tracing::warn!("{} is damaged; compiling again", path.display());
            let _ = std::fs::remove_file(&path);
            return None;
        }
        // SAFETY: the folder is private to this user (checked in `open`), only `put` writes to it, the checksum says
        // that the bytes are the ones it wrote, and wasmtime itself refuses code of another version or configuration.
        match unsafe { Component::deserialize(engine, code) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::debug!("{}: {error}; compiling again", path.display());
                None
            }
        }
    }

    /// Keeps a component. A failure costs only the next start's time, so it is logged and no more.
    pub(super) fn put(&self, component: &Component, digest: &str) {
        let path = self.path(digest);
        // Written aside and renamed, so that a reader never sees half a file.
        let aside = path.with_extension(format!("{}.tmp", std::process::id()));
        let write = || -> Result<(), String> {
            let code = component.serialize().map_err(|error| error.to_string())?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)
                .map_err(|error| error.to_string())?;
            file.write_all(Sha256::digest(&code).as_slice()).map_err(|error| error.to_string())?;
            file.write_all(&code).map_err(|error| error.to_string())?;
            std::fs::rename(&aside, &path).map_err(|error| error.to_string())
        };
        if let Err(error) = write() {
            let _ = std::fs::remove_file(&aside);
            tracing::warn!("{}: compiled code cannot be kept: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_damaged_entry_is_compiled_again_and_an_open_folder_is_not_used() {
        let dir = std::env::temp_dir().join(format!("wharf-cache-{}", std::process::id()));
        let engine = Engine::default();
        let cache = Cache::open(&dir, &engine).unwrap();
        // The smallest component: its preamble.
        let component = Component::new(&engine, b"\0asm\x0d\0\x01\0").unwrap();
        assert!(cache.get(&engine, "abc").is_none());
        cache.put(&component, "abc");
        assert!(cache.get(&engine, "abc").is_some());
        let path = cache.path("abc");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(cache.get(&engine, "abc").is_none());
        assert!(!path.exists());
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let refused = Cache::open(&dir, &engine).err();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(refused.unwrap().contains("0700"));
    }
}
