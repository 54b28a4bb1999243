//! `kill -9` of every verb that changes something: at every request to the engine, before the engine receives it and
//! after it has answered, and at writes of the store. After each kill there is no orphan, no live object is lost, and
//! the next command works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::crash::consistent;
use crate::support::engine_api::{self as engine, BASE};
use crate::support::process::until;
use crate::support::sandbox::Sandbox;

mod half_done;
mod kill;
use kill::{Killer, When, run, run_writing};

/// Maximum number of kill points at writes of one verb.
const WRITES: usize = 8;

/// Returns the engine's objects of this installation other than containers and networks.
fn volumes_and_images(sandbox: &Sandbox) -> (Vec<String>, Vec<String>) {
    let host = sandbox.host();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours = engine::volumes().into_iter().filter(|volume| volume["Labels"]["wharf.host"] == host.as_str());
    let mut volumes: Vec<_> = ours.map(|volume| text(&volume["Name"])).collect();
    let all = engine::get("/images/json");
    let ours = all.as_array().unwrap().iter().filter(|image| image["Labels"]["wharf.image.host"] == host.as_str());
    let mut images: Vec<_> = ours.map(|image| text(&image["Id"])).collect();
    volumes.sort();
    images.sort();
    (volumes, images)
}

/// Kills a command at each of its requests, in both ways. `prepare` runs before each kill, `check` after the
/// recovery.
#[track_caller]
fn kill_everywhere(sandbox: &Sandbox, args: &[&str], prepare: impl Fn(&Sandbox), check: impl Fn(&Sandbox, &str)) {
    // A neighbour that must not be affected.
    let neighbour = sandbox.folder("neighbour");
    sandbox.run_in(&neighbour, &["up", "-q", "--image", BASE]).ok();
    let neighbour = format!("wharf-{}", sandbox.id_of("neighbour", &neighbour));
    let alive = engine::inspect(&neighbour)["State"]["StartedAt"].clone();
    let recover = |text: &str| {
        sandbox.json(&["ls"]);
        let begin = Instant::now();
        while !consistent(sandbox) {
            let left = (sandbox.own_containers(), sandbox.own_networks(), sandbox.store().open_entries());
            assert!(begin.elapsed() < Duration::from_secs(25), "{text}: left are {left:?}");
            std::thread::sleep(Duration::from_millis(100));
            sandbox.json(&["ls"]);
        }
        check(sandbox, text);
        assert_eq!(engine::inspect(&neighbour)["State"]["StartedAt"], alive, "{text}: the neighbour");
    };
    prepare(sandbox);
    let (requests, _) = run(sandbox, args, None);
    let mut points = 0;
    for number in 1..=requests {
        for when in [When::Before, When::After] {
            prepare(sandbox);
            let (_, killed) = run(sandbox, args, Some((number, when)));
            // Concurrent requests arrive in varying order, and the last ones may not arrive at all.
            points += usize::from(killed);
            recover(&format!("{args:?} killed {when:?} request {number} of {requests}"));
        }
    }
    prepare(sandbox);
    let (writes, _) = run_writing(sandbox, args, None);
    let mut at_writes = 0;
    for step in 1..=WRITES.min(writes) {
        // Evenly spread, including the last: the time between the last request and the end of the journal's entry.
        let number = writes * step / WRITES.min(writes);
        prepare(sandbox);
        let (_, killed) = run_writing(sandbox, args, Some(number));
        at_writes += usize::from(killed);
        recover(&format!("{args:?} killed at write {number} of {writes}"));
    }
    sandbox.store().verify(None).unwrap().whole().unwrap();
    // Shown with --no-capture: the numbers in host/TESTING.md.
    println!("{args:?}: {points} requests and {at_writes} writes were kill points");
    assert!(points >= requests, "{args:?}: only {points} of {} were kill points", 2 * requests);
    assert!(at_writes > 0, "{args:?}: it was killed at none of {writes} writes");
}

fn down(sandbox: &Sandbox) {
    let output = sandbox.run(&["down", "project"]);
    assert!([0, 5].contains(&output.code), "{}", output.stderr);
}

const UP: [&str; 3] = ["up", "--image", BASE];

/// Checks that the next `up` works in any state.
#[track_caller]
fn next_up_works(sandbox: &Sandbox, when: &str) {
    let output = sandbox.run(&[&UP[..], &["--recreate"]].concat());
    assert_eq!(output.code, 0, "{when}: {}", output.stderr);
    assert_eq!(sandbox.sh("echo works"), "works\n", "{when}");
}

#[test]
fn up_survives_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    let volume = format!("v-{}", sandbox.name());
    let mount = format!("{volume}:/data");
    let args = [&UP[..], &["--network", "own", "--mount", &mount]].concat();
    let prepare = |sandbox: &Sandbox| {
        down(sandbox);
        let _ = sandbox.run(&["volume", "rm", &volume]);
    };
    kill_everywhere(&sandbox, &args, prepare, |sandbox, when| {
        let made = !sandbox.json(&["ls"]).as_array().unwrap().iter().all(|view| view["name"] == "neighbour");
        let (volumes, _) = volumes_and_images(sandbox);
        assert_eq!(volumes.len(), usize::from(made), "{when}: {volumes:?}");
        next_up_works(sandbox, when);
    });
}

