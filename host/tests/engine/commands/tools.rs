//! `policy` and `doctor`.

use serde_json::{Value, json};

use crate::support::sandbox::{Sandbox, component};

#[test]
fn policy_ls_lists_the_built_in_chain_in_order() {
    let sandbox = Sandbox::new();
    let list = sandbox.json(&["policy", "ls"]);
    let names: Vec<_> = list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    let expected =
        ["image-selector", "security-baseline", "pre-create.rhai", "post-start.rhai", "cleanup-policy", "cleanup.rhai"];
    assert_eq!(names, expected);
    for (index, row) in list.as_array().unwrap().iter().enumerate() {
        assert_eq!((&row["order"], &row["source"], &row["ok"]), (&json!(index + 1), &json!("builtin"), &json!(true)));
        assert!(row["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{row}");
        assert_eq!((&row["timeout_ms"], &row["memory"]), (&json!(250), &json!(64 << 20)));
    }
    let text = sandbox.run(&["policy", "ls"]).ok().text();
    insta::assert_snapshot!("policy_ls", sandbox.masked(&text));
}

#[test]
fn policy_check_says_what_is_wrong_with_a_chain_or_a_file() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(&["policy", "check"]).code, 0);
    sandbox.script("good.rhai", "fn pre_create(ctx) {}");
    sandbox.script("bad.rhai", "fn pre_create(ctx) {\n    let = 1;\n}\n");
    let check = sandbox.run(&["policy", "check"]);
    assert_eq!(check.code, 3);
    insta::assert_snapshot!("policy_check", sandbox.masked(&check.text()));
    assert_eq!(sandbox.run(&["policy", "check", "good.rhai"]).code, 0);
    assert_eq!(sandbox.run(&["policy", "check", "bad.rhai"]).code, 3);
    let rows = sandbox.run(&["--json", "policy", "check"]).json();
    assert_eq!((&rows[0]["ok"], &rows[1]["ok"]), (&json!(true), &json!(false)));
    // A file that is in no chain.
    let wasm = component("plugins/security-baseline");
    let check = sandbox.run(&["policy", "check", wasm.to_str().unwrap()]).ok();
    assert!(check.text().contains("security-profile"), "{}", check.text());
    let file = sandbox.write("loose.rhai", "fn pre_create() {}");
    assert_eq!(sandbox.run(&["policy", "check", file.to_str().unwrap()]).code, 3);
    let none = sandbox.run(&["--json", "policy", "check", "nobody"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("policy-not-found")));
}

fn checks(sandbox: &Sandbox, args: &[&str]) -> (i32, Vec<Value>) {
    let mut all = vec!["--json"];
    all.extend(args);
    all.push("doctor");
    let output = sandbox.run(&all);
    (output.code, output.json().as_array().cloned().unwrap())
}

#[track_caller]
fn failed(sandbox: &Sandbox, args: &[&str], name: &str, words: &str) {
    let (code, all) = checks(sandbox, args);
    assert_eq!(code, 1, "{all:?}");
    let failed: Vec<_> = all.iter().filter(|check| check["status"] == "fail").collect();
    assert_eq!(failed.len(), 1, "{all:?}");
    assert_eq!(failed[0]["name"], name);
    assert!(failed[0]["message"].as_str().unwrap().contains(words), "{}", failed[0]);
    assert!(failed[0]["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10), "{}", failed[0]);
    let text = sandbox.run(&[args, &["doctor"]].concat());
    assert_eq!(text.code, 1);
    assert!(text.text().contains("FAIL") && text.text().contains("remedy: "), "{}", text.text());
}

#[test]
fn the_doctor_finds_a_healthy_machine_healthy() {
    let sandbox = Sandbox::new();
    let (code, all) = checks(&sandbox, &[]);
    assert_eq!(code, 0, "{all:?}");
    for name in ["config", "policy", "state", "engine", "limits", "security"] {
        assert!(all.iter().any(|check| check["name"] == name && check["status"] == "ok"), "{name} in {all:?}");
    }
    assert!(all.iter().filter(|check| check["status"] != "ok").all(|check| check["remedy"].is_string()), "{all:?}");
    assert!(sandbox.run(&["doctor"]).ok().text().contains("ok    engine"));
}

#[test]
fn the_doctor_says_what_is_broken_and_what_to_do() {
    let sandbox = Sandbox::new();
    failed(&sandbox, &["--engine", "unix:///no/such.sock"], "engine", "/no/such.sock");
    failed(&sandbox, &["--state-dir", "/proc/nowhere"], "state", "/proc/nowhere");
    sandbox.script("bad.rhai", "fn pre_create(ctx) {");
    failed(&sandbox, &[], "policy", "bad.rhai");
    sandbox.config("[limits]\nmemroy = 1\n");
    failed(&sandbox, &[], "config", "memroy");
}

#[test]
fn the_doctor_notices_records_that_were_edited() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.json(&["down"]);
    let database = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    let edited =
        database.execute("update decisions set body = replace(body, 'allowed', 'denied') where number = 2", []);
    assert_eq!(edited.unwrap(), 1);
    drop(database);
    failed(&sandbox, &[], "state", "record 2");
}

#[test]
fn help_and_version_are_on_stdout() {
    let sandbox = Sandbox::new();
    let help = sandbox.run(&["--help"]).ok();
    assert_eq!(help.stderr, "");
    insta::assert_snapshot!("help", help.text());
    assert_eq!(sandbox.run(&["--version"]).ok().text(), format!("wharf {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["up", "exec", "logs", "plan", "why", "policy", "config"] {
        assert!(sandbox.run(&[command, "--help"]).ok().text().contains("Usage: wharf"), "{command}");
    }
}
