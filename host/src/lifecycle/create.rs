//! `up`: decide, then make what was decided, or leave nothing behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::binds::Places;
use super::devcontainer::ask;
use super::facts::{engine_facts, image_facts};
use super::images::ImageBuild;
use super::plan::decide_create;
use super::reconcile::STRAGGLERS;
use super::secret_files::{self, SecretBytes};
use super::view::view;
use super::withheld::Withheld;
use super::{Error, Lifecycle, Project, WorkspaceRequest, WorkspaceView};
use crate::docker::{self, CreateRequest, PullProgress};
use crate::hooks::record::Draft;
use crate::hooks::redact::Values;
use crate::hooks::{Facts, Step};
use crate::store::{self, Verb};
use crate::workspace::{
    Container, LABEL_ATTEMPT, LABEL_HOST, LABEL_MANAGED, LABEL_NAME, LABEL_PART_OF, LABEL_PREFIX, LABEL_PROJECT,
    LABEL_SPEC, LABEL_WORKSPACE, State,
};

/// Whether `up` may replace what exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recreate {
    /// A difference is an error.
    Never,
    /// A difference replaces it.
    IfDifferent,
}

/// What `up` reports while it works.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// What is done now, e.g. `pulling node:22`.
    Step(String),
    /// A layer of an image.
    Pull(PullProgress),
    /// A line of an image's build.
    Build(String),
}

/// Everything that making a container needs.
pub(super) struct Decided {
    pub(super) project: Project,
    pub(super) draft: Draft,
    pub(super) withheld: Withheld,
    pub(super) secret_files: BTreeMap<String, SecretBytes>,
    /// What the image that the request builds is built from.
    pub(super) build: Option<ImageBuild>,
    trail: Vec<Step>,
    /// Ids of the records of what was decided.
    decisions: Vec<uuid::Uuid>,
    /// The files of the host that it mounts, and its project.
    pub(super) places: Places,
    /// Images that the engine had before.
    pub(super) local: Vec<docker::LocalImage>,
}

impl Lifecycle {
    /// A project folder, checked, and the workspace that it has or gets.
    ///
    /// # Errors
    /// See [`Project::resolve`].
    pub fn project(&self, path: &Path, name: Option<&str>) -> Result<Project, Error> {
        Project::resolve(path, name, &self.loaded(), &self.store.known_workspaces()?)
    }

    /// Makes the workspace of a project, or starts the one that exists.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Differs`], and everything that engine and store can fail with. After an error
    /// nothing that this call made is left.
    pub async fn up(
        &self,
        request: &WorkspaceRequest,
        recreate: Recreate,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let project = self.project(&request.project, request.name.as_deref())?;
        let _lock = self.lock(&project.id).await?;
        // With its lock held it gets no others meanwhile.
        let id = project.id.clone();
        let (view, sidecars) = tokio::join!(self.up_locked(project, request, recreate, progress), self.sidecars(&id));
        let view = view?;
        // A policy may have stopped it at once.
        if view.state == State::Running {
            self.start_sidecars(&sidecars?).await?;
        }
        Ok(view)
    }

