//! `/v1/decisions`: the decisions and their reasons. They come from the store, so no engine is needed.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json, Named, Word};
use crate::api::http::error::Problem;
use crate::api::http::stream::{self, Following, Growing, Wants};
use crate::api::routes::health::answer;
use crate::config::instant;
use crate::hooks::Hook;
use crate::hooks::record::{Difference, Owner};
use crate::records::{
    OutcomeKind, RecordFilter, RecordView, Replayed, Target, Why, find_record, newest_records, recorded_workspace, why,
};
use crate::store::{Store, StoredDecision};
use crate::wire::ReplayRequest;
use crate::workspace::{ContainerSpec, WorkspaceId};

/// Records per read.
const PAGE: u32 = 64;
/// The limit of records that one request examines to find those that match its filter.
const LOOKED: usize = 20_000;
/// Records that a replay evaluates: the default, and the limit.
const REPLAYED: (u32, u32) = (1000, 2000);

/// The schema of a record: everything that was decided at one hook about one request
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
struct DecisionRecord {
    /// Its number in the chain of records.
    number: i64,
    /// Its hash, which covers the hash of the previous record.
    hash: String,
    /// Version of its form.
    version: u32,
    /// UUID v7: sorts by time.
    id: uuid::Uuid,
    /// Time of the decision.
    time: jiff::Timestamp,
    /// The hook.
    hook: Hook,
    /// The id of the workspace; empty for a sweep.
    workspace: String,
    /// The whole input of the policies; `facts.caller` is the caller (`name`, `role`, `door`).
    #[schema(value_type = Object)]
    input: serde_json::Value,
    /// Field -> its owner before the first policy was evaluated.
    owners: Option<BTreeMap<String, Owner>>,
    /// The spec before the first of the hooks that decide a container, where this hook's input differs from it.
    #[schema(value_type = Option<ContainerSpec>)]
    began: Option<serde_json::Value>,
    /// Targets of paths of the host when the invariants were checked.
    #[schema(value_type = Option<Object>)]
    paths: Option<serde_json::Value>,
    /// One step per evaluated policy, in order.
    #[schema(value_type = Vec<Object>)]
    steps: Vec<serde_json::Value>,
    /// Policies that set different values for one field.
    conflicts: Vec<String>,
    /// Invariants that the result violates.
    violations: Vec<String>,
    /// `allowed`, `allowed-exec`, `denied`, `actions` or `sweep`, with the result.
    #[schema(value_type = Object)]
    outcome: serde_json::Value,
    /// Of a record of shadows: the decision that they ran beside.
    shadow_of: Option<uuid::Uuid>,
    /// Of a record of shadows: the changes that they would have made.
    differences: Option<Vec<Difference>>,
    /// For a token with labels: parts of the record about others, which are left out here.
    left_out: Option<Vec<&'static str>>,
}

/// Parts of a record that reveal the local images and the targets of paths of the host.
const OF_HOST: [&str; 2] = ["input.facts.local_images", "paths"];
/// The text that replaces a reason with such content.
const VEILED: &str = "a mount is not allowed, or does not exist";

/// Returns a record as its caller may see it. A caller who sees only a part of the installation learns nothing about
/// the host and about others.
fn shown(stored: &StoredDecision, caller: &Caller) -> Result<RecordView, Problem> {
    let mut view = RecordView::of(stored)?;
    if !caller.sees_all() {
        if let Some(facts) = view.decision.pointer_mut("/input/facts").and_then(Value::as_object_mut) {
            facts.remove("local_images");
        }
        if let Some(decision) = view.decision.as_object_mut() {
            decision.remove("paths");
        }
        let about_mounts = |text: &Value| text.as_str().is_some_and(|text| text.starts_with("mounts."));
        for violation in view.decision["violations"].as_array_mut().into_iter().flatten() {
            if about_mounts(violation) {
                *violation = json!(VEILED);
            }
        }
        let denied = view.decision.pointer_mut("/outcome/denied").filter(|denied| denied["policy"] == "host");
        if let Some(reason) = denied.and_then(|denied| denied.get_mut("reason")).filter(|reason| about_mounts(reason)) {
            *reason = json!(VEILED);
        }
        view.decision["left_out"] = json!(OF_HOST);
    }
    Ok(view)
}

