//! Wharf in a program of its own: workspaces and policies as a library.
//!
//! [`Wharf::open`] reads the configuration as the command `wharf` does, and carries verbs out in this process or, where the
//! configuration names a service, asks that service. Verbs with many settings are builders: `up`, `exec`, `logs` and `events`.
//! Output and events are [`Stream`](futures_util::Stream)s. [`Wharf::backend`] has the methods for everything else.
//!
//! A program that makes many containers starts faster with the compiler of plugins in a process: see
//! [`crate::wasm::compile_in_processes_of`].
//!
//! ```no_run
//! # async fn example() -> Result<(), wharf::Error> {
//! use wharf::wire::WorkspaceRequest;
//! use wharf::{Options, Wharf};
//!
//! let wharf = Wharf::open(Options::of_process())?;
//! let project = "/home/mia/shop".into();
//! let workspace = wharf.up(WorkspaceRequest { project, ..WorkspaceRequest::default() }).await?;
//! let tests = wharf.exec(&workspace.id, ["make", "test"]).output().await?;
//! println!("{}", String::from_utf8_lossy(&tests.stdout));
//! wharf.down(&workspace.id).await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` has six programs: `cargo run -p wharf --example library` lists them.

use std::path::PathBuf;
use std::time::Duration;

use crate::app::App;
use crate::backend::{Backend, Error, Verb};
use crate::config::{self, Sources, Span};
use crate::lifecycle::{Plan, WaitView, WorkspaceView};
use crate::records::{Target, Why};
use crate::wire::WorkspaceRequest;
use crate::workspace::Awaited;

mod exec;
mod streams;
mod up;

pub use exec::{Exec, Output, Running};
pub use streams::{EventItems, Events, LogEntry, Logs, Notice};
pub use up::Up;

/// The sources of a [`Wharf`]: its configuration, its state folder, and whether a service carries verbs out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    sources: Sources,
    state_dir: Option<PathBuf>,
}

impl Options {
    /// The same sources as the command `wharf` without flags: the usual configuration files, and the environment of this process.
    pub fn of_process() -> Self {
        let this = Self { sources: Sources::of_process(None, Vec::new()), state_dir: None };
        match this.sources.env.get("WHARF_SERVER").cloned() {
            Some(server) => this.server(&server),
            None => this,
        }
    }

    /// No source but the defaults: no configuration file, and no environment. A state folder has to be named.
    pub fn isolated(state_dir: impl Into<PathBuf>) -> Self {
        Self { sources: Sources::default(), state_dir: Some(state_dir.into()) }
    }

    /// Reads this configuration file instead of the usual ones.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// Keeps store and compiled plugins in this folder instead of the usual one. It is created.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Sets a value of the configuration, such as `limits.memory` to `2GiB`; it wins over file and environment, as `--set`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.sources.set.push(format!("{key}={value}"));
        self
    }

    /// Uses this engine: `unix:///path` or `tcp://host:port`.
    pub fn engine(self, endpoint: &str) -> Self {
        self.set("engine.endpoint", endpoint)
    }

    /// Has this service carry verbs out: `unix:///path` or `https://host:port`.
    pub fn server(self, address: &str) -> Self {
        self.set("client.server", address)
    }
}

/// An open Wharf. Engine and store are opened by the first verb that needs them; policies are loaded once, so that a program opens
/// another `Wharf` to read changed ones.
///
/// A workspace is named by its id, its name, or as [`Target::Folder`] by its project. All methods fail with [`Error`], which has a kind, a
/// code, a message and a remedy. Dropping the future of a verb leaves it half done; the next verb of any Wharf on the same state folder
/// finishes or undoes it. [`Wharf::interrupt`] undoes it at once.
pub struct Wharf(Backend);

