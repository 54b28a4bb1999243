//! Verbs that change the state of workspaces: each on one workspace, several, all, or those with a label, with a report
//! per workspace.

use futures_util::StreamExt;

use super::backend::{Limits, Verb};
use super::{Context, Failure};
use crate::config::{Size, Span};
pub(crate) use crate::lifecycle::parse_restart as restart_policy;
use crate::lifecycle::{Lifecycle, Target, WorkspaceView};
use crate::workspace::{Container, State, WorkspaceId};

/// This many workspaces are worked on at once: measured, an engine gets no faster with more.
const AT_ONCE: usize = 4;

/// A number of cores.
pub(crate) fn cores(text: &str) -> Result<f64, String> {
    let cores: f64 = text.parse().map_err(|_| "is no number of cores, such as 1.5".to_owned())?;
    match cores.is_finite() {
        true => Ok(cores),
        false => Err("is not a number of cores from 0.01 up".to_owned()),
    }
}

/// Which workspaces.
#[derive(Debug, clap::Args)]
pub(crate) struct Targets {
    /// Ids or names [default: the workspace of this folder]
    #[arg(conflicts_with_all = ["all", "label"])]
    workspaces: Vec<String>,
    /// All workspaces
    #[arg(short, long)]
    all: bool,
    /// All workspaces with a label: NAME or NAME=VALUE; given again, those that have both
    #[arg(short, long, value_name = "LABEL")]
    label: Vec<String>,
}

impl Targets {
    /// Whether it is about as many as there are.
    fn several(&self) -> bool {
        self.all || !self.label.is_empty()
    }

    /// What is meant; `all` is asked only when it is about as many as there are.
    pub(crate) fn meant(&self, context: &Context, all: &[WorkspaceView]) -> Result<Vec<Target>, Failure> {
        if self.several() {
            return Ok(select(all, &self.label).into_iter().map(|id| Target::Named(id.to_string())).collect());
        }
        if self.workspaces.is_empty() {
            return Ok(vec![context.target(None)?]);
        }
        Ok(self.workspaces.iter().map(|name| Target::Named(name.clone())).collect())
    }

    /// All containers of the workspaces that are meant, each once.
    pub(crate) async fn containers(
        &self,
        context: &Context,
        lifecycle: &Lifecycle,
    ) -> Result<Vec<(WorkspaceId, Container)>, Failure> {
        let mut wanted = Vec::new();
        let all = lifecycle.list().await?;
        if self.all || !self.label.is_empty() {
            wanted = select(&all, &self.label);
        } else if self.workspaces.is_empty() {
            wanted.push(context.find(lifecycle, None).await?);
        } else {
            for name in &self.workspaces {
                wanted.push(context.find(lifecycle, Some(name)).await?);
            }
        }
        if let [id] = wanted.as_slice() {
            return Ok(lifecycle.containers_of(Some(id)).await?);
        }
        let meant = |(id, _): &(WorkspaceId, Container)| {
            let parent = all.iter().find(|view| view.id == *id).and_then(|view| view.part_of.as_ref());
            wanted.iter().any(|wanted| wanted == id || parent == Some(wanted))
        };
        Ok(lifecycle.containers_of(None).await?.into_iter().filter(meant).collect())
    }
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

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    targets: Targets,
    /// The signal: a name or a number
    #[arg(short, long, default_value = "KILL")]
    signal: String,
}

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("workspaces", |ids| ids.help("Ids or names")))]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["workspaces", "all", "label"]))]
pub(crate) struct RmArgs {
    #[command(flatten)]
    targets: Targets,
    /// Kills what runs
    #[arg(short, long)]
    force: bool,
    /// Removes the named volumes that were made for it, too, with their data
    #[arg(long)]
    volumes: bool,
}

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    targets: Targets,
    /// Removes the named volumes that were made for it, too, with their data
    #[arg(long)]
    volumes: bool,
}

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["memory", "cpus", "pids", "restart"]))]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    targets: Targets,
    /// Memory limit, e.g. 4GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// CPU quota in cores, e.g. 1.5
    #[arg(long, value_name = "CORES", value_parser = cores)]
    cpus: Option<f64>,
    /// Most processes and threads at once
    #[arg(long, value_name = "COUNT")]
    pids: Option<u32>,
    /// When the engine starts it again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = written_restart)]
    restart: Option<String>,
}