/// Returns the workspace that a filter names: a visible one, or, for callers who see everything, also a removed one
/// that still has records.
fn about(store: &Store, caller: &Caller, name: String) -> Result<WorkspaceId, Problem> {
    match caller.sees_all() {
        true => Ok(recorded_workspace(store, &Target::Named(name))?),
        false => Ok(Named::new(name, caller).stored(store)?.id),
    }
}

fn filter(store: &Store, caller: &Caller, args: &mut Args) -> Result<RecordFilter, Problem> {
    let workspace = args.text("workspace")?;
    let filter = RecordFilter {
        workspace: None,
        hook: args.one("hook", str::parse::<Hook>)?,
        policy: args.text("policy")?,
        outcome: args.one("outcome", str::parse::<OutcomeKind>)?,
        since: args.one("since", instant)?,
        until: args.one("until", instant)?,
        among: caller.seen(store)?,
        labels: caller.labels().clone(),
    };
    let workspace = workspace.map(|name| about(store, caller, name)).transpose()?;
    Ok(RecordFilter { workspace, ..filter })
}

/// List decisions, newest first (`wharf audit`)
///
/// A page may have fewer entries than `limit`, or none, and still name a next page, because the number of records that
/// one request examines is limited. Follow new decisions at `/v1/decisions/stream`.
#[utoipa::path(get, path = "/v1/decisions", params(
    ("workspace" = Option<String>, Query, description = "Workspace: id or name, or the id of a removed workspace"),
    ("hook" = Option<Hook>, Query, description = "Hook"),
    ("policy" = Option<String>, Query, description = "Policy that was asked"),
    ("outcome" = Option<String>, Query, description = "`allowed`, `denied`, `failed`, `actions` or `sweep`"),
    ("since" = Option<String>, Query, description = "Time, or duration before now"),
    ("until" = Option<String>, Query, description = "Time, or duration before now"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Entries per page; default 100"),
    ("cursor" = Option<i64>, Query, minimum = 0, description = "Page before this cursor, from `Link`"),
), responses((status = 200, description = "The records", body = Vec<DecisionRecord>)))]
pub(in crate::api) async fn list(State(api): State<Api>, caller: Caller, mut args: Args) -> Result<Response, Problem> {
    let (limit, cursor) = (args.limit()?, args.number("cursor")?.unwrap_or(i64::MAX));
    let read = tokio::task::spawn_blocking(move || {
        let store = api.handle.store();
        let filter = filter(store, &caller, &mut args)?;
        args.end()?;
        let page = newest_records(store, &filter, cursor, limit, LOOKED)?;
        let records: Result<Vec<RecordView>, _> = page.records.iter().map(|stored| shown(stored, &caller)).collect();
        let response = answer(&records?)?;
        Ok(match page.next {
            Some(next) => (args.next_page(&next.to_string()), response).into_response(),
            None => response,
        })
    });
    read.await.map_err(Problem::internal)?
}

/// Get one record (`wharf audit show`), by number or id
#[utoipa::path(get, path = "/v1/decisions/{record}",
    params(("record" = String, Path, description = "Number or id")),
    responses((status = 200, description = "The record", body = DecisionRecord)))]
pub(in crate::api) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Word(record): Word,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let store = api.handle.store();
    let stored = find_record(store, &record)?;
    let (among, labels) = (caller.seen(store)?, caller.labels().clone());
    let filter = RecordFilter { among, labels, ..RecordFilter::default() };
    if !filter.holds(&stored.decision()?) {
        return Err(crate::records::Error::NoRecord { wanted: record, pruned: false }.into());
    }
    answer(&shown(&stored, &caller)?)
}

