//! The HTTP API of `wharf serve`: JSON over a Unix socket, for programs of the same user and of root, and over TLS for
//! those who have a token.
//!
//! One file per resource; each route is a short function that asks `lifecycle` or the store and gives the JSON that the
//! command of the same name prints with `--json`. Whatever fails becomes a `http::error::Problem`; only that file knows status
//! codes of errors. Connections come in through `listen`; what every request passes before its route is in `guard`, and
//! what the route needs of its caller in `access`.
//!
//! May touch: its socket and its address, the files of its certificate, and what the service hands it.

mod http;
mod routes;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::sync::Semaphore;
use utoipa_axum::routes;

use crate::config::ApiConfig;
use crate::lifecycle::{self, Lifecycle};
use crate::service::{self, Handle, Loop, Stop};
use crate::store::Role;

use http::access::{Needs, Routes};
use http::concurrency::Places;
use http::error::Problem;
use http::listen::{FAREWELL, Listener, Network, Shared, serve};
use http::notifier::Pulse;
use http::remote::Remote;
use http::socket::{Refused, Socket};

/// A body as the routes read it.
#[cfg(test)]
pub(crate) fn read_body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    http::args::read(bytes).map_err(|problem| format!("{problem:?}"))
}

/// Requests that are answered at once, over the socket and over the network; and the parts of the network's of which a token has
/// one, so that verbs leave room to read.
const REQUESTS: (usize, usize) = (64, 2);
/// Verbs under way at once, whether their clients still wait or not, in the same way.
const VERBS: (usize, usize) = (16, 2);
/// Streams that are followed at once, and commands that are talked to, in the same way.
const STREAMS: (usize, usize) = (128, 4);

/// What all routes have.
#[derive(Clone)]
struct Api {
    handle: Handle,
    requests: Arc<Places>,
    verbs: Arc<Places>,
    remote: Arc<Remote>,
    streams: Arc<Places>,
    replays: Arc<Semaphore>,
    pulse: Pulse,
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
    let (socket, place) = match Socket::inherited().map_err(refused)? {
        Some(inherited) => inherited,
        None => (Socket::claim(path).map_err(refused)?, path.display().to_string()),
    };
    let mut listens = format!("unix://{place}");
    if let Some(network) = &network {
        let address = network.address().map_err(|error| lifecycle::Error::Internal(error.to_string()))?;
        listens.push_str(&format!(", https://{address}"));
    }
    let places = |of, (most, parts)| Arc::new(Places::new(of, most, parts));
    let (requests, verbs) = (places("requests", REQUESTS), places("verbs", VERBS));
    let (streams, replays) = (places("streams", STREAMS), Arc::new(Semaphore::new(1)));
    let (remote, pulse) = (Arc::new(Remote::new(config)), Pulse::default());
    let looking = pulse.clone().run(handle.clone(), stop.clone());
    let shared = Shared { verbs: verbs.clone(), handle: handle.clone(), stop: stop.clone() };
    let followed = streams.clone();
    let router = router(Api { handle, requests, verbs, remote, streams, replays, pulse, stop: stop.clone() });
    let run = async move {
        // It looks at the store for streams.
        let looking = tokio::spawn(looking);
        let socket = serve(Listener::Socket(socket), router.clone(), shared.clone());
        match network {
            None => socket.await,
            Some(network) => {
                let follow = network.clone().follow(stop);
                tokio::join!(socket, serve(Listener::Network(network), router, shared), follow);
            }
        }
        // Commands with a client are ended, and their clients told.
        if tokio::time::timeout(FAREWELL, followed.all_free()).await.is_err() {
            tracing::info!("api: not all streams have ended");
        }
        if let Err(error) = looking.await {
            tracing::warn!("api: what looks at the store for streams ended: {error}");
        }
    };
    Ok((listens, Box::pin(run)))
}

/// Checks what the network needs: certificate and key.
///
/// # Errors
/// What is wrong with them, and what to do.
pub fn check(config: &ApiConfig) -> Result<(), (String, String)> {
    Network::check(config).map_err(|refused| (refused.message, refused.remedy))
}

