//! Shadows, canaries, breakers and waivers through the program.

use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;

const SHADOW: &str = "# tried since Monday\n[[policy]]\nname = \"next.rhai\"\nscript = \"policies/next.rhai\"\n\
                      mode = \"shadow\" # not yet\n";

fn with_shadow(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("now.rhai", "fn pre_create(ctx) { ctx.spec.env.BY = \"now\"; }");
    sandbox.write("config/policies/next.rhai", script);
    sandbox.append_config(SHADOW);
    sandbox
}

/// Expects that `exec` is refused with these words.
#[track_caller]
fn exec_denied(sandbox: &Sandbox, words: &[&str]) {
    let output = sandbox.run(&["exec", "--", "true"]);
    assert_eq!(output.code, 125, "{}", output.stderr);
    assert!(words.iter().all(|word| output.stderr.contains(word)), "{words:?}: {}", output.stderr);
}

fn env_of(sandbox: &Sandbox, name: &str) -> String {
    sandbox.sh(&format!("echo \"${{{name}-unset}}\"")).trim().to_owned()
}

#[test]
fn a_shadow_changes_nothing_and_wharf_policy_diff_sums_up_what_it_would_change() {
    let sandbox = with_shadow(
        "fn pre_create(ctx) { ctx.spec.env.NEXT = \"1\"; }\nfn pre_exec(ctx) { ctx.deny(\"no\", \"not now\"); }",
    );
    sandbox.up();
    assert_eq!((env_of(&sandbox, "BY").as_str(), env_of(&sandbox, "NEXT").as_str()), ("now", "unset"));
    let all = sandbox.json(&["policy", "diff"]);
    let next = &all["next.rhai"];
    assert_eq!((&next["asked"], &next["failed"]), (&json!(3), &json!(0)), "{all}");
    let groups = next["differences"].as_array().unwrap();
    assert_eq!(groups[0]["field"], "outcome", "new denials come first: {all}");
    assert_eq!((&groups[0]["count"], &groups[0]["hook"]), (&json!(2), &json!("pre-exec")));
    assert_eq!(
        (&groups[1]["field"], &groups[1]["from"], &groups[1]["to"]),
        (&json!("env.NEXT"), &Value::Null, &json!("1"))
    );
    let text = sandbox.run(&["policy", "diff", "next.rhai"]).ok().text();
    assert!(text.contains("env.NEXT") && text.contains("denied: no by next.rhai"), "{text}");
    let none = sandbox.run(&["--json", "policy", "diff", "no-such"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("policy-not-found")));
    assert!(sandbox.run(&["policy", "diff", "--since", "2099-01-01T00:00:00Z"]).ok().text().contains("no shadow"));
    assert!(
        sandbox.store().verify(None).unwrap().whole().is_ok(),
        "records of shadows are in the same chain of hashes"
    );
}

#[test]
fn a_shadow_that_never_ends_delays_no_command_that_is_carried_out() {
    let sandbox = with_shadow("fn pre_exec(ctx) { loop { } }");
    sandbox.append_config("timeout = \"3s\"\noperations = 100000000000");
    sandbox.up();
    let asked = || {
        let mut count = 0;
        sandbox.store().each_shadow(jiff::Timestamp::UNIX_EPOCH, |_| count += 1).unwrap();
        count
    };
    let mut running = sandbox.spawn(&["exec", "--", "echo", "done"]);
    let lines = crate::service::events::Lines::of(&mut running);
    assert_eq!(lines.next().trim(), "done");
    assert_eq!(asked(), 0, "the shadow is still being asked; only the end of the program waits for it");
    let ended = running.finish();
    assert_eq!((ended.code, asked()), (0, 1), "{}", ended.stderr);
    let all = sandbox.json(&["policy", "diff"]);
    assert_eq!(all["next.rhai"]["failed"], 1, "{all}");
    assert!(all["next.rhai"]["last_failure"].as_str().unwrap().contains("longer than allowed"), "{all}");
}

