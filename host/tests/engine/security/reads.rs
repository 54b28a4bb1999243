//! Swaps that a project's own processes make while Wharf reads the project (numbers 8 and 9).

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::service::serve::Serving;
use crate::support::engine_api::BASE;
use crate::support::fake_daemon::relay;
use crate::support::sandbox::Sandbox;
use crate::support::service_api as api;

const OUTSIDE: &str = "HOST-SECRET-OUTSIDE";

/// Runs a function while pairs of names in a folder are swapped as fast as possible.
pub(super) fn while_exchanged(folder: &Path, pairs: &[(&str, &str)], run: impl FnOnce()) {
    let end = Arc::new(AtomicBool::new(false));
    let pairs: Vec<_> = pairs.iter().map(|(a, b)| (folder.join(a), folder.join(b))).collect();
    let ends = end.clone();
    let swapper = std::thread::spawn(move || {
        let mut count = 0_u64;
        while !ends.load(Ordering::Relaxed) {
            for (a, b) in &pairs {
                renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
            }
            count += 1;
        }
        count
    });
    run();
    end.store(true, Ordering::Relaxed);
    assert!(swapper.join().unwrap() > 1_000, "the names were exchanged meanwhile");
}

fn outside(sandbox: &Sandbox) {
    sandbox.write("outside/go.mod", OUTSIDE);
    sandbox.write(
        "outside/devcontainer.json",
        format!("{{\"image\": \"{BASE}\", \"containerEnv\": {{\"A\": \"{OUTSIDE}\"}}}}"),
    );
    for number in 0..40 {
        sandbox.write(&format!("outside/{number}"), OUTSIDE);
        sandbox.write(&format!("project/sub/{number}"), "inside");
    }
}

/// Returns pairs of names to swap. The project, which a policy reads, has files, a folder and a `devcontainer.json`
/// that are swapped with links to the outside.
fn swapped(sandbox: &Sandbox) -> [(&'static str, &'static str); 3] {
    sandbox.script(
        "read.rhai",
        "fn wanted_files(settings) { [\"go.mod\", \"sub/1\"] }\nfn pre_create(ctx) { ctx.log(`${ctx.project.contents}`); }\n",
    );
    outside(sandbox);
    sandbox.write("project/go.mod", "module inside");
    symlink("../outside/go.mod", sandbox.path("project/go.other")).unwrap();
    symlink("../outside", sandbox.path("project/way")).unwrap();
    symlink("../outside", sandbox.path("project/road")).unwrap();
    sandbox.write("project/.devcontainer/devcontainer.json", format!("{{\"image\": \"{BASE}\"}}"));
    [("go.mod", "go.other"), ("sub", "way"), (".devcontainer", "road")]
}

#[test]
fn two_thousand_plans_of_a_project_whose_files_are_exchanged_show_nothing_from_outside() {
    let sandbox = Sandbox::new();
    let pairs = swapped(&sandbox);
    let serving = Serving::start(&sandbox, &[]);
    let body = json!({ "project": sandbox.project() }).to_string();
    let seen = AtomicUsize::new(0);
    while_exchanged(&sandbox.project(), &pairs, || {
        for _ in 0..10 {
            let plan = sandbox.run(&["-vv", "plan", "--offline"]);
            let all = format!("{}{}", plan.text(), plan.stderr);
            assert!(!all.contains(OUTSIDE), "{all}");
        }
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let plan = api::post(&sandbox, "/v1/plan", &body);
                        let all = String::from_utf8_lossy(&plan.body);
                        // A file that has become another one also gives a valid answer.
                        assert!(matches!(plan.status, 200 | 422), "{} {all}", plan.status);
                        assert!(!all.contains(OUTSIDE), "{all}");
                        seen.fetch_add(usize::from(all.contains("inside")), Ordering::Relaxed);
                    }
                });
            }
        });
    });
    let seen = seen.into_inner();
    assert!(seen > 100, "the project's own files are read: {seen}");
    serving.end();
}

/// Whether the engine received data from outside, and the number of contexts that it received.
static LEAKED: AtomicBool = AtomicBool::new(false);
static CONTEXTS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn two_hundred_builds_of_a_project_whose_folders_are_exchanged_send_nothing_from_outside() {
    let sandbox = Sandbox::new();
    // Repeated so often that no border between two pieces hides it.
    sandbox.write("outside/1", OUTSIDE.repeat(200));
    sandbox.write("project/sub/1", "inside");
    sandbox.write("project/Dockerfile", "FROM scratch\nCOPY . /c\n");
    symlink("../outside", sandbox.path("project/way")).unwrap();
    let endpoint = relay(&sandbox.path("relay.sock"), |sent| {
        LEAKED.fetch_or(sent.contains(OUTSIDE), Ordering::Relaxed);
        CONTEXTS.fetch_add(usize::from(sent.contains("COPY . /c")), Ordering::Relaxed);
        true
    });
    sandbox.append_config(&format!("[engine]\nendpoint = \"{endpoint}\""));
    let serving = Serving::start(&sandbox, &[]);
    let body = json!({ "build": { "context": sandbox.project() } }).to_string();
    let (begun, mut built, mut last) = (Instant::now(), 0, String::new());
    while_exchanged(&sandbox.project(), &[("sub", "way")], || {
        // Many builds hit a swap and are refused at once.
        while built < 200 && begun.elapsed() < Duration::from_secs(90) {
            let build = api::post(&sandbox, "/v1/images/build", &body);
            built += usize::from(build.status == 200);
            last = String::from_utf8_lossy(&build.body).into_owned();
            assert!(!LEAKED.load(Ordering::Relaxed), "the engine was sent something from outside");
        }
    });
    assert!(CONTEXTS.load(Ordering::Relaxed) >= built, "contexts go this way");
    assert!(built > 50, "{built} were built: {last}");
    serving.end();
}
