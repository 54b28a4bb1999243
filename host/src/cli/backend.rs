//! Where verbs are carried out: in this process, or by a service (`--server`). Commands ask here, and print the same either way.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Failure};
use crate::client::{Client, Query};
use crate::config::{Size, Span};
use crate::hooks::{Adjustment, Hook};
use crate::lifecycle::{Lifecycle, SweepReport, Target, WorkspaceView, find_listed, parse_restart};
use crate::store::LedgerEntry;
use crate::workspace::{WorkspaceId, url_encoded};

mod idle;
mod kept;
mod making;
mod parts;

pub(crate) use idle::Lease;
pub(crate) use kept::Pruned;
pub(crate) use making::{folder_there, made, no_plain_text};
pub(crate) use parts::Out;

/// Most entries of the ledger that are shown.
const LEDGER: u32 = 1000;

/// What carries out verbs.
#[derive(Clone)]
pub(crate) enum Backend {
    Here(Rc<Lifecycle>),
    Service(Rc<Client>),
}

/// What is done to a workspace.
#[derive(Debug, Clone)]
pub(crate) enum Verb {
    Start,
    Stop(Option<Span>),
    Restart(Option<Span>),
    Pause,
    Unpause,
    /// A name or a number.
    Kill(String),
    Remove {
        force: bool,
        volumes: bool,
    },
    /// Stops and removes.
    Down {
        volumes: bool,
    },
    Update(Limits),
}

/// New limits, as they were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) memory: Option<Size>,
    pub(crate) cpus: Option<f64>,
    pub(crate) pids: Option<u32>,
    pub(crate) restart: Option<String>,
}

impl Limits {
    fn fields(&self) -> Result<Vec<(Adjustment, String)>, Failure> {
        let mut fields = Vec::new();
        fields.extend(self.memory.map(|memory| (Adjustment::Memory(memory.0), format!("--memory {memory}"))));
        fields.extend(self.cpus.map(|cpus| (Adjustment::Cpus(cpus), format!("--cpus {cpus}"))));
        fields.extend(self.pids.map(|pids| (Adjustment::Pids(pids), format!("--pids {pids}"))));
        if let Some(text) = &self.restart {
            let usage = |text: String| Failure::new("bad-request", text, "see 'wharf update --help'", 2);
            fields.push((Adjustment::Restart(parse_restart(text).map_err(usage)?), "--restart".to_owned()));
        }
        Ok(fields)
    }
}

impl Verb {
    /// The hooks that it passes.
    pub(crate) fn hooks(&self) -> &'static [Hook] {
        match self {
            Self::Start => &[Hook::PostStart],
            Self::Stop(_) | Self::Kill(_) | Self::Remove { .. } | Self::Down { .. } => &[Hook::PreStop],
            Self::Restart(_) => &[Hook::PreStop, Hook::PostStart],
            Self::Pause | Self::Unpause => &[],
            Self::Update(_) => &Hook::CREATE,
        }
    }

    /// What has been done, for people.
    pub(crate) fn done(&self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop(_) => "stopped",
            Self::Restart(_) => "restarted",
            Self::Pause => "paused",
            Self::Unpause => "unpaused",
            Self::Kill(_) => "got the signal",
            Self::Remove { .. } | Self::Down { .. } => "removed",
            Self::Update(_) => "updated",
        }
    }
}

impl Context {
    /// What carries out verbs that ask policies at these hooks, with Ctrl-C wired to it.
    pub(crate) async fn backend(&self, hooks: &'static [Hook]) -> Result<Backend, Failure> {
        if let Some(client) = self.client()? {
            return Ok(Backend::Service(Rc::new(client)));
        }
        let lifecycle = if hooks.is_empty() { self.lifecycle().await? } else { self.deciding(hooks).await? };
        Ok(Backend::Here(Rc::new(lifecycle)))
    }
}

impl Backend {
    /// Told when the process is to stop.
    pub(crate) fn stopper(&self) -> tokio::sync::watch::Receiver<bool> {
        match self {
            Self::Here(lifecycle) => lifecycle.stopper().subscribe(),
            Self::Service(_) => {
                let (to, stop) = tokio::sync::watch::channel(false);
                super::context::stop_at_signals(to);
                stop
            }
        }
    }

