//! Verbs on workspaces.
//!
//! Every method fails with [`Error`].

use std::path::{Path, PathBuf};

use super::{Backend, Error, Report, duration, named};
use crate::client::Client;
use crate::config::Span;
use crate::hooks::Hook;
use crate::lifecycle::{Lifecycle, Recreate, WaitView, WorkspaceView};
use crate::records::Target;
use crate::wire::{Place, SidecarRequest, UpdateRequest, WaitRequest, WorkspaceRequest};
use crate::workspace::{Awaited, WorkspaceId};

/// A change of a workspace's state.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Start it.
    Start,
    /// Stop it; kill it after this time.
    Stop(Option<Span>),
    /// Stop and start it.
    Restart(Option<Span>),
    /// Freeze it.
    Pause,
    /// Resume it.
    Unpause,
    /// Send a signal: a name or a number.
    Kill(String),
    /// Remove it.
    Remove {
        /// Whether a running workspace is killed.
        force: bool,
        /// Whether the named volumes that were made for it are removed too.
        volumes: bool,
    },
    /// Stop and remove it.
    Down {
        /// Whether the named volumes that were made for it are removed too.
        volumes: bool,
    },
    /// Change its limits.
    Update(UpdateRequest),
}

impl Verb {
    /// Returns the hooks that it runs.
    pub fn hooks(&self) -> &'static [Hook] {
        match self {
            Self::Start => &[Hook::PostStart],
            Self::Stop(_) | Self::Kill(_) | Self::Remove { .. } | Self::Down { .. } => &[Hook::PreStop],
            Self::Restart(_) => &[Hook::PreStop, Hook::PostStart],
            Self::Pause | Self::Unpause => &[],
            Self::Update(_) => &Hook::CREATE,
        }
    }

    async fn here(&self, lifecycle: &Lifecycle, id: &WorkspaceId) -> Result<WorkspaceView, Error> {
        Ok(match self {
            Self::Start => Box::pin(lifecycle.start(id)).await?,
            Self::Stop(timeout) => Box::pin(lifecycle.stop(id, duration(*timeout))).await?,
            Self::Restart(timeout) => Box::pin(lifecycle.restart(id, duration(*timeout))).await?,
            Self::Pause => lifecycle.pause(id).await?,
            Self::Unpause => lifecycle.unpause(id).await?,
            Self::Kill(signal) => Box::pin(lifecycle.kill(id, signal)).await?,
            Self::Remove { force, volumes } => Box::pin(lifecycle.remove(id, *force, *volumes)).await?,
            Self::Down { volumes } => Box::pin(lifecycle.down(id, *volumes)).await?,
            Self::Update(limits) => Box::pin(lifecycle.update(id, limits)).await?,
        })
    }

    async fn there(&self, client: &Client, name: &str) -> Result<WorkspaceView, Error> {
        Ok(match self {
            Self::Start => client.start(name).await?,
            Self::Stop(timeout) => client.stop(name, *timeout).await?,
            Self::Restart(timeout) => client.restart(name, *timeout).await?,
            Self::Pause => client.pause(name).await?,
            Self::Unpause => client.unpause(name).await?,
            Self::Kill(signal) => client.kill(name, signal).await?,
            Self::Remove { force, volumes } => client.remove(name, *force, *volumes).await?,
            Self::Down { volumes } => client.down(name, *volumes).await?,
            Self::Update(limits) => client.update(name, limits).await?,
        })
    }
}

impl Backend {
    /// Makes the workspace of a project, or starts it. If `wait` gives a limit, waits until it is healthy.
    pub async fn up(
        &self,
        mut request: WorkspaceRequest,
        recreate: bool,
        wait: Option<Span>,
        report: Report<'_>,
    ) -> Result<WorkspaceView, Error> {
        self.place(&mut request)?;
        match &self.service {
            Some(client) => self.unless_interrupted(client, client.up(&request, recreate, wait, report)).await,
            None => {
                let lifecycle = self.here().await?;
                let made = Box::pin(lifecycle.up(&request, Recreate::if_different(recreate), report)).await?;
                let Some(limit) = wait else { return Ok(made) };
                let waited = Box::pin(lifecycle.wait(&made.id, Awaited::Healthy, Some(limit.0), true)).await?;
                Ok(waited.workspace.unwrap_or(made))
            }
        }
    }

