//! The library's engine module on a real engine: containers, images, networks, stats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf::docker::{CreateRequest, Docker, Effect, differences};
use wharf::workspace::{HealthCheck, HostPort, Mount, MountKind, Network, Restart, State, Tmpfs, Ulimit};

use crate::support::docker_lab::{Lab, spec};
use crate::support::engine_api as engine;
use crate::support::registry::Registry;

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_spec_is_what_the_engine_reports() {
    let lab = Lab::new().await;
    let network = lab.name("net");
    lab.docker.ensure_network(&network, wharf::docker::Reach::Joined, &BTreeMap::new()).await.unwrap();
    let mut spec = spec(&["sleep", "1000"]);
    let bind = Mount { kind: MountKind::Bind, source: lab.sandbox.project().display().to_string(), read_only: true };
    let volume = Mount { kind: MountKind::Volume, source: lab.name("volume"), read_only: false };
    spec.mounts = BTreeMap::from([("/workspace".into(), bind), ("/cache".into(), volume)]);
    spec.tmpfs.insert("/tmp".into(), Tmpfs { size: Some(1 << 20) });
    spec.ports.insert("80/tcp".into(), HostPort { address: "127.0.0.1".into(), port: None });
    spec.resources.ulimits.insert("nofile".into(), Ulimit { soft: 100, hard: 200 });
    spec.security.capabilities.insert("CHOWN".into());
    spec.security.read_only_root = true;
    spec.security.seccomp = "open".into();
    spec.health_check = Some(HealthCheck {
        command: vec!["true".into()],
        interval_ms: 1000,
        timeout_ms: 1000,
        start_period_ms: 0,
        retries: 1,
    });
    spec.restart = Restart::OnFailure(2);
    spec.network = Network::Own;
    spec.labels.insert("plain".into(), "x".into());
    let (name, labels) = (lab.name("all"), lab.labels());
    let request = CreateRequest {
        name: &name,
        spec: &spec,
        labels: &labels,
        network_name: Some(&network),
        aliases: &[],
        init: true,
        seccomp_profile: Some(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#),
        enforce_disk: false,
    };
    let created = lab.docker.create(&request).await.unwrap();
    assert_eq!(lab.docker.create(&request).await.unwrap_err().code(), "name-taken");
    for state in [State::Created, State::Running] {
        let container = lab.docker.inspect(&name).await.unwrap();
        assert_eq!((container.state, container.exit_code), (state, None));
        assert_eq!(differences(&spec, container.actual.as_ref().unwrap(), false), []);
        lab.docker.start(&created.id).await.unwrap();
    }
    let running = lab.docker.inspect(&name).await.unwrap();
    assert_eq!(running.ports.len(), 1);
    assert!(running.ports[0].port > 0 && running.health.is_some());
    // Differences are reported field by field.
    let mut other = spec.clone();
    other.resources.memory += 4096;
    other.security.read_only_root = false;
    let fields: Vec<_> = differences(&other, running.actual.as_ref().unwrap(), false)
        .into_iter()
        .map(|difference| difference.field)
        .collect();
    assert_eq!(
        fields.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(["resources.memory", "security.read_only_root"])
    );
    assert!(!lab.docker.remove_network_if_unused(&network).await.unwrap(), "it is used");
    lab.docker.remove(&created.id, true, true).await.unwrap();
    assert!(lab.docker.remove_network_if_unused(&network).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn states_change_as_asked_and_what_is_so_already_is_told() {
    let lab = Lab::new().await;
    let docker = &lab.docker;
    let id = lab.run("states", &["sleep", "1000"]).await;
    let state = async || docker.inspect(&id).await.unwrap().state;
    assert_eq!(docker.start(&id).await.unwrap(), Effect::Already);
    assert_eq!(docker.remove(&id, false, true).await.unwrap_err().code(), "conflict");
    docker.pause(&id).await.unwrap();
    assert_eq!(state().await, State::Paused);
    assert_eq!(docker.pause(&id).await.unwrap_err().code(), "conflict");
    docker.unpause(&id).await.unwrap();
    assert_eq!(docker.unpause(&id).await.unwrap_err().code(), "conflict");
    assert_eq!(docker.kill(&id, "SIGNOPE").await.unwrap_err().code(), "bad-request");
    let wait = tokio::spawn({
        let (docker, id) = (docker.clone(), id.clone());
        async move { docker.wait(&id).await }
    });
    assert_eq!(docker.stop(&id, Duration::ZERO).await.unwrap(), Effect::Done);
    assert_eq!(wait.await.unwrap().unwrap(), 137);
    assert_eq!(docker.stop(&id, Duration::ZERO).await.unwrap(), Effect::Already);
    let ended = docker.inspect(&id).await.unwrap();
    assert_eq!((ended.state, ended.exit_code), (State::Exited, Some(137)));
    assert!(ended.finished_at.is_some());
    assert_eq!(docker.kill(&id, "SIGTERM").await.unwrap_err().code(), "not-running");
    docker.restart(&id, Duration::ZERO).await.unwrap();
    assert_eq!(state().await, State::Running);
    docker.remove(&id, true, true).await.unwrap();
    assert_eq!(docker.remove(&id, true, true).await.unwrap_err().code(), "not-found");
    assert_eq!(docker.inspect(&id).await.unwrap_err().code(), "not-found");
    assert_eq!(docker.wait(&id).await.unwrap_err().code(), "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_is_told_apart() {
    let lab = Lab::new().await;
    let ok = spec(&["sleep", "9"]);
    let with = |change: fn(&mut wharf::workspace::ContainerSpec)| {
        let mut spec = ok.clone();
        change(&mut spec);
        spec
    };
    fn bind(source: &str) -> Mount {
        Mount { kind: MountKind::Bind, source: source.into(), read_only: false }
    }
    for (case, code) in [
        (spec(&["nope"]), "command-not-found"),
        (spec(&["/nope"]), "command-not-found"),
        (spec(&["/etc"]), "command-not-executable"),
        (spec(&["/etc/passwd"]), "command-not-executable"),
        (with(|s| s.image.as_mut().unwrap().reference = "wharf-test/none:2".into()), "image-missing"),
        (with(|s| s.image = None), "bad-request"),
        (with(|s| drop(s.mounts.insert("/x".into(), bind("/no/such")))), "mount-source-missing"),
        (with(|s| drop(s.mounts.insert("/etc/passwd".into(), bind("/tmp")))), "start-failed"),
        (with(|s| s.resources.cpus = 4096.0), "bad-request"),
        (with(|s| s.resources.memory = 1000), "bad-request"),
        (with(|s| s.user = Some("nobodyhere".into())), "start-failed"),
        (with(|s| s.security.capabilities.extend(["NOPE".to_owned()])), "bad-request"),
    ] {
        let failed = match lab.create("fails", &case, false).await {
            Err(error) => error,
            Ok(created) => {
                let error = lab.docker.start(&created.id).await.unwrap_err();
                lab.docker.remove(&created.id, true, true).await.unwrap();
                error
            }
        };
        assert_eq!(failed.code(), code, "{failed}");
        assert!(!failed.to_string().contains('\n') && !failed.remedy().is_empty(), "{failed}");
        for machinery in ["OCI runtime", "runc", "container_linux.go"] {
            assert!(!failed.to_string().contains(machinery), "{failed}");
        }
    }
    assert_eq!(lab.docker.inspect("wharf-test-nobody").await.unwrap_err().code(), "not-found");
    assert_eq!(
        lab.docker.ensure_network("bridge", wharf::docker::Reach::Joined, &BTreeMap::new()).await.unwrap_err().code(),
        "not-ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_init_process_cannot_execute_is_told_from_one_that_fails() {
    let lab = Lab::new().await;
    for (command, code) in [("nope", "command-not-found"), ("/etc", "command-not-executable")] {
        let created = lab.create("init", &spec(&[command]), true).await.unwrap();
        lab.docker.start(&created.id).await.unwrap();
        lab.docker.wait(&created.id).await.unwrap();
        let ended = lab.docker.inspect(&created.id).await.unwrap();
        assert_eq!(lab.docker.refused_command(&ended).await.unwrap().unwrap().code(), code);
        lab.docker.remove(&created.id, true, true).await.unwrap();
    }
    let id = lab.ran("honest", &["sh", "-c", "echo '[FATAL' >&2; exit 127"]).await;
    let ended = lab.docker.inspect(&id).await.unwrap();
    assert!(lab.docker.refused_command(&ended).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_matched_whole() {
    let lab = Lab::new().await;
    let id = lab.run("list", &["sleep", "1000"]).await;
    let host = lab.host.as_str();
    let ids = async |labels: &[(&str, &str)], all| -> Vec<String> {
        lab.docker.list(labels, all).await.unwrap().into_iter().map(|container| container.id).collect()
    };
    assert_eq!(ids(&[("wharf.host", host)], false).await, std::slice::from_ref(&id));
    assert!(ids(&[("wharf.host", "")], true).await.is_empty());
    assert!(ids(&[("wharf.host", &host[..host.len() - 1])], true).await.is_empty());
    assert!(ids(&[("wharf.host", host), ("wharf.managed", "false")], true).await.is_empty());
    lab.docker.stop(&id, Duration::ZERO).await.unwrap();
    assert!(ids(&[("wharf.host", host)], false).await.is_empty());
    assert_eq!(ids(&[("wharf.host", host)], true).await, [id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn creators_of_one_network_that_race_end_with_one() {
    let lab = Lab::new().await;
    for round in 0..8 {
        let name = lab.name(&format!("race{round}"));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (name, host) = (name.clone(), lab.host.clone());
                tokio::spawn(async move {
                    let docker = Docker::connect(None, &host).await.unwrap();
                    docker.ensure_network(&name, wharf::docker::Reach::Apart, &BTreeMap::new()).await.unwrap().id
                })
            })
            .collect();
        let mut ids = BTreeSet::new();
        for task in tasks {
            ids.insert(task.await.unwrap());
        }
        let there = engine::networks().iter().filter(|network| network["Name"] == name).count();
        assert_eq!((ids.len(), there), (1, 1), "round {round}");
        assert!(lab.docker.remove_network_if_unused(&name).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_with_progress_and_found_by_tag_and_digest() {
    let lab = Lab::new().await;
    let registry = Registry::new();
    let reference = &registry.reference;
    assert!(lab.docker.image(reference).await.unwrap().is_none());
    let mut layers = BTreeMap::new();
    let report = |step: wharf::docker::PullProgress| {
        if let Some(layer) = step.layer {
            layers.insert(layer, step.status);
        }
    };
    lab.docker.pull(reference, report).await.unwrap();
    assert_eq!(layers.into_values().collect::<Vec<_>>(), ["Pull complete"]);
    let image = lab.docker.image(reference).await.unwrap().unwrap();
    assert_eq!((image.command.as_slice(), image.os.as_str()), (&["sh".to_owned()][..], "linux"));
    let digest = image.digests.first().unwrap();
    assert_eq!(lab.docker.image(digest).await.unwrap().unwrap().id, image.id);
    lab.docker.pull(digest, |_| ()).await.unwrap();
    assert!(lab.docker.local_images().await.unwrap().iter().any(|local| local.references.contains(reference)));
    for (bad, code) in [
        (reference.replace("image:1", "image:none"), "pull-failed"),
        (reference.replace("image", "UPPER"), "pull-failed"),
        ("127.0.0.1:1/x:1".to_owned(), "pull-failed"),
        ("../x".to_owned(), "bad-request"),
    ] {
        let failed = lab.docker.pull(&bad, |_| ()).await.unwrap_err();
        assert_eq!(failed.code(), code, "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_stream_until_the_container_ends() {
    let lab = Lab::new().await;
    let id = lab.run("stats", &["sh", "-c", "while :; do :; done"]).await;
    let mut stream = lab.docker.stats_stream(&id).await.unwrap();
    let mut percents = Vec::new();
    while percents.len() < 2 {
        let stats = stream.next().await.unwrap().unwrap();
        assert_eq!(stats.memory_limit, Some(256 << 20));
        percents.extend(stats.cpu_percent);
    }
    assert!(percents.iter().all(|percent| (1.0..=100.0).contains(percent)), "half a core: {percents:?}");
    lab.docker.stop(&id, Duration::ZERO).await.unwrap();
    while let Some(stats) = stream.next().await {
        stats.unwrap();
    }
    assert_eq!(lab.docker.stats(&id).await.unwrap_err().code(), "not-running");
    assert_eq!(lab.docker.stats("wharf-test-nobody").await.unwrap_err().code(), "not-found");
}
