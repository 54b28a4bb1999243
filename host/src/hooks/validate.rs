//! Host invariants: checked on the merged spec after every policy. No policy can change them. The configuration is
//! their only source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use super::host_paths::{FoundPaths, Guarded, HostPaths, Sight};
use crate::workspace::{ContainerSpec, Mount, MountKind, Network, Restart};

/// The invariants, as the configuration sets them.
#[derive(Debug, Clone, PartialEq)]
pub struct Invariants {
    /// Maximum memory in bytes.
    pub memory: u64,
    /// Maximum cores.
    pub cpus: f64,
    /// Maximum processes.
    pub pids: u32,
    /// Host folders that may be mounted, in addition to the project folder itself.
    pub bind_roots: Vec<PathBuf>,
    /// The folder of the workspaces' secret files. Each workspace may mount its own secrets, read-only, and no
    /// others.
    pub secrets: Option<PathBuf>,
    /// Files that no workspace may see: Wharf's own files, and the engine's socket.
    pub guarded: Vec<Guarded>,
    /// Host names that a workspace may have on the shared network, in addition to its own.
    pub hostnames: BTreeSet<String>,
    /// AppArmor profiles that may be named.
    pub apparmor: BTreeSet<String>,
    /// SELinux types that may be named.
    pub selinux: BTreeSet<String>,
    /// Whether the engine's socket may be mounted (equivalent to root on the host).
    pub docker_socket: bool,
    /// Whether the host's network may be used.
    pub host_network: bool,
    /// Whether ports may be published on addresses other than loopback.
    pub public_ports: bool,
    /// Whether `security.seccomp = "unconfined"` and similar settings are allowed.
    pub unconfined: bool,
    /// The largest allowed set of capabilities.
    pub capabilities: BTreeSet<String>,
}

impl Invariants {
    /// Lists everything in a spec that the host does not allow. An empty list means that it may be created.
    pub fn violations(
        &self,
        spec: &ContainerSpec,
        workspace: &str,
        project: &Path,
        paths: &mut HostPaths,
    ) -> Vec<String> {
        let mut said = Vec::new();
        if spec.image.is_none() {
            said.push(
                "image: no policy chose one; name one with --image, set workspace.image, or add an image policy".into(),
            );
        }
        let resources = &spec.resources;
        if resources.memory > self.memory {
            said.push(format!(
                "resources.memory: {} is above the ceiling limits.memory = {}",
                bytesize::ByteSize(resources.memory),
                bytesize::ByteSize(self.memory)
            ));
        }
        if resources.cpus.is_nan() || resources.cpus > self.cpus {
            said.push(format!("resources.cpus: {} is above the ceiling limits.cpus = {}", resources.cpus, self.cpus));
        }
        if resources.pids > self.pids {
            said.push(format!("resources.pids: {} is above the ceiling limits.pids = {}", resources.pids, self.pids));
        }
        for name in spec.security.capabilities.difference(&self.capabilities) {
            said.push(format!("security.capabilities: {name} is not in allow.capabilities"));
        }
        said.extend(self.profile_violations(spec));
        if !self.unconfined {
            let loose = [
                ("seccomp", spec.security.seccomp == "unconfined"),
                ("user_namespace", spec.security.user_namespace.as_deref() == Some("host")),
            ];
            for (field, _) in loose.into_iter().filter(|(_, loose)| *loose) {
                said.push(format!("security.{field}: turning it off needs allow.unconfined = true"));
            }
        }
        if spec.network == Network::Host && !self.host_network {
            said.push("network: the host's network needs allow.host_network = true".into());
        }
        // The engine resolves the host name on the network, before it asks outside name servers.
        let own = [workspace.to_owned(), format!("wharf-{workspace}")];
        let mine = own.contains(&spec.hostname) || self.hostnames.contains(&spec.hostname);
        if spec.network == Network::Shared && !mine {
            said.push(format!(
                "hostname: on the shared network the engine would resolve '{}' for all workspaces; use the network \
                 'own', or add it to allow.hostnames",
                spec.hostname
            ));
        }
        for (port, host) in &spec.ports {
            let local = host.address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
            if !local && !self.public_ports {
                said.push(format!("ports.{port}: the address {} needs allow.public_ports = true", host.address));
            }
        }
        said.extend(self.mount_violations(spec, workspace, project, paths));
        if spec.restart != Restart::No {
            said.extend(swappable(spec, project, paths));
        }
        said
    }

