//! Plans, and explanations of fields.
//!
//! Every method fails with [`Error`].

use std::path::Path;
use std::sync::Arc;

use super::{Backend, Error, elsewhere, named};
use crate::client::{self, Client};
use crate::hooks::Hook;
use crate::hooks::chain::LookedAt;
use crate::lifecycle::{self, Plan, PlanDiff, Planner, Project};
use crate::records::{Target, Why, find_stored};
use crate::store::Workspace;
use crate::wire::{ErrorKind, WorkspaceRequest};
use crate::workspace::WorkspaceId;

/// The workspace of a comparison.
#[derive(Debug)]
pub enum DiffOf<'a> {
    /// This workspace.
    Workspace(&'a Target),
    /// The workspace that the request would make.
    Request,
}

/// A comparison, with the details for its output.
#[derive(Debug)]
pub struct PlannedDiff {
    /// The comparison.
    pub diff: PlanDiff,
    /// The project of the workspace.
    pub project: String,
    /// Details of a denial, and whether people see them at once.
    pub detail: Option<(String, bool)>,
}

impl Backend {
    /// Returns the plan for a request; nothing is made. `offline` leaves the engine out.
    ///
    /// # Errors
    /// See [`Error`]; a denial is part of the plan.
    pub async fn plan(&self, mut request: WorkspaceRequest, offline: bool) -> Result<Plan, Error> {
        self.place(&mut request)?;
        match &self.service {
            Some(client) if offline => Err(no_offline(client)),
            Some(client) => Ok(client.plan(&request).await?),
            None => self.plan_here(&request, None, offline).await,
        }
    }

    /// Returns the changes that a workspace would get if it were recreated with this request over its original one.
    /// `offline` leaves the engine out.
    ///
    /// # Errors
    /// See [`Error`]; a denial is part of the comparison.
    pub async fn plan_diff(
        &self,
        of: DiffOf<'_>,
        mut request: WorkspaceRequest,
        offline: bool,
    ) -> Result<PlannedDiff, Error> {
        if matches!(of, DiffOf::Workspace(_)) {
            // A placeholder: the project is that of the workspace.
            request.project = "/".into();
        }
        self.place(&mut request)?;
        let Some(client) = &self.service else {
            let stored = self.compared(of, &request).await?;
            let plan = self.plan_here(&request, Some(&stored), offline).await?;
            let diff = PlanDiff::of(&stored, &plan);
            return Ok(PlannedDiff { diff, project: plan.project, detail: plan.detail });
        };
        if offline {
            return Err(no_offline(client));
        }
        let (name, guessed) = match of {
            DiffOf::Workspace(target) => (named(client, target).await?, false),
            DiffOf::Request => (of_request(client, &request).await?, true),
        };
        let view = match client.inspect(&name).await {
            Err(client::Error::Problem(problem)) if guessed && problem.kind() == ErrorKind::NotFound => {
                return Err(lifecycle::Error::not_found(name).into());
            }
            view => view?,
        };
        // A placeholder that services require: the project is that of the workspace.
        request.project = "/".into();
        let diff = client.plan_diff(&name, request).await?;
        Ok(PlannedDiff { diff, project: view.project, detail: None })
    }

    async fn plan_here(
        &self,
        request: &WorkspaceRequest,
        again: Option<&Workspace>,
        offline: bool,
    ) -> Result<Plan, Error> {
        let app = &self.app;
        let mut chain = app.prepared_chain(&Hook::CREATE)?;
        // A plan creates no state, and its calls do not count in the failure statistics of policies.
        let mut known = Vec::new();
        if app.state_dir.join("wharf.db").exists() {
            let store = app.store()?;
            known = store.known_workspaces()?;
            chain = chain.with_standings(Arc::new(LookedAt(Arc::new(store))));
        }
        let docker = if offline { None } else { app.docker("").await.ok() };
        let planner = Planner {
            loaded: &app.loaded,
            chain: &chain,
            docker: docker.as_ref(),
            state_dir: &app.state_dir,
            known: &known,
        };
        Ok(match again {
            Some(stored) => Box::pin(planner.plan_again(stored, request)).await?,
            None => Box::pin(planner.plan(request)).await?,
        })
    }

    /// Returns the workspace of a comparison, from the store of this machine.
    async fn compared(&self, of: DiffOf<'_>, request: &WorkspaceRequest) -> Result<Workspace, Error> {
        let store = self.store().await?;
        let stored = match of {
            DiffOf::Workspace(target) => find_stored(&store, target)?,
            DiffOf::Request => {
                let (known, loaded) = (store.known_workspaces()?, &self.app.loaded);
                let project = Project::resolve(&request.project, request.name.as_deref(), loaded, &known)?;
                let missing = || lifecycle::Error::not_found(project.id.to_string());
                store.workspace(&project.id)?.ok_or_else(missing)?
            }
        };
        if let Some(parent) = &stored.part_of {
            let text = format!("{} is a sidecar of {parent} and is planned with it", stored.id);
            return Err(lifecycle::Error::Request(text).into());
        }
        Ok(stored)
    }

    /// Returns the explanation of the fields of a workspace; of one field, or of all. It needs no engine.
    pub async fn why(&self, target: &Target, field: Option<&str>) -> Result<Why, Error> {
        if let Some(client) = &self.service {
            return Ok(client.why(&named(client, target).await?, field).await?);
        }
        let store = self.store().await?;
        let workspace = find_stored(&store, target)?;
        Ok(crate::records::why(&store, &self.app.loaded, &workspace, field)?)
    }
}

fn no_offline(client: &Client) -> Error {
    let text = format!("--offline uses no engine, but the service at {} uses its own", client.server());
    Error::usage(text, "omit --offline or --server")
}

/// Returns the workspace that a request would make, identified by its folder on this machine.
async fn of_request(client: &Client, request: &WorkspaceRequest) -> Result<String, Error> {
    if !client.is_local() {
        return Err(elsewhere(client, "a folder"));
    }
    let real = Path::new(&request.project).canonicalize().map_err(|error| lifecycle::Error::Project {
        path: request.project.clone(),
        cause: error.to_string(),
        remedy: "name an existing folder that you can read",
    })?;
    let last = real.file_name().map_or("workspace".into(), |name| name.to_string_lossy());
    let name = request.name.as_deref().unwrap_or(&last);
    let real = real.to_string_lossy();
    let all = client.list().await?;
    let found = all.iter().find(|view| view.part_of.is_none() && view.name == name && view.project == real);
    Ok(found.map_or_else(|| WorkspaceId::derive(name, &real), |view| view.id.clone()).to_string())
}
