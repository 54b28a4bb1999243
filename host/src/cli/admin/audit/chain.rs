//! The chain of records as a whole: `wharf audit verify`, `anchor`, `acknowledge` and `prune`.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::app::scripts::read_bounded;
use crate::cli::output::counted;
use crate::cli::{Context, Failure};
use crate::store::{Anchor, Checkpoint, Error, Store};

/// The limit of a file of anchors, in bytes: enough for one anchor per minute for some months.
const ANCHORS: u64 = 64 << 20;

fn anchors(path: &Path) -> Result<Vec<Anchor>, Failure> {
    let bad = |cause: String| Error::BadAnchor { path: path.to_path_buf(), cause };
    let bytes = read_bounded(path, ANCHORS).map_err(bad)?;
    let text = String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8 text".into()))?;
    Ok(Anchor::read_all(path, &text)?)
}

pub(super) fn anchor(context: &Context, store: &Store, append: Option<&Path>) -> Result<u8, Failure> {
    let anchor = store.anchor()?;
    let Some(path) = append else {
        context.out.line(anchor.to_string())?;
        return Ok(0);
    };
    let failed = |error: std::io::Error| {
        let text = format!("cannot append the anchor to '{}': {error}", path.display());
        Failure::new("anchor", text, "name a writable file", 1)
    };
    // A single write, so that the lines of concurrent processes do not mix.
    let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.and_then(|mut file| {
        file.write_all(format!("{anchor}\n").as_bytes())?;
        file.sync_all()
    })
    .map_err(failed)?;
    Ok(0)
}

pub(super) fn acknowledge(context: &Context, store: &Store, reason: &str) -> Result<u8, Failure> {
    if reason.trim().is_empty() || reason.len() > 1_000 || reason.chars().any(char::is_control) {
        let text = "--reason must be one line of at most 1000 characters";
        return Err(Failure::new("usage", text, "explain why the loss is harmless, or how it was handled", 2));
    }
    let uid = std::fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid());
    let said = store.acknowledge(reason, &format!("uid {uid}"))?;
    if context.out.json {
        context.out.value(&said)?;
    } else {
        for damage in &said.damages {
            context.out.line(format!("acknowledged: {damage}"))?;
        }
        context.out.line(format!("acknowledged in record {}", said.number))?;
    }
    Ok(0)
}

pub(super) fn verify(
    context: &Context,
    store: &Store,
    public_key: Option<&str>,
    anchor: Option<&Path>,
) -> Result<u8, Failure> {
    if let Some(key) = public_key
        && (key.len() != 64 || !key.chars().all(|c| c.is_ascii_hexdigit()))
    {
        let text = "--public-key must be 64 hexadecimal digits";
        return Err(Failure::new("usage", text, "see the key of this installation in 'wharf audit verify'", 2));
    }
    let anchors = anchor.map(anchors).transpose()?.unwrap_or_default();
    let verified = store.verify_against(public_key, &anchors, true)?;
    if context.out.json {
        context.out.value(&verified)?;
    } else {
        for damage in &verified.damages {
            context.out.line(format!("damaged: {damage}"))?;
        }
        for said in &verified.acknowledged {
            let (number, time, what) = (said.number, said.time, said.damages.join(", "));
            context
                .out
                .line(format!("acknowledged in record {number} ({time:.0}, {}): {what}: {}", said.by, said.reason))?;
        }
        let whole = if verified.damages.is_empty() { "unbroken" } else { "damaged" };
        context.out.line(format!("{}, {whole}", counted(verified.records, "record")))?;
        if let Some(checkpoint) = &verified.checkpoint {
            let Checkpoint { number, count, time, .. } = checkpoint;
            context.out.line(format!("{count} pruned earlier, up to record {number} (last on {time:.0})"))?;
        }
        if !anchors.is_empty() && verified.damages.is_empty() {
            context.out.line(format!("the records match {}", counted(anchors.len(), "anchor")))?;
        }
        context.out.line(format!("public key {}", verified.public_key))?;
    }
    if verified.damages.is_empty() {
        return Ok(0);
    }
    let text = format!("the decision records are damaged in {}", counted(verified.damages.len(), "place"));
    let remedy = "keep a copy of the state folder as evidence, and find out who can write to it; acknowledge losses \
                  with a known reason with 'wharf audit acknowledge'";
    Err(Failure::new("records-damaged", text, remedy, 1))
}

#[derive(Serialize)]
struct Pruned {
    pruned: u64,
    checkpoint: Option<Checkpoint>,
    /// Existing workspaces whose decisions are no longer recorded.
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
    context.out.line(format!("pruned {}", counted(pruned, "record")))?;
    for id in workspaces {
        context.out.line(format!(
            "  including the decisions that created {id}; 'wharf why' now uses the workspace's own copy"
        ))?;
    }
    Ok(0)
}
