//! `policy replay` replays records; `policy test` runs cases, including those created from records.

use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;

const RULE: &str = "fn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"blue\";\n}\n\
                    fn pre_exec(ctx) {\n    ctx.exec.env.SEEN = ctx.now_ms.to_string();\n}\n\
                    fn pre_stop(ctx) {\n    ctx.note(\"stopped\");\n}\n";

fn lived() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.plugin("plugins/security-baseline", "{ profile = \"strict\" }");
    sandbox.script("rule.rhai", RULE);
    sandbox.run(&["up", "--tmpfs", "/tmp:16MiB"]).ok();
    sandbox.sh("true");
    assert_eq!(sandbox.run(&["plan", "--mount", "/etc:/x"]).code, 4);
    assert_eq!(sandbox.run(&["up", "--name", "other", "--mount", "/etc:/x"]).code, 4);
    sandbox.run(&["cleanup"]).ok();
    sandbox.run(&["down"]).ok();
    sandbox
}

#[test]
fn the_same_policies_decide_the_same_again_though_the_project_and_the_engine_are_gone() {
    let sandbox = lived();
    std::fs::remove_dir_all(sandbox.project()).unwrap();
    let replayed =
        sandbox.run_in(&sandbox.dir, &["--json", "--engine", "unix:///no/such.sock", "policy", "replay"]).ok().json();
    let all = replayed["replayed"].as_u64().unwrap();
    assert!(all >= 9, "{replayed}");
    assert_eq!((&replayed["identical"], &replayed["flipped"]), (&json!(all), &json!(0)), "{replayed}");
    assert_eq!(
        (&replayed["not_replayed"], &replayed["gone"], &replayed["changed"]),
        (&json!({}), &json!({}), &json!({}))
    );
    let text = sandbox.run_in(&sandbox.dir, &["policy", "replay", "--since", "1h"]).ok().text();
    assert!(text.contains(&format!("{all} decisions: {all} identical")) && text.contains("decisions/s"), "{text}");
}

#[test]
fn another_policy_shows_what_would_flip_with_new_denials_first() {
    let sandbox = lived();
    sandbox.write(
        "new/rule.rhai",
        "fn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"red\";\n}\n\
         fn pre_exec(ctx) {\n    ctx.deny(\"closed\", `no commands in ${ctx.workspace.name}`);\n}\n",
    );
    let file = sandbox.path("new/rule.rhai").display().to_string();
    let run = sandbox.run(&["--json", "policy", "replay", "--with", &file]);
    assert_eq!(run.code, 7, "{}", run.stderr);
    let replayed = run.json();
    let flips: Vec<_> = replayed["flips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flip| {
            [&flip["kind"], &flip["hook"], &flip["policy"], &flip["reason"], &flip["count"]]
                .map(Value::to_string)
                .join(" ")
        })
        .collect();
    assert_eq!(flips[0], "\"now-denied\" \"pre-exec\" \"rule.rhai\" \"closed\" 1");
    assert!(flips[1..].contains(&"\"changed\" \"pre-create\" \"rule.rhai\" \"env.TEAM\" 1".to_owned()), "{flips:?}");
    assert!(flips[1..].contains(&"\"changed\" \"pre-stop\" \"rule.rhai\" \"actions\" 1".to_owned()), "{flips:?}");
    assert!(replayed["changed"]["rule.rhai"].as_u64().unwrap() >= 3, "{replayed}");
    let number = replayed["flips"][0]["examples"][0]["number"].to_string();
    let one = sandbox.run(&["policy", "replay", "--decision", &number, "--with", &file]);
    assert_eq!(one.code, 7);
    assert!(one.text().contains("now denied: no commands in project (closed)"), "{}", one.text());
    // As an additional policy with another name, it only adds.
    let added = sandbox.run(&["policy", "replay", "--with", &file, "--as", "second", "--hook", "pre-create"]);
    assert!(added.code == 7 && added.text().contains("now denied"), "{}", added.text());
    assert!(added.text().contains("conflict") && added.text().contains("'second' at the end of the chain"));
    // A different configuration, without any of our policies.
    let config = sandbox.write("other/wharf.toml", "[[policy]]\nname = \"x\"\nbuiltin = \"pre-create.rhai\"\n");
    let run = sandbox.run(&["--json", "--config", config.to_str().unwrap(), "policy", "replay"]);
    assert_eq!(run.code, 7);
    assert!(run.json()["gone"]["rule.rhai"].as_u64().unwrap() >= 3, "{}", run.text());
}

