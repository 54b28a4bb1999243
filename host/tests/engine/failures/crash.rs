//! `kill -9` and Ctrl-C at any moment: started work is finished or undone, and no live object is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf::workspace::LABEL_WORKSPACE;

use crate::support::engine_api::{self as engine, BASE, label};
use crate::support::registry::{Registry, has_image};
use crate::support::sandbox::{Sandbox, until};

/// Returns whether the engine's objects of this installation match the store, with nothing half done.
pub fn consistent(sandbox: &Sandbox) -> bool {
    let known: BTreeSet<String> =
        sandbox.store().workspaces().unwrap().iter().map(|workspace| workspace.container_id.clone()).collect();
    let there: BTreeSet<String> =
        sandbox.own_containers().iter().map(|container| container["Id"].as_str().unwrap().to_owned()).collect();
    // Exactly the networks that containers are on, according to their labels.
    let network = |container: &Value| Some(label(container, "wharf.network")?.split_once('@')?.1.to_owned());
    let needed: BTreeSet<String> = sandbox.own_containers().iter().filter_map(network).collect();
    let made: BTreeSet<String> =
        sandbox.own_networks().iter().map(|network| network["Name"].as_str().unwrap().to_owned()).collect();
    // An undone entry may stay open for a while, in case the engine is late; other entries may not.
    let undone = sandbox.store().open_entries().unwrap().iter().all(|entry| entry.undone.is_some());
    known == there && made == needed && undone
}

/// Checks that the next command repairs the state. The engine may still carry out requests of the killed process, so
/// this repeats the check until it has.
#[track_caller]
fn assert_recovers(sandbox: &Sandbox, when: &str) {
    sandbox.json(&["ls"]);
    let begin = Instant::now();
    while !consistent(sandbox) {
        let left = (sandbox.own_containers(), sandbox.own_networks(), sandbox.store().open_entries());
        assert!(begin.elapsed() < Duration::from_secs(20), "{when}: left are {left:?}");
        std::thread::sleep(Duration::from_millis(100));
        sandbox.json(&["ls"]);
    }
}

/// Returns how long a command takes if it is not killed.
fn duration_of(sandbox: &Sandbox, args: &[&str]) -> Duration {
    let begin = Instant::now();
    sandbox.run(args).ok();
    begin.elapsed()
}

/// Kills a command at points spread over its whole duration. `prepare` runs before each kill.
#[track_caller]
fn kill_at_many_points(
    sandbox: &Sandbox,
    args: &[&str],
    points: impl Iterator<Item = u32>,
    prepare: impl Fn(&Sandbox),
    check: impl Fn(&Sandbox, &str),
) {
    prepare(sandbox);
    let mut whole = duration_of(sandbox, args);
    for percent in points {
        loop {
            prepare(sandbox);
            let delay = whole * percent / 100;
            let mut run = sandbox.spawn(args);
            std::thread::sleep(delay);
            run.child().kill().unwrap();
            let killed = run.finish().code == 1009;
            let when = format!("{args:?} killed after {delay:?} of {whole:?}");
            assert_recovers(sandbox, &when);
            check(sandbox, &when);
            if killed {
                break;
            }
            // The command finished first: the machine is less busy than when the duration was measured.
            whole = whole * 4 / 5;
        }
    }
    sandbox.store().verify(None).unwrap().whole().unwrap();
}

/// Kills `up` at points of its duration, beside a neighbour that must not be affected.
#[track_caller]
fn kill_up(points: impl Iterator<Item = u32>) {
    let sandbox = Sandbox::new();
    let neighbour = sandbox.run_in(&sandbox.folder("neighbour"), &["--json", "up"]).ok().json();
    let neighbour = neighbour["container_id"].as_str().unwrap();
    let started = engine::inspect(neighbour)["State"]["StartedAt"].take();
    let gone = |sandbox: &Sandbox| drop(sandbox.run(&["rm", "--force", "project"]));
    kill_at_many_points(&sandbox, &["up"], points, gone, |sandbox, when| {
        let up = sandbox.run(&["--json", "up"]);
        assert_eq!(up.code, 0, "{when}: {}", up.stderr);
        assert_eq!(up.json()["state"], "running", "{when}");
        assert_eq!(engine::inspect(neighbour)["State"]["StartedAt"], started, "{when}: the neighbour was touched");
    });
}

#[test]
fn an_up_that_is_killed_while_it_decides_leaves_no_orphan_and_can_be_done_again() {
    kill_up((0..36).step_by(4));
}

#[test]
fn an_up_that_is_killed_while_it_creates_leaves_no_orphan_and_can_be_done_again() {
    kill_up((36..68).step_by(4));
}

#[test]
fn an_up_that_is_killed_while_it_starts_leaves_no_orphan_and_can_be_done_again() {
    kill_up((68..100).step_by(4));
}

#[test]
fn the_first_up_of_an_installation_may_be_killed_too() {
    for part in 0..8 {
        let sandbox = Sandbox::new();
        let mut run = sandbox.spawn(&["up"]);
        std::thread::sleep(Duration::from_millis(60 * part));
        run.child().kill().unwrap();
        run.finish();
        assert_recovers(&sandbox, &format!("the first up killed after {} ms", 60 * part));
        sandbox.up();
    }
}

#[test]
fn a_recreate_that_is_killed_leaves_the_old_one_or_the_new_one_or_none() {
    let sandbox = Sandbox::new();
    let args = ["up", "--recreate", "--memory", "200MiB"];
    let old = |sandbox: &Sandbox| drop(sandbox.run(&["up", "--recreate"]).ok());
    kill_at_many_points(&sandbox, &args, (0..100).step_by(12), old, |sandbox, when| {
        let up = sandbox.run(&args);
        assert_eq!(up.code, 0, "{when}: {}", up.stderr);
        assert_eq!(sandbox.own_containers().len(), 1, "{when}");
    });
}

