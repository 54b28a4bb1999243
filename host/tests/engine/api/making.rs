//! Creating workspaces over the API: progress, keys, snapshots, images, leases.

use serde_json::{Value, json};

use super::streams::Events;
use crate::service::serve::Serving;
use crate::support::engine_api::BASE;
use crate::support::https::{Https, token};
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{get, post, send, socket};

fn delete(sandbox: &Sandbox, path: &str) -> crate::support::service_api::Answer {
    send(&socket(sandbox), "DELETE", path, "host: localhost\r\n", "")
}

/// Sends a request for a workspace with an idempotency key.
fn keyed(sandbox: &Sandbox, key: &str, body: &Value) -> crate::support::service_api::Answer {
    let headers = format!("host: localhost\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\n");
    send(&socket(sandbox), "POST", "/v1/workspaces", &headers, &body.to_string())
}

#[test]
fn a_workspace_is_made_with_what_is_asked_for_and_told_as_the_command_tells_it() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let body = json!({
        "project": sandbox.project(), "memory": "128MiB", "pids": 100, "env": { "A": "b" }, "labels": { "team": "pay" },
        "secrets": { "token": "s3cr3t" }, "tmpfs": ["/scratch:1MiB"], "ulimits": ["nofile=512"], "restart": "on-failure:2",
        "ttl": "8h", "network": "own", "command": ["sleep", "1000"],
    });
    let made = post(&sandbox, "/v1/workspaces?wait=30s", &body.to_string()).ok();
    assert_eq!((&made["id"], &made["state"]), (&json!(sandbox.id()), &json!("running")));
    assert_eq!(made, sandbox.view(&[]));
    let spec = &sandbox.store().workspaces().unwrap()[0].draft.spec;
    assert_eq!((spec.resources.memory, spec.resources.pids, spec.time_to_live_ms), (128 << 20, 100, Some(28_800_000)));
    assert_eq!(sandbox.sh("cat /run/secrets/token; echo -$A; ulimit -n").trim(), "s3cr3t-b\n512");
    // The same request is no difference; another one is.
    assert_eq!(post(&sandbox, "/v1/workspaces", &body.to_string()).ok()["container_id"], made["container_id"]);
    let other = json!({ "project": sandbox.project(), "pids": 55 });
    assert_eq!(post(&sandbox, "/v1/workspaces", &other.to_string()).problem(409), "spec-differs");
    let again = post(&sandbox, "/v1/workspaces?recreate=true", &other.to_string()).ok();
    assert_ne!(again["container_id"], made["container_id"]);
    serving.end();
}

