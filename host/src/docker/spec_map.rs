//! Converts a `ContainerSpec` to the engine's create body, and the engine's report back to a `ContainerSpec`.
// Long because the way to the engine and the way back are one mapping, and are read side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{
    ContainerConfig, ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, Mount as RawMount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions, NetworkingConfig, PortBinding,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::containers::CreateRequest;
use super::error::{Error, Result};
use crate::workspace::{
    ContainerSpec, HealthCheck, HostPort, ImageChoice, LABEL_PREFIX, Mount, MountKind, Network, PullPolicy, Resources,
    Restart, Security, Tmpfs, Ulimit,
};

mod compare;
pub use compare::{Difference, differences};

/// Label with `<name>@<SHA-256 of its JSON>` of a seccomp profile of the configuration. The engine only keeps the
/// JSON, so the label preserves the name.
pub const LABEL_SECCOMP: &str = "wharf.seccomp";
/// Label with `<shared|own>@<network>`. The engine only keeps the network, so the label preserves its kind.
pub const LABEL_NETWORK: &str = "wharf.network";

const OPERATION: &str = "create the container";

/// Builds the engine's create body.
pub(super) fn create_body(request: &CreateRequest<'_>) -> Result<ContainerCreateBody> {
    let mut body = ContainerCreateBody::default();
    apply(request, &mut body)?;
    Ok(body)
}

/// Applies the decided spec as edits to a create body. Fields without a decision stay unchanged.
fn apply(request: &CreateRequest<'_>, body: &mut ContainerCreateBody) -> Result<()> {
    let spec = request.spec;
    let refuse = |cause: &str| Error::BadRequest { operation: OPERATION, cause: cause.to_owned() };
    let image = spec.image.as_ref().ok_or_else(|| refuse("no image was chosen"))?;
    let mut labels: BTreeMap<String, String> = spec.labels.clone();
    labels.extend(request.labels.iter().map(|(key, value)| (key.clone(), value.clone())));

    body.image = Some(image.reference.clone());
    // One empty string removes the image's entry point, as `docker run --entrypoint ""` does.
    body.entrypoint = spec.entrypoint.clone().map(|words| if words.is_empty() { vec![String::new()] } else { words });
    body.cmd = (!spec.command.is_empty()).then(|| spec.command.clone());
    body.user = spec.user.clone();
    // Empty means the image's working directory.
    body.working_dir = (!spec.working_dir.is_empty()).then(|| spec.working_dir.clone());
    body.hostname = Some(spec.hostname.clone());
    body.env = Some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect());
    // An open stdin lets a shell run as the first process without a terminal.
    body.open_stdin = Some(true);
    body.tty = Some(false);
    body.healthcheck = Some(spec.health_check.as_ref().map_or_else(no_health, health));
    body.exposed_ports = (!spec.ports.is_empty()).then(|| spec.ports.keys().cloned().collect());

    let host = body.host_config.get_or_insert_default();
    host.init = Some(request.init);
    resources(spec, request.enforce_disk, host);
    host.mounts = Some(spec.mounts.iter().map(|(target, mount)| raw_mount(target, mount, &labels)).collect());
    host.tmpfs = Some(spec.tmpfs.iter().map(|(target, tmpfs)| (target.clone(), tmpfs_options(*tmpfs))).collect());
    host.port_bindings = Some(spec.ports.iter().map(|(key, port)| (key.clone(), Some(vec![binding(port)]))).collect());
    host.restart_policy = Some(restart(spec.restart));

    let mode = match (spec.network, request.network_name) {
        (Network::None, _) => "none",
        (Network::Host, _) => "host",
        (Network::Shared | Network::Own, Some(name)) => {
            let kind = if spec.network == Network::Own { "own" } else { "shared" };
            labels.insert(LABEL_NETWORK.to_owned(), format!("{kind}@{name}"));
            name
        }
        (Network::Shared | Network::Own, None) => return Err(refuse("its network was not created")),
    };
    host.network_mode = Some(mode.to_owned());
    if let (Some(name), false) = (request.network_name, request.aliases.is_empty()) {
        let endpoint = EndpointSettings { aliases: Some(request.aliases.to_vec()), ..Default::default() };
        let endpoints_config = Some(HashMap::from([(name.to_owned(), endpoint)]));
        body.networking_config = Some(NetworkingConfig { endpoints_config });
    }
    if let Some(label) = security(&spec.security, request.seccomp_profile, host)? {
        labels.insert(LABEL_SECCOMP.to_owned(), label);
    }
    body.labels = Some(labels.into_iter().collect());
    Ok(())
}

