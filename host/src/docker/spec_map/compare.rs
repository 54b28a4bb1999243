//! Compares the engine's container with the decided spec.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::workspace::ContainerSpec;

/// A field whose reported value differs from the decided value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Path of the field, e.g. `resources.memory` or `env.HOME`.
    pub field: String,
    /// The decided value, as JSON.
    pub decided: String,
    /// The value that the engine reports, as JSON.
    pub actual: String,
}

/// Compares the decided spec with the report of [`super::super::Docker::inspect`]. An empty result means that the
/// container matches the spec.
///
/// If the spec leaves the choice to the image or the engine (empty command or working directory, no entry point, no
/// user, no size of /dev/shm), any value matches. Environment and labels may have extra entries from the image.
/// `disk_enforced` is the value of [`super::super::CreateRequest::enforce_disk`] at creation: a limit that is only
/// monitored is not compared.
pub fn differences(decided: &ContainerSpec, actual: &ContainerSpec, disk_enforced: bool) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    let reference = |spec: &ContainerSpec| spec.image.as_ref().map(|image| image.reference.clone());
    let (want, have) = (reference(decided), reference(actual));
    if !want.as_deref().is_some_and(|want| have.as_deref().is_some_and(|have| same_image(want, have))) {
        found.check("image.reference", &want, &have);
    }
    if decided.entrypoint.is_some() {
        found.check("entrypoint", &decided.entrypoint, &actual.entrypoint);
    }
    if !decided.command.is_empty() {
        found.check("command", &decided.command, &actual.command);
    }
    if decided.user.is_some() {
        found.check("user", &decided.user, &actual.user);
    }
    if !decided.working_dir.is_empty() {
        found.check("working_dir", &decided.working_dir, &actual.working_dir);
    }
    found.check("hostname", &decided.hostname, &actual.hostname);
    found.subset("env", &decided.env, &actual.env);
    found.subset("labels", &decided.labels, &actual.labels);
    found.same("mounts", &decided.mounts, &actual.mounts);
    found.same("tmpfs", &decided.tmpfs, &actual.tmpfs);
    found.same("ports", &decided.ports, &actual.ports);
    found.check("network", &decided.network, &actual.network);

    let (want, have) = (&decided.resources, &actual.resources);
    // The engine stores billionths of a core.
    if (want.cpus - have.cpus).abs() > 1e-6 {
        found.add("resources.cpus", &want.cpus, &have.cpus);
    }
    found.check("resources.memory", &want.memory, &have.memory);
    found.check("resources.pids", &want.pids, &have.pids);
    if want.shm_size.is_some() {
        found.check("resources.shm_size", &want.shm_size, &have.shm_size);
    }
    if disk_enforced {
        found.check("resources.disk", &want.disk, &have.disk);
    }
    // An engine may apply its own limits to every container (`default-ulimits` in its daemon.json).
    found.subset("resources.ulimits", &want.ulimits, &have.ulimits);

    let (want, have) = (&decided.security, &actual.security);
    found.check("security.capabilities", &want.capabilities, &have.capabilities);
    found.check("security.no_new_privileges", &want.no_new_privileges, &have.no_new_privileges);
    found.check("security.read_only_root", &want.read_only_root, &have.read_only_root);
    found.check("security.seccomp", &want.seccomp, &have.seccomp);
    found.check("security.apparmor", &want.apparmor, &have.apparmor);
    found.check("security.selinux", &want.selinux, &have.selinux);
    found.check("security.user_namespace", &want.user_namespace, &have.user_namespace);

    found.check("restart", &decided.restart, &actual.restart);
    found.check("health_check", &decided.health_check, &actual.health_check);
    found.0
}

/// Returns whether the reference that an engine reports is the reference that it was given. Docker reports it
/// unchanged. Podman adds the implied registry in front and the tag at the end.
fn same_image(given: &str, reported: &str) -> bool {
    let tagged = [given.to_owned(), format!("{given}:latest")];
    let prefixes = ["", "localhost/", "docker.io/", "docker.io/library/"];
    tagged.iter().any(|given| prefixes.iter().any(|prefix| reported.strip_prefix(prefix) == Some(given)))
}

struct Found(Vec<Difference>);

impl Found {
    fn check<T: PartialEq + Serialize>(&mut self, field: &str, decided: &T, actual: &T) {
        if decided != actual {
            self.add(field, decided, actual);
        }
    }

    fn add<T: Serialize>(&mut self, field: &str, decided: &T, actual: &T) {
        let json = |value: &T| serde_json::to_string(value).unwrap_or_default();
        self.0.push(Difference { field: field.to_owned(), decided: json(decided), actual: json(actual) });
    }

    /// Requires every decided entry to be present.
    fn subset<T: PartialEq + Serialize>(
        &mut self,
        field: &str,
        decided: &BTreeMap<String, T>,
        actual: &BTreeMap<String, T>,
    ) {
        for (key, value) in decided {
            self.check(&format!("{field}.{key}"), &Some(value), &actual.get(key));
        }
    }

    /// Requires exactly the decided entries.
    fn same<T: PartialEq + Serialize>(
        &mut self,
        field: &str,
        decided: &BTreeMap<String, T>,
        actual: &BTreeMap<String, T>,
    ) {
        self.subset(field, decided, actual);
        for (key, value) in actual.iter().filter(|(key, _)| !decided.contains_key(*key)) {
            self.check(&format!("{field}.{key}"), &None, &Some(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_same_however_the_engine_writes_it() {
        for reported in ["a:1", "localhost/a:1", "docker.io/library/a:1"] {
            assert!(same_image("a:1", reported), "{reported}");
        }
        assert!(same_image("a", "localhost/a:latest"));
        for other in ["b:1", "evil.example/a:1", "localhost/b/a:1", "a:2", "docker.io/other/a:1"] {
            assert!(!same_image("a:1", other), "{other}");
        }
    }
}
