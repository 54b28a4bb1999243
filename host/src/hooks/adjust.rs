//! Adjustments: typed edits of a spec. One adjustment changes one field, and each field has a name and an owner.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ExecSpec, Hook};
use crate::workspace::{
    ContainerSpec, HealthCheck, HostPort, ImageChoice, LABEL_PREFIX, Mount, Network, Restart, Tmpfs, Ulimit,
};

mod from_field;

/// One edit of a [`ContainerSpec`] (or, at `pre-exec`, of an [`ExecSpec`]). A keyed edit without a value removes the
/// entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "field", content = "value")]
#[allow(missing_docs)]
pub enum Adjustment {
    Image(ImageChoice),
    Entrypoint(Option<Vec<String>>),
    Command(Vec<String>),
    User(Option<String>),
    WorkingDir(String),
    Hostname(String),
    Env(String, Option<String>),
    Label(String, Option<String>),
    Mount(String, Option<Mount>),
    Tmpfs(String, Option<Tmpfs>),
    Port(String, Option<HostPort>),
    Network(Network),
    Cpus(f64),
    Memory(u64),
    Pids(u32),
    ShmSize(Option<u64>),
    Disk(Option<u64>),
    Ulimit(String, Option<Ulimit>),
    Capabilities(BTreeSet<String>),
    NoNewPrivileges(bool),
    ReadOnlyRoot(bool),
    Seccomp(String),
    Apparmor(Option<String>),
    Selinux(Option<String>),
    UserNamespace(Option<String>),
    Restart(Restart),
    HealthCheck(Option<HealthCheck>),
    TimeToLiveMs(Option<u64>),
}

impl Adjustment {
    /// Returns the field that it changes, e.g. `env.FOO` or `resources.memory`: the same path as in the spec's JSON.
    pub fn field(&self) -> String {
        match self {
            Self::Image(_) => "image".into(),
            Self::Entrypoint(_) => "entrypoint".into(),
            Self::Command(_) => "command".into(),
            Self::User(_) => "user".into(),
            Self::WorkingDir(_) => "working_dir".into(),
            Self::Hostname(_) => "hostname".into(),
            Self::Env(name, _) => format!("env.{name}"),
            Self::Label(name, _) => format!("labels.{name}"),
            Self::Mount(target, _) => format!("mounts.{target}"),
            Self::Tmpfs(target, _) => format!("tmpfs.{target}"),
            Self::Port(port, _) => format!("ports.{port}"),
            Self::Network(_) => "network".into(),
            Self::Cpus(_) => "resources.cpus".into(),
            Self::Memory(_) => "resources.memory".into(),
            Self::Pids(_) => "resources.pids".into(),
            Self::ShmSize(_) => "resources.shm_size".into(),
            Self::Disk(_) => "resources.disk".into(),
            Self::Ulimit(name, _) => format!("resources.ulimits.{name}"),
            Self::Capabilities(_) => "security.capabilities".into(),
            Self::NoNewPrivileges(_) => "security.no_new_privileges".into(),
            Self::ReadOnlyRoot(_) => "security.read_only_root".into(),
            Self::Seccomp(_) => "security.seccomp".into(),
            Self::Apparmor(_) => "security.apparmor".into(),
            Self::Selinux(_) => "security.selinux".into(),
            Self::UserNamespace(_) => "security.user_namespace".into(),
            Self::Restart(_) => "restart".into(),
            Self::HealthCheck(_) => "health_check".into(),
            Self::TimeToLiveMs(_) => "time_to_live_ms".into(),
        }
    }

