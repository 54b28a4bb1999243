//! The loop `reactions`: the hook `event` is run for what happened, then what is in trouble is started again.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{ServiceEvent, Shared, Stop, keyed_queue, recover};
use crate::workspace::{Event, Happening, WorkspaceId};

/// An event that is in the store.
#[derive(Debug, Clone)]
pub(super) struct Reported {
    pub(super) event: Event,
    /// Whether the end of the container was asked for.
    pub(super) end_requested: bool,
}

/// Workspaces in trouble that wait for their turn.
const WAITING: usize = 256;

pub(super) async fn run(shared: Arc<Shared>, events: mpsc::Receiver<(WorkspaceId, Reported)>, stop: Stop) {
    // In lanes of their own: a workspace that is waited with before its restart still has its hooks run.
    let (trouble, troubled) = mpsc::channel(WAITING);
    let dropped = |id: &WorkspaceId| {
        shared.status.error("reactions", &format!("{id}: more happens than its policies can be asked about"));
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
        // Policies that cannot be asked do not keep a workspace from being started again.
        Err(error) => shared.status.error("reactions", &format!("{id}: {}: {error}", told.event.what)),
    }
    if recover::trouble(&shared.config.restart, &told).is_some() && trouble.try_send((id.clone(), told)).is_err() {
        shared.status.error("reactions", &format!("{id}: too many workspaces are in trouble at once"));
    }
}

/// Whether a container mounts something else than its workspace was made with; then it is stopped.
pub(super) async fn mounts_differ(shared: &Shared, id: &WorkspaceId, container: &str) -> bool {
    match shared.lifecycle.check_running(id, container).await {
        Ok(Some(reason)) => {
            shared.status.say(&ServiceEvent::Done(format!("{id} stopped: {reason}")));
            true
        }
        Ok(None) => false,
        Err(error) => {
            shared.status.error("reactions", &format!("{id}: its mounts cannot be looked at: {error}"));
            false
        }
    }
}
