//! Images: built from a folder, listed, removed. Only images that this installation built or pulled are removed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::archive::{self, Context, Feature};
use crate::config::{Builder, Loaded};
use crate::docker::{self, BuildRequest, BuildSecrets, LocalImage};
use crate::hooks::record::Refusal;
use crate::hooks::redact::Values;
use crate::hooks::validate::HostPaths;
use crate::lifecycle::create::binds::invariants;
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::create::project::Project;
use crate::lifecycle::{Error, Lifecycle};
use crate::wire::{ImageBuild, Progress};
use crate::workspace::{
    Container, LABEL_ATTEMPT, LABEL_IMAGE, LABEL_IMAGE_HOST, LABEL_IMAGE_NAME, LABEL_IMAGE_WORKSPACE, LABEL_SNAPSHOT,
    PullPolicy, WorkspaceId,
};

/// An image of this installation.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct ImageView {
    /// Its name, or its id when it has lost its name.
    pub reference: String,
    /// Content id.
    pub id: String,
    /// `built`, `pulled` or `snapshot`.
    pub origin: Cow<'static, str>,
    /// The workspace that it was made for, if one is known.
    pub workspace: Option<String>,
    /// Bytes, including layers that others share.
    pub size: u64,
    /// Time of its build.
    pub created_at: Option<jiff::Timestamp>,
}

/// A build context whose Dockerfile was checked.
struct Opened {
    context: Context,
    /// The images that the build reads from, its frontends among them.
    bases: Vec<String>,
    features: Vec<Feature>,
}

fn open(build: &ImageBuild) -> Result<Context, Error> {
    let dockerfile = build.dockerfile.as_deref().unwrap_or("Dockerfile");
    Context::open(&build.context, dockerfile).map_err(|text| Error::Request(format!("the build: {text}")))
}

