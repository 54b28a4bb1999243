//! Tokens: what a token with labels reveals about other workspaces, its limit of concurrent requests, and what
//! continues after its revocation.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::engine_api::{self as engine, BASE};
use crate::support::https::{Https, token};
use crate::support::sandbox::{LABEL_SANDBOX, Sandbox, until};
use crate::support::service_api::{self as api, Answer};

/// Denies a command with its words, or fails with them.
const WORDS: &str =
    "fn pre_exec(ctx) { if ctx.exec.command.contains(\"fail\") { throw `bad command ${ctx.exec.command}`; } }";

#[track_caller]
fn post(https: &Https, token: &str, path: &str, body: &Value) -> Answer {
    let headers = format!("host: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    https.send("POST", path, &headers, &body.to_string())
}

#[test]
fn an_id_that_is_used_again_shows_its_next_owner_nothing_of_the_one_before() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", WORDS);
    let (https, serving) = Https::start(&sandbox, &format!("\n{}", sandbox.config_text()));
    let first = token(&sandbox, &["first", "--role", "viewer", "--label", "team=a"]);
    let next = token(&sandbox, &["next", "--role", "viewer", "--label", "team=b"]);
    let before = sandbox.json(&["up", "--label", "team=a"]);
    sandbox.sh("echo words-of-the-first");
    sandbox.run(&["snapshot", "create", "project", "--name", "layoffs"]).ok();
    let get = |token: &str, path: &str| https.by(token, "GET", path);
    let old = get(&first, "/v1/decisions").ok();
    assert!(old.to_string().contains("words-of-the-first"), "{old}");
    assert_eq!(get(&first, "/v1/snapshots").ok().as_array().unwrap().len(), 1);
    sandbox.run(&["down"]).ok();
    let after = sandbox.json(&["up", "--label", "team=b"]);
    assert_eq!(before["id"], after["id"]);
    sandbox.sh("echo words-of-the-next");

    for path in ["/v1/decisions", "/v1/decisions?workspace=project"] {
        let records = get(&next, path).ok();
        let said = records.to_string();
        assert!(said.contains("words-of-the-next") && !said.contains("words-of-the-first"), "{said}");
        for record in records.as_array().unwrap() {
            assert!(old.as_array().unwrap().iter().all(|old| old["id"] != record["id"]), "{record}");
        }
    }
    for record in old.as_array().unwrap() {
        get(&next, &format!("/v1/decisions/{}", record["number"])).problem(404);
    }
    assert_eq!(get(&next, "/v1/snapshots").ok(), json!([]));
    assert_eq!(get(&next, "/v1/snapshots?workspace=project").ok(), json!([]));
    let events = get(&next, "/v1/events?workspace=project").ok();
    let of = |id: &Value| events.as_array().unwrap().iter().filter(|event| event["container_id"] == *id).count();
    assert!(of(&before["container_id"]) == 0 && of(&after["container_id"]) > 0, "{events}");
    // The first token still sees nothing more, and an unrestricted caller sees everything.
    assert_eq!(get(&first, "/v1/decisions").ok(), json!([]));
    let all = api::get(&sandbox, "/v1/decisions").ok().to_string();
    assert!(all.contains("words-of-the-first") && all.contains("words-of-the-next"), "{all}");
    serving.end();
}

