//! Sidecars, secrets, volumes and files through a service: aspects that `both_ways` in their own tests does not
//! cover.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use super::remote::Both;
use super::serve::Serving;
use crate::support::engine_api::BASE;
use crate::support::https::{self, Https};
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{Answer, get, raw, send, socket};

#[test]
fn what_belongs_to_a_workspace_is_shown_alike_and_refused_alike() {
    let both = Both::new();
    let volume = format!("data-{}", both.sandbox.name());
    both.sandbox.write("token", "s3cr3t");
    let token = format!("token={}", both.sandbox.path("token").display());
    both.sandbox.json(&["up", "--image", BASE, "--mount", &format!("{volume}:/data"), "--secret", &token]);
    both.there(&["sidecar", "add", "db", "--image", BASE, "--", "sleep", "600"]).ok();
    for args in [
        &["sidecar", "ls"][..],
        &["--json", "sidecar", "ls"],
        &["sidecar", "add", "db"],
        &["sidecar", "add", "NO", "--image", BASE],
        &["sidecar", "add", "x", "--image", BASE, "--workspace", "nobody"],
        &["sidecar", "rm", "NO"],
        &["secret", "ls"],
        &["--json", "secret", "ls"],
        &["secret", "rm", "nothing"],
        &["secret", "rm", "../up"],
        &["secret", "ls", "nobody"],
        &["volume", "ls"],
        &["--json", "volume", "ls"],
        &["volume", "rm", "nothing"],
        &["volume", "rm", &volume],
        &["cp", ":/no/such", "/tmp"],
    ] {
        both.same(args);
    }
    let id = both.sandbox.id();
    let removed = both.there(&["sidecar", "rm", "db"]).ok();
    assert_eq!(removed.text(), format!("{id}-db removed\n"));
    both.there(&["down"]).ok();
    assert_eq!(both.there(&["volume", "rm", &volume]).ok().text(), format!("{volume} removed\n"));
    both.sandbox.assert_nothing_left();
}

#[test]
fn files_go_over_the_network_as_they_are_and_only_with_the_role_for_it() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_exec(ctx) { if ctx.exec.command.contains(\"/etc\") { ctx.deny(\"no-etc\", \"not there\"); } }",
    );
    sandbox.json(&["up", "--image", BASE]);
    let id = sandbox.id();
    let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = sandbox.write("big", &bytes);
    let tls = sandbox.config_text();
    let (https, serving) = Https::start(&sandbox, &tls);
    let [operator, viewer] = ["operator", "viewer"].map(|role| https::token(&sandbox, &[role, "--role", role]));
    let server = format!("https://{}", https.address.replace("127.0.0.1", "localhost"));
    let ca = format!("client.ca_file={}", sandbox.path("tls/cert.pem").display());
    let far = |token: &str, from: &str, to: &str| {
        let mut command = sandbox.command(&["--json", "--server", &server, "--set", &ca, "cp", from, to]);
        crate::support::process::Output::of(command.env("WHARF_TOKEN", token).output().unwrap())
    };
    let (inside, back) = (format!("{id}:/tmp/big"), sandbox.path("back").display().to_string());
    until("the engine is there", || far(&operator, file.to_str().unwrap(), &inside).code == 0);
    far(&operator, &inside, &back).ok();
    assert!(std::fs::read(&back).unwrap() == bytes);
    for (from, to) in [(file.to_str().unwrap(), inside.as_str()), (&inside, &back)] {
        let refused = far(&viewer, from, to);
        assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("role")), "{}", refused.stderr);
    }
    for (from, to) in [(file.to_str().unwrap(), format!("{id}:/etc")), (&*format!("{id}:/etc"), back.clone())] {
        let denied = far(&operator, from, &to);
        assert_eq!((denied.code, &denied.error()["code"]), (4, &json!("no-etc")), "{}", denied.stderr);
    }
    serving.terminate();
}

#[test]
fn an_archive_that_breaks_off_is_no_whole_one_and_the_service_lives_on() {
    let both = Both::new();
    both.sandbox.json(&["up"]);
    let path = format!("/v1/workspaces/{}/files?path=/tmp", both.sandbox.id());
    let tar = both.there(&["cp", ":/bin", "-"]).ok().stdout;
    let half = &tar[..tar.len() / 2];
    let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", tar.len());
    let mut stream = UnixStream::connect(socket(&both.sandbox)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(half).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || Answer::of(answer).status != 200, "{text}");
    get(&both.sandbox, "/v1/version").ok();
    // A request whose client disconnects while sending also ends.
    let mut stream = UnixStream::connect(socket(&both.sandbox)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    let whole = [head.replace("host:", "connection: close\r\nhost:").into_bytes(), tar].concat();
    raw(&socket(&both.sandbox), &whole).ok();
    assert_eq!(both.sandbox.sh("ls /tmp/bin | wc -l"), both.sandbox.sh("ls /bin | wc -l"));
    for bad in [path.replace("?path=/tmp", ""), path.replace("/tmp", "tmp"), path.replace("?", "?more=1&")] {
        send(&socket(&both.sandbox), "PUT", &bad, "host: localhost\r\n", "").problem(400);
        send(&socket(&both.sandbox), "GET", &bad, "host: localhost\r\n", "").problem(400);
    }
}

#[test]
fn a_copy_through_a_service_takes_no_memory_for_its_size() {
    let both = Both::new();
    let Both { sandbox, _serving: mut serving, server } = both;
    sandbox.json(&["up"]);
    sandbox.sh("dd if=/dev/zero of=/tmp/large bs=1M count=300 2>/dev/null");
    let before = serving.memory();
    let out = sandbox.path("large").display().to_string();
    sandbox.run(&["--server", &server, "cp", ":/tmp/large", &out]).ok();
    sandbox.run(&["--server", &server, "cp", &out, ":/tmp/again"]).ok();
    assert_eq!(sandbox.sh("stat -c %s /tmp/again"), format!("{}\n", 300 << 20));
    let after = serving.memory();
    assert!(after < before + (64 << 20), "{before} {after}");
    let _: Serving = serving;
}
