//! A container's resource usage: figures computed from the engine's counters.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::http::{Body, Call, parse};
use super::{Docker, containers};

mod cgroup;
mod local;
pub use local::{LocalReading, LocalStats};

const OPERATION: &str = "read the statistics";

/// A container's resource usage. None means that there is no value (yet), never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The time at which the engine read the counters.
    pub read_at: Timestamp,
    /// CPU time between this reading and the previous one, in percent of one core: 100 is one busy core. None for a
    /// first reading.
    pub cpu_percent: Option<f64>,
    /// CPU time since the container's start, in nanoseconds.
    pub cpu_total_ns: Option<u64>,
    /// Used memory in bytes, without page cache that could be dropped at once.
    pub memory_used: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Bytes received since the container's start, over all its interfaces; none without its own network.
    pub network_rx: Option<u64>,
    /// Bytes sent since the container's start.
    pub network_tx: Option<u64>,
    /// Bytes read from block devices since the container's start.
    pub block_read: Option<u64>,
    /// Bytes written to block devices since the container's start.
    pub block_write: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
}

#[derive(Deserialize)]
struct Raw {
    read: String,
    #[serde(default)]
    cpu_stats: RawCpu,
    #[serde(default)]
    precpu_stats: RawCpu,
    #[serde(default)]
    memory_stats: RawMemory,
    networks: Option<BTreeMap<String, RawNetwork>>,
    #[serde(default)]
    blkio_stats: RawBlock,
    #[serde(default)]
    pids_stats: RawPids,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct RawCpu {
    cpu_usage: RawUsage,
    system_cpu_usage: Option<u64>,
    online_cpus: Option<u64>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct RawUsage {
    total_usage: Option<u64>,
    percpu_usage: Option<Vec<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMemory {
    usage: Option<u64>,
    limit: Option<u64>,
    stats: Option<BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct RawNetwork {
    rx_bytes: u64,
    tx_bytes: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawBlock {
    io_service_bytes_recursive: Option<Vec<RawBlockEntry>>,
}

#[derive(Deserialize)]
struct RawBlockEntry {
    op: String,
    value: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPids {
    current: Option<u64>,
}

/// Computes the figures. Returns none for a container that does not run: the engine then reports the time zero and no
/// counters.
fn from_raw(raw: &Raw) -> Option<Stats> {
    let read_at = containers::time(&raw.read)?;
    let networks = raw.networks.as_ref().filter(|networks| !networks.is_empty());
    let sum = |value: fn(&RawNetwork) -> u64| networks.map(|all| all.values().map(value).sum());
    let blocks = raw.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default();
    // cgroup v1 writes `Read`, v2 `read`. No entry means that nothing was read or written yet.
    let block = |op: &str| Some(blocks.iter().filter(|b| b.op.eq_ignore_ascii_case(op)).map(|b| b.value).sum());
    Some(Stats {
        read_at,
        cpu_percent: cpu_percent(&raw.precpu_stats, &raw.cpu_stats),
        cpu_total_ns: raw.cpu_stats.cpu_usage.total_usage,
        memory_used: memory_used(&raw.memory_stats),
        memory_limit: raw.memory_stats.limit,
        network_rx: sum(|network| network.rx_bytes),
        network_tx: sum(|network| network.tx_bytes),
        block_read: block("read"),
        block_write: block("write"),
        pids: raw.pids_stats.current,
    })
}

/// Computes the share of the machine's CPU time, times its processors. Returns none without an earlier reading; the
/// engine then omits the system's counter or sets it to zero.
fn cpu_percent(before: &RawCpu, now: &RawCpu) -> Option<f64> {
    let system = now.system_cpu_usage?.checked_sub(before.system_cpu_usage.filter(|usage| *usage > 0)?)?;
    let used = now.cpu_usage.total_usage?.checked_sub(before.cpu_usage.total_usage?)?;
    // `percpu_usage` is empty on cgroup v2; `online_cpus` exists since API 1.27.
    let per_cpu = || now.cpu_usage.percpu_usage.as_ref().map(|all| all.len() as u64);
    let cpus = now.online_cpus.filter(|cpus| *cpus > 0).or_else(per_cpu).filter(|cpus| *cpus > 0)?;
    (system > 0).then(|| used as f64 / system as f64 * cpus as f64 * 100.0)
}

/// Computes the same figure as `docker stats`: without the inactive part of the page cache.
fn memory_used(memory: &RawMemory) -> Option<u64> {
    let usage = memory.usage?;
    let get = |key: &str| memory.stats.as_ref().and_then(|stats| stats.get(key).copied());
    let cache = get("total_inactive_file").or_else(|| get("inactive_file")).or_else(|| get("cache"));
    Some(usage.saturating_sub(cache.filter(|cache| *cache < usage).unwrap_or_default()))
}

impl Docker {
    /// Reads a container's usage once. The engine takes two readings for the CPU figure, so this takes 1 to 2 s.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NotFound`].
    pub async fn stats(&self, id: &str) -> Result<Stats> {
        let path = format!("{}/stats?stream=false", containers::path(id)?);
        let call = Call::get(OPERATION, path).about("container", id).within(Duration::from_secs(30));
        let ended = || Error::NotRunning { operation: OPERATION, name: id.to_owned() };
        let reply = self.http().ok(&call).await?;
        // The container was removed between the two readings.
        if reply.body.trim_ascii().is_empty() {
            return Err(ended());
        }
        let raw: Raw = parse(OPERATION, &reply.body)?;
        from_raw(&raw).ok_or_else(ended)
    }

    /// Reads a container's usage about once per second, until the container ends. The first item has no CPU figure.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn stats_stream(&self, id: &str) -> Result<StatsStream> {
        let path = format!("{}/stats?stream=true", containers::path(id)?);
        let body = self.http().stream(&Call::get(OPERATION, path).about("container", id)).await?;
        Ok(StatsStream { body, text: Vec::new(), done: false })
    }
}

/// Readings as they arrive, see [`Docker::stats_stream`]. The stream ends when the container ends.
#[derive(Debug)]
pub struct StatsStream {
    body: Body,
    text: Vec<u8>,
    done: bool,
}

impl StatsStream {
    /// Returns the next reading, or none once the container has ended.
    ///
    /// # Errors
    /// [`Error::Stream`] and [`Error::Protocol`]. An error is the last item.
    pub async fn next(&mut self) -> Option<Result<Stats>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Stats>>> {
        while !self.done {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let rest = self.text.split_off(end + 1);
                let line = std::mem::replace(&mut self.text, rest);
                let item = parse::<Raw>(OPERATION, &line).map(|raw| from_raw(&raw)).transpose();
                // No counters: the container does not run any more.
                self.done = !matches!(item, Some(Ok(_)));
                return Poll::Ready(item);
            }
            match std::task::ready!(self.body.poll_chunk(cx)) {
                Some(Ok(chunk)) => self.text.extend_from_slice(&chunk),
                Some(Err(source)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(Error::Stream { operation: OPERATION, source: source.into() })));
                }
                None => self.done = true,
            }
        }
        Poll::Ready(None)
    }
}

impl Stream for StatsStream {
    type Item = Result<Stats>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(text: &str) -> Option<Stats> {
        from_raw(&serde_json::from_str(text).unwrap())
    }

    /// Docker 20.10 on cgroup v1, shortened.
    const V1: &str = r#"{"read":"2026-11-22T01:00:01Z","preread":"2026-11-22T01:00:00Z","pids_stats":{"current":3},
        "blkio_stats":{"io_service_bytes_recursive":[{"major":8,"minor":0,"op":"Read","value":100},
        {"major":8,"minor":0,"op":"Write","value":50},{"major":8,"minor":0,"op":"Total","value":150},
        {"major":9,"minor":0,"op":"Read","value":1}]},
        "cpu_stats":{"cpu_usage":{"total_usage":3000000000,"percpu_usage":[1,2]},"system_cpu_usage":12000000000,"online_cpus":2},
        "precpu_stats":{"cpu_usage":{"total_usage":2000000000},"system_cpu_usage":10000000000,"online_cpus":2},
        "memory_stats":{"usage":1000,"limit":5000,"stats":{"cache":600,"inactive_file":200,"total_inactive_file":300}},
        "networks":{"eth0":{"rx_bytes":10,"tx_bytes":20},"eth1":{"rx_bytes":1,"tx_bytes":2}}}"#;

    /// Docker 24 on cgroup v2, shortened.
    const V2: &str = r#"{"read":"2026-11-22T01:00:01Z","preread":"0001-01-01T00:00:00Z","pids_stats":{"current":3,"limit":100},
        "blkio_stats":{"io_service_bytes_recursive":[{"major":8,"minor":0,"op":"read","value":100},{"major":8,"minor":0,"op":"write","value":50}]},
        "cpu_stats":{"cpu_usage":{"total_usage":3000000000},"system_cpu_usage":12000000000,"online_cpus":4},
        "precpu_stats":{"cpu_usage":{"total_usage":0}},
        "memory_stats":{"usage":1000,"limit":5000,"stats":{"file":600,"inactive_file":200}}}"#;

