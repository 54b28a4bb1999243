//! Images that are missing or cannot be pulled, and commands that an image does not contain.

use std::net::TcpListener;

use crate::support::engine_api as engine;
use crate::support::registry::{Registry, has_image};
use crate::support::sandbox::Sandbox;

#[test]
fn a_missing_image_that_may_not_be_pulled_is_refused() {
    let sandbox = Sandbox::new();
    let args = ["up", "--image", "wharf-test/no-such-image:1", "--pull", "never"];
    sandbox.refused(&args, 1, "image-missing", &["wharf-test/no-such-image:1"]);
}

#[test]
fn a_pull_that_fails_says_why() {
    let sandbox = Sandbox::new();
    sandbox.refused(&["up", "--image", "127.0.0.1:1/none:1"], 1, "pull-failed", &["127.0.0.1:1/none:1", "refused"]);
    let registry = Registry::new();
    let other_tag = format!("{}:2", registry.reference.strip_suffix(":1").unwrap());
    sandbox.refused(&["up", "--image", &other_tag], 1, "pull-failed", &[&other_tag]);
    sandbox.refused(&["up", "--image", "Not An Image"], 2, "bad-request", &["Not An Image"]);
}

#[test]
fn an_image_is_pulled_once_and_then_used() {
    let sandbox = Sandbox::new();
    let registry = Registry::new();
    let args = ["up", "--image", &registry.reference];
    let up = sandbox.run(&args).ok();
    assert!(up.stderr.contains(&format!("pulling {}", registry.reference)), "{}", up.stderr);
    assert!(has_image(&registry.reference));
    assert!(sandbox.sh("cat /from-registry").starts_with(&std::process::id().to_string()));
    let again = sandbox.run(&args).ok();
    assert!(!again.stderr.contains("pulling"), "{}", again.stderr);
    assert_eq!(registry.layer_requests(), 1);
    sandbox.json(&["down"]);
    sandbox.assert_nothing_left();
}

#[test]
fn a_tag_that_is_pulled_always_is_asked_for_again_but_not_fetched_twice() {
    let sandbox = Sandbox::new();
    let registry = Registry::new();
    for round in 0..2 {
        let up = sandbox.run(&["up", "--image", &registry.reference, "--pull", "always"]).ok();
        assert!(up.stderr.contains("pulling"), "{round}: {}", up.stderr);
        sandbox.json(&["down"]);
    }
    assert_eq!(registry.layer_requests(), 1);
}

#[test]
fn a_command_that_the_image_does_not_have_leaves_no_container() {
    let sandbox = Sandbox::new();
    sandbox.refused(&["up", "--", "no-such-command", "x"], 1, "command-not-found", &["no-such-command"]);
    sandbox.refused(&["up", "--", "/etc"], 1, "command-not-executable", &["/etc"]);
    sandbox.up();
}

#[test]
fn a_port_in_use_leaves_no_container() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    sandbox.refused(&["up", "--publish", &publish], 1, "port-in-use", &[&port.to_string()]);
    drop(listener);
    let up = sandbox.json(&["up", "--publish", &publish]);
    assert_eq!(up["ports"][0]["port"], port);
    // Another workspace that wants the same port.
    let other = sandbox.folder("other");
    let before = sandbox.snapshot();
    let refused = sandbox.run_in(&other, &["--json", "up", "--publish", &publish]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (1, Some("port-in-use")));
    sandbox.assert_unchanged(&before, "afterwards");
}

#[test]
fn an_image_that_names_a_user_who_is_not_there_leaves_no_container() {
    let sandbox = Sandbox::new();
    sandbox.refused(&["up", "--user", "nobody-here"], 1, "start-failed", &["nobody-here"]);
    assert!(engine::containers().iter().all(|container| !container["Names"].to_string().contains(&sandbox.id())));
}