#[test]
fn what_cannot_be_made_leaves_nothing_and_says_why() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) { if ctx.spec.resources.pids == 77 { ctx.deny(\"unlucky\", \"no\"); } }",
    );
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let project = sandbox.project();
    let refused = |body: Value| post(&sandbox, "/v1/workspaces", &body.to_string());
    assert_eq!(refused(json!({})).problem(400), "bad-request");
    assert_eq!(refused(json!({ "project": "relative" })).problem(400), "bad-request");
    assert_eq!(
        refused(json!({ "project": project, "image": "a", "build": { "context": "/x" } })).problem(400),
        "bad-request"
    );
    assert_eq!(refused(json!({ "project": project, "pull": "always" })).problem(400), "bad-request");
    assert_eq!(refused(json!({ "project": project, "nose": 1 })).problem(400), "bad-request");
    assert_eq!(refused(json!({ "project": project, "pids": 77 })).problem(403), "unlucky");
    let missing = json!({ "project": project, "image": "wharf-no-such:1", "pull": "never" });
    assert_eq!(refused(missing).problem(422), "image-missing");
    let command = refused(json!({ "project": project, "command": ["/no/such/command"] }));
    assert_eq!(command.problem(422), "command-not-found");
    // The same as events.
    let events =
        Events::ask(&sandbox, "POST", "/v1/workspaces", None, &json!({ "project": project, "pids": 77 }).to_string());
    let last = events.rest().pop().unwrap();
    assert_eq!((last.name.as_str(), &last.data["code"]), ("problem", &json!("unlucky")));
    assert!(last.data["trail"].to_string().contains("rule.rhai"));
    sandbox.assert_nothing_left();
    assert!(sandbox.store().open_entries().unwrap().is_empty());
    serving.terminate();
}

#[test]
fn progress_is_told_while_an_image_is_built_and_the_workspace_comes_last() {
    let sandbox = Sandbox::new();
    sandbox.write("project/Dockerfile", format!("FROM {BASE}\nRUN echo built here > /built\n"));
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let body = json!({ "project": sandbox.project(), "build": { "context": sandbox.project() } }).to_string();
    let mut all = Events::ask(&sandbox, "POST", "/v1/workspaces", None, &body).rest();
    let last = all.pop().unwrap();
    assert_eq!((last.name.as_str(), &last.data["state"]), ("result", &json!("running")), "{last:?}");
    assert!(all.iter().all(|event| event.name == "progress"), "{all:?}");
    let kinds: Vec<_> = all.iter().map(|event| event.data["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"step") && kinds.contains(&"build"), "{all:?}");
    assert_eq!(sandbox.sh("cat /built").trim(), "built here");
    let images = get(&sandbox, "/v1/images").ok();
    assert_eq!(images, sandbox.json(&["image", "ls"]));
    let reference = images[0]["reference"].as_str().unwrap().replace('/', "%2F");
    assert_eq!(delete(&sandbox, &format!("/v1/images/{reference}")).problem(409), "conflict");
    assert_eq!(post(&sandbox, "/v1/images/prune", "").ok(), json!({ "removed": [], "failed": [] }));
    delete(&sandbox, "/v1/workspaces/project?force=true").ok();
    assert_eq!(post(&sandbox, "/v1/images/prune", "").ok()["removed"], json!([images[0]["reference"]]));
    let build =
        json!({ "build": { "context": sandbox.project() }, "tag": format!("{}:1", sandbox.name().to_lowercase()) });
    let built = post(&sandbox, "/v1/images/build", &build.to_string()).ok();
    assert_eq!(built["origin"], "built");
    assert_eq!(
        delete(&sandbox, &format!("/v1/images/{}", built["reference"].as_str().unwrap())).ok(),
        json!([built["reference"]])
    );
    assert_eq!(delete(&sandbox, "/v1/images/wharf-no-such").problem(404), "not-found");
    assert_eq!(get(&sandbox, "/v1/images").ok(), json!([]));
    serving.end();
}

#[test]
fn a_request_with_a_key_is_carried_out_once_also_over_a_restart() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let body = json!({ "project": sandbox.project() });
    let first = keyed(&sandbox, "one", &body);
    assert_eq!(first.header("idempotency-replayed"), None);
    let first = first.ok();
    delete(&sandbox, "/v1/workspaces/project?force=true").ok();
    let second = keyed(&sandbox, "one", &body);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(second.ok(), first, "the same answer, and nothing is made");
    sandbox.assert_nothing_left();
    let other = keyed(&sandbox, "one", &json!({ "project": sandbox.project(), "pids": 50 }));
    assert_eq!(other.problem(422), "key-reused");
    for key in ["", &"x".repeat(201)] {
        assert_eq!(keyed(&sandbox, key, &body).problem(400), "bad-request");
    }
    serving.end();
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    assert_eq!(keyed(&sandbox, "one", &body).ok(), first);
    // A request that was refused temporarily is tried again.
    assert_eq!(keyed(&sandbox, "two", &json!({ "project": "/no/such" })).problem(422), "project-unusable");
    assert_ne!(keyed(&sandbox, "three", &body).ok()["container_id"], first["container_id"]);
    serving.end();
}

#[test]
fn a_key_is_its_callers_own() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let [first, second] = ["first", "second"].map(|name| token(&sandbox, &[name, "--role", "operator"]));
    let make = |token: &str, body: &Value| {
        let headers = format!(
            "host: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nidempotency-key: one\r\n"
        );
        https.send("POST", "/v1/workspaces", &headers, &body.to_string())
    };
    let (mine, other) = (json!({ "project": sandbox.project() }), json!({ "project": sandbox.project(), "name": "b" }));
    let made = make(&first, &mine).ok();
    assert_eq!(make(&first, &mine).header("idempotency-replayed"), Some("true"));
    assert_eq!(make(&first, &other).problem(422), "key-reused");
    // Another caller's key reveals nothing about the first one: neither an answer nor its existence.
    let theirs = make(&second, &other);
    assert_eq!(theirs.header("idempotency-replayed"), None);
    assert_ne!(theirs.ok()["id"], made["id"]);
    assert_eq!(make(&second, &mine).problem(422), "key-reused");
    assert_eq!(keyed(&sandbox, "one", &mine).header("idempotency-replayed"), None);
    serving.end();
}

#[test]
fn the_same_request_while_it_is_under_way_is_told_so() {
    let sandbox = Sandbox::new();
    sandbox.write("project/Dockerfile", format!("FROM {BASE}\nRUN sleep 5\n"));
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let body = json!({ "project": sandbox.project(), "build": { "context": sandbox.project(), "no_cache": true } });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| keyed(&sandbox, "one", &body));
        until("it is under way", || !sandbox.store().open_entries().unwrap().is_empty());
        assert_eq!(keyed(&sandbox, "one", &body).problem(409), "still-running");
        let first = first.join().unwrap().ok();
        assert_eq!(keyed(&sandbox, "one", &body).ok(), first);
    });
    delete(&sandbox, "/v1/workspaces/project?force=true").ok();
    post(&sandbox, "/v1/images/prune", "").ok();
    serving.end();
}

