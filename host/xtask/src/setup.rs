//! What tests and quickstart need before they begin: an engine, the base image, the plugins.

use std::path::Path;

use anyhow::Result;

use crate::base_image::{self, Origin};
use crate::engine::Engine;
use crate::guest;
use crate::stage::Stages;

/// Arranges everything. With `install_engine`, or where `CI` is true, a missing engine is installed.
///
/// # Errors
/// The stage that failed, and what to do.
pub fn run(root: &Path, install_engine: bool, stages: &mut Stages) -> Result<()> {
    let install = install_engine || std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
    // First, because it fails at once where it fails.
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
