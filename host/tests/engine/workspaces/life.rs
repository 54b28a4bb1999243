//! A workspace from `up` to `down`, as used by a program.

use serde_json::{Value, json};

use crate::support::engine_api as engine;
use crate::support::sandbox::Sandbox;

/// The keys of a workspace's object that programs rely on.
const KEYS: [&str; 10] =
    ["id", "name", "project", "state", "container_id", "image", "created_at", "started_at", "exit_code", "trail"];

#[track_caller]
fn assert_keys(object: &Value, keys: &[&str]) {
    for key in keys {
        assert!(object.get(key).is_some(), "there is no {key:?} in {object}");
    }
}

#[test]
fn a_workspace_lives_from_up_to_down_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let before = sandbox.snapshot();

    let up = sandbox.up();
    assert_keys(&up, &KEYS);
    assert_eq!(up["id"], sandbox.id());
    assert_eq!(up["name"], "project");
    assert_eq!(up["project"], sandbox.project().canonicalize().unwrap().display().to_string());
    assert_eq!(up["state"], "running");
    assert_eq!(up["image"], engine::BASE);
    assert_eq!(up["exit_code"], Value::Null);
    let created: jiff::Timestamp = up["created_at"].as_str().unwrap().parse().unwrap();
    let started: jiff::Timestamp = up["started_at"].as_str().unwrap().parse().unwrap();
    assert!(created <= started, "{created} {started}");
    let trail = up["trail"].as_array().unwrap();
    let hooks: Vec<_> = trail.iter().map(|step| step["hook"].as_str().unwrap()).collect();
    assert_eq!(hooks, ["select-image", "security-profile", "pre-create", "post-start"]);
    for step in trail {
        assert_keys(step, &["policy", "kind", "hook", "verdict", "fields"]);
        assert!(step["microseconds"].as_u64().is_some_and(|time| time > 0), "{step}");
    }

    let ls = sandbox.json(&["ls"]);
    assert_eq!(ls.as_array().map(Vec::len), Some(1));
    assert_keys(&ls[0], &KEYS);
    assert_eq!((&ls[0]["id"], &ls[0]["state"]), (&up["id"], &json!("running")));
    // 'inspect' adds the decided fields and the sidecars.
    let inspected = |args: &[&str]| {
        let mut inspected = sandbox.json(args);
        let added = ["fields", "sidecars"].map(|name| inspected.as_object_mut().unwrap().remove(name));
        assert!(added.iter().all(Option::is_some), "{added:?}");
        inspected
    };
    assert_eq!(inspected(&["inspect"]), up);
    assert_eq!(inspected(&["inspect", up["id"].as_str().unwrap()]), up);

    let down = sandbox.json(&["down"]);
    assert_eq!(down["id"], up["id"]);
    sandbox.assert_nothing_left();
    sandbox.assert_unchanged(&before, "afterwards");
    sandbox.store().verify(None).unwrap().whole().unwrap();
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
}

#[test]
fn the_project_is_the_working_folder_and_what_is_written_stays_on_the_host() {
    let sandbox = Sandbox::new();
    sandbox.write("project/hello.txt", "from the host");
    sandbox.up();
    assert_eq!(sandbox.sh("pwd; cat hello.txt"), "/workspace\nfrom the host");
    sandbox.sh("echo from inside > made.txt");
    assert_eq!(std::fs::read_to_string(sandbox.path("project/made.txt")).unwrap(), "from inside\n");
    sandbox.json(&["down"]);
    assert!(sandbox.path("project/made.txt").exists() && sandbox.path("project/hello.txt").exists());
}

#[test]
fn what_needs_another_state_says_what_leads_there() {
    let sandbox = Sandbox::new();
    let container = sandbox.up()["container_id"].as_str().unwrap().to_owned();
    sandbox.json(&["pause"]);
    let rm = sandbox.run(&["rm", "project"]);
    assert!(rm.code == 1 && rm.stderr.contains("is paused"), "{}", rm.stderr);
    for args in [&["exec", "--", "true"][..], &["stats", "--no-stream", "project"]] {
        let refused = sandbox.run(args);
        assert!(refused.stderr.contains("wharf unpause") && !refused.stderr.contains("start"), "{}", refused.stderr);
    }
    crate::support::engine_api::delete(&format!("/containers/{container}?force=true")).done();
    let refused = sandbox.run(&["exec", "--", "true"]);
    assert!(refused.stderr.contains("wharf up") && !refused.stderr.contains("start"), "{}", refused.stderr);
}

