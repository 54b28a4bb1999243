//! `plan`: the workspace that `up` would make, and the owner of each field. Creates nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Loaded;
use crate::devcontainer::Record;
use crate::docker::{Docker, ImageInfo};
use crate::hooks::chain::{CreateDecision, LookedAt};
use crate::hooks::record::{Change, Draft, Refusal};
use crate::hooks::redact::{SecretNames, Values};
use crate::hooks::validate::Sight;
use crate::hooks::{Chain, Facts, ImageConfig, Outcome, Step};
use crate::lifecycle::ResolvedRequest;
use crate::lifecycle::create::devcontainer::{ask, hide};
use crate::lifecycle::create::facts::{engine_facts, image_facts, only_these, project_facts};
use crate::lifecycle::create::plan_diff::remembered;
use crate::lifecycle::create::request::draft;
use crate::lifecycle::create::{image_config, image_metadata};
use crate::lifecycle::secrets::files;
use crate::lifecycle::secrets::withheld_values::{Withheld, in_name};
use crate::lifecycle::{Error, Lifecycle, Project, local_time, now_ms};
use crate::records::{Explained, explain};
use crate::store::{self, KnownWorkspace};
use crate::wire::trail;
use crate::wire::{TrailStep, WorkspaceRequest};
use crate::workspace::{ContainerSpec, WorkspaceId};

/// A plan: the spec that `up` would make, and the owner of each field.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct Plan {
    /// The workspace's id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Absolute path of the project.
    pub project: String,
    /// The spec, as far as it was decided.
    pub spec: ContainerSpec,
    /// Field -> policy, `default`, `config` or `request`.
    pub owners: BTreeMap<String, String>,
    /// All changes in order, with the place of each.
    pub history: Vec<Change>,
    /// Every field, explained: the origin of its value, overruled values, and its limit.
    pub fields: BTreeMap<String, Explained>,
    /// The step of each policy; shadows, which do not count, are last.
    pub trail: Vec<TrailStep>,
    /// Differences that would result if the shadows counted.
    pub shadows: Vec<crate::hooks::record::Difference>,
    /// The project's `devcontainer.json`, its parts that are not honoured, and the commands that would run.
    pub devcontainer: Option<Record>,
    /// Hints about files of the project that are not used, each with the flag that uses them.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The refusal, if it would be refused.
    pub denied: Option<Refusal>,
    /// The marked line of a script that failed, or a backtrace; and whether people see it at once.
    #[serde(skip)]
    pub detail: Option<(String, bool)>,
    /// Whether the facts came from an engine; without one, images and capabilities are unknown.
    pub engine: bool,
}

/// Decides as `wharf up` would, with or without an engine, and creates nothing.
pub struct Planner<'a> {
    /// The configuration.
    pub loaded: &'a Loaded,
    /// The chain that decides.
    pub chain: &'a Chain,
    /// The engine; without one, policies see no local images and no capabilities.
    pub docker: Option<&'a Docker>,
    /// The state folder.
    pub state_dir: &'a Path,
    /// The existing workspaces.
    pub known: &'a [KnownWorkspace],
}

impl Planner<'_> {
    /// Returns the plan for a request.
    ///
    /// # Errors
    /// When the project is unusable or the request is invalid; a denial is part of the plan.
    pub async fn plan(&self, request: &WorkspaceRequest) -> Result<Plan, Error> {
        plan_resolved(self, &self.resolve(request)?, None).await
    }

    /// Returns the plan for recreating an existing workspace with its original request and this one over it.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub async fn plan_again(&self, stored: &store::Workspace, request: &WorkspaceRequest) -> Result<Plan, Error> {
        plan_resolved(self, &remembered(stored, self.resolve(request)?), None).await
    }

    fn resolve(&self, request: &WorkspaceRequest) -> Result<ResolvedRequest, Error> {
        ResolvedRequest::of(request, self.loaded.config.workspace.health_check.as_ref())
    }
}

