//! Sweeps: the removed objects, the times, the responsible policies, and undo.

use serde_json::{Value, json};
use wharf::workspace::LABEL_MANAGED;

use crate::support::engine_api::{self as engine, BASE};
use crate::support::registry::{Registry, has_image};
use crate::support::sandbox::Sandbox;

/// Removes all unused objects, and stops running workspaces whose label requests it.
const GREEDY: &str = r#"
fn cleanup(ctx) {
    for c in ctx.candidates {
        if c.labels.get("idle") == "true" && c.used { ctx.stop(c.id, "it is idle"); }
        else if !c.used { ctx.remove(c.id, `nobody uses this ${c.kind}`); }
    }
}
"#;

fn greedy() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("greedy.rhai", GREEDY);
    sandbox
}

fn line<'a>(report: &'a Value, id: &str) -> &'a Value {
    let found = report["lines"].as_array().unwrap().iter().find(|line| line["id"] == id);
    found.unwrap_or_else(|| panic!("{id} is not in {report}"))
}

fn stopped(sandbox: &Sandbox) {
    sandbox.json(&["up", "--image", BASE]);
    sandbox.json(&["stop", "-t", "0s"]);
}

#[test]
fn a_dry_run_shows_all_of_ours_with_size_reason_and_policy_and_changes_nothing() {
    let sandbox = greedy();
    let volume = format!("cleanup-{}", sandbox.name());
    sandbox.json(&["up", "--image", BASE, "--network", "own", "--mount", &format!("{volume}:/data")]);
    sandbox.sh("head -c 300000 /dev/zero > /big; head -c 200000 /dev/zero > /data/x");
    sandbox.json(&["stop", "-t", "0s"]);
    let before = sandbox.snapshot();
    let report = sandbox.json(&["cleanup", "--dry-run"]);
    let workspace = line(&report, &sandbox.id());
    assert_eq!((&workspace["choice"], &workspace["policy"]), (&json!("remove"), &json!("greedy.rhai")));
    assert_eq!((&workspace["reason"], &workspace["state"]), (&json!("nobody uses this workspace"), &json!("exited")));
    assert!(workspace["bytes"].as_u64().unwrap() >= 300_000, "{workspace}");
    // The stopped container still uses them, so they are kept.
    let data = line(&report, &format!("volume:{volume}"));
    assert_eq!((&data["used"], &data["choice"], &data["policy"]), (&json!(true), &json!("keep"), &Value::Null));
    assert!(data["bytes"].as_u64().unwrap() >= 200_000, "{data}");
    let network = line(&report, &format!("network:wharf-{}", sandbox.id()));
    assert_eq!((&network["kind"], &network["used"]), (&json!("network"), &json!(true)));
    assert!(report["disk_free"].as_u64().unwrap() > 0);
    sandbox.assert_unchanged(&before, "a dry run");
    assert_eq!(sandbox.json(&["cleanup", "ls", "--all"]), json!([]));
    let text = sandbox.run(&["cleanup", "--dry-run"]).ok().text();
    assert!(text.contains("greedy.rhai") && text.contains(&volume), "{text}");
}

#[test]
fn a_removal_is_planned_taken_back_and_then_left_to_sweeps_again() {
    let sandbox = greedy();
    stopped(&sandbox);
    let id = sandbox.id();
    let first = sandbox.json(&["cleanup"]);
    assert_eq!(line(&first, &id)["outcome"], "planned");
    let due: jiff::Timestamp = line(&first, &id)["due"].as_str().unwrap().parse().unwrap();
    assert!(due > jiff::Timestamp::now() + jiff::SignedDuration::from_hours(23));
    // Planned once, however many sweeps run.
    sandbox.json(&["cleanup"]);
    let ledger = sandbox.json(&["cleanup", "ls"]);
    assert_eq!((ledger.as_array().map(Vec::len), &ledger[0]["object"]), (Some(1), &json!(id)));
    assert_eq!(sandbox.own_containers().len(), 1);

    sandbox.run(&["cleanup", "undo", "project"]).ok();
    let kept = sandbox.json(&["cleanup", "--no-grace"]);
    assert_eq!(line(&kept, &id)["outcome"], "protected");
    assert_eq!(sandbox.own_containers().len(), 1);
    let twice = sandbox.run(&["--json", "cleanup", "undo", &id]);
    assert_eq!((twice.code, &twice.error()["code"]), (2, &json!("bad-request")), "{}", twice.stderr);

    sandbox.run(&["cleanup", "allow", &id]).ok();
    let gone = sandbox.json(&["cleanup", "--no-grace"]);
    assert_eq!(line(&gone, &id)["outcome"], "removed");
    assert_eq!(sandbox.own_containers(), Vec::<Value>::new());
    assert_eq!(sandbox.json(&["ls"]), json!([]));
    let late = sandbox.run(&["cleanup", "undo", &id]);
    assert!(late.code == 2 && late.stderr.contains("cannot be undone"), "{}", late.stderr);
    assert_eq!(sandbox.run(&["cleanup", "undo", "nothing"]).code, 2);
    assert_eq!(sandbox.run(&["cleanup", "allow", "nothing"]).code, 2);
}

