//! `update`: new limits for an existing workspace, without recreating it.

use std::sync::Arc;

use crate::docker;
use crate::hooks::adjust::diff;
use crate::hooks::record::Owner;
use crate::hooks::redact::Values;
use crate::hooks::{Adjustment, Facts, Hook, Step, Subject};
use crate::lifecycle::create::facts::{engine_facts, image_facts, project_facts};
use crate::lifecycle::create::image_config;
use crate::lifecycle::create::resolved_request::limits;
use crate::lifecycle::observe::view::view;
use crate::lifecycle::{Difference, Error, Lifecycle, WorkspaceView, now_ms};
use crate::store::{Verb, Workspace};
use crate::wire::UpdateRequest;
use crate::workspace::{Container, ContainerSpec, State, WorkspaceId};

/// The fields that an engine can change while a container exists.
const CHANGEABLE: [&str; 4] = ["resources.cpus", "resources.memory", "resources.pids", "restart"];

impl Lifecycle {
    /// Gives a workspace new limits. Every policy of a creation is evaluated on the resulting workspace. Decisions
    /// beyond the limits would need a new container, and are refused here.
    ///
    /// `fields` are adjustments with their original notation.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Differs`] when more than limits would change, and the engine's; the limits then stay
    /// unchanged.
    pub async fn update(&self, id: &WorkspaceId, request: &UpdateRequest) -> Result<WorkspaceView, Error> {
        let fields = limits(request)?;
        let _lock = self.lock(id).await?;
        let mut stored = self.store.workspace(id)?.ok_or_else(|| Error::not_found(id.to_string()))?;
        let container = self
            .container(id)
            .await?
            .ok_or_else(|| Error::NotRunning { id: id.to_string(), state: State::Missing.to_string() })?;
        let (info, images) = tokio::join!(self.engine_info(), self.docker.local_images());
        let info = info?;
        let about = self.request_about(&stored, Hook::PreCreate, Subject::Container);
        let mut facts =
            Facts { engine: engine_facts(&info), local_images: image_facts(images?), ..about.facts.as_ref().clone() };
        if facts.image_config.is_none() {
            // A workspace of an earlier version has no recorded image configuration, so that of its container's image
            // is used.
            let image = self.docker.image(&container.image_id).await?;
            facts.image_config =
                image.map(|image| image_config::of_image(&image)).transpose().map_err(Error::Request)?;
        }
        let mut draft = stored.draft.clone();
        for (adjustment, words) in &fields {
            adjustment.check().map_err(|text| Error::Request(format!("{words}: {text}")))?;
            draft.set(adjustment, Owner::host("request", Some(words.clone())), None);
        }
        let project = std::path::PathBuf::from(&stored.project);
        let secrets = self.secrets.clone();
        // The draft is stored without secret values; only the container has them.
        let values = self.secret_values(&self.docker.inspect(&container.id).await?);
        secrets.redact_draft(&mut draft, &values);
        let known = values.clone();
        let decide = move |chain: &crate::hooks::Chain| {
            // The folder may be gone while its workspace exists; policies then see no files.
            match project_facts(&project, &chain.wanted_files(), &secrets) {
                Ok(mut project) => {
                    let known = Values::of(&known);
                    project.contents.values_mut().for_each(|file| known.clean(&mut file.text));
                    facts.project = project;
                }
                Err(error) => tracing::warn!("cannot read the project '{}': {error}", project.display()),
            }
            // The image is that of the container; no policy can choose another one for it now.
            chain.clone().knowing(&secrets, &known).decide_create(draft, &Arc::new(facts), true, now_ms())
        };
        let mut decision = self.decide(id.as_str(), decide).await?;
        if let Some(refusal) = &mut decision.refusal {
            self.secrets.redact_refusal(refusal, &decision.decisions, &values);
        }
        self.record_without(&mut decision.decisions, decision.shadows.take(), &values)?;
        self.secrets.redact_draft(&mut decision.draft, &values);
        let decisions: Vec<_> = decision.decisions.iter().map(|decision| decision.id).collect();
        let trail: Vec<Step> = decision.decisions.into_iter().flat_map(|decision| decision.steps).collect();
        if let Some(refusal) = decision.refusal {
            return Err(Error::Denied { refusal, trail });
        }
        let (is, wanted) = (&stored.draft.spec, &decision.draft.spec);
        let differences = more_than_limits(is, &decision.draft);
        if !differences.is_empty() {
            return Err(Error::Differs { id: id.to_string(), sidecar: None, differences });
        }
        info.check("change the limits", wanted)?;

        stored.draft = decision.draft;
        stored.decisions.extend(decisions);
        self.set_limits(id, &stored, &container.id).await
    }