fn resources(spec: &ContainerSpec, enforce_disk: bool, host: &mut HostConfig) {
    let limits = &spec.resources;
    // The engine counts in billionths of a core. The product is far below 2^53 for any real machine.
    host.nano_cpus = Some((limits.cpus * 1e9).round() as i64);
    let memory = i64::try_from(limits.memory).unwrap_or(i64::MAX);
    host.memory = Some(memory);
    // Equal to the memory limit: no swap at all.
    host.memory_swap = Some(memory);
    host.pids_limit = Some(i64::from(limits.pids));
    host.shm_size = limits.shm_size.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    host.ulimits = Some(
        limits
            .ulimits
            .iter()
            .map(|(name, limit)| ResourcesUlimits {
                name: Some(name.clone()),
                soft: Some(limit.soft),
                hard: Some(limit.hard),
            })
            .collect(),
    );
    if let Some(size) = limits.disk.filter(|_| enforce_disk) {
        host.storage_opt = Some(HashMap::from([("size".to_owned(), size.to_string())]));
    }
}

/// Builds the engine's update body.
pub(super) fn update_body(limits: &Resources, restarts: Restart) -> serde_json::Value {
    // Written by hand: only these of the many fields of bollard's type may be sent.
    serde_json::json!({
        "NanoCpus": (limits.cpus * 1e9).round() as i64,
        "Memory": limits.memory,
        "MemorySwap": limits.memory,
        "PidsLimit": limits.pids,
        "RestartPolicy": restart(restarts),
    })
}

