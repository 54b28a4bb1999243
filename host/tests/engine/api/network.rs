//! The API on the network: TLS, tokens, roles, and the workspaces visible to tokens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::service::serve::Serving;
use crate::support::https::{self, Https, token};
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api as api;

#[test]
fn without_a_token_nothing_is_told_and_a_role_has_what_is_its_own() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let (https, serving) = Https::start(&sandbox, "");
    let [viewer, operator, admin] =
        ["viewer", "operator", "admin"].map(|role| token(&sandbox, &[role, "--role", role]));
    https.send("GET", "/v1/health", "host: localhost\r\n", "").ok();
    for (method, path) in
        [("GET", "/v1/workspaces"), ("POST", "/v1/policies/reload"), ("GET", "/no"), ("PUT", "/v1/health")]
    {
        let stranger = https.send(method, path, "host: localhost\r\n", "");
        assert_eq!(stranger.problem(401), "no-token", "{path}");
        assert!(stranger.header("www-authenticate").unwrap().starts_with("bearer"), "{}", stranger.head);
    }
    for wrong in ["", "x", &format!("{viewer}0"), &viewer.to_uppercase()] {
        let refused = https.by(wrong, "GET", "/v1/workspaces");
        assert_eq!(refused.problem(401), "bad-token", "{wrong}");
        assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"), "{}", refused.head);
    }
    assert_eq!(https.by(&viewer, "GET", "/v1/workspaces").ok()[0]["id"], sandbox.id().as_str());
    assert_eq!(https.by(&viewer, "POST", "/v1/workspaces/project/pause").problem(403), "role");
    assert_eq!(https.by(&viewer, "DELETE", "/v1/workspaces/project").problem(403), "role");
    assert_eq!(https.by(&operator, "POST", "/v1/workspaces/project/pause").ok()["state"], "paused");
    assert_eq!(https.by(&operator, "POST", "/v1/policies/reload").problem(403), "role");
    assert_eq!(https.by(&operator, "POST", "/v1/cleanup/sweep").problem(403), "role");
    assert_eq!(https.by(&admin, "POST", "/v1/workspaces/project/unpause").ok()["state"], "running");
    https.by(&admin, "POST", "/v1/policies/reload").ok();
    assert_eq!(https.by(&admin, "GET", "/no").problem(404), "no-route");
    // A second header could belong to another caller.
    let two = format!("host: localhost\r\nauthorization: Bearer {admin}\r\nauthorization: Bearer {viewer}\r\n");
    assert_eq!(https.send("GET", "/v1/workspaces", &two, "").problem(400), "bad-request");
    // The socket needs no token.
    api::get(&sandbox, "/v1/workspaces").ok();
    let said = serving.terminate();
    for secret in [&viewer, &operator, &admin] {
        assert!(!said.contains(secret.rsplit('_').next().unwrap()), "{said}");
    }
}

#[test]
fn a_token_is_refused_once_it_is_revoked_or_its_time_is_over() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    let text = token(&sandbox, &["ci", "--role", "viewer"]);
    https.by(&text, "GET", "/v1/version").ok();
    until("its use is noted", || sandbox.json(&["token", "ls"])[0]["last_used_at"].is_string());
    let listed = sandbox.run(&["token", "ls"]).ok().text();
    assert!(listed.contains("ci") && listed.contains("viewer") && !listed.contains("wharf_"), "{listed}");
    assert_eq!(sandbox.run(&["token", "create", "ci", "--role", "admin"]).code, 1);
    sandbox.run(&["token", "rm", "ci"]).ok();
    assert_eq!(https.by(&text, "GET", "/v1/version").problem(401), "bad-token");
    assert_eq!(sandbox.run(&["token", "rm", "ci"]).code, 5);
    // Another token of the same name is a different token.
    token(&sandbox, &["ci", "--role", "viewer"]);
    assert_eq!(https.by(&text, "GET", "/v1/version").problem(401), "bad-token");
    let short = token(&sandbox, &["short", "--role", "viewer", "--expires", "2s"]);
    https.by(&short, "GET", "/v1/version").ok();
    until("its time is over", || https.by(&short, "GET", "/v1/version").status == 401);
    assert!(sandbox.run(&["token", "ls"]).ok().text().contains("expired"));
    for wrong in [
        &["token", "create", "a b", "--role", "viewer"][..],
        &["token", "create", "a", "--role", "root"],
        &["token", "create", "a", "--role", "admin", "--label", "team=pay"],
        &["token", "create", "a", "--role", "viewer", "--label", "team"],
        &["token", "create", "a", "--role", "viewer", "--expires", "0s"],
    ] {
        assert_eq!(sandbox.run(wrong).code, 2, "{wrong:?}");
    }
    serving.terminate();
}

