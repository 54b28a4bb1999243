//! What all commands have: the program's parts, the output, and what a name or a folder means.

use std::path::PathBuf;

use super::Failure;
use super::output::Output;
use crate::app::App;
use crate::client::{self, Client, Token};
use crate::hooks::Hook;
use crate::lifecycle::{Lifecycle, Target};
use crate::store::Store;

/// What all commands have.
pub(crate) struct Context {
    pub(crate) app: App,
    pub(crate) out: Output,
    /// `--project`
    pub(super) project: Option<PathBuf>,
}

impl Context {
    /// Everything that carries out verbs, and Ctrl-C wired to it.
    pub(crate) async fn lifecycle(&self) -> Result<Lifecycle, Failure> {
        Ok(stoppable(self.app.lifecycle().await?))
    }

    /// The store, for what is read without an engine. One that an earlier version wrote is cleaned first, for which its engine is
    /// asked once; where that is away, it is said that values may be left.
    pub(crate) async fn store(&self) -> Result<Store, Failure> {
        let store = self.app.store()?;
        if !store.may_hold_values()? {
            return Ok(store);
        }
        drop(store);
        if let Err(error) = self.app.lifecycle().await {
            tracing::warn!("what an earlier version kept may still hold the values of secrets: {error}");
        }
        Ok(self.app.store()?)
    }

    /// The service that carries commands out, where one is named.
    pub(crate) fn client(&self) -> Result<Option<Client>, Failure> {
        let config = &self.app.loaded.config.client;
        let Some(server) = config.server.clone().filter(|server| !server.is_empty()) else { return Ok(None) };
        let base = |path: &PathBuf| self.app.loaded.base().join(path);
        let given = self.app.sources.env.get("WHARF_TOKEN").filter(|token| !token.is_empty());
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

    /// The same for a verb that asks policies at these hooks.
    pub(crate) async fn deciding(&self, hooks: &'static [Hook]) -> Result<Lifecycle, Failure> {
        Ok(stoppable(self.app.deciding(hooks).await?))
    }

    /// The workspace that a command means: the named one, or that of the current folder.
    pub(crate) async fn find(
        &self,
        lifecycle: &Lifecycle,
        name: Option<&str>,
    ) -> Result<crate::workspace::WorkspaceId, Failure> {
        Ok(lifecycle.find(&self.target(name)?).await?)
    }

    /// What a name, or the lack of one, means.
    pub(crate) fn target(&self, name: Option<&str>) -> Result<Target, Failure> {
        if let Some(name) = name {
            return Ok(Target::Named(name.to_owned()));
        }
        let folder = self.project_folder();
        let failed = |error| {
            let text = format!("the project {} cannot be used: {error}", folder.display());
            Failure::new("project-unusable", text, "name an existing folder, or a workspace", 5)
        };
        folder.canonicalize().map(Target::Folder).map_err(failed)
    }

    /// The project that is meant when none is named: `--project`, or the current folder.
    pub(crate) fn project_folder(&self) -> PathBuf {
        self.project.clone().unwrap_or_else(|| PathBuf::from("."))
    }
}

/// Lets Ctrl-C and SIGTERM end the verb under way, which then undoes what it did.
fn stoppable(lifecycle: Lifecycle) -> Lifecycle {
    stop_at_signals(lifecycle.stopper());
    lifecycle
}

/// Tells of Ctrl-C and SIGTERM.
pub(super) fn stop_at_signals(stopper: tokio::sync::watch::Sender<bool>) {
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let _ = stopper.send(true);
    });
}
