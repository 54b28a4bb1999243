//! Verbs on workspaces, with the names of `lifecycle::Lifecycle`. A workspace is named as on the command line: by ID or
//! name.
//!
//! Every method fails with [`Error`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, Error, Query};
use crate::config::Span;
use crate::lifecycle::{Plan, PlanDiff, WaitView, WorkspaceView};
use crate::records::Why;
use crate::wire::{
    DownRequest, Empty, ExecAnswer, ExecRequest, KillRequest, PlanDiffRequest, Problem, Progress, SidecarRequest,
    StopRequest, UpdateRequest, WaitRequest, WorkspaceRequest,
};
use crate::workspace::url_encoded;

/// The callback for the steps of a long verb.
pub type Report<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Returns the path of a workspace, or of a part of it.
pub(super) fn path(workspace: &str, part: &str) -> String {
    let slash = if part.is_empty() { "" } else { "/" };
    format!("/v1/workspaces/{}{slash}{part}", url_encoded(workspace))
}

impl Client {
    /// Makes the workspace of a project, or starts it. If `wait` gives a limit, waits until it is healthy.
    pub async fn up(
        &self,
        request: &WorkspaceRequest,
        recreate: bool,
        wait: Option<Span>,
        report: Report<'_>,
    ) -> Result<WorkspaceView, Error> {
        let wait = wait.map(|limit| limit.to_string());
        let mut query = recreated(recreate);
        query.extend(wait.as_deref().map(|limit| ("wait", limit)));
        self.long("/v1/workspaces", &query, request, report).await
    }

    /// Makes a sidecar, or starts it.
    pub async fn add_sidecar(
        &self,
        workspace: &str,
        name: &str,
        request: &SidecarRequest,
        recreate: bool,
        report: Report<'_>,
    ) -> Result<WorkspaceView, Error> {
        let path = path(workspace, &format!("sidecars/{}", url_encoded(name)));
        self.long(&path, &recreated(recreate), request, report).await
    }

    /// Returns all workspaces, sorted by ID.
    pub async fn list(&self) -> Result<Vec<WorkspaceView>, Error> {
        self.pages("/v1/workspaces", &[("limit", "1000")]).await
    }

    /// Returns one workspace.
    pub async fn inspect(&self, workspace: &str) -> Result<WorkspaceView, Error> {
        self.get(&path(workspace, ""), &[]).await
    }

    /// Starts a workspace.
    pub async fn start(&self, workspace: &str) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "start"), &Empty {}).await
    }

    /// Stops a workspace.
    pub async fn stop(&self, workspace: &str, timeout: Option<Span>) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "stop"), &StopRequest { timeout }).await
    }

    /// Stops a workspace and starts it again.
    pub async fn restart(&self, workspace: &str, timeout: Option<Span>) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "restart"), &StopRequest { timeout }).await
    }

    /// Freezes a workspace.
    pub async fn pause(&self, workspace: &str) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "pause"), &Empty {}).await
    }

    /// Resumes a workspace.
    pub async fn unpause(&self, workspace: &str) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "unpause"), &Empty {}).await
    }

    /// Sends a workspace a signal: a name or a number.
    pub async fn kill(&self, workspace: &str, signal: &str) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "kill"), &KillRequest { signal: Some(signal.to_owned()) }).await
    }

    /// Removes a workspace.
    pub async fn remove(&self, workspace: &str, force: bool, volumes: bool) -> Result<WorkspaceView, Error> {
        let mut query = Vec::new();
        query.extend(force.then_some(("force", "true")));
        query.extend(volumes.then_some(("volumes", "true")));
        self.delete(&path(workspace, ""), &query).await
    }

    /// Stops and removes a workspace.
    pub async fn down(&self, workspace: &str, volumes: bool) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "down"), &DownRequest { volumes }).await
    }

    /// Changes the limits of a workspace.
    pub async fn update(&self, workspace: &str, request: &UpdateRequest) -> Result<WorkspaceView, Error> {
        self.post(&path(workspace, "update"), request).await
    }

    /// Waits until a workspace is in a state.
    pub async fn wait(&self, workspace: &str, request: &WaitRequest) -> Result<WaitView, Error> {
        self.post(&path(workspace, "wait"), request).await
    }

    /// Returns the plan for a request.
    pub async fn plan(&self, request: &WorkspaceRequest) -> Result<Plan, Error> {
        self.post("/v1/plan", request).await
    }

    /// Returns the changes that a workspace would get if it were recreated with this request over its original one.
    pub async fn plan_diff(&self, workspace: &str, request: WorkspaceRequest) -> Result<PlanDiff, Error> {
        self.post(&path(workspace, "plan"), &PlanDiffRequest { request: Some(request) }).await
    }

    /// Returns the explanation of the fields of a workspace; of one field, or of all.
    pub async fn why(&self, workspace: &str, field: Option<&str>) -> Result<Why, Error> {
        let query: Vec<_> = field.map(|field| ("field", field)).into_iter().collect();
        self.get(&path(workspace, "why"), &query).await
    }

    /// Runs a command without interaction.
    pub async fn exec(&self, workspace: &str, request: &ExecRequest) -> Result<ExecAnswer, Error> {
        self.post(&path(workspace, "exec"), request).await
    }

    /// Runs a long verb, and reports its steps. The service carries it to its end, whether the caller waits or not.
    pub(super) async fn long<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        body: &impl Serialize,
        report: Report<'_>,
    ) -> Result<T, Error> {
        let mut events = self.post_events(path, query, body).await?;
        while let Some(event) = events.next().await? {
            match event.event.as_str() {
                "progress" => report(event.value().map_err(|error| self.misunderstood(error))?),
                "result" => return event.value().map_err(|error| self.misunderstood(error)),
                "problem" => {
                    let problem: Problem = event.value().map_err(|error| self.misunderstood(error))?;
                    return Err(Error::Problem(Box::new(problem)));
                }
                _ => {}
            }
        }
        Err(self.misunderstood("it ended before it reported the result; 'wharf ls' shows the current state"))
    }
}

fn recreated(recreate: bool) -> Vec<(&'static str, &'static str)> {
    recreate.then_some(("recreate", "true")).into_iter().collect()
}
