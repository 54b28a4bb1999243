//! Six ways to use Wharf as a library. `cargo run -p wharf --example library -- exec .` runs one of them, in the project of this folder.
//!
//! The first four need an engine and the configuration of the command `wharf`; the last two need neither.

mod events;
mod exec;
mod logs;
mod plan;
mod policy;
mod script;

use std::error::Error;
use std::path::PathBuf;

use wharf::{Options, Wharf};

const USAGE: &str = "\
usage: library EXAMPLE [PROJECT]
  exec    creates the workspace of a project, runs a command in it, and removes it
  logs    follows the output of the workspace until a line matches
  plan    shows the workspace that would be created, and the owner of each field
  events  prints the events of the workspace while it starts and stops
  script  asks a policy in a script, without an engine
  policy  asks a policy in Rust, without an engine";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let example = words.next().unwrap_or_default();
    let project = words.next().map_or_else(std::env::current_dir, |folder| Ok(PathBuf::from(folder)))?;
    let open = || Wharf::open(Options::of_process());
    match example.to_str() {
        Some("exec") => exec::run(&open()?, &project).await?,
        Some("logs") => logs::run(&open()?, &project).await?,
        Some("plan") => plan::run(&open()?, &project).await?,
        Some("events") => events::run(&open()?, &project).await?,
        Some("script") => script::run()?,
        Some("policy") => policy::run()?,
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
