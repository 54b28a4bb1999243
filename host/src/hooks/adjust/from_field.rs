//! Adjustments from a history entry: a field and its value.

use serde_json::Value;

use super::Adjustment;
use crate::workspace::ImageChoice;

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

impl Adjustment {
    /// Returns the adjustment that gives a field this value; none if there is no such field, or the value has another
    /// type. For an image, only the reference is known.
    pub fn from_field(field: &str, value: &Value) -> Option<Self> {
        let keyed = |group: &str| field.strip_prefix(group)?.strip_prefix('.').map(str::to_owned);
        if let Some(name) = keyed("env") {
            return Some(Self::Env(name, read(value)?));
        }
        if let Some(name) = keyed("labels") {
            return Some(Self::Label(name, read(value)?));
        }
        if let Some(target) = keyed("mounts") {
            return Some(Self::Mount(target, read(value)?));
        }
        if let Some(target) = keyed("tmpfs") {
            return Some(Self::Tmpfs(target, read(value)?));
        }
        if let Some(port) = keyed("ports") {
            return Some(Self::Port(port, read(value)?));
        }
        if let Some(name) = keyed("resources.ulimits") {
            return Some(Self::Ulimit(name, read(value)?));
        }
        Some(match field {
            "image" => {
                Self::Image(ImageChoice { reference: read(value)?, pull: Default::default(), reason: String::new() })
            }
            "entrypoint" => Self::Entrypoint(read(value)?),
            "command" => Self::Command(read(value)?),
            "user" => Self::User(read(value)?),
            "working_dir" => Self::WorkingDir(read(value)?),
            "hostname" => Self::Hostname(read(value)?),
            "network" => Self::Network(read(value)?),
            "resources.cpus" => Self::Cpus(read(value)?),
            "resources.memory" => Self::Memory(read(value)?),
            "resources.pids" => Self::Pids(read(value)?),
            "resources.shm_size" => Self::ShmSize(read(value)?),
            "resources.disk" => Self::Disk(read(value)?),
            "security.capabilities" => Self::Capabilities(read(value)?),
            "security.no_new_privileges" => Self::NoNewPrivileges(read(value)?),
            "security.read_only_root" => Self::ReadOnlyRoot(read(value)?),
            "security.seccomp" => Self::Seccomp(read(value)?),
            "security.apparmor" => Self::Apparmor(read(value)?),
            "security.selinux" => Self::Selinux(read(value)?),
            "security.user_namespace" => Self::UserNamespace(read(value)?),
            "restart" => Self::Restart(read(value)?),
            "health_check" => Self::HealthCheck(read(value)?),
            "time_to_live_ms" => Self::TimeToLiveMs(read(value)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{HealthCheck, HostPort, Mount, MountKind, Network, Restart, Tmpfs, Ulimit};

    #[test]
    fn every_adjustment_comes_back_from_its_field_and_value() {
        let mount = Mount { kind: MountKind::Volume, source: "v".into(), read_only: true };
        let check =
            HealthCheck { command: vec!["a".into()], interval_ms: 1, timeout_ms: 2, start_period_ms: 0, retries: 1 };
        let image = ImageChoice { reference: "a:1".into(), pull: Default::default(), reason: String::new() };
        for edit in [
            Adjustment::Image(image),
            Adjustment::Entrypoint(Some(Vec::new())),
            Adjustment::Entrypoint(None),
            Adjustment::Command(vec!["a".into()]),
            Adjustment::User(None),
            Adjustment::WorkingDir("/a".into()),
            Adjustment::Hostname("a".into()),
            Adjustment::Env("A.B".into(), Some("1".into())),
            Adjustment::Label("a.b".into(), None),
            Adjustment::Mount("/a.b".into(), Some(mount)),
            Adjustment::Tmpfs("/t".into(), Some(Tmpfs { size: Some(1) })),
            Adjustment::Port("80/tcp".into(), Some(HostPort { address: "::1".into(), port: Some(1) })),
            Adjustment::Network(Network::Own),
            Adjustment::Cpus(0.1),
            Adjustment::Memory(u64::MAX),
            Adjustment::Pids(7),
            Adjustment::ShmSize(Some(1)),
            Adjustment::Disk(None),
            Adjustment::Ulimit("nofile".into(), Some(Ulimit { soft: 1, hard: 2 })),
            Adjustment::Capabilities(["KILL".to_owned()].into()),
            Adjustment::NoNewPrivileges(false),
            Adjustment::ReadOnlyRoot(true),
            Adjustment::Seccomp("a".into()),
            Adjustment::Apparmor(Some("a".into())),
            Adjustment::Selinux(None),
            Adjustment::UserNamespace(None),
            Adjustment::Restart(Restart::OnFailure(3)),
            Adjustment::HealthCheck(Some(check)),
            Adjustment::TimeToLiveMs(Some(1)),
        ] {
            assert_eq!(Adjustment::from_field(&edit.field(), &edit.value()), Some(edit));
        }
        assert_eq!(Adjustment::from_field("nope", &Value::Null), None);
        assert_eq!(Adjustment::from_field("resources.pids", &"x".into()), None);
    }
}
