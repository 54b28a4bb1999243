//! The ledger of sweeps, and the undo of their plans and actions.

use jiff::Timestamp;

use crate::lifecycle::run::stop::lives;
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{LedgerAction, LedgerEntry, LedgerState};
use crate::workspace::WorkspaceId;

impl Lifecycle {
    /// Returns entries of the ledger, newest first: the planned ones, or all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn ledger(&self, pending: bool, most: u32) -> Result<Vec<LedgerEntry>, Error> {
        Ok(self.store.ledger(pending.then_some(LedgerState::Pending), most)?)
    }

    /// Undoes the plans and actions of sweeps for an object, which is named by the entry's number, by its ID, or by its
    /// name. A planned removal is cancelled, and the object is protected from sweeps. A workspace that a sweep has
    /// stopped, even for a later removal, is started unless it was used since.
    ///
    /// # Errors
    /// [`Error::Request`] when there is nothing to undo.
    pub async fn undo_cleanup(&self, which: &str) -> Result<LedgerEntry, Error> {
        let all = self.store.ledger(None, u32::MAX)?;
        let undoable = |entry: &&LedgerEntry| {
            entry.state == LedgerState::Pending
                || (entry.state == LedgerState::Done && entry.action == LedgerAction::Stop)
        };
        one_object(all.iter().filter(undoable), which)?;
        // Planned actions come before past ones.
        let meant = || all.iter().filter(|entry| is_meant(entry, which));
        let planned = meant().find(|entry| entry.state == LedgerState::Pending);
        let numbered = meant().find(|entry| entry.id.to_string() == which);
        // A cancelled plan does not hide an earlier stop.
        let other = || meant().find(|entry| entry.state != LedgerState::Cancelled).or_else(|| meant().next());
        let Some(mut entry) = numbered.or(planned).or_else(other).cloned() else {
            return Err(Error::Request(format!("no sweep has touched '{which}'; 'wharf cleanup ls' shows the ledger")));
        };
        match (entry.state, entry.action) {
            (LedgerState::Pending, _) => {
                // This comes first, so that no sweep carries the plan out meanwhile.
                self.take_back(&entry)?;
                let mut all = all;
                if entry.kind == "workspace" && self.store.try_lock_sweeps()?.is_none() {
                    // A sweep that is stopping the workspace completes the stop and records it.
                    match self.lock(&entry.object.parse().map_err(Error::Internal)?).await {
                        Ok(lock) => drop(lock),
                        Err(error) => {
                            tracing::warn!(
                                "{} is undone, but the workspace may be stopped by then ({error}); 'wharf start' \
                                 starts it",
                                entry.object
                            );
                            entry.state = LedgerState::Undone;
                            return Ok(entry);
                        }
                    }
                    all = self.store.ledger(None, u32::MAX)?;
                }
                let stop = |stop: &&LedgerEntry| {
                    stop.object == entry.object && stop.identity == entry.identity && stop.action == LedgerAction::Stop
                };
                if let Some(stop) = all.iter().find(stop).filter(|stop| stop.state == LedgerState::Done) {
                    self.undo_stop(stop).await?;
                }
            }
            (LedgerState::Done, LedgerAction::Stop) => {
                let id: WorkspaceId = entry.object.parse().map_err(Error::Internal)?;
                self.start(&id).await?;
                self.take_back(&entry)?;
            }
            (LedgerState::Done, _) => {
                let when = entry.ended.map(|time| time.to_string()).unwrap_or_default();
                let text = format!("{} was removed at {when}, and that cannot be undone", entry.object);
                return Err(Error::Request(text));
            }
            (LedgerState::Undone | LedgerState::Cancelled, _) => {
                let text = format!("entry {} about {} is already {}", entry.id, entry.object, entry.state.as_str());
                return Err(Error::Request(text));
            }
        }
        entry.state = LedgerState::Undone;
        Ok(entry)
    }

    fn take_back(&self, entry: &LedgerEntry) -> Result<(), Error> {
        if self.store.ledger_turn(entry.id, (entry.state, LedgerState::Undone), Some("undone"))? {
            return Ok(());
        }
        let text = format!("a sweep has just reached {}; 'wharf cleanup ls --all' shows the outcome", entry.object);
        Err(Error::Request(text))
    }

    /// Starts a workspace that a sweep has stopped, if it is still in the state that the sweep left.
    async fn undo_stop(&self, stop: &LedgerEntry) -> Result<(), Error> {
        let id: WorkspaceId = stop.object.parse().map_err(Error::Internal)?;
        let container = self.container_in_full(&id).await?.filter(|container| container.id == stop.identity);
        let since = |end: Timestamp| stop.ended.is_some_and(|stopped| end > stopped);
        if container.is_none_or(|container| lives(&container) || container.finished_at.is_none_or(since)) {
            return Ok(());
        }
        self.start(&id).await?;
        self.take_back(stop)
    }

    /// Lets sweeps plan an undone object again.
    ///
    /// # Errors
    /// [`Error::Request`] when it was not undone.
    pub fn allow_cleanup(&self, which: &str) -> Result<LedgerEntry, Error> {
        let mut allowed = None;
        let protected = self.store.ledger(Some(LedgerState::Undone), u32::MAX)?;
        one_object(protected.iter(), which)?;
        for mut entry in protected {
            if is_meant(&entry, which) {
                let cancelled = (LedgerState::Undone, LedgerState::Cancelled);
                self.store.ledger_turn(entry.id, cancelled, Some("no longer protected"))?;
                entry.state = LedgerState::Cancelled;
                allowed.get_or_insert(entry);
            }
        }
        let none = || Error::Request(format!("'{which}' is not protected; 'wharf cleanup ls --all' shows the ledger"));
        allowed.ok_or_else(none)
    }
}

/// Several workspaces may have the same name, but only one is meant.
fn one_object<'a>(entries: impl Iterator<Item = &'a LedgerEntry>, which: &str) -> Result<(), Error> {
    let named = entries.filter(|entry| is_meant(entry, which) && entry.object != which);
    let ids: std::collections::BTreeSet<String> = named.map(|entry| entry.object.clone()).collect();
    match ids.len() {
        0 | 1 => Ok(()),
        _ => Err(crate::records::Error::Ambiguous { name: which.to_owned(), ids: ids.into_iter().collect() }.into()),
    }
}

fn is_meant(entry: &LedgerEntry, which: &str) -> bool {
    entry.id.to_string() == which || entry.object == which || entry.name == which
}
