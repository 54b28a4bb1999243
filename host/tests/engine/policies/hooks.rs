//! Hooks after create, on the real engine: requests of policies are carried out.

use crate::support::sandbox::Sandbox;

#[test]
fn the_set_up_script_of_a_project_runs_once() {
    let sandbox = Sandbox::new();
    sandbox
        .write("project/wharf-setup.sh", "echo \"$(pwd) $(id -u) $WORKSPACE_NAME\" >> /workspace/ran; touch /inside\n");
    let up = sandbox.up();
    assert_eq!(up["notes"][0], "set up with wharf-setup.sh");
    assert_eq!(sandbox.json(&["inspect"])["notes"][0], "set up with wharf-setup.sh");
    assert!(sandbox.run(&["inspect"]).ok().text().contains("set up with wharf-setup.sh"));
    let ran = || std::fs::read_to_string(sandbox.path("project/ran")).unwrap_or_default();
    assert_eq!(ran(), "/workspace 0 project\n");
    sandbox.sh("test -e /inside");
    sandbox.json(&["restart", "--timeout", "1s"]);
    sandbox.json(&["stop", "--timeout", "1s"]);
    sandbox.up();
    assert_eq!(ran(), "/workspace 0 project\n", "later starts do not run it");
    sandbox.json(&["up", "--recreate", "--memory", "100MiB"]);
    assert_eq!(ran().lines().count(), 2, "a new container is set up again");
}

#[test]
fn a_set_up_that_fails_leaves_it_running_and_degraded_with_the_reason() {
    let sandbox = Sandbox::new();
    sandbox.write("project/wharf-setup.sh", "echo working; echo 'no such package: left-pad' >&2; exit 3\n");
    let up = sandbox.up();
    assert_eq!(up["state"], "running");
    let reason = up["degraded"].as_str().unwrap();
    assert!(reason.contains("post-start.rhai") && reason.contains("code 3") && reason.contains("left-pad"), "{reason}");
    assert_eq!(sandbox.json(&["inspect"])["degraded"], reason);
    assert!(sandbox.run(&["ls"]).ok().text().contains("running, degraded"));
    assert_eq!(sandbox.sh("echo still usable"), "still usable\n");
}

#[test]
fn a_hint_is_noted_for_a_language() {
    let sandbox = Sandbox::new();
    sandbox.write("project/Cargo.toml", "");
    let up = sandbox.json(&["up", "--image", crate::support::engine_api::BASE]);
    assert!(up["notes"][0].as_str().unwrap().contains("cargo build"), "{up}");
}

#[test]
fn a_post_start_that_fails_or_hangs_only_degrades() {
    for (body, words) in [
        ("throw \"boom\";", "rule.rhai:2"),
        ("ctx.run([\"no-such-command\"]);", "no-such-command"),
        ("ctx.run([\"sleep\", \"1000\"], 300);", "longer than"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.script("rule.rhai", &format!("fn post_start(ctx) {{\n    {body}\n}}\n"));
        let up = sandbox.up();
        assert_eq!(up["state"], "running");
        assert!(up["degraded"].as_str().is_some_and(|reason| reason.contains(words)), "{body}: {up}");
    }
}

#[test]
fn a_policy_can_stop_what_it_does_not_like() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn post_start(ctx) {\n    ctx.stop(\"it is night\");\n}\n");
    let up = sandbox.up();
    assert_eq!(up["state"], "exited");
    assert_eq!(up["notes"][0], "stopped by rule.rhai: it is night");
    sandbox.json(&["sidecar", "add", "db", "--image", crate::support::engine_api::BASE, "--", "sleep", "600"]);
    let again = sandbox.run(&["start", "project"]).ok().text();
    assert!(again.contains("started and is exited again: stopped by rule.rhai: it is night"), "{again}");
    let states: Vec<_> = sandbox.own_containers().iter().map(|container| container["State"].clone()).collect();
    assert_eq!(states, ["exited", "exited"], "its sidecar with it");
}

#[test]
fn a_later_start_is_told_from_the_first() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn post_start(ctx) { ctx.note(`first: ${ctx.first_start}`); }");
    assert_eq!(sandbox.up()["notes"], serde_json::json!(["first: true"]));
    sandbox.json(&["stop", "--timeout", "1s"]);
    assert_eq!(sandbox.json(&["start"])["notes"], serde_json::json!(["first: false"]));
}

