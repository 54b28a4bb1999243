//! `/metrics`: the metrics of the service, for Prometheus and compatible programs.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::Api;
use crate::api::http::args::Args;
use crate::api::http::error::Problem;

/// The text format of OpenMetrics 1.0.
const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns all metrics. It needs no engine.
pub(in crate::api) async fn text(State(api): State<Api>, args: Args) -> Result<Response, Problem> {
    args.end()?;
    api.handle.metrics().streams(api.streams.taken());
    let text = tokio::task::spawn_blocking(move || api.handle.metrics().text(api.handle.store()));
    let text = text.await.map_err(Problem::internal)??;
    Ok(([(header::CONTENT_TYPE, KIND)], text).into_response())
}
