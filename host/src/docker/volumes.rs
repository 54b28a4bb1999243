//! Named volumes: identifying and removing our own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Docker;
use super::error::{Error, Result};
use super::http::{Call, encode, filters};
use crate::workspace::LABEL_HOST;

/// A named volume of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The creation time.
    pub created_at: Option<jiff::Timestamp>,
    /// The location of its files on the engine's machine.
    pub mountpoint: String,
    /// Whether this installation created it.
    pub ours: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    name: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    mountpoint: String,
}

impl Docker {
    /// Returns the volume with exactly this name, if it exists.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        let call = Call::get("inspect the volume", format!("/volumes/{}", encode(&plain(name)?))).about("volume", name);
        match self.http().json::<Raw>(&call).await {
            Ok(raw) => Ok(Some(self.volume_of(raw))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a volume with these labels. If the name exists already, the engine returns that volume, and its labels
    /// show it.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<Volume> {
        let body = serde_json::json!({ "Name": plain(name)?, "Labels": labels });
        let call = Call::post("create the volume", "/volumes/create").about("volume", name).json(&body)?;
        Ok(self.volume_of(self.http().json::<Raw>(&call).await?))
    }

    /// Returns all volumes that this installation created and that have all of these labels with exactly these
    /// values.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn our_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<Volume>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            volumes: Option<Vec<Raw>>,
        }
        let mut wanted = vec![format!("{LABEL_HOST}={}", self.inner.host_id)];
        wanted.extend(labels.iter().map(|(key, value)| format!("{key}={value}")));
        let call = Call::get("list the volumes", format!("/volumes?{}", filters("label", &wanted)));
        let answer: Answer = self.http().json(&call).await?;
        let all = answer.volumes.unwrap_or_default().into_iter().map(|raw| self.volume_of(raw));
        let has =
            |volume: &Volume| labels.iter().all(|(key, value)| volume.labels.get(*key).is_some_and(|v| v == value));
        Ok(all.filter(|volume| volume.ours && has(volume)).collect())
    }

    /// Removes a volume of ours with its data. Returns whether it existed. A volume used by a container stays.
    ///
    /// # Errors
    /// [`Error::NotOurs`], and [`Error::Conflict`] while a container, running or not, uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<bool> {
        match self.volume(name).await? {
            None => return Ok(false),
            Some(volume) if !volume.ours => return Err(Error::NotOurs { what: "volume", name: name.to_owned() }),
            Some(_) => {}
        }
        let call =
            Call::delete("remove the volume", format!("/volumes/{}", encode(&plain(name)?))).about("volume", name);
        match self.http().ok(&call).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn volume_of(&self, raw: Raw) -> Volume {
        let labels = raw.labels.unwrap_or_default();
        let ours = labels.get(LABEL_HOST).is_some_and(|host| *host == self.inner.host_id);
        let created_at = super::containers::time(&raw.created_at);
        Volume { name: raw.name, created_at, mountpoint: raw.mountpoint, ours, labels }
    }
}

/// Validates a volume's name. Invalid text is not sent: `..` or an empty name would be another path.
fn plain(name: &str) -> Result<String> {
    let valid = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if valid { Ok(name.to_owned()) } else { Err(Error::NotFound { what: "volume", name: name.to_owned() }) }
}
