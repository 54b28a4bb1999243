//! Building images from a folder, with the engine's own builder: BuildKit where the engine has it.
//!
//! `POST /build?version=2` asks for BuildKit (Docker 18.09 and newer). The context is the request's body, as for the
//! legacy builder; a session exists only if the engine must ask for something, see [`session`].

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::error::{self, Error, Result};
use super::http::{Call, Pieces, encode};
use super::registry_auth::Logins;
use super::{Docker, reference};

mod session;
mod trace;
use trace::Trace;

const OPERATION: &str = "build the image";
/// Time limit until the first progress: the engine answers only once it has the whole context.
const SENDING: std::time::Duration = std::time::Duration::from_secs(1800);

/// The parameters of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildRequest {
    /// The name for the image.
    pub reference: String,
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// Build arguments. The engine stores the arguments that the Dockerfile declares in the image's history.
    pub args: BTreeMap<String, String>,
    /// The stage to build; none means the last one.
    pub target: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Rebuilds every step without the cache.
    pub no_cache: bool,
    /// Fetches newer base images.
    pub pull: bool,
    /// Memory limit in bytes for each step, without swap. BuildKit does not apply it.
    pub memory: Option<u64>,
    /// Images that the Dockerfile reads from. Each is accessed with the stored login of its registry, if there is one.
    pub bases: Vec<String>,
    /// Whether BuildKit builds it, see [`Docker::has_buildkit`].
    pub buildkit: bool,
    /// Separates the cache mounts of builds (`RUN --mount=type=cache`): only builds with the same value share them.
    pub cache: String,
    /// Files for `RUN --mount=type=secret`. Only BuildKit has them.
    pub secrets: BuildSecrets,
    /// Whether the Dockerfile has mounts: the engine may ask for a secret, so that it can say which one is missing.
    pub mounts: bool,
}

/// The secrets of a build, by id. No text shows their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BuildSecrets(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for BuildSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The build argument that separates cache mounts (docker/dockerfile, "BuildKit built-in build args").
const CACHE_ARG: &str = "BUILDKIT_CACHE_MOUNT_NS";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    stream: String,
    status: String,
    error: Option<String>,
    /// Newer engines leave `error` out.
    #[serde(rename = "errorDetail")]
    detail: Option<ErrorDetail>,
    aux: Option<Aux>,
}

/// An error within a stream of progress.
#[derive(Deserialize)]
pub(super) struct ErrorDetail {
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Aux {
    Built {
        #[serde(rename = "ID")]
        id: String,
    },
    /// A report of BuildKit, in Base64.
    Report(String),
    Other(serde::de::IgnoredAny),
}

impl Docker {
    /// Returns whether the engine has BuildKit. Podman has its own builder, which knows here-documents and mounts.
    pub fn has_buildkit(&self) -> bool {
        self.http().buildkit
    }

    /// Returns whether the engine's own BuildKit reads here-documents: Docker 23 and newer.
    pub fn reads_here_documents(&self) -> bool {
        !self.http().is_before(1, 42)
    }

    /// Returns whether the engine is a Docker, whose legacy builder lacks newer features.
    pub fn has_legacy_builder(&self) -> bool {
        self.http().docker
    }

    /// Builds an image from a context that arrives as a tar archive. `on_line` receives the builder's output line by
    /// line. Dropping the future ends the build. Returns the image's content id.
    ///
    /// # Errors
    /// [`Error::BuildFailed`] with the builder's reason; [`Error::Stream`] if the context's producer failed.
    pub async fn build(
        &self,
        request: &BuildRequest,
        context: Pieces,
        mut on_line: impl FnMut(&str),
    ) -> Result<String> {
        reference::check(OPERATION, &request.reference)?;
        let logins = Logins::of(&request.bases).await;
        let mut call = Call::post(OPERATION, request.path()).about("image", &request.reference).within(SENDING);
        let asks = request.buildkit && (request.mounts || !logins.is_empty());
        let mut session = None;
        if asks {
            let opened = session::open(self, logins, request.secrets.clone()).await?;
            call.path.push_str(&format!("&session={}", opened.id));
            session = Some(opened);
        } else {
            call = call.registries(logins.header());
        }
        let failed = |cause: &str| Error::BuildFailed {
            reference: request.reference.clone(),
            cause: error::clean(cause.trim()),
        };
        let mut body = self.http().upload(&call, context).await.map_err(|error| match error {
            Error::BadRequest { cause, .. } => failed(&cause),
            Error::Engine { message, .. } => failed(&message),
            other => other,
        })?;
        let (mut lines, mut id, mut trace) = (Vec::new(), None, Trace::default());
        loop {
            let chunk = body.chunk().await;
            let last = chunk.is_none();
            if let Some(chunk) = chunk {
                lines.extend_from_slice(&chunk.map_err(|error| call.broken(error))?);
            }
            let rest = match lines.iter().rposition(|byte| *byte == b'\n') {
                _ if last => Vec::new(),
                Some(end) => lines.split_off(end + 1),
                None => continue,
            };
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
                let line: Line = serde_json::from_slice(line)
                    .map_err(|error| Error::Protocol { operation: OPERATION, cause: error.to_string() })?;
                if let Some(cause) = line.detail.map(|detail| detail.message).or(line.error) {
                    return Err(failed(without_stages(&cause)));
                }
                match line.aux {
                    Some(Aux::Built { id: built }) => id = Some(built),
                    Some(Aux::Report(report)) => trace.push(&report, &mut on_line),
                    Some(Aux::Other(_)) | None => {}
                }
                let words = if line.stream.is_empty() { &line.status } else { &line.stream };
                words.lines().filter(|line| !line.trim().is_empty()).for_each(&mut on_line);
            }
            lines = rest;
            if last {
                break;
            }
        }
        drop(session);
        match id {
            Some(id) => Ok(id),
            // Some engines do not report the id; look the image up by its name.
            None => match self.image(&request.reference).await? {
                Some(image) => Ok(image.id),
                None => Err(failed("the builder finished without an image")),
            },
        }
    }
}

impl BuildRequest {
    fn path(&self) -> String {
        let json = |map: &BTreeMap<String, String>| serde_json::to_string(map).unwrap_or_default();
        let mut args = self.args.clone();
        if self.buildkit {
            args.insert(CACHE_ARG.to_owned(), self.cache.clone());
        }
        let mut path = format!(
            "/build?t={}&dockerfile={}&buildargs={}&labels={}&nocache={}&rm=true&forcerm=true",
            encode(&self.reference),
            encode(&self.dockerfile),
            encode(&json(&args)),
            encode(&json(&self.labels)),
            self.no_cache,
        );
        if self.buildkit {
            path.push_str("&version=2");
        }
        if let Some(target) = &self.target {
            path.push_str(&format!("&target={}", encode(target)));
        }
        if self.pull {
            path.push_str("&pull=true");
        }
        if let Some(memory) = self.memory {
            path.push_str(&format!("&memory={memory}&memswap={memory}"));
        }
        path
    }
}

/// Returns the cause without the names of BuildKit's own stages in front of it.
fn without_stages(cause: &str) -> &str {
    let stages =
        ["failed to solve with frontend dockerfile.v0: ", "failed to solve: ", "failed to create LLB definition: "];
    stages.iter().fold(cause, |cause, stage| cause.strip_prefix(stage).unwrap_or(cause))
}
