//! A stream of events that goes on where it broke off, for as long as the service comes back.
//!
//! Every method fails with [`Error`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::resources::{Words, pairs, record_words};
use super::{Client, Error, Events, ServerEvent};
use crate::records::RecordFilter;
use crate::wire::Problem;

/// Pauses before a service that went away is asked again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Two clocks that differ by more are not the same: the header `date` has whole seconds, and an answer takes its time.
const SKEW: SignedDuration = SignedDuration::from_secs(3);

/// An item of a followed stream.
#[derive(Debug)]
pub enum Followed {
    /// The service sent it.
    Event(ServerEvent),
    /// The stream broke, for this cause; the next item comes when the service answers again.
    Lost(String),
    /// The service answers again, and goes on behind the last event.
    Resumed,
}

/// A stream of events, opened again after each break.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    path: &'static str,
    query: Words,
    /// The id of the last event.
    last: Option<String>,
    events: Option<Events>,
    /// The pause before the next attempt, after a break.
    pause: Option<Duration>,
    /// The time of the first opening, by the clock of the service.
    opened: Option<Timestamp>,
    /// Whether a break is worth another attempt. Otherwise it is an error.
    reconnects: bool,
}

impl Client {
    /// Follows what happens to a workspace, or to all, from a time on or from now.
    pub fn follow_events(&self, workspace: Option<&str>, since: Option<Timestamp>) -> Follower {
        let mut query: Words = Vec::new();
        query.extend(workspace.map(|name| ("workspace", name.to_owned())));
        query.extend(since.map(|since| ("since", since.to_string())));
        Follower::new(self, "/v1/events", query)
    }

    /// Follows new records of a filter, but for its times; `after` is the number of the last known one.
    pub fn follow_records(&self, filter: &RecordFilter, workspace: Option<&str>, after: Option<i64>) -> Follower {
        let follower = Follower::new(self, "/v1/decisions/stream", record_words(filter, workspace));
        Follower { last: after.map(|number| number.to_string()), ..follower }
    }

    /// Reads the logs of workspaces; with `follow` it goes on after breaks.
    pub fn read_logs(&self, query: Vec<(&'static str, String)>, follow: bool) -> Follower {
        Follower { reconnects: follow, ..Follower::new(self, "/v1/logs", query) }
    }
}

impl Follower {
    fn new(client: &Client, path: &'static str, query: Words) -> Self {
        let client = client.clone();
        Self { client, path, query, last: None, events: None, pause: None, opened: None, reconnects: true }
    }

    /// The service that is followed.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The value of an event.
    ///
    /// # Errors
    /// [`Error::Answer`] when it is none of this type.
    pub fn read<T: serde::de::DeserializeOwned>(&self, event: &ServerEvent) -> Result<T, Error> {
        event.value().map_err(|error| self.client.misunderstood(error))
    }

    /// Makes a break an error.
    pub fn once(mut self) -> Self {
        self.reconnects = false;
        self
    }

    /// Says behind which id the stream goes on after a break, where its events have none.
    pub fn seen(&mut self, last: String) {
        self.last = Some(last).filter(|last| !last.is_empty());
    }

    /// Opens the stream, so that nothing from here on is missed.
    pub async fn open(&mut self) -> Result<(), Error> {
        let now = Timestamp::now();
        if let Some(opened) = self.opened
            && self.query.iter().any(|(name, _)| *name == "tail")
        {
            // Of a source that had said nothing yet, everything since then is new.
            self.query.retain(|(name, _)| !matches!(*name, "tail" | "since"));
            self.query.push(("since", opened.to_string()));
        }
        let events = self.client.events(self.path, &pairs(&self.query), self.last.as_deref()).await?;
        let told = events.date().filter(|date| date.duration_since(now).abs() > SKEW);
        self.opened.get_or_insert(told.unwrap_or(now));
        self.events = Some(events);
        Ok(())
    }

    /// The next item. A problem that the service tells in the stream is an error.
    ///
    /// # Errors
    /// See [`Error`]; after one the stream has ended.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            let Some(events) = &mut self.events else {
                if let Some(pause) = self.pause {
                    tokio::time::sleep(pause).await;
                }
                match self.open().await {
                    Ok(()) if self.pause.take().is_some() => return Ok(Followed::Resumed),
                    Ok(()) => {}
                    Err(error) if error.is_away() && self.pause.is_some() => {
                        self.pause = self.pause.map(|pause| (pause * 2).min(PAUSES.1));
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            let event = events.next().await;
            // Also one that came without data.
            self.last = events.last_id().map(str::to_owned).or(self.last.take());
            let cause = match event {
                Ok(Some(event)) if event.event == "problem" => {
                    let problem: Problem = event.value().map_err(|error| self.client.misunderstood(error))?;
                    return Err(Error::Problem(Box::new(problem)));
                }
                Ok(Some(event)) => return Ok(Followed::Event(event)),
                // A part that just ends would look like all of it.
                Ok(None) if !self.reconnects => {
                    return Err(self.client.unreachable("it ended the stream"));
                }
                Err(error) if !self.reconnects => return Err(error),
                Ok(None) => "the service ended the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            self.events = None;
            self.pause = Some(PAUSES.0);
            return Ok(Followed::Lost(cause));
        }
    }
}
