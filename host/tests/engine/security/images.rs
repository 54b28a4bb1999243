//! An image's configuration for its containers: facts for policies and fields of the spec, and nothing else.

use serde_json::{Value, json};

use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::Sandbox;

/// All settings that an image can have. Its entry point marks each start with a line.
fn dockerfile(more: &str) -> String {
    format!(
        "FROM {BASE}\nENTRYPOINT [\"sh\", \"-c\", \"echo entered; exec \\\"$0\\\" \\\"$@\\\"\"]\nCMD [\"sleep\", \"600\"]\n\
         VOLUME [\"/data\", \"/opt2/\"]\nHEALTHCHECK --interval=1s CMD echo well\nLABEL licence=gpl\n{more}\n"
    )
}

/// Builds the image of a project by name before it is used.
fn build(sandbox: &Sandbox, more: &str) -> String {
    sandbox.write("context/Dockerfile", dockerfile(more));
    let folder = sandbox.path("context");
    sandbox.json(&["image", "build", folder.to_str().unwrap()])["reference"].as_str().unwrap().to_owned()
}

/// Returns the workspace's spec from the store.
fn spec_of(sandbox: &Sandbox) -> Value {
    let id = sandbox.id().parse().unwrap();
    serde_json::to_value(sandbox.store().workspace(&id).unwrap().unwrap().draft.spec).unwrap()
}

fn inspect(made: &Value) -> Value {
    engine::inspect(made["container_id"].as_str().unwrap())
}

/// Returns the names of a container's volumes, by target.
fn volumes(container: &Value) -> std::collections::BTreeMap<String, String> {
    let volumes = container["Mounts"].as_array().unwrap().iter().filter(|mount| mount["Type"] == "volume");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    volumes.map(|mount| (text(&mount["Destination"]), text(&mount["Name"]))).collect()
}

