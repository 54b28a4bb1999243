//! Identity: a workspace is identified by its project, not by its hash, and labels do not prove the owner of a
//! container.

use serde_json::{Value, json};

use crate::support::engine_api::{self as engine, BASE, label};
use crate::support::sandbox::{LABEL_SANDBOX, Sandbox};
use wharf::store::Store;
use wharf::workspace::WorkspaceId;

/// Builds an image with these labels outside Wharf, as a registry or a colleague may provide it.
fn image_with_labels(sandbox: &Sandbox, name: &str, labels: &Value) {
    let mut all = labels.clone();
    all[LABEL_SANDBOX] = json!(sandbox.name());
    let made = engine::post("/containers/create", &json!({ "Image": BASE, "Cmd": ["sh"], "Labels": all }));
    let id = made.done().json()["Id"].as_str().unwrap().to_owned();
    engine::post(&format!("/commit?container={id}&repo={name}&tag=latest"), &json!({})).done();
    engine::delete(&format!("/containers/{id}?force=true")).done();
}

/// Gives a workspace the id that an earlier version would have given it.
fn age(sandbox: &Sandbox, from: &str, to: &str) {
    let store = Store::open(&sandbox.path("state")).unwrap();
    let from: WorkspaceId = from.parse().unwrap();
    let mut workspace = store.workspace(&from).unwrap().unwrap();
    workspace.id = to.parse().unwrap();
    store.remove_workspace(&from).unwrap();
    store.put_workspace(&workspace).unwrap();
}

#[test]
fn new_ids_have_64_bits_and_a_project_with_the_same_slug_gets_another_workspace() {
    let sandbox = Sandbox::new();
    let (shop, other) = (sandbox.folder("projects/shop"), sandbox.folder("projects/shop_--._.__"));
    let up = |folder: &std::path::Path| {
        sandbox.run_in(folder, &["--json", "up"]).ok().json()["id"].as_str().unwrap().to_owned()
    };
    let (a, b) = (up(&shop), up(&other));
    let digits = |id: &str| id.rsplit_once('-').map(|(slug, tail)| (slug.to_owned(), tail.len()));
    assert_eq!(digits(&a), Some(("shop".into(), 16)));
    assert_eq!(digits(&b), Some(("shop".into(), 16)));
    assert_ne!(a, b);
}

#[test]
fn an_id_that_is_known_is_only_its_own_projects() {
    let sandbox = Sandbox::new();
    let (victim, attacker) = (sandbox.folder("projects/shop"), sandbox.folder("projects/other/shop"));
    sandbox.run_in(&victim, &["--json", "up", "--mount", "shopdata:/data"]).ok();
    // The attacker's project hashes to the id of the victim's workspace.
    let (old, taken) = (sandbox.id_of("shop", &victim), sandbox.id_of("shop", &attacker));
    age(&sandbox, &old, &taken);
    for verb in [&["plan"][..], &["up"], &["up", "--recreate"]] {
        let refused = sandbox.run_in(&attacker, &[&["--json"], verb].concat());
        let error = refused.error();
        assert_eq!(error["code"], "conflict", "{verb:?}: {}", refused.stderr);
        assert!(error["message"].as_str().unwrap().contains("projects/shop"), "{error}");
        assert!(error["remedy"].as_str().unwrap().contains("--name"), "{error}");
    }
    // With another name it is an ordinary workspace; the victim's keeps its id.
    let made = sandbox.run_in(&attacker, &["--json", "up", "--name", "mine"]).ok().json();
    assert_ne!(made["id"], json!(taken));
    assert_eq!(sandbox.run_in(&victim, &["--json", "plan"]).ok().json()["id"], json!(taken));
    // Its container has the old labels, so the store identifies it.
    engine::delete(&format!("/containers/wharf-{old}?force=true")).done();
    let _ = engine::delete("/volumes/shopdata");
}

