//! Work that a process, dead or alive, could not finish. It is repaired before any other work on the same workspace,
//! and never applied to objects created since.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use wharf::store::Verb;

use super::kill::Killer;
use super::{BASE, UP, consistent};
use crate::support::process::until;
use crate::support::sandbox::Sandbox;

/// Returns a relay to the engine that refuses requests with these words.
fn refusing(sandbox: &Sandbox, words: &'static str) -> Killer {
    let relay = Killer::new(&sandbox.path("refusing.sock"));
    *relay.shared.refused.lock().unwrap() = Some(words);
    relay
}

fn container_names(sandbox: &Sandbox) -> Vec<String> {
    let name = |container: &Value| container["Names"][0].as_str().unwrap().trim_start_matches("/wharf-").to_owned();
    sandbox.own_containers().iter().map(name).collect()
}

#[test]
fn a_removal_that_failed_is_not_carried_out_later() {
    let sandbox = Sandbox::new();
    let mount = format!("v-{}:/data", sandbox.name());
    sandbox.json(&[&UP[..], &["--mount", &mount]].concat());
    sandbox.sh("echo kept > /data/file");
    let relay = refusing(&sandbox, "DELETE /");
    let failed = sandbox.run(&["--engine", &relay.endpoint, "rm", "--force", "--volumes", "project"]);
    assert_ne!(failed.code, 0);
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
    sandbox.json(&[&UP[..], &["--mount", &mount]].concat());
    sandbox.json(&["ls"]);
    assert_eq!(sandbox.sh("cat /data/file"), "kept\n");
}

#[test]
fn what_a_dead_process_had_begun_comes_before_what_is_asked_for_now() {
    let sandbox = Sandbox::new();
    let first = sandbox.json(&UP);
    let store = sandbox.store();
    let id = sandbox.id().parse().unwrap();
    // The state after a process died while the next command was already waiting for it.
    let lock = store.try_lock(&id).unwrap().unwrap();
    let waiting = sandbox.spawn(&[&["--json"], &UP[..]].concat());
    until("the command waits for the lock", || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        true
    });
    let entry = store.begin(&id, Verb::Remove).unwrap();
    store.abandon(entry).unwrap();
    drop(lock);
    let second = waiting.finish().ok().json();
    assert_ne!(second["container_id"], first["container_id"], "it was removed, and made anew");
    assert_eq!(sandbox.json(&["ls"])[0]["container_id"], second["container_id"]);
    assert!(consistent(&sandbox));

    // And an intent older than the container remains.
    let entry = store.begin(&id, Verb::Remove).unwrap();
    let third = sandbox.json(&[&UP[..], &["--recreate", "-e", "A=1"]].concat());
    store.abandon(entry).unwrap();
    assert_eq!(sandbox.json(&["ls"])[0]["container_id"], third["container_id"]);
    assert_eq!(store.open_entries().unwrap(), []);
}

#[test]
fn a_replacement_whose_old_container_cannot_be_removed_is_finished_by_the_next_command() {
    let sandbox = Sandbox::new();
    sandbox.json(&UP);
    let relay = refusing(&sandbox, "DELETE /");
    let args = [&["--engine", &relay.endpoint, "--json"], &UP[..], &["--recreate", "-e", "A=1"]].concat();
    let replaced = sandbox.run(&args).ok();
    assert!(replaced.stderr.contains("is kept for now"), "{}", replaced.stderr);
    assert_eq!(container_names(&sandbox).len(), 2);
    // While it cannot be removed, it is not mistaken for the container being replaced.
    let again = [&["--engine", &relay.endpoint, "--json"], &UP[..], &["--recreate", "-e", "A=2"]].concat();
    let refused = sandbox.run(&again);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("conflict")), "{}", refused.stderr);
    let view = sandbox.json(&["inspect"]);
    assert_eq!((&view["container_id"], &view["state"]), (&replaced.json()["container_id"], &json!("running")));
    sandbox.json(&["ls"]);
    assert_eq!(container_names(&sandbox), [sandbox.id()]);
}

