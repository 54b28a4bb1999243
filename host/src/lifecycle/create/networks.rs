//! The networks of workspaces.
//!
//! Workspaces share one network per installation, on which none reaches another: an engine supports few networks, and a
//! new one for each workspace makes a start slower. Containers that must reach each other get a common network: a
//! workspace and its sidecars, and the workspaces that a label joins (`engine.join`).

use std::collections::BTreeMap;

use crate::docker::Reach;
use crate::lifecycle::{Error, Lifecycle, Project};
use crate::store::KnownWorkspace;
use crate::workspace::{ContainerSpec, LABEL_WORKSPACE, Network, WorkspaceId, sha256_hex};

/// The network of a new container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::lifecycle) struct Placement {
    pub(in crate::lifecycle) name: String,
    reach: Reach,
    labels: BTreeMap<String, String>,
}

impl Placement {
    /// Returns the network of a workspace and its sidecars.
    fn own(of: &WorkspaceId) -> Self {
        let labels = BTreeMap::from([(LABEL_WORKSPACE.to_owned(), of.to_string())]);
        Self { name: of.container_name(), reach: Reach::Joined, labels }
    }

    fn shared(name: String, reach: Reach) -> Self {
        Self { name, reach, labels: BTreeMap::new() }
    }
}

impl Lifecycle {
    /// Returns the network of a new container, if it is on one of Wharf's.
    pub(in crate::lifecycle) fn placement(&self, project: &Project, spec: &ContainerSpec) -> Option<Placement> {
        let parent = project.part_of.as_ref().map(|parent| &parent.id);
        match spec.network {
            Network::None | Network::Host => None,
            Network::Own => Some(Placement::own(parent.unwrap_or(&project.id))),
            // A workspace reaches its sidecars, but other workspaces on the shared network do not.
            Network::Shared if parent.is_some() => parent.map(Placement::own),
            Network::Shared => {
                let join = self.loaded().config.engine.join.clone();
                let value = join.and_then(|label| spec.labels.get(&label).cloned()).filter(|value| !value.is_empty());
                Some(match value {
                    Some(value) => {
                        let digest = sha256_hex(value.as_bytes());
                        let name = format!("{}-{}", self.network_prefix(), digest.get(..12).unwrap_or_default());
                        Placement::shared(name, Reach::Joined)
                    }
                    None => Placement::shared(self.shared_network(), Reach::Apart),
                })
            }
        }
    }

    /// Returns the name of the network that workspaces share.
    fn shared_network(&self) -> String {
        let configured = self.loaded().config.engine.network.clone();
        configured.unwrap_or_else(|| format!("{}-apart", self.network_prefix()))
    }

    /// Returns the prefix of the names of shared networks. Earlier versions had a network with exactly this name, on
    /// which workspaces reach each other.
    fn network_prefix(&self) -> String {
        // The end of the host ID is random; its beginning is a time.
        let host = self.store.host_id();
        format!("wharf-{}", host.get(host.len().saturating_sub(8)..).unwrap_or(host))
    }

    /// Makes a network if it is missing.
    pub(in crate::lifecycle) async fn make_network(&self, placement: &Placement) -> Result<(), Error> {
        self.docker.ensure_network(&placement.name, placement.reach, &placement.labels).await?;
        Ok(())
    }

    /// Puts a workspace on the shared network, and on a common network with its sidecars, once both exist. `made` is
    /// the new container of either.
    pub(in crate::lifecycle) async fn join_sidecars(
        &self,
        project: &Project,
        spec: &ContainerSpec,
        made: &str,
    ) -> Result<(), Error> {
        if spec.network != Network::Shared {
            return Ok(());
        }
        if let Some(parent) = &project.part_of {
            if let Some(container) = self.container(&parent.id).await? {
                self.docker.connect_to_network(&Placement::own(&parent.id).name, &container.id).await?;
            }
            return Ok(());
        }
        let sidecars = self.store.sidecars(&project.id)?;
        if sidecars.is_empty() {
            return Ok(());
        }
        let own = Placement::own(&project.id);
        self.make_network(&own).await?;
        self.docker.connect_to_network(&own.name, made).await?;
        for sidecar in sidecars {
            // Sidecars of an earlier version are on the network that all workspaces shared.
            if let Some(container) = self.container(&sidecar.id).await? {
                self.docker.connect_to_network(&own.name, &container.id).await?;
            }
        }
        Ok(())
    }

    /// Removes the networks of a workspace that nothing uses. A network of the same name that is not Wharf's is left
    /// alone.
    pub(in crate::lifecycle) async fn drop_networks(&self, id: &WorkspaceId) -> Result<(), Error> {
        let _networks = self.lock_networks(true).await?;
        // A sidecar that was never made is known only by its ID, which begins with that of its workspace.
        let is_part = |known: &KnownWorkspace| id.as_str().starts_with(&format!("{}-", known.id));
        let known =
            self.store.known_workspaces()?.into_iter().filter(|known| known.part_of.is_none() && is_part(known));
        let mut names = vec![self.shared_network()];
        for id in known.map(|known| known.id).chain([id.clone()]) {
            let own = Placement::own(&id).name;
            // A workspace whose last sidecar was removed is alone on it.
            if let Some(container) = self.store.container_id(&id)?
                && self.store.workspace(&id)?.is_some_and(|stored| stored.draft.spec.network == Network::Shared)
            {
                self.docker.leave_network(&own, &container).await?;
            }
            names.push(own);
        }
        Ok(self.docker.remove_unused_networks(&names, &self.network_prefix()).await?)
    }
}
