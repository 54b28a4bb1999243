//! What the engine and its machine can do.
//!
//! Asked for it, Docker runs two programs to tell their versions, and takes 10 ms. So what it said is remembered as long
//! as it is the same run of the same engine.

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

/// What one that cannot be told apart from its next run said is remembered for so long.
const SHORT: Duration = Duration::from_secs(60);
/// And one that can: memory and processors may change under it.
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
    /// silence where the machine has neither. `operation` is what an error says cannot be done.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the first setting that it cannot enforce.
    pub fn check(&self, operation: &'static str, spec: &ContainerSpec) -> Result<()> {
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

/// What an engine said, and which run of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    /// Its endpoint and version, the API's, and what tells its runs apart; see [`Docker::run`].
    run: (String, Option<String>),
    asked: SystemTime,
    info: EngineInfo,
}

impl Remembered {
    fn holds(&self, run: &(String, Option<String>)) -> bool {
        let most = if run.1.is_some() { LONG } else { SHORT };
        // One from the future was written before the clock was set back.
        self.run == *run && self.asked.elapsed().is_ok_and(|age| age < most)
    }
}

impl Docker {
    /// What the engine and its machine can do, as it said when it was last asked, at most an hour ago.
    ///
    /// # Errors
    /// As [`Docker::ask_info`].
    pub async fn info(&self) -> Result<EngineInfo> {
        let run = self.run();
        let known = self.inner.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Kept for the next process only where that one can tell whether it is still so.
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
            // The next process asks again, and that is all.
            tracing::debug!("{}: {error}", file.display());
        }
        *self.inner.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        Ok(info)
    }

    /// Which run of which engine this is. An engine on this machine writes the number of its process beside its socket
    /// when it starts (`/run/docker.pid`), so that file is another one in each run; elsewhere nothing tells runs apart.
    fn run(&self) -> (String, Option<String>) {
        let http = self.http();
        let engine = format!("{} {} {}", http.endpoint, http.engine_version, http.api_version);
        let written = match &http.endpoint {
            Endpoint::Unix(socket) => std::fs::metadata(socket.with_extension("pid")).ok(),
            Endpoint::Tcp(_) => None,
        };
        (engine, written.map(|file| format!("{} {} {}.{:09}", file.dev(), file.ino(), file.mtime(), file.mtime_nsec())))
    }

    /// Asks what the engine and its machine can do.
    ///
    /// # Errors
    /// [`super::Error::Engine`] and the ones of a broken connection.
    pub async fn ask_info(&self) -> Result<EngineInfo> {
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

/// Written aside and renamed, so that a reader never sees half of it.
fn write(file: &Path, said: &Remembered) -> std::io::Result<()> {
    let aside = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&aside, serde_json::to_vec(said)?)?;
    std::fs::rename(&aside, file)
}

/// `name=seccomp,profile=default` -> `seccomp`
fn security_name(text: &str) -> Option<String> {
    text.split(',').find_map(|part| part.strip_prefix("name=")).map(str::to_owned)
}
