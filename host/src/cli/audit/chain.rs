//! `wharf audit verify` and `wharf audit prune`

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::{Context, Failure};
use crate::store::{Checkpoint, Store};

pub(super) fn verify(context: &Context, store: &Store, public_key: Option<&str>) -> Result<u8, Failure> {
    if let Some(key) = public_key
        && (key.len() != 64 || !key.chars().all(|c| c.is_ascii_hexdigit()))
    {
        let text = "--public-key takes 64 hexadecimal digits";
        return Err(Failure::new("usage", text, "'wharf audit verify' prints the installation's own", 2));
    }
    let verified = store.verify(public_key)?;
    if context.out.json {
        context.out.value(&verified)?;
    } else {
        for damage in &verified.damages {
            context.out.line(format!("damaged: {damage}"))?;
        }
        let whole = if verified.damages.is_empty() { "unbroken" } else { "read" };
        context.out.line(format!("{} records {whole}", verified.records))?;
        if let Some(checkpoint) = &verified.checkpoint {
            let Checkpoint { number, count, time, .. } = checkpoint;
            context.out.line(format!("{count} were pruned before, up to record {number} (last on {time:.0})"))?;
        }
        context.out.line(format!("public key {}", verified.public_key))?;
    }
    if verified.damages.is_empty() {
        return Ok(0);
    }
    let text = format!("the decision records are damaged in {} places", verified.damages.len());
    let remedy = "keep a copy of the state folder as evidence, and find out who can write to it";
    Err(Failure::new("records-damaged", text, remedy, 1))
}

#[derive(Serialize)]
struct Pruned {
    pruned: u64,
    checkpoint: Option<Checkpoint>,
    /// Workspaces that exist, and whose decisions are no longer recorded.
    workspaces: Vec<String>,
}

pub(super) fn prune(
    context: &Context,
    store: &Store,
    keep: Option<u64>,
    before: Option<Timestamp>,
) -> Result<u8, Failure> {
    let config = &context.app.loaded.config.decisions;
    let usual = || Timestamp::now().checked_sub(config.age.0).unwrap_or(Timestamp::MIN);
    let unrecorded = || -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        for workspace in store.workspaces()? {
            if store.recorded(&workspace.decisions)?.len() < workspace.decisions.len() {
                ids.push(workspace.id.to_string());
            }
        }
        Ok(ids)
    };
    let known = unrecorded()?;
    let pruned = store.prune_decisions(before.unwrap_or_else(usual), keep.unwrap_or(config.keep))?;
    let workspaces: Vec<_> = unrecorded()?.into_iter().filter(|id| !known.contains(id)).collect();
    let checkpoint = store.checkpoint()?;
    if context.out.json {
        context.out.value(&Pruned { pruned, checkpoint, workspaces })?;
        return Ok(0);
    }
    context.out.line(format!("pruned {pruned} records"))?;
    for id in workspaces {
        context
            .out
            .line(format!("  among them what made {id}; 'wharf why' goes on with what the workspace itself keeps"))?;
    }
    Ok(0)
}
