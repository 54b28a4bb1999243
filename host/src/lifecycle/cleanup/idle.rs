//! The use of a workspace: its signals, the time of its stop, and the stop itself.
//!
//! A workspace is idle since the newest of its signals. The service measures signals that need two readings (CPU,
//! network); the others are determined on request.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Loaded;
use crate::docker;
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{Signal, SignalKind};
use crate::workspace::{Container, Happening, State, WorkspaceId};

/// The limits of one scan of a project folder.
const MOST_FILES: usize = 20_000;
const LOOK: Duration = Duration::from_millis(500);

/// The tolerance for a recorded time in the future that was taken a moment ago.
const AHEAD: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);

/// The idleness of a workspace.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct Idleness {
    /// Its id.
    pub id: WorkspaceId,
    /// Its state.
    pub state: State,
    /// All signals, the deciding one first.
    pub signals: Vec<Signal>,
    /// Time of its last known use; null when it does not run.
    pub active_at: Option<Timestamp>,
    /// Time when the service stops it unless it is used before; null when nothing stops it.
    pub stops_at: Option<Timestamp>,
}

/// The idleness of a workspace, with the settings that decide its stop.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct IdleView {
    /// Its signals.
    #[serde(flatten)]
    pub idle: Idleness,
    /// `idle.after` of the configuration; null when idle workspaces are not stopped.
    pub after: Option<String>,
    /// Whether the service runs, which stops idle workspaces.
    pub service: bool,
}

impl IdleView {
    /// Combines both.
    pub fn of(idle: Idleness, loaded: &Loaded, service: bool) -> Self {
        Self { idle, after: loaded.config.idle.after.map(|after| after.to_string()), service }
    }
}

/// The measured usage of a running workspace.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// CPU time since the start of its containers, in nanoseconds.
    pub cpu_ns: u64,
    /// Bytes received and sent since then; none when no container has a network.
    pub network: Option<u64>,
}