#[test]
fn what_is_used_again_before_it_goes_stays() {
    let sandbox = greedy();
    sandbox.append_config("[cleanup]\ngrace = \"1s\"");
    stopped(&sandbox);
    assert_eq!(line(&sandbox.json(&["cleanup"]), &sandbox.id())["outcome"], "planned");
    sandbox.json(&["start"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(line(&sandbox.json(&["cleanup"]), &sandbox.id())["outcome"], "kept");
    assert_eq!(sandbox.json(&["cleanup", "ls"]), json!([]));
    assert_eq!(sandbox.sh("echo lives"), "lives\n");
    // Unused and due again, it is removed.
    sandbox.json(&["stop", "-t", "0s"]);
    sandbox.json(&["cleanup"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(line(&sandbox.json(&["cleanup"]), &sandbox.id())["outcome"], "removed");
    sandbox.json(&["cleanup", "--no-grace"]);
    sandbox.assert_nothing_left();
}

#[test]
fn a_sweep_stops_what_is_idle_and_undo_starts_it_again() {
    let sandbox = greedy();
    sandbox.json(&["up", "--image", BASE, "--label", "idle=true"]);
    let report = sandbox.json(&["cleanup"]);
    assert_eq!(line(&report, &sandbox.id())["outcome"], "stopped");
    let view = sandbox.json(&["inspect"]);
    assert_eq!(view["state"], "exited");
    assert!(view["notes"].to_string().contains("it is idle (greedy.rhai)"), "{view}");
    sandbox.run(&["cleanup", "undo", &sandbox.id()]).ok();
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
}

#[test]
fn a_policy_that_fails_keeps_everything_and_the_sweep_says_so() {
    let sandbox = greedy();
    stopped(&sandbox);
    sandbox.script("broken.rhai", "fn cleanup(ctx) { throw \"no idea\"; }");
    let before = sandbox.snapshot();
    let output = sandbox.run(&["--json", "cleanup", "--no-grace"]);
    assert_eq!(output.code, 1, "{}", output.stderr);
    let report = output.json();
    assert!(report["failed"].as_str().unwrap().contains("broken.rhai"), "{report}");
    assert_eq!(line(&report, &sandbox.id())["outcome"], "kept");
    sandbox.assert_unchanged(&before, "a failing policy");
}

#[test]
fn nothing_of_others_is_ever_a_candidate_even_for_a_policy_that_wants_all() {
    let sandbox = greedy();
    stopped(&sandbox);
    let name = sandbox.name();
    sandbox.bystander(&format!("{name}-stranger"), &[], false);
    sandbox.bystander(&format!("{name}-other-wharf"), &[(LABEL_MANAGED, "true"), ("wharf.host", "another")], false);
    sandbox.bystander_network(&format!("{name}-net"), &[(LABEL_MANAGED, "true")]);
    let label = crate::support::sandbox::LABEL_SANDBOX;
    let volume = json!({ "Name": format!("{name}-vol"), "Labels": { label: name, LABEL_MANAGED: "true" } });
    engine::post("/volumes/create", &volume).done();
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    let ids: Vec<_> = report["lines"].as_array().unwrap().iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert!(!ids.iter().any(|id| id.contains(&format!("{name}-")) || id.contains(BASE)), "{ids:?}");
    let left = |list: Vec<Value>, key: &str| {
        list.iter().filter(|object| object[key].to_string().contains(&format!("{name}-"))).count()
    };
    assert_eq!(left(engine::containers(), "Names"), 2);
    assert_eq!(left(engine::networks(), "Name"), 1);
    assert_eq!(left(engine::volumes(), "Name"), 1);
    assert!(has_image(BASE));
}

#[test]
fn volumes_networks_and_pulled_images_go_when_nothing_uses_them() {
    let sandbox = greedy();
    let registry = Registry::new();
    let volume = format!("gone-{}", sandbox.name());
    sandbox.json(&["up", "--image", &registry.reference, "--mount", &format!("{volume}:/data")]);
    let image = format!("image:{}", registry.reference);
    let used = sandbox.json(&["cleanup", "--no-grace"]);
    assert_eq!((&line(&used, &image)["used"], &line(&used, &image)["outcome"]), (&json!(true), &json!("kept")));
    sandbox.json(&["down"]);
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    assert_eq!(line(&report, &image)["outcome"], "removed");
    assert_eq!(line(&report, &format!("volume:{volume}"))["outcome"], "removed");
    assert!(line(&report, &image)["bytes"].as_u64().unwrap() > 100_000, "{report}");
    assert!(!has_image(&registry.reference));
    assert_eq!(sandbox.json(&["volume", "ls"]), json!([]));
    assert_eq!(sandbox.json(&["cleanup", "--no-grace"])["lines"], json!([]));
}

#[test]
fn an_image_that_was_there_before_or_was_replaced_by_others_is_not_ours() {
    let sandbox = greedy();
    let registry = Registry::new();
    let image = format!("image:{}", registry.reference);
    sandbox.json(&["up", "--image", &registry.reference]);
    sandbox.json(&["down"]);
    let pulled = engine::get(&format!("/images/{}/json", registry.reference))["Id"].as_str().unwrap().to_owned();
    // Another client gives the name to another image, which now owns the name.
    let (repository, tag) = registry.reference.rsplit_once(':').unwrap();
    engine::post(&format!("/images/{BASE}/tag?repo={repository}&tag={tag}"), &Value::Null).done();
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    assert!(!report.to_string().contains(&image), "{report}");
    assert!(has_image(&registry.reference));
    // A pull that brings no new image does not make it ours either.
    engine::post(&format!("/images/{pulled}/tag?repo={repository}&tag={tag}"), &Value::Null).done();
    let store = sandbox.store();
    store.put_pulled_image(&registry.reference, "sha256:what-we-fetched-once").unwrap();
    sandbox.run(&["image", "pull", &registry.reference]).ok();
    assert_eq!(sandbox.json(&["image", "prune"]), json!([]));
    assert!(has_image(&registry.reference));
    engine::delete(&format!("/images/{}", registry.reference)).done();
    engine::delete(&format!("/images/{pulled}?force=true"));
}

#[test]
fn two_sweeps_at_once_are_one_too_many() {
    let sandbox = greedy();
    stopped(&sandbox);
    let store = sandbox.store();
    let held = store.try_lock_sweeps().unwrap().unwrap();
    let refused = sandbox.run(&["cleanup"]);
    assert!(refused.code == 1 && refused.stderr.contains("working on a sweep"), "{}", refused.stderr);
    drop(held);
    sandbox.run(&["cleanup"]).ok();
}

#[test]
fn the_built_in_policies_keep_what_has_just_ended() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.json(&["stop", "-t", "0s"]);
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    let workspace = line(&report, &sandbox.id());
    assert_eq!((&workspace["outcome"], &workspace["policy"]), (&json!("kept"), &json!("cleanup.rhai")));
    assert_eq!(sandbox.own_containers().len(), 1);
}

#[test]
fn a_workspace_whose_sidecar_is_to_stay_is_spared_with_it() {
    let sandbox = greedy();
    sandbox.json(&["up", "--image", BASE, "--network", "own"]);
    sandbox.json(&["sidecar", "add", "db", "--image", BASE, "-l", "keep=true", "--", "sleep", "1000"]);
    sandbox.json(&["stop", "-t", "0s"]);
    sandbox.append_config("[[policy]]\nname = \"cleanup-policy\"\nbuiltin = \"cleanup-policy\"");
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    let (id, db) = (sandbox.id(), format!("{}-db", sandbox.id()));
    assert_eq!(line(&report, &db)["outcome"], "kept", "{report}");
    let workspace = line(&report, &id);
    assert_eq!((&workspace["choice"], &workspace["outcome"]), (&json!("keep"), &json!("kept")));
    assert!(workspace["reason"].as_str().unwrap().contains("/db is kept"), "{workspace}");
    assert_eq!(sandbox.own_containers().len(), 2);
}

#[test]
fn taking_back_the_removal_of_one_that_ran_starts_it_again() {
    let sandbox = Sandbox::new();
    sandbox.script("all.rhai", "fn cleanup(ctx) { for c in ctx.candidates { ctx.remove(c.id, \"out\"); } }");
    sandbox.json(&["up", "--image", BASE]);
    let id = sandbox.id();
    let report = sandbox.json(&["cleanup"]);
    assert_eq!(line(&report, &id)["outcome"], "planned");
    assert_eq!(sandbox.json(&["inspect"])["state"], "exited");
    sandbox.run(&["cleanup", "undo", &id]).ok();
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
    assert_eq!(line(&sandbox.json(&["cleanup"]), &id)["outcome"], "protected");
    assert_eq!(sandbox.json(&["inspect"])["state"], "running", "what was taken back is not stopped either");
}

#[test]
fn a_name_of_several_workspaces_takes_no_removal_back() {
    let sandbox = greedy();
    for folder in [sandbox.folder("a/shop"), sandbox.folder("b/shop")] {
        sandbox.run_in(&folder, &["up", "-q", "--image", BASE]).ok();
    }
    let views = sandbox.json(&["ls"]);
    let ids: Vec<&str> = views.as_array().unwrap().iter().map(|view| view["id"].as_str().unwrap()).collect();
    for id in &ids {
        sandbox.run(&["stop", "-t", "0s", id]).ok();
    }
    sandbox.json(&["cleanup"]);
    let refused = sandbox.run(&["--json", "cleanup", "undo", "shop"]);
    assert_eq!((refused.code, &refused.error()["code"]), (5, &json!("workspace-ambiguous")), "{}", refused.stderr);
    sandbox.run(&["cleanup", "undo", ids[0]]).ok();
    // Now the name can only refer to the other one.
    sandbox.run(&["cleanup", "undo", "shop"]).ok();
    let refused = sandbox.run(&["--json", "cleanup", "allow", "shop"]);
    assert_eq!((refused.code, &refused.error()["code"]), (5, &json!("workspace-ambiguous")), "{}", refused.stderr);
}