#[test]
fn the_workspace_knows_its_id_and_its_name() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let id = sandbox.id();
    let said = sandbox.sh("echo $WORKSPACE_ID $WORKSPACE_NAME $WHARF_MANAGED; hostname");
    assert_eq!(said, format!("{id} project true\n{id}\n"));
}

#[test]
fn the_secure_defaults_hold_inside_the_container_and_in_the_engine() {
    let sandbox = Sandbox::new();
    let up = sandbox.up();
    let status = sandbox.sh("cat /proc/1/status /proc/self/status");
    let values = |key: &str| -> Vec<String> {
        let lines = status.lines().filter_map(|line| line.strip_prefix(key));
        lines.map(|value| value.trim().to_owned()).collect()
    };
    // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE: bits 0, 1, 3, 5, 6, 7, 10.
    let allowed = "00000000000004eb".to_owned();
    assert_eq!(values("CapEff:"), [allowed.clone(), allowed.clone()]);
    assert_eq!(values("CapBnd:"), [allowed.clone(), allowed]);
    assert_eq!(values("NoNewPrivs:"), ["1", "1"]);
    assert_eq!(values("Seccomp:"), ["2", "2"]);
    assert_ne!(sandbox.run(&["exec", "--", "mount", "-t", "tmpfs", "none", "/tmp"]).code, 0);

    let host = engine::inspect(up["container_id"].as_str().unwrap())["HostConfig"].take();
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(2u64 << 30), &json!(2u64 << 30)));
    assert_eq!((&host["PidsLimit"], &host["Privileged"]), (&json!(512), &json!(false)));
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    assert!(host["NanoCpus"].as_u64().is_some_and(|nano| nano > 0 && nano <= 2_000_000_000), "{host}");
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!(host["RestartPolicy"]["Name"], "no");
}

#[test]
fn the_strict_profile_is_read_only_with_no_capability() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "[[policy]]\nname = \"base\"\nbuiltin = \"security-baseline\"\nsettings = { profile = \"strict\", strict_user = \"1000:1000\" }\n",
    );
    let up = sandbox.up();
    assert_eq!(up["trail"][0]["verdict"], "adjust");
    let said = sandbox.sh("id -u; grep CapEff /proc/self/status; touch /root-owned 2>&1; touch /tmp/fine && echo fine");
    assert!(said.starts_with("1000\nCapEff:\t0000000000000000\n"), "{said}");
    assert!(said.contains("Read-only file system") && said.ends_with("fine\n"), "{said}");
}

