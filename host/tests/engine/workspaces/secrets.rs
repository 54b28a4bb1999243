//! Values of secret variables reach the container, and no other place.

use std::path::Path;

use wharf::workspace::sha256_hex;

use crate::support::engine_api as engine;
use crate::support::sandbox::{Output, Sandbox};

const SECRET: &str = "hunter2-correct-horse";
const OTHER: &str = "another-battery-staple";

#[track_caller]
fn silent(what: &str, output: &Output) {
    for secret in [SECRET, OTHER] {
        assert!(!output.text().contains(secret), "{what}: stdout: {}", output.text());
        assert!(!output.stderr.contains(secret), "{what}: stderr: {}", output.stderr);
    }
}

/// Searches every byte of every file of a folder.
fn search(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            search(&entry.path(), found);
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        for secret in [SECRET, OTHER] {
            if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
}

/// Checks that a variable has this value inside, without passing the value in a command.
#[track_caller]
fn assert_inside(sandbox: &Sandbox, exec: &[&str], name: &str, value: &str) {
    let line = format!("printf %s \"${name}\" | sha256sum");
    let mut args = vec!["exec"];
    args.extend(exec);
    args.extend(["--", "sh", "-c", &line]);
    let output = sandbox.run(&args).ok();
    silent("exec", &output);
    assert_eq!(output.text().split(' ').next(), Some(sha256_hex(value.as_bytes()).as_str()), "{name}");
}

#[track_caller]
fn assert_not_in_the_state(sandbox: &Sandbox) {
    let mut found = Vec::new();
    search(&sandbox.path("state"), &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_secret_reaches_the_container_and_nothing_that_is_shown_or_recorded() {
    let sandbox = Sandbox::new();
    let secret = format!("API_TOKEN={SECRET}");
    let up = sandbox.run(&["--json", "-vv", "up", "-e", &secret, "-e", "PLAIN=shown"]).ok();
    silent("up", &up);
    assert_inside(&sandbox, &[], "API_TOKEN", SECRET);
    let id = up.json()["container_id"].as_str().unwrap().to_owned();
    assert!(engine::env(&id).contains(&secret));
    for args in [
        &["inspect"][..],
        &["ls"],
        &["why"],
        &["why", "env"],
        &["why", "env.API_TOKEN"],
        &["stats", "--no-stream"],
        &["logs"],
        &["stop", "--timeout", "1s"],
        &["start"],
        &["restart", "--timeout", "1s"],
        &["policy", "ls"],
        &["config", "show"],
        &["doctor"],
    ] {
        for flags in [&[][..], &["--json"], &["-vv"]] {
            let mut all = flags.to_vec();
            all.extend(args);
            silent(&format!("{all:?}"), &sandbox.run(&all).ok());
        }
    }
    for flags in [&["plan"][..], &["--json", "plan"], &["-vv", "plan", "--offline"], &["-vv", "up"]] {
        let mut all = flags.to_vec();
        all.extend(["-e", &secret, "-e", "PLAIN=shown"]);
        silent(&format!("{all:?}"), &sandbox.run(&all).ok());
    }
    let shown = sandbox.run(&["why", "env"]).ok().text();
    assert!(shown.contains("env.API_TOKEN = ***") && shown.contains("env.PLAIN = shown"), "{shown}");
    assert_not_in_the_state(&sandbox);
    silent("down", &sandbox.run(&["-vv", "down"]).ok());
    assert_not_in_the_state(&sandbox);
}

#[test]
fn the_same_secret_again_is_no_difference_and_another_is_one_that_is_not_shown() {
    let sandbox = Sandbox::new();
    let up = |secret: &str, flags: &[&str]| {
        let secret = format!("API_TOKEN={secret}");
        let mut args = vec!["--json", "up", "-e", &secret];
        args.extend(flags);
        sandbox.run(&args)
    };
    let first = up(SECRET, &[]).ok().json();
    assert_eq!(up(SECRET, &[]).ok().json()["container_id"], first["container_id"]);
    let differs = up(OTHER, &[]);
    assert_eq!((differs.code, differs.error()["code"].as_str()), (7, Some("spec-differs")));
    assert!(differs.error()["message"].as_str().unwrap().contains("env.API_TOKEN"), "{}", differs.stderr);
    silent("another", &differs);
    let without = sandbox.run(&["--json", "up"]).ok();
    assert_eq!(without.json()["container_id"], first["container_id"], "the recorded value stays");
    silent("without", &without);
    let replaced = up(OTHER, &["--recreate"]).ok();
    silent("recreate", &replaced);
    let id = replaced.json()["container_id"].as_str().unwrap().to_owned();
    assert!(engine::env(&id).contains(&format!("API_TOKEN={OTHER}")));
    assert_not_in_the_state(&sandbox);
}

#[test]
fn policies_see_stars_and_what_they_say_about_them_holds_no_secret() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "spy.rhai",
        "fn pre_create(ctx) {
            ctx.log(`token ${ctx.spec.env.API_TOKEN}`);
            ctx.spec.env.SEEN = ctx.spec.env.API_TOKEN;
            ctx.spec.labels.spec = `${ctx.spec}`;
        }
        fn pre_exec(ctx) { ctx.exec.env.SEEN_EXEC = ctx.exec.env.DB_PASSWORD; }
        fn post_start(ctx) { ctx.note(`started with ${ctx.spec.env.API_TOKEN}`); }",
    );
    let up = sandbox.run(&["--json", "up", "-e", &format!("API_TOKEN={SECRET}")]).ok();
    silent("up", &up);
    assert_eq!(up.json()["notes"][0], "started with ***");
    let password = format!("DB_PASSWORD={SECRET}");
    let exec = sandbox.run(&["-vv", "exec", "-e", &password, "--", "sh", "-c", "echo $SEEN $SEEN_EXEC"]).ok();
    assert_eq!(exec.text(), "*** ***\n");
    silent("exec", &exec);
    assert_inside(&sandbox, &["-e", &password], "DB_PASSWORD", SECRET);
    assert_not_in_the_state(&sandbox);
}