#[test]
fn an_image_that_calls_itself_a_sidecar_is_none() {
    let sandbox = Sandbox::new();
    let (a, b) = (sandbox.folder("a"), sandbox.folder("b"));
    sandbox.run_in(&a, &["--json", "up", "--label", "team=a"]).ok();
    let victim = sandbox.id_of("a", &a);
    let image = format!("{}-part-of", sandbox.name());
    let forged = json!({
        "wharf.workspace.part-of": victim,
        "wharf.workspace.id": victim,
        "wharf.network": "own@wharf-x",
        "wharf.seccomp": "mine@0",
        "wharf.attempt": "1",
        "wharf.something": "x",
    });
    image_with_labels(&sandbox, &image, &forged);
    let print = "echo team-b-private; sleep 600";
    sandbox.run_in(&b, &["--json", "up", "--image", &image, "--mount", "bdata:/d", "--", "sh", "-c", print]).ok();
    let own = sandbox.id_of("b", &b);
    let container = engine::inspect(&format!("wharf-{own}"));
    let is = |key: &str| label(&container["Config"], key).unwrap_or_default().to_owned();
    assert_eq!((is("wharf.workspace.part-of"), is("wharf.something")), (String::new(), String::new()));
    assert_eq!(is("wharf.workspace.id"), own);
    let of_victim = |args: &[&str]| sandbox.run_in(&a, &[args, &[&victim[..]]].concat());
    assert!(!of_victim(&["logs"]).ok().text().contains("team-b-private"));
    of_victim(&["stop", "-t", "0s"]).ok();
    let running = |id: &str| sandbox.json(&["inspect", id])["state"] == "running";
    assert!(running(&own), "it was stopped with another workspace");
    of_victim(&["start"]).ok();
    of_victim(&["down", "--volumes"]).ok();
    assert!(running(&own) && engine::volumes().iter().any(|volume| volume["Name"] == "bdata"));
    sandbox.run_in(&b, &["down", "--volumes", &own]).ok();
    engine::delete(&format!("/images/{image}?force=true")).done();
}

#[test]
fn a_container_that_an_earlier_wharf_made_of_such_an_image_is_none_either() {
    let sandbox = Sandbox::new();
    let (a, b) = (sandbox.folder("a"), sandbox.folder("b"));
    sandbox.run_in(&a, &["--json", "up"]).ok();
    let made = sandbox.run_in(&b, &["--json", "up"]).ok().json();
    let (victim, own) = (sandbox.id_of("a", &a), sandbox.id_of("b", &b));
    // The same container as an old version would have created it: with the label of its image.
    let was = engine::inspect(made["container_id"].as_str().unwrap());
    let mut labels = was["Config"]["Labels"].clone();
    labels["wharf.workspace.part-of"] = json!(victim);
    engine::delete(&format!("/containers/wharf-{own}?force=true")).done();
    let again = json!({ "Image": BASE, "Cmd": ["sleep", "600"], "Labels": labels });
    let id = engine::post(&format!("/containers/create?name=wharf-{own}"), &again).done().json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    engine::post(&format!("/containers/{id}/start"), &json!({})).done();
    sandbox.store().update_workspace(&own.parse().unwrap(), |workspace| workspace.container_id = id).unwrap();
    sandbox.run_in(&a, &["down"]).ok();
    assert_eq!(sandbox.json(&["inspect", &own])["state"], "running");
    assert_eq!(sandbox.json(&["inspect", &own])["part_of"], Value::Null);
}

#[test]
fn a_container_with_the_name_and_the_labels_of_a_workspaces_own_is_not_taken_for_it() {
    let sandbox = Sandbox::new();
    let made = sandbox.up();
    let own = sandbox.id();
    let labels = engine::inspect(made["container_id"].as_str().unwrap())["Config"]["Labels"].clone();
    engine::delete(&format!("/containers/wharf-{own}?force=true")).done();
    let again = json!({ "Image": BASE, "Cmd": ["sleep", "600"], "Labels": labels });
    let other = engine::post(&format!("/containers/create?name=wharf-{own}"), &again).done().json();
    let other = other["Id"].as_str().unwrap();
    engine::post(&format!("/containers/{other}/start"), &json!({})).done();
    assert_eq!(sandbox.json(&["inspect", &own])["state"], "missing");
    assert_eq!(sandbox.json(&["ls"])[0]["container_id"], Value::Null);
    for args in [&["exec", "--", "true"][..], &["logs"], &["cp", ":/etc/hostname", "copied"], &["start"]] {
        let refused = sandbox.run(args);
        assert_ne!(refused.code, 0, "{args:?}: {}", refused.text());
    }
    let taken = sandbox.run(&["--json", "up"]);
    assert_eq!(taken.error()["code"], "name-taken", "{}", taken.stderr);
    sandbox.run(&["down"]).ok();
    assert_eq!(engine::inspect(other)["State"]["Running"], true);
}