#[test]
fn a_script_decides_every_command_that_runs() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_exec(ctx) {
    if ctx.exec.command.contains(\"curl\") {
        ctx.deny(\"no-download\", \"nothing is downloaded here\");
    }
    ctx.exec.env.ASKED_BY = \"rule\";
    ctx.exec.user = \"1000:1000\";
}",
    );
    sandbox.up();
    let denied = sandbox.run(&["exec", "--", "curl", "http://example.com"]);
    assert_eq!((denied.code, denied.text().as_str()), (125, ""));
    assert!(
        denied.stderr.contains("rule.rhai:3") && denied.stderr.contains("nothing is downloaded here"),
        "{}",
        denied.stderr
    );
    let json = sandbox.run(&["--json", "exec", "--", "curl"]);
    assert_eq!(json.error()["code"], "no-download");
    assert_eq!(sandbox.sh("echo $ASKED_BY; id -u"), "rule\n1000\n");
    // A shell counts as a command, too.
    let shell = sandbox.feed(&["shell"], b"echo $ASKED_BY\n".to_vec());
    assert_eq!((shell.code, shell.text().as_str()), (0, "rule\n"));
}

#[test]
fn a_pre_exec_that_fails_denies() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.script("rule.rhai", "fn pre_exec(ctx) {\n    throw \"boom\";\n}\n");
    let denied = sandbox.run(&["--json", "exec", "--", "true"]);
    assert_eq!((denied.code, denied.error()["code"].as_str()), (125, Some("policy-failed")));
    assert!(denied.error()["message"].as_str().unwrap().contains("rule.rhai:2"), "{}", denied.stderr);
}

#[test]
fn what_pre_stop_asks_for_is_done_before_the_stop() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_stop(ctx) {
    ctx.run([\"sh\", \"-c\", `echo ${ctx.verb} $(kill -0 1 && echo alive) >> /workspace/saved`]);
    ctx.note(`saved before ${ctx.verb}`);
}",
    );
    sandbox.up();
    let saved = || std::fs::read_to_string(sandbox.path("project/saved")).unwrap_or_default();
    let stopped = sandbox.json(&["stop", "--timeout", "1s"]);
    assert_eq!(saved(), "stop alive\n");
    assert!(stopped["notes"].to_string().contains("saved before stop"), "{stopped}");
    sandbox.json(&["stop", "--timeout", "1s"]);
    assert_eq!(saved(), "stop alive\n", "what does not run is not asked about");
    sandbox.json(&["start"]);
    sandbox.json(&["restart", "--timeout", "1s"]);
    sandbox.json(&["rm", "--force", "project"]);
    assert_eq!(saved(), "stop alive\nrestart alive\nremove alive\n");
    sandbox.up();
    sandbox.json(&["down"]);
    assert_eq!(saved().lines().last(), Some("remove alive"));
    sandbox.assert_nothing_left();
}

#[test]
fn a_pre_stop_that_fails_does_not_prevent_the_stop() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_stop(ctx) {\n    throw \"boom\";\n}\n");
    sandbox.script("other.rhai", "fn pre_stop(ctx) {\n    ctx.run([\"no-such-command\"]);\n}\n");
    sandbox.up();
    assert_eq!(sandbox.json(&["stop", "--timeout", "1s"])["state"], "exited");
    sandbox.up();
    sandbox.json(&["down"]);
    sandbox.assert_nothing_left();
}

#[test]
fn a_policy_is_asked_only_about_what_is_in_its_scope() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_create(ctx) { ctx.spec.env.SCOPED = \"yes\"; }");
    sandbox.append_config("scope = { labels = { team = \"pay*\" } }");
    sandbox.json(&["up", "--label", "team=other"]);
    assert_eq!(sandbox.sh("echo [$SCOPED]"), "[]\n");
    let up = sandbox.json(&["up", "--label", "team=payments", "--recreate"]);
    assert_eq!(up["trail"][0]["fields"], serde_json::json!(["env.SCOPED"]));
    assert_eq!(sandbox.sh("echo [$SCOPED]"), "[yes]\n");
}

#[test]
fn a_policy_that_no_longer_loads_keeps_nobody_from_listing_and_removing() {
    let sandbox = Sandbox::new();
    sandbox.script("team.rhai", "fn pre_stop(ctx) { ctx.note(\"stopping\"); }\n");
    sandbox.up();
    sandbox.write("config/policies/team.rhai", "fn pre_stop(ctx) { let x = ; }\n");
    assert_eq!(sandbox.run(&["up"]).code, 3);
    assert_eq!(sandbox.json(&["ls"]).as_array().map(Vec::len), Some(1));
    sandbox.run(&["logs"]).ok();
    let stopped = sandbox.run(&["down"]).ok();
    assert!(stopped.stderr.contains("without asking its policies"), "{}", stopped.stderr);
    sandbox.assert_nothing_left();
}
