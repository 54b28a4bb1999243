//! Parts of snapshots that are missing, that belong to another owner, or that a dead process left.

use std::time::Duration;

use serde_json::{Value, json};

use super::snapshots::{Kept, images_of, sandbox_with_volume};
use crate::support::engine_api::{self as engine, BASE};
use crate::support::fake_daemon::relay;
use crate::support::sandbox::{LABEL_SANDBOX, Sandbox, until};

/// Returns the number of the next journal entry, which is part of the names of copies.
fn next_entry(sandbox: &Sandbox) -> i64 {
    let db = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    let query = "select seq + 1 from sqlite_sequence where name = 'journal'";
    db.query_row(query, [], |row| row.get(0)).unwrap()
}

/// Creates a volume that does not belong to Wharf.
fn foreign_volume(sandbox: &Sandbox, name: &str) {
    let body = json!({ "Name": name, "Labels": { LABEL_SANDBOX: sandbox.name() } });
    engine::post("/volumes/create", &body).done();
}

fn volume(name: &str) -> Option<Value> {
    engine::volumes().into_iter().find(|volume| volume["Name"] == name)
}

#[test]
fn the_name_of_another_installations_snapshot_is_not_taken_and_one_that_lost_its_name_is_restored() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.sh("echo mine > /kept");
    let kept = Kept(sandbox);
    let sandbox = &kept.0;
    let snapshot = sandbox.json(&["snapshot", "create", "--name", "s1"]);
    let image = snapshot["image"].as_str().unwrap();
    sandbox.json(&["down"]);

    // Another installation with the same folder: the workspace has the same id.
    let other = Sandbox::new();
    let run = |args: &[&str]| other.run_in(&sandbox.project(), args);
    run(&["up"]).ok();
    let refused = run(&["snapshot", "create", "--name", "s1"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains(image) && refused.stderr.contains("--name"), "{}", refused.stderr);
    assert_eq!(engine::get(&format!("/images/{image}/json"))["Id"], snapshot["image_id"]);
    run(&["rm", "--force", "project"]).ok();

    // A client that moves the name to another image takes nothing else.
    let (repository, tag) = image.split_once(':').unwrap();
    engine::post(&format!("/images/{BASE}/tag?repo={repository}&tag={tag}"), &json!(null)).done();
    let name = snapshot["name"].as_str().unwrap();
    sandbox.json(&["snapshot", "restore", name, "--as", "again"]);
    assert_eq!(sandbox.run(&["exec", "again", "--", "cat", "/kept"]).ok().text(), "mine\n");
    sandbox.run(&["snapshot", "restore", name, "--as", "again"]).ok();
    sandbox.json(&["down", "again"]);
    sandbox.run(&["snapshot", "rm", name]).ok();
    assert_eq!(images_of(&sandbox.host()), Vec::<String>::new());
    engine::delete(&format!("/images/{image}")).done();
}

#[test]
fn a_snapshot_without_the_copy_of_a_volume_is_not_restored_as_an_empty_one() {
    let (kept, _) = sandbox_with_volume();
    let sandbox = &kept.0;
    let snapshot = sandbox.json(&["snapshot", "create", "--name", "a"]);
    let name = snapshot["name"].as_str().unwrap();
    let copy = snapshot["volumes"].as_object().unwrap().values().next().unwrap().as_str().unwrap();

    let refused = sandbox.run(&["--json", "volume", "rm", copy]);
    let error = refused.error();
    assert_eq!((refused.code, &error["code"]), (1, &json!("conflict")), "{}", refused.stderr);
    assert!(error["remedy"].as_str().unwrap().contains(&format!("wharf snapshot rm {name}")), "{error}");

    engine::delete(&format!("/volumes/{copy}")).done();
    let before = sandbox.snapshot();
    let refused = |why: &str| {
        let output = sandbox.run(&["snapshot", "restore", name, "--as", "x"]);
        assert!(output.code == 2 && output.stderr.contains(copy), "{why}: {} {}", output.code, output.stderr);
    };
    refused("the copy is gone");
    sandbox.assert_unchanged(&before, "a restore without the copy of a volume");
    assert!(volume(copy).is_none());
    foreign_volume(sandbox, copy);
    refused("somebody else has made a volume of that name");
    engine::delete(&format!("/volumes/{copy}")).done();
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
    sandbox.run(&["snapshot", "rm", name]).ok();
    assert_eq!(sandbox.json(&["snapshot", "ls"]), json!([]));
}

