//! Wharf in your own program: workspaces and policies as a library.
//!
//! [`Wharf::open`] reads the configuration like the command `wharf`, and carries out verbs in this process or, if the
//! configuration names a service, through that service. Verbs with many settings are builders: `up`, `exec`, `logs`
//! and `events`. Output and events are [`Stream`](futures_util::Stream)s. [`Wharf::backend`] has the methods for all
//! other operations.
//!
//! A program that creates many containers starts faster with the compiler of plugins in a separate process: see
//! [`crate::wasm::compile_in_processes_of`].
//!
//! ```no_run
//! # async fn example() -> Result<(), wharf::Error> {
//! use wharf::wire::WorkspaceRequest;
//! use wharf::{Options, Wharf};
//!
//! let wharf = Wharf::open(Options::of_process())?;
//! let project = "/srv/shop".into();
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
    /// Returns the sources of the command `wharf` without flags: the usual configuration files, and the environment
    /// of this process.
    pub fn of_process() -> Self {
        let this = Self { sources: Sources::of_process(None, Vec::new()), state_dir: None };
        match this.sources.env.get("WHARF_SERVER").cloned() {
            Some(server) => this.server(&server),
            None => this,
        }
    }

    /// Returns no sources except the defaults: no configuration file and no environment. A state folder must be set.
    pub fn isolated(state_dir: impl Into<PathBuf>) -> Self {
        Self { sources: Sources::default(), state_dir: Some(state_dir.into()) }
    }

    /// Reads this configuration file instead of the usual ones.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// Keeps store and compiled plugins in this folder instead of the usual one. It is created if needed.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Sets a value of the configuration, such as `limits.memory` to `2GiB`. It overrides file and environment, like
    /// `--set`.
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

/// An open Wharf. The first verb that needs engine and store opens them. Policies are loaded once, so a program opens
/// another `Wharf` to read changed ones.
///
/// A workspace is named by its id, its name, or as [`Target::Folder`] by its project. All methods fail with
/// [`Error`], which has a kind, a code, a message and a remedy. Dropping the future of a verb leaves it half done.
/// The next verb of any Wharf on the same state folder finishes or undoes it. [`Wharf::interrupt`] undoes it at once.
pub struct Wharf(Backend);

impl Wharf {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// An error if the configuration is unusable, if other users can change a file that influences decisions, or if
    /// the address, token or certificate of the service is unusable.
    pub fn open(options: Options) -> Result<Self, Error> {
        let loaded = config::load(&options.sources)?;
        for ignored in &loaded.ignored {
            tracing::warn!("{ignored}");
        }
        let app = App::new(options.sources, loaded, options.state_dir.unwrap_or_else(App::usual_state_dir));
        app.check_trust()?;
        Ok(Self(Backend::new(app, &[], None)?))
    }

    /// Returns the backend, with the methods for all other operations of the commands.
    pub fn backend(&self) -> &Backend {
        &self.0
    }

    /// Returns all workspaces with their sidecars, sorted by id.
    ///
    /// # Errors
    /// See [`Wharf`], as for all methods.
    pub async fn list(&self) -> Result<Vec<WorkspaceView>, Error> {
        self.0.list().await
    }

    /// Returns one workspace.
    pub async fn inspect(&self, workspace: impl Into<Target>) -> Result<WorkspaceView, Error> {
        self.0.inspect(&workspace.into()).await
    }

    /// Creates the workspace of a project, or starts the existing one. Policies decide everything that the request
    /// leaves out.
    pub fn up(&self, request: WorkspaceRequest) -> Up<'_> {
        Up::new(&self.0, request)
    }

    /// Returns the workspace that [`Wharf::up`] would create, and the owner of each of its fields, without creating
    /// it. A denial is a part of the plan.
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

    /// Stops a workspace. Kills it if it still runs after the configured time.
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

    /// Waits until a workspace is in a state, for at most `limit`.
    pub async fn wait(
        &self,
        workspace: impl Into<Target>,
        state: Awaited,
        limit: Option<Duration>,
    ) -> Result<WaitView, Error> {
        self.0.wait(&workspace.into(), state, limit.map(Span)).await
    }

    /// Interrupts the verbs of this process: they undo their work and fail. Later verbs of this `Wharf` fail, too. A
    /// service finishes its own verbs.
    pub async fn interrupt(&self) -> Result<(), Error> {
        self.0.stopper().await?.send_replace(true);
        Ok(())
    }

    async fn act(&self, workspace: impl Into<Target>, verb: Verb) -> Result<WorkspaceView, Error> {
        Box::pin(self.0.act(&workspace.into(), &verb)).await
    }
}
