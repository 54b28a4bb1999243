//! The HTTP API of `wharf serve`, over its real socket.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::service::serve::Serving;
use crate::support::engine_api as engine;
use crate::support::fake_daemon::Outage;
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{get, post, raw, send, socket};

/// A command that records the request to end, and ends when it is permitted to.
const UNTIL_IT_MAY: &str = "trap 'echo > /workspace/told' TERM; while ! test -e /workspace/go; do sleep 0.1; done";

#[test]
fn the_socket_is_closed_to_others_and_comes_and_goes_with_the_service() {
    let sandbox = Sandbox::new();
    let path = socket(&sandbox);
    let serving = Serving::start(&sandbox, &[]);
    assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(get(&sandbox, "/v1/health").ok(), json!({ "status": "alive" }));
    assert_eq!(get(&sandbox, "/v1/version").ok()["version"], env!("CARGO_PKG_VERSION"));
    // A killed service leaves its file, and the next one replaces it.
    serving.kill();
    assert!(path.exists());
    let serving = Serving::start(&sandbox, &[]);
    assert_eq!(get(&sandbox, "/v1/ready").ok(), json!({ "status": "ready" }));
    serving.end();
    assert!(!path.exists());
}

#[test]
fn a_socket_that_cannot_be_had_keeps_the_service_from_beginning_and_the_api_can_be_turned_off() {
    let sandbox = Sandbox::new();
    let path = socket(&sandbox);
    std::os::unix::fs::symlink(sandbox.path("elsewhere"), &path).unwrap();
    let refused = sandbox.run(&["--json", "serve"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("api")));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("wharf.sock") && message.contains("not a socket"), "{message}");
    assert!(!sandbox.path("elsewhere").exists());
    assert!(sandbox.run(&["doctor"]).ok().text().contains("wharf serve is not running"));
    sandbox.config("[api]\nenabled = false\n");
    let serving = Serving::start(&sandbox, &[]);
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    serving.end();
    sandbox.config("[api]\nsocket = \"relative.sock\"\n");
    let refused = sandbox.run(&["serve"]);
    assert!(refused.code == 3 && refused.stderr.contains("api.socket"), "{}", refused.stderr);
    let named = sandbox.path("state/named.sock");
    sandbox.config(&format!("[api]\nsocket = \"{}\"\n", named.display()));
    let serving = Serving::start(&sandbox, &[]);
    send(&named, "GET", "/v1/health", "host: localhost\r\n", "").ok();
    serving.end();
}

#[test]
fn what_is_read_is_what_the_commands_print() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.json(&["up", "--label", "team=pay me"]);
    sandbox.run_in(&sandbox.folder("other"), &["up", "--label", "team=ops"]).ok();
    let store = sandbox.store();
    until("both are known", || store.states().unwrap().iter().filter(|state| state.started_at.is_some()).count() == 2);
    let id = sandbox.id();
    assert_eq!(get(&sandbox, "/v1/workspaces").ok(), sandbox.json(&["ls"]));
    assert_eq!(get(&sandbox, &format!("/v1/workspaces/{id}")).ok(), sandbox.view(&[]));
    assert_eq!(get(&sandbox, "/v1/workspaces/project").ok()["id"], id.as_str());
    assert_eq!(get(&sandbox, "/v1/policies").ok(), sandbox.json(&["policy", "ls"]));
    assert_eq!(get(&sandbox, "/v1/cleanup?all=true").ok(), sandbox.json(&["cleanup", "ls", "--all"]));
    let metrics = get(&sandbox, "/v1/workspaces/project/metrics?since=2h&step=5m").ok();
    assert_eq!(metrics.as_array().is_some(), sandbox.json(&["metrics", "--since", "2h", "--step", "5m"]).is_array());

    // By label, and page by page.
    let paying = get(&sandbox, "/v1/workspaces?label=team%3Dpay+me").ok();
    assert_eq!(paying.as_array().unwrap().len(), 1);
    assert_eq!(paying[0]["id"], id.as_str());
    let first = get(&sandbox, "/v1/workspaces?limit=1&label=team");
    let link = first.header("link").unwrap().to_owned();
    let next = link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0.to_owned();
    let second = get(&sandbox, &next);
    assert_eq!(second.header("link"), None);
    let ids = [&first.ok()[0]["id"], &second.ok()[0]["id"]].map(|id| id.as_str().unwrap().to_owned());
    assert!(ids[0] < ids[1] && ids.contains(&id), "{ids:?}");
    serving.end();
}

