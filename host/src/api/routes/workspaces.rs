//! `/v1/workspaces`: the existing workspaces. The verbs on them are in `verbs`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Named};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::config::{Span, instant};
use crate::lifecycle::WorkspaceView;
use crate::records::{HistoryRow, history};

/// List workspaces, sorted by id (`wharf ls`)
#[utoipa::path(get, path = "/v1/workspaces", params(
    ("label" = Option<Vec<String>>, Query,
        description = "`NAME` or `NAME=VALUE`; if repeated, workspaces with all of them"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Entries per page; default 100"),
    ("cursor" = Option<String>, Query, description = "Page after this cursor, from `Link`"),
), responses((status = 200, description = "A page", body = Vec<WorkspaceView>)))]
pub(in crate::api) async fn list(State(api): State<Api>, caller: Caller, mut args: Args) -> Result<Response, Problem> {
    let (labels, limit) = (args.every("label"), args.limit()?);
    let after = args.text("cursor")?;
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let seen = caller.seen(lifecycle.store())?;
    let mut all = lifecycle.list().await?;
    all.retain(|view| {
        seen.as_ref().is_none_or(|seen| seen.contains(&view.id))
            && after.as_deref().is_none_or(|after| view.id.as_str() > after)
            && labels.iter().all(|label| view.has_label(label))
    });
    let more = all.len() > limit;
    all.truncate(limit);
    let response = answer(&all)?;
    match all.last().filter(|_| more) {
        Some(last) => Ok((args.next_page(last.id.as_str()), response).into_response()),
        None => Ok(response),
    }
}

/// Get one workspace in full (`wharf inspect`)
#[utoipa::path(get, path = "/v1/workspaces/{id}", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The workspace", body = WorkspaceView)))]
pub(in crate::api) async fn inspect(State(api): State<Api>, name: Named, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    answer(&lifecycle.inspect(&id).await?)
}

/// Get the usage of a workspace over time (`wharf metrics`)
#[utoipa::path(get, path = "/v1/workspaces/{id}/metrics", params(
    ("id" = String, Path, description = "Id or name"),
    ("since" = Option<String>, Query, description = "Time, or duration before now; default 1h"),
    ("until" = Option<String>, Query, description = "Time, or duration before now"),
    ("step" = Option<String>, Query, description = "Length of a step, e.g. `5m`"),
), responses((status = 200, description = "Steps with readings", body = Vec<HistoryRow>)))]
pub(in crate::api) async fn metrics(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    mut args: Args,
) -> Result<Response, Problem> {
    let since = args.one("since", instant)?;
    let until = args.one("until", instant)?.unwrap_or_else(jiff::Timestamp::now);
    let step = args.one("step", |text| text.parse::<Span>())?;
    args.end()?;
    let since = match since {
        Some(since) => since,
        None => instant("1h").map_err(Problem::request)?,
    };
    let step = step.map(|step| i64::try_from(step.0.as_millis()).unwrap_or(i64::MAX));
    let rows = tokio::task::spawn_blocking(move || {
        let store = api.handle.store();
        let stored = name.stored(store)?;
        // An ID may be reused: callers who see the present workspace must not see the usage of an earlier one.
        let began = (!caller.sees_all()).then_some(stored.created_at);
        let id = stored.id;
        let history = history(store, &id, (since, until), step, began)?;
        Ok::<_, Problem>(HistoryRow::of(&id, history.points))
    });
    answer(&rows.await.map_err(Problem::internal)??)
}