#[test]
fn a_token_with_labels_learns_nothing_of_other_workspaces_and_of_the_host() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", WORDS);
    let (https, serving) = Https::start(&sandbox, &format!("\n{}", sandbox.config_text()));
    sandbox.json(&["up", "--label", "team=a"]);
    let folder = sandbox.folder("quarterly");
    sandbox.run_in(&folder, &["up", "--label", "team=b"]).ok();
    let other = sandbox.id_of("quarterly", &folder);
    assert_ne!(sandbox.run_in(&folder, &["exec", "--", "fail", "prod-server-7"]).code, 0);
    let text = token(&sandbox, &["a", "--role", "operator", "--label", "team=a"]);
    let get = |path: &str| https.by(&text, "GET", path);

    let whole = api::get(&sandbox, "/v1/policies").ok().to_string();
    assert!(whole.contains("prod-server-7") && whole.contains(&other), "the example fails: {whole}");
    let policies = get("/v1/policies").ok();
    let said = policies.to_string();
    assert!(
        !said.contains("prod-server-7") && !said.contains(&other) && said.contains("hidden from a token"),
        "{said}"
    );

    let whole = api::get(&sandbox, "/v1/decisions?workspace=project").ok();
    let images = |records: &Value| {
        let of = |record: &Value| record["input"]["facts"].get("local_images").is_some();
        records.as_array().unwrap().iter().filter(|record| of(record)).count()
    };
    assert!(images(&whole) > 0, "{whole}");
    let part = get("/v1/decisions?workspace=project").ok();
    assert!(!part.as_array().unwrap().is_empty() && images(&part) == 0, "{part}");
    let one = get(&format!("/v1/decisions/{}", part[0]["number"])).ok();
    assert_eq!(one["left_out"], json!(["input.facts.local_images", "paths"]));

    // The answer is the same whether a path is missing or forbidden.
    let plan = |request: Value| {
        let answer = post(&https, &text, "/v1/workspaces/project/plan", &json!({ "request": request }));
        (answer.status, answer.json())
    };
    let missing = "/no/such/path";
    for there in ["/etc/shadow", "/etc", "/root"] {
        let mount = |path: &str| plan(json!({ "project": "/x", "mounts": [format!("{path}:/m")] }));
        assert_eq!(mount(there), mount(missing), "{there}");
        let build = |path: &str| plan(json!({ "project": "/x", "build": { "context": path } }));
        assert_eq!(build(there), build(missing), "{there}");
        let project = |path: &str| plan(json!({ "project": path }));
        assert_eq!(project(there), project(missing), "{there}");
    }
    // A file of the project, which a workspace may write, reveals nothing either.
    let devcontainer = |path: &str| {
        let mounts = json!([format!("source={path},target=/m,type=bind")]);
        sandbox.write("project/.devcontainer/devcontainer.json", json!({ "mounts": mounts }).to_string());
        let (status, told) = plan(json!({ "project": "/x" }));
        // The error repeats the words of the file.
        (status, told.to_string().replace(path, "PATH"))
    };
    let (status, told) = devcontainer(missing);
    assert!(status == 200 && told.contains("\"code\":\"invariant\""), "{status} {told}");
    assert_eq!(devcontainer("/etc/shadow"), (status, told));
    let context = |path: &str| {
        let build = json!({ "build": { "dockerfile": "Dockerfile", "context": path } });
        sandbox.write("project/.devcontainer/devcontainer.json", build.to_string());
        plan(json!({ "project": "/x" }))
    };
    assert_eq!(context("../../../../../../../../etc"), context("../../../../../../../../no/such"));
    serving.end();
}

/// Follows events with a token. Returns the connection and the head of the answer.
fn follow(https: &Https, token: &str) -> (impl Read + use<>, String) {
    let mut stream = https.connect().unwrap();
    let head = format!("authorization: Bearer {token}\r\naccept: text/event-stream\r\n");
    write!(stream, "GET /v1/events HTTP/1.1\r\nhost: localhost\r\n{head}\r\n").unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while !all.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..count]);
    }
    (stream, String::from_utf8(all).unwrap().to_lowercase())
}

