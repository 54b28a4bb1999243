//! A spec survives the conversion to the engine's create body and back.

use super::*;

fn spec() -> ContainerSpec {
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    ContainerSpec {
        image: Some(ImageChoice { reference: "debian:12".into(), pull: PullPolicy::Always, reason: "why".into() }),
        entrypoint: Some(vec!["tini".into(), "--".into()]),
        command: vec!["sleep".into(), "9".into()],
        user: Some("1000:1000".into()),
        working_dir: "/workspace".into(),
        hostname: "shop".into(),
        env: pairs(&[("B", "2=two"), ("A", "")]),
        labels: pairs(&[("team", "x")]),
        mounts: BTreeMap::from([
            ("/workspace".into(), Mount { kind: MountKind::Bind, source: "/srv/a:b".into(), read_only: false }),
            ("/cache".into(), Mount { kind: MountKind::Volume, source: "cache".into(), read_only: true }),
        ]),
        tmpfs: BTreeMap::from([("/tmp".into(), Tmpfs { size: Some(1 << 20) }), ("/run".into(), Tmpfs { size: None })]),
        ports: BTreeMap::from([
            ("80/tcp".into(), HostPort { address: "127.0.0.1".into(), port: None }),
            ("53/udp".into(), HostPort { address: "0.0.0.0".into(), port: Some(5353) }),
        ]),
        network: Network::Own,
        resources: Resources {
            cpus: 1.5,
            memory: 1 << 30,
            pids: 100,
            shm_size: Some(1 << 20),
            disk: Some(1 << 33),
            ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 10, hard: 20 })]),
        },
        security: Security {
            capabilities: ["CHOWN".to_owned(), "SETUID".to_owned()].into(),
            no_new_privileges: true,
            read_only_root: true,
            seccomp: "strict".into(),
            apparmor: Some("docker-default".into()),
            selinux: Some("type:a_t level:s0:c1,c2".into()),
            user_namespace: Some("host".into()),
        },
        restart: Restart::OnFailure(3),
        health_check: Some(HealthCheck {
            command: vec!["true".into()],
            interval_ms: 1000,
            timeout_ms: 500,
            start_period_ms: 0,
            retries: 2,
        }),
        time_to_live_ms: Some(1),
    }
}

const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;

fn body(spec: &ContainerSpec, profile: Option<&str>) -> Result<ContainerCreateBody> {
    let labels = BTreeMap::from([("wharf.managed".to_owned(), "true".to_owned())]);
    create_body(&CreateRequest {
        name: "c",
        spec,
        labels: &labels,
        network_name: Some("wharf-net"),
        aliases: &[],
        init: true,
        seccomp_profile: profile,
        enforce_disk: true,
    })
}

fn reported(body: ContainerCreateBody) -> ContainerSpec {
    let json = serde_json::to_value(&body).unwrap();
    let config: ContainerConfig = serde_json::from_value(json).unwrap();
    actual(&config, &body.host_config.unwrap())
}

#[test]
fn a_spec_with_every_field_set_survives_the_way_there_and_back() {
    let decided = spec();
    let back = reported(body(&decided, Some(PROFILE)).unwrap());
    assert_eq!(differences(&decided, &back, true), []);
    let mut expected = decided;
    expected.time_to_live_ms = None;
    expected.image = Some(ImageChoice { reference: "debian:12".into(), pull: PullPolicy::Missing, reason: "".into() });
    assert_eq!(back, expected);
}

#[test]
fn all_capabilities_are_dropped_before_some_are_added() {
    let host = body(&spec(), Some(PROFILE)).unwrap().host_config.unwrap();
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.cap_add.unwrap(), ["CHOWN", "SETUID"]);
    assert_eq!(host.memory, host.memory_swap);
}

#[test]
fn a_named_seccomp_profile_without_its_json_is_refused_and_not_replaced_by_the_default() {
    assert_eq!(body(&spec(), None).unwrap_err().code(), "bad-request");
}

#[test]
fn a_seccomp_profile_that_is_not_the_one_of_the_label_is_reported_by_its_digest() {
    let mut body = body(&spec(), Some(PROFILE)).unwrap();
    let host = body.host_config.as_mut().unwrap();
    host.security_opt = Some(vec![r#"seccomp={"defaultAction":"SCMP_ACT_LOG"}"#.to_owned()]);
    assert!(reported(body).security.seccomp.starts_with("sha256:"));
}

#[test]
fn a_container_with_default_capabilities_does_not_pass_for_one_with_few() {
    let mut body = body(&spec(), Some(PROFILE)).unwrap();
    body.host_config.as_mut().unwrap().cap_drop = None;
    let found = differences(&spec(), &reported(body), true);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].field, "security.capabilities");
    assert!(found[0].actual.contains("NET_RAW"));
}

#[test]
fn what_the_image_adds_is_no_difference_but_what_is_missing_or_changed_is() {
    let decided = spec();
    let mut seen = reported(body(&decided, Some(PROFILE)).unwrap());
    seen.env.insert("PATH".into(), "/bin".into());
    seen.labels.insert("from.image".into(), "yes".into());
    assert_eq!(differences(&decided, &seen, true), []);
    seen.env.remove("A");
    seen.mounts.insert("/host".into(), Mount { kind: MountKind::Bind, source: "/".into(), read_only: false });
    let fields: Vec<_> = differences(&decided, &seen, true).into_iter().map(|found| found.field).collect();
    assert_eq!(fields, ["env.A", "mounts./host"]);
}

#[test]
fn limits_that_the_engine_gives_every_container_are_no_difference_but_decided_ones_hold() {
    let decided = spec();
    let mut seen = reported(body(&decided, Some(PROFILE)).unwrap());
    seen.resources.ulimits.insert("nproc".into(), Ulimit { soft: 1, hard: 1 });
    assert_eq!(differences(&decided, &seen, true), []);
    seen.resources.ulimits.insert("nofile".into(), Ulimit { soft: 1 << 20, hard: 1 << 20 });
    let fields: Vec<_> = differences(&decided, &seen, true).into_iter().map(|found| found.field).collect();
    assert_eq!(fields, ["resources.ulimits.nofile"]);
}

#[test]
fn binds_and_quotas_of_other_clients_are_understood() {
    let host = HostConfig {
        binds: Some(vec!["/a:/b:ro,z".into(), "data:/c".into()]),
        cpu_quota: Some(50_000),
        privileged: Some(true),
        ..Default::default()
    };
    let seen = actual(&ContainerConfig::default(), &host);
    assert!(seen.mounts["/b"].read_only);
    assert_eq!(seen.mounts["/c"].kind, MountKind::Volume);
    assert_eq!(seen.resources.cpus, 0.5);
    assert!(seen.security.capabilities.contains("ALL"));
}

#[test]
fn sizes_of_tmpfs_are_read_with_their_units() {
    assert_eq!(tmpfs_size("rw,size=64m,mode=1777"), Some(64 << 20));
    assert_eq!(tmpfs_size("size=100"), Some(100));
    assert_eq!(tmpfs_size("noexec"), None);
    assert_eq!(tmpfs_size("size=é"), None);
}