    /// Checks the profiles of the kernel's security modules. A name does not show how tight a profile is, so it must
    /// be listed.
    fn profile_violations(&self, spec: &ContainerSpec) -> Vec<String> {
        let mut said = Vec::new();
        match spec.security.apparmor.as_deref() {
            None => {}
            Some("unconfined") if self.unconfined => {}
            Some("unconfined") => {
                said.push("security.apparmor: turning it off needs allow.unconfined = true".to_owned());
            }
            Some(profile) if self.apparmor.contains(profile) => {}
            Some(profile) => said.push(format!("security.apparmor: the profile '{profile}' is not in allow.apparmor")),
        }
        for word in spec.security.selinux.iter().flat_map(|label| label.split_whitespace()) {
            match word.split_once(':') {
                None if word == "disable" && self.unconfined => {}
                None if word == "disable" => {
                    said.push("security.selinux: turning it off needs allow.unconfined = true".to_owned());
                }
                Some(("type", name)) if self.selinux.contains(name) => {}
                Some(("type", name)) => {
                    said.push(format!("security.selinux: the type '{name}' is not in allow.selinux"))
                }
                // A level separates containers of one type, and loosens no type.
                Some(("level", _)) => {}
                _ => said.push(format!(
                    "security.selinux: '{word}' is not 'type:NAME' or 'level:LEVEL', and nothing else may be set"
                )),
            }
        }
        said
    }

    /// Checks the part of [`Invariants::violations`] that depends on the targets of host paths, which may differ at
    /// each start.
    pub fn mount_violations(
        &self,
        spec: &ContainerSpec,
        workspace: &str,
        project: &Path,
        paths: &mut HostPaths,
    ) -> Vec<String> {
        let mut said = Vec::new();
        for (target, mount) in binds(spec) {
            if self.own_secrets(mount, workspace, paths) {
                continue;
            }
            if let Err(reason) = self.bind_allowed(Path::new(&mount.source), project, paths) {
                said.push(format!("mounts.{target}: {reason}"));
            }
        }
        said
    }

    /// Replaces each literal source by its resolved path, so that nothing resolves it again. Call it on a spec
    /// without violations.
    pub fn resolve_sources(&self, spec: &mut ContainerSpec, workspace: &str, paths: &mut HostPaths) {
        for mount in spec.mounts.values_mut().filter(|mount| mount.kind == MountKind::Bind) {
            if self.own_secrets(mount, workspace, paths) {
                continue;
            }
            if let Ok(source) = paths.source(Path::new(&mount.source), &self.guarded) {
                mount.source = source.path.display().to_string();
            }
        }
    }

    /// Returns whether a mount is the folder of this workspace's secrets, read-only. The folder is only created with
    /// the container.
    fn own_secrets(&self, mount: &Mount, workspace: &str, paths: &mut HostPaths) -> bool {
        let Some(own) = self.secrets.as_ref().map(|secrets| secrets.join(workspace)) else { return false };
        let source = Path::new(&mount.source);
        // The state folder may have several names.
        let mut same = || paths.real(&own).is_ok_and(|own| paths.real(source).is_ok_and(|source| own == source));
        mount.read_only && (own == source || same())
    }

    /// Checks whether a host path may be mounted into a workspace: a file or folder of the project, or of
    /// `allow.bind_roots`, that exposes neither the engine's socket nor Wharf's own files.
    ///
    /// # Errors
    /// The reason why it is not allowed.
    pub fn bind_allowed(&self, source: &Path, project: &Path, paths: &mut HostPaths) -> Result<(), String> {
        let shown = source.display();
        if source == Path::new("/") {
            return Err(format!("{shown} is the whole host and gives root access to it; no setting allows it"));
        }
        // Resolve first, so that a link inside the project cannot lead out of it.
        let found = paths.source(source, &self.guarded).map_err(|reason| format!("the host path {shown} {reason}"))?;
        let real = found.path;
        if real == Path::new("/") {
            return Err(format!("{shown} is the whole host and gives root access to it; no setting allows it"));
        }
        if found.engine {
            return match self.docker_socket {
                true => Ok(()),
                false => Err(format!("{shown} gives root access to the host; it needs allow.docker_socket = true")),
            };
        }
        let roots: Vec<&Path> = self.bind_roots.iter().map(PathBuf::as_path).chain([project]).collect();
        if roots.into_iter().filter_map(|root| paths.real(root).ok()).any(|root| real.starts_with(root)) {
            Ok(())
        } else {
            Err(format!("{shown} is outside the project and outside allow.bind_roots"))
        }
    }
}

