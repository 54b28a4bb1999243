//! The evaluation of policies for `up`: once with the known facts, and again if the image had to be fetched first.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::docker::{self, EngineInfo, ImageInfo};
use crate::hooks::redact::Values;
use crate::hooks::{Chain, Facts, ImageConfig, Step};
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::create::devcontainer::ask;
use crate::lifecycle::create::facts::{engine_facts, image_facts};
use crate::lifecycle::create::image_config;
use crate::lifecycle::create::plan::{DecidedCreate, decide_create};
use crate::lifecycle::create::resolved_request::DevcontainerChoice;
use crate::lifecycle::secrets::files;
use crate::lifecycle::{Error, Lifecycle, Project, ResolvedRequest, local_time};
use crate::wire::{ImageBuild, Progress, SecretBytes};
use crate::workspace::Container;

/// The input of a decision about a workspace, for repeated evaluations of the policies.
pub(in crate::lifecycle) struct Asked {
    pub(in crate::lifecycle) project: Project,
    request: ResolvedRequest,
    facts: Facts,
    pub(in crate::lifecycle) info: EngineInfo,
    local: Vec<docker::LocalImage>,
    /// The image that the request itself names.
    named: Option<String>,
    given: BTreeMap<String, SecretBytes>,
    build: Option<ImageBuild>,
    /// The name of the image to build.
    built: Option<String>,
}

/// A reference that was looked up before it was chosen, and the engine's image for it.
pub(in crate::lifecycle) type Guess = Option<(String, Option<ImageInfo>)>;

/// The number of evaluations for one request, for the case that the image is another one than the policies knew.
const MOST_LOOKS: usize = 3;

impl Lifecycle {
    /// Gathers the input of a decision about a workspace, and with it the workspace's container and the image that will
    /// probably be chosen.
    pub(in crate::lifecycle) async fn ask_for(
        &self,
        mut project: Project,
        request: &ResolvedRequest,
    ) -> Result<(Asked, Option<Container>, Guess), Error> {
        let id = project.id.clone();
        project.secrets = files::folder(self.store.dir(), &id, request);
        let stored = || Some(self.store.workspace(&id).ok()??.draft.spec.image?.reference);
        let reference = request.image.clone().or_else(stored).or_else(|| self.loaded().config.workspace.image.clone());
        let reference = reference.unwrap_or_default();
        let guess = async {
            // A look-up error here is ignored; it appears when the image is really chosen.
            if reference.is_empty() { None } else { self.docker.image(&reference).await.ok() }
        };
        let (info, images, existing, guess) =
            tokio::join!(self.engine_info(), self.docker.local_images(), self.container(&id), guess);
        let (info, local, existing) = (info?, images?, existing?);
        let facts = Facts {
            workspace: project.facts(&request.labels, &self.loaded()),
            engine: engine_facts(&info),
            local_images: image_facts(local.clone()),
            caller: Some(self.caller()),
            local_time: Some(local_time()),
            ..Facts::default()
        };
        project.devcontainer = ask(&project, request, &self.loaded(), &facts.engine).await?.map(Arc::new);
        project.no_devcontainer = request.devcontainer == DevcontainerChoice::Off;
        project.hint(&request.devcontainer).await;
        let asked = project.devcontainer.clone();
        let (named, given) = (request.image.clone(), request.secrets.clone());
        let request = request.clone().with_build(&project, &self.loaded(), self.store.dir()).await?;
        let build = request.build.clone().or_else(|| asked.as_ref()?.build.clone());
        let built = match &asked {
            Some(asked) if request.image.is_none() => asked.built().map(str::to_owned),
            _ => request.image.clone().filter(|_| build.is_some()),
        };
        let asked = Asked { project, request, facts, info, local, named, given, build, built };
        Ok((asked, existing, guess.map(|image| (reference, image))))
    }

