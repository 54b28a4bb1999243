//! `wharf why`: who set each field, who was overruled, and where. It reads the store only, so it needs no engine.

use super::plan::{bound, short};
use super::{Context, Failure, backend};
use crate::client::Client;
use crate::lifecycle::{Explained, Target, Why, find_stored, place, why};
use crate::printable::Printable;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name; left out, the workspace of this folder
    workspace: Option<String>,
    /// A field such as image, env.TEAM or resources.memory; a group such as env or security
    field: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let (why, all) = match context.client()? {
        Some(client) => there(context, &client, args).await?,
        None => here(context, args).await?,
    };
    if context.out.json {
        context.out.value(&why)?;
    } else {
        print(context, &why, all)?;
    }
    Ok(0)
}

/// What a service says; and whether all fields were asked for.
async fn there(context: &Context, client: &Client, args: &Args) -> Result<(Why, bool), Failure> {
    let (workspace, field) = (args.workspace.as_deref(), args.field.as_deref());
    if let (Some(word), None) = (workspace, field) {
        let first = match of(client, &context.target(Some(word))?, None).await {
            Err(error) if matches!(error.code.as_str(), "workspace-not-found" | "workspace-ambiguous") => error,
            other => return Ok((other?, true)),
        };
        // It may be a field of this folder's workspace.
        return match backend::meant(client, &context.target(None)?).await {
            Ok(name) => Ok((of(client, &Target::Named(name), Some(word)).await?, false)),
            Err(_) => Err(first),
        };
    }
    Ok((of(client, &context.target(workspace)?, field).await?, field.is_none()))
}

async fn of(client: &Client, target: &Target, field: Option<&str>) -> Result<Why, Failure> {
    let name = backend::meant(client, target).await?;
    let query: Vec<_> = field.map(|field| ("field", field)).into_iter().collect();
    Ok(client.get(&backend::path(&name, "why"), &query).await?)
}

/// The same from the store here.
async fn here(context: &Context, args: &Args) -> Result<(Why, bool), Failure> {
    let store = context.store().await?;
    // One word may be a workspace or a field of this folder's workspace.
    let (workspace, field) = match (&args.workspace, &args.field) {
        (Some(word), None) => match find_stored(&store, &context.target(Some(word))?) {
            Ok(workspace) => (workspace, None),
            Err(first) => match find_stored(&store, &context.target(None)?) {
                Ok(workspace) => (workspace, Some(word.as_str())),
                Err(_) => return Err(first.into()),
            },
        },
        (name, field) => (find_stored(&store, &context.target(name.as_deref())?)?, field.as_deref()),
    };
    Ok((why(&store, &context.app.loaded, &workspace, field)?, field.is_none()))
}

fn print(context: &Context, why: &Why, all: bool) -> Result<(), Failure> {
    let out = &context.out;
    out.line(out.bold(&why.id))?;
    if all {
        for line in out.trail(&why.trail) {
            out.line(Printable::from("  ") + line)?;
        }
    }
    for (name, field) in &why.fields {
        if field.history.is_empty() {
            // Whole lists of defaults would hide what somebody decided.
            if !all {
                out.line(format!("{name} = {}", short(&field.value)))?;
                out.line("    default")?;
                details(context, field)?;
            }
            continue;
        }
        out.line(out.bold(name) + format!(" = {}", short(&field.value)))?;
        for link in &field.history {
            let hook = link.hook.map_or(String::new(), |hook| format!(" at {hook}"));
            let fate = link.overruled_by.as_ref().map_or(String::new(), |by| format!("  (overruled by {by})"));
            out.line(format!("    {}{hook}: {}{fate}", place(&link.by), short(&link.value)))?;
        }
        details(context, field)?;
    }
    let numbers: Vec<_> =
        why.records.iter().filter_map(|record| record.number.map(|number| format!("#{number}"))).collect();
    if !numbers.is_empty() {
        out.line(format!("decided in {} ('wharf audit show')", numbers.join(" ")))?;
    }
    let pruned = why.records.len() - numbers.len();
    if pruned > 0 {
        let when = why.pruned.map_or(String::new(), |time| format!(" on {time:.0} or before"));
        out.line(format!(
            "{pruned} of its decision records were pruned{when}; this is what the workspace itself keeps"
        ))?;
    }
    Ok(())
}

/// What bounds a field, and what lets it be looser.
fn details(context: &Context, field: &Explained) -> Result<(), Failure> {
    if let Some(text) = bound(field) {
        context.out.line(format!("    {text}"))?;
    }
    if let Some(waiver) = &field.waiver {
        context.out.line(format!("    waived: {waiver}"))?;
    }
    Ok(())
}
