//! Commands that a service carries out (`--server`): the same output, errors and exit codes as without a service.

use super::serve::Serving;
use crate::support::process::Output;
use crate::support::sandbox::Sandbox;

/// A sandbox with its service.
pub struct Both {
    pub sandbox: Sandbox,
    pub _serving: Serving,
    pub server: String,
}

impl Both {
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let serving = Serving::start(&sandbox, &[]);
        let server = format!("unix://{}", sandbox.path("state/wharf.sock").display());
        Self { sandbox, _serving: serving, server }
    }

    pub fn there(&self, args: &[&str]) -> Output {
        let mut all = vec!["--server", &self.server];
        all.extend(args);
        self.sandbox.run(&all)
    }

    /// Expects the same result of a command with and without the service.
    #[track_caller]
    pub fn same(&self, args: &[&str]) -> Output {
        let both = || (self.sandbox.run(args), self.there(args));
        let (mut here, mut there) = both();
        if here.text() != there.text() {
            // An age may have increased by a second in between.
            (here, there) = both();
        }
        assert_eq!(here.code, there.code, "{args:?}: {}\n{}", here.stderr, there.stderr);
        assert_eq!(here.text(), there.text(), "{args:?}");
        assert_eq!(here.stderr, there.stderr, "{args:?}");
        there
    }
}

/// Runs a test twice: with standalone commands, and with a service that carries them out.
#[track_caller]
pub fn both_ways(test: impl Fn(&Sandbox)) {
    test(&Sandbox::new());
    let mut sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.env("WHARF_SERVER", sandbox.path("state/wharf.sock").to_str().unwrap());
    test(&sandbox);
    serving.terminate();
}

#[test]
fn what_a_service_reads_looks_like_what_the_command_reads_by_itself() {
    let both = Both::new();
    both.sandbox.json(&["up", "--label", "team=pay"]);
    for args in [
        &["ls"][..],
        &["--json", "ls"],
        &["ls", "--quiet"],
        &["inspect"],
        &["--json", "inspect"],
        &["policy", "ls"],
        &["--json", "policy", "ls"],
        &["cleanup", "ls", "--all"],
        &["cleanup", "--dry-run"],
        &["inspect", "nobody"],
        &["--json", "inspect", "nobody"],
        &["start", "../../health"],
        &["--json", "metrics", "nobody"],
        &["kill", "--signal", "NONSENSE"],
    ] {
        both.same(args);
    }
    // A workspace is also found by its folder there.
    let sub = both.sandbox.folder("project/src/deep");
    let found = both.sandbox.run_in(&sub, &["--server", &both.server, "--json", "inspect"]).ok();
    assert_eq!(found.json()["id"], both.sandbox.id());
}

#[test]
fn verbs_are_carried_out_by_the_service_one_by_one_and_on_all_with_a_label() {
    let both = Both::new();
    both.sandbox.json(&["up", "--label", "team=pay"]);
    let id = both.sandbox.id();
    assert_eq!(both.there(&["pause"]).ok().text(), format!("{id} paused\n"));
    assert_eq!(both.there(&["--json", "unpause"]).ok().json()["state"], "running");
    assert_eq!(both.there(&["stop", "--label", "team=pay", "--timeout", "1s"]).ok().text(), format!("{id} stopped\n"));
    assert_eq!(both.there(&["stop", "--label", "team=other"]).ok().text(), "");
    assert_eq!(both.there(&["--json", "start", "--all"]).ok().json()[0]["id"], id);
    let updated = both.there(&["--json", "update", "--memory", "256MiB", "--restart", "on-failure:3"]).ok().json();
    assert_eq!(updated["id"], id);
    assert_eq!(both.there(&["restart", &id, "nobody", "--timeout", "1s"]).code, 5, "the other one is restarted");
    assert!(both.there(&["update", "--restart", "nonsense"]).code == 2);
    assert_eq!(both.there(&["policy", "reload"]).ok().stderr, "");
    both.there(&["down"]).ok();
    assert_eq!(both.sandbox.own_containers().len(), 0);
    both.sandbox.up();
    assert!(both.there(&["rm", &id]).code == 1, "it runs");
    both.there(&["rm", "--force", &id]).ok();
    assert_eq!(both.sandbox.own_containers().len(), 0);
}

