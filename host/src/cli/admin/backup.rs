//! `wharf backup`: a copy of the store.

use std::path::PathBuf;

use crate::cli::output::counted;
use crate::cli::{Context, Failure};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write, which must not exist; to restore, it takes the place of wharf.db (see docs/service.md)
    file: PathBuf,
}

/// Runs the command. It needs no engine, and a running service continues.
pub(crate) fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let (store, out) = (context.app.store()?, &context.out);
    let copy = store.back_up(&args.file)?;
    if out.json {
        out.value(&serde_json::json!({ "file": args.file, "bytes": copy.bytes, "decisions": copy.decisions }))?;
    } else {
        let (file, count) = (args.file.display(), copy.decisions);
        out.line(format!("{file}: {} bytes, {}, verified", copy.bytes, counted(count, "decision")))?;
    }
    Ok(0)
}
