//! `/v1/cleanup`: the ledger, and a sweep.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::Api;
use super::args::{Args, Json};
use super::error::Problem;
use super::health::answer;
use super::verbs::carry_out;

/// `wharf cleanup ls`, newest first: what is pending, or `?all=true`; `?limit`. It needs no engine.
pub(super) async fn ledger(State(api): State<Api>, mut args: Args) -> Result<Response, Problem> {
    let (all, limit) = (args.flag("all")?, args.limit()?);
    args.end()?;
    let state = (!all).then_some(crate::store::LedgerState::Pending);
    answer(&api.handle.store().ledger(state, u32::try_from(limit).unwrap_or(u32::MAX))?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sweep {
    dry_run: bool,
    no_grace: bool,
}

/// `wharf cleanup`.
pub(super) async fn sweep(State(api): State<Api>, args: Args, body: Json<Sweep>) -> Result<Response, Problem> {
    args.end()?;
    let (lifecycle, Json(Sweep { dry_run, no_grace })) = (api.lifecycle()?, body);
    let grace = if no_grace { std::time::Duration::ZERO } else { api.handle.grace() };
    carry_out(&api, async move { lifecycle.sweep(dry_run, grace).await }).await
}
