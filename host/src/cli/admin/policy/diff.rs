//! `wharf policy diff`: a summary of the changes that shadows would have made.

use std::collections::BTreeMap;

use crate::cli::instant::instant;
use crate::cli::output::{Column, column, counted, times};
use crate::cli::workspaces::field::text;
use crate::cli::{Context, Failure};
use crate::records::{ShadowDifference, ShadowSummary};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this policy
    policy: Option<String>,
    /// Since a time, or for a duration
    #[arg(long, value_name = "WHEN", default_value = "7d", value_parser = instant)]
    since: jiff::Timestamp,
}

const COLUMNS: [Column; 6] = [
    column("COUNT").right(),
    column("HOOK").optional(1),
    column("FIELD").cut(12),
    column("CHANGE").wrapped(20),
    column("ABOUT").wrapped(12).optional(2),
    column("LAST DECISION").optional(3),
];

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let all = context.backend(&[])?.shadows(args.policy.as_deref(), args.since).await?;
    if context.out.json {
        context.out.value(&all)?;
    } else {
        print(context, &all)?;
    }
    Ok(0)
}

fn print(context: &Context, all: &BTreeMap<String, ShadowSummary>) -> Result<(), Failure> {
    let out = &context.out;
    if all.is_empty() {
        out.line("no shadow was asked in that period; set mode = \"shadow\" on a policy (see docs/configuration.md)")?;
    }
    for (policy, summary) in all {
        let ShadowSummary { asked, failed, changed, .. } = summary;
        out.line(
            out.bold(policy)
                + format!(
                    ": asked {}, would have changed {}, failed {}",
                    times(*asked),
                    counted(*changed, "decision"),
                    times(*failed)
                ),
        )?;
        if let Some(last) = &summary.last_failure {
            out.line(format!("  last failure: {last}"))?;
        }
        let row = |group: &ShadowDifference| {
            let change = format!("{} -> {}", text(&group.field, &group.from), text(&group.field, &group.to));
            let about = group.about.clone().unwrap_or_default();
            let example = group.examples.last().cloned().unwrap_or_default();
            vec![group.count.to_string(), group.hook.to_string(), group.field.clone(), change, about, example]
        };
        let rows: Vec<_> = summary.differences.iter().map(row).collect();
        if !rows.is_empty() {
            out.table(&COLUMNS, rows)?;
        }
    }
    Ok(())
}
