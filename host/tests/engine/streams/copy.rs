//! Files in and out.

use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::service::remote::both_ways;
use crate::support::engine_api::BASE;
use crate::support::process::Running;
use crate::support::sandbox::{Sandbox, until};

#[test]
fn files_and_folders_come_out_as_they_went_in() {
    both_ways(|sandbox| {
        sandbox.up();
        let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        sandbox.write("src/deep/big", &big);
        sandbox.write("src/name with space", "x");
        std::os::unix::fs::symlink("deep/big", sandbox.path("src/link")).unwrap();
        let at = |relative: &str| sandbox.path(relative).display().to_string();

        // An existing folder receives the copy; another name becomes the new name; `/.` stands for the contents.
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
        // Into a folder that already has it: merged, with the newer contents.
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

impl OkOrMade for crate::support::sandbox::Output {
    /// The image may lack the folder, which the engine then reports.
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
        // The engine refuses data that is no archive, which is reported.
        let broken = sandbox.feed(&["--json", "cp", "-", ":/tmp"], vec![7; 100_000]);
        assert_eq!((broken.code, &broken.error()["code"]), (2, &json!("bad-request")), "{}", broken.stderr);
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
fn a_relative_path_begins_in_the_working_directory_of_the_workspace() {
    both_ways(|sandbox| {
        sandbox.up();
        let file = sandbox.write("note", "hello");
        sandbox.run(&["cp", file.to_str().unwrap(), ":note"]).ok();
        assert_eq!(sandbox.sh("cat /workspace/note"), "hello");
        sandbox.sh("mkdir -p dist && echo -n built > dist/app");
        let back = sandbox.path("back");
        sandbox.run(&["cp", &format!("{}:dist/app", sandbox.id()), back.to_str().unwrap()]).ok();
        assert_eq!(std::fs::read_to_string(&back).unwrap(), "built");
        std::fs::remove_file(back).unwrap();
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
            (at("file"), ":no/such/folder".into(), 1, "not-found"),
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
    // No process has this number, and this test's process is alive.
    let (dead, foreign) = (target.join(".wharf-cp-4194304-1"), target.join(".wharf-cp-notes"));
    std::fs::create_dir(&dead).unwrap();
    std::fs::create_dir(&foreign).unwrap();
    sandbox.run(&["cp", "project:/tmp/file", &format!("{}/", target.display())]).ok();
    assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), "new\n");
    assert!(!dead.exists() && foreign.exists());
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 2);
}

/// A host folder that no copy was told to touch.
struct Bystander<'a>(&'a Sandbox);

impl<'a> Bystander<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        sandbox.write("bystander/id_rsa", "secret");
        Self(sandbox)
    }

    fn path(&self) -> String {
        self.0.path("bystander").display().to_string()
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(std::fs::read_to_string(self.0.path("bystander/id_rsa")).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(self.0.path("bystander")).unwrap().count(), 1);
    }
}

#[track_caller]
fn refused(sandbox: &Sandbox, from: &str, to: &str, named: &str) {
    let output = sandbox.run(&["--json", "cp", from, to]);
    assert_eq!((output.code, &output.error()["code"]), (1, &json!("bad-request")), "{from}: {}", output.stderr);
    let message = output.error()["message"].to_string();
    let path = sandbox.path(named).display().to_string();
    assert!([" ", "\"", "'"].iter().any(|end| message.contains(&format!("{path}{end}"))), "{message}");
}

