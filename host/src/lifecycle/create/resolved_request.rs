//! A request with its fields as typed adjustments. Only this file converts a [`WorkspaceRequest`] into them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{HealthCheckConfig, Loaded};
use crate::hooks::Adjustment;
use crate::hooks::redact::REDACTED;
use crate::lifecycle::Error;
use crate::lifecycle::create::fields::{parse_mount, parse_port, parse_tmpfs, parse_ulimit};
use crate::lifecycle::create::images::{check_context, reference};
use crate::lifecycle::create::project::Project;
use crate::wire::{HealthRequest, ImageBuild, SecretBytes, UpdateRequest, WorkspaceRequest};
use crate::workspace::{PullPolicy, Restart};

/// An adjustment, and the flag that requests it, e.g. `--memory 4GiB`.
pub(in crate::lifecycle) type Field = (Adjustment, String);

/// The choice of a project's `devcontainer.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DevcontainerChoice {
    /// `.devcontainer/devcontainer.json`, else `.devcontainer.json`, else none.
    #[default]
    Usual,
    /// `.devcontainer/<name>/devcontainer.json`
    Named(String),
    /// None.
    Off,
}

/// A request for a workspace, checked in itself.
#[derive(Debug, Clone, Default)]
pub(in crate::lifecycle) struct ResolvedRequest {
    /// The project folder, as it was given.
    pub project: PathBuf,
    pub name: Option<String>,
    pub image: Option<String>,
    pub build: Option<ImageBuild>,
    pub pull: Option<PullPolicy>,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretBytes>,
    pub devcontainer: DevcontainerChoice,
    /// Whether an existing workspace is compared with this request alone, not with its recorded request below it.
    pub fresh: bool,
    /// All other fields.
    pub fields: Vec<Field>,
}

impl ResolvedRequest {
    /// Converts the fields of a request; its health check changes a part of the configured one.
    ///
    /// # Errors
    /// [`Error::Request`] with the invalid flag.
    pub(in crate::lifecycle) fn of(
        request: &WorkspaceRequest,
        configured: Option<&HealthCheckConfig>,
    ) -> Result<Self, Error> {
        let request = request.clone();
        if request.image.is_some() && request.build.is_some() {
            return Err(Error::Request("name an image or a build, not both".into()));
        }
        if request.pull.is_some() && request.image.is_none() {
            return Err(Error::Request("'pull' needs an image".into()));
        }
        let devcontainer = match (request.devcontainer, request.no_devcontainer) {
            (Some(_), true) => {
                return Err(Error::Request("name a devcontainer.json or exclude it, not both".into()));
            }
            (Some(name), false) => DevcontainerChoice::Named(name),
            (None, true) => DevcontainerChoice::Off,
            (None, false) => DevcontainerChoice::Usual,
        };
        let mut fields = Vec::new();
        let lists = [
            ("--publish", request.publish, parse_port as fn(&str) -> Result<Adjustment, String>),
            ("--mount", request.mounts, parse_mount),
            ("--tmpfs", request.tmpfs, parse_tmpfs),
            ("--ulimit", request.ulimits, parse_ulimit),
        ];
        for (flag, texts, parse) in lists {
            for text in texts {
                let edit = parse(&text).map_err(|error| Error::Request(format!("{flag}: {error}")))?;
                fields.push((edit, format!("{flag} {text}")));
            }
        }
        let limits =
            UpdateRequest { memory: request.memory, cpus: request.cpus, pids: request.pids, restart: request.restart };
        fields.extend(self::limits(&limits)?);
        fields.extend(request.shm_size.map(|size| (Adjustment::ShmSize(Some(size.0)), format!("--shm-size {size}"))));
        fields.extend(request.disk.map(|size| (Adjustment::Disk(Some(size.0)), format!("--disk {size}"))));
        fields.extend(request.network.map(|network| (Adjustment::Network(network), "--network".to_owned())));
        fields.extend(request.user.map(|user| (Adjustment::User(Some(user.clone())), format!("--user {user}"))));
        if let Some(ttl) = request.ttl {
            let ms = u64::try_from(ttl.0.as_millis()).unwrap_or(u64::MAX);
            fields.push((Adjustment::TimeToLiveMs(Some(ms)), format!("--ttl {ttl}")));
        }
        if let Some(health) = request.health {
            fields.extend(health_check(health, configured)?);
        }
        Ok(Self {
            project: request.project,
            name: request.name,
            image: request.image,
            build: request.build,
            pull: request.pull,
            command: request.command,
            env: request.env,
            labels: request.labels,
            secrets: request.secrets,
            devcontainer,
            fresh: request.fresh,
            fields,
        })
    }

