//! `cargo xtask smoke`: the main verbs of `wharf` on any engine that `DOCKER_HOST` names, one line each. It is for
//! checking engines other than that of the tests, for instance Podman's socket:
//!
//! ```text
//! podman system service --time 0 unix:///tmp/podman.sock &
//! DOCKER_HOST=unix:///tmp/podman.sock cargo xtask smoke
//! ```
//!
//! All files are below `target/smoke`, with a separate state, and are removed afterwards.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::engine::Engine;
use crate::stage::Stages;
use crate::{base_image, command, guest};

/// The time limit of a build.
const BUILD: Duration = Duration::from_secs(3600);
/// A command that keeps a workspace up and ends on request.
const STAY: &str = "trap exit TERM; echo begun; while :; do sleep 0.1; done";

/// A verb, its arguments, and the expected result: an exit code, and words of its output.
type Case = (&'static str, &'static [&'static str], i32, &'static str);

const CASES: &[Case] = &[
    ("up", &["up", "--image", base_image::NAME, "--", "sh", "-c", STAY], 0, "is running"),
    ("up, again", &["up", "--image", base_image::NAME, "--", "sh", "-c", STAY], 0, "is running"),
    ("ls", &["ls"], 0, "smoke"),
    ("inspect", &["--json", "inspect"], 0, "\"running\""),
    ("exec", &["exec", "--", "echo", "works"], 0, "works"),
    ("exec, its exit code", &["exec", "--", "sh", "-c", "exit 7"], 7, ""),
    ("exec, no such command", &["exec", "--", "no-such-command"], 127, ""),
    ("exec, with a time limit", &["exec", "--timeout", "1s", "--", "sleep", "60"], 124, ""),
    ("logs", &["logs"], 0, "begun"),
    ("stats", &["stats", "--no-stream"], 0, "smoke"),
    ("cp, in", &["cp", "Cargo.toml", "smoke:/tmp/"], 0, ""),
    ("cp, out", &["cp", "smoke:/tmp/Cargo.toml", "copy"], 0, ""),
    ("pause", &["pause"], 0, ""),
    ("unpause", &["unpause"], 0, ""),
    ("update", &["update", "--memory", "256MiB"], 0, ""),
    ("restart", &["restart"], 0, ""),
    ("stop", &["stop"], 0, ""),
    ("wait", &["wait", "--for", "exited", "--timeout", "10s"], 0, ""),
    ("start", &["start"], 0, ""),
    ("sidecar", &["sidecar", "add", "db", "--image", base_image::NAME, "--", "sh", "-c", STAY], 0, ""),
    ("snapshot create", &["snapshot", "create", "smoke", "--name", "s"], 0, ""),
    ("snapshot rm", &["snapshot", "rm", "SNAPSHOT"], 0, ""),
    ("events", &["events", "--since", "10m", "--until", "0s"], 0, ""),
    (
        "recreate",
        &["up", "--image", base_image::NAME, "--recreate", "-e", "A=1", "--", "sh", "-c", STAY],
        0,
        "is running",
    ),
    ("kill", &["kill"], 0, ""),
    ("cleanup", &["cleanup", "--dry-run"], 0, ""),
    ("image ls", &["image", "ls"], 0, ""),
    ("why", &["why", "smoke", "image"], 0, ""),
    ("down", &["down"], 0, ""),
];

/// Runs every case on the engine of `DOCKER_HOST` or of the Docker context.
///
/// # Errors
/// When a part cannot be set up, or a verb fails although the engine does not report that it lacks the feature.
pub fn run(root: &Path) -> Result<()> {
    let mut stages = Stages::new();
    let engine = Engine::ready(root, false)?;
    base_image::ready(&engine)?;
    guest::build(root, guest::Source::Any)?;
    stages.run("build wharf", || {
        let mut cargo = command::native_cargo(root);
        cargo.args(["build", "--locked", "--package", "wharf", "--bin", "wharf"]);
        command::run_within(&mut cargo, BUILD)
    })?;
    let folder = root.join("target/smoke");
    let project = folder.join("smoke");
    clear(root, &folder)?;
    fs::create_dir_all(&project).context("cannot make the folders")?;
    fs::copy(root.join("Cargo.toml"), project.join("Cargo.toml")).context("cannot copy a file")?;
    println!("\n| verb | on {engine} |\n| --- | --- |");
    let mut failed = 0;
    for (name, args, code, words) in CASES {
        let output =
            wharf(root, &folder).args(snapshot_named(root, &folder, args)?).output().context("cannot run wharf")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let right = output.status.code() == Some(*code) && out.contains(words);
        let lacks = err.contains("cannot change the limits") || err.contains("does not support");
        let said = match (right, lacks) {
            (true, _) => "works".to_owned(),
            (false, true) => format!("not there: {}", err.lines().next().unwrap_or_default()),
            (false, false) => {
                failed += 1;
                format!("FAILS ({}): {}", output.status, err.trim().replace('\n', " "))
            }
        };
        println!("| {name} | {said} |");
    }
    clear(root, &folder)?;
    if failed > 0 {
        bail!("{failed} of {} verbs fail", CASES.len());
    }
    Ok(())
}

/// Replaces the name of a snapshot, which begins with its workspace's ID; only the store knows that ID.
fn snapshot_named(root: &Path, folder: &Path, args: &[&str]) -> Result<Vec<String>> {
    let mut args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    for word in &mut args {
        if word == "SNAPSHOT" {
            let listed = command::output(wharf(root, folder).args(["--json", "snapshot", "ls"]))?;
            let listed: serde_json::Value = serde_json::from_str(&listed)?;
            let name = listed.get(0).and_then(|one| one.get("name")?.as_str()).unwrap_or_default();
            name.clone_into(word);
        }
    }
    Ok(args)
}

fn wharf(root: &Path, folder: &Path) -> Command {
    let mut command = Command::new(root.join("target/debug/wharf"));
    command
        .current_dir(folder.join("smoke"))
        .stdin(Stdio::null())
        .env("WHARF_STATE_DIR", folder.join("state"))
        .env("WHARF_CONFIG", "");
    command
}

fn clear(root: &Path, folder: &Path) -> Result<()> {
    if folder.join("state").exists() {
        command::output(wharf(root, folder).args(["rm", "--all", "--force", "--volumes"]))?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).context("cannot clear target/smoke")?;
    }
    Ok(())
}
