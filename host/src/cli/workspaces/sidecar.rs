//! `wharf sidecar`: extra containers of a workspace.

use crate::backend::Verb;
use crate::cli::workspaces::up::{RequestArgs, UpOutput};
use crate::cli::{Context, Failure};
use crate::lifecycle::Error;
use crate::records::Target;

/// Manage extra containers of a workspace (sidecars), such as its database.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a sidecar, or start it: wharf sidecar add NAME --image REFERENCE
    Add(Box<AddArgs>),
    /// List the sidecars of a workspace
    Ls {
        /// Id or name of the workspace [default: the workspace of this folder]
        workspace: Option<String>,
    },
    /// Remove a sidecar
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
    /// Its name: others reach it under `wharf-<its id>`, and with the network `own` under `<name>`
    sidecar: String,
    /// Id or name of the workspace [default: the workspace of this folder]
    #[arg(short = 'W', long, value_name = "WS")]
    workspace: Option<String>,
    #[command(flatten)]
    request: RequestArgs,
    /// Replace a sidecar that differs from today's decision (its writable layer is lost)
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
        Command::Add(args) => {
            let target = context.target(args.workspace.as_deref())?;
            let mut output = UpOutput::new(context, args.quiet);
            let AddArgs { sidecar, request, recreate, .. } = *args;
            let request = request.request()?;
            let report = &mut |progress| output.progress(progress);
            let made = backend.add_sidecar(&target, &sidecar, request, recreate, report).await;
            output.finish(made.map_err(Failure::from))
        }
        Command::Ls { workspace } => {
            let all = backend.sidecars(&context.target(workspace.as_deref())?).await?;
            crate::cli::workspaces::show::list(context, &all, false)
        }
        Command::Rm { name, workspace } => {
            let id = backend.find(&context.target(workspace.as_deref())?).await?;
            let sidecar = id.sidecar(&name).map_err(Error::Request)?;
            let view = backend.act(&Target::Named(sidecar.to_string()), &Verb::Down { volumes: false }).await?;
            if context.out.json {
                context.out.value(&view)?;
            } else {
                context.out.line(format!("{} removed", view.id))?;
            }
            Ok(0)
        }
    }
}
