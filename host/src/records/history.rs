//! A workspace's resource usage over time, from the rows that the collector wrote.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::store::{MetricRow, Store};
use crate::workspace::WorkspaceId;

/// Maximum number of points in one request.
const MOST_POINTS: i64 = 5000;
/// Number of points if the request names no step.
const USUAL_POINTS: i64 = 60;
/// Round step lengths, in milliseconds.
const ROUND: [i64; 10] =
    [10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000, 10_800_000, 43_200_000, 86_400_000];

/// A workspace's resource usage during one step. An unknown value is null, never 0.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct HistoryPoint {
    /// Start of the step.
    pub time: Timestamp,
    /// Mean CPU use, in percent of one core.
    pub cpu_percent: Option<f64>,
    /// Mean memory use, in bytes.
    pub memory_used: Option<u64>,
    /// The last memory limit, in bytes.
    pub memory_limit: Option<u64>,
    /// Received bytes per second.
    pub network_rx_per_second: Option<f64>,
    /// Sent bytes per second.
    pub network_tx_per_second: Option<f64>,
    /// Bytes read per second.
    pub block_read_per_second: Option<f64>,
    /// Bytes written per second.
    pub block_write_per_second: Option<f64>,
    /// Mean number of processes and threads.
    pub pids: Option<u64>,
}

/// History in equal steps; steps without a reading are omitted.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Length of a step in milliseconds.
    pub step_ms: i64,
    /// Start of the first step, in milliseconds since 1970.
    pub since_ms: i64,
    /// Number of steps, with and without readings.
    pub steps: usize,
    /// The steps with readings, oldest first.
    pub points: Vec<HistoryPoint>,
}

/// A point in the history of a workspace: the JSON of `wharf metrics`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct HistoryRow {
    /// The workspace.
    pub id: WorkspaceId,
    /// Its resource usage.
    #[serde(flatten)]
    pub point: HistoryPoint,
}

impl HistoryRow {
    /// Returns the points of one workspace.
    pub fn of(id: &WorkspaceId, points: Vec<HistoryPoint>) -> Vec<Self> {
        points.into_iter().map(|point| Self { id: id.clone(), point }).collect()
    }
}

impl History {
    /// Returns the steps between two times, still without readings. Without `step_ms`, there are about 60 steps of a
    /// round length.
    ///
    /// # Errors
    /// [`Error::Request`] if the times are in the wrong order or there are too many steps.
    pub fn steps(since: Timestamp, until: Timestamp, step_ms: Option<i64>) -> Result<Self, Error> {
        let (since_ms, until_ms) = (since.as_millisecond(), until.as_millisecond());
        let range = until_ms - since_ms;
        if range <= 0 {
            return Err(Error::Request(format!("the period from {since} to {until} is empty")));
        }
        let usual = || ROUND.into_iter().find(|step| range / step <= USUAL_POINTS).unwrap_or(range / USUAL_POINTS);
        let step_ms = step_ms.unwrap_or_else(usual).max(1);
        // Steps start at round times, so that those of two runs match.
        let since_ms = since_ms - since_ms.rem_euclid(step_ms);
        if (until_ms - since_ms) / step_ms > MOST_POINTS {
            let least = range / MOST_POINTS / 1000 + 1;
            return Err(Error::Request(format!(
                "there are more than {MOST_POINTS} steps; the shortest step for this period is {least}s"
            )));
        }
        let steps = usize::try_from((until_ms - since_ms + step_ms - 1) / step_ms).unwrap_or(0);
        Ok(Self { step_ms, since_ms, steps, points: Vec::new() })
    }
}

/// Reads a workspace's resource usage between two times; without `step_ms`, in about 60 steps of a round length.
///
/// # Errors
/// [`Error::Request`] if the times are in the wrong order or there are too many steps; an error if the store cannot
/// be read.
pub fn history(
    store: &Store,
    id: &WorkspaceId,
    (since, until): (Timestamp, Timestamp),
    step_ms: Option<i64>,
    began: Option<Timestamp>,
) -> Result<History, Error> {
    let mut history = History::steps(since, until, step_ms)?;
    let first = began.map_or(history.since_ms, |began| history.since_ms.max(began.as_millisecond()));
    let rows = store.metrics(id, first, until.as_millisecond(), Timestamp::now().as_millisecond())?;
    history.points = points(&rows, history.since_ms, history.step_ms);
    Ok(history)
}

