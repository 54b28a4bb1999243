//! What a workspace mounts of the host, looked at before each start: the engine follows links then, and who can write in a
//! project can put one in the place of a folder that was checked when the workspace was made.

use std::path::Path;

use super::secret_files::secrets_dir;
use super::{Error, Lifecycle};
use crate::hooks::record::Refusal;
use crate::hooks::validate::HostPaths;
use crate::store;
use crate::workspace::{ContainerSpec, MountKind, WorkspaceId};

impl Lifecycle {
    /// Refuses a start that would mount what may not be mounted. Other parts of the workspace that run meanwhile could still
    /// put a link there between this look and the engine's own.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub(super) fn check_binds(&self, id: &WorkspaceId, spec: &ContainerSpec, project: &Path) -> Result<(), Error> {
        let mut spec = spec.clone();
        // What is not there at all, the engine says itself.
        spec.mounts
            .retain(|_, mount| mount.kind == MountKind::Bind && Path::new(&mount.source).symlink_metadata().is_ok());
        let mut invariants = self.loaded().config.invariants();
        invariants.secrets = Some(secrets_dir(self.store.dir()));
        let said = invariants.mount_violations(&spec, id.as_str(), project, &mut HostPaths::of_host());
        if said.is_empty() {
            return Ok(());
        }
        let refusal = Refusal { policy: "host".into(), at: None, code: "invariant".into(), reason: said.join("; ") };
        Err(Error::Denied { refusal, trail: Vec::new() })
    }

    /// The same for a workspace as it is stored.
    pub(super) fn check_stored_binds(&self, stored: Option<&store::Workspace>) -> Result<(), Error> {
        stored.map_or(Ok(()), |stored| self.check_binds(&stored.id, &stored.draft.spec, Path::new(&stored.project)))
    }
}
