//! `wharf policy replay`

use std::path::PathBuf;

use super::of_file;
use crate::backend::ReplayedAll;
use crate::cli::bars::Waiting;
use crate::cli::instant::instant;
use crate::cli::output::counted;
use crate::cli::{Context, Failure};
use crate::hooks::replay::{Comparison, compare};
use crate::hooks::{Decision, Hook};
use crate::printable::Printable;
use crate::records::{FlipGroup, Replayed};
use crate::wire::ReplayRequest;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Decisions since a time (2026-01-31T12:00:00Z) or for a duration (30d) [default: all recorded decisions]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<jiff::Timestamp>,
    /// Decisions up to a time, or up to so long ago
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<jiff::Timestamp>,
    /// One decision: number or id
    #[arg(long, value_name = "RECORD", conflicts_with_all = ["since", "until", "hook", "workspace"])]
    decision: Option<String>,
    /// Decisions of a hook
    #[arg(long)]
    hook: Option<Hook>,
    /// Decisions about a workspace: id or name
    #[arg(long, value_name = "WS")]
    workspace: Option<String>,
    /// A policy (.wasm or .rhai) that replaces the policy of the same name in the chain, or is added to its end
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// The policy that it replaces, or its name at the end of the chain
    #[arg(long, value_name = "NAME", requires = "with")]
    r#as: Option<String>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let request = ReplayRequest {
        decision: args.decision.clone(),
        hook: args.hook,
        workspace: args.workspace.clone(),
        ..ReplayRequest::between(args.since, args.until)
    };
    let with = args.with.as_deref().map(of_file).transpose()?.map(|policy| (policy, args.r#as.as_deref()));
    let waiting = Waiting::new(context.out.json, "running recorded decisions again");
    let ReplayedAll { replayed, place, steps, notice } = context.backend(&[])?.replay(&request, with).await?;
    drop(waiting);
    if let Some((recorded, again)) = steps.filter(|_| !context.out.json) {
        explain(context, &recorded, &again)?;
    }
    if let Some(notice) = notice {
        context.out.notice(&notice);
    }
    shown(context, &replayed, place.as_deref())
}

/// Shows the result, and returns the exit code.
fn shown(context: &Context, replayed: &Replayed, place: Option<&str>) -> Result<u8, Failure> {
    if context.out.json {
        context.out.value(replayed)?;
    } else {
        print(context, replayed, place)?;
    }
    Ok(if replayed.flipped > 0 { 7 } else { 0 })
}

fn explain(context: &Context, recorded: &Decision, again: &Decision) -> Result<(), Failure> {
    for (what, decision) in [("recorded", recorded), ("replayed", again)] {
        context.out.line(context.out.bold(what))?;
        for line in context.out.trail(&crate::wire::trail(&decision.steps)) {
            context.out.line(Printable::from("  ") + line)?;
        }
    }
    let said = match compare(recorded, again) {
        Comparison::Identical => "identical".to_owned(),
        Comparison::SameOutcome => "same outcome, different steps".to_owned(),
        Comparison::Flip(flip) => format!("{}: {}", flip.kind.words(), flip.detail),
    };
    context.out.line(format!("  {said}"))?;
    Ok(())
}

fn print(context: &Context, replayed: &Replayed, place: Option<&str>) -> Result<(), Failure> {
    let out = &context.out;
    if let Some(place) = place {
        out.line(format!("new policy {place}"))?;
    }
    for group in &replayed.flips {
        let FlipGroup { kind, hook, policy, reason, detail, count, examples } = group;
        out.line(out.bold(kind.words()) + format!("  {count} x {hook}, by {policy}: {reason}"))?;
        let plain: String = detail.chars().take(300).collect();
        let numbers: Vec<_> = examples.iter().map(|example| format!("#{}", example.number)).collect();
        out.line(format!("    e.g. {}: {plain}", numbers.join(" ")))?;
    }
    for (why, count) in &replayed.not_replayed {
        out.line(format!("not replayed: {}: {why}", counted(*count, "record")))?;
    }
    for (policy, count) in &replayed.gone {
        out.line(format!("'{policy}' took part in {} but is no longer in the chain", counted(*count, "record")))?;
    }
    for (policy, count) in &replayed.changed {
        out.line(format!("'{policy}' differs from the version in {}", counted(*count, "record")))?;
    }
    let Replayed { replayed: all, identical, same_outcome, flipped, seconds, per_second, .. } = replayed;
    out.line(format!(
        "{}: {identical} identical, {same_outcome} with the same outcome, {flipped} flipped \
         ({seconds:.2} s, {per_second:.0} decisions/s)",
        counted(*all, "decision")
    ))?;
    Ok(())
}
