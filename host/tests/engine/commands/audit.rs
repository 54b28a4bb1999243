//! `audit` lists, shows and verifies decisions, contains no secret, and detects every edit.

use serde_json::{Value, json};

use crate::support::sandbox::{NOT_IN_ORDER, Sandbox, until};

/// Runs SQL on the store of a sandbox, as a user with write access to its folder could.
fn tamper(sandbox: &Sandbox, sql: &str) {
    let database = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    database.execute_batch(sql).unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn listed(sandbox: &Sandbox, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["--json", "audit"];
    all.extend(args);
    lines(&sandbox.run(&all).ok().text())
}

/// Returns a sandbox with one workspace, a command that ran, a denied command, and a policy that failed after the
/// start.
fn lived() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) { ctx.spec.env.TEAM = \"blue\"; }\n\
         fn post_start(ctx) { throw \"broken\"; }\n\
         fn pre_exec(ctx) {\n    if ctx.exec.command[0] == \"rm\" { ctx.deny(\"no-rm\", \"nothing is removed here\"); }\n}\n",
    );
    assert_eq!(sandbox.run(&["up"]).code, NOT_IN_ORDER);
    sandbox.sh("true");
    assert_eq!(sandbox.run(&["exec", "--", "rm", "x"]).code, 125);
    sandbox
}

