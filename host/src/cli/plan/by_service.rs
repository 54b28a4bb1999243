//! `wharf plan` through a service: its chain, its configuration and its engine.

use serde_json::{Value, json};

use super::{Args, diff, whole};
use crate::cli::backend::{self, elsewhere};
use crate::cli::{Context, Failure};
use crate::client::{self, Client};
use crate::lifecycle::{self, Plan, PlanDiff, WorkspaceView};
use crate::workspace::WorkspaceId;

/// Runs the command.
pub(super) async fn run(context: &Context, client: &Client, args: Args) -> Result<u8, Failure> {
    if args.offline {
        let text = format!("--offline asks no engine, and the service at {} asks its own", client.server());
        return Err(Failure::new("bad-request", text, "leave --offline or --server out", 2));
    }
    let Some(name) = args.diff else {
        let plan: Plan = client.post("/v1/plan", &args.request.body(context, client)?).await?;
        return whole(context, &plan);
    };
    let (body, name, named) = match name.is_empty() {
        // Its project is that of the workspace.
        false => (args.request.body_of(client, "/".to_owned())?, name, true),
        true => {
            let body = args.request.body(context, client)?;
            let id = of_request(client, &body).await?;
            (body, id, false)
        }
    };
    let view: WorkspaceView = match client.get(&backend::path(&name, ""), &[]).await {
        Err(client::Error::Problem(problem)) if !named && problem.code == "workspace-not-found" => {
            return Err(lifecycle::Error::NotFound(name).into());
        }
        view => view?,
    };
    let changes: PlanDiff = client.post(&backend::path(&name, "plan"), &json!({ "request": body })).await?;
    diff(context, &changes, &view.project, None)
}

/// The workspace that a request would make, as its folder tells on this machine.
async fn of_request(client: &Client, body: &Value) -> Result<String, Failure> {
    if !client.is_local() {
        return Err(elsewhere(client, "a folder"));
    }
    let folder = body["project"].as_str().unwrap_or_default();
    let unusable = |error: std::io::Error| {
        let text = format!("the project {folder} cannot be used: {error}");
        Failure::new("project-unusable", text, "name an existing folder that you can read", 5)
    };
    let real = std::path::Path::new(folder).canonicalize().map_err(unusable)?;
    let last = real.file_name().map_or("workspace".into(), |name| name.to_string_lossy());
    let name = body["name"].as_str().unwrap_or(&last);
    let real = real.to_string_lossy();
    let all: Vec<WorkspaceView> = client.pages("/v1/workspaces", &[]).await?;
    let is = |view: &&WorkspaceView| view.part_of.is_none() && view.name == name && view.project == real;
    Ok(all.iter().find(is).map_or_else(|| WorkspaceId::derive(name, &real), |view| view.id.clone()).to_string())
}
