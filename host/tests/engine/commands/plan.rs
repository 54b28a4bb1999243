//! `plan` shows what `up` would create and which owner decides it, without an engine, and creates nothing.

use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;

const NO_ENGINE: &str = "unix:///no/such/engine.sock";

/// Returns a sandbox whose configuration names no image, as on a new machine.
fn fresh() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.unset("WHARF_WORKSPACE_IMAGE");
    sandbox
}

#[test]
fn ten_kinds_of_projects_get_the_image_that_their_files_ask_for() {
    let sandbox = fresh();
    let before = sandbox.snapshot();
    for (name, files, image, reason) in [
        ("node", &[("package.json", "{ \"engines\": { \"node\": \"20\" } }")][..], "node:20-slim", "package.json"),
        (
            "rust",
            &[("Cargo.toml", "[package]\nname = \"x\""), ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.85\"")],
            "rust:1.85-slim",
            "rust-toolchain.toml",
        ),
        ("go", &[("go.mod", "module x\n\ngo 1.24.1\n")], "golang:1.24", "go.mod"),
        ("python", &[(".python-version", "3.12\n"), ("pyproject.toml", "")], "python:3.12-slim", ".python-version"),
        ("ruby", &[("Gemfile", "ruby \"3.3\"\n")], "ruby:3.3-slim", "Gemfile"),
        (
            "java",
            &[("pom.xml", "<project><properties><java.version>17</java.version></properties></project>")],
            "eclipse-temurin:17-jdk",
            "pom.xml",
        ),
        ("php", &[("composer.json", "{ \"require\": { \"php\": \"8.2\" } }")], "php:8.2-cli", "composer.json"),
        (
            "devcontainer",
            &[
                (
                    ".devcontainer/devcontainer.json",
                    "// for the editor\n{\n  /* the image */ \"image\": \"ghcr.io/acme/dev:7\", // here\n}\n",
                ),
                ("package.json", "{}"),
            ],
            "ghcr.io/acme/dev:7",
            ".devcontainer/devcontainer.json",
        ),
        (
            "tools",
            &[(".tool-versions", "# pinned\nnodejs 18.19.0\nterraform 1.5\n"), ("package.json", "{}")],
            "node:18.19.0-slim",
            ".tool-versions",
        ),
        ("empty", &[], "debian:stable-slim", "nothing in the project"),
    ] {
        let folder = sandbox.folder(name);
        for (file, text) in files {
            sandbox.write(&format!("{name}/{file}"), text);
        }
        let path = folder.to_str().unwrap();
        for engine in [&["--offline"][..], &["--engine", NO_ENGINE]] {
            let mut args = vec!["--json", "plan", path];
            args.extend(engine);
            let plan = sandbox.run(&args).ok().json();
            let chosen = &plan["spec"]["image"];
            assert_eq!(chosen["reference"], image, "{name}");
            assert!(chosen["reason"].as_str().unwrap().contains(reason), "{name}: {chosen}");
            assert_eq!((&plan["owners"]["image"], &plan["denied"]), (&json!("image-selector"), &Value::Null), "{name}");
            assert_eq!((&plan["name"], &plan["engine"]), (&json!(name), &json!(false)));
        }
        let text = sandbox.run(&["plan", path, "--offline"]).ok().text();
        assert!(
            text.contains(image) && text.contains("image-selector") && text.contains("without an engine"),
            "{text}"
        );
    }
    sandbox.assert_unchanged(&before, "plan");
    assert!(sandbox.store().workspaces().unwrap().is_empty());
}

