//! Every decision record names the caller, whatever the entry path, and policies see the caller.

use serde_json::{Value, json};

use crate::service::serve::Serving;
use crate::support::https::{Https, token};
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api as api;

/// Denies the requests of all callers except the named ones, at each hook that can deny, and notes the others.
const NOSY: &str = r#"
fn pre_create(ctx) { ctx.spec.env.ASKED_BY = `${ctx.caller.name}/${ctx.caller.role}/${ctx.caller.door}`; }
fn post_start(ctx) { ctx.log(ctx.caller.name); }
fn pre_exec(ctx) { if ctx.exec.command[0] == "secret" { ctx.deny("not-you", `${ctx.caller.name} may not`); } }
fn pre_stop(ctx) { ctx.log(ctx.caller.name); }
fn event(ctx) { ctx.log(ctx.caller.name); }
fn cleanup(ctx) { ctx.log(ctx.caller.name); }
"#;

fn records(sandbox: &Sandbox) -> Vec<Value> {
    let text = sandbox.run(&["--json", "audit", "-n", "0"]).ok().text();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the callers in the records after a number, each once, in order; and the current number.
fn callers(sandbox: &Sandbox, after: usize) -> (Vec<Value>, usize) {
    let all = records(sandbox);
    let mut found: Vec<Value> = Vec::new();
    for record in all.iter().skip(after) {
        let caller = &record["input"]["facts"]["caller"];
        assert!(caller["name"].is_string(), "a record without a caller: {record}");
        if !found.contains(caller) {
            found.push(caller.clone());
        }
    }
    (found, all.len())
}

fn by(name: &str, role: &str, door: &str) -> Value {
    let mut caller = json!({ "name": name, "role": role, "door": door });
    if let Some(uid) = name.strip_prefix("user ").and_then(|uid| uid.parse::<u32>().ok()) {
        caller["uid"] = json!(uid);
    }
    caller
}

fn user() -> String {
    use std::os::unix::fs::MetadataExt;
    format!("user {}", std::fs::metadata("/proc/self").unwrap().uid())
}

#[test]
fn a_command_by_itself_names_its_user() {
    let sandbox = Sandbox::new();
    sandbox.script("nosy.rhai", NOSY);
    sandbox.up();
    assert_eq!(sandbox.sh("echo $ASKED_BY"), format!("{}/admin/command-line\n", user()));
    sandbox.run(&["restart"]).ok();
    sandbox.run(&["update", "--memory", "256MiB"]).ok();
    sandbox.run(&["cleanup"]).ok();
    sandbox.run(&["stop"]).ok();
    sandbox.run(&["down"]).ok();
    let (found, count) = callers(&sandbox, 0);
    assert_eq!(found, [by(&user(), "admin", "command-line")]);
    assert!(count > 8, "{count}");
    let plan = sandbox.json(&["plan"]);
    assert!(plan.to_string().contains("/admin/command-line"), "{plan}");
}

#[test]
fn over_the_socket_and_the_network_it_is_who_called_and_the_service_for_itself() {
    let sandbox = Sandbox::new();
    sandbox.write("config/policies/nosy.rhai", NOSY);
    let entry = "[[policy]]\nname = \"nosy.rhai\"\nscript = \"policies/nosy.rhai\"\n";
    let (https, serving) = Https::start(&sandbox, entry);
    let operator = token(&sandbox, &["deployer", "--role", "operator"]);
    let server = sandbox.path("state/wharf.sock").display().to_string();
    let there = |args: &[&str]| sandbox.run(&[&["--server", server.as_str()], args].concat()).ok();

    there(&["up"]);
    // The service itself decides on the engine's events meanwhile.
    until("the service asks about events", || callers(&sandbox, 0).0.len() > 1);
    there(&["exec", "--", "true"]);
    there(&["restart"]);
    api::post(&sandbox, "/v1/workspaces/project/plan", "{}").ok();
    let (found, mut count) = callers(&sandbox, 0);
    let (socket, own) = (by(&user(), "admin", "socket"), by("wharf serve", "admin", "service"));
    assert!(found.iter().all(|caller| *caller == socket || *caller == own), "{found:?}");
    assert!(records(&sandbox).iter().all(|record| {
        let caller = &record["input"]["facts"]["caller"];
        (record["hook"] == "event") == (*caller == own)
    }));

    let deployer = by("deployer", "operator", "network");
    for (method, path, body) in [
        ("POST", "/v1/workspaces/project/exec", "{\"command\":[\"true\"]}"),
        ("POST", "/v1/workspaces/project/stop", "{}"),
        ("POST", "/v1/workspaces/project/start", "{}"),
        ("POST", "/v1/workspaces/project/exec", "{\"command\":[\"true\"],\"detach\":true}"),
        ("POST", "/v1/workspaces/project/update", "{\"memory\":268435456}"),
    ] {
        let head = format!("host: localhost\r\nauthorization: Bearer {operator}\r\ncontent-type: application/json\r\n");
        let answer = https.send(method, path, &head, body);
        assert!(answer.status < 300 || path.ends_with("update"), "{path}: {}", answer.head);
        let (found, now) = callers(&sandbox, count);
        assert!(found.iter().all(|caller| *caller == deployer || *caller == own), "{path}: {found:?}");
        assert!(found.contains(&deployer) || path.ends_with("update"), "{path}: {found:?}");
        count = now;
    }
    // A denial names the refused caller.
    let head = format!("host: localhost\r\nauthorization: Bearer {operator}\r\ncontent-type: application/json\r\n");
    let refused = https.send("POST", "/v1/workspaces/project/exec", &head, "{\"command\":[\"secret\"]}");
    assert_eq!(refused.problem(403), "not-you");
    assert!(records(&sandbox).iter().any(|record| record.to_string().contains("deployer may not")));
    serving.terminate();
}

#[test]
fn an_interactive_command_of_a_service_names_its_caller_too() {
    let sandbox = Sandbox::new();
    sandbox.script("nosy.rhai", NOSY);
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    let (_, count) = callers(&sandbox, 0);
    let server = sandbox.path("state/wharf.sock").display().to_string();
    // With input it uses a WebSocket.
    let run = sandbox.feed(&["--server", &server, "exec", "-i", "--", "cat"], b"hello".to_vec());
    assert_eq!(run.ok().text(), "hello");
    let all = records(&sandbox);
    let exec = all.iter().skip(count).find(|record| record["hook"] == "pre-exec").unwrap();
    assert_eq!(exec["input"]["facts"]["caller"], by(&user(), "admin", "socket"));
    serving.terminate();
}
