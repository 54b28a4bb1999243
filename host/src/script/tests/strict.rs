//! Scripts that would hang, lose an error, or miss a typo.

use super::*;

/// Evaluates a source with the settings `{ most: 3, teams: { web: { memory: 5 } } }`.
fn decide(source: &str) -> Result<Reply, PolicyError> {
    decide_with(source, json!({ "most": 3, "teams": { "web": { "memory": 5 } } }))
}

fn decide_with(source: &str, settings: Value) -> Result<Reply, PolicyError> {
    let limits = Limits { timeout: Duration::from_millis(400), operations: u64::MAX, ..Limits::default() };
    let policy = RhaiPolicy::load("p.rhai", source, settings, limits)?;
    policy.evaluate(&request(Hook::PreCreate, Subject::Container))
}

fn body(body: &str) -> Result<Reply, PolicyError> {
    decide(&format!(
        "const RULES = #{{ memory: 1, nested: #{{ a: 1 }}, empty: #{{}} }};\nfn pre_create(ctx) {{\n{body}\n}}"
    ))
}

/// Every way to call a closure for the elements of a list.
const CALLERS: &[&str] = &[
    "[3, 1, 2].sort(F)",
    "[3, 1, 2].sort_by(F)",
    "[3, 1, 2].order(F)",
    "[3, 1, 2].order_by(F)",
    "[3, 1, 2].dedup(F)",
    "[3, 1, 2].zip([1, 2, 3], F)",
    "[3, 1, 2].reduce(F)",
    "[3, 1, 2].reduce_rev(F)",
];
/// Every way to call a closure for one element.
const TESTERS: &[&str] = &[
    "[3, 1, 2].filter(F)",
    "[3, 1, 2].map(F)",
    "[3, 1, 2].for_each(F)",
    "[3, 1, 2].some(F)",
    "[3, 1, 2].all(F)",
    "[3, 1, 2].find(F)",
    "[3, 1, 2].find(F, 1)",
    "[3, 1, 2].find_map(F)",
    "[3, 1, 2].index_of(F)",
    "[3, 1, 2].index_of(F, 1)",
    "[3, 1, 2].drain(F)",
    "[3, 1, 2].retain(F)",
];
/// Every way to call a closure for an entry of a map.
const MAPS: &[&str] = &["#{ a: 1 }.filter(F)", "#{ a: 1 }.drain(F)", "#{ a: 1 }.retain(F)", "#{ a: 1 }.map(F)"];

/// Returns each call with a closure that does something.
fn calls(does: &str) -> Vec<String> {
    let two = CALLERS.iter().map(|call| call.replace('F', &format!("|a, b| {{ {does} }}")));
    let one = TESTERS.iter().map(|call| call.replace('F', &format!("|a| {{ {does} }}")));
    let maps = MAPS.iter().map(|call| call.replace('F', &format!("|k, v| {{ {does} }}")));
    two.chain(one).chain(maps).map(|call| format!("let x = {call};")).collect()
}

#[test]
fn an_error_in_a_callback_ends_the_call() {
    for call in calls("throw \"inside\"") {
        let error = body(&call).expect_err(&call);
        assert!(error.message.contains("inside"), "{call}: {error}");
    }
    for call in calls("nonsense(5)") {
        assert!(body(&call).is_err(), "{call}");
    }
}

#[test]
fn a_denial_in_a_callback_denies() {
    for call in calls("ctx.deny(\"no\", \"inside\")") {
        let reply = body(&call).unwrap_or_else(|error| panic!("{call}: {error}"));
        let denial = Denial { reason: "inside".into(), code: "no".into() };
        assert_eq!(reply.verdict, Verdict::Deny(denial), "{call}");
    }
}

#[test]
fn an_endless_callback_meets_its_deadline() {
    for call in calls("loop { }") {
        assert_eq!(body(&call).expect_err(&call).code, "timeout", "{call}");
    }
    // A closure that takes long for each of many elements.
    let slow = "let all = []; for i in 0..200 { all.push(-i); } all.sort(|a, b| { for i in 0..100000 { } a - b });";
    assert_eq!(body(slow).unwrap_err().code, "timeout");
    let limits = Limits { timeout: Duration::from_secs(60), ..Limits::default() };
    let policy = RhaiPolicy::load("p.rhai", &format!("fn pre_create(ctx) {{ {slow} }}"), json!({}), limits).unwrap();
    let error = policy.evaluate(&request(Hook::PreCreate, Subject::Container)).unwrap_err();
    assert_eq!(error.code, "operations-limit", "those of all calls of the callback count");
}