#[test]
fn promote_and_rollback_edit_the_file_with_its_comments_and_ls_and_show_tell_the_truth() {
    let sandbox = with_shadow("fn pre_create(ctx) { ctx.spec.env.NEXT = \"1\"; }");
    let file = || std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap();
    let before = file();
    let mode = || sandbox.json(&["policy", "ls"])[1]["mode"].as_str().unwrap().to_owned();
    assert_eq!(mode(), "shadow");
    sandbox.run(&["policy", "promote", "next.rhai", "--canary", "100"]).ok();
    assert_eq!(mode(), "canary 100%");
    let said = sandbox.run(&["policy", "promote", "next.rhai"]).ok().text();
    assert!(said.contains("canary 100% -> enforce") && said.contains("wharf.toml"), "{said}");
    assert_eq!(mode(), "enforce");
    assert_eq!(file(), before.replace("\"shadow\" #", "\"enforce\" #"));
    sandbox.up();
    assert_eq!(env_of(&sandbox, "NEXT"), "1");
    sandbox.run(&["policy", "rollback", "next.rhai"]).ok();
    assert_eq!(file(), before);
    assert!(sandbox.run(&["config", "show"]).ok().text().contains("policy.1.mode"));
}

#[test]
fn a_mode_is_only_set_where_it_is_configured() {
    let sandbox = Sandbox::new();
    sandbox.refused(&["policy", "promote", "stranger"], 5, "policy-not-found", &["'stranger'", "chain"]);
    sandbox.refused(
        &["--set", "policy=[{name=\"a\", builtin=\"cleanup.rhai\", mode=\"shadow\"}]", "policy", "promote", "a"],
        2,
        "mode-elsewhere",
        &["--set policy"],
    );
}

#[test]
fn a_canary_that_keeps_failing_is_rolled_back_for_all_processes_until_it_is_reset() {
    let sandbox = Sandbox::new();
    sandbox.script("bad.rhai", "fn pre_exec(ctx) { throw \"broken\"; }");
    sandbox.append_config("mode = { canary = 100 }\nrollback = { percent = 10, calls = 20 }");
    sandbox.up();
    for _ in 0..3 {
        exec_denied(&sandbox, &["broken"]);
    }
    sandbox.run(&["exec", "--", "true"]).ok();
    let row = sandbox.json(&["policy", "ls"])[0].clone();
    assert!(row["standing"]["rolled_back"]["why"].as_str().unwrap().contains("3 of 3"), "{row}");
    assert!(sandbox.run(&["policy", "ls"]).ok().text().contains("rolled back"));
    sandbox.run(&["policy", "reset", "bad.rhai"]).ok();
    exec_denied(&sandbox, &["broken"]);
}

#[test]
fn an_open_breaker_denies_at_once_in_every_process_and_shows_in_policy_ls() {
    let sandbox = Sandbox::new();
    sandbox.script("bad.rhai", "fn pre_exec(ctx) { throw \"broken\"; }");
    sandbox.append_config("breaker = { failures = 2, pause = \"10m\" }");
    sandbox.up();
    for _ in 0..2 {
        exec_denied(&sandbox, &["broken"]);
    }
    exec_denied(&sandbox, &["breaker is open", "2 failures in a row", "broken"]);
    let text = sandbox.run(&["policy", "ls"]).ok().text();
    assert!(text.contains("breaker open at pre-exec"), "{text}");
    let doctor = sandbox.run(&["doctor"]).text();
    assert!(doctor.contains("its breaker is open at pre-exec"), "{doctor}");
    // A corrected script is another version and is called at once.
    sandbox.write("config/policies/bad.rhai", "fn pre_exec(ctx) { }");
    sandbox.run(&["exec", "--", "true"]).ok();
}