#[test]
fn what_cannot_be_replayed_is_counted_and_said() {
    let sandbox = lived();
    let database = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    for sql in [
        "update decisions set body = replace(body, '\"version\":2', '\"version\":1') where number = 1",
        "update decisions set body = replace(body, '\"version\":2', '\"version\":99') where number = 2",
        "update decisions set body = 'x' where number = 3",
    ] {
        assert_eq!(database.execute(sql, []).unwrap(), 1);
    }
    let replayed = sandbox.json(&["policy", "replay"]);
    let counts: Vec<_> = replayed["not_replayed"].as_object().unwrap().iter().collect();
    assert_eq!(counts.len(), 3, "{replayed}");
    let text = sandbox.run(&["policy", "replay"]).ok().text();
    for part in ["version 1 is older", "version 99 is newer", "the record is unreadable"] {
        assert!(text.lines().any(|line| line.starts_with("not replayed: 1 record:") && line.contains(part)), "{text}");
    }
    // An optional policy that took part can no longer be loaded.
    let config = std::fs::read_to_string(sandbox.path("config/wharf.toml")).unwrap();
    sandbox.config(&format!("{config}\noptional = true\n"));
    sandbox.write("config/policies/rule.rhai", "fn broken(");
    let run = sandbox.run(&["policy", "replay"]);
    assert!(run.text().contains("'rule.rhai' took part but cannot be loaded now"), "{}", run.text());
    let none = sandbox.run(&["--json", "policy", "replay", "--decision", "999"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("record-not-found")));
}

#[test]
fn a_record_becomes_a_case_that_holds_until_a_policy_changes() {
    let sandbox = lived();
    let count = sandbox.store().verify(None).unwrap().records;
    for number in 1..=count {
        let case = sandbox.run(&["audit", "show", &number.to_string(), "--as-case"]).ok().text();
        sandbox.write(&format!("cases/{number}.json"), case);
    }
    sandbox.write(
        "cases/short.toml",
        "about = \"the team is set\"\nhook = \"pre-create\"\npolicies = [\"rule.rhai\"]\n[expect.changed]\n\"env.TEAM\" = \"blue\"\n",
    );
    let cases = sandbox.path("cases").display().to_string();
    let text = sandbox.run(&["policy", "test", &cases]).ok().text();
    assert!(text.contains(&format!("{} cases: {} passed, 0 failed", count + 1, count + 1)), "{text}");

    sandbox.write("config/policies/rule.rhai", RULE.replace("blue", "red"));
    let failed = sandbox.run(&["policy", "test", &cases]);
    assert_eq!(failed.code, 1);
    assert!(failed.text().contains("changed.env.TEAM\n      - blue\n      + red"), "{}", failed.text());
    let json = sandbox.run(&["--json", "policy", "test", &cases]).json();
    let short = json.as_array().unwrap().iter().find(|row| row["about"] == "the team is set").unwrap();
    assert_eq!(short["mismatches"][0], json!({ "what": "changed.env.TEAM", "expected": "blue", "actual": "red" }));

    sandbox.write("bad/one.toml", "hook = \"pre-create\"\n[spec]\nmemroy = 1\n[expect]\noutcome = \"allowed\"\n");
    sandbox.write("bad/two.json", "{");
    sandbox.write("bad/three.toml", "hook = \"pre-create\"\nx = \n");
    let bad = sandbox.run(&["policy", "test", &sandbox.path("bad").display().to_string()]);
    assert_eq!(bad.code, 1);
    for part in ["spec.memroy: unknown field", "EOF", "line 2"] {
        assert!(bad.text().contains(part), "{part}: {}", bad.text());
    }
    let empty = sandbox.folder("empty").display().to_string();
    assert_eq!(sandbox.run(&["policy", "test", &empty]).code, 5);
    assert_eq!(sandbox.run(&["policy", "test", "/no/such/folder"]).code, 5);
}
