//! Host folders that a workspace mounts, when an attacker replaces them with a link.

use std::os::unix::fs::symlink;

use crate::support::engine_api::BASE;
use crate::support::sandbox::Sandbox;

fn refused_as(sandbox: &Sandbox, args: &[&str], code: &str) {
    let refused = sandbox.run(&[&["--json"], args].concat());
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some(code)), "{args:?}: {}", refused.stderr);
}

#[test]
fn a_link_that_took_the_place_of_a_mounted_folder_is_not_followed_at_the_next_start() {
    let sandbox = Sandbox::new();
    let cache = sandbox.folder("project/cache");
    let outside = sandbox.folder("outside");
    sandbox.json(&["up", "--image", BASE, "--mount", "./cache:/cache"]);
    sandbox.sh("echo mine > /cache/file");
    // From inside, as any process there can do it.
    sandbox.sh(&format!("rm -r /workspace/cache && ln -s {} /workspace/cache", outside.display()));
    let refused = |args: &[&str]| {
        let refused = sandbox.run(&[&["--json"], args].concat());
        assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("invariant")), "{}", refused.stderr);
    };
    refused(&["restart", "-t", "0s"]);
    assert_eq!(sandbox.json(&["inspect"])["state"], "running", "what cannot be started again is not stopped");
    sandbox.json(&["stop", "-t", "0s"]);
    for args in [&["start"][..], &["up", "--image", BASE, "--mount", "./cache:/cache"]] {
        refused(args);
        assert_eq!(sandbox.json(&["inspect"])["state"], "exited");
    }
    assert_eq!(sandbox.run(&["exec", "--", "true"]).code, 125);
    // A link to a folder of the project may be mounted.
    std::fs::remove_file(&cache).unwrap();
    sandbox.folder("project/elsewhere");
    symlink("elsewhere", &cache).unwrap();
    refused_as(&sandbox, &["start"], "mount-changed");
    sandbox.json(&["up", "--image", BASE, "--mount", "./cache:/cache", "--recreate"]);
    sandbox.sh("echo x > /cache/file");
    assert!(sandbox.path("project/elsewhere/file").exists());
}

#[test]
fn what_the_engine_restarts_by_itself_mounts_nothing_that_could_be_swapped() {
    let sandbox = Sandbox::new();
    sandbox.folder("project/cache");
    let mount = ["--image", BASE, "--mount", "./cache:/cache"];
    sandbox.refused(
        &[&["up", "--restart", "always"], &mount[..]].concat(),
        4,
        "invariant",
        &["mounts./cache", "restart"],
    );
    sandbox.json(&[&["up"], &mount[..]].concat());
    // A sidecar does not have the project, but its workspace does.
    let sidecar = ["sidecar", "add", "db", "--image", BASE, "--mount", "./cache:/data", "--restart", "always"];
    let refused = sandbox.run(&[&["--json"], &sidecar[..]].concat());
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("invariant")), "{}", refused.stderr);
    sandbox.json(&[&sidecar[..sidecar.len() - 2], &["--", "sleep", "600"]].concat());
}

#[test]
fn secrets_are_mounted_though_the_folder_of_the_state_has_another_name() {
    let mut sandbox = Sandbox::new();
    let (state, link) = (sandbox.path("state"), sandbox.path("linked"));
    sandbox.write("value", "hush");
    let secret = format!("key={}", sandbox.path("value").display());
    sandbox.json(&["up", "--image", BASE, "--secret", &secret]);
    symlink(&state, &link).unwrap();
    sandbox.env("WHARF_STATE_DIR", link.to_str().unwrap());
    sandbox.json(&["restart", "-t", "0s"]);
    assert_eq!(sandbox.sh("cat /run/secrets/key"), "hush");
}
