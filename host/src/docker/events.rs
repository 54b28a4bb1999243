//! The engine's event stream: typed, filtered by label on the engine's side, and resumed without a gap.
//!
//! The engine keeps its last 256 events in memory, whatever they are about, and none over its restart (moby,
//! daemon/events). A stream that breaks is therefore opened again a little before the last event that was seen; events
//! that come twice are left out. When that last event comes again, nothing was missed; when it does not, something may
//! have been, and the listener is told so that it lists again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::Docker;
use super::error::{Error, Result};
use super::http::{Body, Call, encode, parse};

const OPERATION: &str = "read the events";
/// How far before the last event a stream is resumed: the engine numbers events before it puts them in order.
const OVERLAP: Duration = Duration::from_secs(1);
/// Events that are remembered to leave out what comes twice: more than the engine can repeat.
const REMEMBERED: usize = 512;
/// How long a resumed stream has for showing the last event again. What the engine keeps, it sends at once.
const PROOF: Duration = Duration::from_millis(500);
/// Waits between attempts to resume: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// An event that is longer than this is none.
const LONGEST: usize = 1 << 20;

/// An event of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, to the nanosecond.
    pub time: Timestamp,
    /// Kind of object, e.g. `container`.
    pub kind: String,
    /// E.g. `start`, `die`, `health_status: healthy`.
    pub action: String,
    /// Id of the object.
    pub actor: String,
    /// Labels of the object among them, and what belongs to the action, e.g. `exitCode`.
    pub attributes: BTreeMap<String, String>,
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventOptions {
    /// The object has all these labels, exactly.
    pub labels: Vec<(String, String)>,
    /// Kinds of objects; empty means all.
    pub kinds: Vec<&'static str>,
    /// Actions (or their part before the colon); empty means all.
    pub actions: Vec<&'static str>,
    /// Also the events since this time, as far as the engine keeps them.
    pub since: Option<Timestamp>,
    /// Ends at this time.
    pub until: Option<Timestamp>,
}

/// What an [`EventStream`] gives.
#[derive(Debug)]
pub enum EventItem {
    /// It happened.
    Event(Event),
    /// The stream broke, and is being resumed. Said once until it is.
    Lost(Error),
    /// The stream is back.
    Resumed {
        /// Whether events may be missing: list again.
        gap: bool,
    },
}

type Key = (Timestamp, String, String);

#[derive(Debug)]
enum Link {
    /// A resumed stream has until the deadline to show the last event again.
    Open {
        body: Body,
        proof: Option<Instant>,
    },
    Waiting {
        until: Instant,
    },
    Ended,
}

/// Events as they arrive; see [`Docker::events`].
#[derive(Debug)]
pub struct EventStream {
    docker: Docker,
    options: EventOptions,
    link: Link,
    text: Vec<u8>,
    /// What was asked for as the beginning, or else the time of the first event.
    begin: Option<Timestamp>,
    /// What was seen last, oldest first.
    seen: VecDeque<Key>,
    /// The next wait.
    backoff: Duration,
    ready: VecDeque<EventItem>,
}

impl Docker {
    /// Listens to the engine's events. When this returns, every later event will be given. The stream outlives breaks
    /// and restarts of the engine; only `until` ends it.
    ///
    /// # Errors
    /// The ones of an engine that is not there now.
    pub async fn events(&self, mut options: EventOptions) -> Result<EventStream> {
        let (begun, begin) = (Timestamp::now(), options.since);
        let body = subscribe(self, &options, options.since).await?;
        // A break before the first event goes back to here.
        options.since = options.since.or(Some(begun));
        Ok(EventStream {
            docker: self.clone(),
            options,
            link: Link::Open { body, proof: None },
            text: Vec::new(),
            begin,
            seen: VecDeque::new(),
            backoff: BACKOFF.0,
            ready: VecDeque::new(),
        })
    }
}

async fn subscribe(docker: &Docker, options: &EventOptions, since: Option<Timestamp>) -> Result<Body> {
    let labels: Vec<String> = options.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut filters = serde_json::Map::new();
    for (key, values) in [("type", &options.kinds), ("event", &options.actions)] {
        if !values.is_empty() {
            filters.insert(key.to_owned(), serde_json::json!(values));
        }
    }
    filters.insert("label".to_owned(), serde_json::json!(labels));
    let mut path = format!("/events?filters={}", encode(&serde_json::Value::Object(filters).to_string()));
    for (key, time) in [("since", since), ("until", options.until)] {
        if let Some(time) = time {
            path.push_str(&format!("&{key}={}.{:09}", time.as_second(), time.subsec_nanosecond()));
        }
    }
    docker.http().stream(&Call::get(OPERATION, path)).await
}

