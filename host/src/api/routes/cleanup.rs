//! `/v1/cleanup`: the ledger of sweeps, and a sweep on demand.

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::api::routes::verbs::carry_out;
use crate::lifecycle::SweepReport;
use crate::store::LedgerEntry;
use crate::wire::{CleanupTarget, SweepRequest};

/// List the ledger of sweeps, newest first (`wharf cleanup ls`)
#[utoipa::path(get, path = "/v1/cleanup", params(
    ("all" = Option<bool>, Query, description = "Whether to include finished, undone and cancelled entries"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Number of entries; default 100"),
), responses((status = 200, description = "The entries", body = Vec<LedgerEntry>)))]
pub(in crate::api) async fn ledger(State(api): State<Api>, mut args: Args) -> Result<Response, Problem> {
    let (all, limit) = (args.flag("all")?, args.limit()?);
    args.end()?;
    let state = (!all).then_some(crate::store::LedgerState::Pending);
    answer(&api.handle.store().ledger(state, u32::try_from(limit).unwrap_or(u32::MAX))?)
}

/// Run one sweep (`wharf cleanup`)
#[utoipa::path(post, path = "/v1/cleanup/sweep", request_body = Option<SweepRequest>,
    responses((status = 200, description = "The result", body = SweepReport)))]
pub(in crate::api) async fn sweep(
    State(api): State<Api>,
    caller: Caller,
    args: Args,
    body: Json<SweepRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    let (lifecycle, Json(SweepRequest { dry_run, no_grace })) = (api.lifecycle()?, body);
    let grace = if no_grace { std::time::Duration::ZERO } else { api.handle.grace() };
    carry_out((&api, &caller), "sweep", async move { lifecycle.sweep(dry_run, grace).await }).await
}

/// Undo a planned removal, or restart a workspace that a sweep has stopped (`wharf cleanup undo`)
#[utoipa::path(post, path = "/v1/cleanup/undo", request_body = CleanupTarget,
    responses((status = 200, description = "The entry", body = LedgerEntry)))]
pub(in crate::api) async fn undo(
    State(api): State<Api>,
    caller: Caller,
    args: Args,
    Json(CleanupTarget { which }): Json<CleanupTarget>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    carry_out((&api, &caller), "cleanup-undo", async move { lifecycle.undo_cleanup(&which).await }).await
}

/// Let sweeps plan an entry again that was undone (`wharf cleanup allow`)
#[utoipa::path(post, path = "/v1/cleanup/allow", request_body = CleanupTarget,
    responses((status = 200, description = "The entry", body = LedgerEntry)))]
pub(in crate::api) async fn allow(
    State(api): State<Api>,
    args: Args,
    Json(CleanupTarget { which }): Json<CleanupTarget>,
) -> Result<Response, Problem> {
    args.end()?;
    answer(&api.lifecycle()?.allow_cleanup(&which)?)
}
