//! Workspaces for people and programs: the JSON of `up`, `ls`, `inspect` and `stats`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::docker::Stats;
use crate::lifecycle::DiskView;
use crate::store;
use crate::wire::{TrailStep, trail};
use crate::workspace::{Container, Happening, HealthReport, LABEL_NAME, LABEL_PROJECT, Port, State, WorkspaceId};

/// A workspace: its intended state (from the store) and its actual state (from the engine).
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct WorkspaceView {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Absolute path of the project folder.
    pub project: String,
    /// For a sidecar, the workspace that it belongs to.
    pub part_of: Option<WorkspaceId>,
    /// State of its container; `missing` when there is none.
    pub state: State,
    /// The engine's id of the container.
    pub container_id: Option<String>,
    /// The image that it runs.
    pub image: String,
    /// Content id of that image, `sha256:...`.
    pub image_id: Option<String>,
    /// Its digest in the registry, if it came from one.
    pub image_digest: Option<String>,
    /// Time of the container's creation.
    pub created_at: Option<Timestamp>,
    /// Time of its last start; a list has it only while the service runs.
    pub started_at: Option<Timestamp>,
    /// Time of its last end.
    pub finished_at: Option<Timestamp>,
    /// Exit code of the last run; null while it runs or when it never ran.
    pub exit_code: Option<i64>,
    /// Whether the engine killed it for lack of memory.
    pub oom_killed: bool,
    /// State of its health check, if it has one.
    pub health: Option<String>,
    /// The last run of its health check, without secrets; only in `inspect`.
    pub last_check: Option<HealthReport>,
    /// Its disk limit, if it has one; only in `inspect`.
    pub disk: Option<DiskView>,
    /// `idle` or `expired`, when the service has stopped it.
    pub stopped: Option<Happening>,
    /// The reason that it no longer runs; null while it runs or when it never ran.
    #[serde(default)]
    pub ended: Option<Ending>,
    /// Published ports with their current addresses.
    pub ports: Vec<Port>,
    /// The decided labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Lines that policies attached.
    pub notes: Vec<String>,
    /// The reason that it is degraded, if it is.
    pub degraded: Option<String>,
    /// The guarantees that it lacks, because an earlier version made it, and the remedy.
    #[serde(default)]
    pub outdated: Option<String>,
    /// The project's `devcontainer.json`, its parts that are not honoured, and its commands.
    pub devcontainer: Option<crate::devcontainer::Record>,
    /// The step of each policy at its creation and start.
    pub trail: Vec<TrailStep>,
}

/// The reason that a workspace no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was stopped through Wharf.
    Stopped,
    /// The service stopped it, because it was idle.
    Idle,
    /// The service stopped it, because its time to live had expired.
    Expired,
    /// The engine killed it for lack of memory.
    OutOfMemory,
    /// Its command ended by itself, or was ended from outside of Wharf.
    Exited,
}

impl Ending {
    /// Returns the reason for a container; `stopped` is the note of the last stop.
    fn of(container: &Container, stopped: Option<Happening>) -> Option<Self> {
        if !matches!(container.state, State::Exited | State::Dead) {
            return None;
        }
        Some(match stopped {
            Some(Happening::Idle) => Self::Idle,
            Some(Happening::Expired) => Self::Expired,
            Some(_) => Self::Stopped,
            None if container.oom_killed => Self::OutOfMemory,
            None => Self::Exited,
        })
    }
}

impl WorkspaceView {
    /// Returns whether it has a label: `NAME`, or `NAME=VALUE`.
    pub fn has_label(&self, wanted: &str) -> bool {
        match wanted.split_once('=') {
            Some((name, value)) => self.labels.get(name).is_some_and(|found| found == value),
            None => self.labels.contains_key(wanted),
        }
    }
}

