//! A request for a workspace as JSON: the fields of `wharf up`, in their words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::error::Problem;
use crate::config::{HealthCheckConfig, Loaded, Size, Span};
use crate::hooks::Adjustment;
use crate::lifecycle::{
    DevcontainerChoice, HealthRequest, ImageBuild, SecretBytes, WorkspaceRequest, parse_mount, parse_port,
    parse_restart, parse_tmpfs, parse_ulimit,
};
use crate::workspace::{Network, PullPolicy};

/// A size such as `512MiB`, or a number of bytes
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
pub(in crate::api) enum SizeBody {
    Text(String),
    Bytes(u64),
}

/// The bodies that ask for a container: of a workspace, and of a sidecar, which has the project and the name of its workspace.
macro_rules! bodies {
    ($($(#[$meta:meta])* $field:ident: $kind:ty,)*) => {
        /// What is asked for; everything else is decided.
        #[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct WorkspaceBody {
            /// Absolute path of the project folder, on the machine of the service.
            project: String,
            /// Another workspace for the same folder.
            name: Option<String>,
            /// Builds the image; then none is named.
            build: Option<BuildBody>,
            /// Reads `.devcontainer/NAME/devcontainer.json` of the project.
            devcontainer: Option<String>,
            /// Reads no `devcontainer.json`.
            #[serde(default)]
            no_devcontainer: bool,
            $($(#[$meta])* $field: $kind,)*
        }

        /// What is asked for; everything else is decided. A sidecar needs an image.
        #[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct SidecarBody {
            $($(#[$meta])* $field: $kind,)*
        }

        impl SidecarBody {
            /// For the project of its workspace.
            pub(super) fn request(self) -> Result<WorkspaceRequest, Problem> {
                let body = WorkspaceBody { $($field: self.$field,)* ..WorkspaceBody::default() };
                body.asks(PathBuf::new(), None)
            }
        }
    };
}

bodies! {
    /// The image; policies may still deny it.
    image: Option<String>,
    /// When the image is fetched; only with `image`.
    pull: Option<PullPolicy>,
    /// The command that keeps the workspace up.
    #[serde(default)]
    command: Vec<String>,
    /// Environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Secret files in `/run/secrets`: name -> value.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// Published ports: `[[ADDRESS:]HOST:]PORT[/udp]`.
    #[serde(default)]
    publish: Vec<String>,
    /// Mounts: `SOURCE:TARGET[:ro]`; a source is an absolute path or the name of a volume.
    #[serde(default)]
    mounts: Vec<String>,
    /// Memory file systems: `TARGET[:SIZE]`.
    #[serde(default)]
    tmpfs: Vec<String>,
    /// Process limits: `NAME=SOFT[:HARD]`.
    #[serde(default)]
    ulimits: Vec<String>,
    /// Memory limit.
    #[schema(value_type = Option<SizeBody>)]
    memory: Option<Size>,
    /// CPU quota in cores.
    cpus: Option<f64>,
    /// Most processes and threads at once.
    pids: Option<u32>,
    /// Size of `/dev/shm`.
    #[schema(value_type = Option<SizeBody>)]
    shm_size: Option<Size>,
    /// Size of the writable layer.
    #[schema(value_type = Option<SizeBody>)]
    disk: Option<Size>,
    /// What it is connected to.
    network: Option<Network>,
    /// `no`, `on-failure[:TIMES]`, `always` or `unless-stopped`.
    restart: Option<String>,
    /// It is stopped so long after its start, e.g. `8h`.
    #[schema(value_type = Option<String>)]
    ttl: Option<Span>,
    /// User or `uid:gid`.
    user: Option<String>,
    /// Health check.
    health: Option<HealthBody>,
}

/// What an image is built from.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BuildBody {
    /// Absolute path of the folder.
    context: String,
    /// The Dockerfile's path in it; `Dockerfile`.
    dockerfile: Option<String>,
    /// Build arguments.
    #[serde(default)]
    args: BTreeMap<String, String>,
    /// The stage; the last one.
    target: Option<String>,
    /// Builds every step anew.
    #[serde(default)]
    no_cache: bool,
    /// Fetches newer base images.
    #[serde(default)]
    pull: bool,
}

impl BuildBody {
    pub(super) fn build(self) -> Result<ImageBuild, Problem> {
        let context = absolute("build.context", &self.context)?;
        let Self { dockerfile, args, target, no_cache, pull, .. } = self;
        Ok(ImageBuild { context, dockerfile, args, target, no_cache, pull })
    }
}

/// A health check; what is left out is as the configuration says, or Docker's default.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthBody {
    /// A line for sh in the workspace.
    command: Option<String>,
    /// Time between two checks, e.g. `10s`.
    #[schema(value_type = Option<String>)]
    interval: Option<Span>,
    /// A check that takes longer has failed.
    #[schema(value_type = Option<String>)]
    timeout: Option<Span>,
    /// Failures during this time after the start do not count.
    #[schema(value_type = Option<String>)]
    start_period: Option<Span>,
    /// This many failures in a row make it unhealthy.
    retries: Option<u32>,
}

/// A folder means nothing to a service but by its whole path.
pub(super) fn absolute(key: &str, path: &str) -> Result<PathBuf, Problem> {
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(Problem::request(format!("{key} is not an absolute path"))) }
}

impl WorkspaceBody {
    /// Whether the answer could tell what is at a path of the host, or which volumes there are. The project of a workspace
    /// that exists is its own.
    pub(super) fn names_paths(&self) -> bool {
        self.build.is_some() || !self.mounts.is_empty()
    }

    pub(super) fn request(self, loaded: &Loaded) -> Result<WorkspaceRequest, Problem> {
        let project = absolute("project", &self.project)?;
        self.asks(project, loaded.config.workspace.health_check.as_ref())
    }

    fn asks(self, project: PathBuf, check: Option<&HealthCheckConfig>) -> Result<WorkspaceRequest, Problem> {
        let wrong = |key: &'static str| move |error: String| Problem::request(format!("{key}: {error}"));
        let mut fields = Vec::new();
        type Parser = fn(&str) -> Result<Adjustment, String>;
        let parsers: [(&'static str, Vec<String>, Parser); 4] = [
            ("publish", self.publish, parse_port),
            ("mounts", self.mounts, parse_mount),
            ("tmpfs", self.tmpfs, parse_tmpfs),
            ("ulimits", self.ulimits, parse_ulimit),
        ];
        for (key, texts, parse) in parsers {
            for text in texts {
                fields.push((parse(&text).map_err(wrong(key))?, format!("{key} = {text}")));
            }
        }
        fields.extend(self.memory.map(|size| (Adjustment::Memory(size.0), format!("memory = {size}"))));
        fields.extend(self.cpus.map(|cpus| (Adjustment::Cpus(cpus), format!("cpus = {cpus}"))));
        fields.extend(self.pids.map(|pids| (Adjustment::Pids(pids), format!("pids = {pids}"))));
        fields.extend(self.shm_size.map(|size| (Adjustment::ShmSize(Some(size.0)), format!("shm_size = {size}"))));
        fields.extend(self.disk.map(|size| (Adjustment::Disk(Some(size.0)), format!("disk = {size}"))));
        if let Some(text) = &self.restart {
            let restart = parse_restart(text).map_err(wrong("restart"))?;
            fields.push((Adjustment::Restart(restart), "restart".to_owned()));
        }
        fields.extend(self.network.map(|network| (Adjustment::Network(network), "network".to_owned())));
        fields.extend(self.user.map(|user| (Adjustment::User(Some(user.clone())), format!("user = {user}"))));
        if let Some(ttl) = self.ttl {
            let ms = u64::try_from(ttl.0.as_millis()).unwrap_or(u64::MAX);
            fields.push((Adjustment::TimeToLiveMs(Some(ms)), format!("ttl = {ttl}")));
        }
        if let Some(HealthBody { command, interval, timeout, start_period, retries }) = self.health {
            let health = HealthRequest { line: command, interval, timeout, start_period, retries };
            let field = health.field(check);
            fields.extend(field.map_err(wrong("health"))?.map(|(edit, _)| (edit, "health".to_owned())));
        }
        if self.image.is_some() && self.build.is_some() {
            return Err(Problem::request("name 'image' or 'build', not both"));
        }
        if self.pull.is_some() && self.image.is_none() {
            return Err(Problem::request("'pull' goes with 'image'"));
        }
        let devcontainer = match (self.devcontainer, self.no_devcontainer) {
            (Some(_), true) => return Err(Problem::request("name 'devcontainer' or 'no_devcontainer', not both")),
            (Some(name), false) => DevcontainerChoice::Named(name),
            (None, true) => DevcontainerChoice::Off,
            (None, false) => DevcontainerChoice::Usual,
        };
        let secrets = self.secrets.into_iter().map(|(name, value)| (name, SecretBytes(value.into_bytes())));
        Ok(WorkspaceRequest {
            project,
            name: self.name,
            image: self.image,
            build: self.build.map(BuildBody::build).transpose()?,
            pull: self.pull,
            command: self.command,
            env: self.env,
            labels: self.labels,
            secrets: secrets.collect(),
            devcontainer,
            fields,
        })
    }
}
