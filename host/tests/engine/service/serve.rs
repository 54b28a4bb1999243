//! `wharf serve`: states and history in the store, the hook `event`, restarts, and its own lifecycle.

use serde_json::{Value, json};
use wharf::store::EventQuery;
use wharf::workspace::{Happening, State};

use super::events::Lines;
use crate::support::engine_api as engine;
use crate::support::fake_daemon::Outage;
use crate::support::sandbox::{Running, Sandbox, until};

/// A service that is ready.
pub struct Serving {
    running: Running,
    /// The line in which it reported being ready.
    pub ready: String,
    pub lines: Lines,
}

impl Serving {
    #[track_caller]
    pub fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        let mut all = args.to_vec();
        all.push("serve");
        let mut running = sandbox.spawn(&all);
        let lines = Lines::of(&mut running);
        let ready = lines.next();
        assert!(ready.contains("wharf serve is ready"));
        Self { running, ready, lines }
    }

    #[track_caller]
    pub fn signal(&mut self, signal: &str) {
        self.running.signal(signal);
    }

    /// Returns its memory use in bytes.
    #[track_caller]
    pub fn memory(&mut self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }

    /// Kills it, as in a crash.
    #[track_caller]
    pub fn kill(self) {
        let mut running = self.running;
        running.signal("KILL");
        assert_eq!(running.finish().code, 1009);
    }

    #[track_caller]
    pub fn end(self) {
        assert_eq!(self.terminate(), "");
    }

    /// Ends it and returns its output on stderr.
    #[track_caller]
    pub fn terminate(mut self) -> String {
        self.running.signal("TERM");
        let ended = self.running.finish();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stderr
    }
}

fn whats(sandbox: &Sandbox) -> Vec<Happening> {
    sandbox.store().events(&EventQuery::default(), 1000).unwrap().iter().map(|event| event.what).collect()
}

#[test]
fn the_service_collects_what_workspaces_use() {
    let sandbox = Sandbox::new();
    sandbox.config("[metrics]\ninterval = \"1s\"");
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    let values = || sandbox.run(&["--json", "metrics"]).json();
    until("there are values", || values().as_array().is_some_and(|rows| !rows.is_empty()));
    assert!(values()[0]["memory_used"].as_f64().is_some_and(|bytes| bytes > 0.0), "{}", values());
    serving.end();
}

#[test]
fn the_store_follows_what_the_engine_does_and_a_new_service_catches_up() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    let up = sandbox.up();
    let container = up["container_id"].as_str().unwrap();
    let state = || sandbox.store().states().unwrap().into_iter().next();
    until("it is known to run", || state().is_some_and(|state| state.state == State::Running));
    let started = state().unwrap().started_at.unwrap();
    let said: jiff::Timestamp = up["started_at"].as_str().unwrap().parse().unwrap();
    assert!(started.duration_since(said).as_secs().abs() < 2, "{started} {said}");
    assert!(sandbox.json(&["ls"])[0]["started_at"].is_string(), "a list knows it from the service");
    // Only the engine reports changes by another client.
    engine::post(&format!("/containers/{container}/pause"), &Value::Null).done();
    until("it is known to be paused", || state().is_some_and(|state| state.state == State::Paused));
    engine::post(&format!("/containers/{container}/unpause"), &Value::Null).done();
    engine::post(&format!("/containers/{container}/kill?signal=KILL"), &Value::Null).done();
    until("it is known to have ended", || state().is_some_and(|state| state.exit_code == Some(137)));
    assert!(state().unwrap().end_requested && state().unwrap().finished_at.is_some());
    serving.end();

    // Without a service: the workspace ended and started, and another one was created.
    sandbox.json(&["start"]);
    sandbox.run_in(&sandbox.folder("other"), &["up"]).ok();
    let serving = Serving::start(&sandbox, &[]);
    until("both are known", || {
        let states = sandbox.store().states().unwrap();
        states.len() == 2 && states.iter().all(|state| state.state == State::Running)
    });
    let history = whats(&sandbox);
    assert_eq!(history.iter().filter(|what| **what == Happening::Started).count(), 3, "{history:?}");
    let told = sandbox.run(&["--json", "events", "--since", "10m", "--until", "0s"]).ok().text();
    assert_eq!(told.lines().count(), history.len(), "each once, from history and engine: {told}");
    sandbox.json(&["down"]);
    until("what is removed is forgotten", || sandbox.store().states().unwrap().len() == 1);
    serving.end();
}

