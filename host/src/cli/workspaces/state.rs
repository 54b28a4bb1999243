//! Verbs that change the state of workspaces. Each works on one workspace, several, all, or all with a label, and
//! reports per workspace.

use futures_util::StreamExt;

use crate::backend::{Backend, Verb};
use std::io::IsTerminal;

use crate::cli::bars::Waiting;
use crate::cli::output::{counted, say};
use crate::cli::{Context, Failure, terminal};
use crate::config::Span;
use crate::lifecycle::WorkspaceView;
use crate::records::Target;
use crate::wire::UpdateRequest;
use crate::workspace::{State, WorkspaceId};

/// The number of workspaces that are processed concurrently. By measurement, an engine gets no faster with more.
const AT_ONCE: usize = 4;

/// The selection of workspaces.
#[derive(Debug, clap::Args)]
pub(crate) struct Targets {
    /// Ids or names [default: the workspace of this folder]
    #[arg(conflicts_with_all = ["all", "label"])]
    workspaces: Vec<String>,
    /// All workspaces
    #[arg(short, long)]
    all: bool,
    /// All workspaces with a label: NAME or NAME=VALUE; given again, all with both labels
    #[arg(short, long, value_name = "LABEL")]
    label: Vec<String>,
}

impl Targets {
    /// Returns whether the selection depends on the existing workspaces.
    fn several(&self) -> bool {
        self.all || !self.label.is_empty()
    }

    /// Returns the selected workspaces; `all` is used only when the selection depends on the existing workspaces.
    fn meant(&self, context: &Context, all: &[WorkspaceView]) -> Result<Vec<Target>, Failure> {
        if self.several() {
            return Ok(select(all, &self.label).into_iter().map(|id| Target::Named(id.to_string())).collect());
        }
        if self.workspaces.is_empty() {
            return Ok(vec![context.target(None)?]);
        }
        Ok(self.workspaces.iter().map(|name| Target::Named(name.clone())).collect())
    }

    /// Returns the selected workspaces; the backend lists all of them only if that is necessary.
    pub(crate) async fn of(&self, context: &Context, backend: &Backend) -> Result<Vec<Target>, Failure> {
        let all = if self.several() { backend.list().await? } else { Vec::new() };
        self.meant(context, &all)
    }
}

/// Arguments of `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    targets: Targets,
    /// Time to end by itself before it is killed, e.g. 10s [default: engine.stop_timeout]
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
    /// Kill running ones
    #[arg(short, long)]
    force: bool,
    /// Do not ask before removing several on a terminal
    #[arg(short, long)]
    yes: bool,
    /// Remove the named volumes that were made for it, too, with their data
    #[arg(long)]
    volumes: bool,
}

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    targets: Targets,
    /// Do not ask before removing several on a terminal
    #[arg(short, long)]
    yes: bool,
    /// Remove the named volumes that were made for it, too, with their data
    #[arg(long)]
    volumes: bool,
}

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["memory", "cpus", "pids", "restart"]))]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    limits: UpdateRequest,
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
    let verb = Verb::Remove { force: args.force, volumes: args.volumes };
    each_confirmed(context, &args.targets, &verb, args.yes).await
}

pub(crate) async fn down(context: &Context, args: &DownArgs) -> Result<u8, Failure> {
    each_confirmed(context, &args.targets, &Verb::Down { volumes: args.volumes }, args.yes).await
}

pub(crate) async fn update(context: &Context, args: &UpdateArgs) -> Result<u8, Failure> {
    each(context, &args.targets, &Verb::Update(args.limits.clone())).await
}

/// Applies a verb to each workspace, to some of them concurrently. A failure is reported and does not stop the others;
/// the exit code is that of the first failure. JSON is an object for one workspace, an array for several.
async fn each(context: &Context, targets: &Targets, verb: &Verb) -> Result<u8, Failure> {
    each_confirmed(context, targets, verb, true).await
}

