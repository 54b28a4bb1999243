//! The files that decide, and the check whether others can change them.

use std::path::PathBuf;
use std::sync::PoisonError;

use super::App;
use crate::store;
use crate::trust::{self, Untrusted};

/// The part of a path that decides.
enum Extent {
    /// The path itself, and the folders above it.
    Itself,
    /// Everything below it, too.
    All,
}

impl App {
    /// Returns the files of the chain, whether they exist or not: the configuration, the script beside it, and the
    /// files of the policies, with their imports as far as they have been read.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = match &self.sources.file {
            Some(file) => vec![file.clone()],
            None => self.sources.search.clone(),
        };
        files.extend(files.clone().iter().map(|file| file.with_file_name("wharf.rhai")));
        let paths =
            self.loaded.config.policy.iter().filter_map(|policy| policy.wasm.as_ref().or(policy.script.as_ref()));
        let imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        for path in paths.map(|path| self.loaded.base().join(path)) {
            files.extend(imported.get(&path).into_iter().flatten().cloned());
            files.push(path);
        }
        files
    }

    /// Checks that no other user can change the files that decide.
    ///
    /// # Errors
    /// The first file that others can change, with a remedy.
    pub fn check_trust(&self) -> Result<(), crate::config::Error> {
        self.untrusted().into_iter().next().map_or(Ok(()), |untrusted| Err(untrusted.into()))
    }

    /// Returns all deciding files that others can change.
    pub fn untrusted(&self) -> Vec<Untrusted> {
        let mut found: Vec<Untrusted> = Vec::new();
        let mut add = |untrusted: Untrusted| {
            // A folder above many files is a single fault.
            if !found.iter().any(|known| known.why == untrusted.why) {
                found.push(untrusted);
            }
        };
        for (path, extent) in self.deciding_files() {
            let checked = match extent {
                Extent::Itself => trust::check(&path),
                Extent::All => trust::check_all(&path),
            };
            // An unreadable file is reported when it is read.
            if let Err(trust::Error::Untrusted(untrusted)) = checked {
                add(untrusted);
            }
        }
        if let Err(store::Error::Untrusted(untrusted)) = store::check(&self.state_dir) {
            add(untrusted);
        }
        found
    }

    fn deciding_files(&self) -> Vec<(PathBuf, Extent)> {
        // For a folder everything below it counts; a file has nothing below it.
        let mut files: Vec<(PathBuf, Extent)> = self.loaded.deciding_files().map(|path| (path, Extent::All)).collect();
        files.extend(self.imports().into_iter().map(|path| (path, Extent::Itself)));
        files
    }

    /// Returns the files that policies import, as far as they have been read.
    pub(super) fn imports(&self) -> Vec<PathBuf> {
        let imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        imported.values().flatten().map(|path| absolute(path.clone())).collect()
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
