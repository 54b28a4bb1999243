//! Making workspaces from a project or from a snapshot, and waiting for them.

use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json, Named, Word};
use crate::api::http::error::Problem;
use crate::api::http::idempotency::Keyed;
use crate::api::http::middleware::Turn;
use crate::api::http::progress::carry_out;
use crate::api::http::stream::Wants;
use crate::api::routes::health::answer;
use crate::config::Span;
use crate::lifecycle::{Recreate, WaitView, WorkspaceView};
use crate::service::stopped;
use crate::wire::{Progress, SidecarRequest, WaitRequest, WorkspaceRequest};
use crate::workspace::Awaited;

/// The time limit of a wait over the network that sets none.
const LONGEST: Duration = Duration::from_secs(3600);

/// Checks that the folders of a request are absolute paths: a service cannot resolve relative ones.
pub(in crate::api) fn checked(request: WorkspaceRequest) -> Result<WorkspaceRequest, Problem> {
    if request.project.as_os_str().is_empty() {
        return Err(Problem::request("the body: missing field `project`"));
    }
    absolute("project", &request.project)?;
    if let Some(build) = &request.build {
        absolute("build.context", &build.context)?;
    }
    Ok(request)
}

pub(in crate::api) fn absolute(field: &str, path: &Path) -> Result<(), Problem> {
    if path.is_absolute() { Ok(()) } else { Err(Problem::request(format!("{field} is not an absolute path"))) }
}

/// Make the workspace of a project, or start it (`wharf up`)
///
/// Answers when the workspace is made. As `text/event-stream` with events `progress`, and finally `result` or
/// `problem`. With `Idempotency-Key` it is carried out once: the same request within a day gets the same answer.
#[utoipa::path(post, path = "/v1/workspaces", request_body = WorkspaceRequest, params(
    ("recreate" = Option<bool>, Query,
        description = "Whether to replace a workspace that differs from the current decision"),
    ("wait" = Option<String>, Query, description = "Time to wait until it is healthy, e.g. `60s`"),
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The workspace", content(
    (WorkspaceView = "application/json"), (Progress = "text/event-stream"),
))))]
pub(in crate::api) async fn make(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    mut args: Args,
    Keyed { body, once }: Keyed<WorkspaceRequest>,
) -> Result<Response, Problem> {
    let recreate = if args.flag("recreate")? { Recreate::IfDifferent } else { Recreate::Never };
    let wait = args.one("wait", str::parse::<Span>)?;
    args.end()?;
    let request = checked(body)?;
    let lifecycle = api.lifecycle()?;
    lifecycle.check_request(&request)?;
    carry_out((&api, &caller), "up", (&wants, once), async move |mut report| {
        let made = lifecycle.up(&request, recreate, &mut report).await?;
        match wait {
            None => Ok(made),
            Some(limit) => {
                let waited = lifecycle.wait(&made.id, Awaited::Healthy, Some(limit.0), true).await?;
                Ok(waited.workspace.unwrap_or(made))
            }
        }
    })
    .await
}

/// Make a sidecar of a workspace, or start it (`wharf sidecar add`)
///
/// It is itself a workspace, with the id `ID-NAME`: read, stop and remove it as such. Progress and `Idempotency-Key`
/// are as for a workspace.
#[utoipa::path(post, path = "/v1/workspaces/{id}/sidecars/{name}", request_body = SidecarRequest, params(
    ("id" = String, Path, description = "Id or name"),
    ("name" = String, Path, description = "Name of the sidecar"),
    ("recreate" = Option<bool>, Query,
        description = "Whether to replace a sidecar that differs from the current decision"),
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The sidecar", content(
    (WorkspaceView = "application/json"), (Progress = "text/event-stream"),
))))]
pub(in crate::api) async fn add_sidecar(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    Word(sidecar): Word,
    wants: Wants,
    mut args: Args,
    Keyed { body, once }: Keyed<SidecarRequest>,
) -> Result<Response, Problem> {
    let recreate = if args.flag("recreate")? { Recreate::IfDifferent } else { Recreate::Never };
    args.end()?;
    let lifecycle = api.lifecycle()?;
    lifecycle.check_request(&body.0)?;
    let id = name.find(&lifecycle).await?;
    carry_out((&api, &caller), "sidecar-add", (&wants, once), async move |mut report| {
        lifecycle.add_sidecar(&id, &sidecar, &body, recreate, &mut report).await
    })
    .await
}

/// Wait until a workspace has a state (`wharf wait`)
#[utoipa::path(post, path = "/v1/workspaces/{id}/wait", request_body = Option<WaitRequest>,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The state of the workspace", body = WaitView)))]
pub(in crate::api) async fn wait(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    turn: Turn,
    args: Args,
    Json(body): Json<WaitRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let awaited = body.r#for.unwrap_or(Awaited::Healthy);
    // Only callers on this machine may wait without a limit.
    let limit = body.timeout.map(|span| span.0).or_else(|| caller.holder().map(|_| LONGEST));
    let _seat = api.seat(&caller)?;
    turn.give_back();
    let mut stop = api.stop.clone();
    let waited = tokio::select! {
        waited = lifecycle.wait(&id, awaited, limit, false) => waited?,
        () = stopped(&mut stop) => return Err(Problem::stopping()),
    };
    answer(&waited.view(id, awaited))
}
