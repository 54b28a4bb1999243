//! The collector: one loop reads what all workspaces use, keeps the last readings, and writes history to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Error, Lifecycle, StatsView};
use crate::store::MetricRow;
use crate::workspace::State;

/// How often history is thinned out.
const THIN: Duration = Duration::from_secs(60);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the collector knows, for everybody who asks.
#[derive(Debug)]
pub struct Collector {
    latest: watch::Sender<Arc<Vec<StatsView>>>,
    failures: AtomicU64,
}

impl Default for Collector {
    fn default() -> Self {
        Self { latest: watch::Sender::new(Arc::default()), failures: AtomicU64::new(0) }
    }
}

impl Collector {
    /// The last readings, of containers that do not run too; empty before the first.
    pub fn latest(&self) -> Arc<Vec<StatsView>> {
        self.latest.borrow().clone()
    }

    /// Tells when there are new readings.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<StatsView>>> {
        self.latest.subscribe()
    }

    /// How often reading or writing has failed since the start.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Collects every `metrics.interval` until it is told to stop. A failure is counted and told to `failed_with`, and the
    /// next attempt comes later the more there are in a row; nothing ends it but `stop`.
    pub async fn run(
        &self,
        lifecycle: &Lifecycle,
        mut stop: watch::Receiver<bool>,
        failed_with: impl Fn(&Error) + Send,
    ) {
        let interval = lifecycle.loaded().config.metrics.interval.0;
        let mut watch = lifecycle.watch_stats(Vec::new());
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut thinned: Option<Instant> = None;
        let mut failed = 0_u32;
        loop {
            let pause = interval.saturating_mul(2_u32.saturating_pow(failed)).min(LONGEST_PAUSE);
            let step = async {
                ticks.tick().await;
                if failed > 0 {
                    tokio::time::sleep(pause).await;
                }
                let views = watch.read().await?;
                let rows = views.iter().filter_map(row).collect();
                self.latest.send_replace(Arc::new(views));
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
    /// Writes readings, and thins out older ones; on a thread that may block.
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
