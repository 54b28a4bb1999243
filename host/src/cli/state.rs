//! `wharf stop`, `start`, `restart`, `rm` and `down`: each on one workspace or several, with a report per workspace.

use std::future::Future;

use super::{Context, Failure};
use crate::config::Span;
use crate::lifecycle::{Error, Lifecycle, WorkspaceView};
use crate::workspace::WorkspaceId;

/// Workspaces.
#[derive(Debug, clap::Args)]
pub(crate) struct Targets {
    /// Ids or names [default: the workspace of this folder]
    workspaces: Vec<String>,
}

/// Arguments of `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    targets: Targets,
    /// How long it may take to end before it is killed, e.g. 10s [default: engine.stop_timeout]
    #[arg(short, long, value_name = "TIME")]
    timeout: Option<Span>,
}

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Ids or names
    #[arg(required = true)]
    workspaces: Vec<String>,
    /// Kills it when it runs
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn stop(context: &Context, args: &StopArgs) -> Result<u8, Failure> {
    let timeout = args.timeout.map(|span| span.0);
    each(context, &args.targets.workspaces, "stopped", async |life, id| life.stop(&id, timeout).await).await
}

pub(crate) async fn start(context: &Context, args: &Targets) -> Result<u8, Failure> {
    each(context, &args.workspaces, "started", async |life, id| life.start(&id).await).await
}

pub(crate) async fn restart(context: &Context, args: &StopArgs) -> Result<u8, Failure> {
    let timeout = args.timeout.map(|span| span.0);
    each(context, &args.targets.workspaces, "restarted", async |life, id| life.restart(&id, timeout).await).await
}

pub(crate) async fn rm(context: &Context, args: &RmArgs) -> Result<u8, Failure> {
    let force = args.force;
    each(context, &args.workspaces, "removed", async |life, id| life.remove(&id, force).await).await
}

pub(crate) async fn down(context: &Context, args: &Targets) -> Result<u8, Failure> {
    each(context, &args.workspaces, "removed", async |life, id| life.down(&id).await).await
}

/// Does something to each workspace. One that fails is reported and does not keep the others from their turn; the exit
/// code is that of the first failure. In JSON: an object for one workspace, an array for several.
async fn each<'a, F>(
    context: &Context,
    names: &'a [String],
    done: &str,
    act: impl Fn(std::rc::Rc<Lifecycle>, WorkspaceId) -> F,
) -> Result<u8, Failure>
where
    F: Future<Output = Result<WorkspaceView, Error>>,
{
    let lifecycle = std::rc::Rc::new(context.lifecycle().await?);
    let mut names: Vec<Option<&'a str>> = names.iter().map(|name| Some(name.as_str())).collect();
    if names.is_empty() {
        names.push(None);
    }
    let (mut views, mut exit) = (Vec::new(), 0);
    let single = names.len() == 1;
    for name in names {
        let result = match lifecycle.find(&context.target(name)?).await {
            Ok(id) => act(lifecycle.clone(), id).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(view) => {
                if !context.out.json {
                    context.out.line(format!("{} {done}", view.id))?;
                }
                views.push(view);
            }
            Err(error) if single => return Err(error.into()),
            Err(error) => {
                let failure = Failure::from(error);
                context.out.failure(&failure);
                exit = if exit == 0 { failure.exit } else { exit };
            }
        }
    }
    if context.out.json {
        match views.as_slice() {
            [view] if single => context.out.value(view)?,
            views => context.out.value(&views)?,
        }
    }
    Ok(exit)
}
