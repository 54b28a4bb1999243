//! The files that decide: which they are, and whether others can change them.

use std::path::PathBuf;
use std::sync::PoisonError;

use super::App;
use crate::store;
use crate::trust::{self, Untrusted};

/// How much of a path decides.
enum Extent {
    /// It, and what is above it.
    Itself,
    /// All below, too.
    All,
}

impl App {
    /// The files that the chain is made from, whether they exist or not: the configuration, the script beside it, and
    /// those of the policies, with what these import as far as they have been read.
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

    /// What must not be in reach of a workspace, with what is below: the configuration and its folder, policies and their folders,
    /// from which they import, golden cases, seccomp profiles, keys, tokens, folders that plugins read, the state folder, and
    /// the socket of the API. Paths are absolute, links in them are not followed, and not all of them exist.
    pub fn protected_paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.deciding_files().into_iter().map(|(path, _)| path).collect();
        let folders: Vec<PathBuf> =
            self.policy_files().iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
        paths.extend(folders);
        if let Some(file) = &self.loaded.file {
            paths.extend(file.parent().map(PathBuf::from));
        }
        let state = absolute(self.state_dir.clone());
        paths.push(self.loaded.config.api.socket.clone().unwrap_or_else(|| state.join("wharf.sock")));
        paths.push(state);
        paths.sort();
        paths.dedup();
        paths
    }

    /// Whether nobody else can change what decides.
    ///
    /// # Errors
    /// The first file that others can change, with what to do.
    pub fn check_trust(&self) -> Result<(), crate::config::Error> {
        self.untrusted().into_iter().next().map_or(Ok(()), |untrusted| Err(untrusted.into()))
    }

    /// All that others can change of what decides.
    pub fn untrusted(&self) -> Vec<Untrusted> {
        let mut found: Vec<Untrusted> = Vec::new();
        let mut add = |untrusted: Untrusted| {
            // One folder above many files is one fault.
            if !found.iter().any(|known| known.why == untrusted.why) {
                found.push(untrusted);
            }
        };
        for (path, extent) in self.deciding_files() {
            let checked = match extent {
                Extent::Itself => trust::check(&path),
                Extent::All => trust::check(&path).and_then(|()| trust::check_folder(&path)),
            };
            // What cannot be read says so when it is.
            if let Err(trust::Error::Untrusted(untrusted)) = checked {
                add(untrusted);
            }
        }
        if let Err(store::Error::Untrusted(untrusted)) = store::check(&self.state_dir) {
            add(untrusted);
        }
        found
    }

    fn policy_files(&self) -> Vec<PathBuf> {
        let base = self.loaded.base();
        let policies = self.loaded.config.policy.iter();
        policies
            .filter_map(|policy| policy.wasm.as_ref().or(policy.script.as_ref()))
            .map(|path| absolute(base.join(path)))
            .collect()
    }

    fn deciding_files(&self) -> Vec<(PathBuf, Extent)> {
        let (config, base) = (&self.loaded.config, self.loaded.base());
        let mut files: Vec<(PathBuf, Extent)> = Vec::new();
        if let Some(file) = &self.loaded.file {
            files.push((file.clone(), Extent::Itself));
            // Wharf reads it as soon as it is there.
            files.push((file.with_file_name("wharf.rhai"), Extent::Itself));
            files.push((absolute(base.join("seccomp")), Extent::All));
        }
        files.extend(self.policy_files().into_iter().map(|path| (path, Extent::Itself)));
        let imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        files.extend(imported.values().flatten().map(|path| (absolute(path.clone()), Extent::Itself)));
        for policy in &config.policy {
            files.extend(policy.capabilities.dirs.values().map(|dir| (absolute(base.join(dir)), Extent::All)));
        }
        files.extend(config.reload.cases.iter().map(|path| (absolute(base.join(path)), Extent::All)));
        let (api, client) = (&config.api, &config.client);
        let keys = [
            &api.tls_cert,
            &api.tls_key,
            &api.client_ca,
            &client.token_file,
            &client.ca_file,
            &client.cert_file,
            &client.key_file,
        ];
        files.extend(keys.into_iter().flatten().map(|path| (absolute(base.join(path)), Extent::Itself)));
        files
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
