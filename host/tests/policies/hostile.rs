//! Plugins that trap, loop, grow, or give nonsensical answers. Each ends within its limits, reports that in one line,
//! denies before create and keeps on cleanup. The next decision of another plugin is right.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wharf::hooks::record::Draft;
use wharf::hooks::{
    Candidate, Chain, Hook, HookRequest, LOG_LINES, Limits, Outcome, Policy, Subject, SweepFacts, Verdict,
};
use wharf::script::RhaiPolicy;
use wharf::wasm::{WasmEngine, WasmPolicy};
use wharf::workspace::State;

use super::{ENGINE, component, entry, invariants, plugin, spec};

fn hostile(settings: Value) -> WasmPolicy {
    let mut limits = Limits::default();
    if settings["do"].as_str().is_some_and(|what| what.starts_with("huge-")) {
        // Room to build an answer that exceeds the limit on answers.
        limits.memory = 512 << 20;
    }
    if settings["do"] != "loop" {
        limits.timeout = Duration::from_secs(60);
    }
    plugin("test-plugins/hostile", settings, limits).unwrap()
}

fn request(hook: Hook, subject: Subject) -> HookRequest {
    HookRequest { hook, now_ms: 7, facts: Arc::default(), spec: spec(), subject }
}

/// The misbehaviour, the code of the error, and words in its line.
const CASES: [(&str, &str, &str); 8] = [
    ("trap", "trap", "trapped"),
    ("panic", "trap", "panicked"),
    ("loop", "timeout", "deadline of 250 ms"),
    ("grow", "memory-limit", "64 MiB"),
    ("recurse", "stack-limit", "recursion"),
    ("huge-answer", "output-limit", "raise 'output'"),
    ("huge-list", "output-limit", "raise 'output'"),
    ("error", "failed", "instead of a verdict"),
];

#[test]
fn each_misbehaviour_ends_within_its_limits_with_one_clear_line() {
    for (what, code, words) in CASES {
        let policy = hostile(json!({ "do": what }));
        let error = policy.evaluate(&request(Hook::PreCreate, Subject::Container)).unwrap_err();
        assert_eq!(error.code, code, "{what}: {error}");
        assert!(error.message.contains(words) && !error.message.contains('\n'), "{what}: {error}");
        let next = hostile(json!({ "do": "pass" })).evaluate(&request(Hook::PreCreate, Subject::Container)).unwrap();
        assert_eq!(next.verdict, Verdict::Pass, "after {what}");
    }
}

#[test]
fn each_misbehaviour_before_create_is_a_denial_that_names_the_plugin() {
    for (what, _, words) in CASES {
        let chain = Chain::new(vec![entry(hostile(json!({ "do": what })))], invariants());
        let decided = chain.decide_create(Draft::new(spec()), &Arc::default(), false, 7);
        let refusal = decided.refusal.unwrap();
        assert_eq!((refusal.code.as_str(), refusal.policy.as_str()), ("policy-failed", "hostile"), "{what}");
        assert!(refusal.reason.contains(words), "{what}: {}", refusal.reason);
        assert_eq!(decided.draft.spec, spec(), "{what}");
    }
}

#[test]
fn nonsense_adjustments_are_refused_whole_and_name_the_field() {
    for (which, field) in [
        ("label", "labels.wharf."),
        ("mount", "mounts."),
        ("memory", "resources.memory"),
        ("cpus", "resources.cpus"),
        ("port", "ports."),
        ("env", "env."),
    ] {
        let chain = Chain::new(vec![entry(hostile(json!({ "do": "nonsense", "which": which })))], invariants());
        let decided = chain.decide_create(Draft::new(spec()), &Arc::default(), false, 7);
        let refusal = decided.refusal.unwrap();
        assert_eq!(refusal.code, "policy-failed", "{which}");
        assert!(refusal.reason.contains(field), "{which}: {}", refusal.reason);
        assert_eq!(decided.draft.spec, spec(), "{which}");
    }
}

