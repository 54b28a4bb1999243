//! What the engine and its machine can do.

use serde::{Deserialize, Serialize};

use super::Docker;
use super::error::{Error, Result};
use super::http::Call;
use crate::workspace::ContainerSpec;

/// Facts about the engine and its machine. They change only with the engine, so ask once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// Version of the engine.
    pub version: String,
    /// API version in use, see [`Docker::api_version`].
    pub api_version: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Processors of the machine.
    pub cpus: u32,
    /// Bytes of the machine's memory.
    pub memory: u64,
    /// Names, e.g. `seccomp`, `apparmor`, `selinux`, `userns`, `rootless`, `cgroupns`.
    pub security: Vec<String>,
    /// Storage driver, e.g. `overlay2`.
    pub storage_driver: String,
    /// File system under the storage driver, if it tells, e.g. `xfs`.
    pub backing_filesystem: Option<String>,
    /// Host name of the machine.
    pub name: String,
    /// Where the engine keeps its data on its machine.
    pub docker_root_dir: String,
    /// Whether containers can get an init process that reaps zombies.
    pub init_available: bool,
    /// Whether swap can be limited. Where it cannot, a memory limit does not cover swap.
    pub swap_limit: bool,
    /// E.g. `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// E.g. `x86_64`.
    pub architecture: String,
    /// What the engine itself warns about.
    pub warnings: Vec<String>,
}

impl EngineInfo {
    /// Whether a size limit of the writable layer may work: some storage drivers never have one; for the others only
    /// an attempt tells (see [`super::CreateRequest::enforce_disk`]).
    pub fn disk_limit_possible(&self) -> bool {
        match self.storage_driver.as_str() {
            "btrfs" | "zfs" | "devicemapper" | "windowsfilter" => true,
            "overlay2" => self.backing_filesystem.as_deref().is_none_or(|fs| fs == "xfs"),
            _ => false,
        }
    }

    /// Whether this engine can enforce what was decided. Asked to, it would leave AppArmor and SELinux options out in
    /// silence where the machine has neither.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the first setting that it cannot enforce.
    pub fn check(&self, spec: &ContainerSpec) -> Result<()> {
        let has = |name: &str| self.security.iter().any(|feature| feature == name);
        let security = &spec.security;
        let apparmor = security.apparmor.as_deref().is_some_and(|profile| profile != "unconfined");
        let selinux = security.selinux.as_deref().is_some_and(|options| options != "disable");
        let cause = if apparmor && !has("apparmor") {
            "security.apparmor is set, but the machine of the engine has no AppArmor".to_owned()
        } else if selinux && !has("selinux") {
            "security.selinux is set, but the engine runs without SELinux".to_owned()
        } else if security.seccomp != "unconfined" && !has("seccomp") {
            "the engine runs without seccomp, but security.seccomp is not `unconfined`".to_owned()
        } else if spec.resources.cpus > f64::from(self.cpus) {
            format!("resources.cpus is {}, but the machine of the engine has {}", spec.resources.cpus, self.cpus)
        } else {
            return Ok(());
        };
        Err(Error::Unsupported { operation: "create the container", cause })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Raw {
    server_version: String,
    cgroup_version: String,
    #[serde(rename = "NCPU")]
    ncpu: u32,
    mem_total: u64,
    security_options: Option<Vec<String>>,
    driver: String,
    driver_status: Option<Vec<Vec<String>>>,
    name: String,
    docker_root_dir: String,
    init_binary: String,
    swap_limit: bool,
    operating_system: String,
    architecture: String,
    warnings: Option<Vec<String>>,
}

impl Docker {
    /// Asks what the engine and its machine can do.
    ///
    /// # Errors
    /// [`super::Error::Engine`] and the ones of a broken connection.
    pub async fn info(&self) -> Result<EngineInfo> {
        let raw: Raw = self.http().json(&Call::get("ask the engine about itself", "/info")).await?;
        Ok(EngineInfo {
            version: raw.server_version,
            api_version: self.api_version().to_owned(),
            cgroup_version: if raw.cgroup_version == "2" { 2 } else { 1 },
            cpus: raw.ncpu,
            memory: raw.mem_total,
            security: raw.security_options.unwrap_or_default().iter().filter_map(|text| security_name(text)).collect(),
            storage_driver: raw.driver,
            backing_filesystem: raw
                .driver_status
                .unwrap_or_default()
                .into_iter()
                .find(|pair| pair.first().is_some_and(|key| key == "Backing Filesystem"))
                .and_then(|pair| pair.into_iter().nth(1)),
            name: raw.name,
            docker_root_dir: raw.docker_root_dir,
            init_available: !raw.init_binary.is_empty(),
            swap_limit: raw.swap_limit,
            operating_system: raw.operating_system,
            architecture: raw.architecture,
            warnings: raw.warnings.unwrap_or_default(),
        })
    }
}

/// `name=seccomp,profile=default` -> `seccomp`
fn security_name(text: &str) -> Option<String> {
    text.split(',').find_map(|part| part.strip_prefix("name=")).map(str::to_owned)
}
