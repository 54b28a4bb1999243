//! `cargo xtask`: what the build of Wharf needs beyond `cargo build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

mod guest;

const USAGE: &str = "\
usage: cargo xtask <command>

commands:
  plugins [--debian]   build the plugins and the test plugins into target/plugins and target/test-plugins;
                       --debian uses Debian's toolchain even where the installed one would do";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["plugins"] => guest::build(&root()?, guest::Source::Any),
        ["plugins", "--debian"] => guest::build(&root()?, guest::Source::Debian),
        [] => bail!("no command given\n\n{USAGE}"),
        other => bail!("no command `{}`\n\n{USAGE}", other.join(" ")),
    }
}

/// Returns the root of the workspace that this helper was built in.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).context("host/xtask has no workspace around it")?;
    Ok(root.to_owned())
}
