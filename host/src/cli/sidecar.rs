//! `wharf sidecar`: further containers of a workspace.

use serde_json::Value;

use super::backend::{Backend, Verb, made, meant, path};
use super::up::{RequestArgs, UpOutput};
use super::{Context, Failure};
use crate::lifecycle::{Error, Progress, Recreate, Target, WorkspaceView};
use crate::workspace::url_encoded;

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
    /// Its name: others reach it under `wharf-<its id>`, and with the network `own` under `<name>`
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
    let backend = context.backend(&[]).await?;
    match command {
        Command::Add(args) => {
            let target = context.target(args.workspace.as_deref())?;
            let mut output = UpOutput::new(context, args.quiet);
            let made = add(&backend, &target, *args, &mut |progress| output.progress(progress)).await;
            output.finish(made)
        }
        Command::Ls { workspace } => {
            let all = backend.sidecars(&context.target(workspace.as_deref())?).await?;
            super::show::list(context, &all, false)
        }
        Command::Rm { name, workspace } => {
            let id = backend.id(&context.target(workspace.as_deref())?).await?;
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

async fn add(
    backend: &Backend,
    target: &Target,
    args: AddArgs,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<WorkspaceView, Failure> {
    match backend {
        Backend::Here(lifecycle) => {
            let id = lifecycle.find(target).await?;
            let request = args.request.request(None)?;
            let recreate = if args.recreate { Recreate::IfDifferent } else { Recreate::Never };
            Ok(lifecycle.add_sidecar(&id, &args.sidecar, &request, recreate, progress).await?)
        }
        Backend::Service(client) => {
            let id = meant(client, target).await?;
            let mut body = args.request.body(client)?;
            // An image is what it needs; the service says so where there is none.
            body.remove("build");
            let what = format!("sidecars/{}", url_encoded(&args.sidecar));
            let query: Vec<_> = args.recreate.then_some(("recreate", "true")).into_iter().collect();
            made(client, (&path(&id, &what), &query), &Value::Object(body), progress).await
        }
    }
}
