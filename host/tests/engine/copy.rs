//! Files in and out.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::engine_api::BASE;
use super::sandbox::Sandbox;
use super::server::both_ways;

#[test]
fn files_and_folders_come_out_as_they_went_in() {
    both_ways(|sandbox| {
        sandbox.up();
        let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        sandbox.write("src/deep/big", &big);
        sandbox.write("src/name with space", "x");
        std::os::unix::fs::symlink("deep/big", sandbox.path("src/link")).unwrap();
        let at = |relative: &str| sandbox.path(relative).display().to_string();

        // A folder that is there is copied into; another name is the new name; `/.` means what is in it.
        sandbox.run(&["cp", &at("src"), ":/tmp"]).ok();
        sandbox.run(&["cp", &at("src"), ":/tmp/other"]).ok();
        sandbox.run(&["cp", &format!("{}/.", at("src")), ":/var/tmp"]).ok_or_made(sandbox);
        sandbox.run(&["cp", &at("src/deep/big"), ":/tmp/renamed"]).ok();
        let sums =
            sandbox.sh("sha256sum /tmp/src/deep/big /tmp/other/link /tmp/renamed | cut -c1-64 | sort -u | wc -l");
        assert_eq!(sums.trim(), "1");

        sandbox.run(&["cp", ":/tmp/src", &at("out")]).ok();
        assert_eq!(std::fs::read(sandbox.path("out/deep/big")).unwrap(), big);
        assert_eq!(std::fs::read_link(sandbox.path("out/link")).unwrap().display().to_string(), "deep/big");
        // Into a folder that has it already: merged, with the newer contents.
        std::fs::write(sandbox.path("out/kept"), "mine").unwrap();
        std::fs::write(sandbox.path("out/name with space"), "old").unwrap();
        sandbox.run(&["cp", ":/tmp/src/.", &at("out")]).ok();
        assert_eq!(std::fs::read_to_string(sandbox.path("out/kept")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(sandbox.path("out/name with space")).unwrap(), "x");
        sandbox.run(&["cp", ":/tmp/renamed", &at("out/file")]).ok();
        assert_eq!(std::fs::read(sandbox.path("out/file")).unwrap(), big);
        let left = std::fs::read_dir(sandbox.path("out")).unwrap().flatten();
        let hidden: Vec<_> =
            left.map(|entry| entry.file_name()).filter(|n| n.to_string_lossy().starts_with('.')).collect();
        assert!(hidden.is_empty(), "{hidden:?}");
    });
}

trait OkOrMade {
    fn ok_or_made(self, sandbox: &Sandbox);
}

impl OkOrMade for super::sandbox::Output {
    /// The image may lack the folder; then the engine says so.
    fn ok_or_made(self, sandbox: &Sandbox) {
        if self.code != 0 {
            assert!(self.stderr.contains("/var"), "{}", self.stderr);
            return;
        }
        assert_eq!(sandbox.sh("ls '/var/tmp/name with space'").trim(), "/var/tmp/name with space");
    }
}

#[test]
fn archives_go_through_pipes_in_both_directions() {
    both_ways(|sandbox| {
        sandbox.up();
        let tar = sandbox.run(&["cp", ":/bin", "-"]).ok();
        let names: Vec<u8> = tar.stdout.iter().take(4).copied().collect();
        assert_eq!(names, b"bin/");
        sandbox.feed(&["cp", "-", ":/tmp"], tar.stdout).ok();
        assert_eq!(sandbox.sh("ls /tmp/bin | wc -l"), sandbox.sh("ls /bin | wc -l"));
        // What is no archive is refused by the engine, and said.
        let broken = sandbox.feed(&["--json", "cp", "-", ":/tmp"], vec![7; 100_000]);
        assert_eq!(broken.code, 1, "{}", broken.stderr);
    });
}

#[test]
fn what_is_copied_in_belongs_to_the_user_of_the_workspace() {
    both_ways(|sandbox| {
        sandbox.json(&["up", "--user", "1000:1000"]);
        let file = sandbox.write("mine", "x");
        sandbox.run(&["cp", &file.display().to_string(), ":/tmp/mine"]).ok();
        assert_eq!(sandbox.sh("stat -c %u:%g /tmp/mine; echo more >> /tmp/mine"), "1000:1000\n");
        sandbox.run(&["cp", ":/tmp/mine", &sandbox.path("back").display().to_string()]).ok();
        let here = std::fs::metadata(sandbox.path("config")).unwrap();
        assert_eq!(std::fs::metadata(sandbox.path("back")).unwrap().uid(), here.uid());
    });
}

#[test]
fn copying_works_while_it_is_stopped() {
    both_ways(|sandbox| {
        sandbox.up();
        sandbox.json(&["stop", "-t", "0s"]);
        let file = sandbox.write("late", "x");
        sandbox.run(&["cp", &file.display().to_string(), ":/tmp/late"]).ok();
        sandbox.run(&["cp", ":/tmp/late", &sandbox.path("back").display().to_string()]).ok();
        assert_eq!(std::fs::read_to_string(sandbox.path("back")).unwrap(), "x");
    });
}

#[test]
fn bad_paths_are_refused_and_nothing_is_made() {
    both_ways(|sandbox| {
        sandbox.up();
        let at = |relative: &str| sandbox.path(relative).display().to_string();
        sandbox.write("file", "x");
        sandbox.folder("folder");
        for (from, to, code, word) in [
            (at("file"), at("other"), 2, "bad-request"),
            (":/a".into(), ":/b".into(), 2, "bad-request"),
            (at("file"), ":relative".into(), 2, "bad-request"),
            (at("none"), ":/tmp".into(), 1, "local-file"),
            (at("file"), ":/no/such/folder".into(), 1, "not-found"),
            (at("file"), ":/tmp/folder/".into(), 1, "not-found"),
            (at("folder"), ":/bin/sh".into(), 1, "bad-request"),
            (":/no/such".into(), at("out"), 1, "not-found"),
            (":/bin".into(), at("file"), 1, "bad-request"),
            (":/bin".into(), at("no/such/out"), 1, "local-file"),
            ("nope:/a".into(), at("out"), 5, "workspace-not-found"),
        ] {
            let output = sandbox.run(&["--json", "cp", &from, &to]);
            assert_eq!((output.code, &output.error()["code"]), (code, &json!(word)), "{from} {to}: {}", output.stderr);
        }
        assert!(!sandbox.path("out").exists());
        assert_eq!(std::fs::read_to_string(sandbox.path("file")).unwrap(), "x");
    });
}

#[test]
fn policies_can_forbid_copying() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "no-copies.rhai",
        "fn pre_exec(ctx) { let c = ctx.exec.command; if c[1] == \"cp\" { ctx.deny(\"no-cp\", `no ${c[2]} for ${c[3]}`); } }",
    );
    sandbox.json(&["up", "--image", BASE]);
    let file = sandbox.write("file", "x").display().to_string();
    for (args, said) in [(["cp", &file, ":/tmp"], "no in for /tmp"), (["cp", ":/bin/sh", &file], "no out for /bin/sh")]
    {
        let output = sandbox.run(&[&["--json"], args.as_slice()].concat());
        assert_eq!((output.code, &output.error()["code"]), (4, &json!("no-cp")), "{}", output.stderr);
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    assert_eq!(std::fs::read_to_string(sandbox.path("file")).unwrap(), "x");
}

#[test]
fn what_a_copy_left_that_was_killed_is_removed_by_the_next_one() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.sh("echo new > /tmp/file");
    let target = sandbox.folder("target");
    // No process has this number, and this test's lives.
    let (dead, foreign) = (target.join(".wharf-cp-4194304-1"), target.join(".wharf-cp-notes"));
    std::fs::create_dir(&dead).unwrap();
    std::fs::create_dir(&foreign).unwrap();
    sandbox.run(&["cp", "project:/tmp/file", &format!("{}/", target.display())]).ok();
    assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), "new\n");
    assert!(!dead.exists() && foreign.exists());
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 2);
}