/// Makes a plan; the caller learns of no images except `only_images`.
async fn plan_resolved(
    &Planner { loaded, chain, docker, state_dir, known }: &Planner<'_>,
    request: &ResolvedRequest,
    only_images: Option<BTreeSet<String>>,
) -> Result<Plan, Error> {
    let mut project = Project::resolve(&request.project, request.name.as_deref(), loaded, known)?;
    project.secrets = files::folder(state_dir, &project.id, request);
    let mut facts = Facts {
        workspace: project.facts(&request.labels, loaded),
        caller: Some(crate::lifecycle::caller::now()),
        local_time: Some(local_time()),
        ..Facts::default()
    };
    if let Some(docker) = docker {
        let (info, images) = tokio::join!(docker.info(), docker.local_images());
        facts.engine = engine_facts(&info?);
        facts.local_images = match &only_images {
            None => image_facts(images?),
            Some(only) => only_these(image_facts(images?), only),
        };
    }
    project.devcontainer = ask(&project, request, loaded, &facts.engine).await?.map(Arc::new);
    project.hint(&request.devcontainer).await;
    let request = request.clone().with_build(&project, loaded, state_dir).await?;
    let (chain, loaded) = (chain.clone(), loaded.clone());
    let (engine, docker, here) = (docker.is_some(), docker.cloned(), tokio::runtime::Handle::current());
    let decide = move || -> Result<Plan, Error> {
        let secrets = SecretNames(loaded.config.secrets.env.clone());
        let image = |reference: &str| match &docker {
            Some(docker) if only_images.as_ref().is_none_or(|only| only.contains(reference)) => {
                Ok(here.block_on(docker.image(reference))?)
            }
            _ => Ok(None),
        };
        let DecidedCreate { created: mut decision, withheld, note, .. } =
            decide_create(&chain, &loaded, &secrets, &project, &request, facts, &image)?;
        let values = withheld.values();
        if let Some(refusal) = &mut decision.refusal {
            secrets.redact_refusal(refusal, &decision.decisions, &values);
        }
        for decision in &mut decision.decisions {
            secrets.redact(decision, &values);
        }
        secrets.redact_draft(&mut decision.draft, &values);
        let violations: Vec<String> =
            decision.decisions.iter().flat_map(|decision| decision.violations.clone()).collect();
        let mut shadows = Vec::new();
        let mut differences = Vec::new();
        for mut record in decision.shadows.take().map(|shadows| shadows.run()).unwrap_or_default() {
            secrets.redact(&mut record, &values);
            shadows.extend(record.steps);
            differences.extend(record.differences);
        }
        let mut steps: Vec<Step> = decision.decisions.drain(..).flat_map(|decision| decision.steps).collect();
        let fields = explain(&decision.draft, &loaded, &violations, &steps);
        steps.extend(shadows);
        let owners = decision.draft.owner_names();
        let spec = decision.draft.spec;
        Ok(Plan {
            id: project.id,
            name: project.name,
            project: project.path.display().to_string(),
            spec,
            owners,
            history: decision.draft.history,
            fields,
            trail: trail(&steps),
            shadows: differences,
            devcontainer: project.devcontainer.map(|asked| {
                let mut record = asked.record(&withheld);
                Values::of(&values).take_out_of(&mut record);
                record
            }),
            detail: steps.iter().rev().find_map(|step| {
                let error = step.error.as_ref()?;
                Some((error.detail.clone()?, error.marked))
            }),
            notes: project.hints.into_iter().chain(note).collect(),
            denied: decision.refusal,
            engine,
        })
    };
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(decide))
        .await
        .map_err(|error| Error::Internal(error.to_string()))?
}

impl Lifecycle {
    /// Returns the plan for [`Lifecycle::up`] with the current chain; makes and records nothing.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub async fn plan(&self, request: &WorkspaceRequest) -> Result<Plan, Error> {
        let (loaded, chain, known) = self.planning().await?;
        self.planner(&loaded, &chain, &known).plan(request).await
    }

    /// Returns the plan for an existing workspace, see [`Planner::plan_again`].
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub async fn plan_again(&self, stored: &store::Workspace, request: &WorkspaceRequest) -> Result<Plan, Error> {
        let (loaded, chain, known) = self.planning().await?;
        self.planner(&loaded, &chain, &known).plan_again(stored, request).await
    }

    /// Returns the plan like [`Lifecycle::plan_again`], for a caller who sees this workspace but not the rest of the
    /// host. Only the paths and images of the workspace, and its project, are looked up.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub async fn plan_in_sight(&self, stored: &store::Workspace, request: &WorkspaceRequest) -> Result<Plan, Error> {
        let spec = &stored.draft.spec;
        let mut paths: BTreeSet<String> = spec.mounts.values().map(|mount| mount.source.clone()).collect();
        paths.extend(self.invariants().bind_roots.iter().map(|root| root.display().to_string()));
        let sight = Sight { project: stored.project.clone().into(), paths };
        let images = spec.image.iter().map(|image| image.reference.clone()).collect();
        let (loaded, chain, known) = self.planning().await?;
        let chain = chain.seeing(sight);
        let planner = self.planner(&loaded, &chain, &known);
        let request = remembered(stored, planner.resolve(request)?);
        plan_resolved(&planner, &request, Some(images)).await
    }

    async fn planning(&self) -> Result<(Arc<Loaded>, Chain, Vec<KnownWorkspace>), Error> {
        // Calls for a plan do not count in the failure statistics of policies.
        let chain = self.chain().await?.with_standings(Arc::new(LookedAt(self.store.clone())));
        Ok((self.loaded(), chain, self.store.known_workspaces()?))
    }

    fn planner<'a>(&'a self, loaded: &'a Loaded, chain: &'a Chain, known: &'a [KnownWorkspace]) -> Planner<'a> {
        Planner { loaded, chain, docker: Some(&self.docker), state_dir: self.store.dir(), known }
    }
}

