//! Engine errors: one variant per kind, each with a remedy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod cause;
type Source = Box<dyn std::error::Error + Send + Sync>;

/// Result of every function in this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of the engine, or on the way to it. The text names the attempted operation, its object and the cause.
/// [`Error::remedy`] gives the remedy, and [`Error::code`] is for programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server at the endpoint speaks the engine's API.
    #[error("cannot reach the Docker engine at {endpoint}: {cause}")]
    Unreachable {
        /// The endpoint that was tried.
        endpoint: String,
        /// The cause, in a few words.
        cause: String,
        /// The remedy.
        remedy: String,
        /// The system's error, if any.
        source: Option<Source>,
    },
    /// The endpoint has a kind that Wharf cannot use (ssh, TLS), or cannot be parsed.
    #[error("cannot use the Docker endpoint '{endpoint}': {cause}")]
    UnsupportedEndpoint {
        /// The endpoint as it was given.
        endpoint: String,
        /// The cause.
        cause: String,
        /// The remedy.
        remedy: String,
    },
    /// The engine's API is older than the oldest version that Wharf knows.
    #[error("the Docker engine at {endpoint} is too old: its API is {found}, Wharf needs {needed} or newer")]
    TooOld {
        /// The engine's endpoint.
        endpoint: String,
        /// API version of the engine.
        found: String,
        /// Lowest API version that works.
        needed: String,
    },
    /// The engine no longer serves any API version that Wharf knows.
    #[error("the Docker engine is too new for this Wharf: {cause}")]
    TooNew {
        /// The engine's words, cleaned: the version of the request, and the lowest that it serves.
        cause: String,
    },
    /// There is no such object.
    #[error("there is no {what} '{name}'")]
    NotFound {
        /// `container`, `network`, ...
        what: &'static str,
        /// The requested name or id.
        name: String,
    },
    /// Another container has the name.
    #[error("the container name '{name}' is already in use")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// An object with that name exists, but Wharf did not create it, so it is not touched.
    #[error("the {what} '{name}' exists, but this Wharf did not create it")]
    NotOurs {
        /// Kind of object.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The engine does not have the image.
    #[error("the engine does not have the image '{reference}'")]
    ImageMissing {
        /// The image.
        reference: String,
    },
    /// An image could not be pulled.
    #[error("cannot pull '{reference}'{}: {cause}", chosen.as_ref().map_or(String::new(), |chosen| format!(", chosen by {chosen}")))]
    PullFailed {
        /// The image.
        reference: String,
        /// The place that chose it and the reason, if the user did not name it.
        chosen: Option<String>,
        /// The engine's words, cleaned.
        cause: String,
    },
    /// An image could not be built.
    #[error("cannot build '{reference}': {cause}")]
    BuildFailed {
        /// The name intended for the image.
        reference: String,
        /// The builder's words, cleaned.
        cause: String,
    },
    /// The command does not exist in the container.
    #[error("cannot start: the command was not found in the container ({cause})")]
    CommandNotFound {
        /// The engine's words, cleaned.
        cause: String,
    },
    /// The command exists, but cannot be executed.
    #[error("cannot start: the command cannot be executed ({cause})")]
    CommandNotExecutable {
        /// The engine's words, cleaned.
        cause: String,
    },
    /// A port to publish is already in use on the host.
    #[error("cannot start: a port is in use on the host ({cause})")]
    PortInUse {
        /// The engine's words, cleaned.
        cause: String,
    },
    /// The container, or the command in it, did not start for another reason.
    #[error("cannot start: {cause}")]
    StartFailed {
        /// The engine's words, cleaned.
        cause: String,
    },
    /// The host path of a bind mount does not exist.
    #[error("cannot {operation}: the folder to mount does not exist: '{path}'")]
    MountSourceMissing {
        /// The attempted operation.
        operation: &'static str,
        /// The host path.
        path: String,
    },
    /// The engine, its storage driver or the kernel cannot fulfil the request.
    #[error("cannot {operation}: {cause}")]
    Unsupported {
        /// The attempted operation.
        operation: &'static str,
        /// The unsupported feature.
        cause: String,
    },
    /// The object's state does not allow the operation, or another client is changing it.
    #[error("cannot {operation}: {cause}")]
    Conflict {
        /// The attempted operation.
        operation: &'static str,
        /// The engine's words, cleaned.
        cause: String,
    },
    /// The operation needs a running container.
    #[error("cannot {operation}: container '{name}' is not running")]
    NotRunning {
        /// The attempted operation.
        operation: &'static str,
        /// Name or id of the container.
        name: String,
    },
    /// The engine rejects the request as invalid.
    #[error("cannot {operation}: rejected by the engine: {cause}")]
    BadRequest {
        /// The attempted operation.
        operation: &'static str,
        /// The engine's words, cleaned.
        cause: String,
    },
    /// The engine did not answer in time.
    #[error("cannot {operation}: no answer from the engine within {} s", after.as_secs_f32())]
    Timeout {
        /// The attempted operation.
        operation: &'static str,
        /// The time waited.
        after: Duration,
    },
    /// The engine failed.
    #[error("cannot {operation}: the engine failed ({status}): {message}")]
    Engine {
        /// The attempted operation.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// The engine's words, cleaned.
        message: String,
    },
    /// The connection broke during a request or a stream.
    #[error("cannot {operation}: the connection to the engine failed: {source}")]
    Stream {
        /// The attempted operation.
        operation: &'static str,
        /// The system's error.
        source: Source,
    },
    /// The answer violates the engine's API.
    #[error("cannot {operation}: unexpected response from the engine: {cause}")]
    Protocol {
        /// The attempted operation.
        operation: &'static str,
        /// The defect in the answer.
        cause: String,
    },
}

