//! What the store holds.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hooks::Step;
use crate::hooks::record::Draft;
use crate::workspace::{Happening, WorkspaceId};

/// A workspace as it was meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Absolute path of the project folder.
    pub project: String,
    /// For a sidecar, the workspace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<WorkspaceId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The engine's id of its container.
    pub container_id: String,
    /// Digest of its image in the registry, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The decided spec, with the owner and history of each field. Values of secrets read `***`.
    pub draft: Draft,
    /// What the policies did when it was created and started.
    pub trail: Vec<Step>,
    /// Ids of the records of the decisions that made it, and that changed its limits since.
    #[serde(default)]
    pub decisions: Vec<uuid::Uuid>,
    /// Lines that policies attached.
    pub notes: Vec<String>,
    /// Why it is degraded, if it is: a policy failed after the start.
    pub degraded: Option<String>,
    /// The `devcontainer.json` that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devcontainer: Option<crate::devcontainer::Record>,
    /// Path on the host -> the file or folder that was there when the workspace was made: the project and each source of a
    /// mount. Workspaces of earlier versions have none until their next start.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub places: std::collections::BTreeMap<String, crate::paths::Identity>,
    /// What its image says, as policies were told when it was made. Workspaces of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<crate::hooks::ImageConfig>,
    /// Last exec, shell or start.
    pub last_activity: Option<Timestamp>,
    /// `idle` or `expired` since the service has stopped it, until its next start.
    #[serde(default)]
    pub stopped: Option<Happening>,
    /// Whether it was started by a process that died before it had asked the `post-start` policies. The next `start` or
    /// `up` asks them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_unfinished: bool,
}

/// What an intent is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Create,
    Remove,
    /// `up --recreate`: the old container is set aside until the new one runs.
    Replace,
    /// Limits of a container are changed while it exists.
    Update,
    /// A snapshot is made, or the volumes of one are copied for a restore.
    Snapshot,
    /// A container that exists is started, alone or, of a restart, after it was stopped.
    Start,
    /// A container is stopped.
    Stop,
}

impl Verb {
    /// The word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Update => "update",
            Self::Snapshot => "snapshot",
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for Verb {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "create" => Ok(Self::Create),
            "remove" => Ok(Self::Remove),
            "replace" => Ok(Self::Replace),
            "update" => Ok(Self::Update),
            "snapshot" => Ok(Self::Snapshot),
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop),
            other => Err(format!("'{other}' is no verb of the journal")),
        }
    }
}

/// An intent that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its number.
    pub id: i64,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// What was to be done.
    pub verb: Verb,
    /// When it was begun.
    pub begun: Timestamp,
    /// Who was to do it.
    pub owner: Owner,
    /// When it was undone for the first time, after its process had died.
    pub undone: Option<Timestamp>,
    /// Of a removal the ids of the workspaces whose named volumes go too, with spaces between; of a snapshot
    /// [`JournalEntry::FROZEN`] when the workspace is frozen for it; of a stop the engine's id of the container and the
    /// seconds that it has to end by itself; of a start [`JournalEntry::RESTART`] and of a replacement [`JournalEntry::RAN`].
    pub detail: Option<String>,
}

impl JournalEntry {
    /// The workspace ran, and is frozen while it is kept.
    pub const FROZEN: &str = "frozen";
    /// The start is the second half of a restart, of the workspace with its sidecars.
    pub const RESTART: &str = "restart";
    /// The workspace ran before it was to be replaced.
    pub const RAN: &str = "ran";
}

/// A process, told apart from a later one with the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot; see proc(5), field 22 of `stat`.
    pub start: i64,
}

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_of(pid).unwrap_or(0) }
    }

    /// Whether the process still lives.
    pub fn alive(self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

fn start_of(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, so count from its end.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // A process that was killed and that was not waited for yet does nothing any more.
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    fields.get(19)?.parse().ok()
}