#[test]
fn a_plan_names_the_owner_of_each_field_and_what_each_policy_did() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"blue\";\n    ctx.log(\"set the team\");\n}\n",
    );
    let plan = sandbox.json(&["plan", "--memory", "1GiB", "-e", "A=1"]);
    let owners = &plan["owners"];
    for (field, owner) in [
        ("env.TEAM", "rule.rhai"),
        ("env.A", "request"),
        ("resources.memory", "request"),
        ("image", "config"),
        ("env.WORKSPACE_ID", "default"),
        ("security.capabilities", "default"),
    ] {
        assert_eq!(owners[field], owner, "{field} in {owners}");
    }
    assert_eq!(plan["engine"], true);
    assert_eq!(plan["spec"]["env"]["TEAM"], "blue");
    let step = &plan["trail"][0];
    assert_eq!(
        (&step["policy"], &step["hook"], &step["verdict"]),
        (&json!("rule.rhai"), &json!("pre-create"), &json!("adjust"))
    );
    assert_eq!((&step["fields"], &step["logs"]), (&json!(["env.TEAM"]), &json!(["set the team"])));
    let text = sandbox.run(&["plan"]).ok().text();
    insta::assert_snapshot!("plan", sandbox.masked(&text));
    assert_eq!(sandbox.json(&["ls"]), json!([]));
    // The result matches the plan.
    let up = sandbox.json(&["up", "--memory", "1GiB", "-e", "A=1"]);
    assert_eq!((&up["id"], &up["name"]), (&plan["id"], &plan["name"]));
    assert_eq!(sandbox.sh("echo $TEAM $A"), "blue 1\n");
}

#[test]
fn a_plan_that_would_be_denied_ends_with_4_and_shows_why() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_create(ctx) {\n    ctx.deny(\"closed\", \"not today\");\n}\n");
    let plan = sandbox.run(&["--json", "plan", "--offline"]);
    assert_eq!(plan.code, 4, "{}", plan.stderr);
    let plan = plan.json();
    assert_eq!((&plan["denied"]["code"], &plan["denied"]["at"]), (&json!("closed"), &json!("rule.rhai:2")));
    assert_eq!(plan["trail"][0]["verdict"], "deny");
    let text = sandbox.run(&["plan", "--offline"]);
    assert_eq!(text.code, 4);
    insta::assert_snapshot!("plan_denied", sandbox.masked(&text.stderr));
}

#[test]
fn a_plan_of_what_cannot_be_planned_is_an_error() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(&["plan", "/no/such/folder", "--offline"]).code, 5);
    assert_eq!(sandbox.run(&["plan", "--offline", "--publish", "x"]).code, 2);
    sandbox.script("rule.rhai", "fn pre_create(ctx) {");
    assert_eq!(sandbox.run(&["plan", "--offline"]).code, 3);
}

#[test]
fn images_can_be_pinned_preferred_and_limited_by_settings() {
    let sandbox = fresh();
    let digest = format!("sha256:{}", "ab".repeat(32));
    sandbox.write("project/package.json", "{}");
    let with = |settings: &str| {
        sandbox
            .config(&format!("[[policy]]\nname = \"images\"\nbuiltin = \"image-selector\"\nsettings = {settings}\n"));
        sandbox.run(&["--json", "plan", "--offline"])
    };
    let pinned =
        with(&format!("{{ digests = {{ \"node:22-slim\" = \"{digest}\" }}, require_digest = true }}")).ok().json();
    assert_eq!(pinned["spec"]["image"]["reference"], format!("node@{digest}"));
    let denied = with("{ allow = [\"debian:*\"] }");
    assert_eq!((denied.code, denied.json()["denied"]["code"].as_str()), (4, Some("image-not-allowed")));
    let denied = with("{ require_digest = true }");
    assert_eq!((denied.code, denied.json()["denied"]["code"].as_str()), (4, Some("image-not-pinned")));
}

