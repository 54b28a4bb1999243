//! The loop `statistics`: the usage of workspaces, for `wharf metrics`.

use std::sync::Arc;

use super::{Shared, Stop};
use crate::lifecycle::Collector;

pub(super) async fn run(shared: Arc<Shared>, collector: Arc<Collector>, stop: Stop) {
    let failed = |error: &crate::lifecycle::Error| shared.status.error("statistics", error);
    let mut readings = collector.subscribe();
    let note = async {
        // The loop ends with the collector, which ends when a stop is requested.
        while readings.next().await.is_some() {
            shared.metrics.collected(jiff::Timestamp::now());
        }
    };
    tokio::select! {
        () = collector.run(&shared.lifecycle, stop, failed) => {}
        () = note => {}
    }
}