    /// All workspaces, sorted by id.
    pub(crate) async fn list(&self) -> Result<Vec<WorkspaceView>, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.list().await?),
            Self::Service(client) => list(client).await,
        }
    }

    /// Everything about the workspace that is meant.
    pub(crate) async fn inspect(&self, target: &Target) -> Result<WorkspaceView, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.inspect(&lifecycle.find(target).await?).await?),
            Self::Service(client) => Ok(client.get(&path(&meant(client, target).await?, ""), &[]).await?),
        }
    }

    /// Does something to the workspace that is meant.
    pub(crate) async fn act(&self, target: &Target, verb: &Verb) -> Result<WorkspaceView, Failure> {
        match self {
            Self::Here(lifecycle) => here(lifecycle, &lifecycle.find(target).await?, verb).await,
            Self::Service(client) => there(client, &meant(client, target).await?, verb).await,
        }
    }

    /// One sweep.
    pub(crate) async fn sweep(&self, dry_run: bool, no_grace: bool, grace: Duration) -> Result<SweepReport, Failure> {
        match self {
            Self::Here(lifecycle) => {
                Ok(lifecycle.sweep(dry_run, if no_grace { Duration::ZERO } else { grace }).await?)
            }
            // How long it can be taken back is the service's own setting.
            Self::Service(client) => {
                Ok(client.post("/v1/cleanup/sweep", &json!({ "dry_run": dry_run, "no_grace": no_grace })).await?)
            }
        }
    }

    /// The ledger of cleanup, newest first.
    pub(crate) async fn ledger(&self, all: bool) -> Result<Vec<LedgerEntry>, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.ledger(!all, LEDGER)?),
            Self::Service(client) => {
                let limit = LEDGER.to_string();
                let mut query = vec![("limit", limit.as_str())];
                query.extend(all.then_some(("all", "true")));
                Ok(client.get("/v1/cleanup", &query).await?)
            }
        }
    }

    /// Takes back what a sweep plans or has stopped.
    pub(crate) async fn undo_cleanup(&self, which: &str) -> Result<LedgerEntry, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.undo_cleanup(which).await?),
            Self::Service(client) => Ok(client.post("/v1/cleanup/undo", &json!({ "which": which })).await?),
        }
    }

    /// Lets sweeps have again what was taken back.
    pub(crate) async fn allow_cleanup(&self, which: &str) -> Result<LedgerEntry, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.allow_cleanup(which)?),
            Self::Service(client) => Ok(client.post("/v1/cleanup/allow", &json!({ "which": which })).await?),
        }
    }
}

async fn here(lifecycle: &Lifecycle, id: &WorkspaceId, verb: &Verb) -> Result<WorkspaceView, Failure> {
    let span = |span: &Option<Span>| span.map(|span| span.0);
    Ok(match verb {
        Verb::Start => lifecycle.start(id).await?,
        Verb::Stop(timeout) => lifecycle.stop(id, span(timeout)).await?,
        Verb::Restart(timeout) => lifecycle.restart(id, span(timeout)).await?,
        Verb::Pause => lifecycle.pause(id).await?,
        Verb::Unpause => lifecycle.unpause(id).await?,
        Verb::Kill(signal) => lifecycle.kill(id, signal).await?,
        Verb::Remove { force, volumes } => lifecycle.remove(id, *force, *volumes).await?,
        Verb::Down { volumes } => lifecycle.down(id, *volumes).await?,
        Verb::Update(limits) => lifecycle.update(id, &limits.fields()?).await?,
    })
}

async fn there(client: &Client, id: &str, verb: &Verb) -> Result<WorkspaceView, Failure> {
    let timeout = |span: &Option<Span>| span.map_or(json!({}), |span| json!({ "timeout": span }));
    let (name, body) = match verb {
        Verb::Start => ("start", json!({})),
        Verb::Stop(span) => ("stop", timeout(span)),
        Verb::Restart(span) => ("restart", timeout(span)),
        Verb::Pause => ("pause", json!({})),
        Verb::Unpause => ("unpause", json!({})),
        Verb::Kill(signal) => ("kill", json!({ "signal": signal })),
        Verb::Down { volumes } => ("down", json!({ "volumes": volumes })),
        Verb::Update(limits) => ("update", update(limits)),
        Verb::Remove { force, volumes } => {
            let mut query = Vec::new();
            query.extend(force.then_some(("force", "true")));
            query.extend(volumes.then_some(("volumes", "true")));
            return Ok(client.delete(&path(id, ""), &query).await?);
        }
    };
    Ok(client.post(&path(id, name), &body).await?)
}

fn update(limits: &Limits) -> Value {
    let mut body = serde_json::Map::new();
    body.extend(limits.memory.map(|memory| ("memory".to_owned(), json!(memory))));
    body.extend(limits.cpus.map(|cpus| ("cpus".to_owned(), json!(cpus))));
    body.extend(limits.pids.map(|pids| ("pids".to_owned(), json!(pids))));
    body.extend(limits.restart.as_ref().map(|restart| ("restart".to_owned(), json!(restart))));
    Value::Object(body)
}

/// The path of a workspace, or of something about it.
pub(crate) fn path(id: &str, what: &str) -> String {
    let slash = if what.is_empty() { "" } else { "/" };
    format!("/v1/workspaces/{}{slash}{what}", url_encoded(id))
}

/// All workspaces of a service.
pub(crate) async fn list(client: &Client) -> Result<Vec<WorkspaceView>, Failure> {
    let query: Query<'_> = &[("limit", "1000")];
    Ok(client.pages("/v1/workspaces", query).await?)
}

/// The name by which a service knows what is meant. It finds names as commands do; a folder is the same one on this machine only.
pub(crate) async fn meant(client: &Client, target: &Target) -> Result<String, Failure> {
    match target {
        Target::Named(name) => Ok(name.clone()),
        Target::Folder(_) if !client.is_local() => Err(elsewhere(client, "a folder")),
        Target::Folder(_) => Ok(find_listed(&list(client).await?, target)?.to_string()),
    }
}

/// What a folder of this machine means to a service on another one: nothing.
pub(crate) fn elsewhere(client: &Client, what: &str) -> Failure {
    let text = format!("{what} of this machine means nothing to the service at {}", client.server());
    Failure::new("bad-request", text, "name a workspace; 'wharf ls' lists them", 2)
}
