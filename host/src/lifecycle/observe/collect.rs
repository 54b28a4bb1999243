//! The collector: one loop reads the usage of all workspaces, keeps the last readings, and writes history to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::lifecycle::{Error, Lifecycle, StatsView};
use crate::store::MetricRow;
use crate::workspace::State;

/// The interval of downsampling history.
const THIN: Duration = Duration::from_secs(60);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The interval of readings while they are followed.
const FOLLOWED: Duration = Duration::from_secs(1);

/// The longest wait for a reading that is requested now.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last reading.
#[derive(Debug, Clone, Default)]
struct Latest {
    /// The time of the reading; none before the first.
    at: Option<Instant>,
    views: Arc<Vec<StatsView>>,
}

/// The readings of the collector, shared by all who request them.
#[derive(Debug)]
pub struct Collector {
    latest: watch::Sender<Latest>,
    /// Followers of the readings hold a clone of it.
    following: Arc<()>,
    followed: Notify,
    failures: AtomicU64,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            latest: watch::Sender::default(),
            following: Arc::default(),
            followed: Notify::new(),
            failures: AtomicU64::new(0),
        }
    }
}

impl Collector {
    /// Returns the last readings, including containers that do not run; empty before the first.
    pub fn latest(&self) -> Arc<Vec<StatsView>> {
        self.latest.borrow().views.clone()
    }

    /// Subscribes to the readings, at whatever interval they come.
    pub fn subscribe(&self) -> Readings {
        Readings { latest: self.latest.subscribe(), _following: None }
    }

    /// Returns a reading that is at most a second old: the last one, or a new one for all who wait. Returns `None` if
    /// none comes within two seconds.
    pub async fn recent(&self) -> Option<Arc<Vec<StatsView>>> {
        // While it is followed, the next reading is due a second after the last.
        let mut readings = self.follow();
        let last = self.latest.borrow().clone();
        if last.at.is_some_and(|at| at.elapsed() < FOLLOWED) {
            return Some(last.views);
        }
        tokio::time::timeout(PATIENCE, readings.next()).await.ok().flatten()
    }

    /// Follows the readings: while there is a follower, there is one reading each second.
    pub fn follow(&self) -> Readings {
        let readings = Readings { latest: self.latest.subscribe(), _following: Some(self.following.clone()) };
        self.followed.notify_one();
        readings
    }

    /// Returns the number of failed reads or writes since the start.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Completes when the next reading is due: `every` after the last one, or sooner when the readings are followed.
    async fn due(&self, last: Option<Instant>, every: Duration) {
        let Some(last) = last else { return };
        loop {
            let wait = if Arc::strong_count(&self.following) > 1 { every.min(FOLLOWED) } else { every };
            tokio::select! {
                () = tokio::time::sleep_until(last + wait) => return,
                () = self.followed.notified() => {}
            }
        }
    }

    /// Collects every `metrics.interval` until a stop is requested. A failure is counted and reported to `failed_with`.
    /// The pause grows with the number of failures in a row; only `stop` ends the loop.
    pub async fn run(
        &self,
        lifecycle: &Lifecycle,
        mut stop: watch::Receiver<bool>,
        failed_with: impl Fn(&Error) + Send,
    ) {
        let interval = lifecycle.loaded().config.metrics.interval.0;
        let mut watch = lifecycle.watch_stats(Vec::new());
        let (mut read, mut kept): (Option<Instant>, Option<Instant>) = (None, None);
        let mut thinned: Option<Instant> = None;
        let mut failed = 0_u32;
        loop {
            let pause = interval.saturating_mul(2_u32.saturating_pow(failed)).min(LONGEST_PAUSE);
            let step = async {
                if failed > 0 {
                    tokio::time::sleep(pause).await;
                } else {
                    self.due(read, interval).await;
                }
                read = Some(Instant::now());
                let views = watch.read().await?;
                // History has its own interval, regardless of how closely it is followed.
                let keep = kept.is_none_or(|when| when.elapsed() + FOLLOWED / 2 >= interval);
                let rows = views.iter().filter(|_| keep).filter_map(row).collect();
                self.latest.send_replace(Latest { at: read, views: Arc::new(views) });
                if !keep {
                    return Ok(false);
                }
                kept = read;
                let thin = thinned.is_none_or(|when| when.elapsed() >= THIN);
                lifecycle.keep(rows, thin).await.map(|()| thin)
            };
            let done = tokio::select! {
                done = step => done,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match done {
                Ok(thin) => {
                    failed = 0;
                    if thin {
                        thinned = Some(Instant::now());
                    }
                }
                Err(error) => {
                    failed = failed.saturating_add(1).min(8);
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    failed_with(&error);
                }
            }
        }
    }
}

/// Incoming readings.
#[derive(Debug)]
pub struct Readings {
    latest: watch::Receiver<Latest>,
    /// While it exists, there is a reading each second.
    _following: Option<Arc<()>>,
}

impl Readings {
    /// Returns the next reading, or the newest of those that came meanwhile; `None` when the collector is gone.
    pub async fn next(&mut self) -> Option<Arc<Vec<StatsView>>> {
        self.latest.changed().await.ok()?;
        Some(self.latest.borrow_and_update().views.clone())
    }
}

fn row(view: &StatsView) -> Option<MetricRow> {
    let time_ms = view.read_at.filter(|_| view.state == State::Running)?.as_millisecond();
    Some(MetricRow {
        workspace: view.id.clone(),
        container: view.container_id.clone(),
        time_ms,
        cpu_percent: view.cpu_percent,
        memory: view.memory_used,
        memory_limit: view.memory_limit,
        rx: view.network_rx,
        tx: view.network_tx,
        read: view.block_read,
        written: view.block_write,
        pids: view.pids,
    })
}

impl Lifecycle {
    /// Writes readings, and downsamples older ones, on a blocking thread.
    async fn keep(&self, rows: Vec<MetricRow>, thin: bool) -> Result<(), Error> {
        let store = self.store.clone();
        let retention = i64::try_from(self.loaded().config.metrics.retention.0.as_millis()).unwrap_or(i64::MAX);
        let write = move || {
            if !rows.is_empty() {
                store.add_metrics(&rows)?;
            }
            let mut after = thin.then_some(0);
            while let Some(at) = after {
                after = store.thin_metrics(jiff::Timestamp::now().as_millisecond(), retention, at)?;
            }
            Ok(())
        };
        tokio::task::spawn_blocking(write).await.map_err(|error| Error::Internal(error.to_string()))?
    }
}
