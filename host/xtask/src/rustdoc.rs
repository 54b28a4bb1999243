//! The documentation of the libraries, which is made while their examples are tested.
//!
//! `cargo doc` would check every dependency again, which takes minutes, because it does not reuse the build. So this
//! program poses as rustdoc: it makes the documentation with the flags that cargo passes for the examples, and then
//! tests them.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// Set when cargo runs this program as rustdoc: the path of the real one.
pub const REAL: &str = "WHARF_XTASK_RUSTDOC";

/// Makes a cargo command that tests examples also make the documentation; it goes to `target/xtask/doc`.
///
/// # Errors
/// When the path of this program is unknown.
pub fn document(cargo: &mut Command, root: &Path) -> Result<()> {
    let beside = std::env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustdoc"));
    let real = beside.filter(|path| path.is_file()).unwrap_or_else(|| "rustdoc".into());
    cargo.env(REAL, real).env("WHARF_XTASK_DOC", root.join("target/xtask/doc"));
    cargo.env("RUSTDOC", std::env::current_exe().context("this program does not know where it is")?);
    Ok(())
}

/// Runs rustdoc as requested; before a test of examples, it also makes the documentation.
///
/// # Errors
/// When rustdoc cannot be run.
pub fn run(real: &OsString, args: &[OsString]) -> Result<ExitCode> {
    let rustdoc =
        |args: &[OsString]| Command::new(real).args(args).env_remove(REAL).status().context("cannot run rustdoc");
    if let Some(mut plain) = without_tests(args) {
        plain.extend(["--out-dir".into(), std::env::var_os("WHARF_XTASK_DOC").unwrap_or_default()]);
        if !rustdoc(&plain)?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    let code = rustdoc(args)?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Returns the arguments for the documentation, derived from those for the test of its examples; `None` if no test is
/// requested.
fn without_tests(args: &[OsString]) -> Option<Vec<OsString>> {
    if !args.iter().any(|arg| arg == "--test") {
        return None;
    }
    let (mut plain, mut rest) = (Vec::new(), args.iter());
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        if !text.starts_with("--test") && text != "--no-run" && text != "--nocapture" {
            plain.push(arg.clone());
        } else if text.starts_with("--test-") && !text.contains('=') {
            // Skips its value.
            rest.next();
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_made_with_the_flags_of_the_examples() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let test = words(
            "--edition=2024 --crate-name wharf --test src/lib.rs --test-run-directory host --test-args=x --extern a=b",
        );
        assert_eq!(without_tests(&test), Some(words("--edition=2024 --crate-name wharf src/lib.rs --extern a=b")));
        assert_eq!(without_tests(&words("-vV")), None);
    }
}
