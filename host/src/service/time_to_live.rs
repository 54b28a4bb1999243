//! The loop `time-to-live`: stops workspaces whose time to live is over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{ServiceEvent, Shared, Stop, slept};
use crate::lifecycle::Error;

/// The longest pause: a workspace that was started meanwhile may have little time left.
const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let lifecycle = &shared.lifecycle;
    let mut wait = Duration::ZERO;
    while slept(wait, &mut stop).await {
        wait = EVERY;
        let deadlines = match lifecycle.deadlines() {
            Ok(deadlines) => deadlines,
            Err(error) => {
                shared.status.error("time-to-live", &error);
                continue;
            }
        };
        for (deadline, id) in deadlines {
            let left = deadline.duration_since(Timestamp::now());
            if left.is_positive() {
                wait = wait.min(left.unsigned_abs());
                break;
            }
            match lifecycle.expire(&id).await {
                Ok(Some(reason)) => shared.status.say(&ServiceEvent::Done(format!("{id} stopped: {reason}"))),
                Ok(None) | Err(Error::Interrupted | Error::LeftOff(_)) => {}
                Err(error) => shared.status.error("time-to-live", &format!("{id}: {error}")),
            }
        }
    }
}