/// Returns the name of a build's image. It is derived from the context, the arguments and the stage, so that the same
/// build has the same name and a different build another one.
///
/// # Errors
/// [`Error::Request`] when the context cannot be read.
pub(in crate::lifecycle) fn reference(build: &ImageBuild, id: &WorkspaceId) -> Result<String, Error> {
    struct Hash(sha2::Sha256);
    impl Write for Hash {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            sha2::Digest::update(&mut self.0, bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let context = open(build)?;
    let mut hash = Hash(sha2::Digest::new());
    let unreadable = |error: std::io::Error| Error::Request(format!("the build context: {error}"));
    context.write(&mut hash).map_err(unreadable)?;
    let rest = serde_json::json!([context.dockerfile(), build.args, build.target]);
    hash.write_all(rest.to_string().as_bytes()).map_err(unreadable)?;
    let digest = sha2::Digest::finalize(hash.0);
    Ok(format!("wharf/{id}:{}", hex::encode(digest.get(..6).unwrap_or_default())))
}

/// Checks that a workspace of the project may mount the context, because a build may copy anything from its context.
/// Returns the build with the checked path of its context, without links: from here on no link is followed on the way
/// to it.
///
/// # Errors
/// [`Error::Denied`], and [`Error::Request`] for a missing context.
pub(in crate::lifecycle) fn check_context(
    build: &ImageBuild,
    project: &Path,
    loaded: &Loaded,
    state_dir: &Path,
) -> Result<ImageBuild, Error> {
    let context = &std::fs::canonicalize(&build.context)
        .map_err(|error| Error::Request(format!("the build context '{}': {error}", build.context.display())))?;
    // A folder of the kernel is refused in every notation.
    let written = std::path::absolute(&build.context).unwrap_or_else(|_| context.clone());
    invariants(loaded, state_dir).bind_allowed(&written, project, &mut HostPaths::of_host()).map_err(|reason| {
        let reason = format!("build.context: {reason}");
        let refusal = Refusal { policy: "host".into(), at: None, code: "invariant".into(), reason };
        Error::Denied { refusal, trail: Vec::new() }
    })?;
    Ok(ImageBuild { context: context.clone(), ..build.clone() })
}

/// Returns labels that a Dockerfile cannot give its image: those by which Wharf recognizes parts of a snapshot.
fn not_inherited() -> BTreeMap<String, String> {
    [LABEL_ATTEMPT, LABEL_SNAPSHOT].map(|name| (name.to_owned(), String::new())).into()
}

/// Returns whether an image is the frontend that Docker publishes on Docker Hub.
fn is_dockers_frontend(image: &str) -> bool {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let hub = ["docker.io/", "index.docker.io/"].iter().find_map(|host| name.strip_prefix(host)).unwrap_or(name);
    let repository = hub.split_once(':').map_or(hub, |(repository, _)| repository);
    matches!(repository, "docker/dockerfile" | "docker/dockerfile-upstream")
}

impl From<docker::PullProgress> for Progress {
    fn from(pull: docker::PullProgress) -> Self {
        let docker::PullProgress { layer, status, current, total, retry } = pull;
        if retry {
            return Self::step(status);
        }
        Self::Pull { layer, status, current, total }
    }
}

impl Lifecycle {
    /// Builds an image for a project, under a name that is derived from its inputs, or under the given name.
    ///
    /// # Errors
    /// [`Error::Denied`] for a context that a workspace of the project may not see, [`Error::Request`] when it cannot
    /// be read, and the builder's.
    pub async fn build_image(
        &self,
        build: &ImageBuild,
        project: &Project,
        reference: Option<&str>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<ImageView, Error> {
        let id = &project.id;
        let build = &check_context(build, &project.path, &self.loaded(), self.store.dir())?;
        let reference = match reference {
            Some(reference) => {
                if !docker::is_image_name(reference) {
                    let form = "an image name is [HOST[:PORT]/]PATH[:TAG], with lowercase letters in PATH";
                    return Err(Error::Request(format!("the tag '{reference}': {form}")));
                }
                reference.to_owned()
            }
            None => {
                let (build, id) = (build.clone(), id.clone());
                let named = tokio::task::spawn_blocking(move || self::reference(&build, &id)).await;
                named.map_err(|error| Error::Internal(error.to_string()))??
            }
        };
        self.build_as(build, project, &reference, progress).await?;
        let image = self.docker.image(&reference).await?;
        let image = image.ok_or_else(|| docker::Error::ImageMissing { reference: reference.clone() })?;
        let (size, created_at) = (image.size, image.created_at);
        Ok(ImageView {
            reference,
            id: image.id,
            origin: Cow::Borrowed("built"),
            workspace: Some(id.to_string()),
            size,
            created_at,
        })
    }

    pub(in crate::lifecycle) async fn build_as(
        &self,
        build: &ImageBuild,
        project: &Project,
        reference: &str,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let build = &check_context(build, &project.path, &self.loaded(), self.store.dir())?;
        let Opened { context, bases, features } = self.open_checked(build, project).await?;
        // BuildKit would keep a Dockerfile that must stay out of the context.
        let legacy = context.leaves_dockerfile_out() && features.is_empty() && self.docker.has_legacy_builder();
        let buildkit = self.uses_buildkit() && !legacy;
        let shown = buildkit && context.leaves_dockerfile_out();
        self.free_name(reference).await?;
        let labels = [
            (LABEL_IMAGE_HOST, self.store.host_id()),
            (LABEL_IMAGE_NAME, reference),
            (LABEL_IMAGE_WORKSPACE, project.id.as_str()),
            (LABEL_IMAGE, "build"),
        ];
        let mut all_labels = not_inherited();
        all_labels.extend(labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let request = BuildRequest {
            reference: reference.to_owned(),
            dockerfile: context.dockerfile(),
            args: build.args.clone(),
            target: build.target.clone(),
            labels: all_labels,
            no_cache: build.no_cache,
            pull: build.pull,
            memory: Some(self.loaded().config.workspace.memory.0.min(self.loaded().config.limits.memory.0)),
            bases,
            buildkit,
            mounts: features.iter().any(|feature| feature.text == "RUN --mount"),
            cache: format!("{}/{}", self.store.host_id(), project.id),
            secrets: BuildSecrets(build.secrets.iter().map(|(id, secret)| (id.clone(), secret.0.clone())).collect()),
        };
        progress(Progress::step(format!("building {reference}")));
        if shown {
            let note = "the builder gets the Dockerfile with the context, although .dockerignore leaves it out";
            progress(Progress::step(note.to_owned()));
        }
        // To the engine an unreadable context looks like an aborted request, so the cause is recorded here.
        let unreadable = Arc::new(OnceLock::new());
        let tell = unreadable.clone();
        let pieces = archive::stream(move |to| {
            let written = context.write(to);
            if let Err(error) = &written
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                let _ = tell.set(format!("the build context: {error}"));
            }
            written
        });
        // A step may print a secret.
        let texts = build.secrets.values().filter_map(|secret| String::from_utf8(secret.0.clone()).ok());
        let hidden = Values::of(&texts.map(|text| text.trim().to_owned()).collect::<Vec<_>>());
        let mut line = |line: &str| {
            let mut line = line.to_owned();
            hidden.clean(&mut line);
            progress(Progress::build(line));
        };
        tokio::select! {
            built = self.docker.build(&request, pieces, &mut line) => match (built, unreadable.get()) {
                (Err(_), Some(cause)) => return Err(Error::Request(cause.clone())),
                (built, _) => built.map_err(|error| Error::from(error).without(&hidden))?,
            },
            () = self.interrupted() => return Err(Error::Interrupted),
        };
        Ok(())
    }

    /// Opens the context, and checks the images, the frontend and the features of its Dockerfile.
    async fn open_checked(&self, build: &ImageBuild, project: &Project) -> Result<Opened, Error> {
        let architecture = self.docker.info().await?.architecture;
        let (opening, args) = (build.clone(), build.args.clone());
        let open = move || {
            let context = open(&opening)?;
            let wrong = |error: std::io::Error| Error::Request(format!("the Dockerfile: {error}"));
            let images = context.images(&args, &architecture).map_err(wrong)?;
            let frontends = context.frontends(&args).map_err(wrong)?;
            let features = context.features().map_err(wrong)?;
            Ok::<_, Error>((context, images, frontends, features))
        };
        // Reading files of a network mount may take long.
        let opened = tokio::task::spawn_blocking(open).await;
        let (context, mut bases, frontends, features) =
            opened.map_err(|error| Error::Internal(error.to_string()))??;
        for frontend in &frontends {
            self.check_frontend(frontend).await?;
        }
        self.check_features(build, !frontends.is_empty(), &features)?;
        bases.extend(frontends);
        self.check_bases(project, &bases).await?;
        Ok(Opened { context, bases, features })
    }

    /// Returns whether BuildKit builds images.
    fn uses_buildkit(&self) -> bool {
        self.loaded().config.engine.builder == Builder::Auto && self.docker.has_buildkit()
    }

    /// Refuses a frontend other than Docker's, unless the configuration allows its image: its program decides what the
    /// build reads, so no check of the Dockerfile would hold.
    /// An image that a Wharf built is not Docker's, whatever its name.
    async fn check_frontend(&self, image: &str) -> Result<(), Error> {
        if self.loaded().config.allow.images.contains(image) {
            return Ok(());
        }
        if is_dockers_frontend(image) {
            let local = self.docker.image(image).await?;
            if local.is_none_or(|local| !local.labels.contains_key(LABEL_IMAGE_HOST)) {
                return Ok(());
            }
        }
        let reason = format!(
            "the Dockerfile's frontend '{image}' (its line 'syntax=', or the build argument {}) is a program that could \
             read from images and caches of other workspaces; an admin can allow it in allow.images",
            archive::SYNTAX_ARG
        );
        let refusal = Refusal { policy: "host".into(), at: None, code: "invariant".into(), reason };
        Err(Error::Denied { refusal, trail: Vec::new() })
    }

    /// Refuses features that the builder in use does not have: it would ignore some of them, and build another image.
    fn check_features(&self, build: &ImageBuild, frontend: bool, features: &[Feature]) -> Result<(), Error> {
        let refuse = |feature: &Feature, needs: &str| {
            let Feature { line, text, .. } = feature;
            Err(Error::Request(format!("line {line} of the Dockerfile: '{text}' needs {needs}")))
        };
        if self.uses_buildkit() {
            let document = features.iter().find(|feature| feature.here_document);
            return match document.filter(|_| !frontend && !self.docker.reads_here_documents()) {
                Some(feature) => {
                    refuse(feature, "Docker 23 or newer, or the first line '# syntax=docker/dockerfile:1'")
                }
                None => Ok(()),
            };
        }
        if !self.docker.has_legacy_builder() {
            return Ok(());
        }
        let needs = match self.docker.has_buildkit() {
            true => "BuildKit; the configuration chooses the legacy builder (engine.builder)",
            false => "BuildKit, which this engine does not have",
        };
        if let Some(feature) = features.first() {
            return refuse(feature, needs);
        }
        match build.secrets.keys().next() {
            Some(id) => Err(Error::Request(format!("the build secret '{id}' needs {needs}"))),
            None => Ok(()),
        }
    }

    /// Refuses a Dockerfile that reads from an image of another workspace, unless the configuration allows it.
    async fn check_bases(&self, project: &Project, images: &[String]) -> Result<(), Error> {
        for image in images {
            if self.loaded().config.allow.images.contains(image) {
                continue;
            }
            if let Some(other) = self.image_of_another(project, image).await? {
                let reason = format!(
                    "the Dockerfile reads from the image '{image}', which was made for the workspace {other}; an \
                     admin can allow it in allow.images"
                );
                let refusal = Refusal { policy: "host".into(), at: None, code: "invariant".into(), reason };
                return Err(Error::Denied { refusal, trail: Vec::new() });
            }
        }
        Ok(())
    }

    /// Checks that a new image may take a name, and remembers the image that loses it.
    async fn free_name(&self, reference: &str) -> Result<(), Error> {
        if let Some(before) = self.docker.image(reference).await? {
            // A name of another owner's image must keep its meaning. Another installation on this engine may have the
            // same project.
            let name = reference.to_owned();
            let ours =
                docker::given_names(&before.labels, self.store.host_id(), std::slice::from_ref(&name)).count() > 0;
            if !ours {
                return Err(docker::Error::NotOurs { what: "image", name }.into());
            }
            // The old image loses its name to the new one; after that only the store knows that it belongs to Wharf.
            self.store.put_pulled_image(&before.id, &before.id)?;
        }
        Ok(())
    }

    /// Returns the images that this installation built, kept or pulled, sorted by name.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn images(&self) -> Result<Vec<ImageView>, Error> {
        let mut views = Vec::new();
        let labelled = self.docker.labelled_images(&[(LABEL_IMAGE_HOST, self.store.host_id())]).await?;
        for (image, labels) in labelled {
            let origin =
                if labels.get(LABEL_IMAGE).is_some_and(|what| what == "snapshot") { "snapshot" } else { "built" };
            let names = docker::given_names(&labels, self.store.host_id(), &image.references);
            views.extend(names.map(|reference| ImageView {
                reference: reference.clone(),
                id: image.id.clone(),
                origin: Cow::Borrowed(origin),
                workspace: labels.get(LABEL_IMAGE_WORKSPACE).cloned(),
                size: image.size,
                created_at: image.created_at,
            }));
        }
        for pulled in self.store.pulled_images()? {
            let image = self.docker.image(&pulled.reference).await?.filter(|image| image.id == pulled.image_id);
            // An image that was built here and has since lost its name is identified by its ID; a name that it has now
            // is not from Wharf.
            let nameless = pulled.reference == pulled.image_id;
            let image = image.filter(|image| !nameless || image.references.is_empty());
            if let Some(image) = image.filter(|image| !views.iter().any(|view| view.id == image.id)) {
                views.push(ImageView {
                    reference: pulled.reference,
                    id: image.id,
                    origin: Cow::Borrowed(if nameless { "built" } else { "pulled" }),
                    workspace: image.labels.get(LABEL_IMAGE_WORKSPACE).filter(|_| nameless).cloned(),
                    size: image.size,
                    created_at: image.created_at,
                });
            }
        }
        views.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(views)
    }

    /// Returns content IDs of the images of all containers, including those of others, running or not.
    ///
    /// # Errors
    /// When the engine fails.
    async fn used_images(&self) -> Result<std::collections::BTreeSet<String>, Error> {
        Ok(self.docker.list(&[], true).await?.into_iter().map(|container| container.image_id).collect())
    }

    /// Returns the images of this installation without a container and without a snapshot, sorted by name.
    ///
    /// # Errors
    /// When the engine or the store fails.
    pub async fn unused_images(&self) -> Result<Vec<String>, Error> {
        let used = self.used_images().await?;
        // The image of a snapshot counts as used.
        let snapshots = self.store.snapshots(None)?;
        let kept = |image: &ImageView| snapshots.iter().any(|snapshot| snapshot.image_id == image.id);
        let unused = self.images().await?.into_iter().filter(|image| !used.contains(&image.id) && !kept(image));
        Ok(unused.map(|image| image.reference).collect())
    }

    /// Pulls an image. If it was not present before, it belongs to Wharf from then on.
    ///
    /// # Errors
    /// The engine's.
    pub async fn pull_image(&self, reference: &str, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<(), Error> {
        let before = self.docker.image(reference).await?.map(|image| image.id);
        progress(Progress::step(format!("pulling {reference}")));
        let mut report = |pull: docker::PullProgress| progress(pull.into());
        tokio::select! {
            pulled = self.docker.pull(reference, &mut report) => pulled?,
            () = self.interrupted() => return Err(Error::Interrupted),
        }
        // An image that another client has pulled since belongs to that client.
        let known = self.store.pulled_images()?.into_iter().find(|image| image.reference == reference);
        let ours = before.is_none() || known.is_some_and(|known| Some(known.image_id) == before);
        if ours && let Some(image) = self.docker.image(reference).await? {
            self.store.put_pulled_image(reference, &image.id)?;
        }
        Ok(())
    }

    /// Removes an image of this installation. An image that a container uses stays.
    ///
    /// # Errors
    /// `not-ours`, `not-found`, and `conflict` while a container, running or not, uses it, or a snapshot is made of it.
    pub async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        let missing = || docker::Error::NotFound { what: "image", name: reference.to_owned() };
        let image = self.docker.image(reference).await?.ok_or_else(missing)?;
        let tagged = format!("{reference}:latest");
        let ours = self.images().await?.into_iter().any(|view| {
            view.id == image.id && [reference, tagged.as_str(), image.id.as_str()].contains(&view.reference.as_str())
        });
        if !ours {
            return Err(docker::Error::NotOurs { what: "image", name: reference.to_owned() }.into());
        }
        if let Some(snapshot) = self.store.snapshots(None)?.into_iter().find(|snapshot| snapshot.image_id == image.id) {
            return Err(Error::InUse {
                text: format!("the image '{reference}' belongs to the snapshot '{}'", snapshot.name),
                remedy: format!("remove the snapshot: 'wharf snapshot rm {}'", snapshot.name),
            });
        }
        self.docker.remove_image(reference).await?;
        Ok(self.store.forget_pulled_image(reference)?)
    }

    /// Returns the image's digest in its registry, e.g. `debian@sha256:...`; an image that was built here has none.
    pub(in crate::lifecycle) async fn image_digest(
        &self,
        container: &Container,
        local: &[LocalImage],
    ) -> Option<String> {
        let digests = match local.iter().find(|image| image.id == container.image_id) {
            Some(image) => image.digests.clone(),
            None => self.docker.image(&container.image_id).await.ok().flatten()?.digests,
        };
        let named = container.image.split(['@', ':']).next().unwrap_or_default();
        let of_name = digests.iter().find(|digest| digest.starts_with(named));
        of_name.or(digests.first()).cloned()
    }

    /// Ensures that the engine has the decided image: built, pulled, or already present. Returns whether it was built
    /// or pulled.
    pub(in crate::lifecycle) async fn fetch_image(
        &self,
        decided: &Decided,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<bool, Error> {
        let Some(image) = &decided.draft.spec.image else {
            return Err(Error::Internal("the chain allowed a spec without an image".into()));
        };
        let reference = &image.reference;
        let tagged = format!("{reference}:latest");
        let is_known = |known: &String| known == reference || *known == tagged;
        let listed = decided.local.iter().any(|image| image.references.iter().chain(&image.digests).any(is_known));
        let present = listed || self.docker.image(reference).await?.is_some();
        if let (Some(build), false) = (&decided.build, present) {
            return self.build_as(build, &decided.project, reference, progress).await.map(|()| true);
        }
        match (image.pull, present) {
            (PullPolicy::Never, false) => Err(docker::Error::ImageMissing { reference: reference.clone() }.into()),
            (PullPolicy::Never | PullPolicy::Missing, true) => Ok(false),
            (PullPolicy::Always, _) | (PullPolicy::Missing, false) => {
                let pulled = self.pull_image(reference, progress).await;
                pulled.map(|()| true).map_err(|error| chosen(error, decided))
            }
        }
    }
}

/// Adds to a failed pull the choice of its image, unless the user named the image.
fn chosen(mut error: Error, decided: &Decided) -> Error {
    let draft = &decided.draft;
    if let Error::Docker(docker::Error::PullFailed { chosen, .. }) = &mut error
        && let (Some(owner), Some(image)) = (draft.owners.get("image"), &draft.spec.image)
        && owner.policy != "request"
    {
        let place = crate::records::place(owner);
        *chosen = Some(if image.reason.is_empty() { place } else { format!("{place} ({})", image.reason) });
    }
    error
}
