//! The engine's event stream: typed, filtered by label in the engine, and resumed without a gap.
//!
//! The engine keeps its last 256 events of any kind in memory, and none across a restart (moby, daemon/events). A
//! broken stream is therefore reopened at a time shortly before the last event seen, and repeated events are dropped.
//! If the last event is repeated, no event was missed. If it is not, events may be missing, and the listener is
//! notified so that it lists again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::Docker;
use super::error::{Error, Result};
use super::http::{Body, Call, encode, parse};

const OPERATION: &str = "read the events";
/// How far before the last event a stream resumes: the engine assigns times before it orders the events.
const OVERLAP: Duration = Duration::from_secs(1);
/// Number of remembered events for dropping duplicates: more than the engine can repeat.
const REMEMBERED: usize = 512;
/// How long a resumed stream may take to repeat the last event. The engine sends stored events at once.
const PROOF: Duration = Duration::from_millis(500);
/// Pauses between attempts to resume: first and longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Maximum length of an event; anything longer is invalid.
const LONGEST: usize = 1 << 20;

/// An event of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The time, with nanoseconds.
    pub time: Timestamp,
    /// Kind of object, e.g. `container`.
    pub kind: String,
    /// The action, e.g. `start`, `die`, `health_status: healthy`.
    pub action: String,
    /// Id of the object.
    pub actor: String,
    /// The object's labels, and details of the action, e.g. `exitCode`.
    pub attributes: BTreeMap<String, String>,
}

/// Selects events.
#[derive(Debug, Clone, Default)]
pub struct EventOptions {
    /// The object must have exactly these labels.
    pub labels: Vec<(String, String)>,
    /// Kinds of objects; empty means all.
    pub kinds: Vec<&'static str>,
    /// Actions (or their part before the colon); empty means all.
    pub actions: Vec<&'static str>,
    /// Includes past events since this time, as far as the engine still has them.
    pub since: Option<Timestamp>,
    /// Ends the stream at this time.
    pub until: Option<Timestamp>,
}

/// An item of an [`EventStream`].
#[derive(Debug)]
pub enum EventItem {
    /// An event occurred.
    Event(Event),
    /// The stream broke and is being resumed. Reported once per break.
    Lost(Error),
    /// The stream works again.
    Resumed {
        /// Whether events may be missing, so that the listener must list again.
        gap: bool,
    },
}

type Key = (Timestamp, String, String);

#[derive(Debug)]
enum Link {
    /// A resumed stream has until the deadline `proof` to repeat the last event.
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
    /// The requested beginning, or else the time of the first event.
    begin: Option<Timestamp>,
    /// The last events seen, oldest first.
    seen: VecDeque<Key>,
    /// The next pause.
    backoff: Duration,
    ready: VecDeque<EventItem>,
}

impl Docker {
    /// Listens to the engine's events. Every event after the return of this call is delivered. The stream survives
    /// broken connections and restarts of the engine; only `until` ends it.
    ///
    /// # Errors
    /// The errors of an engine that is unreachable now.
    pub async fn events(&self, mut options: EventOptions) -> Result<EventStream> {
        let (begun, begin) = (Timestamp::now(), options.since);
        let body = subscribe(self, &options, options.since).await?;
        // After a break before the first event, the stream resumes from this time.
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
    /// Returns the next item; none after `until`. Dropping the future while it waits loses nothing.
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
        // Never resume before the beginning: older events are not part of this stream.
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
        // A stream that breaks again before it was proven still belongs to the same break.
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
                // A repeated request would return the same invalid event, so it counts as missing.
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
        // The engine sends in order: the last event seen would have come before this one.
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
