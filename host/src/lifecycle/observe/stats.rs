//! The usage of workspaces: once, live, and for the collector.
//!
//! If the engine is on this machine, counters come from the kernel, otherwise from one stream of the engine per
//! container. Neither needs a call to the engine per refresh.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::docker::{self, Docker, LocalStats, Stats};
use crate::lifecycle::{Error, Lifecycle, StatsView};
use crate::workspace::{Container, State, WorkspaceId};

/// The time between the two readings that a CPU figure needs, if there is no older reading.
const APART: Duration = Duration::from_millis(100);
/// The time that the list of containers is used, unless one of them is gone.
const LIST_AGE: Duration = Duration::from_secs(3);

impl Lifecycle {
    /// Returns the usage of the named running workspaces, or of all when none is named. It takes a tenth of a second,
    /// or one to two seconds if the engine must be queried.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when a named workspace is not running.
    pub async fn stats(&self, ids: &[WorkspaceId]) -> Result<Vec<StatsView>, Error> {
        self.stats_from(ids, &[]).await
    }

    /// Returns the usage like [`Lifecycle::stats`], immediately for containers in a recent reading. A container that
    /// was started since is read now.
    ///
    /// # Errors
    /// As [`Lifecycle::stats`].
    pub async fn stats_from(&self, ids: &[WorkspaceId], recent: &[StatsView]) -> Result<Vec<StatsView>, Error> {
        let recent = recent.iter().filter(|view| view.cpu_percent.is_some());
        let recent: BTreeMap<&str, &StatsView> = recent.map(|view| (view.container_id.as_str(), view)).collect();
        let (known, new): (Vec<_>, Vec<_>) =
            self.running_of(ids).await?.into_iter().partition(|(_, c)| recent.contains_key(c.id.as_str()));
        let mut all: Vec<StatsView> =
            known.iter().filter_map(|(_, c)| recent.get(c.id.as_str()).copied().cloned()).collect();
        if !new.is_empty() {
            all.extend(self.read_stats(new).await?);
            all.sort_by(|a, b| a.id.cmp(&b.id));
        }
        Ok(all)
    }

    async fn read_stats(&self, running: Vec<(WorkspaceId, Container)>) -> Result<Vec<StatsView>, Error> {
        let all: Vec<String> = running.iter().map(|(_, container)| container.id.clone()).collect();
        let mut local = LocalStats::new(&self.docker);
        let first = local.read(&all).await;
        let asked = futures_util::future::try_join_all(first.elsewhere.iter().map(|id| self.asked(id)));
        let (asked, mut known) = tokio::join!(asked, async {
            if first.stats.is_empty() {
                return BTreeMap::new();
            }
            tokio::time::sleep(APART).await;
            local.read(&all).await.stats
        });
        known.extend(asked?.into_iter().flatten());
        let view = |(id, container): (WorkspaceId, Container)| {
            let stats = known.get(&container.id)?;
            Some(StatsView::new(id, &container, Some(stats)))
        };
        Ok(running.into_iter().filter_map(view).collect())
    }

