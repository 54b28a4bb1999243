//! What belongs to workspaces: sidecars, secrets, volumes, files. Here, or by a service.

use std::path::PathBuf;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Backend, list, meant, path};
use crate::archive::Pieces;
use crate::cli::Failure;
use crate::client::{Client, Download};
use crate::docker::{Archive, PathKind};
use crate::lifecycle::{CopyIn, Error, PathView, SecretBytes, Target, VolumeView, WorkspaceView};
use crate::workspace::{WorkspaceId, url_encoded};

/// What a service says of secrets.
#[derive(Deserialize)]
struct SecretsThere {
    workspace: WorkspaceId,
    names: Vec<String>,
}

/// A file or folder of a workspace on its way out.
pub(crate) struct Out {
    pub(crate) kind: PathKind,
    archive: From,
}

enum From {
    Here(Archive),
    Service(Box<Download>),
}

impl Out {
    /// The next bytes of the archive, or none at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match &mut self.archive {
            From::Here(archive) => Some(archive.next().await?.map_err(|error| Error::from(error).into())),
            From::Service(download) => Some(download.next().await?.map_err(Failure::from)),
        }
    }
}

/// A path in a workspace that something is copied to.
pub(crate) struct Place<'a> {
    pub(crate) workspace: WorkspaceId,
    pub(crate) kind: PathKind,
    pub(crate) user: Option<String>,
    to: To<'a>,
}

enum To<'a> {
    Here(CopyIn<'a>),
    Service(&'a Client),
}

impl Place<'_> {
    /// Unpacks an archive in a folder.
    pub(crate) async fn unpack(&self, folder: &str, pieces: Pieces) -> Result<(), Failure> {
        match &self.to {
            To::Here(place) => Ok(place.unpack(folder, pieces).await?),
            To::Service(client) => {
                let _: Value =
                    client.upload(&path(self.workspace.as_str(), "files"), &[("path", folder)], pieces).await?;
                Ok(())
            }
        }
    }
}

impl Backend {
    /// The sidecars of the workspace that is meant.
    pub(crate) async fn sidecars(&self, target: &Target) -> Result<Vec<WorkspaceView>, Failure> {
        let id = self.id(target).await?;
        let mut all = self.list().await?;
        all.retain(|view| view.part_of.as_ref() == Some(&id));
        Ok(all)
    }

    /// The id of the workspace that is meant.
    pub(crate) async fn id(&self, target: &Target) -> Result<WorkspaceId, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.find(target).await?),
            Self::Service(_) => Ok(self.inspect(target).await?.id),
        }
    }

    /// The names of the secrets of the workspace that is meant.
    pub(crate) async fn secrets(&self, target: &Target) -> Result<Vec<String>, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.secret_names(&lifecycle.find(target).await?)?),
            Self::Service(client) => {
                let there: SecretsThere = client.get(&path(&meant(client, target).await?, "secrets"), &[]).await?;
                Ok(there.names)
            }
        }
    }

    /// Sets a secret, or removes it where there is no value. Gives the workspace.
    pub(crate) async fn change_secret(
        &self,
        target: &Target,
        name: &str,
        value: Option<SecretBytes>,
    ) -> Result<WorkspaceId, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let id = lifecycle.find(target).await?;
                match value {
                    Some(value) => lifecycle.set_secret(&id, name, value).await?,
                    None => lifecycle.remove_secret(&id, name).await?,
                }
                Ok(id)
            }
            Self::Service(client) => {
                let place = path(&meant(client, target).await?, &format!("secrets/{}", url_encoded(name)));
                let there: SecretsThere = match value {
                    Some(SecretBytes(value)) => client.put(&place, value).await?,
                    None => client.delete(&place, &[]).await?,
                };
                Ok(there.workspace)
            }
        }
    }

    /// The named volumes, sorted by name.
    pub(crate) async fn volumes(&self) -> Result<Vec<VolumeView>, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.volumes().await?),
            Self::Service(client) => Ok(client.get("/v1/volumes", &[]).await?),
        }
    }

    /// Removes a named volume with its data.
    pub(crate) async fn remove_volume(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.remove_volume(name).await?),
            Self::Service(client) => {
                let _: Value = client.delete(&format!("/v1/volumes/{}", url_encoded(name)), &[]).await?;
                Ok(())
            }
        }
    }

    /// Reads a path of the workspace that is meant.
    pub(crate) async fn copy_out(&self, target: &Target, file: &str) -> Result<Out, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let out = lifecycle.copy_out(&lifecycle.find(target).await?, file).await?;
                Ok(Out { kind: out.kind, archive: From::Here(out.archive) })
            }
            Self::Service(client) => {
                let place = path(&meant(client, target).await?, "files");
                let download = client.download(&place, &[("path", file)]).await?;
                let kind = if download.kind == PathKind::Folder.as_str() { PathKind::Folder } else { PathKind::File };
                Ok(Out { kind, archive: From::Service(Box::new(download)) })
            }
        }
    }

    /// Folders and files of this machine that workspaces write. A service tells of projects only.
    pub(crate) async fn written(&self) -> Result<Vec<PathBuf>, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.written_by_workspaces()?),
            Self::Service(client) if client.is_local() => {
                Ok(list(client).await?.into_iter().map(|workspace| workspace.project.into()).collect())
            }
            Self::Service(_) => Ok(Vec::new()),
        }
    }

    /// Asks whether something may be copied to a path of the workspace that is meant.
    pub(crate) async fn copy_in(&self, target: &Target, file: &str) -> Result<Place<'_>, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let workspace = lifecycle.find(target).await?;
                let to = lifecycle.copy_in(&workspace, file).await?;
                Ok(Place { workspace, kind: to.kind, user: to.user.clone(), to: To::Here(to) })
            }
            Self::Service(client) => {
                let place = path(&meant(client, target).await?, "files/kind");
                let PathView { workspace, kind, user } = client.get(&place, &[("path", file)]).await?;
                Ok(Place { workspace, kind, user, to: To::Service(client) })
            }
        }
    }
}
