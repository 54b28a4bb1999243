//! Slots: the limits of concurrent requests, streams and verbs.
//!
//! The socket has separate slots, so that no number of callers on the network blocks it. A token holds at most its
//! share of the network's slots, which leaves some to other tokens.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::http::access::Caller;
use crate::api::http::error::Problem;
use crate::api::http::limits::{ConnectionLimit, Place};

/// Slots for one kind of work.
pub(in crate::api) struct Places {
    /// The kind, for messages: `streams`.
    of: &'static str,
    most: usize,
    socket: Arc<Semaphore>,
    network: Arc<Semaphore>,
    shares: Arc<ConnectionLimit<Arc<str>>>,
}

/// A slot; dropping it frees the slot.
pub(in crate::api) struct Taken {
    _permit: OwnedSemaphorePermit,
    _share: Option<Place<Arc<str>>>,
}

impl Places {
    /// Creates `most` slots for the socket and as many for the network, of which each token may hold one part in
    /// `parts`.
    pub(in crate::api) fn new(of: &'static str, most: usize, parts: usize) -> Self {
        let semaphore = || Arc::new(Semaphore::new(most));
        Self {
            of,
            most,
            socket: semaphore(),
            network: semaphore(),
            shares: Arc::new(ConnectionLimit::new(most / parts)),
        }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// 503 when the caller's token holds its share, or all slots are taken.
    pub(in crate::api) fn take(&self, caller: &Caller) -> Result<Taken, Problem> {
        let (places, share) = match caller.holder() {
            None => (&self.socket, None),
            Some(token) => {
                let share = self.shares.enter(token).ok_or_else(|| Problem::share(self.of))?;
                (&self.network, Some(share))
            }
        };
        let permit = places.clone().try_acquire_owned().map_err(|_| Problem::busy(self.of))?;
        Ok(Taken { _permit: permit, _share: share })
    }

    /// Returns the number of taken slots.
    pub(in crate::api) fn taken(&self) -> usize {
        [&self.socket, &self.network]
            .map(|places| self.most.saturating_sub(places.available_permits()))
            .into_iter()
            .sum()
    }

    /// Completes when no slot is taken.
    pub(in crate::api) async fn all_free(&self) {
        let most = u32::try_from(self.most).unwrap_or(u32::MAX);
        for places in [&self.socket, &self.network] {
            // The semaphores are never closed.
            drop(places.acquire_many(most).await);
        }
    }
}
