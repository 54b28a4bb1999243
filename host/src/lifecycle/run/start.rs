//! Starting existing workspaces, and the actions of policies after a start.

use std::sync::Arc;
use std::time::Duration;

use crate::docker::ExecRequest;
use crate::hooks::{Action, Decision, Facts, FailureMode, Hook, HookRequest, Outcome, Subject, WorkspaceFacts};
use crate::lifecycle::create::facts::project_facts;
use crate::lifecycle::create::project::folder_owner;
use crate::lifecycle::observe::view::view;
use crate::lifecycle::{ACTION_TIME, Error, Lifecycle, WorkspaceView, local_time, now_ms};
use crate::store;
use crate::wire::Progress;
use crate::workspace::{Container, State, WorkspaceId};

/// The limit of the output of a policy's command that is kept for a message, in bytes.
const OUTPUT: usize = 4 << 10;

impl Lifecycle {
    /// Starts an existing workspace.
    ///
    /// # Errors
    /// [`Error::Records`], or the engine's.
    pub async fn start(&self, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        self.start_sidecars(&self.sidecars(id).await?).await?;
        match self.container(id).await? {
            Some(container) => self.start_existing(id, &container, &mut |_| {}).await,
            None => Err(Error::NotRunning { id: id.to_string(), state: State::Missing.to_string() }),
        }
    }

    pub(in crate::lifecycle) async fn start_existing(
        &self,
        id: &WorkspaceId,
        listed: &Container,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let stored = self.store.workspace(id)?;
        let unfinished = stored.as_ref().is_some_and(|workspace| workspace.start_unfinished);
        if listed.state == State::Running && !unfinished {
            progress(Progress::step(format!("{id} is already running")));
            let container = match &listed.actual {
                Some(_) => listed.clone(),
                None => self.docker.inspect(&listed.id).await?,
            };
            return self.finish_commands(stored, &container, progress).await;
        }
        self.starting(id, None, self.start_now(id, listed, stored, progress)).await
    }

    async fn start_now(
        &self,
        id: &WorkspaceId,
        listed: &Container,
        stored: Option<store::Workspace>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        // A broken chain must fail here, or the workspace would run without its policies having been called.
        self.chain().await?;
        match listed.state {
            State::Running => {}
            State::Paused => {
                self.check_stored_mounts(stored.as_ref(), listed).await?;
                self.go_on(&listed.id).await?;
            }
            _ => self.start_container(stored.as_ref(), listed).await?,
        }
        let container = self.docker.inspect(&listed.id).await?;
        let Some(mut workspace) = stored else {
            return view(None, Some(&container)).ok_or_else(|| Error::not_found(id.to_string()));
        };
        workspace.last_activity = Some(jiff::Timestamp::now());
        let begun = self.after_start(workspace, container, false, progress).await;
        if !matches!(begun, Ok(_) | Err(Error::LeftOff(_))) {
            // The workspace would run without the actions of its policies after a start.
            self.back_to(listed).await;
        }
        let (workspace, container) = begun?;
        view(Some(&workspace), Some(&container)).ok_or_else(|| Error::not_found(id.to_string()))
    }

    /// Undoes a start that could not be recorded. The caller reports the reason in any case.
    async fn back_to(&self, before: &Container) {
        let back = match before.state {
            State::Running => Ok(()),
            State::Paused => self.docker.pause(&before.id).await,
            _ => self.docker.stop(&before.id, self.loaded().config.engine.stop_timeout.0).await.map(drop),
        };
        if let Err(error) = back {
            tracing::warn!("{} is running, but its start cannot be recorded: {error}", before.name);
        }
    }

