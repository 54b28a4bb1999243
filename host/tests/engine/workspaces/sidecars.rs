//! Several containers in one workspace.

use serde_json::json;

use crate::service::remote::both_ways;
use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::Sandbox;

const IDLE: [&str; 3] = ["--", "sleep", "600"];

fn add(sandbox: &Sandbox, name: &str, more: &[&str]) -> serde_json::Value {
    let mut args = vec!["sidecar", "add", name, "--image", BASE];
    args.extend(more);
    args.extend(IDLE);
    sandbox.json(&args)
}

fn states(sandbox: &Sandbox) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = sandbox.json(&["ls"]);
    all.as_array().unwrap().iter().map(|view| (text(&view["name"]), text(&view["state"]))).collect()
}

#[track_caller]
fn assert_states(sandbox: &Sandbox, main: &str, sidecar: &str) {
    let named = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    assert_eq!(states(sandbox), [named("project", main), named("project/db", sidecar)]);
}

#[test]
fn a_sidecar_shares_the_network_and_the_life_of_its_workspace() {
    both_ways(|sandbox| {
        sandbox.write("project/here", "");
        sandbox.json(&["up", "--network", "own"]);
        let view = add(sandbox, "db", &[]);
        let id = format!("{}-db", sandbox.id());
        assert_eq!((&view["id"], &view["part_of"]), (&json!(id), &json!(sandbox.id())));
        assert_eq!(view["labels"]["sidecar"], "db");

        // Each finds the other by name, and the sidecar has neither the project nor Wharf's command.
        sandbox.sh("nslookup db >/dev/null");
        let inside =
            sandbox.run(&["exec", &id, "--", "sh", "-c", "hostname; test ! -e /workspace/here && echo none"]).ok();
        assert_eq!(inside.text(), "db\nnone\n");
        assert_eq!(sandbox.own_networks().len(), 1);

        sandbox.json(&["stop"]);
        assert_states(sandbox, "exited", "exited");
        sandbox.json(&["start"]);
        assert_states(sandbox, "running", "running");
        sandbox.json(&["stop", &id]);
        assert_states(sandbox, "running", "exited");
        // `up` of the workspace affects all its containers.
        sandbox.json(&["up", "--network", "own"]);
        assert_states(sandbox, "running", "running");
        sandbox.json(&["pause"]);
        assert_states(sandbox, "paused", "paused");
        sandbox.json(&["unpause"]);
        sandbox.json(&["restart", "-t", "1s"]);
        assert_states(sandbox, "running", "running");

        // The folder refers to the workspace, not to its sidecar.
        assert_eq!(sandbox.json(&["inspect"])["name"], "project");
        assert_eq!(sandbox.json(&["inspect", "project/db"])["id"], json!(id));
        sandbox.json(&["down"]);
        sandbox.assert_nothing_left();
    });
}

#[test]
fn a_workspace_has_no_name_of_the_kind_that_sidecars_have() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let before = sandbox.snapshot();
    for verb in ["up", "plan"] {
        let refused = sandbox.run(&[verb, "--name", "project/db"]);
        assert!(refused.code == 2 && refused.stderr.contains("sidecar"), "{}: {}", refused.code, refused.stderr);
    }
    sandbox.assert_unchanged(&before, "a name with a slash");
}

#[test]
fn a_sidecar_goes_alone_and_its_workspace_stays() {
    both_ways(|sandbox| {
        sandbox.up();
        add(sandbox, "db", &[]);
        assert_eq!(sandbox.json(&["sidecar", "ls"]).as_array().map(Vec::len), Some(1));
        sandbox.json(&["sidecar", "rm", "db"]);
        assert_eq!(sandbox.json(&["sidecar", "ls"]), json!([]));
        assert_eq!(sandbox.sh("echo lives"), "lives\n");
        assert_eq!(sandbox.own_networks().len(), 1);
    });
}

#[test]
fn rm_refuses_the_whole_workspace_while_a_sidecar_runs() {
    let sandbox = Sandbox::new();
    sandbox.up();
    add(&sandbox, "db", &[]);
    sandbox.json(&["kill", "--signal", "KILL"]);
    let refused = sandbox.run(&["--json", "rm", &sandbox.id()]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("running")), "{}", refused.stderr);
    assert_states(&sandbox, "exited", "running");
    sandbox.json(&["rm", "--force", &sandbox.id()]);
    sandbox.assert_nothing_left();
}

