//! Compiled code on disk: compile once per digest.
//!
//! Loading compiled code is the one place where a wrong byte could run as machine code. Therefore the folder must
//! belong to this user and be closed to all others, a file is named after the component's digest and wasmtime's
//! compatibility hash, and it ends with a SHA-256 over both of them and the code. Files that fail these checks are
//! compiled again.
//!
//! The code is memory-mapped, not read: pages that never run are never loaded, and all processes share the pages.

use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Maximum bytes of the folder, beside [`MOST_FILES`]. Beyond that, the least recently used files are removed.
const MOST_BYTES: u64 = 256 << 20;
/// Maximum files of the folder, see [`MOST_BYTES`].
const MOST_FILES: usize = 512;
/// Precision of the time of last use.
const DAY: Duration = Duration::from_secs(86_400);

/// Version of the file format. It is part of the file names, so that files of an older Wharf count as absent, not as
/// damaged.
const FORMAT: u32 = 4;
/// Bytes of the seal after the code.
const SEAL: u64 = 32;

/// Creates a folder if needed, and checks that it belongs to this user and is closed to all others.
///
/// # Errors
/// One line, if it does not or is not.
pub fn private_folder(dir: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("{}: {error}", dir.display()))?;
    let meta = std::fs::symlink_metadata(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // The owner of a process's own /proc folder is its effective user; the standard library has no geteuid.
    let user = std::fs::metadata("/proc/self").map(|meta| meta.uid()).ok();
    if !meta.is_dir() || Some(meta.uid()) != user || meta.mode() & 0o077 != 0 {
        return Err(format!("'{}' must be a folder of this user with mode 0700", dir.display()));
    }
    Ok(())
}

/// A private folder of compiled components.
pub(super) struct Cache {
    dir: PathBuf,
    compatibility: u64,
}

