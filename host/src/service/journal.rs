//! The loop `journal`: undoes or finishes the intents of dead processes.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Stop, slept, stopped};

/// A little less than the delay with which the engine may carry out a request, see `lifecycle::reconcile`.
const EVERY: Duration = Duration::from_secs(8);

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    // The start of the service has already done it once.
    while slept(EVERY, &mut stop).await {
        let done = tokio::select! {
            done = shared.lifecycle.reconcile() => done,
            // The intents stay as those of a dead process, and the next process continues.
            () = stopped(&mut stop) => return,
        };
        match done {
            Ok(failures) => failures.iter().for_each(|failure| shared.status.error("journal", failure)),
            Err(error) => shared.status.error("journal", &error),
        }
    }
}
