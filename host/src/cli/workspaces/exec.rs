//! `wharf exec` and `wharf shell`: bytes pass through, and the exit code is the command's.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::output::say;
use crate::cli::signals::Ends;
use crate::cli::{Context, Failure, terminal};

use crate::backend::{ExecControl, ExecEnd, ExecInput, ExecOutput, ExecSession};
use crate::config::Span;
use crate::hooks::{ExecSpec, Hook};

mod hint;
mod printer;

use printer::Printer;

/// Exit code for a failure of Wharf itself, as with Docker.
const WHARF_FAILED: u8 = 125;

/// Exit code of a command that exceeded its time limit, as with timeout(1).
const TIMED_OUT: u8 = 124;

/// The message about output that a command's children write after its end.
const CUT: &str =
    "the command has exited, but a process that it started still has its output open; later output is not shown";

/// The signals that end a session, which kill the command first.
const ENDING: [SignalKind; 4] =
    [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()];

/// Time limit for killing a command whose session ends by a signal.
const KILLING: Duration = Duration::from_secs(5);

/// The time that a slow reader has for the remaining output.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
    /// Environment: NAME=VALUE, or NAME to take it from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// User or uid:gid
    #[arg(short, long)]
    user: Option<String>,
    /// Folder in the workspace
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Pass on stdin
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Kill the command, with its process group, when it takes longer, e.g. 30s; exit code 124
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Start the command and do not wait for it; its output is lost
    #[arg(short, long, conflicts_with_all = ["interactive", "timeout"])]
    detach: bool,
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
        let usage = |text| Failure::new("bad-request", text, "see 'wharf exec --help'", WHARF_FAILED);
        env.extend([crate::cli::workspaces::up::env_pair(&text).map_err(usage)?]);
    }
    let spec = ExecSpec { command: args.command, env, user: args.user, working_dir: args.workdir, tty: args.tty };
    if args.detach {
        return detached_session(context, args.workspace.as_deref(), spec).await.map_err(wharf_failed);
    }
    let limit = args.timeout.map(|span| span.0);
    session(context, args.workspace.as_deref(), spec, args.interactive, limit).await.map_err(wharf_failed)
}

/// Opens a shell.
pub(crate) async fn shell(context: &Context, args: ShellArgs) -> Result<u8, Failure> {
    // bash if the image has it.
    let command = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"];
    let tty = std::io::stdin().is_terminal();
    let spec = ExecSpec { command: command.map(str::to_owned).into(), user: args.user, tty, ..ExecSpec::default() };
    session(context, args.workspace.as_deref(), spec, true, None).await.map_err(wharf_failed)
}

/// Keeps the exit codes with a meaning (126, 127, denials, a missing workspace) distinct from the command's own code.
fn wharf_failed(mut failure: Failure) -> Failure {
    failure.exit = match failure.code.as_str() {
        "command-not-found" => 127,
        "command-not-executable" => 126,
        "broken-pipe" => 0,
        _ => WHARF_FAILED,
    };
    failure
}

/// Starts a command and detaches from it.
async fn detached_session(context: &Context, name: Option<&str>, spec: ExecSpec) -> Result<u8, Failure> {
    let backend = context.backend(&[Hook::PreExec])?;
    let detached = backend.exec_detached(&context.target(name)?, spec).await?;
    if context.out.json {
        context.out.value(&detached)?;
    }
    Ok(0)
}

async fn session(
    context: &Context,
    name: Option<&str>,
    mut spec: ExecSpec,
    interactive: bool,
    limit: Option<Duration>,
) -> Result<u8, Failure> {
    if spec.tty && interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::new("no-terminal", "-t: stdin is not a terminal", "omit -t, or run it in a terminal", 2));
    }
    let tty = spec.tty;
    if tty && let Ok(term) = std::env::var("TERM") {
        spec.env.entry("TERM".to_owned()).or_insert(term);
    }
    // With a terminal Ctrl-C is a byte for the command; without one it kills the command and ends this process.
    let backend = context.backend_without_signals(&[Hook::PreExec])?;
    let target = context.target(name)?;
    let size = (tty && terminal::is_out()).then(crossterm::terminal::size);
    let size = size.and_then(Result::ok).map(|(columns, rows)| (rows, columns));
    let hints = hint::applies(&spec);
    let ExecSession { mut output, input, control } = backend.exec(&target, spec, interactive, size, limit).await?;

    let mut ends = Ends::take(&ENDING)?;
    let raw = if tty && interactive { Some(RawMode::enter()?) } else { None };
    let detach = std::sync::Arc::new(tokio::sync::Notify::new());
    if let Some(input) = input {
        tokio::spawn(pump(input, raw.is_some().then(|| detach.clone())));
    }
    if tty {
        tokio::spawn(follow_size(control.clone()));
    }
    let mut printer = Printer::start()?;
    let over = print_to_the_end(&mut output, &control, &mut printer, limit, &detach, &mut ends).await;
    if !matches!(over, Ok(Over::Ended { .. })) {
        // A reader that does not read must delay neither the end nor the message about it.
        let _ = tokio::time::timeout(LAST_WORDS, printer.end()).await;
    }
    drop(raw);
    match over? {
        Over::Late => {
            say_late(limit.unwrap_or_default()).await;
            Ok(TIMED_OUT)
        }
        Over::Interrupted(number) => {
            context.out.notice("interrupted; the command was killed");
            Ok(u8::try_from(128 + number).unwrap_or(WHARF_FAILED))
        }
        Over::Left | Over::Ended { end: ExecEnd::Detached | ExecEnd::TimedOut, .. } => Ok(detached()),
        Over::Ended { end: ExecEnd::Exited(code), cut } => {
            if cut {
                context.out.notice(CUT);
            }
            if hints {
                hint::tell(context, (&backend, &target), code, &printer).await;
            }
            Ok(u8::try_from(code).unwrap_or(1))
        }
    }
}

