//! `/v1/policies`: the chain, and its reload.

use axum::extract::State;
use axum::response::Response;

use super::Api;
use super::args::{Args, Json};
use super::error::Problem;
use super::health::answer;
use super::verbs::Nothing;
use crate::config::instant;
use crate::lifecycle::ShadowSummary;
use crate::service::PolicyView;
use crate::store::ChainStatus;

/// The chain (`wharf policy ls`)
// Loading them may take a while, so it is done on a thread of its own.
#[utoipa::path(get, path = "/v1/policies", responses((status = 200, description = "The policies", body = Vec<PolicyView>)))]
pub(super) async fn list(State(api): State<Api>, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let policies = tokio::task::spawn_blocking(move || api.handle.policies());
    answer(&policies.await.map_err(Problem::internal)??)
}

/// What shadows would have changed (`wharf policy diff`), by policy
#[utoipa::path(get, path = "/v1/policies/shadows", params(
    ("policy" = Option<String>, Query, description = "Only of this policy"),
    ("since" = Option<String>, Query, description = "A time, or how long ago; 7d"),
), responses((status = 200, description = "By policy", body = std::collections::BTreeMap<String, ShadowSummary>)))]
pub(super) async fn shadows(State(api): State<Api>, mut args: Args) -> Result<Response, Problem> {
    let (policy, since) = (args.text("policy")?, args.one("since", instant)?);
    args.end()?;
    let since = match since {
        Some(since) => since,
        None => instant("7d").map_err(Problem::request)?,
    };
    let read = tokio::task::spawn_blocking(move || api.handle.shadows(policy.as_deref(), since));
    answer(&read.await.map_err(Problem::internal)??)
}

/// Reloads configuration and policies (`wharf policy reload`)
#[utoipa::path(post, path = "/v1/policies/reload", request_body = Option<Nothing>,
    responses((status = 200, description = "The chain that decides then", body = ChainStatus)))]
pub(super) async fn reload(
    State(api): State<Api>,
    args: Args,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Problem> {
    args.end()?;
    if api.stopping() {
        return Err(Problem::stopping());
    }
    // The loop that reloads begins when the engine is there.
    api.lifecycle()?;
    answer(&api.handle.reload().await?)
}