/// Follow new decisions (`wharf audit --follow`)
///
/// As `text/event-stream`, with the numbers of records as ids: from now on, or after `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/decisions/stream", params(
    ("workspace" = Option<String>, Query, description = "Workspace: id or name"),
    ("hook" = Option<Hook>, Query, description = "Hook"),
    ("policy" = Option<String>, Query, description = "Policy that was asked"),
    ("outcome" = Option<String>, Query, description = "`allowed`, `denied`, `failed`, `actions` or `sweep`"),
    ("last-event-id" = Option<String>, Header, description = "Last known record"),
), responses((status = 200, description = "Records as events", content((String = "text/event-stream")))))]
pub(in crate::api) async fn follow(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    mut args: Args,
) -> Result<Response, Problem> {
    let store = api.handle.store();
    let filter = filter(store, &caller, &mut args)?;
    args.end()?;
    if filter.since.is_some() || filter.until.is_some() {
        return Err(Problem::request("'since' and 'until' are only for GET /v1/decisions, not for a stream"));
    }
    if !wants.events {
        return Err(Problem::only_events());
    }
    let seat = api.seat(&caller)?;
    let pulse = api.pulse.follow();
    let newest = store.newest_decision()?;
    let mut after = wants.number()?.unwrap_or(newest);
    let mut ready = VecDeque::new();
    // Pruned records leave a gap that cannot be filled, so the client is informed of it.
    let oldest = store.checkpoint()?.map_or(0, |checkpoint| checkpoint.number);
    if after < oldest || after > newest {
        let at = if after > newest { oldest } else { oldest.max(after) };
        ready.push_back(stream::event(Some("gap"), Some(&at.to_string()), &json!({ "after": after }))?);
        after = at;
    } else {
        ready.push_back(stream::place(&after.to_string()));
    }
    let of = Records { caller, filter };
    Ok(stream::events(&api, seat, Following { api: api.clone(), of, after, ready, pulse }))
}

/// The records that a caller sees.
struct Records {
    caller: Caller,
    filter: RecordFilter,
}

impl Growing for Records {
    fn read(&mut self, store: &Store, after: i64, ready: &mut VecDeque<Bytes>) -> Result<Option<i64>, Problem> {
        let some = store.decisions_after(&self.filter.query(), after, PAGE)?;
        let Some(last) = some.last().map(|stored| stored.number) else { return Ok(None) };
        // The set of visible workspaces changes over time.
        self.filter.among = self.caller.seen(store)?;
        for stored in some {
            if stored.decision().is_ok_and(|decision| self.filter.holds(&decision)) {
                let id = stored.number.to_string();
                ready.push_back(stream::event(None, Some(&id), &shown(&stored, &self.caller)?)?);
            }
        }
        Ok(Some(last))
    }
}

/// Explain the owner of each field of a workspace (`wharf why`)
#[utoipa::path(get, path = "/v1/workspaces/{id}/why", params(
    ("id" = String, Path, description = "Id or name"),
    ("field" = Option<String>, Query, description = "A field such as `image` or `env.TEAM`, or a group such as `env`"),
), responses((status = 200, description = "The fields, explained", body = Why)))]
pub(in crate::api) async fn explain(State(api): State<Api>, name: Named, mut args: Args) -> Result<Response, Problem> {
    let field = args.text("field")?;
    args.end()?;
    let store = api.handle.store();
    let stored = name.stored(store)?;
    answer(&why(store, &api.handle.loaded(), &stored, field.as_deref())?)
}

/// Replay recorded decisions (`wharf policy replay`)
///
/// The current chain evaluates them; one request runs at a time.
#[utoipa::path(post, path = "/v1/decisions/replay", request_body = Option<ReplayRequest>,
    responses((status = 200, description = "The flips", body = Replayed)))]
pub(in crate::api) async fn replay(
    State(api): State<Api>,
    args: Args,
    Json(body): Json<ReplayRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let (usual, most) = REPLAYED;
    let limit = body.limit.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        return Err(Problem::request(format!("limit is not a number from 1 to {most}")));
    }
    if body.decision.is_some() && body.chooses() {
        return Err(Problem::request("'decision' selects one record; omit the fields that select several"));
    }
    let time = |text: Option<&String>, name: &str| {
        text.map(|text| instant(text).map_err(|error| Problem::request(format!("{name}: {error}")))).transpose()
    };
    let (since, until) = (time(body.since.as_ref(), "since")?, time(body.until.as_ref(), "until")?);
    if api.stopping() {
        return Err(Problem::stopping());
    }
    // A replay uses all cores; two concurrent ones would only slow each other down.
    let alone = api.replays.clone().try_acquire_owned().map_err(|_| Problem::busy("replays"))?;
    let run = tokio::task::spawn_blocking(move || {
        let store = api.handle.store();
        let about = |name| recorded_workspace(store, &Target::Named(name));
        let workspace = body.workspace.map(about).transpose()?;
        let filter = RecordFilter { workspace, hook: body.hook, since, until, ..RecordFilter::default() };
        let replayed = api.handle.replay(body.decision.as_deref(), &filter.query(), limit)?;
        drop(alone);
        answer(&replayed)
    });
    run.await.map_err(Problem::internal)?
}
