//! Golden cases of policies as files: `wharf policy test` runs the named ones, a reload those of `reload.cases`.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::read_toml;
use crate::hooks::Chain;
use crate::hooks::case::{Case, Mismatch};
use crate::trust;

/// Largest case.
const MOST_BYTES: u64 = 64 << 20;

/// A case that was run.
pub struct RanCase {
    /// Its file.
    pub file: PathBuf,
    /// Its description, in one line.
    pub about: String,
    /// The deviations from the expectation, or the reason that it could not be run.
    pub result: Result<Vec<Mismatch>, String>,
}

impl RanCase {
    /// Returns whether the result is as expected.
    pub fn holds(&self) -> bool {
        self.result.as_ref().is_ok_and(Vec::is_empty)
    }
}

/// Collects all cases (`.json`, `.toml`) below a path, or the path itself if it is a case. They are sorted, so that
/// every run has the same order.
///
/// # Errors
/// The path that cannot be read, and the cause.
pub fn find_cases(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error: io::Error| (path.to_path_buf(), error);
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
        // A link to a folder is not followed, because it might lead into a cycle.
        if case || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_cases(&path, files)?;
        }
    }
    Ok(())
}

/// Parses a case: TOML or JSON, by the extension of its file.
///
/// # Errors
/// One line that names the invalid key.
pub fn read_case(file: &Path, text: &str) -> Result<Case, String> {
    let json = match file.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => read_toml(text)?,
        _ => serde_json::from_str(text).map_err(|error| error.to_string())?,
    };
    serde_path_to_error::deserialize(json).map_err(|error| format!("{}: {}", error.path(), error.inner()))
}

/// Runs a case with a chain.
pub fn run_case(chain: &Chain, file: &Path) -> RanCase {
    let read = || -> Result<Case, String> {
        let text = trust::read_to_string(file, MOST_BYTES).map_err(|error| match error.remedy() {
            Some(remedy) => format!("{error}: {remedy}"),
            None => format!("cannot read it: {error}"),
        })?;
        read_case(file, &text)
    };
    let (about, result) = match read() {
        Ok(case) => (case.about.clone(), case.run(chain)),
        Err(error) => (String::new(), Err(error)),
    };
    RanCase { file: file.to_path_buf(), about, result }
}