#[test]
fn a_link_that_takes_the_place_of_a_copied_folder_is_not_followed_on_the_host() {
    both_ways(|sandbox| {
        sandbox.up();
        let bystander = Bystander::new(sandbox);
        let to = sandbox.folder("to").display().to_string();
        sandbox.sh("mkdir /tmp/out; echo 1 > /tmp/out/a");
        sandbox.run(&["cp", ":/tmp/out", &to]).ok();
        sandbox.sh(&format!("rm -r /tmp/out; ln -s {} /tmp/out", bystander.path()));
        refused(sandbox, ":/tmp/out", &to, "to/out");
        // The link's target is looked up in the workspace, where it does not exist.
        for to in [&to, &sandbox.path("new").display().to_string()] {
            let output = sandbox.run(&["--json", "cp", ":/tmp/out/.", to]);
            assert_eq!((output.code, &output.error()["code"]), (1, &json!("not-found")), "{}", output.stderr);
        }
        bystander.assert_untouched();
        assert_eq!(std::fs::read_to_string(sandbox.path("to/out/a")).unwrap(), "1\n");
        assert!(!sandbox.path("new").exists());
    });
}

#[test]
fn a_link_that_an_earlier_copy_left_is_not_written_through() {
    both_ways(|sandbox| {
        sandbox.up();
        let bystander = Bystander::new(sandbox);
        let to = sandbox.folder("to").display().to_string();
        let links = format!("ln -s {0} /tmp/t; mkdir /tmp/n; ln -s {0} /tmp/n/sub", bystander.path());
        sandbox.sh(&links);
        sandbox.run(&["cp", ":/tmp/t", &to]).ok();
        sandbox.run(&["cp", ":/tmp/n", &to]).ok();
        assert_eq!(std::fs::read_link(sandbox.path("to/t")).unwrap(), sandbox.path("bystander"));
        sandbox
            .sh("rm -r /tmp/t /tmp/n; mkdir -p /tmp/t /tmp/n/sub; for d in t n n/sub; do echo x > /tmp/$d/keys; done");
        refused(sandbox, ":/tmp/t", &to, "to/t");
        // Deeper down, too, and before anything else is moved.
        refused(sandbox, ":/tmp/n", &to, "to/n/sub");
        refused(sandbox, ":/tmp/n/.", &format!("{to}/n"), "to/n/sub");
        bystander.assert_untouched();
        assert!(!sandbox.path("to/n/keys").exists());
        assert_eq!(std::fs::read_dir(sandbox.path("to")).unwrap().count(), 2);
        // A file replaces a link, and the link's target stays.
        sandbox.sh("rm -r /tmp/t; echo file > /tmp/t");
        sandbox.run(&["cp", ":/tmp/t", &to]).ok();
        assert_eq!(std::fs::read_to_string(sandbox.path("to/t")).unwrap(), "file\n");
        bystander.assert_untouched();
        // A link that the user names is followed.
        symlink(sandbox.folder("real"), sandbox.path("mine")).unwrap();
        for from in [":/tmp/t", ":/tmp/n/sub/."] {
            sandbox.run(&["cp", from, &sandbox.path("mine").display().to_string()]).ok();
        }
        assert!(sandbox.path("real/t").is_file() && sandbox.path("real/keys").is_file());
    });
}

#[test]
fn the_whole_of_a_workspace_and_what_is_behind_a_link_come_out() {
    both_ways(|sandbox| {
        sandbox.up();
        sandbox.sh("mkdir -m 700 /tmp/real; echo a > /tmp/real/a; ln -s /tmp/real /tmp/link");
        for (number, from) in [":/", ":/.", ":", ":/etc/.."].into_iter().enumerate() {
            let (new, old) = (format!("new{number}"), format!("old{number}"));
            sandbox.folder(&old);
            for to in [new, old] {
                sandbox.run(&["cp", from, &sandbox.path(&to).display().to_string()]).ok();
                for name in ["bin/sh", "etc", "tmp/real/a", "usr"] {
                    assert!(sandbox.path(&to).join(name).exists(), "{from} {to}: {name}");
                }
            }
        }
        let at = |relative: &str| sandbox.path(relative).display().to_string();
        sandbox.run(&["cp", ":/tmp/link/.", &at("contents")]).ok();
        let meta = std::fs::symlink_metadata(sandbox.path("contents")).unwrap();
        assert_eq!((meta.is_dir(), meta.mode() & 0o777), (true, 0o700));
        assert_eq!(std::fs::read_to_string(sandbox.path("contents/a")).unwrap(), "a\n");
        sandbox.run(&["cp", ":/tmp/link", &at("link")]).ok();
        assert_eq!(std::fs::read_link(sandbox.path("link")).unwrap().display().to_string(), "/tmp/real");
        // The name is that of the resolved folder, as the engine sees it.
        sandbox.folder("up/in");
        sandbox.run(&["cp", ":/tmp/real/..", &at("up/in")]).ok();
        assert!(sandbox.path("up/in/tmp/real/a").exists() && !sandbox.path("up/real").exists());
        let output = sandbox.run(&["--json", "cp", ":/tmp/real/a/.", &at("none")]);
        assert_eq!((output.code, &output.error()["code"]), (2, &json!("bad-request")), "{}", output.stderr);
    });
}

