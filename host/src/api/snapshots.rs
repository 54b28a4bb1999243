//! `/v1/snapshots`: keeping workspaces, and making them again.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::Api;
use super::access::Caller;
use super::args::{Args, Named, Word};
use super::error::Problem;
use super::health::answer;
use super::once::Keyed;
use super::progress::{self, ProgressEvent};
use super::stream::Wants;
use super::verbs::carry_out;
use crate::lifecycle::{RestoreRequest, WorkspaceView};
use crate::store::Snapshot;

/// The snapshots, sorted by name (`wharf snapshot ls`)
#[utoipa::path(get, path = "/v1/snapshots", params(
    ("workspace" = Option<String>, Query, description = "Only of this workspace: id or name"),
), responses((status = 200, description = "The snapshots", body = Vec<Snapshot>)))]
pub(super) async fn list(State(api): State<Api>, caller: Caller, mut args: Args) -> Result<Response, Problem> {
    let workspace = args.text("workspace")?;
    args.end()?;
    let id = match workspace {
        Some(name) => Some(Named::new(name, &caller).find(&*api.lifecycle()?).await?),
        None => None,
    };
    let store = api.handle.store();
    let seen = caller.seen(store)?;
    let mut all = store.snapshots(id.as_ref())?;
    // An id may be used again: what was kept of an earlier workspace is for those who saw that one.
    all.retain(|kept| {
        seen.as_ref().is_none_or(|seen| seen.contains(&kept.workspace)) && caller.covers(&kept.spec.labels)
    });
    answer(&all)
}

/// The body that keeps a workspace.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotBody {
    /// Name of the snapshot; the time.
    name: Option<String>,
}

/// Keeps a workspace as it is now (`wharf snapshot create`)
#[utoipa::path(post, path = "/v1/workspaces/{id}/snapshots", request_body = Option<SnapshotBody>, params(
    ("id" = String, Path, description = "Id or name"),
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The snapshot", content(
    (Snapshot = "application/json"), (ProgressEvent = "text/event-stream"),
))))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<SnapshotBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let keeping = async move |mut report: progress::Report| {
        lifecycle.create_snapshot(&id, body.name.as_deref(), &mut report).await
    };
    progress::carry_out((&api, &caller), "snapshot", (&wants, once), keeping).await
}

/// The body of a restore.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreBody {
    /// Makes another workspace of this name for the same project.
    r#as: Option<String>,
    /// Environment, beside what the snapshot has: values of secrets are no part of it.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Replaces the workspace that exists.
    #[serde(default)]
    recreate: bool,
}

/// Makes a workspace from a snapshot (`wharf snapshot restore`)
#[utoipa::path(post, path = "/v1/snapshots/{name}/restore", request_body = Option<RestoreBody>, params(
    ("name" = String, Path, description = "Its name; the `/` in it is written `%2F`"),
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The workspace", content(
    (WorkspaceView = "application/json"), (ProgressEvent = "text/event-stream"),
))))]
pub(super) async fn restore(
    State(api): State<Api>,
    caller: Caller,
    Word(name): Word,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<RestoreBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let request = RestoreRequest { name: body.r#as, env: body.env, recreate: body.recreate };
    let making =
        async move |mut report: progress::Report| lifecycle.restore_snapshot(&name, &request, &mut report).await;
    progress::carry_out((&api, &caller), "restore", (&wants, once), making).await
}

/// Removes a snapshot (`wharf snapshot rm`)
#[utoipa::path(delete, path = "/v1/snapshots/{name}",
    params(("name" = String, Path, description = "Its name; the `/` in it is written `%2F`")),
    responses((status = 200, description = "The snapshot as it was", body = Snapshot)))]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Word(name): Word,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    carry_out((&api, &caller), "snapshot-rm", async move { lifecycle.remove_snapshot(&name).await }).await
}