impl Error {
    /// Returns a stable identifier for programs, e.g. `engine-unreachable`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "engine-unreachable",
            Self::UnsupportedEndpoint { .. } => "endpoint-unsupported",
            Self::TooOld { .. } => "engine-too-old",
            Self::TooNew { .. } => "engine-too-new",
            Self::NotFound { .. } => "not-found",
            Self::NameTaken { .. } => "name-taken",
            Self::NotOurs { .. } => "not-ours",
            Self::ImageMissing { .. } => "image-missing",
            Self::PullFailed { .. } => "pull-failed",
            Self::BuildFailed { .. } => "build-failed",
            Self::CommandNotFound { .. } => "command-not-found",
            Self::CommandNotExecutable { .. } => "command-not-executable",
            Self::PortInUse { .. } => "port-in-use",
            Self::StartFailed { .. } => "start-failed",
            Self::MountSourceMissing { .. } => "mount-source-missing",
            Self::Unsupported { .. } => "unsupported",
            Self::Conflict { .. } => "conflict",
            Self::NotRunning { .. } => "not-running",
            Self::BadRequest { .. } => "bad-request",
            Self::Timeout { .. } => "engine-timeout",
            Self::Engine { .. } => "engine-failed",
            Self::Stream { .. } => "engine-connection-lost",
            Self::Protocol { .. } => "engine-protocol",
        }
    }

    /// Returns the exit code that shells use for a command that could not be started, for programs that pass it on.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::CommandNotFound { .. } => Some(127),
            Self::CommandNotExecutable { .. } => Some(126),
            _ => None,
        }
    }

    /// Returns the remedy for the user, in one line.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable { remedy, .. } | Self::UnsupportedEndpoint { remedy, .. } => remedy.clone(),
            Self::TooOld { .. } => "upgrade the engine to Docker 20.10 or newer".to_owned(),
            Self::TooNew { .. } => "install a newer Wharf".to_owned(),
            Self::NotFound { what, .. } => match *what {
                "container" => "see `wharf ls` for all workspaces, or create it with `wharf up`".to_owned(),
                _ => format!("check the name of the {what}"),
            },
            Self::NameTaken { name } => {
                format!(
                    "use another name, or find its owner with `docker inspect {name}`; it may belong to another Wharf"
                )
            }
            Self::NotOurs { what, name } => {
                format!("rename or remove the {what} '{name}', or configure another name; Wharf does not touch it")
            }
            Self::ImageMissing { reference } => {
                format!("pull it with `docker pull {reference}`, or choose a pull policy that pulls it")
            }
            Self::BuildFailed { .. } => {
                "correct the Dockerfile or its context; `wharf image build` shows each step".to_owned()
            }
            Self::PullFailed { .. } => {
                "check the spelling, the network of the engine, and `docker login` for private registries; offline, name \
                 an image of `wharf image ls` or `docker image ls` with --image, or as workspace.image in wharf.toml"
                    .to_owned()
            }
            Self::CommandNotFound { .. } => "choose a command that the image contains, or another image".to_owned(),
            Self::CommandNotExecutable { .. } => {
                "make the file executable (chmod +x), or run it through its interpreter".to_owned()
            }
            Self::PortInUse { .. } => {
                "stop the process that uses the port, publish another port, or let the engine choose one".to_owned()
            }
            Self::StartFailed { .. } => {
                "see the cause; `docker inspect` and the log of the engine have details".to_owned()
            }
            Self::MountSourceMissing { path, .. } => {
                format!("create '{path}' on the machine of the engine, or change the mount")
            }
            Self::Unsupported { .. } => "remove this setting, or use an engine that supports it".to_owned(),
            Self::Conflict { .. } => "wait until the other operation has finished, then try again".to_owned(),
            Self::NotRunning { .. } => "start it first, e.g. with `wharf up`".to_owned(),
            Self::BadRequest { .. } => "correct the setting that the message names".to_owned(),
            Self::Timeout { .. } => {
                "try again, and see the log of the engine (`journalctl -u docker`): it is overloaded or stuck"
                    .to_owned()
            }
            Self::Engine { .. } => "see the log of the engine (`journalctl -u docker`)".to_owned(),
            Self::Stream { .. } => "check that the engine is still running, then try again".to_owned(),
            Self::Protocol { .. } => {
                "check that the endpoint is a Docker engine; if so, report a bug in Wharf".to_owned()
            }
        }
    }
}

