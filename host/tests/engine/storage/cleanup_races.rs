//! Sweeps while another client uses, or keeps, the objects that they are about to stop or remove.

use serde_json::{Value, json};

use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::{Sandbox, until};

/// Removes everything, and a stop takes time.
const ALL: &str = r#"
fn cleanup(ctx) {
    for c in ctx.candidates { ctx.remove(c.id, "out"); }
}
fn pre_stop(ctx) {
    ctx.run(["sh", "-c", "touch /workspace/stopping; sleep 5"]);
}
"#;

fn line<'a>(report: &'a Value, id: &str) -> &'a Value {
    let found = report["lines"].as_array().unwrap().iter().find(|line| line["id"] == id);
    found.unwrap_or_else(|| panic!("{id} is not in {report}"))
}

fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("all.rhai", script);
    sandbox
}

#[test]
fn what_is_taken_back_while_a_sweep_is_at_work_stays() {
    let sandbox = sandbox(ALL);
    sandbox.append_config("[cleanup]\ngrace = \"1s\"");
    let volume = format!("kept-{}", sandbox.name());
    sandbox.json(&["up", "--image", BASE, "--name", "first", "--mount", &format!("{volume}:/data")]);
    sandbox.json(&["rm", "--force", "first"]);
    let id = format!("volume:{volume}");
    assert_eq!(line(&sandbox.json(&["cleanup"]), &id)["outcome"], "planned");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sandbox.json(&["up", "--image", BASE]);
    let sweep = sandbox.spawn(&["--json", "cleanup"]);
    until("the workspace is being stopped", || sandbox.path("project/stopping").exists());
    sandbox.run(&["cleanup", "undo", &volume]).ok();
    let report = sweep.finish().ok().json();
    assert_eq!(line(&report, &id)["outcome"], "protected", "{report}");
    assert!(engine::volumes().iter().any(|known| known["Name"] == volume.as_str()));
    let ledger = sandbox.json(&["cleanup", "ls", "--all"]);
    let entry = ledger.as_array().unwrap().iter().find(|entry| entry["object"] == id.as_str()).unwrap();
    assert_eq!(entry["state"], "undone");
    assert_eq!(line(&sandbox.json(&["cleanup", "--no-grace"]), &id)["outcome"], "protected");
    sandbox.run(&["cleanup", "allow", &volume]).ok();
    assert_eq!(line(&sandbox.json(&["cleanup", "--no-grace"]), &id)["outcome"], "removed");
}

#[test]
fn what_is_used_while_a_sweep_stops_it_is_not_removed() {
    let sandbox = sandbox(ALL);
    sandbox.json(&["up", "--image", BASE]);
    let sweep = sandbox.spawn(&["--json", "cleanup", "--no-grace"]);
    until("it is being stopped", || sandbox.path("project/stopping").exists());
    sandbox.sh("true");
    let report = sweep.finish().ok().json();
    assert_eq!(line(&report, &sandbox.id())["outcome"], "kept", "{report}");
    assert_eq!(sandbox.json(&["inspect"])["state"], "exited");
    assert_eq!(sandbox.json(&["cleanup", "ls"]), json!([]));
}

#[test]
fn the_plan_is_taken_back_though_a_later_sweep_has_stopped_it_once_more() {
    let sandbox = sandbox("fn cleanup(ctx) { for c in ctx.candidates { ctx.remove(c.id, \"out\"); } }");
    sandbox.json(&["up", "--image", BASE]);
    for _ in 0..2 {
        sandbox.json(&["start"]);
        assert_eq!(line(&sandbox.json(&["cleanup"]), &sandbox.id())["outcome"], "planned");
        assert_eq!(sandbox.json(&["inspect"])["state"], "exited");
    }
    sandbox.run(&["cleanup", "undo", "project"]).ok();
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
    assert_eq!(line(&sandbox.json(&["cleanup", "--no-grace"]), &sandbox.id())["outcome"], "protected");
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
}

#[test]
fn a_workspace_that_is_taken_back_while_a_sweep_stops_it_is_started_again() {
    let sandbox = sandbox(ALL);
    sandbox.json(&["up", "--image", BASE]);
    assert_eq!(line(&sandbox.json(&["cleanup"]), &sandbox.id())["outcome"], "planned");
    std::fs::remove_file(sandbox.path("project/stopping")).unwrap();
    sandbox.json(&["start"]);
    let sweep = sandbox.spawn(&["--json", "cleanup"]);
    until("it is being stopped", || sandbox.path("project/stopping").exists());
    sandbox.run(&["cleanup", "undo", "project"]).ok();
    let report = sweep.finish().ok().json();
    assert_eq!(line(&report, &sandbox.id())["outcome"], "protected", "{report}");
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
    assert_eq!(sandbox.json(&["cleanup", "ls"]), json!([]));
}

