//! Sessions of browsers: a cookie in exchange for a token, and pages of other hosts.

use serde_json::json;

use crate::support::https::{Https, token};
use crate::support::sandbox::Sandbox;
use crate::support::service_api::{self as api, Answer};

/// Returns the cookie that an answer sets, as a browser sends it.
#[track_caller]
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().replace("__host-", "__Host-")
}

#[test]
fn a_session_reads_for_everybody_and_changes_only_for_its_own_pages() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let (https, serving) = Https::start(&sandbox, "");
    let text = token(&sandbox, &["me", "--role", "operator"]);
    let host = https.address.clone();
    let begun = https.send(
        "POST",
        "/v1/session",
        &format!(
            "host: {host}\r\norigin: https://{host}\r\nsec-fetch-site: same-origin\r\nauthorization: Bearer {text}\r\n"
        ),
        "",
    );
    let set = begun.header("set-cookie").unwrap().to_owned();
    for part in ["__host-wharf=", "; path=/", "; secure", "; httponly", "; samesite=strict", "; max-age=28800"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("domain") && !set.contains(text.rsplit('_').next().unwrap()), "{set}");
    let cookie = cookie(&begun);
    let told = begun.ok();
    assert_eq!((&told["role"], &told["cookie"]), (&json!("operator"), &json!(true)));
    let with = |method: &str, path: &str, more: &str| {
        https.send(method, path, &format!("host: {host}\r\ncookie: a=b; {cookie}\r\n{more}"), "")
    };
    let own = format!("origin: https://{host}\r\nsec-fetch-site: same-origin\r\n");
    assert_eq!(with("GET", "/v1/session", "").ok()["name"], "me");
    with("GET", "/v1/workspaces", "sec-fetch-site: same-origin\r\n").ok();
    assert_eq!(with("POST", "/v1/workspaces/project/pause", &own).ok()["state"], "paused");
    // Requests that other pages could make a browser send.
    let port = host.rsplit(':').next().unwrap();
    for (more, method) in [
        ("", "POST"),
        ("", "DELETE"),
        ("origin: https://evil.example\r\n", "POST"),
        ("origin: null\r\n", "POST"),
        ("origin: https://evil.example\r\n", "GET"),
        ("sec-fetch-site: cross-site\r\n", "GET"),
        ("sec-fetch-site: same-site\r\n", "GET"),
        ("upgrade: websocket\r\n", "GET"),
    ] {
        let path = if method == "DELETE" { "/v1/workspaces/project" } else { "/v1/workspaces/project/unpause" };
        let path = if method == "GET" { "/v1/workspaces" } else { path };
        assert_eq!(with(method, path, more).problem(403), "cross-site", "{method} {more}");
    }
    for origin in
        [format!("http://{host}"), format!("https://127.0.0.1.evil.example:{port}"), "https://127.0.0.1".into()]
    {
        let more = format!("origin: {origin}\r\n");
        assert_eq!(with("POST", "/v1/workspaces/project/unpause", &more).problem(403), "cross-site", "{origin}");
    }
    assert_eq!(sandbox.json(&["inspect"])["state"], "paused", "none of that did anything");
    // A session does not start another session.
    assert_eq!(with("POST", "/v1/session", &own).problem(400), "no-session");
    let gone = with("DELETE", "/v1/session", &own);
    assert_eq!(gone.status, 204);
    assert!(gone.header("set-cookie").unwrap().contains("max-age=0"));
    assert_eq!(with("GET", "/v1/session", "").problem(401), "no-token");
    // An expired cookie does not prevent a login.
    assert_eq!(with("GET", "/", "").status, 200);
    let said = serving.terminate();
    assert!(!said.contains(cookie.split('=').next_back().unwrap()), "{said}");
}

#[test]
fn a_session_ends_with_its_token_and_the_socket_has_none() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    let text = token(&sandbox, &["me", "--role", "viewer", "--label", "team=pay"]);
    let cookie = cookie(&https.by(&text, "POST", "/v1/session"));
    let who = || https.send("GET", "/v1/session", &format!("host: localhost\r\ncookie: {cookie}\r\n"), "");
    assert_eq!(who().ok(), json!({ "name": "me", "role": "viewer", "labels": { "team": "pay" }, "cookie": true }));
    // Over the socket the cookie means nothing, and is not needed.
    let headers = format!("host: localhost\r\ncookie: {cookie}\r\n");
    assert_eq!(api::send(&api::socket(&sandbox), "GET", "/v1/session", &headers, "").ok()["role"], "admin");
    assert_eq!(api::post(&sandbox, "/v1/session", "").problem(400), "no-session");
    sandbox.run(&["token", "rm", "me"]).ok();
    assert_eq!(who().problem(401), "no-token");
    serving.end();
}

#[test]
fn a_page_logs_in_with_the_token_in_its_body_and_strangers_send_nothing_else() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    let text = token(&sandbox, &["me", "--role", "viewer"]);
    let host = https.address.clone();
    let page = format!("host: {host}\r\norigin: https://{host}\r\nsec-fetch-site: same-origin\r\n");
    let login = |headers: &str, body: &str| {
        https.send("POST", "/v1/session", &format!("{headers}content-type: application/json\r\n"), body)
    };
    let begun = login(&page, &json!({ "token": text }).to_string());
    let cookie = cookie(&begun);
    assert_eq!(begun.ok()["name"], "me");
    https.send("GET", "/v1/workspaces", &format!("host: {host}\r\ncookie: {cookie}\r\n"), "").ok();
    let wrong = login(&page, "{\"token\": \"wharf_x\"}");
    assert_eq!((wrong.problem(401), wrong.header("set-cookie")), ("bad-token".to_owned(), None));
    assert_eq!(login(&page, "{}").problem(401), "no-token");
    assert_eq!(login(&page, &format!("{{\"token\": \"{}\"}}", "x".repeat(1 << 13))).problem(413), "too-large");
    // Another page cannot log a browser in as another user.
    let evil = format!("host: {host}\r\norigin: https://evil.example\r\n");
    assert_eq!(login(&evil, &json!({ "token": text }).to_string()).problem(403), "cross-site");
    // A user who follows a link sees the page, and nothing else.
    let link = format!(
        "host: {host}\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n"
    );
    assert_eq!(https.send("GET", "/", &link, "").status, 200);
    for (method, path) in [("GET", "/v1/workspaces"), ("POST", "/"), ("GET", "/dashboard/main.js")] {
        assert_eq!(https.send(method, path, &link, "").problem(403), "cross-site", "{path}");
    }
    let bare = format!("host: {host}\r\nsec-fetch-site: cross-site\r\n");
    assert_eq!(https.send("GET", "/", &bare, "").problem(403), "cross-site");
    let framed = link.replace("document", "iframe");
    assert_eq!(https.send("GET", "/", &framed, "").problem(403), "cross-site");
    // The service does not wait for the body of an unknown caller.
    let held =
        format!("POST /v1/cleanup/sweep HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 10\r\n\r\n");
    assert_eq!(https.raw(held.as_bytes()).problem(401), "no-token");
    serving.terminate();
}
