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
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::lifecycle::Lifecycle;
use crate::service::{self, Handle, Loop, Stop, stopped};
use crate::store::Role;

mod access;
mod args;
mod cleanup;
mod dashboard;
mod error;
mod guard;
mod health;
mod policies;
mod socket;
mod verbs;
mod workspaces;

use access::{Needs, Peer, Routes};
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

/// Every route, with what it needs of who calls it.
fn router(api: Api) -> Router {
    const READ: Needs = Needs::Role(Role::Viewer);
    const ACT: Needs = Needs::Role(Role::Operator);
    const RULE: Needs = Needs::Whole(Role::Admin);
    Routes::new()
        .route(Needs::Nothing, guard::HEALTH, get(health::alive))
        .route(Needs::Nothing, "/", get(dashboard::page))
        .route(Needs::Nothing, "/dashboard/{*file}", get(dashboard::file))
        .route(READ, "/v1/ready", get(health::ready))
        .route(READ, "/v1/version", get(health::version))
        .route(READ, "/v1/workspaces", get(workspaces::list))
        .route(READ, "/v1/workspaces/{id}", get(workspaces::inspect))
        .route(ACT, "/v1/workspaces/{id}", delete(verbs::remove))
        .route(READ, "/v1/workspaces/{id}/metrics", get(workspaces::metrics))
        .route(ACT, "/v1/workspaces/{id}/start", post(verbs::start))
        .route(ACT, "/v1/workspaces/{id}/stop", post(verbs::stop))
        .route(ACT, "/v1/workspaces/{id}/restart", post(verbs::restart))
        .route(ACT, "/v1/workspaces/{id}/down", post(verbs::down))
        .route(ACT, "/v1/workspaces/{id}/pause", post(verbs::pause))
        .route(ACT, "/v1/workspaces/{id}/unpause", post(verbs::unpause))
        .route(ACT, "/v1/workspaces/{id}/kill", post(verbs::kill))
        .route(ACT, "/v1/workspaces/{id}/update", post(verbs::update))
        .route(READ, "/v1/policies", get(policies::list))
        .route(RULE, "/v1/policies/reload", post(policies::reload))
        .route(Needs::Whole(Role::Viewer), "/v1/cleanup", get(cleanup::ledger))
        .route(RULE, "/v1/cleanup/sweep", post(cleanup::sweep))
        .router()
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
            Ok((stream, uid)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, Peer::Socket(uid), router, stop).await;
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

async fn connection(stream: UnixStream, peer: Peer, router: Router, mut stop: Stop) {
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
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
