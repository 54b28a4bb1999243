//! Hand-written components that attack the host. Each attacks while its settings are checked, which happens at load.
//! Each attack ends within its limits with one line, and the next plugin decides normally.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use wharf::hooks::record::Draft;
use wharf::hooks::{Chain, Hook, HookRequest, Limits, Policy, Subject, Verdict};
use wharf::script::RhaiPolicy;
use wharf::wasm::WasmPolicy;

use super::{ENGINE, component, entry, invariants, plugin, spec};

/// Returns a component whose settings check runs `body`, with `parts` of the component before it and `fields` in its
/// core module.
fn attacker(parts: &str, with: &str, fields: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          {parts}
          (core module $m
            {fields}
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "nop"))
            (func (export "check") (param i32 i32) (result i32) {body} (i32.const 0)))
          (core instance $i (instantiate $m {with}))
          (func $check (param "settings" string) (result (result (error string)))
            (canon lift (core func $i "check") (memory $i "memory") (realloc (func $i "realloc"))))
          (instance $settings (export "check" (func $check)))
          (export "wharf:policy/settings@0.1.0" (instance $settings))
          (func $nop (canon lift (core func $i "nop")))
          (instance $hook (export "pre-stop" (func $nop)))
          (export "wharf:policy/pre-stop@0.1.0" (instance $hook)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns a component that only needs its core module.
fn core(fields: &str, body: &str) -> Vec<u8> {
    attacker("", "", fields, body)
}

/// Returns a component that calls a WASI function without memory of its own, as a core function `h.f`.
fn wasi(interface: &str, function: &str, signature: &str, core_type: &str, body: &str) -> Vec<u8> {
    let parts = format!(
        r#"(import "{interface}" (instance $wasi (export "{function}" (func {signature}))))
           (core func $f (canon lower (func $wasi "{function}")))"#
    );
    let with = r#"(with "h" (instance (export "f" (func $f))))"#;
    attacker(&parts, with, &format!("(import \"h\" \"f\" (func $f {core_type}))"), body)
}

fn limits() -> Limits {
    Limits { timeout: Duration::from_millis(250), ..Limits::default() }
}

/// Returns the error of an attack, if any.
fn load(bytes: &[u8]) -> Result<(), String> {
    match WasmPolicy::load(&ENGINE, "p", bytes, &json!({}), limits()) {
        Ok(_) => Ok(()),
        // Its settings were accepted; its hook, which is invalid, is checked after that.
        Err(error) if error.message.contains("wharf:policy/pre-stop") => Ok(()),
        Err(error) => {
            assert!(!error.message.contains('\n'), "{error}");
            Err(error.message)
        }
    }
}

#[track_caller]
fn the_next_decision_is_right() {
    let good = plugin("test-plugins/hostile", json!({ "do": "pass" }), Limits::default()).unwrap();
    let request = HookRequest {
        hook: Hook::PreCreate,
        now_ms: 7,
        facts: Arc::default(),
        spec: spec(),
        subject: Subject::Container,
    };
    assert_eq!(good.evaluate(&request).unwrap().verdict, Verdict::Pass);
}

#[test]
fn attacks_from_inside_a_plugin_end_within_their_limits() {
    let many_instances = {
        let each: String = (0..200).map(|n| format!("(core instance $x{n} (instantiate $small))")).collect();
        attacker(&format!("(core module $small) {each}"), "", "", "")
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("endless loop", core("", "(loop $l (br $l))"), "deadline of 250 ms"),
        ("endless loop in start", core("(func $s (loop $l (br $l))) (start $s)", ""), "deadline of 250 ms"),
        ("trap in start", core("(func $s unreachable) (start $s)", ""), "trapped"),
        ("trap in the middle", core("", "unreachable"), "trapped"),
        ("division by zero", core("", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"), "trapped"),
        ("deep recursion", core("(func $r (call $r))", "(call $r)"), "recursion"),
        (
            "memory growth",
            core("", "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"),
            "more memory than its limit of 64 MiB",
        ),
        (
            "table growth",
            core(
                "(table $t 1 funcref)",
                "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable",
            ),
            "table elements",
        ),
        ("many instances", many_instances, "instance count too high"),
        ("a table too large from the start", core("(table 10000000 funcref)", ""), "table"),
        (
            "an answer outside its memory",
            core(
                "(data (i32.const 64) \"\\01\\00\\00\\00\\f0\\ff\\ff\\ff\\f0\\ff\\ff\\ff\")",
                "(return (i32.const 64))",
            ),
            "ended without an answer",
        ),
        (
            "an answer that is no text",
            core(
                "(data (i32.const 64) \"\\01\\00\\00\\00\\80\\00\\00\\00\\02\\00\\00\\00\") (data (i32.const 128) \"\\ff\\fe\")",
                "(return (i32.const 64))",
            ),
            "utf-8",
        ),
        (
            "an answer of two GiB",
            core(
                "(data (i32.const 64) \"\\01\\00\\00\\00\\80\\00\\00\\00\\00\\00\\00\\80\")",
                "(return (i32.const 64))",
            ),
            "ended without an answer",
        ),
        (
            "an answer of a kind that there is not",
            core("(data (i32.const 64) \"\\07\\00\\00\\00\")", "(return (i32.const 64))"),
            "ended without an answer",
        ),
        (
            "exit",
            wasi(
                "wasi:cli/exit@0.2.0",
                "exit",
                "(param \"status\" (result))",
                "(param i32)",
                "(call $f (i32.const 0))",
            ),
            "xit",
        ),
    ];
    println!("| attack | message | time |\n| --- | --- | --- |");
    for (what, bytes, words) in cases {
        let begin = Instant::now();
        let said = load(&bytes).expect_err(what);
        println!("| {what} | {said} | {} ms |", begin.elapsed().as_millis());
        assert!(said.to_lowercase().contains(&words.to_lowercase()), "{what}: {said}");
        the_next_decision_is_right();
    }
}

#[test]
fn what_an_attack_took_is_given_back() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
    };
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
                (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536))) unreachable";
    let hungry = core("", grow);
    load(&hungry).unwrap_err();
    let before = resident();
    for _ in 0..40 {
        load(&hungry).unwrap_err();
    }
    // Each allocated 64 MiB.
    let after = resident();
    assert!(after < before + 64, "{before} MiB before, {after} MiB after");
}

