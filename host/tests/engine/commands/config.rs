//! `config show` and `config init`.

use serde_json::Value;

use crate::support::engine_api as engine;
use crate::support::sandbox::Sandbox;

#[track_caller]
fn origin(shown: &Value, key: &str) -> (Value, String) {
    let row = shown.as_array().unwrap().iter().find(|row| row["key"] == key);
    let row = row.unwrap_or_else(|| panic!("{key} is not in {shown}"));
    (row["value"].clone(), row["origin"].as_str().unwrap().to_owned())
}

#[test]
fn every_value_is_shown_with_the_layer_that_set_it() {
    let mut sandbox = Sandbox::new();
    sandbox.config("[limits]\nmemory = \"4GiB\"\ncpus = 2.0\n\n[workspace]\nlabels = { team = \"pay\" }\n[script]\nvars = [\"REGION\"]\n");
    sandbox.write(
        "config/wharf.rhai",
        "fn config(c) {\n    c.limits.cpus = 3.0;\n    c.workspace.labels.region = c.vars.REGION;\n}\n",
    );
    sandbox.env("REGION", "north");
    sandbox.env("WHARF_LIMITS_PIDS", "99");
    let shown = sandbox.json(&["--set", "engine.stop_timeout=3s", "config", "show"]);
    let file = sandbox.path("config/wharf.toml").display().to_string();
    let script = sandbox.path("config/wharf.rhai").display().to_string();
    for (key, value, expected) in [
        ("limits.memory", "\"4GiB\"", format!("{file}:2")),
        ("limits.cpus", "3.0", format!("{script}:2")),
        ("workspace.labels.team", "\"pay\"", format!("{file}:6")),
        ("workspace.labels.region", "\"north\"", format!("{script}:3")),
        ("limits.pids", "99", "environment WHARF_LIMITS_PIDS".into()),
        ("workspace.image", "\"wharf-base:local\"", "environment WHARF_WORKSPACE_IMAGE".into()),
        ("engine.stop_timeout", "\"3s\"", "--set engine.stop_timeout".into()),
        ("workspace.working_dir", "\"/workspace\"", "default".into()),
    ] {
        assert_eq!(origin(&shown, key), (value.parse().unwrap(), expected), "{key}");
    }
    let text = sandbox.run(&["config", "show"]).ok().text();
    let line = text.lines().find(|line| line.starts_with("limits.cpus")).unwrap();
    assert!(line.contains("3.0") && line.contains(&format!("{script}:2")), "{line}");
    assert!(text.contains(&format!("# state: {}", sandbox.path("state").display())), "{text}");
    // A workspace gets these values.
    let up = sandbox.up();
    assert_eq!(up["labels"], serde_json::json!({ "team": "pay", "region": "north" }));
}

#[test]
fn init_writes_files_that_load_and_refuses_to_replace_them() {
    let mut sandbox = Sandbox::new();
    sandbox.unset("WHARF_WORKSPACE_IMAGE");
    let dir = sandbox.path("new");
    let path = dir.to_str().unwrap();
    let written = sandbox.json(&["config", "init", path]);
    let names: Vec<_> = written.as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    for file in
        ["wharf.toml", "wharf.rhai", "policies/pre-create.rhai", "policies/post-start.rhai", "policies/cleanup.rhai"]
    {
        assert!(names.iter().any(|name| name.ends_with(file)) && dir.join(file).exists(), "{file} in {names:?}");
    }
    sandbox.env("WHARF_CONFIG", dir.join("wharf.toml").to_str().unwrap());
    sandbox.run(&["policy", "check"]).ok();
    let shown = sandbox.json(&["config", "show"]);
    assert_eq!(origin(&shown, "policy.2.script").0, "policies/pre-create.rhai");
    sandbox.json(&["up", "--image", engine::BASE]);
    sandbox.json(&["down"]);

    // An administrator edits a file, and init keeps the edit.
    std::fs::write(
        dir.join("policies/pre-create.rhai"),
        "fn pre_create(ctx) {\n    ctx.deny(\"mine\", \"edited\");\n}\n",
    )
    .unwrap();
    let refused = sandbox.run(&["--json", "config", "init", path]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (1, Some("exists")));
    let denied = sandbox.run(&["up", "--image", engine::BASE]);
    assert_eq!(denied.code, 4);
    assert!(denied.stderr.contains("pre-create.rhai:2"), "{}", denied.stderr);
    std::fs::remove_file(dir.join("wharf.toml")).unwrap();
    assert_eq!(sandbox.run(&["config", "init", path]).code, 1, "one of the files is enough");
    assert!(!dir.join("wharf.toml").exists(), "then nothing is written");
    sandbox.run(&["config", "init", path, "--force"]).ok();
    assert_eq!(sandbox.run(&["plan", "--offline"]).code, 0);
}

#[test]
fn without_any_configuration_everything_works_by_default() {
    let mut sandbox = Sandbox::new();
    sandbox.env("WHARF_CONFIG", "");
    sandbox.unset("WHARF_WORKSPACE_IMAGE");
    let shown = sandbox.json(&["config", "show"]);
    assert!(shown.as_array().unwrap().iter().all(|row| row["origin"] == "default"), "{shown}");
    let up = sandbox.json(&["up", "--image", engine::BASE]);
    assert_eq!(up["state"], "running");
    // Without a name, init writes to the first place in the search order.
    sandbox.run(&["config", "init"]).ok();
    assert!(sandbox.path("home/config/wharf/wharf.toml").exists());
    let file = sandbox.run(&["config", "show"]).ok().text();
    assert!(file.contains("home/config/wharf/wharf.toml"), "{file}");
}

#[test]
fn a_project_cannot_bring_a_configuration_along() {
    let sandbox = Sandbox::new();
    sandbox.write("project/wharf.toml", "[allow]\ndocker_socket = true\n");
    sandbox.write("project/.wharf/wharf.toml", "[allow]\ndocker_socket = true\n");
    sandbox.write("project/wharf.rhai", "fn config(c) { c.allow.docker_socket = true; }");
    let shown = sandbox.json(&["config", "show"]);
    assert_eq!(origin(&shown, "allow.docker_socket"), (false.into(), "default".into()));
}

#[test]
fn a_folder_that_cannot_be_written_gets_one_clear_line() {
    let sandbox = Sandbox::new();
    let refused = sandbox.run(&["--json", "config", "init", "/proc/wharf"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (1, Some("unwritable")));
}
