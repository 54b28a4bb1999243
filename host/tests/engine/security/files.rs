//! Files that influence decisions and that other users can change (numbers 6, 23 and 24).

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use crate::support::engine_api::BASE;
use crate::support::sandbox::{Sandbox, component};

const COMMANDS: [&[&str]; 10] = [
    &["ls"],
    &["plan"],
    &["up"],
    &["exec", "--", "true"],
    &["policy", "check"],
    &["policy", "ls"],
    &["audit"],
    &["doctor"],
    &["serve", "--check"],
    &["config", "show"],
];

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// Checks that every command refuses, names the file and gives the remedy; programs get the same.
#[track_caller]
fn refused(sandbox: &Sandbox, what: &str, words: &[&str]) {
    for args in COMMANDS {
        let run = sandbox.run(args);
        assert_eq!(run.code, 3, "{what}: {args:?}: {} {}", run.text(), run.stderr);
        let said = format!("{}{}", run.text(), run.stderr);
        for word in words {
            assert!(said.contains(word), "{what}: {args:?} does not say {word}: {said}");
        }
        if args[0] != "doctor" {
            assert!(run.stderr.lines().count() == 2, "{what}: {args:?}: one line, and a remedy: {}", run.stderr);
        }
    }
    let json = sandbox.run(&["--json", "ls"]);
    assert_eq!(json.code, 3, "{}", json.stderr);
    assert!(json.stderr.contains("\"remedy\""), "{}", json.stderr);
}

#[track_caller]
fn accepted(sandbox: &Sandbox, what: &str) {
    for args in [&["ls"][..], &["policy", "check"], &["plan"], &["serve", "--check"]] {
        let run = sandbox.run(args);
        assert_eq!(run.code, 0, "{what}: {args:?}: {} {}", run.text(), run.stderr);
    }
}

/// Returns a sandbox with a file of every kind.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("config/policies/lib/help.rhai", "fn name() { \"x\" }\n");
    sandbox
        .script("rule.rhai", "import \"lib/help\" as help;\nfn pre_create(ctx) { ctx.spec.env.A = help::name(); }\n");
    sandbox.write("config/wharf.rhai", "fn config(c) { }\n");
    sandbox.write("config/seccomp/tight.json", "{}");
    sandbox.write("config/cases/one.json", "{}");
    sandbox.write("config/granted/list.txt", "a");
    sandbox.append_config("[reload]\ncases = [\"cases\"]\n");
    let wasm = component("plugins/image-selector");
    sandbox.append_config(&format!(
        "[[policy]]\nname = \"images\"\nwasm = \"{}\"\n[policy.capabilities]\ndirs = {{ \"/granted\" = \"granted\" }}",
        wasm.display()
    ));
    sandbox.append_config("[workspace]\nimage = \"wharf-base:local\"\n");
    sandbox
}

#[test]
fn a_file_that_decides_and_that_everybody_can_write_stops_every_command() {
    let sandbox = sandbox();
    accepted(&sandbox, "as it is");
    for (file, usual) in [
        ("config/wharf.toml", 0o644),
        ("config/wharf.rhai", 0o644),
        ("config/policies/rule.rhai", 0o644),
        ("config/policies", 0o755),
        ("config/seccomp/tight.json", 0o644),
        ("config/cases/one.json", 0o644),
        ("config/granted/list.txt", 0o644),
        ("config", 0o755),
        (".", 0o755),
        ("state", 0o700),
        ("state/wharf.db", 0o600),
    ] {
        let path = sandbox.path(file);
        mode(&path, usual | 0o022);
        let shown = path.canonicalize().unwrap().display().to_string();
        refused(&sandbox, file, &[&shown, "chmod go-w"]);
        mode(&path, usual);
        accepted(&sandbox, file);
    }
    // The imports of a script are known when it is read.
    let import = sandbox.path("config/policies/lib/help.rhai");
    mode(&import, 0o666);
    for args in [&["plan"][..], &["up"], &["policy", "check"], &["serve", "--check"]] {
        let run = sandbox.run(args);
        assert_eq!(run.code, 3, "{args:?}: {}", run.stderr);
        let said = format!("{}{}", run.text(), run.stderr);
        assert!(said.contains("help.rhai (mode 0666)") && said.contains("chmod go-w"), "{args:?}: {said}");
    }
}

#[test]
fn a_link_counts_at_both_ends() {
    let sandbox = sandbox();
    let elsewhere = sandbox.folder("elsewhere");
    std::fs::rename(sandbox.path("config/policies/rule.rhai"), elsewhere.join("rule.rhai")).unwrap();
    std::fs::rename(sandbox.path("config/policies/lib"), elsewhere.join("lib")).unwrap();
    symlink(elsewhere.join("rule.rhai"), sandbox.path("config/policies/rule.rhai")).unwrap();
    symlink(elsewhere.join("lib"), sandbox.path("config/policies/lib")).unwrap();
    mode(&elsewhere, 0o777);
    refused(&sandbox, "the folder that a link leads to", &["elsewhere (mode 0777)", "chmod go-w"]);
}

#[test]
fn a_file_of_another_user_decides_nothing() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox();
    accepted(&sandbox, "as it is");
    for file in
        ["config/wharf.toml", "config/policies/rule.rhai", "config", "state", "state/wharf.db", "config/granted"]
    {
        let path = sandbox.path(file);
        chown(&path, Some(65_534), Some(65_534)).unwrap();
        let shown = path.display().to_string();
        refused(&sandbox, file, &[&shown, "belongs to", "chown root"]);
        chown(&path, Some(0), Some(0)).unwrap();
        accepted(&sandbox, file);
    }
}

#[test]
fn a_state_folder_that_others_may_read_still_opens_and_its_secrets_are_closed() {
    let sandbox = Sandbox::new();
    sandbox.run(&["up", "--image", BASE]).ok();
    mode(&sandbox.path("state"), 0o755);
    std::fs::create_dir_all(sandbox.path("state/secrets")).unwrap();
    mode(&sandbox.path("state/secrets"), 0o755);
    sandbox.run(&["ls"]).ok();
    assert_eq!(sandbox.path("state/secrets").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    // A folder that Wharf creates is closed to others.
    let made = sandbox.path("made/deep");
    sandbox.run(&["--state-dir", made.to_str().unwrap(), "ls"]).ok();
    assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_service_that_runs_refuses_a_reload_of_a_file_that_others_can_write() {
    let sandbox = sandbox();
    std::fs::remove_file(sandbox.path("config/cases/one.json")).unwrap();
    let mut serve = sandbox.spawn(&["serve"]);
    crate::support::sandbox::until("the service runs", || {
        sandbox.run(&["doctor"]).text().contains("wharf serve is running")
    });
    mode(&sandbox.path("config/policies/rule.rhai"), 0o666);
    let reload = sandbox.run(&["policy", "reload"]);
    assert_eq!(reload.code, 3, "{}", reload.stderr);
    assert!(reload.stderr.contains("rule.rhai"), "{}", reload.stderr);
    mode(&sandbox.path("config/policies/rule.rhai"), 0o644);
    sandbox.run(&["ls"]).ok();
    serve.signal("TERM");
    serve.finish();
}
