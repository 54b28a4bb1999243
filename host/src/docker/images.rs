//! Images: listing those of the engine and pulling missing ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::build::ErrorDetail;
use super::error::{self, Error, Result};
use super::http::{Call, SLOW, encode, filters, parse};
use super::reference::{check, split};
use super::{Docker, registry_auth};
use crate::workspace::{LABEL_IMAGE_HOST, LABEL_IMAGE_NAME};

/// An image of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalImage {
    /// References as in `docker run`, e.g. `debian:12`; empty for an image that lost its last tag.
    pub references: Vec<String>,
    /// Digests as known to its registries, e.g. `debian@sha256:...`.
    pub digests: Vec<String>,
    /// The engine's content id, `sha256:...`.
    pub id: String,
    /// Size in bytes, including layers shared with other images.
    pub size: u64,
}

/// One image in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// The engine's content id, `sha256:...`.
    pub id: String,
    /// All its tags.
    pub references: Vec<String>,
    /// Digests as known to its registries.
    pub digests: Vec<String>,
    /// Size in bytes.
    pub size: u64,
    /// The build time.
    pub created_at: Option<jiff::Timestamp>,
    /// E.g. `amd64`.
    pub architecture: String,
    /// E.g. `linux`.
    pub os: String,
    /// The user that it runs as; empty for root.
    pub user: String,
    /// Its default command.
    pub command: Vec<String>,
    /// Its entry point, which receives the command as arguments.
    pub entrypoint: Vec<String>,
    /// Its working directory; empty for the root.
    pub working_dir: String,
    /// Folders that it declares as volumes.
    pub volumes: Vec<String>,
    /// Its health check, with the engine's defaults for unset values.
    pub health_check: Option<crate::workspace::HealthCheck>,
    /// Its environment, `KEY=value`.
    pub env: Vec<String>,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// One step of a pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// Id of the layer; none for messages about the whole image.
    pub layer: Option<String>,
    /// The engine's status, e.g. `Downloading`.
    pub status: String,
    /// Bytes done in this step.
    pub current: Option<u64>,
    /// Bytes to do in this step.
    pub total: Option<u64>,
    /// Whether it says that a failed pull is tried again.
    #[serde(default)]
    pub retry: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    id: String,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    size: u64,
    // The fields below only exist in an inspection; in a list, `Created` is a number.
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    created: serde_json::Value,
    config: Option<RawConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawId {
    id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    user: String,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    working_dir: Option<String>,
    healthcheck: Option<bollard::models::HealthConfig>,
    /// The shell that runs a health check given as text; the engine's default is `/bin/sh -c`.
    shell: Option<Vec<String>>,
    volumes: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    env: Option<Vec<String>>,
    labels: Option<std::collections::BTreeMap<String, String>>,
}

/// Returns an image's health check as a container has it: unset values get the engine's defaults (moby,
/// daemon/health.go).
fn image_health(
    mut raw: bollard::models::HealthConfig,
    shell: Option<Vec<String>>,
) -> Option<crate::workspace::HealthCheck> {
    if let (Some(shell), Some(test)) = (shell.filter(|words| !words.is_empty()), &mut raw.test)
        && test.first().is_some_and(|kind| kind == "CMD-SHELL")
    {
        test.splice(..1, ["CMD".to_owned()].into_iter().chain(shell));
    }
    let mut check = super::spec_map::actual_health(&raw)?;
    let or = |value: u64| if value == 0 { 30_000 } else { value };
    (check.interval_ms, check.timeout_ms) = (or(check.interval_ms), or(check.timeout_ms));
    check.retries = if check.retries == 0 { 3 } else { check.retries };
    Some(check)
}

/// Returns the names of an image that the installation `host` gave it. Labels alone do not prove that an image is
/// ours: images built from it inherit them, and a renamed image keeps them.
pub fn given_names<'a>(
    labels: &'a std::collections::BTreeMap<String, String>,
    host: &str,
    references: &'a [String],
) -> impl Iterator<Item = &'a String> {
    let name = labels.get(LABEL_IMAGE_NAME).filter(|_| labels.get(LABEL_IMAGE_HOST).is_some_and(|of| of == host));
    let name = name.map(|name| familiar(name));
    references.iter().filter(move |reference| name.as_ref().is_some_and(|name| *name == familiar(reference)))
}

/// Returns a reference as the engine lists it: without the default registry, with a tag.
fn familiar(reference: &str) -> String {
    let short = reference.strip_prefix("docker.io/").map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
    let short = short.unwrap_or(reference);
    let has_tag = short.contains('@') || short.rsplit('/').next().is_some_and(|name| name.contains(':'));
    if has_tag { short.to_owned() } else { format!("{short}:latest") }
}