/// Removes the runtime components' prefixes from an engine message, so that the cause comes first.
pub(super) fn clean(message: &str) -> String {
    const PREFIXES: [&str; 14] = [
        "Error response from daemon: ",
        "failed to create task for container: ",
        "failed to create shim task: ",
        "failed to create shim: ",
        "OCI runtime create failed: ",
        "OCI runtime start failed: ",
        "OCI runtime exec failed: ",
        "runc create failed: ",
        "runc did not terminate successfully: ",
        "exec failed: ",
        "unable to start container process: ",
        "starting container process caused: ",
        "container init caused: ",
        "process_linux caused: ",
    ];
    let mut rest = message.trim();
    'again: loop {
        for prefix in PREFIXES {
            if let Some(tail) = rest.strip_prefix(prefix) {
                rest = tail;
                continue 'again;
            }
        }
        // runc before 1.2 includes its source lines: `container_linux.go:380: `
        if let Some((head, tail)) = rest.split_once(": ")
            && let Some((file, line)) = head.rsplit_once(':')
            && file.ends_with(".go")
            && line.chars().all(|c| c.is_ascii_digit())
        {
            rest = tail;
            continue;
        }
        break;
    }
    rest.strip_suffix(": unknown").unwrap_or(rest).trim().to_owned()
}

/// The reason why a process could not be started, as far as the engine's message shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NotFound,
    NotExecutable,
    Other,
}

