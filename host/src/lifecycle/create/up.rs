//! `up`: decide, then make the decided workspace, or leave nothing behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::docker::{self, CreateRequest};
use crate::hooks::record::{Change, Draft, lookup};
use crate::hooks::redact::{REDACTED, Values};
use crate::lifecycle::ResolvedRequest;
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::create::image_config;
use crate::lifecycle::create::plan_diff::remembered;
use crate::lifecycle::observe::view::view;
use crate::lifecycle::recovery::reconcile::STRAGGLERS;
use crate::lifecycle::secrets::withheld_values::Withheld;
use crate::lifecycle::{Error, Lifecycle, Project, WorkspaceView};
use crate::store::{self, Verb};
use crate::wire::{Progress, WorkspaceRequest};
use crate::workspace::{
    Container, ContainerSpec, LABEL_ATTEMPT, LABEL_HOST, LABEL_MANAGED, LABEL_NAME, LABEL_PART_OF, LABEL_PREFIX,
    LABEL_PROJECT, LABEL_SPEC, LABEL_WORKSPACE, State, WorkspaceId,
};

/// Whether `up` may replace the existing workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recreate {
    /// A difference is an error.
    Never,
    /// A difference replaces it.
    IfDifferent,
}

impl Recreate {
    /// Returns the value for a flag that allows a replacement.
    pub fn if_different(replace: bool) -> Self {
        if replace { Self::IfDifferent } else { Self::Never }
    }
}

/// Returns whether a recorded value had a secret in it.
fn has_stars(value: &serde_json::Value) -> bool {
    value.to_string().contains(REDACTED)
}

impl Lifecycle {
    /// Returns a checked project folder, and its existing or new workspace.
    ///
    /// # Errors
    /// See [`Project::resolve`].
    pub fn project(&self, path: &Path, name: Option<&str>) -> Result<Project, Error> {
        Project::resolve(path, name, &self.loaded(), &self.store.known_workspaces()?)
    }

    /// Makes the workspace of a project, or starts the existing one.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Differs`], and all failures of engine and store. After an error nothing that this
    /// call made is left.
    pub async fn up(
        &self,
        request: &WorkspaceRequest,
        recreate: Recreate,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        // The future is boxed: the state of a verb is large, and a debug build copies it at each call.
        let request = self.resolve(request)?;
        Box::pin(self.up_resolved(&request, recreate, progress)).await
    }

    /// Checks a request in itself.
    ///
    /// # Errors
    /// [`Error::Request`] with the invalid flag.
    pub fn check_request(&self, request: &WorkspaceRequest) -> Result<(), Error> {
        self.resolve(request).map(drop)
    }

    pub(in crate::lifecycle) fn resolve(&self, request: &WorkspaceRequest) -> Result<ResolvedRequest, Error> {
        ResolvedRequest::of(request, self.loaded().config.workspace.health_check.as_ref())
    }

    /// [`Lifecycle::up`] with a resolved request.
    pub(in crate::lifecycle) async fn up_resolved(
        &self,
        request: &ResolvedRequest,
        recreate: Recreate,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let project = self.project(&request.project, request.name.as_deref())?;
        let _lock = self.lock(&project.id).await?;
        // While its lock is held, it gets no other sidecars.
        let id = project.id.clone();
        let request = &self.over_recorded(&id, request).await?;
        let (view, sidecars) = tokio::join!(self.up_locked(project, request, recreate, progress), self.sidecars(&id));
        let mut view = view?;
        // A command that ends at once is a failure, and it may have ended since the start. The engine notices late.
        if view.state == State::Running
            && let Some(container) = &view.container_id
            && self.engine_info().await?.init_available
            && self.docker.started(container).await?.state != State::Running
        {
            view = self.inspect(&id).await?;
        }
        // A policy may have stopped it at once.
        if view.state == State::Running {
            self.start_sidecars(&sidecars?).await?;
        }
        Ok(view)
    }

