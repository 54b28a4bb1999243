//! Secrets, volumes, and files of workspaces.
//!
//! Every method fails with [`Error`].

use std::path::PathBuf;

use bytes::Bytes;

use super::{Backend, Error, named};
use crate::archive::Pieces;
use crate::client::{Client, Download};
use crate::docker::{Archive, PathKind};
use crate::lifecycle::{self, CopyIn, PathView, VolumeView};
use crate::records::Target;
use crate::wire::SecretBytes;
use crate::workspace::WorkspaceId;

/// A file or folder of a workspace on its way out.
pub struct Outgoing {
    /// The kind of the path.
    pub kind: PathKind,
    archive: Source,
}

enum Source {
    Here(Archive),
    Service(Box<Download>),
}

impl Outgoing {
    /// Returns the next bytes of the archive, or `None` at its end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        match &mut self.archive {
            Source::Here(archive) => Some(archive.next().await?.map_err(|error| lifecycle::Error::from(error).into())),
            Source::Service(download) => Some(download.next().await?.map_err(Error::from)),
        }
    }
}

/// A path in a workspace that is the target of a copy.
pub struct CopyTarget<'a> {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The kind of the path.
    pub kind: PathKind,
    /// The user of the container.
    pub user: Option<String>,
    to: Sink<'a>,
}

enum Sink<'a> {
    Here(CopyIn<'a>),
    Service(&'a Client),
}

impl CopyTarget<'_> {
    /// Unpacks an archive into a folder.
    pub async fn unpack(&self, folder: &str, pieces: Pieces) -> Result<(), Error> {
        match &self.to {
            Sink::Here(place) => Ok(place.unpack(folder, pieces).await?),
            Sink::Service(client) => Ok(client.unpack(self.workspace.as_str(), folder, pieces).await?),
        }
    }
}

impl Backend {
    /// Returns the names of the secrets of a workspace.
    pub async fn secrets(&self, target: &Target) -> Result<Vec<String>, Error> {
        match &self.service {
            Some(client) => Ok(client.secrets(&named(client, target).await?).await?.names),
            None => {
                let lifecycle = self.here().await?;
                Ok(lifecycle.secret_names(&lifecycle.find(target).await?)?)
            }
        }
    }

    /// Sets a secret. Returns the ID of the workspace.
    pub async fn set_secret(&self, target: &Target, name: &str, value: SecretBytes) -> Result<WorkspaceId, Error> {
        match &self.service {
            Some(client) => Ok(client.set_secret(&named(client, target).await?, name, value).await?.workspace),
            None => {
                let lifecycle = self.here().await?;
                let id = lifecycle.find(target).await?;
                Box::pin(lifecycle.set_secret(&id, name, value)).await?;
                Ok(id)
            }
        }
    }

    /// Removes a secret. Returns the ID of the workspace.
    pub async fn remove_secret(&self, target: &Target, name: &str) -> Result<WorkspaceId, Error> {
        match &self.service {
            Some(client) => Ok(client.remove_secret(&named(client, target).await?, name).await?.workspace),
            None => {
                let lifecycle = self.here().await?;
                let id = lifecycle.find(target).await?;
                Box::pin(lifecycle.remove_secret(&id, name)).await?;
                Ok(id)
            }
        }
    }

    /// Returns the named volumes, sorted by name.
    pub async fn volumes(&self) -> Result<Vec<VolumeView>, Error> {
        match &self.service {
            Some(client) => Ok(client.volumes().await?),
            None => Ok(self.here().await?.volumes().await?),
        }
    }

    /// Removes a named volume with its data.
    pub async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        match &self.service {
            Some(client) => Ok(client.remove_volume(name).await?),
            None => Ok(self.here().await?.remove_volume(name).await?),
        }
    }

    /// Reads a path of a workspace as an archive.
    pub async fn copy_out(&self, target: &Target, file: &str) -> Result<Outgoing, Error> {
        match &self.service {
            Some(client) => {
                let download = client.copy_out(&named(client, target).await?, file).await?;
                let kind = if download.kind == PathKind::Folder.as_str() { PathKind::Folder } else { PathKind::File };
                Ok(Outgoing { kind, archive: Source::Service(Box::new(download)) })
            }
            None => {
                let lifecycle = self.here().await?;
                let out = Box::pin(lifecycle.copy_out(&lifecycle.find(target).await?, file)).await?;
                Ok(Outgoing { kind: out.kind, archive: Source::Here(out.archive) })
            }
        }
    }

    /// Returns folders and files of this machine that workspaces write. A service reports only projects.
    pub async fn written(&self) -> Result<Vec<PathBuf>, Error> {
        match &self.service {
            Some(client) if client.is_local() => {
                Ok(client.list().await?.into_iter().map(|workspace| workspace.project.into()).collect())
            }
            Some(_) => Ok(Vec::new()),
            None => Ok(self.here().await?.written_by_workspaces()?),
        }
    }

    /// Checks whether a copy to a path of a workspace is allowed.
    pub async fn copy_in(&self, target: &Target, file: &str) -> Result<CopyTarget<'_>, Error> {
        match &self.service {
            Some(client) => {
                let PathView { workspace, kind, user } = client.path_kind(&named(client, target).await?, file).await?;
                Ok(CopyTarget { workspace, kind, user, to: Sink::Service(client) })
            }
            None => {
                let lifecycle = self.here().await?;
                let workspace = lifecycle.find(target).await?;
                let to = Box::pin(lifecycle.copy_in(&workspace, file)).await?;
                Ok(CopyTarget { workspace, kind: to.kind, user: to.user.clone(), to: Sink::Here(to) })
            }
        }
    }
}
