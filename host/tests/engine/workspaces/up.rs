//! Repeated `up`: unchanged, stopped, different, another name, and the workspace that a command refers to.

use serde_json::{Value, json};

use crate::support::engine_api as engine;
use crate::support::sandbox::Sandbox;

#[test]
fn up_twice_is_the_same_container() {
    let sandbox = Sandbox::new();
    let first = sandbox.up();
    let second = sandbox.up();
    assert_eq!(second["container_id"], first["container_id"]);
    assert_eq!(second["started_at"], first["started_at"]);
    assert_eq!(sandbox.own_containers().len(), 1);
    let quiet = sandbox.run(&["up", "--quiet"]).ok();
    assert_eq!(quiet.text(), format!("{}\n", sandbox.id()));
    assert_eq!(quiet.stderr, "");
}

#[test]
fn up_starts_a_stopped_one_and_keeps_what_is_in_it() {
    let sandbox = Sandbox::new();
    let first = sandbox.up();
    sandbox.sh("echo kept > /kept");
    sandbox.json(&["stop", "--timeout", "1s"]);
    let second = sandbox.up();
    assert_eq!((&second["state"], &second["container_id"]), (&json!("running"), &first["container_id"]));
    assert_eq!(sandbox.sh("cat /kept"), "kept\n");
}

#[test]
fn up_says_which_field_differs_and_who_set_it_and_changes_nothing_without_recreate() {
    let sandbox = Sandbox::new();
    sandbox.script("team.rhai", "fn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"blue\";\n}\n");
    let first = sandbox.json(&["up", "--memory", "256MiB"]);
    sandbox.sh("echo kept > /kept");
    let before = sandbox.snapshot();

    sandbox.script("later.rhai", "fn pre_create(ctx) {\n    ctx.spec.labels.color = \"red\";\n}\n");
    let text = sandbox.run(&["up", "--memory", "512MiB"]);
    assert_eq!(text.code, 7, "{}", text.stderr);
    let line = text.stderr.lines().find(|line| line.starts_with("wharf: ")).unwrap();
    for part in [
        "resources.memory is 268435456, but 536870912 is decided (request)",
        "labels.color is null, but \"red\" is decided (later.rhai)",
    ] {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
    assert!(!line.contains("env.TEAM"), "it is the same: {line}");
    assert!(text.stderr.contains("--recreate"), "{}", text.stderr);
    let error = sandbox.run(&["--json", "up", "--memory", "512MiB"]).error();
    assert_eq!(error["code"], "spec-differs");
    sandbox.assert_unchanged(&before, "afterwards");
    assert_eq!(sandbox.sh("cat /kept"), "kept\n");
    assert_eq!(sandbox.json(&["inspect"])["labels"], json!({}));

    let replaced = sandbox.json(&["up", "--memory", "512MiB", "--recreate"]);
    assert_ne!(replaced["container_id"], first["container_id"]);
    assert_eq!(replaced["labels"], json!({ "color": "red" }));
    assert_eq!(sandbox.own_containers().len(), 1);
    let container = engine::inspect(replaced["container_id"].as_str().unwrap());
    assert_eq!(container["HostConfig"]["Memory"], 512 << 20);
    assert_ne!(sandbox.run(&["exec", "--", "cat", "/kept"]).code, 0, "its writable layer is gone");
    let same = sandbox.json(&["up", "--memory", "512MiB", "--recreate"]);
    assert_eq!(same["container_id"], replaced["container_id"], "what does not differ is not replaced");
}

#[test]
fn a_recreate_that_is_denied_leaves_the_old_one_alone() {
    let sandbox = Sandbox::new();
    let first = sandbox.up();
    sandbox.script("no.rhai", "fn pre_create(ctx) { ctx.deny(\"closed\", \"not today\"); }");
    let denied = sandbox.run(&["up", "--recreate", "--memory", "300MiB"]);
    assert_eq!(denied.code, 4, "{}", denied.stderr);
    let now = sandbox.json(&["inspect"]);
    assert_eq!((&now["container_id"], &now["state"]), (&first["container_id"], &json!("running")));
}

#[test]
fn a_stopped_workspace_that_differs_is_not_started() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.json(&["stop", "--timeout", "1s"]);
    assert_eq!(sandbox.run(&["up", "--cpus", "0.5"]).code, 7);
    assert_eq!(sandbox.json(&["inspect"])["state"], "exited");
}

