//! `cargo xtask test`: everything that must hold before a change is taken. It is what CI runs.
//!
//! xtask is checked and tested apart from the rest, here and always: built together they would share features of
//! wasmparser, and wasmtime would be compiled anew at each change between the two.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::stage::Stages;
use crate::{command, licences, setup};

/// Everything but xtask.
const PRODUCT: [&str; 3] = ["--workspace", "--exclude", "xtask"];

/// Bounds of a step: one that only reads, one that compiles everything from nothing.
const SHORT: Duration = Duration::from_secs(300);
const LONG: Duration = Duration::from_secs(3600);

/// Runs everything; `nextest` are further arguments for the test runner, e.g. a filter.
///
/// # Errors
/// The step that failed.
pub fn run(root: &Path, nextest: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    let cargo = |arguments: &[&str], limit: Duration| {
        let mut cargo = command::native_cargo(root);
        command::run_within(cargo.args(arguments), limit)
    };
    stages.run("format", || cargo(&["fmt", "--all", "--check"], SHORT).context("`cargo fmt --all` corrects it"))?;
    stages.run("licences", || {
        let count = licences::check(root)?;
        eprintln!("    {count} packages are under licences of .deny.toml");
        if command::succeeds_within(command::native_cargo(root).args(["deny", "--version"]), SHORT) {
            return cargo(&["deny", "check", "bans", "licenses", "sources"], SHORT);
        }
        eprintln!("    cargo-deny is not installed: bans and sources are not checked (`cargo install cargo-deny`)");
        Ok(())
    })?;
    setup::run(root, false, &mut stages)?;
    stages.run("clippy", || {
        cargo(
            &["clippy", "--workspace", "--exclude", "xtask", "--all-targets", "--locked", "--", "-D", "warnings"],
            LONG,
        )?;
        cargo(&["clippy", "--package", "xtask", "--all-targets", "--locked", "--", "-D", "warnings"], LONG)
    })?;
    stages.run("tests of xtask", || cargo(&["test", "--package", "xtask", "--locked", "--quiet"], LONG))?;
    stages.run("test runner", || {
        if command::succeeds_within(command::native_cargo(root).args(["nextest", "--version"]), SHORT) {
            return Ok(());
        }
        eprintln!("    cargo-nextest is missing: installing it (once, several minutes)");
        let mut install = command::cargo();
        install.args(["install", "cargo-nextest", "--locked"]).current_dir(std::env::temp_dir());
        command::run_within(&mut install, LONG)
    })?;
    stages.run("tools of the tests", strace)?;
    stages.run("build the tests", || {
        let mut build: Vec<&str> = vec!["nextest", "run", "--no-run", "--locked"];
        build.extend(PRODUCT);
        cargo(&build, LONG)
    })?;
    stages.run("examples in the documentation", || {
        cargo(&["test", "--doc", "--package", "wharf-plugin-sdk", "--locked"], LONG)
    })?;
    eprintln!("\n{}\n\n==> tests", stages.summary());
    let mut tests = command::native_cargo(root);
    tests.args(["nextest", "run", "--locked"]).args(PRODUCT).args(nextest);
    // Nothing is printed after this: the runner's summary is the end.
    command::run_within(&mut tests, LONG).context("the step 'tests' failed")
}

/// The fault suite kills commands at their writes with it.
fn strace() -> Result<()> {
    if command::exists("strace") {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "-qq", "--yes", "--no-install-recommends", "strace"]);
    let lists = || command::output(Command::new("apt-get").args(["update", "-qq"]));
    let installed = command::output(&mut install).or_else(|_| lists().and_then(|_| command::output(&mut install)));
    installed.map(drop).context("strace is missing: run `sudo apt-get install strace`")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_ci_script_calls_this_command_and_nothing_else() {
        let root = crate::root().unwrap();
        let script = std::fs::read_to_string(root.join(".ci/run")).unwrap();
        assert!(script.trim_end().ends_with("exec cargo xtask test"), "{script}");
        assert!(std::process::Command::new("bash").arg("-n").arg(root.join(".ci/run")).status().unwrap().success());
    }
}