/// Removes `<none>:<none>` and `<none>@<none>`, which engines before 25 use for "no name".
pub(super) fn named(list: Option<Vec<String>>) -> Vec<String> {
    list.unwrap_or_default().into_iter().filter(|name| !name.starts_with("<none>")).collect()
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawProgress {
    id: Option<String>,
    status: String,
    progress_detail: Option<RawDetail>,
    error: Option<String>,
    /// Newer engines leave `error` out.
    error_detail: Option<ErrorDetail>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawDetail {
    current: Option<u64>,
    total: Option<u64>,
}

/// Returns an image's content id in one spelling. Podman's `/commit` and its lists omit the algorithm, and an id that is
/// compared with another spelling looks unused.
pub(in crate::docker) fn content_id(id: String) -> String {
    let bare = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if bare { format!("sha256:{id}") } else { id }
}

impl Docker {
    /// Lists the engine's images.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn local_images(&self) -> Result<Vec<LocalImage>> {
        let list: Vec<RawImage> = self.http().json(&Call::get("list the images", "/images/json")).await?;
        let image = |raw: RawImage| LocalImage {
            references: named(raw.repo_tags),
            digests: named(raw.repo_digests),
            id: content_id(raw.id),
            size: raw.size,
        };
        Ok(list.into_iter().map(image).collect())
    }

    /// Lists the images that have all of these labels with exactly these values, together with their other labels.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn labelled_images(
        &self,
        labels: &[(&str, &str)],
    ) -> Result<Vec<(ImageInfo, std::collections::BTreeMap<String, String>)>> {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let path = format!("/images/json?{}", filters("label", &wanted));
        let list: Vec<RawId> = self.http().json(&Call::get("list the images", path)).await?;
        let mut found = Vec::new();
        for raw in list {
            // An image that was removed meanwhile is skipped.
            let Some(image) = self.image(&raw.id).await? else { continue };
            let all = image.labels.clone();
            if labels.iter().all(|(key, value)| all.get(*key).is_some_and(|found| found == value)) {
                found.push((image, all));
            }
        }
        Ok(found)
    }

    /// Returns one image by reference, id or digest; none if the engine does not have it.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for an invalid reference; the errors of a failing engine or a broken connection.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        const OPERATION: &str = "inspect the image";
        check(OPERATION, reference)?;
        let call = Call::get(OPERATION, format!("/images/{}/json", encode(reference))).about("image", reference);
        let reply = self.http().send(&call).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        if !reply.is_success() {
            return Err(call.error(&reply));
        }
        let raw: RawImage = parse(OPERATION, &reply.body)?;
        let config = raw.config.unwrap_or_default();
        Ok(Some(ImageInfo {
            id: content_id(raw.id),
            references: named(raw.repo_tags),
            digests: named(raw.repo_digests),
            size: raw.size,
            created_at: raw.created.as_str().and_then(super::containers::time),
            architecture: raw.architecture,
            os: raw.os,
            user: config.user,
            command: config.cmd.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            volumes: config.volumes.unwrap_or_default().into_keys().collect(),
            health_check: config.healthcheck.and_then(|check| image_health(check, config.shell)),
            env: config.env.unwrap_or_default(),
            labels: config.labels.unwrap_or_default(),
        }))
    }

    /// Removes a name from an image, and the image itself if that was its last name. Returns whether the name
    /// existed. An image used by a container, running or not, stays.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a container uses it.
    pub async fn remove_image(&self, reference: &str) -> Result<bool> {
        const OPERATION: &str = "remove the image";
        check(OPERATION, reference)?;
        let path = format!("/images/{}?force=false&noprune=false", encode(reference));
        let call = Call::delete(OPERATION, path).about("image", reference).within(SLOW);
        match self.http().ok(&call).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. } | Error::ImageMissing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image from its registry; without a tag, `:latest`. The credentials are those of `docker login`, if
    /// they are stored in its configuration file. Dropping the future cancels the pull.
    ///
    /// # Errors
    /// [`Error::PullFailed`] with the registry's reason; [`Error::BadRequest`] for an invalid reference.
    ///
    /// Temporary failures of the registry or the connection are retried, with pauses. The engine keeps complete
    /// layers meanwhile, so a retry only fetches the rest.
    pub async fn pull(&self, reference: &str, mut on_progress: impl FnMut(PullProgress)) -> Result<()> {
        check("pull the image", reference)?;
        for pause in PAUSES {
            match self.pull_once(reference, &mut on_progress).await {
                Err(error) if is_momentary(&error) => {
                    let seconds = pause.as_secs();
                    on_progress(PullProgress {
                        layer: None,
                        status: format!("{error}; trying again in {seconds} s"),
                        current: None,
                        total: None,
                        retry: true,
                    });
                    tracing::info!("{error}; trying again in {seconds} s");
                    tokio::time::sleep(pause).await;
                }
                other => return other,
            }
        }
        self.pull_once(reference, &mut on_progress).await
    }

    async fn pull_once(&self, reference: &str, on_progress: &mut impl FnMut(PullProgress)) -> Result<()> {
        const OPERATION: &str = "pull the image";
        let (repository, tag) = split(reference);
        let failed = |cause: &str| Error::PullFailed {
            reference: reference.to_owned(),
            chosen: None,
            cause: error::clean(cause),
        };
        let path = format!("/images/create?fromImage={}&tag={}", encode(repository), encode(tag));
        let auth = registry_auth::header(repository).await;
        // The head of the answer only arrives with the first progress, after the registry has answered.
        let call = Call::post(OPERATION, path).about("image", reference).within(SLOW).auth(auth);
        let mut body = self.http().stream(&call).await.map_err(|error| match error {
            Error::NotFound { .. } => failed("the registry has no such image, or requires a login"),
            Error::Engine { message, .. } => failed(&message),
            Error::BadRequest { cause, .. } | Error::Conflict { cause, .. } => failed(&cause),
            other => other,
        })?;
        let mut lines = Vec::new();
        while let Some(chunk) = body.chunk().await {
            lines.extend_from_slice(&chunk.map_err(|error| call.broken(error))?);
            // Each object ends with a newline; a rest without one continues in the next chunk.
            let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') else { continue };
            let rest = lines.split_off(end + 1);
            report(&lines, on_progress).map_err(|cause| failed(&cause))?;
            lines = rest;
        }
        report(&lines, on_progress).map_err(|cause| failed(&cause))
    }
}

