//! `wharf ls` and `wharf inspect`

use std::time::Duration;

use crate::backend::{Backend, Changes};
use crate::cli::output::ago;
use crate::cli::{Context, Failure, terminal};
use crate::lifecycle::WorkspaceView;
use crate::printable::Printable;

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

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
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
                workspace.id.to_string(),
                state(workspace),
                workspace.image.clone(),
                ago(workspace.created_at),
                ports(workspace).join(", "),
                workspace.project.clone(),
            ]
        };
        context.out.table(&["ID", "STATE", "IMAGE", "CREATED", "PORTS", "PROJECT"], all.iter().map(row).collect())?;
    }
    Ok(0)
}

fn state(workspace: &WorkspaceView) -> String {
    let mut text = workspace.state.to_string();
    if let Some(code) = workspace.exit_code {
        text.push_str(&format!(" ({code})"));
    }
    if let Some(health) = &workspace.health {
        text.push_str(&format!(", {health}"));
    }
    if let Some(why) = workspace.stopped {
        text.push_str(&format!(", {why}"));
    }
    if workspace.degraded.is_some() {
        text.push_str(", degraded");
    }
    text
}

fn ports(workspace: &WorkspaceView) -> Vec<String> {
    let port = |p: &crate::workspace::Port| format!("{}->{}/{}", p.host(), p.container_port, p.protocol);
    workspace.ports.iter().map(port).collect()
}

/// Shows one workspace.
pub(crate) async fn inspect(context: &Context, args: &InspectArgs) -> Result<u8, Failure> {
    let workspace = context.backend(&[])?.inspect(&context.target(args.workspace.as_deref())?).await?;
    if context.out.json {
        context.out.value(&workspace)?;
        return Ok(0);
    }
    let time = |time: Option<jiff::Timestamp>| time.map_or_else(|| "-".into(), |time| time.to_string());
    let mut rows = vec![
        ("id", workspace.id.to_string()),
        ("name", workspace.name.clone()),
        ("project", workspace.project.clone()),
        ("state", state(&workspace)),
        ("container", workspace.container_id.clone().unwrap_or_else(|| "-".into())),
        ("image", workspace.image.clone()),
        ("created", time(workspace.created_at)),
        ("started", time(workspace.started_at)),
        ("finished", time(workspace.finished_at)),
    ];
    if let Some(check) = &workspace.last_check {
        let failures =
            if check.failures == 0 { String::new() } else { format!(", {} failures in a row", check.failures) };
        rows.push(("check", format!("code {}, {}{failures}", check.exit_code, ago(check.at))));
        rows.extend(check.output.lines().map(|line| ("", line.to_owned())));
    }
    if let Some(disk) = &workspace.disk {
        let used = disk.used.as_deref().unwrap_or("-");
        rows.push((
            "disk",
            format!("{}, {used} of {}", disk.mode.as_str(), crate::cli::output::bytes(Some(disk.limit))),
        ));
    }
    rows.extend(ports(&workspace).into_iter().map(|port| ("port", port)));
    rows.extend(workspace.labels.iter().map(|(name, value)| ("label", format!("{name}={value}"))));
    rows.extend(workspace.notes.iter().map(|note| ("note", note.clone())));
    let not_honoured = workspace.devcontainer.as_ref().and_then(crate::cli::devcontainer::not_honoured);
    rows.extend(not_honoured.map(|line| ("file", line)));
    rows.extend(workspace.degraded.iter().map(|reason| ("degraded", reason.clone())));
    rows.extend(workspace.outdated.iter().map(|reason| ("outdated", reason.clone())));
    for (name, value) in rows {
        context.out.line(format!("{name:<10} {value}").trim_end())?;
    }
    context.out.line("policies")?;
    for line in context.out.trail(&workspace.trail) {
        context.out.line(Printable::from("  ") + line)?;
    }
    Ok(0)
}