#[test]
fn functions_given_by_name_lose_no_error_either() {
    for call in ["sort", "filter", "some", "all", "dedup", "drain", "retain", "map", "reduce"] {
        let source = format!(
            "fn f(a, b) {{ throw \"inside\" }} fn f(a) {{ throw \"inside\" }} fn pre_create(ctx) {{ let l = [2, 1]; l.{call}(\"f\"); }}"
        );
        let error = decide(&source).expect_err(call);
        assert!(error.message.contains("inside"), "{call}: {error}");
    }
}

#[test]
fn an_answer_of_a_callback_that_is_no_truth_value_is_an_error() {
    for call in ["filter", "some", "all", "find", "index_of", "drain", "retain"] {
        let error = body(&format!("let x = [5, 6].{call}(|x| {{ if x == 5 {{ }} }});")).expect_err(call);
        assert!(error.message.contains("not true or false"), "{call}: {error}");
    }
    for call in ["sort", "order"] {
        assert!(body(&format!("let x = [5, 6].{call}(|a, b| \"less\");")).is_err(), "{call}");
    }
    assert!(body("let x = #{ a: 1 }.filter(|k, v| ());").is_err());
}

#[test]
fn callbacks_do_what_they_did() {
    let source = "let l = [3, 1, 2, 5, 4];
        l.sort(|a, b| a - b); if l != [1, 2, 3, 4, 5] { throw `sort ${l}` }
        l.sort(|a, b| a > b); if l != [5, 4, 3, 2, 1] { throw `bool ${l}` }
        if [2, 1].order(|a, b| a - b) != [1, 2] { throw \"order\" }
        let pairs = [[1, \"b\"], [0, \"x\"], [1, \"a\"], [1, \"c\"], [0, \"y\"]];
        pairs.sort(|a, b| a[0] - b[0]);
        if pairs != [[0, \"x\"], [0, \"y\"], [1, \"b\"], [1, \"a\"], [1, \"c\"]] { throw `stable ${pairs}` }
        if [1, 2, 3].filter(|x| x > 1) != [2, 3] { throw \"filter\" }
        if [1, 2, 3].filter(|x, i| i == 0) != [1] { throw \"filter with index\" }
        if [1, 2, 3].filter(|| this > 2) != [3] { throw \"filter of this\" }
        if [1, 2, 3].find(|x| x > 1) != 2 || [1].find(|x| x > 1) != () { throw \"find\" }
        if [1, 2, 3].index_of(|x| x > 1) != 1 || [1, 2, 3, 2].index_of(|x| x == 2, -2) != 3 { throw \"index_of\" }
        if [\"a\", \"b\"].index_of(\"b\") != 1 { throw \"index_of a value\" }
        if ![1, 2].some(|x| x == 2) || [1].some(|x| x == 2) || ![1, 2].all(|x| x > 0) || [1].all(|x| x > 1) { throw \"some, all\" }
        let d = [1, 1, 2, 1]; d.dedup(|a, b| a == b); if d != [1, 2, 1] { throw `dedup ${d}` }
        let d = [1, 1, 2]; d.dedup(); if d != [1, 2] { throw `dedup ${d}` }
        let d = [1, 2, 3]; let gone = d.drain(|x| x > 1); if gone != [2, 3] || d != [1] { throw `drain ${d}` }
        let d = [1, 2, 3]; let gone = d.retain(|x| x > 1); if gone != [1] || d != [2, 3] { throw `retain ${d}` }
        let m = #{ a: 1, b: 2 };
        if m.filter(|k, v| v > 1) != #{ b: 2 } { throw \"filter of a map\" }
        if m.drain(|k, v| v > 1) != #{ b: 2 } || m != #{ a: 1 } { throw \"drain of a map\" }
        if global::RULES.keys().filter(|k| k == \"memory\") != [\"memory\"] { throw \"of a constant\" }";
    assert_eq!(body(source).unwrap().verdict, Verdict::Pass);
}

#[test]
fn no_function_blocks() {
    let began = std::time::Instant::now();
    for call in ["sleep(3600)", "sleep(3600.0)", "[1].map(|x| sleep(3600))"] {
        assert!(body(&format!("{call};")).is_err(), "{call}");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_comparison_with_nothing_or_of_two_kinds_is_an_error() {
    let nothing = ["()", "ctx.workspace.labels.none", "global::RULES.get(\"none\")", "ctx.settings.get(\"none\")"];
    for operator in ["<", "<=", ">", ">="] {
        for nothing in nothing {
            for other in ["5", "1.5", "\"x\"", "true", "()", "[1]", "ctx.spec", "ctx.spec.resources.memory"] {
                for compared in [format!("{other} {operator} {nothing}"), format!("{nothing} {operator} {other}")] {
                    let error = body(&format!("if {compared} {{ ctx.deny(\"a\", \"b\"); }}")).expect_err(&compared);
                    assert!(error.message.contains("compares with ()"), "{compared}: {error}");
                }
            }
        }
        for (left, right) in
            [("5", "\"5\""), ("true", "1"), ("\"a\"", "[1]"), ("[1]", "[2]"), ("ctx.spec", "5"), ("1.5", "\"1\"")]
        {
            for compared in [format!("{left} {operator} {right}"), format!("{right} {operator} {left}")] {
                assert!(body(&format!("let x = {compared};")).is_err(), "{compared}");
            }
        }
    }
    // Constants, which Rhai would evaluate during compilation.
    assert!(body("const A = 5; const B = (); if A > B { ctx.deny(\"a\", \"b\"); }").is_err());
    assert!(body("let x = #{ a: 1 }.b;").is_err());
}

#[test]
fn comparisons_of_one_kind_hold_as_before() {
    let holds = [
        "1 < 2",
        "2 >= 2",
        "1 < 1.5",
        "2.0 <= 2",
        "\"a\" < \"b\"",
        "'a' < \"b\"",
        "false < true",
        "!(2 < 1)",
        "0.1 + 0.2 <= 0.3",
        "0.1 + 0.2 >= 0.3",
        "() == ()",
        "5 != ()",
        "() != \"a\"",
        "!(5 == ())",
        "ctx.workspace.labels.none == ()",
        "9223372036854775807 > 9223372036854775806",
        "\"x\" in #{ x: 1 }",
        "!(\"none\" in global::RULES)",
        "\"most\" in ctx.settings",
        "global::RULES.get(\"none\") == ()",
        "ctx.settings.get(\"none\") == ()",
        "ctx.settings.get(\"most\") == 3",
        "2 in [1, 2]",
        "ctx.workspace.labels.get(\"team\") == \"pay\"",
    ];
    for holds in holds {
        let reply = body(&format!("if !({holds}) {{ throw \"no\" }}"));
        assert_eq!(reply.unwrap_or_else(|error| panic!("{holds}: {error}")).verdict, Verdict::Pass, "{holds}");
    }
}

#[test]
fn a_missing_key_of_a_map_is_an_error_that_names_the_keys_there_are() {
    let cases = [
        ("let x = global::RULES.memoy;", "there is no 'memoy' in this map, which has empty, memory, nested"),
        ("let x = global::RULES[\"memoy\"];", "which has empty, memory, nested"),
        ("let x = global::RULES.nested.b;", "there is no 'b' in this map, which has a"),
        ("let x = global::RULES.empty.b;", "which is empty"),
        (
            "let m = #{}; m.b = 1; let o = #{ c: 1 }; o.d = 2; let x = o.b;",
            "there is no 'b' in this map, which has c, d",
        ),
        ("let x = parse_json(`{\"a\": 1}`).b;", "which has a"),
        ("let x = ctx.spec.copy().memroy;", "which has command,"),
        ("let x = ctx.settings.max_memroy;", "there is no 'settings.max_memroy'; the keys are most, teams"),
        ("let x = ctx.settings[\"mots\"];", "the keys are most, teams"),
        ("let x = ctx.settings.teams.ops;", "there is no 'settings.teams.ops'; the keys are web"),
        ("let x = ctx.settings.teams.web.memroy;", "the keys are memory"),
        ("if ctx.spec.resources.memory > ctx.settings.max_memroy { ctx.deny(\"a\", \"b\"); }", "max_memroy"),
    ];
    for (source, expected) in cases {
        let error = body(source).expect_err(source);
        assert!(error.message.contains(expected), "{source}: {error}");
        assert!(error.message.starts_with("p.rhai:3:"), "{source}: {error}");
    }
    let source = "fn check(settings) { if settings.mots < 5 { throw \"x\" } } fn pre_create(ctx) { }";
    assert!(decide(source).unwrap_err().message.contains("which has most, teams"));
    // New keys can still be set.
    assert!(body("let m = #{}; m.a = 1; m[\"b\"] = #{}; m.b.c = 2; if m.b.c != 2 { throw \"no\" }").is_ok());
}

#[test]
fn a_returned_value_is_an_error_that_says_what_a_hook_does() {
    for value in ["\"deny\"", "false", "true", "#{ deny: \"x\" }", "5", "ctx", "ctx.spec", "[1]"] {
        for source in [format!("return {value};"), value.to_owned(), format!("{value};")] {
            let error = body(&source).expect_err(&source);
            assert_eq!(error.code, "bad-answer");
            assert!(
                error.message.contains("fn pre_create returns") && error.message.contains("ctx.deny(code, reason)"),
                "{error}"
            );
        }
    }
    for source in [
        "return;",
        "return ();",
        "exit();",
        "ctx.log(\"x\")",
        "if true { ctx.spec.env.A = \"1\" }",
        "ctx.spec.env.A = \"1\"",
    ] {
        assert!(body(source).is_ok(), "{source}: {:?}", body(source));
    }
    let policy = load("fn cleanup(ctx) { \"keep\" }").unwrap();
    let sweep = request(Hook::Cleanup, Subject::Sweep(Default::default()));
    assert!(policy.evaluate(&sweep).unwrap_err().message.contains("ctx.keep(id, why)"));
    let error = load("fn check(settings) { settings.most < 3 } fn pre_create(ctx) { }").err().unwrap();
    assert!(error.message.contains("throw \"why\""), "{error}");
}

#[test]
fn declared_settings_are_checked_at_load_and_have_their_defaults() {
    let source = "const SETTINGS = #{ max_memory: gib(1), teams: #{}, share: 0.5 };\n\
                  fn pre_create(ctx) { if ctx.spec.resources.memory > ctx.settings.max_memory { ctx.deny(\"much\", \"x\"); } }";
    let memory = |settings: Value| {
        let policy = RhaiPolicy::load("p.rhai", source, settings, Limits::default())?;
        let mut request = request(Hook::PreCreate, Subject::Container);
        request.spec.resources.memory = 2 << 30;
        policy.evaluate(&request).map(|reply| reply.verdict.kind().as_str())
    };
    assert_eq!(memory(json!({})).unwrap(), "deny");
    assert_eq!(memory(json!({ "max_memory": 3_u64 << 30 })).unwrap(), "pass");
    let error = memory(json!({ "max_memroy": 1 })).unwrap_err();
    assert_eq!(error.code, "settings");
    assert!(
        error.message.contains("'max_memroy' (did you mean 'max_memory'?); the settings are max_memory, share, teams"),
        "{error}"
    );
    assert!(memory(json!({ "max_memory": "1GiB" })).unwrap_err().message.contains("takes a whole number, not a text"));
    // The script checks the final settings.
    let source =
        "const SETTINGS = #{ most: 3 }; fn check(s) { if s.most > 5 { throw \"too many\" } } fn pre_create(ctx) { }";
    assert!(decide_with(source, json!({})).is_ok());
    assert!(decide_with(source, json!({ "most": 6 })).unwrap_err().message.contains("too many"));
    let error = decide_with("const SETTINGS = 5; fn pre_create(ctx) { }", json!({})).unwrap_err();
    assert!(error.message.contains("SETTINGS must be a map"), "{error}");
    let endless = "const SETTINGS = f(); fn f() { loop { } } fn pre_create(ctx) { }";
    assert_eq!(decide_with(endless, json!({})).unwrap_err().code, "timeout");
}

#[test]
fn a_long_line_is_cut_around_the_caret_and_a_long_message_at_its_end() {
    let pad = "x".repeat(40_000);
    let error =
        decide(&format!("fn pre_create(ctx) {{ let a = \"{pad}\"; let b = ctx.spec.resorces; let c = \"{pad}\"; }}"))
            .unwrap_err();
    let detail = error.detail.unwrap();
    assert!(detail.len() < 1_000, "{} bytes", detail.len());
    let lines: Vec<&str> = detail.lines().collect();
    let (line, caret) = (lines[1], lines[2].find('^').unwrap());
    assert!(line.contains("ctx.spec.resorces"), "{line}");
    assert_eq!(&line[caret..caret + 9], ".resorces", "{detail}");
    let error = decide("fn pre_create(ctx) { let t = \"x\"; t.pad(200000, 'x'); throw t; }").unwrap_err();
    assert!(error.message.len() < 3_000, "{} bytes", error.message.len());
}
