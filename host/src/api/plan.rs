//! `/v1/plan`: what would be made, and who decides it. Nothing is made, and nothing recorded.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::Api;
use super::access::Caller;
use super::args::{Args, Json, Named};
use super::error::Problem;
use super::health::answer;
use super::request::WorkspaceBody;
use crate::lifecycle::{Error, Plan, PlanDiff, remembered};

/// What a request would make, and who decides it (`wharf plan`)
///
/// A denial is part of the plan.
#[utoipa::path(post, path = "/v1/plan", request_body = WorkspaceBody,
    responses((status = 200, description = "The plan", body = Plan)))]
pub(super) async fn plan(
    State(api): State<Api>,
    args: Args,
    Json(body): Json<WorkspaceBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let request = body.request(&api.handle.loaded())?;
    answer(&api.lifecycle()?.plan(&request).await?)
}

/// The body of a comparison.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffBody {
    /// What is asked for over the request that made it. Project and name are those of the workspace.
    request: Option<WorkspaceBody>,
}

/// What would change in a workspace, were it made again (`wharf plan --diff`)
#[utoipa::path(post, path = "/v1/workspaces/{id}/plan", request_body = Option<DiffBody>,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "What would change", body = PlanDiff)))]
pub(super) async fn diff(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    args: Args,
    Json(DiffBody { request }): Json<DiffBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let stored = name.stored(api.handle.store())?;
    if let Some(parent) = &stored.part_of {
        return Err(Problem::request(format!("{} is a sidecar of {parent}, and is planned with it", stored.id)));
    }
    if !caller.sees_all() && request.as_ref().is_some_and(WorkspaceBody::names_paths) {
        // Before anything is looked at: no answer tells whether a path is there.
        return Err(Problem::host_paths());
    }
    let request = request.map(|body| body.request(&api.handle.loaded())).transpose()?;
    let request = remembered(&stored, request.unwrap_or_default());
    let lifecycle = api.lifecycle()?;
    let plan = match caller.sees_all() {
        true => lifecycle.plan(&request).await?,
        false => match lifecycle.plan_in_sight(&stored, &request).await {
            // The context of a build that its devcontainer.json names, which a workspace may write.
            Err(Error::Request(_) | Error::Denied { .. } | Error::Project { .. } | Error::ProjectFile(_)) => {
                return Err(Problem::project_paths());
            }
            plan => plan.map_err(|error| Problem::told(error, &caller))?,
        },
    };
    answer(&PlanDiff::of(&stored, &plan))
}