#[test]
fn a_plan_explains_who_was_overruled_and_what_bounds_a_field() {
    let sandbox = Sandbox::new();
    sandbox.script("cap.rhai", "fn pre_create(ctx) {\n    ctx.spec.resources.memory = gib(1);\n}\n");
    let args =
        ["plan", "--offline", "--memory", "2GiB", "--set", "limits.memory=1GiB", "--set", "workspace.memory=512MiB"];
    let plan = sandbox.json(&args);
    let memory = &plan["fields"]["resources.memory"];
    let way: Vec<_> = memory["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| (&link["by"]["policy"], &link["overruled_by"]))
        .collect();
    let overruled = json!("request (--memory 2GiB)");
    assert_eq!(way[way.len() - 2], (&json!("request"), &json!("cap.rhai:2")));
    assert_eq!(way[way.len() - 3], (&json!("config"), &overruled));
    assert_eq!((&memory["bound"]["setting"], &memory["bound"]["reached"]), (&json!("limits.memory"), &json!(true)));
    assert_eq!(memory["bound"]["origin"], "--set limits.memory");
    let text = sandbox.run(&args).ok().text();
    assert!(text.contains("-> 2.0 GiB (request (--memory 2GiB)) -> 1.0 GiB (cap.rhai:2)"), "{text}");
    assert!(text.contains("resources.memory: the most that limits.memory"), "{text}");
    let denied = sandbox.run(&["plan", "--offline", "--mount", "/etc:/x"]);
    assert!(denied.code == 4 && denied.text().contains("mounts./x: forbidden: "), "{}", denied.text());
}

#[test]
fn a_difference_from_a_workspace_is_told_by_field_with_who_decided_then_and_now() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"blue\";\n}\n");
    let none = sandbox.run(&["--json", "plan", "--diff"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("workspace-not-found")));
    sandbox
        .run(&[
            "up",
            "-e",
            "A=1",
            "-e",
            "API_TOKEN=hunter2hunter2",
            "-l",
            "x=y",
            "--memory",
            "300MiB",
            "--tmpfs",
            "/t:1MiB",
            "-p",
            "80",
            "--",
            "sleep",
            "999",
        ])
        .ok();
    // The original request is remembered, so nothing differs.
    let same = sandbox.run(&["--json", "plan", "--diff"]).ok().json();
    assert_eq!((&same["changes"], &same["denied"]), (&json!([]), &Value::Null));
    assert!(sandbox.run(&["plan", "--diff=project"]).ok().text().contains("nothing would change"));

    sandbox.write(
        "config/policies/rule.rhai",
        "\nfn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"red\";\n    ctx.spec.resources.pids = 77;\n}\n",
    );
    let differs = sandbox.run_in(&sandbox.dir, &["--json", "plan", "--diff=project", "--memory", "400MiB"]);
    assert_eq!(differs.code, 7, "{}", differs.stderr);
    let changes = differs.json()["changes"].clone();
    let row = |field: &str| {
        let all = changes.as_array().unwrap();
        let row = all.iter().find(|change| change["field"] == field).unwrap_or_else(|| panic!("{field}: {changes}"));
        [&row["is"], &row["decided"], &row["was_by"], &row["by"]].map(Clone::clone)
    };
    assert_eq!(changes.as_array().unwrap().len(), 3, "{changes}");
    assert_eq!(row("env.TEAM"), [json!("blue"), json!("red"), json!("rule.rhai:2"), json!("rule.rhai:3")]);
    assert_eq!(row("resources.pids"), [json!(512), json!(77), json!("default"), json!("rule.rhai:4")]);
    assert_eq!(row("resources.memory")[2..], [json!("request (--memory 300MiB)"), json!("request (--memory 400MiB)")]);
    let text = sandbox.run(&["plan", "--diff"]);
    assert!(text.code == 7 && text.text().contains("rule.rhai:3"), "{}", text.text());
    // It was only a plan: nothing has changed.
    assert_eq!(sandbox.sh("echo $TEAM"), "blue\n");
    sandbox.write("config/policies/rule.rhai", "fn pre_create(ctx) {\n    ctx.deny(\"closed\", \"not today\");\n}\n");
    assert_eq!(sandbox.run(&["plan", "--diff"]).code, 4);
}