#[test]
fn there_is_one_service_per_state_folder_and_doctor_knows_it() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(&["doctor"]).ok().text().contains("wharf serve is not running"));
    let mut serving = Serving::start(&sandbox, &[]);
    let pid = serving.running.pid();
    let second = sandbox.run(&["--json", "serve"]);
    assert_eq!((second.code, &second.error()["code"]), (1, &json!("service-runs")));
    assert!(second.error()["message"].as_str().unwrap().contains(&format!("process {pid}")), "{}", second.stderr);
    assert!(sandbox.run(&["doctor"]).ok().text().contains(&format!("wharf serve is running (process {pid}")));
    // A killed service leaves no obstacle.
    serving.running.signal("KILL");
    assert_eq!(serving.running.finish().code, 1009);
    assert!(sandbox.run(&["doctor"]).ok().text().contains("wharf serve is not running"));
    Serving::start(&sandbox, &[]).end();
}

#[test]
fn a_service_that_cannot_decide_does_not_begin() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn event(ctx) {");
    let refused = sandbox.run(&["--json", "serve"]);
    assert_eq!((refused.code, &refused.error()["code"]), (3, &json!("policy-not-loaded")));
    sandbox.config("[restart]\nbudget = \"often\"\n");
    let refused = sandbox.run(&["serve"]);
    assert!(refused.code == 3 && refused.stderr.contains("wharf.toml:2"), "{}", refused.stderr);
}

#[test]
fn an_engine_that_goes_and_comes_back_is_said_once_and_nothing_is_missed() {
    let sandbox = Sandbox::new();
    let outage = Outage::new(&sandbox.path("relay.sock"));
    outage.set_away(true);
    let serving = Serving::start(&sandbox, &["--engine", &outage.endpoint]);
    assert!(serving.lines.next().starts_with("the engine is unreachable"));
    outage.set_away(false);
    assert_eq!(serving.lines.next(), "the engine is reachable again");
    sandbox.up();
    until("it is known", || !sandbox.store().states().unwrap().is_empty());
    outage.set_away(true);
    assert!(serving.lines.next().starts_with("the engine is unreachable"));
    assert!(sandbox.run(&["doctor"]).ok().text().contains("without its engine"));
    sandbox.json(&["stop"]);
    outage.set_away(false);
    assert_eq!(serving.lines.next(), "the engine is reachable again");
    until("the stop is known", || sandbox.store().states().unwrap()[0].state == State::Exited);
    assert_eq!(whats(&sandbox).iter().filter(|what| **what == Happening::Exited).count(), 1);
    // A list in progress at the break may have failed.
    serving.terminate();
}

#[test]
fn policies_are_told_what_happens_and_what_they_ask_for_is_done() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn event(ctx) {
    let kind = ctx.event.kind;
    if kind == \"started\" { ctx.run([\"sh\", \"-c\", \"echo told >> /workspace/told\"]); }
    if kind == \"unhealthy\" { ctx.stop(\"it is ill\"); }
    if kind == \"exited\" { ctx.note(`ended with ${ctx.event.exit_code}`); throw \"boom\"; }
}",
    );
    sandbox.append_config("[restart]\nunhealthy = true\nbackoff = \"1ms..1ms\"\n");
    let serving = Serving::start(&sandbox, &[]);
    let up = sandbox.json(&[
        "up",
        "--health-cmd",
        "test -e /workspace/well",
        "--health-interval",
        "300ms",
        "--health-retries",
        "1",
    ]);
    until("the command ran", || sandbox.path("project/told").exists());
    // A policy's stop takes precedence over the restart.
    assert!(serving.lines.next().contains("stopped by rule.rhai (unhealthy)"));
    until("the failure is kept", || sandbox.json(&["inspect"])["notes"].to_string().contains("boom"));
    let inspected = sandbox.json(&["inspect"]);
    assert_eq!((&inspected["state"], &inspected["container_id"]), (&json!("exited"), &up["container_id"]));
    let notes = inspected["notes"].to_string();
    assert!(notes.contains("stopped by rule.rhai: it is ill") && notes.contains("rule.rhai:5"), "{notes}");
    assert!(!notes.contains("exited with"), "what fails asks for nothing: {notes}");
    let decisions = sandbox.store().decisions(&sandbox.id().parse().unwrap(), 100).unwrap();
    let events = decisions.iter().filter(|decision| decision.hook == wharf::hooks::Hook::Event).count();
    assert!(events >= 3, "{events}");
    sandbox.store().verify(None).unwrap().whole().unwrap();
    assert!(!whats(&sandbox).contains(&Happening::Recovered));
    assert!(serving.terminate().contains("boom"), "it is logged");
}

