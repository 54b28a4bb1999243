//! A stream of events that continues after a break, for as long as the service comes back.
//!
//! Every method fails with [`Error`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::resources::{Words, pairs, record_words};
use super::{Client, Error, Events, ServerEvent};
use crate::records::RecordFilter;
use crate::wire::Problem;

/// Pauses before new attempts to reach a service: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The largest difference between two clocks that still count as the same: the header `date` has whole seconds, and an
/// answer takes some time.
const SKEW: SignedDuration = SignedDuration::from_secs(3);

/// An item of a followed stream.
#[derive(Debug)]
pub enum Followed {
    /// An event of the service.
    Event(ServerEvent),
    /// The stream broke, for this cause; the next item comes when the service answers again.
    Lost(String),
    /// The service answers again, and continues after the last event.
    Resumed,
}

/// A stream of events that is reopened after each break.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    path: &'static str,
    query: Words,
    /// The ID of the last event.
    last: Option<String>,
    events: Option<Events>,
    /// The pause before the next attempt, after a break.
    pause: Option<Duration>,
    /// The time of the first opening, by the clock of the service.
    opened: Option<Timestamp>,
    /// Whether a break leads to another attempt. Otherwise it is an error.
    reconnects: bool,
}

impl Client {
    /// Follows the events of a workspace, or of all, from a time on or from now.
    pub fn follow_events(&self, workspace: Option<&str>, since: Option<Timestamp>) -> Follower {
        let mut query: Words = Vec::new();
        query.extend(workspace.map(|name| ("workspace", name.to_owned())));
        query.extend(since.map(|since| ("since", since.to_string())));
        Follower::new(self, "/v1/events", query)
    }

    /// Follows new records that match a filter, except for its times; `after` is the number of the last known record.
    pub fn follow_records(&self, filter: &RecordFilter, workspace: Option<&str>, after: Option<i64>) -> Follower {
        let follower = Follower::new(self, "/v1/decisions/stream", record_words(filter, workspace));
        Follower { last: after.map(|number| number.to_string()), ..follower }
    }

    /// Reads the logs of workspaces; with `follow` it continues after breaks.
    pub fn read_logs(&self, query: Vec<(&'static str, String)>, follow: bool) -> Follower {
        Follower { reconnects: follow, ..Follower::new(self, "/v1/logs", query) }
    }
}

impl Follower {
    fn new(client: &Client, path: &'static str, query: Words) -> Self {
        let client = client.clone();
        Self { client, path, query, last: None, events: None, pause: None, opened: None, reconnects: true }
    }

    /// Returns the client of the followed service.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the value of an event.
    ///
    /// # Errors
    /// [`Error::Answer`] when it is not of this type.
    pub fn read<T: serde::de::DeserializeOwned>(&self, event: &ServerEvent) -> Result<T, Error> {
        event.value().map_err(|error| self.client.misunderstood(error))
    }

    /// Turns a break into an error.
    pub fn once(mut self) -> Self {
        self.reconnects = false;
        self
    }

    /// Sets the ID after which the stream continues after a break, for streams whose events have no IDs.
    pub fn seen(&mut self, last: String) {
        self.last = Some(last).filter(|last| !last.is_empty());
    }

    /// Opens the stream, so that no later event is missed.
    pub async fn open(&mut self) -> Result<(), Error> {
        let now = Timestamp::now();
        if let Some(opened) = self.opened
            && self.query.iter().any(|(name, _)| *name == "tail")
        {
            // For a source that has sent nothing yet, everything since the first opening is new.
            self.query.retain(|(name, _)| !matches!(*name, "tail" | "since"));
            self.query.push(("since", opened.to_string()));
        }
        let events = self.client.events(self.path, &pairs(&self.query), self.last.as_deref()).await?;
        let told = events.date().filter(|date| date.duration_since(now).abs() > SKEW);
        self.opened.get_or_insert(told.unwrap_or(now));
        self.events = Some(events);
        Ok(())
    }

    /// Returns the next item. A problem in the stream is an error.
    ///
    /// # Errors
    /// See [`Error`]; after an error the stream has ended.
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
            // This includes an ID that came without data.
            self.last = events.last_id().map(str::to_owned).or(self.last.take());
            let cause = match event {
                Ok(Some(event)) if event.event == "problem" => {
                    let problem: Problem = event.value().map_err(|error| self.client.misunderstood(error))?;
                    return Err(Error::Problem(Box::new(problem)));
                }
                Ok(Some(event)) => return Ok(Followed::Event(event)),
                // A part that just ends would look complete.
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