    /// Returns the new value as JSON; null removes the field.
    pub fn value(&self) -> Value {
        match self {
            Self::Image(v) => json!(v.reference),
            Self::Entrypoint(v) => json!(v),
            Self::Command(v) => json!(v),
            Self::WorkingDir(v) | Self::Hostname(v) | Self::Seccomp(v) => json!(v),
            Self::Env(_, v) | Self::Label(_, v) => json!(v),
            Self::Mount(_, v) => json!(v),
            Self::Tmpfs(_, v) => json!(v),
            Self::Port(_, v) => json!(v),
            Self::Network(v) => json!(v),
            Self::Cpus(v) => json!(v),
            Self::Memory(v) => json!(v),
            Self::Pids(v) => json!(v),
            Self::ShmSize(v) | Self::Disk(v) | Self::TimeToLiveMs(v) => json!(v),
            Self::Ulimit(_, v) => json!(v),
            Self::Capabilities(v) => json!(v),
            Self::NoNewPrivileges(v) | Self::ReadOnlyRoot(v) => json!(v),
            Self::User(v) | Self::Apparmor(v) | Self::Selinux(v) | Self::UserNamespace(v) => json!(v),
            Self::Restart(v) => json!(v),
            Self::HealthCheck(v) => json!(v),
        }
    }

    /// Returns whether a policy may make this adjustment at this hook (the table of the policy contract).
    pub fn allowed_at(&self, hook: Hook) -> bool {
        match hook {
            Hook::SelectImage => matches!(self, Self::Image(_)),
            Hook::SecurityProfile => {
                self.is_security() || matches!(self, Self::Pids(_) | Self::Tmpfs(..) | Self::User(_))
            }
            Hook::PreCreate => !self.is_security() && !matches!(self, Self::Image(_)),
            Hook::PreExec => matches!(self, Self::Env(..) | Self::User(_) | Self::WorkingDir(_)),
            Hook::PostStart | Hook::PreStop | Hook::Cleanup | Hook::Event => false,
        }
    }

    fn is_security(&self) -> bool {
        matches!(
            self,
            Self::Capabilities(_)
                | Self::NoNewPrivileges(_)
                | Self::ReadOnlyRoot(_)
                | Self::Seccomp(_)
                | Self::Apparmor(_)
                | Self::Selinux(_)
                | Self::UserNamespace(_)
        )
    }