#[test]
fn a_name_makes_another_workspace_for_the_same_folder() {
    let sandbox = Sandbox::new();
    let own = sandbox.up();
    let other = sandbox.json(&["up", "--name", "Second One"]);
    assert_eq!(other["name"], "Second One");
    assert!(other["id"].as_str().unwrap().starts_with("second-one-"), "{other}");
    assert_ne!(other["container_id"], own["container_id"]);
    assert_eq!(sandbox.json(&["up", "--name", "Second One"])["container_id"], other["container_id"]);
    // The folder refers to the workspace named after it.
    assert_eq!(sandbox.json(&["inspect"])["id"], own["id"]);
    assert_eq!(sandbox.json(&["inspect", "Second One"])["id"], other["id"]);
    sandbox.json(&["down", "Second One"]);
    assert_eq!(sandbox.json(&["ls"]).as_array().map(Vec::len), Some(1));
    assert_eq!(sandbox.sh("echo alive"), "alive\n");
}

#[test]
fn inside_a_project_commands_mean_its_workspace() {
    let sandbox = Sandbox::new();
    let id = sandbox.up()["id"].clone();
    let deep = sandbox.folder("project/src/deep");
    assert_eq!(sandbox.run_in(&deep, &["--json", "inspect"]).ok().json()["id"], id);
    let exec = sandbox.run_in(&deep, &["exec", "--", "echo", "here"]).ok();
    assert_eq!(exec.text(), "here\n");
    let outside = sandbox.run_in(&sandbox.dir, &["--json", "inspect"]);
    assert_eq!((outside.code, &outside.error()["code"]), (5, &json!("workspace-not-found")));
    // A link to the project counts as the project.
    let link = sandbox.path("link");
    std::os::unix::fs::symlink(sandbox.project(), &link).unwrap();
    assert_eq!(sandbox.json(&["up", link.to_str().unwrap()])["id"], id);
    assert_eq!(sandbox.own_containers().len(), 1);
}

#[test]
fn a_project_can_be_named_from_elsewhere() {
    let sandbox = Sandbox::new();
    let project = sandbox.project();
    let path = project.to_str().unwrap();
    let elsewhere = sandbox.folder("elsewhere");
    let run = |args: &[&str]| sandbox.run_in(&elsewhere, &[&["--project", path], args].concat());
    let up = run(&["--json", "up"]).ok().json();
    assert_eq!(up["id"], sandbox.id());
    assert_eq!(run(&["exec", "--", "pwd"]).ok().text(), "/workspace\n");
    assert_eq!(run(&["--json", "plan"]).ok().json()["id"], up["id"]);
    assert_eq!(run(&["why", "env.WORKSPACE_NAME"]).code, 0);
    assert_eq!(run(&["down"]).code, 0);
    sandbox.assert_nothing_left();
    let wrong = sandbox.run(&["--json", "--project", "/no/such/folder", "inspect"]);
    assert_eq!((wrong.code, wrong.error()["code"].as_str()), (5, Some("project-unusable")));
}

#[test]
fn a_recreate_that_fails_brings_the_old_one_back() {
    let sandbox = Sandbox::new();
    let old = sandbox.up();
    sandbox.sh("echo kept > /kept");
    for rest in [&["--image", "127.0.0.1:1/none:1"][..], &["--user", "nobody-here"], &["--", "no-such-command"]] {
        let failed = sandbox.run(&[&["up", "--recreate"], rest].concat());
        assert_eq!(failed.code, 1, "{rest:?}: {}", failed.stderr);
        let now = sandbox.json(&["inspect"]);
        assert_eq!((&now["container_id"], &now["state"]), (&old["container_id"], &json!("running")), "{rest:?}");
        assert_eq!(sandbox.own_containers().len(), 1, "{rest:?}");
        assert_eq!(sandbox.sh("cat /kept"), "kept\n");
    }
    assert_eq!(sandbox.up()["container_id"], old["container_id"]);
    assert!(sandbox.store().open_entries().unwrap().is_empty());
}

