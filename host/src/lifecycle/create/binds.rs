//! Files and folders of the host that a workspace mounts. They are checked before each start, and compared with the
//! actual mounts after it.
//!
//! The engine resolves a path by itself when it starts a container, after Wharf's check. So a start is checked twice.
//! Before it, each path must still lead to itself and to the same file as when the workspace was made, and the
//! configuration must still allow it. After it, the container's own mount table must show those files. A link that
//! replaced a folder between the two checks is found then, and the container is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::config::Loaded;
use crate::docker::{self, Mounted};
use crate::hooks::record::Refusal;
use crate::hooks::redact::REDACTED;
use crate::hooks::validate::{Guarded, HostPaths, Invariants, engine_sockets};
use crate::lifecycle::secrets::files::secrets_dir;
use crate::lifecycle::{Error, Lifecycle, Project};
use crate::paths::{self, Identity};
use crate::store;
use crate::workspace::{
    Container, ContainerSpec, Event, Happening, LABEL_PROJECT, LABEL_WORKSPACE, Mount, MountKind, State, WorkspaceId,
};

/// Path on the host -> the file or folder at that path when the workspace was made.
pub(in crate::lifecycle) type Places = BTreeMap<String, Identity>;

/// The code of a refusal because of a mount.
const CODE: &str = "mount-changed";

/// Returns the invariants of a configuration, including the files of Wharf and of the engine that no workspace may
/// mount.
pub fn invariants(loaded: &Loaded, state_dir: &Path) -> Invariants {
    let mut invariants = loaded.config.invariants();
    let secrets = secrets_dir(state_dir);
    if let Some(state) = secrets.parent() {
        let because = "contains the state of Wharf, with its keys and secrets".to_owned();
        invariants.guarded.push(Guarded { path: state.to_path_buf(), because, engine: false });
    }
    invariants.secrets = Some(secrets);
    for (path, role) in loaded.own_files() {
        invariants.guarded.push(Guarded { path, because: format!("contains {role}"), engine: false });
    }
    invariants.guarded.extend(engine_sockets(docker::socket(loaded.config.engine.endpoint.as_deref())));
    invariants
}

impl Lifecycle {
    pub(in crate::lifecycle) fn invariants(&self) -> Invariants {
        invariants(&self.loaded(), self.store.dir())
    }

    /// Checks everything of the host that a container would mount, and the project. `known` has the files that its
    /// workspace was made with; a container of an earlier Wharf has none. Returns the files that exist now.
    ///
    /// # Errors
    /// [`Error::Denied`] and [`Error::Project`].
    pub(in crate::lifecycle) fn check_mounts(
        &self,
        id: &WorkspaceId,
        spec: &ContainerSpec,
        project: &Path,
        known: Option<&Places>,
    ) -> Result<Places, Error> {
        let loaded = self.loaded();
        let is = Project::check(project, &loaded)?;
        if is != project {
            let text = format!("the project '{}' now leads to '{}'", project.display(), is.display());
            return Err(changed(&text));
        }
        let said = self.invariants().mount_violations(spec, id.as_str(), project, &mut HostPaths::of_host());
        if !said.is_empty() {
            let refusal =
                Refusal { policy: "host".into(), at: None, code: "invariant".into(), reason: said.join("; ") };
            return Err(Error::Denied { refusal, trail: Vec::new() });
        }
        let secrets = secrets_dir(self.store.dir()).join(id.as_str());
        let real_secrets = paths::resolve(&secrets).ok().map(|own| own.path);
        let mut places = Places::new();
        let binds = spec.mounts.values().filter(|mount| mount.kind == MountKind::Bind);
        for source in binds.map(|mount| Path::new(&mount.source)).chain([project]) {
            // This folder is recreated with each new set of secrets, within a folder that only Wharf writes.
            if source == secrets {
                continue;
            }
            let found = paths::resolve(source)
                .map_err(|error| changed(&format!("cannot read the host path '{}': {error}", source.display())))?;
            if real_secrets.as_ref() == Some(&found.path) {
                continue;
            }
            if found.path != source {
                let text = format!("the host path '{}' now leads to '{}'", source.display(), found.path.display());
                return Err(changed(&text));
            }
            let source = source.display().to_string();
            if known.and_then(|known| known.get(&source)).is_some_and(|known| !known.is(&found.identity)) {
                let text = format!(
                    "the host path '{source}' is no longer the file or folder that the workspace was created with"
                );
                return Err(changed(&text));
            }
            places.insert(source, found.identity);
        }
        Ok(places)
    }

