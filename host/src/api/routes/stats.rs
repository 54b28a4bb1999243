//! `/v1/stats`: the usage of workspaces. All followers share the readings of the service's collector.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Named};
use crate::api::http::error::Problem;
use crate::api::http::stream::{self, Source, Wants};
use crate::api::routes::health::answer;
use crate::lifecycle::{Readings, StatsView};
use crate::workspace::WorkspaceId;

/// Get the usage of all workspaces (`wharf stats`)
///
/// One reading, at most a second old. As `text/event-stream` a reading each second, including workspaces that do not
/// run; a slow reader gets the newest.
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, description = "A reading", content(
    (Vec<StatsView> = "application/json"), (String = "text/event-stream"),
))))]
pub(in crate::api) async fn all(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    if !wants.events {
        let seen = caller.seen(lifecycle.store())?;
        let mut all = lifecycle.stats_from(&[], &recent(&api).await).await?;
        all.retain(|view| seen.as_ref().is_none_or(|seen| seen.contains(&view.id)));
        return answer(&all);
    }
    follow(&api, caller, None)
}

/// Get the usage of a workspace and its sidecars (`wharf stats`)
#[utoipa::path(get, path = "/v1/workspaces/{id}/stats", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "A reading", content(
        (Vec<StatsView> = "application/json"), (String = "text/event-stream"),
    ))))]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    wants: Wants,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    if !wants.events {
        return answer(&lifecycle.stats_from(&[id], &recent(&api).await).await?);
    }
    follow(&api, caller, Some(id))
}

/// Returns the collector's readings. They are empty if it cannot read, and then the call reads everything itself.
async fn recent(api: &Api) -> Arc<Vec<StatsView>> {
    api.handle.recent_stats().await.unwrap_or_default()
}

fn follow(api: &Api, caller: Caller, only: Option<WorkspaceId>) -> Result<Response, Problem> {
    let seat = api.seat(&caller)?;
    Ok(stream::events(api, seat, Following { api: api.clone(), caller, only, readings: api.handle.readings() }))
}

struct Following {
    api: Api,
    caller: Caller,
    only: Option<WorkspaceId>,
    readings: Readings,
}

impl Source for Following {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(all) = self.readings.next().await else { return Ok(None) };
        // The set of visible workspaces and sidecars changes over time.
        let store = self.api.handle.store();
        let seen = self.caller.seen(store)?;
        let whole = match &self.only {
            None => None,
            Some(only) => {
                let parts = store.sidecars(only)?.into_iter().map(|sidecar| sidecar.id);
                Some(parts.chain([only.clone()]).collect::<BTreeSet<_>>())
            }
        };
        let within = |ids: &Option<BTreeSet<WorkspaceId>>, id| ids.as_ref().is_none_or(|ids| ids.contains(id));
        let some: Vec<&StatsView> =
            all.iter().filter(|view| within(&seen, &view.id) && within(&whole, &view.id)).collect();
        Ok(Some(stream::event(None, None, &some)?))
    }
}