impl EventStream {
    /// The next item; none after `until`. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<EventItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            match &mut self.link {
                Link::Ended => return None,
                Link::Waiting { until } => {
                    tokio::time::sleep_until(*until).await;
                    self.resume().await;
                }
                Link::Open { body, proof: None } => {
                    let chunk = body.chunk().await;
                    self.take(chunk);
                }
                Link::Open { body, proof: Some(deadline) } => {
                    match tokio::time::timeout_at(*deadline, body.chunk()).await {
                        Ok(chunk) => self.take(chunk),
                        Err(_) => self.proven(false),
                    }
                }
            }
        }
    }

    async fn resume(&mut self) {
        if self.is_over() {
            self.link = Link::Ended;
            return;
        }
        // Not before the beginning: what was there already is not what has happened since.
        let overlap = |time: &Timestamp| time.checked_sub(OVERLAP).unwrap_or(*time).max(self.begin.unwrap_or(*time));
        let last = self.seen.back().map(|(time, ..)| overlap(time));
        match subscribe(&self.docker, &self.options, last.or(self.options.since)).await {
            Ok(body) => self.link = Link::Open { body, proof: Some(Instant::now() + PROOF) },
            Err(error) => {
                tracing::debug!("the event stream cannot be resumed yet: {error}");
                self.wait();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.options.until.is_some_and(|until| until <= Timestamp::now())
    }

    fn wait(&mut self) {
        self.text.clear();
        self.link = Link::Waiting { until: Instant::now() + self.backoff };
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    fn lost(&mut self, error: Error) {
        // One that breaks before it was proven is still the same break.
        if matches!(self.link, Link::Open { proof: None, .. }) {
            self.ready.push_back(EventItem::Lost(error));
        }
        self.wait();
    }

    fn proven(&mut self, complete: bool) {
        if let Link::Open { proof, .. } = &mut self.link
            && proof.take().is_some()
        {
            self.backoff = BACKOFF.0;
            self.ready.push_back(EventItem::Resumed { gap: !complete });
        }
    }

    fn take<E>(&mut self, chunk: Option<std::result::Result<bytes::Bytes, E>>)
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        match chunk {
            Some(Ok(chunk)) => {
                self.text.extend_from_slice(&chunk);
                while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                    let rest = self.text.split_off(end + 1);
                    let line = std::mem::replace(&mut self.text, rest);
                    self.line(&line);
                }
                if self.text.len() > LONGEST {
                    let cause = format!("an event of more than {LONGEST} bytes");
                    self.lost(Error::Protocol { operation: OPERATION, cause });
                }
            }
            None if self.is_over() => self.link = Link::Ended,
            None => {
                let source = "the engine closed the stream".into();
                self.lost(Error::Stream { operation: OPERATION, source });
            }
            Some(Err(source)) => self.lost(Error::Stream { operation: OPERATION, source: Box::new(source) }),
        }
    }

    fn line(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let event = match read(line) {
            Ok(event) => event,
            Err(error) => {
                // Asked for again it would be the same, so it counts as missing.
                tracing::warn!("{error}");
                self.ready.push_back(EventItem::Resumed { gap: true });
                return;
            }
        };
        let key = (event.time, event.actor.clone(), event.action.clone());
        let proving = matches!(self.link, Link::Open { proof: Some(_), .. });
        if self.seen.contains(&key) {
            if proving && self.seen.back() == Some(&key) {
                self.proven(true);
            }
            return;
        }
        // The engine sends in order: what was seen last would have come before this.
        self.proven(false);
        self.begin.get_or_insert(event.time);
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(key);
        self.ready.push_back(EventItem::Event(event));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    #[serde(rename = "Type")]
    kind: String,
    action: String,
    actor: RawActor,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawActor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    attributes: Option<BTreeMap<String, String>>,
}

fn read(line: &[u8]) -> Result<Event> {
    let raw: Raw = parse(OPERATION, line)?;
    let time = Timestamp::from_nanosecond(raw.time_nano.into())
        .map_err(|error| Error::Protocol { operation: OPERATION, cause: error.to_string() })?;
    Ok(Event {
        time,
        kind: raw.kind,
        action: raw.action,
        actor: raw.actor.id,
        attributes: raw.actor.attributes.unwrap_or_default(),
    })
}