/// The result of [`decide_create`].
pub(in crate::lifecycle) struct DecidedCreate {
    pub(in crate::lifecycle) created: CreateDecision,
    pub(in crate::lifecycle) withheld: Withheld,
    /// The facts about the image that policies received.
    pub(in crate::lifecycle) image: Option<ImageConfig>,
    /// A note about the image's label for development containers.
    pub(in crate::lifecycle) note: Option<String>,
}

/// The part that `plan` and `up` share: draft, project facts, chain. `image` returns the engine's image for a
/// reference.
pub(in crate::lifecycle) fn decide_create(
    chain: &Chain,
    loaded: &Loaded,
    secrets: &SecretNames,
    project: &Project,
    request: &ResolvedRequest,
    mut facts: Facts,
    image: &dyn Fn(&str) -> Result<Option<ImageInfo>, Error>,
) -> Result<DecidedCreate, Error> {
    let (mut draft, withheld) = draft(request, project, loaded, secrets, facts.engine.cpus)?;
    facts.project = project_facts(&project.path, &chain.wanted_files(), secrets).map_err(|error| Error::Project {
        path: project.path.clone(),
        cause: error.to_string(),
        remedy: "make the folder readable",
    })?;
    let asked = project.devcontainer.as_deref();
    hide(asked, &mut facts.project);
    let values = withheld.values();
    let known = Values::of(&values);
    facts.project.contents.values_mut().for_each(|file| known.clean(&mut file.text));
    facts.workspace.labels.values_mut().for_each(|text| known.clean(text));
    // The names of the engine's images may contain a secret.
    let telling = known.telling();
    facts.local_images.iter_mut().flat_map(|image| &mut image.references).for_each(|name| telling.clean(name));
    let named = asked.is_some_and(|asked| asked.propose_image(&mut draft));
    withheld.refuse_names(&draft.spec)?;
    asked.map_or(Ok(()), |asked| asked.refuse_commands(&withheld))?;
    let requested = request.image.is_some() || named;
    let chain = chain.clone().knowing(secrets, &values);
    let (mut told, mut failed, mut note) = (None, None, None);
    let mut chosen = |draft: &mut Draft| {
        let Some(choice) = &draft.spec.image else { return Ok(None) };
        let refuse = |reason: String| Refusal { policy: "host".into(), at: None, code: "image".into(), reason };
        let found = image(&choice.reference).map_err(|error| {
            let text = error.to_string();
            failed = Some(error);
            refuse(text)
        })?;
        let Some(found) = found else { return Ok(None) };
        let mut config =
            image_config::of_image(&found).map_err(|text| refuse(format!("{}: {text}", choice.reference)))?;
        image_config::fill(draft, &found);
        // A sidecar runs its image unchanged.
        note = (project.part_of.is_none()).then(|| image_metadata::fill(draft, &found.labels)).flatten();
        told = Some(config.clone());
        image_config::clean(&mut config, &known);
        Ok(Some(config))
    };
    let mut created = chain.decide_create_with(draft, &Arc::new(facts), (requested, now_ms()), &mut chosen);
    if let Some(error) = failed {
        return Err(error);
    }
    if let (Some(config), None) = (&told, &created.refusal) {
        image_config::settle(&mut created.draft, config, &project.id);
    }
    refuse_names(&mut created, secrets, &values);
    note.iter_mut().for_each(|note| known.clean(note));
    Ok(DecidedCreate { created, withheld, image: told, note })
}

/// Refuses a decision in which policies put the value of a secret into a name, because names are stored and shown
/// unredacted.
fn refuse_names(decision: &mut CreateDecision, secrets: &SecretNames, values: &[String]) {
    let mut known: BTreeSet<String> = values.iter().cloned().collect();
    known.extend(secrets.values_in(&decision.draft.spec, &[]));
    let found = Values::new(known).names_with(&decision.draft.spec);
    let (Some(field), None, Some(last)) = (found.first(), &decision.refusal, decision.decisions.last_mut()) else {
        return;
    };
    let reason = in_name(field, "a secret");
    let refusal = Refusal { policy: "host".into(), at: None, code: "invariant".into(), reason: reason.clone() };
    last.violations.push(reason);
    last.outcome = Outcome::Denied(refusal.clone());
    decision.refusal = Some(refusal);
}
