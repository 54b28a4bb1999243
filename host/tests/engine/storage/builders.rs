//! The engine's two builders: features, secrets, logins and cache mounts of BuildKit, and refusals of the legacy builder.

use serde_json::json;

use crate::support::engine_api::{self as engine, BASE};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;

/// A sandbox whose images are removed with it.
struct Building(Sandbox);

impl Building {
    fn new() -> Self {
        Self(Sandbox::new())
    }

    /// Writes the Dockerfile and builds it. `args` come last.
    fn build(&self, dockerfile: &str, args: &[&str]) -> crate::support::process::Output {
        self.0.write("project/Dockerfile", dockerfile);
        self.0.run(&[&["--json", "image", "build"], args].concat())
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let host = self.0.host();
        for image in engine::get("/images/json").as_array().into_iter().flatten() {
            if image["Labels"]["wharf.image.host"] == host.as_str() {
                engine::delete(&format!("/images/{}?force=true", image["Id"].as_str().unwrap_or_default()));
            }
        }
    }
}

#[test]
fn mounts_modes_and_variables_of_buildkit_work() {
    let building = Building::new();
    let sandbox = &building.0;
    sandbox.write("project/file", "text");
    let dockerfile = format!(
        "FROM {BASE} AS one\nRUN echo one > /one\nFROM {BASE}\nARG TARGETARCH\n\
         RUN --mount=type=bind,from=one,source=/one,target=/mnt/one cat /mnt/one > /copy; echo $TARGETARCH >> /copy\n\
         COPY --chmod=0711 file /file\n"
    );
    let built = building.build(&dockerfile, &[]).ok().json();
    sandbox.json(&["up", "--image", built["reference"].as_str().unwrap(), "--pull", "never"]);
    assert_eq!(
        sandbox.sh("head -n 1 /copy; stat -c %a /file; wc -l < /copy; sed -n 2p /copy | grep -c ."),
        "one\n711\n2\n1\n"
    );
}