#[test]
fn a_sidecar_that_no_policy_names_keeps_its_workspace_from_being_removed_and_not_from_being_stopped() {
    let sandbox = sandbox(
        "fn cleanup(ctx) { for c in ctx.candidates { if c.part_of == () { if c.used { ctx.stop(c.id, \"idle\"); } else { ctx.remove(c.id, \"out\"); } } } }",
    );
    sandbox.json(&["up", "--image", BASE, "--network", "own"]);
    sandbox.json(&["sidecar", "add", "db", "--image", BASE, "--", "sleep", "1000"]);
    let stopped = line(&sandbox.json(&["cleanup"]), &sandbox.id()).clone();
    assert_eq!((&stopped["choice"], &stopped["outcome"]), (&json!("stop"), &json!("stopped")), "{stopped}");
    assert_eq!(line(&sandbox.json(&["cleanup", "--no-grace"]), &sandbox.id())["outcome"], "kept");
    // A sidecar that another client has removed holds nothing that could be lost.
    for container in sandbox.own_containers().iter().filter(|c| c["Names"][0].as_str().unwrap().ends_with("-db")) {
        engine::delete(&format!("/containers/{}?force=true", container["Id"].as_str().unwrap()));
    }
    assert_eq!(line(&sandbox.json(&["cleanup", "--no-grace"]), &sandbox.id())["outcome"], "removed");
}

#[test]
fn a_policy_for_a_label_concerns_a_workspace_with_its_sidecars() {
    let sandbox = Sandbox::new();
    sandbox.script("pay.rhai", "fn cleanup(ctx) { for c in ctx.candidates { ctx.remove(c.id, \"out\"); } }");
    sandbox.append_config("scope = { labels = { team = \"pay*\" } }");
    sandbox.json(&["up", "--image", BASE, "--network", "own", "--label", "team=pay"]);
    sandbox.json(&["sidecar", "add", "db", "--image", BASE, "--", "sleep", "1000"]);
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    for id in [sandbox.id(), format!("{}-db", sandbox.id())] {
        assert_eq!(line(&report, &id)["outcome"], "removed", "{report}");
    }
    assert_eq!(sandbox.json(&["cleanup", "ls"]), json!([]));
}

#[test]
fn a_workspace_whose_sidecar_no_policy_names_is_spared_with_it() {
    let sandbox = sandbox(
        "fn cleanup(ctx) { for c in ctx.candidates { if !c.id.ends_with(\"-db\") { ctx.remove(c.id, \"out\"); } } }",
    );
    sandbox.json(&["up", "--image", BASE, "--network", "own"]);
    sandbox.json(&["sidecar", "add", "db", "--image", BASE, "--", "sleep", "1000"]);
    sandbox.json(&["stop", "-t", "0s"]);
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    let workspace = line(&report, &sandbox.id());
    assert_eq!((&workspace["choice"], &workspace["outcome"]), (&json!("keep"), &json!("kept")), "{report}");
    assert!(workspace["reason"].as_str().unwrap().contains("/db is kept: no policy names it"), "{workspace}");
    assert_eq!(sandbox.own_containers().len(), 2);
}

#[test]
fn a_removal_that_a_process_did_not_live_to_end_is_planned_anew() {
    let sandbox = sandbox(ALL);
    sandbox.json(&["up", "--image", BASE]);
    sandbox.json(&["stop", "-t", "0s"]);
    // The process dies when it is about to remove the container.
    let engine = crate::support::fake_daemon::relay(&sandbox.path("relay.sock"), |request| {
        if request.starts_with("DELETE") {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
        true
    });
    let mut sweep = sandbox.spawn(&["--engine", &engine, "cleanup", "--no-grace"]);
    let begun = || sandbox.store().ledger(None, 10).unwrap().iter().any(|entry| entry.outcome.is_some());
    until("the removal has begun", begun);
    std::thread::sleep(std::time::Duration::from_millis(500));
    sweep.child().kill().unwrap();
    sweep.finish();
    if sandbox.own_containers().is_empty() {
        panic!("nothing was to be removed yet");
    }
    let ledger = |sandbox: &Sandbox| -> Vec<Value> {
        let all = sandbox.json(&["cleanup", "ls", "--all"]);
        let about = |entry: &&Value| entry["object"] == sandbox.id().as_str() && entry["action"] == "remove";
        all.as_array().unwrap().iter().filter(about).cloned().collect()
    };
    // The next command finishes the workspace's part of the removal; the ledger belongs to sweeps.
    sandbox.json(&["cleanup"]);
    let after = ledger(&sandbox);
    assert!(after.iter().all(|entry| entry["outcome"] != "being removed"), "{after:?}");
    sandbox.json(&["cleanup", "--no-grace"]);
    assert_eq!(sandbox.own_containers(), Vec::<Value>::new());
}