/// Returns the engine sockets of this machine: the socket of this engine, and the usual locations.
pub fn engine_sockets(endpoint: Option<PathBuf>) -> impl Iterator<Item = Guarded> {
    let because = || "contains the socket of the engine, which gives root access to the host".to_owned();
    let guarded = move |path: PathBuf| Guarded { path, because: because(), engine: true };
    endpoint.into_iter().chain(SOCKETS.iter().map(PathBuf::from)).map(guarded)
}

fn binds(spec: &ContainerSpec) -> impl Iterator<Item = (&String, &Mount)> {
    spec.mounts.iter().filter(|(_, mount)| mount.kind == MountKind::Bind)
}

/// Lists mounts that a workspace could replace with a link: this workspace, or another part of it with access to the
/// project. The engine follows the link at the container's start. For a start by the engine itself, Wharf cannot
/// check the link first.
fn swappable(spec: &ContainerSpec, project: &Path, paths: &mut HostPaths) -> Vec<String> {
    let all: Vec<(&String, &Mount)> = binds(spec).collect();
    let own = all.iter().filter(|(_, mount)| !mount.read_only).map(|(_, mount)| Path::new(&mount.source));
    let writable: Vec<PathBuf> = own.chain([project]).filter_map(|path| paths.real(path).ok()).collect();
    let mut said = Vec::new();
    for (target, mount) in all {
        let Ok(inner) = paths.real(Path::new(&mount.source)) else { continue };
        let within = |path: &Path| writable.iter().any(|outer| path.starts_with(outer));
        // A component of the literal path may be a link in such a folder.
        let mut written = Path::new(&mount.source).ancestors().skip(1);
        let by_link = written.any(|folder| paths.real(folder).is_ok_and(|folder| within(&folder)));
        let inside = writable.iter().any(|outer| inner != *outer && inner.starts_with(outer));
        if inside || by_link {
            said.push(format!(
                "mounts.{target}: {} is in a folder that a workspace can write, so a link could replace it; the \
                 engine would follow the link when it restarts the container, so restart must be 'no' (the service \
                 restarts with [restart])",
                mount.source
            ));
        }
    }
    said
}

