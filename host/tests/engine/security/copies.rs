//! `cp`: the path that policies see is the path that is read, and nothing is written outside the named place.

use std::os::unix::fs::symlink;

use super::reads::while_exchanged;
use crate::service::remote::both_ways;
use crate::support::engine_api::BASE;
use crate::support::sandbox::Sandbox;

/// Copies a tree out many times while names in a folder are swapped. Returns how many copies succeeded and were
/// refused.
fn copies_while_exchanged(sandbox: &Sandbox, folder: &str, pair: (&str, &str), to: &str) -> (usize, usize) {
    let (mut whole, mut refused) = (0, 0);
    while_exchanged(&sandbox.path(folder), &[pair], || {
        for number in 0..40 {
            let from = if number % 2 == 0 { ":/tmp/tree" } else { ":/tmp/tree/." };
            let copy = sandbox.run(&["cp", from, &sandbox.path(to).display().to_string()]);
            whole += usize::from(copy.code == 0);
            refused += usize::from(copy.code == 1);
            assert!(matches!(copy.code, 0 | 1), "{} {}", copy.code, copy.stderr);
        }
    });
    (whole, refused)
}

#[test]
fn a_copy_out_to_a_place_whose_folders_and_links_are_exchanged_writes_nothing_outside() {
    both_ways(|sandbox| {
        sandbox.up();
        let fill = "for d in tree tree/sub tree/sub/deep; do mkdir -p /tmp/$d; for n in 1 2 3; do echo COPIED > /tmp/$d/$n; done; done";
        sandbox.sh(fill);
        sandbox.write("outside/1", "kept");
        // In the project, which a workspace can write, the target itself is swapped; elsewhere, an object below it.
        sandbox.folder("project/out");
        symlink("../outside", sandbox.path("project/way")).unwrap();
        let inside = copies_while_exchanged(sandbox, "project", ("out", "way"), "project/out");
        sandbox.folder("to/tree/sub");
        symlink("../../outside", sandbox.path("to/tree/way")).unwrap();
        let below = copies_while_exchanged(sandbox, "to/tree", ("sub", "way"), "to");
        let outside: Vec<_> = std::fs::read_dir(sandbox.path("outside")).unwrap().flatten().collect();
        assert_eq!(outside.len(), 1, "{outside:?}");
        assert_eq!(std::fs::read_to_string(sandbox.path("outside/1")).unwrap(), "kept");
        for (whole, refused) in [inside, below] {
            assert!(whole > 0 && refused > 0, "{whole} copies came through, {refused} were refused");
        }
    });
}

#[test]
fn a_link_in_a_project_that_is_named_for_a_copy_leads_to_places_in_the_project_only() {
    both_ways(|sandbox| {
        sandbox.up();
        sandbox.sh("echo x > /tmp/file");
        sandbox.folder("project/real");
        sandbox.folder("outside");
        symlink("real", sandbox.path("project/near")).unwrap();
        symlink("../outside", sandbox.path("project/far")).unwrap();
        symlink(sandbox.project(), sandbox.path("way")).unwrap();
        for to in ["project/near", "way/near"] {
            sandbox.run(&["cp", ":/tmp/file", &sandbox.path(to).display().to_string()]).ok();
            std::fs::remove_file(sandbox.path("project/real/file")).unwrap();
        }
        for to in ["project/far", "way/far", "project/far/new"] {
            let copy = sandbox.run(&["cp", ":/tmp/file", &sandbox.path(to).display().to_string()]);
            assert!(copy.code == 1 && copy.stderr.contains("leads out of"), "{to}: {}", copy.stderr);
        }
        // A `..` that the user wrote is not a link.
        sandbox.run(&["cp", ":/tmp/file", "../outside/file"]).ok();
        assert_eq!(std::fs::read_dir(sandbox.path("outside")).unwrap().count(), 1);
    });
}

#[test]
fn a_denied_path_is_denied_in_every_spelling() {
    let sandbox = Sandbox::new();
    sandbox.config("[[policy]]\nname = \"no\"\nscript = \"policies/no.rhai\"\n");
    let script = r#"fn pre_exec(ctx) {
    let words = ctx.exec.command;
    if words.len() == 4 && words[0] == "wharf" && words[1] == "cp" && words[3].starts_with("/run/secrets") { ctx.deny("no", "not the secrets"); }
}"#;
    sandbox.write("config/policies/no.rhai", script);
    let value = sandbox.write("value", "hush");
    sandbox.json(&["up", "--image", BASE, "--secret", &format!("K={}", value.display())]);
    let to = sandbox.path("out");
    let spellings = [
        "/run/secrets/K",
        "//run/secrets/K",
        "/run/./secrets/K",
        "/run/../run/secrets/K",
        "/../run/secrets/K",
        "/run//secrets/./K",
        "/tmp/../run/secrets/.",
        "/run/secrets/",
    ];
    for path in spellings {
        let out = sandbox.run(&["cp", &format!("project:{path}"), to.to_str().unwrap()]);
        assert!(out.code != 0 && out.stderr.contains("not the secrets"), "{path}: {}", out.stderr);
        assert!(!to.exists(), "{path}");
        let stream = sandbox.run(&["cp", &format!("project:{path}"), "-"]);
        assert!(stream.code != 0 && stream.stdout.is_empty(), "{path}");
    }
    // An allowed path is found in each spelling.
    sandbox.sh("echo here > /tmp/file");
    for path in ["/tmp/file", "//tmp/./file", "/run/../tmp/file"] {
        sandbox.run(&["cp", &format!("project:{path}"), to.to_str().unwrap()]).ok();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "here\n");
        std::fs::remove_file(&to).unwrap();
        let from = sandbox.write("from", "in");
        sandbox.run(&["cp", from.to_str().unwrap(), &format!("project:{path}")]).ok();
        assert_eq!(sandbox.sh("cat /tmp/file; echo here > /tmp/file"), "in");
    }
}
