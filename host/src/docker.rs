//! The Docker engine client: every engine operation that Wharf needs, in Wharf's own types.
//!
//! [`Docker`] is a concrete struct. No bollard or hyper type leaves this module. Every call names the API version
//! that was negotiated on connect, reuses a connection and has a time limit. Only streams (exec, logs, stats, pulls)
//! and [`Docker::wait`] run without a limit. Dropping a future or a stream cancels it.
//!
//! Layout: `connect` finds the endpoint; `http` carries calls and streams; `hijack` switches a connection to raw
//! bytes and splits it into frames; `spec_map` translates a `ContainerSpec` to the engine's create body and back;
//! every other file covers one kind of object.
//!
//! Fault injection: the tests use a scripted fake daemon on a Unix socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::workspace::Container;

mod archive;
mod build;
mod commit;
mod connect;
mod containers;
mod disk_usage;
mod early_exit;
mod error;
mod events;
mod exec;
mod hijack;
mod http;
mod images;
mod info;
mod logs;
mod mount_check;
mod network;
mod reference;
mod registry_auth;
mod sessions;
mod single_flight;
mod spec_map;
mod stats;
mod volumes;

pub use archive::{Archive, PathKind};
pub use build::{BuildRequest, BuildSecrets};
pub use commit::CommitRequest;
pub use connect::socket;
pub use containers::{CreateRequest, Created, Effect};
pub use disk_usage::{ContainerUsage, DiskUsage, ImageUsage, VolumeUsage};
pub use error::{Error, Result, failures};
pub use events::{Event, EventItem, EventOptions, EventStream};
pub use exec::{ExecCollected, ExecControl, ExecEnd, ExecOutput, ExecRequest, ExecSession, ExecStdin};
pub use hijack::StdStream;
pub use images::{ImageInfo, LocalImage, PullProgress, given_names};
pub use info::EngineInfo;
pub use logs::{LogLine, LogOptions, LogSource, LogStream};
pub use mount_check::Mounted;
pub use network::{NetworkId, Reach};
pub use reference::is_image_name;
pub use spec_map::{Difference, LABEL_NETWORK, LABEL_SECCOMP, differences};
pub use stats::{LocalReading, LocalStats, Stats, StatsStream};
pub use volumes::Volume;

/// A connection to an engine, on behalf of one Wharf installation. Cloning is cheap and shares the connections.
#[derive(Debug, Clone)]
pub struct Docker {
    inner: Arc<Inner>,
    /// Whether to read the files of an engine on this machine directly, where that is possible.
    local_files: bool,
    /// File that caches the engine's description of itself, see [`Docker::info`].
    memory: Option<Arc<PathBuf>>,
}

#[derive(Debug)]
struct Inner {
    http: http::Http,
    /// Value of the label [`crate::workspace::LABEL_HOST`] on every object of this installation.
    host_id: String,
    /// The engine's cached description of itself.
    info: Mutex<Option<info::Remembered>>,
    /// The list of all containers of this installation.
    ours: single_flight::SingleFlight<Arc<Vec<Container>>>,
}

impl Docker {
    /// Connects to the engine and negotiates the API version with one ping.
    ///
    /// The endpoint is the first of these that is set: the argument, `DOCKER_HOST`, the current Docker context
    /// (`DOCKER_CONTEXT`, or the context chosen with `docker context use`), `unix:///var/run/docker.sock`. `host_id`
    /// identifies this installation: networks with a different host id are never touched.
    ///
    /// # Errors
    /// [`Error::UnsupportedEndpoint`] for ssh, TLS and unknown contexts, [`Error::Unreachable`] (after 5 s at most)
    /// and [`Error::TooOld`].
    pub async fn connect(endpoint: Option<&str>, host_id: &str) -> Result<Self> {
        let http = http::Http::connect(connect::Endpoint::find(endpoint)?).await?;
        let inner = Inner {
            http,
            host_id: host_id.to_owned(),
            info: Mutex::default(),
            ours: single_flight::SingleFlight::default(),
        };
        Ok(Self { inner: Arc::new(inner), local_files: true, memory: None })
    }

    /// Chooses whether logs and statistics are read from the files of an engine on this machine, where possible. The
    /// results are the same. Without it, Wharf requests everything from the engine.
    #[must_use]
    pub fn with_local_files(mut self, local_files: bool) -> Self {
        self.local_files = local_files;
        self
    }

    /// Names a file that caches the engine's description of itself between processes. Other users must not have
    /// access to its folder.
    #[must_use]
    pub fn with_memory(mut self, file: PathBuf) -> Self {
        self.memory = Some(Arc::new(file));
        self
    }

    /// Returns the engine's endpoint, e.g. `unix:///var/run/docker.sock`.
    pub fn endpoint(&self) -> String {
        self.http().endpoint.to_string()
    }

    /// Returns whether the engine runs on this machine and shares its file system.
    pub fn is_local(&self) -> bool {
        matches!(self.http().endpoint, connect::Endpoint::Unix(_))
    }

    /// Returns the API version that every call names, e.g. `1.41`: the engine's version, or the newest that Wharf
    /// knows.
    pub fn api_version(&self) -> &str {
        &self.http().api_version
    }

    /// Returns the engine's version, e.g. `20.10.24+dfsg1`. It is empty if the engine does not send it in the ping's
    /// headers.
    pub fn engine_version(&self) -> &str {
        &self.http().engine_version
    }

    /// Checks that the engine accepts a new connection and answers. An engine that is shutting down does not.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn check_new_connection(&self) -> Result<()> {
        self.http().check().await
    }

    fn http(&self) -> &http::Http {
        &self.inner.http
    }
}

#[cfg(test)]
mod tests;
