//! The loop `events`: what the engine tells goes into the store at once, and to the reactions after that.
//!
//! It listens first and lists then, and lists again whenever events may have been missed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::react::{Reported, mounts_differ};
use super::{Shared, Stop, slept, stopped};
use crate::lifecycle::{Error, Notice};
use crate::workspace::{ContainerState, Event, State, WorkspaceId};

/// After it has begun to listen, the engine repeats what it still knows; then it is listed. As long is waited for
/// events that are under way at a list.
const REPEATING: Duration = Duration::from_millis(150);
/// An event that is repeated and older than this is history: it is kept, and nothing is done about it.
const STALE: Duration = Duration::from_secs(60);
/// How often containers of which events come meanwhile are listed again.
const TRIES: u32 = 3;
/// When a list that failed is tried again.
const RELIST: Duration = Duration::from_secs(1);
/// Waits after a failure: the first, and the longest.
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
        Ok(()) => Error::Internal("the events ended without an end".into()),
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
                        // What always has events is known by them.
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

/// Has the mounts of all containers looked at that run: the engine may have started them while the service did not listen.
fn look_at_mounts(shared: &Arc<Shared>, looked: Vec<ContainerState>) {
    let shared = shared.clone();
    tokio::spawn(async move {
        for state in looked.iter().filter(|state| state.state == State::Running) {
            mounts_differ(&shared, &state.workspace, &state.container_id).await;
        }
    });
}

/// Finding out what the events did not tell.
enum Listing {
    /// The engine is listed at this time.
    At(Instant, u32),
    /// It was listed, and events that were under way then are given time to come.
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

/// Hands an event that is in the store to the reactions, without waiting for them.
fn tell(shared: &Shared, out: &mpsc::Sender<(WorkspaceId, Reported)>, event: Event, end_requested: bool) {
    if out.try_send((event.workspace.clone(), Reported { event, end_requested })).is_err() {
        shared.status.error("events", &"too many events at once: nothing is done about one of them; it is kept");
    }
}
