//! Folders of the host that a workspace mounts, when somebody puts a link in their place.

use std::os::unix::fs::symlink;

use super::engine_api::BASE;
use super::sandbox::Sandbox;

#[test]
fn a_link_that_took_the_place_of_a_mounted_folder_is_not_followed_at_the_next_start() {
    let sandbox = Sandbox::new();
    let cache = sandbox.folder("project/cache");
    let outside = sandbox.folder("outside");
    sandbox.json(&["up", "--image", BASE, "--mount", "./cache:/cache"]);
    sandbox.sh("echo mine > /cache/file");
    // From inside, as whatever runs there can.
    sandbox.sh(&format!("rm -r /workspace/cache && ln -s {} /workspace/cache", outside.display()));
    for args in [&["restart", "-t", "0s"][..], &["start"], &["up", "--image", BASE, "--mount", "./cache:/cache"]] {
        let refused = sandbox.run(&[&["--json"], args].concat());
        assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("invariant")), "{}", refused.stderr);
        assert_eq!(sandbox.json(&["inspect"])["state"], "exited");
    }
    assert_eq!(sandbox.run(&["exec", "--", "true"]).code, 125);
    // What leads to a folder of the project may be mounted.
    std::fs::remove_file(&cache).unwrap();
    sandbox.folder("project/elsewhere");
    symlink("elsewhere", &cache).unwrap();
    sandbox.json(&["start"]);
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
}
