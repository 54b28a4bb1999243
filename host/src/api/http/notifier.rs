//! One poll of the store for all followers: whether there are new events or decision records.
//!
//! Other processes write to the store too, so polling is necessary. Without followers the store is not polled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::service::{Handle, Stop, stopped};

/// The interval of polls.
const LOOK: Duration = Duration::from_millis(100);

/// Numbers of the newest event and of the newest decision record.
type Newest = (i64, i64);

/// A pulse that beats when something is new.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct Pulse(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    newest: watch::Sender<Newest>,
    followed: Notify,
}

/// A follower of the store. Read everything first, then wait.
pub(in crate::api) struct Follower(watch::Receiver<Newest>);

impl Follower {
    /// Completes when there may be something new.
    pub(in crate::api) async fn beat(&mut self) {
        if self.0.changed().await.is_err() {
            // The service ends, and the stream with it.
            std::future::pending().await
        }
    }
}

impl Pulse {
    pub(in crate::api) fn follow(&self) -> Follower {
        let follower = Follower(self.0.newest.subscribe());
        self.0.followed.notify_one();
        follower
    }

    /// Polls until the service stops.
    pub(in crate::api) async fn run(self, handle: Handle, mut stop: Stop) {
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = self.0.followed.notified() => {}
            }
            while self.0.newest.receiver_count() > 0 {
                let store = handle.store();
                let read = store
                    .event_range()
                    .and_then(|range| Ok((range.map_or(0, |(_, newest)| newest), store.newest_decision()?)));
                match read {
                    Ok(newest) => {
                        self.0.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
                    }
                    Err(error) => tracing::warn!("api: streams wait for the store: {error}"),
                }
                tokio::select! {
                    () = stopped(&mut stop) => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }
}