#[test]
fn a_stream_ends_when_its_token_is_revoked() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    let text = token(&sandbox, &["ci", "--role", "viewer"]);
    let mut stream = https.connect().unwrap();
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {text}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    sandbox.run(&["token", "rm", "ci"]).ok();
    // An open stream sends something every 15 seconds, so this ends either way.
    stream.sock.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let (mut rest, mut part) = (Vec::new(), [0; 4096]);
    until("it has its end", || {
        let count = stream.read(&mut part).unwrap();
        rest.extend_from_slice(&part[..count]);
        rest.ends_with(b"0\r\n\r\n")
    });
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("event: problem") && rest.contains("bad-token"), "{rest}");
    serving.end();
}

#[test]
fn a_token_with_labels_sees_only_workspaces_that_have_them() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    sandbox.json(&["up", "--label", "team=pay", "--label", "stage=test"]);
    let other = sandbox.folder("other");
    sandbox.run_in(&other, &["up", "--label", "team=ops"]).ok();
    let (own, others) = (sandbox.id(), sandbox.id_of("other", &other));
    let pay = token(&sandbox, &["pay", "--role", "operator", "--label", "team=pay", "--label", "stage=test"]);
    let none = token(&sandbox, &["none", "--role", "operator", "--label", "team=pay", "--label", "stage=live"]);
    let listed = https.by(&pay, "GET", "/v1/workspaces").ok();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &json!(own)));
    assert_eq!(https.by(&none, "GET", "/v1/workspaces").ok(), json!([]));
    assert_eq!(https.by(&pay, "GET", "/v1/workspaces/project").ok()["id"], own.as_str());
    // Invisible workspaces give the same answer as missing ones.
    let missing = https.by(&pay, "GET", "/v1/workspaces/nobody").json();
    for name in ["other", &others] {
        for (method, path) in [
            ("GET", ""),
            ("GET", "/metrics"),
            ("POST", "/stop"),
            ("DELETE", "?force=true"),
            ("GET", "/secrets"),
            ("PUT", "/secrets/token"),
            ("DELETE", "/secrets/token"),
            ("GET", "/files?path=/etc/passwd"),
            ("GET", "/files/kind?path=/etc/passwd"),
            ("PUT", "/files?path=/tmp"),
        ] {
            let answer = https.by(&pay, method, &format!("/v1/workspaces/{name}{path}"));
            assert_eq!(answer.problem(404), "workspace-not-found", "{method} {path}");
            assert_eq!(answer.json()["detail"], missing["detail"].as_str().unwrap().replace("nobody", name));
        }
    }
    // Routes that concern all workspaces, or could mount the data of others.
    for (method, path) in [
        ("GET", "/v1/cleanup"),
        ("GET", "/v1/volumes"),
        ("DELETE", "/v1/volumes/data"),
        ("POST", "/v1/workspaces"),
        ("POST", "/v1/workspaces/project/sidecars/db"),
    ] {
        assert_eq!(https.by(&pay, method, path).problem(403), "label-scope", "{method} {path}");
    }
    assert_eq!(https.by(&pay, "GET", "/v1/workspaces/project/secrets").ok()["names"], json!([]));
    assert_eq!(https.by(&pay, "POST", "/v1/workspaces/project/pause").ok()["state"], "paused");
    assert_eq!(sandbox.run_in(&other, &["--json", "inspect"]).ok().json()["state"], "running");
    serving.end();
}

#[test]
fn who_comes_too_often_is_told_when_to_come_back() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "rate = 1\n");
    let [busy, calm] = ["busy", "calm"].map(|name| token(&sandbox, &[name, "--role", "viewer"]));
    let answers: Vec<_> = (0..20).map(|_| https.by(&busy, "GET", "/v1/version")).collect();
    assert_eq!(answers[0].status, 200);
    let refused = answers.iter().find(|answer| answer.status != 200).expect("20 requests were let through");
    assert_eq!(refused.problem(429), "too-often");
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    https.by(&calm, "GET", "/v1/version").ok();

    let guesses: Vec<_> =
        (0..20).map(|number| https.by(&format!("wharf_{number:08}_{:064}", 0), "GET", "/v1/version")).collect();
    assert_eq!(guesses[0].problem(401), "bad-token");
    let refused = guesses.last().unwrap();
    assert_eq!(refused.problem(429), "too-often");
    assert!(refused.header("retry-after").is_some());
    // Other callers from the same address are not locked out.
    until("the right one passes", || https.by(&calm, "GET", "/v1/version").status == 200);
    let said = serving.terminate();
    assert!(said.matches("wrong token").count() <= 12, "guesses do not fill the log: {said}");
}