/// The accumulated values of one step.
#[derive(Default)]
struct Step {
    cpu: Mean,
    memory: Mean,
    memory_limit: Option<u64>,
    pids: Mean,
    rates: [Rate; 4],
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
        }
    }

    fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    fn whole(&self) -> Option<u64> {
        self.get().map(|value| value.round() as u64)
    }
}

#[derive(Default)]
struct Rate {
    bytes: u64,
    ms: i64,
}

fn points(rows: &[MetricRow], since_ms: i64, step_ms: i64) -> Vec<HistoryPoint> {
    let mut steps: BTreeMap<i64, Step> = BTreeMap::new();
    let mut before: BTreeMap<&str, &MetricRow> = BTreeMap::new();
    for row in rows {
        let step = steps.entry((row.time_ms - since_ms) / step_ms).or_default();
        step.cpu.add(row.cpu_percent);
        step.memory.add(row.memory.map(|bytes| bytes as f64));
        step.pids.add(row.pids.map(|pids| pids as f64));
        step.memory_limit = row.memory_limit.or(step.memory_limit);
        if let Some(old) = before.insert(&row.container, row) {
            let counters = |row: &MetricRow| [row.rx, row.tx, row.read, row.written];
            for ((rate, old_value), new) in step.rates.iter_mut().zip(counters(old)).zip(counters(row)) {
                if let (Some(old_value), Some(new)) = (old_value, new) {
                    // A counter that decreased was reset with the container.
                    rate.bytes += if new >= old_value { new - old_value } else { new };
                    rate.ms += row.time_ms - old.time_ms;
                }
            }
        }
    }
    let point = |(number, step): (i64, Step)| {
        let [rx, tx, read, written] =
            step.rates.map(|rate| (rate.ms > 0).then(|| rate.bytes as f64 * 1000.0 / rate.ms as f64));
        Some(HistoryPoint {
            time: Timestamp::from_millisecond(since_ms + number * step_ms).ok()?,
            cpu_percent: step.cpu.get(),
            memory_used: step.memory.whole(),
            memory_limit: step.memory_limit,
            network_rx_per_second: rx,
            network_tx_per_second: tx,
            block_read_per_second: read,
            block_write_per_second: written,
            pids: step.pids.whole(),
        })
    };
    steps.into_iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time_ms: i64, container: &str, cpu: Option<f64>, rx: Option<u64>) -> MetricRow {
        MetricRow {
            workspace: WorkspaceId::derive("a", "/a"),
            container: container.into(),
            time_ms,
            cpu_percent: cpu,
            memory: Some(1000),
            memory_limit: Some(5000),
            rx,
            tx: None,
            read: Some(0),
            written: Some(10),
            pids: Some(2),
        }
    }

    #[test]
    fn readings_become_means_and_counters_become_rates() {
        let rows = [
            row(1_000, "c", None, Some(100)),
            row(2_000, "c", Some(10.0), Some(300)),
            row(11_000, "c", Some(30.0), Some(9_300)),
            row(12_000, "c", Some(50.0), Some(9_300)),
        ];
        let points = points(&rows, 0, 10_000);
        assert_eq!(points.len(), 2);
        assert_eq!((points[0].cpu_percent, points[0].network_rx_per_second), (Some(10.0), Some(200.0)));
        assert_eq!((points[1].cpu_percent, points[1].network_rx_per_second), (Some(40.0), Some(900.0)));
        assert_eq!((points[0].network_tx_per_second, points[0].block_read_per_second), (None, Some(0.0)));
        assert_eq!(points[1].time, Timestamp::from_second(10).unwrap());
    }

    #[test]
    fn a_counter_that_goes_back_or_another_container_gives_no_wrong_rate() {
        let restarted = [row(1_000, "c", None, Some(9_000)), row(2_000, "c", None, Some(50))];
        assert_eq!(points(&restarted, 0, 10_000)[0].network_rx_per_second, Some(50.0));
        let replaced = [row(1_000, "c", None, Some(9_000)), row(2_000, "d", None, Some(50))];
        assert_eq!(points(&replaced, 0, 10_000)[0].network_rx_per_second, None);
    }
}
