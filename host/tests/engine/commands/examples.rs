//! The examples of the library, as a reader runs them.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::service::remote::both_ways;
use crate::support::sandbox::Sandbox;

/// The program of `examples/`, which cargo builds beside the tests.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/library");
    assert!(program.exists(), "{}: run 'cargo build -p wharf --example library'", program.display());
    program
}

fn run(sandbox: &Sandbox, example: &str) -> (bool, String) {
    // With the environment of a command in this sandbox.
    let wharf = sandbox.command(&[]);
    let mut command = Command::new(library());
    command.arg(example).arg(sandbox.project()).env_clear();
    for (name, value) in wharf.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.success(), text)
}

#[track_caller]
fn told(sandbox: &Sandbox, example: &str) -> String {
    let (done, text) = run(sandbox, example);
    assert!(done, "{example}: {text}");
    text
}

#[test]
fn the_example_exec_runs_commands_in_a_workspace_and_leaves_nothing() {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    both_ways(|sandbox| {
        let text = told(sandbox, "exec");
        assert!(text.contains(&format!("kernel: {kernel}")), "{text}");
        assert!(text.contains("3\nExited(0)\nTimedOut\n"), "{text}");
        sandbox.assert_nothing_left();
    });
}

#[test]
fn the_example_logs_follows_until_a_line_matches() {
    both_ways(|sandbox| {
        let text = told(sandbox, "logs");
        assert!(text.contains("line 1\nline 2\nline 3\nline 4\nline 5\n"), "{text}");
        sandbox.assert_nothing_left();
    });
}

#[test]
fn the_example_plan_names_owners_and_creates_nothing() {
    let sandbox = Sandbox::new();
    let text = told(&sandbox, "plan");
    assert!(text.contains("resources.pids: request\n"), "{text}");
    assert!(text.contains("select-image image-selector: "), "{text}");
    sandbox.assert_nothing_left();
    sandbox.script("never.rhai", "fn pre_create(ctx) { ctx.deny(\"never\", \"not on Sundays\"); }");
    assert!(told(&sandbox, "plan").contains("denied: not on Sundays\n"));
    let (done, text) = run(&sandbox, "exec");
    assert!(!done && text.contains("not on Sundays"), "{text}");
    sandbox.assert_nothing_left();
}

#[test]
fn the_example_events_prints_the_life_of_a_workspace() {
    both_ways(|sandbox| {
        let text = told(sandbox, "events");
        for happening in ["Created", "Started", "Exited", "Removed"] {
            assert!(text.contains(happening), "{happening} in {text}");
        }
        sandbox.assert_nothing_left();
    });
}

#[test]
fn the_examples_script_and_policy_decide_without_an_engine() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DOCKER_HOST", "unix:///nowhere.sock");
    assert_eq!(told(&sandbox, "script"), "root: denied, commands run as the user of the workspace\nnode: pass\n");
    let text = told(&sandbox, "policy");
    assert!(text.contains("labels.team.project = \"shop\" (labels)\n"), "{text}");
    assert!(text.contains("resources.pids = 256 (few-processes)\n"), "{text}");
    let (done, text) = run(&sandbox, "nothing");
    assert!(!done && text.contains("usage: library EXAMPLE"), "{text}");
}

#[test]
fn a_file_that_others_can_change_is_refused_by_the_library_too() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    let file = sandbox.path("config/wharf.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let (done, text) = run(&sandbox, "plan");
    assert!(!done && text.contains("wharf.toml"), "{text}");
}
