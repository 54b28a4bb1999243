//! The loop `statistics`: what workspaces use, for `wharf metrics`.

use std::sync::Arc;

use super::{Shared, Stop};
use crate::lifecycle::Collector;

pub(super) async fn run(shared: Arc<Shared>, collector: Arc<Collector>, stop: Stop) {
    let failed = |error: &crate::lifecycle::Error| shared.status.error("statistics", error);
    let mut readings = collector.subscribe();
    let note = async {
        // Ends with the collector, which ends when it is told to stop.
        while readings.next().await.is_some() {
            shared.metrics.collected(jiff::Timestamp::now());
        }
    };
    tokio::select! {
        () = collector.run(&shared.lifecycle, stop, failed) => {}
        () = note => {}
    }
}
