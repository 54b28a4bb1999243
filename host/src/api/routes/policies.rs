//! `/v1/policies`: the chain, and its reload.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::config::instant;
use crate::records::ShadowSummary;
use crate::service::PolicyView;
use crate::store::ChainStatus;
use crate::wire::Empty;
use crate::workspace::WorkspaceId;

/// The text that replaces messages that may be about other workspaces.
const LEFT_OUT: &str = "(hidden from a token with labels: it may concern other workspaces)";

/// List the chain (`wharf policy ls`)
// Loading policies may take a while, so it runs on a blocking thread.
#[utoipa::path(get, path = "/v1/policies",
    responses((status = 200, description = "The policies", body = Vec<PolicyView>)))]
pub(in crate::api) async fn list(State(api): State<Api>, caller: Caller, args: Args) -> Result<Response, Problem> {
    args.end()?;
    let policies = tokio::task::spawn_blocking(move || {
        let seen = caller.seen(api.handle.store())?;
        let mut policies = api.handle.policies()?;
        if let Some(seen) = seen {
            policies.iter_mut().for_each(|policy| narrow(policy, &seen));
        }
        Ok::<_, Problem>(policies)
    });
    answer(&policies.await.map_err(Problem::internal)??)
}

/// Removes details of workspaces that are not visible: their IDs, and messages of failures there.
fn narrow(policy: &mut PolicyView, seen: &BTreeSet<WorkspaceId>) {
    let is_seen = |id: &str| seen.iter().any(|seen| seen.as_str() == id);
    if let Some(standing) = &mut policy.standing {
        standing.breakers.retain(|place, _| match place.trim_start_matches("shadow ").split_once(' ') {
            None => true,
            Some((_, workspace)) => is_seen(workspace),
        });
        for breaker in standing.breakers.values_mut() {
            breaker.workspaces.retain(|id| is_seen(id));
            // The message may be about another workspace, or about an earlier one with the same ID.
            breaker.last = LEFT_OUT.to_owned();
        }
        if let Some(rolled_back) = &mut standing.rolled_back {
            rolled_back.why = LEFT_OUT.to_owned();
        }
    }
    if !policy.notes.is_empty() {
        policy.notes = vec![LEFT_OUT.to_owned()];
    }
}

/// List the changes that shadows would have made (`wharf policy diff`), by policy
#[utoipa::path(get, path = "/v1/policies/shadows", params(
    ("policy" = Option<String>, Query, description = "Policy"),
    ("since" = Option<String>, Query, description = "Time, or duration before now; default 7d"),
), responses((status = 200,
    description = "The results by policy", body = std::collections::BTreeMap<String, ShadowSummary>)))]
pub(in crate::api) async fn shadows(State(api): State<Api>, mut args: Args) -> Result<Response, Problem> {
    let (policy, since) = (args.text("policy")?, args.one("since", instant)?);
    args.end()?;
    let since = match since {
        Some(since) => since,
        None => instant("7d").map_err(Problem::request)?,
    };
    let read = tokio::task::spawn_blocking(move || api.handle.shadows(policy.as_deref(), since));
    answer(&read.await.map_err(Problem::internal)??)
}

/// Reload configuration and policies (`wharf policy reload`)
#[utoipa::path(post, path = "/v1/policies/reload", request_body = Option<Empty>,
    responses((status = 200, description = "The new chain", body = ChainStatus)))]
pub(in crate::api) async fn reload(
    State(api): State<Api>,
    args: Args,
    Json(Empty {}): Json<Empty>,
) -> Result<Response, Problem> {
    args.end()?;
    if api.stopping() {
        return Err(Problem::stopping());
    }
    // The loop that reloads starts when the engine is connected.
    api.lifecycle()?;
    answer(&api.handle.reload().await?)
}
