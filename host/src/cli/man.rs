//! `wharf man`: the manual pages, from the definition of the command line.

use std::path::{Path, PathBuf};

use clap_mangen::Man;

use super::Failure;
use super::output::{Output, counted};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write a page per command to this folder [default: print the page of wharf itself]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command. It needs neither configuration nor state.
pub(crate) fn run(args: &Args, out: &Output) -> Result<u8, Failure> {
    let mut command = super::command();
    command.build();
    let Some(dir) = &args.dir else {
        out.lines(&page(&command)?)?;
        return Ok(0);
    };
    let failed = |path: &Path, error: std::io::Error| {
        let text = format!("cannot write '{}': {error}", path.display());
        Failure::new("unwritable", text, "name a writable folder", 1)
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    let mut written = Vec::new();
    for command in all(&command) {
        let path = dir.join(format!("{}.1", name(command)));
        std::fs::write(&path, page(command)?).map_err(|error| failed(&path, error))?;
        written.push(path.display().to_string());
    }
    if out.json {
        out.value(&written)?;
    } else {
        out.line(format!("wrote {} to {}", counted(written.len(), "page"), dir.display()))?;
    }
    Ok(0)
}

fn name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Returns a command and all visible commands below it.
fn all(command: &clap::Command) -> Vec<&clap::Command> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    std::iter::once(command).chain(below.flat_map(all)).collect()
}

fn page(command: &clap::Command) -> std::io::Result<String> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).title(name(command)).source(concat!("wharf ", env!("CARGO_PKG_VERSION")));
    man.manual("Wharf").render(&mut page)?;
    String::from_utf8(page).map_err(std::io::Error::other)
}
