//! `logs` of several workspaces, of matching lines, and resumed: from a cursor, and after a broken connection.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::support::engine_api as engine;
use crate::support::fake_daemon::Outage;
use crate::support::sandbox::{Sandbox, until};

/// Creates a workspace whose command runs a shell line. Returns its id and container.
#[track_caller]
fn workspace(sandbox: &Sandbox, name: &str, line: &str) -> (String, String) {
    let folder = sandbox.folder(name);
    let up = sandbox.json(&["up", &folder.display().to_string(), "--", "sh", "-c", line]);
    (up["id"].as_str().unwrap().to_owned(), up["container_id"].as_str().unwrap().to_owned())
}

#[track_caller]
fn ended(sandbox: &Sandbox, name: &str, line: &str) -> String {
    let (id, container) = workspace(sandbox, name, line);
    engine::post(&format!("/containers/{container}/wait"), &Value::Null).done();
    id
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The engine's files, and the engine itself.
const WAYS: [&str; 2] = ["engine.local_files=true", "engine.local_files=false"];

#[test]
fn lines_of_several_workspaces_are_in_time_order_with_their_ids() {
    let sandbox = Sandbox::new();
    let line = "while ! [ -e go ]; do sleep 0.01; done; \
                i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; [ $((i % 7)) = 0 ] && echo bad >&2; sleep 0.01; done";
    let (a, _) = workspace(&sandbox, "a", line);
    let (b, _) = workspace(&sandbox, "b", line);
    let (c, _) = workspace(&sandbox, "c", line);
    for name in ["a", "b", "c"] {
        sandbox.write(&format!("{name}/go"), "");
    }
    until("they end", || sandbox.own_containers().iter().all(|container| container["State"] == "exited"));
    for way in WAYS {
        let all = objects(&sandbox.run(&["--json", "--set", way, "logs", "--all"]).ok().text());
        assert_eq!(all.len(), 3 * 45, "{way}");
        let times: Vec<jiff::Timestamp> =
            all.iter().map(|line| line["time"].as_str().unwrap().parse().unwrap()).collect();
        assert!(times.is_sorted(), "{way}");
        let changes = all.windows(2).filter(|two| two[0]["workspace"] != two[1]["workspace"]).count();
        assert!(changes > 10, "{way}: only {changes} changes between workspaces that ran at once");
        for id in [&a, &b, &c] {
            let own = all.iter().filter(|line| line["workspace"] == **id && line["stream"] == "stdout");
            let said: Vec<_> = own.map(|line| line["message"].as_str().unwrap().to_owned()).collect();
            assert_eq!(said, (1..=40).map(|n| n.to_string()).collect::<Vec<_>>(), "{way}");
        }
        let shown = sandbox.run(&["--set", way, "logs", &a, &b, "--tail", "1"]).ok();
        assert!(shown.text().contains(&format!("{a} | 40\n")) && shown.text().contains(&format!("{b} | 40\n")));
        let alone = sandbox.run(&["--set", way, "logs", &a, &a, "--tail", "1"]).ok();
        assert_eq!(alone.text(), "40\n", "one container has no prefix");
    }
    assert_eq!(sandbox.run(&["logs", "--all", &a]).code, 2);
}

#[test]
fn a_workspace_with_a_sidecar_has_the_logs_of_both() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--label", "team=pay", "--", "sh", "-c", "echo from the workspace; sleep 600"]);
    let line = "echo from the sidecar; sleep 600";
    sandbox.json(&["sidecar", "add", "db", "--image", engine::BASE, "--", "sh", "-c", line]);
    let id = sandbox.id();
    workspace(&sandbox, "other", "echo from another; sleep 600");
    let both = format!("{id}    | from the workspace\n{id}-db | from the sidecar\n");
    for args in [&["logs"][..], &["logs", "project"], &["logs", "--label", "team=pay"]] {
        until("both have written", || sandbox.run(args).ok().text() == both);
    }
    let side = format!("{id}-db");
    assert_eq!(sandbox.run(&["logs", &side]).ok().text(), "from the sidecar\n");
    assert_eq!(sandbox.json(&["stats", &id]).as_array().map(Vec::len), Some(2));
    let none = sandbox.run(&["logs", "--label", "team=none"]).ok();
    assert_eq!((none.text().as_str(), none.stderr.as_str()), ("", ""));
}

