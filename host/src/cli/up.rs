//! `wharf up`

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bars::Bars;
use super::devcontainer::{DevcontainerArgs, not_honoured};
use super::health::HealthArgs;
use super::{Context, Failure};
use crate::config::{HealthCheckConfig, Size, Span};
use crate::hooks::{Adjustment, Hook};
use crate::lifecycle::{
    Awaited, Progress, Recreate, WorkspaceRequest, WorkspaceView, parse_mount, parse_port, parse_tmpfs, parse_ulimit,
};
use crate::printable::Printable;
use crate::workspace::{Network, PullPolicy, Restart};

mod by_service;

/// What `up` and `plan` share: which workspace, and what it should be.
#[derive(Debug, clap::Args)]
pub(crate) struct ProjectArgs {
    /// Project folder [default: --project, or the current folder]
    path: Option<PathBuf>,
    /// Another workspace for the same folder
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    devcontainer: DevcontainerArgs,
    #[command(flatten)]
    request: RequestArgs,
}

impl ProjectArgs {
    pub(crate) fn request(self, context: &Context) -> Result<WorkspaceRequest, Failure> {
        let project = self.path.unwrap_or_else(|| context.project_folder());
        let health = context.app.loaded.config.workspace.health_check.as_ref();
        let devcontainer = self.devcontainer.choice();
        Ok(WorkspaceRequest { project, name: self.name, devcontainer, ..self.request.request(health)? })
    }
}

/// Everything that a request may name of a container.
#[derive(Debug, clap::Args)]
pub(crate) struct RequestArgs {
    /// The image; policies may still deny it
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    #[command(flatten)]
    build: super::image::BuildArgs,
    /// When the image of --image is fetched
    #[arg(long, value_enum, value_name = "WHEN", requires = "image")]
    pull: Option<Pull>,
    /// Environment: NAME=VALUE, or NAME to take it from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Label: NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Published port: [[ADDRESS:]HOST:]PORT[/udp]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Mount: SOURCE:TARGET[:ro]
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Memory limit, e.g. 4GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// CPU quota in cores, e.g. 1.5
    #[arg(long, value_name = "CORES", value_parser = super::state::cores)]
    cpus: Option<f64>,
    /// Memory file system: TARGET[:SIZE], e.g. /tmp:64MiB
    #[arg(long, value_name = "TARGET")]
    tmpfs: Vec<String>,
    /// Secret file /run/secrets/NAME: NAME=FILE, or NAME to take it from a variable here
    #[arg(long, value_name = "NAME[=FILE]")]
    secret: Vec<String>,
    /// Most processes and threads at once
    #[arg(long, value_name = "COUNT")]
    pids: Option<u32>,
    /// Size of /dev/shm, e.g. 256MiB
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<Size>,
    /// Size of the writable layer, e.g. 10GiB, where the engine's storage can limit it
    #[arg(long, value_name = "SIZE")]
    disk: Option<Size>,
    /// Process limit: NAME=SOFT[:HARD], e.g. nofile=1024:4096
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// What it is connected to
    #[arg(long, value_enum, value_name = "KIND")]
    network: Option<NetworkKind>,
    /// When the engine starts it again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = super::state::restart_policy)]
    restart: Option<Restart>,
    /// Time to live: it is stopped so long after its start, e.g. 8h
    #[arg(long, value_name = "TIME")]
    ttl: Option<Span>,
    /// User or uid:gid
    #[arg(short, long)]
    user: Option<String>,
    #[command(flatten)]
    health: HealthArgs,
    /// The command that keeps the workspace up
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum NetworkKind {
    /// The network of all workspaces
    Shared,
    /// A network of its own
    Own,
    /// No network
    None,
    /// The host's; needs allow.host_network
    Host,
}

impl From<NetworkKind> for Network {
    fn from(kind: NetworkKind) -> Self {
        match kind {
            NetworkKind::Shared => Self::Shared,
            NetworkKind::Own => Self::Own,
            NetworkKind::None => Self::None,
            NetworkKind::Host => Self::Host,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Pull {
    Missing,
    Always,
    Never,
}

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Replaces a workspace that differs from what is decided now (its writable layer is lost)
    #[arg(long)]
    recreate: bool,
    /// Waits until it is healthy; without a health check, until it runs
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    wait: Option<Span>,
    /// Prints only the id
    #[arg(short, long)]
    quiet: bool,
}

impl RequestArgs {
    /// What is asked for; the project is left to the caller. The flags of the health check change a part of this one.
    pub(crate) fn request(self, health: Option<&HealthCheckConfig>) -> Result<WorkspaceRequest, Failure> {
        let usage = |text: String| Failure::new("bad-request", text, "see 'wharf up --help'", 2);
        let mut env = BTreeMap::new();
        for text in self.env {
            env.extend([env_pair(&text).map_err(usage)?]);
        }
        let mut labels = BTreeMap::new();
        for text in self.label {
            let (name, value) =
                text.split_once('=').ok_or_else(|| usage(format!("--label {text}: write it as NAME=VALUE")))?;
            labels.insert(name.to_owned(), value.to_owned());
        }
        let mut fields = Vec::new();
        for text in self.publish {
            fields.push((parse_port(&text).map_err(usage)?, format!("--publish {text}")));
        }
        for text in self.mount {
            let absolute = absolute_source(&text);
            fields.push((parse_mount(&absolute).map_err(usage)?, format!("--mount {text}")));
        }
        if let Some(memory) = self.memory {
            fields.push((Adjustment::Memory(memory.0), format!("--memory {memory}")));
        }
        if let Some(cpus) = self.cpus {
            fields.push((Adjustment::Cpus(cpus), format!("--cpus {cpus}")));
        }
        for text in self.tmpfs {
            fields.push((parse_tmpfs(&text).map_err(usage)?, format!("--tmpfs {text}")));
        }
        for text in self.ulimit {
            fields.push((parse_ulimit(&text).map_err(usage)?, format!("--ulimit {text}")));
        }
        let mut secrets = BTreeMap::new();
        for text in self.secret {
            let (name, secret) = super::secret::parse(&text).map_err(usage)?;
            if secrets.insert(name.clone(), secret).is_some() {
                return Err(usage(format!("the secret {name} is given twice")));
            }
        }
        fields.extend(self.pids.map(|pids| (Adjustment::Pids(pids), format!("--pids {pids}"))));
        fields.extend(self.shm_size.map(|size| (Adjustment::ShmSize(Some(size.0)), format!("--shm-size {size}"))));
        fields.extend(self.disk.map(|size| (Adjustment::Disk(Some(size.0)), format!("--disk {size}"))));
        fields.extend(self.restart.map(|restart| (Adjustment::Restart(restart), "--restart".to_owned())));
        fields.extend(self.network.map(|kind| (Adjustment::Network(kind.into()), "--network".to_owned())));
        if let Some(user) = self.user {
            fields.push((Adjustment::User(Some(user.clone())), format!("--user {user}")));
        }
        if let Some(ttl) = self.ttl {
            let ms = u64::try_from(ttl.0.as_millis()).unwrap_or(u64::MAX);
            fields.push((Adjustment::TimeToLiveMs(Some(ms)), format!("--ttl {ttl}")));
        }
        let build = self.build.build().map_err(usage)?;
        fields.extend(self.health.field(health).map_err(usage)?);
        let pull = self.pull.map(|pull| match pull {
            Pull::Missing => PullPolicy::Missing,
            Pull::Always => PullPolicy::Always,
            Pull::Never => PullPolicy::Never,
        });
        Ok(WorkspaceRequest {
            image: self.image,
            build,
            pull,
            command: self.command,
            env,
            labels,
            secrets,
            fields,
            ..WorkspaceRequest::default()
        })
    }
}

/// `NAME=VALUE`, or `NAME` for the variable of this name here.
pub(crate) fn env_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(format!("--env {text}: there is no such variable here")),
        },
    }
}