#[test]
fn a_replacement_that_fails_leaves_secrets_as_they_were() {
    let sandbox = Sandbox::new();
    let old = format!("DB={}", sandbox.write("old", "old").display());
    let new = format!("DB={}", sandbox.write("new", "new").display());
    let folder = sandbox.path("state/secrets");
    let entries = || std::fs::read_dir(&folder).map(Iterator::count).unwrap_or_default();

    sandbox.json(&UP);
    let fails = |secret: &str| {
        let output = sandbox.run(&[&UP[..], &["--recreate", "--secret", secret, "--", "/nonexistent"]].concat());
        assert!(output.stderr.contains("command was not found"), "{}", output.stderr);
    };
    fails(&new);
    assert_eq!(entries(), 0);
    sandbox.json(&UP);
    sandbox.json(&[&UP[..], &["--recreate", "--secret", &old]].concat());
    fails(&new);
    assert_eq!((sandbox.sh("cat /run/secrets/DB"), entries()), ("old".to_owned(), 1));
    sandbox.json(&[&UP[..], &["--recreate", "--secret", &new]].concat());
    assert_eq!((sandbox.sh("cat /run/secrets/DB"), entries()), ("new".to_owned(), 1));
}

#[test]
fn an_interruption_after_the_creation_leaves_the_new_one_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.write("project/.devcontainer.json", r#"{ "postCreateCommand": "touch begun; exec sleep 60" }"#);
    for args in [&UP[..], &[&UP[..], &["--recreate", "-e", "A=1"]].concat()] {
        let mut run = sandbox.spawn(args);
        until("its command runs", || sandbox.path("project/begun").exists());
        run.signal("INT");
        let output = run.finish();
        assert_eq!(output.code, 130, "{}", output.stderr);
        assert!(
            output.stderr.contains("is created and running") && !output.stderr.contains("undone"),
            "{}",
            output.stderr
        );
        assert_eq!(container_names(&sandbox), [sandbox.id()], "{args:?}");
        assert_eq!(sandbox.json(&["inspect"])["state"], "running");
        std::fs::remove_file(sandbox.path("project/begun")).unwrap();
    }
}

#[test]
fn an_up_that_is_killed_before_its_policies_were_asked_is_seen_and_finished() {
    let sandbox = Sandbox::new();
    let script =
        "fn post_start(ctx) { ctx.run([\"sh\", \"-c\", \"touch /workspace/begun; sleep 2\"]); ctx.note(\"set up\"); }";
    sandbox.script("setup.rhai", script);
    let mut run = sandbox.spawn(&UP);
    until("policies' commands run", || sandbox.path("project/begun").exists());
    run.signal("KILL");
    run.finish();
    let reason = sandbox.json(&["inspect"])["degraded"].to_string();
    assert!(reason.contains("post-start"), "{reason}");
    let view = sandbox.json(&UP);
    assert_eq!((&view["notes"], &view["degraded"]), (&json!(["set up"]), &Value::Null));
}

#[test]
fn what_could_not_be_asked_after_a_start_keeps_it_from_starting() {
    let sandbox = Sandbox::new();
    sandbox.json(&UP);
    sandbox.json(&["stop"]);
    sandbox.script("broken.rhai", "fn post_start(ctx) { ");
    let refused = sandbox.run(&["start"]);
    assert_eq!((refused.code, &sandbox.json(&["inspect"])["state"]), (3, &json!("exited")), "{}", refused.stderr);
    sandbox.write("config/policies/broken.rhai", "fn post_start(ctx) { ctx.note(\"asked\"); }");
    assert_eq!(sandbox.json(&["start"])["notes"], json!(["asked"]));
    sandbox.write("config/policies/broken.rhai", "fn post_start(ctx) { ");
    assert_eq!(sandbox.run(&["restart"]).code, 3);
    assert_eq!(sandbox.json(&["inspect"])["state"], "running", "what cannot be started again is not stopped");
}

#[test]
fn a_wait_for_the_removal_does_not_end_with_a_replacement() {
    let sandbox = Sandbox::new();
    sandbox.json(&UP);
    let mut wait = sandbox.spawn(&["wait", "--for", "removed"]);
    for value in ["A=1", "A=2", "A=3"] {
        sandbox.json(&[&UP[..], &["--recreate", "-e", value]].concat());
        assert!(wait.child().try_wait().unwrap().is_none());
    }
    sandbox.json(&["down"]);
    assert_eq!(wait.finish().code, 0);
}

#[test]
fn a_service_keeps_its_locks_on_the_store_however_often_it_opens_it() {
    let sandbox = Sandbox::new();
    sandbox.json(&["ls"]);
    let serving = crate::service::serve::Serving::start(&sandbox, &[]);
    sandbox.json(&["--server", sandbox.path("state/wharf.sock").to_str().unwrap(), "up", "--image", BASE]);
    let inode = format!(":{} ", std::fs::metadata(sandbox.path("state/wharf.db")).unwrap().ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    assert!(locks.lines().any(|line| line.contains(&inode) && line.contains("POSIX")), "{inode} in {locks}");
    serving.terminate();
}