#[test]
fn labels_of_a_dockerfile_steer_no_sweep() {
    let sandbox = Sandbox::new();
    let script = r#"fn cleanup(ctx) { for one in ctx.candidates { if one.kind == "image" { if "keep" in one.labels || "snapshot" in one.labels || "wharf.image.snapshot" in one.labels { ctx.keep(one.id, "a label says so"); } else { ctx.remove(one.id, "nobody uses it"); } } } }"#;
    sandbox.script("keep", script);
    let lines = "LABEL keep=true snapshot=fake team=pay wharf.image.snapshot=x/y wharf.attempt=1";
    sandbox.write("project/Dockerfile", format!("FROM {BASE}\n{lines}\n"));
    let project = sandbox.project();
    let built = sandbox.json(&["image", "build", project.to_str().unwrap()])["reference"].as_str().unwrap().to_owned();
    let report = sandbox.json(&["cleanup", "--dry-run"]);
    let text = report.to_string();
    let lines = report["lines"].as_array().or_else(|| report.as_array()).unwrap_or_else(|| panic!("{text}"));
    let line = lines.iter().find(|line| line["name"] == json!(built) || line["id"] == json!(format!("image:{built}")));
    assert_eq!(
        line.unwrap_or_else(|| panic!("{text}"))["verdict"].as_str().or(line.unwrap()["choice"].as_str()),
        Some("remove"),
        "{text}"
    );
}

