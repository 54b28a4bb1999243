//! Turns of decisions.
//!
//! A policy blocks its thread for as long as its deadline allows. The number of threads is large but limited, so the
//! number of concurrent decisions about one workspace is limited too. However often policies exhaust their time on one
//! workspace, the others find threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limit of concurrent decisions about one workspace. Others have to wait only if more than 128 workspaces have
/// policies that all loop at once (tokio's 512 threads / 4).
const AT_ONCE: usize = 4;

#[derive(Default)]
pub(in crate::lifecycle) struct Gate(Mutex<HashMap<String, Arc<Semaphore>>>);

/// A turn; dropping it frees the turn.
struct Turn(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

impl Gate {
    /// Waits for a turn of a workspace.
    async fn enter(&self, about: &str) -> Turn {
        let semaphore = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > 1_024 {
                // Keeps only semaphores that are held or waited for.
                all.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            all.entry(about.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
        };
        // The semaphore is never closed, so there always is a turn.
        Turn(semaphore.acquire_owned().await.ok())
    }

    /// Runs a blocking function about a workspace when it is its turn.
    ///
    /// # Errors
    /// When it panicked.
    pub(in crate::lifecycle) async fn run<T: Send + 'static>(
        &self,
        about: &str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let turn = self.enter(about).await;
        // The turn ends with the thread, even if the caller no longer waits.
        let span = tracing::Span::current();
        let held = move || {
            let _turn = turn;
            span.in_scope(run)
        };
        tokio::task::spawn_blocking(held).await
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

    #[test]
    fn a_hundred_decisions_that_never_end_take_a_bounded_number_of_threads_and_a_good_one_finds_its_own() {
        use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
        // As many threads as five workspaces may use, and one more.
        let most = 5 * AT_ONCE + 1;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(most).build().unwrap();
        let (gate, end) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
        let (running, highest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        runtime.block_on(async {
            let mut loops = Vec::new();
            for number in 0..100 {
                let (gate, end, running, highest) = (gate.clone(), end.clone(), running.clone(), highest.clone());
                loops.push(tokio::spawn(async move {
                    let loops = move || {
                        highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        while !end.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        running.fetch_sub(1, Ordering::SeqCst);
                    };
                    gate.run(&format!("busy-{}", number % 5), loops).await.unwrap();
                }));
            }
            while highest.load(Ordering::SeqCst) < 5 * AT_ONCE {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // None of them has ended, and none will end before this one.
            assert_eq!(gate.run("good", || 42).await.unwrap(), 42);
            end.store(true, Ordering::SeqCst);
            for one in loops {
                one.await.unwrap();
            }
        });
        assert_eq!(highest.load(Ordering::SeqCst), 5 * AT_ONCE);
    }
}
