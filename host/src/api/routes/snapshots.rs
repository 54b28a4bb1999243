//! `/v1/snapshots`: taking snapshots of workspaces, and restoring them.

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Named, Word};
use crate::api::http::error::Problem;
use crate::api::http::idempotency::Keyed;
use crate::api::http::progress::{self};
use crate::api::http::stream::Wants;
use crate::api::routes::health::answer;
use crate::api::routes::verbs::carry_out;
use crate::lifecycle::WorkspaceView;
use crate::store::Snapshot;
use crate::wire::{Progress, RestoreRequest, SnapshotRequest};

/// List the snapshots, sorted by name (`wharf snapshot ls`)
#[utoipa::path(get, path = "/v1/snapshots", params(
    ("workspace" = Option<String>, Query, description = "Workspace: id or name"),
), responses((status = 200, description = "The snapshots", body = Vec<Snapshot>)))]
pub(in crate::api) async fn list(State(api): State<Api>, caller: Caller, mut args: Args) -> Result<Response, Problem> {
    let workspace = args.text("workspace")?;
    args.end()?;
    let id = match workspace {
        Some(name) => Some(Named::new(name, &caller).find(&*api.lifecycle()?).await?),
        None => None,
    };
    let store = api.handle.store();
    let seen = caller.seen(store)?;
    let mut all = store.snapshots(id.as_ref())?;
    // An ID may be reused: the snapshots of an earlier workspace are only for callers who could see that workspace.
    all.retain(|kept| {
        seen.as_ref().is_none_or(|seen| seen.contains(&kept.workspace)) && caller.covers(&kept.spec.labels)
    });
    answer(&all)
}

/// Take a snapshot of a workspace (`wharf snapshot create`)
#[utoipa::path(post, path = "/v1/workspaces/{id}/snapshots", request_body = Option<SnapshotRequest>, params(
    ("id" = String, Path, description = "Id or name"),
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The snapshot", content(
    (Snapshot = "application/json"), (Progress = "text/event-stream"),
))))]
pub(in crate::api) async fn create(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<SnapshotRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let keeping = async move |mut report: progress::Report| {
        lifecycle.create_snapshot(&id, body.name.as_deref(), &mut report).await
    };
    progress::carry_out((&api, &caller), "snapshot", (&wants, once), keeping).await
}

/// Make a workspace from a snapshot (`wharf snapshot restore`)
#[utoipa::path(post, path = "/v1/snapshots/{name}/restore", request_body = Option<RestoreRequest>, params(
    ("name" = String, Path, description = "Name of the snapshot, with `/` as `%2F`"),
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The workspace", content(
    (WorkspaceView = "application/json"), (Progress = "text/event-stream"),
))))]
pub(in crate::api) async fn restore(
    State(api): State<Api>,
    caller: Caller,
    Word(name): Word,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<RestoreRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let making = async move |mut report: progress::Report| lifecycle.restore_snapshot(&name, &body, &mut report).await;
    progress::carry_out((&api, &caller), "restore", (&wants, once), making).await
}

/// Remove a snapshot (`wharf snapshot rm`)
#[utoipa::path(delete, path = "/v1/snapshots/{name}",
    params(("name" = String, Path, description = "Name of the snapshot, with `/` as `%2F`")),
    responses((status = 200, description = "The removed snapshot", body = Snapshot)))]
pub(in crate::api) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Word(name): Word,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    carry_out((&api, &caller), "snapshot-rm", async move { lifecycle.remove_snapshot(&name).await }).await
}