    /// Checks the value on its own, with the same rules for every owner.
    ///
    /// # Errors
    /// One line that names the field and its valid values.
    // Long because every field has its arm.
    pub fn check(&self) -> Result<(), String> {
        let field = self.field();
        let absolute = |path: &str| {
            let clean = path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..");
            if clean { Ok(()) } else { Err(format!("{field}: '{path}' is not an absolute path without '..'")) }
        };
        let text = |what: &str, value: &str, most: usize| {
            if value.is_empty() || value.len() > most || value.contains(['\0', '\n']) {
                Err(format!("{field}: {what} must be one line of 1 to {most} bytes"))
            } else {
                Ok(())
            }
        };
        match self {
            Self::Image(choice) => {
                text("the image reference", &choice.reference, 512)?;
                if choice.reference.contains(char::is_whitespace) || choice.reference.starts_with('-') {
                    return Err(format!("image: '{}' is not an image reference", choice.reference));
                }
                Ok(())
            }
            Self::Env(name, value) => {
                text("the name", name, 256)?;
                if name.contains('=') {
                    return Err(format!("{field}: the name of a variable must not contain '='"));
                }
                if value.as_ref().is_some_and(|v| v.contains('\0') || v.len() > 128 << 10) {
                    return Err(format!("{field}: the value has a zero byte or more than 128 KiB"));
                }
                Ok(())
            }
            Self::Label(name, value) => {
                text("the name", name, 256)?;
                if name.starts_with(LABEL_PREFIX) {
                    return Err(format!("{field}: labels that begin with '{LABEL_PREFIX}' are reserved for the host"));
                }
                if value.as_ref().is_some_and(|v| v.contains('\0') || v.len() > 16 << 10) {
                    return Err(format!("{field}: the value has a zero byte or more than 16 KiB"));
                }
                Ok(())
            }
            Self::Mount(target, mount) => {
                absolute(target)?;
                if target == "/" {
                    return Err(format!("{field}: nothing can be mounted over '/'"));
                }
                match mount {
                    Some(mount) if mount.kind == crate::workspace::MountKind::Bind => absolute(&mount.source),
                    Some(mount) => text("the volume's name", &mount.source, 255),
                    None => Ok(()),
                }
            }
            Self::Tmpfs(target, _) => absolute(target),
            Self::Port(key, port) => {
                let bad = || format!("{field}: the key of a port is '<1..65535>/tcp' or '<1..65535>/udp'");
                let (number, protocol) = key.split_once('/').ok_or_else(bad)?;
                if !number.parse::<u16>().is_ok_and(|n| n > 0) || !["tcp", "udp"].contains(&protocol) {
                    return Err(bad());
                }
                match port {
                    Some(port) if port.address.parse::<std::net::IpAddr>().is_err() => {
                        Err(format!("{field}: '{}' is not an IP address", port.address))
                    }
                    _ => Ok(()),
                }
            }
            Self::Cpus(cpus) if !(cpus.is_finite() && *cpus >= 0.01) => {
                Err(format!("{field}: {cpus} is not a number of cores from 0.01 up"))
            }
            // The engine rejects less than 6 MiB (moby, daemon/daemon_unix.go: linuxMinMemory).
            Self::Memory(memory) if *memory < 6 << 20 => {
                Err(format!("{field}: {memory} bytes is below 6 MiB, the minimum of the engine"))
            }
            Self::Pids(0) => Err(format!("{field}: must be at least 1")),
            Self::ShmSize(Some(0)) => Err(format!("{field}: must be larger than 0")),
            Self::Ulimit(name, limit) => {
                if !ULIMITS.contains(&name.as_str()) {
                    return Err(format!("{field}: there is no such limit; the limits are {}", ULIMITS.join(", ")));
                }
                // setrlimit(2); -1 means no limit.
                let order = |value: i64| if value == -1 { i64::MAX } else { value };
                match limit {
                    Some(limit) if limit.soft < -1 || limit.hard < -1 => {
                        Err(format!("{field}: a limit is 0 or more, or -1 for none"))
                    }
                    Some(limit) if order(limit.soft) > order(limit.hard) => {
                        Err(format!("{field}: the soft limit {} is above the hard limit {}", limit.soft, limit.hard))
                    }
                    _ => Ok(()),
                }
            }
            Self::WorkingDir(dir) => absolute(dir),
            Self::Hostname(name) => {
                let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
                if name.is_empty() || name.len() > 63 || !letters || name.starts_with('-') {
                    return Err(format!("hostname: '{name}' is not 1 to 63 letters, digits, '-' and '.'"));
                }
                Ok(())
            }
            Self::Capabilities(names) => {
                for name in names {
                    if name.starts_with("CAP_") || !name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                        return Err(format!(
                            "{field}: '{name}' is not a capability such as CHOWN (uppercase, without CAP_)"
                        ));
                    }
                }
                Ok(())
            }
            Self::Seccomp(name) => text("the profile's name", name, 128),
            Self::Entrypoint(Some(words)) if words.first().is_some_and(String::is_empty) => {
                Err("entrypoint: its first word is empty; an empty list means none".to_owned())
            }
            Self::Command(words) | Self::Entrypoint(Some(words)) if words.iter().any(|word| word.contains('\0')) => {
                Err(format!("{field}: a word has a zero byte"))
            }
            // The engine would parse a leading sign as part of a number, although the text looks like a name here.
            Self::User(Some(user)) if user.starts_with(['-', '+']) => {
                Err(format!("{field}: '{user}' is neither a user name nor a number"))
            }
            Self::User(Some(user)) => text("the user", user, 128),
            Self::Selinux(Some(label)) => {
                // The engine parses each word as a separate option.
                let option = |word: &str| {
                    let (kind, value) = word.split_once(':').unwrap_or_default();
                    ["user", "role", "type", "level", "filetype"].contains(&kind) && !value.is_empty()
                };
                if label == "disable" || label.split(' ').all(option) {
                    return Ok(());
                }
                Err(format!("{field}: '{label}' is neither 'disable' nor words such as 'type:container_t level:s0'"))
            }
            Self::TimeToLiveMs(Some(0)) => Err(format!("{field}: must be longer than 0")),
            Self::HealthCheck(Some(check)) if check.command.is_empty() || check.retries == 0 => {
                Err(format!("{field}: needs a command and at least one retry"))
            }
            // The engine treats 0 as its default and rejects shorter times (moby, daemon/container.go).
            Self::HealthCheck(Some(check)) if check.interval_ms == 0 || check.timeout_ms == 0 => {
                Err(format!("{field}: interval and timeout must be at least 1ms"))
            }
            _ => Ok(()),
        }
    }

    /// Applies the adjustment to a spec.
    pub fn apply(&self, spec: &mut ContainerSpec) {
        fn keyed<V: Clone>(map: &mut std::collections::BTreeMap<String, V>, key: &str, value: &Option<V>) {
            match value {
                Some(value) => drop(map.insert(key.to_owned(), value.clone())),
                None => drop(map.remove(key)),
            }
        }
        match self {
            Self::Image(v) => spec.image = Some(v.clone()),
            Self::Entrypoint(v) => spec.entrypoint.clone_from(v),
            Self::Command(v) => spec.command.clone_from(v),
            Self::User(v) => spec.user.clone_from(v),
            Self::WorkingDir(v) => spec.working_dir.clone_from(v),
            Self::Hostname(v) => spec.hostname.clone_from(v),
            Self::Env(name, v) => keyed(&mut spec.env, name, v),
            Self::Label(name, v) => keyed(&mut spec.labels, name, v),
            Self::Mount(target, v) => keyed(&mut spec.mounts, target, v),
            Self::Tmpfs(target, v) => keyed(&mut spec.tmpfs, target, v),
            Self::Port(port, v) => keyed(&mut spec.ports, port, v),
            Self::Network(v) => spec.network = *v,
            Self::Cpus(v) => spec.resources.cpus = *v,
            Self::Memory(v) => spec.resources.memory = *v,
            Self::Pids(v) => spec.resources.pids = *v,
            Self::ShmSize(v) => spec.resources.shm_size = *v,
            Self::Disk(v) => spec.resources.disk = *v,
            Self::Ulimit(name, v) => keyed(&mut spec.resources.ulimits, name, v),
            Self::Capabilities(v) => spec.security.capabilities.clone_from(v),
            Self::NoNewPrivileges(v) => spec.security.no_new_privileges = *v,
            Self::ReadOnlyRoot(v) => spec.security.read_only_root = *v,
            Self::Seccomp(v) => spec.security.seccomp.clone_from(v),
            Self::Apparmor(v) => spec.security.apparmor.clone_from(v),
            Self::Selinux(v) => spec.security.selinux.clone_from(v),
            Self::UserNamespace(v) => spec.security.user_namespace.clone_from(v),
            Self::Restart(v) => spec.restart = *v,
            Self::HealthCheck(v) => spec.health_check.clone_from(v),
            Self::TimeToLiveMs(v) => spec.time_to_live_ms = *v,
        }
    }

    /// Applies the adjustment to a command. Only fields allowed at `pre-exec` have an effect.
    pub fn apply_exec(&self, exec: &mut ExecSpec) {
        match self {
            Self::Env(name, Some(value)) => drop(exec.env.insert(name.clone(), value.clone())),
            Self::Env(name, None) => drop(exec.env.remove(name)),
            Self::User(user) => exec.user.clone_from(user),
            Self::WorkingDir(dir) => exec.working_dir = Some(dir.clone()),
            _ => {}
        }
    }
}

