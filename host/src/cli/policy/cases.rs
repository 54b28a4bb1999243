//! `wharf policy test`

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::plan::short;
use crate::cli::{Context, Failure};
use crate::config::read_toml;
use crate::hooks::Chain;
use crate::hooks::case::{Case, Mismatch};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of cases (.json, .toml), or single ones
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,
}

/// How one case went.
#[derive(Serialize)]
struct Row {
    case: String,
    about: String,
    ok: bool,
    mismatches: Vec<Mismatch>,
    /// Why it could not be run.
    error: Option<String>,
}

/// Runs the command.
pub(super) fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let mut files = Vec::new();
    for path in &args.paths {
        collect(path, &mut files)?;
    }
    if files.is_empty() {
        let text = "there is no case (.json or .toml) in what was named";
        return Err(Failure::new("no-case", text, "'wharf audit show N --as-case' makes one of a record", 5));
    }
    let chain = context.app.chain()?;
    let rows: Vec<Row> = files.iter().map(|file| row(&chain, file)).collect();
    let failed = rows.iter().filter(|row| !row.ok).count();
    if context.out.json {
        context.out.value(&rows)?;
    } else {
        for row in &rows {
            print(context, row)?;
        }
        context.out.line(format!("{} cases: {} hold, {failed} do not", rows.len(), rows.len() - failed))?;
    }
    Ok(if failed == 0 { 0 } else { 1 })
}

/// All cases below a path, sorted, so that every run has the same order.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let text = format!("{} cannot be read: {error}", path.display());
        Failure::new("unreadable", text, "name a folder of cases, or one case", 5)
    };
    if !path.metadata().map_err(failed)?.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let case = path.extension().is_some_and(|extension| extension == "json" || extension == "toml");
        // A link to a folder is not followed: it might lead around in a circle.
        if case || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, files)?;
        }
    }
    Ok(())
}

/// Reads a case: TOML or JSON, as the name of its file says.
pub(crate) fn read_case(file: &Path, text: &str) -> Result<Case, String> {
    let json = match file.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => read_toml(text)?,
        _ => serde_json::from_str(text).map_err(|error| error.to_string())?,
    };
    serde_path_to_error::deserialize(json).map_err(|error| format!("{}: {}", error.path(), error.inner()))
}

fn row(chain: &Chain, file: &Path) -> Row {
    let read = || -> Result<Case, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("it cannot be read: {error}"))?;
        read_case(file, &text)
    };
    let name = file.display().to_string();
    let (about, ran) = match read() {
        Ok(case) => (case.about.clone(), case.run(chain)),
        Err(error) => (String::new(), Err(error)),
    };
    match ran {
        Ok(mismatches) => Row { case: name, about, ok: mismatches.is_empty(), mismatches, error: None },
        Err(error) => Row { case: name, about, ok: false, mismatches: Vec::new(), error: Some(error) },
    }
}

fn print(context: &Context, row: &Row) -> Result<(), Failure> {
    let out = &context.out;
    let about = if row.about.is_empty() { String::new() } else { format!("  {}", row.about) };
    let word = if row.ok { "ok    " } else { "failed" };
    out.line(format!("{word}  {}{about}", row.case))?;
    if let Some(error) = &row.error {
        out.line(format!("    {error}"))?;
    }
    for Mismatch { what, expected, actual } in &row.mismatches {
        out.line(format!("    {what}"))?;
        out.line(format!("      - {}", shown(expected)))?;
        out.line(format!("      + {}", shown(actual)))?;
    }
    Ok(())
}

fn shown(value: &serde_json::Value) -> String {
    if value.is_null() { "(nothing)".into() } else { short(value) }
}
