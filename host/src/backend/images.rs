//! Images and snapshots.
//!
//! Every method fails with [`Error`].

use super::{Backend, Error, Report, named};
use crate::lifecycle::{ImageView, WorkspaceView};
use crate::records::Target;
use crate::store::Snapshot;
use crate::wire::{BuildRequest, ImageBuild, KeptImage, RestoreRequest};

/// An image that prune has selected, and the error if it could not be removed.
pub type PrunedImage = (String, Result<(), Error>);

impl Backend {
    /// Returns the images that Wharf built, kept or pulled, sorted by name.
    pub async fn images(&self) -> Result<Vec<ImageView>, Error> {
        match &self.service {
            Some(client) => Ok(client.images().await?),
            None => Ok(self.here().await?.images().await?),
        }
    }

    /// Pulls an image.
    pub async fn pull_image(&self, reference: &str, report: Report<'_>) -> Result<(), Error> {
        match &self.service {
            Some(client) => self.unless_interrupted(client, client.pull_image(reference, report)).await,
            None => Ok(self.here().await?.pull_image(reference, report).await?),
        }
    }

    /// Builds an image for the project of its folder.
    pub async fn build_image(
        &self,
        build: ImageBuild,
        tag: Option<String>,
        report: Report<'_>,
    ) -> Result<ImageView, Error> {
        match &self.service {
            Some(client) => {
                let context = self.absolute("the folder to build from", &build.context)?;
                let build = ImageBuild { context, ..build };
                let request = BuildRequest { project: None, tag, build };
                self.unless_interrupted(client, client.build_image(&request, report)).await
            }
            None => {
                let lifecycle = self.here().await?;
                let project = lifecycle.project(&build.context, None)?;
                Ok(Box::pin(lifecycle.build_image(&build, &project, tag.as_deref(), report)).await?)
            }
        }
    }

    /// Removes an image that Wharf built, kept or pulled.
    pub async fn remove_image(&self, image: &str) -> Result<(), Error> {
        match &self.service {
            Some(client) => Ok(client.remove_image(image).await?),
            None => Ok(self.here().await?.remove_image(image).await?),
        }
    }

    /// Removes the images that no container uses.
    ///
    /// # Errors
    /// See [`Error`]; errors of single images are in the result.
    pub async fn prune_images(&self) -> Result<Vec<PrunedImage>, Error> {
        let Some(client) = &self.service else {
            let lifecycle = self.here().await?;
            let mut all = Vec::new();
            for image in lifecycle.unused_images().await? {
                let removed = lifecycle.remove_image(&image).await.map_err(Error::from);
                all.push((image, removed));
            }
            return Ok(all);
        };
        let pruned = client.prune_images().await?;
        let kept = |KeptImage { image, code, detail }: KeptImage| {
            let remedy = "try again with 'wharf image rm'".to_owned();
            let error = Error::Kept { code, message: detail, remedy };
            (image, Err(error))
        };
        let removed = pruned.removed.into_iter().map(|image| (image, Ok(())));
        Ok(removed.chain(pruned.failed.into_iter().map(kept)).collect())
    }

    /// Takes a snapshot of a workspace.
    pub async fn create_snapshot(
        &self,
        target: &Target,
        name: Option<&str>,
        report: Report<'_>,
    ) -> Result<Snapshot, Error> {
        match &self.service {
            Some(client) => {
                let workspace = named(client, target).await?;
                self.unless_interrupted(client, client.create_snapshot(&workspace, name, report)).await
            }
            None => {
                let lifecycle = self.here().await?;
                let id = lifecycle.find(target).await?;
                Ok(Box::pin(lifecycle.create_snapshot(&id, name, report)).await?)
            }
        }
    }

    /// Returns the snapshots of one workspace, or of all.
    pub async fn snapshots(&self, target: Option<&Target>) -> Result<Vec<Snapshot>, Error> {
        match (&self.service, target) {
            (Some(client), None) => Ok(client.snapshots(None).await?),
            (Some(client), Some(target)) => Ok(client.snapshots(Some(&named(client, target).await?)).await?),
            (None, None) => Ok(self.here().await?.snapshots(None)?),
            (None, Some(target)) => {
                let lifecycle = self.here().await?;
                Ok(lifecycle.snapshots(Some(&lifecycle.find(target).await?))?)
            }
        }
    }

    /// Makes a workspace from a snapshot.
    pub async fn restore_snapshot(
        &self,
        snapshot: &str,
        request: &RestoreRequest,
        report: Report<'_>,
    ) -> Result<WorkspaceView, Error> {
        match &self.service {
            Some(client) => self.unless_interrupted(client, client.restore_snapshot(snapshot, request, report)).await,
            None => Ok(Box::pin(self.here().await?.restore_snapshot(snapshot, request, report)).await?),
        }
    }

    /// Removes a snapshot.
    pub async fn remove_snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        match &self.service {
            Some(client) => Ok(client.remove_snapshot(name).await?),
            None => Ok(self.here().await?.remove_snapshot(name).await?),
        }
    }
}
