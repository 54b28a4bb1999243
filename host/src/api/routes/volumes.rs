//! `/v1/volumes`: the named volumes that Wharf made.

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Word};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::lifecycle::VolumeView;
use crate::wire::Empty;

/// List the named volumes that Wharf made, sorted by name (`wharf volume ls`)
#[utoipa::path(get, path = "/v1/volumes",
    responses((status = 200, description = "The volumes", body = Vec<VolumeView>)))]
pub(in crate::api) async fn list(State(api): State<Api>, args: Args) -> Result<Response, Problem> {
    args.end()?;
    answer(&api.lifecycle()?.volumes().await?)
}

/// Remove a volume with its data, unless a container uses it (`wharf volume rm`)
#[utoipa::path(delete, path = "/v1/volumes/{name}", params(("name" = String, Path, description = "Name of the volume")),
    responses((status = 200, description = "The volume was removed", body = Empty)))]
pub(in crate::api) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Word(name): Word,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    crate::api::routes::verbs::carry_out((&api, &caller), "volume-rm", async move {
        lifecycle.remove_volume(&name).await.map(|()| Empty {})
    })
    .await
}
