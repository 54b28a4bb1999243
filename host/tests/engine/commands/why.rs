//! `why` explains each field of an existing workspace, without an engine.

use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;

#[test]
fn why_names_script_and_line_plugin_and_digest_and_who_was_overruled() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "[[policy]]\nname = \"security\"\nbuiltin = \"security-baseline\"\nsettings = { profile = \"strict\" }\n",
    );
    sandbox.script("one.rhai", "fn pre_create(ctx) {\n\n    ctx.spec.env.TEAM = \"red\";\n}\n");
    sandbox.script("two.rhai", "fn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"blue\";\n}\n");
    sandbox.append_config("may_override = [\"env.TEAM\"]");
    sandbox.json(&["up", "--memory", "300MiB"]);

    let why = sandbox.json(&["why", "project"]);
    assert_eq!(why["id"], sandbox.id());
    let team = &why["fields"]["env.TEAM"];
    assert_eq!((&team["value"], &team["owner"]), (&json!("blue"), &json!("two.rhai")));
    let history: Vec<_> = team["history"].as_array().unwrap().iter().map(|change| &change["by"]["at"]).collect();
    assert_eq!(history, [&json!("one.rhai:3"), &json!("two.rhai:2")]);
    assert_eq!(team["history"][0]["value"], "red");
    let memory = &why["fields"]["resources.memory"];
    assert_eq!((&memory["owner"], &memory["value"]), (&json!("request"), &json!(300 << 20)));
    assert_eq!(memory["history"][0]["by"]["policy"], "default");
    assert!(why["trail"].as_array().is_some_and(|trail| trail.len() == 3), "{why}");

    let text = sandbox.run(&["why"]).ok().text();
    let team: String =
        text.lines().skip_while(|line| !line.starts_with("env.TEAM")).take(3).map(|line| format!("{line}\n")).collect();
    insta::assert_snapshot!("why_a_field_was_overruled", team);
    let digest = sandbox.json(&["policy", "ls"])[0]["digest"].as_str().unwrap().to_owned();
    let short = digest.get(.."sha256:".len() + 12).unwrap();
    assert!(text.contains(&format!("security@{short} at security-profile: true")), "{text}");
    assert!(text.contains("request (--memory 300MiB): 300.0 MiB"), "{text}");
}

#[test]
fn one_field_or_a_group_can_be_asked_for_inside_the_project() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "-e", "A=1", "-l", "color=red"]);
    let fields = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["why"];
        all.extend(args);
        sandbox.json(&all)["fields"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(fields(&["env.A"]), ["env.A"]);
    assert_eq!(fields(&["project", "env.A"]), ["env.A"]);
    assert_eq!(
        fields(&[&sandbox.id(), "env"]),
        ["env.A", "env.WHARF_MANAGED", "env.WORKSPACE_ID", "env.WORKSPACE_NAME"]
    );
    assert_eq!(fields(&["labels"]), ["labels.color"]);
    let text = sandbox.run(&["why", "resources.pids"]).ok().text();
    assert!(text.contains("resources.pids = 512") && text.contains("default"), "{text}");
    let deep = sandbox.folder("project/src");
    let inside = sandbox.run_in(&deep, &["--json", "why", "image"]).ok().json();
    assert_eq!(inside["fields"]["image"]["owner"], "config");
}

#[test]
fn a_field_or_workspace_that_does_not_exist_is_said() {
    let sandbox = Sandbox::new();
    let none = sandbox.run(&["--json", "why"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("workspace-not-found")));
    sandbox.up();
    let none = sandbox.run(&["--json", "why", "env.NOPE"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("no-field")));
    assert!(none.error()["message"].as_str().unwrap().contains("env.NOPE"));
    let none = sandbox.run_in(&sandbox.dir, &["--json", "why", "env"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("workspace-not-found")));
}

#[test]
fn why_needs_no_engine() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let with: Value = sandbox.json(&["why"]);
    assert_eq!(sandbox.json(&["--engine", "unix:///no/such.sock", "why"]), with);
}