#[test]
fn a_down_that_is_killed_is_finished_or_did_not_begin() {
    let sandbox = Sandbox::new();
    let up = |sandbox: &Sandbox| drop(sandbox.up());
    kill_at_many_points(&sandbox, &["down"], (0..100).step_by(9), up, |sandbox, when| {
        let listed = sandbox.json(&["ls"]);
        for workspace in listed.as_array().unwrap() {
            assert_ne!(workspace["state"], "missing", "{when}: {workspace}");
        }
    });
}

#[test]
fn a_removal_with_volumes_that_is_killed_is_finished_with_the_volumes() {
    let sandbox = Sandbox::new();
    let [first, second, other] = ["a", "b", "c"].map(|name| format!("{name}-{}", sandbox.name()));
    sandbox.json(&["up", "--mount", &format!("{first}:/data")]);
    let mount = format!("{second}:/data");
    sandbox.json(&["sidecar", "add", "db", "--image", BASE, "--mount", &mount, "--", "sleep", "600"]);
    sandbox.json(&["up", "--name", "other", "--mount", &format!("{other}:/data")]);
    // Wharf waits for the removal of the first volume until it is killed.
    let engine = crate::support::fake_daemon::relay(&sandbox.path("relay.sock"), |request| {
        if request.starts_with("DELETE") && request.contains("/volumes/") {
            std::thread::sleep(Duration::from_secs(3600));
        }
        true
    });
    let mut run = sandbox.spawn(&["--engine", &engine, "down", "--volumes", "project"]);
    until("the containers are gone", || sandbox.store().workspaces().unwrap().len() == 1);
    // A short delay, after which it is certainly waiting.
    std::thread::sleep(Duration::from_millis(500));
    run.child().kill().unwrap();
    run.finish();
    sandbox.json(&["ls"]);
    let left: Vec<String> = engine::volumes()
        .iter()
        .filter(|volume| volume["Labels"]["wharf.host"] == sandbox.host().as_str())
        .map(|volume| volume["Name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(left, [other]);
    assert!(consistent(&sandbox));
}

#[test]
fn what_a_living_process_is_making_is_not_taken_for_a_leftover() {
    let sandbox = Sandbox::new();
    let registry = Registry::stalling();
    let mut up = sandbox.spawn(&["--json", "up", "--image", &registry.reference, "--", "no-such-command"]);
    until("the pull has begun", || registry.layer_requests() > 0);
    assert_eq!(sandbox.store().open_entries().unwrap().len(), 1);
    for _ in 0..3 {
        assert_eq!(sandbox.json(&["ls"]), json!([]));
    }
    let other = sandbox.run_in(&sandbox.folder("other"), &["--json", "up"]).ok();
    assert_eq!(other.json()["state"], "running");
    assert_eq!(sandbox.store().open_entries().unwrap().len(), 1, "the pull still goes on");
    assert!(up.child().try_wait().unwrap().is_none());
    registry.unstall();
    // The image contains no command at all, so this fails after the pull, and is undone.
    let output = up.finish();
    assert_eq!((output.code, output.error()["code"].as_str()), (1, Some("command-not-found")), "{}", output.stderr);
    assert!(has_image(&registry.reference));
    assert_eq!(sandbox.own_containers().len(), 1);
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
}

#[test]
fn control_c_during_a_slow_pull_undoes_everything() {
    for signal in ["INT", "TERM"] {
        let sandbox = Sandbox::new();
        let registry = Registry::stalling();
        let mut up = sandbox.spawn(&["--json", "up", "--image", &registry.reference]);
        until("the pull has begun", || registry.layer_requests() > 0);
        up.signal(signal);
        let output = up.finish();
        assert_eq!((output.code, output.error()["code"].as_str()), (130, Some("interrupted")), "{}", output.stderr);
        assert!(consistent(&sandbox));
        sandbox.assert_nothing_left();
        assert!(!has_image(&registry.reference));
    }
}

#[test]
fn a_kill_during_a_slow_pull_is_undone_by_the_next_command() {
    let sandbox = Sandbox::new();
    let registry = Registry::stalling();
    let mut up = sandbox.spawn(&["up", "--image", &registry.reference]);
    until("the pull has begun", || registry.layer_requests() > 0);
    up.child().kill().unwrap();
    up.finish();
    let ls = sandbox.run(&["ls"]).ok();
    assert!(ls.stderr.contains("a dead process had started"), "{}", ls.stderr);
    assert!(consistent(&sandbox));
    sandbox.up();
}

#[test]
fn an_engine_that_goes_away_in_the_middle_is_said_and_what_was_begun_is_undone_later() {
    let sandbox = Sandbox::new();
    // A relay to the engine that is cut when the container is to be started.
    let relay = crate::support::fake_daemon::relay(&sandbox.path("relay.sock"), |request| !request.contains("/start"));
    let failed = sandbox.run(&["--json", "--engine", &relay, "up"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let error = failed.error();
    assert!(error["message"].as_str().unwrap().contains("connection"), "{error}");
    assert_recovers(&sandbox, "the engine went away");
    let mine: Vec<Value> =
        engine::containers().into_iter().filter(|c| label(c, LABEL_WORKSPACE) == Some(&sandbox.id())).collect();
    assert_eq!(mine, Vec::<Value>::new());
    sandbox.up();
}
