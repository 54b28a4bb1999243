//! Building images from a folder, with the engine's own builder.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{self, Error, Result};
use super::http::{Call, Pieces, encode};
use super::{Docker, reference, registry_auth};

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
    /// Memory limit in bytes for each step, without swap.
    pub memory: Option<u64>,
    /// Repositories of the Dockerfile's base images. Each is accessed with the stored login of its registry, if there
    /// is one.
    pub bases: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    stream: String,
    status: String,
    error: Option<String>,
    aux: Option<Aux>,
}

#[derive(Deserialize)]
struct Aux {
    #[serde(rename = "ID")]
    id: Option<String>,
}

impl Docker {
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
        let json = |map: &BTreeMap<String, String>| serde_json::to_string(map).unwrap_or_default();
        let mut path = format!(
            "/build?t={}&dockerfile={}&buildargs={}&labels={}&nocache={}&rm=true&forcerm=true",
            encode(&request.reference),
            encode(&request.dockerfile),
            encode(&json(&request.args)),
            encode(&json(&request.labels)),
            request.no_cache,
        );
        if let Some(target) = &request.target {
            path.push_str(&format!("&target={}", encode(target)));
        }
        if request.pull {
            path.push_str("&pull=true");
        }
        if let Some(memory) = request.memory {
            path.push_str(&format!("&memory={memory}&memswap={memory}"));
        }
        let logins = registry_auth::config_header(&request.bases).await;
        let call = Call::post(OPERATION, path).about("image", &request.reference).within(SENDING).registries(logins);
        let failed = |cause: &str| Error::BuildFailed {
            reference: request.reference.clone(),
            cause: error::clean(cause.trim()),
        };
        let mut body = self.http().upload(&call, context).await.map_err(|error| match error {
            Error::BadRequest { cause, .. } => failed(&cause),
            Error::Engine { message, .. } => failed(&message),
            other => other,
        })?;
        let (mut lines, mut id) = (Vec::new(), None);
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
                if let Some(cause) = line.error {
                    return Err(failed(&cause));
                }
                if let Some(built) = line.aux.and_then(|aux| aux.id) {
                    id = Some(built);
                }
                let words = if line.stream.is_empty() { &line.status } else { &line.stream };
                words.lines().filter(|line| !line.trim().is_empty()).for_each(&mut on_line);
            }
            lines = rest;
            if last {
                break;
            }
        }
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