#[test]
fn recreating_survives_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    let args = [&UP[..], &["--recreate", "-e", "NEW=1"]].concat();
    let prepare = |sandbox: &Sandbox| {
        down(sandbox);
        sandbox.json(&UP);
    };
    kill_everywhere(&sandbox, &args, prepare, |sandbox, when| {
        // The old container or the new one, but never none.
        let views = sandbox.json(&["ls"]);
        let view = views.as_array().unwrap().iter().find(|view| view["name"] == "project");
        assert!(view.is_some_and(|view| view["state"] != "missing"), "{when}: {views}");
        sandbox.json(&["start"]);
        assert_eq!(sandbox.sh("echo works"), "works\n", "{when}");
    });
}

#[test]
fn removing_a_workspace_with_a_sidecar_survives_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    let prepare = |sandbox: &Sandbox| {
        down(sandbox);
        sandbox.json(&[&UP[..], &["--", "sleep", "600"]].concat());
        sandbox.json(&[
            "sidecar",
            "add",
            "db",
            "--image",
            BASE,
            "--",
            "sh",
            "-c",
            "trap exit TERM; while :; do sleep 0.1; done",
        ]);
        sandbox.json(&["kill"]);
    };
    kill_everywhere(&sandbox, &["rm", "--force", "project"], prepare, next_up_works);
}

#[test]
fn stopping_and_restarting_survive_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    let prepare = |sandbox: &Sandbox| {
        sandbox.run(&[&UP[..], &["--", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]].concat()).ok();
    };
    let check = |sandbox: &Sandbox, when: &str| {
        sandbox.json(&["start"]);
        assert_eq!(sandbox.sh("echo works"), "works\n", "{when}");
    };
    kill_everywhere(&sandbox, &["stop", "project"], prepare, check);
    kill_everywhere(&sandbox, &["restart", "project"], prepare, |sandbox, when| {
        // The workspace is not left stopped.
        assert_eq!(sandbox.sh("echo works"), "works\n", "{when}");
        check(sandbox, when);
    });
}

#[test]
fn a_start_that_was_killed_is_finished_and_its_policies_are_asked() {
    let sandbox = Sandbox::new();
    sandbox.script("notes.rhai", "fn post_start(ctx) { ctx.note(\"asked\"); }");
    sandbox.json(&UP);
    let prepare = |sandbox: &Sandbox| drop(sandbox.json(&["kill"]));
    kill_everywhere(&sandbox, &["start", "project"], prepare, |sandbox, when| {
        let unfinished = sandbox.json(&["inspect"]);
        let started = sandbox.json(&["start"]);
        assert_eq!(started["notes"], json!(["asked"]), "{when}: {started}");
        assert_eq!(started["degraded"], Value::Null, "{when}");
        // A workspace that runs without its policies having been called is reported.
        if unfinished["state"] == "running" && unfinished["notes"] != started["notes"] {
            let reason = unfinished["degraded"].as_str().unwrap_or_default();
            assert!(reason.contains("post-start"), "{when}: {unfinished}");
        }
    });
}

#[test]
fn a_killed_replacement_leaves_what_ran_running() {
    let sandbox = Sandbox::new();
    sandbox.json(&UP);
    let args = [&UP[..], &["--recreate"]].concat();
    let (requests, _) = run(&sandbox, &args, None);
    for number in 1..=requests {
        run(&sandbox, &args, Some((number, When::Before)));
        until("it runs again", || {
            let views = sandbox.json(&["ls"]);
            consistent(&sandbox) && views[0]["state"] == "running"
        });
    }
}

#[test]
fn a_command_in_a_container_that_is_just_ending_says_that_it_is_not_running() {
    let sandbox = Sandbox::new();
    sandbox.json(&[&UP[..], &["--", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]].concat());
    for _ in 0..20 {
        let stop = sandbox.spawn(&["stop"]);
        until("a command finds it stopped", || {
            let output = sandbox.run(&["exec", "--", "true"]);
            // Before the stop, or killed by it.
            let ran = [0, 137, 143].contains(&output.code);
            let told = ["is not running", "is exited"].iter().any(|words| output.stderr.contains(words));
            assert!(ran || told, "{}: {}", output.code, output.stderr);
            !ran
        });
        assert_eq!(stop.finish().code, 0);
        sandbox.json(&["start"]);
    }
}

#[test]
fn adding_a_sidecar_survives_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    sandbox.json(&UP);
    let prepare = |sandbox: &Sandbox| drop(sandbox.run(&["sidecar", "rm", "db"]));
    let args =
        ["sidecar", "add", "db", "--image", BASE, "--", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"];
    kill_everywhere(&sandbox, &args, prepare, |sandbox, when| {
        let output = sandbox.run(&args);
        assert_eq!(output.code, 0, "{when}: {}", output.stderr);
    });
}

