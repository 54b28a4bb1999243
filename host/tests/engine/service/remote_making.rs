//! Creating, planning, explaining and waiting through a service (`--server`): the same output, errors and exit codes.

use serde_json::{Value, json};

use super::events::Lines;
use super::remote::Both;
use crate::support::https::{self, Https};
use crate::support::process::Output;
use crate::support::sandbox::{Sandbox, until};

/// Removes the durations of policies, which differ each time.
fn timeless(output: &Output) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("microseconds");
                map.values_mut().for_each(strip);
            }
            Value::Array(all) => all.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = output.json();
    strip(&mut value);
    value
}

#[test]
fn a_workspace_is_made_by_a_service_with_all_that_the_flags_say_and_read_here() {
    let mut both = Both::new();
    both.sandbox.env("FROM_HERE", "it is from here");
    both.sandbox.write("project/token.txt", "s3cr3t\n");
    // Not in the project: there, a link could replace it, and the engine restarts this workspace.
    let data = both.sandbox.folder("data");
    both.sandbox.append_config(&format!("[allow]\nbind_roots = [\"{}\"]", data.display()));
    both.sandbox.run(&["policy", "reload"]).ok();
    let args = [
        "--json",
        "up",
        "--wait=30s",
        "--env",
        "A=b",
        "--env",
        "FROM_HERE",
        "--label",
        "team=pay",
        "--memory",
        "128MiB",
        "--cpus",
        "0.5",
        "--pids",
        "100",
        "--shm-size",
        "32MiB",
        "--tmpfs",
        "/scratch:1MiB",
        "--ulimit",
        "nofile=512",
        "--mount",
        "../data:/data:ro",
        "--secret",
        "token=token.txt",
        "--restart",
        "on-failure:2",
        "--ttl",
        "8h",
        "--network",
        "own",
        "--health-cmd",
        "true",
        "--health-interval",
        "1s",
        "--",
        "sleep",
        "1000",
    ];
    let made = both.there(&args).ok();
    // Created as by the standalone command, which finds no difference.
    let found = both.sandbox.run(&args).ok();
    assert_eq!(made.json()["container_id"], found.json()["container_id"]);
    assert_eq!((&made.json()["state"], &made.json()["health"]), (&json!("running"), &json!("healthy")));
    let seen = both.sandbox.sh("cat /run/secrets/token; echo $A, $FROM_HERE; ulimit -n; ls -d /data /scratch");
    assert_eq!(seen, "s3cr3t\nb, it is from here\n512\n/data\n/scratch\n");
    assert!(!made.stderr.contains("s3cr3t") && made.stderr.is_empty(), "{}", made.stderr);
    // A changed request is a difference, until replacing is permitted.
    let differs = both.same(&["--json", "up", "--pids", "55"]);
    assert_eq!((differs.code, differs.error()["code"].as_str()), (7, Some("spec-differs")));
    let again = both.there(&["up", "--quiet", "--recreate", "--pids", "55"]).ok();
    assert_eq!(again.text(), format!("{}\n", both.sandbox.id()));
    assert_ne!(both.sandbox.json(&["inspect"])["container_id"], made.json()["container_id"]);
    let told = both.there(&["up", "--pids", "55"]).ok();
    assert!(told.text().contains(&format!("{} is running", both.sandbox.id())), "{}", told.text());
    // The folder is relative to the client.
    let sub = both.sandbox.folder("project/deep");
    let other = both.sandbox.run_in(&sub, &["--server", &both.server, "--json", "up", "..", "--name", "other"]).ok();
    assert_eq!(other.json()["project"], both.sandbox.project().canonicalize().unwrap().to_str().unwrap());
    assert_eq!(other.json()["name"], "other");
}

#[test]
fn progress_of_a_build_is_told_here() {
    let both = Both::new();
    let from = crate::support::engine_api::BASE;
    both.sandbox.write("project/Dockerfile", format!("FROM {from}\nRUN echo built-there > /built\n"));
    let made = both.there(&["up", "--build", "."]).ok();
    assert!(made.stderr.contains("RUN echo built-there"), "{}", made.stderr);
    assert_eq!(both.sandbox.sh("cat /built").trim(), "built-there");
}

