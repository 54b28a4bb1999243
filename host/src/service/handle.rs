//! What a running service offers to what is attached to it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Metrics, PolicyView};
use crate::app::App;
use crate::config::Loaded;
use crate::hooks::redact::SecretNames;
use crate::lifecycle::{Collector, Error, Lifecycle, Readings, StatsView};
use crate::records::{Replayed, ShadowSummary, find_record, replay_decisions};
use crate::store::{self, ChainStatus, DecisionQuery, Store};

/// Who waits for a reload: told how the chain is then, or why it was refused.
pub(super) type Asker = oneshot::Sender<Result<ChainStatus, String>>;
/// Reloads that wait for their turn.
const WAITING: usize = 16;

/// A way into the service; cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    app: App,
    store: Store,
    lifecycle: OnceLock<Arc<Lifecycle>>,
    /// Whether the engine was asked for once, however that went.
    tried: watch::Sender<bool>,
    collector: Arc<Collector>,
    reloads: mpsc::Sender<Asker>,
    metrics: Arc<Metrics>,
}

impl Handle {
    /// Gives the asked reloads, too.
    pub(super) fn new(app: &App, metrics: Arc<Metrics>) -> Result<(Self, mpsc::Receiver<Asker>), store::Error> {
        let (reloads, asked) = mpsc::channel(WAITING);
        let (app, store) = (app.clone(), app.store()?);
        let (lifecycle, collector) = (OnceLock::new(), Arc::default());
        let tried = watch::Sender::new(false);
        Ok((Self(Arc::new(Inner { app, store, lifecycle, tried, collector, reloads, metrics })), asked))
    }

    /// Has configuration and policies reloaded, and waits for what comes of it: the chain that decides then.
    ///
    /// # Errors
    /// [`Failed::Refused`] when the chain that was there goes on, and [`Failed::Lifecycle`] when the service ends.
    pub async fn reload(&self) -> Result<ChainStatus, Failed> {
        let (to, answer) = oneshot::channel();
        let ends = |_| Failed::Lifecycle(Error::Interrupted);
        self.0.reloads.send(to).await.map_err(|_| Failed::Lifecycle(Error::Interrupted))?;
        answer.await.map_err(ends)?.map_err(Failed::Refused)
    }

    pub(super) fn set_lifecycle(&self, lifecycle: Arc<Lifecycle>) {
        // It is set once, when the engine is there for the first time.
        let _ = self.0.lifecycle.set(lifecycle);
        self.set_tried();
    }

    pub(super) fn set_tried(&self) {
        self.0.tried.send_replace(true);
    }

    /// Ends when the service has asked for the engine once: only then it is known whether it is there.
    pub async fn tried(&self) {
        // The sender is kept here.
        let _ = self.0.tried.subscribe().wait_for(|tried| *tried).await;
    }

    pub(super) fn collector(&self) -> Arc<Collector> {
        self.0.collector.clone()
    }

    /// What workspaces use, as the service reads it.
    pub fn readings(&self) -> Readings {
        self.0.collector.follow()
    }

    /// What workspaces use, as the service has read it within the last second or reads it now; none where it cannot.
    pub async fn recent_stats(&self) -> Option<Arc<Vec<StatsView>>> {
        self.0.collector.recent().await
    }

    /// The verbs; none before the engine was there for the first time.
    pub fn lifecycle(&self) -> Option<Arc<Lifecycle>> {
        self.0.lifecycle.get().cloned()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The store, on a connection of its own.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The policies that the configuration names now, as `wharf policy ls` lists them. It blocks while they are loaded.
    ///
    /// # Errors
    /// When the configuration or the store cannot be read.
    pub fn policies(&self) -> Result<Vec<PolicyView>, Failed> {
        // The pool of plugins is for those who decide.
        let app = App { long_lived: false, ..self.0.app.reloaded()? };
        Ok(app.policies().map_err(Error::from)?)
    }

    /// What shadows would have changed since a time: one of them, or all. It blocks.
    ///
    /// # Errors
    /// When there is no such policy, or when the store cannot be read.
    pub fn shadows(
        &self,
        policy: Option<&str>,
        since: jiff::Timestamp,
    ) -> Result<BTreeMap<String, ShadowSummary>, Error> {
        let app = App { loaded: Loaded::clone(&self.loaded()), ..self.0.app.clone() };
        app.shadows(&self.0.store, policy, since)
    }

    /// The configuration as it is now.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.lifecycle().map_or_else(|| Arc::new(self.0.app.loaded.clone()), |lifecycle| lifecycle.loaded())
    }

    /// Runs recorded decisions again through the chain that decides now: one of them, or the newest `most` of a query. It
    /// blocks, on all cores.
    ///
    /// # Errors
    /// When a policy cannot be loaded any more, when there is no such record, or when the store cannot be read.
    pub fn replay(&self, one: Option<&str>, query: &DecisionQuery, most: u32) -> Result<Replayed, Error> {
        let loaded = Loaded::clone(&self.loaded());
        let secrets = SecretNames(loaded.config.secrets.env.clone());
        let (app, missing) = App { loaded, ..self.0.app.clone() }.for_replays()?;
        let records = match one {
            Some(wanted) => vec![find_record(&self.0.store, wanted)?],
            None => self.0.store.decisions_before(query, i64::MAX, most)?,
        };
        Ok(replay_decisions(&app.chain()?, &secrets, &missing, records.into_iter().rev().map(Ok))?)
    }

    /// The grace period of sweeps, as the configuration says.
    pub fn grace(&self) -> std::time::Duration {
        self.0.app.loaded.config.cleanup.grace.0
    }
}

/// Why something of the service failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(#[from] crate::config::Error),
    /// A reload was refused: why.
    #[error("the service refused the reload, and decides as before: {0}")]
    Refused(String),
    /// A verb or the store.
    #[error("{0}")]
    Lifecycle(#[from] Error),
}
