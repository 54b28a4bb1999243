//! Scripts as an administrator writes them, good and bad.

mod nothing;
mod strict;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::hooks::chain::tests::spec;
use crate::hooks::{Action, Adjustment, Facts};

fn request(hook: Hook, subject: Subject) -> HookRequest {
    let mut facts = Facts::default();
    facts.workspace.labels.insert("team".into(), "pay".into());
    HookRequest { hook, now_ms: 5, facts: Arc::new(facts), spec: spec(), subject }
}

fn load(source: &str) -> Result<RhaiPolicy, PolicyError> {
    RhaiPolicy::load("p.rhai", source, json!({ "most": 3 }), Limits::default())
}

fn pre_create(source: &str) -> Result<Reply, PolicyError> {
    load(source)?.evaluate(&request(Hook::PreCreate, Subject::Container))
}

#[test]
fn edits_of_the_spec_become_typed_adjustments_with_their_lines() {
    let reply = pre_create(
        "fn pre_create(ctx) {\n  ctx.spec.env.TEAM = ctx.workspace.labels.team;\n  let r = ctx.spec.resources;\n  \
         r.memory = mib(256);\n  ctx.spec.command = [\"a\", \"b\"];\n}",
    )
    .unwrap();
    let expected = vec![
        Adjustment::Command(vec!["a".into(), "b".into()]),
        Adjustment::Memory(256 << 20),
        Adjustment::Env("TEAM".into(), Some("pay".into())),
    ];
    assert_eq!(reply.verdict, Verdict::Adjust(expected));
    assert_eq!(reply.lines.get("env.TEAM"), Some(&2));
    assert_eq!(reply.lines.get("resources.memory"), Some(&4));
    assert_eq!(reply.lines.get("command"), Some(&5));
}

#[test]
fn a_denial_ends_the_script_even_inside_try_and_names_its_line() {
    let reply = pre_create(
        "fn pre_create(ctx) {\n try {\n  ctx.deny(\"no-owner\", \"set the label owner\");\n } catch { }\n \
         ctx.spec.env.A = \"1\";\n}",
    )
    .unwrap();
    assert_eq!(reply.verdict, Verdict::Deny(Denial { reason: "set the label owner".into(), code: "no-owner".into() }));
    assert_eq!(reply.deny_line, Some(3));
}

#[test]
fn a_script_that_changes_nothing_passes() {
    assert_eq!(pre_create("fn pre_create(ctx) { ctx.spec.hostname = \"w\"; }").unwrap().verdict, Verdict::Pass);
    assert_eq!(pre_create("fn pre_create(ctx) { }").unwrap().verdict, Verdict::Pass);
}

#[test]
fn constants_at_the_top_are_seen_by_hooks_as_global() {
    let reply = pre_create("const CAP = mib(128);\nfn pre_create(ctx) { ctx.spec.resources.memory = global::CAP; }");
    assert_eq!(reply.unwrap().verdict, Verdict::Adjust(vec![Adjustment::Memory(128 << 20)]));
}

