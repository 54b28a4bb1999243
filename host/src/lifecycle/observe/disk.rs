//! The disk limit of a workspace: the engine enforces it if its storage can, otherwise the service watches it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::docker;
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{self, Signal, SignalKind};
use crate::workspace::{Container, Event, Happening, WorkspaceId};

/// The way a disk limit is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskMode {
    /// By the engine.
    Enforced,
    /// The service measures the usage, and runs the hook `event` when it exceeds the limit.
    Watched,
    /// The engine neither limits nor reports the usage.
    Unsupported,
}

impl DiskMode {
    /// Returns the name used in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Watched => "watched",
            Self::Unsupported => "unsupported",
        }
    }
}

/// The disk limit of a workspace, and its usage.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct DiskView {
    /// The way it is enforced.
    pub mode: DiskMode,
    /// Bytes of the writable layer.
    pub limit: u64,
    /// The last measurement of the service, for people.
    pub used: Option<String>,
    /// Time of that measurement.
    pub measured_at: Option<Timestamp>,
}

/// The text in place of a value that the engine does not report.
const NONE: &str = "not told by the engine";

impl Lifecycle {
    /// Returns the disk limit of a workspace with its inspected container, if it has one.
    pub(in crate::lifecycle) fn disk_view(
        &self,
        workspace: &store::Workspace,
        container: &Container,
    ) -> Result<Option<DiskView>, Error> {
        let Some(limit) = workspace.draft.spec.resources.disk else { return Ok(None) };
        let signal = self.store.signals(&workspace.id)?.into_iter().find(|signal| signal.kind == SignalKind::Disk);
        let (used, measured_at) = signal.map_or((None, None), |signal| (signal.value, signal.measured_at));
        let mode = if container.actual.as_ref().is_some_and(|actual| actual.resources.disk.is_some()) {
            DiskMode::Enforced
        } else if used.as_deref() == Some(NONE) {
            DiskMode::Unsupported
        } else {
            DiskMode::Watched
        };
        Ok(Some(DiskView { mode, limit, used, measured_at }))
    }

    /// Measures the writable layer of a workspace whose limit is watched. Returns the event if it has exceeded the
    /// limit since the last measurement; the event is recorded and noted with the workspace.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn measure_disk(&self, id: &WorkspaceId) -> Result<Option<Event>, Error> {
        let Some(workspace) = self.store.workspace(id)? else { return Ok(None) };
        let Some(limit) = workspace.draft.spec.resources.disk else { return Ok(None) };
        let container = match self.docker.inspect(&workspace.container_id).await {
            Ok(container) => container,
            Err(docker::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if container.actual.as_ref().is_some_and(|actual| actual.resources.disk.is_some()) {
            return Ok(None);
        }
        let used = self.docker.writable_size(&container.id).await?;
        let now = Timestamp::now();
        let before = self.store.signals(id)?.into_iter().find(|signal| signal.kind == SignalKind::Disk);
        let over = used.is_some_and(|used| used > limit);
        // The time since when it exceeds the limit. A start does not reset it, a new container does.
        let since = before.and_then(|signal| signal.active_at).filter(|since| Some(*since) >= container.created_at);
        let size = |bytes: u64| bytesize::ByteSize(bytes).to_string();
        let signal = Signal {
            kind: SignalKind::Disk,
            value: Some(used.map_or(NONE.to_owned(), size)),
            measured_at: Some(now),
            active_at: if over { since.or(Some(now)) } else { None },
        };
        self.store.put_signals(id, &[signal])?;
        let (Some(used), true, None) = (used, over, since) else { return Ok(None) };
        let detail = format!("over its disk limit: {} of {}", size(used), size(limit));
        self.add_notes(id, vec![detail.clone()])?;
        let event = Event {
            time: now,
            workspace: id.clone(),
            part_of: workspace.part_of,
            container_id: container.id,
            what: Happening::Threshold,
            exit_code: None,
            detail: Some(detail),
        };
        self.store.note_event(&event)?;
        Ok(Some(event))
    }
}