/// Derives from the engine's message why a process could not be started. The statuses differ between engine versions.
/// The words come from runc and the kernel and are stable.
pub(super) fn refusal(message: &str) -> Refusal {
    let has = |words: &str| message.contains(words);
    // A mount or working directory can also cause "no such file". Those messages mention neither exec nor a missing
    // binary.
    let about_exec = has("exec: \"") || has("executable file not found");
    if has("executable file not found") || (about_exec && has("no such file or directory")) {
        Refusal::NotFound
    } else if about_exec && (has("permission denied") || has("exec format error") || has("is a directory")) {
        Refusal::NotExecutable
    } else {
        Refusal::Other
    }
}

/// Converts the engine's answer to `start` to an error.
pub(super) fn start_error(status: u16, message: &str) -> Error {
    let cause = clean(message);
    match refusal(message) {
        Refusal::NotFound => return Error::CommandNotFound { cause },
        Refusal::NotExecutable => return Error::CommandNotExecutable { cause },
        Refusal::Other => {}
    }
    if cause.contains("port is already allocated") || cause.contains("address already in use") {
        // "driver failed programming external connectivity on endpoint NAME (64 hex digits): Bind for ..."
        let cause = match cause.split_once("): ") {
            Some((head, tail)) if head.contains("external connectivity") => tail.to_owned(),
            _ => cause,
        };
        return Error::PortInUse { cause };
    }
    if status == 409 {
        return Error::Conflict { operation: "start the container", cause };
    }
    Error::StartFailed { cause }
}

/// The number of engine failures in this process.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Counts a failure of the engine itself: it was unreachable, too slow, closed the connection, or answered with 5xx.
pub(super) fn failed(error: Error) -> Error {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    error
}

/// Returns the number of engine failures in this process.
pub fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Converts any other failure answer of the engine to an error.
pub(super) fn status_error(
    operation: &'static str,
    what: &'static str,
    name: &str,
    status: u16,
    message: &str,
) -> Error {
    let cause = clean(message);
    let name = name.to_owned();
    match status {
        404 => Error::NotFound { what, name },
        409 if cause.contains("is not running") => Error::NotRunning { operation, name },
        409 => Error::Conflict { operation, cause },
        // "client version 1.51 is too old. Minimum supported API version is 1.52, ..." (moby, version middleware).
        400 if cause.contains("client version") && cause.contains("is too old") => Error::TooNew { cause },
        400 => Error::BadRequest { operation, cause },
        501 => Error::Unsupported { operation, cause },
        status => failed(Error::Engine { operation, status, message: cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_FOUND: [&str; 3] = [
        // 20.10 with runc 1.0
        "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \"nope\": executable file not found in $PATH: unknown",
        // 24 with runc 1.1
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown",
        // 28 with runc 1.2
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/nope\": stat /nope: no such file or directory: unknown",
    ];

    #[test]
    fn a_missing_command_is_told_apart_on_every_engine() {
        for message in NOT_FOUND {
            assert_eq!(start_error(400, message).code(), "command-not-found", "{message}");
            assert_eq!(start_error(500, message).code(), "command-not-found", "{message}");
        }
    }

    #[test]
    fn the_cause_comes_first_once_the_machinery_is_taken_out() {
        assert_eq!(clean(NOT_FOUND[0]), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(clean(NOT_FOUND[1]), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(clean("plain words: unknown thing"), "plain words: unknown thing");
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_not_called_missing() {
        let message = "OCI runtime create failed: runc create failed: unable to start container process: exec: \"/bin/x\": permission denied: unknown";
        assert_eq!(start_error(400, message).code(), "command-not-executable");
    }

    #[test]
    fn a_missing_mount_source_is_not_called_a_missing_command() {
        let message = "error while creating mount source path '/x': mkdir /x: no such file or directory";
        assert_eq!(start_error(500, message).code(), "start-failed");
    }

    #[test]
    fn a_port_in_use_names_the_port_and_not_the_endpoint() {
        let message = "driver failed programming external connectivity on endpoint web (1a2b): Bind for 127.0.0.1:8080 failed: port is already allocated";
        let error = start_error(500, message);
        assert_eq!(error.code(), "port-in-use");
        assert!(error.to_string().contains("(Bind for 127.0.0.1:8080"), "{error}");
    }
}