    /// Gives a container the limits of `stored` and writes them to the store; restores the old ones when that fails.
    async fn set_limits(&self, id: &WorkspaceId, stored: &Workspace, container: &str) -> Result<WorkspaceView, Error> {
        let wanted = &stored.draft.spec;
        let entry = self.store.begin(id, Verb::Update)?;
        let done = async {
            self.docker.update(container, &wanted.resources, wanted.restart).await?;
            let container = self.docker.inspect(container).await?;
            let wrong: Vec<String> = match &container.actual {
                Some(actual) => limits_differ(wanted, actual),
                None => Vec::new(),
            };
            if !wrong.is_empty() {
                return Err(Error::NotAsDecided(wrong));
            }
            // Only these fields are written: a command may have run in the workspace meanwhile.
            self.store.update_workspace(id, |now| {
                now.draft.clone_from(&stored.draft);
                now.decisions.clone_from(&stored.decisions);
            })?;
            self.store.done(entry, "done")?;
            Ok(container)
        };
        match done.await {
            Ok(container) => {
                view(Some(stored), Some(&container)).ok_or_else(|| Error::Internal("a workspace without an id".into()))
            }
            Err(first) => match self.restore_limits(id).await.and_then(|()| Ok(self.store.done(entry, "undone")?)) {
                Ok(()) => Err(first),
                Err(undo) => Err(self.not_undone(entry, first, &undo)),
            },
        }
    }

    /// Gives a container the limits that the store knows.
    pub(in crate::lifecycle) async fn restore_limits(&self, id: &WorkspaceId) -> Result<(), Error> {
        let (Some(stored), Some(Container { id: container, .. })) =
            (self.store.workspace(id)?, self.container(id).await?)
        else {
            return Ok(());
        };
        let spec = &stored.draft.spec;
        let actual = self.docker.inspect(&container).await?.actual;
        let same = actual.is_some_and(|actual| limits_differ(spec, &actual).is_empty());
        if same {
            return Ok(());
        }
        Ok(self.docker.update(&container, &spec.resources, spec.restart).await?)
    }
}

fn limits_differ(wanted: &ContainerSpec, actual: &ContainerSpec) -> Vec<String> {
    docker::differences(wanted, actual, false)
        .into_iter()
        .filter(|difference| CHANGEABLE.contains(&difference.field.as_str()))
        .map(|d| format!("{} is {}, but {} was decided", d.field, d.actual, d.decided))
        .collect()
}

fn more_than_limits(is: &ContainerSpec, draft: &crate::hooks::record::Draft) -> Vec<Difference> {
    let (before, owners) = (diff(&draft.spec, is), draft.owner_names());
    let beyond = diff(is, &draft.spec).into_iter().filter(|edit| !CHANGEABLE.contains(&edit.field().as_str()));
    let difference = |edit: Adjustment| {
        let field = edit.field();
        let was = before.iter().find(|edit| edit.field() == field).map(Adjustment::value).unwrap_or_default();
        let by = owners.get(&field).cloned().unwrap_or_else(|| "default".into());
        Difference { field, is: was, decided: edit.value(), by }
    };
    beyond.map(difference).collect()
}
