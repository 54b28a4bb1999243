//! `wharf up`

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::bars::Bars;
use crate::cli::devcontainer::{DevcontainerArgs, not_honoured};
use crate::cli::output::Look;
use crate::cli::{Context, Failure};
use crate::config::Span;
use crate::hooks::Hook;
use crate::lifecycle::WorkspaceView;
use crate::printable::Printable;
use crate::wire::{Progress, WorkspaceRequest};
use crate::workspace::State;

/// Exit code for a workspace that exists and is not in order: it ended at once, or it is degraded.
const NOT_IN_ORDER: u8 = 8;

/// The arguments that `up` and `plan` share: the workspace, and its requested properties.
#[derive(Debug, clap::Args)]
pub(crate) struct ProjectArgs {
    /// Project folder [default: --project, or the current folder]
    path: Option<PathBuf>,
    /// Another workspace for the same folder
    #[arg(long)]
    name: Option<String>,
    /// Forget the flags of earlier runs
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    devcontainer: DevcontainerArgs,
    #[command(flatten)]
    request: RequestArgs,
}

impl ProjectArgs {
    /// Returns the request as it was written.
    pub(crate) fn request(self, context: &Context) -> Result<WorkspaceRequest, Failure> {
        let project = self.path.unwrap_or_else(|| context.project_folder());
        let DevcontainerArgs { devcontainer, no_devcontainer } = self.devcontainer;
        let (name, fresh) = (self.name, self.fresh);
        Ok(WorkspaceRequest { project, name, fresh, devcontainer, no_devcontainer, ..self.request.request()? })
    }
}

/// All properties of a container that a request may name. Fields with the same form on the command line and in the API
/// are those of the request itself.
#[derive(Debug, clap::Args)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    request: WorkspaceRequest,
    #[command(flatten)]
    build: crate::cli::workspaces::image::BuildArgs,
    /// Environment: NAME=VALUE, or NAME to take it from here
    #[arg(help_heading = "Environment", short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Label: NAME=VALUE
    #[arg(help_heading = "Environment", short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Secret file /run/secrets/NAME: NAME=FILE, or NAME to take it from a variable here
    #[arg(help_heading = "Environment", long, value_name = "NAME[=FILE]")]
    secret: Vec<String>,
    /// The command that keeps the workspace up
    #[arg(last = true)]
    command: Vec<String>,
}

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Replace a workspace that differs from today's decision (its writable layer is lost)
    #[arg(long)]
    recreate: bool,
    /// Wait until it is healthy; without a health check, until it runs
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    wait: Option<Span>,
    /// Print only the id
    #[arg(short, long)]
    quiet: bool,
}

impl RequestArgs {
    /// Returns the request without its project.
    pub(crate) fn request(self) -> Result<WorkspaceRequest, Failure> {
        let usage = |text: String| Failure::new("bad-request", text, "see 'wharf up --help'", 2);
        let mut env = BTreeMap::new();
        for text in self.env {
            env.extend([env_pair(&text).map_err(usage)?]);
        }
        let mut labels = BTreeMap::new();
        for text in self.label {
            let (name, value) = text.split_once('=').ok_or_else(|| usage(format!("--label {text}: use NAME=VALUE")))?;
            labels.insert(name.to_owned(), value.to_owned());
        }
        let secrets = crate::cli::workspaces::secret::parse("--secret", self.secret).map_err(usage)?;
        let build = self.build.build().map_err(usage)?;
        Ok(WorkspaceRequest { build, command: self.command, env, labels, secrets, ..self.request })
    }
}

/// Parses `NAME=VALUE`, or `NAME` for the variable of this name here.
pub(crate) fn env_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(format!("--env {text}: the variable is not set")),
        },
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let request = args.project.request(context)?;
    let backend = context.backend(&[Hook::SelectImage, Hook::SecurityProfile, Hook::PreCreate, Hook::PostStart])?;
    let mut output = UpOutput::new(context, args.quiet);
    let made = backend.up(request, args.recreate, args.wait, &mut |progress| output.progress(progress)).await;
    output.finish(made.map_err(Failure::from))
}

/// The output of `up` and `sidecar add`.
pub(crate) struct UpOutput<'a> {
    context: &'a Context,
    quiet: bool,
    bars: Bars,
}

impl<'a> UpOutput<'a> {
    pub(crate) fn new(context: &'a Context, quiet: bool) -> Self {
        Self { context, quiet, bars: Bars::new(quiet || context.out.json) }
    }

    pub(crate) fn progress(&mut self, progress: Progress) {
        self.bars.show(progress);
    }

    pub(crate) fn finish(mut self, made: Result<WorkspaceView, Failure>) -> Result<u8, Failure> {
        self.bars.clear();
        show(self.context, &made?, self.quiet)
    }
}

fn show(context: &Context, workspace: &WorkspaceView, quiet: bool) -> Result<u8, Failure> {
    if context.out.json {
        context.out.value(workspace)?;
    } else if quiet {
        context.out.line(workspace.id.as_str())?;
    } else {
        for line in context.out.trail(&workspace.trail) {
            context.out.line(Printable::from("  ") + line)?;
        }
        context.out.line(summary(context, workspace))?;
        if let Some(line) = workspace.devcontainer.as_ref().and_then(not_honoured) {
            context.out.wrapped("  ", line)?;
        }
        for note in &workspace.notes {
            context.out.wrapped("  note: ", note)?;
        }
        if let Some(reason) = &workspace.degraded {
            context.out.marked("  degraded", Look::Warn, "  degraded: ", reason)?;
        }
        if let Some(reason) = &workspace.outdated {
            context.out.marked("  outdated", Look::Warn, "  outdated: ", reason)?;
        }
    }
    let in_order = workspace.state == State::Running && workspace.degraded.is_none();
    Ok(if in_order { 0 } else { NOT_IN_ORDER })
}

fn summary(context: &Context, workspace: &WorkspaceView) -> Printable {
    let container: String = workspace.container_id.as_deref().unwrap_or("-").chars().take(12).collect();
    let ports: Vec<_> = workspace
        .ports
        .iter()
        .map(|port| format!("{} -> {}/{}", port.host(), port.container_port, port.protocol))
        .collect();
    let ports = if ports.is_empty() { String::new() } else { format!(", {}", ports.join(", ")) };
    let is = format!(" is {} ({}, container {container}{ports})", workspace.state, workspace.image);
    context.out.bold(workspace.id.as_str()) + is
}
