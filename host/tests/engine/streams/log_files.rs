//! The engine's own log files give the same result as the engine: the same bytes, streams, times and order.
//!
//! Only users who may read the engine's files (usually root) take this path. For other users these tests compare the
//! engine with itself.

use std::time::Duration;

use serde_json::{Value, json};
use wharf::docker::{Docker, LogLine, LogOptions, LogStream};

use crate::support::docker_lab::Lab;
use crate::support::engine_api as engine;
use crate::support::sandbox::until;

async fn all(mut stream: LogStream) -> Vec<LogLine> {
    let mut lines = Vec::new();
    while let Some(batch) = stream.next().await {
        lines.extend(batch.unwrap());
    }
    lines
}

/// Starts a container with a log configuration that runs a shell line.
async fn container(lab: &Lab, tty: bool, log: Value, line: &str) -> String {
    let body = json!({
        "Image": engine::BASE, "Tty": tty, "Cmd": ["sh", "-c", line], "Labels": lab.labels(),
        "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": "json-file", "Config": log } },
    });
    let made = engine::post("/containers/create", &body).done().json();
    let id = made["Id"].as_str().unwrap().to_owned();
    lab.docker.start(&id).await.unwrap();
    id
}

fn readable(id: &str) -> bool {
    let path = engine::inspect(id)["LogPath"].as_str().unwrap().to_owned();
    std::fs::File::open(path).is_ok()
}

fn files(id: &str) -> usize {
    let path = engine::inspect(id)["LogPath"].as_str().unwrap().to_owned();
    (0..20).filter(|n| std::path::Path::new(&format!("{path}.{n}")).exists()).count() + 1
}

/// Compares the results of both ways of reading.
#[track_caller]
fn same(local: &[LogLine], api: &[LogLine], what: &str) {
    assert_eq!(local.len(), api.len(), "{what}");
    let different = local.iter().zip(api).position(|(a, b)| a != b);
    assert_eq!(different, None, "{what}: {:?}", different.map(|at| (&local[at], &api[at])));
}

/// Joins a terminal's lines: the terminal's output is passed on at once, so the split points are random.
fn whole_lines(pieces: Vec<LogLine>) -> Vec<LogLine> {
    let mut lines: Vec<LogLine> = Vec::new();
    for piece in pieces {
        match lines.last_mut().filter(|last| last.is_partial()) {
            Some(last) => last.message = [&last.message[..], &piece.message].concat().into(),
            None => lines.push(piece),
        }
    }
    lines
}

async fn compare(docker: &Docker, id: &str) -> usize {
    let source = docker.log_source(id).await.unwrap();
    let with_times = LogOptions { timestamps: true, ..LogOptions::default() };
    let whole = all(docker.logs(id, source.tty, &with_times).await.unwrap()).await;
    let (early, late) = (whole[whole.len() / 3].time, whole[whole.len() * 2 / 3].time);
    let mut choices = vec![("all", with_times.clone())];
    for tail in [0, 1, 2, 7, 333, whole.len() as u64, 10_000_000] {
        choices.push(("tail", LogOptions { tail: Some(tail), ..with_times.clone() }));
    }
    choices.push(("since", LogOptions { since: late, ..with_times.clone() }));
    choices.push(("until", LogOptions { until: early, ..with_times.clone() }));
    choices.push(("between", LogOptions { since: early, until: late, tail: Some(200), ..with_times.clone() }));
    choices.push(("stdout", LogOptions { stderr: false, tail: Some(40), ..with_times.clone() }));
    choices.push(("stderr", LogOptions { stdout: false, ..with_times.clone() }));
    choices.push(("follow", LogOptions { follow: true, tail: Some(5), ..with_times.clone() }));
    if !source.tty {
        choices.push(("without times", LogOptions::default()));
    }
    for (what, options) in &choices {
        let stream = docker.read_logs(&source, options).await.unwrap();
        assert_eq!(stream.is_local(), readable(id));
        let local = all(stream).await;
        let api = all(docker.logs(id, source.tty, options).await.unwrap()).await;
        let (local, api) = if source.tty { (whole_lines(local), whole_lines(api)) } else { (local, api) };
        same(&local, &api, &format!("{what}: {options:?}"));
    }
    whole.len()
}