    /// Evaluates the policies, records their results, and checks the decision.
    pub(in crate::lifecycle) async fn decide_up(&self, asked: &Asked, guess: Option<Guess>) -> Result<Decided, Error> {
        let id = &asked.project.id;
        let (loaded, secrets, docker) = (self.loaded(), self.secrets.clone(), self.docker.clone());
        let (project, request, facts) = (asked.project.clone(), asked.request.clone(), asked.facts.clone());
        let here = tokio::runtime::Handle::current();
        let decide = move |chain: &Chain| {
            let image = |reference: &str| match guess.iter().flatten().find(|(known, _)| known == reference) {
                Some((_, image)) => Ok(image.clone()),
                None => Ok(here.block_on(docker.image(reference))?),
            };
            decide_create(chain, &loaded, &secrets, &project, &request, facts, &image)
        };
        let DecidedCreate { created: mut decision, withheld, image, note } = self.decide(id.as_str(), decide).await??;
        let values = withheld.values();
        if let Some(refusal) = &mut decision.refusal {
            self.secrets.redact_refusal(refusal, &decision.decisions, &values);
        }
        self.record_without(&mut decision.decisions, decision.shadows.take(), &values)?;
        let decisions: Vec<_> = decision.decisions.iter().map(|decision| decision.id).collect();
        let trail: Vec<Step> = decision.decisions.into_iter().flat_map(|decision| decision.steps).collect();
        if let Some(refusal) = decision.refusal {
            return Err(Error::Denied { refusal, trail });
        }
        // Policies may have chosen another image; then nothing is built.
        let wanted = decision.draft.spec.image.as_ref().map(|image| &image.reference);
        let build = asked.build.clone().filter(|_| asked.built.as_ref() == wanted);
        self.check_image(&asked.project, &decision.draft, asked.named.as_deref()).await?;
        let places = self.check_mounts(id, &decision.draft.spec, &asked.project.path, None)?;
        asked.info.check("create the container", &decision.draft.spec)?;
        if asked.project.secrets.is_some() && !self.docker.is_local() {
            return Err(Error::Request(files::REMOTE.into()));
        }
        let mut project = asked.project.clone();
        project.hints.extend(note);
        Ok(Decided {
            project,
            draft: decision.draft,
            withheld,
            secret_files: asked.given.clone(),
            build,
            trail,
            decisions,
            places,
            local: asked.local.clone(),
            image,
        })
    }

    /// Ensures that the engine has the decided image. If it is another image than the policies knew, they are evaluated
    /// again: they must be able to judge an image's settings for its containers.
    pub(in crate::lifecycle) async fn with_image(
        &self,
        asked: &Asked,
        mut decided: Decided,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Decided, Error> {
        for _ in 0..MOST_LOOKS {
            self.check_network(&decided).await?;
            let values = Values::of(&decided.withheld.values());
            // The engine's messages about a build repeat words of the build.
            let fetched = self.fetch_image(&decided, progress).await.map_err(|error| error.without(&values))?;
            self.check_interrupt()?;
            if !fetched && decided.image.is_some() {
                return Ok(decided);
            }
            let reference = decided.draft.spec.image.as_ref().map(|image| image.reference.clone()).unwrap_or_default();
            let found = self.docker.image(&reference).await?;
            let known = decided.image.as_ref().map(|image| &image.id);
            if found.is_some() && found.as_ref().map(|image| &image.id) == known {
                return Ok(decided);
            }
            decided = self.decide_up(asked, Some(Some((reference.clone(), found)))).await?;
            if decided.draft.spec.image.as_ref().is_some_and(|image| image.reference == reference) {
                return Ok(decided);
            }
        }
        Err(Error::Request(
            "the policies chose another image after each fetch; 'wharf plan' shows their choices".into(),
        ))
    }

    /// Refuses a container of another image than the policies knew: the name may have been given to another image
    /// meanwhile.
    pub(in crate::lifecycle) async fn check_image_id(
        &self,
        decided: &Decided,
        container: &Container,
    ) -> Result<(), Error> {
        let Some(known) = decided.image.as_ref().filter(|known| known.id != container.image_id) else { return Ok(()) };
        // An engine may report another ID for a container's image than for the image itself. Then the image's settings
        // are compared.
        let found = self.docker.image(&container.image_id).await?;
        let found = found.and_then(|image| image_config::of_image(&image).ok());
        if found.is_some_and(|found| ImageConfig { id: known.id.clone(), ..found } == *known) {
            return Ok(());
        }
        let (is, was) = (&container.image_id, &known.id);
        Err(Error::NotAsDecided(vec![format!(
            "its image is {is}, but {was} was decided: the name now refers to another image"
        )]))
    }
}
