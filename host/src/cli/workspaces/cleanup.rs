//! `wharf cleanup`: a single sweep, the ledger, and undo.

use crate::cli::bars::Waiting;
use crate::cli::output::{Cell, Column, Look, Several, ago, bytes, column, until};
use crate::cli::{Context, Failure};
use crate::hooks::SweepChoice;
use crate::lifecycle::{SweepLine, SweepOutcome};
use crate::store::{LedgerAction, LedgerEntry};
use crate::wire::SweepRequest;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Show every object of Wharf with the verdict of the policies; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove at once, without the grace period for an undo
    #[arg(long, conflicts_with = "dry_run")]
    no_grace: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the ledger: planned removals; with --all also past ones
    Ls {
        /// Also done, undone or abandoned entries
        #[arg(short, long)]
        all: bool,
    },
    /// Undo a planned removal, or restart a workspace that a sweep stopped
    Undo {
        /// Numbers of the ledger, ids or names
        #[arg(required = true)]
        which: Vec<String>,
    },
    /// Let sweeps plan undone objects again
    Allow {
        /// Numbers of the ledger, ids or names
        #[arg(required = true)]
        which: Vec<String>,
    },
}

const VERDICTS: [Column; 6] = [
    column("OBJECT").cut(16),
    column("SIZE").right().optional(2),
    column("VERDICT"),
    column("WHEN").optional(1),
    column("POLICY").optional(3),
    column("REASON").wrapped(20),
];

const ENTRIES: [Column; 8] = [
    column("NUMBER").right(),
    column("OBJECT").cut(16),
    column("SIZE").right().optional(3),
    column("ACTION").optional(2),
    column("STATE"),
    column("WHEN").optional(1),
    column("POLICY").optional(4),
    column("REASON").wrapped(20),
];

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    match &args.command {
        None => {
            let request = SweepRequest { dry_run: args.dry_run, no_grace: args.no_grace };
            let waiting = Waiting::new(context.out.json, "asking the policies about every object");
            let report = backend.sweep(&request).await?;
            drop(waiting);
            if context.out.json {
                context.out.value(&report)?;
            } else {
                let shown = report.lines.iter().filter(|line| args.dry_run || line.outcome != Some(SweepOutcome::Kept));
                let rows: Vec<_> = shown.map(row).collect();
                if rows.is_empty() {
                    context.out.wrapped("", "nothing to clean up; 'wharf cleanup --dry-run' shows the reasons")?;
                } else {
                    context.out.table(&VERDICTS, rows)?;
                }
                if let Some(failed) = &report.failed {
                    context.out.wrapped("", format!("everything was kept: {}", failed))?;
                }
            }
            Ok(u8::from(report.failed.is_some() || report.lines.iter().any(|line| line.error.is_some())))
        }
        Some(Command::Ls { all }) => {
            let entries = backend.ledger(*all).await?;
            if context.out.json {
                context.out.value(&entries)?;
            } else {
                let rows = entries.iter().map(entry_row).collect();
                context.out.table(&ENTRIES, rows)?;
            }
            Ok(0)
        }
        Some(Command::Undo { which }) => {
            let mut several = Several::new(&context.out);
            for which in which {
                match backend.undo_cleanup(which).await {
                    Ok(entry) if entry.action == LedgerAction::Stop => tell(&mut several, &entry, "is running again"),
                    Ok(entry) => tell(&mut several, &entry, "is kept and protected from sweeps"),
                    Err(failure) => several.failed(&failure.into()),
                }
            }
            several.end()
        }
        Some(Command::Allow { which }) => {
            let mut several = Several::new(&context.out);
            for which in which {
                match backend.allow_cleanup(which).await {
                    Ok(entry) => tell(&mut several, &entry, "is no longer protected from sweeps"),
                    Err(failure) => several.failed(&failure.into()),
                }
            }
            several.end()
        }
    }
}

fn tell(several: &mut Several<'_>, entry: &LedgerEntry, what: &str) {
    several.print(|out| if out.json { out.value(entry) } else { out.line(format!("{} {what}", entry.object)) });
}

fn row(line: &SweepLine) -> Vec<Cell> {
    let verdict = match (line.outcome, line.choice) {
        (Some(outcome), _) => outcome.as_str(),
        (None, SweepChoice::Keep) => "keep",
        (None, SweepChoice::Stop) => "stop",
        (None, SweepChoice::Remove) => "remove",
    }
    .to_owned();
    let when = match (line.due, line.outcome) {
        (Some(due), Some(SweepOutcome::Planned) | None) => until(due),
        _ => "-".to_owned(),
    };
    let what = match line.state {
        Some(state) => format!("{} ({state})", line.id),
        None if line.used => format!("{} (used)", line.id),
        None => line.id.clone(),
    };
    let why = line.error.clone().unwrap_or_else(|| line.reason.clone());
    let look = match (line.outcome, line.choice) {
        _ if line.error.is_some() => Some(Look::Bad),
        (None | Some(SweepOutcome::Planned), SweepChoice::Stop | SweepChoice::Remove) => Some(Look::Warn),
        _ => None,
    };
    vec![
        what.into(),
        bytes(line.bytes).into(),
        Cell::from(verdict).look(look),
        when.into(),
        line.policy.as_deref().unwrap_or("-").into(),
        why.into(),
    ]
}

fn entry_row(entry: &LedgerEntry) -> Vec<String> {
    let when = match entry.ended {
        Some(ended) => ago(Some(ended)),
        None => until(entry.due),
    };
    vec![
        entry.id.to_string(),
        entry.object.clone(),
        bytes(entry.bytes),
        entry.action.as_str().to_owned(),
        entry.state.as_str().to_owned(),
        when,
        entry.policy.clone(),
        entry.reason.clone(),
    ]
}