#[test]
fn verbs_do_what_the_commands_do_and_answer_with_the_workspace() {
    let sandbox = Sandbox::new();
    sandbox.config("[engine]\nstop_timeout = \"1s\"\n[limits]\nmemory = \"4GiB\"\n");
    let serving = Serving::start(&sandbox, &[]);
    let up = sandbox.up();
    let verb = |verb: &str, body: &str| post(&sandbox, &format!("/v1/workspaces/project/{verb}"), body);
    assert_eq!(verb("pause", "").ok()["state"], "paused");
    assert_eq!(verb("unpause", "{}").ok()["state"], "running");
    let stopped = verb("stop", "{\"timeout\": \"1s\"}").ok();
    assert_eq!((&stopped["state"], &stopped["id"]), (&json!("exited"), &up["id"]));
    assert_eq!(verb("pause", "").problem(409), "not-running");
    assert_eq!(verb("start", "").ok()["state"], "running");
    assert_eq!(verb("restart", "").ok()["state"], "running");
    verb("update", "{\"memory\": \"256MiB\", \"pids\": 100}").ok();
    let container = engine::inspect(up["container_id"].as_str().unwrap());
    assert_eq!(container["HostConfig"]["Memory"], 256 << 20);
    assert_eq!(verb("update", "{\"memory\": \"5GiB\"}").problem(403), "invariant");
    assert_eq!(verb("update", "{}").problem(400), "bad-request");
    let remove = |query: &str| {
        send(&socket(&sandbox), "DELETE", &format!("/v1/workspaces/project{query}"), "host: localhost\r\n", "")
    };
    assert_eq!(remove("").problem(409), "running");
    verb("kill", "{\"signal\": \"KILL\"}").ok();
    assert_eq!(post(&sandbox, "/v1/cleanup/sweep", "{\"dry_run\": true}").ok()["failed"], Value::Null);
    assert_eq!(remove("?force=true").ok()["id"], up["id"]);
    assert_eq!(remove("").problem(404), "workspace-not-found");
    sandbox.assert_nothing_left();
    assert!(sandbox.store().open_entries().unwrap().is_empty());
    serving.end();
}

#[test]
fn what_policies_refuse_is_refused_with_their_reason() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) { if ctx.spec.resources.pids == 77 { ctx.deny(\"unlucky\", \"not 77\"); } }",
    );
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let denied = post(&sandbox, "/v1/workspaces/project/update", "{\"pids\": 77}");
    denied.problem(403);
    let problem = denied.json();
    assert!(problem.to_string().contains("77") && problem["trail"].to_string().contains("rule.rhai"), "{problem}");
    serving.end();
}

#[test]
fn a_reload_is_waited_for_and_a_bad_one_is_refused_with_its_reason() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn event(ctx) { }");
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    sandbox.write("config/policies/rule.rhai", "fn event(ctx) { ctx.note(\"other\"); }");
    let before = sandbox.store().service().unwrap().unwrap().chain.policies;
    let chain = post(&sandbox, "/v1/policies/reload", "").ok();
    assert_ne!(chain["policies"]["rule.rhai"], before["rule.rhai"].as_str());
    sandbox.write("config/policies/rule.rhai", "fn event(ctx) {");
    let refused = post(&sandbox, "/v1/policies/reload", "");
    assert_eq!(refused.problem(422), "reload-refused");
    assert!(refused.json()["detail"].as_str().unwrap().contains("rule.rhai"), "{}", refused.json());
    assert_eq!(json!(sandbox.store().service().unwrap().unwrap().chain.policies), chain["policies"]);
    serving.terminate();
}

