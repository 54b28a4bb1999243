//! Whose turn it is to be decided about.
//!
//! A policy blocks its thread for as long as its deadline allows. Threads are many but not endless, so what is decided
//! about one workspace at once is bounded: however often policies exhaust their time about one, the others find threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Decisions about one workspace at once. Beyond tokio's 512 threads / 4, i.e. 128 workspaces whose policies all loop at
/// once, others wait.
const AT_ONCE: usize = 4;

#[derive(Default)]
pub(super) struct Gate(Mutex<HashMap<String, Arc<Semaphore>>>);

/// While it lives, one turn is taken.
pub(super) struct Turn(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

impl Gate {
    /// Waits for a turn of a workspace.
    pub(super) async fn enter(&self, about: &str) -> Turn {
        let semaphore = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > 1_024 {
                // Only those that nobody holds or waits for.
                all.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            all.entry(about.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
        };
        // It is never closed, so there always is a turn.
        Turn(semaphore.acquire_owned().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_workspace_that_takes_all_its_turns_takes_none_of_another() {
        let gate = Gate::default();
        let mut taken = Vec::new();
        for _ in 0..AT_ONCE {
            taken.push(gate.enter("busy").await);
        }
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, gate.enter("busy")).await.is_err());
        assert!(tokio::time::timeout(soon, gate.enter("other")).await.is_ok());
        drop(taken);
        assert!(tokio::time::timeout(soon, gate.enter("busy")).await.is_ok());
    }
}