#[test]
fn policies_decide_about_sidecars_as_about_workspaces() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "no-root-db.rhai",
        "fn pre_create(ctx) { if ctx.workspace.labels.get(\"sidecar\") == \"db\" { ctx.deny(\"no-db\", \"no databases\"); } }",
    );
    sandbox.json(&["up", "--image", BASE]);
    let before = sandbox.snapshot();
    let refused = sandbox.run(&["--json", "sidecar", "add", "db", "--image", BASE]);
    assert_eq!((refused.code, &refused.error()["code"]), (4, &json!("no-db")), "{}", refused.stderr);
    sandbox.assert_unchanged(&before, "a denied sidecar");
    add(&sandbox, "cache", &[]);
    // The host's invariants apply to it as well.
    let refused = sandbox.run(&["--json", "sidecar", "add", "evil", "--image", BASE, "--mount", "/etc:/etc2"]);
    assert_eq!((refused.code, &refused.error()["code"]), (4, &json!("invariant")), "{}", refused.stderr);
}

#[test]
fn a_sidecar_needs_a_workspace_an_image_and_a_plain_name() {
    both_ways(|sandbox| {
        let code = |args: &[&str]| {
            let output = sandbox.run(args);
            (output.code, output.error()["code"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(code(&["--json", "sidecar", "add", "db", "--image", BASE]).0, 5);
        sandbox.up();
        for bad in ["UPPER", "a/b", "-x", "sixteen-letters-x"] {
            let output = sandbox.run(&["--json", "sidecar", "add", "--image", BASE, bad]);
            assert_eq!(output.code, 2, "{bad}: {}", output.stderr);
        }
        assert_eq!(code(&["--json", "sidecar", "add", "db"]).0, 2);
        add(sandbox, "db", &[]);
        let nested = sandbox.run(&["--json", "sidecar", "add", "x", "-W", "project/db", "--image", BASE]);
        assert!(nested.code == 2 && nested.stderr.contains("sidecars have no sidecars"), "{}", nested.stderr);
    });
}

#[test]
fn statistics_and_logs_of_a_workspace_include_its_sidecars() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.json(&["sidecar", "add", "db", "--image", BASE, "--", "sh", "-c", "echo from the sidecar; sleep 600"]);
    let stats = sandbox.json(&["stats", "--no-stream", &sandbox.id()]);
    assert_eq!(stats.as_array().map(Vec::len), Some(2), "{stats}");
    let logs = sandbox.run(&["logs"]).ok();
    assert!(logs.text().contains("from the sidecar"), "{}", logs.text());
}

#[test]
fn a_workspace_is_found_by_its_labels_when_somebody_renamed_its_container() {
    let sandbox = Sandbox::new();
    let up = sandbox.up();
    let container = up["container_id"].as_str().unwrap();
    engine::post(&format!("/containers/{container}/rename?name=renamed-{}", sandbox.name()), &json!(null)).done();
    assert_eq!(sandbox.sh("echo found"), "found\n");
    assert_eq!(sandbox.up()["container_id"], container);
    sandbox.json(&["restart", "-t", "1s"]);
    sandbox.json(&["down"]);
    sandbox.assert_nothing_left();
}

#[test]
fn on_the_shared_network_nobody_answers_to_the_name_of_anothers() {
    let sandbox = Sandbox::new();
    sandbox.up();
    add(&sandbox, "db", &[]);
    for name in ["db".to_owned(), format!("wharf-{}-db", sandbox.id())] {
        sandbox.sh(&format!("nslookup {name} >/dev/null"));
    }
    let neighbour = sandbox.folder("neighbour");
    sandbox.run_in(&neighbour, &["--json", "up"]).ok();
    let found = sandbox.run_in(&neighbour, &["exec", "--", "nslookup", "db"]);
    assert!(found.code != 0, "another workspace may have a db, too: {}", found.text());
    let refused = sandbox.run(&["--json", "sidecar", "add", "db", "--image", BASE, "--", "sleep", "999"]);
    let (code, remedy) = (refused.code, refused.error()["remedy"].as_str().unwrap().to_owned());
    assert!(code == 7 && remedy.contains("'wharf sidecar add db ...' with --recreate"), "{code}: {remedy}");
    let other = sandbox.folder("other");
    let file = format!(r#"{{"image": "{BASE}", "runArgs": ["--hostname", "wharf-{}"]}}"#, sandbox.id());
    sandbox.write("other/.devcontainer.json", file);
    sandbox.run_in(&other, &["--json", "up"]).ok();
    assert_eq!(sandbox.run_in(&other, &["exec", "--", "hostname"]).ok().text().trim(), sandbox.id_of("other", &other));
}

#[test]
fn a_network_is_not_changed_under_sidecars() {
    let sandbox = Sandbox::new();
    let up = ["up", "--image", crate::support::engine_api::BASE, "--network", "own"];
    sandbox.json(&up);
    sandbox.json(&["sidecar", "add", "db", "--image", crate::support::engine_api::BASE, "--", "sleep", "600"]);
    let args = ["--json", "up", "--image", crate::support::engine_api::BASE, "--network", "shared", "--recreate"];
    let refused = sandbox.run(&args);
    assert!(refused.code == 2 && refused.stderr.contains("sidecars"), "{}: {}", refused.code, refused.stderr);
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
    sandbox.run(&["rm", "--force", "project/db"]).ok();
    sandbox.run(&args).ok();
}
