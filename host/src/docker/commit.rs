//! Saves a container's writable layer as an image, and copies files between volumes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{Error, Result};
use super::http::{Call, encode};
use super::images::{ImageInfo, content_id};
use super::{Docker, containers};
use crate::workspace::LABEL_PREFIX;

/// Committing copies the whole layer.
const COPY: std::time::Duration = std::time::Duration::from_secs(3600);

/// The parameters for saving a container as an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest<'a> {
    /// Name of the image, without a tag.
    pub repository: &'a str,
    /// Its tag.
    pub tag: &'a str,
    /// Labels of the image.
    pub labels: &'a BTreeMap<String, String>,
    /// Labels of the container that the image must not have. The engine copies all labels and can only blank them.
    pub blank_labels: Vec<String>,
}

impl Docker {
    /// Creates an image from a container, which is paused meanwhile. Returns the image's content id.
    ///
    /// The image stores the container's whole configuration beside its own (`ContainerConfig`), including the
    /// environment. For a container with secrets use [`Docker::flatten`].
    ///
    /// # Errors
    /// [`super::Error::NotFound`]; the errors of a failing engine.
    pub async fn commit(&self, id: &str, request: &CommitRequest<'_>) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            id: String,
        }
        containers::path(id)?;
        let blank = request.blank_labels.iter().filter(|name| name.starts_with(LABEL_PREFIX));
        let mut labels: BTreeMap<&str, &str> = blank.map(|name| (name.as_str(), "")).collect();
        labels.extend(request.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let path = format!(
            "/commit?container={}&repo={}&tag={}&pause=true",
            encode(id),
            encode(request.repository),
            encode(request.tag)
        );
        let body = serde_json::json!({ "Labels": labels });
        let call = Call::post("commit the container", path).about("container", id).within(COPY).json(&body)?;
        Ok(content_id(self.http().json::<Answer>(&call).await?.id))
    }

    /// Creates an image from all files of a container, in one layer. It has the configuration of the container's
    /// original image and nothing from the container's own configuration. Returns the image's content id.
    ///
    /// # Errors
    /// [`super::Error::NotFound`]; the errors of a failing engine.
    pub async fn flatten(&self, id: &str, from: &ImageInfo, request: &CommitRequest<'_>) -> Result<String> {
        const OPERATION: &str = "commit the container";
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        // The values are part of a Dockerfile, where a dollar sign starts a variable.
        let literal = |text: &str| quoted(text).replace('$', "\\$");
        let mut changes: Vec<String> = Vec::new();
        changes
            .extend(request.labels.iter().map(|(name, value)| format!("LABEL {}={}", literal(name), literal(value))));
        changes.extend(from.env.iter().filter(|pair| !pair.contains('\n')).filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some(format!("ENV {name}={}", literal(value)))
        }));
        if !from.user.is_empty() {
            changes.push(format!("USER {}", from.user));
        }
        let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
        if !from.entrypoint.is_empty() {
            changes.push(format!("ENTRYPOINT {}", list(&from.entrypoint)));
        }
        if !from.command.is_empty() {
            changes.push(format!("CMD {}", list(&from.command)));
        }
        let mut path =
            format!("/images/create?fromSrc=-&repo={}&tag={}", encode(request.repository), encode(request.tag));
        for change in &changes {
            path.push_str(&format!("&changes={}", encode(change)));
        }
        let export = Call::get(OPERATION, format!("{}/export", containers::path(id)?)).about("container", id);
        let mut files = self.http().stream(&export).await?;
        let (sender, pieces) = tokio::sync::mpsc::channel(16);
        let read = async move {
            while let Some(chunk) = files.chunk().await {
                // The writer itself reports why it stopped.
                if sender.send(chunk.map_err(std::io::Error::other)).await.is_err() {
                    break;
                }
            }
        };
        let call = Call::post(OPERATION, path).about("container", id).within(COPY);
        let write = async {
            let mut body = self.http().upload(&call, pieces).await?;
            let mut words = Vec::new();
            while let Some(chunk) = body.chunk().await {
                words.extend_from_slice(&chunk.map_err(|error| call.broken(error))?);
            }
            Ok::<_, Error>(words)
        };
        let (words, ()) = tokio::join!(write, read);
        // The last line holds the id, or the failure.
        for line in words?.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let line: serde_json::Value = super::http::parse(OPERATION, line)?;
            if let Some(message) = line.get("error").and_then(|error| error.as_str()) {
                return Err(Error::Engine { operation: OPERATION, status: 200, message: message.to_owned() });
            }
        }
        let name = format!("{}:{}", request.repository, request.tag);
        match self.image(&name).await? {
            Some(image) => Ok(image.id),
            None => Err(Error::ImageMissing { reference: name }),
        }
    }

    /// Creates a container that is never started, with volumes at `/from` and `/to`. Files can be copied between the
    /// volumes through it, whatever the image contains.
    ///
    /// # Errors
    /// [`super::Error::ImageMissing`]; the errors of a failing engine.
    pub async fn create_copier(
        &self,
        image: &str,
        from: &str,
        to: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            id: String,
        }
        let mount = |source: &str, target: &str, read_only: bool| {
            serde_json::json!({
                "Type": "volume", "Source": source, "Target": target, "ReadOnly": read_only,
                // Files of the image at the target path must not get into the volume.
                "VolumeOptions": { "NoCopy": true, "Labels": labels },
            })
        };
        let body = serde_json::json!({
            "Image": image, "Cmd": ["none"], "Entrypoint": [], "Labels": labels, "NetworkDisabled": true,
            "HostConfig": { "NetworkMode": "none", "CapDrop": ["ALL"],
                "Mounts": [mount(from, "/from", true), mount(to, "/to", false)] },
        });
        let call =
            Call::post("create a container for copying", "/containers/create").about("image", image).json(&body)?;
        Ok(self.http().json::<Answer>(&call).await?.id)
    }
}
