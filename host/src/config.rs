//! The configuration: typed, layered, with unknown keys refused and the origin of every value known.
//!
//! Layers, later ones win: defaults < `wharf.toml` < `wharf.rhai` beside it < environment
//! (`WHARF_LIMITS_MEMORY=2GiB`) < flags (`--set limits.memory=2GiB`). A project folder is never searched for a
//! configuration: a project's own files must not be able to loosen the host's limits.
//!
//! May touch: the configuration file, the script beside it, and the given environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::hooks::validate::Invariants;

mod devcontainer;
mod edit;
mod environment;
mod layers;
mod own_files;
mod plain;
mod policy;
mod schema;
mod service;
mod units;

pub use devcontainer::DevcontainerConfig;
pub use edit::set_mode;
pub use layers::{Loaded, Origin, Sources, input_of_script, load};
pub use plain::read_toml;
pub use policy::{BreakerConfig, Capabilities, PolicyConfig, RollbackConfig};
pub use schema::{Key, keys, schema};
pub use service::{
    ApiConfig, Backoff, Budget, CleanupConfig, ClientConfig, DecisionsConfig, DiskConfig, EventsConfig,
    HealthCheckConfig, IdleConfig, MetricsConfig, ReloadConfig, RestartConfig,
};
pub use units::{Size, Span, ago, instant, until};

/// The reason why a configuration is unusable: location, error and remedy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// `<file>:<line>: <key>: <error>`
    pub message: String,
    /// The remedy.
    pub remedy: String,
    /// The marked line of a script error.
    pub detail: Option<String>,
    /// Whether the error is about a file that other users can change.
    pub untrusted: bool,
}

impl From<crate::trust::Untrusted> for Error {
    fn from(untrusted: crate::trust::Untrusted) -> Self {
        Self { message: untrusted.to_string(), remedy: untrusted.remedy, detail: None, untrusted: true }
    }
}

/// All configuration settings. `wharf config init` writes a commented file; `wharf config show` prints all settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The engine and its use.
    pub engine: EngineConfig,
    /// The initial settings of a workspace, before any policy decides.
    pub workspace: WorkspaceConfig,
    /// Limits that no policy can raise.
    pub limits: Ceilings,
    /// Permissions that no policy can grant unless this section does.
    pub allow: Allow,
    /// Values that must not be shown or recorded.
    pub secrets: Secrets,
    /// Permissions for the `devcontainer.json` of projects.
    pub devcontainer: DevcontainerConfig,
    /// The schedule of sweeps, and how long their removals can be undone.
    pub cleanup: CleanupConfig,
    /// The service's handling of failing workspaces.
    pub restart: RestartConfig,
    /// Stopping of idle workspaces.
    pub idle: IdleConfig,
    /// Monitoring of disk limits.
    pub disk: DiskConfig,
    /// Retention of the event history.
    pub events: EventsConfig,
    /// Checks that a reload must pass.
    pub reload: ReloadConfig,
    /// Retention of decision records.
    pub decisions: DecisionsConfig,
    /// Collection of metrics over time.
    pub metrics: MetricsConfig,
    /// Access to the service.
    pub api: ApiConfig,
    /// The service that carries out commands.
    pub client: ClientConfig,
    /// The input of `wharf.rhai`.
    pub script: ScriptConfig,
    /// The chain, in order. Empty means the built-in policies.
    pub policy: Vec<PolicyConfig>,
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// `unix:///path` or `tcp://host:port`; none means DOCKER_HOST, then the current Docker context, then the default
    /// socket.
    pub endpoint: Option<String>,
    /// Name of the shared network; none means `wharf-` and a part of this installation's id, so that two
    /// installations on one engine do not share it.
    pub network: Option<String>,
    /// A label that joins workspaces: workspaces with the same value share a separate network, on which they reach
    /// each other. None joins no workspaces.
    pub join: Option<String>,
    /// Time for a workspace to end before it is killed.
    pub stop_timeout: Span,
    /// Whether to read logs and statistics from the files of an engine on this machine, where possible.
    pub local_files: bool,
    /// The builder of images.
    pub builder: Builder,
}

/// The engine's builder that builds images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Builder {
    /// BuildKit, where the engine has it.
    #[default]
    Auto,
    /// The legacy builder of Docker. It limits the memory of a step, and has no here-documents, mounts or frontends.
    Legacy,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            network: None,
            join: None,
            stop_timeout: Span::seconds(10),
            local_files: true,
            builder: Builder::Auto,
        }
    }
}

/// `[workspace]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkspaceConfig {
    /// The image, if no policy chooses another.
    pub image: Option<String>,
    /// The command that keeps a workspace running.
    pub command: Vec<String>,
    /// User or `uid:gid`.
    pub user: Option<String>,
    /// The project's mount point, and the working directory of commands.
    pub working_dir: String,
    /// Environment of every workspace.
    pub env: BTreeMap<String, String>,
    /// Labels of every workspace.
    pub labels: BTreeMap<String, String>,
    /// Memory limit; swap is off.
    pub memory: Size,
    /// CPU quota in cores.
    pub cpus: f64,
    /// Maximum processes.
    pub pids: u32,
    /// The initial capabilities of a workspace, from which policies remove some.
    pub capabilities: BTreeSet<String>,
    /// Its health check; none means the image's health check, if it has one.
    pub health_check: Option<HealthCheckConfig>,
}

/// Returns a short list that most tools need to install packages and to switch to another user; see the reference
/// documents.
fn default_capabilities() -> BTreeSet<String> {
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"].map(str::to_owned).into()
}