#[test]
fn who_is_interrupted_waits_no_longer_and_the_service_carries_it_to_its_end() {
    let both = Both::new();
    let from = crate::support::engine_api::BASE;
    both.sandbox.write("project/Dockerfile", format!("FROM {from}\nRUN sleep 4\n"));
    let mut up = both.sandbox.spawn(&["--server", &both.server, "up", "--build", "."]);
    let lines = Lines::of_stderr(&mut up);
    assert!(lines.find("RUN sleep 4").contains("sleep"));
    up.signal("INT");
    assert_eq!(up.finish().code, 130);
    assert!(lines.find("interrupted").contains("completes the request"));
    let runs = || {
        let all = both.there(&["--json", "ls"]).ok().json();
        all.as_array().is_some_and(|all| all.iter().any(|one| one["state"] == "running"))
    };
    assert!(!runs(), "it is still built");
    until("it is made", runs);
}

#[test]
fn what_a_service_does_not_make_is_refused_as_it_is_here() {
    let both = Both::new();
    both.sandbox.write("project/binary", b"\xff\xfe");
    for args in [
        &["--json", "up", "--publish", "nonsense"][..],
        &["--json", "up", "--mount", "nonsense"],
        &["--json", "up", "--env", "NO_SUCH_VARIABLE"],
        &["--json", "up", "--label", "nonsense"],
        &["--json", "up", "--secret", "token=/no/such/file"],
        &["--json", "up", "--ulimit", "nonsense"],
        &["--json", "up", "--image", "wharf-no-such:1", "--pull", "never"],
        &["--json", "up", "/no/such/folder"],
        &["--json", "up", "/etc"],
        &["--json", "up", "--devcontainer", "none"],
        &["--json", "wait", "nobody"],
        &["--json", "why"],
        &["--json", "plan", "--diff"],
        &["--json", "up", "--network", "host"],
        &["--json", "up", "--publish", "x"],
        &["--json", "plan", "--tmpfs", "/t:x"],
    ] {
        let (here, there) = (both.sandbox.run(args), both.there(args));
        assert_eq!(here.code, there.code, "{args:?}: {}\n{}", here.stderr, there.stderr);
        let (here, there) = (timeless_error(&here), timeless_error(&there));
        assert_eq!(here, there, "{args:?}");
    }
    let binary = both.there(&["--json", "up", "--secret", "token=binary"]);
    assert_eq!((binary.code, binary.error()["code"].as_str()), (2, Some("bad-request")), "{}", binary.stderr);
    let offline = both.there(&["--json", "plan", "--offline"]);
    assert_eq!((offline.code, offline.error()["code"].as_str()), (2, Some("bad-request")), "{}", offline.stderr);
    // Over the network, local paths are meaningless, and no request is sent.
    for args in
        [&["up"][..], &["up", "/project", "--mount", "./data:/data"], &["up", "/project", "--build", "."], &["plan"]]
    {
        let mut all = vec!["--json", "--server", "https://127.0.0.1:1"];
        all.extend(args);
        let refused = both.sandbox.run(&all);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (2, Some("bad-request")), "{}", refused.stderr);
    }
    both.sandbox.assert_nothing_left();
}

/// Returns the error without the durations in its trail.
#[track_caller]
fn timeless_error(output: &Output) -> Value {
    let error = Output { code: output.code, stdout: output.error().to_string().into_bytes(), stderr: String::new() };
    timeless(&error)
}

#[test]
fn a_denial_ends_up_and_plan_with_its_trail() {
    let both = Both::new();
    both.sandbox.script("no.rhai", "fn pre_create(ctx) { ctx.deny(\"no-more\", \"enough\"); }");
    both.there(&["policy", "reload"]).ok();
    for args in [&["--json", "up"][..], &["--json", "plan"]] {
        let (here, there) = (both.sandbox.run(args), both.there(args));
        assert_eq!((here.code, there.code), (4, 4), "{args:?}: {}", there.stderr);
        assert_eq!(timeless_error(&here), timeless_error(&there), "{args:?}");
    }
    let denied = both.there(&["up"]);
    assert!(denied.stderr.contains("no.rhai") && denied.stderr.contains("enough"), "{}", denied.stderr);
}