#[test]
fn a_volume_that_has_the_name_of_a_copy_already_is_not_written_to() {
    let (kept, source) = sandbox_with_volume();
    let sandbox = &kept.0;
    let taken = format!("{source}-snapshot-a-{}", next_entry(sandbox));
    foreign_volume(sandbox, &taken);
    let refused = sandbox.run(&["--json", "snapshot", "create", "--name", "a"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-ours")), "{}", refused.stderr);
    assert_eq!(images_of(&sandbox.host()), Vec::<String>::new());
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");

    let name = sandbox.json(&["snapshot", "create", "--name", "a"])["name"].as_str().unwrap().to_owned();
    let taken_too = format!("{source}-restored-{}", next_entry(sandbox));
    foreign_volume(sandbox, &taken_too);
    let refused = sandbox.run(&["--json", "snapshot", "restore", &name, "--as", "x"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-ours")), "{}", refused.stderr);
    for name in [taken, taken_too] {
        assert!(volume(&name).is_some_and(|volume| volume["Labels"][LABEL_SANDBOX] == sandbox.name()), "{name}");
        engine::delete(&format!("/volumes/{name}")).done();
    }
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
    sandbox.run(&["snapshot", "restore", &name, "--as", "x"]).ok();
}

#[test]
fn the_snapshot_of_a_sidecar_is_restored_as_a_sidecar() {
    let sandbox = Sandbox::new();
    sandbox.write("project/here", "");
    sandbox.json(&["up", "--network", "own"]);
    sandbox.json(&["sidecar", "add", "db", "--image", BASE, "--", "sleep", "1000"]);
    let kept = Kept(sandbox);
    let sandbox = &kept.0;
    sandbox.run(&["exec", "project/db", "--", "sh", "-c", "echo rows > /kept"]).ok();
    let name = sandbox.json(&["snapshot", "create", "project/db", "--name", "sd"])["name"].as_str().unwrap().to_owned();
    sandbox.run(&["exec", "project/db", "--", "rm", "/kept"]).ok();

    let id = format!("{}-db", sandbox.id());
    let view = sandbox.json(&["snapshot", "restore", &name, "--recreate"]);
    assert_eq!((&view["id"], &view["name"]), (&json!(id), &json!("project/db")));
    assert_eq!((&view["part_of"], &view["labels"]["sidecar"]), (&json!(sandbox.id()), &json!("db")));
    let read = ["exec", "project/db", "--", "sh", "-c", "cat /kept; test ! -e /workspace/here && echo none"];
    assert_eq!(sandbox.run(&read).ok().text(), "rows\nnone\n");
    sandbox.sh("nslookup db >/dev/null");
    assert_eq!(sandbox.json(&["ls"]).as_array().map(Vec::len), Some(2));

    let view = sandbox.json(&["snapshot", "restore", &name, "--as", "second"]);
    assert_eq!((&view["name"], &view["part_of"]), (&json!("project/second"), &json!(sandbox.id())));
    sandbox.json(&["down"]);
    let refused = sandbox.run(&["snapshot", "restore", &name]);
    assert!(refused.code == 5 && refused.stderr.contains("sidecar"), "{}: {}", refused.code, refused.stderr);
    sandbox.assert_nothing_left();
}

#[test]
fn a_snapshot_that_is_killed_thaws_what_it_froze_and_not_what_its_user_had_paused() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let kept = Kept(sandbox);
    let sandbox = &kept.0;
    // Wharf waits for the image until it is killed.
    let engine = relay(&sandbox.path("relay.sock"), |request| {
        if request.contains("/commit?") {
            std::thread::sleep(Duration::from_secs(3600));
        }
        true
    });
    for (paused, state) in [(false, "running"), (true, "paused")] {
        if paused {
            sandbox.json(&["pause"]);
        }
        let mut run = sandbox.spawn(&["--engine", &engine, "snapshot", "create", "--name", "killed"]);
        let container = sandbox.own_containers()[0]["Id"].as_str().unwrap().to_owned();
        let own = |entry: &wharf::store::JournalEntry| entry.undone.is_none();
        until("it is frozen", || {
            sandbox.store().open_entries().unwrap().iter().any(own)
                && engine::inspect(&container)["State"]["Paused"] == true
        });
        run.child().kill().unwrap();
        run.finish();
        sandbox.json(&["ls"]);
        assert_eq!(sandbox.json(&["inspect"])["state"], state);
        if !paused {
            // An undone intent is checked again for a while, because the engine may be late.
            until("the engine cannot be late any more", || {
                sandbox.json(&["ls"]);
                sandbox.store().open_entries().unwrap().is_empty()
            });
        }
    }
}

#[test]
fn a_sweep_that_removes_the_image_of_a_snapshot_forgets_the_snapshot() {
    let (kept, _) = sandbox_with_volume();
    let sandbox = &kept.0;
    let first = sandbox.json(&["snapshot", "create", "--name", "first"]);
    sandbox.json(&["snapshot", "create", "--name", "used"]);
    sandbox.json(&["snapshot", "restore", &format!("{}/used", sandbox.id()), "--as", "again"]);
    sandbox.script(
        "rule.rhai",
        "fn cleanup(ctx) { for c in ctx.candidates { if c.kind == \"image\" { ctx.remove(c.id, \"old\"); } } }",
    );
    sandbox.json(&["cleanup", "--no-grace"]);
    let left = sandbox.json(&["snapshot", "ls"]);
    let left: Vec<&str> = left.as_array().unwrap().iter().map(|kept| kept["name"].as_str().unwrap()).collect();
    assert_eq!(left, [format!("{}/used", sandbox.id())], "the image of the other one is in use");
    // The copy of its volume has a separate verdict, and is no longer part of a snapshot.
    let copy = first["volumes"].as_object().unwrap().values().next().unwrap().as_str().unwrap();
    sandbox.run(&["volume", "rm", copy]).ok();
}

#[test]
fn the_image_of_a_snapshot_goes_with_the_snapshot_and_not_before() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let kept = Kept(sandbox);
    let sandbox = &kept.0;
    let snapshot = sandbox.json(&["snapshot", "create", "--name", "s1"]);
    let (name, image) = (snapshot["name"].as_str().unwrap(), snapshot["image"].as_str().unwrap());
    assert_eq!(sandbox.json(&["image", "prune"]), json!([]));
    sandbox.refused(&["image", "rm", image], 1, "conflict", &[name]);
    sandbox.run(&["snapshot", "restore", name, "--as", "again"]).ok();
    sandbox.json(&["down", "again"]);
    sandbox.run(&["snapshot", "rm", name]).ok();
    assert_eq!(images_of(&sandbox.host()), Vec::<String>::new());
}
