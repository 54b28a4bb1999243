//! `cargo xtask browser`: the dashboard in headless Chromium, see `host/tests/browser/dashboard.py`. The browser is
//! Debian's. Playwright from PyPI drives it, in an environment below `target/`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::stage::Stages;
use crate::{base_image, command, setup};

/// The time limit of a build or an installation.
const LONG: Duration = Duration::from_secs(3600);
/// The time limit of all tests.
const RUN: Duration = Duration::from_secs(900);
/// The version of Playwright: its protocol to the browser seldom changes.
const PLAYWRIGHT: &str = "playwright==1.65.2";

/// Sets up the browser, builds `wharf`, and runs the tests whose names contain one of the words; without words, all
/// tests. With `pictures`, it also renews the pictures of the documentation.
///
/// # Errors
/// When a requirement is missing and cannot be installed, or a test fails.
pub fn run(root: &Path, pictures: bool, words: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    setup::run(root, false, &mut stages)?;
    stages.run("browser", || {
        install("chromium", "chromium")?;
        install("openssl", "openssl")?;
        install("python3", "python3-venv")
    })?;
    let python = root.join("target/browser/bin/python");
    stages.run("playwright", || {
        let there = python.exists() && command::output(Command::new(&python).args(["-c", "import playwright"])).is_ok();
        if there {
            return Ok(());
        }
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(root.join("target/browser"));
        command::run_within(&mut make, LONG)
            .context("no Python environment: run `sudo apt-get install python3-venv`")?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PLAYWRIGHT]);
        command::run_within(&mut pip, LONG)
    })?;
    stages.run("build wharf", || {
        let mut build = command::native_cargo(root);
        build.args(["build", "--locked", "--package", "wharf", "--bin", "wharf"]);
        command::run_within(&mut build, LONG)
    })?;
    let mut tests = Command::new(&python);
    tests.arg(root.join("host/tests/browser/dashboard.py")).args(words).current_dir(root);
    tests
        .env("WHARF", root.join("target/debug/wharf"))
        .env("CHROMIUM", "/usr/bin/chromium")
        .env("IMAGE", base_image::NAME);
    if pictures {
        tests.env("SCREENSHOTS", root.join("docs/pictures"));
    }
    command::run_within(&mut tests, RUN).context("the dashboard is not as it should be")
}

fn install(program: &str, package: &str) -> Result<()> {
    if package == "python3-venv"
        && command::output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_ok()
    {
        return Ok(());
    }
    if package != "python3-venv" && command::exists(program) {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "-qq", "--yes", "--no-install-recommends", package]);
    let lists = || command::output(Command::new("apt-get").args(["update", "-qq"]));
    let installed = command::output(&mut install).or_else(|_| lists().and_then(|_| command::output(&mut install)));
    installed.map(drop).with_context(|| format!("{package} is missing: run `sudo apt-get install {package}`"))
}
