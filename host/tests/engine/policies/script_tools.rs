//! `wharf script`: check, test, trace and docs, and `import` of scripts.

use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;

/// Returns the messages of `script check` for a script.
fn said(sandbox: &Sandbox, source: &str) -> Vec<String> {
    let file = sandbox.write("x.rhai", source).display().to_string();
    let run = sandbox.run(&["--json", "script", "check", &file]);
    let all = run.json();
    let messages: Vec<String> =
        all.as_array().unwrap().iter().filter_map(|one| Some(one["message"].as_str()?.to_owned())).collect();
    assert_eq!(run.code, if messages.is_empty() { 0 } else { 3 }, "{messages:?}");
    messages
}

#[test]
fn check_finds_what_would_go_wrong_only_when_the_script_runs() {
    let sandbox = Sandbox::new();
    for (source, at, part) in [
        ("fn pre_create(ctx) {", "1:", "terminate this block"),
        ("fn pre_create(ctx, more) { }", "1:", "takes 2 arguments; it must take one, ctx"),
        ("fn pre_create(ctx) { }\nfn post_strat(ctx) { }", "2:", "did you mean fn post_start?"),
        ("fn pre_create(ctx) {\n    ctx.spec.memroy = 1;\n}", "2:", "there is no 'spec.memroy'; the keys are "),
        (
            "fn pre_create(ctx) {\n    let spec = ctx.spec;\n    spec.resources.memroy = gib(1);\n}",
            "3:",
            "'spec.resources.memroy'",
        ),
        ("fn pre_create(ctx) {\n    if ctx.exec.tty { }\n}", "2:", "there is no 'exec'"),
        ("fn pre_create(ctx) {\n    help(ctx);\n}\nfn help(it) {\n    it.spec.imgae;\n}", "5:", "'spec.imgae'"),
        (
            "fn cleanup(ctx) {\n    for one in ctx.candidates {\n        if one.statte == 1 { }\n    }\n}",
            "3:",
            "'candidates[].statte'",
        ),
        ("fn cleanup(ctx) {\n    let name = ctx.candidates[0].nmae;\n}", "2:", "'candidates[].nmae'"),
        ("fn pre_create(ctx) {\n    ctx.denny(\"a\", \"b\");\n}", "2:", "no function denny; did you mean deny?"),
        ("fn pre_create(ctx) {\n    ctx.deny(\"only-one\");\n}", "2:", "deny is called with 1 arguments; it takes 2"),
        ("fn pre_create(ctx) {\n    let a = gigs(1);\n}", "2:", "there is no function gigs"),
        ("fn pre_create(ctx) {\n    let a = gib(1, 2);\n}", "2:", "gib is called with 2 arguments; it takes 1"),
        ("fn pre_create(ctx) {\n    own(1);\n}\nfn own(a, b) { }", "2:", "own is called with 1 arguments; it takes 2"),
        ("fn pre_create(ctx) {\n    let a = nothing;\n}", "2:", "nothing"),
        (
            "const R = #{ memory: 1 };\nfn pre_create(ctx) {\n    if 5 > global::R.memoy { }\n}",
            "3:",
            "'R.memoy'; the keys are memory",
        ),
        ("const R = #{ memory: 1 };\nfn pre_create(ctx) {\n    if 5 > global::R[\"memoy\"] { }\n}", "3:", "'R.memoy'"),
        (
            "const T = #{ web: #{ memory: gib(1) }, pay: #{ env: #{ A: \"1\" } } };\nfn pre_create(ctx) {\n    let rules = global::T[ctx.workspace.name];\n    if 5 > rules.memoy { }\n}",
            "4:",
            "there is no 'T[].memoy'; the keys are env, memory",
        ),
        (
            "const L = [#{ a: 1 }, #{ b: 2 }];\nfn pre_create(ctx) {\n    for one in global::L {\n        if one.c == 1 { }\n    }\n}",
            "4:",
            "there is no 'L[].c'; the keys are a, b",
        ),
        (
            "const SETTINGS = #{ max_memory: gib(1) };\nfn pre_create(ctx) {\n    if 5 > ctx.settings.max_memroy { }\n}",
            "3:",
            "there is no 'settings.max_memroy'; the keys are max_memory",
        ),
    ] {
        let all = said(&sandbox, source);
        assert!(
            all.iter().any(|text| text.starts_with(&format!("x.rhai:{at}")) && text.contains(part)),
            "{source}: {all:?}"
        );
    }
    // Undecidable cases give no message.
    for source in [
        "fn pre_create(ctx) {\n    ctx.spec.env.ANY = ctx.settings.any.thing;\n    ctx.spec.env[\"X\"] = \"y\";\n}",
        "fn pre_create(ctx) {\n    let plain = ctx.spec.copy();\n    plain.anything = 1;\n    let f = |x| x + 1;\n    f.call(2);\n}",
        "fn cleanup(ctx) {\n    let kept = ctx.candidates.copy().filter(|one| one.used);\n    for one in kept { one.foo = 1; }\n}",
        "const A = #{ b: 1 };\nfn pre_create(ctx) {\n    let a = global::A.b;\n    print(`${a}`);\n    if ctx.workspace.labels.team == () { return; }\n    a = ctx.spec;\n}",
        "const R = #{ a: 1 };\nfn pre_create(ctx) {\n    let own = global::R;\n    own.b = 1;\n    if own.b == 1 && \"c\" in global::R && global::R.c == 1 { }\n    let other = global::R;\n    other.set(\"d\", 1);\n    if other.d == 1 { }\n}",
        "const SETTINGS = #{ teams: #{}, any: #{} };\nfn pre_create(ctx) {\n    if \"a\" in ctx.settings.teams { print(ctx.settings.teams.a.b.c); }\n    print(ctx.settings.any.thing);\n}",
        "const R = #{};\nfn pre_create(ctx) {\n    if 5 == global::R.x { }\n}",
        "fn post_start(ctx) {\n    if ctx.spec.restart.on_failure > 1 { ctx.run([\"a\"], minutes(1)); }\n    ctx.stop(\"x\");\n}",
    ] {
        assert_eq!(said(&sandbox, source), Vec::<String>::new(), "{source}");
    }
    for shipped in
        ["policies/pre-create.rhai", "policies/post-start.rhai", "policies/cleanup.rhai", "policies/cleanup.test.rhai"]
    {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../").to_owned() + shipped;
        let run = sandbox.run(&["script", "check", &file]);
        assert_eq!(run.code, 0, "{}", run.text());
    }
    assert_eq!(sandbox.run(&["script", "check", "/no/such.rhai"]).code, 3);
}

