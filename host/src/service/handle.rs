//! The interface of a running service for its attachments.

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

/// The channel to a caller that waits for a reload: it receives the new chain, or the reason of the refusal.
pub(super) type Asker = oneshot::Sender<Result<ChainStatus, String>>;
/// The limit of reloads that wait for their turn.
const WAITING: usize = 16;

/// A handle of the service; cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    app: App,
    store: Store,
    lifecycle: OnceLock<Arc<Lifecycle>>,
    /// Whether the first attempt to connect to the engine is over, with any result.
    tried: watch::Sender<bool>,
    collector: Arc<Collector>,
    reloads: mpsc::Sender<Asker>,
    metrics: Arc<Metrics>,
}

impl Handle {
    /// Creates the handle. Also returns the receiver of requested reloads.
    pub(super) fn new(app: &App, metrics: Arc<Metrics>) -> Result<(Self, mpsc::Receiver<Asker>), store::Error> {
        let (reloads, asked) = mpsc::channel(WAITING);
        let (app, store) = (app.clone(), app.store()?);
        let (lifecycle, collector) = (OnceLock::new(), Arc::default());
        let tried = watch::Sender::new(false);
        Ok((Self(Arc::new(Inner { app, store, lifecycle, tried, collector, reloads, metrics })), asked))
    }

    /// Reloads configuration and policies, and waits for the new chain.
    ///
    /// # Errors
    /// [`Failed::Refused`] when the previous chain continues, and [`Failed::Lifecycle`] when the service ends.
    pub async fn reload(&self) -> Result<ChainStatus, Failed> {
        let (to, answer) = oneshot::channel();
        let ends = |_| Failed::Lifecycle(Error::Interrupted);
        self.0.reloads.send(to).await.map_err(|_| Failed::Lifecycle(Error::Interrupted))?;
        answer.await.map_err(ends)?.map_err(Failed::Refused)
    }

    pub(super) fn set_lifecycle(&self, lifecycle: Arc<Lifecycle>) {
        // It is set only once, at the first connection to the engine.
        let _ = self.0.lifecycle.set(lifecycle);
        self.set_tried();
    }

    pub(super) fn set_tried(&self) {
        self.0.tried.send_replace(true);
    }

    /// Completes after the service's first attempt to connect to the engine: before it, the state of the engine is
    /// unknown.
    pub async fn tried(&self) {
        // `self` holds the sender, so this cannot fail.
        let _ = self.0.tried.subscribe().wait_for(|tried| *tried).await;
    }

    pub(super) fn collector(&self) -> Arc<Collector> {
        self.0.collector.clone()
    }

    /// Returns the readings of the usage of workspaces as the service takes them.
    pub fn readings(&self) -> Readings {
        self.0.collector.follow()
    }

    /// Returns a reading of the usage of workspaces from within the last second, or a new one; `None` if reading fails.
    pub async fn recent_stats(&self) -> Option<Arc<Vec<StatsView>>> {
        self.0.collector.recent().await
    }

    /// Returns the verbs; `None` before the first connection to the engine.
    pub fn lifecycle(&self) -> Option<Arc<Lifecycle>> {
        self.0.lifecycle.get().cloned()
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the store, on a separate connection.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns the policies that the configuration names now, as `wharf policy ls` lists them. It blocks while they are
    /// loaded.
    ///
    /// # Errors
    /// When the configuration or the store cannot be read.
    pub fn policies(&self) -> Result<Vec<PolicyView>, Failed> {
        // The pool of plugins is reserved for the chain that decides.
        let app = App { long_lived: false, ..self.0.app.reloaded()? };
        Ok(app.policies().map_err(Error::from)?)
    }

    /// Returns the changes that shadows would have made since a time: one shadow, or all. It blocks.
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

    /// Returns the current configuration.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.lifecycle().map_or_else(|| Arc::new(self.0.app.loaded.clone()), |lifecycle| lifecycle.loaded())
    }

    /// Replays recorded decisions through the current chain: one of them, or the newest `most` of a query. It blocks,
    /// and uses all cores.
    ///
    /// # Errors
    /// When a policy can no longer be loaded, when there is no such record, or when the store cannot be read.
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

    /// Returns the configured grace period of sweeps.
    pub fn grace(&self) -> std::time::Duration {
        self.0.app.loaded.config.cleanup.grace.0
    }
}

/// A failure of a part of the service.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The configuration is unusable.
    #[error("{0}")]
    Configuration(#[from] crate::config::Error),
    /// A reload was refused, for this reason.
    #[error("the service refused the reload and keeps the previous policies: {0}")]
    Refused(String),
    /// A verb or the store failed.
    #[error("{0}")]
    Lifecycle(#[from] Error),
}
