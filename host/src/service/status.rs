//! The status of the service: failures of each loop are counted, logged and recorded for `wharf doctor`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::{Metrics, ServiceEvent};
use crate::store::{self, LoopStatus, Owner, ServiceStatus, Store};

type Say = Box<dyn Fn(&ServiceEvent) + Send + Sync>;

pub(super) struct Status {
    store: Store,
    status: Mutex<ServiceStatus>,
    metrics: Arc<Metrics>,
    say: Say,
}

impl Status {
    pub(super) fn new(store: Store, loops: &[&str], metrics: Arc<Metrics>, say: Say) -> Result<Self, store::Error> {
        let this = Owner::this_process();
        let status =
            |name: &&str| LoopStatus { name: (*name).into(), errors: 0, last_error: None, last_error_at: None };
        let status = ServiceStatus {
            pid: this.pid,
            process_start: this.start,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: Timestamp::now(),
            engine_away: None,
            loops: loops.iter().map(status).collect(),
            chain: store::ChainStatus::default(),
        };
        store.put_service(Some(&status))?;
        Ok(Self { store, status: Mutex::new(status), metrics, say })
    }

    pub(super) fn say(&self, what: &ServiceEvent) {
        (self.say)(what);
    }

    /// Records a failure of a loop, which continues.
    pub(super) fn error(&self, name: &str, error: &dyn std::fmt::Display) {
        tracing::warn!("{name}: {error}");
        self.metrics.loop_failed(name);
        let mut status = self.status();
        if let Some(status) = status.loops.iter_mut().find(|status| status.name == name) {
            status.errors += 1;
            status.last_error = Some(error.to_string());
            status.last_error_at = Some(Timestamp::now());
        }
        self.write(&status);
    }

    /// Records that another chain decides from now on.
    pub(super) fn chain_loaded(&self, policies: std::collections::BTreeMap<String, String>, reload: bool) {
        self.metrics.reloaded(true, reload);
        let mut status = self.status();
        let attempts = status.chain.attempts + u64::from(reload);
        let since = Some(Timestamp::now());
        status.chain = store::ChainStatus { policies, since, attempts, ..Default::default() };
        self.write(&status);
    }

    /// Returns the chain that decides now.
    pub(super) fn chain(&self) -> store::ChainStatus {
        self.status().chain.clone()
    }

    /// Records that a reload was refused; the previous chain continues to decide.
    pub(super) fn chain_refused(&self, why: &str) {
        tracing::error!("policies: the reload was refused, the previous policies stay active: {why}");
        self.metrics.reloaded(false, true);
        let mut status = self.status();
        status.chain.attempts += 1;
        status.chain.refused = Some(why.to_owned());
        status.chain.refused_at = Some(Timestamp::now());
        self.write(&status);
    }

    pub(super) fn engine_away(&self, why: &str) {
        self.metrics.engine_up(false);
        let mut status = self.status();
        if status.engine_away.is_none() {
            (self.say)(&ServiceEvent::EngineAway(why.to_owned()));
        }
        status.engine_away = Some(why.to_owned());
        self.write(&status);
    }

    pub(super) fn engine_back(&self) {
        self.metrics.engine_up(true);
        let mut status = self.status();
        if status.engine_away.take().is_some() {
            (self.say)(&ServiceEvent::EngineBack);
            self.write(&status);
        }
    }

    /// Records the end of the service.
    pub(super) fn end(&self) -> Result<(), store::Error> {
        self.store.put_service(None)
    }

    fn status(&self) -> MutexGuard<'_, ServiceStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, status: &ServiceStatus) {
        if let Err(error) = self.store.put_service(Some(status)) {
            // The failure is already in the log; the status only repeats it.
            tracing::warn!("{error}");
        }
    }
}
