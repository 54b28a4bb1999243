//! Every command that a service carries out: its errors about missing objects equal those of the standalone command.

use std::collections::BTreeSet;

use super::remote::Both;

/// A failing call of each command, with a missing object or an invalid value.
const CALLS: [&[&str]; 62] = [
    &["up", "/no/such/folder"],
    &["up", "--image", "a", "--devcontainer", "none"],
    &["up", "--publish", "1:2:3:4"],
    &["up", "--mount", "/a"],
    &["up", "--tmpfs", "/tmp:much"],
    &["up", "--ulimit", "nofile"],
    &["up", "--health-retries", "3"],
    &["plan", "/no/such/folder"],
    &["plan", "--diff=nowhere"],
    &["plan", "--diff"],
    &["why", "nowhere"],
    &["why", "nowhere", "image"],
    &["why"],
    &["wait", "nowhere"],
    &["wait", "--exit-code"],
    &["inspect", "nowhere"],
    &["exec", "nowhere", "--", "true"],
    &["exec", "--detach", "nowhere", "--", "true"],
    &["shell", "nowhere"],
    &["logs", "nowhere"],
    &["logs", "nowhere", "--grep", "("],
    &["events", "nowhere", "--until", "0s"],
    &["stats", "nowhere"],
    &["top", "nowhere"],
    &["metrics", "nowhere"],
    &["metrics", "--since", "0s"],
    &["stop", "nowhere"],
    &["start", "nowhere"],
    &["restart", "nowhere"],
    &["pause", "nowhere"],
    &["unpause", "nowhere"],
    &["kill", "nowhere"],
    &["update", "nowhere", "--memory", "1GiB"],
    &["rm", "nowhere"],
    &["down", "nowhere"],
    &["cleanup", "undo", "nowhere"],
    &["cleanup", "allow", "nowhere"],
    &["idle", "nowhere"],
    &["idle", "why", "nowhere"],
    &["lease", "nowhere"],
    &["lease", "nowhere", "1h"],
    &["lease", "nowhere", "--release"],
    &["image", "rm", "no-such:1"],
    &["image", "build", "/no/such/folder"],
    &["snapshot", "create", "nowhere"],
    &["snapshot", "ls", "nowhere"],
    &["snapshot", "restore", "nothing"],
    &["snapshot", "rm", "nothing"],
    &["sidecar", "add", "db", "-W", "nowhere", "--image", "a"],
    &["sidecar", "add", "db", "-W", "nowhere"],
    &["sidecar", "ls", "nowhere"],
    &["sidecar", "rm", "db", "nowhere"],
    &["secret", "ls", "nowhere"],
    &["secret", "rm", "token", "nowhere"],
    &["volume", "rm", "wharf-nothing"],
    &["cp", "nowhere:/etc/passwd", "here"],
    &["cp", "README.md", "nowhere:/tmp"],
    &["audit", "--workspace", "nowhere"],
    &["audit", "show", "4711"],
    &["policy", "diff", "nothing"],
    &["policy", "replay", "--decision", "4711"],
    &["policy", "replay", "--workspace", "nowhere"],
];

#[test]
fn every_command_refuses_what_does_not_exist_in_the_same_words_with_and_without_a_service() {
    let both = Both::new();
    std::fs::write(both.sandbox.path("project/README.md"), "# here").unwrap();
    for args in CALLS {
        for json in [false, true] {
            let mut all = if json { vec!["--json"] } else { Vec::new() };
            all.extend(args);
            let refused = both.same(&all);
            assert_ne!(refused.code, 0, "{all:?}");
        }
    }
}

#[test]
fn the_calls_of_this_test_are_those_of_all_commands_that_a_service_carries_out() {
    let page = include_str!("../../../../docs/service.md");
    let row = page.lines().find(|line| line.starts_with("| the service does it |")).unwrap();
    let named: BTreeSet<&str> = row.split('`').skip(1).step_by(2).map(|name| name.split(' ').next().unwrap()).collect();
    let called: BTreeSet<&str> = CALLS.iter().map(|call| call[0]).collect();
    let others: BTreeSet<&str> = ["ls", "show", "diff", "replay", "reload"].into();
    assert_eq!(named.difference(&others).copied().collect::<BTreeSet<_>>(), called);
}

#[test]
fn ctrl_c_ends_a_command_that_waits_for_a_service() {
    let both = Both::new();
    both.sandbox.up();
    let args = ["--server", &both.server, "wait", "--for", "exited", "--timeout", "20s"];
    let mut waiting = both.sandbox.spawn(&args);
    std::thread::sleep(std::time::Duration::from_secs(1));
    waiting.signal("INT");
    let ended = waiting.finish();
    // Ended by the signal itself, like any program.
    assert_eq!(ended.code, 1002, "{}", ended.stderr);
}
