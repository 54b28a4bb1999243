use super::*;
use crate::workspace::{MountKind, Network};

pub(super) fn host_env() -> BTreeMap<String, Option<String>> {
    [
        ("ALLOWED", Some("yes ${localWorkspaceFolder}".to_owned())),
        ("API_TOKEN", Some("hunter2".to_owned())),
        ("UNSET", None),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn names(list: &'static [&'static str]) -> &'static BTreeSet<String> {
    Box::leak(Box::new(list.iter().map(|name| (*name).to_owned()).collect()))
}

pub(super) fn around(local_env: &BTreeMap<String, Option<String>>) -> Surroundings<'_> {
    Surroundings {
        file: ".devcontainer/devcontainer.json",
        folder: "/srv/shop",
        id: "shop-1a2b3c",
        working_dir: "/workspace",
        working_dir_fixed: None,
        local_env,
        secrets: Box::leak(Box::new(SecretNames(vec!["*TOKEN*".into()]))),
        capabilities: names(&["CHOWN", "KILL"]),
        allowed_capabilities: names(&["CHOWN", "KILL", "SYS_PTRACE"]),
        unconfined: false,
        cpus: 4,
        memory: 8 << 30,
        usual_cpus: 1.0,
        usual_memory: 2 << 30,
        most_cpus: 3.0,
        most_memory: 16 << 30,
    }
}

