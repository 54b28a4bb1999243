//! Events of workspaces as they happen.
//!
//! Every method fails with [`Error`].

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::{Backend, Error, named};
use crate::client::{Client, Followed, Follower};
use crate::lifecycle::{Notice, WorkspaceEvents};
use crate::records::Target;
use crate::workspace::{Event, WorkspaceId};

/// Past events arrive without a pause; after a pause of this length all of them have arrived.
const PAUSE: Duration = Duration::from_millis(150);

/// An item of a stream of events.
#[derive(Debug)]
pub enum EventItem {
    /// An event.
    Event(Event),
    /// A message about the connection.
    Notice(String),
}

/// Events, each once, in order.
pub struct EventStream {
    ready: VecDeque<EventItem>,
    source: Source,
}

enum Source {
    Here {
        events: Box<WorkspaceEvents>,
        only: Option<WorkspaceId>,
    },
    Service(Box<Follower>),
    /// A past period.
    Past,
}

impl Backend {
    /// Returns the events of a workspace, or of all: from `since`, or from now, up to `until`, or without end.
    pub async fn events(
        &self,
        target: Option<&Target>,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<EventStream, Error> {
        if let Some(client) = &self.service {
            return of_service(client, target, since, until).await;
        }
        let lifecycle = self.here().await?;
        let only = match target {
            Some(target) => Some(lifecycle.find(target).await?),
            None => None,
        };
        let mut events = lifecycle.events(since, until).await?;
        let mut ready = VecDeque::new();
        if since.is_some() {
            // Merges the history of the service with the events that the engine still has, each event once.
            let mut past = lifecycle.past_events(only.clone(), since, until)?;
            let key = |event: &Event| (event.time, event.container_id.clone(), event.what);
            let known: BTreeSet<_> = past.iter().map(key).collect();
            while let Ok(Some(notice)) = tokio::time::timeout(PAUSE, events.next()).await {
                match notice {
                    Notice::Event(event) if !shown(only.as_ref(), &event) || known.contains(&key(&event)) => {}
                    Notice::Event(event) => past.push(event),
                    notice => ready.extend(words(notice).map(EventItem::Notice)),
                }
            }
            past.sort_by_key(|event| event.time);
            ready.extend(past.into_iter().map(EventItem::Event));
        }
        Ok(EventStream { ready, source: Source::Here { events: Box::new(events), only } })
    }

    /// Returns signals of changes, for a list that is redrawn.
    pub async fn changes(&self) -> Result<Changes, Error> {
        Ok(match &self.service {
            Some(client) => {
                let mut follower = client.follow_events(None, None).once();
                follower.open().await?;
                Changes(Signs::Service(Box::new(follower)))
            }
            None => Changes(Signs::Here(Box::new(self.here().await?.events(None, None).await?))),
        })
    }
}

/// Signals of changes.
pub struct Changes(Signs);

enum Signs {
    Here(Box<WorkspaceEvents>),
    Service(Box<Follower>),
}

impl Changes {
    /// Waits for the next change.
    pub async fn next(&mut self) -> Result<(), Error> {
        match &mut self.0 {
            Signs::Here(events) => match events.next().await {
                Some(_) => Ok(()),
                None => std::future::pending().await,
            },
            Signs::Service(follower) => Ok(follower.next().await.map(drop)?),
        }
    }
}

async fn of_service(
    client: &Client,
    target: Option<&Target>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<EventStream, Error> {
    let name = match target {
        Some(target) => Some(named(client, target).await?),
        None => None,
    };
    let Some(until) = until else {
        let mut follower = client.follow_events(name.as_deref(), since);
        follower.open().await?;
        return Ok(EventStream { ready: VecDeque::new(), source: Source::Service(Box::new(follower)) });
    };
    let now = Timestamp::now();
    if let Ok(wait) = Duration::try_from(until.duration_since(now)) {
        tokio::time::sleep(wait).await;
    }
    let since = since.unwrap_or_else(|| now.min(until));
    let events = client.past_events(name.as_deref(), Some(since), until).await?;
    Ok(EventStream { ready: events.into_iter().map(EventItem::Event).collect(), source: Source::Past })
}

impl EventStream {
    /// Returns the next item; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<EventItem>, Error> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            match &mut self.source {
                Source::Past => return Ok(None),
                Source::Here { events, only } => match events.next().await {
                    None => return Ok(None),
                    Some(Notice::Event(event)) if shown(only.as_ref(), &event) => {
                        return Ok(Some(EventItem::Event(event)));
                    }
                    Some(notice) => self.ready.extend(words(notice).map(EventItem::Notice)),
                },
                Source::Service(follower) => {
                    let text = match follower.next().await? {
                        Followed::Event(event) if event.event.is_empty() => {
                            return Ok(Some(EventItem::Event(follower.read(&event)?)));
                        }
                        Followed::Event(event) if event.event == "gap" => {
                            "some events since then were already deleted".to_owned()
                        }
                        Followed::Event(_) => continue,
                        Followed::Lost(cause) => format!("{cause}; trying again"),
                        Followed::Resumed => {
                            "connected to the service again; continuing after the last event".to_owned()
                        }
                    };
                    return Ok(Some(EventItem::Notice(text)));
                }
            }
        }
    }
}

fn shown(only: Option<&WorkspaceId>, event: &Event) -> bool {
    only.is_none_or(|id| event.concerns(id))
}

/// Returns the message for a notice about the connection to the engine.
fn words(notice: Notice) -> Option<String> {
    Some(match notice {
        Notice::Event(_) => return None,
        Notice::Lost(cause) => format!("{cause}; trying again"),
        Notice::Resumed { gap: false } => "connected to the engine again; nothing was missed".to_owned(),
        Notice::Resumed { gap: true } => {
            "connected to the engine again; events since the interruption may be missing here".to_owned()
        }
    })
}