/// `./data:/data` or `../data:/data` names a folder here; the engine takes only absolute paths.
fn absolute_source(text: &str) -> String {
    match text.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            let path = std::fs::canonicalize(source).or_else(|_| std::path::absolute(source));
            let path = path.unwrap_or_else(|_| source.into());
            format!("{}:{rest}", path.display())
        }
        _ => text.to_owned(),
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let mut output = UpOutput::new(context, args.quiet);
    if let Some(client) = context.client()? {
        let made = by_service::up(context, &client, args, &mut |progress| output.progress(progress)).await;
        return output.finish(made);
    }
    let request = args.project.request(context)?;
    let lifecycle =
        context.deciding(&[Hook::SelectImage, Hook::SecurityProfile, Hook::PreCreate, Hook::PostStart]).await?;
    let recreate = if args.recreate { Recreate::IfDifferent } else { Recreate::Never };
    let mut made = lifecycle.up(&request, recreate, &mut |progress| output.progress(progress)).await;
    if let (Ok(workspace), Some(limit)) = (&mut made, args.wait) {
        let waited = lifecycle.wait(&workspace.id, Awaited::Healthy, Some(limit.0), true).await?;
        if let Some(now) = waited.workspace {
            *workspace = now;
        }
    }
    output.finish(made.map_err(Failure::from))
}

/// What `up` and `sidecar add` show.
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
            context.out.line(format!("  {line}"))?;
        }
        for note in &workspace.notes {
            context.out.line(format!("  note: {note}"))?;
        }
        if let Some(reason) = &workspace.degraded {
            context.out.line(format!("  degraded: {reason}"))?;
        }
        if let Some(reason) = &workspace.outdated {
            context.out.line(format!("  outdated: {reason}"))?;
        }
    }
    Ok(0)
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
