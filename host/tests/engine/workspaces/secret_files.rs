//! Secrets as files, and volumes of other owners.

use serde_json::json;

use crate::service::remote::both_ways;
use crate::support::engine_api as engine;
use crate::support::sandbox::{Sandbox, until};

const SECRET: &str = "correct-horse-battery";

#[test]
fn a_secret_file_is_read_inside_changed_at_once_and_shown_nowhere() {
    both_ways(|sandbox| {
        let file = sandbox.write("secret", SECRET);
        let up =
            sandbox.run(&["--json", "-vv", "up", "--user", "1000", "--secret", &format!("DB={}", file.display())]).ok();
        assert!(!up.text().contains(SECRET) && !up.stderr.contains(SECRET));
        // Any user inside can read it, and none can write it.
        assert_eq!(
            sandbox.sh("cat /run/secrets/DB; echo x > /run/secrets/DB || true; echo x > /run/secrets/new || true"),
            SECRET
        );
        let inspected = engine::inspect(&format!("wharf-{}", sandbox.id())).to_string();
        assert!(!inspected.contains(SECRET) && inspected.contains("/run/secrets"));
        for args in [&["inspect"][..], &["why"], &["ls"], &["secret", "ls"]] {
            let output = sandbox.run(args).ok();
            assert!(!output.text().contains(SECRET), "{args:?}");
        }
        let records: String = sandbox
            .store()
            .decisions(&sandbox.id().parse().unwrap(), 100)
            .unwrap()
            .iter()
            .map(|d| serde_json::to_string(d).unwrap())
            .collect();
        assert!(!records.contains(SECRET));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(sandbox.path("state/secrets")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        sandbox.feed(&["secret", "set", "DB"], b"rotated".to_vec()).ok();
        sandbox.feed(&["secret", "set", "SECOND"], b"two".to_vec()).ok();
        assert_eq!(sandbox.sh("cat /run/secrets/DB /run/secrets/SECOND"), "rotatedtwo");
        assert_eq!(sandbox.json(&["secret", "ls"]), json!(["DB", "SECOND"]));
        sandbox.run(&["secret", "rm", "SECOND"]).ok();
        assert_eq!(sandbox.sh("ls /run/secrets"), "DB\n");
        // It is part of the decision, so the same request finds no difference.
        sandbox.run(&["up", "--user", "1000"]).ok();
        sandbox.json(&["down"]);
        assert!(!sandbox.path("state/secrets").join(sandbox.id()).exists());
    });
}

#[test]
fn a_secret_of_an_undone_creation_is_gone_too() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("secret", SECRET);
    let failed = sandbox.run(&["up", "--secret", &format!("A={}", file.display()), "--", "/no/such/command"]);
    assert_ne!(failed.code, 0);
    let left = std::fs::read_dir(sandbox.path("state/secrets")).map(|list| list.count()).unwrap_or_default();
    assert_eq!(left, 0);
    sandbox.assert_nothing_left();
}

#[test]
fn bad_secrets_are_refused_without_their_values() {
    both_ways(|sandbox| {
        sandbox.write("secret", SECRET);
        for bad in ["NO_SUCH_VARIABLE_HERE", "X=/no/such/file", "../up=secret", ".hidden=secret", "a/b=secret"] {
            for verb in ["plan", "up"] {
                let output = sandbox.run_in(&sandbox.dir, &["--json", "--project", "project", verb, "--secret", bad]);
                assert_eq!(output.code, 2, "{verb} {bad}: {}", output.stderr);
                assert!(!output.stderr.contains(SECRET), "{verb} {bad}");
            }
        }
        sandbox.assert_nothing_left();
        sandbox.up();
        let none = sandbox.feed(&["--json", "secret", "set", "A"], b"x".to_vec());
        assert!(none.code == 2 && none.stderr.contains("without secrets"), "{}", none.stderr);
        let gone = sandbox.run(&["--json", "secret", "rm", "A"]);
        assert_eq!((gone.code, &gone.error()["code"]), (5, &json!("secret-not-found")), "{}", gone.stderr);
    });
}

#[test]
fn no_policy_can_mount_the_secrets_of_another_workspace() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("secret", SECRET);
    let other = sandbox.folder("other");
    sandbox.run_in(&other, &["up", "-q", "--secret", &format!("A={}", file.display())]).ok();
    let id = sandbox.id_of("other", &other);
    let stolen = format!("{}:/stolen:ro", sandbox.path("state/secrets").join(id).display());
    let output = sandbox.run(&["--json", "up", "--mount", &stolen]);
    assert_eq!((output.code, &output.error()["code"]), (4, &json!("invariant")), "{}", output.stderr);
}

