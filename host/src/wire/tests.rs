//! Round trips of every type between client and API, in both directions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::{PartialSchema, ToSchema};

use super::*;
use crate::config::{Size, Span};
use crate::hooks::Hook;
use crate::workspace::{Awaited, Network, PullPolicy};

fn text(word: &str) -> Option<String> {
    Some(word.to_owned())
}

fn map(name: &str, value: &str) -> BTreeMap<String, String> {
    [(name.to_owned(), value.to_owned())].into()
}

fn workspace_request() -> WorkspaceRequest {
    WorkspaceRequest {
        project: "/srv/shop".into(),
        name: text("second"),
        build: Some(image_build()),
        devcontainer: text("node"),
        no_devcontainer: true,
        fresh: true,
        ..container_request()
    }
}

/// A request with every field that a sidecar has too.
fn container_request() -> WorkspaceRequest {
    WorkspaceRequest {
        image: text("node:22"),
        pull: Some(PullPolicy::Always),
        command: vec!["sleep".into(), "1d".into()],
        env: map("A", "1"),
        labels: map("team", "web"),
        secrets: [("token".to_owned(), SecretBytes(b"hunter2".to_vec()))].into(),
        publish: vec!["8080:80".into()],
        mounts: vec!["/a:/b:ro".into()],
        tmpfs: vec!["/tmp:1MiB".into()],
        ulimits: vec!["nofile=1:2".into()],
        memory: Some(Size(1 << 30)),
        cpus: Some(1.5),
        pids: Some(7),
        shm_size: Some(Size(5)),
        disk: Some(Size(6)),
        network: Some(Network::Own),
        restart: text("on-failure:3"),
        ttl: Some(Span::seconds(60)),
        user: text("1:2"),
        health: Some(HealthRequest {
            command: text("true"),
            interval: Some(Span::seconds(1)),
            timeout: Some(Span::seconds(2)),
            start_period: Some(Span::seconds(3)),
            retries: Some(4),
        }),
        ..WorkspaceRequest::default()
    }
}

fn image_build() -> ImageBuild {
    ImageBuild {
        context: "/srv/shop".into(),
        dockerfile: text("Dockerfile.dev"),
        args: map("V", "1"),
        target: text("dev"),
        no_cache: true,
        pull: true,
        secrets: [("npm".to_owned(), SecretBytes(b"hunter2".to_vec()))].into(),
    }
}

/// Checks a value that the client sends and the API reads. It has every field of the schema.
fn sent<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + PartialSchema>(value: &T) {
    let bytes = crate::client::encode(value).unwrap();
    assert_eq!(&crate::api::read_body::<T>(&bytes).unwrap(), value);
    let schema = serde_json::to_value(T::schema()).unwrap();
    let written = serde_json::to_value(value).unwrap();
    for field in schema["properties"].as_object().into_iter().flatten().map(|(field, _)| field) {
        assert!(!written[field].is_null(), "the example of {} lacks {field}", std::any::type_name::<T>());
    }
}

/// Checks a value that the API answers with and the client reads.
fn answered<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = serde_json::to_vec(value).unwrap();
    assert_eq!(&serde_json::from_slice::<T>(&bytes).unwrap(), value);
    // A field of a later version is ignored.
    let mut later = serde_json::to_value(value).unwrap();
    if let Some(fields) = later.as_object_mut() {
        fields.insert("of_a_later_version".into(), true.into());
        assert_eq!(&serde_json::from_value::<T>(later).unwrap(), value);
    }
}