#[test]
fn what_is_unhealthy_is_restarted_until_the_budget_is_used_up_and_then_marked() {
    let sandbox = Sandbox::new();
    sandbox.config("[restart]\nunhealthy = true\nbackoff = \"1ms..10ms\"\nbudget = \"2 in 10m\"\n[engine]\nstop_timeout = \"1s\"\n");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.json(&["up", "--health-cmd", "false", "--health-interval", "200ms", "--health-retries", "1"]);
    assert!(serving.lines.next().contains("restart 1 of 2 in 10m"));
    assert!(serving.lines.next().contains("restart 2 of 2 in 10m"));
    assert!(serving.lines.next().contains("used up"));
    let inspected = sandbox.json(&["inspect"]);
    assert_eq!(inspected["state"], "running");
    let reason = inspected["degraded"].as_str().unwrap();
    assert!(reason.contains("unhealthy") && reason.contains("2 in 10m"), "{reason}");
    let listed = sandbox.run(&["ls"]).ok().text();
    assert!(listed.contains("degraded") && listed.contains("unhealthy"), "{listed}");
    let history = whats(&sandbox);
    let count = |what| history.iter().filter(|this| **this == what).count();
    assert_eq!((count(Happening::Recovered), count(Happening::GivenUp)), (2, 1), "{history:?}");
    serving.end();
}

#[test]
fn what_fails_by_itself_is_started_again_and_what_was_stopped_is_not() {
    let sandbox = Sandbox::new();
    sandbox.config("[restart]\nfailed = true\nbackoff = \"1ms..10ms\"\n[engine]\nstop_timeout = \"1s\"\n");
    let serving = Serving::start(&sandbox, &[]);
    let line = "while ! test -e /tmp/fail; do sleep 0.05; done; rm /tmp/fail; exit 5";
    let up = sandbox.json(&["up", "--", "sh", "-c", line]);
    sandbox.sh("touch /tmp/fail");
    assert!(serving.lines.next().contains("exited with code 5 (restart 1 of 5 in 10m)"));
    let inspected = sandbox.json(&["wait", "--for", "running", "--timeout", "30s"]);
    assert_eq!(inspected["state"], "running");
    let inspected = sandbox.json(&["inspect"]);
    assert_eq!(inspected["container_id"], up["container_id"]);
    assert!(inspected["notes"].to_string().contains("restarted by the service: exited with code 5"), "{inspected}");
    sandbox.json(&["stop"]);
    until("the stop is known", || sandbox.store().states().unwrap()[0].state == State::Exited);
    serving.end();
    assert_eq!(sandbox.json(&["inspect"])["state"], "exited");
    assert_eq!(whats(&sandbox).iter().filter(|what| **what == Happening::Recovered).count(), 1);
}

#[test]
fn a_service_finishes_what_a_dead_process_left() {
    let sandbox = Sandbox::new();
    let id = sandbox.up()["id"].as_str().unwrap().parse().unwrap();
    let serving = Serving::start(&sandbox, &[]);
    // A removal whose process died right after recording the intent.
    let entry = sandbox.store().begin(&id, wharf::store::Verb::Remove).unwrap();
    let db = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    assert_eq!(db.execute("update journal set process_start = 1 where id = ?1", [entry]).unwrap(), 1);
    until("it is finished", || sandbox.store().open_entries().unwrap().is_empty());
    drop(serving);
    sandbox.assert_nothing_left();
}

#[test]
fn a_service_sweeps_and_says_what_it_did() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn cleanup(ctx) { for c in ctx.candidates { ctx.remove(c.id, \"out of use\"); } }");
    sandbox.append_config("[cleanup]\ninterval = \"200ms\"\ngrace = \"0s\"\n");
    let up = sandbox.up();
    sandbox.json(&["stop"]);
    let serving = Serving::start(&sandbox, &[]);
    let said = serving.lines.find(up["id"].as_str().unwrap());
    assert!(said.contains("by a sweep") && said.contains("out of use"), "{said}");
    until("it is gone", || sandbox.own_containers().is_empty());
    serving.end();
}