#[test]
fn a_token_has_its_share_of_streams_and_others_and_the_socket_keep_theirs() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let (https, serving) = Https::start(&sandbox, "rate = 1000\n");
    let [hog, other] = ["hog", "other"].map(|name| token(&sandbox, &[name, "--role", "operator"]));
    let mut held = Vec::new();
    let refused = loop {
        let (stream, head) = follow(&https, &hog);
        if !head.starts_with("http/1.1 200") {
            break head;
        }
        held.push(stream);
        assert!(held.len() < 60, "one token takes all that it wants");
    };
    assert_eq!(held.len(), 32);
    assert!(refused.starts_with("http/1.1 503") && refused.contains("retry-after: "), "{refused}");
    // The same limit on other routes.
    let command = json!({ "command": ["true"] });
    for answer in [
        post(&https, &hog, "/v1/workspaces/project/exec", &command),
        post(&https, &hog, "/v1/workspaces/project/wait", &json!({ "for": "exited" })),
        https.by(&hog, "GET", "/v1/workspaces/project/logs"),
        https.by(&hog, "GET", "/v1/workspaces/project/files?path=/etc/hostname"),
    ] {
        assert_eq!(answer.problem(503), "busy");
    }
    assert_eq!(post(&https, &other, "/v1/workspaces/project/exec", &command).ok()["exit_code"], 0);
    assert_eq!(api::post(&sandbox, "/v1/workspaces/project/exec", &command.to_string()).ok()["exit_code"], 0);
    held.pop();
    let freed = Instant::now();
    while post(&https, &hog, "/v1/workspaces/project/exec", &command).status != 200 {
        assert!(freed.elapsed() < Duration::from_secs(20), "the place of a stream that has ended stays taken");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(held);
    serving.end();
}

#[test]
fn a_token_has_its_share_of_requests() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "rate = 1000\n");
    let [hog, other] = ["hog", "other"].map(|name| token(&sandbox, &[name, "--role", "operator"]));
    // Requests whose bodies never arrive.
    let head = format!("host: localhost\r\nauthorization: Bearer {hog}\r\ncontent-length: 10\r\n\r\n");
    let held: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = https.connect().unwrap();
            write!(stream, "POST /v1/workspaces/x/wait HTTP/1.1\r\n{head}").unwrap();
            stream.flush().unwrap();
            stream
        })
        .collect();
    let mut refused = None;
    until("the share is used", || {
        refused = Some(https.by(&hog, "GET", "/v1/version")).filter(|answer| answer.status != 200);
        refused.is_some()
    });
    let refused = refused.unwrap();
    assert!(refused.problem(503) == "busy" && refused.header("retry-after").is_some(), "{}", refused.head);
    https.by(&other, "GET", "/v1/version").ok();
    drop(held);
    serving.end();
}

#[test]
fn what_a_token_began_ends_with_it() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let (https, serving) = Https::start(&sandbox, "");
    let gone = token(&sandbox, &["gone", "--role", "operator"]);
    let runs = || sandbox.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").contains("sleep 41");
    std::thread::scope(|scope| {
        let exec = scope.spawn(|| {
            let body = json!({ "command": ["sleep", "41"], "timeout": "10m" });
            post(&https, &gone, "/v1/workspaces/project/exec", &body)
        });
        let wait = scope.spawn(|| {
            let body = json!({ "for": "exited", "timeout": "45s" });
            post(&https, &gone, "/v1/workspaces/project/wait", &body)
        });
        until("the command runs", runs);
        let begun = Instant::now();
        sandbox.run(&["token", "rm", "gone"]).ok();
        assert_eq!(exec.join().unwrap().problem(401), "bad-token");
        assert_eq!(wait.join().unwrap().problem(401), "bad-token");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    });
    until("the command has ended", || !runs());
    serving.end();
}