#[test]
fn a_missing_label_reads_as_nothing_but_a_typo_of_a_field_is_an_error() {
    assert!(pre_create("fn pre_create(ctx) { if ctx.workspace.labels.owner == () { ctx.log(\"none\"); } }").is_ok());
    let error = pre_create("fn pre_create(ctx) {\n  ctx.spec.resources.memry = 5;\n}").unwrap_err();
    assert!(error.message.contains("p.rhai:2") && error.message.contains("memory"), "{error}");
    let error = pre_create("fn pre_create(ctx) { let x = ctx.spec.resorces; }").unwrap_err();
    assert!(error.message.contains("resources"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_names_the_field_and_the_line() {
    let error = pre_create("fn pre_create(ctx) {\n\n  ctx.spec.resources.memory = \"lots\";\n}").unwrap_err();
    assert!(error.message.starts_with("p.rhai:3: spec.resources.memory:"), "{error}");
}

#[test]
fn facts_cannot_be_changed() {
    let error = pre_create("fn pre_create(ctx) { ctx.workspace.id = \"x\"; }").unwrap_err();
    assert!(error.message.contains("workspace.id cannot be changed"), "{error}");
}

#[test]
fn a_syntax_error_is_shown_with_a_caret_under_the_spot() {
    let error = load("fn pre_create(ctx) {\n  let x = ;\n}").err().unwrap();
    assert!(error.message.starts_with("p.rhai:2:"), "{error}");
    let detail = error.detail.unwrap();
    let caret = detail.lines().last().unwrap().find('^').unwrap();
    assert_eq!(detail.lines().nth(1).unwrap().chars().nth(caret), Some(';'), "{detail}");
}

#[test]
fn an_error_deep_in_calls_names_the_functions_on_the_way() {
    let error = pre_create("fn inner(x) {\n  x.nope()\n}\nfn pre_create(ctx) {\n  inner(5);\n}").unwrap_err();
    let detail = error.detail.unwrap();
    assert!(detail.contains("in inner()") && error.message.contains("p.rhai:2"), "{detail}");
}

#[test]
fn hostile_scripts_end_within_their_limits_and_say_which() {
    let deep = format!("fn pre_create(ctx) {{ let x = {}1{}; }}", "(".repeat(500), ")".repeat(500));
    let cases = [
        ("fn pre_create(ctx) { loop { } }", "operations-limit"),
        ("fn f() { f() } fn pre_create(ctx) { f() }", "stack-limit"),
        ("fn pre_create(ctx) { let s = \"x\"; loop { s += s; } }", "memory-limit"),
        ("fn pre_create(ctx) { let a = []; loop { a.push(a); } }", "memory-limit"),
        ("fn pre_create(ctx) { let a = []; loop { a.push(1); } }", "memory-limit"),
        ("fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); let t = s; s.replace(\"x\", t); }", "memory-limit"),
        ("fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); let t = s; s.replace('x', t); }", "memory-limit"),
        (
            "fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); let a = []; a.pad(9000, s); print(a); }",
            "memory-limit",
        ),
        (
            "fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); let m = #{}; for i in 0..9999 { m[`${i}`] = s; } print(m); }",
            "memory-limit",
        ),
        (
            "fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); let m = #{}; for i in 0..9999 { m[`${i}`] = s; } m.to_json(); }",
            "memory-limit",
        ),
        (
            "fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); let m = #{}; for i in 0..9999 { m[`${i}`] = s; } ctx.spec.env = m; }",
            "memory-limit",
        ),
        (
            "fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); for i in 0..9999 { ctx.spec.env[`${i}`] = s; } }",
            "memory-limit",
        ),
        ("fn pre_create(ctx) { let s = \"x\"; s.pad(200000, 'x'); loop { ctx.note(s); } }", "memory-limit"),
        ("fn pre_create(ctx) { eval(\"1\"); }", "script"),
        ("fn pre_create(ctx) { import \"/etc/passwd\" as p; }", "script"),
        (deep.as_str(), "script"),
    ];
    for (source, code) in cases {
        // Long enough to reach the other limits, even on a busy machine.
        let limits = Limits { timeout: Duration::from_secs(60), ..Limits::default() };
        let policy = RhaiPolicy::load("p.rhai", source, json!({}), limits);
        let result = policy.and_then(|policy| policy.evaluate(&request(Hook::PreCreate, Subject::Container)));
        let error = result.unwrap_err();
        assert_eq!(error.code, code, "{source:.60}: {error}");
    }
}

#[test]
fn a_deadline_stops_a_script_that_has_operations_left() {
    let limits = Limits { timeout: Duration::from_millis(20), operations: u64::MAX, ..Limits::default() };
    let policy = RhaiPolicy::load("p.rhai", "fn pre_create(ctx) { loop { } }", json!({}), limits).unwrap();
    let error = policy.evaluate(&request(Hook::PreCreate, Subject::Container)).unwrap_err();
    assert_eq!(error.code, "timeout");
}

#[test]
fn a_script_without_a_hook_and_a_hook_with_wrong_arguments_are_refused_at_load() {
    assert!(load("fn precreate(ctx) { }").err().unwrap().message.contains("pre_create"));
    assert!(load("fn pre_create() { }").err().unwrap().message.contains("takes one, ctx"));
}

#[test]
fn settings_are_checked_at_load_by_the_script_itself() {
    let source = "fn check(s) { if s.most < 5 { throw \"most must be 5 or more\" } } fn pre_create(ctx) { }";
    assert!(load(source).err().unwrap().message.contains("most must be 5"));
}

#[test]
fn actions_are_collected_in_order_and_refused_where_they_mean_nothing() {
    let policy = load("fn post_start(ctx) { ctx.run([\"true\"]); ctx.note(\"hi\"); }").unwrap();
    let reply = policy.evaluate(&request(Hook::PostStart, Subject::Start { first_start: true })).unwrap();
    let actions = vec![Action::Run { command: vec!["true".into()], timeout_ms: 60_000 }, Action::Note("hi".into())];
    assert_eq!(reply.verdict, Verdict::Act { actions, delay_ms: None });
    assert_eq!(pre_create("fn pre_create(ctx) { ctx.run([\"x\"]); }").unwrap_err().code, "bad-answer");
}

#[test]
fn a_config_script_edits_values_and_tells_the_line_of_each() {
    let config = json!({ "limits": { "memory": "1GiB" }, "policies": [] });
    let given = json!({ "host": { "cores": 8 }, "vars": { "TEAM": "pay" } });
    let input = ConfigInput { root: config.clone(), given, known: config };
    let source = "fn config(c) {\n  if c.host.cores > 4 {\n    c.limits.memory = \"8GiB\";\n  }\n  \
                  c.policies.push(#{ name: c.vars.TEAM });\n}";
    let (value, edits) = edit_config(Path::new("wharf.rhai"), source, input.clone()).unwrap();
    assert_eq!(value, json!({ "limits": { "memory": "8GiB" }, "policies": [{ "name": "pay" }] }));
    let lines: Vec<_> = edits.iter().map(|edit| (edit.path.join("."), edit.line)).collect();
    assert_eq!(lines, [("limits.memory".to_owned(), 3), ("policies".to_owned(), 5)]);
    let wrong = edit_config(Path::new("wharf.rhai"), "fn config(c) { c.host.cores = 1; }", input);
    assert!(wrong.unwrap_err().message.contains("cannot be changed"));
}

#[test]
fn an_endless_loop_is_named_by_its_line() {
    for (source, line) in [
        ("fn pre_create(ctx) {\n  let n = 0;\n  loop { }\n}", 3),
        (
            "fn pre_create(ctx) {\n  for a in [1] { }\n  let n = 0;\n  while n < 5 {\n    ctx.spec.resources.pids = 5;\n  }\n}",
            4,
        ),
        ("fn f() {\n  loop {\n    let x = 1;\n  }\n}\nfn pre_create(ctx) {\n  f();\n}", 2),
    ] {
        let error = pre_create(source).unwrap_err();
        assert!(error.message.starts_with(&format!("p.rhai:{line}:")), "{source}: {error}");
        assert!(error.message.contains("look for an endless loop"), "{error}");
    }
}

#[test]
fn an_unknown_function_or_a_wrong_argument_is_told_without_types_of_rhai() {
    for (body, says) in [
        ("let a = gb(1);", "there is no function gb; did you mean gib?"),
        ("let a = gib(\"1\");", "gib does not take (a text)"),
        ("let a = () in #{};", "contains does not take (a map, ())"),
        ("ctx.refuse(\"a\", \"b\");", "there is no function refuse; did you mean deny?"),
        ("let a = (); a.memory = 5;", "there is no 'memory' here: the value before it is ()"),
        ("let a = 5; if a { }", "expected true or false, not an integer"),
    ] {
        let error = pre_create(&format!("fn pre_create(ctx) {{ {body} }}")).unwrap_err();
        assert!(error.message.contains(says), "{body}: {error}");
    }
}

#[test]
fn a_literal_of_a_wrong_kind_is_found_without_running() {
    let found = |body: &str| {
        let source = format!("fn pre_create(ctx) {{\n  if false {{ {body} }}\n}}");
        let found = check("p.rhai", &source, &Imports::default(), None, &Limits::default()).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (body, says) in [
        (
            "ctx.spec.resources.memory = \"1GiB\";",
            "spec.resources.memory: expected bytes as a number, not the text \"1GiB\"; write gib(1)",
        ),
        ("let r = ctx.spec.resources; r.memory = \"1GiB\";", "write gib(1)"),
        ("if ctx.spec.resources.memory > \"2GiB\" { }", "write gib(2)"),
        (
            "if ctx.caller.role == \"root\" { }",
            "caller.role: \"root\" is not one of \"viewer\", \"operator\", \"admin\"",
        ),
        ("ctx.spec.env.PORT = 80;", "write \"80\""),
        ("ctx.spec.command = \"make\";", "write [\"make\"]"),
    ] {
        assert!(found(body).contains(says), "{body}: {}", found(body));
    }
    for fine in [
        "ctx.spec.resources.memory = gib(1); ctx.spec.resources.cpus = 2; ctx.spec.user = ();",
        "if ctx.spec.resources.memory > 1.5 || ctx.caller.role == \"viewer\" || ctx.caller == () { }",
        "ctx.spec.restart = #{ on_failure: 3 }; ctx.spec.restart = \"no\"; ctx.spec.env.A = \"1\";",
        "ctx.spec.mounts[\"/a\"] = #{ kind: \"volume\", source: \"v\", read_only: true };",
    ] {
        assert_eq!(found(fine), "", "{fine}");
    }
}

#[test]
fn every_hook_knows_the_local_time_the_user_and_the_owner_of_the_folder() {
    let mut request = request(Hook::PreCreate, Subject::Container);
    let mut facts = request.facts.as_ref().clone();
    facts.local_time = Some(crate::hooks::LocalTime { minute: 22 * 60 + 5, weekday: 6 });
    facts.workspace.owner = Some(crate::hooks::FolderOwner { uid: 1000, gid: 100 });
    facts.caller = Some(crate::hooks::Caller {
        name: "user 1001".into(),
        uid: Some(1001),
        role: crate::hooks::CallerRole::Admin,
        door: crate::hooks::Door::Socket,
    });
    request.facts = facts.into();
    let policy = load(
        "fn pre_create(ctx) {\n  let mine = ctx.caller.uid == ctx.workspace.owner.uid;\n  if !mine && ctx.local_hour >= 22 \
         && ctx.local_weekday == 6 && ctx.local_minute == 1325 {\n    ctx.deny(\"night\", \"not at night\");\n  }\n}",
    )
    .unwrap();
    assert!(matches!(policy.evaluate(&request).unwrap().verdict, Verdict::Deny(_)));
    // A record of an older Wharf has none of them, and a token no user.
    let mut facts = request.facts.as_ref().clone();
    (facts.local_time, facts.workspace.owner) = (None, None);
    facts.caller.as_mut().unwrap().uid = None;
    request.facts = facts.into();
    let policy = load(
        "fn pre_create(ctx) { if ctx.local_hour == () && ctx.caller.uid == () && ctx.workspace.owner == () { \
         ctx.deny(\"none\", \"none\"); } }",
    );
    assert!(matches!(policy.unwrap().evaluate(&request).unwrap().verdict, Verdict::Deny(_)));
}