#[test]
fn a_secret_of_the_configuration_is_one_too() {
    let sandbox = Sandbox::new();
    sandbox.config(&format!(
        "[workspace.env]\nDEPLOY_KEY = \"{SECRET}\"\nPIN = \"{OTHER}\"\n[secrets]\nenv = [\"*_KEY\", \"PIN\"]\n"
    ));
    for args in [&["-vv", "up"][..], &["config", "show"], &["--json", "config", "show"], &["--json", "plan"], &["why"]]
    {
        silent(&format!("{args:?}"), &sandbox.run(args).ok());
    }
    assert_inside(&sandbox, &[], "DEPLOY_KEY", SECRET);
    assert_inside(&sandbox, &[], "PIN", OTHER);
    assert_not_in_the_state(&sandbox);
}

#[test]
fn a_failure_does_not_give_a_secret_away() {
    let sandbox = Sandbox::new();
    let secret = format!("API_TOKEN={SECRET}");
    for rest in [
        &["--", "no-such-command"][..],
        &["--user", "nobody-here"],
        &["--mount", "/etc:/x"],
        &["--image", "127.0.0.1:1/none:1"],
    ] {
        for flags in [&["-vv", "--backtrace"][..], &["--json"]] {
            let mut args = flags.to_vec();
            args.extend(["up", "-e", &secret]);
            args.extend(rest);
            let failed = sandbox.run(&args);
            assert_ne!(failed.code, 0, "{args:?}");
            silent(&format!("{args:?}"), &failed);
        }
    }
    sandbox.script("no.rhai", "fn pre_create(ctx) { ctx.deny(\"no\", `because of ${ctx.spec.env}`); }");
    let denied = sandbox.run(&["up", "-e", &secret]);
    assert_eq!(denied.code, 4);
    silent("denied", &denied);
    assert_not_in_the_state(&sandbox);
}

