//! Disk usage per object of the engine, and references between objects: one call, expensive on large engines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::Docker;
use super::error::{Error, Result};
use super::http::Call;
use crate::workspace::LABEL_HOST;

/// Measuring walks the files of all volumes and containers.
const MEASURE: Duration = Duration::from_secs(600);
/// Maximum wait for other callers that are measuring.
const OTHERS: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// All objects on the engine's disk, of all clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// All containers, running or not.
    pub containers: Vec<ContainerUsage>,
    /// All images.
    pub images: Vec<ImageUsage>,
    /// All volumes.
    pub volumes: Vec<VolumeUsage>,
}

/// A container's disk usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUsage {
    /// The engine's id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Content id of its image.
    pub image_id: String,
    /// Names of the networks that it is connected to.
    pub networks: BTreeSet<String>,
    /// Bytes of its writable layer.
    pub size: Option<u64>,
}

/// An image's disk usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Content id.
    pub id: String,
    /// Its tags.
    pub references: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The build time.
    pub created_at: Option<jiff::Timestamp>,
    /// Bytes not shared with any other image.
    pub size: Option<u64>,
    /// The tags that this installation gave it, see [`super::given_names`].
    pub given: Vec<String>,
}

/// A volume's disk usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The creation time.
    pub created_at: Option<jiff::Timestamp>,
    /// Size in bytes; none if the driver cannot report it.
    pub size: Option<u64>,
    /// Whether a container, running or not, uses it.
    pub used: bool,
    /// Whether this installation created it.
    pub ours: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    containers: Option<Vec<RawContainer>>,
    images: Option<Vec<RawImage>>,
    volumes: Option<Vec<RawVolume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawContainer {
    id: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "ImageID", default)]
    image_id: String,
    #[serde(default)]
    size_rw: u64,
    network_settings: Option<RawNetworks>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNetworks {
    networks: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    id: String,
    repo_tags: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    size: i64,
    // -1 if it was not computed.
    #[serde(default)]
    shared_size: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawVolume {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    created_at: String,
    usage_data: Option<RawUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawUsage {
    // -1 if the driver cannot report it.
    size: i64,
    ref_count: i64,
}

impl Docker {
    /// Measures all objects on the engine's disk.
    ///
    /// # Errors
    /// [`Error::Timeout`] after ten minutes; the engine's own error if other callers keep measuring.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        let call = Call::get("measure the engine's disk", "/system/df").within(MEASURE);
        let begin = tokio::time::Instant::now();
        let raw: Raw = loop {
            match self.http().json(&call).await {
                // The engine measures for one caller at a time.
                Err(Error::Engine { message, .. } | Error::Conflict { cause: message, .. })
                    if message.contains("already running") && begin.elapsed() < OTHERS =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                other => break other?,
            }
        };
        let ours = |labels: &BTreeMap<String, String>| labels.get(LABEL_HOST) == Some(&self.inner.host_id);
        let containers = raw.containers.unwrap_or_default().into_iter().map(|raw| ContainerUsage {
            id: raw.id,
            labels: raw.labels.unwrap_or_default(),
            image_id: raw.image_id,
            networks: raw.network_settings.and_then(|n| n.networks).unwrap_or_default().into_keys().collect(),
            size: Some(raw.size_rw),
        });
        let images = raw.images.unwrap_or_default().into_iter().map(|raw| {
            let labels = raw.labels.unwrap_or_default();
            let references = super::images::named(raw.repo_tags);
            ImageUsage {
                id: raw.id,
                given: super::given_names(&labels, &self.inner.host_id, &references).cloned().collect(),
                references,
                labels,
                created_at: jiff::Timestamp::from_second(raw.created).ok(),
                size: (raw.shared_size >= 0).then(|| u64::try_from(raw.size - raw.shared_size).unwrap_or_default()),
            }
        });
        let volumes = raw.volumes.unwrap_or_default().into_iter().map(|raw| {
            let labels = raw.labels.unwrap_or_default();
            VolumeUsage {
                name: raw.name,
                ours: ours(&labels),
                labels,
                created_at: super::containers::time(&raw.created_at),
                size: raw.usage_data.as_ref().and_then(|usage| u64::try_from(usage.size).ok()),
                // Unknown counts as used: a volume that may be in use is not removed.
                used: raw.usage_data.is_none_or(|usage| usage.ref_count != 0),
            }
        });
        Ok(DiskUsage { containers: containers.collect(), images: images.collect(), volumes: volumes.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_does_not_know_is_no_zero_and_counts_as_used() {
        let text = r#"{"LayersSize":9,"Images":[{"Id":"sha256:a","RepoTags":["<none>:<none>"],"Labels":null,"Size":10,"SharedSize":-1,"Created":1}],
            "Containers":null,"Volumes":[{"Name":"v","Labels":null,"CreatedAt":"","UsageData":null}]}"#;
        let raw: Raw = serde_json::from_str(text).unwrap();
        assert_eq!(raw.images.unwrap()[0].shared_size, -1);
        assert!(raw.volumes.unwrap()[0].usage_data.is_none() && raw.containers.is_none());
    }
}
