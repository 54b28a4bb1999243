//! `/v1/health`, `/v1/ready` and `/v1/version`.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::Api;
use crate::api::http::error::Problem;

/// The time limit for an answer of the engine.
const ENGINE: Duration = Duration::from_secs(5);

/// The status of a live service.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct Status {
    /// `alive`, or `ready`.
    status: &'static str,
}

/// Answer as long as the service is alive
#[utoipa::path(get, path = "/v1/health",
    responses((status = 200, description = "The service is alive", body = Status)))]
pub(in crate::api) async fn alive() -> Result<Response, Problem> {
    answer(&Status { status: "alive" })
}

/// The program, and the versions that it speaks.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct Version {
    /// `wharf`
    name: &'static str,
    /// Version of the program.
    version: &'static str,
    /// The supported versions of this API.
    api: Vec<&'static str>,
}

/// Get the program and its versions of this API
#[utoipa::path(get, path = "/v1/version", responses((status = 200, description = "The versions", body = Version)))]
pub(in crate::api) async fn version() -> Result<Response, Problem> {
    answer(&Version { name: "wharf", version: env!("CARGO_PKG_VERSION"), api: vec!["v1"] })
}

/// Check whether the service is ready
///
/// The engine answers, the store accepts writes, and a chain decides; else 503 with the `missing` parts.
#[utoipa::path(get, path = "/v1/ready", responses((status = 200, description = "The service is ready", body = Status)))]
pub(in crate::api) async fn ready(State(api): State<Api>) -> Result<Response, Problem> {
    let mut missing = Vec::new();
    let handle = api.handle.clone();
    // Another process may hold the store for a while.
    let asked = tokio::task::spawn_blocking(move || (handle.store().service(), handle.store().probe()));
    let (status, written) = asked.await.map_err(Problem::internal)?;
    match &status {
        Ok(Some(status)) if status.chain.since.is_some() => {}
        Ok(_) => missing.push("chain: no policies are loaded yet".to_owned()),
        Err(error) => missing.push(format!("store: {error}")),
    }
    if let (Ok(_), Err(error)) = (&status, written) {
        missing.push(format!("store: {error}"));
    }
    let away = status.ok().flatten().and_then(|status| status.engine_away);
    match api.handle.lifecycle() {
        None => missing.push(format!("engine: {}", away.unwrap_or_else(|| "not yet reachable".to_owned()))),
        Some(lifecycle) => match tokio::time::timeout(ENGINE, lifecycle.docker().ask_info()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => missing.push(format!("engine: {error}")),
            Err(_) => missing.push(format!("engine: no response within {} s", ENGINE.as_secs())),
        },
    }
    if api.stopping() {
        missing.push("the service is stopping".to_owned());
    }
    if missing.is_empty() { answer(&Status { status: "ready" }) } else { Err(Problem::not_ready(missing)) }
}

/// Returns an answer of JSON.
pub(in crate::api) fn answer<T: serde::Serialize>(value: &T) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(Problem::internal)?;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], body).into_response())
}
