//! Attackers: the attacks listed in host/TESTING.md, each against a real service.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::service::serve::Serving;
use crate::support::https::{Https, token};
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{Answer, get, post, raw, send, socket};

/// Returns the whole answer of an endpoint to bytes.
fn all(sandbox: &Sandbox, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(sandbox)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_name_in_a_path_leads_nowhere_else() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.write("secret", "hunter2");
    for id in ["..%2F..%2Fsecret", "%2e%2e%2fsecret", "..%5c..%5csecret", "%2Fetc%2Fpasswd", "a%00b", "..", "%2e%2e"] {
        for path in [format!("/v1/workspaces/{id}"), format!("/v1/workspaces/{id}/metrics"), format!("/dashboard/{id}")]
        {
            let answer = get(&sandbox, &path);
            assert!((400..=404).contains(&answer.status), "{path}: {}", answer.head);
            assert!(!String::from_utf8_lossy(&answer.body).contains("hunter2"), "{path}");
        }
    }
    for path in ["/v1/workspaces/../policies", "/v1//workspaces", "//v1/workspaces", "/v1/workspaces/a/../../policies"]
    {
        assert_eq!(get(&sandbox, path).status, 404, "{path} is not another path");
    }
    serving.end();
}

#[test]
fn a_request_that_two_readers_could_read_in_two_ways_is_refused_and_nothing_after_it_is_read() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    // The request hidden behind the first one would stop the workspace.
    let hidden = "POST /v1/workspaces/project/kill HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    let head = "POST /v1/cleanup/sweep HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for (what, headers, body) in [
        ("two lengths", "content-length: 0\r\ncontent-length: 300\r\n", ""),
        ("a list of lengths", "content-length: 0, 300\r\n", ""),
        ("a signed length", "content-length: +0\r\n", ""),
        ("a folded line", "x: a\r\n content-length: 300\r\n", ""),
        ("a space before the colon", "content-length : 300\r\n", ""),
        ("an encoding that is none", "transfer-encoding: identity\r\n", ""),
        ("chunked is not the last", "transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        ("a chunk without an end", "transfer-encoding: chunked\r\n", "0\n\n"),
        ("a chunk of a size that is none", "transfer-encoding: chunked\r\n", "-1\r\n\r\n"),
        ("a chunk that is too large for a number", "transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n\r\n"),
        ("a zero byte", "x: a\0b\r\n", ""),
    ] {
        let answer = all(&sandbox, format!("{head}{headers}\r\n{body}{hidden}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
    // With both a length and chunks, the chunks count, and the length cannot be used for an attack (RFC 9112, 6.3).
    let both = format!(
        "{head}content-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n12\r\n{{\"dry_run\": false \r\n0\r\n\r\n{hidden}"
    );
    let answer = all(&sandbox, both.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Bare line feeds end a head here, as RFC 9112, 2.2 allows. They hide nothing.
    let bare = all(&sandbox, b"GET /v1/health HTTP/1.1\nhost: localhost\nconnection: close\n\n");
    assert!(bare.matches("HTTP/1.1 ").count() <= 1, "{bare}");
    for line in [
        "GET /v1/health HTTP/3.0\r\n",
        "GET  /v1/health HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "\x16\x03\x01\x02\0\r\n",
    ] {
        let answer = all(&sandbox, format!("{line}host: localhost\r\n\r\n").as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{line:?}: {answer}");
    }
    assert_eq!(sandbox.json(&["inspect"])["state"], "running", "none of that did anything");
    serving.end();
}

#[test]
fn bodies_that_are_large_or_deep_cost_nothing() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    let sweep = "/v1/cleanup/sweep";
    assert_eq!(post(&sandbox, sweep, &format!("{{\"dry_run\": {}", "[".repeat(1 << 19))).problem(400), "bad-request");
    assert_eq!(post(&sandbox, sweep, &"{\"a\":".repeat(1 << 17)).problem(400), "bad-request");
    assert_eq!(post(&sandbox, sweep, &" ".repeat((1 << 20) + 1)).problem(413), "too-large");
    let keys: String = (0..40_000).map(|number| format!("\"k{number}\": 1,")).collect();
    assert_eq!(post(&sandbox, sweep, &format!("{{{keys} \"z\": 1}}")).problem(400), "bad-request");
    // Only declared to be large: the service does not wait for the body.
    let said = format!("POST {sweep} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n");
    assert_eq!(raw(&socket(&sandbox), said.as_bytes()).problem(413), "too-large");
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let answer = send(&socket(&sandbox), "GET", "/v1/health", &format!("host: localhost\r\n{many}"), "");
    assert_eq!(answer.status, 431);
    let long = get(&sandbox, &format!("/v1/{}", "x".repeat(60_000)));
    assert!([414, 431].contains(&long.status), "{}", long.head);
    let query = get(&sandbox, &format!("/v1/workspaces?{}", "label=a&".repeat(2_000)));
    assert!([200, 400].contains(&query.status), "{}", query.head);
    serving.end();
}

#[test]
fn those_who_send_a_head_drop_by_drop_are_left_and_do_not_keep_others_away() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    let text = token(&sandbox, &["ci", "--role", "viewer"]);
    let mut slow: Vec<_> = (0..60).map(|_| https.connect().unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost:").unwrap();
    }
    // Callers over the socket, and from the same address.
    get(&sandbox, "/v1/health").ok();
    https.by(&text, "GET", "/v1/version").ok();
    // A connection that sends a byte now and then is not prolonged by that.
    let mut one = slow.pop().unwrap();
    one.sock.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut ended = false;
    until("it is left", || {
        ended = ended || one.write_all(b"x").and_then(|()| one.flush()).is_err();
        let mut byte = [0; 64];
        ended = ended || matches!(one.read(&mut byte), Ok(0)) || byte[0] != 0;
        ended
    });
    serving.end();
}

#[test]
fn of_one_address_only_so_many_connections_are_held() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    // Connections without a TLS handshake.
    let mut held: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(&https.address).unwrap()).collect();
    until("one is too many", || https.connect().is_err());
    // A client of the socket is still served, and sees the refusals.
    get(&sandbox, "/v1/health").ok();
    let metrics = String::from_utf8(get(&sandbox, "/metrics").body).unwrap();
    assert!(metrics.contains("wharf_connections_refused_total{reason=\"too-many\"}"), "{metrics}");
    // The service gives up on connections without a handshake.
    held[0].set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    let mut byte = [0];
    assert!(!matches!(held[0].read(&mut byte), Ok(1..)), "it is closed");
    until("there is room again", || https.connect().is_ok());
    serving.end();
}

#[test]
fn guessing_a_token_is_slow_and_says_nothing() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    let text = token(&sandbox, &["ci", "--role", "viewer"]);
    // A token with a correct first part gets the same answer as a completely wrong one.
    let near = format!("{}{}", &text[..15], "0".repeat(64));
    let far = format!("wharf_{}_{}", "0".repeat(8), "0".repeat(64));
    let body = |answer: Answer| String::from_utf8(answer.body).unwrap();
    assert_eq!(body(https.by(&near, "GET", "/v1/version")), body(https.by(&far, "GET", "/v1/version")));
    until("it is too often", || https.by(&far, "GET", "/v1/version").status == 429);
    let refused = https.by(&near, "GET", "/v1/version");
    assert_eq!(refused.problem(429), "too-often");
    let said = serving.terminate();
    assert!(!said.contains(&text[15..]) && !said.contains("wharf_0"), "{said}");
}

