//! `/v1/workspaces/{id}/logs` and `/v1/logs`: the output of workspaces and their sidecars.
//!
//! For one workspace, the ID of an event holds the cursor of each container after its last line. An interrupted stream
//! therefore continues after those lines, regardless of the output of other containers in the meantime.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Named};
use crate::api::http::error::Problem;
use crate::api::http::stream::{self, Source, Wants};
use crate::config::instant;
use crate::docker::StdStream;
use crate::lifecycle::{Cursor, Error, Grep, LineView, LogEvent, LogQuery, Logs};
use crate::workspace::{Container, WorkspaceId};

/// Read the output of a workspace and its sidecars (`wharf logs`)
///
/// Lines of JSON; a failure on the way is the last line, `{"problem": ...}`. As `text/event-stream` each line is an
/// event, and a client that reconnects with `Last-Event-ID` continues after it; events `interrupted` and `resumed`
/// report the state of the connection to the engine, and `end` is the last event.
#[utoipa::path(get, path = "/v1/workspaces/{id}/logs", params(
    ("id" = String, Path, description = "Id or name"),
    ("follow" = Option<bool>, Query, description = "Whether to follow new lines until the containers end"),
    ("since" = Option<String>, Query, description = "Time, or duration before now"),
    ("until" = Option<String>, Query, description = "Time, or duration before now"),
    ("tail" = Option<u64>, Query, description = "Number of lines from the end of each container"),
    ("timestamps" = Option<bool>, Query, description = "No effect: lines always have times"),
    ("stream" = Option<String>, Query, description = "`stdout` or `stderr`"),
    ("grep" = Option<String>, Query, description = "Regular expression that lines must match"),
    ("ignore_case" = Option<bool>, Query, description = "Whether the expression ignores case"),
    ("after" = Option<Vec<String>>, Query,
        description = "Position after a line: its `cursor`; once for each container"),
    ("last-event-id" = Option<String>, Header, description = "For a stream: the last known line"),
), responses((status = 200, description = "The lines", content(
    (LineView = "application/x-ndjson"), (String = "text/event-stream"),
))))]
pub(in crate::api) async fn read(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    wants: Wants,
    args: Args,
) -> Result<Response, Problem> {
    open((&api, &caller), &[name], wants, args, true).await
}

/// Read the output of several workspaces and their sidecars, in order of time (`wharf logs A B`)
///
/// As `/v1/workspaces/{id}/logs`, but events have no ids: a client that reconnects lists the last cursor of each
/// container in `Last-Event-ID`, separated by commas.
#[utoipa::path(get, path = "/v1/logs", params(
    ("workspace" = Vec<String>, Query, description = "Id or name; once for each workspace"),
    ("follow" = Option<bool>, Query, description = "Whether to follow new lines until the containers end"),
    ("since" = Option<String>, Query, description = "Time, or duration before now"),
    ("until" = Option<String>, Query, description = "Time, or duration before now"),
    ("tail" = Option<u64>, Query, description = "Number of lines from the end of each container"),
    ("timestamps" = Option<bool>, Query, description = "No effect: lines always have times"),
    ("stream" = Option<String>, Query, description = "`stdout` or `stderr`"),
    ("grep" = Option<String>, Query, description = "Regular expression that lines must match"),
    ("ignore_case" = Option<bool>, Query, description = "Whether the expression ignores case"),
    ("after" = Option<Vec<String>>, Query,
        description = "Position after a line: its `cursor`; once for each container"),
    ("last-event-id" = Option<String>, Header, description = "For a stream: the cursors of the last known lines"),
), responses((status = 200, description = "The lines", content(
    (LineView = "application/x-ndjson"), (String = "text/event-stream"),
))))]
pub(in crate::api) async fn read_several(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    mut args: Args,
) -> Result<Response, Problem> {
    let names: Vec<Named> = args.every("workspace").into_iter().map(|name| Named::new(name, &caller)).collect();
    if names.is_empty() {
        return Err(Problem::request("the query has no 'workspace'"));
    }
    open((&api, &caller), &names, wants, args, false).await
}

