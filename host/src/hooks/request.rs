//! The input of policies: the request of one hook run, and the facts that the host gathered for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Hook;
use crate::workspace::{ContainerSpec, HealthCheck, State};

/// All information that a policy gets for one decision. It is also recorded, so that the decision can be replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookRequest {
    /// The hook.
    pub hook: Hook,
    /// Milliseconds since 1970-01-01 UTC: the only clock available to policies.
    pub now_ms: u64,
    /// The facts that the host gathered.
    #[serde(with = "shared")]
    pub facts: Arc<Facts>,
    /// The container as decided so far. For hooks after create: as it was created.
    pub spec: ContainerSpec,
    /// The data that only this hook has.
    pub subject: Subject,
}

/// Facts are shared between the requests of one verb, and serialized in full in each record.
mod shared {
    use super::{Arc, Facts};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(facts: &Arc<Facts>, out: S) -> Result<S::Ok, S::Error> {
        facts.as_ref().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Facts>, D::Error> {
        Facts::deserialize(from).map(Arc::new)
    }
}

/// The facts that the host gathered in advance, the same for all hooks of one verb.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The workspace; empty for `cleanup`, which covers many.
    pub workspace: WorkspaceFacts,
    /// The project folder.
    pub project: ProjectFacts,
    /// The engine; the default if Wharf plans without an engine.
    pub engine: EngineFacts,
    /// The engine's images.
    pub local_images: Vec<LocalImage>,
    /// The caller; none in records of an older Wharf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// The chosen image's configuration. None at `select-image`, for an image that the engine does not have yet, and
    /// in records of an older Wharf. Before a workspace is created from a pulled image, the policies are called again
    /// with this configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<ImageConfig>,
    /// The time of the decision in the host's time zone; none in records of an older Wharf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_time: Option<LocalTime>,
}

/// A time of day and of week in the host's time zone. It is a fact of its own, because `now_ms` is UTC and a policy does
/// not know the zone or its daylight saving time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalTime {
    /// Minutes since local midnight.
    pub minute: u16,
    /// Monday is 1.
    pub weekday: u8,
}

/// An image's configuration for containers created from it. A text longer than 4 KiB is truncated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// The engine's content id, `sha256:...`.
    pub id: String,
    /// Its entry point, which receives the command as arguments.
    pub entrypoint: Vec<String>,
    /// Its default command.
    pub command: Vec<String>,
    /// The user that it runs as; empty for root.
    pub user: String,
    /// Its working directory; empty for the root.
    pub working_dir: String,
    /// Absolute paths that it declares as volumes, sorted.
    pub volumes: Vec<String>,
    /// Its health check.
    pub health_check: Option<HealthCheck>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The platform, e.g. `linux/amd64`.
    pub platform: String,
}

/// The caller whose request is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// `user 1000` at the command line and over the socket, the token's name over the network, `wharf serve` for the
    /// service's own actions.
    pub name: String,
    /// Its user on this machine; none over the network, for the service itself, and in records of an older Wharf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The caller's role.
    pub role: CallerRole,
    /// The entry path of the request.
    pub door: Door,
}

/// The role of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum CallerRole {
    Viewer,
    Operator,
    Admin,
}

/// The entry path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// A command without a service: the user can write to the state folder.
    CommandLine,
    /// The service's Unix socket: the kernel identifies the user.
    Socket,
    /// The service's network address: a token identifies the caller.
    Network,
    /// No entry path: the service acts on its own (sweeps, events, restarts, idle and expired workspaces).
    Service,
}

/// The workspace that a decision is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct WorkspaceFacts {
    pub id: String,
    pub name: String,
    /// Absolute path of the project folder.
    pub project: String,
    pub labels: BTreeMap<String, String>,
    /// The owner of the project folder; none without a folder, and in records of an older Wharf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<FolderOwner>,
}

/// The user and the group that own a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct FolderOwner {
    pub uid: u32,
    pub gid: u32,
}

/// The data read from the project folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectFacts {
    /// Relative paths, sorted: the top level and `.devcontainer/`.
    pub files: Vec<String>,
    /// The files that some policy wants to read, by relative path.
    pub contents: BTreeMap<String, FileContent>,
}

/// One file of the project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileContent {
    /// UTF-8 text; invalid bytes were replaced.
    pub text: String,
    /// Whether it was truncated.
    pub truncated: bool,
}

/// The engine's capabilities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct EngineFacts {
    pub version: String,
    pub api_version: String,
    pub cgroup_version: u8,
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    pub security: Vec<String>,
}

/// An image of the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LocalImage {
    pub references: Vec<String>,
    pub digests: Vec<String>,
    /// Size in bytes.
    pub size: u64,
}

/// The data specific to one hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// For `select-image`: whether the request names the image.
    Image {
        /// See above.
        requested: bool,
    },
    /// For `security-profile` and `pre-create`.
    Container,
    /// For `post-start`.
    Start {
        /// Whether this is the start right after create.
        first_start: bool,
    },
    /// For `pre-exec`.
    Exec(ExecSpec),
    /// For `pre-stop`: `stop`, `restart`, `kill` or `remove`.
    Stop {
        /// See above.
        verb: String,
    },
    /// For `event`.
    Event(EventFacts),
    /// For `cleanup`.
    Sweep(SweepFacts),
}

/// A command to run in a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ExecSpec {
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub tty: bool,
}

/// The event of a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct EventFacts {
    pub kind: EventKind,
    pub exit_code: Option<i64>,
    pub detail: String,
}

/// Kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum EventKind {
    Started,
    Exited,
    OutOfMemory,
    Healthy,
    Unhealthy,
    Threshold,
}

/// The input of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SweepFacts {
    pub candidates: Vec<Candidate>,
    /// Free disk space in bytes; 0 if unknown.
    pub disk_free: u64,
    /// Total disk space in bytes; 0 if unknown.
    pub disk_total: u64,
    /// Minutes since local midnight.
    pub local_minute: u16,
    /// Monday is 1.
    pub local_weekday: u8,
}

/// The kind of a [`Candidate`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum CandidateKind {
    #[default]
    Workspace,
    Image,
    Volume,
    Network,
}

/// An object of Wharf that a sweep may stop or remove.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Candidate {
    pub kind: CandidateKind,
    /// A workspace's id, or `image:`, `volume:` or `network:` followed by its name.
    pub id: String,
    pub name: String,
    /// For a sidecar: the id of its workspace, whose labels it also has.
    #[serde(default)]
    pub part_of: Option<String>,
    pub project: String,
    pub labels: BTreeMap<String, String>,
    /// The state; none for objects that are not workspaces.
    pub state: Option<State>,
    /// Whether it runs, or a container uses it.
    pub used: bool,
    pub exit_code: Option<i64>,
    pub created_ms: u64,
    pub started_ms: Option<u64>,
    pub finished_ms: Option<u64>,
    pub last_activity_ms: Option<u64>,
    /// Bytes that its removal frees.
    pub size: Option<u64>,
}
