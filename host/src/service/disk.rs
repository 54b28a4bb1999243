//! The loop `disk`: measures the data that workspaces write where the engine enforces no limit, and reports workspaces
//! over their limit.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::react::Reported;
use super::{ServiceEvent, Shared, Stop, slept, stopped};
use crate::lifecycle::Error;
use crate::workspace::{State, WorkspaceId};

pub(super) async fn run(shared: Arc<Shared>, out: mpsc::Sender<(WorkspaceId, Reported)>, mut stop: Stop) {
    let every = shared.config.disk.interval.0;
    if every.is_zero() {
        return stopped(&mut stop).await;
    }
    while slept(every, &mut stop).await {
        let states = match shared.lifecycle.store().states() {
            Ok(states) => states,
            Err(error) => {
                shared.status.error("disk", &error);
                continue;
            }
        };
        // One at a time, because a measurement walks through files.
        for state in states.into_iter().filter(|state| state.state == State::Running) {
            let id = state.workspace;
            let measured = tokio::select! {
                measured = shared.lifecycle.measure_disk(&id) => measured,
                () = stopped(&mut stop) => return,
            };
            match measured {
                Ok(Some(event)) => {
                    shared
                        .status
                        .say(&ServiceEvent::Done(format!("{id} is {}", event.detail.clone().unwrap_or_default())));
                    if out.try_send((id.clone(), Reported { event, end_requested: false })).is_err() {
                        shared.status.error("disk", &format!("{id}: its policies are too busy for the event"));
                    }
                }
                Ok(None) | Err(Error::Records(crate::records::Error::NotFound(_))) => {}
                Err(error) => shared.status.error("disk", &format!("{id}: {error}")),
            }
        }
    }
}