#[test]
fn changing_limits_survives_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    sandbox.json(&[&UP[..], &["--memory", "256MiB"]].concat());
    let prepare = |sandbox: &Sandbox| drop(sandbox.json(&["update", "--memory", "256MiB"]));
    kill_everywhere(&sandbox, &["update", "--memory", "512MiB"], prepare, |sandbox, when| {
        // The engine's value matches the store's.
        let known = sandbox.store().workspace(&sandbox.id().parse().unwrap()).unwrap().unwrap();
        let there = engine::inspect(&format!("wharf-{}", sandbox.id()))["HostConfig"]["Memory"].clone();
        assert_eq!(there, json!(known.draft.spec.resources.memory), "{when}");
    });
}

#[test]
fn sweeping_survives_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "sweep.rhai",
        "fn cleanup(ctx) { for c in ctx.candidates { if !c.used { ctx.remove(c.id, \"unused\"); } } }",
    );
    let volume = format!("v-{}", sandbox.name());
    let mount = format!("{volume}:/data");
    let prepare = |sandbox: &Sandbox| {
        sandbox.run(&[&UP[..], &["--recreate", "--network", "own", "--mount", &mount]].concat()).ok();
        sandbox.json(&["kill"]);
    };
    kill_everywhere(&sandbox, &["cleanup", "--no-grace"], prepare, |sandbox, when| {
        sandbox.run(&["cleanup", "--no-grace"]).ok();
        sandbox.run(&["cleanup", "--no-grace"]).ok();
        assert_eq!(volumes_and_images(sandbox), (vec![], vec![]), "{when}");
        assert_eq!(sandbox.json(&["ls"]).as_array().map(Vec::len), Some(1), "{when}: only the neighbour");
        assert_eq!(sandbox.json(&["cleanup", "ls"]), json!([]), "{when}");
    });
}

#[test]
fn snapshots_and_restores_survive_a_kill_at_every_step() {
    let sandbox = Sandbox::new();
    let volume = format!("v-{}", sandbox.name());
    let mount = format!("{volume}:/data");
    sandbox.json(&[&UP[..], &["--mount", &mount]].concat());
    sandbox.sh("echo kept > /data/file");
    let name = format!("{}/s", sandbox.id());
    let remove = |sandbox: &Sandbox| drop(sandbox.run(&["snapshot", "rm", &name]));
    kill_everywhere(&sandbox, &["snapshot", "create", "project", "--name", "s"], remove, |sandbox, when| {
        let known = sandbox.store().snapshots(None).unwrap().len();
        let begin = Instant::now();
        // The engine may be late with an image.
        loop {
            let (volumes, images) = volumes_and_images(sandbox);
            if (volumes.len(), images.len()) == (1 + known, known) {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(25), "{when}: {volumes:?} {images:?}, {known} known");
            std::thread::sleep(Duration::from_millis(100));
            sandbox.json(&["ls"]);
        }
        assert_eq!(sandbox.sh("cat /data/file"), "kept\n", "{when}");
    });
    remove(&sandbox);
    sandbox.run(&["snapshot", "create", "project", "--name", "s"]).ok();
    let again = |sandbox: &Sandbox| drop(sandbox.run(&["rm", "--force", "--volumes", "again"]));
    kill_everywhere(&sandbox, &["snapshot", "restore", &name, "--as", "again"], again, |sandbox, when| {
        let made = sandbox.json(&["ls"]).as_array().unwrap().iter().any(|view| view["name"] == "again");
        let (volumes, _) = volumes_and_images(sandbox);
        assert_eq!(volumes.len(), 2 + usize::from(made), "{when}: {volumes:?}");
        assert_eq!(sandbox.store().snapshots(None).unwrap().len(), 1, "{when}");
    });
    again(&sandbox);
    remove(&sandbox);
}

#[test]
fn an_intent_that_cannot_be_put_right_is_told_and_keeps_nobody_from_working() {
    let sandbox = Sandbox::new();
    sandbox.json(&[&UP[..], &["--memory", "256MiB"]].concat());
    let memory = || engine::inspect(&format!("wharf-{}", sandbox.id()))["HostConfig"]["Memory"].as_u64().unwrap();
    // Killed when the engine is done and the store does not know it yet.
    for number in 1.. {
        assert!(number < 30, "no request changed the limits");
        run(&sandbox, &["update", "--memory", "512MiB"], Some((number, When::After)));
        if memory() == 512 << 20 && !sandbox.store().open_entries().unwrap().is_empty() {
            break;
        }
        sandbox.json(&["update", "--memory", "256MiB"]);
    }
    let relay = Killer::new(&sandbox.path("killer.sock"));
    *relay.shared.refused.lock().unwrap() = Some("/update");
    let output = sandbox.run(&["--engine", &relay.endpoint, "ls"]).ok();
    assert!(output.stderr.contains("cannot finish or undo"), "{}", output.stderr);
    assert_eq!(sandbox.run(&["--engine", &relay.endpoint, "exec", "--", "echo", "works"]).ok().text(), "works\n");
    // As soon as it is possible, it happens.
    sandbox.json(&["ls"]);
    assert_eq!((memory(), sandbox.store().open_entries().unwrap().len()), (256 << 20, 0));
}