/// The process limits that the engine supports (docker/go-units, ulimit.go).
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Returns the adjustments that turn one spec into another. They convert a script's edits of a map to typed edits.
pub fn diff(before: &ContainerSpec, after: &ContainerSpec) -> Vec<Adjustment> {
    let mut list = Vec::new();
    macro_rules! plain {
        ($($variant:ident: $($path:ident).+;)*) => {$(
            if before.$($path).+ != after.$($path).+ {
                list.push(Adjustment::$variant(after.$($path).+.clone()));
            }
        )*};
    }
    macro_rules! keyed {
        ($($variant:ident: $($path:ident).+;)*) => {$(
            for (key, value) in &after.$($path).+ {
                if before.$($path).+.get(key) != Some(value) {
                    list.push(Adjustment::$variant(key.clone(), Some(value.clone())));
                }
            }
            for key in before.$($path).+.keys() {
                if !after.$($path).+.contains_key(key) {
                    list.push(Adjustment::$variant(key.clone(), None));
                }
            }
        )*};
    }
    if let (true, Some(image)) = (before.image != after.image, &after.image) {
        list.push(Adjustment::Image(image.clone()));
    }
    plain! {
        Entrypoint: entrypoint; Command: command; User: user; WorkingDir: working_dir; Hostname: hostname; Network: network;
        Cpus: resources.cpus; Memory: resources.memory; Pids: resources.pids; ShmSize: resources.shm_size;
        Disk: resources.disk; Capabilities: security.capabilities;
        NoNewPrivileges: security.no_new_privileges; ReadOnlyRoot: security.read_only_root;
        Seccomp: security.seccomp; Apparmor: security.apparmor; Selinux: security.selinux;
        UserNamespace: security.user_namespace; Restart: restart; HealthCheck: health_check;
        TimeToLiveMs: time_to_live_ms;
    }
    keyed! {
        Env: env; Label: labels; Mount: mounts; Tmpfs: tmpfs; Port: ports; Ulimit: resources.ulimits;
    }
    list
}

