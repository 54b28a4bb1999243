//! `/v1/images`: images that Wharf built, kept or pulled.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Api;
use super::access::Caller;
use super::args::{Args, Json, Word};
use super::error::Problem;
use super::health::answer;
use super::once::Keyed;
use super::progress::{self, ProgressEvent};
use super::request::{BuildBody, absolute};
use super::stream::Wants;
use super::verbs::{Nothing, carry_out};
use crate::lifecycle::ImageView;

/// The images, sorted by name (`wharf image ls`)
#[utoipa::path(get, path = "/v1/images", responses((status = 200, description = "The images", body = Vec<ImageView>)))]
pub(super) async fn list(State(api): State<Api>, args: Args) -> Result<Response, Problem> {
    args.end()?;
    answer(&api.lifecycle()?.images().await?)
}

/// The body of a pull, and its result.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PullBody {
    /// As `docker pull` takes it.
    reference: String,
}

/// Fetches an image (`wharf image pull`)
#[utoipa::path(post, path = "/v1/images/pull", request_body = PullBody, params(
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "It is there", content(
    (PullBody = "application/json"), (ProgressEvent = "text/event-stream"),
))))]
pub(super) async fn pull(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<PullBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let pulling = async move |mut report: progress::Report| {
        lifecycle.pull_image(&body.reference, &mut report).await?;
        Ok(body)
    };
    progress::carry_out((&api, &caller), "image-pull", (&wants, once), pulling).await
}

/// The body of a build.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageBuildBody {
    /// Absolute path of the project that it is built for; the folder itself.
    project: Option<String>,
    /// Name of the image; one that tells what it was built from.
    tag: Option<String>,
    /// What it is built from.
    build: BuildBody,
}

/// Builds an image from a folder (`wharf image build`)
#[utoipa::path(post, path = "/v1/images/build", request_body = ImageBuildBody, params(
    ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters"),
), responses((status = 200, description = "The image", content(
    (ImageView = "application/json"), (ProgressEvent = "text/event-stream"),
))))]
pub(super) async fn build(
    State(api): State<Api>,
    caller: Caller,
    wants: Wants,
    args: Args,
    Keyed { body, once }: Keyed<ImageBuildBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let build = body.build.build()?;
    let folder = match &body.project {
        Some(project) => absolute("project", project)?,
        None => build.context.clone(),
    };
    let lifecycle = api.lifecycle()?;
    let project = lifecycle.project(&folder, None)?;
    let building = async move |mut report: progress::Report| {
        lifecycle.build_image(&build, &project, body.tag.as_deref(), &mut report).await
    };
    progress::carry_out((&api, &caller), "image-build", (&wants, once), building).await
}

/// Removes an image that Wharf built, kept or pulled (`wharf image rm`)
#[utoipa::path(delete, path = "/v1/images/{reference}",
    params(("reference" = String, Path, description = "Name or id; a `/` in it is written `%2F`")),
    responses((status = 200, description = "What was removed", body = Vec<String>)))]
pub(super) async fn remove(
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

/// What became of the images that nobody uses.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct PrunedImages {
    /// Those that were removed.
    removed: Vec<String>,
    /// Those that could not be removed.
    failed: Vec<KeptImage>,
}

/// An image that could not be removed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeptImage {
    /// The image.
    image: String,
    /// A stable word for why.
    code: String,
    /// Why.
    detail: String,
}

/// Removes the images that no container uses (`wharf image prune`)
#[utoipa::path(post, path = "/v1/images/prune", request_body = Option<Nothing>,
    responses((status = 200, description = "What became of them", body = PrunedImages)))]
pub(super) async fn prune(
    State(api): State<Api>,
    caller: Caller,
    args: Args,
    Json(Nothing {}): Json<Nothing>,
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