#[test]
fn what_cannot_be_copied_is_named_in_both_directions_without_control_characters() {
    both_ways(|sandbox| {
        sandbox.up();
        let at = |relative: &str| sandbox.path(relative).display().to_string();
        sandbox.write("in/file", "x");
        for pipe in [at("pipe"), at("in/pi\x1b[31mpe")] {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        refused(sandbox, &at("pipe"), ":/tmp", "pipe");
        let output = sandbox.run(&["cp", &at("in"), ":/tmp"]).ok();
        assert!(output.stderr.contains("skipped") && output.stderr.contains("/in/pi[31mpe\n"), "{:?}", output.stderr);
        assert_eq!(sandbox.sh("ls /tmp/in"), "file\n");

        sandbox.sh("mkdir /tmp/out; echo x > /tmp/out/file; mkfifo \"$(printf '/tmp/out/pi\\033[31mpe')\"");
        let output = sandbox.run(&["cp", ":/tmp/out", &at("out")]).ok();
        assert!(output.stderr.ends_with(": out/pi[31mpe\n") && !output.stderr.contains('\x1b'), "{:?}", output.stderr);
        // For programs it is an object, like all notices.
        let output = sandbox.run(&["--json", "cp", ":/tmp/out", &at("again")]).ok();
        let notice: serde_json::Value = serde_json::from_str(&output.stderr).unwrap();
        assert!(notice["notice"].as_str().unwrap().contains("out/pi[31mpe"), "{notice}");
    });
}

#[test]
fn a_link_that_is_copied_in_stays_a_link_unless_a_slash_is_behind_it() {
    both_ways(|sandbox| {
        sandbox.up();
        let at = |relative: &str| sandbox.path(relative).display().to_string();
        sandbox.write("in/folder/file", "x");
        symlink("file", sandbox.path("in/folder/link")).unwrap();
        symlink("folder", sandbox.path("in/aside")).unwrap();
        for (from, to) in [("in/folder/link", ":/tmp"), ("in/aside", ":/tmp"), ("in/aside", ":/tmp/renamed")] {
            sandbox.run(&["cp", &at(from), to]).ok();
        }
        assert_eq!(
            sandbox.sh("for link in link aside renamed; do readlink /tmp/$link; done"),
            "file\nfolder\nfolder\n"
        );
        for (from, to) in [("in/aside/", ":/tmp/one"), ("in/aside/.", ":/tmp/two"), ("in/aside/", ":/workspace")] {
            sandbox.run(&["cp", &at(from), to]).ok();
        }
        assert_eq!(sandbox.sh("cat /tmp/one/file /tmp/two/file /workspace/aside/file"), "xxx");
    });
}

#[test]
fn a_folder_that_its_owner_may_not_write_comes_out_with_all_that_is_in_it() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.sh("mkdir -p /src/mod/deep && echo 1 > /src/mod/deep/file && chmod 0555 /src/mod/deep /src/mod");
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(sandbox.path(path)).unwrap().permissions().mode() & 0o777
    };
    let out = sandbox.folder("out");
    sandbox.run_in(&out, &["cp", "project:/src/mod", "named"]).ok();
    sandbox.run_in(&out, &["cp", "project:/src/mod/.", "nameless"]).ok();
    for copy in ["out/named", "out/nameless"] {
        assert_eq!((mode(copy), mode(&format!("{copy}/deep"))), (0o555, 0o555), "{copy}");
        assert_eq!(std::fs::read_to_string(sandbox.path(&format!("{copy}/deep/file"))).unwrap(), "1\n");
    }
    // Over an existing folder: it keeps its own permissions, and new files in it get those of the archive.
    sandbox.folder("there/mod");
    let before = mode("there/mod");
    sandbox.run_in(&sandbox.path("there"), &["cp", "project:/src/mod", "."]).ok();
    assert_eq!((mode("there/mod"), mode("there/mod/deep")), (before, 0o555));
}

