//! `wharf audit`: the decision records. It reads the store only, so it needs no engine.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::backend::RecordItem;
use crate::cli::instant::instant;
use crate::cli::output::{Cell, Column, Look, ago, clock, column};
use crate::cli::{Context, Failure, terminal};
use crate::hooks::{Decision, Hook, Outcome};
use crate::printable::Printable;
use crate::records::{OutcomeKind, RecordFilter, RecordView};
use crate::store::StoredDecision;
use crate::wire::trail;

mod chain;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show a whole record
    Show(ShowArgs),
    /// Check that no record was edited or removed; name the first such record
    Verify {
        /// The public key (hex) that must have signed them [default: this installation's]
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
        /// Compare the records with the anchors in this file
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
    },
    /// Print the end of the records, signed, for a witness elsewhere
    Anchor {
        /// Append it to this file instead
        #[arg(long, value_name = "FILE")]
        append: Option<PathBuf>,
    },
    /// Note in the records that a loss of records is known, so that it is not reported again
    Acknowledge {
        /// The reason, or the measures taken
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Forget old records as [decisions] says, and sign the start of the remaining chain
    Prune {
        /// Keep this many instead of decisions.keep
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        keep: Option<u64>,
        /// Forget records older than this time or duration instead of decisions.age
        #[arg(long, value_name = "TIME", value_parser = instant)]
        before: Option<Timestamp>,
    },
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Number or id of the record
    record: String,
    /// Print it as a case for 'wharf policy test'
    #[arg(long)]
    as_case: bool,
}

/// The filter of the list.
#[derive(Debug, Clone, clap::Args)]
struct ListArgs {
    /// Decisions about a workspace: id or name, or the id of a removed one
    #[arg(short, long, value_name = "WS")]
    workspace: Option<String>,
    /// Decisions of a hook
    #[arg(long)]
    hook: Option<Hook>,
    /// Decisions for which this policy was evaluated
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Decisions with this outcome
    #[arg(long, value_enum)]
    outcome: Option<OutcomeKind>,
    /// Since a time (2026-01-31T12:00:00Z) or for a duration (10m)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Timestamp>,
    /// Up to a time, or up to so long ago
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Timestamp>,
    /// Number of newest records; 0 means all
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Continue with new records
    #[arg(short, long)]
    follow: bool,
}

