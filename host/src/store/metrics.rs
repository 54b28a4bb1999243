//! The usage of workspaces over time: one row per container and reading, which is downsampled as it ages.
//!
//! There are three resolutions: every reading for an hour, means per minute for a day, means per ten minutes for the
//! configured time. Counters since a container's start (network, disks) keep the last reading of the period.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Error, Store, statement};
use crate::workspace::WorkspaceId;

/// The length of a row of each resolution, and the retention of its rows, in milliseconds; the last retention is
/// configured.
const RAW: (i64, i64) = (0, 3_600_000);
const MINUTE: (i64, i64) = (60_000, 86_400_000);
const TEN_MINUTES: i64 = 600_000;
/// The number of containers that one step downsamples; more take several steps.
const SERIES_PER_STEP: u32 = 256;

/// One reading, or the mean of several.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The engine's ID of the container.
    pub container: String,
    /// Milliseconds since 1970: the time of the reading, or the beginning of a mean's period.
    pub time_ms: i64,
    /// Percent of one core.
    pub cpu_percent: Option<f64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Bytes received since the container's start.
    pub rx: Option<u64>,
    /// Bytes sent since the container's start.
    pub tx: Option<u64>,
    /// Bytes read from disks since the container's start.
    pub read: Option<u64>,
    /// Bytes written to disks since the container's start.
    pub written: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Store {
    /// Adds readings, all or none.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn add_metrics(&self, rows: &[MetricRow]) -> Result<(), Error> {
        let what = "save statistics";
        let mut connection = self.connection();
        // A transaction that starts with a read would not wait for another writer.
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        for row in rows {
            let series = series(&transaction, row).map_err(statement(what))?;
            transaction
                .prepare_cached(
                    "insert or replace into metrics (series, resolution, time, samples, cpu, memory, memory_limit, rx, tx,
                         read, written, pids)
                     values (?1, 0, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )
                .and_then(|mut insert| {
                    insert.execute(params![
                        series,
                        row.time_ms,
                        row.cpu_percent,
                        int(row.memory),
                        int(row.memory_limit),
                        int(row.rx),
                        int(row.tx),
                        int(row.read),
                        int(row.written),
                        int(row.pids)
                    ])
                })
                .map_err(statement(what))?;
        }
        transaction.commit().map_err(statement(what))
    }

    /// Downsamples aged rows: computes means, and removes rows beyond the retention of their resolution. It continues
    /// after the container `after` (0 at first), and returns where to continue, or `None` when all containers are done.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn thin_metrics(&self, now_ms: i64, retention_ms: i64, after: i64) -> Result<Option<i64>, Error> {
        let what = "thin out statistics";
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        let step = || -> rusqlite::Result<Option<i64>> {
            let all: Vec<i64> = transaction
                .prepare_cached("select id from metric_series where id > ?1 order by id limit ?2")?
                .query_map(params![after, SERIES_PER_STEP], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for series in &all {
                means(&transaction, *series, RAW.0, MINUTE.0, now_ms)?;
                means(&transaction, *series, MINUTE.0, TEN_MINUTES, now_ms)?;
                for (resolution, keep) in [RAW, MINUTE, (TEN_MINUTES, retention_ms)] {
                    // The configured retention may be shorter than a day.
                    let oldest = now_ms.saturating_sub(keep.min(retention_ms));
                    transaction
                        .prepare_cached("delete from metrics where series = ?1 and resolution = ?2 and time < ?3")?
                        .execute(params![series, resolution, oldest])?;
                }
                transaction
                    .prepare_cached(
                        "delete from metric_series where id = ?1 and not exists (select 1 from metrics where series = ?1)",
                    )?
                    .execute([series])?;
            }
            let full = all.len() as u64 >= u64::from(SERIES_PER_STEP);
            Ok(all.last().copied().filter(|_| full))
        };
        let next = step().map_err(statement(what))?;
        transaction.commit().map_err(statement(what))?;
        Ok(next)
    }

    /// Returns the usage of one workspace between two times (milliseconds since 1970), oldest first. It uses the finest
    /// resolution that reaches back that far, and finer ones for the time that has no rows of it yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn metrics(
        &self,
        workspace: &WorkspaceId,
        since_ms: i64,
        until_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<MetricRow>, Error> {
        let what = "read statistics";
        let connection = self.connection();
        let query = || -> rusqlite::Result<Vec<MetricRow>> {
            let mut rows = Vec::new();
            let all: Vec<(i64, String)> = connection
                .prepare_cached("select id, container from metric_series where workspace = ?1 order by id")?
                .query_map([workspace.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let first = [RAW, MINUTE].iter().position(|(_, keep)| since_ms >= now_ms - keep).unwrap_or(2);
            let resolutions = [TEN_MINUTES, MINUTE.0, RAW.0];
            for (series, container) in all {
                let mut from = since_ms;
                for resolution in resolutions.get(2 - first..).unwrap_or_default() {
                    let before = rows.len();
                    read(&connection, (series, *resolution), (from, until_ms), workspace, &container, &mut rows)?;
                    if let Some(last) = rows.get(before..).and_then(<[MetricRow]>::last) {
                        from = from.max(last.time_ms + resolution);
                    }
                }
            }
            rows.sort_by_key(|row| row.time_ms);
            Ok(rows)
        };
        query().map_err(statement(what))
    }
}

/// Converts a counter to SQLite's integers, which are smaller; a counter never exceeds them.
fn int(value: Option<u64>) -> Option<i64> {
    value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))
}

