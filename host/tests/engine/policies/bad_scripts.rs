//! Scripts that cannot be read, fail, deny, conflict, or request something that the host does not allow.

use crate::support::sandbox::Sandbox;

/// Returns a chain of one script, which denies or fails.
#[track_caller]
fn script(text: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", text);
    sandbox
}

#[test]
fn a_syntax_error_is_shown_with_the_line_and_a_caret() {
    let sandbox = script("fn pre_create(ctx) {\n    ctx.spec.env.A = = \"1\";\n}\n");
    let refused = sandbox.refused(&["up"], 3, "policy-not-loaded", &["rule.rhai:2:"]);
    insta::assert_snapshot!("syntax_error", sandbox.masked(&refused.stderr));
}

#[test]
fn a_script_without_a_hook_or_with_a_wrong_one_is_not_loaded() {
    script("fn before_create(ctx) {}").refused(&["up"], 3, "policy-not-loaded", &["rule.rhai", "pre_create"]);
    script("fn pre_create() {}").refused(&["up"], 3, "policy-not-loaded", &["rule.rhai", "one, ctx"]);
    script("import \"x\" as x; fn pre_create(ctx) {}").refused(&["up"], 3, "policy-not-loaded", &["rule.rhai"]);
}

#[test]
fn a_denial_names_file_line_and_reason() {
    let sandbox = script("fn pre_create(ctx) {\n\n    ctx.deny(\"no-friday\", \"not on a friday\");\n}\n");
    sandbox.refused(&["up"], 4, "no-friday", &["rule.rhai:3", "not on a friday"]);
    let sandbox = script("fn select_image(ctx) {\n    ctx.deny(\"no-image\", \"none will do\");\n}\n");
    sandbox.refused(&["up"], 4, "no-image", &["rule.rhai:2", "none will do"]);
}

#[test]
fn an_error_while_a_script_runs_denies_with_its_line() {
    for (body, words) in [
        ("    throw \"boom\";", "boom"),
        ("    let field = \"colour\"; ctx.spec[field] = 1;", "colour"),
        ("    let x = 1 / 0;", "zero"),
        ("    [2, 1].sort(|a, b| { throw \"boom\" });", "boom"),
        ("    if ctx.spec.resources.memory > ctx.workspace.labels.none { return; }", "compares with ()"),
        (
            "    let much = \"1GiB\"; ctx.spec.resources.memory = much;",
            "spec.resources.memory: expected bytes as a number, not the text \"1GiB\"; write gib(1)",
        ),
    ] {
        let sandbox = script(&format!("fn pre_create(ctx) {{\n{body}\n}}\n"));
        sandbox.refused(&["up"], 4, "policy-failed", &["rule.rhai:2", words]);
    }
    let sandbox = script("fn pre_create(ctx) {\n    loop { let x = 1; }\n}\n");
    // On a busy machine the time would run out before the operations.
    sandbox.append_config("timeout = \"60s\"");
    sandbox.refused(&["up"], 4, "policy-failed", &["rule.rhai:2:5: ran more operations than allowed"]);
    let sandbox = script("fn pre_create(ctx) {\n    throw \"boom\";\n}\n");
    insta::assert_snapshot!("script_that_throws", sandbox.masked(&sandbox.run(&["up"]).stderr));
}

#[test]
fn a_script_with_a_mistake_that_can_be_told_is_not_loaded() {
    for (body, words) in [
        ("    ctx.spec.colour = 1;", "colour"),
        ("    no_such_function();", "no_such_function"),
        ("    sleep(3600);", "no function sleep"),
        ("    ctx.spec.resources.memory = \"1GiB\";", "write gib(1)"),
        (
            "    if ctx.spec.resources.memory > global::RULES.memroy { return; }",
            "there is no 'RULES.memroy'; the keys are memory",
        ),
    ] {
        let sandbox = script(&format!("fn pre_create(ctx) {{\n{body}\n}}\nconst RULES = #{{ memory: 1 }};\n"));
        sandbox.refused(&["up"], 3, "policy-not-loaded", &["rule.rhai:2", words]);
        let checked = sandbox.run(&["policy", "check"]);
        assert!(checked.code == 3 && checked.text().contains(words), "{}", checked.text());
        assert_eq!(sandbox.run(&["serve", "--check"]).code, 3);
    }
}

#[test]
fn two_policies_that_want_different_values_are_a_conflict_that_names_both() {
    let sandbox = Sandbox::new();
    sandbox.script("one.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"red\"; }");
    sandbox.script("two.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"blue\"; }");
    sandbox.refused(&["up"], 4, "conflict", &["one.rhai", "two.rhai", "env.TEAM", "red", "blue"]);
    sandbox.append_config("may_override = [\"env\"]");
    sandbox.up();
    assert_eq!(sandbox.sh("echo $TEAM"), "blue\n");
}

