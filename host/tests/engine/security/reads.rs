//! What a project's own processes exchange while Wharf reads the project (numbers 8 and 9).

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::engine_api::BASE;
use crate::sandbox::Sandbox;

const OUTSIDE: &str = "HOST-SECRET-OUTSIDE";

/// Runs something while pairs of names in a folder are exchanged as fast as possible.
fn while_exchanged(folder: &Path, pairs: &[(&str, &str)], run: impl FnOnce()) {
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

#[test]
fn plans_of_a_project_whose_files_are_exchanged_show_nothing_from_outside() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "read.rhai",
        "fn wanted_files(settings) { [\"go.mod\", \"sub/1\"] }\nfn pre_create(ctx) { ctx.log(`${ctx.project.contents}`); }\n",
    );
    outside(&sandbox);
    sandbox.write("project/go.mod", "module inside");
    symlink("../outside/go.mod", sandbox.path("project/go.other")).unwrap();
    symlink("../outside", sandbox.path("project/way")).unwrap();
    symlink("../outside", sandbox.path("project/road")).unwrap();
    sandbox.write("project/.devcontainer/devcontainer.json", format!("{{\"image\": \"{BASE}\"}}"));
    let pairs = [("go.mod", "go.other"), ("sub", "way"), (".devcontainer", "road")];
    let mut seen = 0;
    while_exchanged(&sandbox.project(), &pairs, || {
        for _ in 0..150 {
            let plan = sandbox.run(&["-vv", "plan", "--offline"]);
            let all = format!("{}{}", plan.text(), plan.stderr);
            assert!(!all.contains(OUTSIDE), "{all}");
            seen += usize::from(all.contains("inside"));
        }
    });
    assert!(seen > 5, "the project's own files are read: {seen}");
}

#[test]
fn builds_of_a_project_whose_folders_are_exchanged_have_nothing_from_outside() {
    let sandbox = Sandbox::new();
    outside(&sandbox);
    symlink("../outside", sandbox.path("project/way")).unwrap();
    let dockerfile = format!("FROM {BASE}\nCOPY . /c\nRUN if grep -r {OUTSIDE} /c; then echo LEA''KED; exit 9; fi\n");
    sandbox.write("project/Dockerfile", dockerfile.replace(OUTSIDE, "HOST-SECRET-[O]UTSIDE"));
    let (mut built, mut last) = (0, String::new());
    while_exchanged(&sandbox.project(), &[("sub", "way")], || {
        // Most of them meet an exchange and are refused at once.
        for _ in 0..200 {
            let build = sandbox.run(&["image", "build", "."]);
            assert!(!build.stderr.contains("LEAKED") && !build.text().contains("LEAKED"), "{}", build.stderr);
            built += usize::from(build.code == 0);
            last = build.stderr;
            if built == 10 {
                break;
            }
        }
    });
    assert!(built > 0, "some were built: {last}");
}