/// The same; asks first on a terminal when the selection depends on the existing workspaces, unless the answer is given.
async fn each_confirmed(context: &Context, targets: &Targets, verb: &Verb, yes: bool) -> Result<u8, Failure> {
    let backend = &context.backend(verb.hooks())?;
    let several = targets.several();
    let meant = targets.of(context, backend).await?;
    if several && !yes && !meant.is_empty() && !confirmed(&meant).await? {
        let text = "nothing was removed";
        return Err(Failure::new("not-confirmed", text, "answer 'y', or give --yes", 1));
    }
    let single = !several && meant.len() == 1;
    if meant.is_empty() && !targets.label.is_empty() {
        context.out.notice(&format!("no workspace has the label {}", targets.label.join(" and ")));
    }
    let waiting = Waiting::new(context.out.json, doing(verb, &meant));
    let acts = meant.into_iter().enumerate().map(async |(place, target)| (place, backend.act(&target, verb).await));
    let mut results = futures_util::stream::iter(acts).buffer_unordered(AT_ONCE);
    let (mut views, mut exit) = (Vec::new(), (usize::MAX, 0));
    // A closed reader does not stop the remaining workspaces.
    let mut printed = Ok(());
    while let Some((place, result)) = results.next().await {
        match result {
            Ok(view) => {
                if !context.out.json && printed.is_ok() {
                    let ended = matches!(verb, Verb::Start | Verb::Restart(_)) && view.state != State::Running;
                    let line = match view.notes.last().filter(|_| ended) {
                        Some(note) => format!("{} {} and is {} again: {note}", view.id, done(verb), view.state),
                        None if ended => format!("{} {} and is {} again", view.id, done(verb), view.state),
                        None => format!("{} {}", view.id, done(verb)),
                    };
                    printed = waiting.above(|| context.out.line(line));
                }
                views.push((place, view));
            }
            Err(error) if single => return Err(error.into()),
            Err(error) => {
                let failure = Failure::from(error);
                waiting.above(|| context.out.failure(&failure));
                if place < exit.0 {
                    exit = (place, failure.exit);
                }
            }
        }
    }
    drop(waiting);
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

/// Asks on a terminal whether to remove these workspaces; without one, the flags are the answer.
async fn confirmed(meant: &[Target]) -> Result<bool, Failure> {
    if !(std::io::stdin().is_terminal() && terminal::is_err()) {
        return Ok(true);
    }
    let names: Vec<String> = meant.iter().map(Target::shown).collect();
    say(format!("remove {}: {}? [y/N]", counted(names.len() as u64, "workspace"), names.join(", ")));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.map_err(|error| Failure::new("internal", error.to_string(), "try again", 1))??;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says what a verb does with which workspaces.
fn doing(verb: &Verb, meant: &[Target]) -> String {
    let word = match verb {
        Verb::Start => "starting",
        Verb::Stop(_) => "stopping",
        Verb::Restart(_) => "restarting",
        Verb::Pause => "pausing",
        Verb::Unpause => "resuming",
        Verb::Kill(_) => "signalling",
        Verb::Remove { .. } | Verb::Down { .. } => "removing",
        Verb::Update(_) => "updating",
    };
    match meant {
        [one] => format!("{word} {}", one.shown()),
        all => format!("{word} {}", counted(all.len(), "workspace")),
    }
}

/// Returns the verb's result for people.
fn done(verb: &Verb) -> &'static str {
    match verb {
        Verb::Start => "started",
        Verb::Stop(_) => "stopped",
        Verb::Restart(_) => "restarted",
        Verb::Pause => "paused",
        Verb::Unpause => "unpaused",
        Verb::Kill(_) => "signalled",
        Verb::Remove { .. } | Verb::Down { .. } => "removed",
        Verb::Update(_) => "updated",
    }
}

/// Returns the workspaces that have all these labels. Sidecars follow their workspaces.
fn select(all: &[WorkspaceView], labels: &[String]) -> Vec<WorkspaceId> {
    let whole = all.iter().filter(|view| view.part_of.is_none());
    whole.filter(|view| labels.iter().all(|wanted| view.has_label(wanted))).map(|view| view.id.clone()).collect()
}
