//! `/v1/events`: events of workspaces, from the history that the service records.
//!
//! The ID of an event is its number in the history, so an interrupted stream continues without a gap: an event of the
//! engine is in the history before followers receive it.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Named};
use crate::api::http::error::Problem;
use crate::api::http::stream::{self, Following, Growing, Wants};
use crate::api::routes::health::answer;
use crate::config::instant;
use crate::store::{EventQuery, Store};
use crate::workspace::{Event, WorkspaceId};

/// Events per read.
const PAGE: u32 = 256;

/// List events of workspaces (`wharf events`)
///
/// A page of the history, oldest first. As `text/event-stream` it continues with new events, from now on, from `since`
/// on, or after `Last-Event-ID`; an event `gap` says that some earlier events are no longer recorded.
#[utoipa::path(get, path = "/v1/events", params(
    ("workspace" = Option<String>, Query, description = "Workspace (id or name), with its sidecars"),
    ("since" = Option<String>, Query, description = "Time, or duration before now"),
    ("until" = Option<String>, Query, description = "Time, or duration before now; not for a stream"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Entries per page; default 100"),
    ("cursor" = Option<i64>, Query, minimum = 0, description = "Page after this cursor, from `Link`"),
    ("last-event-id" = Option<String>, Header, description = "For a stream: the last known event"),
), responses((status = 200, description = "The events", content(
    (Vec<Event> = "application/json"), (String = "text/event-stream"),
))))]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    mut args: Args,
) -> Result<Response, Problem> {
    let workspace = args.text("workspace")?;
    let since = args.one("since", instant)?;
    let until = args.one("until", instant)?;
    let limit = args.limit()?;
    let cursor = args.number("cursor")?;
    args.end()?;
    let store = api.handle.store();
    let workspace = workspace.map(|name| known(store, &caller, name)).transpose()?;
    let query = EventQuery { workspace, since, until };
    if !wants.events {
        let mut page = store.events_after(&query, cursor.unwrap_or(0), u32::try_from(limit + 1).unwrap_or(PAGE))?;
        let more = page.len() > limit;
        page.truncate(limit);
        let last = page.last().map(|(number, _)| *number);
        let seen = caller.seen_since(store)?;
        let events = page.into_iter().map(|(_, event)| event).filter(|event| is_seen(seen.as_ref(), event));
        let events: Vec<Event> = events.collect();
        let mut response = answer(&events)?;
        if let Some(last) = last.or(cursor) {
            // A stream continues from here.
            response.headers_mut().insert(HeaderName::from_static("last-event-id"), HeaderValue::from(last));
        }
        return Ok(match last.filter(|_| more) {
            Some(last) => (args.next_page(&last.to_string()), response).into_response(),
            None => response,
        });
    }
    if until.is_some() || cursor.is_some() {
        return Err(Problem::request("'until' and 'cursor' are only for pages, not for a stream"));
    }
    let seat = api.seat(&caller)?;
    let pulse = api.pulse.follow();
    let range = store.event_range()?;
    let newest = range.map_or(0, |(_, newest)| newest);
    let mut first = VecDeque::new();
    let after = match wants.number()? {
        Some(last) => {
            let lost = last > newest || range.is_some_and(|(oldest, _)| last + 1 < oldest);
            let after = if last > newest { 0 } else { last };
            if lost {
                let at = range.map_or(after, |(oldest, _)| (oldest - 1).max(after));
                first.push_back(stream::event(Some("gap"), Some(&at.to_string()), &json!({ "after": last }))?);
            }
            after
        }
        None if query.since.is_some() => 0,
        None => newest,
    };
    if first.is_empty() {
        first.push_back(stream::place(&after.to_string()));
    }
    Ok(stream::events(
        &api,
        seat,
        Following { api: api.clone(), of: History { caller, query }, after, ready: first, pulse },
    ))
}

/// Returns an existing workspace, or a removed one that still has events.
fn known(store: &Store, caller: &Caller, name: String) -> Result<WorkspaceId, Problem> {
    let error = match Named::new(name.clone(), caller).stored(store) {
        Ok(stored) => return Ok(stored.id),
        Err(error) => error,
    };
    if caller.sees_all()
        && let Ok(id) = name.parse::<WorkspaceId>()
    {
        let query = EventQuery { workspace: Some(id.clone()), ..EventQuery::default() };
        if !store.events(&query, 1)?.is_empty() {
            return Ok(id);
        }
    }
    Err(error)
}

/// Returns whether an event is about the present workspace with its ID, and not about an earlier one.
fn is_seen(seen: Option<&BTreeMap<WorkspaceId, Timestamp>>, event: &Event) -> bool {
    seen.is_none_or(|seen| seen.get(&event.workspace).is_some_and(|since| event.time >= *since))
}

/// The events that a caller sees.
struct History {
    caller: Caller,
    query: EventQuery,
}

impl Growing for History {
    fn read(&mut self, store: &Store, after: i64, ready: &mut VecDeque<Bytes>) -> Result<Option<i64>, Problem> {
        let some = store.events_after(&self.query, after, PAGE)?;
        let Some(last) = some.last().map(|(number, _)| *number) else { return Ok(None) };
        // The set of visible workspaces changes over time.
        let seen = self.caller.seen_since(store)?;
        for (number, event) in some {
            if is_seen(seen.as_ref(), &event) {
                ready.push_back(stream::event(None, Some(&number.to_string()), &event)?);
            }
        }
        Ok(Some(last))
    }
}
