//! Each transition of a workspace calls the policies of its hooks, whatever causes it: a command, the service, a
//! sweep, or the recovery after a crash.

use std::collections::BTreeSet;

use wharf::hooks::{Hook, Subject};

use crate::service::serve::Serving;
use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::{Sandbox, until};

/// A script with every hook, which changes nothing.
const EVERY: &str = "
fn select_image(ctx) { }
fn security_profile(ctx) { }
fn pre_create(ctx) { }
fn post_start(ctx) { }
fn pre_exec(ctx) { }
fn pre_stop(ctx) { }
fn event(ctx) { }
fn cleanup(ctx) {
    for c in ctx.candidates {
        if c.kind == \"workspace\" && c.labels.contains(\"sweep\") {
            if c.state == \"running\" { ctx.stop(c.id, \"asked\"); } else { ctx.remove(c.id, \"asked\"); }
        }
    }
}
";

const CREATE: [&str; 4] = ["select-image", "security-profile", "pre-create", "post-start"];

/// Reports the hooks that ran since the last query.
struct Watch<'a> {
    sandbox: &'a Sandbox,
    seen: BTreeSet<String>,
}

impl<'a> Watch<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let mut watch = Self { sandbox, seen: BTreeSet::new() };
        watch.new_ones();
        watch
    }

    /// Returns them in the order of the records; `pre-stop` with its verb.
    fn new_ones(&mut self) -> Vec<String> {
        let store = self.sandbox.store();
        let mut all: Vec<_> =
            Hook::ALL.into_iter().flat_map(|hook| store.decisions_at(hook, 10_000).unwrap()).collect();
        all.sort_by_key(|decision| decision.id);
        let fresh = all.into_iter().filter(|decision| self.seen.insert(decision.id.to_string()));
        fresh
            .map(|decision| match &decision.input.subject {
                Subject::Stop { verb } => format!("{} {verb}", decision.hook),
                _ => decision.hook.to_string(),
            })
            .collect()
    }

    /// Runs a command and returns the hooks that ran.
    #[track_caller]
    fn of(&mut self, args: &[&str]) -> Vec<String> {
        let output = self.sandbox.run(args);
        assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
        self.new_ones()
    }
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("every.rhai", EVERY);
    sandbox
}

#[test]
fn every_command_that_changes_a_workspace_asks_the_policies_of_its_hooks() {
    let sandbox = sandbox();
    let mut watch = Watch::new(&sandbox);
    sandbox.write("file", "x");
    let file = sandbox.path("file").display().to_string();
    let trap = "trap exit TERM; while :; do sleep 0.1; done";
    let cases: &[(&[&str], &[&str])] = &[
        (&["up", "--image", BASE, "--", "sh", "-c", trap], &CREATE),
        // It already runs: its creation is decided again, and nothing starts.
        (&["up", "--image", BASE, "--", "sh", "-c", trap], &CREATE[..3]),
        (&["exec", "--", "true"], &["pre-exec"]),
        (&["exec", "-d", "--", "true"], &["pre-exec"]),
        (&["cp", &file, "project:/tmp/"], &["pre-exec"]),
        (&["cp", "project:/tmp/file", &file], &["pre-exec"]),
        (&["pause"], &[]),
        (&["unpause"], &[]),
        (&["update", "--memory", "100MiB"], &CREATE[..3]),
        (&["restart"], &["pre-stop restart", "post-start"]),
        (&["stop"], &["pre-stop stop"]),
        (&["stop"], &[]),
        (&["start"], &["post-start"]),
        (&["kill"], &["pre-stop kill"]),
        (&["up", "--image", BASE, "--memory", "100MiB", "--", "sh", "-c", trap], &CREATE),
        (&["kill", "--signal", "WINCH"], &[]),
        (&["snapshot", "create", "project", "--name", "s"], &[]),
        (&["snapshot", "restore", "PROJECT/s", "--as", "again"], &CREATE),
        (&["rm", "--force", "again"], &["pre-stop remove"]),
        (
            &["up", "--image", BASE, "--recreate", "-e", "A=1", "--", "sh", "-c", trap],
            &["select-image", "security-profile", "pre-create", "pre-stop remove", "post-start"],
        ),
        (&["sidecar", "add", "db", "--image", BASE, "--", "sh", "-c", trap], &CREATE),
        (&["restart"], &["pre-stop restart", "pre-stop restart", "post-start", "post-start"]),
        (&["stop"], &["pre-stop stop", "pre-stop stop"]),
        (&["start"], &["post-start", "post-start"]),
        (&["sidecar", "rm", "db"], &["pre-stop remove"]),
        (&["down"], &["pre-stop remove"]),
    ];
    let snapshot = format!("{}/s", sandbox.id());
    for (args, hooks) in cases {
        let args: Vec<&str> = args.iter().map(|word| if *word == "PROJECT/s" { &*snapshot } else { word }).collect();
        assert_eq!(watch.of(&args), *hooks, "{args:?}");
    }
}

