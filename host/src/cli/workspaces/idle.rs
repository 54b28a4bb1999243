//! `wharf idle` and `wharf lease`

use crate::backend::LeaseChange;
use crate::cli::output::{Column, ago, column, until};
use crate::cli::{Context, Failure};
use crate::config::Span;
use crate::lifecycle::{IdleView, Idleness};
use crate::store::{Signal, SignalKind};
use crate::workspace::State;

/// Arguments of `idle`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Id or name [default: all workspaces]
    workspace: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show each signal with its value and time, and when it will be stopped
    Why {
        /// Id or name [default: the workspace of this folder]
        workspace: Option<String>,
    },
}

/// Arguments of `lease`.
#[derive(Debug, clap::Args)]
pub(crate) struct LeaseArgs {
    /// [WS] TIME, e.g. 'wharf lease 2h' or 'wharf lease shop 2h'; without a time, show the lease
    #[arg(value_name = "WS TIME", num_args = 0..=2)]
    words: Vec<String>,
    /// Release the lease
    #[arg(long)]
    release: bool,
}

/// Shows how idle workspaces are.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    if let Some(Command::Why { workspace }) = &args.command {
        return why(context, &backend.idleness(&context.target(workspace.as_deref())?).await?);
    }
    let all = match &args.workspace {
        Some(name) => vec![backend.idleness(&context.target(Some(name))?).await?.idle],
        None => backend.all_idleness().await?,
    };
    if context.out.json {
        context.out.value(&all)?;
        return Ok(0);
    }
    let row = |idle: &Idleness| {
        let by = idle.signals.first().filter(|_| idle.active_at.is_some()).map_or("-", |signal| signal.kind.as_str());
        vec![idle.id.to_string(), idle.state.to_string(), ago(idle.active_at), by.to_owned(), stops(idle)]
    };
    const COLUMNS: [Column; 5] = [
        column("ID").cut(10),
        column("STATE"),
        column("USED").optional(1),
        column("SIGNAL").optional(2),
        column("STOPS"),
    ];
    context.out.table(&COLUMNS, all.iter().map(row).collect())?;
    Ok(0)
}

fn stops(idle: &Idleness) -> String {
    idle.stops_at.map_or_else(|| "-".into(), until)
}

fn why(context: &Context, view: &IdleView) -> Result<u8, Failure> {
    let IdleView { idle, after, service } = view;
    if context.out.json {
        context.out.value(view)?;
        return Ok(0);
    }
    let row = |signal: &Signal| {
        let lease = signal.kind == SignalKind::Lease;
        vec![
            signal.kind.as_str().to_owned(),
            signal.value.clone().unwrap_or_else(|| "no data".into()),
            if lease { "-".into() } else { ago(signal.active_at) },
            ago(signal.measured_at),
        ]
    };
    const COLUMNS: [Column; 4] =
        [column("SIGNAL"), column("VALUE").cut(12), column("USED").optional(1), column("MEASURED").optional(2)];
    context.out.table(&COLUMNS, idle.signals.iter().map(row).collect())?;
    let id = &idle.id;
    context.out.wrapped(
        "",
        match (after, idle.stops_at) {
            _ if idle.state != State::Running => format!("{id} is {}", idle.state),
            (None, _) => format!("{id} is not stopped when idle: idle.after is not set"),
            (Some(after), Some(time)) => {
                format!("{id} stops {} ({time:.0}) unless it is used; idle.after is {after}", stops(idle))
            }
            (Some(after), None) => format!("{id} has no sign of use so far; idle.after is {after}"),
        },
    )?;
    if !service && after.is_some() {
        context
            .out
            .wrapped("", "wharf serve is not running: no workspace is stopped, and CPU and network are not measured")?;
    }
    Ok(0)
}

/// Takes, shows or releases a lease.
pub(crate) async fn lease(context: &Context, args: &LeaseArgs) -> Result<u8, Failure> {
    let usage = |text: String| Failure::new("bad-request", text, "see 'wharf lease --help'", 2);
    let (name, time) = match args.words.as_slice() {
        [] => (None, None),
        [word] => match word.parse::<Span>() {
            Ok(time) => (None, Some(time)),
            Err(_) => (Some(word.as_str()), None),
        },
        [name, time, ..] => (Some(name.as_str()), Some(time.parse::<Span>().map_err(usage)?)),
    };
    if args.release && time.is_some() {
        return Err(usage("--release does not take a time".into()));
    }
    let change = match time {
        Some(time) => LeaseChange::Take(time),
        None if args.release => LeaseChange::Release,
        None => LeaseChange::Show,
    };
    let leased = context.backend(&[])?.lease(&context.target(name)?, change).await?;
    if context.out.json {
        context.out.value(&leased)?;
    } else {
        let id = &leased.id;
        context.out.line(match leased.until {
            Some(time) => format!("{id} is leased until {time:.0} ({})", until(time)),
            None => format!("{id} is not leased"),
        })?;
    }
    Ok(0)
}