#[test]
fn every_mistake_is_a_problem_that_says_what_to_do() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    assert_eq!(get(&sandbox, "/v1").problem(404), "no-route");
    assert_eq!(get(&sandbox, "/v1/workspaces/").problem(404), "no-route");
    let wrong = post(&sandbox, "/v1/policies", "");
    assert_eq!(wrong.problem(405), "wrong-method");
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("get")), "{}", wrong.head);
    assert_eq!(get(&sandbox, "/v1/workspaces/no-such").problem(404), "workspace-not-found");
    assert_eq!(get(&sandbox, "/v1/workspaces/%FF").problem(400), "bad-request");
    assert_eq!(get(&sandbox, "/v1/workspaces/..%2F..%2Fetc%2Fpasswd").problem(404), "workspace-not-found");
    for query in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "labels=a", "cursor=a&cursor=b"] {
        assert_eq!(get(&sandbox, &format!("/v1/workspaces?{query}")).problem(400), "bad-request", "{query}");
    }
    assert_eq!(get(&sandbox, "/v1/cleanup?all=yes").problem(400), "bad-request");
    sandbox.up();
    assert_eq!(get(&sandbox, "/v1/workspaces/project/metrics?since=soon").problem(400), "bad-request");

    let stop = "/v1/workspaces/project/stop";
    let broken = post(&sandbox, stop, "{\n  \"timeout\": }");
    assert_eq!(broken.problem(400), "bad-request");
    assert!(broken.json()["detail"].as_str().unwrap().contains("line 2"), "{}", broken.json());
    let secret = post(&sandbox, stop, "{\"timeout\": \"hunter2\"}");
    secret.problem(400);
    assert!(!secret.json().to_string().contains("hunter2"), "{}", secret.json());
    assert_eq!(post(&sandbox, stop, "{\"time\": 1}").problem(400), "bad-request");
    assert_eq!(post(&sandbox, stop, &"[".repeat(1 << 19)).problem(400), "bad-request");
    assert_eq!(post(&sandbox, stop, &" ".repeat((1 << 20) + 1)).problem(413), "too-large");
    assert_eq!(send(&socket(&sandbox), "POST", stop, "host: localhost\r\n", "{}").problem(415), "media-type");
    // Without a length, the bytes are counted.
    let mut chunked = format!("POST {stop} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        chunked.push_str(&format!("10000\r\n{}\r\n", " ".repeat(0x10000)));
    }
    assert_eq!(raw(&socket(&sandbox), chunked.as_bytes()).problem(413), "too-large");
    assert_eq!(sandbox.json(&["inspect"])["state"], "running", "none of that did anything");
    serving.end();
}

#[test]
fn web_pages_and_other_hosts_are_refused() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let with = |headers: &str| send(&socket(&sandbox), "POST", "/v1/workspaces/project/stop", headers, "");
    for headers in ["origin: http://localhost\r\n", "origin: null\r\n", "sec-fetch-site: cross-site\r\n"] {
        assert_eq!(with(&format!("host: localhost\r\n{headers}")).problem(403), "cross-site", "{headers}");
    }
    assert_eq!(with("host: example.com\r\n").problem(421), "wrong-host");
    for headers in ["", "host: localhost\r\nhost: localhost\r\n"] {
        assert_eq!(with(headers).problem(400), "bad-request", "{headers}");
    }
    let absolute = send(&socket(&sandbox), "GET", "http://example.com/v1/health", "host: localhost\r\n", "");
    assert_eq!(absolute.problem(421), "wrong-host");
    // Two lengths could hide another request.
    for headers in ["content-length: 5\r\ncontent-length: 6\r\n", "content-length: x\r\n"] {
        let request = format!("POST /v1/workspaces/project/stop HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n123456");
        assert_eq!(raw(&socket(&sandbox), request.as_bytes()).status, 400, "{headers}");
    }
    let large = format!("GET /v1/health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(raw(&socket(&sandbox), large.as_bytes()).status, 431);
    assert_eq!(sandbox.json(&["inspect"])["state"], "running", "none of that did anything");
    serving.end();
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    let request = "POST /v1/cleanup/sweep HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{";
    let answer = raw(&socket(&sandbox), request.as_bytes());
    assert_eq!(answer.problem(408), "too-slow");
    assert_eq!(answer.header("connection"), Some("close"));
    serving.end();
}

