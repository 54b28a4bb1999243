//! Whether workspaces are used, and leases that keep them running.

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json, Named};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::lifecycle::{IdleView, Idleness, Lifecycle};
use crate::wire::{Lease, LeaseRequest};
use crate::workspace::WorkspaceId;

/// List how idle running workspaces are (`wharf idle`)
#[utoipa::path(get, path = "/v1/idle",
    responses((status = 200, description = "One per workspace", body = Vec<Idleness>)))]
pub(in crate::api) async fn list(State(api): State<Api>, caller: Caller, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let seen = caller.seen(lifecycle.store())?;
    let mut all = lifecycle.all_idleness().await?;
    all.retain(|idle| seen.as_ref().is_none_or(|seen| seen.contains(&idle.id)));
    answer(&all)
}

/// Get each sign of use of a workspace, and the time of its stop (`wharf idle why`)
#[utoipa::path(get, path = "/v1/workspaces/{id}/idle", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The signs", body = IdleView)))]
pub(in crate::api) async fn show(State(api): State<Api>, name: Named, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let (lifecycle, id) = whole(&api, &name).await?;
    answer(&IdleView::of(lifecycle.idleness(&id).await?, &lifecycle.loaded(), true))
}

fn lease_of(lifecycle: &Lifecycle, id: WorkspaceId) -> Result<Response, Problem> {
    let until = lifecycle.leased_until(&id)?;
    answer(&Lease { id, until })
}

/// Finds the whole workspace: a sidecar is idle when its workspace is.
async fn whole(api: &Api, name: &Named) -> Result<(std::sync::Arc<Lifecycle>, WorkspaceId), Problem> {
    let lifecycle = api.lifecycle()?;
    let id = lifecycle.whole(name.find(&lifecycle).await?)?;
    Ok((lifecycle, id))
}

/// Get the lease of a workspace (`wharf lease`)
#[utoipa::path(get, path = "/v1/workspaces/{id}/lease", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The lease", body = Lease)))]
pub(in crate::api) async fn leased(State(api): State<Api>, name: Named, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let (lifecycle, id) = whole(&api, &name).await?;
    lease_of(&lifecycle, id)
}

/// Keep a workspace from being stopped as idle (`wharf lease TIME`)
#[utoipa::path(post, path = "/v1/workspaces/{id}/lease", request_body = LeaseRequest,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The lease", body = Lease)))]
pub(in crate::api) async fn lease(
    State(api): State<Api>,
    name: Named,
    args: Args,
    Json(body): Json<LeaseRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let until = jiff::Timestamp::now().checked_add(body.time.0);
    let until = until.map_err(|_| Problem::request(format!("time: {} is too long", body.time)))?;
    let (lifecycle, id) = whole(&api, &name).await?;
    lifecycle.lease(&id, Some(until))?;
    lease_of(&lifecycle, id)
}

/// Release the lease of a workspace (`wharf lease --release`)
#[utoipa::path(delete, path = "/v1/workspaces/{id}/lease", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "An empty lease", body = Lease)))]
pub(in crate::api) async fn release(State(api): State<Api>, name: Named, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let (lifecycle, id) = whole(&api, &name).await?;
    lifecycle.lease(&id, None)?;
    lease_of(&lifecycle, id)
}
