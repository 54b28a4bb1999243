//! Evaluates shadows on a separate thread, after the decisions beside them are recorded, and records their results. No
//! verb waits for them; a command ends when they are done.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::hooks::chain::Shadows;
use crate::hooks::redact::SecretNames;
use crate::store::Store;

/// The limit of decisions whose shadows wait for evaluation. Beyond it shadows are skipped, because the deciding
/// policies are far ahead.
const WAITING: usize = 1_024;
/// The time that the end of the process waits for shadows that have not even started.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Queue {
    store: Arc<Store>,
    secrets: SecretNames,
    worker: Mutex<Option<Worker>>,
    ends: Arc<Mutex<Option<Instant>>>,
}

/// Shadows, and the values that must be removed from their records.
type Job = (Box<Shadows>, Vec<String>);

struct Worker {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Queue {
    pub(super) fn new(store: Arc<Store>, secrets: SecretNames) -> Self {
        Self { store, secrets, worker: Mutex::default(), ends: Arc::default() }
    }

    /// Queues shadows for evaluation. Their records contain the input of the decision, so `values` are removed from
    /// them too.
    pub(super) fn ask(&self, shadows: Box<Shadows>, values: Vec<String>) {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.is_none() {
            let (jobs, waiting) = sync_channel(WAITING);
            let (store, secrets, ends) = (self.store.clone(), self.secrets.clone(), self.ends.clone());
            let run = move || work(&waiting, &store, &secrets, &ends);
            match std::thread::Builder::new().name("wharf-shadows".into()).spawn(run) {
                Ok(thread) => *worker = Some(Worker { jobs, thread }),
                Err(error) => return tracing::warn!("cannot ask shadows: {error}"),
            }
        }
        match worker.as_ref().map(|worker| worker.jobs.try_send((shadows, values))) {
            Some(Err(TrySendError::Full(_))) => {
                tracing::warn!("shadows were skipped for a decision: {WAITING} are already waiting");
            }
            Some(Err(TrySendError::Disconnected(_))) => {
                tracing::warn!("shadows are no longer asked: their thread ended")
            }
            _ => {}
        }
    }
}

/// The end of a command ends its process, which would kill the thread in the middle of its work.
impl Drop for Queue {
    fn drop(&mut self) {
        let worker = self.worker.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PATIENCE);
        if let Some(Worker { jobs, thread }) = worker {
            drop(jobs);
            if thread.join().is_err() {
                tracing::warn!("the thread that asks shadows panicked");
            }
        }
    }
}

fn work(jobs: &Receiver<Job>, store: &Store, secrets: &SecretNames, ends: &Mutex<Option<Instant>>) {
    let mut left_out = 0;
    while let Ok((shadows, values)) = jobs.recv() {
        if ends.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|ends| Instant::now() > ends) {
            left_out += 1;
            continue;
        }
        let mut records = shadows.run();
        records.iter_mut().for_each(|record| secrets.redact(record, &values));
        if let Err(error) = store.append(&records) {
            tracing::warn!("the answers of shadows are lost: {error}");
        }
    }
    if left_out > 0 {
        tracing::warn!("the shadows of {left_out} decisions were not asked: the process is ending");
    }
}