#[test]
fn a_denial_of_the_service_has_its_trail_and_its_exit_code() {
    let both = Both::new();
    both.sandbox.up();
    both.sandbox.script("no.rhai", "fn pre_create(ctx) { ctx.deny(\"no-more\", \"no more memory\"); }");
    both.there(&["policy", "reload"]).ok();
    let denied = both.there(&["--json", "update", "--memory", "128MiB"]);
    assert_eq!((denied.code, denied.error()["code"].as_str()), (4, Some("no-more")), "{}", denied.stderr);
    assert!(denied.error()["trail"].as_array().unwrap().iter().any(|step| step["policy"] == "no.rhai"));
    // A chain that does not load is rejected, and the command reports that as it does without a server.
    both.sandbox.write("config/policies/no.rhai", "fn pre_create(ctx) { this is no script");
    let refused = both.there(&["--json", "policy", "reload"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (3, Some("reload-refused")), "{}", refused.stderr);
}

#[test]
fn a_service_that_cannot_be_reached_or_is_none_is_said_and_nothing_is_done_here() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let gone = format!("unix://{}", sandbox.path("state/none.sock").display());
    for (server, code, word) in [
        (gone.as_str(), 6, "service-unreachable"),
        ("https://127.0.0.1:1", 6, "service-unreachable"),
        ("http://127.0.0.1:1", 2, "server"),
        ("nonsense", 2, "server"),
    ] {
        let refused = sandbox.run(&["--json", "--server", server, "stop", &sandbox.id()]);
        assert_eq!(
            (refused.code, refused.error()["code"].as_str()),
            (code, Some(word)),
            "{server}: {}",
            refused.stderr
        );
    }
    let folder = sandbox.run(&["--json", "--server", "https://127.0.0.1:1", "stop"]);
    assert_eq!((folder.code, folder.error()["code"].as_str()), (2, Some("bad-request")), "{}", folder.stderr);
    // An operation that a service does not offer is not run locally instead.
    let refused = sandbox.run(&["--json", "--server", &gone, "doctor"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (2, Some("server")), "{}", refused.stderr);
    assert_eq!(sandbox.json(&["inspect"])["state"], "running");
}

#[test]
fn the_server_is_named_by_the_configuration_or_the_environment_and_the_token_is_in_no_message() {
    let mut both = Both::new();
    both.sandbox.up();
    let server = both.server.clone();
    both.sandbox.append_config(&format!("[client]\nserver = \"{server}\"\ntoken_file = \"token\"\n"));
    let missing = both.sandbox.run(&["--json", "ls"]);
    assert_eq!((missing.code, missing.error()["code"].as_str()), (2, Some("server")), "{}", missing.stderr);
    both.sandbox.write("config/token", "wharf_hunter2 with blanks");
    let wrong = both.sandbox.run(&["ls"]);
    assert!(wrong.code == 2 && !wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
    both.sandbox.write("config/token", "wharf_hunter2\n");
    assert_eq!(both.sandbox.json(&["ls"])[0]["id"], both.sandbox.id());
    both.sandbox.config("");
    both.sandbox.env("WHARF_SERVER", &server);
    both.sandbox.env("WHARF_TOKEN", "wharf_hunter2");
    let gone = both.sandbox.run(&["-vv", "inspect", "nobody"]);
    assert!(gone.code == 5 && !gone.stderr.contains("hunter2"), "{}", gone.stderr);
}

#[test]
fn commands_that_a_service_runs_have_their_bytes_and_exit_codes() {
    let both = Both::new();
    both.sandbox.up();
    let script = "cat; echo err >&2; exit 7";
    let here = both.sandbox.feed(&["exec", "--interactive", "--", "sh", "-c", script], b"a\0\xff\n".to_vec());
    let there = both
        .sandbox
        .feed(&["--server", &both.server, "exec", "--interactive", "--", "sh", "-c", script], b"a\0\xff\n".to_vec());
    assert_eq!((here.code, &here.stdout, &here.stderr), (7, &b"a\0\xff\n".to_vec(), &"err\n".to_owned()));
    assert_eq!((there.code, &there.stdout, &there.stderr), (7, &here.stdout, &here.stderr));
    // Megabytes in both directions.
    let bytes: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let there = both.sandbox.feed(&["--server", &both.server, "exec", "-i", "--", "cat"], bytes.clone());
    assert!(there.code == 0 && there.stdout == bytes, "{} bytes, {}", there.stdout.len(), there.stderr);
    both.same(&["exec", "--", "no-such-command"]);
    both.same(&["exec", "--env", "A=b c", "--workdir", "/tmp", "--", "sh", "-c", "echo $A; pwd; kill -9 $$"]);
    both.same(&["exec", "nobody", "--", "true"]);
    both.same(&["exec", "--timeout", "300ms", "--", "sleep", "60"]);
    both.there(&["exec", "--detach", "--", "touch", "/tmp/was-here"]).ok();
    crate::support::sandbox::until("it was there", || {
        both.there(&["exec", "--", "test", "-e", "/tmp/was-here"]).code == 0
    });
    both.there(&["stop", "--timeout", "1s"]).ok();
    both.same(&["exec", "--", "true"]);
}

#[test]
fn what_a_workspace_writes_comes_through_a_service_as_it_was_written() {
    let both = Both::new();
    let writes = "echo one; echo two >&2; printf '\\377\\n'; printf 'no end'";
    both.sandbox.json(&["up", "--", "sh", "-c", writes]);
    crate::support::sandbox::until("it has ended", || both.sandbox.json(&["inspect"])["state"] == "exited");
    for args in [
        &["logs"][..],
        &["logs", "--tail", "2"],
        &["logs", "--stderr"],
        &["logs", "--timestamps"],
        &["logs", "--grep", "^T", "--ignore-case"],
        &["--json", "logs"],
        &["logs", "--follow"],
        &["logs", "--all"],
        &["logs", "--grep", "("],
    ] {
        let (here, there) = (both.sandbox.run(args), both.there(args));
        assert_eq!(here.stderr.contains("\n    ^"), args.contains(&"("), "{}", here.stderr);
        assert_eq!(here.stderr.lines().count(), there.stderr.lines().count(), "{args:?}: {}", there.stderr);
        assert_eq!(here.code, there.code, "{args:?}: {}\n{}", here.stderr, there.stderr);
        assert_eq!(String::from_utf8_lossy(&here.stdout), String::from_utf8_lossy(&there.stdout), "{args:?}");
        assert!(here.stdout == there.stdout, "{args:?}: the bytes are the same");
    }
    both.same(&["logs", "nobody"]);
}

#[test]
fn logs_and_events_are_followed_over_the_end_of_a_service_without_a_gap() {
    let Both { sandbox, _serving: serving, server } = Both::new();
    let counts = "n=0; trap exit TERM; while :; do n=$((n+1)); echo line $n; sleep 0.05; done";
    sandbox.json(&["up", "--", "sh", "-c", counts]);
    let mut logs = sandbox.spawn(&["--server", &server, "logs", "--follow"]);
    let mut events = sandbox.spawn(&["--server", &server, "events"]);
    let mut list = sandbox.spawn(&["--server", &server, "--json", "ls", "--watch"]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    sandbox.run(&["pause"]).ok();
    serving.kill();
    sandbox.run(&["unpause"]).ok();
    let serving = Serving::start(&sandbox, &[]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    sandbox.run(&["pause"]).ok();
    std::thread::sleep(std::time::Duration::from_secs(2));
    logs.signal("TERM");
    events.signal("TERM");
    list.signal("TERM");
    let (logs, events, list) = (logs.finish(), events.finish(), list.finish());
    let states = states(&list);
    // Changes shortly before the service was killed may not have been shown.
    assert!(
        states.first().unwrap() == "running" && states.ends_with(&["running".into(), "paused".into()]),
        "{states:?}"
    );
    assert_eq!(list.stderr.matches("trying again").count(), 1, "{}", list.stderr);
    let numbers: Vec<u64> = logs.text().lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.len() > 20 && logs.stderr.contains("trying again"), "{}", logs.stderr);
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "no line is lost, and none comes twice");
    let text = events.text();
    let count = |what: &str| text.lines().filter(|line| line.split_whitespace().any(|word| word == what)).count();
    assert_eq!((count("paused"), count("unpaused")), (2, 1), "{text}\n{}", events.stderr);
    serving.end();
}

/// Returns the states of the only workspace in a watched list.
#[track_caller]
fn states(watched: &Output) -> Vec<String> {
    let state =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[0]["state"].as_str().unwrap().to_owned();
    watched.text().lines().map(state).collect()
}

#[test]
fn readings_and_a_watched_list_come_from_the_service() {
    let both = Both::new();
    both.sandbox.config("[metrics]\ninterval = \"1s\"\n");
    both.sandbox.up();
    let id = both.sandbox.id();
    crate::support::sandbox::until("the collector has read it", || {
        let stats = both.there(&["--json", "stats"]).ok().json();
        stats[0]["id"] == id.as_str() && stats[0]["memory_used"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    assert!(both.there(&["stats", "--no-stream", &id]).ok().text().contains(&id));
    both.same(&["--json", "stats", "nobody"]);
    for args in [&["--json", "ls", "--watch"][..], &["--server", &both.server, "--json", "ls", "--watch"]] {
        let mut watch = both.sandbox.spawn(args);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        both.sandbox.run(&["pause"]).ok();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        both.sandbox.run(&["unpause"]).ok();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        watch.signal("INT");
        let watched = watch.finish();
        assert_eq!(
            (states(&watched), watched.code),
            (["running", "paused", "running"].map(str::to_owned).into(), 130),
            "{args:?}"
        );
    }
}

#[test]
fn logs_of_several_workspaces_come_through_a_service_as_they_are() {
    let both = Both::new();
    let long = "head -c 100000 /dev/zero | tr '\\0' x; echo";
    let script = |name: &str| format!("for i in 1 2 3 4 5; do echo {name} $i; sleep 0.05; done; {long}; echo end");
    let other = both.sandbox.folder("other");
    both.sandbox.json(&["up", "--", "sh", "-c", &script("one")]);
    both.sandbox.run_in(&other, &["up", "-q", "--", "sh", "-c", &script("two")]).ok();
    for name in ["project", "other"] {
        both.sandbox.json(&["wait", "--for", "exited", name]);
    }
    let seven = both.same(&["logs", "project", "other", "project"]).text();
    assert_eq!(seven.lines().count(), 14, "each once, and long lines whole");
    both.same(&["logs", "--json", "project", "other"]);
    both.same(&["logs", "--all", "--grep", "end"]);
    // After one line of each workspace.
    let lines = both.sandbox.run(&["--json", "logs", "project", "other"]).ok().text();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cursor = |name: &str| {
        let third = lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with(name)).nth(2).unwrap();
        third["cursor"].as_str().unwrap().to_owned()
    };
    let (one, two) = (cursor("one"), cursor("two"));
    let rest = both.same(&["logs", "project", "other", "--after", &one, "--after", &two]).text();
    assert_eq!(rest.lines().count(), 8, "{}", rest.lines().map(|line| &line[..20]).collect::<Vec<_>>().join("\n"));
    // In time order also while following.
    let followed = both.there(&["logs", "-f", "-t", "project", "other"]).ok().text();
    let times: Vec<&str> = followed.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert!(times.len() == 14 && times.is_sorted(), "{times:?}");
    both.same(&["plan", "--cpus", "nan"]);
}