#[test]
fn snapshots_are_made_restored_and_removed() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    sandbox.sh("echo kept > /kept");
    let made = post(&sandbox, "/v1/workspaces/project/snapshots", "{\"name\": \"first\"}").ok();
    assert_eq!(made["name"], format!("{}/first", sandbox.id()));
    assert_eq!(get(&sandbox, "/v1/snapshots").ok(), sandbox.json(&["snapshot", "ls"]));
    assert_eq!(get(&sandbox, "/v1/snapshots?workspace=project").ok(), json!([made]));
    assert_eq!(post(&sandbox, "/v1/workspaces/project/snapshots", "{\"name\": \"first\"}").problem(400), "bad-request");
    assert_eq!(delete(&sandbox, "/v1/snapshots/no-such").problem(404), "snapshot-not-found");
    let path = format!("/v1/snapshots/{}%2Ffirst", sandbox.id());
    let mut events = Events::ask(&sandbox, "POST", &format!("{path}/restore"), None, "{\"as\": \"again\"}").rest();
    let again = events.pop().unwrap();
    assert_eq!((again.name.as_str(), &again.data["name"]), ("result", &json!("again")), "{again:?}");
    assert_eq!(sandbox.run(&["exec", "again", "--", "cat", "/kept"]).ok().text().trim(), "kept");
    delete(&sandbox, "/v1/workspaces/again?force=true").ok();
    assert_eq!(delete(&sandbox, &path).ok(), made);
    assert_eq!(delete(&sandbox, &path).problem(404), "snapshot-not-found");
    serving.end();
}

#[test]
fn waits_leases_and_what_a_sweep_planned() {
    let sandbox = Sandbox::new();
    sandbox.config("[idle]\nafter = \"2h\"\n");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let wait = |body: &str| post(&sandbox, "/v1/workspaces/project/wait", body);
    assert_eq!(wait("").ok(), sandbox.json(&["wait"]));
    assert_eq!(wait("{\"for\": \"removed\", \"timeout\": \"100ms\"}").problem(408), "timeout");
    assert_eq!(wait("{\"for\": \"lunch\"}").problem(400), "bad-request");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait("{\"for\": \"exited\"}").ok());
        post(&sandbox, "/v1/workspaces/project/kill", "").ok();
        assert_eq!(waiting.join().unwrap()["exit_code"], 137);
    });
    post(&sandbox, "/v1/workspaces/project/start", "").ok();

    let lease = post(&sandbox, "/v1/workspaces/project/lease", "{\"time\": \"3h\"}").ok();
    assert!(lease["until"].is_string());
    assert_eq!(get(&sandbox, "/v1/workspaces/project/lease").ok(), lease);
    let idle = get(&sandbox, "/v1/workspaces/project/idle").ok();
    assert_eq!((&idle["after"], &idle["service"], &idle["stops_at"]), (&json!("2h"), &json!(true), &lease["until"]));
    let printed = sandbox.json(&["idle", "why"]);
    assert_eq!((&printed["after"], &printed["stops_at"]), (&idle["after"], &idle["stops_at"]));
    assert_eq!(get(&sandbox, "/v1/idle").ok()[0]["id"], sandbox.id());
    assert_eq!(delete(&sandbox, "/v1/workspaces/project/lease").ok()["until"], Value::Null);
    assert_eq!(post(&sandbox, "/v1/workspaces/project/lease", "{}").problem(400), "bad-request");

    assert_eq!(post(&sandbox, "/v1/cleanup/undo", "{\"which\": \"nothing\"}").problem(400), "bad-request");
    assert_eq!(post(&sandbox, "/v1/cleanup/allow", "{\"which\": \"nothing\"}").problem(400), "bad-request");
    serving.end();
}