#[test]
fn too_many_at_once_are_told_to_come_back() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    // Each connection waits for a body.
    let request = "POST /v1/cleanup/sweep HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n";
    let held: Vec<UnixStream> = (0..64)
        .map(|_| {
            let mut stream = UnixStream::connect(socket(&sandbox)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    until("one is too many", || get(&sandbox, "/v1/version").status == 503);
    let busy = get(&sandbox, "/v1/version");
    assert_eq!((busy.problem(503), busy.header("retry-after")), ("busy".to_owned(), Some("1")));
    get(&sandbox, "/v1/health").ok();
    drop(held);
    until("who went away is forgotten", || get(&sandbox, "/v1/version").status == 200);
    serving.end();
}

#[test]
fn a_service_without_its_engine_says_what_is_missing_and_reads_its_store() {
    let sandbox = Sandbox::new();
    let outage = Outage::new(&sandbox.path("relay.sock"));
    outage.set_away(true);
    let serving = Serving::start(&sandbox, &["--engine", &outage.endpoint]);
    assert!(serving.lines.next().starts_with("the engine is unreachable"));
    get(&sandbox, "/v1/health").ok();
    let ready = get(&sandbox, "/v1/ready");
    assert_eq!(ready.problem(503), "not-ready");
    assert!(ready.json()["missing"].to_string().contains("engine"), "{}", ready.json());
    let away = get(&sandbox, "/v1/workspaces");
    assert_eq!((away.problem(503), away.header("retry-after")), ("engine-unreachable".to_owned(), Some("1")));
    assert_eq!(get(&sandbox, "/v1/cleanup").ok(), json!([]));
    outage.set_away(false);
    until("it is ready", || get(&sandbox, "/v1/ready").status == 200);
    outage.set_away(true);
    until("it is not", || get(&sandbox, "/v1/ready").status == 503);
    outage.set_away(false);
    serving.terminate();
}

#[test]
fn a_verb_whose_client_goes_away_is_carried_out() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--", "sh", "-c", UNTIL_IT_MAY]);
    let serving = Serving::start(&sandbox, &[]);
    let request = "POST /v1/workspaces/project/stop HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 18\r\n\r\n{\"timeout\": \"50s\"}";
    let mut stream = UnixStream::connect(socket(&sandbox)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    until("it is under way", || sandbox.path("project/told").exists());
    drop(stream);
    sandbox.write("project/go", "");
    until("it is stopped", || sandbox.json(&["inspect"])["state"] == "exited");
    serving.end();
}

#[test]
fn a_service_that_ends_finishes_the_verb_and_tells_its_client() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--", "sh", "-c", UNTIL_IT_MAY]);
    let serving = Serving::start(&sandbox, &[]);
    let path = socket(&sandbox);
    let client = std::thread::spawn({
        let path = path.clone();
        move || {
            let headers = "host: localhost\r\ncontent-type: application/json\r\n";
            send(&path, "POST", "/v1/workspaces/project/stop", headers, "{\"timeout\": \"50s\"}")
        }
    });
    until("it is under way", || sandbox.path("project/told").exists());
    let going = std::thread::spawn({
        let (path, go) = (path.clone(), sandbox.path("project/go"));
        move || {
            until("nobody is taken any more", || !path.exists());
            std::fs::write(go, "").unwrap();
        }
    });
    serving.end();
    going.join().unwrap();
    assert_eq!(client.join().unwrap().ok()["state"], "exited");
}
