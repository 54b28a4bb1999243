//! The capabilities of the engine and its machine.
//!
//! For this request Docker runs two programs to get their versions, which takes 10 ms. The answer is therefore cached
//! for as long as the same run of the same engine lasts.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Docker;
use super::connect::Endpoint;
use super::error::{Error, Result};
use super::http::Call;
use crate::workspace::ContainerSpec;

/// Cache lifetime if two runs of the engine cannot be told apart.
const SHORT: Duration = Duration::from_secs(60);
/// Cache lifetime if runs can be told apart: memory and processors may change during a run.
const LONG: Duration = Duration::from_secs(3600);

/// Facts about the engine and its machine.
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
    /// Names of security features, e.g. `seccomp`, `apparmor`, `selinux`, `userns`, `rootless`, `cgroupns`.
    pub security: Vec<String>,
    /// Storage driver, e.g. `overlay2`.
    pub storage_driver: String,
    /// File system under the storage driver, if reported, e.g. `xfs`.
    pub backing_filesystem: Option<String>,
    /// Host name of the machine.
    pub name: String,
    /// The engine's data folder on its machine.
    pub docker_root_dir: String,
    /// Whether containers can get an init process that reaps zombies.
    pub init_available: bool,
    /// Whether swap can be limited. If not, a memory limit does not cover swap.
    pub swap_limit: bool,
    /// The operating system, e.g. `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// The architecture, e.g. `x86_64`.
    pub architecture: String,
    /// The engine's own warnings.
    pub warnings: Vec<String>,
}

impl EngineInfo {
    /// Returns whether a size limit of the writable layer may work. Some storage drivers never support one; for the
    /// others only an attempt shows it (see [`super::CreateRequest::enforce_disk`]).
    pub fn disk_limit_possible(&self) -> bool {
        match self.storage_driver.as_str() {
            "btrfs" | "zfs" | "devicemapper" | "windowsfilter" => true,
            "overlay2" => self.backing_filesystem.as_deref().is_none_or(|fs| fs == "xfs"),
            _ => false,
        }
    }

    /// Checks whether this engine can enforce the decided spec. The engine itself would silently drop AppArmor and
    /// SELinux options if the machine has neither. `operation` is the operation named in the error.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the first setting that it cannot enforce.
    pub fn check(&self, operation: &'static str, spec: &ContainerSpec) -> Result<()> {
        let has = |name: &str| self.security.iter().any(|feature| feature == name);
        let security = &spec.security;
        let apparmor = security.apparmor.as_deref().is_some_and(|profile| profile != "unconfined");
        let selinux = security.selinux.as_deref().is_some_and(|options| options != "disable");
        let cause = if apparmor && !has("apparmor") {
            "security.apparmor is set, but the machine of the engine does not support AppArmor".to_owned()
        } else if selinux && !has("selinux") {
            "security.selinux is set, but the engine does not use SELinux".to_owned()
        } else if security.seccomp != "unconfined" && !has("seccomp") {
            "the engine does not support seccomp, but security.seccomp is not `unconfined`".to_owned()
        } else if spec.resources.cpus > f64::from(self.cpus) {
            format!("resources.cpus is {}, but the machine of the engine has {}", spec.resources.cpus, self.cpus)
        } else {
            return Ok(());
        };
        Err(Error::Unsupported { operation, cause })
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

/// An engine's answer, and the run of the engine that gave it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    /// Its endpoint and version, the API version, and an identifier of the run; see [`Docker::run`].
    run: (String, Option<String>),
    asked: SystemTime,
    info: EngineInfo,
}

impl Remembered {
    fn holds(&self, run: &(String, Option<String>)) -> bool {
        let most = if run.1.is_some() { LONG } else { SHORT };
        // A time in the future means that the clock was set back.
        self.run == *run && self.asked.elapsed().is_ok_and(|age| age < most)
    }
}

impl Docker {
    /// Returns the capabilities of the engine and its machine, from the last answer, which is at most an hour old.
    ///
    /// # Errors
    /// The errors of [`Docker::ask_info`].
    pub async fn info(&self) -> Result<EngineInfo> {
        let run = self.run();
        let known = self.inner.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Stored for the next process only if that process can check that it is still valid.
        let file = self.memory.as_ref().filter(|_| run.1.is_some()).map(|file| file.as_path());
        let read = || serde_json::from_slice::<Remembered>(&std::fs::read(file?).ok()?).ok();
        if let Some(known) = known.or_else(read).filter(|known| known.holds(&run)) {
            *self.inner.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
            return Ok(known.info);
        }
        let info = self.ask_info().await?;
        let said = Remembered { run, asked: SystemTime::now(), info: info.clone() };
        if let Some(file) = file
            && let Err(error) = write(file, &said)
        {
            // The only consequence: the next process asks again.
            tracing::debug!("{}: {error}", file.display());
        }
        *self.inner.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        Ok(info)
    }

    /// Identifies the engine and its current run. An engine on this machine writes its process number beside its
    /// socket at start (`/run/docker.pid`), so each run has a different file. Otherwise runs cannot be told apart.
    fn run(&self) -> (String, Option<String>) {
        let http = self.http();
        let engine = format!("{} {} {}", http.endpoint, http.engine_version, http.api_version);
        let written = match &http.endpoint {
            Endpoint::Unix(socket) => std::fs::metadata(socket.with_extension("pid")).ok(),
            Endpoint::Tcp(_) => None,
        };
        (engine, written.map(|file| format!("{} {} {}.{:09}", file.dev(), file.ino(), file.mtime(), file.mtime_nsec())))
    }

    /// Asks the engine for the capabilities of itself and its machine.
    ///
    /// # Errors
    /// [`super::Error::Engine`] and the errors of a broken connection.
    pub async fn ask_info(&self) -> Result<EngineInfo> {
        let raw: Raw = self.http().json(&Call::get("query the engine", "/info")).await?;
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

/// Writes a temporary file and renames it, so that a reader never sees half of it.
fn write(file: &Path, said: &Remembered) -> std::io::Result<()> {
    let aside = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&aside, serde_json::to_vec(said)?)?;
    std::fs::rename(&aside, file)
}

/// Converts `name=seccomp,profile=default` to `seccomp`.
fn security_name(text: &str) -> Option<String> {
    text.split(',').find_map(|part| part.strip_prefix("name=")).map(str::to_owned)
}