    /// Returns the first field whose value is not known, because the record of an earlier request has stars for a secret.
    pub(in crate::lifecycle) fn missing_secret(&self) -> Option<String> {
        let stars = |value: &String| value.contains(REDACTED);
        let env = self.env.iter().find(|(_, value)| stars(value)).map(|(name, _)| format!("env.{name}"));
        let label = || self.labels.iter().find(|(_, value)| stars(value)).map(|(name, _)| format!("labels.{name}"));
        let command = || self.command.iter().any(stars).then(|| "command".to_owned());
        let field = || {
            let mut edits = self.fields.iter().map(|(edit, _)| edit);
            edits.find(|edit| edit.value().to_string().contains(REDACTED)).map(Adjustment::field)
        };
        env.or_else(label).or_else(command).or_else(field)
    }

    /// Names the image that will be built, so that policies can decide about it before the build.
    pub(in crate::lifecycle) async fn with_build(
        mut self,
        project: &Project,
        loaded: &Loaded,
        state_dir: &Path,
    ) -> Result<Self, Error> {
        if let Some(build) = self.build.clone() {
            let build = check_context(&build, &project.path, loaded, state_dir)?;
            self.build = Some(build.clone());
            let id = project.id.clone();
            let named = tokio::task::spawn_blocking(move || reference(&build, &id)).await;
            self.image = Some(named.map_err(|error| Error::Internal(error.to_string()))??);
            self.pull = Some(PullPolicy::Never);
        }
        Ok(self)
    }
}

/// Returns the limits that a request names.
///
/// # Errors
/// [`Error::Request`] for an invalid restart policy.
pub(in crate::lifecycle) fn limits(request: &UpdateRequest) -> Result<Vec<Field>, Error> {
    let UpdateRequest { memory, cpus, pids, restart } = request;
    let mut fields = Vec::new();
    fields.extend(memory.map(|memory| (Adjustment::Memory(memory.0), format!("--memory {memory}"))));
    fields.extend(cpus.map(|cpus| (Adjustment::Cpus(cpus), format!("--cpus {cpus}"))));
    fields.extend(pids.map(|pids| (Adjustment::Pids(pids), format!("--pids {pids}"))));
    if let Some(text) = restart {
        let policy: Restart = text.parse().map_err(|error| Error::Request(format!("--restart: {error}")))?;
        fields.push((Adjustment::Restart(policy), "--restart".to_owned()));
    }
    Ok(fields)
}

/// Returns the changed configured check; `None` when the request changes nothing.
///
/// # Errors
/// [`Error::Request`] when there is no check to change.
fn health_check(request: HealthRequest, configured: Option<&HealthCheckConfig>) -> Result<Option<Field>, Error> {
    if request == HealthRequest::default() {
        return Ok(None);
    }
    let HealthRequest { command, interval, timeout, start_period, retries } = request;
    let (mut check, flag) = match (command, configured.cloned()) {
        (Some(line), configured) => {
            let command = ["sh".to_owned(), "-c".to_owned(), line].into();
            let check = configured.unwrap_or_else(|| HealthCheckConfig::new(Vec::new()));
            (HealthCheckConfig { command, ..check }, "--health-cmd")
        }
        (None, Some(check)) => (check, "--health-interval and the like"),
        (None, None) => {
            let text = "the --health flags need --health-cmd, or a health check in the configuration";
            return Err(Error::Request(text.into()));
        }
    };
    check.interval = interval.unwrap_or(check.interval);
    check.timeout = timeout.unwrap_or(check.timeout);
    check.start_period = start_period.unwrap_or(check.start_period);
    check.retries = retries.unwrap_or(check.retries);
    Ok(Some((Adjustment::HealthCheck(Some(check.spec())), flag.to_owned())))
}
