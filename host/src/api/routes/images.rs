//! `/v1/images`: images that Wharf built, kept or pulled.

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json, Word};
use crate::api::http::error::Problem;
use crate::api::http::idempotency::Keyed;
use crate::api::http::progress;
use crate::api::http::stream::Wants;
use crate::api::routes::health::answer;
use crate::api::routes::up::absolute;
use crate::api::routes::verbs::carry_out;
use crate::lifecycle::ImageView;
use crate::wire::{BuildRequest, Empty, KeptImage, Progress, PrunedImages, PullRequest};

/// List the images, sorted by name (`wharf image ls`)
#[utoipa::path(get, path = "/v1/images", responses((status = 200, description = "The images", body = Vec<ImageView>)))]
pub(in crate::api) async fn list(State(api): State<Api>, args: Args) -> Result<Response, Problem> {
    args.end()?;
    answer(&api.lifecycle()?.images().await?)
}

/// Pull an image (`wharf image pull`)
#[utoipa::path(post, path = "/v1/images/pull", request_body = PullRequest, params(
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The image is present", content(
    (PullRequest = "application/json"), (Progress = "text/event-stream"),
))))]
pub(in crate::api) async fn pull(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<PullRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let pulling = async move |mut report: progress::Report| {
        lifecycle.pull_image(&body.reference, &mut report).await?;
        Ok(body)
    };
    progress::carry_out((&api, &caller), "image-pull", (&wants, once), pulling).await
}

/// Build an image from a folder (`wharf image build`)
#[utoipa::path(post, path = "/v1/images/build", request_body = BuildRequest, params(
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The image", content(
    (ImageView = "application/json"), (Progress = "text/event-stream"),
))))]
pub(in crate::api) async fn build(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<BuildRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let BuildRequest { project, tag, build } = body;
    absolute("build.context", &build.context)?;
    let folder = project.unwrap_or_else(|| build.context.clone());
    absolute("project", &folder)?;
    let lifecycle = api.lifecycle()?;
    let project = lifecycle.project(&folder, None)?;
    let building = async move |mut report: progress::Report| {
        lifecycle.build_image(&build, &project, tag.as_deref(), &mut report).await
    };
    progress::carry_out((&api, &caller), "image-build", (&wants, once), building).await
}

/// Remove an image that Wharf built, kept or pulled (`wharf image rm`)
#[utoipa::path(delete, path = "/v1/images/{reference}",
    params(("reference" = String, Path, description = "Name or id, with `/` as `%2F`")),
    responses((status = 200, description = "The removed image", body = Vec<String>)))]
pub(in crate::api) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Word(image): Word,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    carry_out((&api, &caller), "image-rm", async move {
        lifecycle.remove_image(&image).await?;
        Ok(vec![image])
    })
    .await
}

/// Remove the images that no container uses (`wharf image prune`)
#[utoipa::path(post, path = "/v1/images/prune", request_body = Option<Empty>,
    responses((status = 200, description = "The removed and kept images", body = PrunedImages)))]
pub(in crate::api) async fn prune(
    State(api): State<Api>,
    caller: Caller,
    args: Args,
    Json(Empty {}): Json<Empty>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    carry_out((&api, &caller), "image-prune", async move {
        let mut pruned = PrunedImages::default();
        for image in lifecycle.unused_images().await? {
            match lifecycle.remove_image(&image).await {
                Ok(()) => pruned.removed.push(image),
                Err(error) => {
                    let (code, detail) = (error.code().to_owned(), error.to_string());
                    pruned.failed.push(KeptImage { image, code, detail });
                }
            }
        }
        Ok(pruned)
    })
    .await
}