#[test]
fn a_certificate_is_needed_and_a_key_that_others_can_read_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.config("[api]\nlisten = \"127.0.0.1:0\"\n");
    let refused = sandbox.run(&["serve"]);
    assert!(refused.code == 3 && refused.stderr.contains("wharf.toml:2"), "{}", refused.stderr);
    assert!(refused.stderr.contains("api.tls_cert"), "{}", refused.stderr);
    https::certificate(&sandbox);
    sandbox.config(&https::lines(&sandbox));
    let key = sandbox.path("tls/key.pem");
    let refused = |why: &str| {
        let refused = sandbox.run(&["--json", "serve"]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        let error = refused.error();
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
        error["remedy"].as_str().unwrap().to_owned()
    };
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused("others can read").contains("chmod 600"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    refused("no private key");
    std::fs::write(&key, rcgen::generate_simple_self_signed(vec![]).unwrap().signing_key.serialize_pem()).unwrap();
    refused("cert.pem");
    std::fs::write(&key, good).unwrap();
    sandbox.write("tls/cert.pem", "");
    refused("no certificate");
    std::fs::remove_file(sandbox.path("tls/cert.pem")).unwrap();
    refused("cert.pem");
    // None of the failed starts left the socket behind.
    assert!(!api::socket(&sandbox).exists());
}

#[test]
fn only_tls_and_only_our_own_names_are_answered() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "hosts = [\"wharf.example\"]\n");
    let mut plain = TcpStream::connect(&https.address).unwrap();
    plain.write_all(b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    let text = token(&sandbox, &["ci", "--role", "viewer"]);
    let get = |host: &str| https.send("GET", "/v1/version", &format!("{host}authorization: Bearer {text}\r\n"), "");
    for host in ["localhost", "127.0.0.1:7443", "wharf.example", "WHARF.example:7443"] {
        get(&format!("host: {host}\r\n")).ok();
    }
    // A page whose host name now resolves to this service (DNS rebinding).
    for host in ["evil.example", "wharf.example.evil.example", "127.0.0.1.evil.example", "[::2]"] {
        assert_eq!(get(&format!("host: {host}\r\n")).problem(421), "wrong-host", "{host}");
    }
    assert_eq!(get("").problem(400), "bad-request");
    serving.end();
}

#[test]
fn with_an_authority_for_clients_a_certificate_of_it_is_needed_too() {
    let sandbox = Sandbox::new();
    let cert = https::certificate(&sandbox);
    let (key, stranger) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    sandbox.write("tls/ca.pem", params.self_signed(&key).unwrap().pem());
    let authority = rcgen::Issuer::new(params, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let signed = rcgen::CertificateParams::new(vec!["ci".to_owned()]).unwrap().signed_by(&own, &authority).unwrap();
    let unsigned = rcgen::CertificateParams::new(vec!["ci".to_owned()]).unwrap().self_signed(&stranger).unwrap();
    sandbox.config(&format!("{}client_ca = \"{}\"\n", https::lines(&sandbox), sandbox.path("tls/ca.pem").display()));
    let serving = Serving::start(&sandbox, &[]);
    let address = https::address(&serving);
    let text = token(&sandbox, &["ci", "--role", "viewer"]);
    let (signed, unsigned) = (signed.pem(), unsigned.pem());
    let (own, stranger) = (own.serialize_pem(), stranger.serialize_pem());
    let with = |own: Option<(&str, &str)>| {
        let config = https::client(&cert, own);
        // A server that requires a client certificate reports that after the handshake.
        let mut stream = https::connect(&address, &config).ok()?;
        let request = format!(
            "GET /v1/version HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {text}\r\nconnection: close\r\n\r\n"
        );
        let _ = stream.write_all(request.as_bytes());
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all.starts_with(b"HTTP/1.1 200").then_some(())
    };
    assert!(with(Some((&signed, &own))).is_some());
    assert!(with(None).is_none());
    assert!(with(Some((&unsigned, &stranger))).is_none());
    serving.end();
}

#[test]
fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let sandbox = Sandbox::new();
    let (https, mut serving) = Https::start(&sandbox, "");
    let mut old = https.connect().unwrap();
    let cert = https::certificate(&sandbox);
    let renewed = Https { address: https.address.clone(), config: https::client(&cert, None) };
    until("the new one is used", || renewed.connect().is_ok());
    assert!(https.connect().is_err());
    // An existing connection continues.
    old.write_all(b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let _ = old.read_to_end(&mut all);
    assert!(all.starts_with(b"HTTP/1.1 200"));
    sandbox.write("tls/cert.pem", "broken");
    serving.signal("HUP");
    assert!(serving.lines.find("were reloaded").contains("policies"));
    renewed.connect().unwrap();
    assert!(serving.terminate().contains("it contains no certificate"));
}
