//! The files by which Wharf decides, with the role of each. No workspace may see them.

use std::path::PathBuf;

use super::Loaded;

impl Loaded {
    /// Returns the files and folders that decide, and the socket of the service, each with its role. Paths are
    /// absolute, links in them are not resolved, and not all of them exist.
    pub fn own_files(&self) -> Vec<(PathBuf, String)> {
        let base = self.base();
        let base = std::path::absolute(&base).unwrap_or(base);
        let role = |role: &str| role.to_owned();
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        if let Some(file) = &self.file {
            files.push((file.clone(), role("the configuration of Wharf")));
            // Wharf reads it as soon as it exists.
            files.push((file.with_file_name("wharf.rhai"), role("the configuration of Wharf")));
            files.push((base.join("seccomp"), role("the seccomp profiles of Wharf")));
        }
        for policy in &self.config.policy {
            let named = [&policy.wasm, &policy.script].into_iter().flatten();
            files.extend(named.map(|path| (base.join(path), format!("the policy '{}'", policy.name))));
        }
        for policy in &self.config.policy {
            let dirs = policy.capabilities.dirs.values();
            files.extend(dirs.map(|dir| (base.join(dir), format!("a folder that the policy '{}' reads", policy.name))));
        }
        files.extend(self.config.reload.cases.iter().map(|path| (base.join(path), role("cases that decide a reload"))));
        let (api, client) = (&self.config.api, &self.config.client);
        let keys = [
            &api.tls_cert,
            &api.tls_key,
            &api.client_ca,
            &client.token_file,
            &client.ca_file,
            &client.cert_file,
            &client.key_file,
        ];
        files.extend(
            keys.into_iter().flatten().map(|path| (base.join(path), role("a key, certificate or token of Wharf"))),
        );
        files.extend(self.config.api.socket.iter().map(|path| (base.join(path), role(SOCKET))));
        files
    }

    /// Returns the same paths without the socket, which is not a readable file.
    pub fn deciding_files(&self) -> impl Iterator<Item = PathBuf> {
        self.own_files().into_iter().filter(|(_, role)| role != SOCKET).map(|(path, _)| path)
    }
}

const SOCKET: &str = "the socket of the service";
