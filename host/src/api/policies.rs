//! `/v1/policies`: the chain, and its reload.

use axum::extract::State;
use axum::response::Response;

use super::Api;
use super::args::{Args, Json};
use super::error::Problem;
use super::health::answer;
use super::verbs::Nothing;

/// `wharf policy ls`. Loading them may take a while, so it is done on a thread of its own.
pub(super) async fn list(State(api): State<Api>, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let policies = tokio::task::spawn_blocking(move || api.handle.policies());
    answer(&policies.await.map_err(Problem::internal)??)
}

/// `wharf policy reload`.
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
