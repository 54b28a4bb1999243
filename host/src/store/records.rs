//! The types of the store's records.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hooks::Step;
use crate::hooks::record::Draft;
use crate::workspace::{Happening, WorkspaceId};

/// A workspace in its intended state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    /// Its ID.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Absolute path of the project folder.
    pub project: String,
    /// For a sidecar, the workspace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<WorkspaceId>,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// The engine's ID of its container.
    pub container_id: String,
    /// Digest of its image in the registry, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The decided spec, with the owner and history of each field. Values of secrets read `***`.
    pub draft: Draft,
    /// The steps of the policies at its creation and start.
    pub trail: Vec<Step>,
    /// IDs of the records of the decisions that made it, and that changed its limits since.
    #[serde(default)]
    pub decisions: Vec<uuid::Uuid>,
    /// Lines that policies attached.
    pub notes: Vec<String>,
    /// The reason that it is degraded, if it is: a policy failed after the start.
    pub degraded: Option<String>,
    /// The `devcontainer.json` that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devcontainer: Option<crate::devcontainer::Record>,
    /// Whether the request excluded the project's `devcontainer.json`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_devcontainer: bool,
    /// Path on the host -> the file or folder at that path when the workspace was made: the project and each source of
    /// a mount. Workspaces of earlier versions have none until their next start.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub places: std::collections::BTreeMap<String, crate::paths::Identity>,
    /// The configuration of its image, as policies saw it when the workspace was made. Workspaces of earlier versions
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<crate::hooks::ImageConfig>,
    /// Last exec, shell or start.
    pub last_activity: Option<Timestamp>,
    /// `stopped` after a stop through Wharf, `idle` or `expired` after the service has stopped it; until its next start.
    #[serde(default)]
    pub stopped: Option<Happening>,
    /// Whether a process started it and died before it had run the `post-start` policies. The next `start` or `up` runs
    /// them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_unfinished: bool,
}

/// The verb of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Create,
    Remove,
    /// `up --recreate`: the old container is set aside until the new one runs.
    Replace,
    /// The limits of an existing container are changed.
    Update,
    /// A snapshot is taken, or its volumes are copied for a restore.
    Snapshot,
    /// An existing container is started, alone or, in a restart, after it was stopped.
    Start,
    /// A container is stopped.
    Stop,
}

impl Verb {
    /// Returns the name in the journal.
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
            other => Err(format!("'{other}' is not a verb of the journal")),
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
    /// The intended verb.
    pub verb: Verb,
    /// Time of its beginning.
    pub begun: Timestamp,
    /// The process that records it.
    pub owner: Owner,
    /// Time when it was first undone, after its process had died.
    pub undone: Option<Timestamp>,
    /// For a removal, the IDs of the workspaces whose named volumes are removed too, separated by spaces. For a
    /// snapshot, [`JournalEntry::FROZEN`] if the workspace is frozen for it. For a stop, the engine's ID of the
    /// container and the seconds that it has to end by itself. For a start, [`JournalEntry::RESTART`], and for a
    /// replacement, [`JournalEntry::RAN`].
    pub detail: Option<String>,
}

impl JournalEntry {
    /// The workspace ran, and is frozen during the snapshot.
    pub const FROZEN: &str = "frozen";
    /// The start is the second half of a restart of the workspace with its sidecars.
    pub const RESTART: &str = "restart";
    /// The workspace ran before its replacement.
    pub const RAN: &str = "ran";
}

/// A process; its start time distinguishes it from a later process with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Process ID.
    pub pid: u32,
    /// Start time in clock ticks since boot; see proc(5), field 22 of `stat`.
    pub start: i64,
}

impl Owner {
    /// Returns this process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_of(pid).unwrap_or(0) }
    }

    /// Returns whether the process is still alive.
    pub fn alive(self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

fn start_of(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may contain anything, so fields are counted from its
    // end.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // A killed process that its parent has not yet waited for does nothing any more.
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    fields.get(19)?.parse().ok()
}