impl Default for WorkspaceConfig {
    fn default() -> Self {
        Self {
            image: None,
            command: vec!["sh".into()],
            user: None,
            working_dir: "/workspace".into(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            memory: Size(2 << 30),
            cpus: 2.0,
            pids: 512,
            capabilities: default_capabilities(),
            health_check: None,
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// Maximum memory of a workspace.
    pub memory: Size,
    /// Maximum cores of a workspace.
    pub cpus: f64,
    /// Maximum processes of a workspace.
    pub pids: u32,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { memory: Size(16 << 30), cpus: 16.0, pids: 4096 }
    }
}

/// `[allow]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Folders that may contain projects; empty means all except system folders and a whole home folder.
    #[schema(value_type = Vec<String>)]
    pub projects: Vec<PathBuf>,
    /// Host folders that policies and requests may mount, in addition to the project itself.
    #[schema(value_type = Vec<String>)]
    pub bind_roots: Vec<PathBuf>,
    /// Named volumes of other owners that may be mounted; volumes of this installation are always allowed.
    pub volumes: BTreeSet<String>,
    /// Images that Wharf created for one workspace and that other projects may read, under the names that those
    /// projects use.
    pub images: BTreeSet<String>,
    /// Host names that a workspace on the shared network may have in addition to its id: the engine resolves them
    /// there.
    pub hostnames: BTreeSet<String>,
    /// AppArmor profiles that a workspace may use instead of the engine's default.
    pub apparmor: BTreeSet<String>,
    /// SELinux types that a workspace may use instead of the engine's default.
    pub selinux: BTreeSet<String>,
    /// Users that an API caller may run commands as, in addition to the decided user: names, `uid:gid`, or `*`.
    pub exec_users: BTreeSet<String>,
    /// Whether the engine's socket may be mounted. It gives root on the host.
    pub docker_socket: bool,
    /// Whether the host's network may be used.
    pub host_network: bool,
    /// Whether ports may be published on addresses other than loopback.
    pub public_ports: bool,
    /// Whether seccomp, AppArmor, SELinux or user namespaces may be disabled.
    pub unconfined: bool,
    /// The only capabilities that a workspace may have.
    pub capabilities: BTreeSet<String>,
}

impl Default for Allow {
    fn default() -> Self {
        Self {
            projects: vec![],
            bind_roots: vec![],
            volumes: BTreeSet::new(),
            images: BTreeSet::new(),
            hostnames: BTreeSet::new(),
            apparmor: BTreeSet::new(),
            selinux: BTreeSet::new(),
            exec_users: BTreeSet::new(),
            docker_socket: false,
            host_network: false,
            public_ports: false,
            unconfined: false,
            capabilities: default_capabilities(),
        }
    }
}

/// `[secrets]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// Environment variables whose values are secrets, as globs. Policies, records and output see `***`.
    pub env: Vec<String>,
}

impl Default for Secrets {
    fn default() -> Self {
        let env = ["*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*CREDENTIAL*", "*_KEY", "*APIKEY*"];
        Self { env: env.map(str::to_owned).into() }
    }
}

/// `[script]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptConfig {
    /// Environment variables that `wharf.rhai` sees as `c.vars.NAME`.
    pub vars: Vec<String>,
}

impl Config {
    /// Returns the invariants of this configuration.
    pub fn invariants(&self) -> Invariants {
        Invariants {
            memory: self.limits.memory.0,
            cpus: self.limits.cpus,
            pids: self.limits.pids,
            bind_roots: self.allow.bind_roots.clone(),
            secrets: None,
            guarded: Vec::new(),
            hostnames: self.allow.hostnames.clone(),
            apparmor: self.allow.apparmor.clone(),
            selinux: self.allow.selinux.clone(),
            docker_socket: self.allow.docker_socket,
            host_network: self.allow.host_network,
            public_ports: self.allow.public_ports,
            unconfined: self.allow.unconfined,
            capabilities: self.allow.capabilities.clone(),
        }
    }

    /// Checks the rules that types cannot express. Returns the key and the error.
    fn check(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, text: String| Err((key.to_owned(), text));
        if !(self.workspace.cpus.is_finite() && self.workspace.cpus >= 0.01) {
            return fail("workspace.cpus", format!("{} is not a number of cores from 0.01 up", self.workspace.cpus));
        }
        if !self.workspace.working_dir.starts_with('/') {
            return fail("workspace.working_dir", "must be an absolute path".into());
        }
        if self.idle.after.is_some_and(|after| after.0.is_zero()) {
            return fail("idle.after", "must be longer than 0s; omit it to stop nothing".into());
        }
        if self.idle.interval.0.as_millis() < 100 {
            return fail("idle.interval", "must be at least 100ms".into());
        }
        if !(self.idle.cpu.is_finite() && self.idle.cpu > 0.0) {
            return fail("idle.cpu", format!("{} is not a percentage of one core above 0", self.idle.cpu));
        }
        if self.devcontainer.command_timeout < Span::seconds(1) {
            return fail("devcontainer.command_timeout", "must be at least 1s".into());
        }
        if self.events.keep == 0 {
            return fail("events.keep", "must be at least 1".into());
        }
        if self.decisions.keep == 0 {
            return fail("decisions.keep", "must be at least 1".into());
        }
        if self.decisions.age < Span::seconds(3600) {
            return fail("decisions.age", format!("{} is less than 1h", self.decisions.age));
        }
        for path in self.allow.projects.iter().chain(&self.allow.bind_roots) {
            if !path.is_absolute() {
                return fail("allow", format!("{} is not an absolute path", path.display()));
            }
        }
        if self.metrics.interval < Span::seconds(1) {
            return fail("metrics.interval", format!("{} is less than 1s", self.metrics.interval));
        }
        if self.metrics.retention < Span::seconds(3600) {
            return fail("metrics.retention", format!("{} is less than 1h", self.metrics.retention));
        }
        self.api.check()?;
        policy::check(&self.policy)
    }
}
