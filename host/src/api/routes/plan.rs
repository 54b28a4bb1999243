//! `/v1/plan`: the workspace that a request would make, and the owner of each field. Nothing is made or recorded.

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json, Named};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::api::routes::up::checked;
use crate::lifecycle::{Error, Plan, PlanDiff};
use crate::wire::{PlanDiffRequest, WorkspaceRequest};

/// Get the workspace that a request would make, and the owner of each field (`wharf plan`)
///
/// A denial is part of the plan.
#[utoipa::path(post, path = "/v1/plan", request_body = WorkspaceRequest,
    responses((status = 200, description = "The plan", body = Plan)))]
pub(in crate::api) async fn plan(
    State(api): State<Api>,
    args: Args,
    Json(body): Json<WorkspaceRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    answer(&api.lifecycle()?.plan(&checked(body)?).await?)
}

/// Returns whether the answer could reveal the content of a path of the host, or the existence of volumes. The project
/// of an existing workspace belongs to it.
fn names_paths(request: &WorkspaceRequest) -> bool {
    request.build.is_some() || !request.mounts.is_empty()
}

/// Get the changes that recreating a workspace would make (`wharf plan --diff`)
#[utoipa::path(post, path = "/v1/workspaces/{id}/plan", request_body = Option<PlanDiffRequest>,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The changes", body = PlanDiff)))]
pub(in crate::api) async fn diff(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    args: Args,
    Json(PlanDiffRequest { request }): Json<PlanDiffRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let stored = name.stored(api.handle.store())?;
    if let Some(parent) = &stored.part_of {
        return Err(Problem::request(format!("{} is a sidecar of {parent} and is planned with it", stored.id)));
    }
    if !caller.sees_all() && request.as_ref().is_some_and(names_paths) {
        // This check is first: no answer may reveal whether a path exists.
        return Err(Problem::host_paths());
    }
    let request = request.map(checked).transpose()?.unwrap_or_default();
    let lifecycle = api.lifecycle()?;
    let plan = match caller.sees_all() {
        true => lifecycle.plan_again(&stored, &request).await?,
        false => match lifecycle.plan_in_sight(&stored, &request).await {
            // The failure may be about the build context that its devcontainer.json names, and the workspace may write
            // that file.
            Err(Error::Request(_) | Error::Denied { .. } | Error::Project { .. } | Error::ProjectFile(_)) => {
                return Err(Problem::project_paths());
            }
            plan => plan.map_err(|error| Problem::told(error, &caller))?,
        },
    };
    answer(&PlanDiff::of(&stored, &plan))
}
