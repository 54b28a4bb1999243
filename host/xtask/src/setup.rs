//! The requirements of tests and quickstart: an engine, the base image, the plugins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::base_image::{self, Origin};
use crate::engine::Engine;
use crate::stage::Stages;
use crate::{command, guest};

/// The time limit of a build.
const BUILD: Duration = Duration::from_secs(3600);

/// Sets everything up. With `install_engine`, or if `CI` is true, a missing engine is installed.
///
/// # Errors
/// The stage that failed, and the remedy.
pub fn run(root: &Path, install_engine: bool, stages: &mut Stages) -> Result<()> {
    let install = install_engine || std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
    // The engine comes first, because a failure there is immediate.
    let engine = stages.run("engine", || Engine::ready(root, install))?;
    stages.run("base image", || {
        let from = match base_image::ready(&engine)? {
            Origin::Present => "there already",
            Origin::Pulled => "from a registry",
            Origin::Built => "made from Debian's busybox, since no registry answered",
        };
        eprintln!("    {}: {from}", base_image::NAME);
        Ok(())
    })?;
    stages.run("plugins", || guest::build(root, guest::Source::Any))
}

/// Builds the program in its release form, and returns its path.
///
/// # Errors
/// When it cannot be built.
pub fn release(root: &Path, stages: &mut Stages) -> Result<PathBuf> {
    stages.run("build wharf (release; the first time takes several minutes)", || {
        let mut cargo = command::native_cargo(root);
        cargo.args(["build", "--release", "--locked", "--package", "wharf", "--bin", "wharf"]);
        command::run_within(&mut cargo, BUILD)
    })?;
    Ok(root.join("target/release/wharf"))
}
