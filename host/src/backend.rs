//! The only choice between carrying verbs out in this process and having a service carry them out (`--server`,
//! `client.server`).
//!
//! A [`Backend`] has a method for every need of the commands. Callers cannot tell which of the two answers: results,
//! progress and errors are the same. In this process, the first method that needs the engine or the store opens it, so
//! a verb that needs no engine works without one.
//!
//! Every method fails with [`Error`].

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{OnceCell, watch};

use crate::app::App;
use crate::client::{self, Client, Token};
use crate::config::Span;
use crate::hooks::Hook;
use crate::lifecycle::{Lifecycle, WorkspaceView, find_listed};
use crate::records::Target;
use crate::store::Store;
use crate::workspace::WorkspaceId;

mod cleanup;
mod error;
mod exec;
mod files;
mod images;
mod logs;
mod plan;
mod policies;
mod records;
mod stats;
mod streams;
mod verbs;

pub use cleanup::LeaseChange;
pub use error::Error;
pub use exec::{ExecControl, ExecEnd, ExecInput, ExecOutput, ExecSession};
pub use files::{CopyTarget, Outgoing};
pub use images::PrunedImage;
pub use logs::{LogItem, LogOptions, LogStream, Lost};
pub use plan::{DiffOf, PlannedDiff};
pub use policies::{Reloaded, ReplayedAll};
pub use records::{RecordItem, RecordStream};
pub use stats::Readings;
pub use streams::{Changes, EventItem, EventStream};
pub use verbs::Verb;

pub use crate::client::Report;

/// A function that is called once, when verbs start, with the sender that interrupts them.
pub type Interrupts = fn(watch::Sender<bool>);

/// This process, or a service.
pub struct Backend {
    app: App,
    /// The hooks that the first verb runs: their policies load while the engine is contacted.
    hooks: &'static [Hook],
    service: Option<Client>,
    lifecycle: OnceCell<Lifecycle>,
    interrupts: Option<Interrupts>,
    /// The sender in place of the lifecycle's when a service carries verbs out, because this process then has no verbs
    /// to interrupt. It is created on first use.
    stop: OnceCell<watch::Sender<bool>>,
}

impl Backend {
    /// Chooses the service that the configuration names, or this process. Nothing is opened yet.
    ///
    /// `hooks` are those that the first verb runs; `interrupts` connects signals to the verbs of this process.
    ///
    /// # Errors
    /// When the address, the token or the certificates of the service are unusable.
    pub fn new(app: App, hooks: &'static [Hook], interrupts: Option<Interrupts>) -> Result<Self, Error> {
        let service = service(&app)?;
        Ok(Self { app, hooks, service, lifecycle: OnceCell::new(), interrupts, stop: OnceCell::new() })
    }

    /// Returns the address of the service, for messages; `None` when this process carries verbs out.
    pub fn server(&self) -> Option<String> {
        self.service.as_ref().map(Client::server)
    }

    /// Returns the sender that interrupts the verbs of this process: they undo their changes.
    ///
    /// # Errors
    /// When the engine or the store cannot be opened.
    pub async fn stopper(&self) -> Result<watch::Sender<bool>, Error> {
        if self.service.is_none() {
            return Ok(self.here().await?.stopper());
        }
        // Signals are connected only on request: they end other callers like any program.
        let wired = async || {
            let (stop, _) = watch::channel(false);
            if let Some(wire) = self.interrupts {
                wire(stop.clone());
            }
            stop
        };
        Ok(self.stop.get_or_init(wired).await.clone())
    }

    /// Returns the lifecycle, which carries verbs out in this process.
    async fn here(&self) -> Result<&Lifecycle, Error> {
        let open = async || {
            let lifecycle = match self.hooks {
                [] => self.app.lifecycle().await?,
                hooks => self.app.deciding(hooks).await?,
            };
            if let Some(wire) = self.interrupts {
                wire(lifecycle.stopper());
            }
            Ok(lifecycle)
        };
        self.lifecycle.get_or_try_init(open).await
    }

    /// Returns the store, for methods that need no engine. A store that an earlier version wrote is cleaned first. That
    /// needs its engine once; if the engine is unreachable, a warning says that values may be left.
    async fn store(&self) -> Result<Store, Error> {
        let store = self.app.store()?;
        if !store.may_hold_values()? {
            return Ok(store);
        }
        drop(store);
        if let Err(error) = self.app.lifecycle().await {
            tracing::warn!("records of an earlier version may still contain the values of secrets: {error}");
        }
        Ok(self.app.store()?)
    }

    /// Returns all workspaces, sorted by ID.
    ///
    /// # Errors
    /// See [`Error`], as for all methods.
    pub async fn list(&self) -> Result<Vec<WorkspaceView>, Error> {
        Ok(match &self.service {
            Some(client) => client.list().await?,
            None => self.here().await?.list().await?,
        })
    }

    /// Returns one workspace.
    pub async fn inspect(&self, target: &Target) -> Result<WorkspaceView, Error> {
        match &self.service {
            Some(client) => Ok(client.inspect(&named(client, target).await?).await?),
            None => {
                let lifecycle = self.here().await?;
                Ok(lifecycle.inspect(&lifecycle.find(target).await?).await?)
            }
        }
    }

    /// Returns the ID of a workspace.
    pub async fn find(&self, target: &Target) -> Result<WorkspaceId, Error> {
        match &self.service {
            Some(_) => Ok(self.inspect(target).await?.id),
            None => Ok(self.here().await?.find(target).await?),
        }
    }
}

/// Returns a client of the service that the configuration names.
fn service(app: &App) -> Result<Option<Client>, Error> {
    let config = &app.loaded.config.client;
    let Some(server) = config.server.clone().filter(|server| !server.is_empty()) else { return Ok(None) };
    let base = |path: &PathBuf| app.loaded.base().join(path);
    let given = app.sources.env.get("WHARF_TOKEN").filter(|token| !token.is_empty());
    let token = match (given, &config.token_file) {
        (Some(token), _) => Some(Token::new(token)?),
        (None, Some(path)) => Some(Token::read(&base(path))?),
        (None, None) => None,
    };
    let identity = config.cert_file.as_ref().zip(config.key_file.as_ref());
    let settings = client::Settings {
        server,
        token,
        ca_file: config.ca_file.as_ref().map(base),
        identity: identity.map(|(certificate, key)| (base(certificate), base(key))),
    };
    Ok(Some(Client::new(&settings)?))
}

/// Returns the name by which a service knows a workspace. It resolves names as commands do. A folder can be resolved
/// only by a service on this machine.
async fn named(client: &Client, target: &Target) -> Result<String, Error> {
    match target {
        Target::Named(name) => Ok(name.clone()),
        Target::Folder(_) if !client.is_local() => Err(elsewhere(client, "a folder")),
        Target::Folder(_) => Ok(find_listed(&client.list().await?, target)?.to_string()),
    }
}

/// Returns the error that an object of this machine means nothing to a service on another machine.
fn elsewhere(client: &Client, what: &str) -> Error {
    let text = format!("{what} of this machine is unknown to the service at {}", client.server());
    Error::usage(text, "name a workspace; see 'wharf ls' for all workspaces")
}

fn duration(span: Option<Span>) -> Option<Duration> {
    span.map(|span| span.0)
}
