//! Runs other programs, without the environment of the outer cargo, and within a time limit.

use std::env;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Variables of cargo that concern registries or output, and so are meant for the inner cargo too.
const KEPT: [&str; 8] = [
    "CARGO_BUILD_JOBS",
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// The time that a program has to end after it was requested to.
const GRACE: Duration = Duration::from_secs(10);

/// Returns a command for the cargo that runs this helper, with a clean environment.
///
/// The outer `cargo run` sets variables about *its* package and build, and the user may have set flags for another
/// build (`RUSTFLAGS` for coverage, a wrapper, a target folder). Neither is meant for the inner builds.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = KEPT.iter().any(|prefix| text.starts_with(prefix));
        let leaks = text.starts_with("CARGO") || text.starts_with("RUSTC") || text.starts_with("RUSTDOC");
        if (leaks && !kept) || text == "RUSTFLAGS" || text == "OUT_DIR" {
            command.env_remove(&name);
        }
    }
    command
}

/// Returns a cargo command for native code of the workspace at `root`. Its output goes to `target` below it, where
/// plugins and the host's build script find each other.
pub fn native_cargo(root: &Path) -> Command {
    let mut command = cargo();
    command.current_dir(root).env("CARGO_TARGET_DIR", root.join("target"));
    command
}

/// Runs a command that talks to the user directly.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", name(command)))?;
    succeeded(command, status)
}

/// Runs a command that prints for the user, without input; it is ended when it takes longer than `limit`.
///
/// # Errors
/// When it can't be run, fails, or takes too long.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let status = status_within(command, limit)?;
    succeeded(command, status)
}

/// Runs a command like [`run_within`], and returns its exit status, which has a meaning.
///
/// # Errors
/// When it can't be run or takes too long.
pub fn status_within(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot run {}", name(command)))?;
    match wait(&mut child, limit)? {
        Some(status) => Ok(status),
        None => bail!("{} took longer than {} s and was ended", name(command), limit.as_secs()),
    }
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} failed ({status}); its own output is above", name(command));
    }
    Ok(())
}

/// Runs a command and returns its output.
///
/// # Errors
/// When it can't be run or fails; the text ends with the last line that it wrote to stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        bail!("{} failed: {}", name(command), stderr.trim().lines().last().unwrap_or("it said nothing"));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Runs a command silently and returns whether it succeeded in time; otherwise it is ended.
pub fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let Ok(mut child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return false;
    };
    matches!(wait(&mut child, limit), Ok(Some(status)) if status.success())
}

/// Waits for a program to end. A program that takes too long is first requested to end, so that it can end its own
/// children, and then killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    if let Some(status) = ended_within(child, limit)? {
        return Ok(Some(status));
    }
    let asked = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).stderr(Stdio::null()).status();
    if asked.is_ok_and(|status| status.success()) && ended_within(child, GRACE)?.is_some() {
        return Ok(None);
    }
    // Both fail only when the child is already gone, which is the goal.
    let _ = child.kill();
    let _ = child.wait();
    Ok(None)
}

fn ended_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Returns whether a program can be run.
pub fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn name(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    if let Some(file) = Path::new(&words[0]).file_name() {
        words[0] = file.to_string_lossy().into_owned();
    }
    words.extend(command.get_args().take(2).map(|word| word.to_string_lossy().into_owned()));
    format!("`{}`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended() {
        let start = Instant::now();
        let error = run_within(&mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        assert!(start.elapsed() < GRACE, "{:?}", start.elapsed());
    }
}
