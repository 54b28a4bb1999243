//! What policies are told: the request of one hook run, and the facts that the host gathered for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Hook;
use crate::workspace::{ContainerSpec, HealthCheck, State};

/// Everything a policy may know about one decision. It is also what is recorded, so that the decision can be replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookRequest {
    /// The hook.
    pub hook: Hook,
    /// Milliseconds since 1970-01-01 UTC: the only clock that policies have.
    pub now_ms: u64,
    /// What the host gathered.
    #[serde(with = "shared")]
    pub facts: Arc<Facts>,
    /// The container as decided so far. For hooks after create: as it was created.
    pub spec: ContainerSpec,
    /// What only this hook has.
    pub subject: Subject,
}

/// Facts are shared between the requests of one verb and written out in each record.
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

/// What the host gathered before asking, the same for all hooks of one verb.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The workspace; empty for `cleanup`, which is about many.
    pub workspace: WorkspaceFacts,
    /// The project folder.
    pub project: ProjectFacts,
    /// The engine; the default when Wharf plans without one.
    pub engine: EngineFacts,
    /// Images that the engine has.
    pub local_images: Vec<LocalImage>,
    /// Who asked; none in records of an older Wharf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// The image that was chosen. None at `select-image`, for an image that the engine has not got yet, and in records of an
    /// older Wharf. Before a workspace is made from an image that was fetched the policies are asked again, with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<ImageConfig>,
}

/// What an image says about the containers that are made from it. A text of more than 4 KiB is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// The engine's content id, `sha256:...`.
    pub id: String,
    /// Its entry point, which gets the command as arguments.
    pub entrypoint: Vec<String>,
    /// Its own command.
    pub command: Vec<String>,
    /// The user that it runs as; empty for root.
    pub user: String,
    /// Its working directory; empty for the root.
    pub working_dir: String,
    /// Absolute paths that it wants to be volumes, sorted.
    pub volumes: Vec<String>,
    /// Its health check.
    pub health_check: Option<HealthCheck>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// E.g. `linux/amd64`.
    pub platform: String,
}

/// Who asked for what is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// `user 1000` at the command line and over the socket, the token's name over the network, `wharf serve` for what the
    /// service does by itself.
    pub name: String,
    /// What it may.
    pub role: CallerRole,
    /// The way in.
    pub door: Door,
}

/// What a caller may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum CallerRole {
    Viewer,
    Operator,
    Admin,
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// A command without a service: the user can write the state folder.
    CommandLine,
    /// The service's Unix socket: the user that the kernel names.
    Socket,
    /// The service's address in the network: a token.
    Network,
    /// None: the service does it by itself (sweeps, events, restarts, what is idle or over).
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
}

/// What was read from the project folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectFacts {
    /// Relative paths, sorted: the top level and `.devcontainer/`.
    pub files: Vec<String>,
    /// The files that some policy wants to see, by relative path.
    pub contents: BTreeMap<String, FileContent>,
}

/// One file of the project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileContent {
    /// UTF-8; other bytes were replaced.
    pub text: String,
    /// Whether it was cut.
    pub truncated: bool,
}

/// What the engine can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct EngineFacts {
    pub version: String,
    pub api_version: String,
    pub cgroup_version: u8,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    pub security: Vec<String>,
}

/// An image that the engine has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LocalImage {
    pub references: Vec<String>,
    pub digests: Vec<String>,
    /// Bytes.
    pub size: u64,
}

/// What only one hook's request has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// For `select-image`: whether the person who asked named the image.
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

/// What happened to a workspace.
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

/// What a sweep knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SweepFacts {
    pub candidates: Vec<Candidate>,
    /// Bytes; 0 when unknown.
    pub disk_free: u64,
    /// Bytes; 0 when unknown.
    pub disk_total: u64,
    /// Minutes since local midnight.
    pub local_minute: u16,
    /// Monday is 1.
    pub local_weekday: u8,
}

/// What a [`Candidate`] is.
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

/// Something of Wharf's that a sweep may stop or remove.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Candidate {
    pub kind: CandidateKind,
    /// A workspace's id, or `image:`, `volume:` or `network:` with its name behind it.
    pub id: String,
    pub name: String,
    /// Of a sidecar: the id of its workspace, whose labels it has, too.
    #[serde(default)]
    pub part_of: Option<String>,
    pub project: String,
    pub labels: BTreeMap<String, String>,
    /// None for what is no workspace.
    pub state: Option<State>,
    /// Whether it runs, or is used by a container.
    pub used: bool,
    pub exit_code: Option<i64>,
    pub created_ms: u64,
    pub started_ms: Option<u64>,
    pub finished_ms: Option<u64>,
    pub last_activity_ms: Option<u64>,
    /// Bytes that its removal frees.
    pub size: Option<u64>,
}