/// Opens the logs of workspaces; `ids` says whether events get IDs.
async fn open(
    (api, caller): (&Api, &Caller),
    names: &[Named],
    wants: Wants,
    mut args: Args,
    ids: bool,
) -> Result<Response, Problem> {
    let only = args.one("stream", |text| match text {
        "stdout" => Ok(StdStream::Stdout),
        "stderr" => Ok(StdStream::Stderr),
        _ => Err("is neither stdout nor stderr"),
    })?;
    let cursor = |text: &str| text.parse::<Cursor>().map_err(Problem::request);
    let after: Result<Vec<Cursor>, Problem> = args.every("after").iter().map(|text| cursor(text)).collect();
    // Accepted because the command has this option; in JSON the time is always present.
    args.flag("timestamps")?;
    let (pattern, ignore_case) = (args.text("grep")?, args.flag("ignore_case")?);
    let mut query = LogQuery {
        follow: args.flag("follow")?,
        since: args.one("since", instant)?,
        until: args.one("until", instant)?,
        tail: args.number("tail")?.map(i64::unsigned_abs),
        times: true,
        only,
        after: after?,
        grep: pattern.map(|pattern| Grep::new(&pattern, ignore_case)).transpose().map_err(one_line)?,
    };
    args.end()?;
    if !query.after.is_empty() && (query.since.is_some() || query.tail.is_some()) {
        return Err(Problem::request("'after' sets the start; omit 'since' and 'tail'"));
    }
    let lifecycle = api.lifecycle()?;
    let mut containers: Vec<(WorkspaceId, Container)> = Vec::new();
    for name in names {
        let id = name.find(&lifecycle).await?;
        let found = match lifecycle.containers_of(Some(&id)).await {
            // Among several workspaces, one without a container has no output.
            Err(Error::NotRunning { .. }) if names.len() > 1 => Vec::new(),
            found => found?,
        };
        for (id, container) in found {
            // A container that is named twice, or beside the workspace that it belongs to, occurs once.
            if containers.iter().all(|(_, known)| known.id != container.id) {
                containers.push((id, container));
            }
        }
    }
    containers.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut cursors = BTreeMap::new();
    if let Some(last) = wants.last.as_ref().filter(|_| wants.events) {
        // A removed container has no more output, and a new container is read from its beginning.
        let known = |cursor: &Cursor| containers.iter().any(|(_, container)| container.id == cursor.container_id);
        let all: Result<Vec<Cursor>, Problem> = last.split(',').map(cursor).collect();
        let all = all?;
        // A container without output since then keeps its starting position.
        query.after.retain(|after| known(after) && all.iter().all(|last| last.container_id != after.container_id));
        query.after.extend(all.into_iter().filter(known));
    }
    cursors.extend(query.after.iter().map(|cursor| (cursor.container_id.clone(), cursor.to_string())));
    let seat = api.seat(caller)?;
    let logs = lifecycle.logs(containers, &query).await?;
    let cursors = ids.then_some(cursors);
    let reading = Reading { logs, cursors, ready: VecDeque::new(), events: wants.events, ended: false };
    Ok(if wants.events { stream::events(api, seat, reading) } else { stream::lines(api, seat, reading) })
}

/// An invalid pattern's error marks the position on separate lines; the last line is the message.
fn one_line(error: Error) -> Problem {
    let text = error.to_string();
    Problem::request(format!("grep: {}", text.lines().last().unwrap_or_default()))
}

struct Reading {
    logs: Logs,
    /// The last cursor of each container; none where events have no IDs.
    cursors: Option<BTreeMap<String, String>>,
    ready: VecDeque<Bytes>,
    events: bool,
    ended: bool,
}

impl Reading {
    fn line(&mut self, view: LineView) -> Result<Bytes, Problem> {
        if !self.events {
            let mut line = serde_json::to_vec(&view).map_err(Problem::internal)?;
            line.push(b'\n');
            return Ok(line.into());
        }
        let Some(cursors) = &mut self.cursors else { return stream::event(None, None, &view) };
        if let Some(cursor) = &view.cursor {
            cursors.insert(view.container_id.clone(), cursor.clone());
        }
        let id = cursors.values().map(String::as_str).collect::<Vec<_>>().join(",");
        stream::event(None, Some(&id).filter(|id| !id.is_empty()).map(String::as_str), &view)
    }

    fn tell(&mut self, name: &str, container: usize, what: serde_json::Value) -> Result<(), Problem> {
        let workspace = self.logs.containers().get(container).map(|container| container.id.to_string());
        if self.events {
            let (mut what, name) = (what, Some(name));
            what["workspace"] = json!(workspace);
            self.ready.push_back(stream::event(name, None, &what)?);
        }
        Ok(())
    }
}

impl Source for Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if self.ended {
                return Ok(None);
            }
            match self.logs.next().await.transpose()? {
                Some(LogEvent::Lines(lines)) => {
                    for line in lines {
                        if let Some(view) = self.logs.view(&line) {
                            let bytes = self.line(view)?;
                            self.ready.push_back(bytes);
                        }
                    }
                }
                Some(LogEvent::Interrupted { container, cause }) => {
                    self.tell("interrupted", container, json!({ "cause": cause }))?;
                }
                Some(LogEvent::Resumed { container, lost }) => {
                    self.tell("resumed", container, json!({ "lost": lost }))?;
                }
                None => {
                    self.ended = true;
                    if self.events {
                        self.ready.push_back(stream::event(Some("end"), None, &json!({}))?);
                    }
                }
            }
        }
    }
}