#[test]
fn plans_and_explanations_of_a_service_are_those_of_the_command() {
    let both = Both::new();
    both.sandbox.script("team.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"pay\"; }");
    both.there(&["policy", "reload"]).ok();
    let (here, there) = (both.sandbox.run(&["--json", "plan"]).ok(), both.there(&["--json", "plan"]).ok());
    assert_eq!(timeless(&here), timeless(&there));
    assert!(both.there(&["plan", "--memory", "128MiB"]).ok().text().contains("resources.memory"));
    both.there(&["up", "--label", "a=b"]).ok();
    for args in [
        &["why"][..],
        &["--json", "why"],
        &["why", "env.TEAM"],
        &["why", "image"],
        &["why", "project", "env"],
        &["why", "no-such-field"],
        &["plan", "--diff"],
        &["--json", "plan", "--diff"],
        &["--json", "plan", "--diff=project"],
        &["--json", "plan", "--diff=nobody"],
    ] {
        both.same(args);
    }
    assert_eq!(both.same(&["why", "env.TEAM"]).code, 0);
    assert_eq!(both.same(&["--json", "plan", "--diff", "--name", "other"]).code, 5);
    let differs = both.there(&["--json", "plan", "--diff", "--pids", "55"]);
    let local = both.sandbox.run(&["--json", "plan", "--diff", "--pids", "55"]);
    assert_eq!((differs.code, local.code), (7, 7), "{}", differs.stderr);
    assert_eq!(differs.json()["changes"][0]["field"], "resources.pids");
    assert_eq!(differs.json()["changes"][0]["decided"], local.json()["changes"][0]["decided"]);
}

#[test]
fn a_wait_ends_with_the_service_as_it_does_without() {
    let both = Both::new();
    both.there(&["up"]).ok();
    both.same(&["wait"]);
    both.same(&["--json", "wait", "--for", "running"]);
    both.same(&["wait", "--for", "removed", "--timeout", "200ms"]);
    both.same(&["wait", "--exit-code"]);
    let waiting = both.sandbox.spawn(&["--server", &both.server, "wait", "--for", "exited", "--exit-code"]);
    both.there(&["kill"]).ok();
    let waited = waiting.finish();
    assert_eq!((waited.code, waited.text().trim()), (137, "137"), "{}", waited.stderr);
    until("it is gone", || both.there(&["rm", "--force", &both.sandbox.id()]).code == 0);
}

#[test]
fn over_the_network_a_workspace_is_made_of_a_folder_there_with_what_is_read_here() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    let token = https::token(&sandbox, &["ci", "--role", "operator"]);
    let server = format!("https://{}", https.address.replace("127.0.0.1", "localhost"));
    let ca = format!("client.ca_file={}", sandbox.path("tls/cert.pem").display());
    let far = |args: &[&str]| {
        let mut command = sandbox.command_in(&sandbox.folder("elsewhere"), &["--server", &server, "--set", &ca]);
        command.args(args).env("WHARF_TOKEN", &token).env("WORD", "from here");
        Output::of(command.output().unwrap())
    };
    until("the engine is there", || far(&["ls"]).code == 0);
    sandbox.write("elsewhere/token.txt", "s3cr3t");
    let project = sandbox.project().display().to_string();
    let made = far(&["--json", "up", &project, "-e", "WORD", "--secret", "token=token.txt", "--wait=30s"]).ok();
    assert_eq!((&made.json()["id"], &made.json()["state"]), (&json!(sandbox.id()), &json!("running")));
    let seen = far(&["exec", "project", "--", "sh", "-c", "cat /run/secrets/token; echo - $WORD"]).ok();
    assert_eq!(seen.text(), "s3cr3t- from here\n");
    assert_eq!(far(&["--json", "plan", "--diff=project"]).ok().json()["changes"], json!([]));
    assert!(far(&["why", "project", "env.WORD"]).ok().text().contains("from here"));
    assert!(far(&["audit", "-n", "0"]).ok().text().contains("allowed"));
    for args in [&["up"][..], &["why", "env"], &["plan", "--diff"], &["up", &project, "--mount", "./x:/x"]] {
        let refused = far(args);
        assert!(matches!(refused.code, 2 | 5), "{args:?}: {}", refused.stderr);
    }
    // An operation that needs a higher role is refused with the API's message, which reveals nothing of the token.
    let replay = far(&["--json", "policy", "replay"]);
    assert_eq!((replay.code, replay.error()["code"].as_str()), (1, Some("role")), "{}", replay.stderr);
    assert!(!replay.stderr.contains(&token));
    far(&["rm", "--force", "project"]).ok();
    serving.end();
}

#[test]
fn a_folder_is_mounted_through_the_service_as_it_is_without_one() {
    let both = Both::new();
    both.sandbox.folder("project/sub");
    both.there(&["up", "--mount", "./sub/../sub:/x"]).ok();
    // The workspace is the same.
    both.sandbox.run(&["up", "--mount", "./sub:/x"]).ok();
}