    /// Makes a sidecar, or starts it.
    pub async fn add_sidecar(
        &self,
        target: &Target,
        name: &str,
        mut request: WorkspaceRequest,
        recreate: bool,
        report: Report<'_>,
    ) -> Result<WorkspaceView, Error> {
        // A sidecar needs an image; without one, the error below says so.
        request.build = None;
        self.place(&mut request)?;
        let request = SidecarRequest::of(request).map_err(|text| Error::usage(text, "name an image with --image"))?;
        match &self.service {
            Some(client) => {
                let workspace = named(client, target).await?;
                self.unless_interrupted(client, client.add_sidecar(&workspace, name, &request, recreate, report)).await
            }
            None => {
                let lifecycle = self.here().await?;
                let id = lifecycle.find(target).await?;
                Ok(lifecycle.add_sidecar(&id, name, &request, Recreate::if_different(recreate), report).await?)
            }
        }
    }

    /// Returns the sidecars of a workspace.
    pub async fn sidecars(&self, target: &Target) -> Result<Vec<WorkspaceView>, Error> {
        let id = self.find(target).await?;
        let mut all = self.list().await?;
        all.retain(|view| view.part_of.as_ref() == Some(&id));
        Ok(all)
    }

    /// Changes the state of a workspace.
    pub async fn act(&self, target: &Target, verb: &Verb) -> Result<WorkspaceView, Error> {
        match &self.service {
            Some(client) => verb.there(client, &named(client, target).await?).await,
            None => {
                let lifecycle = self.here().await?;
                verb.here(lifecycle, &lifecycle.find(target).await?).await
            }
        }
    }

    /// Waits until a workspace is in a state.
    pub async fn wait(&self, target: &Target, awaited: Awaited, timeout: Option<Span>) -> Result<WaitView, Error> {
        match &self.service {
            Some(client) => {
                let request = WaitRequest { r#for: Some(awaited), timeout };
                Ok(client.wait(&named(client, target).await?, &request).await?)
            }
            None => {
                let lifecycle = self.here().await?;
                let id = lifecycle.find(target).await?;
                let waited = Box::pin(lifecycle.wait(&id, awaited, duration(timeout), false)).await?;
                Ok(waited.view(id, awaited))
            }
        }
    }

    /// Leaves a verb to the service when the caller is interrupted: the service carries it to its end.
    pub(super) async fn unless_interrupted<T>(
        &self,
        client: &Client,
        verb: impl Future<Output = Result<T, crate::client::Error>>,
    ) -> Result<T, Error> {
        let mut interrupted = self.stopper().await?.subscribe();
        tokio::select! {
            done = verb => Ok(done?),
            Ok(_) = interrupted.wait_for(|stop| *stop) => Err(Error::LeftToService(client.server())),
        }
    }

    /// Resolves the places of a request to the paths by which the backend knows them. A relative path refers to this
    /// machine, so a service must run here too.
    pub(super) fn place(&self, request: &mut WorkspaceRequest) -> Result<(), Error> {
        for place in request.places() {
            match place {
                Place::Project(path) if self.service.is_some() => *path = self.absolute("the project folder", path)?,
                // The project's own check names the path as it was given.
                Place::Project(_) => {}
                Place::Build(path) => *path = self.absolute("the folder to build from", path)?,
                Place::Mount(mount) => {
                    let Some((source, rest)) = mount.split_once(':') else { continue };
                    let real = std::fs::canonicalize(source).ok().filter(|_| self.is_local());
                    let source = self.absolute("the mount's source", real.as_deref().unwrap_or(source.as_ref()))?;
                    *mount = format!("{}:{rest}", source.display());
                }
            }
        }
        Ok(())
    }

    /// Returns whether paths of this machine mean the same to the backend.
    pub(super) fn is_local(&self) -> bool {
        self.service.as_ref().is_none_or(Client::is_local)
    }

    /// Resolves a path of this machine to the path by which the backend knows it.
    pub(super) fn absolute(&self, what: &str, path: &Path) -> Result<PathBuf, Error> {
        let failed = |error: std::io::Error| Error::usage(format!("{what}: {error}"), "name its absolute path");
        let absolute = if self.is_local() { std::path::absolute(path).map_err(failed)? } else { path.to_path_buf() };
        let Some(client) = &self.service else { return Ok(absolute) };
        if !absolute.is_absolute() {
            let text = format!(
                "{what} '{}' is a relative path, which the service at {} cannot resolve",
                path.display(),
                client.server()
            );
            return Err(Error::usage(text, "name its absolute path on the machine of the service"));
        }
        if absolute.to_str().is_none() {
            let text = format!("{what} '{}' is not plain UTF-8 text and cannot be sent to a service", path.display());
            return Err(Error::usage(text, "run the command on the machine of the service, without --server"));
        }
        Ok(absolute)
    }
}
