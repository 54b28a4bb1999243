//! `wharf sidecar`: further containers of a workspace.

use super::up::{RequestArgs, UpOutput};
use super::{Context, Failure};
use crate::lifecycle::Recreate;

/// What to do with sidecars.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Makes a sidecar, or starts it: wharf sidecar add NAME --image REFERENCE
    Add(Box<AddArgs>),
    /// Lists the sidecars of a workspace
    Ls {
        /// Id or name of the workspace [default: the workspace of this folder]
        workspace: Option<String>,
    },
    /// Removes a sidecar
    Rm {
        /// Its name
        name: String,
        /// Id or name of the workspace [default: the workspace of this folder]
        workspace: Option<String>,
    },
}

/// Arguments of `add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Its name: others reach it under `<workspace id>-<name>`, and with the network `own` under `<name>`
    sidecar: String,
    /// Id or name of the workspace [default: the workspace of this folder]
    #[arg(short = 'W', long, value_name = "WS")]
    workspace: Option<String>,
    #[command(flatten)]
    request: RequestArgs,
    /// Replaces one that differs from what is decided now (its writable layer is lost)
    #[arg(long)]
    recreate: bool,
    /// Prints only the id
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<u8, Failure> {
    let lifecycle = context.lifecycle().await?;
    match command {
        Command::Add(args) => {
            let id = context.find(&lifecycle, args.workspace.as_deref()).await?;
            let request = args.request.request(None)?;
            let recreate = if args.recreate { Recreate::IfDifferent } else { Recreate::Never };
            let mut output = UpOutput::new(context, args.quiet);
            let made = lifecycle
                .add_sidecar(&id, &args.sidecar, &request, recreate, &mut |progress| output.progress(progress))
                .await;
            output.finish(made.map_err(Failure::from))
        }
        Command::Ls { workspace } => {
            let id = context.find(&lifecycle, workspace.as_deref()).await?;
            let mut all = lifecycle.list().await?;
            all.retain(|view| view.part_of.as_ref() == Some(&id));
            super::show::list(context, &all, false)
        }
        Command::Rm { name, workspace } => {
            let id = context.find(&lifecycle, workspace.as_deref()).await?;
            let sidecar = id.sidecar(&name).map_err(crate::lifecycle::Error::Request)?;
            let view = lifecycle.down(&sidecar, false).await?;
            if context.out.json {
                context.out.value(&view)?;
            } else {
                context.out.line(format!("{} removed", view.id))?;
            }
            Ok(0)
        }
    }
}