#[test]
fn a_store_or_socket_in_a_place_of_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    // A folder in which any user could put a socket.
    let folder = sandbox.folder("open");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    sandbox.config(&format!("[api]\nsocket = \"{}\"\n", folder.join("wharf.sock").display()));
    let refused = sandbox.run(&["--json", "serve"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.error()["message"].as_str().unwrap().contains("other users can write"), "{}", refused.stderr);
    // Another file in the socket's place.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(sandbox.path("state/wharf.db"), folder.join("wharf.sock")).unwrap();
    let refused = sandbox.run(&["--json", "serve"]);
    assert!(refused.error()["message"].as_str().unwrap().contains("not a socket"), "{}", refused.stderr);
    assert!(sandbox.path("state/wharf.db").metadata().unwrap().len() > 0, "it was not touched");
}

/// Returns a WebSocket frame as a client sends it: masked, here with zeros.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | kind];
    match u8::try_from(payload.len()).ok().filter(|length| *length < 126) {
        Some(length) => frame.push(0x80 | length),
        None => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&u64::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

const EXEC: &str = "/v1/workspaces/project/exec";
const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Starts a command to talk to over the socket, after the handshake.
fn talk(sandbox: &Sandbox, line: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket(sandbox)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(150))).unwrap();
    stream.write_all(format!("GET {EXEC} HTTP/1.1\r\nhost: localhost\r\n{UPGRADE}\r\n").as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let command = serde_json::json!({ "command": ["sh", "-c", line], "stdin": true }).to_string();
    stream.write_all(&frame(1, command.as_bytes())).unwrap();
    stream
}

/// Returns whether a command that contains this word runs in the workspace.
fn runs(sandbox: &Sandbox, word: &str) -> bool {
    // The brackets keep the search from finding itself.
    let pattern = format!("[{}]{}", &word[..1], &word[1..]);
    sandbox.run(&["exec", "--", "sh", "-c", &format!("cat /proc/[0-9]*/cmdline | grep -aq '{pattern}'")]).code == 0
}