#[test]
fn a_name_that_means_two_workspaces_is_refused_with_their_ids() {
    let sandbox = Sandbox::new();
    let (a, b) = (sandbox.folder("a/shop"), sandbox.folder("b/shop"));
    let ids = [sandbox.id_of("shop", &a), sandbox.id_of("shop", &b)];
    for folder in [&a, &b] {
        sandbox.run_in(folder, &["up"]).ok();
    }
    for verb in ["inspect", "stop", "down", "why"] {
        let refused = sandbox.run(&["--json", verb, "shop"]);
        let error = refused.error();
        assert_eq!((refused.code, &error["code"]), (5, &json!("workspace-ambiguous")), "{verb}");
        assert!(ids.iter().all(|id| error["message"].as_str().unwrap().contains(id)), "{error}");
    }
    assert_eq!(sandbox.run(&["exec", "shop", "--", "true"]).code, 125);
    let states: Vec<Value> =
        sandbox.json(&["ls"]).as_array().unwrap().iter().map(|workspace| workspace["state"].clone()).collect();
    assert_eq!(states, [json!("running"), json!("running")]);
    assert_eq!(sandbox.json(&["inspect", &ids[1]])["project"], b.canonicalize().unwrap().display().to_string());
}

#[test]
fn several_workspaces_can_be_named_at_once_and_each_gets_its_turn() {
    let sandbox = Sandbox::new();
    for name in ["one", "two"] {
        sandbox.run_in(&sandbox.folder(name), &["up"]).ok();
    }
    let stopped = sandbox.run(&["--json", "stop", "--timeout", "1s", "one", "nobody", "two"]);
    assert_eq!(stopped.code, 5);
    assert_eq!(stopped.error()["code"], "workspace-not-found");
    let states: Vec<_> = stopped.json().as_array().unwrap().iter().map(|view| view["state"].clone()).collect();
    assert_eq!(states, [json!("exited"), json!("exited")]);
    sandbox.run(&["start", "one", "two"]).ok();
    sandbox.run(&["rm", "-f", "one", "two"]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn everything_that_a_request_names_reaches_the_container() {
    let mut sandbox = Sandbox::new();
    sandbox.env("FROM_HERE", "taken along");
    let data = sandbox.folder("project/data");
    let mount = format!("{}:/data:ro", data.display());
    let up = sandbox.json(&[
        "up",
        "--cpus",
        "0.5",
        "--memory",
        "128MiB",
        "-e",
        "A=b=c d",
        "-e",
        "FROM_HERE",
        "-l",
        "team=pay",
        "--mount",
        &mount,
        "--publish",
        "8080",
        "--user",
        "1000:1000",
        "--",
        "sleep",
        "1000",
    ]);
    assert_eq!(up["labels"], json!({ "team": "pay" }));
    let port = &up["ports"][0];
    assert_eq!((&port["container_port"], &port["address"]), (&json!(8080), &json!("127.0.0.1")));
    assert!(port["port"].as_u64().is_some_and(|port| port > 0), "{up}");
    let said = sandbox.sh("id -u; echo \"$A,$FROM_HERE\"; touch /data/x 2>&1; cat /proc/1/cmdline | tr '\\0' ' '");
    assert!(said.starts_with("1000\nb=c d,taken along\n"), "{said}");
    assert!(said.contains("Read-only file system") && said.contains("sleep 1000"), "{said}");
    let host = engine::inspect(up["container_id"].as_str().unwrap())["HostConfig"].take();
    assert_eq!((&host["NanoCpus"], &host["Memory"]), (&json!(500_000_000), &json!(128 << 20)));
    // The same request again is no difference.
    let args = [
        "up",
        "--cpus",
        "0.5",
        "--memory",
        "128MiB",
        "-e",
        "A=b=c d",
        "-e",
        "FROM_HERE",
        "-l",
        "team=pay",
        "--mount",
        &mount,
        "--publish",
        "8080",
        "--user",
        "1000:1000",
        "--",
        "sleep",
        "1000",
    ];
    assert_eq!(sandbox.json(&args)["container_id"], up["container_id"]);
}
