//! `ContainerSpec`: the fields of a container that policies may set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The fields of a container that policies may set. The spec is a view: it is applied as edits to the engine's create
/// body.
///
/// The field names here are used everywhere: `env.FOO`, `resources.memory`, `security.capabilities`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The image, once one is chosen.
    pub image: Option<ImageChoice>,
    /// The program that gets the command as its arguments; none means the image's entry point, an empty list means no
    /// entry point. Once the image is known, this field holds the image's value.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The command and its arguments; empty means the image's command, which this field holds once the image is
    /// known.
    pub command: Vec<String>,
    /// User or `uid:gid`; none means the image's user, which this field holds once the image is known, if the image
    /// names one.
    pub user: Option<String>,
    /// Absolute path in the container; empty means the image's working directory.
    pub working_dir: String,
    /// Host name inside the container.
    pub hostname: String,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Labels, except those that begin with `wharf.` (the host adds those).
    pub labels: BTreeMap<String, String>,
    /// Mounts by target (an absolute path in the container).
    pub mounts: BTreeMap<String, Mount>,
    /// Memory file systems by target.
    pub tmpfs: BTreeMap<String, Tmpfs>,
    /// Published ports by `<container port>/<tcp|udp>`.
    pub ports: BTreeMap<String, HostPort>,
    /// The network that it is connected to.
    pub network: Network,
    /// Resource limits.
    pub resources: Resources,
    /// Its privileges.
    pub security: Security,
    /// The engine's action when the container ends.
    pub restart: Restart,
    /// Health check; none means no checks. Once the image is known, this field holds the image's health check, if it
    /// has one.
    pub health_check: Option<HealthCheck>,
    /// Milliseconds from its start after which the workspace is stopped; none means never.
    pub time_to_live_ms: Option<u64>,
}

impl ContainerSpec {
    /// Returns a spec without any settings, for hooks without a container.
    pub fn empty() -> Self {
        let text = String::new;
        Self {
            image: None,
            entrypoint: None,
            command: Vec::new(),
            user: None,
            working_dir: text(),
            hostname: text(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            mounts: BTreeMap::new(),
            tmpfs: BTreeMap::new(),
            ports: BTreeMap::new(),
            network: Network::None,
            resources: Resources {
                cpus: 0.0,
                memory: 0,
                pids: 0,
                shm_size: None,
                disk: None,
                ulimits: BTreeMap::new(),
            },
            security: Security {
                capabilities: BTreeSet::new(),
                no_new_privileges: true,
                read_only_root: true,
                seccomp: "default".into(),
                apparmor: None,
                selinux: None,
                user_namespace: None,
            },
            restart: Restart::No,
            health_check: None,
            time_to_live_ms: None,
        }
    }

    /// Returns the SHA-256 (hex) of the canonical JSON: two specs with the same digest describe the same container.
    pub fn digest(&self) -> String {
        // serde_json writes struct fields in declaration order and BTreeMaps sorted, so this text is canonical.
        super::sha256_hex(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

/// An image, and the reason for choosing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageChoice {
    /// Reference, as for `docker pull`.
    pub reference: String,
    /// The condition for pulling it.
    #[serde(default)]
    pub pull: PullPolicy,
    /// The reason for the choice, in one line for users.
    #[serde(default)]
    pub reason: String,
}

/// The condition for pulling an image from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Only when the engine does not have it.
    #[default]
    Missing,
    /// Before every create.
    Always,
    /// Never: a missing image is an error.
    Never,
}

/// A mount in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Bind mount or volume.
    pub kind: MountKind,
    /// Absolute host path (bind) or volume name (volume).
    pub source: String,
    /// Whether it is read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// Kind of a [`Mount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A folder or file of the host; propagation is `rprivate`.
    Bind,
    /// A named volume.
    Volume,
}

/// A memory file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Size in bytes; none means the engine's default.
    #[serde(default)]
    pub size: Option<u64>,
}

/// The host address and port of a published container port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPort {
    /// Address on the host.
    #[serde(default = "loopback")]
    pub address: String,
    /// Port on the host; none lets the engine choose a free one.
    #[serde(default)]
    pub port: Option<u16>,
}

/// Returns the address that ports are published on unless a policy sets another.
pub fn loopback() -> String {
    "127.0.0.1".to_owned()
}