#[test]
fn following_several_ends_when_all_have_ended() {
    let sandbox = Sandbox::new();
    let wait = |name: &str| format!("echo begun {name}; while ! [ -e go ]; do sleep 0.05; done; echo last {name}");
    workspace(&sandbox, "a", &wait("a"));
    workspace(&sandbox, "b", &wait("b"));
    let mut follow = sandbox.spawn(&["logs", "-f", "--all"]);
    let mut shown = BufReader::new(follow.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Vec<_> = shown.by_ref().take(2).collect();
    assert!(first[0].ends_with("| begun a") && first[1].ends_with("| begun b"), "{first:?}");
    sandbox.write("b/go", "");
    assert!(shown.next().unwrap().ends_with("| last b"));
    sandbox.write("a/go", "");
    assert!(shown.next().unwrap().ends_with("| last a"));
    assert_eq!(shown.next(), None);
    assert_eq!(follow.finish().code, 0);
}

#[test]
fn grep_and_stream_choose_lines_and_a_wrong_pattern_says_where() {
    let sandbox = Sandbox::new();
    let line = "echo Alpha; echo beta; echo 'alpha beta' >&2; head -c 40000 /dev/zero | tr '\\0' x; echo alphabet";
    let id = ended(&sandbox, "project", line);
    for way in WAYS {
        let run = |args: &[&str]| {
            let mut all = vec!["--set", way, "logs", id.as_str()];
            all.extend(args);
            let output = sandbox.run(&all).ok();
            (
                output.text().lines().map(|line| line.trim_start_matches('x').to_owned()).collect::<Vec<_>>(),
                output.stderr,
            )
        };
        assert_eq!(run(&["--grep", "^alpha"]), (vec![], "alpha beta\n".to_owned()));
        assert_eq!(run(&["--grep", "^alpha", "-i", "--stdout"]), (vec!["Alpha".to_owned()], String::new()));
        // A line that the engine logged in three messages is one line.
        assert_eq!(run(&["--grep", "^x+alphabet$"]).0, ["alphabet"]);
        assert_eq!(run(&["--stderr"]), (vec![], "alpha beta\n".to_owned()));
    }
    let wrong = sandbox.run(&["--json", "logs", &id, "--grep", "a(b"]);
    assert_eq!((wrong.code, wrong.error()["code"].as_str()), (2, Some("bad-request")));
    assert!(wrong.error()["message"].as_str().unwrap().contains("unclosed group"));
    assert_eq!(sandbox.run(&["logs", "-i"]).code, 2);
}

#[test]
fn any_cursor_gives_exactly_what_came_after_it() {
    let sandbox = Sandbox::new();
    let line = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo same; echo same >&2; echo $i; done";
    let id = ended(&sandbox, "project", line);
    for way in WAYS {
        let logs = |more: &[&str]| {
            let mut args = vec!["--json", "--set", way, "logs", id.as_str()];
            args.extend(more);
            objects(&sandbox.run(&args).ok().text())
        };
        let all = logs(&[]);
        assert_eq!(all.len(), 900);
        for at in [0, 1, 2, 449, 450, 451, 897, 898, 899] {
            let cursor = all[at]["cursor"].as_str().unwrap();
            assert_eq!(logs(&["--after", cursor]), all[at + 1..], "{way}, behind {at}");
            // Also if only the other stream is requested than that of the line before.
            for only in ["stdout", "stderr"] {
                let flag = format!("--{only}");
                let rest = sandbox.run(&["--json", "--set", way, "logs", &id, "--after", cursor, &flag]).ok();
                let expected: Vec<_> = all[at + 1..].iter().filter(|line| line["stream"] == only).cloned().collect();
                assert_eq!((objects(&rest.text()), rest.stderr.as_str()), (expected, ""), "{way}, {only} behind {at}");
            }
        }
        // One way of reading continues where the other stopped.
        let other = WAYS.iter().find(|other| **other != way).unwrap();
        let cursor = all[500]["cursor"].as_str().unwrap();
        let rest = sandbox.run(&["--json", "--set", other, "logs", &id, "--after", cursor]).ok().text();
        assert_eq!(objects(&rest), all[501..]);
    }
    let foreign = sandbox.run(&["--json", "logs", &id, "--after", "abc:1:o1"]);
    assert_eq!((foreign.code, foreign.error()["code"].as_str()), (2, Some("bad-request")));
    assert!(foreign.error()["message"].as_str().unwrap().contains("recreated"), "{}", foreign.stderr);
    assert_eq!(sandbox.run(&["logs", &id, "--after", "nonsense"]).code, 2);
}

#[test]
fn a_follower_goes_on_without_loss_or_duplicate_when_the_engine_comes_back() {
    let sandbox = Sandbox::new();
    let line = "i=0; while ! [ -e stop ]; do i=$((i+1)); echo $i; sleep 0.005; done; echo end $i";
    let (id, _) = workspace(&sandbox, "project", line);
    let relay = Outage::new(&sandbox.path("relay.sock"));
    let engine = relay.endpoint.clone();
    let mut follow = sandbox.spawn(&["--engine", &engine, "--set", WAYS[1], "logs", "-f", &id]);
    let mut shown = BufReader::new(follow.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen: Vec<String> = shown.by_ref().take(20).collect();
    for _ in 0..3 {
        relay.set_away(true);
        std::thread::sleep(std::time::Duration::from_millis(300));
        relay.set_away(false);
        seen.extend(shown.by_ref().take(100));
    }
    sandbox.write("project/stop", "");
    seen.extend(shown);
    let last = seen.len() - 1;
    let expected: Vec<String> = (1..=last).map(|n| n.to_string()).chain([format!("end {last}")]).collect();
    assert!(seen == expected, "{seen:?}");
    let output = follow.finish();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(output.stderr.matches("trying again until the engine responds").count(), 3, "{}", output.stderr);
    assert_eq!(output.stderr.matches("continuing from the last line").count(), 3, "{}", output.stderr);
}

/// Returns a process's peak memory use in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_reader_that_stops_reading_does_not_fill_the_memory() {
    for way in WAYS {
        let sandbox = Sandbox::new();
        let line = "while ! [ -e go ]; do sleep 0.05; done; yes 'a line of a program that talks too much to be read' | head -c 200000000";
        let (id, container) = workspace(&sandbox, "project", line);
        let mut follow = sandbox.spawn(&["--set", way, "logs", "-f", &id]);
        let pid = follow.pid();
        until("it follows", || {
            std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("wharf-log-file")
                || peak(pid) > 20_000
        });
        sandbox.write("project/go", "");
        let mut output = follow.child().stdout.take().unwrap();
        let mut first = [0; 1000];
        std::io::Read::read_exact(&mut output, &mut first).unwrap();
        let before = peak(pid);
        // Reading starts only after all of it is written.
        assert_eq!(
            engine::post(&format!("/containers/{container}/wait"), &Value::Null).done().json()["StatusCode"],
            json!(0)
        );
        let grown = peak(pid) - before;
        assert!(grown < 48 << 10, "{way}: {grown} KiB more than the {before} KiB of before");
        follow.signal("INT");
        assert_eq!(follow.finish().code, 130);
    }
}
