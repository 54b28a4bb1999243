//! Workspaces that the service stops by itself: idle and expired ones; and monitored disk limits.

use serde_json::{Value, json};
use wharf::store::EventQuery;
use wharf::workspace::Happening;

use super::serve::Serving;
use crate::support::sandbox::{Sandbox, until};

fn signal<'a>(why: &'a Value, kind: &str) -> &'a Value {
    let signals = why["signals"].as_array().unwrap();
    signals.iter().find(|signal| signal["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {why}"))
}

fn count(sandbox: &Sandbox, what: Happening) -> usize {
    let events = sandbox.store().events(&EventQuery::default(), 1000).unwrap();
    events.iter().filter(|event| event.what == what).count()
}

#[test]
fn what_nobody_uses_is_stopped_and_the_next_command_starts_it_again() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_stop(ctx) { ctx.run([\"sh\", \"-c\", \"touch /workspace/bye\"]); }");
    sandbox.append_config("[idle]\nafter = \"1s\"\ninterval = \"200ms\"\n[engine]\nstop_timeout = \"1s\"\n");
    let up = sandbox.up();
    let sidecar = ["sidecar", "add", "db", "--image", crate::support::engine_api::BASE, "--", "sleep", "1000000"];
    let db = sandbox.json(&sidecar)["id"].as_str().unwrap().to_owned();
    let serving = Serving::start(&sandbox, &[]);
    let said = serving.lines.next();
    assert!(said.contains("stopped: not used since") && said.contains("idle.after is 1s"), "{said}");
    assert!(sandbox.path("project/bye").exists(), "the hook pre-stop ran");
    let state = |id: &str| sandbox.json(&["inspect", id])["state"].clone();
    until("it is stopped, with its sidecar", || state("project") == "exited" && state(&db) == "exited");
    let inspected = sandbox.json(&["inspect"]);
    assert_eq!(inspected["stopped"], "idle");
    assert!(inspected["notes"].to_string().contains("stopped by the service: not used since"), "{inspected}");
    assert!(sandbox.run(&["ls"]).ok().text().contains(", idle"));
    assert_eq!(count(&sandbox, Happening::Idle), 1);
    serving.end();

    assert_eq!(sandbox.run(&["exec", &db, "--", "echo", "again"]).ok().text(), "again\n");
    assert_eq!(sandbox.sh("echo again"), "again\n");
    let resumed = sandbox.json(&["inspect"]);
    assert_eq!((&resumed["state"], &resumed["stopped"]), (&json!("running"), &Value::Null));
    assert_eq!(resumed["container_id"], up["container_id"]);
    // A workspace that a user stopped stays stopped.
    sandbox.json(&["stop"]);
    assert_eq!(sandbox.run(&["exec", "--", "true"]).code, 125);
}

#[test]
fn every_sign_of_use_is_shown_and_a_lease_moves_the_end() {
    let sandbox = Sandbox::new();
    sandbox.config("[idle]\nafter = \"1h\"\n");
    sandbox.up();
    let why = sandbox.json(&["idle", "why"]);
    let kinds: Vec<_> = why["signals"].as_array().unwrap().iter().map(|signal| signal["kind"].clone()).collect();
    for kind in ["start", "exec", "sessions", "cpu", "network", "project"] {
        assert!(kinds.contains(&json!(kind)), "{kind} in {kinds:?}");
    }
    assert_eq!((&signal(&why, "cpu")["value"], &why["service"]), (&Value::Null, &json!(false)), "no value, and no 0");
    assert_eq!(signal(&why, "sessions")["value"], "0 running");
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let gap = time(&why["stops_at"]).duration_since(time(&why["active_at"]));
    assert_eq!(gap.as_secs(), 3600);

    sandbox.write("project/src/new.rs", "x");
    let why = sandbox.json(&["idle", "why"]);
    assert_eq!(signal(&why, "project")["value"], "src/new.rs");
    assert_eq!(why["active_at"], signal(&why, "project")["active_at"]);

    let mut session = sandbox.spawn(&["exec", "--", "sleep", "1000"]);
    until("the session is seen", || signal(&sandbox.json(&["idle", "why"]), "sessions")["value"] == "1 running");
    session.signal("KILL");

    let leased = sandbox.json(&["lease", "3h"]);
    let idle = sandbox.json(&["idle", "project"]);
    assert_eq!(idle[0]["stops_at"], leased["until"], "{idle}");
    assert!(sandbox.run(&["idle", "why"]).ok().text().contains("idle.after is 1h"));
    assert!(sandbox.run(&["idle"]).ok().text().contains(&sandbox.id()));
    assert_eq!(sandbox.json(&["lease", "project", "--release"])["until"], Value::Null);
    assert!(time(&sandbox.json(&["idle"])[0]["stops_at"]) < time(&leased["until"]));
    for bad in [&["lease", "project", "soon"][..], &["lease", "--release", "2h"], &["lease", "a", "b", "c"]] {
        assert_eq!(sandbox.run(bad).code, 2, "{bad:?}");
    }
    assert_eq!(sandbox.run(&["lease", "nope", "2h"]).code, 5);
}

#[test]
fn what_is_busy_or_leased_is_not_stopped() {
    let sandbox = Sandbox::new();
    sandbox.config("[idle]\nafter = \"2500ms\"\ninterval = \"200ms\"\ncpu = 10.0\n[engine]\nstop_timeout = \"1s\"\n");
    let busy = ["up", "--", "sh", "-c", "while ! test -e /tmp/rest; do :; done; while :; do sleep 1; done"];
    sandbox.json(&busy);
    let leased = sandbox.folder("leased");
    sandbox.run_in(&leased, &["up"]).ok();
    sandbox.run_in(&leased, &["lease", "1h"]).ok();
    let serving = Serving::start(&sandbox, &[]);
    let seen = || signal(&sandbox.json(&["idle", "why", "project"]), "cpu")["active_at"].is_string();
    until("its CPU time is seen", seen);
    let first = sandbox.json(&["idle", "why", "project"])["active_at"].clone();
    until("it is still used", || sandbox.json(&["idle", "why", "project"])["active_at"] != first);
    assert_eq!(count(&sandbox, Happening::Idle), 0);
    let container = sandbox.json(&["inspect", "project"])["container_id"].as_str().unwrap().to_owned();
    // Not with `wharf exec`, which itself counts as use.
    let body = json!({ "Cmd": ["touch", "/tmp/rest"] });
    let exec = crate::support::engine_api::post(&format!("/containers/{container}/exec"), &body).done().json();
    let start = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
    crate::support::engine_api::post(&start, &json!({ "Detach": true })).done();
    assert!(serving.lines.next().contains(&sandbox.id()), "then it rests");
    assert_eq!(sandbox.run_in(&leased, &["--json", "inspect"]).ok().json()["state"], "running");
    serving.end();
}

#[test]
fn a_workspace_is_stopped_when_its_time_to_live_is_over_and_a_start_gives_it_anew() {
    let sandbox = Sandbox::new();
    sandbox.config("[engine]\nstop_timeout = \"1s\"\n");
    let serving = Serving::start(&sandbox, &[]);
    let up = sandbox.json(&["up", "--ttl", "1500ms"]);
    assert_eq!(sandbox.json(&["plan", "--ttl", "1500ms"])["spec"]["time_to_live_ms"], 1500);
    let said = serving.lines.next();
    assert!(said.contains("its time to live of 1500ms is over"), "{said}");
    until("it is stopped", || sandbox.json(&["inspect"])["state"] == "exited");
    let inspected = sandbox.json(&["inspect"]);
    assert_eq!((&inspected["stopped"], &inspected["container_id"]), (&json!("expired"), &up["container_id"]));
    let (started, finished) = (inspected["started_at"].clone(), inspected["finished_at"].clone());
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(&finished).duration_since(time(&started)).as_millis() >= 1500);
    assert_eq!(sandbox.run(&["exec", "--", "true"]).code, 125, "its time was over, so a command does not start it");
    assert_eq!(sandbox.json(&["start"])["stopped"], Value::Null);
    assert!(serving.lines.next().contains("is over"));
    assert_eq!(count(&sandbox, Happening::Expired), 2);
    serving.end();
    assert_eq!(sandbox.run(&["plan", "--ttl", "0s"]).code, 2);
}