    /// Queries the engine; `None` for a container that ended after it was listed.
    pub(in crate::lifecycle) async fn asked(&self, id: &str) -> Result<Option<(String, Stats)>, Error> {
        match self.docker.stats(id).await {
            Ok(stats) => Ok(Some((id.to_owned(), stats))),
            Err(docker::Error::NotFound { .. } | docker::Error::NotRunning { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn running_of(&self, ids: &[WorkspaceId]) -> Result<Vec<(WorkspaceId, Container)>, Error> {
        let is_running = |container: &Container| container.state == State::Running;
        if ids.is_empty() {
            return Ok(self.containers_of(None).await?.into_iter().filter(|(_, c)| is_running(c)).collect());
        }
        let mut running: Vec<(WorkspaceId, Container)> = Vec::new();
        for id in ids {
            self.running(id).await?;
            for found in self.containers_of(Some(id)).await? {
                if is_running(&found.1) && !running.iter().any(|(_, known)| known.id == found.1.id) {
                    running.push(found);
                }
            }
        }
        Ok(running)
    }

    /// Follows the usage of the named workspaces, or of all when none is named, as they come and go.
    pub fn watch_stats(&self, ids: Vec<WorkspaceId>) -> StatsWatch<'_> {
        let local = LocalStats::new(&self.docker);
        StatsWatch { lifecycle: self, ids, local, streams: BTreeMap::new(), listed: None, read_here: BTreeSet::new() }
    }
}

/// Readings of workspaces; its owner determines when the next one is due.
pub struct StatsWatch<'a> {
    lifecycle: &'a Lifecycle,
    ids: Vec<WorkspaceId>,
    local: LocalStats,
    /// Streams of the engine, by container, for containers whose counters cannot be read on this machine.
    streams: BTreeMap<String, Following>,
    listed: Option<(Instant, Vec<(WorkspaceId, Container)>)>,
    /// Containers whose kernel counters were read the last time.
    read_here: BTreeSet<String>,
}

impl StatsWatch<'_> {
    /// Reads all now. Containers that do not run are included with their state and without values. Values that need two
    /// readings are missing from a container's first one.
    ///
    /// # Errors
    /// When the engine cannot list the containers.
    pub async fn read(&mut self) -> Result<Vec<StatsView>, Error> {
        let known = self.listed.take().filter(|(when, _)| when.elapsed() < LIST_AGE);
        let (when, listed) = match known {
            Some(known) => known,
            None => (Instant::now(), self.list().await?),
        };
        let is_running = |container: &Container| container.state == State::Running;
        let running: Vec<String> =
            listed.iter().filter(|(_, c)| is_running(c)).map(|(_, container)| container.id.clone()).collect();
        let reading = self.local.read(&running).await;
        // For containers that ended, the list is outdated.
        let ended = |id: &String| self.read_here.contains(id) || self.streams.get(id).is_some_and(Following::has_ended);
        let gone = reading.elsewhere.iter().any(ended);
        self.read_here = reading.stats.keys().cloned().collect();
        // A broken stream is reopened.
        self.streams.retain(|id, stream| reading.elsewhere.contains(id) && !stream.has_ended());
        for id in &reading.elsewhere {
            self.streams.entry(id.clone()).or_insert_with(|| Following::new(&self.lifecycle.docker, id));
        }
        let mut views = Vec::with_capacity(listed.len());
        for (id, container) in &listed {
            let stream = self.streams.get(&container.id);
            let streamed = stream.and_then(|stream| stream.last.borrow().clone());
            let stats = reading.stats.get(&container.id).or(streamed.as_ref());
            views.push(StatsView::new(id.clone(), container, stats));
        }
        if !gone {
            self.listed = Some((when, listed));
        }
        Ok(views)
    }

    async fn list(&self) -> Result<Vec<(WorkspaceId, Container)>, Error> {
        if self.ids.is_empty() {
            return self.lifecycle.containers_of(None).await;
        }
        let mut listed = Vec::new();
        for id in &self.ids {
            match self.lifecycle.containers_of(Some(id)).await {
                Ok(found) => listed.extend(found),
                // It was removed meanwhile.
                Err(Error::NotRunning { .. } | Error::Records(crate::records::Error::NotFound(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }
}

/// A stream of the engine's statistics; only the last value is kept.
struct Following {
    last: watch::Receiver<Option<Stats>>,
    task: tokio::task::JoinHandle<()>,
}

impl Following {
    fn new(docker: &Docker, id: &str) -> Self {
        let (to, last) = watch::channel(None);
        let (docker, id) = (docker.clone(), id.to_owned());
        let task = tokio::spawn(async move {
            let follow = async {
                let mut stream = docker.stats_stream(&id).await?;
                while let Some(stats) = stream.next().await {
                    let _ = to.send(Some(stats?));
                }
                Ok::<_, docker::Error>(())
            };
            if let Err(error) = follow.await {
                tracing::debug!(%error, container = id, "cannot follow the statistics");
            }
            let _ = to.send(None);
        });
        Self { last, task }
    }

    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}