/// Returns the number of a container, which is created at its first reading.
fn series(transaction: &Transaction<'_>, row: &MetricRow) -> rusqlite::Result<i64> {
    let found = transaction
        .prepare_cached("select id from metric_series where container = ?1")?
        .query_row([&row.container], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    transaction
        .prepare_cached("insert into metric_series (workspace, container) values (?1, ?2)")?
        .insert(params![row.workspace.as_str(), row.container])
}

/// Computes the means of complete periods after the existing means.
fn means(transaction: &Transaction<'_>, series: i64, from: i64, to: i64, now_ms: i64) -> rusqlite::Result<()> {
    // Rows from a time when the clock was ahead are ignored.
    let last: Option<i64> = transaction
        .prepare_cached("select max(time) from metrics where series = ?1 and resolution = ?2 and time <= ?3")?
        .query_row(params![series, to, now_ms], |row| row.get(0))?;
    let begin = last.map_or(0, |last| last + to);
    // The other columns are those of the row with the latest time (SQLite, "Bare columns in an aggregate query").
    transaction
        .prepare_cached(
            "insert or ignore into metrics (series, resolution, time, samples, cpu, memory, memory_limit, rx, tx, read,
                 written, pids)
             select series, ?3, start, samples, cpu, memory, memory_limit, rx, tx, read, written, pids from (
                 select series, time / ?3 * ?3 as start, max(time), sum(samples) as samples,
                     sum(cpu * samples) / sum(iif(cpu is null, 0, samples)) as cpu,
                     cast(round(avg(memory)) as integer) as memory, memory_limit, rx, tx, read, written,
                     cast(round(avg(pids)) as integer) as pids
                 from metrics where series = ?1 and resolution = ?2 and time >= ?4 and time < ?5 group by start)",
        )?
        .execute(params![series, from, to, begin, now_ms / to * to])?;
    Ok(())
}

