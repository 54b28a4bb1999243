//! Endpoints that are missing, are no engine, or are too old.

use serde_json::json;

use crate::support::fake_daemon::{answer_with, silent};
use crate::support::sandbox::Sandbox;

/// Checks that every command that needs the engine reports the same error.
fn refused_everywhere(sandbox: &Sandbox, endpoint: &str, code: &str, words: &[&str]) {
    let before = sandbox.snapshot();
    sandbox.refused(&["--engine", endpoint, "up"], 6, code, words);
    for args in [&["ls"][..], &["stop"], &["stats"], &["logs"], &["down"], &["inspect"]] {
        let mut all = vec!["--json", "--engine", endpoint];
        all.extend(args);
        let refused = sandbox.run(&all);
        assert_eq!((refused.code, &refused.error()["code"]), (6, &json!(code)), "{args:?}");
    }
    let exec = sandbox.run(&["--json", "--engine", endpoint, "exec", "--", "true"]);
    assert_eq!((exec.code, &exec.error()["code"]), (125, &json!(code)));
    sandbox.assert_unchanged(&before, "afterwards");
}

#[test]
fn a_socket_that_does_not_exist_is_said_to_be_missing() {
    let sandbox = Sandbox::new();
    let endpoint = format!("unix://{}", sandbox.path("none.sock").display());
    refused_everywhere(&sandbox, &endpoint, "engine-unreachable", &["none.sock", "does not exist"]);
}

#[test]
fn a_socket_that_nobody_listens_on_and_a_closed_port_are_unreachable() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let endpoint = format!("unix://{}", path.display());
    sandbox.refused(&["--engine", &endpoint, "up"], 6, "engine-unreachable", &["nothing listens"]);
    sandbox.refused(&["--engine", "tcp://127.0.0.1:1", "up"], 6, "engine-unreachable", &["connection refused"]);
}

#[test]
fn something_else_behind_the_socket_is_not_taken_for_an_engine() {
    let sandbox = Sandbox::new();
    let web = answer_with(&sandbox.path("web.sock"), b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry");
    refused_everywhere(&sandbox, &web, "engine-unreachable", &["not a Docker engine"]);
    let garbage = answer_with(&sandbox.path("garbage.sock"), b"220 mail.example ESMTP\r\n");
    sandbox.refused(&["--engine", &garbage, "up"], 6, "engine-unreachable", &["garbage.sock"]);
    let mute = silent(&sandbox.path("mute.sock"));
    let refused = sandbox.run(&["--json", "--engine", &mute, "ls"]);
    assert_eq!((refused.code, &refused.error()["code"]), (6, &json!("engine-unreachable")));
}

#[test]
fn an_engine_that_is_too_old_is_told_what_is_needed() {
    let sandbox = Sandbox::new();
    let old = answer_with(
        &sandbox.path("old.sock"),
        b"HTTP/1.1 200 OK\r\nApi-Version: 1.24\r\nServer: Docker/1.12.6 (linux)\r\nContent-Length: 2\r\n\r\nOK",
    );
    refused_everywhere(&sandbox, &old, "engine-too-old", &["1.24", "1.41"]);
}

#[test]
fn an_engine_that_is_too_new_is_told_to_need_a_newer_wharf() {
    let sandbox = Sandbox::new();
    let new = answer_with(
        &sandbox.path("new.sock"),
        b"HTTP/1.1 400 Bad Request\r\nApi-Version: 1.60\r\nServer: Docker/40.0.0 (linux)\r\nConnection: close\r\nContent-Length: 119\r\n\r\n\
          {\"message\":\"client version 1.51 is too old. Minimum supported API version is 1.52, please upgrade your client to 1.60\"}",
    );
    refused_everywhere(&sandbox, &new, "engine-too-new", &["too new for this Wharf", "1.52"]);
}

#[test]
fn endpoints_that_wharf_does_not_speak_are_refused_with_what_to_use_instead() {
    let mut sandbox = Sandbox::new();
    for endpoint in
        ["ssh://me@host", "https://host:2376", "unix://relative.sock", "carrier-pigeon://x", "tcp://host:port"]
    {
        sandbox.refused(&["--engine", endpoint, "up"], 6, "endpoint-unsupported", &[endpoint]);
    }
    // The same with the variable that all Docker clients use, and with a Docker context.
    sandbox.env("DOCKER_HOST", "unix:///no/such/docker.sock");
    sandbox.refused(&["up"], 6, "engine-unreachable", &["/no/such/docker.sock"]);
    sandbox.env("DOCKER_HOST", "");
    sandbox.env("DOCKER_CONTEXT", "nowhere");
    sandbox.refused(&["up"], 6, "endpoint-unsupported", &["nowhere"]);
}
