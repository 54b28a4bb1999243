//! The loop `history`: removes events beyond the configured age or number.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Shared, Stop, slept};

const EVERY: Duration = Duration::from_secs(600);

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    loop {
        let keep = &shared.config.events;
        let before = Timestamp::now().checked_sub(keep.age.0).unwrap_or(Timestamp::MIN);
        match shared.lifecycle.store().trim_events(before, keep.keep) {
            Ok(0) => {}
            Ok(count) => tracing::info!("deleted {count} old events"),
            Err(error) => shared.status.error("history", &error),
        }
        if !slept(EVERY, &mut stop).await {
            return;
        }
    }
}
