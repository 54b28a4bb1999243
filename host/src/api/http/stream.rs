//! Answers without an end: server-sent events (the HTML standard's section 9.2), and lines of JSON.
//!
//! A follower takes a slot. There are fewer slots than connections, so that reads stay possible. Nothing is buffered
//! for a client that does not read: the source produces the next piece after the client took the last one. A stream
//! ends with the service.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Serialize;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::concurrency::Taken;
use crate::api::http::error::Problem;
use crate::api::http::notifier::Follower;
use crate::api::routes::files;
use crate::service::stopped;
use crate::store::Store;

/// The interval of comments in an idle stream, so that proxies do not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The content type of a stream of events.
pub(in crate::api) const EVENTS: &str = "text/event-stream";

/// The content type of lines of JSON.
pub(in crate::api) const LINES: &str = "application/x-ndjson";

/// A slot for a stream.
pub(in crate::api) type Seat = Taken;

impl Api {
    /// Takes a slot for a stream.
    pub(in crate::api) fn seat(&self, caller: &Caller) -> Result<Seat, Problem> {
        if self.stopping() {
            return Err(Problem::stopping());
        }
        self.streams.take(caller)
    }
}

/// The form of the answer that a client requests.
#[derive(Debug)]
pub(in crate::api) struct Wants {
    /// Whether it wants events, because `Accept` names them.
    pub(in crate::api) events: bool,
    /// The ID of the last event that the client received; the stream continues after it.
    pub(in crate::api) last: Option<String>,
}

impl Wants {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut kinds = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let named = |kinds: &str| {
            let mut each = kinds.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
            each.any(|kind| kind.eq_ignore_ascii_case(EVENTS))
        };
        let events = kinds.any(named);
        let last = headers.get("last-event-id").map(|id| id.to_str().map(str::to_owned));
        let last = last.transpose().map_err(|_| Problem::request("the header 'last-event-id' is not plain text"))?;
        Ok(Self { events, last: last.filter(|id| !id.is_empty()) })
    }

    /// Returns the number in the ID, for streams whose IDs are numbers.
    pub(in crate::api) fn number(&self) -> Result<Option<i64>, Problem> {
        let number = |id: &String| match id.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number),
            _ => Err(Problem::request("the header 'last-event-id' is not an id of this stream")),
        };
        self.last.as_ref().map(number).transpose()
    }
}

impl FromRequestParts<Api> for Wants {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

/// The source of a stream.
pub(in crate::api) trait Source: Send + 'static {
    /// Returns the next piece, or `None` at the end. The future is dropped only together with the stream.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Problem>> + Send;
}

/// A sequence in the store that only grows, each entry with a number.
pub(in crate::api) trait Growing: Send + 'static {
    /// Reads some entries after a number, and puts those that the caller may see into `ready`. Returns the number of
    /// the last entry that was read, or `None` when there is no new entry yet.
    fn read(&mut self, store: &Store, after: i64, ready: &mut VecDeque<Bytes>) -> Result<Option<i64>, Problem>;
}

/// A source that follows a sequence after a number; the pieces in `ready` come first.
pub(in crate::api) struct Following<G> {
    pub(in crate::api) api: Api,
    pub(in crate::api) of: G,
    pub(in crate::api) after: i64,
    pub(in crate::api) ready: VecDeque<Bytes>,
    pub(in crate::api) pulse: Follower,
}

impl<G: Growing> Source for Following<G> {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            match self.of.read(self.api.handle.store(), self.after, &mut self.ready)? {
                Some(last) => {
                    self.after = last;
                    // Most entries may be hidden from this caller; other tasks run in the meantime.
                    tokio::task::yield_now().await;
                }
                None => self.pulse.beat().await,
            }
        }
    }
}

/// Formats an event: `data` is JSON on one line.
pub(in crate::api) fn event<T: Serialize>(name: Option<&str>, id: Option<&str>, data: &T) -> Result<Bytes, Problem> {
    let mut text = String::new();
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    if let Some(name) = name {
        text.push_str(&format!("event: {name}\n"));
    }
    let data = serde_json::to_string(data).map_err(Problem::internal)?;
    text.push_str(&format!("data: {data}\n\n"));
    Ok(text.into())
}

/// Formats an event that has only an ID: a client that reconnects continues from there.
pub(in crate::api) fn place(id: &str) -> Bytes {
    format!("id: {id}\n\n").into()
}

/// Formats the failure as the last event.
pub(in crate::api) fn problem_event(problem: &Problem) -> Bytes {
    event(Some("problem"), None, problem).unwrap_or_default()
}

/// Turns a source into a stream; a failure becomes its last piece.
fn pieces(source: impl Source, failed: fn(&Problem) -> Bytes) -> impl Stream<Item = Bytes> + Send {
    futures_util::stream::unfold(Some(source), move |source| async move {
        let mut source = source?;
        match source.next().await {
            Ok(Some(bytes)) => Some((bytes, Some(source))),
            Ok(None) => None,
            Err(problem) => Some((failed(&problem), None)),
        }
    })
}