#[test]
fn a_copy_that_is_interrupted_leaves_nothing_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.up();
    // More data than can pass before the interruption, without using disk space.
    sandbox.sh("truncate -s 20G /huge");
    let out = sandbox.folder("out");
    for signal in ["INT", "TERM"] {
        let mut command = sandbox.command_in(&out, &["cp", "project:/huge", "."]);
        let mut run = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        until("it has begun", || std::fs::read_dir(&out).unwrap().count() > 0);
        run.signal(signal);
        let end = run.finish();
        assert_eq!(end.code, 130, "{}", end.stderr);
        assert!(end.stderr.contains("nothing was copied"), "{}", end.stderr);
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    }
}

#[test]
fn a_copy_never_ends_below_a_memory_file_system_where_no_process_sees_it() {
    both_ways(|sandbox| {
        sandbox.write("file", "x");
        let file = sandbox.path("file").display().to_string();
        sandbox.run(&["up", "-q", "--tmpfs", "/data:8MiB", "--mount", "inner:/data/kept"]).ok();
        for target in [":/data/file", ":/data", ":/data/", ":/data/.", ":/x/../data/file"] {
            for args in [["cp", &file, target], ["cp", target, &file]] {
                let refused = sandbox.run(&args);
                assert_eq!(refused.code, 2, "{args:?}: {}", refused.stderr);
                assert!(refused.stderr.contains("/data is a memory file system"), "{args:?}: {}", refused.stderr);
                assert!(refused.stderr.contains("wharf exec -i"), "{args:?}: {}", refused.stderr);
            }
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
        // A volume in it is reached.
        sandbox.run(&["cp", &file, ":/data/kept/file"]).ok();
        assert_eq!(sandbox.sh("cat /data/kept/file"), "x");
        sandbox.run(&["cp", &file, ":/database"]).ok();
        sandbox.run(&["down", "--volumes"]).ok();
    });
}

#[test]
fn a_copied_file_belongs_to_the_user_who_runs_there_by_name_too() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "image/Dockerfile",
        format!("FROM {BASE}\nRUN echo dev:x:1234:1234::/tmp:/bin/sh >> /etc/passwd\nUSER dev\n"),
    );
    let folder = sandbox.path("image").display().to_string();
    let image = sandbox.json(&["image", "build", &folder])["reference"].as_str().unwrap().to_owned();
    sandbox.write("file", "x");
    let file = sandbox.path("file").display().to_string();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for flags in [&["--image", &image][..], &["--fresh", "--recreate", "--image", &image, "-u", "dev"]] {
        sandbox.run(&[&["up", "-q"], flags].concat()).ok();
        sandbox.run(&["cp", &file, ":/tmp/file"]).ok();
        assert_eq!(sandbox.sh("id -un; cat /tmp/file; stat -c %u:%g /tmp/file"), "dev\nx1234:1234\n", "{flags:?}");
    }
}
