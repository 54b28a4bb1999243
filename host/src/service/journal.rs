//! The loop `journal`: undoes or finishes what processes that died have left.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Stop, slept, stopped};

/// A little less than the engine may be late with what it was asked for, see `lifecycle::reconcile`.
const EVERY: Duration = Duration::from_secs(8);

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    // The beginning of the service has done it once.
    while slept(EVERY, &mut stop).await {
        let done = tokio::select! {
            done = shared.lifecycle.reconcile() => done,
            // What is left is left as by a process that died; the next one goes on with it.
            () = stopped(&mut stop) => return,
        };
        match done {
            Ok(failures) => failures.iter().for_each(|failure| shared.status.error("journal", failure)),
            Err(error) => shared.status.error("journal", &error),
        }
    }
}