#[test]
fn every_request_arrives_as_it_was_sent() {
    sent(&workspace_request());
    sent(&SidecarRequest(container_request()));
    sent(&image_build());
    sent(&StopRequest { timeout: Some(Span::seconds(1)) });
    sent(&DownRequest { volumes: true });
    sent(&KillRequest { signal: text("TERM") });
    sent(&UpdateRequest { memory: Some(Size(1)), cpus: Some(0.5), pids: Some(2), restart: text("no") });
    sent(&WaitRequest { r#for: Some(Awaited::Exited), timeout: Some(Span::seconds(1)) });
    sent(&PlanDiffRequest { request: Some(workspace_request()) });
    sent(&LeaseRequest { time: Span::seconds(1) });
    sent(&SweepRequest { dry_run: true, no_grace: true });
    sent(&CleanupTarget { which: "7".into() });
    sent(&PullRequest { reference: "node:22".into() });
    sent(&BuildRequest { project: Some("/srv".into()), tag: text("t"), build: image_build() });
    sent(&SnapshotRequest { name: text("s") });
    sent(&RestoreRequest { name: text("n"), env: map("A", "1"), recreate: true });
    sent(&ReplayRequest {
        decision: text("7"),
        since: text("1d"),
        until: text("1h"),
        hook: Some(Hook::PreCreate),
        workspace: text("shop"),
        limit: Some(5),
    });
    sent(&ExecRequest {
        command: vec!["ls".into()],
        env: map("A", "1"),
        user: text("0"),
        workdir: text("/w"),
        tty: true,
        rows: Some(24),
        cols: Some(80),
        stdin: true,
        input: text("x"),
        timeout: Some(Span::seconds(1)),
        detach: true,
    });
    sent(&ExecInput { resize: Some(TerminalSize { rows: 1, cols: 2 }), stdin_end: true, detach: true });
    sent(&Empty {});
}

#[test]
fn every_answer_is_read_as_it_was_given_also_from_a_later_version() {
    let workspace: crate::workspace::WorkspaceId = "shop-1".parse().unwrap();
    answered(&Lease { id: workspace.clone(), until: Some(jiff::Timestamp::UNIX_EPOCH) });
    let failed = vec![KeptImage { image: "a".into(), code: "in-use".into(), detail: "b".into() }];
    answered(&PrunedImages { removed: vec!["c".into()], failed });
    answered(&SecretNames { workspace: workspace.clone(), names: vec!["token".into()] });
    answered(&ExecDetached { workspace: workspace.clone(), exec_id: "e".into() });
    answered(&ExecEnded { exit_code: 3, cut: true, detached: false });
    answered(&ExecEnded { exit_code: 0, cut: false, detached: true });
    let result = ExecResult {
        exit_code: 137,
        stdout: "a".into(),
        stderr: "b".into(),
        stdout_base64: text("YQ=="),
        stderr_base64: text("Yg=="),
        truncated: true,
        cut: true,
    };
    answered(&result);
    answered(&ExecAnswer::Ended(result));
    answered(&ExecAnswer::Detached(ExecDetached { workspace, exec_id: "e".into() }));
    answered(&Progress::step("pulling"));
    answered(&Progress::build("a line"));
    let pull = Progress::Pull { layer: text("l"), status: "s".into(), current: Some(1), total: Some(2) };
    answered(&pull);
    let later: Progress = serde_json::from_str(r#"{"kind":"of-a-later-version","text":"x"}"#).unwrap();
    assert_eq!(later, Progress::Unknown);
}

#[test]
fn a_problem_keeps_its_kind_and_one_of_an_earlier_service_has_that_of_its_status() {
    let told =
        r#"{"type":"about:blank","title":"t","status":409,"detail":"d","code":"c","kind":"differs","remedy":"r"}"#;
    let problem: Problem = serde_json::from_str(told).unwrap();
    assert_eq!(problem.kind(), ErrorKind::Differs);
    assert_eq!(serde_json::to_string(&problem).unwrap(), told);
    let earlier: Problem = serde_json::from_str(r#"{"status":404,"detail":"d","code":"c"}"#).unwrap();
    assert_eq!(earlier.kind(), ErrorKind::NotFound);
    let later: Problem = serde_json::from_str(r#"{"status":500,"detail":"d","code":"c","kind":"new"}"#).unwrap();
    assert_eq!(later.kind(), ErrorKind::Unknown);
}

#[test]
fn a_sidecar_has_no_field_of_a_workspace() {
    for field in ["project", "name", "devcontainer", "no_devcontainer", "build", "fresh"] {
        let value = match field {
            "no_devcontainer" | "fresh" => "true",
            "build" => r#"{"context":"/a"}"#,
            _ => r#""x""#,
        };
        let body = format!(r#"{{"image":"a","{field}":{value}}}"#);
        let error = serde_json::from_str::<SidecarRequest>(&body).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{field}`")), "{error}");
        let schema = serde_json::to_value(SidecarRequest::schema()).unwrap();
        assert!(schema["properties"].get(field).is_none(), "{field}");
    }
    assert_eq!(SidecarRequest::name(), "SidecarRequest");
}

#[test]
fn a_secret_stands_in_no_text_and_only_utf_8_is_sent() {
    let request = container_request();
    assert!(!format!("{request:?}").contains("hunter2"));
    assert!(crate::client::encode(&request).unwrap().windows(7).any(|bytes| bytes == b"hunter2"));
    let binary =
        WorkspaceRequest { secrets: [("k".into(), SecretBytes(vec![0xff]))].into(), ..WorkspaceRequest::default() };
    let error = crate::client::encode(&binary).unwrap_err().to_string();
    assert!(error.contains("UTF-8"), "{error}");
}
