//! The requests of `wharf up`, `wharf plan` and `wharf sidecar add`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::config::{Size, Span};
use crate::workspace::{Network, PullPolicy, Restart};

/// A size such as `512MiB`, or a number of bytes
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Size)]
#[allow(dead_code)]
pub enum SizeText {
    /// With its unit.
    Text(String),
    /// In bytes.
    Bytes(u64),
}

/// A request for a workspace; policies decide all absent fields.
///
/// It is the body of the API and also defines the flags of `wharf up`, except for fields with another notation on the
/// command line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRequest {
    /// Absolute path of the project folder, on the machine of the service.
    #[arg(skip)]
    #[serde(default)]
    #[schema(value_type = String, required = true)]
    pub project: PathBuf,
    /// Name of another workspace for the same folder.
    #[arg(skip)]
    pub name: Option<String>,
    /// The image to build; excludes `image`.
    #[arg(skip)]
    pub build: Option<ImageBuild>,
    /// Read `.devcontainer/NAME/devcontainer.json` of the project.
    #[arg(skip)]
    pub devcontainer: Option<String>,
    /// Read no `devcontainer.json`.
    #[arg(skip)]
    #[serde(default)]
    pub no_devcontainer: bool,
    /// Forget the fields of earlier requests for this workspace; without it, absent fields keep their recorded values.
    #[arg(skip)]
    #[serde(default)]
    pub fresh: bool,
    /// The image; policies may still deny it
    #[arg(help_heading = "Image", long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// When to fetch the image; only with `image`
    #[arg(help_heading = "Image", long, value_enum, value_name = "WHEN", requires = "image")]
    pub pull: Option<PullPolicy>,
    /// The command that keeps the workspace up.
    #[arg(skip)]
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment.
    #[arg(skip)]
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels.
    #[arg(skip)]
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Secret files in `/run/secrets`: name -> value.
    #[arg(skip)]
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub secrets: BTreeMap<String, SecretBytes>,
    /// Published port: `[[ADDRESS:]HOST:]PORT[/udp]`
    #[arg(help_heading = "Network and storage", short, long, value_name = "PORT")]
    #[serde(default)]
    pub publish: Vec<String>,
    /// Mount: `SOURCE:TARGET[:ro]`; a source is a path, or the name of a volume
    #[arg(help_heading = "Network and storage", long = "mount", value_name = "MOUNT")]
    #[serde(default)]
    pub mounts: Vec<String>,
    /// Memory file system: `TARGET[:SIZE]`, e.g. /tmp:64MiB
    #[arg(help_heading = "Network and storage", long, value_name = "TARGET")]
    #[serde(default)]
    pub tmpfs: Vec<String>,
    /// Process limit: `NAME=SOFT[:HARD]`, e.g. nofile=1024:4096
    #[arg(help_heading = "Limits", long = "ulimit", value_name = "LIMIT")]
    #[serde(default)]
    pub ulimits: Vec<String>,
    /// Memory limit, e.g. 4GiB
    #[arg(help_heading = "Limits", long, value_name = "SIZE")]
    #[schema(value_type = Option<SizeText>)]
    pub memory: Option<Size>,
    /// CPU quota in cores, e.g. 1.5
    #[arg(help_heading = "Limits", long, value_name = "CORES", value_parser = cores)]
    pub cpus: Option<f64>,
    /// Limit of processes and threads
    #[arg(help_heading = "Limits", long, value_name = "COUNT")]
    pub pids: Option<u32>,
    /// Size of /dev/shm, e.g. 256MiB
    #[arg(help_heading = "Limits", long, value_name = "SIZE")]
    #[schema(value_type = Option<SizeText>)]
    pub shm_size: Option<Size>,
    /// Size of the writable layer, e.g. 10GiB, where the engine's storage can limit it
    #[arg(help_heading = "Limits", long, value_name = "SIZE")]
    #[schema(value_type = Option<SizeText>)]
    pub disk: Option<Size>,
    /// The network
    #[arg(help_heading = "Network and storage", long, value_enum, value_name = "KIND")]
    pub network: Option<Network>,
    /// When the engine restarts it: no, `on-failure[:TIMES]`, always, unless-stopped
    #[arg(help_heading = "Health and end", long, value_name = "POLICY", value_parser = restart)]
    pub restart: Option<String>,
    /// Time to live: Wharf stops it this long after its start, e.g. 8h
    #[arg(help_heading = "Health and end", long, value_name = "TIME")]
    #[schema(value_type = Option<String>)]
    pub ttl: Option<Span>,
    /// User or uid:gid
    #[arg(help_heading = "Environment", short, long)]
    pub user: Option<String>,
    /// Health check.
    #[command(flatten)]
    pub health: Option<HealthRequest>,
}

/// Checks the flag's value, and returns it in the engine's notation.
pub(crate) fn restart(text: &str) -> Result<String, String> {
    text.parse::<Restart>().map(|policy| policy.to_string())
}

/// Parses a number of cores.
pub(crate) fn cores(text: &str) -> Result<f64, String> {
    let cores: f64 = text.parse().map_err(|_| "is not a number of cores such as 1.5".to_owned())?;
    match cores.is_finite() {
        true => Ok(cores),
        false => Err("is not a number of cores from 0.01 up".to_owned()),
    }
}