#[test]
fn secrets_reach_their_step_and_nothing_else() {
    let mut building = Building::new();
    building.0.env("TOKEN", "correct-horse");
    let sandbox = &building.0;
    let file = sandbox.write("key", "battery-staple").display().to_string();
    let dockerfile = format!(
        "FROM {BASE}\nRUN --mount=type=secret,id=TOKEN --mount=type=secret,id=key,target=/k sha1sum /run/secrets/TOKEN /k | cut -c 1-40 > /sums\n"
    );
    let output = building.build(&dockerfile, &["-vv", "--secret", "TOKEN", "--secret", &format!("key={file}")]).ok();
    let built = output.json();
    let reference = built["reference"].as_str().unwrap();
    sandbox.json(&["up", "--image", reference, "--pull", "never"]);
    // printf correct-horse | sha1sum; printf battery-staple | sha1sum
    let sums = sandbox.sh("cat /sums; find / -xdev -type f -path '*secrets*' -size +0");
    assert_eq!(sums, "36cb589f74157b45811a690c58b434095f48e9fa\n5810d2f10af576d58d4e83e270a5c36e8f730ef1\n");
    let everything = [
        engine::get(&format!("/images/{reference}/history")).to_string(),
        engine::get(&format!("/images/{reference}/json")).to_string(),
        output.stderr.clone(),
        sandbox.run(&["--json", "audit"]).ok().text(),
        sandbox.run(&["--json", "inspect"]).ok().text(),
    ];
    for text in everything {
        assert!(!text.contains("correct-horse") && !text.contains("battery-staple"), "{text}");
    }
    // The store and its log are beside it.
    let found = std::process::Command::new("grep")
        .args(["-rlE", "correct-horse|battery-staple"])
        .arg(sandbox.path("state"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let printing = building.0.write(
        "project/Dockerfile",
        format!("FROM {BASE}\nRUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN; exit 3\n"),
    );
    let printed = building.0.run(&["image", "build", "--secret", "TOKEN"]);
    assert!(
        printed.stderr.contains("***") && !printed.stderr.contains("correct-horse"),
        "{printing:?}: {}",
        printed.stderr
    );
    let required = dockerfile.replace("id=key,", "id=absent,required=true,");
    let missing = building.build(&required, &[]);
    assert_eq!((missing.code, &missing.error()["code"]), (1, &json!("build-failed")), "{}", missing.stderr);
    assert!(missing.stderr.contains("absent"), "{}", missing.stderr);
    let absent = sandbox.run(&["image", "build", "--secret", "NOT_SET"]);
    assert!(absent.code == 2 && absent.stderr.contains("the variable is not set"), "{}", absent.stderr);
}

#[test]
fn a_private_base_image_is_read_with_the_stored_login() {
    let mut building = Building::new();
    let registry = Registry::new();
    let host = registry.reference.split('/').next().unwrap().to_owned();
    // "ada:correct-horse"
    registry.protect("Basic YWRhOmNvcnJlY3QtaG9yc2U=");
    let dockerfile = format!("FROM {}\nLABEL private=yes\n", registry.reference);
    let refused = building.build(&dockerfile, &[]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("build-failed")), "{}", refused.stderr);
    let auth = json!({ "auths": { &host: { "auth": "YWRhOmNvcnJlY3QtaG9yc2U=" } } });
    building.0.write("docker/config.json", auth.to_string());
    let folder = building.0.path("docker").display().to_string();
    building.0.env("DOCKER_CONFIG", &folder);
    let built = building.build(&dockerfile, &["-vv"]).ok();
    assert!(!built.stderr.contains("correct-horse") && !built.stderr.contains("YWRh"), "{}", built.stderr);
}

#[test]
fn a_cache_mount_belongs_to_one_workspace() {
    let (one, other) = (Building::new(), Building::new());
    // The step differs each time, so it runs each time.
    let count = |building: &Building, id: &str, step: u8, args: &[&str]| {
        let dockerfile = format!(
            "FROM {BASE}\nRUN --mount=type=cache,id={id},target=/c : {step}; echo x >> /c/x; wc -l < /c/x > /count\n"
        );
        let built = building.build(&dockerfile, args).ok().json();
        let name = format!("count-{step}");
        let reference = built["reference"].as_str().unwrap();
        building.0.json(&["up", "--name", &name, "--image", reference, "--pull", "never"]);
        building.0.run(&["exec", &name, "--", "cat", "/count"]).ok().text().trim().to_owned()
    };
    assert_eq!(count(&one, "/c", 1, &[]), "1");
    assert_eq!(count(&one, "/c", 2, &[]), "2");
    assert_eq!(count(&other, "/c", 3, &[]), "1");
    // Neither a path nor the build argument that chooses the cache leads to that of another workspace.
    let namespace = format!("{}/{}", one.0.host(), one.0.id());
    let up = format!("../{}//c", one.0.id());
    assert_eq!(count(&other, &up, 4, &[]), "1");
    assert_eq!(count(&other, &format!("../../{namespace}//c"), 5, &[]), "1");
    let argument = format!("BUILDKIT_CACHE_MOUNT_NS={namespace}");
    assert_eq!(count(&other, "/c", 6, &["--build-arg", &argument]), "2", "its own");
}

#[test]
fn a_frontend_that_an_admin_has_not_allowed_is_refused_in_every_notation() {
    let building = Building::new();
    let rest = format!("FROM {BASE}\n");
    for line in [
        "# syntax=evil/front",
        "#!/x\n# escape=`\n#  Syntax = evil/front",
        "// syntax=evil/front",
        "# syntax=docker/dockerfile.evil",
    ] {
        let refused = building.build(&format!("{line}\n{rest}"), &[]);
        assert_eq!((refused.code, &refused.error()["code"]), (4, &json!("invariant")), "{line}: {}", refused.stderr);
        assert!(refused.stderr.contains("allow.images"), "{}", refused.stderr);
    }
    let refused = building.build(&rest, &["--build-arg", "BUILDKIT_SYNTAX=evil/front"]);
    assert_eq!((refused.code, &refused.error()["code"]), (4, &json!("invariant")), "{}", refused.stderr);
    // An old BuildKit ignores the argument, so Docker's frontend there hides nothing.
    let dockers = ["--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1"];
    let refused = building.build(&format!("# syntax=evil/front\n{rest}"), &dockers);
    assert_eq!((refused.code, &refused.error()["code"]), (4, &json!("invariant")), "{}", refused.stderr);
    // The name of Docker's frontend does not help an image that was built here.
    let name = format!("docker/dockerfile:{}", building.0.name());
    building.build(&rest, &["--tag", &name]).ok();
    let refused = building.build(&format!("# syntax={name}\n{rest}"), &[]);
    assert_eq!((refused.code, &refused.error()["code"]), (4, &json!("invariant")), "{}", refused.stderr);
    building.0.config("[allow]\nimages = [\"127.0.0.1:1/evil/front\"]");
    // Now the engine looks for it.
    let missing = building.build(&format!("# syntax=127.0.0.1:1/evil/front\n{rest}"), &[]);
    assert_eq!((missing.code, &missing.error()["code"]), (1, &json!("build-failed")), "{}", missing.stderr);
}

#[test]
fn the_legacy_builder_refuses_each_feature_that_it_would_ignore() {
    let building = Building::new();
    building.0.append_config("[engine]\nbuilder = \"legacy\"");
    for (line, named) in [
        ("RUN --mount=type=cache,target=/c true", "RUN --mount"),
        ("RUN <<EOF\ntrue\nEOF", "RUN <<EOF"),
        ("COPY <<-'END' /file\ntext\nEND", "COPY <<END"),
        ("COPY --link Dockerfile /", "COPY --link"),
        ("COPY --exclude=x . /", "COPY --exclude"),
        ("ADD --checksum=sha256:0 http://127.0.0.1/ /", "ADD --checksum"),
        ("ONBUILD RUN --mount=type=cache,target=/c true", "RUN --mount"),
    ] {
        let refused = building.build(&format!("FROM {BASE}\n# comment\n{line}\n"), &[]);
        assert_eq!((refused.code, &refused.error()["code"]), (2, &json!("bad-request")), "{line}: {}", refused.stderr);
        assert!(refused.stderr.contains(&format!("line 3 of the Dockerfile: '{named}'")), "{}", refused.stderr);
        assert!(refused.stderr.contains("engine.builder"), "{}", refused.stderr);
    }
    building.0.write("project/Dockerfile", format!("FROM {BASE}\nRUN echo legacy\n"));
    let built = building.0.run(&["image", "build"]).ok();
    assert!(built.stderr.contains("Step 2") && !built.stderr.contains("[2/2]"), "{}", built.stderr);
}

#[test]
fn a_dockerfile_that_dockerignore_leaves_out_needs_the_legacy_builder_to_stay_out() {
    let building = Building::new();
    building.0.write("project/.dockerignore", "Dockerfile\n");
    building.0.write("project/Dockerfile", format!("FROM {BASE}\nCOPY . /src\n"));
    let built = building.0.run(&["image", "build"]).ok();
    assert!(built.stderr.contains("Step 2"), "{}", built.stderr);
    building.0.write("project/Dockerfile", format!("FROM {BASE}\nCOPY --chmod=0644 . /src\n"));
    let built = building.0.run(&["image", "build"]).ok();
    assert!(built.stderr.contains("[2/2]"), "{}", built.stderr);
    let said = "the builder gets the Dockerfile with the context, although .dockerignore leaves it out";
    assert!(built.stderr.contains(said), "{}", built.stderr);
}

#[test]
fn an_old_engines_buildkit_reads_no_here_documents_and_a_new_ones_does() {
    let building = Building::new();
    let output = building.build(&format!("FROM {BASE}\nRUN <<EOF\necho here > /here\nEOF\n"), &[]);
    let version = engine::get("/version");
    let major: u32 = version["Version"].as_str().unwrap().split('.').next().unwrap().parse().unwrap();
    if major < 23 {
        assert_eq!((output.code, &output.error()["code"]), (2, &json!("bad-request")), "{}", output.stderr);
        assert!(output.stderr.contains("line 2 of the Dockerfile: 'RUN <<EOF' needs Docker 23"), "{}", output.stderr);
    } else {
        let reference = output.ok().json()["reference"].as_str().unwrap().to_owned();
        building.0.json(&["up", "--image", &reference, "--pull", "never"]);
        assert_eq!(building.0.sh("cat /here"), "here\n");
    }
}
