//! The commands: one file each, with its arguments and its function. Docker users' habits; `--json` for programs.
//!
//! May touch: the terminal. What a command does is done by `lifecycle`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::app::App;
use crate::config;
use crate::telemetry::{Lines, Telemetry};

mod audit;
mod backend;
mod backup;
mod bars;
mod cleanup;
mod config_cmd;
mod context;
mod cp;
mod devcontainer;
mod doctor;
mod events;
mod exec;
mod failure;
mod health;
mod idle;
mod image;
mod instant;
mod logs;
mod metrics;
mod output;
mod plan;
mod policy;
mod readings;
mod script;
mod secret;
mod serve;
mod show;
mod sidecar;
mod snapshot;
mod state;
mod stats;
mod token;
mod top;
mod up;
mod volume;
mod wait;
mod why;

pub(crate) use context::Context;
pub(crate) use failure::Failure;
use output::Output;

/// A workspace host that its owners program: one isolated container per project, every decision taken by policies.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration or policy unusable, 4 denied by a policy or an invariant, \
5 no such workspace or project, 6 engine unreachable or too old, 7 workspace differs from what is decided, or a replay has flips, \
130 interrupted. 'exec' and 'shell' give the command's own code, 125 when Wharf failed.")]
pub struct Cli {
    /// Configuration file [default: $WHARF_CONFIG, ~/.config/wharf/wharf.toml, /etc/wharf/wharf.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the store and the compiled plugins [default: $WHARF_STATE_DIR, or below ~/.local/state]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The Docker engine, unix:///path or tcp://host:port [default: $DOCKER_HOST, or the Docker context]
    #[arg(long, global = true, value_name = "ENDPOINT")]
    engine: Option<String>,
    /// A service that carries the command out, unix:///path or https://host:port [default: client.server]
    #[arg(long, global = true, value_name = "SERVER", env = "WHARF_SERVER", hide_env = true)]
    server: Option<String>,
    /// The project whose workspace is meant, for commands that name none [default: the current folder]
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Sets a value of the configuration, e.g. --set limits.memory=2GiB
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints JSON for programs; errors are JSON on stderr
    #[arg(long, global = true)]
    json: bool,
    /// Prints the backtrace of a plugin that failed
    #[arg(long, global = true)]
    backtrace: bool,
    /// Says more on stderr; twice says most [also: WHARF_LOG=debug]
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the workspace of a project, or starts it
    Up(up::Args),
    /// Lists workspaces
    #[command(alias = "ps")]
    Ls(show::LsArgs),
    /// Shows everything about a workspace
    Inspect(show::InspectArgs),
    /// Runs a command in a workspace: wharf exec [WS] -- COMMAND
    Exec(exec::Args),
    /// Opens a shell in a workspace
    Shell(exec::ShellArgs),
    /// Prints what a workspace's command wrote
    Logs(logs::Args),
    /// Shows what happens to workspaces, as it happens
    Events(events::Args),
    /// Shows what workspaces use
    Stats(stats::Args),
    /// Shows how idle workspaces are, and when they will be stopped
    Idle(idle::Args),
    /// Keeps a workspace from being stopped as idle: wharf lease [WS] TIME
    Lease(idle::LeaseArgs),
    /// Waits until a workspace is running, healthy, exited or removed
    Wait(wait::Args),
    /// Shows what workspaces use, on the whole screen
    Top(top::Args),
    /// Shows what a workspace used over time
    Metrics(metrics::Args),
    /// Stops workspaces
    Stop(state::StopArgs),
    /// Starts workspaces
    Start(state::Targets),
    /// Stops workspaces and starts them again
    Restart(state::StopArgs),
    /// Freezes workspaces
    Pause(state::Targets),
    /// Lets paused workspaces go on
    Unpause(state::Targets),
    /// Sends a signal to the first process of workspaces
    Kill(state::KillArgs),
    /// Changes the limits of workspaces while they exist
    Update(state::UpdateArgs),
    /// Removes workspaces
    Rm(state::RmArgs),
    /// Stops and removes workspaces
    Down(state::DownArgs),
    /// Copies files in and out: wharf cp SOURCE WS:/path, wharf cp WS:/path TARGET
    Cp(cp::Args),
    /// Sweeps: policies say what is stopped and removed, and it can be taken back
    Cleanup(cleanup::Args),
    /// Further containers of a workspace, such as its database
    #[command(subcommand)]
    Sidecar(sidecar::Command),
    /// Secret files of a workspace
    #[command(subcommand)]
    Secret(secret::Command),
    /// Images that Wharf built, kept or pulled
    #[command(subcommand)]
    Image(image::Command),
    /// Keeps workspaces, and makes them again
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Named volumes
    #[command(subcommand)]
    Volume(volume::Command),
    /// Shows what 'up' would make and who decides it; creates nothing
    Plan(plan::Args),
    /// Explains who set each field of a workspace: wharf why [WS] [FIELD]
    Why(why::Args),
    /// What was decided: lists, shows and verifies the decision records
    Audit(audit::Args),
    /// The chain of policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Writing scripts: check, test, trace, and the reference of what they have
    #[command(subcommand)]
    Script(script::Command),
    /// Serves until it is stopped: keeps history and states, runs the hook 'event', restarts what is in trouble
    Serve(serve::Args),
    /// Copies the store, also while the service runs, and verifies the copy
    Backup(backup::Args),
    /// Who may call the API of the service over the network
    #[command(subcommand)]
    Token(token::Command),
    /// Checks engine, configuration, policies and state, and says what to do
    Doctor,
    /// The configuration
    #[command(subcommand)]
    Config(config_cmd::Command),
    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether it may be carried out by a service, or is about this machine whatever service there is.
    fn goes_to_a_service(&self) -> bool {
        match self {
            Self::Ls(_)
            | Self::Inspect(_)
            | Self::Exec(_)
            | Self::Shell(_)
            | Self::Logs(_)
            | Self::Events(_)
            | Self::Stats(_)
            | Self::Top(_)
            | Self::Metrics(_)
            | Self::Stop(_)
            | Self::Start(_)
            | Self::Restart(_)
            | Self::Pause(_)
            | Self::Unpause(_)
            | Self::Kill(_)
            | Self::Update(_)
            | Self::Rm(_)
            | Self::Down(_)
            | Self::Cleanup(_) => true,
            Self::Up(_) | Self::Wait(_) | Self::Plan(_) | Self::Why(_) | Self::Idle(_) | Self::Lease(_) => true,
            Self::Image(_) | Self::Snapshot(_) => true,
            Self::Sidecar(_) | Self::Secret(_) | Self::Volume(_) | Self::Cp(_) => true,
            Self::Audit(args) => args.goes_to_a_service(),
            Self::Policy(command) => command.goes_to_a_service(),
            // About files here, or the service itself.
            Self::Script(_) | Self::Serve(_) | Self::Config(_) | Self::Completions { .. } => true,
            _ => false,
        }
    }
}

