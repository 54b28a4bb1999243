//! Usage of workspaces: a single reading, repeated readings, and past readings.
//!
//! Every method fails with [`Error`].

use jiff::Timestamp;

use super::{Backend, Error, named};
use crate::lifecycle::{self, StatsView, StatsWatch};
use crate::records::{History, Target, find_stored};
use crate::workspace::WorkspaceId;

/// Repeated readings.
pub struct Readings<'a> {
    backend: &'a Backend,
    source: Source<'a>,
}

enum Source<'a> {
    Here(Box<StatsWatch<'a>>),
    /// The names of the workspaces; empty: all.
    Service(Vec<String>),
}

impl Readings<'_> {
    /// Returns the newest reading. The first reading of this process has no CPU figures.
    pub async fn read(&mut self) -> Result<Vec<StatsView>, Error> {
        match &mut self.source {
            Source::Here(watch) => Ok(watch.read().await?),
            Source::Service(names) => self.backend.of_service(names).await,
        }
    }
}

impl Backend {
    /// Returns one reading with CPU figures of the named workspaces; without names, of all.
    pub async fn stats(&self, names: &[String]) -> Result<Vec<StatsView>, Error> {
        match &self.service {
            Some(_) => self.of_service(names).await,
            None => Ok(self.here().await?.stats(&self.ids(names).await?).await?),
        }
    }

    /// Returns repeated readings of the named workspaces; without names, of all.
    pub async fn readings(&self, names: &[String]) -> Result<Readings<'_>, Error> {
        let source = match &self.service {
            Some(_) => Source::Service(names.to_vec()),
            None => Source::Here(Box::new(self.here().await?.watch_stats(self.ids(names).await?))),
        };
        Ok(Readings { backend: self, source })
    }

    async fn ids(&self, names: &[String]) -> Result<Vec<WorkspaceId>, Error> {
        let lifecycle = self.here().await?;
        let mut ids = Vec::new();
        for name in names {
            ids.push(lifecycle.find(&Target::Named(name.clone())).await?);
        }
        Ok(ids)
    }

    async fn of_service(&self, names: &[String]) -> Result<Vec<StatsView>, Error> {
        let Some(client) = &self.service else { return Ok(Vec::new()) };
        if names.is_empty() {
            return Ok(client.stats().await?);
        }
        let mut all: Vec<StatsView> = Vec::new();
        for name in names {
            for one in client.stats_of(name).await? {
                // A workspace and its sidecar may both be named.
                if !all.iter().any(|known| known.container_id == one.container_id) {
                    all.push(one);
                }
            }
        }
        Ok(all)
    }

    /// Returns past readings in steps of `step_ms`; without it, in about 60 steps. It needs no engine.
    pub async fn history(
        &self,
        target: &Target,
        (since, until): (Timestamp, Timestamp),
        step_ms: Option<i64>,
    ) -> Result<(WorkspaceId, History), Error> {
        let Some(client) = &self.service else {
            let store = self.app.store()?;
            let id = find_stored(&store, target)?.id;
            let history = crate::records::history(&store, &id, (since, until), step_ms, None)?;
            return Ok((id, history));
        };
        // The steps are computed here.
        let mut history = History::steps(since, until, step_ms)?;
        let name = named(client, target).await?;
        let begin = Timestamp::from_millisecond(history.since_ms);
        let begin = begin.map_err(|error| lifecycle::Error::Request(error.to_string()))?;
        let rows = client.history(&name, (begin, until), history.step_ms).await?;
        let id = match rows.first() {
            Some(row) => row.id.clone(),
            None => client.inspect(&name).await?.id,
        };
        history.points = rows.into_iter().map(|row| row.point).collect();
        Ok((id, history))
    }
}