#[test]
fn each_misbehaviour_on_cleanup_keeps_everything() {
    let candidate = Candidate {
        part_of: None,
        kind: Default::default(),
        id: "w".into(),
        name: "w".into(),
        project: "/w".into(),
        labels: Default::default(),
        state: Some(State::Exited),
        used: false,
        exit_code: Some(0),
        created_ms: 0,
        started_ms: None,
        finished_ms: Some(1),
        last_activity_ms: None,
        size: None,
    };
    let sweep = SweepFacts { candidates: vec![candidate], ..SweepFacts::default() };
    for (what, _, _) in CASES {
        // The second policy wants to remove all candidates.
        let entries = vec![entry(hostile(json!({ "do": what }))), entry(hostile(json!({ "do": "deny" })))];
        let decision =
            Chain::new(entries, invariants()).sweep(request(Hook::Cleanup, Subject::Sweep(sweep.clone()))).decision;
        assert_eq!(decision.outcome, Outcome::Sweep(vec![]), "{what}");
    }
    let alone = Chain::new(vec![entry(hostile(json!({ "do": "deny" })))], invariants());
    let decision = alone.sweep(request(Hook::Cleanup, Subject::Sweep(sweep))).decision;
    assert!(matches!(&decision.outcome, Outcome::Sweep(verdicts) if verdicts.len() == 1), "{decision:?}");
}

#[test]
fn a_flood_of_logs_is_cut() {
    let result = hostile(json!({ "do": "huge-log" })).evaluate(&request(Hook::PreCreate, Subject::Container));
    let logs = match result {
        Ok(reply) => reply.logs,
        Err(error) => error.logs,
    };
    assert!(!logs.is_empty() && logs.len() <= LOG_LINES + 1);
    assert!(logs.iter().map(String::len).sum::<usize>() < 100_000);
}

#[test]
fn what_a_plugin_hands_to_the_host_is_bounded_for_all_its_calls_together() {
    let limits = Limits { host_bytes: 10 << 10, timeout: Duration::from_secs(60), ..Limits::default() };
    let policy = plugin("test-plugins/hostile", json!({ "do": "huge-log" }), limits).unwrap();
    let error = policy.evaluate(&request(Hook::PreCreate, Subject::Container)).unwrap_err();
    assert_eq!(error.code, "host-calls-limit", "{error}");
    assert!(error.message.contains("10 KiB") && error.message.contains("host_bytes"), "{error}");
}

/// Returns the whole text of the refusal at load.
fn refused(wat: &str) -> String {
    let bytes = wat::parse_str(wat).unwrap();
    WasmPolicy::load(&ENGINE, "p", &bytes, &json!({}), Limits::default()).err().unwrap().message
}

#[test]
fn an_import_that_the_host_lacks_is_named_with_who_has_it() {
    let with = |import: &str| {
        refused(&format!(
            "(component (import \"{import}\" (instance (export \"ask\" (func)))) (instance $i)
               (export \"wharf:policy/pre-create@0.1.0\" (instance $i)))"
        ))
    };
    for (import, words) in [
        ("wharf:policy/host@0.2.0", ["wharf:policy/host@0.2.0", "use a newer Wharf"]),
        ("wharf:policy/network@0.1.7", ["wharf:policy/network@0.1.7", "newer Wharf that has wharf:policy 0.1.7"]),
        ("wharf:policy/host@0.1.0", ["'ask' of wharf:policy/host@0.1.0", "no Wharf has"]),
        ("wasi:http/outgoing-handler@0.2.3", ["wasi:http/outgoing-handler@0.2.3", "no access to the outside world"]),
        ("wasi:clocks/wall-clock@0.3.0", ["wasi:clocks/wall-clock@0.3.0", "has WASI 0.2"]),
        ("acme:thing/part@1.0.0", ["acme:thing/part@1.0.0", "may import wharf:policy/host"]),
    ] {
        let said = with(import);
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains('\n'), "{import}: {said}");
    }
    let export = |version: &str| {
        refused(&format!("(component (instance $i) (export \"wharf:policy/pre-create@{version}\" (instance $i)))"))
    };
    assert!(export("0.2.0").contains("use a newer Wharf"), "{}", export("0.2.0"));
    assert!(export("0.0.9").contains("wit/v0.1"), "{}", export("0.0.9"));
    assert!(export("0.1.0").contains("does not"), "an empty interface: {}", export("0.1.0"));
}