#[test]
fn what_wasi_gives_is_nothing_and_costs_the_host_nothing() {
    // The clock stands still: the second reading equals the first, so this ends only if they are the same.
    let clock = wasi(
        "wasi:clocks/monotonic-clock@0.2.0",
        "now",
        "(result u64)",
        "(result i64)",
        "(if (i64.ne (call $f) (call $f)) (then unreachable))",
    );
    assert_eq!(load(&clock), Ok(()));
    let random = wasi(
        "wasi:random/random@0.2.0",
        "get-random-u64",
        "(result u64)",
        "(result i64)",
        // The same value in each instance: 0x0404040404040404.
        "(if (i64.ne (call $f) (i64.const 289360691352306692)) (then unreachable))",
    );
    assert_eq!(load(&random), Ok(()));
    // An endless number of timers: the host keeps a limited number of them.
    let parts = r#"
      (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type $p (sub resource)))))
      (alias export $poll "pollable" (type $pollable))
      (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $p'))
        (export "pollable" (type $p (eq $p')))
        (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
      (core func $f (canon lower (func $clock "subscribe-duration")))"#;
    let with = r#"(with "h" (instance (export "f" (func $f))))"#;
    let timers = attacker(
        parts,
        with,
        "(import \"h\" \"f\" (func $f (param i64) (result i32)))",
        "(loop $l (drop (call $f (i64.const 1))) (br $l))",
    );
    let said = load(&timers).unwrap_err();
    assert!(said.contains("table") || said.contains("capacity"), "{said}");
    the_next_decision_is_right();
}

#[test]
fn a_plugin_that_calls_the_host_while_the_host_hands_it_a_text_is_stopped() {
    let parts = r#"
      (import "wharf:policy/host@0.1.0" (instance $host
        (type $level' (enum "debug" "info" "warn" "error"))
        (export "level" (type $level (eq $level')))
        (export "log" (func (param "level" $level) (param "message" string)))))
      (core module $mem (memory (export "memory") 1))
      (core instance $mem (instantiate $mem))
      (core func $f (canon lower (func $host "log") (memory $mem "memory")))"#;
    let with = r#"(with "h" (instance (export "f" (func $f))))"#;
    // The host calls its realloc while it passes the settings, and realloc calls the host.
    let text = format!(
        r#"(component {parts}
          (core module $m
            (import "h" "f" (func $f (param i32 i32 i32)))
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (call $f (i32.const 1) (i32.const 0) (i32.const 1)) (i32.const 1024))
            (func (export "nop"))
            (func (export "check") (param i32 i32) (result i32) (i32.const 0)))
          (core instance $i (instantiate $m {with}))
          (func $check (param "settings" string) (result (result (error string)))
            (canon lift (core func $i "check") (memory $i "memory") (realloc (func $i "realloc"))))
          (instance $settings (export "check" (func $check)))
          (export "wharf:policy/settings@0.1.0" (instance $settings))
          (func $nop (canon lift (core func $i "nop")))
          (instance $hook (export "pre-stop" (func $nop)))
          (export "wharf:policy/pre-stop@0.1.0" (instance $hook)))"#
    );
    let said = load(&wat::parse_str(&text).unwrap()).unwrap_err();
    assert!(said.contains("cannot leave component instance"), "{said}");
    the_next_decision_is_right();
}

/// The same numbers every time, so that a failure can be reproduced.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        // Knuth's MMIX generator.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

#[test]
fn truncated_flipped_and_random_bytes_are_refused_or_load_and_nothing_else() {
    let good = component("test-plugins/mirror");
    let mut random = Random(1);
    let mut all = Vec::new();
    all.extend((0..60).map(|_| good[..random.below(good.len())].to_vec()));
    all.extend((0..60).map(|_| {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend((0..random.below(4096)).map(|_| random.below(256) as u8));
        bytes
    }));
    for _ in 0..40 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        all.push(bytes);
    }
    let refused = all.iter().filter(|bytes| load(bytes).is_err()).count();
    assert!(refused >= 120, "{refused}");
    the_next_decision_is_right();
}

#[test]
fn attacks_from_inside_a_script_end_within_their_limits() {
    let thousands: String = (0..5_000).map(|n| format!("let v{n} = {n};")).collect();
    let functions: String = (0..5_000).map(|n| format!("fn f{n}() {{ }}\n")).collect();
    let giant = format!("fn pre_create(ctx) {{ let s = \"{}\"; }}", "x".repeat(20 << 20));
    let chain = format!("fn pre_create(ctx) {{ let x = {}1; }}", "1+".repeat(10_000));
    let blocks = format!("fn pre_create(ctx) {{ {}{} }}", "{".repeat(2_000), "}".repeat(2_000));
    let cases: Vec<(&str, String, &str)> = vec![
        ("endless loop", "fn pre_create(ctx) { loop { } }".into(), "operations"),
        ("endless recursion", "fn f() { f() } fn pre_create(ctx) { f() }".into(), "deep"),
        ("string bomb", "fn pre_create(ctx) { let s = \"x\"; loop { s += s; } }".into(), "length of string"),
        ("array bomb", "fn pre_create(ctx) { let a = [0]; loop { a += a; } }".into(), "too large"),
        ("map bomb", "fn pre_create(ctx) { let m = #{}; let n = 0; loop { m[`${n}`] = 0; n += 1; } }".into(), "operations"),
        ("deep expression", chain, "complexity"),
        ("deep blocks", blocks, "complexity"),
        ("thousands of variables", format!("fn pre_create(ctx) {{ {thousands} }}"), "variables"),
        ("thousands of functions", format!("{functions} fn pre_create(ctx) {{ }}"), "functions"),
        ("a giant script", giant, "larger"),
        ("eval", "fn pre_create(ctx) { eval(\"1\"); }".into(), "eval"),
        (
            "a closure that takes what it holds",
            "fn pre_create(ctx) { let a = 1; let f = || { a += a; a }; for i in 0..10 { a = f.call(); } throw `done ${a}`; }".into(),
            "",
        ),
        (
            "a value inside itself",
            "fn pre_create(ctx) { let a = []; let f = || { a.push(a); }; loop { f.call(); } }".into(),
            "",
        ),
    ];
    println!("| attack | message | time |\n| --- | --- | --- |");
    for (what, source, words) in cases {
        let limits = Limits { timeout: Duration::from_secs(20), ..Limits::default() };
        let begin = Instant::now();
        let result = RhaiPolicy::load("p.rhai", &source, json!({}), limits).and_then(|policy| {
            let chain = Chain::new(vec![entry(policy)], invariants());
            let decided = chain.decide_create(Draft::new(spec()), &Arc::default(), true, 7);
            let refusal = decided.refusal.expect(what);
            Err::<(), _>(wharf::hooks::PolicyError::new("refused", refusal.reason))
        });
        let said = result.unwrap_err().message;
        println!("| {what} | {said} | {} ms |", begin.elapsed().as_millis());
        assert!(said.to_lowercase().contains(words) && !said.contains('\n'), "{what}: {said}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
        the_next_decision_is_right();
    }
}

#[test]
fn a_thousand_decisions_at_once_are_all_right() {
    let good = Arc::new(Chain::new(
        vec![
            entry(
                plugin(
                    "plugins/security-baseline",
                    json!({}),
                    Limits { timeout: Duration::from_secs(60), ..Limits::default() },
                )
                .unwrap(),
            ),
            entry(super::script("policies/pre-create.rhai", json!({}))),
        ],
        invariants(),
    ));
    let expected = good.decide_create(Draft::new(spec()), &Arc::default(), true, 7).draft;
    let begun = Arc::new(std::sync::Barrier::new(1_000));
    let threads: Vec<_> = (0..1_000)
        .map(|_| {
            let (good, begun, expected) = (good.clone(), begun.clone(), expected.clone());
            let run = move || {
                begun.wait();
                let decided = good.decide_create(Draft::new(spec()), &Arc::default(), true, 7);
                (decided.refusal, decided.draft == expected)
            };
            std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap()
        })
        .collect();
    for thread in threads {
        let (refusal, same) = thread.join().unwrap();
        // Scripts have 250 ms, which a thousand threads on two cores may exhaust. That is the only permitted refusal.
        assert!(same || refusal.as_ref().is_some_and(|refusal| refusal.reason.contains("deadline")), "{refusal:?}");
    }
}
