//! The loop `reactions`: runs the hook `event` for each event, then restarts failing workspaces.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{ServiceEvent, Shared, Stop, keyed_queue, recover};
use crate::workspace::{Event, Happening, WorkspaceId};

/// An event that is in the store.
#[derive(Debug, Clone)]
pub(super) struct Reported {
    pub(super) event: Event,
    /// Whether the end of the container was requested.
    pub(super) end_requested: bool,
}

/// The limit of failing workspaces that wait for their turn.
const WAITING: usize = 256;

pub(super) async fn run(shared: Arc<Shared>, events: mpsc::Receiver<(WorkspaceId, Reported)>, stop: Stop) {
    // Restarts have a separate queue: while a workspace waits for its restart, its hooks still run.
    let (trouble, troubled) = mpsc::channel(WAITING);
    let dropped = |id: &WorkspaceId| {
        shared.status.error("reactions", &format!("{id}: too many events for its policies"));
    };
    let shared = &shared;
    let (react, recover) = (
        keyed_queue::run(events, stop.clone(), |told| react(shared, told, trouble.clone()), dropped),
        keyed_queue::run(troubled, stop.clone(), |told| recover::run(shared, told, stop.clone()), |_| {}),
    );
    tokio::join!(react, recover);
}

async fn react(shared: &Shared, told: Reported, trouble: mpsc::Sender<(WorkspaceId, Reported)>) {
    let id = told.event.workspace.clone();
    if told.event.what == Happening::Started && mounts_differ(shared, &id, &told.event.container_id).await {
        return;
    }
    match shared.lifecycle.react(&told.event).await {
        Ok(reaction) => {
            for failure in &reaction.failures {
                shared.status.error("reactions", &format!("{id}: {failure}"));
            }
            if let Some(policy) = reaction.stopped_by {
                shared.status.say(&ServiceEvent::Done(format!("{id} stopped by {policy} ({})", told.event.what)));
                return;
            }
        }
        // Policies that cannot be called do not prevent the restart of a workspace.
        Err(error) => shared.status.error("reactions", &format!("{id}: {}: {error}", told.event.what)),
    }
    if recover::trouble(&shared.config.restart, &told).is_some() && trouble.try_send((id.clone(), told)).is_err() {
        shared.status.error("reactions", &format!("{id}: too many workspaces are failing at once"));
    }
}

/// Returns whether a container mounts something other than its workspace was made with; then the container is stopped.
pub(super) async fn mounts_differ(shared: &Shared, id: &WorkspaceId, container: &str) -> bool {
    match shared.lifecycle.check_running(id, container).await {
        Ok(Some(reason)) => {
            shared.status.say(&ServiceEvent::Done(format!("{id} stopped: {reason}")));
            true
        }
        Ok(None) => false,
        Err(error) => {
            shared.status.error("reactions", &format!("{id}: cannot check its mounts: {error}"));
            false
        }
    }
}