/// Combines the intended and the actual state; at least one of them is known.
pub(in crate::lifecycle) fn view(
    stored: Option<&store::Workspace>,
    container: Option<&Container>,
) -> Option<WorkspaceView> {
    let label = |key: &str| container.and_then(|container| container.labels.get(key)).cloned();
    let id = match (stored, container) {
        (Some(stored), _) => stored.id.clone(),
        (None, Some(_)) => label(crate::workspace::LABEL_WORKSPACE)?.parse().ok()?,
        (None, None) => return None,
    };
    let decided_image = stored.and_then(|stored| stored.draft.spec.image.as_ref()).map(|image| image.reference.clone());
    Some(WorkspaceView {
        name: stored.map(|stored| stored.name.clone()).or_else(|| label(LABEL_NAME)).unwrap_or_default(),
        project: stored.map(|stored| stored.project.clone()).or_else(|| label(LABEL_PROJECT)).unwrap_or_default(),
        part_of: match stored {
            Some(stored) => stored.part_of.clone(),
            None => label(crate::workspace::LABEL_PART_OF).and_then(|id| id.parse().ok()),
        },
        id,
        state: container.map_or(State::Missing, |container| container.state),
        container_id: container.map(|container| container.id.clone()),
        image: decided_image.or_else(|| container.map(|container| container.image.clone())).unwrap_or_default(),
        image_id: container.map(|container| container.image_id.clone()),
        image_digest: stored.and_then(|stored| stored.image_digest.clone()),
        created_at: container.and_then(|container| container.created_at),
        started_at: container.and_then(|container| container.started_at),
        finished_at: container.and_then(|container| container.finished_at),
        exit_code: container.and_then(|container| container.exit_code),
        oom_killed: container.is_some_and(|container| container.oom_killed),
        health: container.and_then(|container| container.health.clone()),
        last_check: None,
        disk: None,
        stopped: stored.and_then(|stored| stored.stopped).filter(|why| *why != Happening::Stopped),
        ended: container.and_then(|container| Ending::of(container, stored.and_then(|stored| stored.stopped))),
        ports: container.map(|container| container.ports.clone()).unwrap_or_default(),
        labels: stored.map(|stored| stored.draft.spec.labels.clone()).unwrap_or_default(),
        notes: stored.map(|stored| stored.notes.clone()).unwrap_or_default(),
        degraded: stored.and_then(|stored| {
            let failed = || stored.devcontainer.as_ref().and_then(|record| record.failed.clone());
            stored.degraded.clone().or_else(failed)
        }),
        outdated: stored.and_then(|stored| outdated(stored, container)),
        devcontainer: stored.and_then(|stored| stored.devcontainer.clone()),
        trail: stored.map(|stored| trail(&stored.trail)).unwrap_or_default(),
    })
}

/// Returns the guarantees that a workspace of an earlier version lacks: its container stays unchanged until it is
/// recreated.
pub(in crate::lifecycle) fn outdated(stored: &store::Workspace, container: Option<&Container>) -> Option<String> {
    if stored.image_config.is_some() {
        return None;
    }
    let network = container.and_then(|container| container.labels.get(crate::docker::LABEL_NETWORK));
    let network = network.and_then(|label| label.strip_prefix("shared@wharf-"));
    let owner = crate::lifecycle::create::owner::project_owner(std::path::Path::new(&stored.project));
    let lacks = [
        network
            .filter(|rest| !rest.ends_with("-apart"))
            .map(|_| "other workspaces on its network can reach it".to_owned()),
        owner.filter(|_| stored.draft.spec.user.is_none() && stored.part_of.is_none()).map(|owner| {
            format!("it runs as the user of its image, possibly root, instead of the owner of its project ({owner})")
        }),
        Some("no decision covers the labels, volumes, entry point and health check of its image".to_owned()),
    ];
    let lacks: Vec<String> = lacks.into_iter().flatten().collect();
    let sidecar = if stored.part_of.is_some() { "'wharf sidecar add --recreate'" } else { "'wharf up --recreate'" };
    Some(format!("made by an earlier version: {}; {sidecar} brings it up to date", lacks.join("; ")))
}

/// The usage of one container of a workspace. A value that is not (yet) known is null, never 0.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct StatsView {
    /// The workspace's id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// The engine's id of the container.
    pub container_id: String,
    /// State of the container.
    pub state: State,
    /// Time of the reading.
    pub read_at: Option<Timestamp>,
    /// Percent of one core: 100 is one core busy.
    pub cpu_percent: Option<f64>,
    /// Bytes, without page cache that can be dropped.
    pub memory_used: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Bytes received since start.
    pub network_rx: Option<u64>,
    /// Bytes sent since start.
    pub network_tx: Option<u64>,
    /// Bytes read from disks since start.
    pub block_read: Option<u64>,
    /// Bytes written to disks since start.
    pub block_write: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl StatsView {
    pub(in crate::lifecycle) fn new(id: WorkspaceId, container: &Container, stats: Option<&Stats>) -> Self {
        Self {
            id,
            name: container.labels.get(LABEL_NAME).cloned().unwrap_or_default(),
            container_id: container.id.clone(),
            state: container.state,
            read_at: stats.map(|stats| stats.read_at),
            cpu_percent: stats.and_then(|stats| stats.cpu_percent),
            memory_used: stats.and_then(|stats| stats.memory_used),
            memory_limit: stats.and_then(|stats| stats.memory_limit),
            network_rx: stats.and_then(|stats| stats.network_rx),
            network_tx: stats.and_then(|stats| stats.network_tx),
            block_read: stats.and_then(|stats| stats.block_read),
            block_write: stats.and_then(|stats| stats.block_write),
            pids: stats.and_then(|stats| stats.pids),
        }
    }
}
