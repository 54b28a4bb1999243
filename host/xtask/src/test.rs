//! `cargo xtask test`: all checks that a change must pass before it is accepted. CI runs it.
//!
//! xtask is always checked and tested separately. If both were built together, they would share features of wasmparser,
//! and wasmtime would be compiled again at each change between the two.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::stage::Stages;
use crate::{command, licences, rustdoc, setup};

/// Everything except xtask.
const PRODUCT: [&str; 3] = ["--workspace", "--exclude", "xtask"];

/// The packages with a library that has examples, or may have some.
const LIBRARIES: [&str; 4] = ["--package", "wharf", "--package", "wharf-plugin-sdk"];

/// The time limits of a step that only reads, and of a step that compiles everything from nothing.
const SHORT: Duration = Duration::from_secs(300);
const LONG: Duration = Duration::from_secs(3600);

/// Runs everything; `nextest` are extra arguments for the test runner, e.g. a filter.
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
    let clippy = clippy()?;
    let checked = || checked_cargo(root, &clippy);
    stages.run("clippy and tests of xtask", || {
        command::run_within(checked().args(["test", "--package", "xtask", "--locked", "--quiet"]), LONG)
    })?;
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
    stages.run("clippy, and build the tests", || {
        command::run_within(checked().args(["build", "--all-targets", "--locked"]).args(PRODUCT), LONG)
    })?;
    stages.run("documentation and its examples", || {
        let mut examples = checked();
        rustdoc::document(&mut examples, root)?;
        command::run_within(examples.args(["test", "--doc", "--locked"]).args(LIBRARIES), LONG)
    })?;
    eprintln!("\n{}\n\n==> tests", stages.summary());
    let mut tests = checked();
    tests.args(["nextest", "run", "--locked"]).args(PRODUCT).args(nextest);
    // Nothing is printed after this: the runner's summary is the end.
    command::run_within(&mut tests, LONG).context("the step 'tests' failed")
}

/// Returns the compiler with clippy's lints, which is beside cargo, or on the path.
fn clippy() -> Result<PathBuf> {
    let beside = std::env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("clippy-driver"));
    let clippy = beside.filter(|path| path.is_file()).unwrap_or_else(|| "clippy-driver".into());
    if !command::succeeds_within(Command::new(&clippy).arg("--version"), SHORT) {
        bail!("clippy is missing: run `rustup component add clippy`");
    }
    Ok(clippy)
}

/// Returns cargo with clippy in place of the compiler for Wharf's own crates: its lints are checked during the
/// compilation that happens anyway, and every lint is an error. `cargo clippy` would also check all dependencies in
/// addition to building them, which takes 8 minutes from nothing.
///
/// The output lies beside that of `cargo build`, and is equivalent. The lints' settings are passed as `cargo clippy`
/// passes them.
fn checked_cargo(root: &Path, clippy: &Path) -> Command {
    let mut cargo = command::native_cargo(root);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", clippy).env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    cargo
}

/// Ensures that strace is installed: the fault suite uses it to kill commands at their writes.
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