#[test]
fn a_mark_stands_under_the_spot_and_the_calls_that_led_there_are_named() {
    let sandbox = Sandbox::new();
    sandbox.script("deep.rhai", "fn pre_create(ctx) {\n    one(ctx);\n}\nfn one(ctx) {\n    two(ctx);\n}\nfn two(ctx) {\n    throw \"deep down\";\n}\n");
    let run = sandbox.run(&["plan", "--offline"]);
    assert_eq!(run.code, 4);
    for part in [
        "deep.rhai:8:",
        "8 |     throw \"deep down\";",
        "in two(), called at deep.rhai:5",
        "in one(), called at deep.rhai:2",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    let file = sandbox.write("x.rhai", "fn pre_create(ctx) {\n    ctx.spec.memroy = 1;\n}");
    let text = sandbox.run(&["script", "check", file.to_str().unwrap()]).text();
    assert!(text.contains("2 |     ctx.spec.memroy = 1;\n  |              ^"), "{text}");
}

#[test]
fn tests_are_written_in_rhai_and_say_what_was_expected() {
    let sandbox = Sandbox::new();
    for shipped in ["pre-create", "post-start", "cleanup"] {
        let file = format!("{}/../policies/{shipped}.rhai", env!("CARGO_MANIFEST_DIR"));
        let text = sandbox.run(&["script", "test", &file]).ok().text();
        assert!(text.contains(" 0 failed") && text.contains("test_"), "{text}");
    }
    sandbox.write("p/rule.rhai", "fn check(settings) { if settings.get(\"team\") == () { throw \"team is missing\"; } }\nfn pre_create(ctx) {\n    ctx.log(\"hello\");\n    ctx.spec.env.TEAM = ctx.settings.team;\n}\n");
    let tests = sandbox.write(
        "p/rule.test.rhai",
        "fn decided(team) {\n    let ctx = fixture(\"pre_create\");\n    ctx.settings = #{ team: team };\n    decide(\"pre_create\", ctx)\n}\n\
         fn test_good() {\n    let it = decided(\"red\");\n    assert_eq(it.changed, #{ \"env.TEAM\": \"red\" });\n    assert_eq(it.logs, [\"hello\"]);\n}\n\
         fn test_bad_value() {\n    assert_eq(decided(\"red\").changed[\"env.TEAM\"], \"blue\");\n}\n\
         fn test_bad_settings() {\n    decided(());\n}\n\
         fn test_endless() {\n    loop { }\n}\n\
         fn test_no_such_hook() {\n    decide(\"pre_crate\", fixture(\"pre_create\"));\n}\n\
         fn test_typo() {\n    let ctx = fixture(\"pre_create\");\n    ctx.spec.memroy = 1;\n}\n",
    );
    let run = sandbox.run(&["--json", "script", "test", tests.to_str().unwrap()]);
    assert_eq!(run.code, 1);
    let all = run.json();
    let message = |name: &str| {
        let one =
            all.as_array().unwrap().iter().find(|one| one["test"] == name).unwrap_or_else(|| panic!("{name}: {all}"));
        one["message"].clone()
    };
    assert_eq!(message("test_good"), Value::Null);
    for (test, part) in [
        ("test_bad_value", "it is \"red\", expected was \"blue\""),
        ("test_bad_settings", "team is missing"),
        ("test_endless", "operations"),
        ("test_no_such_hook", "'pre_crate' is not a hook"),
        ("test_typo", "there is no 'spec.memroy'"),
    ] {
        let text = message(test);
        assert!(
            text.as_str().is_some_and(|text| text.contains(part) && text.contains("rule.test.rhai:")),
            "{test}: {text}"
        );
    }
    let rule = sandbox.path("p/rule.rhai").display().to_string();
    let text = sandbox.run(&["script", "test", &rule]);
    assert!(text.code == 1 && text.text().contains("6 tests: 1 passed, 5 failed"), "{}", text.text());
    sandbox.write("p/other.rhai", "fn pre_create(ctx) { }");
    let none = sandbox.run(&["script", "test", &sandbox.path("p/other.rhai").display().to_string()]);
    assert!(none.code == 3 && none.text().contains("other.test.rhai cannot be read"), "{}", none.text());
}

#[test]
fn a_trace_shows_each_line_that_ran_with_the_values_that_changed() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) {\n    let team = ctx.workspace.labels.team;\n    if team == () {\n        ctx.log(\"no team\");\n    }\n    let size = double(2);\n    ctx.spec.resources.pids = size;\n}\nfn double(n) {\n    n * 2\n}\n",
    );
    sandbox.run(&["up"]).ok();
    let file = sandbox.path("config/policies/rule.rhai").display().to_string();
    let trace = sandbox.json(&["script", "trace", &file, "--decision", "3"]);
    let lines: Vec<_> = trace["lines"].as_array().unwrap().iter().map(|line| line["line"].as_u64().unwrap()).collect();
    let mut seen = lines.clone();
    seen.dedup();
    assert_eq!(seen, [2, 3, 4, 6, 10, 7], "{trace}");
    let values = |at: u64| -> Vec<String> {
        let lines = trace["lines"].as_array().unwrap().iter().filter(|line| line["line"] == at);
        lines
            .flat_map(|line| line["values"].as_array().unwrap())
            .map(|pair| format!("{}={}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect()
    };
    assert!(values(3).contains(&"team=null".to_owned()), "{trace}");
    assert!(values(10).contains(&"n=2".to_owned()), "{trace}");
    assert!(values(7).contains(&"size=4".to_owned()), "{trace}");
    assert_eq!(trace["result"]["logs"], json!(["no team"]));
    let case = sandbox.write(
        "case.toml",
        "hook = \"pre-create\"\n[facts.workspace]\nlabels = { team = \"red\" }\n[expect]\noutcome = \"allowed\"\n",
    );
    let text = sandbox.run(&["script", "trace", &file, "--case", case.to_str().unwrap()]).ok().text();
    assert!(text.contains("team = \"red\"") && !text.contains("no team") && text.contains("gives "), "{text}");
    // A failing script is traced up to the failure.
    sandbox.write("config/policies/rule.rhai", "fn pre_create(ctx) {\n    let a = 1;\n    throw \"stop\";\n}\n");
    let failed = sandbox.run(&["script", "trace", &file, "--case", case.to_str().unwrap()]);
    assert!(
        failed.code == 1 && failed.text().contains("throw \"stop\"") && failed.stderr.contains("rule.rhai:3"),
        "{failed:?}"
    );
    assert_eq!(sandbox.run(&["script", "trace", &file]).code, 2);
}

#[test]
fn the_reference_in_the_documentation_is_what_scripts_have() {
    let sandbox = Sandbox::new();
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scripts.md")).unwrap();
    let (_, rest) = docs.split_once("<!-- wharf script docs -->\n").unwrap();
    let (block, _) = rest.split_once("<!-- end -->").unwrap();
    let printed = sandbox.run(&["script", "docs"]).ok().text();
    assert_eq!(block.trim(), printed.trim(), "put what 'wharf script docs' prints into docs/scripts.md");
    // Each field is named there, too.
    let reference = sandbox.json(&["script", "docs"]);
    for (hook, fields) in reference["fields"].as_object().unwrap() {
        assert!(docs.contains(&format!("`{hook}`")), "{hook}");
        for field in fields.as_object().unwrap().keys() {
            let last = field.rsplit('.').next().unwrap().trim_end_matches("[]");
            assert!(last == "*" || docs.contains(last), "{hook}: ctx.{field} is not in docs/scripts.md");
        }
    }
    let text = sandbox.run(&["script", "docs", "pre-exec"]).ok().text();
    assert!(text.contains("ctx.exec.command") && text.contains("list"), "{text}");
    // Any spelling of a hook, the meaning of a field and the values that it may have.
    for spelling in ["pre_exec", "PreExec"] {
        assert_eq!(sandbox.run(&["script", "docs", spelling]).ok().text(), text);
    }
    assert!(text.contains("the role of the caller: \"viewer\", \"operator\", \"admin\""), "{text}");
    let unknown = sandbox.run(&["script", "docs", "pre_exce"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("'config' is for wharf.rhai"), "{}", unknown.stderr);
    let keys = sandbox.run(&["script", "docs", "config"]).ok().text();
    assert!(
        keys.contains("c.limits.memory") && keys.contains("c.vars.NAME") && keys.contains("c.policy[].script"),
        "{keys}"
    );
}

#[test]
fn the_configuration_script_is_checked_and_traced_even_while_it_is_broken() {
    let sandbox = Sandbox::new();
    let script = sandbox
        .write("config/wharf.rhai", "fn config(c) {\n    let cores = c.host.cores;\n    c.limits.pids = 77;\n}\n");
    let file = script.display().to_string();
    let ok = sandbox.run(&["script", "check", &file]).ok().text();
    assert!(ok.starts_with("ok "), "{ok}");
    let trace = sandbox.run(&["script", "trace", &file]).ok().text();
    // Lines are indented as in the file.
    assert!(trace.contains("    2     let cores = c.host.cores;") && trace.contains("# cores = "), "{trace}");
    assert!(trace.contains("c.limits.pids = 77;"), "{trace}");
    assert!(trace.trim_end().ends_with("sets  limits.pids = 77"), "{trace}");
    assert_eq!(sandbox.json(&["script", "trace", &file])["result"]["set"]["limits.pids"], 77);
    // The mistake is in a branch that never runs.
    for (line, part) in [
        ("if false { c.limit.memory = 5; }", "there is no 'limit'"),
        ("if c.vars.USER == \"ci\" { }", "add \"USER\" to vars in [script] of wharf.toml"),
        ("while true { }", "look for an endless loop"),
    ] {
        sandbox.write("config/wharf.rhai", format!("fn config(c) {{\n    {line}\n}}\n"));
        let refused = sandbox.run(&["ls"]);
        assert!(refused.code == 3 && refused.stderr.contains(part), "{line}: {}", refused.stderr);
        assert_eq!(refused.stderr.matches(part).count(), 1, "{}", refused.stderr);
        assert!(refused.stderr.contains("wharf.rhai:2:"), "{}", refused.stderr);
        let tool = if line.starts_with("while") { "trace" } else { "check" };
        let told = sandbox.run(&["script", tool, &file]);
        let all = told.text() + told.stderr.as_str();
        assert!(told.code != 0 && all.contains(part) && all.contains("wharf.rhai:2:"), "{line}: {all}");
    }
}

#[test]
fn every_check_says_the_same_about_a_mistake_and_says_it_once() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_create(ctx) {\n    if false { ctx.spec.resources.memory = \"1GiB\"; }\n}\n");
    let part = "rule.rhai:2:44: spec.resources.memory: expected bytes as a number, not the text \"1GiB\"; write gib(1)";
    let file = sandbox.path("config/policies/rule.rhai").display().to_string();
    for args in [
        &["policy", "check"][..],
        &["policy", "check", "rule.rhai"],
        &["script", "check", &file],
        &["doctor"],
        &["serve", "--check"],
        &["plan", "--offline"],
    ] {
        let run = sandbox.run(args);
        let all = run.text() + run.stderr.as_str();
        assert!(run.code != 0 && all.contains(part), "{args:?}: {all}");
        assert_eq!(all.matches("write gib(1)").count(), 1, "{args:?}: {all}");
    }
    // Of several mistakes each is told, and each once.
    sandbox.write(
        "config/policies/rule.rhai",
        "fn pre_create(ctx) {\n    let a = gb(1);\n    ctx.refuse(\"a\", \"b\");\n}\n",
    );
    let told = sandbox.run(&["policy", "check"]).text();
    for part in [
        "rule.rhai:2:13: there is no function gb; did you mean gib?",
        "rule.rhai:3:9: there is no function refuse; did you mean deny?",
    ] {
        assert_eq!(told.matches(part).count(), 1, "{part}: {told}");
    }
    sandbox.write("config/wharf.rhai", "fn config(c) { }\n");
    let other = sandbox.run(&["policy", "check", &sandbox.path("config/wharf.rhai").display().to_string()]);
    assert!(other.code == 2 && other.stderr.contains("wharf script check"), "{}", other.stderr);
}

#[test]
fn an_error_of_settings_names_the_line_of_the_file_and_what_was_meant() {
    let sandbox = Sandbox::new();
    sandbox.write("config/policies/rule.rhai", "const SETTINGS = #{ trusted: true };\nfn pre_create(ctx) { }\n");
    let begin = std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap().lines().count();
    sandbox.append_config(
        "\n[[policy]]\nname = \"rule.rhai\"\nscript = \"policies/rule.rhai\"\n[policy.settings]\ntrustd = true\n",
    );
    let text = std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap();
    let line = text.lines().position(|line| line == "trustd = true").unwrap() + 1;
    assert!(line > begin);
    let told = sandbox.run(&["policy", "check"]).text();
    assert!(
        told.contains(&format!("wharf.toml:{line}: rule.rhai: ")) && told.contains("did you mean 'trusted'?"),
        "{told}"
    );
    // A plugin's settings, whose words are those of its SDK.
    sandbox.append_config(
        "\n[[policy]]\nname = \"images\"\nbuiltin = \"image-selector\"\n[policy.settings]\nallowd = []\n",
    );
    let text = std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap();
    let line = text.lines().position(|line| line == "allowd = []").unwrap() + 1;
    let told = sandbox.run(&["policy", "check"]).text();
    assert!(told.contains(&format!("wharf.toml:{line}: ")), "{told}");
}

#[test]
fn import_works_inside_the_folder_of_the_policies_and_nowhere_else() {
    let sandbox = Sandbox::new();
    sandbox.write("config/policies/lib/teams.rhai", "fn team_of(ctx) {\n    prefix(ctx.workspace.name)\n}\nfn prefix(name) {\n    import \"lib/names\" as names;\n    names::clean(name)\n}\n");
    sandbox.write("config/policies/lib/names.rhai", "fn clean(name) {\n    `team-${name}`\n}\n");
    sandbox.script(
        "main.rhai",
        "import \"lib/teams\" as teams;\nfn pre_create(ctx) {\n    ctx.spec.env.TEAM = teams::team_of(ctx);\n}\n",
    );
    let plan = sandbox.json(&["plan", "--offline"]);
    assert_eq!(plan["spec"]["env"]["TEAM"], "team-project");
    let digest = || sandbox.json(&["policy", "ls"])[0]["digest"].as_str().unwrap().to_owned();
    let before = digest();
    // An imported script is a part of the policy: its digest changes with it, and so a pin covers it.
    sandbox.append_config(&format!("digest = \"{before}\""));
    assert_eq!(sandbox.run(&["plan", "--offline"]).code, 0);
    sandbox.write("config/policies/lib/names.rhai", "fn clean(name) {\n    throw \"in the library\";\n}\n");
    assert_eq!(sandbox.run(&["plan", "--offline"]).code, 3);
    let config = std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap();
    sandbox.config(&config.replace(&format!("digest = \"{before}\""), ""));
    assert_ne!(digest(), before);
    let failed = sandbox.run(&["plan", "--offline"]);
    for part in ["lib/names:2:", "2 |     throw \"in the library\";", "in clean()", "in team_of()"] {
        assert!(failed.stderr.contains(part), "{part}: {}", failed.stderr);
    }

    sandbox.write("secret.rhai", "fn clean(name) { name }\n");
    std::os::unix::fs::symlink(sandbox.path("secret.rhai"), sandbox.path("config/policies/link.rhai")).unwrap();
    sandbox.write("config/policies/round.rhai", "import \"around\" as a;\nfn x() { 1 }\n");
    sandbox.write("config/policies/around.rhai", "import \"round\" as a;\nfn x() { 1 }\n");
    sandbox.write("config/policies/broken.rhai", "fn x( {\n");
    sandbox.write("config/policies/big.rhai", format!("// {}", "x".repeat(300 << 10)));
    for (import, part) in [
        ("\"../../secret\"", "without '..'"),
        ("\"/etc/passwd\"", "without '..'"),
        ("\"link\"", "outside"),
        ("\"nothing\"", "cannot read"),
        ("\"round\"", "is circular"),
        ("\"broken\"", "broken:1:"),
        ("\"big\"", "at most 256 KiB"),
        ("gib(1).to_string()", "a literal string"),
    ] {
        sandbox.write("config/policies/main.rhai", format!("import {import} as lib;\nfn pre_create(ctx) {{ }}\n"));
        let run = sandbox.run(&["policy", "check"]);
        assert!(run.code == 3 && run.text().contains(part), "{import}: {}", run.text());
        assert!(
            part == "broken:1:"
                || run.text().contains("main.rhai:1:")
                || run.text().contains("around:1:")
                || run.text().contains("round:1:"),
            "{import}: {}",
            run.text()
        );
    }
}
