//! `logs` returns the output of the workspace's command: complete, unchanged, in order.

use serde_json::{Value, json};

use crate::support::engine_api as engine;
use crate::support::sandbox::{Output, Sandbox};

/// Returns a workspace whose command has written this and ended.
#[track_caller]
fn wrote(line: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let up = sandbox.json(&["up", "--", "sh", "-c", line]);
    engine::post(&format!("/containers/{}/wait", up["container_id"].as_str().unwrap()), &Value::Null).done();
    sandbox
}

fn lines(output: &Output) -> Vec<Value> {
    output.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn stdout_and_stderr_come_apart_and_whole() {
    let sandbox = wrote("echo one; echo two >&2; printf 'three, without an end'");
    let output = sandbox.run(&["logs"]).ok();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("one\nthree, without an end", "two\n"));
}

#[test]
fn json_has_time_stream_message_and_container_of_each_line() {
    let sandbox = wrote("echo one; echo two >&2; echo \"with \\\"quotes\\\" and \tmore\"");
    let container = sandbox.json(&["inspect"])["container_id"].clone();
    let all = lines(&sandbox.run(&["--json", "logs"]).ok());
    assert_eq!(all.len(), 3, "{all:?}");
    let mut times = Vec::new();
    for line in &all {
        assert_eq!(line["container_id"], container);
        times.push(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    }
    let said = |stream: &str| -> Vec<_> {
        all.iter().filter(|line| line["stream"] == stream).map(|line| line["message"].clone()).collect()
    };
    assert_eq!(said("stdout"), [json!("one"), json!("with \"quotes\" and \tmore")]);
    assert_eq!(said("stderr"), [json!("two")]);
}

#[test]
fn following_a_silent_container_ends_when_its_time_is_over() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--", "sh", "-c", "echo first; sleep 600"]);
    crate::support::sandbox::until("it has written", || sandbox.run(&["logs"]).ok().text() == "first\n");
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    assert_eq!(sandbox.run(&["logs", "-f", "--until", &soon.to_string()]).ok().text(), "first\n");
    // A container that has ended is only read.
    assert_eq!(sandbox.run(&["logs", "-f", "--until", "1h"]).ok().text(), "");
    assert_eq!(sandbox.run(&["logs", "-f", "--until", "0s"]).ok().text(), "first\n");
}

#[test]
fn tail_since_until_and_timestamps_choose_and_mark_lines() {
    let sandbox = wrote("for i in 1 2 3 4; do echo line $i; sleep 0.05; done");
    assert_eq!(sandbox.run(&["logs", "--tail", "2"]).ok().text(), "line 3\nline 4\n");
    assert_eq!(sandbox.run(&["logs", "-n", "0"]).ok().text(), "");
    let all = lines(&sandbox.run(&["--json", "logs"]).ok());
    let third = all[2]["time"].as_str().unwrap();
    assert_eq!(sandbox.run(&["logs", "--since", third]).ok().text(), "line 3\nline 4\n");
    assert!(!sandbox.run(&["logs", "--until", third]).ok().text().contains("line 4"));
    assert_eq!(sandbox.run(&["logs", "--since", "1h"]).ok().text().lines().count(), 4);
    assert_eq!(sandbox.run(&["logs", "--until", "1h"]).ok().text(), "");
    let marked = sandbox.run(&["logs", "-t"]).ok().text();
    for (line, number) in marked.lines().zip(1..) {
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), "2026-01-31T12:00:00.000000000Z".len(), "{time}");
        assert!(time.parse::<jiff::Timestamp>().is_ok() && rest == format!("line {number}"), "{line}");
    }
}