#[test]
fn a_project_reads_no_image_or_volume_of_another_and_takes_no_volumes_name() {
    let mut sandbox = Sandbox::new();
    let (victim, project) = (sandbox.folder("victim"), sandbox.folder("evil"));
    sandbox.run_in(&victim, &["--json", "up"]).ok();
    sandbox.run_in(&victim, &["exec", "--", "sh", "-c", "echo secret > /kept"]).ok();
    let kept = sandbox.run_in(&victim, &["--json", "snapshot", "create", "--name", "daily"]).ok().json();
    // Configuration takes precedence over a project.
    sandbox.unset("WHARF_WORKSPACE_IMAGE");
    let (image, id) = (kept["image"].as_str().unwrap().to_owned(), kept["image_id"].as_str().unwrap().to_owned());
    for reference in [image.clone(), id.clone(), id.trim_start_matches("sha256:")[..12].to_owned()] {
        sandbox.write("evil/.devcontainer.json", format!(r#"{{"image":"{reference}"}}"#));
        let refused = sandbox.run_in(&project, &["--json", "up"]);
        assert_eq!(refused.error()["code"], "devcontainer", "{reference}: {}", refused.stderr);
        assert!(
            refused.error()["message"].as_str().unwrap().contains("another")
                || refused.stderr.contains("made for the workspace")
        );
    }
    // The project cannot reach it through its build either, in any instruction.
    std::fs::remove_file(sandbox.path("evil/.devcontainer.json")).unwrap();
    let short = id.trim_start_matches("sha256:")[..12].to_owned();
    for text in [
        format!("FROM {image}"),
        format!("FROM {short}"),
        format!("ARG I={image}\nFROM $I"),
        format!("FROM {BASE}\nCOPY --from={image} /kept /kept"),
        format!("FROM {BASE}\nCOPY \\\n  --from={short} /kept /kept"),
    ] {
        sandbox.write("evil/Dockerfile", &text);
        for args in [&["image", "build", "."][..], &["up", "--build", "."]] {
            let refused = sandbox.run_in(&project, &[&["--json"], args].concat());
            assert_eq!(refused.code, 4, "{text}: {args:?}: {}{}", refused.text(), refused.stderr);
            assert!(refused.stderr.contains("allow.images"), "{text}: {}", refused.stderr);
        }
        sandbox.write("evil/.devcontainer.json", r#"{"build":{"dockerfile":"Dockerfile"}}"#);
        let refused = sandbox.run_in(&project, &["--json", "up"]);
        assert_eq!(refused.code, 4, "{text}: {}", refused.stderr);
        std::fs::remove_file(sandbox.path("evil/.devcontainer.json")).unwrap();
    }
    // A caller on the command line may use it.
    sandbox.run_in(&project, &["--json", "up", "--image", &image, "--pull", "never"]).ok();
    sandbox.run_in(&project, &["down"]).ok();

    sandbox.env("WHARF_WORKSPACE_IMAGE", BASE);
    let name = format!("{}-db", sandbox.name());
    let file = format!(r#"{{"image":"{BASE}","mounts":["source={name},target=/d,type=volume"]}}"#);
    sandbox.write("evil/.devcontainer.json", file);
    sandbox.run_in(&project, &["--json", "up"]).ok();
    let refused = sandbox.run_in(&victim, &["--json", "up", "--name", "db", "--mount", &format!("{name}:/var/lib/db")]);
    assert_eq!(refused.error()["code"], "conflict", "{}", refused.stderr);
    assert!(refused.error()["message"].as_str().unwrap().contains("evil"), "{}", refused.stderr);
    // The volume stays the project's own, and an administrator may permit more.
    sandbox.run_in(&project, &["--json", "up", "--recreate", "--label", "x=1"]).ok();
    sandbox.append_config(&format!("[allow]\nvolumes = [\"{name}\"]\n"));
    sandbox.run_in(&victim, &["--json", "up", "--name", "db", "--mount", &format!("{name}:/var/lib/db")]).ok();
    sandbox.run_in(&victim, &["down", "db"]).ok();
    sandbox.run_in(&project, &["down", "--volumes"]).ok();
    assert!(!engine::volumes().iter().any(|volume| volume["Name"] == json!(name)));
}

#[test]
fn a_sidecar_has_the_labels_of_its_workspace_in_every_hook() {
    let sandbox = Sandbox::new();
    let policy =
        "[[policy]]\nname = \"pay\"\nscript = \"policies/pay.rhai\"\nscope = { labels = { team = \"pay\" } }\n";
    sandbox.config(policy);
    let script = r#"
fn security_profile(ctx) { ctx.spec.security.read_only_root = true; ctx.spec.security.capabilities = []; }
fn pre_create(ctx) { ctx.spec.env.PAY = "1"; }
fn pre_exec(ctx) { ctx.deny("no-commands", "no commands here"); }
"#;
    sandbox.write("config/policies/pay.rhai", script);
    sandbox.json(&["up", "--label", "team=pay"]);
    sandbox.json(&["sidecar", "add", "x", "--image", BASE, "--", "sh", "-c", "sleep 600"]);
    for target in ["project", "project/x"] {
        let refused = sandbox.run(&["--json", "exec", target, "--", "id"]);
        assert!(refused.stderr.contains("no commands here"), "{target}: {}", refused.stderr);
        let id = sandbox.json(&["inspect", target])["container_id"].as_str().unwrap().to_owned();
        let container = engine::inspect(&id);
        assert_eq!(container["HostConfig"]["ReadonlyRootfs"], true, "{target}");
        assert!(container["Config"]["Env"].as_array().unwrap().contains(&json!("PAY=1")), "{target}");
    }
    // It cannot leave the scope with its own label.
    let refused =
        sandbox.run(&["--json", "sidecar", "add", "y", "--image", BASE, "--label", "team=ops", "--", "sleep", "9"]);
    assert_eq!(refused.error()["code"], "bad-request", "{}", refused.stderr);
}

#[test]
fn a_restored_workspace_is_no_looser_than_todays_configuration() {
    let sandbox = Sandbox::new();
    let waivers = r#"[[policy]]
name = "loose"
script = "policies/loose.rhai"
waivers = [
  { field = "security.seccomp", value = "unconfined", until = "2099-01-01", reason = "test" },
  { field = "security.no_new_privileges", value = false, until = "2099-01-01", reason = "test" },
]
[allow]
unconfined = true
"#;
    sandbox.config(waivers);
    let script = r#"fn security_profile(ctx) { ctx.spec.security.seccomp = "unconfined"; ctx.spec.security.no_new_privileges = false; }"#;
    sandbox.write("config/policies/loose.rhai", script);
    sandbox.json(&["up"]);
    let status = |sandbox: &Sandbox, target: &str| {
        let text = sandbox
            .run(&["exec", target, "--", "grep", "-E", "^(CapBnd|NoNewPrivs|Seccomp):", "/proc/1/status"])
            .ok()
            .text();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert!(status(&sandbox, "project").contains("NoNewPrivs: 0 Seccomp: 0"));
    sandbox.json(&["snapshot", "create", "--name", "then"]);
    // The waivers, the policy and the capabilities are withdrawn.
    sandbox.config("[workspace]\ncapabilities = []\n[[policy]]\nname = \"image\"\nbuiltin = \"image-selector\"\n");
    let snapshot = format!("{}/then", sandbox.id());
    sandbox.json(&["snapshot", "restore", &snapshot, "--as", "old"]);
    let now = status(&sandbox, "old");
    assert_eq!(now, "CapBnd: 0000000000000000 NoNewPrivs: 1 Seccomp: 2", "{now}");
}
