//! `wharf exec` and `wharf shell`: bytes pass through, and the exit code is the command's.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Failure};
use crate::docker::{ExecEnd, ExecStdin, StdStream};
use crate::hooks::ExecSpec;
use crate::lifecycle::Error;

/// Exit code when Wharf itself failed, as Docker users know it.
const WHARF_FAILED: u8 = 125;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
    /// Environment: NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// User or uid:gid
    #[arg(short, long)]
    user: Option<String>,
    /// Folder in the workspace
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Passes stdin on
    #[arg(short, long)]
    interactive: bool,
    /// Gives the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShellArgs {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
    /// User or uid:gid
    #[arg(short, long)]
    user: Option<String>,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let mut env = BTreeMap::new();
    for text in args.env {
        match text.split_once('=') {
            Some((name, value)) => drop(env.insert(name.to_owned(), value.to_owned())),
            None => {
                let text = format!("--env {text}: write it as NAME=VALUE");
                return Err(Failure::new("bad-request", text, "see 'wharf exec --help'", WHARF_FAILED));
            }
        }
    }
    let spec = ExecSpec { command: args.command, env, user: args.user, working_dir: args.workdir, tty: args.tty };
    session(context, args.workspace.as_deref(), spec, args.interactive).await.map_err(wharf_failed)
}

/// Opens a shell.
pub(crate) async fn shell(context: &Context, args: ShellArgs) -> Result<u8, Failure> {
    // bash where the image has it.
    let command = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"];
    let tty = std::io::stdin().is_terminal();
    let spec = ExecSpec { command: command.map(str::to_owned).into(), user: args.user, tty, ..ExecSpec::default() };
    session(context, args.workspace.as_deref(), spec, true).await.map_err(wharf_failed)
}

/// Keeps the codes that mean something (126, 127, denials, a missing workspace) apart from the command's own.
fn wharf_failed(mut failure: Failure) -> Failure {
    failure.exit = match failure.code.as_str() {
        "command-not-found" => 127,
        "command-not-executable" => 126,
        "broken-pipe" => 0,
        _ => WHARF_FAILED,
    };
    failure
}

async fn session(context: &Context, name: Option<&str>, mut spec: ExecSpec, interactive: bool) -> Result<u8, Failure> {
    if spec.tty && interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "no-terminal",
            "-t: stdin is no terminal",
            "leave -t out, or run it in a terminal",
            2,
        ));
    }
    let tty = spec.tty;
    if tty && let Ok(term) = std::env::var("TERM") {
        spec.env.entry("TERM".to_owned()).or_insert(term);
    }
    // Ctrl-C belongs to the command: with a terminal it is a byte, without one it ends this process as usual.
    let lifecycle = context.app.lifecycle().await?;
    let id = context.find(&lifecycle, name).await?;
    let size = (tty && std::io::stdout().is_terminal()).then(crossterm::terminal::size);
    let size = size.and_then(Result::ok).map(|(columns, rows)| (rows, columns));
    let session = lifecycle.exec(&id, spec, interactive, size).await?;
    let (mut output, stdin, control) = session.into_parts();

    let raw = if tty && interactive { Some(RawMode::enter()?) } else { None };
    if let Some(stdin) = stdin {
        tokio::spawn(pump(stdin));
    }
    if tty {
        let control = control.clone();
        tokio::spawn(async move {
            let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
            while changes.recv().await.is_some() {
                if let Ok((columns, rows)) = crossterm::terminal::size() {
                    // A command that has just ended has no terminal to resize.
                    let _ = control.resize(rows, columns).await;
                }
            }
        });
    }
    while let Some(item) = output.next().await {
        let (stream, bytes) = item.map_err(Error::from)?;
        match stream {
            StdStream::Stdout => context.out.bytes(&bytes)?,
            StdStream::Stderr => {
                let mut err = std::io::stderr().lock();
                err.write_all(&bytes)?;
                err.flush()?;
            }
        }
    }
    let end = control.exit().await;
    drop(raw);
    match end.map_err(Error::from)? {
        ExecEnd::Exited(code) => Ok(u8::try_from(code).unwrap_or(1)),
        ExecEnd::Detached => {
            eprintln!("detached; the command runs on");
            Ok(0)
        }
    }
}

/// Copies stdin to the command; the end of stdin is the end of the command's input.
async fn pump(mut to: ExecStdin) {
    let mut from = tokio::io::stdin();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let Some(bytes) = buffer.get(..count) else { break };
                if to.write_all(bytes).await.is_err() {
                    // The command has closed its input; what it does next is its own business.
                    return;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}

/// The terminal in raw mode, and back when dropped.
struct RawMode;

impl RawMode {
    fn enter() -> std::io::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = crossterm::terminal::disable_raw_mode();
    }
}