    /// Returns a request over the recorded one of an existing workspace: `up` without flags means the same workspace.
    /// Records hold no secrets, so a recorded value with stars comes from the container.
    async fn over_recorded(&self, id: &WorkspaceId, request: &ResolvedRequest) -> Result<ResolvedRequest, Error> {
        let stored = if request.fresh { None } else { self.store.workspace(id)? };
        let Some(mut stored) = stored else { return Ok(request.clone()) };
        let by_request = |change: &&mut Change| change.by.policy == "request" && has_stars(&change.value);
        if stored.draft.history.iter_mut().any(|change| by_request(&change)) {
            let actual = match self.container(id).await? {
                Some(container) => self.docker.inspect(&container.id).await?.actual,
                None => None,
            };
            let actual = serde_json::to_value(actual).map_err(|error| Error::Internal(error.to_string()))?;
            for change in stored.draft.history.iter_mut().filter(by_request) {
                if let Some(value) = lookup(&actual, &change.field) {
                    change.value = value;
                }
            }
            let request = remembered(&stored, request.clone());
            return match request.missing_secret() {
                // Without a container, only the caller has the value.
                Some(field) if actual.is_null() => {
                    Err(Error::Request(format!("the value of {field} is a secret and was not recorded; name it again")))
                }
                _ => Ok(request),
            };
        }
        Ok(remembered(&stored, request.clone()))
    }

    /// The part that a workspace and a sidecar have in common; the lock is held.
    pub(in crate::lifecycle) async fn up_locked(
        &self,
        project: Project,
        request: &ResolvedRequest,
        recreate: Recreate,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let id = project.id.clone();
        let (asked, existing, guess) = self.ask_for(project, request).await?;
        let decided = self.decide_up(&asked, Some(guess)).await?;
        let init = asked.info.init_available;
        if let Some(container) = existing {
            let differences = self.compare(&decided, &container).await?;
            if differences.is_empty() {
                self.write_secrets(&id, &decided.secret_files)?;
                let record = asked.project.devcontainer.as_ref().map(|asked| asked.record(&decided.withheld));
                self.keep_record(&id, record)?;
                if container.state != State::Running && decided.project.part_of.is_none() {
                    // Sidecars start first, as in `start`.
                    self.start_sidecars(&self.sidecars(&id).await?).await?;
                }
                return self.start_existing(&id, &container, progress).await;
            }
            if recreate == Recreate::Never {
                let name = decided.project.name.rsplit_once('/').map(|(_, name)| name.to_owned());
                let sidecar = name.filter(|_| decided.project.part_of.is_some());
                return Err(Error::Differs { id: id.to_string(), sidecar, differences });
            }
            // Every step that can fail without touching the old container comes first.
            let decided = self.with_image(&asked, decided, progress).await?;
            return self.replace(&id, &container, decided, init, progress).await;
        }
        let entry = self.store.begin(&id, Verb::Create)?;
        match self.with_image(&asked, decided, progress).await {
            Ok(decided) => self.create(entry, decided, init, progress).await,
            Err(error) => Err(self.undo(entry, &id, error).await),
        }
    }