    /// Runs `post-start` and carries out its actions, then the commands of the project's `devcontainer.json`. A failure
    /// marks the workspace degraded; it keeps running.
    pub(in crate::lifecycle) async fn after_start(
        &self,
        mut workspace: store::Workspace,
        container: Container,
        first_start: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(store::Workspace, Container), Error> {
        workspace.trail.retain(|step| step.hook != Hook::PostStart);
        // The notes of a new workspace are hints about its project and its image.
        if !first_start {
            workspace.notes.clear();
        }
        workspace.degraded = None;
        workspace.stopped = None;
        workspace.start_unfinished = false;
        let request = self.request_about(&workspace, Hook::PostStart, Subject::Start { first_start });
        let request = self.with_project(request).await?;
        let values = self.secret_values(&container);
        let ruling = self.decide_without(request, &values, |chain, request| chain.collect(request)).await?;
        let (mut decisions, shadows) = ([ruling.decision], ruling.shadows);
        // The record has no secret values, but the actions may need them.
        let [Decision { outcome, .. }] = &decisions;
        let outcome = outcome.clone();
        self.record_without(&mut decisions, shadows, &values)?;
        let [decision] = decisions;
        let failed = decision.steps.iter().find_map(|step| {
            step.error
                .as_ref()
                .filter(|error| error.means != Some(FailureMode::Proceed))
                .map(|error| format!("the {} '{}' failed: {}", step.kind.as_str(), step.policy, error.message))
        });
        workspace.degraded = failed;
        workspace.trail.extend(decision.steps);
        let mut container = container;
        if let Outcome::Actions { actions, .. } = outcome {
            for (policy, action) in actions {
                let done = self.act(&mut workspace, &container, &policy, action).await;
                match done {
                    Ok(true) => container = self.docker.inspect(&container.id).await?,
                    Ok(false) => {}
                    Err(reason) => {
                        let reason = self.without_secrets(&container, reason);
                        tracing::warn!("{reason}");
                        workspace.degraded.get_or_insert(reason);
                    }
                }
            }
        }
        // A command may have run in it meanwhile.
        let used = self.store.workspace(&workspace.id)?.and_then(|stored| stored.last_activity);
        workspace.last_activity = workspace.last_activity.max(used);
        self.store.put_workspace(&workspace)?;
        let workspace = self.run_commands(workspace, &container, true, progress).await?;
        Ok((workspace, container))
    }

    /// Carries out one action on an inspected container. Returns whether the container's state changed.
    pub(in crate::lifecycle) async fn act(
        &self,
        workspace: &mut store::Workspace,
        container: &Container,
        policy: &str,
        action: Action,
    ) -> Result<bool, String> {
        match action {
            Action::Note(text) => {
                workspace.notes.push(self.without_secrets(container, text));
                Ok(false)
            }
            Action::Stop(why) => {
                let why = self.without_secrets(container, why);
                workspace.notes.push(format!("stopped by {policy}: {why}"));
                let timeout = self.loaded().config.engine.stop_timeout.0;
                let failed = |error: Error| format!("'{policy}' requested a stop ({why}): {error}");
                self.docker.stop(&container.id, timeout).await.map_err(|error| failed(error.into()))?;
                // Sidecars stop after their workspace, as in `stop`.
                for sidecar in self.sidecars(&workspace.id).await.map_err(failed)? {
                    let _lock = self.lock(&sidecar).await.map_err(failed)?;
                    Box::pin(self.stop_locked(&sidecar, "stop", None)).await.map_err(failed)?;
                }
                Ok(true)
            }
            Action::Run { command, timeout_ms } => {
                let words = self.scrub(container, &command.join(" "));
                let limit = Duration::from_millis(timeout_ms.clamp(ACTION_TIME.0, ACTION_TIME.1));
                let request = ExecRequest {
                    command,
                    working_dir: crate::lifecycle::secrets::scrub::working_dir(workspace, container),
                    ..ExecRequest::default()
                };
                let failed = |text: String| format!("'{policy}' ran '{words}': {text}");
                let run = tokio::time::timeout(limit, self.docker.exec_collect(&container.id, &request, OUTPUT));
                match run.await {
                    Err(_) => Err(failed(format!("it took longer than {} s", limit.as_secs()))),
                    Ok(Err(error)) => Err(failed(error.to_string())),
                    Ok(Ok(output)) if output.code == 0 => Ok(false),
                    Ok(Ok(output)) => {
                        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
                        let said = String::from_utf8_lossy(said);
                        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                        let last = self.scrub(container, last);
                        let hint = crate::lifecycle::create::owner::hint(
                            &workspace.draft,
                            std::path::Path::new(&workspace.project),
                            &last,
                        );
                        Err(failed(format!("it exited with code {}: {last}{hint}", output.code)))
                    }
                }
            }
        }
    }

    /// Returns a request about an existing workspace.
    pub(in crate::lifecycle) fn request_about(
        &self,
        workspace: &store::Workspace,
        hook: Hook,
        subject: Subject,
    ) -> HookRequest {
        let mut labels = self.loaded().config.workspace.labels.clone();
        labels.extend(workspace.draft.spec.labels.clone());
        // A sidecar of an earlier version lacks the labels of its workspace.
        let parent = workspace.part_of.as_ref().and_then(|parent| self.store.workspace(parent).ok().flatten());
        labels.extend(parent.into_iter().flat_map(|parent| parent.draft.spec.labels));
        self.secrets.redact_env(&mut labels);
        let facts = Facts {
            workspace: WorkspaceFacts {
                id: workspace.id.to_string(),
                name: workspace.name.clone(),
                project: workspace.project.clone(),
                labels,
                owner: folder_owner(std::path::Path::new(&workspace.project)),
            },
            caller: Some(self.caller()),
            local_time: Some(local_time()),
            image_config: workspace.image_config.clone(),
            ..Facts::default()
        };
        HookRequest { hook, now_ms: now_ms(), facts: Arc::new(facts), spec: workspace.draft.spec.clone(), subject }
    }

    async fn with_project(&self, mut request: HookRequest) -> Result<HookRequest, Error> {
        let wanted = self.chain().await?.wanted_files();
        let mut facts = request.facts.as_ref().clone();
        let path = std::path::PathBuf::from(&facts.workspace.project);
        let secrets = self.secrets.clone();
        let read = tokio::task::spawn_blocking(move || project_facts(&path, &wanted, &secrets)).await;
        match read.map_err(|error| Error::Internal(error.to_string()))? {
            Ok(project) => facts.project = project,
            // The folder may be gone while its workspace exists; policies then see no files.
            Err(error) => tracing::warn!("cannot read the project of {}: {error}", facts.workspace.id),
        }
        request.facts = Arc::new(facts);
        Ok(request)
    }
}
