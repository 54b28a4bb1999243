//! The loop `events`: stores events of the engine at once, and then passes them to the reactions.
//!
//! It subscribes first and then lists the containers. It lists them again whenever events may have been missed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::react::{Reported, mounts_differ};
use super::{Shared, Stop, slept, stopped};
use crate::lifecycle::{Error, Notice};
use crate::workspace::{ContainerState, Event, State, WorkspaceId};

/// The time in which the engine repeats recent events after a subscription; the containers are listed after it. It is
/// also the time to wait for events that are on their way during a list.
const REPEATING: Duration = Duration::from_millis(150);
/// The age beyond which a repeated event is history: it is stored, and there is no reaction to it.
const STALE: Duration = Duration::from_secs(60);
/// The number of further lists when containers had events meanwhile.
const TRIES: u32 = 3;
/// The pause before a failed list is retried.
const RELIST: Duration = Duration::from_secs(1);
/// Pauses after a failure: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

pub(super) async fn run(shared: Arc<Shared>, out: mpsc::Sender<(WorkspaceId, Reported)>, mut stop: Stop) {
    let mut wait = BACKOFF.0;
    loop {
        let begun = Instant::now();
        let error = tokio::select! {
            error = follow(&shared, &out) => error,
            () = stopped(&mut stop) => return,
        };
        shared.status.error("events", &error);
        if begun.elapsed() > BACKOFF.1 {
            wait = BACKOFF.0;
        }
        if !slept(wait, &mut stop).await {
            return;
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Follows the events until that fails.
async fn follow(shared: &Arc<Shared>, out: &mpsc::Sender<(WorkspaceId, Reported)>) -> Error {
    match follow_to_end(shared, out).await {
        Ok(()) => Error::Internal("the event stream ended unexpectedly".into()),
        Err(error) => error,
    }
}

async fn follow_to_end(shared: &Arc<Shared>, out: &mpsc::Sender<(WorkspaceId, Reported)>) -> Result<(), Error> {
    let lifecycle = &shared.lifecycle;
    let last = lifecycle.store().last_engine_event()?;
    let mut events = lifecycle.events(last, None).await?;
    shared.status.engine_back();
    let mut repeating = true;
    let mut listing = Listing::At(Instant::now() + REPEATING, 0);
    loop {
        let notice = tokio::select! {
            notice = events.next() => notice,
            () = listing.due() => {
                repeating = false;
                listing = match listing {
                    Listing::At(_, tries) => {
                        match lifecycle.look().await {
                            Ok(looked) => {
                                let (at, touched) = (Instant::now() + REPEATING, BTreeSet::new());
                                Listing::Settling { at, looked, touched, tries }
                            }
                            Err(error) => {
                                shared.status.error("events", &error);
                                Listing::At(Instant::now() + RELIST, tries)
                            }
                        }
                    }
                    Listing::Settling { looked, touched, tries, .. } => {
                        for event in lifecycle.settle(&looked, &touched)? {
                            let state = lifecycle.store().state(&event.container_id)?;
                            tell(shared, out, event, state.is_some_and(|state| state.end_requested));
                        }
                        look_at_mounts(shared, looked);
                        // The state of a container that constantly has events is known from them.
                        if touched.is_empty() || tries == TRIES { Listing::Done } else { Listing::At(Instant::now(), tries + 1) }
                    }
                    Listing::Done => Listing::Done,
                };
                continue;
            }
        };
        match notice {
            Some(Notice::Event(event)) => {
                let age = jiff::Timestamp::now().duration_since(event.time);
                let stale = repeating && age.as_secs() > 0 && age.unsigned_abs() > STALE;
                let noted = lifecycle.store().note_event(&event)?;
                if let Listing::Settling { touched, .. } = &mut listing {
                    touched.insert(event.container_id.clone());
                }
                if noted.new && !stale {
                    tell(shared, out, event, noted.state.end_requested);
                }
            }
            Some(Notice::Lost(why)) => shared.status.engine_away(&why),
            Some(Notice::Resumed { gap }) => {
                shared.status.engine_back();
                if gap {
                    listing = Listing::At(Instant::now(), 0);
                }
            }
            None => return Ok(()),
        }
    }
}

/// Checks the mounts of all running containers: the engine may have started them while the service was not subscribed.
fn look_at_mounts(shared: &Arc<Shared>, looked: Vec<ContainerState>) {
    let shared = shared.clone();
    tokio::spawn(async move {
        for state in looked.iter().filter(|state| state.state == State::Running) {
            mounts_differ(&shared, &state.workspace, &state.container_id).await;
        }
    });
}

/// The detection of changes without events.
enum Listing {
    /// The engine's containers are listed at this time.
    At(Instant, u32),
    /// The containers were listed; events that were on their way get time to arrive.
    Settling {
        at: Instant,
        looked: Vec<ContainerState>,
        touched: BTreeSet<String>,
        tries: u32,
    },
    Done,
}

impl Listing {
    async fn due(&self) {
        match self {
            Self::At(at, _) | Self::Settling { at, .. } => tokio::time::sleep_until(*at).await,
            Self::Done => std::future::pending().await,
        }
    }
}

/// Passes a stored event to the reactions, without waiting for them.
fn tell(shared: &Shared, out: &mpsc::Sender<(WorkspaceId, Reported)>, event: Event, end_requested: bool) {
    if out.try_send((event.workspace.clone(), Reported { event, end_requested })).is_err() {
        shared.status.error("events", &"too many events at once: one was recorded but not handled");
    }
}