impl Cli {
    /// Begins to write log lines on stderr: warnings, or what `-v` and `WHARF_LOG` ask for; and traces of the service, where the
    /// environment asks for them.
    ///
    /// # Errors
    /// The exit code when the environment asks for what cannot be; why has been said then.
    pub fn begin_telemetry(&self) -> Result<Telemetry, u8> {
        let (json, traces) = match &self.command {
            Command::Serve(args) => {
                (args.log_format.map_or(self.json, |format| format == serve::LogFormat::Json), true)
            }
            _ => (self.json, false),
        };
        Telemetry::begin(Lines { verbose: self.verbose, json }, traces).map_err(|error| {
            let failure = Failure::new("traces", error.message, error.remedy, 3);
            Output::new(self.json, self.backtrace).failure(&failure);
            failure.exit
        })
    }
}

/// Runs one command. Returns the exit code.
pub async fn run(cli: Cli) -> u8 {
    let out = Output::new(cli.json, cli.backtrace);
    match dispatch(cli, &out).await {
        Ok(code) => code,
        Err(failure) => {
            out.failure(&failure);
            failure.exit
        }
    }
}

async fn dispatch(cli: Cli, out: &Output) -> Result<u8, Failure> {
    if let Command::Completions { shell } = cli.command {
        let mut command = <Cli as clap::CommandFactory>::command();
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "wharf", &mut script);
        out.bytes(&script)?;
        return Ok(0);
    }
    let mut set = cli.set;
    if let Some(endpoint) = cli.engine {
        set.push(format!("engine.endpoint={endpoint}"));
    }
    if let Some(server) = cli.server {
        set.push(format!("client.server={server}"));
    }
    let sources = config::Sources::of_process(cli.config, set);
    let state_dir = cli.state_dir.unwrap_or_else(App::usual_state_dir);
    if let Command::Config(config_cmd::Command::Init(args)) = cli.command {
        return config_cmd::init(&args, &sources, out);
    }
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        // The doctor is asked exactly when something is wrong.
        Err(error) if matches!(cli.command, Command::Doctor) => return doctor::broken_config(&error, out),
        Err(error) => return Err(error.into()),
    };
    let context = Context { app: App::new(sources, loaded, state_dir), out: out.clone(), project: cli.project };
    if let Some(client) = context.client()?
        && !cli.command.goes_to_a_service()
    {
        let text = format!("this command works on the machine of the service at {} only", client.server());
        return Err(Failure::new("server", text, "run it there, without --server and client.server", 2));
    }
    match cli.command {
        Command::Up(args) => up::run(&context, args).await,
        Command::Ls(args) => show::ls(&context, &args).await,
        Command::Inspect(args) => show::inspect(&context, &args).await,
        Command::Exec(args) => exec::run(&context, args).await,
        Command::Shell(args) => exec::shell(&context, args).await,
        Command::Logs(args) => logs::run(&context, &args).await,
        Command::Events(args) => events::run(&context, &args).await,
        Command::Stats(args) => stats::run(&context, &args).await,
        Command::Idle(args) => idle::run(&context, &args).await,
        Command::Lease(args) => idle::lease(&context, &args).await,
        Command::Wait(args) => wait::run(&context, &args).await,
        Command::Top(args) => top::run(&context, &args).await,
        Command::Metrics(args) => metrics::run(&context, &args).await,
        Command::Stop(args) => state::stop(&context, &args).await,
        Command::Start(args) => state::start(&context, &args).await,
        Command::Restart(args) => state::restart(&context, &args).await,
        Command::Pause(args) => state::pause(&context, &args).await,
        Command::Unpause(args) => state::unpause(&context, &args).await,
        Command::Kill(args) => state::kill(&context, &args).await,
        Command::Update(args) => state::update(&context, &args).await,
        Command::Cp(args) => cp::run(&context, &args).await,
        Command::Cleanup(args) => cleanup::run(&context, &args).await,
        Command::Sidecar(command) => sidecar::run(&context, command).await,
        Command::Secret(command) => secret::run(&context, &command).await,
        Command::Image(command) => image::run(&context, command).await,
        Command::Snapshot(command) => snapshot::run(&context, command).await,
        Command::Volume(command) => volume::run(&context, &command).await,
        Command::Rm(args) => state::rm(&context, &args).await,
        Command::Down(args) => state::down(&context, &args).await,
        Command::Plan(args) => plan::run(&context, args).await,
        Command::Why(args) => why::run(&context, &args).await,
        Command::Audit(args) => audit::run(&context, &args).await,
        Command::Policy(command) => policy::run(&context, &command).await,
        Command::Script(command) => script::run(&context, &command),
        Command::Serve(args) => serve::run(&context, &args).await,
        Command::Backup(args) => backup::run(&context, &args),
        Command::Token(command) => token::run(&context, &command),
        Command::Doctor => doctor::run(&context).await,
        Command::Config(command) => config_cmd::run(&context, &command),
        Command::Completions { .. } => Ok(0),
    }
}