    /// What a workspace and a sidecar have in common; the lock is held.
    pub(super) async fn up_locked(
        &self,
        mut project: Project,
        request: &WorkspaceRequest,
        recreate: Recreate,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let id = project.id.clone();
        project.secrets = secret_files::folder(self.store.dir(), &id, request);
        let (info, images, existing) =
            tokio::join!(self.engine_info(), self.docker.local_images(), self.container(&id));
        let (info, local, existing) = (info?, images?, existing?);
        let facts = Facts {
            workspace: project.facts(request, &self.loaded()),
            engine: engine_facts(&info),
            local_images: image_facts(local.clone()),
            caller: Some(self.caller()),
            ..Facts::default()
        };

        project.devcontainer = ask(&project, request, &self.loaded(), &facts.engine).await?.map(Arc::new);
        let asked = project.devcontainer.clone();
        let named = request.image.clone();
        let given = request.secrets.clone();
        let request = request.clone().with_build(&project, &self.loaded(), self.store.dir()).await?;
        let build = request.build.clone().or_else(|| asked.as_ref()?.build.clone());
        let built = match &asked {
            Some(asked) if request.image.is_none() => asked.built().map(str::to_owned),
            _ => request.image.clone().filter(|_| build.is_some()),
        };
        let (loaded, secrets) = (self.loaded(), self.secrets.clone());
        let at = project.clone();
        let decided = self
            .decide(id.as_str(), move |chain| decide_create(chain, &loaded, &secrets, &at, &request, facts))
            .await?;
        let (mut decision, withheld) = decided?;
        let values = withheld.values();
        if let Some(refusal) = &mut decision.refusal {
            self.secrets.redact_refusal(refusal, &decision.decisions, &values);
        }
        self.record_without(&mut decision.decisions, &values)?;
        let decisions: Vec<_> = decision.decisions.iter().map(|decision| decision.id).collect();
        let trail: Vec<Step> = decision.decisions.into_iter().flat_map(|decision| decision.steps).collect();
        if let Some(refusal) = decision.refusal {
            return Err(Error::Denied { refusal, trail });
        }
        let decided = Decided {
            project,
            draft: decision.draft,
            withheld,
            secret_files: given,
            build: None,
            trail,
            decisions,
            places: Places::new(),
            local,
        };
        // Policies may have chosen another image; then nothing is built.
        let wanted = decided.draft.spec.image.as_ref().map(|image| &image.reference);
        let build = build.filter(|_| built.as_ref() == wanted);
        self.check_image(&decided.project, &decided.draft, named.as_deref()).await?;
        let places = self.check_mounts(&id, &decided.draft.spec, &decided.project.path, None)?;
        let mut decided = Decided { build, places, ..decided };
        self.settle_by_image(&mut decided.draft).await?;
        info.check("create the container", &decided.draft.spec)?;
        if decided.project.secrets.is_some() && !self.docker.is_local() {
            return Err(Error::Request(secret_files::REMOTE.into()));
        }

        if let Some(container) = existing {
            let differences = self.compare(&decided, &container).await?;
            if differences.is_empty() {
                self.write_secrets(&id, &decided.secret_files)?;
                self.keep_record(&id, asked.map(|asked| asked.record(&decided.withheld)))?;
                if container.state != State::Running && decided.project.part_of.is_none() {
                    // First, as with a start.
                    self.start_sidecars(&self.sidecars(&id).await?).await?;
                }
                return self.start_existing(&id, &container, progress).await;
            }
            if recreate == Recreate::Never {
                let name = decided.project.name.rsplit_once('/').map(|(_, name)| name.to_owned());
                let sidecar = name.filter(|_| decided.project.part_of.is_some());
                return Err(Error::Differs { id: id.to_string(), sidecar, differences });
            }
            // Everything that can fail without touching the old one comes first.
            self.check_network(&decided).await?;
            self.fetch_image(&decided, progress).await?;
            return self.replace(&id, &container, decided, info.init_available, progress).await;
        }
        self.check_network(&decided).await?;
        self.create(decided, info.init_available, progress).await
    }