impl Lifecycle {
    /// Returns the current idleness of a workspace. For a sidecar, call it with the workspace that it belongs to.
    ///
    /// # Errors
    /// [`Error::Records`], or when the engine or the store fails.
    pub async fn idleness(&self, id: &WorkspaceId) -> Result<Idleness, Error> {
        let stored = self.store.workspace(id)?.ok_or_else(|| Error::not_found(id.to_string()))?;
        let containers = match self.containers_of(Some(id)).await {
            Ok(containers) => containers,
            Err(Error::NotRunning { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let state = containers.iter().find(|(this, _)| this == id).map_or(State::Missing, |(_, this)| this.state);
        let now = Timestamp::now();
        // A time in the future was recorded while the clock was wrong; only a lease is about the future.
        let is_past = |time: &Timestamp| time.duration_since(now) <= AHEAD;
        let mut signals = self.store.signals(id)?;
        for signal in signals.iter_mut().filter(|signal| signal.kind != SignalKind::Lease) {
            signal.active_at = signal.active_at.filter(is_past);
        }
        let used = stored.last_activity.filter(is_past);
        let mut look = |kind, value: Option<String>, active_at: Option<Timestamp>| {
            // An earlier sign of use still counts.
            let before = signals.iter().find(|signal| signal.kind == kind).and_then(|signal| signal.active_at);
            signals.retain(|signal| signal.kind != kind);
            signals.push(Signal { kind, value, measured_at: Some(now), active_at: active_at.max(before) });
        };
        let started = match containers.iter().find(|(this, _)| this == id) {
            Some((_, container)) => self.docker.inspect(&container.id).await?.started_at,
            None => None,
        };
        look(SignalKind::Start, started.map(|time| format!("{time:.0}")), started);
        look(SignalKind::Exec, used.map(|time| format!("{time:.0}")), used);
        let sessions = self.sessions(&containers).await?;
        look(SignalKind::Sessions, Some(format!("{sessions} running")), (sessions > 0).then_some(now));
        let project = std::path::PathBuf::from(&stored.project);
        let written = tokio::task::spawn_blocking(move || newest_write(&project, now, MOST_FILES, LOOK)).await;
        let written = written.map_err(|error| Error::Internal(error.to_string()))?;
        look(SignalKind::Project, written.as_ref().map(|(what, _)| what.clone()), written.map(|(_, time)| time));
        for kind in [SignalKind::Cpu, SignalKind::Network] {
            if !signals.iter().any(|signal| signal.kind == kind) {
                signals.push(Signal { kind, value: None, measured_at: None, active_at: None });
            }
        }
        signals.retain(|signal| signal.kind != SignalKind::Disk);
        Ok(self.judge(id.clone(), state, started, signals))
    }

    /// Returns the idleness of all running workspaces.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn all_idleness(&self) -> Result<Vec<Idleness>, Error> {
        let mut all = Vec::new();
        for view in self.list().await? {
            if view.part_of.is_some() || view.state != State::Running {
                continue;
            }
            match self.idleness(&view.id).await {
                Ok(idle) => all.push(idle),
                // The store does not know it, or it was removed meanwhile.
                Err(Error::Records(crate::records::Error::NotFound(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Returns the workspace that a sidecar is a part of, or the ID itself: a sidecar is idle when its workspace is.
    ///
    /// # Errors
    /// [`Error::Records`] when the store does not know it.
    pub fn whole(&self, id: WorkspaceId) -> Result<WorkspaceId, Error> {
        Ok(self.stored(&id)?.part_of.unwrap_or(id))
    }

    fn judge(&self, id: WorkspaceId, state: State, started: Option<Timestamp>, mut signals: Vec<Signal>) -> Idleness {
        // Signs of use before the current run do not count.
        let counts = |signal: &Signal| signal.active_at.filter(|time| started.is_some_and(|started| *time >= started));
        let newest = |lease: bool| {
            let signals = signals.iter().filter(|signal| (signal.kind == SignalKind::Lease) == lease);
            signals.filter_map(counts).max()
        };
        let active_at = newest(false).filter(|_| state == State::Running);
        let after = self.loaded().config.idle.after;
        let stops_at = after.zip(active_at).and_then(|(after, active)| active.checked_add(after.0).ok());
        let stops_at = stops_at.map(|time| newest(true).map_or(time, |until| until.max(time)));
        signals.sort_by_key(|signal| (std::cmp::Reverse(counts(signal)), signal.kind));
        Idleness { id, state, signals, active_at, stops_at }
    }

    async fn sessions(&self, containers: &[(WorkspaceId, Container)]) -> Result<u32, Error> {
        let mut count = 0;
        for (_, container) in containers.iter().filter(|(_, container)| container.state == State::Running) {
            match self.docker.sessions(&container.id).await {
                Ok(sessions) => count += sessions,
                Err(docker::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    /// Stores measured signals, so that they still count at the next request.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_signals(&self, id: &WorkspaceId, signals: &[Signal]) -> Result<(), Error> {
        Ok(self.store.put_signals(id, signals)?)
    }

    /// Returns the usage of a workspace with its sidecars since the start of its containers; `None` when it does not
    /// run. If the kernel's counters are unreadable, the engine needs a second or two for it.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn usage(&self, id: &WorkspaceId) -> Result<Option<Usage>, Error> {
        let containers = match self.containers_of(Some(id)).await {
            Ok(containers) => containers,
            Err(Error::NotRunning { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let running = containers.into_iter().filter(|(_, container)| container.state == State::Running);
        let running: Vec<String> = running.map(|(_, container)| container.id).collect();
        let reading = docker::LocalStats::new(&self.docker).read(&running).await;
        let mut all: Vec<docker::Stats> = reading.stats.into_values().collect();
        for id in &reading.elsewhere {
            all.extend(self.asked(id).await?.map(|(_, stats)| stats));
        }
        Ok((!all.is_empty()).then(|| {
            let mut usage = Usage::default();
            for stats in all {
                usage.cpu_ns += stats.cpu_total_ns.unwrap_or(0);
                if let (Some(rx), Some(tx)) = (stats.network_rx, stats.network_tx) {
                    *usage.network.get_or_insert(0) += rx + tx;
                }
            }
            usage
        }))
    }

    /// Keeps a workspace from being stopped as idle until a time; `None` releases the lease.
    ///
    /// # Errors
    /// [`Error::Records`], or when the store fails.
    pub fn lease(&self, id: &WorkspaceId, until: Option<Timestamp>) -> Result<(), Error> {
        if self.store.workspace(id)?.is_none() {
            return Err(Error::not_found(id.to_string()));
        }
        match until {
            Some(until) => {
                let (value, now) = (Some(format!("until {until:.0}")), Some(Timestamp::now()));
                let lease = Signal { kind: SignalKind::Lease, value, measured_at: now, active_at: Some(until) };
                self.store.put_signals(id, &[lease])?;
            }
            None => drop(self.store.remove_signal(id, SignalKind::Lease)?),
        }
        Ok(())
    }

    /// Returns the end of a workspace's lease, if it is not over.
    ///
    /// # Errors
    /// When the store fails.
    pub fn leased_until(&self, id: &WorkspaceId) -> Result<Option<Timestamp>, Error> {
        let lease = self.store.signals(id)?.into_iter().find(|signal| signal.kind == SignalKind::Lease);
        Ok(lease.and_then(|lease| lease.active_at).filter(|until| *until > Timestamp::now()))
    }

    /// Stops a workspace if it is still idle once its lock is free. Returns the reason if it was stopped.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn stop_idle(&self, id: &WorkspaceId) -> Result<Option<String>, Error> {
        let _lock = self.lock(id).await?;
        let idle = self.idleness(id).await?;
        let now = Timestamp::now();
        let (Some(active), true) = (idle.active_at, idle.stops_at.is_some_and(|time| time <= now)) else {
            return Ok(None);
        };
        let last = idle.signals.first().map_or("", |signal| signal.kind.as_str());
        let after = self.loaded().config.idle.after.map_or(String::new(), |after| after.to_string());
        let reason = format!("not used since {active:.0} (last sign: {last}), idle.after is {after}");
        self.stop_by_service(id, Happening::Idle, &reason).await?;
        Ok(Some(reason))
    }

    /// Starts a workspace that the service has stopped as idle, together with its sidecars; `id` may be a sidecar.
    /// Returns whether it was one.
    pub(in crate::lifecycle) async fn resume(&self, id: &WorkspaceId) -> Result<bool, Error> {
        let Some(stored) = self.store.workspace(id)? else { return Ok(false) };
        let (whole, stopped) = match stored.part_of {
            Some(parent) => {
                let stopped = self.store.workspace(&parent)?.and_then(|parent| parent.stopped);
                (parent, stopped)
            }
            None => (stored.id, stored.stopped),
        };
        if stopped != Some(Happening::Idle) || !self.loaded().config.idle.resume {
            return Ok(false);
        }
        tracing::info!("{whole} was stopped as idle and is started again");
        self.start(&whole).await?;
        Ok(true)
    }
}

/// Returns the newest change in a folder, with its path, as far as a scan of `most` files within the time limit finds
/// it. Times in the future are ignored. Links are not followed.
fn newest_write(folder: &Path, now: Timestamp, most: usize, limit: Duration) -> Option<(String, Timestamp)> {
    let (begin, mut seen) = (Instant::now(), 0);
    let written = |meta: std::io::Result<std::fs::Metadata>| -> Option<Timestamp> {
        let time = Timestamp::try_from(meta.ok()?.modified().ok()?).ok();
        time.filter(|time| *time <= now)
    };
    // A removal changes only the folder.
    let mut newest = written(folder.metadata()).map(|time| (folder.to_path_buf(), time));
    // Breadth first: files that people work on are rarely deep down.
    let mut folders = std::collections::VecDeque::from([folder.to_path_buf()]);
    let mut partial = false;
    'look: while let Some(dir) = folders.pop_front() {
        // An unreadable folder is the project's business.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > most || begin.elapsed() > limit {
                partial = true;
                break 'look;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push_back(entry.path());
            }
            // A folder changes together with a new file in it; the file's path says more.
            if let Some(written) = written(entry.metadata())
                && newest.as_ref().is_none_or(|(_, newest)| written >= *newest)
            {
                newest = Some((entry.path(), written));
            }
        }
    }
    newest.map(|(path, time)| {
        let path = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        let path = if path.is_empty() { ".".to_owned() } else { path };
        let rest = if partial { format!(" (of the first {seen} files)") } else { String::new() };
        (format!("{path}{rest}"), time)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_write_is_found_within_bounds_and_not_in_the_future() {
        let dir = std::env::temp_dir().join(format!("wharf-idle-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        let at = |name: &str, seconds_ago: i64| {
            let path = dir.join(name);
            std::fs::write(&path, "x").unwrap();
            let time = Timestamp::now().as_second() - seconds_ago;
            let time = std::time::UNIX_EPOCH + Duration::from_secs(time.unsigned_abs());
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        at("a/old", 5_000);
        at("a/b/new", 100);
        at("future", -9_000);
        for folder in ["a/b", "a", ""] {
            std::fs::File::open(dir.join(folder)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let look = |most| newest_write(&dir, Timestamp::now(), most, LOOK).map(|(what, _)| what);
        assert_eq!(look(100).as_deref(), Some("a/b/new"));
        let cut = look(2).unwrap_or_default();
        assert!(cut.ends_with("(of the first 3 files)") || cut.is_empty(), "{cut}");
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(look(100), None);
    }
}