    /// Makes the decided workspace; its entry in the journal is open.
    pub(in crate::lifecycle) async fn create(
        &self,
        entry: i64,
        decided: Decided,
        init: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let id = decided.project.id.clone();
        match self.make(entry, &decided, init).await {
            Ok(container) => {
                let workspace = store::Workspace {
                    id: id.clone(),
                    name: decided.project.name,
                    project: decided.project.path.display().to_string(),
                    part_of: decided.project.part_of.map(|parent| parent.id),
                    created_at: container.created_at.unwrap_or_else(jiff::Timestamp::now),
                    container_id: container.id.clone(),
                    image_digest: self.image_digest(&container, &decided.local).await,
                    draft: self.redacted(decided.draft, &decided.withheld),
                    trail: decided.trail,
                    decisions: decided.decisions,
                    notes: decided.project.hints,
                    degraded: None,
                    devcontainer: decided.project.devcontainer.map(|asked| asked.record(&decided.withheld)),
                    no_devcontainer: decided.project.no_devcontainer,
                    places: decided.places,
                    image_config: decided.image.map(|mut image| {
                        image_config::clean(&mut image, &Values::of(&decided.withheld.values()));
                        image
                    }),
                    last_activity: Some(jiff::Timestamp::now()),
                    stopped: None,
                    start_unfinished: true,
                };
                if let Err(error) = self.store.put_workspace(&workspace) {
                    return Err(self.undo(entry, &id, error.into()).await);
                }
                // From here on the workspace is made. The entry stays open until its policies were run, so that the
                // next process knows if they were not.
                let begun = self.after_start(workspace, container, true, progress).await;
                if !matches!(begun, Ok(_) | Err(Error::LeftOff(_)))
                    && let Err(error) = self.mark_unfinished(&id)
                {
                    tracing::warn!("{id} runs without its post-start policies, and cannot record this: {error}");
                }
                self.store.done(entry, "done")?;
                let (workspace, container) = begun?;
                view(Some(&workspace), Some(&container))
                    .ok_or_else(|| Error::Internal("a workspace without an id".into()))
            }
            // The engine's message about a command repeats its words.
            Err(error) => Err(self.undo(entry, &id, error.without(&Values::of(&decided.withheld.values()))).await),
        }
    }

    /// The steps: network -> create -> start -> compare.
    async fn make(&self, entry: i64, decided: &Decided, init: bool) -> Result<Container, Error> {
        let (id, spec) = (&decided.project.id, &decided.draft.spec);

        self.check_volumes(&decided.project, &decided.draft).await?;
        self.write_secrets(id, &decided.secret_files)?;
        let parent = decided.project.part_of.as_ref().map(|parent| &parent.id);
        let network = self.placement(&decided.project, spec);
        // Until the container is on it, the network must not be taken for unused.
        let _networks = self.lock_networks(false).await?;
        if let Some(network) = &network {
            self.make_network(network).await?;
        }

        let mut actual_spec = spec.clone();
        decided.withheld.fill_in(&mut actual_spec);
        let labels = self.labels(entry, decided);
        // A sidecar is reachable only by its own workspace, which knows it by its short name.
        let alias = decided.project.name.rsplit_once('/').filter(|_| parent.is_some()).map(|(_, name)| name.to_owned());
        let aliases: Vec<String> = alias.into_iter().collect();
        let new_volumes = self.make_volumes(decided, &labels).await?;
        let seccomp = self.seccomp_profile(&spec.security.seccomp)?;
        let mut request = CreateRequest {
            name: &id.container_name(),
            spec: &actual_spec,
            labels: &labels,
            network_name: network.as_ref().map(|network| network.name.as_str()),
            aliases: &aliases,
            init,
            seccomp_profile: seccomp.as_deref(),
            enforce_disk: spec.resources.disk.is_some() && self.engine_info().await?.disk_limit_possible(),
        };
        let created = self.create_container(id, &mut request).await?;
        for warning in &created.warnings {
            tracing::warn!("the engine warns: {warning}");
        }
        self.prepare_home(decided, &created.id, &new_volumes).await?;
        self.join_sidecars(&decided.project, spec, &created.id).await?;
        self.check_interrupt()?;
        let places = self.check_mounts(id, spec, &decided.project.path, Some(&decided.places))?;
        self.docker.start(&created.id).await?;
        self.compare_mounts(&created.id, spec, &places).await?;
        self.check_interrupt()?;

        // With an init process, the engine reports no error for a command that does not exist.
        let container =
            if init { self.docker.started(&created.id).await? } else { self.docker.inspect(&created.id).await? };
        if container.state != State::Running
            && let Some(error) = self.docker.refused_command(&container).await?
        {
            return Err(error.into());
        }
        self.check_image_id(decided, &container).await?;
        self.check_as_decided(&container, &actual_spec, request.enforce_disk)?;
        if container.state != State::Running {
            let code = container.exit_code.map_or(String::new(), |code| format!(" with code {code}"));
            tracing::warn!("the command of the workspace exited immediately{code}; see 'wharf logs'");
        }
        Ok(container)
    }