#[test]
fn records_are_listed_newest_last_and_every_filter_filters() {
    let sandbox = lived();
    let all = listed(&sandbox, &[]);
    let hooks: Vec<_> = all.iter().map(|record| record["hook"].as_str().unwrap()).collect();
    assert_eq!(hooks, ["select-image", "security-profile", "pre-create", "post-start", "pre-exec", "pre-exec"]);
    let numbers: Vec<_> = all.iter().map(|record| record["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let count = |args: &[&str]| listed(&sandbox, args).len();
    assert_eq!(count(&["--hook", "pre-exec"]), 2);
    assert_eq!(count(&["--outcome", "denied"]), 1);
    assert_eq!(count(&["--outcome", "failed"]), 1);
    assert_eq!(count(&["--outcome", "allowed"]), 4);
    assert_eq!(count(&["--policy", "rule.rhai"]), 4);
    assert_eq!(count(&["--policy", "nobody"]), 0);
    assert_eq!(count(&["--workspace", "project"]), 6);
    assert_eq!(count(&["--since", "1h"]), 6);
    assert_eq!(count(&["--until", "1h"]), 0);
    let last = listed(&sandbox, &["--limit", "2"]);
    assert_eq!(last.iter().map(|one| one["number"].as_i64().unwrap()).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(count(&["--limit", "0"]), 6);
    let text = sandbox.run(&["audit"]).ok().text();
    assert!(text.lines().last().unwrap().contains("denied   by rule.rhai: nothing is removed here (no-rm)"), "{text}");
    assert!(text.contains("rule.rhai: env.TEAM") && text.contains("'rule.rhai' failed"), "{text}");
    // Records outlive their objects.
    let id = sandbox.id();
    sandbox.run(&["down"]).ok();
    assert_eq!(count(&["--workspace", &id]), 6 + 1 - usize::from(count(&["--hook", "pre-stop"]) == 0));
    let none = sandbox.run(&["--json", "audit", "--workspace", "nobody"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("workspace-not-found")));
}

#[test]
fn a_record_is_shown_whole_by_number_or_id() {
    let sandbox = lived();
    let record = &listed(&sandbox, &["--hook", "pre-create"])[0];
    let step = &record["steps"][0];
    assert_eq!((&step["policy"], &step["lines"]["env.TEAM"]), (&json!("rule.rhai"), &json!(1)));
    assert_eq!(step["digest"].as_str().unwrap().len(), 64);
    assert!(step["operations"].as_u64().unwrap() > 0);
    assert!(record["input"]["facts"]["engine"]["api_version"].is_string());
    assert!(record["paths"].as_object().unwrap().contains_key(sandbox.project().to_str().unwrap()));
    for name in ["3", "#3", record["id"].as_str().unwrap()] {
        assert_eq!(sandbox.json(&["audit", "show", name])["hash"], record["hash"]);
    }
    let text = sandbox.run(&["audit", "show", "3"]).ok().text();
    assert!(text.contains("record 3") && text.contains("\"TEAM\": \"blue\""), "{text}");
    let none = sandbox.run(&["--json", "audit", "show", "99"]);
    assert_eq!((none.code, &none.error()["code"]), (5, &json!("record-not-found")));
}

#[test]
fn an_edit_is_found_and_the_record_is_named() {
    let sandbox = lived();
    let whole = sandbox.json(&["audit", "verify"]);
    assert_eq!((&whole["records"], &whole["damages"]), (&json!(6), &json!([])));
    let key = whole["public_key"].as_str().unwrap();
    sandbox.run(&["audit", "verify", "--public-key", key]).ok();
    let other = sandbox.run(&["audit", "verify", "--public-key", &"ab".repeat(32)]);
    assert!(other.code == 1 && other.text().contains("signed with another key"), "{}", other.text());
    assert_eq!(sandbox.run(&["audit", "verify", "--public-key", "x"]).code, 2);

    tamper(
        &sandbox,
        "update decisions set body = replace(body, 'nothing is removed', 'all is removed') where number = 6",
    );
    let found = sandbox.run(&["--json", "audit", "verify"]);
    assert_eq!((found.code, &found.error()["code"]), (1, &json!("records-damaged")));
    assert_eq!(found.json()["damages"][0]["number"], 6);
    let doctor = sandbox.run(&["doctor"]);
    assert!(doctor.text().contains("record 6 was changed"), "{}", doctor.text());
    tamper(&sandbox, "delete from decisions where number = 6");
    let text = sandbox.run(&["audit", "verify"]).text();
    assert!(text.contains("damaged: record 6 is missing"), "{text}");
}

#[test]
fn old_records_go_and_the_rest_is_still_proven() {
    let sandbox = lived();
    let id = sandbox.id();
    let pruned = sandbox.json(&["audit", "prune", "--keep", "2"]);
    assert_eq!((&pruned["pruned"], &pruned["checkpoint"]["number"]), (&json!(4), &json!(4)));
    // The records of the workspace's creation were pruned, and the output says so.
    assert_eq!(pruned["workspaces"], json!([id]));
    let why = sandbox.json(&["why"]);
    assert_eq!(why["fields"]["env.TEAM"]["value"], "blue");
    assert!(why["records"].as_array().unwrap().iter().all(|record| record["number"].is_null()), "{why}");
    let text = sandbox.run(&["why"]).ok().text();
    assert!(text.contains("pruned"), "{text}");
    let verified = sandbox.run(&["audit", "verify"]).ok().text();
    assert!(verified.contains("2 records, unbroken") && verified.contains("4 pruned"), "{verified}");
    let gone = sandbox.run(&["--json", "audit", "show", "3"]);
    assert!(gone.error()["message"].as_str().unwrap().contains("was pruned"));
    sandbox.sh("true");
    sandbox.run(&["audit", "verify"]).ok();
    // An attacker removes one more and writes a matching start.
    tamper(
        &sandbox,
        "delete from decisions where number = 5;
         update meta set value = replace(value, '\\\"number\\\":4', '\\\"number\\\":5') where key = 'decisions-checkpoint'",
    );
    let forged = sandbox.run(&["audit", "verify"]);
    assert!(forged.code == 1 && forged.text().contains("its signature does not match"), "{}", forged.text());
}

#[test]
fn the_service_prunes_what_the_configuration_does_not_keep() {
    let sandbox = lived();
    sandbox.append_config("[decisions]\nkeep = 3\n");
    let mut serve = sandbox.spawn(&["serve"]);
    until("the service prunes", || sandbox.store().checkpoint().unwrap().is_some());
    serve.signal("TERM");
    let said = serve.finish();
    assert!(said.text().contains("pruned 3 old decision records"), "{}", said.text());
    assert_eq!(sandbox.store().verify(None).unwrap().whole().unwrap(), 3);
    let bad = sandbox.run(&["--set", "decisions.keep=0", "audit"]);
    assert!(bad.code == 3 && bad.stderr.contains("decisions.keep"), "{}", bad.stderr);
}

#[test]
fn following_shows_new_records_as_they_are_made() {
    let sandbox = lived();
    let mut follow = sandbox.spawn(&["--json", "audit", "--follow", "--limit", "1", "--hook", "pre-exec"]);
    let (told, seen) = std::sync::mpsc::channel();
    let out = follow.child().stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(out)) {
            if told.send(serde_json::from_str::<Value>(&line.unwrap()).unwrap()).is_err() {
                return;
            }
        }
    });
    let next = || seen.recv_timeout(std::time::Duration::from_secs(60)).unwrap()["number"].clone();
    assert_eq!(next(), 6);
    sandbox.sh("echo 1");
    sandbox.sh("echo 2");
    assert_eq!((next(), next()), (json!(7), json!(8)));
    follow.signal("INT");
    assert_eq!(follow.finish().code, 130);
}

