//! `/v1/workspaces/{id}/files`: files in and out, as streamed tar archives.
//!
//! Policies of `pre-exec` are evaluated as for `wharf cp`: once for the kind of a path, and again for the files.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Named};
use crate::api::http::error::Problem;
use crate::api::http::middleware::{BODY_TIME, Turn};
use crate::api::routes::health::answer;
use crate::lifecycle::{Error, PathView};
use crate::service::stopped;
use crate::wire::Empty;

/// The content type of archives.
pub(in crate::api) const TAR: &str = "application/x-tar";
/// The route whose body is an archive of any size.
pub(in crate::api) const ROUTE: &str = "/v1/workspaces/{id}/files";
/// The limit of pieces that wait for an engine that is slower than the client.
const WAITING: usize = 16;

fn path_of(args: &mut Args) -> Result<String, Problem> {
    args.text("path")?.ok_or_else(|| Problem::request("the query has no 'path'"))
}

/// Get the kind of a path in a workspace, as a place for files (used by `wharf cp`)
#[utoipa::path(get, path = "/v1/workspaces/{id}/files/kind", params(
    ("id" = String, Path, description = "Id or name"),
    ("path" = String, Query, description = "Absolute path in the workspace"),
), responses((status = 200, description = "The kind of the path", body = PathView)))]
pub(in crate::api) async fn kind(State(api): State<Api>, name: Named, mut args: Args) -> Result<Response, Problem> {
    let path = path_of(&mut args)?;
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let place = lifecycle.copy_in(&id, &path).await?;
    answer(&PathView { workspace: id.clone(), kind: place.kind, user: place.user })
}

/// Read a file or folder as a tar archive (`wharf cp WS:PATH -`)
///
/// The first name in it is the last segment of the path. An incomplete archive lacks its end marker, in tar and in
/// HTTP.
#[utoipa::path(get, path = "/v1/workspaces/{id}/files", params(
    ("id" = String, Path, description = "Id or name"),
    ("path" = String, Query, description = "Absolute path in the workspace"),
), responses((status = 200, description = "The archive", body = String, content_type = "application/x-tar",
    headers(("wharf-path-kind" = String, description = "`folder` or `file`")))))]
pub(in crate::api) async fn read(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    turn: Turn,
    mut args: Args,
) -> Result<Response, Problem> {
    let path = path_of(&mut args)?;
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let seat = api.seat(&caller)?;
    turn.give_back();
    let out = api.handle.metrics().verb("copy-out", lifecycle.copy_out(&id, &path)).await?;
    let going = Some((out.archive, api.stop.clone(), seat));
    let body = futures_util::stream::unfold(going, |going| async {
        let (mut archive, mut stop, seat) = going?;
        let piece = tokio::select! {
            biased;
            () = stopped(&mut stop) => Err(io::Error::other("the service is stopping")),
            piece = archive.next() => piece?.map_err(io::Error::other),
        };
        // After an error no more pieces follow, and the connection breaks off.
        let going = piece.is_ok().then_some((archive, stop, seat));
        Some((piece, going))
    });
    let headers = [(header::CONTENT_TYPE.as_str(), TAR), ("wharf-path-kind", out.kind.as_str())];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Unpack a tar archive into a folder of a workspace (`wharf cp - WS:PATH`)
///
/// The body may have any size. The request fails when the client sends nothing for 10 seconds; files that have arrived
/// stay.
#[utoipa::path(put, path = "/v1/workspaces/{id}/files", params(
    ("id" = String, Path, description = "Id or name"),
    ("path" = String, Query, description = "Absolute path in the workspace"),
), request_body(content = String, content_type = "application/x-tar"),
    responses((status = 200, description = "The archive was unpacked", body = Empty)))]
pub(in crate::api) async fn write(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    turn: Turn,
    mut args: Args,
    body: Body,
) -> Result<Response, Problem> {
    let path = path_of(&mut args)?;
    args.end()?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let _seat = api.seat(&caller)?;
    turn.give_back();
    let (to, pieces) = mpsc::channel(WAITING);
    let copy = async {
        let place = lifecycle.copy_in(&id, &path).await?;
        place.unpack_for_caller(&path, pieces).await
    };
    let copy = api.handle.metrics().verb("copy-in", copy);
    let mut stop = api.stop.clone();
    tokio::pin!(copy);
    let copied: Result<Result<(), Error>, Problem> = tokio::select! {
        fed = feed(body, to) => match fed {
            Ok(()) => Ok(copy.await),
            Err(problem) => Err(problem),
        },
        // The engine may refuse an archive before it has read all of it.
        copied = &mut copy => Ok(copied),
        () = stopped(&mut stop) => Err(Problem::stopping()),
        () = caller.revoked(&api.handle) => Err(Problem::bad_token()),
    };
    copied??;
    answer(&Empty {})
}

/// Forwards the client's body as fast as the receiver takes it. If the body breaks off, it fails and breaks the archive
/// off as well: half a body must not look complete.
async fn feed(body: Body, to: mpsc::Sender<io::Result<Bytes>>) -> Result<(), Problem> {
    let mut parts = body.into_data_stream();
    loop {
        let problem = match tokio::time::timeout(BODY_TIME, parts.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(part))) => match to.send(Ok(part)).await {
                Ok(()) => continue,
                // The receiver reports why it accepts no more.
                Err(_) => std::future::pending().await,
            },
            Ok(Some(Err(_))) => Problem::broken_body(),
            Err(_) => Problem::too_slow(BODY_TIME),
        };
        let _ = to.send(Err(io::Error::other("the body was cut off"))).await;
        return Err(problem);
    }
}
