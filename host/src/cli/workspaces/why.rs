//! `wharf why`: the owner of each field, the overruled values, and their origins. It reads the store only, so it needs
//! no engine.

use crate::backend::{Backend, Error};
use crate::cli::workspaces::field::{bound, hidden, is_default, text};
use crate::cli::{Context, Failure};
use crate::printable::Printable;
use crate::records::{Explained, Why, place};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
    /// A field such as image, env.TEAM or resources.memory; a group such as env or security
    field: Option<String>,
    /// Show every field, also those with their defaults
    #[arg(short, long)]
    all: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    let (why, whole) = explained(context, &backend, args).await?;
    if context.out.json {
        context.out.value(&why)?;
    } else {
        print(context, &why, whole, args.all)?;
    }
    Ok(0)
}

/// Returns the explanation, and whether it covers all fields. A single word may be a workspace, or a field of this
/// folder's workspace.
async fn explained(context: &Context, backend: &Backend, args: &Args) -> Result<(Why, bool), Failure> {
    let missing = |error: &Error| matches!(error.code(), "workspace-not-found" | "workspace-ambiguous");
    let (workspace, field) = (args.workspace.as_deref(), args.field.as_deref());
    let (Some(word), None) = (workspace, field) else {
        return Ok((backend.why(&context.target(workspace)?, field).await?, field.is_none()));
    };
    let first = match backend.why(&context.target(Some(word))?, None).await {
        Err(error) if missing(&error) => error,
        other => return Ok((other?, true)),
    };
    let Ok(folder) = context.target(None) else { return Err(first.into()) };
    match backend.why(&folder, Some(word)).await {
        // Neither exists: the word was more likely meant as a workspace.
        Err(error) if missing(&error) || error.code() == "bad-request" => Err(first.into()),
        other => Ok((other?, false)),
    }
}

/// Prints an explanation: of the whole workspace with its trail, or of some fields with their defaults.
fn print(context: &Context, why: &Why, whole: bool, all: bool) -> Result<(), Failure> {
    let out = &context.out;
    out.line(out.bold(&why.id))?;
    if whole {
        for line in out.trail(&why.trail) {
            out.line(Printable::from("  ") + line)?;
        }
    }
    let mut left_out = 0;
    for (name, field) in &why.fields {
        if whole && !all && is_default(field) {
            left_out += 1;
            continue;
        }
        out.titled(name, format!(" = {}", text(name, &field.value)))?;
        if field.history.is_empty() {
            out.faint("    default")?;
        }
        for link in &field.history {
            let hook = link.hook.map_or(String::new(), |hook| format!(" at {hook}"));
            let fate = link.overruled_by.as_ref().map_or(String::new(), |by| format!("  (overruled by {by})"));
            out.wrapped("    ", format!("{}{hook}: {}{fate}", place(&link.by), text(name, &link.value)))?;
        }
        details(context, name, field)?;
    }
    if let Some(line) = hidden(left_out) {
        out.faint(line)?;
    }
    let numbers: Vec<_> =
        why.records.iter().filter_map(|record| record.number.map(|number| format!("#{number}"))).collect();
    if !numbers.is_empty() {
        out.wrapped("", format!("decision records: {} (see 'wharf audit show')", numbers.join(" ")))?;
    }
    let pruned = why.records.len() - numbers.len();
    if pruned > 0 {
        let when = why.pruned.map_or(String::new(), |time| format!(" on {time:.0} or before"));
        out.wrapped(
            "",
            format!(
                "{pruned} of its decision records were pruned{when}; the values come from the workspace's own copy"
            ),
        )?;
    }
    Ok(())
}

/// Prints the limit of a field, and the setting that would relax it.
fn details(context: &Context, name: &str, field: &Explained) -> Result<(), Failure> {
    if let Some(text) = bound(name, field) {
        context.out.wrapped("    ", text)?;
    }
    if let Some(waiver) = &field.waiver {
        context.out.wrapped("    ", format!("waived: {waiver}"))?;
    }
    Ok(())
}