impl Args {
    /// Returns whether a service can carry it out: the chain of records is verified and pruned only on the machine with
    /// its key.
    pub(in crate::cli) fn goes_to_a_service(&self) -> bool {
        matches!(self.command, None | Some(Command::Show(_)))
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let store = || context.app.store();
    match &args.command {
        None => list(context, &args.list).await,
        Some(Command::Show(args)) => show(context, &context.backend(&[])?.record(&args.record).await?, args),
        Some(Command::Verify { public_key, anchor }) => {
            chain::verify(context, &store()?, public_key.as_deref(), anchor.as_deref())
        }
        Some(Command::Anchor { append }) => chain::anchor(context, &store()?, append.as_deref()),
        Some(Command::Acknowledge { reason }) => chain::acknowledge(context, &store()?, reason),
        Some(Command::Prune { keep, before }) => chain::prune(context, &store()?, *keep, *before),
    }
}

async fn list(context: &Context, args: &ListArgs) -> Result<u8, Failure> {
    let filter = RecordFilter {
        hook: args.hook,
        policy: args.policy.clone(),
        outcome: args.outcome,
        since: args.since,
        until: args.until,
        ..RecordFilter::default()
    };
    let backend = context.backend(&[])?;
    let workspace = args.workspace.as_deref();
    let mut records = backend.records(filter, workspace, args.limit, args.follow).await?;
    let mut rows = Vec::new();
    loop {
        let item = tokio::select! {
            item = records.next() => item?,
            _ = tokio::signal::ctrl_c(), if args.follow => return Ok(130),
        };
        match item {
            None if rows.is_empty() => return Ok(0),
            None => {
                context.out.table(&COLUMNS, rows)?;
                return Ok(0);
            }
            Some(RecordItem::Record(stored)) if !context.out.json && terminal::is_out() => {
                let Some(decision) = readable(context, &stored) else { continue };
                let row = row(&stored, &decision, args.follow);
                match args.follow {
                    true => context.out.rows("", &FOLLOWED, vec![row])?,
                    false => rows.push(row),
                }
            }
            Some(RecordItem::Record(stored)) => print(context, &stored)?,
            Some(RecordItem::Notice(text)) => context.out.notice(&text),
        }
    }
}

/// The columns on a terminal. Elsewhere, each record is one line as it comes.
const COLUMNS: [Column; 6] = [
    column("#").right(),
    column("WHEN").optional(1),
    column("HOOK"),
    column("WORKSPACE").cut(12),
    column("OUTCOME"),
    column("DETAIL").wrapped(20),
];

/// The same while records follow: a row is printed before the next one is known.
const FOLLOWED: [Column; 6] = [
    column("").right().padded(5),
    column("").padded(8).optional(1),
    column("").padded(16),
    column("").cut(12).padded(18),
    column("").padded(7),
    column("").wrapped(20),
];

/// Returns the decision of a record; a notice says why it cannot be read.
fn readable(context: &Context, stored: &StoredDecision) -> Option<Decision> {
    match stored.decision() {
        Ok(decision) => Some(decision),
        Err(error) => {
            context.out.notice(&format!("cannot read record {}: {error}", stored.number));
            None
        }
    }
}

/// Returns the row of a record: with its age in a list, with its time where later records follow.
fn row(stored: &StoredDecision, decision: &Decision, follow: bool) -> Vec<Cell> {
    let summary = summary(decision);
    let (outcome, detail) = summary.split_once(' ').unwrap_or((&summary, ""));
    let look = match outcome {
        "denied" => Some(Look::Bad),
        _ if decision.steps.iter().any(|step| step.error.is_some()) => Some(Look::Warn),
        "allowed" => Some(Look::Good),
        _ => None,
    };
    vec![
        stored.number.to_string().into(),
        if follow { clock(decision.time) } else { ago(Some(decision.time)) }.into(),
        decision.hook.as_str().into(),
        if decision.workspace.is_empty() { "-" } else { &decision.workspace }.into(),
        Cell::from(outcome).look(look),
        detail.trim_start().into(),
    ]
}

fn print(context: &Context, stored: &StoredDecision) -> Result<(), Failure> {
    let Some(decision) = readable(context, stored) else { return Ok(()) };
    if context.out.json {
        return json_line(context, stored);
    }
    let line = format!(
        "#{:<6} {}  {:<16}  {:<28}  {}",
        stored.number,
        decision.time.round(jiff::Unit::Second).unwrap_or(decision.time),
        decision.hook,
        if decision.workspace.is_empty() { "-" } else { &decision.workspace },
        summary(&decision)
    );
    Ok(context.out.line(line.trim_end())?)
}

fn json_line(context: &Context, stored: &StoredDecision) -> Result<(), Failure> {
    Ok(context.out.json_line(&RecordView::of(stored)?)?)
}

/// Returns the outcome on one line.
fn summary(decision: &Decision) -> String {
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let failed = decision.steps.iter().find_map(|step| {
        let error = step.error.as_ref()?;
        Some(format!("; '{}' failed: {}", step.policy, plain(&error.message)))
    });
    let failed = failed.unwrap_or_default();
    if let Some(of) = decision.shadow_of {
        let each: Vec<_> = decision.differences.iter().map(|one| format!("{}: {}", one.policy, one.field)).collect();
        return plain(&format!(
            "shadows  of {of}: {}{failed}",
            if each.is_empty() { "no difference".into() } else { each.join("; ") }
        ));
    }
    match &decision.outcome {
        Outcome::Allowed(_) | Outcome::AllowedExec(_) => {
            let of = |step: &crate::hooks::Step| {
                (!step.fields.is_empty()).then(|| format!("{}: {}", step.policy, step.fields.join(", ")))
            };
            let set: Vec<_> = decision.steps.iter().filter_map(of).collect();
            plain(&format!("allowed  {}", set.join("; ")))
        }
        Outcome::Denied(refusal) => {
            plain(&format!("denied   by {}: {} ({})", refusal.policy, refusal.reason, refusal.code))
        }
        Outcome::Actions { actions, delay_ms } => {
            let delay = if *delay_ms > 0 { format!(", waits {delay_ms} ms") } else { String::new() };
            format!("actions  {}{delay}{failed}", actions.len())
        }
        Outcome::Sweep(verdicts) => {
            let count = |choice| verdicts.iter().filter(|verdict| verdict.choice == choice).count();
            use crate::hooks::SweepChoice as C;
            format!("sweep    removes {}, stops {}, keeps the rest{failed}", count(C::Remove), count(C::Stop))
        }
    }
}

fn show(context: &Context, stored: &StoredDecision, args: &ShowArgs) -> Result<u8, Failure> {
    let decision = stored.decision()?;
    if args.as_case {
        let case = crate::hooks::case::Case::of(&decision);
        context.out.indented(&case)?;
        return Ok(0);
    }
    if context.out.json {
        json_line(context, stored)?;
        return Ok(0);
    }
    let out = &context.out;
    out.line(out.bold(format!("record {} ({})", stored.number, decision.id)))?;
    out.line(format!("  {} at {}, version {}", decision.hook, decision.time, decision.version))?;
    if !decision.workspace.is_empty() {
        let facts = &decision.input.facts.workspace;
        out.line(format!("  {} ({})", decision.workspace, facts.project))?;
    }
    for line in out.trail(&trail(&decision.steps)) {
        out.line(Printable::from("  ") + line)?;
    }
    for conflict in &decision.conflicts {
        out.line(format!("  conflict: {conflict}"))?;
    }
    for violation in &decision.violations {
        out.line(format!("  invariant: {violation}"))?;
    }
    out.line(format!("  {}", summary(&decision)))?;
    out.line(format!("  hash {}", stored.hash))?;
    for step in &decision.steps {
        let settings = step.settings_digest.get(..12).unwrap_or_default();
        let digest = step.digest.get(..12).unwrap_or_default();
        out.line(format!("  {}: sha256:{digest}, settings sha256:{settings}; cost {}", step.policy, step.operations))?;
    }
    out.line(out.bold("input"))?;
    out.indented(&decision.input)?;
    out.line(out.bold("outcome"))?;
    out.indented(&decision.outcome)?;
    Ok(0)
}
