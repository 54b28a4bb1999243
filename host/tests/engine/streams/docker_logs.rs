//! The library's log decoder with a real engine's output.

use std::time::Duration;

use wharf::docker::{Docker, LogLine, LogOptions, StdStream};

use crate::support::docker_lab::Lab;
use crate::support::engine_api as engine;

async fn read(docker: &Docker, id: &str, tty: bool, options: &LogOptions) -> Vec<LogLine> {
    let mut stream = docker.logs(id, tty, options).await.unwrap();
    let mut all = Vec::new();
    while let Some(batch) = stream.next().await {
        all.extend(batch.unwrap());
    }
    all
}

fn joined(lines: &[LogLine], stream: StdStream) -> Vec<u8> {
    lines.iter().filter(|line| line.stream == stream).flat_map(|line| line.message.to_vec()).collect()
}

/// The engine's log driver json-file replaces bytes that are not UTF-8, before any reader can see them.
#[tokio::test(flavor = "multi_thread")]
async fn long_short_and_binary_lines_come_whole_with_and_without_times() {
    let lab = Lab::new().await;
    let line = "echo one; echo two >&2; printf 'a\\rb\\000\\001\\033c\\n'; head -c 100000 /dev/zero | tr '\\0' x; echo; \
                head -c 40000 /dev/zero | tr '\\0' y >&2; printf end";
    let id = lab.ran("plain", &["sh", "-c", line]).await;
    let mut stdout = b"one\na\rb\0\x01\x1bc\n".to_vec();
    stdout.extend([b'x'; 100_000]);
    stdout.extend(b"\nend");
    let mut stderr = b"two\n".to_vec();
    stderr.extend([b'y'; 40_000]);
    for timestamps in [false, true] {
        let lines = read(&lab.docker, &id, false, &LogOptions { timestamps, ..LogOptions::default() }).await;
        assert!(
            joined(&lines, StdStream::Stdout) == stdout && joined(&lines, StdStream::Stderr) == stderr,
            "{timestamps}"
        );
        assert!(lines.iter().all(|line| line.time.is_some() == timestamps));
    }
    let only = read(&lab.docker, &id, false, &LogOptions { stdout: false, ..LogOptions::default() }).await;
    assert!(!only.is_empty() && only.iter().all(|line| line.stream == StdStream::Stderr));
    let failed = lab.docker.logs("wharf-test-nobody", false, &LogOptions::default()).await.unwrap_err();
    assert_eq!(failed.code(), "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminals_log_has_no_frames_and_is_read_all_the_same() {
    let lab = Lab::new().await;
    let line = "echo one; printf 'p 10%%\\rp 20%%\\n'; head -c 50000 /dev/zero | tr '\\0' x; echo; printf 'prompt> '";
    let body = serde_json::json!({
        "Image": engine::BASE, "Tty": true, "Cmd": ["sh", "-c", line], "Labels": lab.labels(),
        "HostConfig": { "NetworkMode": "none" },
    });
    let made = engine::post("/containers/create", &body).done().json();
    let id = made["Id"].as_str().unwrap();
    lab.docker.start(id).await.unwrap();
    lab.docker.wait(id).await.unwrap();
    let expected = format!("one\r\np 10%\rp 20%\r\n{}\r\nprompt> ", "x".repeat(50_000));
    for timestamps in [false, true] {
        let lines = read(&lab.docker, id, true, &LogOptions { timestamps, ..LogOptions::default() }).await;
        assert!(joined(&lines, StdStream::Stdout) == expected.as_bytes(), "{timestamps}");
    }
    // Decoded as framed it is an error, never garbage.
    let mut wrong = lab.docker.logs(id, false, &LogOptions::default()).await.unwrap();
    assert!(wrong.next().await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn following_ends_with_the_container_and_waits_while_it_is_silent() {
    let lab = Lab::new().await;
    let id = lab.run("follow", &["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exit 3"]).await;
    let follow = LogOptions { follow: true, timestamps: true, ..LogOptions::default() };
    assert_eq!(joined(&read(&lab.docker, &id, false, &follow).await, StdStream::Stdout), b"1\n2\n3\n4\n5\n");
    let id = lab.run("silent", &["sleep", "1000"]).await;
    let mut stream = lab.docker.logs(&id, false, &follow).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), stream.next()).await.is_err());
    lab.docker.stop(&id, Duration::ZERO).await.unwrap();
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_lines_are_all_there() {
    let lab = Lab::new().await;
    let id = lab.ran("many", &["sh", "-c", "seq 100000"]).await;
    let lines = read(&lab.docker, &id, false, &LogOptions::default()).await;
    assert_eq!(lines.len(), 100_000);
    let wrong = lines.iter().zip(1..).find(|(line, number)| line.message != format!("{number}\n"));
    assert_eq!(wrong.map(|(_, number)| number), None);
    let tail = LogOptions { tail: Some(2), ..LogOptions::default() };
    assert_eq!(joined(&read(&lab.docker, &id, false, &tail).await, StdStream::Stdout), b"99999\n100000\n");
}