impl WorkspaceRequest {
    /// Returns the fields that name places on the machine of the caller. A service on another machine cannot use a
    /// relative path.
    pub fn places(&mut self) -> impl Iterator<Item = Place<'_>> {
        let project = (!self.project.as_os_str().is_empty()).then_some(Place::Project(&mut self.project));
        let build = self.build.as_mut().map(|build| Place::Build(&mut build.context));
        let relative = |mount: &&mut String| mount.starts_with('.') && mount.contains(':');
        project.into_iter().chain(build).chain(self.mounts.iter_mut().filter(relative).map(Place::Mount))
    }
}

/// A place on the machine of the caller that a request names.
#[derive(Debug)]
pub enum Place<'a> {
    /// The project folder.
    Project(&'a mut PathBuf),
    /// The folder to build from.
    Build(&'a mut PathBuf),
    /// A mount whose source is relative.
    Mount(&'a mut String),
}

/// A request for a sidecar: that of a workspace without `project`, `name`, `build`, `devcontainer` and
/// `no_devcontainer` and `fresh`. A sidecar inherits these from its workspace, or has none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SidecarRequest(pub WorkspaceRequest);

/// The fields that only a workspace has.
const OF_WORKSPACE: [&str; 6] = ["project", "name", "build", "devcontainer", "no_devcontainer", "fresh"];

impl SidecarRequest {
    /// Converts a request, unless it has a field that only a workspace has.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn of(request: WorkspaceRequest) -> Result<Self, String> {
        let WorkspaceRequest { project, name, build, devcontainer, no_devcontainer, fresh, .. } = &request;
        let given = [
            !project.as_os_str().is_empty(),
            name.is_some(),
            build.is_some(),
            devcontainer.is_some(),
            *no_devcontainer,
            *fresh,
        ];
        match OF_WORKSPACE.iter().zip(given).find(|(_, given)| *given) {
            Some((field, _)) => Err(format!("unknown field `{field}`: only workspaces have it, not sidecars")),
            None => Ok(Self(request)),
        }
    }
}

impl Serialize for SidecarRequest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = serde_json::to_value(&self.0).map_err(serde::ser::Error::custom)?;
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|field, _| !OF_WORKSPACE.contains(&field.as_str()));
        }
        fields.serialize(to)
    }
}

impl<'de> Deserialize<'de> for SidecarRequest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::of(WorkspaceRequest::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for SidecarRequest {
    fn schema() -> RefOr<Schema> {
        let mut schema = WorkspaceRequest::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.properties.retain(|field, _| !OF_WORKSPACE.contains(&field.as_str()));
            object.required.retain(|field| !OF_WORKSPACE.contains(&field.as_str()));
            object.description = Some("A request for a sidecar; the image is required".to_owned());
        }
        schema
    }
}

impl ToSchema for SidecarRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        WorkspaceRequest::schemas(schemas);
    }
}

/// An image to build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageBuild {
    /// Absolute path of the folder.
    #[schema(value_type = String)]
    pub context: PathBuf,
    /// The Dockerfile's path in it; default `Dockerfile`.
    pub dockerfile: Option<String>,
    /// Build arguments.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// The stage; default the last one.
    pub target: Option<String>,
    /// Whether to build every step again.
    #[serde(default)]
    pub no_cache: bool,
    /// Whether to fetch newer base images.
    #[serde(default)]
    pub pull: bool,
    /// Files for `RUN --mount=type=secret`: id -> value. They are in no record and not in the image; another value
    /// does not rebuild a step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub secrets: BTreeMap<String, SecretBytes>,
}

/// A health check; an absent field has the value of the configuration, or Docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct HealthRequest {
    /// Health check: a line for sh in the workspace
    #[arg(help_heading = "Health and end", id = "health_cmd", long = "health-cmd", value_name = "LINE")]
    pub command: Option<String>,
    /// Time between two health checks, e.g. 10s
    #[arg(help_heading = "Health and end", id = "health_interval", long = "health-interval", value_name = "TIME")]
    #[schema(value_type = Option<String>)]
    pub interval: Option<Span>,
    /// Time limit of a health check; beyond it the check has failed
    #[arg(help_heading = "Health and end", id = "health_timeout", long = "health-timeout", value_name = "TIME")]
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Span>,
    /// Time after the start during which failures do not count
    #[arg(
        help_heading = "Health and end",
        id = "health_start_period",
        long = "health-start-period",
        value_name = "TIME"
    )]
    #[schema(value_type = Option<String>)]
    pub start_period: Option<Span>,
    /// Number of failures in a row that make it unhealthy
    #[arg(help_heading = "Health and end", id = "health_retries", long = "health-retries", value_name = "COUNT")]
    pub retries: Option<u32>,
}

/// The value of a secret: no text shows it. In JSON it is a text, so only UTF-8 can be sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(pub Vec<u8>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(&self.0);
        to.serialize_str(text.map_err(|_| serde::ser::Error::custom("a secret is not plain UTF-8 text"))?)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(from)?.into_bytes()))
    }
}