/// Every route, with what it needs of who calls it.
fn routes() -> Routes {
    const READ: Needs = Needs::Role(Role::Viewer);
    const SURVEY: Needs = Needs::Whole(Role::Viewer);
    const ACT: Needs = Needs::Role(Role::Operator);
    const BUILD: Needs = Needs::Whole(Role::Operator);
    const RULE: Needs = Needs::Whole(Role::Admin);
    Routes::new()
        .route(SURVEY, "/metrics", get(routes::openmetrics::text))
        .routes(Needs::Nothing, routes!(routes::health::alive))
        .route(Needs::Nothing, "/", get(routes::dashboard::page))
        .route(Needs::Nothing, "/dashboard/{*file}", get(routes::dashboard::file))
        .routes(READ, routes!(routes::health::ready))
        .routes(READ, routes!(routes::health::version))
        .routes(READ, routes!(http::openapi::document))
        .routes(READ, routes!(routes::session::show, routes::session::end))
        .routes(Needs::Nothing, routes!(routes::session::begin))
        .routes(READ, routes!(routes::workspaces::list))
        .routes(BUILD, routes!(routes::up::make))
        .routes(READ, routes!(routes::workspaces::inspect))
        .routes(ACT, routes!(routes::verbs::remove))
        .routes(READ, routes!(routes::workspaces::metrics))
        .routes(READ, routes!(routes::decisions::explain))
        .routes(ACT, routes!(routes::plan::diff))
        .routes(ACT, routes!(routes::verbs::start))
        .routes(ACT, routes!(routes::verbs::stop))
        .routes(ACT, routes!(routes::verbs::restart))
        .routes(ACT, routes!(routes::verbs::down))
        .routes(ACT, routes!(routes::verbs::pause))
        .routes(ACT, routes!(routes::verbs::unpause))
        .routes(ACT, routes!(routes::verbs::kill))
        .routes(ACT, routes!(routes::verbs::update))
        .routes(READ, routes!(routes::up::wait))
        .routes(ACT, routes!(routes::exec::talk))
        .routes(ACT, routes!(routes::exec_collected::run))
        .routes(READ, routes!(routes::logs::read))
        .routes(READ, routes!(routes::logs::read_several))
        .routes(READ, routes!(routes::stats::one))
        .routes(BUILD, routes!(routes::up::add_sidecar))
        .routes(READ, routes!(routes::secrets::list))
        .routes(ACT, routes!(routes::secrets::set, routes::secrets::remove))
        .routes(ACT, routes!(routes::files::kind))
        .routes(ACT, routes!(routes::files::read, routes::files::write))
        .routes(READ, routes!(routes::idle::show))
        .routes(READ, routes!(routes::idle::leased))
        .routes(ACT, routes!(routes::idle::lease))
        .routes(ACT, routes!(routes::idle::release))
        .routes(ACT, routes!(routes::snapshots::create))
        .routes(READ, routes!(routes::snapshots::list))
        .routes(BUILD, routes!(routes::snapshots::remove))
        .routes(BUILD, routes!(routes::snapshots::restore))
        .routes(SURVEY, routes!(routes::images::list))
        .routes(BUILD, routes!(routes::images::pull))
        .routes(BUILD, routes!(routes::images::build))
        .routes(BUILD, routes!(routes::images::prune))
        .routes(BUILD, routes!(routes::images::remove))
        .routes(SURVEY, routes!(routes::volumes::list))
        .routes(BUILD, routes!(routes::volumes::remove))
        .routes(READ, routes!(routes::idle::list))
        .routes(READ, routes!(routes::stats::all))
        .routes(BUILD, routes!(routes::plan::plan))
        .routes(READ, routes!(routes::decisions::list))
        .routes(READ, routes!(routes::decisions::follow))
        .routes(RULE, routes!(routes::decisions::replay))
        .routes(READ, routes!(routes::decisions::show))
        .routes(READ, routes!(routes::events::list))
        .routes(READ, routes!(routes::policies::list))
        .routes(SURVEY, routes!(routes::policies::shadows))
        .routes(RULE, routes!(routes::policies::reload))
        .routes(SURVEY, routes!(routes::cleanup::ledger))
        .routes(RULE, routes!(routes::cleanup::sweep))
        .routes(BUILD, routes!(routes::cleanup::undo))
        .routes(BUILD, routes!(routes::cleanup::allow))
}

fn router(api: Api) -> Router {
    routes().router().layer(axum::middleware::from_fn_with_state(api.clone(), http::middleware::guard)).with_state(api)
}
