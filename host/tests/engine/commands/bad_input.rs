//! User errors: flags, configuration, project folders, state folders. Each gives one clear line and the right exit
//! code, and leaves nothing behind.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;

use serde_json::json;

use crate::support::engine_api as engine;
use crate::support::sandbox::Sandbox;

#[test]
fn an_unknown_key_of_the_configuration_is_refused_with_its_line() {
    let sandbox = Sandbox::new();
    sandbox.config("[limits]\n\nmemroy = \"1GiB\"\n");
    sandbox.refused(&["up"], 3, "configuration", &["wharf.toml:3", "memroy", "memory"]);
}

#[test]
fn a_configuration_that_is_no_toml_has_a_wrong_value_or_is_not_there_is_refused() {
    let mut sandbox = Sandbox::new();
    for (text, words) in [
        ("[limits\n", "wharf.toml:1"),
        ("[limits]\nmemory = \"lots\"\n", "limits.memory"),
        ("[[policy]]\nname = \"x\"\n", "exactly one of"),
        ("[[policy]]\nname = \"x\"\nscript = \"x\"\nhooks = [\"create\"]\n", "pre-create"),
    ] {
        sandbox.config(text);
        sandbox.refused(&["up"], 3, "configuration", &["wharf.toml", words]);
    }
    sandbox.config("");
    sandbox.refused(&["--set", "limits.memroy=1GiB", "up"], 3, "configuration", &["memroy"]);
    sandbox.refused(&["--config", "/no/such/wharf.toml", "up"], 3, "configuration", &["/no/such/wharf.toml"]);
    sandbox.env("WHARF_LIMITS_CPUS", "many");
    sandbox.refused(&["up"], 3, "configuration", &["limits.cpus", "WHARF_LIMITS_CPUS"]);
}

#[test]
fn a_broken_configuration_script_is_shown_with_a_caret() {
    let sandbox = Sandbox::new();
    sandbox.write("config/wharf.rhai", "fn config(c) {\n    c.limits.cpus = = 5;\n}\n");
    let refused = sandbox.refused(&["up"], 3, "configuration", &["wharf.rhai:2"]);
    insta::assert_snapshot!("error_in_the_configuration_script", sandbox.masked(&refused.stderr));
    sandbox.write("config/wharf.rhai", "fn config(c) {\n    throw \"the admin is out\";\n}\n");
    sandbox.refused(&["up"], 3, "configuration", &["wharf.rhai:2", "the admin is out"]);
}

#[test]
fn a_path_that_is_no_usable_folder_is_no_project() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("project/file.txt", "");
    let missing = sandbox.path("no-such-folder");
    let words = ["cannot use"];
    sandbox.refused(&["up", missing.to_str().unwrap()], 5, "project-unusable", &["No such file", "no-such-folder"]);
    sandbox.refused(&["up", file.to_str().unwrap()], 5, "project-unusable", &["Not a directory", "file.txt"]);
    for system in ["/", "/etc", "/usr", "/proc/self", "/bin", "/usr/bin", "/lib"] {
        sandbox.refused(&["up", system], 5, "project-unusable", &words);
    }
    let home = sandbox.path("home");
    sandbox.refused(&["up", home.to_str().unwrap()], 5, "project-unusable", &["whole home"]);
}

#[test]
fn a_folder_that_cannot_be_read_is_no_project() {
    const NOBODY: u32 = 65534;
    let sandbox = Sandbox::new();
    let locked = sandbox.folder("locked");
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o000)).unwrap();
    let mut command = sandbox.command(&["--json", "up", locked.to_str().unwrap()]);
    let before = sandbox.snapshot();
    // Root can read everything, so the test switches to a user that may only use the engine.
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        let group = std::fs::metadata(engine::socket()).unwrap().gid();
        for path in
            ["state", "state/compiled", "state/locks", "state/wharf.db", "state/wharf.db-wal", "state/wharf.db-shm"]
        {
            chown(sandbox.path(path), Some(NOBODY), Some(group)).unwrap();
        }
        command.uid(NOBODY).gid(group);
    }
    let output = command.output().unwrap();
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o755)).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("project-unusable") && stderr.contains("Permission denied"), "{stderr}");
    sandbox.assert_unchanged(&before, "afterwards");
}

#[test]
fn a_project_outside_the_allowed_roots_is_refused_with_the_place_that_says_so() {
    let sandbox = Sandbox::new();
    let inside = sandbox.folder("roots/team/shop");
    sandbox.config(&format!("[allow]\nprojects = [\"{}\"]\n", sandbox.path("roots").display()));
    sandbox.refused(&["up"], 5, "project-unusable", &["outside the allowed roots", "wharf.toml:2"]);
    // A link inside the root that leads out is outside, and so is a folder whose name only starts with the same
    // letters.
    std::os::unix::fs::symlink(sandbox.project(), sandbox.path("roots/link")).unwrap();
    let link = sandbox.path("roots/link");
    sandbox.refused(&["up", link.to_str().unwrap()], 5, "project-unusable", &["outside the allowed roots"]);
    let beside = sandbox.folder("roots-beside");
    sandbox.refused(&["up", beside.to_str().unwrap()], 5, "project-unusable", &["outside the allowed roots"]);
    assert_eq!(sandbox.json(&["up", inside.to_str().unwrap()])["name"], "shop");
}

