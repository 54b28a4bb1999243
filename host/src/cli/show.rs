//! `wharf ls` and `wharf inspect`

use super::output::ago;
use super::{Context, Failure};
use crate::lifecycle::WorkspaceView;

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Prints only the ids
    #[arg(short, long)]
    quiet: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
}

/// Lists workspaces.
pub(crate) async fn ls(context: &Context, args: &LsArgs) -> Result<u8, Failure> {
    let all = context.backend(&[]).await?.list().await?;
    list(context, &all, args.quiet)
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
    let port = |p: &crate::workspace::Port| format!("{}:{}->{}/{}", p.address, p.port, p.container_port, p.protocol);
    workspace.ports.iter().map(port).collect()
}

/// Shows one workspace.
pub(crate) async fn inspect(context: &Context, args: &InspectArgs) -> Result<u8, Failure> {
    let workspace = context.backend(&[]).await?.inspect(&context.target(args.workspace.as_deref())?).await?;
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
        // Control characters of a workspace must not reach the terminal.
        let plain = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
        rows.extend(check.output.lines().map(|line| ("", plain(line))));
    }
    if let Some(disk) = &workspace.disk {
        let used = disk.used.as_deref().unwrap_or("-");
        rows.push(("disk", format!("{}, {used} of {}", disk.mode.as_str(), super::output::bytes(Some(disk.limit)))));
    }
    rows.extend(ports(&workspace).into_iter().map(|port| ("port", port)));
    rows.extend(workspace.labels.iter().map(|(name, value)| ("label", format!("{name}={value}"))));
    rows.extend(workspace.notes.iter().map(|note| ("note", note.clone())));
    let not_honoured = workspace.devcontainer.as_ref().and_then(super::devcontainer::not_honoured);
    rows.extend(not_honoured.map(|line| ("file", line)));
    rows.extend(workspace.degraded.iter().map(|reason| ("degraded", reason.clone())));
    for (name, value) in rows {
        context.out.line(format!("{name:<10} {value}").trim_end())?;
    }
    context.out.line("policies")?;
    for line in context.out.trail(&workspace.trail) {
        context.out.line(format!("  {line}"))?;
    }
    Ok(0)
}