fn read(
    connection: &Connection,
    (series, resolution): (i64, i64),
    (since, until): (i64, i64),
    workspace: &WorkspaceId,
    container: &str,
    rows: &mut Vec<MetricRow>,
) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached(
        "select time, cpu, memory, memory_limit, rx, tx, read, written, pids from metrics
         where series = ?1 and resolution = ?2 and time >= ?3 and time < ?4 order by time",
    )?;
    let found = query.query_map(params![series, resolution, since, until], |row| {
        let number = |index| -> rusqlite::Result<Option<u64>> {
            Ok(row.get::<_, Option<i64>>(index)?.and_then(|value| u64::try_from(value).ok()))
        };
        Ok(MetricRow {
            workspace: workspace.clone(),
            container: container.to_owned(),
            time_ms: row.get(0)?,
            cpu_percent: row.get(1)?,
            memory: number(2)?,
            memory_limit: number(3)?,
            rx: number(4)?,
            tx: number(5)?,
            read: number(6)?,
            written: number(7)?,
            pids: number(8)?,
        })
    })?;
    for row in found {
        rows.push(row?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(std::path::PathBuf, Store);

    fn store(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("wharf-metrics-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let store = Store::open(&dir).unwrap();
        Dir(dir, store)
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn row(time_ms: i64, cpu: Option<f64>, rx: u64) -> MetricRow {
        MetricRow {
            workspace: WorkspaceId::derive("a", "/a"),
            container: "c0ffee".into(),
            time_ms,
            cpu_percent: cpu,
            memory: Some(1000 + rx),
            memory_limit: Some(5000),
            rx: Some(rx),
            tx: None,
            read: Some(0),
            written: Some(0),
            pids: Some(3),
        }
    }

    const MONTH: i64 = 30 * 86_400_000;

    fn count(store: &Store, resolution: i64) -> i64 {
        let sql = "select count(*) from metrics where resolution = ?1";
        store.connection().query_row(sql, [resolution], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_is_added_is_read_back_with_unknown_values_unknown() {
        let dir = store("roundtrip");
        let rows = [row(10_000, None, 5), row(20_000, Some(12.5), 9)];
        dir.1.add_metrics(&rows).unwrap();
        let id = WorkspaceId::derive("a", "/a");
        assert_eq!(dir.1.metrics(&id, 0, 30_000, 30_000).unwrap(), rows);
        assert_eq!(dir.1.metrics(&id, 15_000, 20_001, 30_000).unwrap(), rows[1..]);
        assert_eq!(dir.1.metrics(&WorkspaceId::derive("b", "/b"), 0, 30_000, 30_000).unwrap(), []);
    }

    #[test]
    fn two_days_become_means_and_every_time_is_still_covered_once() {
        let dir = store("thin");
        let id = WorkspaceId::derive("a", "/a");
        let (begin, end) = (1_800_000_000_000, 1_800_000_000_000 + 2 * 86_400_000);
        let mut at = begin;
        while at < end {
            // An hour of readings, then a step, as the collector does it.
            let rows: Vec<_> =
                (0..360).map(|n| row(at + n * 10_000, Some(50.0), ((at - begin) / 10_000 + n) as u64)).collect();
            dir.1.add_metrics(&rows).unwrap();
            at += 3_600_000;
            assert_eq!(dir.1.thin_metrics(at, MONTH, 0).unwrap(), None);
        }
        assert_eq!((count(&dir.1, 0), count(&dir.1, MINUTE.0), count(&dir.1, TEN_MINUTES)), (360, 1440, 288));
        let all = dir.1.metrics(&id, begin, end, end).unwrap();
        assert_eq!(all.len(), 288);
        assert!(all.iter().all(|row| row.cpu_percent == Some(50.0) && row.tx.is_none() && row.pids == Some(3)));
        assert!(all.windows(2).all(|two| two[0].time_ms < two[1].time_ms));
        // The counter is that of the last reading of the ten minutes; the memory is their mean.
        assert_eq!((all[0].rx, all[0].memory), (Some(59), Some(1000 + 30)));
        // The newest readings have no mean of ten minutes yet, and are returned as they are.
        dir.1.add_metrics(&[row(end + 10_000, Some(1.0), 1), row(end + 70_000, Some(2.0), 2)]).unwrap();
        dir.1.thin_metrics(end + 75_000, MONTH, 0).unwrap();
        let all = dir.1.metrics(&id, begin, end + 100_000, end + 100_000).unwrap();
        assert_eq!(all.len(), 290);
        assert_eq!(all[289].time_ms, end + 70_000);
        assert_eq!(dir.1.metrics(&id, end - 600_000, end + 100_000, end + 100_000).unwrap().len(), 62);
        // At the end everything is removed.
        dir.1.thin_metrics(end + 2 * MONTH, MONTH, 0).unwrap();
        assert_eq!((count(&dir.1, 0), count(&dir.1, MINUTE.0), count(&dir.1, TEN_MINUTES)), (0, 0, 0));
        let left: i64 =
            dir.1.connection().query_row("select count(*) from metric_series", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn many_containers_are_thinned_out_in_bounded_steps() {
        let dir = store("steps");
        let many = SERIES_PER_STEP * 2 + 10;
        let rows: Vec<_> =
            (0..many).map(|n| MetricRow { container: format!("{n:x}"), ..row(1_000, Some(1.0), 0) }).collect();
        dir.1.add_metrics(&rows).unwrap();
        let (mut after, mut steps) = (Some(0), 0);
        while let Some(at) = after {
            after = dir.1.thin_metrics(120_000, MONTH, at).unwrap();
            steps += 1;
        }
        assert_eq!((steps, count(&dir.1, MINUTE.0)), (3, i64::from(many)));
    }
}