#[test]
fn a_hundred_policies_that_loop_do_not_keep_a_good_one_waiting() {
    let script = "fn pre_create(ctx) { loop { } }";
    let limits = Limits { operations: u64::MAX, ..Limits::default() };
    let script: Arc<dyn Policy> = Arc::new(RhaiPolicy::load("loop.rhai", script, json!({}), limits).unwrap());
    let plugin: Arc<dyn Policy> = Arc::new(hostile(json!({ "do": "loop" })));
    let good = hostile(json!({ "do": "pass" }));
    let begun = Arc::new(std::sync::Barrier::new(101));
    let threads: Vec<_> = (0..100)
        .map(|number| {
            let looping = if number % 2 == 0 { plugin.clone() } else { script.clone() };
            let begun = begun.clone();
            std::thread::spawn(move || {
                begun.wait();
                looping.evaluate(&request(Hook::PreCreate, Subject::Container)).unwrap_err().code
            })
        })
        .collect();
    begun.wait();
    // Each ends by its own deadline of 250 ms if it does not wait for the others, however many run.
    for _ in 0..20 {
        let reply = good.evaluate(&request(Hook::PreCreate, Subject::Container)).unwrap();
        assert_eq!(reply.verdict, Verdict::Pass);
    }
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "timeout");
    }
}

#[test]
fn what_is_no_plugin_of_this_version_is_refused_at_load_with_what_to_do() {
    let load = |bytes: &[u8]| WasmPolicy::load(&ENGINE, "p", bytes, &json!({}), Limits::default()).err().unwrap();
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let good = component("test-plugins/mirror");
    let half = good.get(..good.len() / 2).unwrap().to_vec();
    let import = "(component (import \"acme:db/query@1.0.0\" (instance (export \"run\" (func)))))";
    let newer = "(component (instance $i) (export \"wharf:policy/pre-create@0.9.0\" (instance $i)))";
    let hollow = "(component (instance $i) (export \"wharf:policy/pre-create@0.1.0\" (instance $i)))";
    for (bytes, words) in [
        (b"#!/bin/sh".to_vec(), "not a WebAssembly component"),
        (vec![], "not a WebAssembly component"),
        (half, "not a valid component"),
        (wat("(module)"), "core WebAssembly module"),
        (wat("(component)"), "not a Wharf plugin"),
        (wat(import), "not a Wharf plugin"),
        (wat(newer), "needs wharf:policy 0.9.0"),
        (wat(hollow), "settings"),
    ] {
        let error = load(&bytes);
        assert!(error.message.contains(words) && !error.message.contains('\n'), "{words}: {error}");
    }
    let refused = plugin("test-plugins/hostile", json!({ "do": "bad-settings" }), Limits::default()).err().unwrap();
    assert!(refused.message.contains("settings are invalid"), "{refused}");
    let typo = plugin("plugins/image-selector", json!({ "defualt_image": "x" }), Limits::default()).err().unwrap();
    assert!(typo.message.contains("defualt_image"), "{typo}");
}

#[test]
fn precompiled_code_is_never_taken_from_outside() {
    let bytes = {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        engine.precompile_component(&component("test-plugins/mirror")).unwrap()
    };
    let error = WasmPolicy::load(&ENGINE, "p", &bytes, &json!({}), Limits::default()).err().unwrap();
    assert!(error.message.contains("not a WebAssembly component"), "{error}");
}