    pub(super) async fn create(
        &self,
        mut decided: Decided,
        init: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let id = decided.project.id.clone();
        let entry = self.store.begin(&id, Verb::Create)?;
        match self.make(entry, &mut decided, init, progress).await {
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
                    notes: Vec::new(),
                    degraded: None,
                    devcontainer: decided.project.devcontainer.map(|asked| asked.record(&decided.withheld)),
                    places: decided.places,
                    last_activity: Some(jiff::Timestamp::now()),
                    stopped: None,
                    start_unfinished: true,
                };
                if let Err(error) = self.store.put_workspace(&workspace) {
                    return Err(self.undo(entry, &id, error.into()).await);
                }
                // From here on it is made. Open until its policies were asked: the next process then knows if they were not.
                let begun = self.after_start(workspace, container, true, progress).await;
                if !matches!(begun, Ok(_) | Err(Error::LeftOff(_)))
                    && let Err(error) = self.mark_unfinished(&id)
                {
                    tracing::warn!(
                        "{id} runs without its post-start policies, which could not be written down: {error}"
                    );
                }
                self.store.done(entry, "done")?;
                let (workspace, container) = begun?;
                view(Some(&workspace), Some(&container)).ok_or_else(|| Error::Internal("a workspace without id".into()))
            }
            // What the engine says of a command repeats its words.
            Err(error) => Err(self.undo(entry, &id, error.without(&Values::of(&decided.withheld.values()))).await),
        }
    }

    /// Pull -> network -> create -> start -> compare.
    async fn make(
        &self,
        entry: i64,
        decided: &mut Decided,
        init: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Container, Error> {
        self.fetch_image(decided, progress).await?;
        self.check_interrupt()?;
        // An image that was fetched or built just now says more than the one of before.
        self.settle_by_image(&mut decided.draft).await?;
        let decided = &*decided;
        let (id, spec) = (&decided.project.id, &decided.draft.spec);

        self.check_volumes(&decided.project, &decided.draft).await?;
        self.write_secrets(id, &decided.secret_files)?;
        let parent = decided.project.part_of.as_ref().map(|parent| &parent.id);
        let network = self.placement(&decided.project, spec);
        // Until the container is on it, it must not be taken for unused.
        let _networks = self.lock_networks(false).await?;
        if let Some(network) = &network {
            self.make_network(network).await?;
        }

        let mut actual_spec = spec.clone();
        decided.withheld.fill_in(&mut actual_spec);
        let mut labels = BTreeMap::from([
            (LABEL_MANAGED.to_owned(), "true".to_owned()),
            (LABEL_HOST.to_owned(), self.store.host_id().to_owned()),
            (LABEL_WORKSPACE.to_owned(), id.to_string()),
            (LABEL_NAME.to_owned(), decided.project.name.clone()),
            (LABEL_PROJECT.to_owned(), decided.project.path.display().to_string()),
            (LABEL_SPEC.to_owned(), spec.digest()),
            (LABEL_ATTEMPT.to_owned(), entry.to_string()),
        ]);
        labels.extend(parent.map(|parent| (LABEL_PART_OF.to_owned(), parent.to_string())));
        // A container inherits its image's labels, and an image says nothing about whose a container is.
        let reference = spec.image.as_ref().map(|image| image.reference.as_str()).unwrap_or_default();
        let inherited = self.docker.image(reference).await?.map(|image| image.labels).unwrap_or_default();
        for name in inherited.into_keys().filter(|name| name.starts_with(LABEL_PREFIX)) {
            labels.entry(name).or_default();
        }
        // A sidecar is only with its own workspace, which knows it by its short name.
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
        let begin = tokio::time::Instant::now();
        let created = loop {
            match self.docker.create(&request).await {
                // The container of a creation that was undone came late, and has the name.
                Err(docker::Error::NameTaken { .. })
                    if begin.elapsed() < STRAGGLERS && self.remove_stragglers(id).await? =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // Whether the file system below has quotas, only an attempt tells; without, the limit is watched.
                Err(docker::Error::Unsupported { .. }) if request.enforce_disk => request.enforce_disk = false,
                other => break other?,
            }
        };
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

        // With an init process the engine starts a command that does not exist without complaint.
        let container =
            if init { self.docker.started(&created.id).await? } else { self.docker.inspect(&created.id).await? };
        if container.state != State::Running
            && let Some(error) = self.docker.refused_command(&container).await?
        {
            return Err(error.into());
        }
        if let Some(actual) = &container.actual {
            let mut differences = docker::differences(&actual_spec, actual, request.enforce_disk);
            // Which secret differs may be said, its values may not.
            for difference in &mut differences {
                if self.secrets.contains_field(&difference.field) {
                    "\"***\"".clone_into(&mut difference.decided);
                    "\"***\"".clone_into(&mut difference.actual);
                }
            }
            if !differences.is_empty() {
                let each =
                    differences.iter().map(|d| format!("{} is {}, decided was {}", d.field, d.actual, d.decided));
                return Err(Error::NotAsDecided(each.collect()));
            }
        }
        if container.state != State::Running {
            let code = container.exit_code.map_or(String::new(), |code| format!(" with code {code}"));
            tracing::warn!("the workspace's command ended at once{code}; see 'wharf logs'");
        }
        Ok(container)
    }

    fn seccomp_profile(&self, name: &str) -> Result<Option<String>, Error> {
        if name == "default" || name == "unconfined" {
            return Ok(None);
        }
        let wrong = |cause: String| Error::Request(format!("security.seccomp: the profile '{name}' {cause}"));
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(wrong("is no plain name".into()));
        }
        let path = self.loaded().base().join("seccomp").join(format!("{name}.json"));
        let text = crate::trust::read_to_string(&path, 1 << 20)
            .map_err(|error| wrong(format!("cannot be read from {}: {error}", path.display())))?;
        serde_json::from_str::<serde_json::Value>(&text)
            .map_err(|error| wrong(format!("is not JSON ({}): {error}", path.display())))?;
        Ok(Some(text))
    }

    fn redacted(&self, mut draft: Draft, withheld: &Withheld) -> Draft {
        self.secrets.redact_draft(&mut draft, &withheld.values());
        draft
    }
}
