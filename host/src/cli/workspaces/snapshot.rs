//! `wharf snapshot`: taking snapshots of workspaces, and restoring them.

use std::collections::BTreeMap;

use crate::cli::bars::Bars;
use crate::cli::output::{Column, Several, ago, column};
use crate::cli::workspaces::up::UpOutput;
use crate::cli::{Context, Failure};
use crate::wire::RestoreRequest;

/// Manage snapshots of workspaces.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Take a snapshot of a workspace: its writable layer and its volumes
    Create {
        /// Id or name [default: the workspace of this folder]
        workspace: Option<String>,
        /// Name of the snapshot [default: the time]
        #[arg(long)]
        name: Option<String>,
    },
    /// List snapshots
    Ls {
        /// Only snapshots of this workspace
        workspace: Option<String>,
    },
    /// Make a workspace from a snapshot
    Restore(RestoreArgs),
    /// Remove snapshots
    Rm {
        /// Names, as 'snapshot ls' shows them
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// Name, as 'snapshot ls' shows it
    snapshot: String,
    /// Make another workspace of this name for the same project
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Environment: NAME=VALUE, or NAME to take it from here; values of secrets are no part of a snapshot
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Replace the existing workspace
    #[arg(long)]
    recreate: bool,
    /// Print only the id
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    match command {
        Command::Create { workspace, name } => {
            let target = context.target(workspace.as_deref())?;
            let mut bars = Bars::new(context.out.json);
            let kept = backend.create_snapshot(&target, name.as_deref(), &mut |progress| bars.show(progress)).await;
            bars.clear();
            let snapshot = kept?;
            if context.out.json {
                context.out.value(&snapshot)?;
            } else {
                context.out.line(&snapshot.name)?;
            }
            Ok(0)
        }
        Command::Ls { workspace } => {
            let target = workspace.as_deref().map(|name| context.target(Some(name))).transpose()?;
            let all = backend.snapshots(target.as_ref()).await?;
            if context.out.json {
                context.out.value(&all)?;
            } else {
                let row = |kept: &crate::store::Snapshot| {
                    let volumes = kept.volumes.len().to_string();
                    vec![kept.name.clone(), ago(Some(kept.created_at)), kept.image.clone(), volumes]
                };
                const COLUMNS: [Column; 4] = [
                    column("NAME").cut(24),
                    column("CREATED").optional(1),
                    column("IMAGE").cut(16).optional(3),
                    column("VOLUMES").optional(2),
                ];
                context.out.table(&COLUMNS, all.iter().map(row).collect())?;
            }
            Ok(0)
        }
        Command::Restore(args) => {
            let usage = |text: String| Failure::new("bad-request", text, "see 'wharf snapshot restore --help'", 2);
            let mut env = BTreeMap::new();
            for text in args.env {
                env.extend([crate::cli::workspaces::up::env_pair(&text).map_err(usage)?]);
            }
            let restore = RestoreRequest { name: args.name, env, recreate: args.recreate };
            let mut output = UpOutput::new(context, args.quiet);
            let made =
                backend.restore_snapshot(&args.snapshot, &restore, &mut |progress| output.progress(progress)).await;
            output.finish(made.map_err(Failure::from))
        }
        Command::Rm { snapshots } => {
            let mut several = Several::new(&context.out);
            for name in snapshots {
                match backend.remove_snapshot(&name).await {
                    Ok(_) => several.line(format!("{name} removed")),
                    Err(failure) => several.failed(&failure.into()),
                }
            }
            several.end()
        }
    }
}