impl Cache {
    /// Opens the folder, creating it if needed.
    pub(super) fn open(dir: &Path, engine: &Engine) -> Result<Self, String> {
        private_folder(dir)?;
        let mut hasher = std::hash::DefaultHasher::new();
        FORMAT.hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_path_buf(), compatibility: hasher.finish() })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{:016x}.cwasm", self.compatibility))
    }

    /// Returns the seal for `length` bytes of code. It proves that the code belongs to this component and this
    /// program, and is complete.
    fn seal(&self, digest: &str, length: u64, mut code: impl Read) -> std::io::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        hash.update(format!("{digest} {:016x} {length}\n", self.compatibility));
        let mut piece = vec![0; 64 << 10];
        loop {
            match code.read(&mut piece)? {
                0 => return Ok(hash.finalize().into()),
                count => hash.update(piece.get(..count).unwrap_or_default()),
            }
        }
    }

    /// Opens an entry that is a plain file of this user and not writable by any other user.
    fn open_entry(&self, path: &Path) -> Option<std::fs::File> {
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).ok()?;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(nofollow).open(path).ok()?;
        let (meta, folder) = (file.metadata().ok()?, std::fs::symlink_metadata(&self.dir).ok()?);
        if !meta.is_file() || meta.uid() != folder.uid() || meta.mode() & 0o022 != 0 {
            tracing::warn!("'{}' is not a file that only this user can write; compiling again", path.display());
            return None;
        }
        // Recently used entries survive a cleanup; updating the time once a day is precise enough.
        let now = SystemTime::now();
        if meta.modified().ok().and_then(|then| now.duration_since(then).ok()).is_some_and(|age| age > DAY) {
            let _ = file.set_modified(now);
        }
        Some(file)
    }

    /// Returns whether a file matches its seal.
    fn is_whole(&self, digest: &str, mut file: &std::fs::File) -> std::io::Result<bool> {
        let Some(length) = file.metadata()?.len().checked_sub(SEAL) else { return Ok(false) };
        let seal = self.seal(digest, length, file.take(length))?;
        let mut sealed = [0; SEAL as usize];
        file.read_exact(&mut sealed)?;
        Ok(seal == sealed)
    }

    /// Returns the component, if it is present and intact.
    #[allow(unsafe_code)]
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest);
        let file = self.open_entry(&path)?;
        if !self.is_whole(digest, &file).unwrap_or(false) {
            tracing::warn!("'{}' is damaged, or belongs to another component; compiling again", path.display());
            let _ = std::fs::remove_file(&path);
            return None;
        }
        // The file that was checked, whatever file has its name by now.
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: the folder is private to this user (checked in `open`), and so is the file (checked in
        // `open_entry`). Only `put` writes files, and it never writes again to a file under its final name. The seal
        // proves that the bytes are those that `put` wrote for this very component, and wasmtime itself refuses code
        // of another version or configuration.
        match unsafe { Component::deserialize_file(engine, opened) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::debug!("{}: {error}; compiling again", path.display());
                None
            }
        }
    }

    /// Stores a component. A failure only costs time at the next start, so it is just logged.
    pub(super) fn put(&self, component: &Component, digest: &str) {
        let path = self.path(digest);
        // Write a temporary file and rename it, so that a reader never sees half a file.
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
            let seal = self.seal(digest, code.len() as u64, &code[..]).map_err(|error| error.to_string())?;
            file.write_all(&code).map_err(|error| error.to_string())?;
            file.write_all(&seal).map_err(|error| error.to_string())?;
            std::fs::rename(&aside, &path).map_err(|error| error.to_string())
        };
        if let Err(error) = write() {
            let _ = std::fs::remove_file(&aside);
            tracing::warn!("cannot save compiled code in '{}': {error}", path.display());
        }
        self.make_room(MOST_BYTES, MOST_FILES);
    }

    /// Removes the least recently used files until the folder is within these limits.
    fn make_room(&self, most_bytes: u64, most_files: usize) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                Some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        files.sort();
        let (mut bytes, mut count) = (files.iter().map(|(_, size, _)| size).sum::<u64>(), files.len());
        for (_, size, path) in files {
            if bytes <= most_bytes && count <= most_files {
                return;
            }
            // A process that has the file open keeps it; a later process compiles again.
            if std::fs::remove_file(&path).is_ok() {
                bytes = bytes.saturating_sub(size);
                count -= 1;
            }
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
        let whole = bytes.clone();
        // Damage in the seal, damage in the code, and a truncated file.
        *bytes.last_mut().unwrap() ^= 1;
        let (mut code, short) = (whole.clone(), whole[..whole.len() - 1].to_vec());
        code[0] ^= 1;
        for damaged in [bytes, code, short, vec![]] {
            std::fs::write(&path, damaged).unwrap();
            assert!(cache.get(&engine, "abc").is_none());
            assert!(!path.exists());
        }

        // Code of another component under this component's name.
        cache.put(&component, "abc");
        std::fs::copy(&path, cache.path("other")).unwrap();
        assert!(cache.get(&engine, "other").is_none());
        assert!(cache.get(&engine, "abc").is_some());
        // Not a plain file, or writable by others.
        std::fs::rename(&path, dir.join("aside")).unwrap();
        std::os::unix::fs::symlink(dir.join("aside"), &path).unwrap();
        assert!(cache.get(&engine, "abc").is_none(), "a link is not followed");
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(dir.join("aside"), &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.get(&engine, "abc").is_none(), "others can write it");

        for number in 0..5u64 {
            cache.put(&component, &number.to_string());
            let time = SystemTime::now() - Duration::from_secs(100 * (number + 1));
            std::fs::File::options()
                .write(true)
                .open(cache.path(&number.to_string()))
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        cache.make_room(u64::MAX, 3);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3);
        assert!(cache.get(&engine, "0").is_some() && cache.get(&engine, "4").is_none(), "the oldest go first");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let refused = Cache::open(&dir, &engine).err();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(refused.unwrap().contains("0700"));
    }
}