/// Sets the security options and returns the label for the seccomp profile, if the profile comes from the
/// configuration.
fn security(decided: &Security, profile: Option<&str>, host: &mut HostConfig) -> Result<Option<String>> {
    host.cap_drop = Some(vec!["ALL".to_owned()]);
    host.cap_add = Some(decided.capabilities.iter().cloned().collect());
    host.privileged = Some(false);
    host.readonly_rootfs = Some(decided.read_only_root);
    host.userns_mode = decided.user_namespace.clone();
    let mut options = Vec::new();
    if decided.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    let mut label = None;
    match (decided.seccomp.as_str(), profile) {
        ("default", _) => {}
        ("unconfined", _) => options.push("seccomp=unconfined".to_owned()),
        (name, Some(json)) => {
            label = Some(format!("{name}@{}", crate::workspace::sha256_hex(json.as_bytes())));
            options.push(format!("seccomp={json}"));
        }
        // Never weaker than decided: without its JSON, the profile would silently become the engine's default.
        (name, None) => {
            let cause = format!("the seccomp profile '{name}' is missing");
            return Err(Error::BadRequest { operation: OPERATION, cause });
        }
    }
    options.extend(decided.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    // Spaces separate several options, because an option may contain commas (`level:s0:c1,c2`).
    let selinux = decided.selinux.as_deref().unwrap_or_default();
    options.extend(selinux.split_whitespace().map(|option| format!("label={option}")));
    host.security_opt = Some(options);
    Ok(label)
}

fn raw_mount(target: &str, mount: &Mount, labels: &BTreeMap<String, String>) -> RawMount {
    let mut raw = RawMount {
        target: Some(target.to_owned()),
        source: Some(mount.source.clone()),
        read_only: Some(mount.read_only),
        ..Default::default()
    };
    match mount.kind {
        MountKind::Bind => {
            raw.typ = Some(MountType::BIND);
            raw.bind_options = Some(MountBindOptions {
                propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
                ..Default::default()
            });
        }
        MountKind::Volume => {
            raw.typ = Some(MountType::VOLUME);
            // The engine creates a missing volume implicitly. The volume is ours, so it carries our labels.
            let ours = labels.iter().filter(|(key, _)| key.starts_with(LABEL_PREFIX));
            raw.volume_options = Some(MountVolumeOptions {
                labels: Some(ours.map(|(key, value)| (key.clone(), value.clone())).collect()),
                ..Default::default()
            });
        }
    }
    raw
}

fn tmpfs_options(tmpfs: Tmpfs) -> String {
    tmpfs.size.map(|bytes| format!("size={bytes}")).unwrap_or_default()
}

fn binding(port: &HostPort) -> PortBinding {
    // An empty port lets the engine choose a free one.
    let number = port.port.map(|port| port.to_string()).unwrap_or_default();
    PortBinding { host_ip: Some(port.address.clone()), host_port: Some(number) }
}

fn restart(decided: Restart) -> RestartPolicy {
    let (name, count) = match decided {
        Restart::No => (RestartPolicyNameEnum::NO, None),
        Restart::OnFailure(count) => (RestartPolicyNameEnum::ON_FAILURE, Some(i64::from(count))),
        Restart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        Restart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
    };
    RestartPolicy { name: Some(name), maximum_retry_count: count }
}

const NANOS_PER_MS: i64 = 1_000_000;

fn health(check: &HealthCheck) -> HealthConfig {
    let nanos = |ms: u64| Some(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(NANOS_PER_MS));
    let mut test = vec!["CMD".to_owned()];
    test.extend(check.command.iter().cloned());
    HealthConfig {
        test: Some(test),
        interval: nanos(check.interval_ms),
        timeout: nanos(check.timeout_ms),
        start_period: nanos(check.start_period_ms),
        retries: Some(i64::from(check.retries)),
        ..Default::default()
    }
}

/// Disables the image's own health check, which would otherwise apply silently.
fn no_health() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }
}

/// Converts the engine's report to a spec, for comparison with the decided spec (see [`differences`]).
///
/// Zero stands for "no limit". Fields that the engine does not keep stay at their defaults: the time and reason of
/// the image choice, and the time to live. Environment, labels and health check include the image's own.
pub(super) fn actual(config: &ContainerConfig, host: &HostConfig) -> ContainerSpec {
    let labels: BTreeMap<String, String> = config.labels.clone().unwrap_or_default().into_iter().collect();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let env = config.env.iter().flatten().map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    });
    let ports = host.port_bindings.iter().flatten().filter_map(|(key, bindings)| {
        let binding = bindings.as_ref()?.first()?;
        let address = text(&binding.host_ip);
        let address = if address.is_empty() { "0.0.0.0".to_owned() } else { address };
        Some((key.clone(), HostPort { address, port: text(&binding.host_port).parse().ok() }))
    });
    ContainerSpec {
        image: Some(ImageChoice { reference: text(&config.image), pull: PullPolicy::default(), reason: String::new() }),
        entrypoint: Some(config.entrypoint.clone().filter(|words| *words != [""]).unwrap_or_default()),
        command: config.cmd.clone().unwrap_or_default(),
        user: config.user.clone().filter(|user| !user.is_empty()),
        working_dir: text(&config.working_dir),
        hostname: text(&config.hostname),
        env: env.collect(),
        mounts: actual_mounts(host),
        tmpfs: host
            .tmpfs
            .iter()
            .flatten()
            .map(|(target, options)| (target.clone(), Tmpfs { size: tmpfs_size(options) }))
            .collect(),
        ports: ports.collect(),
        network: actual_network(&text(&host.network_mode), &labels),
        resources: actual_resources(host),
        security: actual_security(host, &labels),
        restart: actual_restart(host.restart_policy.as_ref()),
        health_check: config.healthcheck.as_ref().and_then(actual_health),
        time_to_live_ms: None,
        labels: labels.into_iter().filter(|(key, _)| !key.starts_with(LABEL_PREFIX)).collect(),
    }
}

