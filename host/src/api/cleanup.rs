//! `/v1/cleanup`: the ledger, and a sweep.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::Api;
use super::access::Caller;
use super::args::{Args, Json};
use super::error::Problem;
use super::health::answer;
use super::verbs::carry_out;
use crate::lifecycle::SweepReport;
use crate::store::LedgerEntry;

/// The ledger of sweeps, newest first (`wharf cleanup ls`)
#[utoipa::path(get, path = "/v1/cleanup", params(
    ("all" = Option<bool>, Query, description = "Also what was done, taken back or given up"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Entries; 100"),
), responses((status = 200, description = "Its entries", body = Vec<LedgerEntry>)))]
pub(super) async fn ledger(State(api): State<Api>, mut args: Args) -> Result<Response, Problem> {
    let (all, limit) = (args.flag("all")?, args.limit()?);
    args.end()?;
    let state = (!all).then_some(crate::store::LedgerState::Pending);
    answer(&api.handle.store().ledger(state, u32::try_from(limit).unwrap_or(u32::MAX))?)
}

/// The body of a sweep.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepBody {
    /// Changes nothing.
    #[serde(default)]
    dry_run: bool,
    /// Removes at once.
    #[serde(default)]
    no_grace: bool,
}

/// One sweep (`wharf cleanup`)
#[utoipa::path(post, path = "/v1/cleanup/sweep", request_body = Option<SweepBody>,
    responses((status = 200, description = "What came of it", body = SweepReport)))]
pub(super) async fn sweep(
    State(api): State<Api>,
    caller: Caller,
    args: Args,
    body: Json<SweepBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let (lifecycle, Json(SweepBody { dry_run, no_grace })) = (api.lifecycle()?, body);
    let grace = if no_grace { std::time::Duration::ZERO } else { api.handle.grace() };
    carry_out((&api, &caller), "sweep", async move { lifecycle.sweep(dry_run, grace).await }).await
}

/// The body that names something that a sweep has touched.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichBody {
    /// Number in the ledger, id or name.
    which: String,
}

/// Takes back a planned removal, or starts again what a sweep has stopped (`wharf cleanup undo`)
#[utoipa::path(post, path = "/v1/cleanup/undo", request_body = WhichBody,
    responses((status = 200, description = "The entry", body = LedgerEntry)))]
pub(super) async fn undo(
    State(api): State<Api>,
    caller: Caller,
    args: Args,
    Json(WhichBody { which }): Json<WhichBody>,
) -> Result<Response, Problem> {
    args.end()?;
    let lifecycle = api.lifecycle()?;
    carry_out((&api, &caller), "cleanup-undo", async move { lifecycle.undo_cleanup(&which).await }).await
}

/// Lets sweeps have again what was taken back (`wharf cleanup allow`)
#[utoipa::path(post, path = "/v1/cleanup/allow", request_body = WhichBody,
    responses((status = 200, description = "The entry", body = LedgerEntry)))]
pub(super) async fn allow(
    State(api): State<Api>,
    args: Args,
    Json(WhichBody { which }): Json<WhichBody>,
) -> Result<Response, Problem> {
    args.end()?;
    answer(&api.lifecycle()?.allow_cleanup(&which)?)
}