/// A restart policy as it was written, checked.
fn written_restart(text: &str) -> Result<String, String> {
    restart_policy(text).map(|_| text.to_owned())
}

pub(crate) async fn stop(context: &Context, args: &StopArgs) -> Result<u8, Failure> {
    each(context, &args.targets, &Verb::Stop(args.timeout)).await
}

pub(crate) async fn start(context: &Context, args: &Targets) -> Result<u8, Failure> {
    each(context, args, &Verb::Start).await
}

pub(crate) async fn restart(context: &Context, args: &StopArgs) -> Result<u8, Failure> {
    each(context, &args.targets, &Verb::Restart(args.timeout)).await
}

pub(crate) async fn pause(context: &Context, args: &Targets) -> Result<u8, Failure> {
    each(context, args, &Verb::Pause).await
}

pub(crate) async fn unpause(context: &Context, args: &Targets) -> Result<u8, Failure> {
    each(context, args, &Verb::Unpause).await
}

pub(crate) async fn kill(context: &Context, args: &KillArgs) -> Result<u8, Failure> {
    each(context, &args.targets, &Verb::Kill(args.signal.clone())).await
}

pub(crate) async fn rm(context: &Context, args: &RmArgs) -> Result<u8, Failure> {
    each(context, &args.targets, &Verb::Remove { force: args.force, volumes: args.volumes }).await
}

pub(crate) async fn down(context: &Context, args: &DownArgs) -> Result<u8, Failure> {
    each(context, &args.targets, &Verb::Down { volumes: args.volumes }).await
}

pub(crate) async fn update(context: &Context, args: &UpdateArgs) -> Result<u8, Failure> {
    let (memory, cpus, pids, restart) = (args.memory, args.cpus, args.pids, args.restart.clone());
    each(context, &args.targets, &Verb::Update(Limits { memory, cpus, pids, restart })).await
}

/// Does something to each workspace, to some at once. One that fails is reported and does not keep the others from their
/// turn; the exit code is that of the first failure. In JSON: an object for one workspace, an array for several.
async fn each(context: &Context, targets: &Targets, verb: &Verb) -> Result<u8, Failure> {
    let backend = &context.backend(verb.hooks()).await?;
    let several = targets.several();
    let meant = targets.meant(context, &if several { backend.list().await? } else { Vec::new() })?;
    let single = !several && meant.len() == 1;
    if meant.is_empty() && !targets.label.is_empty() {
        context.out.notice(&format!("no workspace has the label {}", targets.label.join(" and ")));
    }
    let acts = meant.into_iter().enumerate().map(async |(place, target)| (place, backend.act(&target, verb).await));
    let mut results = futures_util::stream::iter(acts).buffer_unordered(AT_ONCE);
    let (mut views, mut exit) = (Vec::new(), (usize::MAX, 0));
    // A reader that has gone keeps no workspace from its turn.
    let mut printed = Ok(());
    while let Some((place, result)) = results.next().await {
        match result {
            Ok(view) => {
                if !context.out.json && printed.is_ok() {
                    let ended = matches!(verb, Verb::Start | Verb::Restart(_)) && view.state != State::Running;
                    printed = context.out.line(match view.notes.last().filter(|_| ended) {
                        Some(note) => format!("{} {} and is {} again: {note}", view.id, verb.done(), view.state),
                        None if ended => format!("{} {} and is {} again", view.id, verb.done(), view.state),
                        None => format!("{} {}", view.id, verb.done()),
                    });
                }
                views.push((place, view));
            }
            Err(failure) if single => return Err(failure),
            Err(failure) => {
                context.out.failure(&failure);
                if place < exit.0 {
                    exit = (place, failure.exit);
                }
            }
        }
    }
    if exit.1 == 0 {
        printed?;
    }
    if context.out.json {
        views.sort_by_key(|(place, _)| *place);
        let views: Vec<_> = views.into_iter().map(|(_, view)| view).collect();
        match views.as_slice() {
            [view] if single => context.out.value(view)?,
            views => context.out.value(&views)?,
        }
    }
    Ok(exit.1)
}

/// The workspaces that have all these labels. Sidecars come along with theirs.
fn select(all: &[WorkspaceView], labels: &[String]) -> Vec<WorkspaceId> {
    let whole = all.iter().filter(|view| view.part_of.is_none());
    whole.filter(|view| labels.iter().all(|wanted| view.has_label(wanted))).map(|view| view.id.clone()).collect()
}