#[test]
fn a_token_has_its_share_of_verbs_and_others_and_the_socket_keep_theirs() {
    let sandbox = Sandbox::new();
    // It ignores requests to end.
    let up = sandbox.json(&["up", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    sandbox.run_in(&sandbox.folder("another"), &["up"]).ok();
    let (https, serving) = Https::start(&sandbox, "rate = 1000\n");
    let [hog, other] = ["hog", "other"].map(|name| token(&sandbox, &[name, "--role", "operator"]));
    std::thread::scope(|scope| {
        let stop = || post(&https, &hog, "/v1/workspaces/project/stop", &json!({ "timeout": "50s" }));
        let held: Vec<_> = (0..16).map(|_| scope.spawn(stop)).collect();
        until("its share is used", || held.iter().filter(|held| held.is_finished()).count() == 8);
        let stopped = post(&https, &other, "/v1/workspaces/another/stop", &json!({ "timeout": "0s" }));
        let started = api::post(&sandbox, "/v1/workspaces/another/start", "{}");
        let refused = post(&https, &hog, "/v1/workspaces/another/start", &json!({}));
        // Before any assertion, so that a failure does not have to wait.
        engine::post(&format!("/containers/{}/kill", up["container_id"].as_str().unwrap()), &json!({})).done();
        let held: Vec<_> = held.into_iter().map(|held| held.join().unwrap()).collect();
        assert_eq!(stopped.ok()["state"], "exited");
        assert_eq!(started.ok()["state"], "running");
        assert!(refused.problem(503) == "busy" && refused.header("retry-after").is_some(), "{}", refused.head);
        assert_eq!(held.iter().filter(|answer| answer.status == 503).count(), 8);
    });
    serving.terminate();
}

#[test]
fn a_plan_for_a_token_with_labels_has_one_answer_whether_a_path_or_an_image_is_there() {
    let sandbox = Sandbox::new();
    let shared = sandbox.folder("shared/there").parent().unwrap().canonicalize().unwrap();
    sandbox.script("seen.rhai", "fn pre_create(ctx) { ctx.spec.env.SEEN = `${ctx.images}`; }");
    let allow = format!("\n[allow]\nbind_roots = [\"{}\"]\n{}", shared.display(), sandbox.config_text());
    let (https, serving) = Https::start(&sandbox, &allow);
    sandbox.json(&["up", "--label", "team=a"]);
    let text = token(&sandbox, &["a", "--role", "operator", "--label", "team=a"]);
    let plan = |request: Value| {
        let body = json!({ "request": request });
        let whole = api::post(&sandbox, "/v1/workspaces/project/plan", &body.to_string()).ok().to_string();
        (post(&https, &text, "/v1/workspaces/project/plan", &body).ok().to_string(), whole)
    };
    let mount = |path: &str, read_only: &str| {
        let mounts = json!([format!("source={path},target=/m,type=bind{read_only}")]);
        sandbox.write("project/.devcontainer/devcontainer.json", json!({ "mounts": mounts }).to_string());
        let (told, whole) = plan(json!({ "project": "/x", "restart": "always" }));
        // They repeat the words of the file.
        (told.replace(path, "PATH"), whole.replace(path, "PATH"))
    };
    let [there, none] = ["there", "none"].map(|name| shared.join(name).display().to_string());
    std::os::unix::fs::symlink(&there, sandbox.path("project/way")).unwrap();
    std::os::unix::fs::symlink(&none, sandbox.path("project/road")).unwrap();
    let [way, road] = ["way", "road"].map(|name| sandbox.project().join(name).display().to_string());
    for read_only in ["", ",readonly"] {
        for (a, b) in [(&there, &none), (&way, &road)] {
            let (a, b) = (mount(a, read_only), mount(b, read_only));
            assert_ne!(a.1, b.1, "the example has a difference");
            assert_eq!(a.0, b.0);
            assert!(a.0.contains("not allowed, or does not exist"), "{}", a.0);
        }
    }
    // The record of a creation that fails because of it reveals nothing either.
    assert_ne!(sandbox.run(&["up", "--recreate", "--label", "team=a"]).code, 0);
    let whole = api::get(&sandbox, "/v1/decisions?workspace=project&outcome=denied").ok().to_string();
    let part = https.by(&text, "GET", "/v1/decisions?workspace=project&outcome=denied").ok().to_string();
    assert!(
        whole.contains("No such file") && part.contains("does not exist") && !part.contains("No such file"),
        "{part}"
    );
    std::fs::remove_dir_all(sandbox.path("project/.devcontainer")).unwrap();

    let local = format!("{}-local", sandbox.name());
    let labels = json!({ LABEL_SANDBOX: sandbox.name() });
    let made =
        engine::post("/containers/create", &json!({ "Image": BASE, "Cmd": ["sh"], "Labels": labels })).done().json();
    let id = made["Id"].as_str().unwrap();
    engine::post(&format!("/commit?container={id}&repo={local}&tag=latest&changes=USER%202222"), &json!({})).done();
    let missing = local.replace("-local", "-other");
    let image = |name: &str| {
        let (told, whole) = plan(json!({ "project": "/x", "image": name }));
        (told.replace(name, "IMAGE"), whole.replace(name, "IMAGE"))
    };
    let (there, none) = (image(&local), image(&missing));
    let (plain, whole) = plan(json!({ "project": "/x" }));
    engine::delete(&format!("/images/{local}?force=true")).done();
    assert_ne!(there.1, none.1, "the example has a difference");
    assert_eq!(there.0, none.0);
    assert!(whole.contains(&local) && !plain.contains(&local) && there.0.contains("IMAGE"), "{plain}");
    serving.end();
}

#[test]
fn a_start_for_a_token_with_labels_has_one_answer_whatever_is_in_the_place_of_a_mount() {
    let sandbox = Sandbox::new();
    let data = sandbox.folder("shared/data").canonicalize().unwrap();
    let allow = format!("\n[allow]\nbind_roots = [\"{}\"]\n", data.parent().unwrap().display());
    let (https, serving) = Https::start(&sandbox, &allow);
    sandbox.json(&["up", "--label", "team=a", "--mount", &format!("{}:/data", data.display())]);
    sandbox.json(&["stop", "-t", "0s"]);
    let text = token(&sandbox, &["a", "--role", "operator", "--label", "team=a"]);
    std::fs::rename(&data, data.with_file_name("aside")).unwrap();
    let mut told = Vec::new();
    let mut look = |what: &str| {
        let mut whole = Vec::new();
        for verb in ["start", "restart"] {
            let path = format!("/v1/workspaces/project/{verb}");
            let answer = post(&https, &text, &path, &json!({}));
            assert_eq!(answer.problem(422), "withheld", "{what}");
            told.push(answer.json());
            let answer = api::post(&sandbox, &path, "{}");
            let code = answer.problem(403);
            assert!(["invariant", "mount-changed"].contains(&code.as_str()), "{what}: {code}");
            whole.push(answer.json()["detail"].as_str().unwrap().to_owned());
        }
        whole.swap_remove(0)
    };
    let missing = look("nothing");
    std::fs::create_dir(&data).unwrap();
    let other = look("another folder");
    std::fs::remove_dir(&data).unwrap();
    std::os::unix::fs::symlink("aside", &data).unwrap();
    let link = look("a link");
    std::fs::remove_file(&data).unwrap();
    std::os::unix::fs::symlink("/etc", &data).unwrap();
    let out = look("a link out");
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(data.with_file_name("aside"), &data).unwrap();
    assert_eq!(post(&https, &text, "/v1/workspaces/project/start", &json!({})).ok()["state"], "running");
    // Requests that create a workspace are refused before any path is checked.
    for project in [sandbox.project().display().to_string(), "/no/such".to_owned()] {
        for path in ["/v1/workspaces", "/v1/plan"] {
            let body = json!({ "project": project });
            assert_eq!(post(&https, &text, path, &body).problem(403), "label-scope");
        }
    }
    let log = serving.terminate();
    for whole in [missing, other, link, out] {
        assert!(log.contains("hidden from a caller with labels") && log.contains(&whole), "{whole}: {log}");
    }
}