const PLANTED: [&str; 6] =
    ["planted-env-1", "planted-exec-2", "planted-label-3", "planted-policy-4", "planted-exec-5", "planted-login-6"];

// Long because it plants a secret in every possible place, one after the other.
#[test]
fn no_planted_secret_is_in_any_file_of_the_state() {
    let mut sandbox = Sandbox::new();
    // A registry login as docker stores it: base64 of `user:password`.
    sandbox.write(
        "docker/config.json",
        "{\"auths\":{\"registry.test\":{\"username\":\"u\",\"password\":\"planted-login-6\"}}}",
    );
    let docker = sandbox.path("docker").display().to_string();
    sandbox.env("DOCKER_CONFIG", &docker);
    sandbox.script(
        "leak.rhai",
        "fn pre_create(ctx) {\n    ctx.spec.env.POLICY_TOKEN = \"planted-policy-4\";\n    ctx.log(\"set planted-policy-4\");\n}\n\
         fn pre_exec(ctx) {\n    ctx.exec.env.EXEC_PASSWORD = \"planted-exec-5\";\n\
             if ctx.exec.command.contains(\"deny\") { ctx.deny(\"no\", `it has ${ctx.exec.command[2]}`); }\n}\n",
    );
    let up = sandbox
        .run(&[
            "-vv",
            "up",
            "-e",
            "API_TOKEN=planted-env-1",
            "-l",
            "deploy.token=planted-label-3",
            "--",
            "sh",
            "-c",
            "echo planted-env-1; sleep 999",
        ])
        .ok();
    let mut outputs = vec![up];
    outputs.push(sandbox.run(&["exec", "-e", "MY_SECRET=planted-exec-2", "--", "echo", "hello"]).ok());
    let denied = sandbox.run(&["exec", "-e", "MY_SECRET=planted-exec-2", "--", "echo", "deny", "planted-exec-2"]);
    assert_eq!(denied.code, 125);
    outputs.push(denied);
    for args in [
        &["why"][..],
        &["--json", "why"],
        &["--json", "inspect"],
        &["--json", "plan", "-l", "deploy.token=planted-label-3"],
        &["--json", "audit", "--limit", "0"],
        &["--json", "ls"],
    ] {
        outputs.push(sandbox.run(args).ok());
    }
    // No change: secrets are compared with the container's values.
    outputs.push(
        sandbox
            .run(&[
                "up",
                "-e",
                "API_TOKEN=planted-env-1",
                "-l",
                "deploy.token=planted-label-3",
                "--",
                "sh",
                "-c",
                "echo planted-env-1; sleep 999",
            ])
            .ok(),
    );
    outputs.push(sandbox.run(&["update", "--memory", "300MiB"]).ok());
    let differs = sandbox.run(&[
        "up",
        "-e",
        "API_TOKEN=planted-env-1",
        "-l",
        "deploy.token=other-label",
        "--",
        "sh",
        "-c",
        "echo planted-env-1; sleep 999",
    ]);
    assert!(differs.code == 7 && differs.stderr.contains("labels.deploy.token"), "{}", differs.stderr);
    outputs.push(differs);
    for (index, output) in outputs.iter().enumerate() {
        for secret in PLANTED {
            assert!(
                !output.text().contains(secret) && !output.stderr.contains(secret),
                "{index}: {secret}: {output:?}"
            );
        }
    }
    let mut files = vec![sandbox.path("state")];
    let mut looked = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for secret in PLANTED {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
        looked += 1;
    }
    assert!(looked > 3, "only {looked} files were looked at");
    // The values have reached the container.
    let container = &sandbox.own_containers()[0];
    assert_eq!(container["Labels"]["deploy.token"], "planted-label-3");
    assert_eq!(
        sandbox
            .run(&[
                "exec",
                "--",
                "sh",
                "-c",
                "test \"$API_TOKEN$POLICY_TOKEN$EXEC_PASSWORD\" = planted-env-1planted-policy-4planted-exec-5"
            ])
            .code,
        0
    );
    // A replay of the recorded input gives the same decisions.
    let replayed = sandbox.json(&["policy", "replay"]);
    assert_eq!(replayed["replayed"], replayed["identical"], "{replayed}");
}
