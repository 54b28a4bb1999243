//! Sweeps and their ledger, idleness, and leases.
//!
//! Every method fails with [`Error`].

use std::time::Duration;

use jiff::Timestamp;

use super::{Backend, Error, named};
use crate::config::Span;
use crate::lifecycle::{IdleView, Idleness, SweepReport};
use crate::records::Target;
use crate::store::LedgerEntry;
use crate::wire::{Lease, SweepRequest};

/// The limit of entries of the ledger that are shown.
const LEDGER: u32 = 1000;

/// A change of a lease.
#[derive(Debug, Clone, Copy)]
pub enum LeaseChange {
    /// No change.
    Show,
    /// A new lease from now on.
    Take(Span),
    /// The end of the lease.
    Release,
}

impl Backend {
    /// Runs one sweep. A service uses its own grace period for the undo of removals.
    pub async fn sweep(&self, request: &SweepRequest) -> Result<SweepReport, Error> {
        match &self.service {
            Some(client) => Ok(client.sweep(request).await?),
            None => {
                let grace = if request.no_grace { Duration::ZERO } else { self.app.loaded.config.cleanup.grace.0 };
                Ok(Box::pin(self.here().await?.sweep(request.dry_run, grace)).await?)
            }
        }
    }

    /// Returns the ledger of sweeps, newest first; with `all` also entries that are done, undone or given up.
    pub async fn ledger(&self, all: bool) -> Result<Vec<LedgerEntry>, Error> {
        match &self.service {
            Some(client) => Ok(client.ledger(all).await?),
            None => Ok(self.here().await?.ledger(!all, LEDGER)?),
        }
    }

    /// Undoes a planned removal or a stop: number of the ledger, ID or name.
    pub async fn undo_cleanup(&self, which: &str) -> Result<LedgerEntry, Error> {
        match &self.service {
            Some(client) => Ok(client.undo_cleanup(which).await?),
            None => Ok(Box::pin(self.here().await?.undo_cleanup(which)).await?),
        }
    }

    /// Lets sweeps plan an undone object again.
    pub async fn allow_cleanup(&self, which: &str) -> Result<LedgerEntry, Error> {
        match &self.service {
            Some(client) => Ok(client.allow_cleanup(which).await?),
            None => Ok(self.here().await?.allow_cleanup(which)?),
        }
    }

    /// Returns the idleness of all running workspaces.
    pub async fn all_idleness(&self) -> Result<Vec<Idleness>, Error> {
        match &self.service {
            Some(client) => Ok(client.all_idleness().await?),
            None => Ok(self.here().await?.all_idleness().await?),
        }
    }

    /// Returns the idleness of one workspace; a sidecar is idle when its workspace is.
    pub async fn idleness(&self, target: &Target) -> Result<IdleView, Error> {
        match &self.service {
            Some(client) => Ok(client.idleness(&named(client, target).await?).await?),
            None => {
                let lifecycle = self.here().await?;
                let id = lifecycle.whole(lifecycle.find(target).await?)?;
                let service = lifecycle.store().service()?.is_some();
                Ok(IdleView::of(lifecycle.idleness(&id).await?, &lifecycle.loaded(), service))
            }
        }
    }

    /// Shows, takes or ends the lease of a workspace.
    pub async fn lease(&self, target: &Target, change: LeaseChange) -> Result<Lease, Error> {
        match &self.service {
            Some(client) => {
                let name = named(client, target).await?;
                Ok(match change {
                    LeaseChange::Show => client.leased(&name).await?,
                    LeaseChange::Take(time) => client.lease(&name, time).await?,
                    LeaseChange::Release => client.release(&name).await?,
                })
            }
            None => {
                let lifecycle = self.here().await?;
                let id = lifecycle.whole(lifecycle.find(target).await?)?;
                match change {
                    LeaseChange::Show => {}
                    LeaseChange::Take(time) => {
                        let until = Timestamp::now().checked_add(time.0);
                        let long = |_| Error::usage(format!("{time} is too long"), "name a shorter time");
                        lifecycle.lease(&id, Some(until.map_err(long)?))?;
                    }
                    LeaseChange::Release => lifecycle.lease(&id, None)?,
                }
                let until = lifecycle.leased_until(&id)?;
                Ok(Lease { id, until })
            }
        }
    }
}