fn asked(text: &str) -> Devcontainer {
    read(text, &around(&host_env())).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Returns the fields with their values, as JSON.
fn fields(text: &str) -> BTreeMap<String, serde_json::Value> {
    asked(text).fields.iter().map(|(edit, _)| (edit.field(), edit.value())).collect()
}

fn not_honoured(text: &str) -> Vec<String> {
    asked(text).not_honoured.into_iter().map(|not| not.property).collect()
}

#[test]
fn a_file_as_the_templates_write_it_becomes_fields_commands_and_a_list() {
    let text = r#"// For format details, see https://aka.ms/devcontainer.json.
{
    "name": "Node & Mongo",
    "build": { "dockerfile": "Dockerfile", "context": "..", "args": { "VARIANT": "20" }, "target": "dev" },
    "features": { "ghcr.io/devcontainers/features/node:1": {} },
    "customizations": { "vscode": { "extensions": ["dbaeumer.vscode-eslint"] } },
    /* ports */
    "forwardPorts": [3000, "localhost:9229", "db:27017"],
    "containerEnv": { "MODE": "dev", "HERE": "${containerWorkspaceFolder}" },
    "postCreateCommand": "npm install",
    "postStartCommand": { "server": ["npm", "start"], "watch": "npm run watch" },
    "remoteUser": "node",
    "workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}",
}"#;
    let asked = asked(text);
    let build = asked.build.unwrap();
    assert_eq!((build.dockerfile.as_str(), build.context.as_str(), build.line), ("Dockerfile", "..", 4));
    assert_eq!((build.args["VARIANT"].as_str(), build.target.as_deref()), ("20", Some("dev")));
    let shell = |line: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
    let command = |property: &str, words| Command { property: property.to_owned(), words };
    assert_eq!(asked.commands.once, [command("postCreateCommand", shell("npm install"))]);
    let start = ["npm".to_owned(), "start".to_owned()].to_vec();
    let each = [command("postStartCommand.server", start), command("postStartCommand.watch", shell("npm run watch"))];
    assert_eq!(asked.commands.each_start, each);
    let listed: Vec<_> = asked.not_honoured.iter().map(|not| (not.property.as_str(), not.line)).collect();
    assert_eq!(listed, [("features", 5), ("customizations", 6), ("forwardPorts db:27017", 8)]);
    let lines: BTreeMap<_, _> = asked.fields.iter().map(|(edit, line)| (edit.field(), *line)).collect();
    assert_eq!(lines["env.MODE"], 9);
    let fields = fields(text);
    assert_eq!(fields["env.HERE"], "/workspaces/shop");
    assert_eq!(fields["working_dir"], "/workspaces/shop");
    assert_eq!(fields["mounts./workspace"], serde_json::Value::Null);
    assert_eq!(fields["mounts./workspaces/shop"]["source"], "/srv/shop");
    assert_eq!(fields["user"], "node");
    assert_eq!(fields["ports.3000/tcp"], serde_json::json!({"address": "127.0.0.1", "port": null}));
    assert_eq!(fields.len(), 8, "{fields:?}");
}

#[test]
fn mounts_are_read_in_both_forms() {
    let asked = asked(
        r#"{"mounts": [
            "source=${localWorkspaceFolder}/data,target=/data/,type=bind,consistency=cached,readonly",
            {"type": "volume", "source": "cache-${devcontainerId}", "target": "/cache"},
            {"type": "tmpfs", "target": "/scratch"},
            "src=x,dst=/x,bind-propagation=shared"
        ]}"#,
    );
    let edits: Vec<_> = asked.fields.into_iter().map(|(edit, _)| edit).collect();
    let mount = |edit: &Adjustment| match edit {
        Adjustment::Mount(target, Some(mount)) => (target.clone(), mount.kind, mount.source.clone(), mount.read_only),
        other => panic!("{other:?}"),
    };
    assert_eq!(mount(&edits[0]), ("/data".into(), MountKind::Bind, "/srv/shop/data".into(), true));
    assert_eq!(mount(&edits[1]), ("/cache".into(), MountKind::Volume, "cache-shop-1a2b3c".into(), false));
    assert!(matches!(&edits[2], Adjustment::Tmpfs(target, _) if target == "/scratch"));
    assert_eq!(mount(&edits[3]).1, MountKind::Volume);
    assert_eq!(asked.not_honoured[0].property, "mounts bind-propagation");
    let whole =
        fields(r#"{"workspaceMount": "source=/srv/shop/app,target=/app,type=bind", "workspaceFolder": "/app/x"}"#);
    assert_eq!((&whole["working_dir"], &whole["mounts./workspace"]), (&"/app/x".into(), &serde_json::Value::Null));
    assert_eq!(whole["mounts./app"]["source"], "/srv/shop/app");
    assert_eq!(fields(r#"{"workspaceMount": ""}"#)["mounts./workspace"], serde_json::Value::Null);
    assert!(fields(r#"{"workspaceFolder": "/workspace/"}"#).is_empty());
}

#[test]
fn arguments_of_docker_run_become_fields_or_are_listed() {
    let text = r#"{"runArgs": ["--memory=512m", "--cpus", "1.5", "--shm-size=1gb", "-e", "A=1", "--env=B=2", "-u", "1000",
        "--tmpfs", "/t:size=64m,noexec", "--ulimit", "nofile=1024:4096", "--pids-limit", "99", "--hostname", "dev",
        "--network", "none", "--cap-drop=KILL", "--cap-add", "CAP_SYS_PTRACE", "--init", "--rm", "--read-only",
        "-p", "8080:80", "-v", "cache:/c:ro", "--restart=on-failure:3",
        "--network=host", "--gpus", "all", "--device=/dev/kvm", "--privileged", "--cap-add=SYS_ADMIN", "--pid", "host",
        "--security-opt", "seccomp=unconfined", "--label=keep=true", "--name", "mine", "--env-file", ".env"]}"#;
    let fields = fields(text);
    let value = |field: &str| fields.get(field).cloned().unwrap_or_default();
    assert_eq!(value("resources.memory"), 512 << 20);
    assert_eq!(value("resources.cpus"), 1.5);
    assert_eq!(value("resources.shm_size"), 1 << 30);
    assert_eq!((value("env.A"), value("env.B")), ("1".into(), "2".into()));
    assert_eq!(value("tmpfs./t")["size"], 64 << 20);
    assert_eq!(value("resources.ulimits.nofile")["hard"], 4096);
    assert_eq!((value("resources.pids"), value("hostname"), value("user")), (99.into(), "dev".into(), "1000".into()));
    assert_eq!(value("network"), serde_json::to_value(Network::None).unwrap());
    assert_eq!(value("security.capabilities"), serde_json::json!(["CHOWN", "SYS_PTRACE"]));
    assert_eq!(value("security.read_only_root"), true);
    assert_eq!(value("ports.80/tcp")["port"], 8080);
    assert_eq!(value("mounts./c")["read_only"], true);
    let listed = not_honoured(text);
    for part in [
        "--tmpfs noexec",
        "--rm",
        "--network host",
        "--gpus",
        "--device",
        "--privileged",
        "--cap-add SYS_ADMIN",
        "--pid",
        "--security-opt seccomp=unconfined",
        "--label keep=true",
        "--name",
        "--env-file",
    ] {
        assert!(listed.iter().any(|not| *not == format!("runArgs {part}")), "{part}: {listed:?}");
    }
    assert_eq!(listed.len(), 12, "{listed:?}");
}

#[test]
fn nothing_loosens_what_the_admin_has_not_allowed() {
    let text = r#"{"privileged": true, "init": false, "initializeCommand": "rm -rf ~",
        "capAdd": ["SYS_ADMIN", "sys_ptrace"],
        "securityOpt": ["seccomp=unconfined", "apparmor=mine", "label:disable", "no-new-privileges"],
        "containerEnv": {"WORKSPACE_ID": "other", "PATH2": "${localEnv:PATH}", "X": "${localEnv:API_TOKEN}"}}"#;
    let fields = fields(text);
    assert_eq!(fields["security.capabilities"], serde_json::json!(["CHOWN", "KILL", "SYS_PTRACE"]));
    assert_eq!((&fields["env.PATH2"], &fields["env.X"]), (&"".into(), &"".into()));
    assert_eq!(fields.len(), 3, "{fields:?}");
    assert_eq!(not_honoured(text).len(), 10, "{:?}", not_honoured(text));
    let env = host_env();
    let allowed = Surroundings { unconfined: true, ..around(&env) };
    let loose = read(r#"{"securityOpt": ["seccomp=unconfined"]}"#, &allowed).unwrap();
    assert_eq!(loose.fields[0].0, Adjustment::Seccomp("unconfined".into()));
}

#[test]
fn a_workspace_has_one_user_and_the_images_own_command_keeps_its_own() {
    let user = |text: &str| fields(text).get("user").cloned();
    assert_eq!(user(r#"{"containerUser": "a"}"#), Some("a".into()));
    assert_eq!(user(r#"{"containerUser": "a", "remoteUser": "b"}"#), Some("b".into()));
    assert_eq!(not_honoured(r#"{"containerUser": "a", "remoteUser": "b"}"#), ["containerUser"]);
    let own = asked(r#"{"overrideCommand": false, "remoteUser": "b"}"#);
    assert_eq!((own.commands.user.as_deref(), own.fields.len()), (Some("b"), 1));
    assert_eq!(own.fields[0].0, Adjustment::Command(vec![]));
}

#[test]
fn what_the_machine_lacks_is_listed() {
    let text = r#"{"hostRequirements": {"cpus": 8, "memory": "16gb", "storage": "32gb", "gpu": true}}"#;
    assert_eq!(not_honoured(text).len(), 4);
    assert_eq!(fields(text)["resources.memory"], 8_u64 << 30, "as much as the machine has");
    assert_eq!(fields(text)["resources.cpus"], 3.0, "as much as the limits allow");
    let met = r#"{"hostRequirements": {"cpus": 2, "memory": "4gb", "gpu": "optional"}}"#;
    assert!(not_honoured(met).is_empty());
    assert_eq!(
        (&fields(met)["resources.memory"], &fields(met)["resources.cpus"]),
        (&(4_u64 << 30).into(), &2.0.into())
    );
    assert!(fields(r#"{"hostRequirements": {"cpus": 1, "memory": "1gb"}}"#).is_empty(), "it never lowers a limit");
    let own = r#"{"hostRequirements": {"memory": "4gb"}, "runArgs": ["--memory=3g"]}"#;
    assert_eq!(fields(own)["resources.memory"], 3_u64 << 30);
}

#[test]
fn texts_are_split_before_their_variables_are_expanded() {
    let env = host_env();
    let around = Surroundings { folder: "/srv/a,b:c", ..around(&env) };
    let of = |text: &str| read(text, &around).unwrap_or_else(|error| panic!("{text}: {error}"));
    for text in [
        r#"{"mounts": ["source=${localWorkspaceFolder}/x,target=/x,type=bind"]}"#,
        r#"{"mounts": ["type=bind,\"source=/srv/a,b:c/x\",target=/x"]}"#,
        r#"{"runArgs": ["-v", "${localWorkspaceFolder}/x:/x"]}"#,
        r#"{"runArgs": ["--mount", "type=bind,source=${localWorkspaceFolder}/x,target=/x"]}"#,
        r#"{"workspaceMount": "type=bind,source=${localWorkspaceFolder}/x,target=/x", "workspaceFolder": "/x"}"#,
    ] {
        let mounts: Vec<_> = of(text).fields.into_iter().filter(|(edit, _)| edit.field() == "mounts./x").collect();
        assert_eq!(mounts[0].0.value()["source"], "/srv/a,b:c/x", "{text}");
    }
}

#[test]
fn an_explicit_port_wins_wherever_it_stands() {
    for text in [r#"{"appPort": 18080, "forwardPorts": [18080]}"#, r#"{"forwardPorts": [18080], "appPort": 18080}"#] {
        let asked = asked(text);
        assert_eq!(asked.fields.len(), 1, "{text}");
        assert_eq!(asked.fields[0].0.value()["port"], 18080, "{text}");
    }
    assert_eq!(asked(r#"{"appPort": ["9000-9002:9000-9002"]}"#).fields.len(), 3);
    assert_eq!(asked(r#"{"runArgs": ["-p", "9000-9001:80-81"]}"#).fields.len(), 2);
}

#[test]
fn nothing_of_a_mount_is_dropped_without_a_word() {
    let text = r#"{"workspaceMount": "type=bind,source=/a,target=/w,bind-propagation=shared,nonsense", "workspaceFolder": "/w",
        "runArgs": ["--mount", "type=bind,source=/a,target=/x,bogus=1", "-v", "/a:/y:z,ro"]}"#;
    let listed = not_honoured(text);
    for option in
        ["workspaceMount bind-propagation", "workspaceMount nonsense", "runArgs --mount bogus", "runArgs -v z"]
    {
        assert!(listed.iter().any(|not| not == option), "{option}: {listed:?}");
    }
}

#[test]
fn an_item_with_a_variable_that_has_no_value_is_left_out_and_the_rest_is_used() {
    let text = r#"{"runArgs": ["--volume=${env:HOME}:${env:HOME}"], "mounts": ["type=bind,source=${localEnv:NO},target=/x"],
        "containerEnv": {"A": "1"}}"#;
    let asked = asked(text);
    assert_eq!(asked.fields.len(), 1, "{asked:?}");
    let all: Vec<_> = asked.not_honoured.iter().map(|not| not.why.as_str()).collect();
    assert!(all.iter().filter(|why| why.contains("devcontainer.local_env")).count() >= 2, "{all:?}");
    assert_eq!(all.iter().filter(|why| why.starts_with("it is left out: ")).count(), 2, "{all:?}");
}

#[test]
fn a_place_that_the_admin_set_is_not_the_projects_to_change() {
    let env = host_env();
    let around = Surroundings { working_dir_fixed: Some("wharf.toml:3".into()), ..around(&env) };
    let asked = read(r#"{"workspaceFolder": "/src"}"#, &around).unwrap();
    assert!(asked.fields.is_empty() && asked.not_honoured[0].why.contains("wharf.toml:3"), "{asked:?}");
}

#[test]
fn a_value_that_cannot_be_is_an_error_with_its_place() {
    for (text, place, word) in [
        ("[]", "1:1", "object"),
        ("{\n \"containerEnv\": {\"A\": 5}}", "2:24", "containerEnv.A"),
        ("{\"containerEnv\": {\"A=B\": \"\"}}", "1:26", "must not contain '='"),
        ("{\"forwardPorts\": [0]}", "1:19", "port"),
        ("{\"forwardPorts\": [70000]}", "1:19", "port"),
        ("{\"forwardPorts\": 3000}", "1:18", "list"),
        ("{\"mounts\": [\"type=bind,target=/x\"]}", "1:13", "source"),
        ("{\"mounts\": [{\"type\": \"npipe\", \"source\": \"a\", \"target\": \"/x\"}]}", "1:13", "npipe"),
        ("{\"mounts\": [\"source=../x,target=/x,type=bind\"]}", "1:13", "absolute"),
        ("{\"workspaceFolder\": \"src\"}", "1:21", "absolute"),
        ("{\"workspaceFolder\": \"/\"}", "1:21", "over '/'"),
        ("{\"runArgs\": [\"--memory=lots\"]}", "1:14", "--memory"),
        ("{\"runArgs\": [\"--cpus\", \"NaN\"]}", "1:14", "cores"),
        ("{\"build\": {}}", "1:11", "dockerfile"),
        ("{\"image\": \"a b\"}", "1:11", "image"),
        ("{\"postCreateCommand\": 5}", "1:23", "postCreateCommand"),
        ("{\"privileged\": \"yes\"}", "1:16", "true or false"),
    ] {
        let error = read(text, &around(&host_env())).expect_err(text).to_string();
        let begin = format!(".devcontainer/devcontainer.json:{place}: ");
        assert!(error.starts_with(&begin) && error.contains(word), "{text}: {error}");
    }
}

#[test]
fn what_is_shown_of_a_file_holds_no_control_characters_and_is_short() {
    let text = format!("{{\"\\u001b[2Jfeatures\\n\": 1, \"{}\": 2}}", "x".repeat(5_000));
    for property in not_honoured(&text) {
        assert!(property.len() < 400 && !property.contains(char::is_control), "{property:?}");
    }
    let many: Vec<String> = (0..5_000).map(|number| format!("\"p{number}\": 1")).collect();
    let listed = asked(&format!("{{{}}}", many.join(","))).not_honoured;
    assert_eq!((listed.len(), listed[100].why.as_str()), (101, "4900 more are not listed"));
}