/// Answers with events.
pub(in crate::api) fn events(api: &Api, seat: Seat, source: impl Source) -> Response {
    let pieces = Box::pin(pieces(source, problem_event));
    let body = futures_util::stream::unfold((pieces, api.stop.clone(), seat), |(mut pieces, mut stop, seat)| async {
        let piece = tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            piece = pieces.next() => piece,
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(b":\n\n")),
        };
        Some((Ok::<_, Infallible>(piece?), (pieces, stop, seat)))
    });
    ([(header::CONTENT_TYPE, EVENTS)], Body::from_stream(body)).into_response()
}

/// Answers with the events of a verb. They end with the verb, not with the service, which waits for verbs.
pub(in crate::api) fn verb(source: impl Source) -> Response {
    let pieces = Box::pin(pieces(source, problem_event));
    let body = futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = tokio::select! {
            biased;
            piece = pieces.next() => piece,
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(b":\n\n")),
        };
        Some((Ok::<_, Infallible>(piece?), pieces))
    });
    ([(header::CONTENT_TYPE, EVENTS)], Body::from_stream(body)).into_response()
}

/// Answers with lines of JSON, to the end of the source.
pub(in crate::api) fn lines(api: &Api, seat: Seat, source: impl Source) -> Response {
    let pieces = Box::pin(pieces(source, problem_line));
    let body = futures_util::stream::unfold(Some((pieces, api.stop.clone(), seat)), |going| async {
        let (mut pieces, mut stop, seat) = going?;
        let piece = tokio::select! {
            biased;
            // Without this line, a stream that breaks off would look complete.
            () = stopped(&mut stop) => return Some((Ok(problem_line(&Problem::stopping())), None)),
            piece = pieces.next() => piece,
        };
        Some((Ok::<_, Infallible>(piece?), Some((pieces, stop, seat))))
    });
    ([(header::CONTENT_TYPE, LINES)], Body::from_stream(body)).into_response()
}

/// Formats the failure as the last line: a reader must know that the previous lines are incomplete.
fn problem_line(problem: &Problem) -> Bytes {
    let mut line = serde_json::to_vec(&serde_json::json!({ "problem": problem })).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// The way that a long answer marks that it is incomplete.
pub(in crate::api) enum Last {
    Event,
    Line,
    /// An archive has no place for a message: the connection breaks off.
    Broken,
}

impl Last {
    /// Returns the kind of a long answer; `None` for other answers.
    pub(in crate::api) fn of(kind: &HeaderValue) -> Option<Self> {
        match kind {
            kind if kind == EVENTS => Some(Self::Event),
            kind if kind == LINES => Some(Self::Line),
            kind if kind == files::TAR => Some(Self::Broken),
            _ => None,
        }
    }
}

/// Returns a body that ends early when its caller's token is revoked.
pub(in crate::api) fn until_revoked(
    body: Body,
    revoked: impl Future<Output = ()> + Send + 'static,
    last: Last,
) -> Body {
    let going = Some((body.into_data_stream(), Box::pin(revoked), last));
    Body::from_stream(futures_util::stream::unfold(going, |going| async {
        let (mut body, mut revoked, last) = going?;
        tokio::select! {
            biased;
            () = &mut revoked => {
                let problem = Problem::bad_token();
                let last = match last {
                    Last::Event => Ok(problem_event(&problem)),
                    Last::Line => Ok(problem_line(&problem)),
                    Last::Broken => Err(BoxError::from("the token is no longer valid")),
                };
                Some((last, None))
            }
            piece = body.next() => Some((piece?.map_err(BoxError::from), Some((body, revoked, last)))),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_wanted_when_they_are_named() {
        let wants = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Wants::of(&headers).unwrap().events
        };
        assert!(wants("text/event-stream") && wants("text/html, Text/Event-Stream;q=0.9"));
        assert!(!wants("*/*") && !wants("application/json") && !wants("text/event-stream-not"));
        assert!(!Wants::of(&HeaderMap::new()).unwrap().events);
    }

    #[test]
    fn an_event_has_its_data_on_one_line() {
        let bytes = event(Some("what"), Some("7"), &serde_json::json!({ "text": "a\nb" })).unwrap();
        assert_eq!(bytes, "id: 7\nevent: what\ndata: {\"text\":\"a\\nb\"}\n\n");
        assert_eq!(place("7"), "id: 7\n\n");
    }

    #[test]
    fn an_id_that_is_no_number_is_refused_where_ids_are_numbers() {
        let wants = |last: &str| Wants { events: true, last: Some(last.to_owned()) };
        assert_eq!(wants("12").number().unwrap(), Some(12));
        assert!(wants("x").number().is_err() && wants("-1").number().is_err());
    }
}
