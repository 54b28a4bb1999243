//! The bodies of verbs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::request::{ImageBuild, SizeText, WorkspaceRequest, cores, restart};
use crate::config::{Size, Span};
use crate::hooks::Hook;
use crate::workspace::Awaited;

/// The body of `stop` and `restart`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Time to end by itself before Wharf kills it, e.g. `10s`; default `engine.stop_timeout`.
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Span>,
}

/// The body of `down`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DownRequest {
    /// Whether to remove also the named volumes that were made for it.
    #[serde(default)]
    pub volumes: bool,
}

/// The body of `kill`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// The signal: a name or a number; default `KILL`.
    pub signal: Option<String>,
}

/// The body of `update`: new limits. Absent limits stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// Memory limit, e.g. 4GiB
    #[arg(long, value_name = "SIZE")]
    #[schema(value_type = Option<SizeText>)]
    pub memory: Option<Size>,
    /// CPU quota in cores, e.g. 1.5
    #[arg(long, value_name = "CORES", value_parser = cores)]
    pub cpus: Option<f64>,
    /// Limit of processes and threads
    #[arg(long, value_name = "COUNT")]
    pub pids: Option<u32>,
    /// When the engine restarts it: no, `on-failure[:TIMES]`, always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    pub restart: Option<String>,
}

/// The body of a wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// The state: `running`, `healthy`, `exited` or `removed`; default `healthy`.
    pub r#for: Option<Awaited>,
    /// Time limit after which it fails, e.g. `60s`; default no limit, and an hour with a token.
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Span>,
}

/// The body of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanDiffRequest {
    /// Fields that override those of the request that made the workspace. Project and name are those of the workspace.
    pub request: Option<WorkspaceRequest>,
}

/// The body of a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// Length from now on, e.g. `2h`.
    #[schema(value_type = String)]
    pub time: Span,
}

/// The body of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// Whether to change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether to remove at once.
    #[serde(default)]
    pub no_grace: bool,
}

/// The body that names an entry of the cleanup ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CleanupTarget {
    /// Number in the ledger, id or name.
    pub which: String,
}

/// The body of a pull, and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// The reference, as for `docker pull`.
    pub reference: String,
}

/// The body of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    /// Absolute path of the project that the image is built for; default the folder itself.
    #[schema(value_type = Option<String>)]
    pub project: Option<PathBuf>,
    /// Name of the image; default a name derived from its inputs.
    pub tag: Option<String>,
    /// The build.
    pub build: ImageBuild,
}

/// The body that makes a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Name of the snapshot; default the time.
    pub name: Option<String>,
}

/// The body of a restore.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Name of another workspace to make for the same project, or, from the snapshot of a sidecar, of another sidecar
    /// of the same workspace; default: the workspace itself is recreated.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// Environment, in addition to that of the snapshot: values of secrets are no part of it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether to replace the existing workspace.
    #[serde(default)]
    pub recreate: bool,
}

/// The body of a replay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// One decision: number or id. It excludes the other fields.
    pub decision: Option<String>,
    /// Decisions since a time, or for a duration.
    pub since: Option<String>,
    /// Decisions up to a time, or up to so long ago.
    pub until: Option<String>,
    /// Decisions of a hook.
    pub hook: Option<Hook>,
    /// Decisions about a workspace: id or name.
    pub workspace: Option<String>,
    /// Number of newest decisions; default 1000, and at most 2000.
    #[schema(minimum = 1, maximum = 2000)]
    pub limit: Option<u32>,
}

impl ReplayRequest {
    /// Returns whether it selects among several decisions.
    pub fn chooses(&self) -> bool {
        let Self { decision: _, since, until, hook, workspace, limit } = self;
        since.is_some() || until.is_some() || hook.is_some() || workspace.is_some() || limit.is_some()
    }

    /// Returns a request for the decisions of a period.
    pub fn between(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Self { since: text(since), until: text(until), ..Self::default() }
    }
}
