//! Named volumes that Wharf made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::docker;
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::{LABEL_NAME, LABEL_SNAPSHOT, LABEL_WORKSPACE};

/// A named volume
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeView {
    /// Its name.
    pub name: String,
    /// Name of the workspace that it was made for.
    pub workspace: String,
    /// Id of that workspace, which may be gone.
    pub workspace_id: String,
    /// Time of its creation, if the engine reports it.
    pub created_at: Option<Timestamp>,
}

impl Lifecycle {
    /// Returns the named volumes that this installation made, sorted by name.
    ///
    /// # Errors
    /// The engine's.
    pub async fn volumes(&self) -> Result<Vec<VolumeView>, Error> {
        let view = |volume: docker::Volume| {
            let label = |key: &str| volume.labels.get(key).cloned().unwrap_or_default();
            let (workspace, workspace_id) = (label(LABEL_NAME), label(LABEL_WORKSPACE));
            VolumeView { workspace, workspace_id, name: volume.name, created_at: volume.created_at }
        };
        let mut all: Vec<_> = self.docker.our_volumes(&[]).await?.into_iter().map(view).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Removes a volume with its data.
    ///
    /// # Errors
    /// `not-found` when Wharf made no volume of this name, `conflict` when a container uses it or it is part of a
    /// snapshot.
    pub async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let labels = self.docker.volume(name).await?.filter(|volume| volume.ours).map(|volume| volume.labels);
        if let Some(snapshot) = labels.as_ref().and_then(|labels| labels.get(LABEL_SNAPSHOT))
            && let Some(kept) = self.store.snapshot(snapshot)?
            && kept.volumes.values().any(|copy| copy == name)
        {
            return Err(Error::InUse {
                text: format!("the volume '{name}' is part of the snapshot '{snapshot}'"),
                remedy: format!("remove the snapshot: 'wharf snapshot rm {snapshot}'"),
            });
        }
        match self.docker.remove_volume(name).await? {
            true => Ok(()),
            false => Err(docker::Error::NotFound { what: "volume", name: name.to_owned() }.into()),
        }
    }
}