    /// Returns the labels of a container, which name its owner and its attempt.
    fn labels(&self, entry: i64, decided: &Decided) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (LABEL_MANAGED.to_owned(), "true".to_owned()),
            (LABEL_HOST.to_owned(), self.store.host_id().to_owned()),
            (LABEL_WORKSPACE.to_owned(), decided.project.id.to_string()),
            (LABEL_NAME.to_owned(), decided.project.name.clone()),
            (LABEL_PROJECT.to_owned(), decided.project.path.display().to_string()),
            (LABEL_SPEC.to_owned(), decided.draft.spec.digest()),
            (LABEL_ATTEMPT.to_owned(), entry.to_string()),
        ]);
        labels.extend(decided.project.part_of.as_ref().map(|parent| (LABEL_PART_OF.to_owned(), parent.id.to_string())));
        // A container inherits its image's labels, but an image must not determine the owner of a container.
        let inherited = decided.image.iter().flat_map(|image| image.labels.keys());
        for name in inherited.filter(|name| name.starts_with(LABEL_PREFIX)) {
            labels.entry(name.clone()).or_default();
        }
        labels
    }

    /// Creates the container. Waits for the container of an undone creation, which may come late and have the name.
    async fn create_container(
        &self,
        id: &WorkspaceId,
        request: &mut CreateRequest<'_>,
    ) -> Result<docker::Created, Error> {
        let begin = tokio::time::Instant::now();
        loop {
            match self.docker.create(request).await {
                // The container of an undone creation came late, and has the name.
                Err(docker::Error::NameTaken { .. })
                    if begin.elapsed() < STRAGGLERS && self.remove_stragglers(id).await? =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // Only an attempt shows whether the file system below has quotas. Without quotas, the limit is watched.
                Err(docker::Error::Unsupported { .. }) if request.enforce_disk => request.enforce_disk = false,
                other => return Ok(other?),
            }
        }
    }

    /// Compares the engine's report with the decision.
    fn check_as_decided(&self, container: &Container, spec: &ContainerSpec, enforce_disk: bool) -> Result<(), Error> {
        if let Some(actual) = &container.actual {
            let mut differences = docker::differences(spec, actual, enforce_disk);
            // The message may name the secret that differs, but not its values.
            for difference in &mut differences {
                if self.secrets.contains_field(&difference.field) {
                    "\"***\"".clone_into(&mut difference.decided);
                    "\"***\"".clone_into(&mut difference.actual);
                }
            }
            if !differences.is_empty() {
                let each =
                    differences.iter().map(|d| format!("{} is {}, but {} was decided", d.field, d.actual, d.decided));
                return Err(Error::NotAsDecided(each.collect()));
            }
        }
        Ok(())
    }

    fn seccomp_profile(&self, name: &str) -> Result<Option<String>, Error> {
        if name == "default" || name == "unconfined" {
            return Ok(None);
        }
        let wrong = |cause: String| Error::Request(format!("security.seccomp: the profile '{name}' {cause}"));
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(wrong("is not a plain name".into()));
        }
        let path = self.loaded().base().join("seccomp").join(format!("{name}.json"));
        let text = crate::trust::read_to_string(&path, 1 << 20)
            .map_err(|error| wrong(format!("cannot be read from '{}': {error}", path.display())))?;
        serde_json::from_str::<serde_json::Value>(&text)
            .map_err(|error| wrong(format!("is not JSON ({}): {error}", path.display())))?;
        Ok(Some(text))
    }

    fn redacted(&self, mut draft: Draft, withheld: &Withheld) -> Draft {
        self.secrets.redact_draft(&mut draft, &withheld.values());
        draft
    }
}
