//! Waits that commands tell about, and failed pulls.

use crate::service::serve::Serving;
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;

#[test]
fn a_failed_pull_names_the_choice_of_its_image_and_the_ways_to_work_offline() {
    let mut sandbox = Sandbox::new();
    sandbox.script(
        "pick.rhai",
        "fn select_image(ctx) {\n    ctx.spec.image = #{ reference: \"127.0.0.1:1/none:1\", reason: \"package.json asks for node 22\" };\n}\n",
    );
    let serving = Serving::start(&sandbox, &[]);
    let socket = sandbox.path("state/wharf.sock").display().to_string();
    for server in ["", &socket] {
        sandbox.env("WHARF_SERVER", server);
        let failed = sandbox.run(&["up"]);
        assert_eq!(failed.code, 1, "{}", failed.stderr);
        for words in [
            "cannot pull '127.0.0.1:1/none:1', chosen by pick.rhai:2 (package.json asks for node 22): ",
            "`wharf image ls`",
            "--image",
            "workspace.image in wharf.toml",
        ] {
            assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
        }
    }
    serving.terminate();
    // An image that the user named needs no explanation.
    let sandbox = Sandbox::new();
    let failed = sandbox.run(&["up", "--image", "127.0.0.1:1/none:1"]);
    assert!(failed.stderr.contains("cannot pull '127.0.0.1:1/none:1': "), "{}", failed.stderr);
}

#[test]
fn a_pull_that_is_tried_again_says_so_without_a_terminal() {
    let registry = Registry::new();
    let sandbox = Sandbox::new();
    registry.fail_next(1000);
    let pulled = sandbox.run(&["image", "pull", &registry.reference]);
    assert_eq!(pulled.code, 1);
    let lines = pulled.stderr.lines().filter(|line| line.contains("; trying again in ")).count();
    assert_eq!(lines, 3, "{}", pulled.stderr);
}

#[test]
fn the_wait_for_another_command_is_told() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let lock = sandbox.store().try_lock(&sandbox.id().parse().unwrap()).unwrap();
    assert!(lock.is_some());
    let waiting = sandbox.spawn(&["stop"]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    drop(lock);
    let output = waiting.finish();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("wharf: waiting for another command that works on"), "{}", output.stderr);
    // A program that reads JSON is not told.
    sandbox.json(&["start"]);
    let lock = sandbox.store().try_lock(&sandbox.id().parse().unwrap()).unwrap();
    let waiting = sandbox.spawn(&["--json", "stop"]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    drop(lock);
    assert_eq!(waiting.finish().stderr, "");
}
