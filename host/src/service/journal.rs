//! The loop `journal`: undoes or finishes what processes that died have left.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Stop, slept};

/// A little less than the engine may be late with what it was asked for, see `lifecycle::reconcile`.
const EVERY: Duration = Duration::from_secs(8);

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    // The beginning of the service has done it once.
    while slept(EVERY, &mut stop).await {
        if let Err(error) = shared.lifecycle.reconcile().await {
            shared.board.error("journal", &error);
        }
    }
}
