//! The library's exec on a real engine, for aspects that the program does not show: resize, detaching, binary
//! terminals.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use wharf::docker::{ExecEnd, ExecOutput, StdStream};

use crate::support::docker_lab::{Lab, command};

/// Reads until a text has arrived.
async fn read_until(output: &mut ExecOutput, all: &mut Vec<u8>, wanted: &str) {
    while !String::from_utf8_lossy(all).contains(wanted) {
        let (stream, bytes) = output.next().await.expect("the output goes on").unwrap();
        assert_eq!(stream, StdStream::Stdout);
        all.extend(bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_collected_up_to_a_limit() {
    let lab = Lab::new().await;
    let id = lab.run("collect", &["sleep", "1000"]).await;
    let ran =
        lab.docker.exec_collect(&id, &command(&["sh", "-c", "echo out; echo err >&2; exit 3"]), 1 << 20).await.unwrap();
    assert_eq!((ran.code, &ran.stdout[..], &ran.stderr[..], ran.truncated), (3, &b"out\n"[..], &b"err\n"[..], false));
    let ran = lab.docker.exec_collect(&id, &command(&["sh", "-c", "yes | head -c 100000; exit 5"]), 10).await.unwrap();
    assert_eq!((ran.code, &ran.stdout[..], ran.truncated), (5, &b"y\ny\ny\ny\ny\n"[..], true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_executed_is_an_error_with_and_without_a_terminal() {
    let lab = Lab::new().await;
    let id = lab.run("refused", &["sleep", "1000"]).await;
    for tty in [false, true] {
        for (words, code) in [
            (&["nope"][..], Some(127)),
            (&["/no/such"], Some(127)),
            (&["/etc"], Some(126)),
            (&["/etc/passwd"], Some(126)),
        ] {
            let mut request = command(words);
            request.tty = tty;
            let failed = lab.docker.exec_collect(&id, &request, 1000).await.unwrap_err();
            assert_eq!(failed.exit_code(), code, "tty {tty}: {failed}");
        }
    }
    let mut request = command(&["true"]);
    request.user = Some("nobodyhere".into());
    assert_eq!(lab.docker.exec_collect(&id, &request, 1000).await.unwrap_err().code(), "start-failed");
    assert_eq!(
        lab.docker.exec_collect("wharf-test-nobody", &command(&["true"]), 10).await.unwrap_err().code(),
        "not-found"
    );
    lab.docker.pause(&id).await.unwrap();
    assert_eq!(lab.docker.exec_collect(&id, &command(&["true"]), 10).await.unwrap_err().code(), "conflict");
    lab.docker.unpause(&id).await.unwrap();
    lab.docker.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(lab.docker.exec_collect(&id, &command(&["true"]), 10).await.unwrap_err().code(), "not-running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_takes_a_new_one_and_is_safe_for_all_bytes() {
    let lab = Lab::new().await;
    let id = lab.run("tty", &["sleep", "1000"]).await;
    let mut request = command(&["sh"]);
    (request.stdin, request.tty, request.size) = (true, true, Some((40, 123)));
    let (mut output, stdin, control) = lab.docker.exec(&id, &request).await.unwrap().into_parts();
    let (mut stdin, mut all) = (stdin.unwrap(), Vec::new());
    // The size arrives a moment after the start.
    stdin.write_all(b"until stty size 2>/dev/null | grep 40; do sleep 0.05; done\n").await.unwrap();
    read_until(&mut output, &mut all, "40 123").await;
    control.resize(50, 100).await.unwrap();
    stdin.write_all(b"stty size; printf '\\001\\000\\002bin'; exit 5\n").await.unwrap();
    read_until(&mut output, &mut all, "\u{1}\0\u{2}bin").await;
    assert!(String::from_utf8_lossy(&all).contains("50 100"), "{}", String::from_utf8_lossy(&all));
    while let Some(item) = output.next().await {
        item.unwrap();
    }
    assert_eq!(control.exit().await.unwrap(), ExecEnd::Exited(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_for_detaching_that_the_engine_takes_end_the_session() {
    let lab = Lab::new().await;
    let id = lab.run("detach", &["sleep", "1000"]).await;
    let mut request = command(&["sh", "-c", "echo ready; sleep 1000"]);
    (request.stdin, request.tty, request.detach_keys) = (true, true, Some("ctrl-x".into()));
    let (mut output, stdin, control) = lab.docker.exec(&id, &request).await.unwrap().into_parts();
    let (mut stdin, mut all) = (stdin.unwrap(), Vec::new());
    read_until(&mut output, &mut all, "ready").await;
    stdin.write_all(b"\x18").await.unwrap();
    while let Some(item) = output.next().await {
        all.extend(item.unwrap().1);
    }
    assert_eq!(control.exit().await.unwrap(), ExecEnd::Detached);
    let text = String::from_utf8_lossy(&all);
    assert!(!text.contains("escape sequence"), "the engine's words are not output: {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_command_is_known_without_reading_its_output_and_after_silence() {
    let lab = Lab::new().await;
    let id = lab.run("end", &["sleep", "1000"]).await;
    let (mut output, _stdin, control) =
        lab.docker.exec(&id, &command(&["sh", "-c", "sleep 0.3; exit 6"])).await.unwrap().into_parts();
    assert_eq!(control.exit().await.unwrap(), ExecEnd::Exited(6));
    assert!(output.next().await.is_none());
    let ran = lab.docker.exec_collect(&id, &command(&["sh", "-c", "sleep 1.5; echo late"]), 1000).await.unwrap();
    assert_eq!((ran.code, &ran.stdout[..]), (0, &b"late\n"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_writer_is_the_end_of_the_input() {
    let lab = Lab::new().await;
    let id = lab.run("half", &["sleep", "1000"]).await;
    let mut request = command(&["wc", "-c"]);
    request.stdin = true;
    let (mut output, stdin, control) = lab.docker.exec(&id, &request).await.unwrap().into_parts();
    stdin.unwrap().write_all(b"12345").await.unwrap();
    let (stream, bytes) = output.next().await.unwrap().unwrap();
    assert_eq!((stream, &bytes[..]), (StdStream::Stdout, &b"5\n"[..]));
    assert!(output.next().await.is_none());
    assert_eq!(control.exit().await.unwrap(), ExecEnd::Exited(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_begins_like_words_of_the_engine_is_seen_before_it_is_answered() {
    let lab = Lab::new().await;
    let id = lab.run("prompt", &["sleep", "1000"]).await;
    for tty in [false, true] {
        let mut request = command(&["sh", "-c", "printf 'unable to find it, retry? '; read answer; echo got $answer"]);
        (request.stdin, request.tty) = (true, tty);
        let (mut output, stdin, control) = lab.docker.exec(&id, &request).await.unwrap().into_parts();
        let (mut stdin, mut all) = (stdin.unwrap(), Vec::new());
        let seen = tokio::time::timeout(Duration::from_secs(20), read_until(&mut output, &mut all, "retry? ")).await;
        assert!(seen.is_ok(), "tty {tty}: it was held back");
        stdin.write_all(b"yes\n").await.unwrap();
        read_until(&mut output, &mut all, "got yes").await;
        while let Some(item) = output.next().await {
            item.unwrap();
        }
        assert_eq!(control.exit().await.unwrap(), ExecEnd::Exited(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_goes_ends_the_session() {
    let lab = Lab::new().await;
    let id = lab.run("gone", &["sleep", "1000"]).await;
    let request = command(&["sh", "-c", "echo ready; sleep 1000"]);
    let (mut output, _stdin, control) = lab.docker.exec(&id, &request).await.unwrap().into_parts();
    read_until(&mut output, &mut Vec::new(), "ready").await;
    lab.docker.remove(&id, true, true).await.unwrap();
    // Whether the stream ends cleanly or breaks depends on the engine. It must end.
    while let Some(Ok(_)) = output.next().await {}
    match control.exit().await {
        Ok(ExecEnd::Exited(code)) => assert_ne!(code, 0),
        Ok(ExecEnd::Detached) => panic!("it was not detached from"),
        Err(error) => assert!(["not-found", "conflict", "engine-failed"].contains(&error.code()), "{error}"),
    }
}