/// The usual locations of engine sockets.
const SOCKETS: [&str; 5] = [
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/crio/crio.sock",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::chain::tests::{invariants, spec};
    use crate::workspace::HostPort;

    fn said(change: impl FnOnce(&mut ContainerSpec)) -> Vec<String> {
        let mut spec = spec();
        change(&mut spec);
        invariants().violations(&spec, "shop-1a2b3c", &std::env::temp_dir(), &mut HostPaths::of_host())
    }

    #[test]
    fn a_default_spec_with_an_image_violates_nothing() {
        assert_eq!(said(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn each_invariant_names_the_field_and_the_setting_that_would_allow_it() {
        let bind = |path: &str| Mount { kind: MountKind::Bind, source: path.into(), read_only: true };
        let cases: Vec<(Vec<String>, &str)> = vec![
            (said(|s| s.image = None), "--image"),
            (said(|s| s.resources.memory = u64::MAX), "limits.memory"),
            (said(|s| s.resources.cpus = f64::NAN), "limits.cpus"),
            (said(|s| s.resources.pids = u32::MAX), "limits.pids"),
            (said(|s| s.security.capabilities.extend(["SYS_ADMIN".to_owned()])), "allow.capabilities"),
            (said(|s| s.security.seccomp = "unconfined".into()), "allow.unconfined"),
            (said(|s| s.network = Network::Host), "allow.host_network"),
            (
                said(|s| drop(s.ports.insert("80/tcp".into(), HostPort { address: "0.0.0.0".into(), port: None }))),
                "allow.public_ports",
            ),
            (said(|s| drop(s.mounts.insert("/x".into(), bind("/etc")))), "allow.bind_roots"),
            (said(|s| drop(s.mounts.insert("/x".into(), bind("/")))), "whole host"),
            (said(|s| drop(s.mounts.insert("/x".into(), bind("/no/such/path")))), "does not exist; make it first"),
        ];
        for (said, part) in cases {
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said.first().unwrap().contains(part), "{said:?} should name {part}");
        }
    }

    #[test]
    fn a_link_inside_the_project_that_leads_out_is_refused() {
        let dir = std::env::temp_dir().join(format!("wharf-validate-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let link = dir.join("out");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let mut spec = spec();
        let mount = Mount { kind: MountKind::Bind, source: link.display().to_string(), read_only: true };
        spec.mounts.insert("/x".into(), mount);
        let mut paths = HostPaths::of_host();
        let said = invariants().violations(&spec, "shop-1a2b3c", &dir, &mut paths);
        std::fs::remove_dir_all(&dir).unwrap();
        // The record gives the same answer after the link is gone.
        let text = serde_json::to_value(paths.found()).unwrap();
        let mut recorded = HostPaths::of_record(serde_json::from_value(text).unwrap());
        assert_eq!(invariants().violations(&spec, "shop-1a2b3c", &dir, &mut recorded), said);
        assert!(said.len() == 1 && said[0].contains("outside the project"), "{said:?}");
    }

    #[test]
    fn what_the_workspace_could_swap_for_a_link_is_not_mounted_where_the_engine_restarts_by_itself() {
        let dir = std::env::temp_dir().join(format!("wharf-swap-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("cache")).unwrap();
        let bind = |source: &Path, read_only| {
            let source = source.display().to_string();
            Mount { kind: MountKind::Bind, source, read_only }
        };
        let said = |restart, project_too| {
            let mut spec = spec();
            spec.restart = restart;
            spec.mounts.insert("/cache".into(), bind(&dir.join("cache"), false));
            if project_too {
                spec.mounts.insert("/workspace".into(), bind(&dir, false));
            }
            invariants().violations(&spec, "shop-1a2b3c", &dir, &mut HostPaths::of_host())
        };
        let always = said(Restart::Always, true);
        assert!(
            always.len() == 1 && always[0].starts_with("mounts./cache:") && always[0].contains("restart"),
            "{always:?}"
        );
        assert_eq!(said(Restart::No, true), Vec::<String>::new());
        assert_eq!(said(Restart::Always, false), always, "another part of the workspace has the project");
        // A link in it that leads elsewhere is no better.
        std::fs::remove_dir(dir.join("cache")).unwrap();
        std::os::unix::fs::symlink(std::env::temp_dir(), dir.join("cache")).unwrap();
        assert!(said(Restart::Always, true).iter().any(|line| line.contains("restart must be")));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_profile_that_is_not_listed_is_refused_whatever_it_means() {
        let labels = [
            "disable",
            "disable level:s0",
            " disable",
            "type:spc_t",
            "level:s0 type:spc_t",
            "user:x",
            "role:r",
            "spc_t",
        ];
        for label in labels {
            let said = said(|spec| spec.security.selinux = Some(label.into()));
            assert!(said.iter().any(|line| line.contains("security.selinux")), "{label}: {said:?}");
        }
        for profile in ["unconfined", "unconfined ", ":root://unconfined", "Unconfined", "mine", ""] {
            let said = said(|spec| spec.security.apparmor = Some(profile.into()));
            assert!(said.iter().any(|line| line.contains("security.apparmor")), "{profile:?}: {said:?}");
        }
        let listed = Invariants {
            apparmor: ["mine".to_owned()].into(),
            selinux: ["container_t".to_owned()].into(),
            unconfined: true,
            ..invariants()
        };
        let said = |apparmor: &str, selinux: &str| {
            let mut spec = spec();
            (spec.security.apparmor, spec.security.selinux) = (Some(apparmor.into()), Some(selinux.into()));
            listed.violations(&spec, "shop-1a2b3c", &std::env::temp_dir(), &mut HostPaths::of_host())
        };
        assert!(said("mine", "type:container_t level:s0:c1,c2").is_empty());
        assert!(said("unconfined", "disable").is_empty(), "the configuration turns them off");
        assert_eq!(said("unconfined ", "type:spc_t").len(), 2, "and no more than that");
    }

    #[test]
    fn on_the_shared_network_a_host_name_is_the_workspaces_own_or_a_listed_one() {
        for name in ["registry.example.org", "db", "shop-1a2b3d", "wharf-x", "localhost", "SHOP-1A2B3C"] {
            let shared = said(|spec| spec.hostname = name.into());
            assert!(shared.iter().any(|line| line.starts_with("hostname:")), "{name}: {shared:?}");
            let own = said(|spec| (spec.hostname, spec.network) = (name.into(), Network::Own));
            assert_eq!(own, Vec::<String>::new(), "{name}");
        }
        for name in ["shop-1a2b3c", "wharf-shop-1a2b3c", "w"] {
            assert_eq!(said(|spec| spec.hostname = name.into()), Vec::<String>::new(), "{name}");
        }
    }
}
