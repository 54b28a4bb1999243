//! Decisions and idle workspaces through a service (`--server`): the same output, errors and exit codes.

use serde_json::Value;

use super::events::Lines;
use super::remote::Both;
use super::serve::Serving;
use crate::support::sandbox::until;

/// Returns a workspace with commands that ran, a denied command, and a shadow.
fn lived() -> Both {
    let both = Both::new();
    both.sandbox.script(
        "rule.rhai",
        "fn pre_exec(ctx) {\n    if ctx.exec.command[0] == \"rm\" { ctx.deny(\"no-rm\", \"nothing is removed here\"); }\n}\n",
    );
    both.sandbox.script("next.rhai", "fn pre_exec(ctx) { ctx.deny(\"no\", \"not then\"); }");
    both.sandbox.append_config("mode = \"shadow\"");
    both.there(&["policy", "reload"]).ok();
    both.there(&["up"]).ok();
    for _ in 0..3 {
        both.there(&["exec", "--", "true"]).ok();
    }
    assert_eq!(both.there(&["exec", "--", "rm", "x"]).code, 125);
    both
}

#[test]
fn records_are_listed_and_shown_as_they_are_here() {
    let both = lived();
    for args in [
        &["audit"][..],
        &["--json", "audit"],
        &["audit", "-n", "2"],
        &["--json", "audit", "-n", "0"],
        &["audit", "-n", "0", "--hook", "pre-exec"],
        &["audit", "--hook", "pre-exec", "--outcome", "denied"],
        &["audit", "--outcome", "failed"],
        &["audit", "--policy", "rule.rhai"],
        &["audit", "--workspace", "project"],
        &["audit", "-n", "0", "--workspace", &both.sandbox.id()],
        &["audit", "--since", "1h"],
        &["audit", "--until", "1h"],
        &["audit", "-n", "0", "--until", "1h"],
        &["--json", "audit", "--workspace", "nobody"],
        &["audit", "show", "1"],
        &["--json", "audit", "show", "2"],
        &["audit", "show", "3", "--as-case"],
        &["--json", "audit", "show", "9999"],
        &["--json", "audit", "show", "../health"],
        &["policy", "diff"],
        &["--json", "policy", "diff", "next.rhai"],
        &["--json", "policy", "diff", "nobody"],
    ] {
        both.same(args);
    }
    assert!(both.there(&["audit"]).text().contains("denied   by rule.rhai"));
    let diff = both.there(&["policy", "diff"]).text();
    assert!(diff.contains("next.rhai: asked") && diff.contains("denied: no by next.rhai"), "{diff}");
    // More than a page of the service can hold.
    for _ in 0..60 {
        both.sandbox.run(&["cleanup"]).ok();
    }
    let all = both.same(&["--json", "audit", "-n", "0"]);
    let numbers: Vec<i64> = all
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    assert!(numbers.len() > 64, "{}", numbers.len());
    // Operations with the installation's own key only run where the key is.
    for args in [&["--json", "audit", "verify"][..], &["--json", "audit", "prune"], &["--json", "policy", "reset", "x"]]
    {
        let refused = both.there(args);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (2, Some("server")), "{}", refused.stderr);
    }
}

#[test]
fn records_are_followed_over_the_end_of_a_service_without_a_gap() {
    let Both { sandbox, _serving: serving, server } = lived();
    let newest = sandbox.store().newest_decision().unwrap();
    let mut running = sandbox.spawn(&["--server", &server, "--json", "audit", "-n", "1", "--follow"]);
    let lines = Lines::of(&mut running);
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["number"].as_i64().unwrap();
    assert_eq!(number(&lines.next()), newest);
    sandbox.run(&["cleanup"]).ok();
    assert_eq!(number(&lines.next()), newest + 1);
    serving.kill();
    sandbox.run(&["cleanup"]).ok();
    sandbox.run(&["cleanup"]).ok();
    let serving = Serving::start(&sandbox, &[]);
    assert_eq!((number(&lines.next()), number(&lines.next())), (newest + 2, newest + 3));
    running.signal("INT");
    let ended = running.finish();
    assert!(ended.code == 130 && ended.stderr.contains("trying again"), "{}", ended.stderr);
    serving.end();
}

#[test]
fn records_are_run_again_through_the_chain_of_the_service() {
    let both = lived();
    let untimed = |args: &[&str]| {
        let (here, there) = (both.sandbox.run(args), both.there(args));
        assert_eq!((here.code, &here.stderr), (there.code, &there.stderr), "{args:?}");
        let strip = |mut value: Value| {
            value["seconds"].take();
            value["per_second"].take();
            value
        };
        if here.code == 0 || here.code == 7 {
            assert_eq!(strip(here.json()), strip(there.json()), "{args:?}");
        }
        there
    };
    untimed(&["--json", "policy", "replay"]);
    untimed(&["--json", "policy", "replay", "--decision", "1"]);
    untimed(&["--json", "policy", "replay", "--decision", "9999"]);
    untimed(&["--json", "policy", "replay", "--workspace", "nobody"]);
    untimed(&["--json", "policy", "replay", "--hook", "pre-exec", "--since", "1h", "--workspace", "project"]);
    both.sandbox.write("config/policies/rule.rhai", "fn pre_exec(ctx) { ctx.deny(\"closed\", \"for today\"); }");
    both.there(&["policy", "reload"]).ok();
    let flips = untimed(&["--json", "policy", "replay"]);
    assert_eq!((flips.code, flips.json()["flipped"].as_u64()), (7, Some(4)), "{}", flips.text());
    let text = both.there(&["policy", "replay"]);
    assert!(text.code == 7 && text.text().contains("4 flipped"), "{}", text.text());
    let with = both.there(&["--json", "policy", "replay", "--with", "x.rhai"]);
    assert_eq!((with.code, with.error()["code"].as_str()), (2, Some("bad-request")), "{}", with.stderr);
}

#[test]
fn idleness_and_leases_are_those_of_the_service() {
    let both = Both::new();
    both.there(&["up"]).ok();
    let id = both.sandbox.id();
    let idle = both.there(&["--json", "idle"]).ok().json();
    assert_eq!((&idle[0]["id"], &idle[0]["state"]), (&Value::from(id.as_str()), &Value::from("running")));
    assert_eq!(both.there(&["--json", "idle", "project"]).ok().json()[0]["id"], id.as_str());
    let why = both.there(&["--json", "idle", "why"]).ok().json();
    assert_eq!((&why["id"], &why["service"]), (&Value::from(id.as_str()), &Value::from(true)));
    assert!(both.there(&["idle", "why"]).ok().text().contains("idle.after is not set"));
    both.same(&["lease"]);
    both.there(&["lease", "2h"]).ok();
    let leased = both.same(&["--json", "lease", "project"]);
    assert!(leased.json()["until"].is_string(), "{}", leased.text());
    assert!(both.same(&["lease"]).text().contains("is leased until"));
    both.there(&["lease", "--release"]).ok();
    assert!(both.same(&["--json", "lease"]).json()["until"].is_null());
    for args in [
        &["--json", "idle", "nobody"][..],
        &["--json", "idle", "why", "nobody"],
        &["--json", "lease", "nobody", "2h"],
        &["--json", "lease", "project", "nonsense"],
        &["--json", "lease", "2h", "--release"],
    ] {
        assert_ne!(both.same(args).code, 0, "{args:?}");
    }
    until("it is gone", || both.there(&["rm", "--force", &id]).code == 0);
}