    #[test]
    fn one_busy_core_of_two_is_100_percent_on_cgroup_v1() {
        let stats = stats(V1).unwrap();
        assert_eq!(stats.cpu_percent, Some(100.0));
        assert_eq!((stats.memory_used, stats.memory_limit), (Some(700), Some(5000)));
        assert_eq!((stats.network_rx, stats.network_tx), (Some(11), Some(22)));
        assert_eq!((stats.block_read, stats.block_write), (Some(101), Some(50)));
    }

    #[test]
    fn cgroup_v2_has_no_list_of_cpus_and_other_names() {
        let with_before = V2.replace(
            r#""precpu_stats":{"cpu_usage":{"total_usage":0}}"#,
            r#""precpu_stats":{"cpu_usage":{"total_usage":2000000000},"system_cpu_usage":10000000000}"#,
        );
        let stats = stats(&with_before).unwrap();
        assert_eq!(stats.cpu_percent, Some(200.0));
        assert_eq!(stats.memory_used, Some(800));
        assert_eq!(stats.network_rx, None);
        assert_eq!(stats.block_write, Some(50));
    }

    #[test]
    fn a_first_reading_has_no_cpu_figure_rather_than_a_wrong_one() {
        assert_eq!(stats(V2).unwrap().cpu_percent, None);
        let zero = V1.replace("\"system_cpu_usage\":10000000000", "\"system_cpu_usage\":0");
        assert_eq!(stats(&zero).unwrap().cpu_percent, None);
    }

    #[test]
    fn a_container_that_does_not_run_has_no_statistics() {
        let stopped = r#"{"read":"0001-01-01T00:00:00Z","pids_stats":{},"blkio_stats":{"io_service_bytes_recursive":null},"cpu_stats":{"cpu_usage":{"total_usage":0}},"precpu_stats":{},"memory_stats":{}}"#;
        assert_eq!(stats(stopped), None);
    }

    #[test]
    fn counters_that_went_back_give_no_figure() {
        let back = V1.replace("\"total_usage\":2000000000", "\"total_usage\":9000000000");
        assert_eq!(stats(&back).unwrap().cpu_percent, None);
    }
}