    /// Checks the mounts of a stored workspace, or of a container that the store does not know.
    pub(in crate::lifecycle) async fn check_stored_mounts(
        &self,
        stored: Option<&store::Workspace>,
        container: &Container,
    ) -> Result<Places, Error> {
        let Some(stored) = stored else {
            let unknown = || Error::not_found(format!("for the container {} in the store", container.name));
            let container = self.docker.inspect(&container.id).await?;
            let label = |key: &str| container.labels.get(key).cloned().ok_or_else(unknown);
            let id = label(LABEL_WORKSPACE)?.parse().map_err(|_| unknown())?;
            let project = label(LABEL_PROJECT)?;
            let spec = container.actual.as_ref().ok_or_else(unknown)?;
            return self.check_mounts(&id, spec, Path::new(&project), None);
        };
        let known = Some(&stored.places).filter(|known| !known.is_empty());
        let spec = self.mounting(stored, container).await?;
        self.check_mounts(&stored.id, &spec, Path::new(&stored.project), known)
    }

    /// Returns the settings of a workspace with its real mounts. An earlier version allowed the value of a secret in a
    /// mount. The stored settings no longer contain that value, but the container does.
    async fn mounting(&self, stored: &store::Workspace, container: &Container) -> Result<ContainerSpec, Error> {
        let mut spec = stored.draft.spec.clone();
        let hidden = |(target, mount): (&String, &Mount)| target.contains(REDACTED) || mount.source.contains(REDACTED);
        if spec.mounts.iter().any(hidden)
            && let Some(actual) = self.docker.inspect(&container.id).await?.actual
        {
            spec.mounts = actual.mounts;
        }
        Ok(spec)
    }

    /// Checks the mounts of a workspace and its sidecars, so that a restart that would fail stops nothing.
    pub(in crate::lifecycle) async fn check_all_mounts(&self, id: &WorkspaceId) -> Result<(), Error> {
        for id in std::iter::once(id.clone()).chain(self.sidecars(id).await?) {
            if let Some(container) = self.container(&id).await? {
                self.check_stored_mounts(self.store.workspace(&id)?.as_ref(), &container).await?;
            }
        }
        Ok(())
    }

    /// Checks the mounts of an existing container, starts it, and compares. A difference kills it.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Project`], or the engine's.
    pub(in crate::lifecycle) async fn start_container(
        &self,
        stored: Option<&store::Workspace>,
        container: &Container,
    ) -> Result<(), Error> {
        let places = self.check_stored_mounts(stored, container).await?;
        self.docker.start(&container.id).await?;
        let Some(stored) = stored else { return Ok(()) };
        let spec = self.mounting(stored, container).await?;
        if let Err(error) = self.compare_mounts(&container.id, &spec, &places).await {
            let reason = error.to_string();
            self.store.update_workspace(&stored.id, |workspace| workspace.degraded = Some(reason))?;
            return Err(error);
        }
        if stored.places.is_empty() {
            // The workspace was made by an earlier Wharf: from now on these files are required.
            self.store.update_workspace(&stored.id, |workspace| workspace.places = places)?;
        }
        Ok(())
    }

