//! Verbs on a workspace. Each answers with the resulting state of the workspace, as its command does.
//!
//! A verb runs in a separate task, so a client that disconnects does not leave it half done. It ends, or is undone when
//! the service ends first.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tracing::Instrument;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json, Named};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::lifecycle::{Error, WorkspaceView, for_this_caller};
use crate::wire::{DownRequest, Empty, KillRequest, StopRequest, UpdateRequest};

/// Carries out a verb to its end, whether its client waits or not. Metrics count it by its name.
pub(in crate::api) async fn carry_out<T: Serialize + Send + 'static>(
    (api, caller): (&Api, &Caller),
    name: &'static str,
    verb: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<Response, Problem> {
    if api.stopping() {
        return Err(Problem::stopping());
    }
    let turn = api.verbs.take(caller)?;
    let handle = api.handle.clone();
    let task = async move {
        let result = handle.metrics().verb(name, verb).await;
        drop(turn);
        result
    };
    let task = tokio::spawn(for_this_caller(task).in_current_span());
    let done = task.await.map_err(Problem::internal)?;
    answer(&done.map_err(|error| Problem::told(error, caller))?)
}

/// A verb on one workspace.
macro_rules! verb {
    ($(#[$doc:meta])* $name:ident, $path:literal, $body:ty, |$lifecycle:ident, $id:ident, $taken:pat_param| $act:expr) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, request_body = Option<$body>,
            params(("id" = String, Path, description = "Id or name")),
            responses((status = 200, description = "The changed workspace", body = WorkspaceView)))]
        pub(in crate::api) async fn $name(
            State(api): State<Api>,
            caller: Caller,
            name: Named,
            args: Args,
            Json($taken): Json<$body>,
        ) -> Result<Response, Problem> {
            args.end()?;
            let $lifecycle = api.lifecycle()?;
            let $id = name.find(&$lifecycle).await?;
            carry_out((&api, &caller), stringify!($name), async move { $act.await }).await
        }
    };
}

verb!(
    /// Start a workspace (`wharf start`)
    start,
    "/v1/workspaces/{id}/start",
    Empty,
    |lifecycle, id, _| lifecycle.start(&id)
);
verb!(
    /// Stop a workspace (`wharf stop`)
    stop,
    "/v1/workspaces/{id}/stop",
    StopRequest,
    |lifecycle, id, body| lifecycle.stop(&id, body.timeout.map(|span| span.0))
);
verb!(
    /// Stop a workspace and start it again (`wharf restart`)
    restart,
    "/v1/workspaces/{id}/restart",
    StopRequest,
    |lifecycle, id, body| lifecycle.restart(&id, body.timeout.map(|span| span.0))
);
verb!(
    /// Stop a workspace and remove it (`wharf down`)
    down,
    "/v1/workspaces/{id}/down",
    DownRequest,
    |lifecycle, id, body| lifecycle.down(&id, body.volumes)
);
verb!(
    /// Freeze a workspace (`wharf pause`)
    pause,
    "/v1/workspaces/{id}/pause",
    Empty,
    |lifecycle, id, _| lifecycle.pause(&id)
);
verb!(
    /// Resume a paused workspace (`wharf unpause`)
    unpause,
    "/v1/workspaces/{id}/unpause",
    Empty,
    |lifecycle, id, _| lifecycle.unpause(&id)
);
verb!(
    /// Send a signal (`wharf kill`)
    kill,
    "/v1/workspaces/{id}/kill",
    KillRequest,
    |lifecycle, id, body| lifecycle.kill(&id, body.signal.as_deref().unwrap_or("KILL"))
);

/// Change limits (`wharf update`): at least one
#[utoipa::path(post, path = "/v1/workspaces/{id}/update", request_body = UpdateRequest,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The changed workspace", body = WorkspaceView)))]
pub(in crate::api) async fn update(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    args: Args,
    Json(body): Json<UpdateRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    if body == UpdateRequest::default() {
        return Err(Problem::request("nothing to change: set memory, cpus, pids or restart"));
    }
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    carry_out((&api, &caller), "update", async move { lifecycle.update(&id, &body).await }).await
}

/// Remove a workspace (`wharf rm`)
#[utoipa::path(delete, path = "/v1/workspaces/{id}", params(
    ("id" = String, Path, description = "Id or name"),
    ("force" = Option<bool>, Query, description = "Whether to kill a running workspace"),
    ("volumes" = Option<bool>, Query, description = "Whether to also remove the named volumes that were created \
        for it"),
), responses((status = 200, description = "The removed workspace", body = WorkspaceView)))]
pub(in crate::api) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    mut args: Args,
) -> Result<Response, Problem> {
    let (force, volumes) = (args.flag("force")?, args.flag("volumes")?);
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    carry_out((&api, &caller), "remove", async move { lifecycle.remove(&id, force, volumes).await }).await
}