#[test]
fn policies_see_all_that_an_image_says_and_it_stands_in_the_spec() {
    let sandbox = Sandbox::new();
    let image = build(&sandbox, "USER 1234");
    let script = r#"
        fn security_profile(ctx) {
            if ctx.spec.user != ctx.image_config.user { ctx.deny("user", "the image's user is not in the spec"); }
        }
        fn pre_create(ctx) {
            let image = ctx.image_config;
            ctx.spec.env.VOLUMES = "";
            for one in image.volumes { ctx.spec.env.VOLUMES += one + " "; }
            ctx.spec.env.LICENCE = image.labels.licence;
            ctx.spec.env.ENTERS = ctx.spec.entrypoint[0] + " " + image.entrypoint[0];
            ctx.spec.env.CHECKS = ctx.spec.health_check.command[2];
            ctx.spec.env.PLATFORM = image.platform;
        }
        fn pre_exec(ctx) {
            if ctx.image_config.labels.licence == "gpl" { ctx.exec.env.KNOWN = "yes"; }
        }
    "#;
    sandbox.script("look", script);
    let command = ["--", "sleep", "600"];
    let plan = sandbox.json(&[&["plan", "--image", &image], &command[..]].concat());
    let made = sandbox.json(&[&["up", "--image", &image], &command[..]].concat());
    let spec = &plan["spec"];
    assert_eq!(spec_of(&sandbox), *spec, "plan and up decide the same");
    let env = |name: &str| spec["env"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(env("VOLUMES"), "/data /opt2/ ");
    assert_eq!((env("LICENCE"), env("ENTERS"), env("CHECKS")), ("gpl".into(), "sh sh".into(), "echo well".into()));
    assert!(env("PLATFORM").starts_with("linux/"), "{}", env("PLATFORM"));
    assert_eq!(spec["user"], "1234");
    for field in ["entrypoint", "user", "health_check"] {
        let history = plan["fields"][field]["history"].as_array().unwrap();
        assert_eq!(history.last().unwrap()["by"]["at"], "the image", "{field}: {history:?}");
    }
    assert_eq!(sandbox.sh("echo $KNOWN").trim(), "yes");
    assert!(sandbox.run(&["logs"]).ok().text().contains("entered"));
    // Each volume belongs to the workspace, by name.
    let (volumes, id) = (volumes(&inspect(&made)), sandbox.id());
    assert_eq!(volumes.keys().collect::<Vec<_>>(), ["/data", "/opt2"]);
    for (target, name) in &volumes {
        assert_eq!(spec["mounts"][target]["source"], json!(name));
        assert!(name.starts_with(&format!("wharf-{id}-")), "{name}");
    }
    // The same request gives the same workspace.
    assert_eq!(sandbox.json(&["up", "--image", &image])["container_id"], made["container_id"]);
    sandbox.run(&["exec", "--user", "root", "--", "sh", "-c", "echo kept > /data/x"]).ok();
    sandbox.run(&["up", "--recreate", "--image", &image, "--env", "MORE=1"]).ok();
    assert_eq!(sandbox.sh("cat /data/x").trim(), "kept");
    sandbox.run(&["down", "--volumes"]).ok();
    let left: Vec<_> =
        engine::volumes().into_iter().filter(|one| volumes.values().any(|name| one["Name"] == json!(name))).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_a_policy_takes_away_of_an_image_is_gone() {
    let sandbox = Sandbox::new();
    let image = build(&sandbox, "");
    let script = r#"
        fn pre_create(ctx) {
            ctx.spec.entrypoint = [];
            ctx.spec.health_check = ();
            ctx.spec.tmpfs["/data"] = #{ size: mib(1) };
        }
    "#;
    sandbox.script("take", script);
    let made = sandbox.json(&["up", "--image", &image, "--", "sleep", "601"]);
    let container = inspect(&made);
    assert_eq!(container["Path"].as_str().unwrap().rsplit('/').next(), Some("sleep"), "{}", container["Path"]);
    assert_eq!(container["State"]["Health"], Value::Null);
    assert!(!sandbox.run(&["logs"]).ok().text().contains("entered"));
    assert_eq!(
        volumes(&container).keys().collect::<Vec<_>>(),
        ["/opt2"],
        "a memory file system is in the place of /data"
    );
    let differences = sandbox.run(&["up", "--image", &image, "--", "sleep", "601"]).ok();
    assert!(!differences.stderr.contains("differ"), "{}", differences.stderr);
    sandbox.run(&["down", "--volumes"]).ok();
}

#[test]
fn beside_a_read_only_root_volumes_of_an_image_are_memory() {
    let sandbox = Sandbox::new();
    let image = build(&sandbox, "");
    sandbox.script("tight", "fn security_profile(ctx) { ctx.spec.security.read_only_root = true; }");
    let made = sandbox.json(&["up", "--image", &image]);
    assert_eq!(volumes(&inspect(&made)).len(), 0);
    let spec = spec_of(&sandbox);
    assert!(spec["tmpfs"]["/data"].is_object() && spec["tmpfs"]["/opt2"].is_object(), "{}", spec["tmpfs"]);
    assert_eq!(sandbox.sh("touch /data/x /opt2/x && ! touch /y 2>/dev/null && echo tight").trim(), "tight");
}

/// A policy about an image's configuration also applies if the image is missing when the policies are first called.
#[test]
fn an_image_that_is_built_for_a_workspace_is_judged_before_the_workspace_is_made() {
    for devcontainer in [false, true] {
        let mut sandbox = Sandbox::new();
        sandbox.unset("WHARF_WORKSPACE_IMAGE");
        let script = r#"
            fn pre_create(ctx) {
                if ctx.image_config != () && "licence" in ctx.image_config.labels { ctx.deny("licence", "no gpl here"); }
            }
        "#;
        sandbox.script("licences", script);
        let refused = if devcontainer {
            sandbox.write("project/.devcontainer/Dockerfile", dockerfile(""));
            let asked = r#"{ "build": { "dockerfile": "Dockerfile" } }"#;
            sandbox.write("project/.devcontainer/devcontainer.json", asked);
            sandbox.run(&["--json", "up"])
        } else {
            sandbox.write("project/Dockerfile", dockerfile(""));
            sandbox.run(&["--json", "up", "--build", "."])
        };
        assert_eq!(refused.error()["code"], "licence", "{}", refused.stderr);
        assert_eq!(sandbox.own_containers().len(), 0);
        // The records have both calls: first the image was unknown, then known.
        let records = sandbox.run(&["--json", "audit"]).ok().text();
        let times = records.lines().filter(|line| line.contains("\"hook\":\"pre-create\",\"now_ms\"")).count();
        assert_eq!(times, 2, "{records}");
        for image in sandbox.json(&["image", "ls"]).as_array().unwrap() {
            sandbox.run(&["image", "rm", image["reference"].as_str().unwrap()]).ok();
        }
    }
}

#[test]
fn an_image_that_says_more_than_can_be_shown_is_refused_and_so_is_a_volume_over_the_root() {
    let sandbox = Sandbox::new();
    let labels: String = (0..1_001).map(|n| format!(" l{n}=x")).collect();
    sandbox.write("context/Dockerfile", format!("FROM {BASE}\nLABEL{labels}\n"));
    let folder = sandbox.path("context");
    let build = |sandbox: &Sandbox| {
        sandbox.json(&["image", "build", folder.to_str().unwrap()])["reference"].as_str().unwrap().to_owned()
    };
    let image = build(&sandbox);
    let refused = sandbox.run(&["--json", "up", "--image", &image]);
    assert!(refused.error()["message"].as_str().unwrap().contains("labels"), "{}", refused.stderr);
    sandbox.write("context/Dockerfile", format!("FROM {BASE}\nVOLUME [\"/a/../..\"]\n"));
    let image = build(&sandbox);
    let refused = sandbox.run(&["--json", "up", "--image", &image]);
    assert!(refused.error()["message"].as_str().unwrap().contains("volume"), "{}", refused.stderr);
    assert_eq!(sandbox.own_containers().len(), 0);
}

#[test]
fn a_workspace_of_an_earlier_version_says_what_it_lacks_until_it_is_recreated() {
    let sandbox = Sandbox::new();
    sandbox.up();
    assert_eq!(sandbox.json(&["inspect"])["outdated"], Value::Null);
    let doctor = || sandbox.run(&["doctor"]).text();
    assert!(!doctor().contains("earlier version"));
    // As an earlier version wrote it.
    let id = sandbox.id();
    sandbox.store().update_workspace(&id.parse().unwrap(), |workspace| workspace.image_config = None).unwrap();
    let said = sandbox.run(&["inspect"]).ok().text();
    assert!(said.contains("outdated") && said.contains("wharf up --recreate"), "{said}");
    assert!(sandbox.run(&["up"]).ok().text().contains("outdated"));
    let said = doctor();
    assert!(said.contains("earlier version") && said.contains(&id), "{said}");
    sandbox.run(&["up", "--recreate", "--env", "NEW=1"]).ok();
    assert_eq!(sandbox.json(&["inspect"])["outdated"], Value::Null);
}

/// A name that moves to another image between decision and creation: the image that the policies judged would not be
/// the one that runs.
#[test]
fn a_name_that_another_image_has_by_the_time_of_the_creation_makes_no_workspace() {
    let sandbox = Sandbox::new();
    let name = format!("{}-moved", sandbox.name());
    let (repository, tag) = (name.clone(), format!("/images/{BASE}/tag?repo={name}&tag=1"));
    engine::post(&tag, &json!({})).done();
    let other = build(&sandbox, "");
    let retag = format!("/images/{other}/tag?repo={repository}&tag=1");
    let relay = crate::support::fake_daemon::relay(&sandbox.path("relay.sock"), move |request| {
        if request.starts_with("POST") && request.contains("/containers/create") {
            engine::post(&retag, &json!({})).done();
        }
        true
    });
    let image = format!("{name}:1");
    let refused = sandbox.run(&["--json", "--engine", &relay, "up", "--image", &image, "--", "sleep", "600"]);
    assert_ne!(refused.code, 0, "{}", refused.text());
    assert!(refused.error()["message"].as_str().unwrap().contains("another image"), "{}", refused.stderr);
    assert_eq!(sandbox.own_containers().len(), 0);
    engine::delete(&format!("/images/{image}")).done();
}
