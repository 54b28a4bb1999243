//! Images: built, pulled despite errors, listed and removed.

use serde_json::{Value, json};

use crate::support::engine_api::{self as engine, BASE};
use crate::support::registry::{Registry, has_image};
use crate::support::sandbox::Sandbox;

/// A sandbox with a build folder; its images are removed with it.
struct Built(Sandbox);

/// Returns the first lines of a Dockerfile. The containers of a build inherit the label, by which concurrent tests
/// recognize them.
fn from(sandbox: &Sandbox, stage: &str) -> String {
    format!("FROM {BASE}{stage}\nLABEL {}={}\n", crate::support::sandbox::LABEL_SANDBOX, sandbox.name())
}

impl Built {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let rest = "ARG WORD=none\nCOPY . /src\nRUN echo $WORD > /word\nFROM base AS extra\nRUN echo extra > /extra\n";
        sandbox.write("project/Dockerfile", from(&sandbox, " AS base") + rest);
        sandbox.write("project/.dockerignore", "secret*\n.git\n!secret.pub\n");
        for (name, text) in [("plain", "1"), ("secret.key", "x"), ("secret.pub", "y"), (".git/HEAD", "z")] {
            sandbox.write(&format!("project/{name}"), text);
        }
        Self(sandbox)
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        let host = self.0.host();
        for container in self.0.own_containers() {
            engine::delete(&format!("/containers/{}?force=true", container["Id"].as_str().unwrap_or_default()));
        }
        // The layers of a failed build, or of a stage, only have the label of the Dockerfile.
        let name = self.0.name();
        for image in engine::get("/images/json").as_array().into_iter().flatten() {
            let labels = &image["Labels"];
            if labels["wharf.image.host"] == host.as_str()
                || labels[crate::support::sandbox::LABEL_SANDBOX] == name.as_str()
            {
                engine::delete(&format!("/images/{}?force=true", image["Id"].as_str().unwrap_or_default()));
            }
        }
    }
}

#[test]
fn a_folder_is_built_without_what_dockerignore_leaves_out() {
    let built = Built::new();
    let sandbox = &built.0;
    let output = sandbox.run(&["image", "build", "--build-arg", "WORD=hello", "--target", "base"]).ok();
    assert!(output.stderr.contains("[base 1/3] FROM") && output.stderr.contains("RUN echo"), "{}", output.stderr);
    let reference = output.text().trim().to_owned();
    assert!(reference.starts_with(&format!("wharf/{}:", sandbox.id())), "{reference}");
    let image = engine::get(&format!("/images/{reference}/json"));
    assert_eq!(image["Config"]["Labels"]["wharf.image.host"], sandbox.host());
    sandbox.json(&["up", "--image", &reference, "--pull", "never"]);
    assert_eq!(
        sandbox.sh("cd /src; find . -type f | sort; cat /word; ls /extra 2>/dev/null || true"),
        "./.dockerignore\n./Dockerfile\n./plain\n./secret.pub\nhello\n"
    );
    let listed = sandbox.json(&["image", "ls"]);
    assert_eq!((&listed[0]["reference"], &listed[0]["origin"]), (&json!(reference), &json!("built")));

    // A container that another client creates from it belongs to that client.
    let body = json!({ "Image": reference, "Labels": { crate::support::sandbox::LABEL_SANDBOX: sandbox.name() } });
    let stranger = engine::post("/containers/create", &body).done().json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.own_containers().len(), 1);
    assert_eq!(sandbox.json(&["ls"]).as_array().map(Vec::len), Some(1));
    engine::delete(&format!("/containers/{stranger}")).done();

    // The container uses it, so it stays; it is removed afterwards.
    let busy = sandbox.run(&["--json", "image", "rm", &reference]);
    assert_eq!((busy.code, &busy.error()["code"]), (1, &json!("conflict")), "{}", busy.stderr);
    assert_eq!(sandbox.json(&["image", "prune"]), json!([]));
    sandbox.json(&["down"]);
    assert_eq!(sandbox.json(&["image", "prune"]), json!([reference]));
    assert!(!has_image(&reference) && has_image(BASE));
}