#[test]
fn a_line_of_two_hundred_kilobytes_comes_whole() {
    let sandbox = wrote("head -c 200000 /dev/zero | tr '\\0' x; echo; echo after");
    let output = sandbox.run(&["logs"]).ok();
    assert!(output.text() == format!("{}\nafter\n", "x".repeat(200_000)), "{} bytes", output.stdout.len());
    let all = lines(&sandbox.run(&["--json", "logs"]).ok());
    let joined: String = all.iter().filter_map(|line| line["message"].as_str()).collect();
    assert!(joined == format!("{}after", "x".repeat(200_000)), "{} bytes in {} objects", joined.len(), all.len());
    // A program can join the pieces: all except the last say that the line continues.
    assert_eq!(all.last().unwrap().get("partial"), None);
    let partial = all.iter().filter(|line| line["partial"] == true).count();
    assert_eq!(partial, all.len() - 2);
}

#[test]
fn bytes_that_no_terminal_would_show_survive() {
    // The engine's log driver json-file replaces bytes that are not UTF-8, before any reader can see them.
    let sandbox = wrote("printf 'a\\rb\\000\\001\\033c\\n\\002\\003 \\303\\251'");
    assert_eq!(sandbox.run(&["logs"]).ok().stdout, b"a\rb\x00\x01\x1bc\n\x02\x03 \xc3\xa9");
    let all = lines(&sandbox.run(&["--json", "logs"]).ok());
    assert_eq!(all[0]["message"], "a\rb\0\u{1}\u{1b}c");
    assert_eq!((&all[1]["message"], &all[1]["partial"]), (&json!("\u{2}\u{3} é"), &json!(true)));
}

#[test]
fn follow_gives_lines_as_they_come_and_ends_with_the_container() {
    use std::io::{BufRead, BufReader};
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--", "sh", "-c", "echo begun; while ! [ -e go ]; do sleep 0.05; done; echo last; exit 3"]);
    let mut follow = sandbox.spawn(&["logs", "--follow"]);
    let mut shown = BufReader::new(follow.child().stdout.take().unwrap()).lines();
    assert_eq!(shown.next().unwrap().unwrap(), "begun");
    sandbox.write("project/go", "");
    assert_eq!(shown.next().unwrap().unwrap(), "last");
    assert!(shown.next().is_none());
    assert_eq!(follow.finish().code, 0);
}

#[test]
fn an_interrupted_follow_ends_with_130() {
    use std::io::{BufRead, BufReader};
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--", "sh", "-c", "echo begun; sleep 1000"]);
    let mut follow = sandbox.spawn(&["logs", "-f"]);
    let mut shown = BufReader::new(follow.child().stdout.take().unwrap()).lines();
    assert_eq!(shown.next().unwrap().unwrap(), "begun");
    follow.signal("INT");
    assert_eq!(follow.finish().code, 130);
}

#[test]
fn logs_of_a_stopped_workspace_can_still_be_read_and_a_restart_adds_to_them() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    sandbox.json(&["stop", "--timeout", "1s"]);
    assert_eq!(sandbox.run(&["logs"]).ok().text(), "started\n");
    sandbox.json(&["start"]);
    crate::support::sandbox::until("the second line", || sandbox.run(&["logs"]).ok().text() == "started\nstarted\n");
}

#[test]
fn a_log_file_that_is_damaged_is_read_on_from_the_engine_without_loss_or_duplicate() {
    use std::io::Write;
    let sandbox = wrote("seq 3000; echo last >&2");
    let path = engine::inspect(&format!("wharf-{}", sandbox.id()))["LogPath"].as_str().unwrap().to_owned();
    if std::fs::File::open(&path).is_err() {
        // Everything is read from the engine in that case.
        return;
    }
    let before = sandbox.run(&["logs"]).ok();
    // The damage after a full disk or a power loss.
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"{\"log\":\"ha\0\0\0\n").unwrap();
    let here = sandbox.run(&["logs"]);
    assert_eq!((here.text(), here.stderr.lines().next()), (before.text(), Some("last")));
    assert!(!here.stderr.contains("rotated"), "{}", here.stderr);
    sandbox.append_config("[engine]\nlocal_files = false");
    let there = sandbox.run(&["logs"]);
    assert_eq!((here.text(), here.code), (there.text(), there.code));
}