/// Lines of many lengths with all byte values, on both streams.
const NOISE: &str = "head -c 300000 /dev/urandom; i=0; while [ $i -lt 60 ]; do i=$((i+1)); head -c 3000 /dev/urandom >&2; \
    echo; head -c 900 /dev/urandom | od -c; printf '%s\\n' '\"quotes\" \\\\ <a> & \\u0041 \u{e9} \u{1f600}'; done; \
    head -c 70000 /dev/zero | tr '\\0' x; echo; head -c 40000 /dev/urandom | tr -d '\\n' >&2; printf 'no end'";

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_and_long_lines_are_the_same_by_both_ways() {
    let lab = Lab::new().await;
    let id = container(&lab, false, json!({}), NOISE).await;
    lab.docker.wait(&id).await.unwrap();
    assert!(compare(&lab.docker, &id).await > 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_log_is_the_same_by_both_ways() {
    let lab = Lab::new().await;
    let id = container(&lab, false, json!({ "max-size": "64k", "max-file": "4" }), NOISE).await;
    lab.docker.wait(&id).await.unwrap();
    assert_eq!(files(&id), 4);
    compare(&lab.docker, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminals_log_is_the_same_by_both_ways() {
    let lab = Lab::new().await;
    let line = "seq 2000; printf '10%%\\r20%%\\n'; printf 'prompt> '";
    let id = container(&lab, true, json!({}), line).await;
    lab.docker.wait(&id).await.unwrap();
    compare(&lab.docker, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_the_files_misses_nothing_when_they_are_rotated() {
    let lab = Lab::new().await;
    let line = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo $i; [ $((i % 40)) = 0 ] && sleep 0.01; done; exit 0";
    let id = container(&lab, false, json!({ "max-size": "8k", "max-file": "5" }), line).await;
    let source = lab.docker.log_source(&id).await.unwrap();
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let stream = lab.docker.read_logs(&source, &follow).await.unwrap();
    let lines = all(stream).await;
    assert_eq!(files(&id), 5);
    let numbers: Vec<u32> =
        lines.iter().map(|line| std::str::from_utf8(&line.message).unwrap().trim().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=4000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_the_files_waits_and_ends_with_the_container() {
    let lab = Lab::new().await;
    let id = container(&lab, false, json!({}), "echo begun; sleep 1000").await;
    until("the first line", || engine::call("GET", &format!("/containers/{id}/logs?stdout=1"), b"").body.len() > 8);
    let source = lab.docker.log_source(&id).await.unwrap();
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut stream = lab.docker.read_logs(&source, &follow).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap()[0].message, "begun\n");
    assert!(tokio::time::timeout(Duration::from_millis(300), stream.next()).await.is_err());
    lab.docker.stop(&id, Duration::ZERO).await.unwrap();
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_and_other_drivers_logs_are_left_to_the_engine() {
    let lab = Lab::new().await;
    let log = json!({ "max-size": "20k", "max-file": "3", "compress": "true" });
    let id = container(&lab, false, log, "seq 20000").await;
    lab.docker.wait(&id).await.unwrap();
    let path = engine::inspect(&id)["LogPath"].as_str().unwrap().to_owned();
    if readable(&id) {
        until("the engine compresses", || std::path::Path::new(&format!("{path}.2.gz")).exists());
    }
    let source = lab.docker.log_source(&id).await.unwrap();
    let stream = lab.docker.read_logs(&source, &LogOptions::default()).await.unwrap();
    assert!(!stream.is_local());
    assert!(all(stream).await.last().unwrap().message == "20000\n");
    // With this configuration, everything comes from the engine.
    let asked = lab.docker.clone().with_local_files(false);
    assert!(!asked.log_source(&id).await.unwrap().has_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_being_written_is_read_in_whole_lines() {
    let lab = Lab::new().await;
    let line = "i=0; while :; do i=$((i+1)); echo $i; [ $((i % 300)) = 0 ] && sleep 0.01; done";
    let id = container(&lab, false, json!({ "max-size": "100m", "max-file": "2" }), line).await;
    let source = lab.docker.log_source(&id).await.unwrap();
    let mut before = 0;
    for _ in 0..50 {
        let stream = lab.docker.read_logs(&source, &LogOptions::default()).await.unwrap();
        let lines = all(stream).await;
        let right = lines.iter().zip(1..).all(|(line, number)| line.message == format!("{number}\n"));
        assert!(right && lines.len() >= before, "{} lines after {before}", lines.len());
        before = lines.len();
    }
    lab.docker.kill(&id, "KILL").await.unwrap();
    assert!(before > 0);
}