/// A published port, as reported by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Port {
    /// Port in the container.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Address on the host.
    pub address: String,
    /// Port on the host.
    pub port: u16,
}

impl Port {
    /// Returns its address on the host: `127.0.0.1:8080`, `[::1]:8080`.
    pub fn host(&self) -> String {
        match self.address.parse() {
            Ok(address) => std::net::SocketAddr::new(address, self.port).to_string(),
            Err(_) => format!("{}:{}", self.address, self.port),
        }
    }
}

/// The network that a container is connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The shared bridge network of all workspaces.
    #[default]
    Shared,
    /// A bridge network for this workspace only.
    Own,
    /// No network.
    None,
    /// The host's network; an invariant refuses it unless the configuration allows it.
    Host,
}

/// Resource limits. See the field docs for units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU quota in cores.
    pub cpus: f64,
    /// Bytes of memory; swap is off.
    pub memory: u64,
    /// Maximum concurrent processes and threads.
    pub pids: u32,
    /// Bytes of /dev/shm; none means the engine's default.
    pub shm_size: Option<u64>,
    /// Bytes of the writable layer; none means no limit.
    pub disk: Option<u64>,
    /// Process limits by name, e.g. `nofile`.
    pub ulimits: BTreeMap<String, Ulimit>,
}

/// A process limit as of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}

/// The privileges of a container. Policies can only tighten them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// All capabilities are dropped, then these are added; names without `CAP_`, in capitals.
    pub capabilities: BTreeSet<String>,
    /// Whether processes are prevented from gaining privileges, e.g. through a setuid binary.
    pub no_new_privileges: bool,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// `default` (the engine's profile), `unconfined`, or the name of a profile in the configuration.
    pub seccomp: String,
    /// AppArmor profile; none means the engine's default.
    pub apparmor: Option<String>,
    /// SELinux label options; none means the engine's default.
    pub selinux: Option<String>,
    /// `host` turns user-namespace remapping off; none means the engine's default.
    pub user_namespace: Option<String>,
}

/// The engine's action when a container ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// No restart.
    #[default]
    No,
    /// Restart after a failure, at most this many times.
    OnFailure(u32),
    /// Always restart.
    Always,
    /// Always restart, unless it was stopped on purpose.
    UnlessStopped,
}

/// Parses the notation of `docker run --restart`: `no`, `always`, `unless-stopped`, `on-failure` or
/// `on-failure:TIMES`.
impl FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("no", "") => Ok(Self::No),
            ("always", "") => Ok(Self::Always),
            ("unless-stopped", "") => Ok(Self::UnlessStopped),
            // The engine treats 0 as unlimited.
            ("on-failure", "") => Ok(Self::OnFailure(0)),
            ("on-failure", times) if times.parse::<u32>().is_ok() => Ok(Self::OnFailure(times.parse().unwrap_or(0))),
            _ => Err(format!("'{text}' is not one of no, on-failure, on-failure:TIMES, always, unless-stopped")),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(times) => write!(f, "on-failure:{times}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// A health check. The command runs without a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Time between two checks.
    pub interval_ms: u64,
    /// A check that takes longer has failed.
    pub timeout_ms: u64,
    /// Failures during this time after the start do not count.
    pub start_period_ms: u64,
    /// This many consecutive failures make the container unhealthy.
    pub retries: u32,
}

impl ContainerSpec {
    /// Returns the sorted paths of all fields that have a value, e.g. `env.FOO` and `resources.memory`.
    pub fn fields(&self) -> Vec<String> {
        const MAPS: [&str; 6] = ["env", "labels", "mounts", "tmpfs", "ports", "resources.ulimits"];
        fn walk(path: &str, value: &serde_json::Value, out: &mut Vec<String>) {
            let nested = path.is_empty() || path == "resources" || path == "security" || MAPS.contains(&path);
            match value {
                serde_json::Value::Object(map) if nested => {
                    for (key, value) in map {
                        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                        walk(&path, value, out);
                    }
                }
                serde_json::Value::Null => {}
                _ => out.push(path.to_owned()),
            }
        }
        let mut out = Vec::new();
        walk("", &serde_json::to_value(self).unwrap_or_default(), &mut out);
        out.sort();
        out
    }
}
