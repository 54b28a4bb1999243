//! The HTTP API of `wharf serve`: JSON over a Unix socket for programs of the same user and of root, and over TLS for
//! callers with a token.
//!
//! There is one file per resource. Each route is a short function that calls `lifecycle` or the store and returns the
//! JSON that the command of the same name prints with `--json`. Every failure becomes a `http::error::Problem`; no
//! other file knows the status codes of errors. `listen` accepts connections. `guard` holds the checks that every
//! request passes before its route, and `access` the permissions that the route requires of its caller.
//!
//! May touch: its socket and its address, the files of its certificate, and the handle of the service.

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

/// Parses a request body in the same way as the routes do.
#[cfg(test)]
pub(crate) fn read_body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    http::args::read(bytes).map_err(|problem| format!("{problem:?}"))
}

/// The limit of concurrent requests, for the socket and for the network each. The second number divides the network's
/// limit: a token holds at most that fraction, so that verbs leave room for reads.
const REQUESTS: (usize, usize) = (64, 2);
/// The limit of running verbs, with or without a waiting client, and its divisor per token.
const VERBS: (usize, usize) = (16, 2);
/// The limit of open streams and interactive commands, and its divisor per token.
const STREAMS: (usize, usize) = (128, 4);

/// The state shared by all routes.
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
    /// Returns the lifecycle, which carries out verbs.
    fn lifecycle(&self) -> Result<Arc<Lifecycle>, Problem> {
        self.handle.lifecycle().ok_or_else(Problem::engine_away)
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Binds the socket, and the address on the network if the configuration names one. Returns the listening addresses and
/// the loop that answers requests until the service stops. The loop then accepts no more connections, waits for running
/// verbs to end, and sends their clients the outcome.
///
/// # Errors
/// When the socket, the address or the certificate is unavailable; the error names a remedy.
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
        // This task polls the store for the streams.
        let looking = tokio::spawn(looking);
        let socket = serve(Listener::Socket(socket), router.clone(), shared.clone());
        match network {
            None => socket.await,
            Some(network) => {
                let follow = network.clone().follow(stop);
                tokio::join!(socket, serve(Listener::Network(network), router, shared), follow);
            }
        }
        // Interactive commands are ended, and their clients notified.
        if tokio::time::timeout(FAREWELL, followed.all_free()).await.is_err() {
            tracing::info!("api: not all streams have ended");
        }
        if let Err(error) = looking.await {
            tracing::warn!("api: the task that watches the store for streams ended: {error}");
        }
    };
    Ok((listens, Box::pin(run)))
}

/// Checks the certificate and the key that the network listener needs.
///
/// # Errors
/// The defect in them, and the remedy.
pub fn check(config: &ApiConfig) -> Result<(), (String, String)> {
    Network::check(config).map_err(|refused| (refused.message, refused.remedy))
}

/// All routes, each with the permissions that it requires.
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