fn actual_mounts(host: &HostConfig) -> BTreeMap<String, Mount> {
    let mut mounts = BTreeMap::new();
    for raw in host.mounts.iter().flatten() {
        let kind = match raw.typ {
            Some(MountType::BIND) => MountKind::Bind,
            Some(MountType::VOLUME) => MountKind::Volume,
            _ => continue,
        };
        let source = raw.source.clone().unwrap_or_default();
        let read_only = raw.read_only.unwrap_or_default();
        mounts.insert(raw.target.clone().unwrap_or_default(), Mount { kind, source, read_only });
    }
    // Wharf writes no such entries, but another client may: `source:target[:options]`.
    for bind in host.binds.iter().flatten() {
        let mut parts = bind.splitn(3, ':');
        let (Some(source), Some(target)) = (parts.next(), parts.next()) else { continue };
        let read_only = parts.next().is_some_and(|options| options.split(',').any(|option| option == "ro"));
        let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
        mounts.insert(target.to_owned(), Mount { kind, source: source.to_owned(), read_only });
    }
    mounts
}

/// Converts `size=64m,mode=1777` to bytes.
fn tmpfs_size(options: &str) -> Option<u64> {
    let value = options.split(',').find_map(|option| option.strip_prefix("size="))?;
    let (digits, unit) = match value.chars().last()?.to_ascii_lowercase() {
        'k' => (value.get(..value.len() - 1)?, 1 << 10),
        'm' => (value.get(..value.len() - 1)?, 1 << 20),
        'g' => (value.get(..value.len() - 1)?, 1 << 30),
        _ => (value, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn actual_network(mode: &str, labels: &BTreeMap<String, String>) -> Network {
    let own = || labels.get(LABEL_NETWORK).is_some_and(|label| label.strip_prefix("own@") == Some(mode));
    match mode {
        "none" => Network::None,
        "host" => Network::Host,
        _ if own() => Network::Own,
        _ => Network::Shared,
    }
}

fn actual_resources(host: &HostConfig) -> Resources {
    let bytes = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let cpus = match (host.nano_cpus.filter(|n| *n > 0), host.cpu_quota.filter(|q| *q > 0)) {
        (Some(nano), _) => nano as f64 / 1e9,
        (None, Some(quota)) => quota as f64 / host.cpu_period.filter(|p| *p > 0).unwrap_or(100_000) as f64,
        (None, None) => 0.0,
    };
    let ulimits = host.ulimits.iter().flatten().filter_map(|raw| {
        // Podman reports the kernel's names: RLIMIT_NOFILE.
        let name = raw.name.as_ref()?;
        let name = name.strip_prefix("RLIMIT_").map_or_else(|| name.clone(), str::to_ascii_lowercase);
        Some((name, Ulimit { soft: raw.soft.unwrap_or_default(), hard: raw.hard.unwrap_or_default() }))
    });
    Resources {
        cpus,
        memory: bytes(host.memory).unwrap_or_default(),
        pids: host.pids_limit.and_then(|pids| u32::try_from(pids).ok()).unwrap_or_default(),
        shm_size: bytes(host.shm_size).filter(|size| *size > 0),
        disk: host.storage_opt.as_ref().and_then(|options| options.get("size")?.parse().ok()),
        ulimits: ulimits.collect(),
    }
}

/// The engine's default capabilities, for a container that does not specify any (moby, oci/caps/defaults.go).
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Returns the settings that no spec can request. They are listed among the capabilities, where they cannot be part
/// of a decision.
fn beyond(host: &HostConfig) -> impl Iterator<Item = &'static str> {
    let set =
        |mode: &Option<String>| mode.as_deref().is_some_and(|mode| mode == "host" || mode.starts_with("container:"));
    let any = |devices: bool, word| devices.then_some(word);
    [
        any(set(&host.pid_mode), "the processes of another container"),
        any(set(&host.ipc_mode), "the shared memory of another container"),
        any(set(&host.uts_mode), "the name of the host"),
        any(host.devices.iter().flatten().next().is_some(), "devices"),
        any(host.device_requests.iter().flatten().next().is_some(), "device requests"),
        any(host.device_cgroup_rules.iter().flatten().next().is_some(), "device rules"),
        any(host.volumes_from.iter().flatten().next().is_some(), "the volumes of another container"),
    ]
    .into_iter()
    .flatten()
}

fn actual_security(host: &HostConfig, labels: &BTreeMap<String, String>) -> Security {
    let bare = |name: &String| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
    };
    let dropped: BTreeSet<String> = host.cap_drop.iter().flatten().map(bare).collect();
    let mut capabilities: BTreeSet<String> = host.cap_add.iter().flatten().map(bare).collect();
    if !dropped.contains("ALL") {
        let kept = DEFAULT_CAPABILITIES.iter().filter(|name| !dropped.contains(**name));
        capabilities.extend(kept.map(|name| (*name).to_owned()));
    }
    if host.privileged == Some(true) {
        capabilities.insert("ALL".to_owned());
    }
    capabilities.extend(beyond(host).map(str::to_owned));
    let mut security = Security {
        capabilities,
        no_new_privileges: false,
        read_only_root: host.readonly_rootfs.unwrap_or_default(),
        seccomp: "default".to_owned(),
        apparmor: None,
        selinux: None,
        user_namespace: host.userns_mode.clone().filter(|mode| !mode.is_empty()),
    };
    for option in host.security_opt.iter().flatten() {
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match key {
            "no-new-privileges" => security.no_new_privileges = value != "false",
            "seccomp" => security.seccomp = seccomp_name(value, labels),
            "apparmor" => security.apparmor = Some(value.to_owned()),
            "label" => {
                let all = security.selinux.get_or_insert_default();
                if !all.is_empty() {
                    all.push(' ');
                }
                all.push_str(value);
            }
            _ => {}
        }
    }
    security
}

/// Returns the name of a seccomp profile. The label's name only counts if the engine really has that profile's JSON.
fn seccomp_name(value: &str, labels: &BTreeMap<String, String>) -> String {
    if !value.starts_with('{') {
        return value.to_owned();
    }
    let digest = crate::workspace::sha256_hex(value.as_bytes());
    match labels.get(LABEL_SECCOMP).and_then(|label| label.rsplit_once('@')) {
        Some((name, said)) if said == digest => name.to_owned(),
        _ => format!("sha256:{digest}"),
    }
}

fn actual_restart(policy: Option<&RestartPolicy>) -> Restart {
    let count = policy.and_then(|policy| policy.maximum_retry_count).unwrap_or_default();
    match policy.and_then(|policy| policy.name) {
        Some(RestartPolicyNameEnum::ON_FAILURE) => Restart::OnFailure(u32::try_from(count).unwrap_or_default()),
        Some(RestartPolicyNameEnum::ALWAYS) => Restart::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => Restart::UnlessStopped,
        _ => Restart::No,
    }
}

pub(super) fn actual_health(raw: &HealthConfig) -> Option<HealthCheck> {
    let (kind, rest) = raw.test.as_ref()?.split_first()?;
    let command = match kind.as_str() {
        "CMD" => rest.to_vec(),
        "CMD-SHELL" => ["/bin/sh", "-c"].into_iter().map(str::to_owned).chain(rest.iter().cloned()).collect(),
        _ => return None,
    };
    let ms = |nanos: Option<i64>| u64::try_from(nanos.unwrap_or_default() / NANOS_PER_MS).unwrap_or_default();
    Some(HealthCheck {
        command,
        interval_ms: ms(raw.interval),
        timeout_ms: ms(raw.timeout),
        start_period_ms: ms(raw.start_period),
        retries: u32::try_from(raw.retries.unwrap_or_default()).unwrap_or_default(),
    })
}

/// Parses `8080/tcp` to `(8080, "tcp")`.
pub(super) fn port_key(key: &str) -> Option<(u16, &str)> {
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    Some((port.parse().ok()?, protocol))
}

#[cfg(test)]
mod tests;
