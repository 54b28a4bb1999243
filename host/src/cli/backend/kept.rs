//! Images and snapshots: here, or by a service.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Backend, made, meant, path};
use crate::cli::Failure;
use crate::lifecycle::{ImageBuild, ImageView, Progress, RestoreRequest, Target, WorkspaceView};
use crate::store::Snapshot;
use crate::workspace::url_encoded;

/// Takes the steps of what takes long.
pub(crate) type Report<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// What became of one image: its name, and why it is still there, if it is.
pub(crate) type Pruned = (String, Result<(), Failure>);

/// What a service says of the images that nobody uses.
#[derive(Deserialize)]
struct PrunedThere {
    removed: Vec<String>,
    failed: Vec<KeptThere>,
}

#[derive(Deserialize)]
struct KeptThere {
    image: String,
    code: String,
    detail: String,
}

impl Backend {
    /// The images, sorted by name.
    pub(crate) async fn images(&self) -> Result<Vec<ImageView>, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.images().await?),
            Self::Service(client) => Ok(client.get("/v1/images", &[]).await?),
        }
    }

    /// Fetches one.
    pub(crate) async fn pull_image(&self, reference: &str, progress: Report<'_>) -> Result<(), Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.pull_image(reference, progress).await?),
            Self::Service(client) => {
                let body = json!({ "reference": reference });
                let _: Value = made(client, ("/v1/images/pull", &[]), &body, progress).await?;
                Ok(())
            }
        }
    }

    /// Builds one for the project of its folder.
    pub(crate) async fn build_image(
        &self,
        build: &ImageBuild,
        tag: Option<&str>,
        progress: Report<'_>,
    ) -> Result<ImageView, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let project = lifecycle.project(&build.context, None)?;
                Ok(lifecycle.build_image(build, &project, tag, progress).await?)
            }
            Self::Service(client) => {
                let mut body = json!({ "build": crate::cli::image::body(client, build)? });
                if let Some(tag) = tag {
                    body["tag"] = json!(tag);
                }
                made(client, ("/v1/images/build", &[]), &body, progress).await
            }
        }
    }

    /// Removes one that Wharf built, kept or pulled.
    pub(crate) async fn remove_image(&self, image: &str) -> Result<(), Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.remove_image(image).await?),
            Self::Service(client) => {
                let _: Vec<String> = client.delete(&format!("/v1/images/{}", url_encoded(image)), &[]).await?;
                Ok(())
            }
        }
    }

    /// Removes those that no container uses.
    pub(crate) async fn prune_images(&self) -> Result<Vec<Pruned>, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let mut all = Vec::new();
                for image in lifecycle.unused_images().await? {
                    let removed = lifecycle.remove_image(&image).await.map_err(Failure::from);
                    all.push((image, removed));
                }
                Ok(all)
            }
            Self::Service(client) => {
                let pruned: PrunedThere = client.post("/v1/images/prune", &json!({})).await?;
                let removed = pruned.removed.into_iter().map(|image| (image, Ok(())));
                let failed = |kept: KeptThere| {
                    let remedy = "'wharf image rm' tries it again";
                    (kept.image, Err(Failure::new(&kept.code, kept.detail, remedy, 1)))
                };
                Ok(removed.chain(pruned.failed.into_iter().map(failed)).collect())
            }
        }
    }

    /// Keeps the workspace that is meant as it is now.
    pub(crate) async fn create_snapshot(
        &self,
        target: &Target,
        name: Option<&str>,
        progress: Report<'_>,
    ) -> Result<Snapshot, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let id = lifecycle.find(target).await?;
                Ok(lifecycle.create_snapshot(&id, name, progress).await?)
            }
            Self::Service(client) => {
                let body = name.map_or(json!({}), |name| json!({ "name": name }));
                let path = path(&meant(client, target).await?, "snapshots");
                made(client, (&path, &[]), &body, progress).await
            }
        }
    }

    /// The snapshots, of one workspace or of all.
    pub(crate) async fn snapshots(&self, target: Option<&Target>) -> Result<Vec<Snapshot>, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let id = match target {
                    Some(target) => Some(lifecycle.find(target).await?),
                    None => None,
                };
                Ok(lifecycle.snapshots(id.as_ref())?)
            }
            Self::Service(client) => {
                let name = match target {
                    Some(target) => Some(meant(client, target).await?),
                    None => None,
                };
                let query: Vec<_> = name.as_deref().map(|name| ("workspace", name)).into_iter().collect();
                Ok(client.get("/v1/snapshots", &query).await?)
            }
        }
    }

    /// Makes a workspace from a snapshot.
    pub(crate) async fn restore_snapshot(
        &self,
        snapshot: &str,
        restore: &RestoreRequest,
        progress: Report<'_>,
    ) -> Result<WorkspaceView, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.restore_snapshot(snapshot, restore, progress).await?),
            Self::Service(client) => {
                let RestoreRequest { name, env, recreate } = restore;
                let body = json!({ "as": name, "env": env, "recreate": recreate });
                let path = format!("/v1/snapshots/{}/restore", url_encoded(snapshot));
                made(client, (&path, &[]), &body, progress).await
            }
        }
    }

    /// Removes a snapshot.
    pub(crate) async fn remove_snapshot(&self, name: &str) -> Result<Snapshot, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.remove_snapshot(name).await?),
            Self::Service(client) => Ok(client.delete(&format!("/v1/snapshots/{}", url_encoded(name)), &[]).await?),
        }
    }
}
