//! `devcontainer.json`: a project's requests, their results, and their limits.

use serde_json::{Value, json};

use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::{LABEL_SANDBOX, Sandbox, until};

const FILE: &str = "project/.devcontainer/devcontainer.json";

/// Returns a sandbox whose project has this file. The image is named, so that nothing is pulled.
fn with(text: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    write(&sandbox, text);
    sandbox
}

fn write(sandbox: &Sandbox, text: &str) {
    let text = text.trim_start().strip_prefix('{').unwrap();
    sandbox.write(FILE, format!("{{ \"image\": \"{BASE}\", {text}"));
}

/// Returns the properties that are listed as not honoured.
fn listed(view: &Value) -> Vec<String> {
    let list = view["devcontainer"]["not_honoured"].as_array().unwrap();
    list.iter().map(|not| not["property"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_project_asks_for_is_made_and_why_names_the_line() {
    let sandbox = with(
        r#"{ // for everybody
  "name": "shop",
  "containerEnv": { "MODE": "dev", "HERE": "${containerWorkspaceFolder}" },
  "remoteUser": "1000:1000",
  "workspaceFolder": "/src/${localWorkspaceFolderBasename}",
  "mounts": ["source=${localWorkspaceFolder}/data,target=/data,type=bind,readonly", {"type": "tmpfs", "target": "/scratch"}],
  "forwardPorts": [3000],
  "runArgs": ["--memory=300m", "--hostname", "dev", "--gpus", "all"],
  "features": { "ghcr.io/devcontainers/features/node:1": {} },
}"#,
    );
    sandbox.write("project/data/x", "from the project");
    sandbox.append_config("[allow]\nhostnames = [\"dev\"]\n");
    let plan = sandbox.json(&["plan", "--offline"]);
    assert_eq!((&plan["owners"]["env.MODE"], &plan["spec"]["env"]["MODE"]), (&json!("project"), &json!("dev")));
    assert_eq!(listed(&plan), ["runArgs --gpus", "features"]);
    let text = sandbox.run(&["plan", "--offline"]).ok().text();
    assert!(text.contains("devcontainer.json:9: not honoured: features: features are not installed"), "{text}");

    let output = sandbox.run(&["up"]).ok().text();
    assert!(output.contains("not honoured: runArgs --gpus (line 8), features (line 9)"), "{output}");
    let said = sandbox.sh("id -u; pwd; echo $MODE $HERE; cat /data/x; hostname; touch /data/y || ls -d .devcontainer");
    let expected = "1000\n/src/project\ndev /src/project\nfrom the projectdev\n.devcontainer\n";
    assert_eq!(said, expected);
    let why = sandbox.run(&["why", "env.MODE"]).ok().text();
    assert!(why.contains("project (.devcontainer/devcontainer.json:3): dev"), "{why}");
    let view = sandbox.json(&["inspect"]);
    assert_eq!(
        (&view["ports"][0]["container_port"], &view["ports"][0]["address"]),
        (&json!(3000), &json!("127.0.0.1"))
    );
    assert_eq!(view["degraded"], Value::Null);
    assert_eq!(engine::inspect(view["container_id"].as_str().unwrap())["HostConfig"]["Memory"], 300 << 20);

    // The same file is no difference, another value is one.
    sandbox.up();
    write(&sandbox, r#"{ "containerEnv": { "MODE": "test" } }"#);
    let differs = sandbox.run(&["--json", "up"]);
    assert_eq!((differs.code, &differs.error()["code"]), (7, &json!("spec-differs")));
    assert!(differs.stderr.contains("env.MODE is \\\"dev\\\"") && differs.stderr.contains("(project)"), "{differs:?}");
    sandbox.json(&["up", "--recreate"]);
    assert_eq!(sandbox.sh("echo $MODE; pwd"), "test\n/workspace\n");
}

#[test]
fn the_admin_and_the_person_who_asks_win_over_the_project() {
    let sandbox = with(
        r#"{ "containerEnv": {"A": "project", "B": "project", "C": "project"}, "remoteUser": "1000",
  "workspaceFolder": "/src", "runArgs": ["--memory=300m"] }"#,
    );
    sandbox.config("[workspace]\nuser = \"7\"\nworking_dir = \"/work\"\n[workspace.env]\nB = \"config\"\n");
    let plan = sandbox.json(&["plan", "--offline", "-e", "C=flag", "--memory", "400MiB"]);
    let spec = &plan["spec"];
    assert_eq!(spec["env"]["A"], "project");
    assert_eq!((&spec["env"]["B"], &spec["env"]["C"], &spec["user"]), (&json!("config"), &json!("flag"), &json!("7")));
    assert_eq!((&spec["working_dir"], &spec["resources"]["memory"]), (&json!("/work"), &json!(400 << 20)));
    assert_eq!(listed(&plan), ["workspaceFolder"]);
}

#[test]
fn commands_run_inside_in_order_and_those_of_a_start_again() {
    let sandbox = with(
        r#"{ "remoteUser": "1000",
  "onCreateCommand": "echo create $(id -u) >> /tmp/log",
  "updateContentCommand": ["sh", "-c", "echo update '${localWorkspaceFolderBasename}' >> /tmp/log"],
  "postCreateCommand": {"one": "echo one >> /tmp/log", "two": "echo two >> /tmp/log; echo loud"},
  "postStartCommand": "echo start >> /tmp/log" }"#,
    );
    let up = sandbox.run(&["up"]).ok();
    assert!(up.stderr.contains("postCreateCommand.two: echo two") && up.stderr.contains("\nloud\n"), "{}", up.stderr);
    let once = "create 1000\nupdate project\none\ntwo\nstart\n";
    assert_eq!(sandbox.sh("cat /tmp/log"), once);
    sandbox.up();
    sandbox.json(&["restart", "-t", "0s"]);
    assert_eq!(sandbox.sh("cat /tmp/log"), format!("{once}start\n"));
    // Another command for each start needs no new container; another command for the creation does.
    let text = std::fs::read_to_string(sandbox.path(FILE)).unwrap();
    std::fs::write(sandbox.path(FILE), text.replace("echo start", "echo again")).unwrap();
    sandbox.up();
    sandbox.json(&["restart", "-t", "0s"]);
    assert!(sandbox.sh("cat /tmp/log").ends_with("start\nstart\nagain\n"));
    std::fs::write(sandbox.path(FILE), text.replace("echo one", "echo another")).unwrap();
    let differs = sandbox.run(&["up"]);
    assert!(differs.code == 7 && differs.stderr.contains("devcontainer.postCreateCommand.one"), "{}", differs.stderr);
}

#[test]
fn a_command_that_fails_marks_the_workspace_degraded_and_is_tried_again() {
    let sandbox = with(
        r#"{ "onCreateCommand": "test -e /tmp/now || { echo not yet; exit 3; }", "postStartCommand": "touch /tmp/started" }"#,
    );
    let up = sandbox.up();
    assert_eq!((&up["state"], &up["devcontainer"]["once_done"]), (&json!("running"), &json!(false)));
    let reason = up["degraded"].as_str().unwrap();
    assert_eq!(reason, "onCreateCommand failed: it exited with code 3: not yet");
    assert_eq!(sandbox.sh("ls /tmp"), "");
    sandbox.sh("touch /tmp/now");
    let up = sandbox.up();
    assert_eq!((&up["degraded"], &up["devcontainer"]["once_done"]), (&Value::Null, &json!(true)));
    assert_eq!(sandbox.sh("ls /tmp"), "now\nstarted\n");
}

#[test]
fn a_command_has_a_time_limit_and_a_policy_can_deny_it() {
    let sandbox = with(r#"{ "postCreateCommand": "sleep 60" }"#);
    let up = sandbox.json(&["--set", "devcontainer.command_timeout=1s", "up"]);
    let reason = up["degraded"].as_str().unwrap();
    assert!(reason.ends_with("longer than 1s (devcontainer.command_timeout) and was killed"), "{up}");
    assert!(!sandbox.sh("ps").contains("sleep 60"), "it runs on");
    sandbox.json(&["down"]);
    sandbox.script("rule.rhai", "fn pre_exec(ctx) {\n    ctx.deny(\"no-exec\", \"nothing runs here\");\n}\n");
    let up = sandbox.up();
    let reason = up["degraded"].as_str().unwrap();
    assert!(reason.contains("rule.rhai:2") && reason.contains("nothing runs here"), "{reason}");
}

#[test]
fn ctrl_c_ends_a_command_and_the_next_up_runs_it_again() {
    let sandbox = with(r#"{ "postCreateCommand": "echo >> /tmp/runs; test -e /tmp/quick || sleep 60" }"#);
    let mut up = sandbox.spawn(&["up"]);
    until("the command runs", || sandbox.run(&["exec", "--", "cat", "/tmp/runs"]).code == 0);
    up.signal("INT");
    let ended = up.finish();
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    until("it was killed", || !sandbox.sh("ps").contains("sleep 60"));
    let shown = sandbox.json(&["inspect"]);
    assert_eq!(shown["state"], "running");
    sandbox.sh("touch /tmp/quick");
    let up = sandbox.up();
    assert_eq!((&up["degraded"], sandbox.sh("cat /tmp/runs").as_str()), (&Value::Null, "\n\n"));
}

/// A sandbox whose built images are removed, too.
struct Built(Sandbox);

impl Drop for Built {
    fn drop(&mut self) {
        let host = self.0.host();
        for container in self.0.own_containers() {
            engine::delete(&format!("/containers/{}?force=true", container["Id"].as_str().unwrap_or_default()));
        }
        for image in engine::get("/images/json").as_array().into_iter().flatten() {
            if image["Labels"]["wharf.host"] == host.as_str() {
                engine::delete(&format!("/images/{}?force=true", image["Id"].as_str().unwrap_or_default()));
            }
        }
    }
}

#[test]
fn the_image_that_a_project_builds_is_built_unless_somebody_decides_otherwise() {
    let mut built = Built(Sandbox::new());
    built.0.unset("WHARF_WORKSPACE_IMAGE");
    let sandbox = &built.0;
    let label = format!("LABEL {LABEL_SANDBOX}={}", sandbox.name());
    let dockerfile =
        format!("FROM {BASE} AS dev\n{label}\nARG WORD=none\nCOPY app.txt /app.txt\nRUN echo $WORD > /word\n");
    sandbox.write("project/.devcontainer/Dockerfile", dockerfile);
    sandbox.write("project/app.txt", "app");
    sandbox.write("project/package.json", "{}");
    let build = r#"{"build": {"dockerfile": "Dockerfile", "context": "..", "args": {"WORD": "hi"}, "target": "dev"}}"#;
    sandbox.write(FILE, build);
    let plan = sandbox.json(&["plan"]);
    let reference = plan["spec"]["image"]["reference"].as_str().unwrap().to_owned();
    assert!(reference.starts_with(&format!("wharf/{}:", sandbox.id())), "{plan}");
    assert_eq!(plan["owners"]["image"], "project");
    let up = sandbox.run(&["up"]).ok();
    assert!(up.stderr.contains("[1/3] FROM"), "{}", up.stderr);
    assert_eq!(sandbox.sh("cat /app.txt /word"), "apphi\n");
    // The image exists, so it is not built again; the older form means the same.
    assert!(!sandbox.run(&["up"]).ok().stderr.contains("Step 1"));
    let plan = sandbox.json(&["plan", "--image", BASE]);
    assert_eq!((&plan["spec"]["image"]["reference"], &plan["owners"]["image"]), (&json!(BASE), &json!("request")));
    sandbox.write(FILE, r#"{"dockerFile": "Dockerfile", "context": ".."}"#);
    let older = sandbox.json(&["plan"])["spec"]["image"]["reference"].as_str().unwrap().to_owned();
    assert!(older.starts_with("wharf/") && older != reference, "{older}");
    // The image of the configuration takes precedence.
    sandbox.config(&format!("[workspace]\nimage = \"{BASE}\"\n"));
    let plan = sandbox.json(&["plan"]);
    assert_eq!((&plan["spec"]["image"]["reference"], listed(&plan)), (&json!(BASE), vec!["build".to_owned()]));
}

#[test]
fn a_file_is_chosen_by_name_or_left_out() {
    let sandbox = with(r#"{ "containerEnv": {"WHICH": "usual"} }"#);
    let named = format!("{{\"image\": \"{BASE}\", \"containerEnv\": {{\"WHICH\": \"named\"}}}}");
    sandbox.write("project/.devcontainer/python/devcontainer.json", named);
    let which = |args: &[&str]| {
        let mut all = vec!["plan", "--offline"];
        all.extend(args);
        let plan = sandbox.json(&all);
        (plan["spec"]["env"]["WHICH"].as_str().map(str::to_owned), plan["owners"]["image"].clone())
    };
    assert_eq!(which(&[]), (Some("usual".into()), json!("image-selector")));
    assert_eq!(which(&["--devcontainer", "python"]), (Some("named".into()), json!("project")));
    assert_eq!(which(&["--no-devcontainer"]).0, None);
    assert_eq!(which(&["--set", "devcontainer.enabled=false"]).0, None);
    for bad in ["none", "..", "a/b", "", "/etc"] {
        let output = sandbox.run(&["plan", "--offline", "--devcontainer", bad]);
        assert_eq!(output.code, 2, "{bad}: {}", output.stderr);
    }
    let off = ["--set", "devcontainer.enabled=false", "plan", "--devcontainer", "python"];
    assert!(sandbox.run(&off).stderr.contains("devcontainer.enabled is false"));
    std::fs::remove_dir_all(sandbox.path("project/.devcontainer")).unwrap();
    sandbox.write("project/.devcontainer.json", "{\"containerEnv\": {\"WHICH\": \"short\"}}");
    assert_eq!(which(&[]).0, Some("short".into()));
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_with_its_place_and_nothing_is_made() {
    let sandbox = Sandbox::new();
    let before = sandbox.snapshot();
    let deep = format!("{{\"customizations\": {}", "[".repeat(30_000));
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    for (text, said) in [
        ("{\n  \"image\": \"a\"\n  \"name\": 1\n}", "devcontainer.json:3:3: expected ',' or '}'"),
        ("{\n  \"containerEnv\": [\"A=1\"]\n}", "devcontainer.json:2:19: containerEnv must be an object"),
        (deep.as_str(), "devcontainer.json:1:84: nested more than 64 levels"),
        (huge.as_str(), "it is larger than 64 KiB"),
        ("", "expected a value, found the end of the file"),
    ] {
        sandbox.write(FILE, text);
        for verb in [&["up"][..], &["plan", "--offline"]] {
            let mut args = vec!["--json"];
            args.extend(verb);
            let output = sandbox.run(&args);
            let error = output.error();
            assert_eq!((output.code, &error["code"]), (2, &json!("devcontainer")), "{}", output.stderr);
            assert!(error["message"].as_str().unwrap().contains(said), "{said}: {error}");
            assert!(error["remedy"].as_str().unwrap().contains("--no-devcontainer"), "{error}");
        }
    }
    sandbox.write(FILE, [b'{', 0xff, b'}']);
    assert!(sandbox.run(&["up"]).stderr.contains("not UTF-8"));
    sandbox.assert_unchanged(&before, "unusable files");
    sandbox.assert_nothing_left();
}

#[test]
fn links_and_pipes_do_not_lead_out_of_the_project() {
    let mut sandbox = Sandbox::new();
    sandbox.unset("WHARF_WORKSPACE_IMAGE");
    let before = sandbox.snapshot();
    let outside = sandbox.write("outside/devcontainer.json", "{\"containerEnv\": {\"HUNTER\": \"2\"}}");
    sandbox.write("outside/Dockerfile", "FROM scratch\n");
    let link = |to: &std::path::Path, from: &str| {
        let from = sandbox.path(from);
        std::fs::create_dir_all(from.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, from).unwrap();
    };
    let refused = |said: &str| {
        let output = sandbox.run(&["up"]);
        assert!(output.code == 2 && output.stderr.contains(said), "{said}: {output:?}");
        assert!(!output.stderr.contains("HUNTER"), "{}", output.stderr);
        std::fs::remove_dir_all(sandbox.path("project/.devcontainer")).unwrap();
    };
    link(&outside, FILE);
    refused("outside the project");
    link(std::path::Path::new("/dev/zero"), FILE);
    refused("outside the project");
    link(std::path::Path::new("/no/such/file"), FILE);
    refused("cannot read");
    sandbox.folder(FILE);
    refused("not a regular file");
    sandbox.write("project/.devcontainer/x", "");
    let made = std::process::Command::new("mkfifo").arg(sandbox.path(FILE)).status().unwrap();
    assert!(made.success());
    refused("not a regular file");
    for (dockerfile, context) in
        [("../../outside/Dockerfile", "."), ("Dockerfile", "../../outside"), ("Dockerfile", "/")]
    {
        sandbox.write(FILE, format!("{{\"build\": {{\"dockerfile\": \"{dockerfile}\", \"context\": \"{context}\"}}}}"));
        sandbox.write("project/.devcontainer/Dockerfile", "FROM scratch\n");
        refused("outside the project");
    }
    sandbox.write(FILE, "{\"build\": {\"dockerfile\": \"Dockerfile\"}}");
    link(&sandbox.path("outside/Dockerfile"), "project/.devcontainer/Dockerfile");
    refused("outside the project");
    sandbox.write(FILE, "{\"build\": {\"dockerfile\": \"Dockerfile\"}}");
    sandbox.write("project/.devcontainer/Dockerfile", "FROM scratch\n");
    link(std::path::Path::new("/dev/zero"), "project/.devcontainer/.dockerignore");
    refused("outside the project");
    // A whole folder that is a link, too.
    link(&sandbox.path("outside"), "project/.devcontainer");
    let output = sandbox.run(&["up"]);
    assert!(output.code == 2 && output.stderr.contains("outside the project"), "{output:?}");
    std::fs::remove_file(sandbox.path("project/.devcontainer")).unwrap();
    sandbox.assert_unchanged(&before, "links");
    sandbox.assert_nothing_left();
}

#[test]
fn a_project_cannot_loosen_the_host() {
    let mut sandbox = Sandbox::new();
    sandbox.env("API_TOKEN", "hunter2");
    sandbox.env("LANG", "de_DE");
    let before = sandbox.snapshot();
    let socket = engine::socket();
    for mount in [
        "source=/,target=/host,type=bind".to_owned(),
        "source=/etc,target=/host,type=bind,readonly".to_owned(),
        format!("source={},target=/var/run/docker.sock,type=bind", socket.display()),
        "source=${localWorkspaceFolder}/..,target=/up,type=bind".to_owned(),
    ] {
        write(&sandbox, &format!("{{ \"mounts\": [\"{mount}\"] }}"));
        let output = sandbox.run(&["up"]);
        assert!(output.code == 4 || output.code == 2, "{mount}: {output:?}");
    }
    for (property, code) in [("\"appPort\": \"0.0.0.0:8080:80\"", 4), ("\"runArgs\": [\"-v\", \"/:/host\"]", 4)] {
        write(&sandbox, &format!("{{ {property} }}"));
        assert_eq!(sandbox.run(&["up"]).code, code, "{property}");
    }
    sandbox.assert_unchanged(&before, "hostile requests");
    sandbox.assert_nothing_left();

    write(
        &sandbox,
        r#"{ "initializeCommand": "touch ran-on-the-host", "privileged": true, "capAdd": ["SYS_ADMIN"],
  "securityOpt": ["seccomp=unconfined"], "runArgs": ["--privileged", "--network=host", "--pid=host", "--device=/dev/mem",
  "--cap-add=ALL", "--security-opt=apparmor=unconfined", "-e", "API_TOKEN", "--label=keep=true", "--userns=host"],
  "containerEnv": {"STOLEN": "${localEnv:API_TOKEN}", "LOCALE": "${localEnv:LANG}"} }"#,
    );
    let up = sandbox.up();
    assert_eq!(listed(&up).len(), 15, "{:?}", listed(&up));
    let inspected = engine::inspect(up["container_id"].as_str().unwrap());
    let host = &inspected["HostConfig"];
    assert_eq!((&host["Privileged"], &host["PidMode"]), (&json!(false), &json!("")));
    assert!(host["Devices"].as_array().is_none_or(Vec::is_empty), "{host}");
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert!(!host["CapAdd"].to_string().contains("SYS_ADMIN") && host["NetworkMode"] != "host", "{host}");
    assert!(!inspected.to_string().contains("hunter2") && !inspected.to_string().contains("de_DE"));
    assert_eq!(inspected["Config"]["Labels"]["keep"], Value::Null);
    assert!(!sandbox.path("project/ran-on-the-host").exists());

    // Without a policy that lowers it, the limit applies.
    write(&sandbox, r#"{ "runArgs": ["--memory=500g"] }"#);
    let chain = sandbox.path("config/wharf.toml");
    sandbox.script("rule.rhai", "fn pre_create(ctx) {}\n");
    let denied = sandbox.run(&["--json", "plan"]);
    assert_eq!((denied.code, &denied.json()["denied"]["code"]), (4, &json!("invariant")), "{}", denied.stderr);
    assert!(denied.json()["denied"]["reason"].as_str().unwrap().contains("set by project"));
    std::fs::write(chain, "").unwrap();

    // Variables that the administrator allows are read; a secret only where it remains a secret, and never in
    // records.
    sandbox.json(&["down"]);
    sandbox.config("[devcontainer]\nlocal_env = [\"LANG\", \"API_TOKEN\"]\n");
    write(
        &sandbox,
        r#"{ "containerEnv": {"STOLEN": "${localEnv:API_TOKEN}", "MY_TOKEN": "${localEnv:API_TOKEN}", "LOCALE": "${localEnv:LANG}"},
  "postCreateCommand": "echo ${localEnv:API_TOKEN}; echo $MY_TOKEN" }"#,
    );
    let output = sandbox.run(&["up"]).ok();
    assert_eq!(sandbox.sh("echo $STOLEN $MY_TOKEN $LOCALE"), "hunter2 de_DE\n");
    let plan = sandbox.run(&["plan"]).ok();
    let records = std::fs::read(sandbox.path("state/wharf.db")).unwrap();
    let log = std::fs::read(sandbox.path("state/wharf.db-wal")).unwrap_or_default();
    for shown in [output.stderr.as_bytes(), &output.stdout, &plan.stdout, &records, &log] {
        assert!(!shown.windows(7).any(|seven| seven == b"hunter2"), "{}", String::from_utf8_lossy(shown));
    }
}

#[test]
fn a_volume_of_another_workspace_is_not_given_to_a_project() {
    let sandbox = Sandbox::new();
    let (id, name) = (sandbox.id(), sandbox.name());
    let other = sandbox.folder("other");
    let mount = format!("{name}-data:/data");
    sandbox.run_in(&other, &["up", "--mount", &mount]).ok();
    write(&sandbox, &format!("{{ \"mounts\": [\"source={name}-data,target=/data,type=volume\"] }}"));
    let output = sandbox.run(&["up"]);
    assert!(output.code == 2 && output.stderr.contains("belongs to another workspace"), "{output:?}");
    assert!(sandbox.json(&["ls"]).as_array().unwrap().iter().all(|workspace| workspace["id"] != id.as_str()));
    // The project may have its own volume, and the administrator can allow others.
    write(&sandbox, "{ \"mounts\": [\"source=${devcontainerId}-own,target=/data,type=volume\"] }");
    sandbox.up();
    sandbox.json(&["up", "--recreate"]);
    write(&sandbox, &format!("{{ \"mounts\": [\"source={name}-data,target=/data,type=volume\"] }}"));
    sandbox.config(&format!("[allow]\nvolumes = [\"{name}-data\"]\n"));
    sandbox.json(&["up", "--recreate"]);
    sandbox.json(&["down", "--all", "--volumes"]);
}

#[test]
fn a_sidecar_has_nothing_of_the_projects_file() {
    let sandbox = with(r#"{ "containerEnv": {"A": "1"}, "postCreateCommand": "true" }"#);
    sandbox.up();
    let db = sandbox.json(&["sidecar", "add", "db", "--image", BASE, "--", "sleep", "1000"]);
    assert_eq!(db["devcontainer"], Value::Null);
    let env = engine::env(db["container_id"].as_str().unwrap());
    assert!(!env.iter().any(|pair| pair == "A=1"), "{env:?}");
}

/// Builds an image with this label, under a name of the sandbox.
fn labelled(sandbox: &Sandbox, metadata: &str) -> String {
    let name = format!("wharf-test-label-{}:1", sandbox.name());
    let more =
        "RUN echo 'dev:x:1234:1234::/srv/dev:/bin/sh' >> /etc/passwd && mkdir -p /srv/dev && chown 1234:1234 /srv/dev";
    let text = format!("FROM {BASE}\n{more}\nLABEL devcontainer.metadata='{metadata}'\n");
    sandbox.write("project/label.Dockerfile", text);
    sandbox.json(&["image", "build", "--file", "label.Dockerfile", "--tag", &name]);
    name
}

#[test]
fn the_label_of_an_image_gives_the_user_and_the_environment_and_the_rest_is_listed() {
    let sandbox = Sandbox::new();
    let metadata = r#"[{"id":"a","remoteUser":"other"},{"remoteUser":"dev","containerEnv":{"FROM_LABEL":"1","MINE":"0"},"privileged":true,"mounts":["source=/,target=/host,type=bind"],"postCreateCommand":"touch /stranger"}]"#;
    let image = labelled(&sandbox, metadata);
    sandbox.write(FILE, format!("{{\"image\": {image:?}, \"containerEnv\": {{\"MINE\": \"1\"}}}}"));
    let note = "not honoured in the image's label devcontainer.metadata: mounts, postCreateCommand, privileged";
    let plan = sandbox.json(&["plan"]);
    assert_eq!((&plan["spec"]["user"], &plan["owners"]["user"]), (&json!("dev"), &json!("default")), "{plan}");
    assert_eq!(plan["notes"], json!([note]));
    assert_eq!(sandbox.json(&["up"])["notes"], json!([note]));
    assert_eq!(sandbox.sh("id -un; echo $FROM_LABEL $MINE; ls -d /host /stranger 2>/dev/null || true"), "dev\n1 1\n");
    assert_eq!(sandbox.run(&["up"]).ok().stderr.matches("already running").count(), 1);
    // The file's own user wins over the label's.
    sandbox.write(FILE, format!("{{\"image\": {image:?}, \"remoteUser\": \"root\"}}"));
    assert_eq!(sandbox.json(&["plan"])["spec"]["user"], "root");
    sandbox.json(&["rm", "--force", &sandbox.id()]);
    sandbox.run(&["image", "rm", &image]).ok();
}

#[test]
fn a_background_process_of_a_command_lives_and_may_write() {
    let sandbox = Sandbox::new();
    let command =
        "echo begun; printf 'no end of line'; (while sleep 0.2; do echo listening; echo x >> /count; done) & exit 0";
    let file = json!({ "image": BASE, "postStartCommand": command, "postCreateCommand": ["sh", "-c", "exit 0"] });
    sandbox.write(FILE, file.to_string());
    let up = sandbox.run(&["up"]).ok();
    assert!(up.stderr.contains("begun") && up.stderr.contains("no end of line"), "{}", up.stderr);
    // The engine closes the output of a command about two seconds after its end.
    until("it writes", || sandbox.run(&["exec", "--", "test", "-s", "/count"]).code == 0);
    let lines = || sandbox.sh("wc -l < /count").trim().parse::<u32>().unwrap();
    let first = lines();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let second = lines();
    assert!(second > first + 10, "{first} {second}");
    // A code other than 0, and a command that is not there, are told as before.
    let failing = json!({ "image": BASE, "postStartCommand": "echo last words; exit 7" });
    sandbox.write(FILE, failing.to_string());
    let failed = sandbox.run(&["up", "--recreate"]);
    assert_eq!(failed.code, 8, "{}", failed.stderr);
    assert!(failed.stderr.contains("postStartCommand failed: it exited with code 7: last words"), "{}", failed.stderr);
}

#[test]
fn a_missing_source_and_a_user_without_access_are_told_with_the_remedy() {
    let sandbox = Sandbox::new();
    let missing = json!({ "image": BASE, "mounts": ["source=${localWorkspaceFolder}/.cache,target=/c,type=bind"] });
    sandbox.write(FILE, missing.to_string());
    let refused = sandbox.run(&["up"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(
        refused.stderr.contains(".cache does not exist; make it first, e.g. with 'mkdir -p'"),
        "{}",
        refused.stderr
    );
    std::os::unix::fs::chown(sandbox.project(), Some(1577), Some(100)).unwrap();
    let other = json!({ "image": BASE, "remoteUser": "1000:1000", "postCreateCommand": "touch made" });
    sandbox.write(FILE, other.to_string());
    let degraded = sandbox.run(&["up"]);
    assert_eq!(degraded.code, 8, "{}", degraded.stderr);
    let remedy = "the project belongs to 1577:100, and the workspace runs as 1000:1000; to run as the owner, use 'wharf up --recreate --user 1577:100'";
    assert!(degraded.stderr.contains(remedy), "{}", degraded.stderr);
}