#[test]
fn a_waiver_shows_in_the_trail_and_one_that_has_ended_is_refused_with_its_date() {
    let sandbox = Sandbox::new();
    sandbox.script("strace.rhai", "fn security_profile(ctx) { ctx.spec.security.seccomp = \"unconfined\"; }");
    let config = std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap();
    let waiver = |until: &str| {
        format!(
            "{config}waivers = [{{ field = \"security.seccomp\", value = \"unconfined\", until = \"{until}\", reason = \"strace course\" }}]\n[allow]\nunconfined = true\n"
        )
    };
    sandbox.refused(&["plan"], 4, "policy-failed", &["security.seccomp", "only be tightened"]);
    sandbox.config(&waiver("2020-02-29"));
    sandbox.refused(&["up"], 4, "policy-failed", &["expired on 2020-02-29", "strace course"]);
    sandbox.config(&waiver("2099-12-31"));
    let plan = sandbox.run(&["plan"]).ok().text();
    assert!(plan.contains("waiver of strace.rhai: security.seccomp") && plan.contains("2099-12-31"), "{plan}");
    sandbox.up();
    let why = sandbox.run(&["why"]).ok().text();
    assert!(why.contains("strace course"), "{why}");
    let record = sandbox.store().decisions(&sandbox.id().parse().unwrap(), 9).unwrap();
    assert!(record.iter().any(|decision| decision.steps.iter().any(|step| !step.waivers.is_empty())));
}

#[test]
fn a_choice_about_failures_is_refused_where_there_is_none_and_honoured_where_there_is() {
    let sandbox = Sandbox::new();
    sandbox.script("bad.rhai", "fn post_start(ctx) { throw \"broken\"; }");
    let config = std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap();
    for (hook, words) in
        [("pre-create", "always means 'deny'"), ("cleanup", "always means 'keep'"), ("pre-exec", "deny")]
    {
        sandbox.config(&format!("{config}on_error = {{ {hook} = \"proceed\" }}"));
        sandbox.refused(&["up"], 3, "configuration", &["on_error", words]);
    }
    sandbox.config(&format!("{config}on_error = {{ post-start = \"keep\" }}"));
    sandbox.refused(&["up"], 3, "configuration", &["degrade, proceed, stop"]);
    sandbox.config(&format!("{config}on_error = {{ post-start = \"proceed\" }}"));
    assert_eq!(sandbox.up()["degraded"], Value::Null);
    sandbox.run(&["down"]).ok();
    sandbox.config(&format!("{config}on_error = {{ post-start = \"stop\" }}"));
    let up = sandbox.up();
    assert_eq!(up["state"], "exited", "{up}");
    assert!(up["degraded"].as_str().unwrap().contains("broken"), "{up}");
}

#[test]
fn capabilities_are_granted_by_the_entry_recorded_with_their_digest_and_refused_for_scripts() {
    let mut sandbox = Sandbox::new();
    sandbox.env("TEAM", "pay");
    sandbox.write("config/data/a.txt", "from a folder");
    sandbox.plugin("test-plugins/reader", "{}");
    sandbox.append_config("capabilities = { dirs = { \"/data\" = \"data\" }, env = [\"TEAM\"] }");
    sandbox.up();
    assert_eq!(env_of(&sandbox, "SEEN_TEAM"), "pay");
    assert_eq!(env_of(&sandbox, "FILE_data"), "from a folder");
    let records = sandbox.store().decisions(&sandbox.id().parse().unwrap(), 9).unwrap();
    let granted = |records: &[wharf::hooks::Decision]| {
        records.iter().flat_map(|record| &record.steps).find_map(|step| step.granted.clone())
    };
    assert_eq!(granted(&records).map(|digest| digest.len()), Some(64));

    let other = Sandbox::new();
    other.script("s.rhai", "fn pre_create(ctx) { }");
    other.append_config("capabilities = { env = [\"HOME\"] }");
    other.refused(&["up"], 3, "configuration", &["policy 's.rhai': capabilities", "are for plugins"]);
    other.config(
        "[[policy]]\nname = \"p\"\nbuiltin = \"cleanup-policy\"\ncapabilities = { network = [\"example.org\"] }",
    );
    other.refused(&["up"], 3, "configuration", &["network", "dirs"]);
}
