//! Users: a workspace runs as its project's owner by default, and a caller of the API keeps the decided user.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::json;

use crate::service::remote::both_ways;
use crate::service::serve::Serving;
use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::Sandbox;
use crate::support::service_api as api;

/// Returns a sandbox whose project belongs to an ordinary user of the host.
fn owned(owner: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("project/file", "mine\n");
    chown(&sandbox, owner);
    sandbox
}

fn home() -> String {
    ["", "home", "workspace"].join("/")
}

fn chown(sandbox: &Sandbox, owner: &str) {
    assert!(Command::new("chown").args(["-R", owner]).arg(sandbox.project()).status().unwrap().success());
}

#[test]
fn a_workspace_is_the_owner_of_its_project_with_a_name_and_a_home() {
    let sandbox = owned("1577:1600");
    sandbox.json(&["up", "--mount", "data:/data", "--tmpfs", "/scratch:16MiB"]);
    assert_eq!(sandbox.sh("id -u; id -g").split_whitespace().collect::<Vec<_>>(), ["1577", "1600"]);
    assert_eq!(sandbox.sh("cd; pwd; whoami").split_whitespace().collect::<Vec<_>>(), [home().as_str(), "workspace"]);
    // All files that a developer writes belong to the user.
    sandbox.sh("touch ~/x /workspace/made /data/x /scratch/x /tmp/x; cat /workspace/file");
    let made = std::fs::metadata(sandbox.path("project/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1577, 1600));
    // The first process has the same user, and a shell gets no other user from the engine.
    assert_eq!(sandbox.sh("stat -c %u /proc/1").trim(), "1577");
    sandbox.write("copied", "in\n");
    sandbox.run(&["cp", sandbox.path("copied").to_str().unwrap(), "project:/workspace/copied"]).ok();
    assert_eq!(sandbox.sh("cat copied; rm copied").trim(), "in");
    let why = sandbox.run(&["why", "user"]).ok().text();
    assert!(why.contains("1577:1600") && why.contains("owner of the project"), "{why}");
    // It stays so, and the same request gives the same workspace.
    sandbox.json(&["restart", "-t", "0s"]);
    assert_eq!(sandbox.json(&["up", "--mount", "data:/data", "--tmpfs", "/scratch:16MiB"])["state"], "running");
    assert_eq!(sandbox.sh("whoami").trim(), "workspace");
    // A user with the engine's socket is root of it anyway.
    assert_eq!(sandbox.run(&["exec", "-u", "root", "--", "id", "-u"]).ok().text().trim(), "0");
    sandbox.json(&["down", "--volumes"]);
}

#[test]
fn a_command_that_fails_for_want_of_root_names_the_ways_back_once_behind_its_output() {
    both_ways(|sandbox| {
        sandbox.write("project/file", "mine\n");
        chown(sandbox, "1577:1600");
        sandbox.json(&["up"]);
        let fails = ["exec", "--", "sh", "-c", "echo out; mkdir /made"];
        let failed = sandbox.run(&fails);
        assert_eq!((failed.code, failed.stdout.as_slice()), (1, &b"out\n"[..]), "{}", failed.stderr);
        let (own, hint) = failed.stderr.split_once('\n').unwrap();
        assert!(own.contains("ermission denied") && !own.contains("wharf"), "{}", failed.stderr);
        assert!(hint.starts_with("wharf: the workspace runs as 1577:1600"), "{}", failed.stderr);
        assert_eq!(hint.matches("wharf up --recreate --user root").count(), 1, "{}", failed.stderr);
        assert!(hint.contains("workspace.user = \"root\""), "{hint}");
        let json = sandbox.run(&[&["--json"], &fails[..]].concat());
        let notice: serde_json::Value = serde_json::from_str(json.stderr.lines().last().unwrap()).unwrap();
        assert!(notice["notice"].as_str().unwrap().contains("--user root"), "{}", json.stderr);
        // No hint after success, with an explicit user, or for another error.
        for args in [
            &["exec", "--", "sh", "-c", "echo Permission denied >&2"][..],
            &["exec", "-u", "1577:1600", "--", "mkdir", "/made"],
            &["exec", "--", "sh", "-c", "echo Permission denied; exit 3"],
        ] {
            assert!(!sandbox.run(args).stderr.contains("--user root"), "{args:?}");
        }
    });
}

#[test]
fn request_configuration_policy_and_image_decide_the_user_before_the_project_does() {
    let mut sandbox = owned("1577:1600");
    let user = |sandbox: &Sandbox| sandbox.sh("id -u").trim().to_owned();
    for (args, is) in [(&["--user", "root"][..], "0"), (&["--user", "1234:5"], "1234")] {
        sandbox.json(&[&["up", "--recreate"], args].concat());
        assert_eq!(user(&sandbox), is, "{args:?}");
    }
    sandbox.append_config("[workspace]\nuser = \"root\"\n");
    sandbox.json(&["up", "--recreate", "--fresh"]);
    assert_eq!(user(&sandbox), "0");
    sandbox.config("[[policy]]\nname = \"u\"\nscript = \"policies/u.rhai\"\n");
    sandbox.write("config/policies/u.rhai", "fn security_profile(ctx) { ctx.spec.user = \"4000:4000\"; }");
    sandbox.json(&["up", "--recreate"]);
    assert_eq!(user(&sandbox), "4000");
    sandbox.config("");
    // An image that names a user decides, unless it names root.
    for (line, is) in [("USER 2222:2222", "2222"), ("USER root", "1577"), ("USER 0:0", "1577")] {
        sandbox.write("image/Dockerfile", "");
        let context = sandbox.folder("image");
        sandbox.write("image/Dockerfile", format!("FROM {BASE}\n{line}\n"));
        let built =
            sandbox.json(&["image", "build", context.to_str().unwrap()])["reference"].as_str().unwrap().to_owned();
        sandbox.env("WHARF_WORKSPACE_IMAGE", &built);
        let plan = sandbox.json(&["plan"]);
        sandbox.json(&["up", "--recreate"]);
        assert_eq!(user(&sandbox), is, "{line}");
        assert_eq!(plan["spec"]["user"], if is == "2222" { json!("2222:2222") } else { json!("1577:1600") }, "{line}");
        // The next request gives the same workspace.
        assert_eq!(sandbox.json(&["up"])["state"], "running", "{line}");
        sandbox.json(&["plan", "--diff"]);
    }
    // A project of root still runs as root.
    sandbox.env("WHARF_WORKSPACE_IMAGE", BASE);
    sandbox.json(&["down"]);
    chown(&sandbox, "0:0");
    sandbox.json(&["up"]);
    assert_eq!(user(&sandbox), "0");
}

#[test]
fn a_devcontainer_file_without_a_user_means_the_images_and_one_with_a_user_that_user() {
    let sandbox = owned("1000:1000");
    let file = |user: &str| format!(r#"{{"image":"{BASE}"{user},"postCreateCommand":"id -u > /tmp/ran"}}"#);
    for (user, is) in [("", "0"), (r#","remoteUser":"1000""#, "1000")] {
        sandbox.write("project/.devcontainer.json", file(user));
        let made = sandbox.json(&["up", "--recreate"]);
        assert_eq!(made["degraded"], json!(null), "{made}");
        assert_eq!(sandbox.sh("cat /tmp/ran").trim(), is, "{user}");
    }
}

#[test]
fn a_strict_profile_leaves_the_owner_a_home_and_an_image_without_users_gets_one() {
    let sandbox = owned("1577:1600");
    sandbox.json(&["up", "--label", "security=strict"]);
    assert_eq!(sandbox.sh("id -u").trim(), "1577");
    sandbox.sh("touch ~/x");
    // An image that contains only a shell.
    let sandbox = owned("1577:1600");
    let name = format!("{}-bare", sandbox.name());
    let body = json!({ "Image": BASE, "Cmd": ["sh", "-c", "rm -rf /etc/passwd /etc/group"], "Labels": { crate::support::sandbox::LABEL_SANDBOX: sandbox.name() } });
    let id = engine::post("/containers/create", &body).done().json()["Id"].as_str().unwrap().to_owned();
    engine::post(&format!("/containers/{id}/start"), &json!({})).done();
    engine::call("POST", &format!("/containers/{id}/wait"), b"");
    engine::post(&format!("/commit?container={id}&repo={name}&tag=latest"), &json!({})).done();
    engine::delete(&format!("/containers/{id}?force=true"));
    let made = sandbox.run(&["--json", "up", "--image", &name, "--", "sh"]);
    let gone = sandbox.run(&["exec", "--", "sh", "-c", "cd && pwd && touch x && id -un"]);
    sandbox.run(&["down"]);
    engine::delete(&format!("/images/{name}?force=true"));
    made.ok();
    assert_eq!(gone.ok().text().split_whitespace().collect::<Vec<_>>(), [home().as_str(), "workspace"]);
}

#[test]
fn a_command_that_fails_for_want_of_root_names_the_way_back() {
    let sandbox = owned("1577:1600");
    let script = r#"fn post_start(ctx) { ctx.run(["sh", "-c", "mkdir /etc/tool"]); }"#;
    sandbox.config("[[policy]]\nname = \"p\"\nscript = \"policies/p.rhai\"\n");
    sandbox.write("config/policies/p.rhai", script);
    let made = sandbox.json(&["up"]);
    let degraded = made["degraded"].as_str().unwrap();
    assert!(degraded.contains("--user root") && degraded.contains("workspace.user"), "{degraded}");
    let made = sandbox.json(&["up", "--recreate", "--user", "root"]);
    assert_eq!(made["degraded"], json!(null), "{made}");
}

#[test]
fn a_caller_of_the_api_stays_the_decided_user() {
    let sandbox = owned("1577:1600");
    sandbox.up();
    let id = sandbox.id();
    let serving = Serving::start(&sandbox, &[]);
    let run = |user: &str| {
        let body = json!({ "command": ["id", "-u"], "user": user }).to_string();
        api::post(&sandbox, &format!("/v1/workspaces/{id}/exec"), &body)
    };
    for user in ["root", "0", "00", "0:0", "1577:0", "1578", "nobody"] {
        assert_eq!(run(user).problem(403), "exec-user", "{user}");
        let there = sandbox.run(&[
            "--server",
            &format!("unix://{}", api::socket(&sandbox).display()),
            "exec",
            "-u",
            user,
            "--",
            "id",
        ]);
        assert_ne!(there.code, 0, "{user}");
        assert!(there.stderr.contains("allow.exec_users"), "{}", there.stderr);
    }
    for user in ["1577", "1577:1600"] {
        assert_eq!(run(user).ok()["stdout"], "1577\n", "{user}");
    }
    serving.end();
    sandbox.append_config("[allow]\nexec_users = [\"root\"]\n");
    let serving = Serving::start(&sandbox, &[]);
    assert_eq!(run("root").ok()["stdout"], "0\n");
    assert_eq!(run("1578").problem(403), "exec-user");
    serving.end();
}

#[test]
fn files_that_a_caller_of_the_api_sends_belong_to_the_decided_user_and_run_as_nobody_else() {
    let sandbox = owned("1577:1600");
    sandbox.up();
    let id = sandbox.id();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o6755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(5);
    builder.append_data(&mut header, "rootsh", &b"#!sh\n"[..]).unwrap();
    let mut device = tar::Header::new_gnu();
    device.set_entry_type(tar::EntryType::Block);
    device.set_mode(0o666);
    device.set_device_major(8).unwrap();
    device.set_device_minor(0).unwrap();
    device.set_size(0);
    builder.append_data(&mut device, "disk", std::io::empty()).unwrap();
    let archive = builder.into_inner().unwrap();
    let put = |body: &[u8]| {
        let head = format!(
            "PUT /v1/workspaces/{id}/files?path=/workspace HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-tar\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        api::raw(&api::socket(&sandbox), &[head.as_bytes(), body].concat())
    };
    let serving = Serving::start(&sandbox, &[]);
    put(&archive).ok();
    let made = std::fs::metadata(sandbox.path("project/rootsh")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (1577, 1600, 0o755));
    assert!(!sandbox.path("project/disk").exists());
    assert_eq!(put(&[b'x'; 2048]).status, 400);
    serving.end();
}

#[test]
fn a_volume_of_an_image_is_no_disk_beside_a_read_only_root() {
    let mut sandbox = Sandbox::new();
    let context = sandbox.folder("image");
    sandbox.write("image/Dockerfile", format!("FROM {BASE}\nVOLUME [\"/opt2\", \"/srv/data/\"]\n"));
    let built = sandbox.json(&["image", "build", context.to_str().unwrap()])["reference"].as_str().unwrap().to_owned();
    sandbox.env("WHARF_WORKSPACE_IMAGE", &built);
    let plan = sandbox.json(&["plan", "--label", "security=strict"]);
    assert!(plan["spec"]["tmpfs"]["/opt2"].is_object() && plan["spec"]["tmpfs"]["/srv/data"].is_object(), "{plan}");
    let made = sandbox.json(&["up", "--label", "security=strict"]);
    let mounts = engine::inspect(made["container_id"].as_str().unwrap())["Mounts"].clone();
    assert!(mounts.as_array().unwrap().iter().all(|mount| mount["Type"] != "volume"), "{mounts}");
    assert_eq!(sandbox.sh("df /opt2 | tail -1 | cut -d' ' -f1").trim(), "tmpfs");
    // The next request gives the same workspace, and a named volume stays a named volume.
    sandbox.json(&["up", "--label", "security=strict"]);
    sandbox.json(&["up", "--label", "security=strict", "--recreate", "--mount", "kept:/opt2"]);
    assert_ne!(sandbox.sh("df /opt2 | tail -1 | cut -d' ' -f1").trim(), "tmpfs");
    sandbox.json(&["down", "--volumes"]);
}
