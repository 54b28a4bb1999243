//! Limits of an existing workspace.

use serde_json::json;

use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::Sandbox;

fn limits(sandbox: &Sandbox) -> (i64, i64, i64, String) {
    let inspected = engine::inspect(&format!("wharf-{}", sandbox.id()));
    let host = &inspected["HostConfig"];
    let number = |key: &str| host[key].as_i64().unwrap_or_default();
    let restart = host["RestartPolicy"]["Name"].as_str().unwrap_or_default().to_owned();
    assert_eq!(number("Memory"), number("MemorySwap"), "swap is off");
    (number("Memory"), number("NanoCpus"), number("PidsLimit"), restart)
}

#[test]
fn limits_change_while_it_runs_and_why_tells_who_decided() {
    let sandbox = Sandbox::new();
    let up = sandbox.json(&["up", "--memory", "256MiB", "--cpus", "1"]);
    let args = ["update", "--memory", "512MiB", "--cpus", "0.5", "--pids", "99", "--restart", "unless-stopped"];
    let updated = sandbox.json(&args);
    assert_eq!((&updated["state"], &updated["container_id"]), (&json!("running"), &up["container_id"]));
    assert_eq!(limits(&sandbox), (512 << 20, 500_000_000, 99, "unless-stopped".into()));
    let inside =
        sandbox.sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max");
    assert_eq!(inside.trim(), (512 << 20).to_string());
    let why = sandbox.run(&["why", "resources.memory"]).ok().text();
    assert!(why.contains("request (--memory 512MiB)") || why.contains("--memory 512"), "{why}");
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
    // The decision matches the container, so the same request finds no difference.
    let again = ["up", "--memory", "512MiB", "--cpus", "0.5", "--pids", "99", "--restart", "unless-stopped"];
    assert_eq!(sandbox.json(&again)["container_id"], up["container_id"]);
}

#[test]
fn policies_and_ceilings_bind_a_change_as_they_bind_a_creation() {
    let sandbox = Sandbox::new();
    sandbox.config("[limits]\nmemory = \"1GiB\"");
    sandbox.script(
        "small.rhai",
        "fn pre_create(ctx) { if ctx.spec.resources.cpus > 1.0 { ctx.deny(\"one-core\", \"one core each\"); } }",
    );
    sandbox.json(&["up", "--image", BASE, "--memory", "128MiB", "--cpus", "1"]);
    let before = limits(&sandbox);
    for (args, code, word) in [
        (&["--cpus", "2"][..], 4, "one-core"),
        (&["--memory", "2GiB"], 4, "invariant"),
        (&["--memory", "1MiB"], 2, "bad-request"),
        (&["--cpus", "0"], 2, "bad-request"),
        (&["--pids", "0"], 2, "bad-request"),
    ] {
        let output = sandbox.run(&[&["--json", "update"], args].concat());
        assert_eq!((output.code, &output.error()["code"]), (code, &json!(word)), "{args:?}: {}", output.stderr);
        assert_eq!(limits(&sandbox), before, "{args:?}");
    }
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
}

#[test]
fn a_policy_that_now_decides_more_than_limits_needs_a_new_container() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let before = limits(&sandbox);
    sandbox.script("env.rhai", "fn pre_create(ctx) { ctx.spec.env.NEW = \"x\"; }");
    let output = sandbox.run(&["--json", "update", "--memory", "512MiB"]);
    assert_eq!(output.code, 7, "{}", output.stderr);
    assert!(output.stderr.contains("env.NEW") && output.stderr.contains("--recreate"), "{}", output.stderr);
    assert_eq!(limits(&sandbox), before);
}

#[test]
fn a_change_that_the_kernel_refuses_leaves_the_limits_as_they_were() {
    let sandbox = Sandbox::new();
    // 64 MiB in a memory file system are in use and cannot be reclaimed.
    let line = "head -c 64M /dev/zero > /big/x; echo full; sleep 600";
    sandbox.json(&["up", "--memory", "256MiB", "--tmpfs", "/big:128MiB", "--", "sh", "-c", line]);
    crate::support::sandbox::until("it is full", || sandbox.run(&["logs"]).text().contains("full"));
    let before = limits(&sandbox);
    let output = sandbox.run(&["--json", "update", "--memory", "16MiB"]);
    if output.code == 0 {
        // On cgroup v2 the kernel accepts the limit and lets the container run out of memory instead.
        return;
    }
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert_eq!(limits(&sandbox), before);
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
}