#[test]
fn a_disk_limit_that_the_engine_cannot_hold_is_watched_and_told_once() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn event(ctx) { if ctx.event.kind == \"threshold\" { ctx.note(\"told: \" + ctx.event.detail); } }",
    );
    sandbox.append_config("[disk]\ninterval = \"200ms\"\n");
    let up = sandbox.json(&["up", "--disk", "1MiB"]);
    let limit =
        crate::support::engine_api::inspect(up["container_id"].as_str().unwrap())["HostConfig"]["StorageOpt"].take();
    let inspected = sandbox.json(&["inspect"]);
    if limit.is_object() {
        assert_eq!(inspected["disk"]["mode"], "enforced");
        return;
    }
    assert_eq!((&inspected["disk"]["mode"], &inspected["disk"]["limit"]), (&json!("watched"), &json!(1 << 20)));
    assert_eq!(inspected["disk"]["used"], Value::Null, "nobody has measured it yet");
    assert!(sandbox.run(&["doctor"]).ok().text().contains("watched"));
    let serving = Serving::start(&sandbox, &[]);
    until("it is measured", || sandbox.json(&["inspect"])["disk"]["used"].is_string());
    sandbox.sh("dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null");
    let said = serving.lines.next();
    assert!(said.contains("over its disk limit"), "{said}");
    until("the policy is told", || {
        sandbox.json(&["inspect"])["notes"].to_string().contains("told: over its disk limit")
    });
    sandbox.sh("rm /big");
    until("it is below again", || {
        sandbox.json(&["inspect"])["disk"]["used"].as_str().is_some_and(|used| !used.starts_with('3'))
    });
    assert_eq!(count(&sandbox, Happening::Threshold), 1, "once, however often it was measured");
    sandbox.sh("dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null");
    assert!(serving.lines.next().contains("over its disk limit"), "each time that it goes over");
    serving.end();
}

#[test]
fn what_somebody_stopped_after_the_service_had_is_not_started_by_a_command() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.json(&["stop"]);
    let id = sandbox.id().parse().unwrap();
    let idle = |workspace: &mut wharf::store::Workspace| workspace.stopped = Some(wharf::workspace::Happening::Idle);
    sandbox.store().update_workspace(&id, idle).unwrap();
    assert_eq!(sandbox.run(&["exec", "--", "echo", "again"]).ok().text(), "again\n");
    sandbox.json(&["stop"]);
    sandbox.store().update_workspace(&id, idle).unwrap();
    sandbox.json(&["stop"]);
    let refused = sandbox.run(&["exec", "--", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("is exited"), "{}", refused.stderr);
}
