//! The commands: one file each, with its arguments and its function. They follow the habits of Docker users, and
//! print JSON for programs with `--json`.
//!
//! May touch: the terminal. `lifecycle` carries commands out.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::app::App;
use crate::config;
use crate::printable::Printable;
use crate::telemetry::{Lines, Telemetry};

mod admin;
mod bars;
mod completion;
mod context;
mod deferred;
mod devcontainer;
mod failure;
mod help;
mod instant;
mod man;
mod output;
mod signals;
mod terminal;
mod workspaces;

pub(crate) use context::Context;
use deferred::Deferred;
pub(crate) use failure::Failure;
use output::Output;

/// The heading of the options that every command takes.
const GLOBAL: &str = "Global options";

/// Policy-controlled development containers on a Docker host
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration or policy unusable, 4 denied by a policy or an invariant, \
5 no such workspace or project, 6 engine unreachable or too old, 7 workspace differs from the decision, or a replay has \
flips, 8 workspace not in order after 'up', 130 interrupted. 'exec' and 'shell' exit with the command's own code, or with 125 if Wharf failed.")]
pub struct Cli {
    /// Configuration file [default: $WHARF_CONFIG, ~/.config/wharf/wharf.toml, /etc/wharf/wharf.toml]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the store and the compiled plugins [default: $WHARF_STATE_DIR, or below ~/.local/state]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The Docker engine, unix:///path or tcp://host:port [default: $DOCKER_HOST, or the Docker context]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "ENDPOINT")]
    engine: Option<String>,
    /// A service that carries the command out, unix:///path or https://host:port [default: client.server]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "SERVER", env = "WHARF_SERVER", hide_env = true)]
    server: Option<String>,
    /// The project whose workspace is used, for commands that name none [default: the current folder]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Set a value of the configuration, e.g. --set limits.memory=2GiB
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print JSON for programs; errors are JSON on stderr
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Print the backtrace of a plugin that failed
    #[arg(long, global = true, help_heading = GLOBAL)]
    backtrace: bool,
    /// Print more on stderr; twice prints most [also: WHARF_LOG=debug]
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

/// Returns the definition of the command line, for the reference of commands.
#[doc(hidden)]
pub fn command() -> clap::Command {
    help::grouped(<Cli as clap::CommandFactory>::command())
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the workspace of a project, or start it
    #[command(after_help = help::examples::UP)]
    Up(Deferred<workspaces::up::Args>),
    /// List workspaces
    #[command(alias = "ps", after_help = help::examples::LS)]
    Ls(Deferred<workspaces::show::LsArgs>),
    /// Show everything about a workspace
    Inspect(Deferred<workspaces::show::inspect::Args>),
    /// Run a command in a workspace: wharf exec [WS] -- COMMAND
    #[command(after_help = help::examples::EXEC)]
    Exec(Deferred<workspaces::exec::Args>),
    /// Open a shell in a workspace
    Shell(Deferred<workspaces::exec::ShellArgs>),
    /// Print the output of workspaces
    #[command(after_help = help::examples::LOGS)]
    Logs(Deferred<workspaces::logs::Args>),
    /// Show events of workspaces as they happen
    Events(Deferred<workspaces::events::Args>),
    /// Show the usage of workspaces
    Stats(Deferred<workspaces::stats::Args>),
    /// Show how idle workspaces are, and when they will be stopped
    Idle(Deferred<workspaces::idle::Args>),
    /// Keep a workspace from being stopped as idle
    Lease(Deferred<workspaces::idle::LeaseArgs>),
    /// Wait until a workspace is running, healthy, exited or removed
    Wait(Deferred<workspaces::wait::Args>),
    /// Show the usage of workspaces on the whole screen
    Top(Deferred<workspaces::top::Args>),
    /// Show the usage of a workspace over time
    Metrics(Deferred<workspaces::metrics::Args>),
    /// Stop workspaces
    #[command(after_help = help::examples::STOP)]
    Stop(Deferred<workspaces::state::StopArgs>),
    /// Start workspaces
    Start(Deferred<workspaces::state::Targets>),
    /// Stop workspaces and start them again
    Restart(Deferred<workspaces::state::StopArgs>),
    /// Freeze workspaces
    Pause(Deferred<workspaces::state::Targets>),
    /// Resume paused workspaces
    Unpause(Deferred<workspaces::state::Targets>),
    /// Send a signal to the first process of workspaces
    Kill(Deferred<workspaces::state::KillArgs>),
    /// Change the limits of workspaces while they exist
    Update(Deferred<workspaces::state::UpdateArgs>),
    /// Remove workspaces
    #[command(after_help = help::examples::RM)]
    Rm(Deferred<workspaces::state::RmArgs>),
    /// Stop and remove workspaces
    Down(Deferred<workspaces::state::DownArgs>),
    /// Copy files into a workspace and out of it
    Cp(Deferred<workspaces::cp::Args>),
    /// Stop and remove objects that policies name; it can be undone
    #[command(after_help = help::examples::CLEANUP)]
    Cleanup(Deferred<workspaces::cleanup::Args>),
    /// Manage sidecars: extra containers, such as a database
    #[command(subcommand)]
    Sidecar(Deferred<workspaces::sidecar::Command>),
    /// Manage the secret files of a workspace
    #[command(subcommand)]
    Secret(Deferred<workspaces::secret::Command>),
    /// Manage images that Wharf built, kept or pulled
    #[command(subcommand)]
    Image(Deferred<workspaces::image::Command>),
    /// Manage snapshots of workspaces
    #[command(subcommand)]
    Snapshot(Deferred<workspaces::snapshot::Command>),
    /// Manage named volumes
    #[command(subcommand)]
    Volume(Deferred<workspaces::volume::Command>),
    /// Show the workspace that 'up' would make; create nothing
    #[command(after_help = help::examples::PLAN)]
    Plan(Deferred<workspaces::plan::Args>),
    /// Explain the owner of each field of a workspace
    #[command(after_help = help::examples::WHY)]
    Why(Deferred<workspaces::why::Args>),
    /// List, show and verify the decision records
    #[command(after_help = help::examples::AUDIT)]
    Audit(Deferred<admin::audit::Args>),
    /// Manage the chain of policies
    #[command(subcommand)]
    Policy(Deferred<admin::policy::Command>),
    /// Check, test and trace scripts; print their reference
    #[command(subcommand)]
    Script(Deferred<admin::script::Command>),
    /// Run the service: history, restarts, sweeps, API, dashboard
    #[command(after_help = help::examples::SERVE)]
    Serve(Deferred<admin::serve::Args>),
    /// Copy the store, and verify the copy
    Backup(Deferred<admin::backup::Args>),
    /// Manage tokens for the API of the service
    #[command(subcommand)]
    Token(Deferred<admin::token::Command>),
    /// Check engine, configuration, policies and state
    Doctor,
    /// Show or write the configuration
    #[command(subcommand)]
    Config(Deferred<admin::config_cmd::Command>),
    /// Print a completion script for a shell
    #[command(after_help = help::examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write one per command
    #[command(after_help = help::examples::MAN)]
    Man(Deferred<man::Args>),
}

impl Command {
    /// Returns whether a service may carry the command out. Other commands always concern this machine.
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
            Self::Audit(Deferred(args)) => args.goes_to_a_service(),
            Self::Policy(Deferred(command)) => command.goes_to_a_service(),
            // These concern files on this machine, or the service itself.
            Self::Script(_) | Self::Serve(_) | Self::Config(_) | Self::Completions { .. } | Self::Man(_) => true,
            _ => false,
        }
    }
}

