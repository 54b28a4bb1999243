//! `/v1/workspaces/{id}/secrets`: the secret files of a workspace. No answer holds a value.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Named, Word, bytes_of};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::api::routes::verbs::carry_out;
use crate::lifecycle::Lifecycle;
use crate::wire::{SecretBytes, SecretNames};
use crate::workspace::WorkspaceId;

fn names(lifecycle: &Lifecycle, workspace: WorkspaceId) -> Result<SecretNames, crate::lifecycle::Error> {
    Ok(SecretNames { names: lifecycle.secret_names(&workspace)?, workspace })
}

/// List the names of a workspace's secrets (`wharf secret ls`)
#[utoipa::path(get, path = "/v1/workspaces/{id}/secrets", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The names", body = SecretNames)))]
pub(in crate::api) async fn list(State(api): State<Api>, name: Named, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    answer(&names(&lifecycle, id)?)
}

/// Set a secret to the bytes of the body; the workspace sees it at once (`wharf secret set`)
#[utoipa::path(put, path = "/v1/workspaces/{id}/secrets/{name}",
    params(("id" = String, Path, description = "Id or name"),
           ("name" = String, Path, description = "The secret's name")),
    request_body(content = String, content_type = "application/octet-stream", description = "At most 500 KiB"),
    responses((status = 200, description = "The names", body = SecretNames)))]
pub(in crate::api) async fn set(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    Word(secret): Word,
    args: Args,
    body: Body,
) -> Result<Response, Problem> {
    args.end()?;
    let value = SecretBytes(bytes_of(body).await?.to_vec());
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let set = async move {
        lifecycle.set_secret(&id, &secret, value).await?;
        names(&lifecycle, id)
    };
    carry_out((&api, &caller), "secret-set", set).await
}

/// Remove a secret (`wharf secret rm`)
#[utoipa::path(delete, path = "/v1/workspaces/{id}/secrets/{name}",
    params(("id" = String, Path, description = "Id or name"),
           ("name" = String, Path, description = "The secret's name")),
    responses((status = 200, description = "The remaining names", body = SecretNames)))]
pub(in crate::api) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    Word(secret): Word,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let remove = async move {
        lifecycle.remove_secret(&id, &secret).await?;
        names(&lifecycle, id)
    };
    carry_out((&api, &caller), "secret-rm", remove).await
}
