//! Files of a container, in and out, as tar archives (API documentation, "ContainerArchive").

use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::http::{Body, Call, Pieces, encode};
use super::{Docker, containers};

/// A copy may take long, but not for ever.
const COPY: std::time::Duration = std::time::Duration::from_secs(3600);

/// What a path in a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// Nothing is there.
    Missing,
    /// A folder, or a link to one.
    Folder,
    /// Anything else.
    File,
}

impl PathKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Folder => "folder",
            Self::File => "file",
        }
    }
}

/// A tar archive as it arrives. Dropping it ends it.
#[derive(Debug)]
pub struct Archive(Body);

impl Archive {
    /// The next bytes, or none at the end.
    ///
    /// # Errors
    /// [`Error::Stream`] when the connection breaks.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        let chunk = self.0.chunk().await?;
        Some(chunk.map_err(|error| Error::Stream { operation: "copy from the container", source: error.into() }))
    }
}

impl Docker {
    /// Says what a path in a container is; links are followed.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    pub async fn path_kind(&self, id: &str, path: &str) -> Result<PathKind> {
        // The answer to HEAD carries mode bits in a header; with a dot behind the path only a folder is found, and no
        // header needs to be understood.
        for (path, kind) in
            [(format!("{}/.", path.trim_end_matches('/')), PathKind::Folder), (path.into(), PathKind::File)]
        {
            let call = Call::new(Method::HEAD, "look at the path", archive_path(id, &path)?).about("container", id);
            let reply = self.http().send(&call).await?;
            match reply.status {
                200 => return Ok(kind),
                // A file with a dot behind it: "not a directory".
                400 | 404 | 500 => {}
                _ => return Err(call.error(&reply)),
            }
        }
        // An answer to HEAD has no words, so ask whether it was the container that is missing.
        self.inspect(id).await?;
        Ok(PathKind::Missing)
    }

    /// Reads a file or folder of a container; its name is the first one in the archive. With `/.` behind it, and for the
    /// root, what is in the folder comes without a name; links before the dot are followed by the engine.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn read_archive(&self, id: &str, path: &str) -> Result<Archive> {
        let call = Call::get("copy from the container", archive_path(id, path)?).about("path", path);
        match self.http().stream(&call).await {
            Ok(body) => Ok(Archive(body)),
            // `/file/.`; the engine's words are about a path of its own.
            Err(Error::Engine { operation, message, .. } | Error::BadRequest { operation, cause: message })
                if message.contains("not a directory") =>
            {
                Err(Error::BadRequest { operation, cause: format!("{path} is not a folder") })
            }
            Err(error) => Err(error),
        }
    }

    /// Unpacks an archive in a folder of a container. A folder never takes the place of a file, nor the other way round.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the folder, [`Error::BadRequest`] for what is no archive, [`Error::Unsupported`] where the root file system is read-only,
    /// [`Error::Stream`] when the maker of the archive failed.
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
            // Go, archive/tar: what came is no archive, or only the beginning of one.
            Err(Error::Engine { operation, message, .. })
                if message.contains("invalid tar header") || message.contains("unexpected EOF") =>
            {
                Err(Error::BadRequest { operation, cause: "what was sent is not a whole tar archive".to_owned() })
            }
            Err(error) => Err(error),
        }
    }
}

fn archive_path(id: &str, path: &str) -> Result<String> {
    Ok(format!("{}/archive?path={}", containers::path(id)?, encode(path)))
}
