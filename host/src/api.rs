//! The HTTP API of `wharf serve`: JSON over a Unix socket, for programs of the same user and of root.
//!
//! One file per resource; each route is a short function that asks `lifecycle` or the store and gives the JSON that the
//! command of the same name prints with `--json`. Whatever fails becomes a [`error::Problem`]; only that file knows status
//! codes of errors. What every request passes before its route is in `guard`.
//!
//! May touch: its socket, and what the service hands it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::lifecycle::Lifecycle;
use crate::service::{self, Handle, Loop, Stop, stopped};

mod args;
mod cleanup;
mod error;
mod guard;
mod health;
mod policies;
mod socket;
mod verbs;
mod workspaces;

use error::Problem;
use socket::Socket;

/// Connections at once; further ones wait to be taken.
const CONNECTIONS: usize = 256;
/// Requests that are answered at once.
const REQUESTS: usize = 64;
/// Verbs under way at once, whether their clients still wait or not.
const VERBS: usize = 16;
/// How long a request's head may take, and how long a connection may rest between requests.
const HEAD: Duration = Duration::from_secs(30);
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 32 * 1024;
/// How long answers have to be fetched when the service ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What all routes have.
#[derive(Clone)]
struct Api {
    handle: Handle,
    requests: Arc<Semaphore>,
    verbs: Arc<Semaphore>,
    stop: Stop,
}

impl Api {
    /// What carries out verbs.
    fn lifecycle(&self) -> Result<Arc<Lifecycle>, Problem> {
        self.handle.lifecycle().ok_or_else(Problem::engine_away)
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Takes the socket. The loop that it gives answers requests until it is told to stop: then no connection is taken any
/// more, verbs under way end, and their clients are told what came of them.
///
/// # Errors
/// When the socket cannot be had, with what to do.
pub fn open(path: &Path, handle: Handle, stop: Stop) -> Result<(String, Loop), service::Error> {
    let socket = Socket::claim(path)
        .map_err(|refused| service::Error::NotAttached { message: refused.message, remedy: refused.remedy })?;
    let requests = Arc::new(Semaphore::new(REQUESTS));
    let api = Api { handle, requests, verbs: Arc::new(Semaphore::new(VERBS)), stop };
    Ok((format!("unix://{}", path.display()), Box::pin(serve(socket, api))))
}

fn router(api: Api) -> Router {
    Router::new()
        .route(guard::HEALTH, get(health::alive))
        .route("/v1/ready", get(health::ready))
        .route("/v1/version", get(health::version))
        .route("/v1/workspaces", get(workspaces::list))
        .route("/v1/workspaces/{id}", get(workspaces::inspect))
        .route("/v1/workspaces/{id}", delete(verbs::remove))
        .route("/v1/workspaces/{id}/metrics", get(workspaces::metrics))
        .route("/v1/workspaces/{id}/start", post(verbs::start))
        .route("/v1/workspaces/{id}/stop", post(verbs::stop))
        .route("/v1/workspaces/{id}/restart", post(verbs::restart))
        .route("/v1/workspaces/{id}/pause", post(verbs::pause))
        .route("/v1/workspaces/{id}/unpause", post(verbs::unpause))
        .route("/v1/workspaces/{id}/kill", post(verbs::kill))
        .route("/v1/workspaces/{id}/update", post(verbs::update))
        .route("/v1/policies", get(policies::list))
        .route("/v1/policies/reload", post(policies::reload))
        .route("/v1/cleanup", get(cleanup::ledger))
        .route("/v1/cleanup/sweep", post(cleanup::sweep))
        .fallback(Problem::no_route)
        .method_not_allowed_fallback(Problem::wrong_method)
        .layer(axum::middleware::from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}

async fn serve(socket: Socket, api: Api) {
    let (verbs, mut stop) = (api.verbs.clone(), api.stop.clone());
    let router = router(api);
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // It is never closed.
            let seat = seats.clone().acquire_owned().await.ok();
            (seat, socket.accept().await)
        };
        let (seat, stream) = tokio::select! {
            accepted = accept => accepted,
            // Their results say nothing; taken away so that they do not pile up.
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        match stream {
            Ok(stream) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, router, stop).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!("api: a connection cannot be taken: {error}");
                // Out of file descriptors, for one: at once again would be a busy loop.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    // The service bounds how long this takes: what does not end is interrupted, and undone.
    let _ended = verbs.acquire_many(VERBS as u32).await;
    let told = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, told).await.is_err() {
        tracing::info!("api: clients that do not read their answers are left");
    }
}

async fn connection(stream: UnixStream, router: Router, mut stop: Stop) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("api: a connection broke: {error}");
    }
}
