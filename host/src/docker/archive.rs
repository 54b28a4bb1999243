//! Copies files into and out of a container as tar archives (API documentation, "ContainerArchive").

use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::http::{Body, Call, Pieces, encode};
use super::{Docker, containers};

/// A copy may take long, but not forever.
const COPY: std::time::Duration = std::time::Duration::from_secs(3600);

/// The kind of object at a path in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// No object exists at the path.
    Missing,
    /// A folder, or a link to a folder.
    Folder,
    /// Any other object.
    File,
}

impl PathKind {
    /// Returns the kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Folder => "folder",
            Self::File => "file",
        }
    }
}

/// A tar archive as it arrives. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Archive(Body);

impl Archive {
    /// Returns the next bytes, or none at the end.
    ///
    /// # Errors
    /// [`Error::Stream`] when the connection breaks.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        let chunk = self.0.chunk().await?;
        Some(chunk.map_err(|error| Error::Stream { operation: "copy from the container", source: error.into() }))
    }
}

impl Docker {
    /// Returns the kind of object at a path in a container. Links are followed.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    pub async fn path_kind(&self, id: &str, path: &str) -> Result<PathKind> {
        // The answer to HEAD carries mode bits in a header. With a trailing `/.` in the path the engine finds only
        // folders, so the header need not be parsed.
        for (path, kind) in
            [(format!("{}/.", path.trim_end_matches('/')), PathKind::Folder), (path.into(), PathKind::File)]
        {
            let call = Call::new(Method::HEAD, "inspect the path", archive_path(id, &path)?).about("container", id);
            let reply = self.http().send(&call).await?;
            match reply.status {
                200 => return Ok(kind),
                // A file with a trailing `/.` causes "not a directory".
                400 | 404 | 500 => {}
                _ => return Err(call.error(&reply)),
            }
        }
        // An answer to HEAD has no message, so check whether the container itself is missing.
        self.inspect(id).await?;
        Ok(PathKind::Missing)
    }

    /// Reads a file or folder of a container. Its name is the first name in the archive. For the root, and with a
    /// trailing `/.`, the archive holds the folder's contents without the folder's name. The engine follows links
    /// before the dot.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn read_archive(&self, id: &str, path: &str) -> Result<Archive> {
        let call = Call::get("copy from the container", archive_path(id, path)?).about("path", path);
        match self.http().stream(&call).await {
            Ok(body) => Ok(Archive(body)),
            // `/file/.`: the engine's message is about its own path.
            Err(Error::Engine { operation, message, .. } | Error::BadRequest { operation, cause: message })
                if message.contains("not a directory") =>
            {
                Err(Error::BadRequest { operation, cause: format!("'{path}' is not a folder") })
            }
            Err(error) => Err(error),
        }
    }

    /// Unpacks an archive into a folder of a container. A folder never replaces a file, and a file never replaces a
    /// folder.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the folder, [`Error::BadRequest`] for invalid archives, [`Error::Unsupported`] if the
    /// root file system is read-only, [`Error::Stream`] if the archive's producer failed.
    pub async fn write_archive(&self, id: &str, folder: &str, pieces: Pieces) -> Result<()> {
        let path = format!("{}&noOverwriteDirNonDir=true", archive_path(id, folder)?);
        let call = Call::new(Method::PUT, "copy into the container", path).about("folder", folder).within(COPY);
        match self.http().upload(&call, pieces).await {
            Ok(mut body) => {
                while let Some(chunk) = body.chunk().await {
                    chunk.map_err(|error| call.broken(error))?;
                }
                Ok(())
            }
            Err(Error::Engine { operation, message, .. } | Error::BadRequest { operation, cause: message })
                if message.contains("read-only") =>
            {
                Err(Error::Unsupported { operation, cause: message })
            }
            // Errors of Go's archive/tar: the body is no archive, or only the beginning of one.
            Err(Error::Engine { operation, message, .. })
                if message.contains("invalid tar header") || message.contains("unexpected EOF") =>
            {
                Err(Error::BadRequest { operation, cause: "the upload is not a complete tar archive".to_owned() })
            }
            Err(error) => Err(error),
        }
    }
}

fn archive_path(id: &str, path: &str) -> Result<String> {
    Ok(format!("{}/archive?path={}", containers::path(id)?, encode(path)))
}
