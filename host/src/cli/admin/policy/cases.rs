//! `wharf policy test`

use std::path::PathBuf;

use serde::Serialize;

use crate::app::cases::{RanCase, find_cases, run_case};
use crate::cli::output::counted;
use crate::cli::workspaces::field::text;
use crate::cli::{Context, Failure};
use crate::hooks::case::Mismatch;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of cases (.json, .toml), or single files [default: reload.cases]
    #[arg(value_name = "DIR")]
    paths: Vec<PathBuf>,
}

/// The result of one case.
#[derive(Serialize)]
struct Row {
    case: String,
    about: String,
    ok: bool,
    mismatches: Vec<Mismatch>,
    /// The reason that it could not be run.
    error: Option<String>,
}

/// Runs the command.
pub(super) fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let config = &context.app.loaded;
    let usual = || config.config.reload.cases.iter().map(|path| config.base().join(path)).collect();
    let paths: Vec<PathBuf> = if args.paths.is_empty() { usual() } else { args.paths.clone() };
    let mut files = Vec::new();
    for path in &paths {
        find_cases(path, &mut files).map_err(|(path, error)| {
            let text = format!("cannot read '{}': {error}", path.display());
            Failure::new("unreadable", text, "name a folder of cases, or one case", 5)
        })?;
    }
    if files.is_empty() {
        let text = "no case (.json or .toml) in the named files and folders, or in reload.cases";
        return Err(Failure::new("no-case", text, "create one from a record with 'wharf audit show N --as-case'", 5));
    }
    let chain = context.app.chain()?;
    let rows: Vec<Row> = files.iter().map(|file| run_case(&chain, file).into()).collect();
    let failed = rows.iter().filter(|row| !row.ok).count();
    if context.out.json {
        context.out.value(&rows)?;
    } else {
        for row in &rows {
            print(context, row)?;
        }
        context.out.line(format!(
            "{}: {} passed, {failed} failed",
            counted(rows.len(), "case"),
            rows.len() - failed
        ))?;
    }
    Ok(if failed == 0 { 0 } else { 1 })
}

impl From<RanCase> for Row {
    fn from(ran: RanCase) -> Self {
        let (ok, case, about) = (ran.holds(), ran.file.display().to_string(), ran.about);
        match ran.result {
            Ok(mismatches) => Self { case, about, ok, mismatches, error: None },
            Err(error) => Self { case, about, ok, mismatches: Vec::new(), error: Some(error) },
        }
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
    if value.is_null() { "(nothing)".into() } else { text("", value) }
}