/// Returns the adjustments that turn one command into another.
pub fn diff_exec(before: &ExecSpec, after: &ExecSpec) -> Vec<Adjustment> {
    let mut list = Vec::new();
    for (name, value) in &after.env {
        if before.env.get(name) != Some(value) {
            list.push(Adjustment::Env(name.clone(), Some(value.clone())));
        }
    }
    for name in before.env.keys().filter(|name| !after.env.contains_key(*name)) {
        list.push(Adjustment::Env(name.clone(), None));
    }
    if before.user != after.user {
        list.push(Adjustment::User(after.user.clone()));
    }
    if let (true, Some(dir)) = (before.working_dir != after.working_dir, &after.working_dir) {
        list.push(Adjustment::WorkingDir(dir.clone()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::chain::tests::spec;

    #[test]
    fn applying_the_difference_of_two_specs_gives_the_second() {
        let before = spec();
        let mut after = before.clone();
        for adjustment in samples() {
            adjustment.apply(&mut after);
        }
        let edits = diff(&before, &after);
        assert_eq!(edits.len(), samples().len());
        let mut again = before.clone();
        edits.iter().for_each(|edit| edit.apply(&mut again));
        assert_eq!(again, after);
        assert!(diff(&after, &after).is_empty());
        let mut back = after.clone();
        diff(&after, &before).iter().for_each(|edit| edit.apply(&mut back));
        // Every field except the image can be removed.
        back.image.clone_from(&before.image);
        assert_eq!(back, before);
    }

    fn samples() -> Vec<Adjustment> {
        let mount = Mount { kind: crate::workspace::MountKind::Volume, source: "data".into(), read_only: true };
        vec![
            Adjustment::Image(ImageChoice { reference: "a:1".into(), pull: Default::default(), reason: "r".into() }),
            Adjustment::Entrypoint(Some(vec!["tini".into()])),
            Adjustment::Command(vec!["ls".into()]),
            Adjustment::User(Some("1000".into())),
            Adjustment::WorkingDir("/w".into()),
            Adjustment::Hostname("h".into()),
            Adjustment::Env("A".into(), Some("1".into())),
            Adjustment::Label("l".into(), Some("1".into())),
            Adjustment::Mount("/data".into(), Some(mount)),
            Adjustment::Tmpfs("/tmp".into(), Some(Tmpfs { size: Some(1) })),
            Adjustment::Port("80/tcp".into(), Some(HostPort { address: "127.0.0.1".into(), port: None })),
            Adjustment::Network(Network::None),
            Adjustment::Cpus(0.5),
            Adjustment::Memory(64 << 20),
            Adjustment::Pids(7),
            Adjustment::ShmSize(Some(1)),
            Adjustment::Disk(Some(2)),
            Adjustment::Ulimit("nofile".into(), Some(Ulimit { soft: 1, hard: 2 })),
            Adjustment::Capabilities(BTreeSet::new()),
            Adjustment::NoNewPrivileges(false),
            Adjustment::ReadOnlyRoot(true),
            Adjustment::Seccomp("tight".into()),
            Adjustment::Apparmor(Some("a".into())),
            Adjustment::Selinux(Some("type:container_t".into())),
            Adjustment::UserNamespace(Some("host".into())),
            Adjustment::Restart(Restart::OnFailure(3)),
            Adjustment::HealthCheck(Some(HealthCheck {
                command: vec!["true".into()],
                interval_ms: 1,
                timeout_ms: 1,
                start_period_ms: 0,
                retries: 1,
            })),
            Adjustment::TimeToLiveMs(Some(9)),
        ]
    }

    #[test]
    fn every_adjustment_survives_the_record_and_names_a_path_of_the_spec() {
        for adjustment in samples() {
            let text = serde_json::to_string(&adjustment).unwrap();
            assert_eq!(serde_json::from_str::<Adjustment>(&text).unwrap(), adjustment, "{text}");
            let mut after = spec();
            adjustment.apply(&mut after);
            let json = serde_json::to_value(&after).unwrap();
            let field = adjustment.field();
            let (head, rest) = field.split_once('.').unwrap_or((&field, ""));
            assert!(json.get(head).is_some(), "{field} {rest}");
            assert_eq!(adjustment.check(), Ok(()), "{field}");
        }
    }

    #[test]
    fn nonsense_values_are_refused_with_the_field_and_what_it_takes() {
        let port = HostPort { address: "everywhere".into(), port: None };
        for (bad, part) in [
            (Adjustment::Label("wharf.managed".into(), Some("x".into())), "reserved for the host"),
            (Adjustment::Mount("data".into(), None), "absolute path"),
            (Adjustment::Mount("/a/../b".into(), None), "without '..'"),
            (Adjustment::Mount("/".into(), None), "over '/'"),
            (Adjustment::Cpus(f64::NAN), "resources.cpus"),
            (Adjustment::Cpus(-1.0), "resources.cpus"),
            (Adjustment::Memory(0), "6 MiB"),
            (Adjustment::Pids(0), "at least 1"),
            (Adjustment::ShmSize(Some(0)), "larger than 0"),
            (Adjustment::Ulimit("bogus".into(), None), "the limits are core"),
            (Adjustment::Ulimit("nofile".into(), Some(Ulimit { soft: 5, hard: 3 })), "soft limit 5"),
            (Adjustment::Ulimit("core".into(), Some(Ulimit { soft: -1, hard: 3 })), "above the hard limit 3"),
            (Adjustment::Ulimit("core".into(), Some(Ulimit { soft: -2, hard: -1 })), "-1 for none"),
            (Adjustment::Port("0/tcp".into(), None), "65535"),
            (Adjustment::Port("80".into(), None), "tcp"),
            (Adjustment::Port("80/tcp".into(), Some(port)), "not an IP address"),
            (Adjustment::Env("A=B".into(), None), "must not contain '='"),
            (Adjustment::Hostname("a b".into()), "hostname"),
            (Adjustment::Capabilities(["CAP_CHOWN".to_owned()].into()), "without CAP_"),
            (Adjustment::Seccomp(String::new()), "one line"),
        ] {
            let said = bad.check().unwrap_err();
            assert!(said.contains(part), "{bad:?}: {said}");
        }
    }
}
