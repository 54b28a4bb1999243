//! Scripts that misspell a label or variable.

use super::*;

fn decide(source: &str) -> Result<Reply, PolicyError> {
    load(source)?.evaluate(&request(Hook::PreCreate, Subject::Container))
}

#[test]
fn nothing_is_made_of_a_label_or_variable_that_is_not_there() {
    let missing =
        ["ctx.spec.labels.tema", "ctx.spec.env.X", "ctx.workspace.labels[\"tema\"]", "passed(ctx.spec.env.X)"];
    let uses = [
        "M == \"x\"",
        "M != \"x\"",
        "\"x\" == M",
        "\"x\" != M",
        "M != 5",
        "M == 1.5",
        "M != true",
        "M != 'c'",
        "M != [1]",
        "M == #{}",
        "M != ctx.spec",
        "ctx.spec.env != M",
        "M == ctx.spec.env.OTHER",
        "M in [\"a\", \"b\"]",
        "!(M in [\"a\"])",
        "M in []",
        "[\"a\"].contains(M)",
        "[\"a\"].index_of(M) < 0",
        "M in ctx.spec.env",
        "\"a\" in M",
        "M",
        "!M",
        "\"team-\" + M == \"team-x\"",
        "M + \"x\" == \"x\"",
        "`team-${M}` != \"team-x\"",
        "`${M}` == \"\"",
        "M.starts_with(\"x\")",
        "M.len() == 0",
        "is_x(M)",
    ];
    let functions = "fn passed(v) { v } fn is_x(v) { v != \"x\" }";
    let run = |inner: &str| decide(&format!("{functions}\nfn pre_create(ctx) {{ {inner} }}"));
    for missing in missing {
        for condition in uses {
            let condition = condition.replace('M', missing);
            for script in [format!("if {condition} {{ }}"), format!("let v = {missing}; if {condition} {{ }}")] {
                assert!(run(&script).is_err(), "{script} passes");
            }
        }
        for set in [
            format!("ctx.spec.env.A = {missing};"),
            format!("ctx.spec.labels[\"a\"] = {missing};"),
            format!("ctx.spec.command = [\"a\", {missing}];"),
            format!("let t = \"x\"; t += {missing};"),
            format!("ctx.log({missing});"),
            format!("ctx.deny(\"a\", {missing});"),
            format!("ctx.deny(\"a\", `${{{missing}}}`);"),
        ] {
            assert!(run(&set).is_err(), "{set} passes");
        }
        for fine in [
            format!("if {missing} != () {{ throw \"no\" }}"),
            format!("let v = {missing}; if v == () {{ return; }} throw \"no\""),
            format!("if () == {missing} {{ return; }} throw \"no\""),
            format!("if ({missing} ?? \"d\") != \"d\" {{ throw \"no\" }}"),
            format!("ctx.spec.env.A = {missing} ?? \"d\";"),
            format!("switch {missing} ?? \"\" {{ \"x\" => throw \"no\", _ => () }}"),
        ] {
            assert!(run(&fine).is_ok(), "{fine}: {:?}", run(&fine));
        }
    }
    let error = run("if ctx.spec.labels.tema != \"x\" { }").unwrap_err();
    assert!(error.message.contains("!= compares with a missing key") && error.message.contains("??"), "{error}");
    let error = run("let line = `${ctx.spec.labels.tema}`;").unwrap_err();
    assert!(error.message.contains("line 2") && error.message.contains("a string contains a missing key"), "{error}");
    // A `()` that a script writes, or that `get` returns, is an ordinary value.
    for fine in ["() != \"x\"", "ctx.spec.env.get(\"X\") != \"x\"", "`${()}` == \"\"", "() in [()]", "!(() in [1])"] {
        assert!(run(&format!("if !({fine}) {{ throw \"no\" }}")).is_ok(), "{fine}");
    }
}

#[test]
fn a_switch_on_a_label_or_variable_is_refused_when_the_script_is_loaded() {
    let check = |inner: &str| {
        let source = format!("fn pre_create(ctx) {{ {inner} }}");
        RhaiPolicy::load_checked("p.rhai", &source, &Imports::default(), json!({}), Limits::default()).err()
    };
    for key in ["ctx.spec.labels.team", "ctx.spec.env[\"X\"]", "ctx.workspace.labels.team"] {
        let error = check(&format!("switch {key} {{ \"x\" => (), _ => () }}")).expect(key);
        assert!(error.message.contains("may be missing") && error.message.contains("?? "), "{error}");
    }
    for fine in
        ["switch ctx.spec.labels.team ?? \"\" { _ => () }", "switch ctx.spec.network { \"own\" => (), _ => () }"]
    {
        assert!(check(fine).is_none(), "{fine}: {:?}", check(fine));
    }
}