/// A component that waits for a day on WASI's clock while its settings are checked.
const SLEEPER: &str = r#"
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $p))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $p'))
    (export "pollable" (type $p (eq $p')))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (core func $sub (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core module $m
    (import "h" "sub" (func $sub (param i64) (result i32)))
    (import "h" "block" (func $block (param i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $next)
      (global.set $next (i32.add (global.get $next) (local.get 3))))
    (func (export "nop"))
    (func (export "check") (param i32 i32) (result i32)
      (call $block (call $sub (i64.const 86400000000000)))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "h" (instance
    (export "sub" (func $sub)) (export "block" (func $block))))))
  (func $check (param "settings" string) (result (result (error string)))
    (canon lift (core func $i "check") (memory $i "memory") (realloc (func $i "realloc"))))
  (instance $settings (export "check" (func $check)))
  (export "wharf:policy/settings@0.1.0" (instance $settings))
  (func $nop (canon lift (core func $i "nop")))
  (instance $hook (export "pre-stop" (func $nop)))
  (export "wharf:policy/pre-stop@0.1.0" (instance $hook)))
"#;

#[test]
fn a_plugin_cannot_sleep_in_the_host() {
    // It sleeps for a day before it accepts its settings. No time passes within a decision, so it accepts them at
    // once, and its only defect is its hook.
    let began = std::time::Instant::now();
    let said = refused(SLEEPER);
    assert!(said.contains("wharf:policy/pre-stop@0.1.0 has another type"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn an_export_with_another_type_is_told_when_the_plugin_is_loaded() {
    let plugin = |check: &str, hook: &str| {
        format!(
            "(component
               (core module $m (memory (export \"memory\") 1) (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                 (func (export \"nop\")) (func (export \"check\") (param i32 i32) (result i32) (i32.const 0)))
               (core instance $i (instantiate $m))
               {check}
               (instance $settings (export \"check\" (func $check)))
               (export \"wharf:policy/settings@0.1.0\" (instance $settings))
               (func $hook (canon lift (core func $i \"nop\")))
               (instance $hook (export \"{hook}\" (func $hook)))
               (export \"wharf:policy/pre-stop@0.1.0\" (instance $hook)))"
        )
    };
    let right = "(func $check (param \"settings\" string) (result (result (error string)))
        (canon lift (core func $i \"check\") (memory $i \"memory\") (realloc (func $i \"realloc\"))))";
    let wrong = "(func $check (canon lift (core func $i \"nop\")))";
    for (wat, words) in [
        (
            plugin(wrong, "pre-stop"),
            "wharf:policy/settings@0.1.0 has another type than wit/v0.1 (expected 1-tuple, found 0-tuple); check: expected \
             func(settings: json) -> result<_, string>, found func()",
        ),
        (
            plugin(right, "pre-stop"),
            "wharf:policy/pre-stop@0.1.0 has another type than wit/v0.1 (expected 2-tuple, found 0-tuple); pre-stop: expected \
             func(input: input, settings: json) -> result<reply, string>, found func()",
        ),
        (plugin(right, "pre-stopp"), "pre-stop"),
    ] {
        let said = refused(&wat);
        assert!(said.contains(words) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn what_a_service_would_refuse_is_refused_by_every_engine_in_the_same_words() {
    let memories = "(component (core module (memory 1) (memory 1) (memory 1) (memory 1)))";
    let bytes = wat::parse_str(memories).unwrap();
    let said = |engine: &std::sync::Arc<WasmEngine>| {
        WasmPolicy::load(engine, "p", &bytes, &json!({}), Limits::default()).err().unwrap().message
    };
    let pooled = std::sync::Arc::new(WasmEngine::pooled(None, 64 << 20).unwrap());
    assert_eq!(said(&ENGINE), said(&pooled));
    assert!(
        said(&ENGINE).contains("has a module with 4 memories, but a plugin may have 1 in each"),
        "{}",
        said(&ENGINE)
    );
}