/// Prints the output of a command until it ends, its time is over, or the keys for detaching were typed.
async fn print_to_the_end(
    output: &mut ExecOutput,
    control: &ExecControl,
    printer: &mut Printer,
    limit: Option<Duration>,
    detach: &tokio::sync::Notify,
    ends: &mut Ends,
) -> Result<Over, Failure> {
    let deadline = limit.map(|limit| tokio::time::Instant::now() + limit + control.patience());
    let run = async {
        while let Some((stream, bytes)) = output.next().await? {
            if let Err(error) = printer.print(stream, bytes).await {
                // This process ends and can no longer enforce the time limit, so the command is killed now.
                if limit.is_some() {
                    control.abandon().await?;
                }
                return Err(Failure::from(error));
            }
        }
        let end = control.end().await?;
        if end == ExecEnd::TimedOut {
            return Ok(Over::Late);
        }
        printer.end().await?;
        Ok(Over::Ended { end, cut: output.cut() })
    };
    tokio::pin!(run);
    tokio::select! {
        over = &mut run => over,
        () = until(deadline) => match control.kill_late().await {
            Ok(true) => Ok(Over::Late),
            // The command ended in time; only the reader of its output is late.
            Ok(false) => run.await,
            Err(error) => Err(error.into()),
        },
        () = detach.notified() => Ok(Over::Left),
        number = ends.next() => {
            // A service kills the command when the connection ends.
            let _ = tokio::time::timeout(KILLING, control.abandon()).await;
            Ok(Over::Interrupted(number))
        }
    }
}

/// Tells the command each new size of this terminal.
async fn follow_size(control: ExecControl) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        if let Ok((columns, rows)) = crossterm::terminal::size() {
            control.resize(rows, columns).await;
        }
    }
}

/// The end of a session.
enum Over {
    Ended {
        end: ExecEnd,
        cut: bool,
    },
    /// The command exceeded its time limit and was killed.
    Late,
    /// The user typed the keys for detaching.
    Left,
    /// A signal with this number ended the session, and the command was killed.
    Interrupted(i32),
}

/// Reports that a command was killed at its time limit, unless stderr is not read.
async fn say_late(limit: Duration) {
    let seconds = limit.as_secs_f64();
    let tell = move || say(format_args!("wharf: the command took longer than {seconds} s and was killed"));
    let _ = tokio::time::timeout(LAST_WORDS, tokio::task::spawn_blocking(tell)).await;
}

/// Completes at a time, or never.
async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn detached() -> u8 {
    terminal::say_raw("\r\ndetached; the command keeps running\r\n");
    0
}

/// The keys for detaching, as with Docker: Ctrl-P, Ctrl-Q. This process filters them out, as the docker CLI does: an
/// engine that handles them itself ends the command (seen with 20.10).
const DETACH: [u8; 2] = [0x10, 0x11];

/// Copies stdin to the command; the end of stdin is the end of the command's input. On a terminal, the keys for
/// detaching notify `detach` and end the copy.
async fn pump(mut to: ExecInput, detach: Option<std::sync::Arc<tokio::sync::Notify>>) {
    let mut from = tokio::io::stdin();
    let mut buffer = vec![0; 64 << 10];
    let mut held = false;
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let Some(bytes) = buffer.get(..count) else { break };
                let (bytes, leave) = match &detach {
                    Some(_) => typed(bytes, &mut held),
                    None => (bytes.into(), false),
                };
                if !to.write(&bytes).await {
                    // The command has closed its input, but may continue.
                    return;
                }
                if let (Some(detach), true) = (&detach, leave) {
                    to.detach().await;
                    detach.notify_one();
                    // The connection ends with this process. Ending it here would end the command's input.
                    return std::future::pending().await;
                }
            }
        }
    }
    to.close().await;
}

/// Returns the typed bytes to pass on, and whether the keys for detaching followed them. The first of these keys is
/// held back until the next key is known.
fn typed<'a>(bytes: &'a [u8], held: &mut bool) -> (std::borrow::Cow<'a, [u8]>, bool) {
    if !*held && !bytes.contains(&DETACH[0]) {
        return (bytes.into(), false);
    }
    let mut pass = Vec::with_capacity(bytes.len() + 1);
    for byte in bytes {
        if std::mem::take(held) {
            if *byte == DETACH[1] {
                return (pass.into(), true);
            }
            pass.push(DETACH[0]);
        }
        if *byte == DETACH[0] {
            *held = true;
        } else {
            pass.push(*byte);
        }
    }
    (pass.into(), false)
}

/// The terminal in raw mode; dropping it restores the previous mode.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_keys_one_after_the_other_detach() {
        let all = |chunks: &[&[u8]]| -> (Vec<u8>, bool) {
            let (mut held, mut passed) = (false, Vec::new());
            for chunk in chunks {
                let (bytes, leave) = typed(chunk, &mut held);
                passed.extend_from_slice(&bytes);
                if leave {
                    return (passed, true);
                }
            }
            (passed, false)
        };
        assert_eq!(all(&[b"ls\n"]), (b"ls\n".to_vec(), false));
        assert_eq!(all(&[b"a\x10\x11b"]), (b"a".to_vec(), true));
        assert_eq!(all(&[b"a\x10", b"\x11b"]), (b"a".to_vec(), true));
        assert_eq!(all(&[b"\x10x\x11"]), (b"\x10x\x11".to_vec(), false));
        assert_eq!(all(&[b"\x10", b"\x10\x11"]), (b"\x10".to_vec(), true));
    }
}