#[test]
fn a_dockerfile_that_dockerignore_leaves_out_is_not_in_the_image() {
    let built = Built::new();
    let sandbox = &built.0;
    for patterns in ["*\n!plain\n", "Dockerfile\n.dockerignore\n", "**\n!plain\n"] {
        sandbox.write("project/.dockerignore", patterns);
        sandbox.write("project/Dockerfile", from(sandbox, "") + "COPY . /src/\n");
        sandbox.write("project/plain", patterns);
        let reference = sandbox.run(&["image", "build"]).ok().text().trim().to_owned();
        sandbox.json(&["up", "--image", &reference, "--pull", "never", "--recreate"]);
        let there = sandbox.sh("ls -A /src");
        assert!(there.contains("plain") && !there.contains("ocker"), "{patterns:?}: {there}");
    }
}

#[test]
fn up_builds_once_and_tells_when_the_folder_has_changed() {
    let built = Built::new();
    let sandbox = &built.0;
    let project = sandbox.project().display().to_string();
    let up = sandbox.json(&["up", "--build", &project]);
    assert_eq!(up["image_digest"], Value::Null);
    assert!(up["image_id"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(sandbox.sh("cat /src/plain /extra"), "1extra\n");
    // The same folder: nothing to build, nothing to change. Ignored files do not matter.
    sandbox.write("project/secret.key", "another");
    assert_eq!(sandbox.json(&["up", "--build", &project])["container_id"], up["container_id"]);
    sandbox.write("project/plain", "2");
    let differs = sandbox.run(&["--json", "up", "--build", &project]);
    assert_eq!((differs.code, &differs.error()["code"]), (7, &json!("spec-differs")), "{}", differs.stderr);
    let anew = sandbox.json(&["up", "--build", &project, "--recreate"]);
    assert_ne!(anew["container_id"], up["container_id"]);
    assert_eq!(sandbox.sh("cat /src/plain"), "2");
}

#[test]
fn a_build_that_fails_leaves_no_workspace_and_says_which_step() {
    let built = Built::new();
    let sandbox = &built.0;
    let project = sandbox.project().display().to_string();
    sandbox.write("project/Dockerfile", from(sandbox, "") + "RUN echo before; exit 3\n");
    sandbox.refused(&["up", "--build", &project], 1, "build-failed", &["exit 3"]);
    sandbox.write("project/Dockerfile", "NONSENSE\n");
    sandbox.refused(&["up", "--build", &project], 1, "build-failed", &["NONSENSE"]);
    std::fs::remove_file(sandbox.path("project/Dockerfile")).unwrap();
    sandbox.refused(&["up", "--build", &project], 2, "bad-request", &["Dockerfile"]);
    sandbox.write("project/Dockerfile", from(sandbox, ""));
    sandbox.write("project/.dockerignore", "[z\n");
    sandbox.refused(&["up", "--build", &project], 2, "bad-request", &["line 1 of .dockerignore"]);
    sandbox.refused(&["up", "--build", "/no/such/folder"], 2, "bad-request", &["/no/such/folder"]);
}

#[test]
fn what_a_policy_denies_is_not_built() {
    let built = Built::new();
    let sandbox = &built.0;
    sandbox.script(
        "no-builds.rhai",
        "fn select_image(ctx) { if ctx.spec.image.reference.starts_with(\"wharf/\") { ctx.deny(\"no-builds\", \"use a released image\"); } }",
    );
    let before = engine::get("/images/json").as_array().unwrap().len();
    let project = sandbox.project().display().to_string();
    let plan = sandbox.run(&["--json", "plan", "--build", &project]);
    assert_eq!(plan.code, 4, "{}", plan.stderr);
    sandbox.refused(&["up", "--build", &project], 4, "no-builds", &["released"]);
    let own = format!("wharf/{}", sandbox.id());
    assert!(!engine::get("/images/json").to_string().contains(&own), "{before}");
}

#[test]
fn the_name_and_the_images_of_others_are_left_alone() {
    let built = Built::new();
    let sandbox = &built.0;
    let taken = sandbox.run(&["--json", "image", "build", "--tag", BASE]);
    assert_eq!((taken.code, &taken.error()["code"]), (1, &json!("not-ours")), "{}", taken.stderr);
    sandbox.refused(&["image", "build", "--tag", "Bad:Tag:x"], 2, "bad-request", &["the tag 'Bad:Tag:x'"]);
    let refused = sandbox.run(&["--json", "image", "rm", BASE]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-ours")), "{}", refused.stderr);
    assert_eq!(sandbox.run(&["image", "rm", "no-such-image"]).code, 1);
    assert_eq!(sandbox.json(&["image", "prune"]), json!([]));
    assert!(has_image(BASE));
    // Pulled although it already existed: it still does not belong to Wharf.
    let registry = Registry::new();
    let (name, tag) = (registry.reference.replace(":1", ""), "1");
    engine::call("POST", &format!("/images/create?fromImage={name}&tag={tag}"), b"").done();
    sandbox.run(&["image", "pull", &registry.reference]).ok();
    assert_eq!(sandbox.json(&["image", "ls"]), json!([]));
    assert!(has_image(&registry.reference));
}

#[test]
fn a_registry_that_fails_for_a_moment_is_asked_again() {
    let sandbox = Sandbox::new();
    let registry = Registry::new();
    registry.fail_next(1);
    let up = sandbox.run(&["--json", "up", "--image", &registry.reference]).ok().json();
    let digest = up["image_digest"].as_str().unwrap();
    assert!(digest.contains("wharf-test/image@sha256:"), "{digest}");
    assert_eq!(sandbox.json(&["image", "ls"])[0]["origin"], "pulled");
    // A permanent failure is reported at once.
    let missing = registry.reference.replace(":1", ":2");
    let output = sandbox.run(&["--json", "image", "pull", &missing]);
    assert_eq!((output.code, &output.error()["code"]), (1, &json!("pull-failed")), "{}", output.stderr);
    assert!(!output.stderr.contains("trying again"), "{}", output.stderr);
    // The registry removes its image when it ends, and then the image must not be in use.
    sandbox.json(&["down"]);
}

#[test]
fn logins_come_from_dockers_own_config_and_from_credential_helpers() {
    let mut sandbox = Sandbox::new();
    let registry = Registry::new();
    let host = registry.reference.split('/').next().unwrap().to_owned();
    // "ada:correct-horse"
    registry.protect("Basic YWRhOmNvcnJlY3QtaG9yc2U=");
    let refused = sandbox.run(&["--json", "image", "pull", &registry.reference]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("pull-failed")), "{}", refused.stderr);

    sandbox
        .write("docker/config.json", json!({ "auths": { &host: { "auth": "YWRhOmNvcnJlY3QtaG9yc2U=" } } }).to_string());
    sandbox.env("DOCKER_CONFIG", &sandbox.path("docker").display().to_string());
    let pulled = sandbox.run(&["-vv", "image", "pull", &registry.reference]).ok();
    assert!(!pulled.stderr.contains("correct-horse") && !pulled.stderr.contains("YWRh"), "{}", pulled.stderr);
    sandbox.run(&["image", "rm", &registry.reference]).ok();

    let helper = sandbox.write(
        "bin/docker-credential-test",
        format!("#!/bin/sh\nread registry\n[ \"$1 $registry\" = \"get {host}\" ] || exit 1\necho '{{\"Username\":\"ada\",\"Secret\":\"correct-horse\"}}'\n"),
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.write("docker/config.json", json!({ "credHelpers": { &host: "test" } }).to_string());
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    sandbox.env("PATH", &path);
    let pulled = sandbox.run(&["-vv", "image", "pull", &registry.reference]).ok();
    assert!(!pulled.stderr.contains("correct-horse"), "{}", pulled.stderr);
    sandbox.write("docker/config.json", json!({ "credsStore": "missing" }).to_string());
    sandbox.run(&["image", "rm", &registry.reference]).ok();
    let output = sandbox.run(&["image", "pull", &registry.reference]);
    assert!(output.code == 1 && output.stderr.contains("docker-credential-missing"), "{}", output.stderr);

    // It fails without reading the registry's name.
    sandbox.write("bin/docker-credential-test", "#!/bin/sh\necho 'token expired; log in again' >&2\nexit 1\n");
    sandbox.write("docker/config.json", json!({ "credsStore": "test" }).to_string());
    let output = sandbox.run(&["image", "pull", &registry.reference]);
    let told = "docker-credential-test has failed for";
    assert!(output.stderr.contains(told) && output.stderr.contains("token expired; log in again"), "{}", output.stderr);
    sandbox.write("docker/config.json", "{\"auths\": {,");
    let output = sandbox.run(&["image", "pull", &registry.reference]);
    assert!(
        output.stderr.contains("no logins are read from") && output.stderr.contains("config.json"),
        "{}",
        output.stderr
    );
}

#[test]
fn what_is_built_from_an_image_of_ours_and_a_name_that_somebody_gave_one_are_not_ours() {
    let built = Built::new();
    let sandbox = &built.0;
    let ours = format!("wharf-test-ours-{}:1", sandbox.name());
    sandbox.run(&["image", "build", ".", "--tag", &ours]).ok();
    let his = format!("wharf-test-his-{}", sandbox.name());
    engine::post(&format!("/images/{ours}/tag?repo={his}&tag=alias"), &json!({})).done();
    let made =
        engine::post(&format!("/containers/create?name={his}"), &json!({ "Image": ours, "Cmd": ["true"] })).done();
    let container = made.json()["Id"].as_str().unwrap().to_owned();
    engine::post(&format!("/commit?container={container}&repo={his}&tag=child"), &json!({})).done();
    engine::delete(&format!("/containers/{container}?force=true")).done();

    let listed: Vec<Value> = sandbox.json(&["image", "ls"]).as_array().unwrap().clone();
    assert_eq!(listed.iter().map(|image| image["reference"].clone()).collect::<Vec<_>>(), [json!(ours)]);
    for name in [format!("{his}:alias"), format!("{his}:child")] {
        sandbox.refused(&["image", "rm", &name], 1, "not-ours", &[&name]);
        sandbox.refused(&["image", "build", ".", "--tag", &name], 1, "not-ours", &[&name]);
    }
    // An image that loses its name to a newer one is still ours, and no foreign name is removed with it.
    sandbox.write("project/plain", "2");
    sandbox.run(&["image", "build", ".", "--tag", &ours]).ok();
    sandbox.run(&["image", "prune"]).ok();
    assert!(!has_image(&ours) && has_image(&format!("{his}:alias")) && has_image(&format!("{his}:child")));
    assert_eq!(sandbox.json(&["image", "ls"]), json!([]));
    for name in ["child", "alias"] {
        engine::delete(&format!("/images/{his}:{name}")).done();
    }
}

#[test]
fn a_rebuilt_image_that_lost_its_name_is_pruned() {
    let built = Built::new();
    let sandbox = &built.0;
    let name = format!("wharf-test-ours-{}:1", sandbox.name());
    sandbox.run(&["image", "build", ".", "--tag", &name]).ok();
    let first = engine::get(&format!("/images/{name}/json"))["Id"].as_str().unwrap().to_owned();
    sandbox.write("project/plain", "2");
    sandbox.run(&["image", "build", ".", "--tag", &name]).ok();
    let listed = sandbox.json(&["image", "ls"]);
    assert!(listed.as_array().unwrap().iter().any(|image| image["reference"] == first.as_str()), "{listed}");
    sandbox.run(&["image", "prune"]).ok();
    assert!(!has_image(&first) && !has_image(&name));
}

#[test]
fn a_build_sees_what_a_workspace_may_mount_and_waits_for_no_pipe() {
    let built = Built::new();
    let sandbox = &built.0;
    let elsewhere = sandbox.folder("elsewhere");
    sandbox.write("elsewhere/Dockerfile", "FROM scratch\n");
    let outside = elsewhere.display().to_string();
    sandbox.refused(&["up", "--build", &outside], 4, "invariant", &["build.context", "allow.bind_roots"]);
    // A parent folder contains the state, and with it keys and secrets.
    let all = sandbox.path("").display().to_string();
    sandbox.refused(&["up", "--build", &all], 4, "invariant", &["state of Wharf"]);
    sandbox.config(&format!("[allow]\nbind_roots = [{outside:?}]"));
    sandbox.json(&["plan", "--build", &outside]);

    std::fs::remove_file(sandbox.path("project/.dockerignore")).unwrap();
    let pipe = sandbox.path("project/.dockerignore");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    sandbox.refused(&["image", "build", "."], 2, "bad-request", &[".dockerignore", "not a regular file"]);
    std::fs::remove_file(&pipe).unwrap();
    std::os::unix::fs::symlink(sandbox.write("elsewhere/ignore", "x"), &pipe).unwrap();
    sandbox.refused(&["image", "build", "."], 2, "bad-request", &[".dockerignore", "leads out of the context"]);
}

#[test]
fn an_image_that_another_installation_built_of_the_same_project_stays_its_own() {
    let (built, other) = (Built::new(), Sandbox::new());
    let project = built.0.project();
    let reference = built.0.run(&["image", "build"]).ok().text().trim().to_owned();
    let refused = other.run_in(&project, &["--json", "image", "build"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-ours")), "{}", refused.stderr);
    assert_eq!(other.run_in(&project, &["--json", "image", "prune"]).ok().json(), json!([]));
    assert_eq!(built.0.json(&["image", "ls"])[0]["reference"], reference.as_str());
}