#[test]
fn commands_of_a_devcontainer_and_a_recreation_that_fails_ask_too() {
    let sandbox = sandbox();
    let mut watch = Watch::new(&sandbox);
    sandbox.write(
        "project/.devcontainer/devcontainer.json",
        format!("{{ \"image\": \"{BASE}\", \"postCreateCommand\": \"true\", \"postStartCommand\": \"true\" }}"),
    );
    let with_commands = [&CREATE[..], &["pre-exec", "pre-exec"]].concat();
    assert_eq!(watch.of(&["up"]), with_commands);
    // The port is taken, so the new container does not start, and the old one is restarted.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("127.0.0.1:{}:80", taken.local_addr().unwrap().port());
    assert_ne!(sandbox.run(&["up", "--recreate", "-p", &port]).code, 0);
    let hooks = ["select-image", "security-profile", "pre-create", "pre-stop remove", "post-start", "pre-exec"];
    assert_eq!(watch.new_ones(), hooks);
    assert_eq!(sandbox.sh("echo works"), "works\n");
}

#[test]
fn sweeps_ask_at_cleanup_and_before_each_stop_and_removal() {
    let sandbox = sandbox();
    sandbox.json(&["up", "--image", BASE, "--label", "sweep=yes"]);
    let mut watch = Watch::new(&sandbox);
    assert_eq!(watch.of(&["cleanup", "--dry-run"]), [""; 0], "a question is no decision");
    assert_eq!(watch.of(&["cleanup", "--no-grace"]), ["cleanup", "pre-stop stop"]);
    assert_eq!(watch.of(&["cleanup", "--no-grace"]), ["cleanup", "pre-stop remove"]);
    sandbox.assert_nothing_left();
}

#[test]
fn what_the_service_does_by_itself_asks_too() {
    let sandbox = sandbox();
    sandbox.append_config(
        "[restart]\nfailed = true\nbackoff = \"200ms..1s\"\n[idle]\nafter = \"2s\"\ninterval = \"200ms\"",
    );
    let serving = Serving::start(&sandbox, &[]);
    let all = |watch: &mut Watch, into: &mut Vec<String>| into.extend(watch.new_ones());

    let mut watch = Watch::new(&sandbox);
    let up = sandbox.json(&["up", "--image", BASE, "--", "sh", "-c", "sleep 600"]);
    let container = up["container_id"].as_str().unwrap();
    let mut hooks = Vec::new();
    until("it is stopped as idle, with the hook before a stop", || {
        all(&mut watch, &mut hooks);
        hooks.iter().any(|hook| hook.starts_with("pre-stop"))
    });
    assert!(hooks.iter().any(|hook| hook == "event"), "{hooks:?}");
    until("it has ended", || sandbox.json(&["ls"])[0]["state"] == "exited");

    // The next command resumes it: a start, then the command.
    watch.new_ones();
    assert_eq!(sandbox.sh("echo works"), "works\n");
    let mut hooks = watch.new_ones();
    hooks.retain(|hook| hook != "event");
    assert_eq!(hooks, ["post-start", "pre-exec"]);

    // Recovery from a failure: a start.
    sandbox.json(&["lease", "1h"]);
    watch.new_ones();
    let pid = engine::inspect(container)["State"]["Pid"].as_u64().unwrap();
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let mut hooks = Vec::new();
    until("it is restarted, with the hook after a start", || {
        all(&mut watch, &mut hooks);
        hooks.iter().any(|hook| hook == "post-start")
    });
    assert!(hooks.iter().any(|hook| hook == "event"), "{hooks:?}");
    serving.end();
}

#[test]
fn a_time_to_live_that_is_over_asks_before_the_stop() {
    let sandbox = sandbox();
    let serving = Serving::start(&sandbox, &[]);
    let mut watch = Watch::new(&sandbox);
    sandbox.json(&["up", "--image", BASE, "--ttl", "1s"]);
    let mut hooks = Vec::new();
    until("it is stopped", || {
        hooks.extend(watch.new_ones());
        hooks.iter().any(|hook| hook.starts_with("pre-stop"))
    });
    until("it has ended", || sandbox.json(&["ls"])[0]["state"] != "running");
    serving.end();
}