#[test]
fn no_script_can_pass_the_invariants_of_the_host() {
    for (body, field, allowed_by) in [
        ("ctx.spec.resources.memory = gib(64);", "resources.memory", "limits.memory"),
        ("ctx.spec.resources.cpus = 99.0;", "resources.cpus", "limits.cpus"),
        ("ctx.spec.mounts[\"/host\"] = #{ kind: \"bind\", source: \"/etc\" };", "mounts./host", "allow.bind_roots"),
        ("ctx.spec.mounts[\"/host\"] = #{ kind: \"bind\", source: \"/\" };", "mounts./host", "root access"),
        (
            "ctx.spec.mounts[\"/s\"] = #{ kind: \"bind\", source: \"/var/run/docker.sock\", read_only: true };",
            "mounts./s",
            "allow.docker_socket",
        ),
        ("ctx.spec.mounts[\"/r\"] = #{ kind: \"bind\", source: \"/var/run\" };", "mounts./r", "allow.docker_socket"),
        ("ctx.spec.ports[\"80/tcp\"] = #{ address: \"0.0.0.0\" };", "ports.80/tcp", "allow.public_ports"),
        ("ctx.spec.network = \"host\";", "network", "allow.host_network"),
    ] {
        let sandbox = script(&format!("fn pre_create(ctx) {{\n    {body}\n}}\n"));
        sandbox.refused(&["up"], 4, "invariant", &["rule.rhai:2", field, allowed_by]);
    }
    // Also below the floor, which is checked first.
    let sandbox = script("fn pre_create(ctx) {\n    ctx.spec.resources.pids = 99999;\n}\n");
    sandbox.refused(&["up"], 4, "policy-failed", &["rule.rhai:2", "resources.pids", "only be tightened"]);
}

#[test]
fn no_request_can_pass_the_invariants_either() {
    let sandbox = Sandbox::new();
    // Without the built-in scripts, one of which would reduce the memory.
    sandbox.script("none.rhai", "fn pre_create(ctx) {}");
    sandbox.refused(&["up", "--memory", "64GiB"], 4, "invariant", &["--memory 64GiB", "limits.memory"]);
    sandbox.refused(&["up", "--mount", "/etc:/host-etc:ro"], 4, "invariant", &["/etc", "allow.bind_roots"]);
    sandbox.refused(&["up", "--publish", "0.0.0.0:8080:80"], 4, "invariant", &["0.0.0.0", "allow.public_ports"]);
    // A link inside the project that leads out.
    std::os::unix::fs::symlink("/etc", sandbox.path("project/out")).unwrap();
    sandbox.refused(&["up", "--mount", "./out:/out"], 4, "invariant", &["outside the project"]);
}

#[test]
fn security_can_only_be_tightened_by_a_policy() {
    for (body, field) in [
        ("ctx.spec.security.capabilities.push(\"SYS_ADMIN\");", "security.capabilities"),
        ("ctx.spec.security.no_new_privileges = false;", "security.no_new_privileges"),
        ("ctx.spec.security.seccomp = \"unconfined\";", "security.seccomp"),
        ("ctx.spec.security.user_namespace = \"host\";", "security.user_namespace"),
    ] {
        let sandbox = script(&format!("fn security_profile(ctx) {{\n    {body}\n}}\n"));
        sandbox.refused(&["up"], 4, "policy-failed", &["rule.rhai", field, "tightened"]);
    }
    // Other hooks cannot loosen security at all.
    let sandbox = script("fn pre_create(ctx) {\n    ctx.spec.security.no_new_privileges = false;\n}\n");
    sandbox.refused(&["up"], 4, "policy-failed", &["rule.rhai", "security.no_new_privileges"]);
}

#[test]
fn without_any_image_the_request_is_refused_with_how_to_name_one() {
    let mut sandbox = script("fn pre_create(ctx) {}");
    sandbox.unset("WHARF_WORKSPACE_IMAGE");
    sandbox.refused(&["up"], 4, "invariant", &["image", "--image"]);
}

#[test]
fn what_is_allowed_in_the_configuration_is_allowed() {
    let sandbox = Sandbox::new();
    let cache = sandbox.folder("cache");
    sandbox.config(&format!("[allow]\nbind_roots = [\"{}\"]\npublic_ports = true\n", cache.display()));
    sandbox.write("cache/file", "shared");
    let mount = format!("{}:/cache:ro", cache.display());
    let up = sandbox.json(&["up", "--mount", &mount, "--publish", "0.0.0.0::80"]);
    assert_eq!(up["ports"][0]["address"], "0.0.0.0");
    assert_eq!(sandbox.sh("cat /cache/file"), "shared");
    // From the project it is the same folder.
    let again = sandbox.json(&["up", "--mount", "../cache:/cache:ro", "--publish", "0.0.0.0::80"]);
    assert_eq!(again["container_id"], up["container_id"]);
}
