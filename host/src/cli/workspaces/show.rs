//! `wharf ls`

use std::time::Duration;

use crate::backend::{Backend, Changes};
use crate::cli::output::{Cell, Column, Look, ago, column};
use crate::cli::{Context, Failure, terminal};
use crate::lifecycle::{Ending, WorkspaceView};
use crate::workspace::State;

pub(in crate::cli) mod inspect;

/// The interval at which a watched list on a terminal is redrawn when nothing changes.
const AGES: Duration = Duration::from_secs(10);
/// The pause before the next attempt when a service or engine does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// The time within which further changes are shown together with the first.
const CLOSE: Duration = Duration::from_millis(100);

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Print only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Show the list again whenever something changes, until it is interrupted
    #[arg(short, long, conflicts_with = "quiet")]
    watch: bool,
}

/// The columns of the list. A shortened id is of no use, so it is left out where the names are enough.
fn columns(all: &[WorkspaceView]) -> [Column; 8] {
    let names: std::collections::BTreeSet<_> = all.iter().map(|workspace| &workspace.name).collect();
    let id = column("ID");
    [
        if names.len() == all.len() { id.optional(5) } else { id },
        column("NAME").cut(12),
        column("STATE").cut(7),
        column("HEALTH").cut(6),
        column("IMAGE").cut(14).optional(1),
        column("CREATED").optional(4),
        column("PORTS").wrapped(26).optional(2),
        column("PROJECT").path(12).optional(3),
    ]
}

/// Lists workspaces.
pub(crate) async fn ls(context: &Context, args: &LsArgs) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    if args.watch {
        return watch(context, &backend).await;
    }
    list(context, &backend.list().await?, args.quiet)
}

/// Shows the list again at every change: on a terminal in the same place, elsewhere and as JSON one after the other.
/// After the first list, an unreachable engine or service is waited for.
async fn watch(context: &Context, backend: &Backend) -> Result<u8, Failure> {
    let mut stop = backend.stopper().await?.subscribe();
    let mut watch = Watch { terminal: !context.out.json && terminal::is_out(), shown: None, away: false };
    loop {
        let failed = tokio::select! {
            failed = watch.follow(context, backend) => failed,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        };
        // 6: the engine or the service is unreachable.
        let Err(failure) = failed else { continue };
        if watch.shown.is_none() || failure.exit != 6 {
            return Err(failure);
        }
        if !std::mem::replace(&mut watch.away, true) {
            context.out.notice(&format!("{}; trying again", failure.message));
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        }
    }
}

/// A list that is watched.
struct Watch {
    terminal: bool,
    /// The last output.
    shown: Option<String>,
    /// Whether the user was informed that there is no answer.
    away: bool,
}

impl Watch {
    /// Shows the list and waits for a change, repeatedly.
    async fn follow(&mut self, context: &Context, backend: &Backend) -> Result<(), Failure> {
        let mut changes = backend.changes().await?;
        loop {
            let all = backend.list().await?;
            self.away = false;
            let now = serde_json::to_string(&all).map_err(std::io::Error::other)?;
            if self.terminal || self.shown.as_ref() != Some(&now) {
                if self.terminal {
                    // Clears the screen from its top left corner, including leftovers below the list.
                    context.out.clear()?;
                }
                list(context, &all, false)?;
                self.shown = Some(now);
            }
            tokio::select! {
                // The displayed ages grow without changes.
                () = tokio::time::sleep(AGES), if self.terminal => {}
                changed = settled(&mut changes) => changed?,
            }
        }
    }
}

/// Waits for a change, and for further changes shortly after it. It also returns when they never end.
async fn settled(changes: &mut Changes) -> Result<(), Failure> {
    changes.next().await?;
    let more = async {
        loop {
            if let Err(error) = changes.next().await {
                return Failure::from(error);
            }
        }
    };
    tokio::time::timeout(CLOSE, more).await.map_or(Ok(()), Err)
}

/// Prints workspaces as `ls` does.
pub(crate) fn list(context: &Context, all: &[WorkspaceView], quiet: bool) -> Result<u8, Failure> {
    if context.out.json {
        context.out.value(&all)?;
    } else if quiet {
        for workspace in all {
            context.out.line(workspace.id.as_str())?;
        }
    } else {
        let row = |workspace: &WorkspaceView| {
            vec![
                workspace.id.as_str().into(),
                Cell::from(&workspace.name),
                state(workspace),
                health(workspace),
                Cell::from(&workspace.image),
                ago(workspace.created_at).into(),
                ports(workspace).join(", ").into(),
                Cell::from(&workspace.project),
            ]
        };
        context.out.table(&columns(all), all.iter().map(row).collect())?;
    }
    Ok(0)
}

/// Returns the state with the reason of an end: a stop on purpose is in order, an end by itself is not.
pub(in crate::cli) fn state(workspace: &WorkspaceView) -> Cell {
    let code = workspace.exit_code.map_or(String::new(), |code| format!(" ({code})"));
    let (mut text, mut look) = match (workspace.state, workspace.ended) {
        (_, Some(Ending::Stopped)) => ("stopped".to_owned(), Some(Look::Dim)),
        (_, Some(Ending::Idle)) => ("stopped, idle".to_owned(), Some(Look::Dim)),
        (_, Some(Ending::Expired)) => ("stopped, expired".to_owned(), Some(Look::Dim)),
        (_, Some(Ending::OutOfMemory)) => (format!("out of memory{code}"), Some(Look::Bad)),
        (state, Some(Ending::Exited)) => (format!("{state}{code}"), workspace.exit_code.map(exit_look)),
        (state @ State::Running, None) => (state.to_string(), Some(Look::Good)),
        (state @ (State::Paused | State::Restarting), None) => (state.to_string(), Some(Look::Warn)),
        (state @ (State::Missing | State::Dead), None) => (state.to_string(), Some(Look::Bad)),
        (state, None) => (format!("{state}{code}"), None),
    };
    if workspace.degraded.is_some() {
        text.push_str(", degraded");
        look = look.filter(|look| *look == Look::Bad).or(Some(Look::Warn));
    }
    Cell::from(text).look(look)
}

fn exit_look(code: i64) -> Look {
    if code == 0 { Look::Dim } else { Look::Bad }
}

/// Returns the state of the health check, or a dash without one.
fn health(workspace: &WorkspaceView) -> Cell {
    let Some(health) = &workspace.health else { return "-".into() };
    let look = match health.as_str() {
        "healthy" => Some(Look::Good),
        "unhealthy" => Some(Look::Bad),
        _ => Some(Look::Warn),
    };
    Cell::from(health).look(look)
}

fn ports(workspace: &WorkspaceView) -> Vec<String> {
    let port = |p: &crate::workspace::Port| format!("{}->{}/{}", p.host(), p.container_port, p.protocol);
    workspace.ports.iter().map(port).collect()
}