impl Wharf {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// When the configuration cannot be used, when other users can change a file that decides, or when the address, token or certificate
    /// of the service cannot be used.
    pub fn open(options: Options) -> Result<Self, Error> {
        let loaded = config::load(&options.sources)?;
        for ignored in &loaded.ignored {
            tracing::warn!("{ignored}");
        }
        let app = App::new(options.sources, loaded, options.state_dir.unwrap_or_else(App::usual_state_dir));
        app.check_trust()?;
        Ok(Self(Backend::new(app, &[], None)?))
    }

    /// The methods for everything else that a command can do.
    pub fn backend(&self) -> &Backend {
        &self.0
    }

    /// All workspaces with their sidecars, sorted by id.
    ///
    /// # Errors
    /// See [`Wharf`], as for all methods.
    pub async fn list(&self) -> Result<Vec<WorkspaceView>, Error> {
        self.0.list().await
    }

    /// One workspace.
    pub async fn inspect(&self, workspace: impl Into<Target>) -> Result<WorkspaceView, Error> {
        self.0.inspect(&workspace.into()).await
    }

    /// Creates the workspace of a project, or starts the one that exists. Policies decide everything that the request leaves out.
    pub fn up(&self, request: WorkspaceRequest) -> Up<'_> {
        Up::new(&self.0, request)
    }

    /// Shows the workspace that [`Wharf::up`] would create, and the owner of each of its fields; creates nothing. A denial is a part of the
    /// plan.
    pub async fn plan(&self, request: WorkspaceRequest) -> Result<Plan, Error> {
        Box::pin(self.0.plan(request, false)).await
    }

    /// Explains the owner of each field of a workspace; `field` limits it to one, such as `resources.memory`.
    pub async fn why(&self, workspace: impl Into<Target>, field: Option<&str>) -> Result<Why, Error> {
        self.0.why(&workspace.into(), field).await
    }

    /// Runs a command in a workspace; no shell is involved.
    pub fn exec<W: Into<String>>(
        &self,
        workspace: impl Into<Target>,
        command: impl IntoIterator<Item = W>,
    ) -> Exec<'_> {
        Exec::new(&self.0, workspace.into(), command.into_iter().map(Into::into).collect())
    }

    /// Reads the output of a workspace and its sidecars.
    pub fn logs(&self, workspace: impl Into<Target>) -> Logs<'_> {
        Logs::new(&self.0, workspace.into())
    }

    /// Listens for events of all workspaces.
    pub fn events(&self) -> Events<'_> {
        Events::new(&self.0)
    }

    /// Starts a workspace.
    pub async fn start(&self, workspace: impl Into<Target>) -> Result<WorkspaceView, Error> {
        self.act(workspace, Verb::Start).await
    }

    /// Stops a workspace; kills it when it still runs after the configured time.
    pub async fn stop(&self, workspace: impl Into<Target>) -> Result<WorkspaceView, Error> {
        self.act(workspace, Verb::Stop(None)).await
    }

    /// Stops and starts a workspace.
    pub async fn restart(&self, workspace: impl Into<Target>) -> Result<WorkspaceView, Error> {
        self.act(workspace, Verb::Restart(None)).await
    }

    /// Stops and removes a workspace with its sidecars; its named volumes stay.
    pub async fn down(&self, workspace: impl Into<Target>) -> Result<WorkspaceView, Error> {
        self.act(workspace, Verb::Down { volumes: false }).await
    }

    /// Waits until a workspace is in a state, at most for `limit`.
    pub async fn wait(
        &self,
        workspace: impl Into<Target>,
        state: Awaited,
        limit: Option<Duration>,
    ) -> Result<WaitView, Error> {
        self.0.wait(&workspace.into(), state, limit.map(Span)).await
    }

    /// Interrupts the verbs of this process: they undo their work and fail. Later verbs of this `Wharf` fail, too. A service carries its
    /// verbs to their end.
    pub async fn interrupt(&self) -> Result<(), Error> {
        self.0.stopper().await?.send_replace(true);
        Ok(())
    }

    async fn act(&self, workspace: impl Into<Target>, verb: Verb) -> Result<WorkspaceView, Error> {
        Box::pin(self.0.act(&workspace.into(), &verb)).await
    }
}