#[test]
fn wrong_flags_and_values_are_usage_errors() {
    let sandbox = Sandbox::new();
    let before = sandbox.snapshot();
    for args in [
        &["up", "--no-such-flag"][..],
        &["no-such-command"],
        &["up", "--memory", "lots"],
        &["up", "--pull", "never"],
        &["logs", "--since", "yesterday-ish"],
        &["rm"],
        &["exec"],
        &["completions", "tcsh"],
        &[],
    ] {
        let wrong = sandbox.run(args);
        assert_eq!(wrong.code, 2, "{args:?}: {}", wrong.stderr);
        assert!(wrong.stdout.is_empty() && !wrong.stderr.is_empty(), "{args:?}");
    }
    for (args, words) in [
        (&["up", "--publish", "99999"][..], "'99999' is not a port"),
        (&["up", "--publish", "80/sctp"], "80/sctp"),
        (&["up", "--mount", "/only-a-source"], "/only-a-source"),
        (&["up", "--label", "no-value"], "--label no-value"),
        (&["up", "--env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
        (&["up", "--env", "=x"], "--env"),
        (&["up", "--cpus=-1"], "cpus"),
        (&["up", "--memory", "1"], "memory"),
        (&["up", "--label", "wharf.host=stolen"], "wharf.host"),
        (&["up", "--name", ""], "--name"),
    ] {
        let wrong = sandbox.run(args);
        assert_eq!(wrong.code, 2, "{args:?}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(words), "{args:?}: {}", wrong.stderr);
    }
    sandbox.assert_unchanged(&before, "afterwards");
    assert_eq!(sandbox.json(&["ls"]), json!([]));
}

#[test]
fn a_state_folder_that_cannot_be_written_gets_one_clear_line() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("a-file", "");
    let below_a_file = format!("{}/state", file.display());
    let before = sandbox.snapshot();
    for dir in ["/proc/wharf-test", &below_a_file] {
        let refused = sandbox.run(&["--state-dir", dir, "up"]);
        assert_eq!(refused.code, 1, "{dir}: {}", refused.stderr);
        let line = refused.stderr.lines().find(|line| line.starts_with("wharf: ")).unwrap_or_default();
        assert!(line.contains("cannot use") && line.contains(dir), "{}", refused.stderr);
        assert!(refused.stderr.contains("--state-dir"), "{}", refused.stderr);
        let error = sandbox.run(&["--json", "--state-dir", dir, "up"]).error();
        assert_eq!(error["code"], "store", "{error}");
    }
    sandbox.assert_unchanged(&before, "afterwards");
}

#[test]
fn a_full_disk_gets_one_clear_line_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    // Created while there was space; afterwards no file can grow.
    sandbox.up();
    sandbox.json(&["down"]);
    let before = sandbox.snapshot();
    let mut command = std::process::Command::new("sh");
    let wharf = sandbox.command(&[]);
    command.arg("-c").arg("trap '' XFSZ; ulimit -f 0; exec \"$0\" up").arg(env!("CARGO_BIN_EXE_wharf"));
    for (name, value) in wharf.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let output = command.current_dir(sandbox.project()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("wharf: ")).count(), 1, "{stderr}");
    assert!(stderr.contains("remedy: ") && stderr.contains("disk"), "{stderr}");
    sandbox.assert_unchanged(&before, "afterwards");
    assert_eq!(sandbox.store().workspaces().unwrap(), []);
    sandbox.up();
}

#[test]
fn a_store_that_is_no_database_or_of_a_newer_wharf_is_left_as_it_is() {
    let sandbox = Sandbox::new();
    let damaged = sandbox.write("damaged/wharf.db", "this is no database at all, only text".repeat(100));
    let refused = sandbox.run(&["--json", "--state-dir", damaged.parent().unwrap().to_str().unwrap(), "ls"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("store")));
    assert!(std::fs::read_to_string(&damaged).unwrap().starts_with("this is no database"));

    let newer = sandbox.folder("newer").join("wharf.db");
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9_999).unwrap();
    let refused = sandbox.run(&["--json", "--state-dir", newer.parent().unwrap().to_str().unwrap(), "ls"]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("store")));
    assert!(refused.error()["message"].as_str().unwrap().contains("9999"), "{}", refused.stderr);
}

#[test]
fn what_is_given_twice_is_refused_and_wrong_usage_is_json_for_programs() {
    let sandbox = Sandbox::new();
    sandbox.write("project/s", "x");
    for args in [
        &["up", "-p", "18180:80", "-p", "18190:80"][..],
        &["up", "--mount", "a:/x", "--tmpfs", "/x"],
        &["up", "--secret", "a=s", "--secret", "a=./s"],
        &["up", "--secret", "a=s", "--tmpfs", "/run/secrets"],
    ] {
        sandbox.refused(args, 2, "bad-request", &["twice"]);
    }
    for args in
        [&["--json", "logs", "--since", "bogus"][..], &["--json", "nonsense"], &["--json"], &["update", "--json"]]
    {
        let refused = sandbox.run(args);
        assert_eq!((refused.code, &refused.error()["code"]), (2, &json!("usage")), "{args:?}");
    }
    assert!(
        sandbox.run(&["--json", "logs", "--since", "bogus"]).error()["message"].as_str().unwrap().contains("bogus")
    );
}