#[test]
fn commands_are_not_for_pages_of_others_nor_for_those_who_only_read() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--label", "team=pay"]);
    let (https, serving) = Https::start(&sandbox, "");
    let [operator, viewer] = ["operator", "viewer"].map(|role| token(&sandbox, &[role, "--role", role]));
    let other = token(&sandbox, &["other", "--role", "operator", "--label", "team=ops"]);
    let host = https.address.clone();
    let begun = https.by(&operator, "POST", "/v1/session");
    let cookie = begun.header("set-cookie").unwrap().split(';').next().unwrap().replace("__host-", "__Host-");
    // A refusal ends its connection, so that the whole answer is available.
    let ends = UPGRADE.replace("connection: upgrade", "connection: upgrade, close");
    let upgrade =
        |headers: &str| https.raw(format!("GET {EXEC} HTTP/1.1\r\nhost: {host}\r\n{ends}{headers}\r\n").as_bytes());
    for headers in [
        format!("cookie: {cookie}\r\n"),
        format!("cookie: {cookie}\r\norigin: https://evil.example\r\n"),
        format!("cookie: {cookie}\r\norigin: http://{host}\r\n"),
        format!("cookie: {cookie}\r\norigin: null\r\n"),
        format!("authorization: Bearer {operator}\r\norigin: https://evil.example\r\n"),
    ] {
        assert_eq!(upgrade(&headers).problem(403), "cross-site", "{headers}");
    }
    assert_eq!(upgrade("").problem(401), "no-token");
    assert_eq!(upgrade(&format!("authorization: Bearer {viewer}\r\n")).problem(403), "role");
    assert_eq!(upgrade(&format!("authorization: Bearer {other}\r\n")).problem(404), "workspace-not-found");
    // On the socket, pages of every origin are refused.
    let page = format!("GET {EXEC} HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\n{ends}\r\n");
    assert_eq!(raw(&socket(&sandbox), page.as_bytes()).problem(403), "cross-site");
    serving.end();
}

#[test]
fn frames_that_are_huge_or_broken_end_the_command_and_cost_nothing() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let mut huge = vec![0x82, 0x80 | 127];
    huge.extend_from_slice(&(1_u64 << 40).to_be_bytes());
    huge.extend_from_slice(&[0; 4]);
    let fragments: Vec<u8> = std::iter::once(0x02_u8)
        .chain(std::iter::repeat_n(0x00, 40))
        .flat_map(|kind| {
            let mut part = frame(kind, &[0; 1 << 16]);
            part[0] = kind;
            part
        })
        .collect();
    for (what, bytes) in [
        ("a length that nobody has", huge),
        ("a message in fragments that is too large", fragments),
        ("a kind that is none", frame(0x0b, b"")),
        ("text that is no UTF-8", frame(1, &[0xff, 0xfe])),
        ("text that is no JSON", frame(1, b"resize")),
        ("another channel", frame(2, &[7, 0])),
        ("a frame without a mask", vec![0x82, 0x02, 0x00, b'x']),
        ("a control frame that is too long", frame(9, &[0; 200])),
    ] {
        let mut stream = talk(&sandbox, "echo begun; sleep 1003");
        until("the command runs", || runs(&sandbox, "1003"));
        let _ = stream.write_all(&bytes);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        until("the command has ended", || !runs(&sandbox, "1003"));
        assert!(rest.len() < 4096, "{what}: {} bytes came", rest.len());
    }
    get(&sandbox, "/v1/health").ok();
    serving.terminate();
}

#[test]
fn a_client_of_a_command_that_answers_no_ping_is_left_and_its_command_ended() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    sandbox.up();
    let text = token(&sandbox, &["ci", "--role", "operator"]);
    let mut remote = https.connect().unwrap();
    let head = format!("GET {EXEC} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {text}\r\n{UPGRADE}\r\n");
    remote.write_all(head.as_bytes()).unwrap();
    let mut begin = [0; 12];
    remote.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 101");
    remote.write_all(&frame(1, b"{\"command\": [\"sleep\", \"1004\"]}")).unwrap();
    // A client on this machine may be slow: a pager that waits for a key.
    let local = talk(&sandbox, "sleep 1006");
    until("the commands run", || runs(&sandbox, "1004") && runs(&sandbox, "1006"));
    // Its connection stays open, and it sends nothing.
    let mut rest = Vec::new();
    let _ = remote.read_to_end(&mut rest);
    until("the command has ended", || !runs(&sandbox, "1004"));
    assert!(runs(&sandbox, "1006"));
    local.shutdown(std::net::Shutdown::Both).unwrap();
    drop(local);
    until("the other one has ended as well", || !runs(&sandbox, "1006"));
    serving.terminate();
}

#[test]
fn a_command_ends_when_the_token_of_its_client_is_revoked() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    sandbox.up();
    let text = token(&sandbox, &["ci", "--role", "operator"]);
    let mut stream = https.connect().unwrap();
    let head = format!("GET {EXEC} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {text}\r\n{UPGRADE}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 101");
    stream.write_all(&frame(1, b"{\"command\": [\"sleep\", \"1005\"]}")).unwrap();
    until("the command runs", || runs(&sandbox, "1005"));
    sandbox.run(&["token", "rm", "ci"]).ok();
    until("the command has ended", || !runs(&sandbox, "1005"));
    serving.terminate();
}
