//! The HTTP API of `wharf serve`: JSON over a Unix socket, for programs of the same user and of root, and over TLS for
//! those who have a token.
//!
//! One file per resource; each route is a short function that asks `lifecycle` or the store and gives the JSON that the
//! command of the same name prints with `--json`. Whatever fails becomes a [`error::Problem`]; only that file knows status
//! codes of errors. Connections come in through `listen`; what every request passes before its route is in `guard`, and
//! what the route needs of its caller in `access`.
//!
//! May touch: its socket and its address, the files of its certificate, and what the service hands it.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use tokio::sync::Semaphore;

use crate::config::ApiConfig;
use crate::lifecycle::{self, Lifecycle};
use crate::service::{self, Handle, Loop, Stop};
use crate::store::Role;

mod access;
mod args;
mod cleanup;
mod dashboard;
mod error;
mod guard;
mod health;
mod limits;
mod listen;
mod policies;
mod remote;
mod session;
mod socket;
mod tls;
mod verbs;
mod workspaces;

use access::{Needs, Routes};
use error::Problem;
use listen::{Listener, Network, serve};
use remote::Remote;
use socket::{Refused, Socket};

/// Requests that are answered at once.
const REQUESTS: usize = 64;
/// Verbs under way at once, whether their clients still wait or not.
const VERBS: usize = 16;

/// What all routes have.
#[derive(Clone)]
struct Api {
    handle: Handle,
    requests: Arc<Semaphore>,
    verbs: Arc<Semaphore>,
    remote: Arc<Remote>,
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

/// Takes the socket, and the address on the network if the configuration names one. The loop that it gives answers requests
/// until it is told to stop: then no connection is taken any more, verbs under way end, and their clients are told what
/// came of them. Gives where it listens, too.
///
/// # Errors
/// When the socket, the address or the certificate cannot be had, with what to do.
pub fn open(path: &Path, config: &ApiConfig, handle: Handle, stop: Stop) -> Result<(String, Loop), service::Error> {
    let refused = |refused: Refused| service::Error::NotAttached { message: refused.message, remedy: refused.remedy };
    let network = Network::claim(config).map_err(refused)?.map(Arc::new);
    let socket = Socket::claim(path).map_err(refused)?;
    let mut places = format!("unix://{}", path.display());
    if let Some(network) = &network {
        let address = network.address().map_err(|error| lifecycle::Error::Internal(error.to_string()))?;
        places.push_str(&format!(", https://{address}"));
    }
    let (requests, verbs) = (Arc::new(Semaphore::new(REQUESTS)), Arc::new(Semaphore::new(VERBS)));
    let remote = Arc::new(Remote::new(config, REQUESTS));
    let router = router(Api { handle, requests, verbs: verbs.clone(), remote, stop: stop.clone() });
    let run = async move {
        let socket = serve(Listener::Socket(socket), router.clone(), verbs.clone(), stop.clone());
        match network {
            None => socket.await,
            Some(network) => {
                let follow = network.clone().follow(stop.clone());
                tokio::join!(socket, serve(Listener::Network(network), router, verbs, stop), follow);
            }
        }
    };
    Ok((places, Box::pin(run)))
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
        .route(READ, guard::SESSION, get(session::show).delete(session::end))
        .route(Needs::Nothing, guard::SESSION, post(session::begin))
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
