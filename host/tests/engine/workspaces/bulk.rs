//! Verbs on several workspaces at once, and the verbs that send signals.

use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;

fn several(names: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    for (name, team) in names {
        let folder = sandbox.folder(name);
        let label = format!("team={team}");
        sandbox.run_in(&folder, &["up", "-q", "--label", &label]).ok();
    }
    sandbox
}

fn names(views: &Value, state: &str) -> Vec<String> {
    let all = views.as_array().unwrap().iter().filter(|view| view["state"] == state);
    all.map(|view| view["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_workspaces_or_those_with_a_label_are_stopped_started_and_removed() {
    let sandbox = several(&[("a", "red"), ("b", "blue"), ("c", "red")]);
    let stopped = sandbox.json(&["stop", "-t", "1s", "--label", "team=red"]);
    assert_eq!(names(&stopped, "exited"), ["a", "c"]);
    assert_eq!(names(&sandbox.json(&["ls"]), "running"), ["b"]);
    assert_eq!(names(&sandbox.json(&["start", "--all"]), "running"), ["a", "b", "c"]);
    // A label without a value only has to exist; two labels must both match.
    assert_eq!(sandbox.json(&["stop", "-t", "1s", "-l", "team", "-l", "team=blue"]).as_array().map(Vec::len), Some(1));
    let none = sandbox.run(&["--json", "stop", "--label", "team=green"]).ok();
    assert_eq!(none.json(), json!([]));
    assert!(none.stderr.contains("no workspace has the label team=green"), "{}", none.stderr);

    // Without force, running workspaces are refused one by one, and stopped ones are removed.
    let output = sandbox.run(&["rm", "--all"]);
    assert_eq!(output.code, 1);
    assert_eq!(output.text().lines().count(), 1, "{}", output.text());
    assert_eq!(output.stderr.matches("is running").count(), 2, "{}", output.stderr);
    assert_eq!(sandbox.json(&["rm", "--all", "--force"]).as_array().map(Vec::len), Some(2));
    sandbox.assert_nothing_left();
}

#[test]
fn a_bulk_verb_says_what_it_takes() {
    let sandbox = Sandbox::new();
    for args in [&["rm"][..], &["stop", "--all", "x"], &["rm", "x", "--label", "a=b"], &["update", "--all"]] {
        let output = sandbox.run(args);
        assert_eq!(output.code, 2, "{args:?}: {}", output.stderr);
    }
}

#[test]
fn one_that_fails_does_not_keep_the_others_from_their_turn() {
    let sandbox = several(&[("a", "x"), ("b", "x")]);
    let output = sandbox.run(&["--json", "stop", "-t", "1s", "a", "nope", "b"]);
    assert_eq!(output.code, 5);
    assert_eq!(names(&output.json(), "exited"), ["a", "b"]);
    assert_eq!(output.error()["code"], "workspace-not-found");
}

#[test]
fn a_paused_workspace_is_frozen_until_it_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--", "sh", "-c", "while :; do date +%s%N > beat; sleep 0.1; done"]);
    let beat = || std::fs::read_to_string(sandbox.path("project/beat")).unwrap_or_default();
    crate::support::sandbox::until("it beats", || !beat().is_empty());
    assert_eq!(sandbox.json(&["pause"])["state"], "paused");
    let frozen = beat();
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(beat(), frozen);
    assert_eq!(sandbox.json(&["pause"])["state"], "paused");
    let refused = sandbox.run(&["--json", "exec", "--", "true"]);
    assert_eq!((refused.code, &refused.error()["code"]), (125, &json!("not-running")));
    assert_eq!(sandbox.json(&["unpause"])["state"], "running");
    crate::support::sandbox::until("it beats again", || beat() != frozen);
    assert_eq!(sandbox.json(&["unpause"])["state"], "running");
    sandbox.json(&["stop", "-t", "0s"]);
    let refused = sandbox.run(&["--json", "pause"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-running")));
}

#[test]
fn a_signal_reaches_the_command_and_policies_hear_of_its_end_before() {
    let sandbox = Sandbox::new();
    sandbox.script("last.rhai", "fn pre_stop(ctx) { ctx.note(`before ${ctx.verb}`); }");
    sandbox.json(&[
        "up",
        "--image",
        crate::support::engine_api::BASE,
        "--",
        "sh",
        "-c",
        "trap 'echo hup > got' HUP; while :; do sleep 0.1; done",
    ]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(sandbox.json(&["kill", "-s", "HUP"])["notes"], json!([]));
    crate::support::sandbox::until("the signal came", || sandbox.path("project/got").exists());
    let wrong = sandbox.run(&["--json", "kill", "-s", "NOPE"]);
    assert_eq!((wrong.code, &wrong.error()["code"]), (2, &json!("bad-request")), "{}", wrong.stderr);
    let killed = sandbox.json(&["kill"]);
    assert_eq!((&killed["state"], &killed["exit_code"]), (&json!("exited"), &json!(137)));
    assert_eq!(killed["notes"], json!(["before kill"]));
}

#[test]
fn what_policies_want_done_before_a_stop_is_done_in_a_paused_workspace_too() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "last.rhai",
        "fn pre_stop(ctx) { ctx.run([\"sh\", \"-c\", `echo ${ctx.verb} >> /workspace/flushed`]); }",
    );
    for verb in [&["stop"][..], &["kill"], &["rm", "--force", "project"]] {
        sandbox.json(&["up", "--image", crate::support::engine_api::BASE]);
        sandbox.json(&["pause"]);
        sandbox.run(verb).ok();
    }
    let flushed = std::fs::read_to_string(sandbox.path("project/flushed")).unwrap();
    assert_eq!(flushed, "stop\nkill\nremove\n");
}

#[test]
fn a_reader_that_goes_away_keeps_no_workspace_from_its_turn() {
    let all: Vec<String> = (0..9).map(|number| format!("w{number}")).collect();
    let sandbox = several(&all.iter().map(|name| (name.as_str(), "a")).collect::<Vec<_>>());
    let mut stop = sandbox.spawn(&["stop", "--all", "-t", "0s"]);
    drop(stop.child().stdout.take());
    assert_eq!(stop.finish().code, 0);
    assert_eq!(names(&sandbox.json(&["ls"]), "exited").len(), 9);
}

#[test]
fn who_reads_no_progress_gets_the_workspace_all_the_same() {
    let sandbox = Sandbox::new();
    for args in [&["up"][..], &["up", "--recreate"]] {
        let mut up = sandbox.spawn(args);
        drop(up.child().stderr.take());
        assert_eq!(up.finish().code, 0);
    }
    sandbox.script("no.rhai", "fn pre_create(ctx) { ctx.deny(\"no\", \"never\"); }");
    let mut denied = sandbox.spawn(&["up", "--recreate"]);
    drop(denied.child().stderr.take());
    assert_eq!(denied.finish().code, 4);
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
}