#[test]
fn a_secret_of_a_project_file_or_of_the_workspace_stands_in_no_record() {
    let sandbox = Sandbox::new();
    let file = r#"{"image": "IMAGE", "containerEnv": {"API_TOKEN": "hunter\"file\\\/77"},
        "remoteEnv": {"OTHER_TOKEN": "hunter-remote"}, "postStartCommand": "echo hunter-env"}"#;
    sandbox.write("project/.devcontainer/devcontainer.json", file.replace("IMAGE", crate::support::engine_api::BASE));
    sandbox.json(&["up", "--env", "A_PASSWORD=hunter-env"]);
    assert_inside(&sandbox, &[], "A_PASSWORD", "hunter-env");
    sandbox.run(&["exec", "--", "echo", "hunter-env"]).ok();
    sandbox.run(&["restart", "-t", "0s"]).ok();
    let records = sandbox.run(&["--json", "audit", "--limit", "0"]).ok().text();
    assert!(records.contains("post-start") && records.contains("pre-exec"));
    for part in ["hunter", "/77"] {
        let at = records.find(part).map(|at| &records[at.saturating_sub(200)..at + part.len()]);
        assert_eq!(at, None, "{part} stands in a record");
    }
}

#[test]
fn what_policies_want_done_is_done_with_the_words_that_they_said() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        r#"
        fn post_start(ctx) {
            ctx.run(["sh", "-c", "echo workspace > /workspace/started"]);
            ctx.note("it is a workspace");
        }
        fn pre_stop(ctx) { ctx.run(["sh", "-c", "echo workspace > /workspace/stopping"]); }
        "#,
    );
    // A weak secret, which occurs in the words of the commands.
    sandbox.run(&["up", "-e", "DB_PASSWORD=workspace"]).ok();
    sandbox.json(&["stop", "-t", "0s"]);
    for file in ["started", "stopping"] {
        let text = std::fs::read_to_string(sandbox.path(&format!("project/{file}"))).unwrap();
        assert_eq!(text, "workspace\n", "{file}");
    }
    let notes = sandbox.json(&["inspect"])["notes"].to_string();
    assert!(notes.contains("it is a ***"), "{notes}");
}

#[test]
fn a_secret_is_in_no_record_of_a_shadow_an_event_or_an_update_either() {
    let sandbox = Sandbox::new();
    sandbox.script("shadow.rhai", "fn pre_exec(ctx) { } fn pre_create(ctx) { } fn event(ctx) { }");
    sandbox
        .config(&sandbox.config_text().replace("name = \"shadow.rhai\"", "name = \"shadow.rhai\"\nmode = \"shadow\""));
    sandbox.script("rule.rhai", "fn pre_create(ctx) { } fn event(ctx) { }");
    let (token, url) = (format!("API_TOKEN={SECRET}"), format!("URL=https://{SECRET}@host"));
    sandbox.run(&["up", "-e", &token, "-e", &url]).ok();
    let own = format!("OWN_TOKEN=own-{SECRET}");
    sandbox.run(&["exec", "-e", &own, "--", "echo", &format!("bearer own-{SECRET}")]).ok();
    sandbox.run(&["update", "--memory", "256MiB"]).ok();
    let serving = crate::service::serve::Serving::start(&sandbox, &[]);
    sandbox.json(&["restart", "-t", "0s"]);
    let records = || {
        let all = sandbox.run(&["--json", "audit", "-n", "0"]).ok().text();
        let audit: Vec<String> = all.lines().map(str::to_owned).collect();
        audit
    };
    crate::support::sandbox::until("the event was decided", || {
        records().iter().any(|line| line.contains("\"hook\":\"event\""))
    });
    serving.terminate();
    let all = records();
    assert!(all.iter().any(|line| line.contains("shadow_of")));
    let told = all.iter().find(|line| line.contains(SECRET));
    assert_eq!(told, None);
}