/// Pauses before each retry of a failed pull.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// Returns whether a pull may well succeed a moment later. The words come from Go's net package and from registries.
fn is_momentary(error: &Error) -> bool {
    const WORDS: [&str; 11] = [
        "unexpected EOF",
        ": EOF",
        "connection reset",
        "broken pipe",
        "timeout",
        "temporary failure",
        "too many requests",
        "toomanyrequests",
        "internal server error",
        "bad gateway",
        "service unavailable",
    ];
    match error {
        Error::Stream { .. } => true,
        Error::PullFailed { cause, .. } => {
            let cause = cause.to_lowercase();
            WORDS.iter().any(|word| cause.contains(&word.to_lowercase()))
        }
        _ => false,
    }
}

/// Reports complete lines of progress. The error is the engine's.
fn report(lines: &[u8], on_progress: &mut impl FnMut(PullProgress)) -> std::result::Result<(), String> {
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let raw: RawProgress = serde_json::from_slice(line).map_err(|error| format!("unreadable progress: {error}"))?;
        if let Some(cause) = raw.error_detail.map(|detail| detail.message).or(raw.error) {
            return Err(cause);
        }
        let detail = raw.progress_detail.unwrap_or_default();
        // In this message the engine puts the tag in the layer's field.
        let layer = raw.id.filter(|_| !raw.status.starts_with("Pulling from "));
        let (current, total) = (detail.current, detail.total);
        on_progress(PullProgress { layer, status: raw.status, current, total, retry: false });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_work_a_moment_later_is_tried_again() {
        let failed = |cause: &str| Error::PullFailed { reference: "x".into(), chosen: None, cause: cause.into() };
        for cause in ["Get \"http://x/v2/\": EOF", "received unexpected HTTP status: 503 Service Unavailable"] {
            assert!(is_momentary(&failed(cause)), "{cause}");
        }
        for cause in ["manifest unknown", "unauthorized: authentication required", "no space left on device"] {
            assert!(!is_momentary(&failed(cause)), "{cause}");
        }
        assert!(!is_momentary(&Error::NotFound { what: "image", name: "x".into() }));
    }

    #[test]
    fn an_error_within_the_progress_is_an_error() {
        let mut seen = Vec::new();
        let text = b"{\"status\":\"Downloading\",\"id\":\"ab\",\"progressDetail\":{\"current\":1,\"total\":2}}\r\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n";
        let result = report(text, &mut |progress| seen.push(progress));
        assert_eq!(result, Err("no space".to_owned()));
        assert_eq!(seen[0].current, Some(1));
    }
}