#[test]
fn workspaces_are_on_a_network_of_this_installation_which_goes_with_the_last_of_them() {
    let sandbox = Sandbox::new();
    let first = sandbox.up();
    let other = sandbox.folder("other");
    let second = sandbox.run_in(&other, &["--json", "up"]).ok().json();
    let networks = sandbox.own_networks();
    assert_eq!(networks.len(), 1, "{networks:?}");
    let name = networks[0]["Name"].as_str().unwrap();
    for workspace in [&first, &second] {
        let inspected = engine::inspect(workspace["container_id"].as_str().unwrap());
        let on: Vec<_> = inspected["NetworkSettings"]["Networks"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(on, [name]);
    }
    let reach =
        format!("ping -c 1 -W 5 wharf-{} >/dev/null 2>&1; grep -c . /etc/resolv.conf", second["id"].as_str().unwrap());
    sandbox.sh(&reach);
    sandbox.json(&["down"]);
    assert_eq!(sandbox.own_networks().len(), 1, "the second one still needs it");
    sandbox.run_in(&other, &["down"]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn stop_and_start_keep_the_container_and_the_exit_code_is_the_real_one() {
    let sandbox = Sandbox::new();
    let up = sandbox.up();
    sandbox.sh("echo kept > /kept");

    let stopped = sandbox.json(&["stop"]);
    assert_eq!(stopped["state"], "exited");
    assert_eq!(stopped["exit_code"], 143, "sh ends by SIGTERM");
    assert!(stopped["finished_at"].is_string());
    assert_eq!(sandbox.json(&["ls"])[0]["exit_code"], 143);
    assert_eq!(sandbox.json(&["stop"])["exit_code"], 143, "stopping again changes nothing");

    let started = sandbox.json(&["start"]);
    assert_eq!((&started["state"], &started["exit_code"]), (&json!("running"), &Value::Null));
    assert_eq!(started["container_id"], up["container_id"]);
    assert!(started["started_at"].as_str() > up["started_at"].as_str());
    assert_eq!(sandbox.sh("cat /kept"), "kept\n");

    let restarted = sandbox.json(&["restart", "--timeout", "1s"]);
    assert_eq!((&restarted["state"], &restarted["container_id"]), (&json!("running"), &up["container_id"]));
    assert!(restarted["started_at"].as_str() > started["started_at"].as_str());
    assert_eq!(sandbox.sh("cat /kept"), "kept\n");
}

#[test]
fn a_command_that_ends_by_itself_leaves_its_code_0_included() {
    let sandbox = Sandbox::new();
    for code in [0, 7] {
        let up = sandbox.json(&["up", "--recreate", "--", "sh", "-c", &format!("echo bye; exit {code}")]);
        let id = up["container_id"].as_str().unwrap();
        engine::post(&format!("/containers/{id}/wait"), &Value::Null).done();
        let inspected = sandbox.json(&["inspect"]);
        assert_eq!((&inspected["state"], &inspected["exit_code"]), (&json!("exited"), &json!(code)));
        let listed = sandbox.run(&["ls"]).ok().text();
        assert!(listed.contains(&format!("exited ({code})")), "{listed}");
    }
}

#[test]
fn rm_refuses_what_runs_unless_forced() {
    let sandbox = Sandbox::new();
    let id = sandbox.up()["id"].as_str().unwrap().to_owned();
    let refused = sandbox.run(&["--json", "rm", &id]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("running")));
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
    sandbox.run(&["rm", "--force", &id]).ok();
    sandbox.assert_nothing_left();

    sandbox.up();
    sandbox.json(&["stop"]);
    sandbox.run(&["rm", &id]).ok();
    sandbox.assert_nothing_left();
    for verb in ["inspect", "stop", "start", "restart", "down", "logs"] {
        let gone = sandbox.run(&["--json", verb, &id]);
        assert_eq!((gone.code, &gone.error()["code"]), (5, &json!("workspace-not-found")), "{verb}");
    }
}

#[test]
fn stats_has_a_number_for_everything_that_programs_rely_on() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--memory", "64MiB", "--", "sh", "-c", "while :; do :; done"]);
    let stats = sandbox.json(&["stats"]);
    let all = stats.as_array().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["id"], &all[0]["name"]), (&json!(sandbox.id()), &json!("project")));
    for key in ["memory_used", "network_rx", "network_tx", "block_read", "block_write", "pids"] {
        assert!(all[0][key].is_u64(), "{key} in {stats}");
    }
    assert_eq!(all[0]["memory_limit"], 64 << 20);
    assert!(all[0]["cpu_percent"].as_f64().is_some_and(|percent| percent > 1.0), "it is busy: {stats}");
    assert!(all[0]["memory_used"].as_u64().is_some_and(|used| used > 0 && used < 64 << 20), "{stats}");
    assert_eq!(all[0]["pids"], 2, "init and sh: {stats}");
    assert!(sandbox.run(&["stats", "--no-stream"]).ok().text().contains(&sandbox.id()));
    sandbox.json(&["stop", "--timeout", "1s"]);
    assert_eq!(sandbox.json(&["stats"]), json!([]));
    let refused = sandbox.run(&["--json", "stats", "project"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-running")));
}

#[test]
fn a_container_that_somebody_removed_is_said_to_be_missing_and_up_makes_it_again() {
    let sandbox = Sandbox::new();
    let up = sandbox.up();
    engine::delete(&format!("/containers/{}?force=true", up["container_id"].as_str().unwrap())).done();
    assert_eq!(sandbox.json(&["inspect"])["state"], "missing");
    let started = sandbox.run(&["--json", "start"]);
    assert_eq!((started.code, &started.error()["code"]), (1, &json!("not-running")));
    assert_eq!(sandbox.run(&["exec", "--", "true"]).code, 125);
    let again = sandbox.up();
    assert_eq!(again["state"], "running");
    assert_ne!(again["container_id"], up["container_id"]);
    sandbox.json(&["down"]);
    sandbox.assert_nothing_left();
}
