//! `cargo xtask load`: a service under load, see `host/tests/load/load.py`, which needs only Python.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::stage::Stages;
use crate::{base_image, command, setup};

/// The time limit of a run.
const RUN: Duration = Duration::from_secs(900);

/// Builds `wharf` and runs the load.
///
/// # Errors
/// When a request or event was lost or stuck, or objects were left over.
pub fn run(root: &Path) -> Result<()> {
    let mut stages = Stages::new();
    setup::run(root, false, &mut stages)?;
    let wharf = setup::release(root, &mut stages)?;
    let mut load = Command::new("python3");
    load.arg(root.join("host/tests/load/load.py")).current_dir(root);
    load.env("WHARF", wharf).env("IMAGE", base_image::NAME);
    command::run_within(&mut load, RUN).context("the service does not bear it; python3 is needed, too")
}
