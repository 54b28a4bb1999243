//! The loop `decisions`: prunes decision records beyond the configured age or number.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{ServiceEvent, Shared, Stop, slept};

const EVERY: Duration = Duration::from_secs(3_600);

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    loop {
        let prune = {
            let shared = shared.clone();
            // Hashing many records takes time; other loops must not wait for it.
            move || {
                // The current configuration counts: records that a reload wants to keep must not be pruned.
                let loaded = shared.lifecycle.loaded();
                let keep = &loaded.config.decisions;
                let before = Timestamp::now().checked_sub(keep.age.0).unwrap_or(Timestamp::MIN);
                shared.lifecycle.store().prune_decisions(before, keep.keep)
            }
        };
        match tokio::task::spawn_blocking(prune).await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => {
                shared.status.say(&ServiceEvent::Done(format!(
                    "pruned {count} old decision records; the chain continues after a signed checkpoint"
                )));
            }
            Ok(Err(error)) => shared.status.error("decisions", &error),
            Err(error) => shared.status.error("decisions", &error),
        }
        if !slept(EVERY, &mut stop).await {
            return;
        }
    }
}