#[test]
fn a_named_volume_outlives_its_workspace_until_it_is_removed() {
    both_ways(|sandbox| {
        let name = format!("data-{}", sandbox.name());
        let mount = format!("{name}:/data");
        sandbox.json(&["up", "--mount", &mount]);
        sandbox.sh("echo kept > /data/file");
        let busy = sandbox.run(&["--json", "volume", "rm", &name]);
        assert_eq!((busy.code, &busy.error()["code"]), (1, &json!("conflict")), "{}", busy.stderr);
        sandbox.json(&["down"]);
        let volumes = sandbox.json(&["volume", "ls"]);
        assert_eq!((&volumes[0]["name"], &volumes[0]["workspace_id"]), (&json!(name), &json!(sandbox.id())));
        sandbox.json(&["up", "--mount", &mount]);
        assert_eq!(sandbox.sh("cat /data/file"), "kept\n");
        sandbox.json(&["down", "--volumes"]);
        assert_eq!(sandbox.json(&["volume", "ls"]), json!([]));
        assert_eq!(sandbox.run(&["--json", "volume", "rm", &name]).code, 1);
    });
}

#[test]
fn a_volume_that_somebody_else_made_is_neither_mounted_nor_removed() {
    let sandbox = Sandbox::new();
    let name = format!("foreign-{}", sandbox.name());
    let label = crate::support::sandbox::LABEL_SANDBOX;
    engine::post("/volumes/create", &json!({ "Name": name, "Labels": { label: sandbox.name() } })).done();
    let before = sandbox.snapshot();
    let mount = format!("{name}:/data");
    let refused = sandbox.run(&["--json", "up", "--mount", &mount]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-ours")), "{}", refused.stderr);
    let refused = sandbox.run(&["--json", "volume", "rm", &name]);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("not-ours")), "{}", refused.stderr);
    sandbox.assert_unchanged(&before, "a refused volume");
    sandbox.config(&format!("[allow]\nvolumes = [\"{name}\"]"));
    sandbox.json(&["up", "--mount", &mount]);
    sandbox.json(&["down", "--volumes"]);
    assert!(engine::volumes().iter().any(|volume| volume["Name"] == name.as_str()));
}

#[test]
fn a_volume_of_an_undone_creation_is_gone_too() {
    let sandbox = Sandbox::new();
    let name = format!("undone-{}", sandbox.name());
    let failed = sandbox.run(&["up", "--mount", &format!("{name}:/data"), "--", "/no/such/command"]);
    assert_ne!(failed.code, 0);
    assert!(!engine::volumes().iter().any(|volume| volume["Name"] == name.as_str()));
}

#[test]
fn a_secret_that_a_projects_command_writes_is_in_no_record() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("secret", format!("{SECRET}\n"));
    sandbox
        .write("project/.devcontainer.json", r#"{ "postCreateCommand": "echo got $(cat /run/secrets/DB); exit 3" }"#);
    let output = sandbox.run(&["--json", "up", "--secret", &format!("DB={}", file.display())]);
    let degraded = sandbox.json(&["inspect"])["degraded"].to_string();
    assert!(degraded.contains("got ***"), "{degraded}");
    for text in [output.text(), output.stderr, degraded] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_workspace_that_still_runs_after_a_replacement_that_died_sees_its_secrets() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("secret", SECRET);
    sandbox.script(
        "rule.rhai",
        "fn pre_stop(ctx) { ctx.run([\"sh\", \"-c\", \"touch /workspace/stopping; sleep 60\"]); }",
    );
    let secret = format!("DB={}", file.display());
    sandbox.run(&["up", "--secret", &secret]).ok();
    let mut run = sandbox.spawn(&["up", "--secret", &secret, "-l", "new=1", "--recreate"]);
    until("it is about to be stopped", || sandbox.path("project/stopping").exists());
    run.child().kill().unwrap();
    run.finish();
    // This command repairs the unfinished work.
    sandbox.json(&["inspect"]);
    assert_eq!(sandbox.sh("cat /run/secrets/DB"), SECRET);
    sandbox.feed(&["secret", "set", "DB"], b"rotated".to_vec()).ok();
    assert_eq!(sandbox.sh("cat /run/secrets/DB"), "rotated");
}