impl Cli {
    /// Parses the command line of this process. Help, version and usage errors are printed; errors as JSON if `--json`
    /// precedes any `--`.
    ///
    /// # Errors
    /// The exit code, when there is no command to carry out.
    pub fn of_process() -> Result<Self, u8> {
        if let Some(code) = completion::answer() {
            return Err(code);
        }
        let parsed = command().try_get_matches().and_then(|matches| {
            <Self as clap::FromArgMatches>::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))
        });
        let error = match parsed {
            Ok(cli) => return Ok(cli),
            Err(error) => error,
        };
        let code = u8::try_from(error.exit_code()).unwrap_or(2);
        if error.use_stderr() && std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json") {
            let text = error.render().to_string();
            let mut lines = text.lines().map(str::trim);
            // The message comes first, then the usage, and a hint at the help.
            let said: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("Usage:")).collect();
            let said = said.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            let said = said.strip_prefix("error: ").unwrap_or(&said);
            let said = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                "a command is missing"
            } else {
                said
            };
            Output::new(true, false).failure(&Failure::new("usage", said, "see the command's --help", code));
        } else if error.use_stderr() && !error.render().to_string().lines().all(Printable::is) {
            // The error repeats words of the command line, which may come from an untrusted source.
            Printable::lines(&error.render().to_string()).for_each(output::say);
        } else if let Err(error) = error.print()
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            output::say(format_args!("wharf: cannot write: {error}"));
        }
        Err(code)
    }

    /// Starts to write log lines on stderr: warnings, or the level that `-v` and `WHARF_LOG` request. For the service,
    /// it also starts traces if the environment requests them.
    ///
    /// # Errors
    /// The exit code when the environment requests something impossible; the reason is already printed.
    pub fn begin_telemetry(&self) -> Result<Telemetry, u8> {
        let (json, traces) = match &self.command {
            Command::Serve(Deferred(args)) => {
                (args.log_format.map_or(self.json, |format| format == admin::serve::LogFormat::Json), true)
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

// Long because it is the table of commands.
async fn dispatch(cli: Cli, out: &Output) -> Result<u8, Failure> {
    if let Command::Completions { shell } = cli.command {
        let script = completion::script(shell)?;
        std::io::Write::write_all(&mut terminal::raw_out(), &script)?;
        return Ok(0);
    }
    if let Command::Man(Deferred(args)) = cli.command {
        return man::run(&args, out);
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
    if let Command::Config(Deferred(admin::config_cmd::Command::Init(args))) = cli.command {
        return admin::config_cmd::init(&args, &sources, out);
    }
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        // The doctor must work especially when the configuration is broken.
        Err(error) if matches!(cli.command, Command::Doctor) => return admin::doctor::broken_config(&error, out),
        // So must the tools that find the mistake in wharf.rhai.
        Err(_) if matches!(&cli.command, Command::Script(Deferred(script)) if script.needs_no_configuration()) => {
            config::load(&config::Sources::default())?
        }
        Err(error) => return Err(error.into()),
    };
    for ignored in &loaded.ignored {
        tracing::warn!("{ignored}");
    }
    let mut context = Context { app: App::new(sources, loaded, state_dir), out: out.clone(), project: cli.project };
    // The doctor itself reports every file that others can change.
    if !matches!(cli.command, Command::Doctor) {
        context.app.check_trust()?;
        context.app.checked = true;
    }
    if let Some(server) = context.backend_without_signals(&[])?.server()
        && !cli.command.goes_to_a_service()
    {
        let text = format!("this command only works on the machine of the service at {server}");
        return Err(Failure::new("server", text, "run it there, without --server and client.server", 2));
    }
    match cli.command {
        Command::Up(Deferred(args)) => boxed(workspaces::up::run(&context, args)).await,
        Command::Ls(Deferred(args)) => boxed(workspaces::show::ls(&context, &args)).await,
        Command::Inspect(Deferred(args)) => boxed(workspaces::show::inspect::run(&context, &args)).await,
        Command::Exec(Deferred(args)) => boxed(workspaces::exec::run(&context, args)).await,
        Command::Shell(Deferred(args)) => boxed(workspaces::exec::shell(&context, args)).await,
        Command::Logs(Deferred(args)) => boxed(workspaces::logs::run(&context, &args)).await,
        Command::Events(Deferred(args)) => boxed(workspaces::events::run(&context, &args)).await,
        Command::Stats(Deferred(args)) => boxed(workspaces::stats::run(&context, &args)).await,
        Command::Idle(Deferred(args)) => boxed(workspaces::idle::run(&context, &args)).await,
        Command::Lease(Deferred(args)) => boxed(workspaces::idle::lease(&context, &args)).await,
        Command::Wait(Deferred(args)) => boxed(workspaces::wait::run(&context, &args)).await,
        Command::Top(Deferred(args)) => boxed(workspaces::top::run(&context, &args)).await,
        Command::Metrics(Deferred(args)) => boxed(workspaces::metrics::run(&context, &args)).await,
        Command::Stop(Deferred(args)) => boxed(workspaces::state::stop(&context, &args)).await,
        Command::Start(Deferred(args)) => boxed(workspaces::state::start(&context, &args)).await,
        Command::Restart(Deferred(args)) => boxed(workspaces::state::restart(&context, &args)).await,
        Command::Pause(Deferred(args)) => boxed(workspaces::state::pause(&context, &args)).await,
        Command::Unpause(Deferred(args)) => boxed(workspaces::state::unpause(&context, &args)).await,
        Command::Kill(Deferred(args)) => boxed(workspaces::state::kill(&context, &args)).await,
        Command::Update(Deferred(args)) => boxed(workspaces::state::update(&context, &args)).await,
        Command::Cp(Deferred(args)) => boxed(workspaces::cp::run(&context, &args)).await,
        Command::Cleanup(Deferred(args)) => boxed(workspaces::cleanup::run(&context, &args)).await,
        Command::Sidecar(Deferred(command)) => boxed(workspaces::sidecar::run(&context, command)).await,
        Command::Secret(Deferred(command)) => boxed(workspaces::secret::run(&context, &command)).await,
        Command::Image(Deferred(command)) => boxed(workspaces::image::run(&context, command)).await,
        Command::Snapshot(Deferred(command)) => boxed(workspaces::snapshot::run(&context, command)).await,
        Command::Volume(Deferred(command)) => boxed(workspaces::volume::run(&context, &command)).await,
        Command::Rm(Deferred(args)) => boxed(workspaces::state::rm(&context, &args)).await,
        Command::Down(Deferred(args)) => boxed(workspaces::state::down(&context, &args)).await,
        Command::Plan(Deferred(args)) => boxed(workspaces::plan::run(&context, args)).await,
        Command::Why(Deferred(args)) => boxed(workspaces::why::run(&context, &args)).await,
        Command::Audit(Deferred(args)) => boxed(admin::audit::run(&context, &args)).await,
        Command::Policy(Deferred(command)) => boxed(admin::policy::run(&context, &command)).await,
        Command::Script(Deferred(command)) => admin::script::run(&context, &command),
        Command::Serve(Deferred(args)) => boxed(admin::serve::run(&context, &args)).await,
        Command::Backup(Deferred(args)) => admin::backup::run(&context, &args),
        Command::Token(Deferred(command)) => admin::token::run(&context, &command),
        Command::Doctor => boxed(admin::doctor::run(&context)).await,
        Command::Config(Deferred(command)) => admin::config_cmd::run(&context, &command),
        Command::Completions { .. } | Command::Man(_) => Ok(0),
    }
}

/// Boxes a command's future: together, the states of all command futures are too large for the stack.
fn boxed<'a, T>(command: impl Future<Output = T> + 'a) -> std::pin::Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(command)
}