    /// Compares the mount table of a container that was just started with the checked files. A difference kills it. If
    /// the kernel does not show the table (an engine on another machine, a user without the permission), nothing is
    /// compared.
    ///
    /// # Errors
    /// [`Error::Denied`] with the mount that differs.
    pub(in crate::lifecycle) async fn compare_mounts(
        &self,
        id: &str,
        spec: &ContainerSpec,
        places: &Places,
    ) -> Result<(), Error> {
        let secrets = secrets_dir(self.store.dir());
        let binds = || spec.mounts.iter().filter(|(_, mount)| mount.kind == MountKind::Bind);
        let compared = binds().filter(|(_, mount)| !Path::new(&mount.source).starts_with(&secrets));
        let wanted: Vec<_> = compared.map(|(target, mount)| (target, &mount.source)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mounted = match self.docker.mounted(id).await? {
            Mounted::Seen(mounted) => mounted,
            Mounted::Hidden => return Ok(()),
            Mounted::Ended => {
                // The container has already ended, so there is no table. A link that still exists proves the difference
                // all the same.
                for (target, source) in &wanted {
                    let same = paths::resolve(Path::new(source)).ok().zip(places.get(*source));
                    if !same.is_some_and(|(is, was)| is.path == Path::new(source) && is.identity.is(was)) {
                        let text =
                            format!("mounts.{target}: the host path '{source}' changed while the container started");
                        return Err(changed(&text));
                    }
                }
                return Ok(());
            }
        };
        let mut left = mounted;
        for (target, source) in wanted {
            let Some(place) = places.get(source) else { continue };
            match left.iter().position(|mounted| mounted.is(place)) {
                Some(at) => drop(left.swap_remove(at)),
                None => {
                    let text = format!(
                        "mounts.{target}: the engine mounted another object than '{source}', because the path was \
                         replaced during the start; the container was killed"
                    );
                    tracing::error!("{text}");
                    self.docker.kill(id, "KILL").await.or_else(ended)?;
                    return Err(changed(&text));
                }
            }
        }
        Ok(())
    }
}

impl Lifecycle {
    /// Compares a running container with the files that its workspace was made with. The engine may restart a container
    /// by itself (`restart`), and then follows a link that has replaced a folder meanwhile. A difference stops the
    /// container, and is recorded in the workspace's history and as its degraded reason. Returns the reason, if there
    /// is a difference.
    ///
    /// # Errors
    /// When the engine or the store fails, or another process keeps the workspace locked.
    pub async fn check_running(&self, id: &WorkspaceId, container_id: &str) -> Result<Option<String>, Error> {
        // An event and a list may report the same start.
        let looking = self.looking.lock().await;
        let is_its = |stored: &store::Workspace| stored.container_id == container_id && !stored.places.is_empty();
        let Some(stored) = self.store.workspace(id)?.filter(is_its) else { return Ok(None) };
        let container = match self.docker.inspect(container_id).await {
            Err(docker::Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        // A container that has ended is checked when it is started.
        if !matches!(container.state, State::Running | State::Restarting | State::Paused) {
            return Ok(None);
        }
        let spec = self.mounting(&stored, &container).await?;
        let reason = match self.compare_mounts(container_id, &spec, &stored.places).await {
            Err(Error::Denied { refusal, .. }) => refusal.reason,
            other => return other.map(|()| None),
        };
        // A stop, because the engine would restart a killed container that is about to be restarted.
        self.docker.stop(container_id, Duration::ZERO).await.map(drop).or_else(ended)?;
        drop(looking);
        let _lock = self.lock(id).await?;
        self.store.update_workspace(id, |workspace| {
            if workspace.container_id == container_id {
                workspace.degraded = Some(reason.clone());
            }
        })?;
        let event = Event {
            time: jiff::Timestamp::now(),
            workspace: id.clone(),
            part_of: stored.part_of,
            container_id: container_id.to_owned(),
            what: Happening::Stopped,
            exit_code: None,
            detail: None,
        };
        self.tell(&event, Happening::Stopped, &reason)?;
        Ok(Some(reason))
    }
}

fn ended(error: docker::Error) -> Result<(), docker::Error> {
    match error {
        docker::Error::NotRunning { .. } | docker::Error::NotFound { .. } | docker::Error::Conflict { .. } => Ok(()),
        other => Err(other),
    }
}

fn changed(reason: &str) -> Error {
    let refusal = Refusal { policy: "host".into(), at: None, code: CODE.into(), reason: reason.to_owned() };
    Error::Denied { refusal, trail: Vec::new() }
}
