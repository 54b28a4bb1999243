//! Volumes and images of other workspaces: a project can neither read their content, nor take a name that they will
//! use.

use std::collections::BTreeMap;

use crate::devcontainer::OWNER;
use crate::docker::{self, Volume};
use crate::hooks::record::Draft;
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::{Error, Lifecycle, Project};
use crate::store::Verb;
use crate::workspace::{
    Container, LABEL_ATTEMPT, LABEL_IMAGE_HOST, LABEL_IMAGE_WORKSPACE, LABEL_PREFIX, LABEL_PROJECT, LABEL_VOLUME_BY,
    LABEL_WORKSPACE, MountKind, WorkspaceId,
};

/// The value of [`LABEL_VOLUME_BY`] on a volume that a file of a project named.
const BY_PROJECT: &str = "project";

impl Lifecycle {
    /// Returns whether a labelled container belongs to this installation. Labels alone are no proof: an image that was
    /// committed from a workspace passes them on, and every user of the engine can choose a container's name. A
    /// container counts if the store knows it, or if a running or unfinished creation made it. For a workspace without
    /// a known container, the name that Wharf gives counts.
    pub(in crate::lifecycle) fn is_ours(&self, container: &Container) -> Result<bool, Error> {
        let Some(Ok(id)) = container.labels.get(LABEL_WORKSPACE).map(|id| id.parse::<WorkspaceId>()) else {
            return Ok(false);
        };
        let named = container.name == id.container_name() || crate::lifecycle::create::replace::is_aside(container);
        match self.store.container_id(&id)? {
            Some(known) if known == container.id => Ok(true),
            Some(_) => Ok(named && self.is_attempt(&id, container)?),
            None => Ok(named),
        }
    }

    /// Returns whether an unfinished creation made a container.
    fn is_attempt(&self, id: &WorkspaceId, container: &Container) -> Result<bool, Error> {
        let attempt = crate::lifecycle::recovery::reconcile::attempt_of(&container.labels);
        let open = self.store.open_entries()?;
        Ok(open.iter().any(|entry| entry.id == attempt && entry.workspace == *id && entry.verb == Verb::Create))
    }

    /// Refuses volumes that the workspace may not use: volumes that Wharf did not make, volumes of other workspaces if
    /// a file of the project requests them, and volumes that a file of another project named.
    pub(in crate::lifecycle) async fn check_volumes(&self, project: &Project, draft: &Draft) -> Result<(), Error> {
        for (target, mount) in draft.spec.mounts.iter().filter(|(_, mount)| mount.kind == MountKind::Volume) {
            if self.loaded().config.allow.volumes.contains(&mount.source) {
                continue;
            }
            if let Some(volume) = self.docker.volume(&mount.source).await? {
                check_volume(project, draft, target, &volume)?;
            }
        }
        Ok(())
    }

    /// Makes the missing named volumes, with the labels of their workspace, and returns their names.
    pub(in crate::lifecycle) async fn make_volumes(
        &self,
        decided: &Decided,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, Error> {
        let mut new = Vec::new();
        let draft = &decided.draft;
        for (target, mount) in draft.spec.mounts.iter().filter(|(_, mount)| mount.kind == MountKind::Volume) {
            if self.docker.volume(&mount.source).await?.is_some() {
                continue;
            }
            let ours = labels.iter().filter(|(name, value)| name.starts_with(LABEL_PREFIX) && !value.is_empty());
            let mut ours: BTreeMap<String, String> = ours.map(|(name, value)| (name.clone(), value.clone())).collect();
            if asked_by_project(draft, target).is_some() {
                ours.insert(LABEL_VOLUME_BY.to_owned(), BY_PROJECT.to_owned());
            }
            let made = self.docker.create_volume(&mount.source, &ours).await?;
            // Another command may have made it a moment ago; the engine then returns that volume.
            if made.labels.get(LABEL_ATTEMPT) != ours.get(LABEL_ATTEMPT) {
                check_volume(&decided.project, draft, target, &made)?;
            } else {
                new.push(made.name);
            }
        }
        Ok(new)
    }

    /// Refuses an image that Wharf made for another workspace, unless the request or the configuration names it: a file
    /// of the project must not reach the data of another workspace.
    pub(in crate::lifecycle) async fn check_image(
        &self,
        project: &Project,
        draft: &Draft,
        requested: Option<&str>,
    ) -> Result<(), Error> {
        let Some(image) = &draft.spec.image else { return Ok(()) };
        let reference = image.reference.as_str();
        let configured = self.loaded().config.workspace.image.clone();
        let allowed = self.loaded().config.allow.images.contains(reference);
        if allowed || requested == Some(reference) || configured.as_deref() == Some(reference) {
            return Ok(());
        }
        match self.image_of_another(project, reference).await? {
            None => Ok(()),
            Some(other) => Err(Error::ProjectFile(format!(
                "the project requests the image '{reference}', which was made for the workspace {other}; name it with \
                 --image, or let an admin add it to allow.images"
            ))),
        }
    }

    /// Returns the other workspace that an image was made for, if there is one.
    pub(in crate::lifecycle) async fn image_of_another(
        &self,
        project: &Project,
        reference: &str,
    ) -> Result<Option<String>, Error> {
        let Some(image) = self.docker.image(reference).await? else { return Ok(None) };
        let ours = image.labels.get(LABEL_IMAGE_HOST).is_some_and(|host| host == self.store.host_id());
        let of = image.labels.get(LABEL_IMAGE_WORKSPACE).filter(|of| ours && *of != project.id.as_str());
        Ok(of.cloned())
    }
}

/// Returns the place in a file of the project that requests a mount.
fn asked_by_project<'a>(draft: &'a Draft, target: &str) -> Option<&'a str> {
    let by = draft.owners.get(&format!("mounts.{target}")).filter(|owner| owner.policy == OWNER)?;
    Some(by.at.as_deref().unwrap_or_default())
}

fn check_volume(project: &Project, draft: &Draft, target: &str, volume: &Volume) -> Result<(), Error> {
    let name = &volume.name;
    if !volume.ours {
        return Err(docker::Error::NotOurs { what: "volume", name: name.clone() }.into());
    }
    let label = |key: &str| volume.labels.get(key).map(String::as_str);
    let path = project.path.to_str();
    let own =
        label(LABEL_WORKSPACE) == Some(project.id.as_str()) && label(LABEL_PROJECT).is_none_or(|of| Some(of) == path);
    let others = "; an admin can allow it in allow.volumes";
    match asked_by_project(draft, target) {
        _ if own => Ok(()),
        // A project must not read the data of another workspace.
        Some(at) => Err(Error::ProjectFile(format!("{at}: the volume '{name}' belongs to another workspace{others}"))),
        // A project must not fill a volume that another workspace will read.
        None if label(LABEL_VOLUME_BY) == Some(BY_PROJECT) => Err(Error::InUse {
            text: format!(
                "the volume '{name}' was named by a file of the project {}, so its contents belong to that \
                 project{others}",
                label(LABEL_PROJECT).unwrap_or("of another workspace")
            ),
            remedy: "mount a volume with another name, or let an admin add this one to allow.volumes".into(),
        }),
        None => Ok(()),
    }
}
