//! Hooks, policies and verdicts: the types that the chain and every policy share.
//!
//! A policy is a pure function from a [`HookRequest`] to a [`Verdict`]. Nothing here knows Wasm or Rhai, Docker or the
//! store. [`chain`] runs the policies in order, [`adjust`] merges what they ask for with an owner per field,
//! [`validate`] holds the host's invariants that no policy can change, [`record`] is what remains of a decision.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod adjust;
pub mod case;
pub mod chain;
mod floor;
mod host_paths;
pub mod record;
pub mod redact;
pub mod replay;
mod request;
pub mod validate;

pub use adjust::Adjustment;
pub use chain::{Chain, Entry};
pub use floor::is_under_floor;
pub use record::{Decision, Outcome, Step};
pub use request::{
    Caller, CallerRole, Candidate, CandidateKind, Door, EngineFacts, EventFacts, EventKind, ExecSpec, Facts,
    FileContent, HookRequest, ImageConfig, LocalImage, ProjectFacts, Subject, SweepFacts, WorkspaceFacts,
};

/// A point at which policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Which image.
    SelectImage,
    /// What the container may do.
    SecurityProfile,
    /// Everything else about the container.
    PreCreate,
    /// After a start.
    PostStart,
    /// Before a command runs in a workspace.
    PreExec,
    /// Before a stop or remove.
    PreStop,
    /// On a sweep.
    Cleanup,
    /// On a change of state or health.
    Event,
}

impl Hook {
    /// All hooks, in the order of a workspace's life.
    pub const ALL: [Self; 8] = [
        Self::SelectImage,
        Self::SecurityProfile,
        Self::PreCreate,
        Self::PostStart,
        Self::PreExec,
        Self::PreStop,
        Self::Cleanup,
        Self::Event,
    ];

    /// The hooks that decide a container, in order.
    pub const CREATE: [Self; 3] = [Self::SelectImage, Self::SecurityProfile, Self::PreCreate];

    /// The name in the configuration, in records and in WIT.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SelectImage => "select-image",
            Self::SecurityProfile => "security-profile",
            Self::PreCreate => "pre-create",
            Self::PostStart => "post-start",
            Self::PreExec => "pre-exec",
            Self::PreStop => "pre-stop",
            Self::Cleanup => "cleanup",
            Self::Event => "event",
        }
    }

    /// The name of the function that a script defines for this hook.
    pub fn function(self) -> &'static str {
        match self {
            Self::SelectImage => "select_image",
            Self::SecurityProfile => "security_profile",
            Self::PreCreate => "pre_create",
            Self::PostStart => "post_start",
            Self::PreExec => "pre_exec",
            Self::PreStop => "pre_stop",
            Self::Cleanup => "cleanup",
            Self::Event => "event",
        }
    }

    /// What an error, trap or timeout of a policy may mean at this hook, the default first. Where there is one, there
    /// is no choice: before create a failure is a denial, and a sweep removes nothing that a policy could not be asked
    /// about.
    pub fn failure_modes(self) -> &'static [FailureMode] {
        use FailureMode::{Degrade, Deny, Keep, Proceed, Stop};
        match self {
            Self::SelectImage | Self::SecurityProfile | Self::PreCreate | Self::PreExec => &[Deny],
            Self::PostStart => &[Degrade, Proceed, Stop],
            Self::Event => &[Proceed, Degrade],
            Self::PreStop => &[Proceed],
            Self::Cleanup => &[Keep],
        }
    }

    /// What an error, trap or timeout of a policy means at this hook, unless the policy's entry says otherwise.
    pub fn failure_mode(self) -> FailureMode {
        match self {
            Self::SelectImage | Self::SecurityProfile | Self::PreCreate | Self::PreExec => FailureMode::Deny,
            Self::PostStart => FailureMode::Degrade,
            Self::PreStop | Self::Event => FailureMode::Proceed,
            Self::Cleanup => FailureMode::Keep,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Hook {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|hook| hook.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|hook| hook.as_str()).collect();
            format!("'{text}' is not a hook; the hooks are {}", all.join(", "))
        })
    }
}

/// What a policy's failure means. Security fails closed, deletion fails safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureMode {
    /// The request is denied.
    Deny,
    /// The workspace runs, marked degraded, and the reason is kept.
    Degrade,
    /// The verb goes on, and the reason is kept.
    Proceed,
    /// Everything is kept.
    Keep,
    /// The workspace is stopped, and the reason is kept.
    Stop,
}

impl FailureMode {
    /// The word in the configuration and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Degrade => "degrade",
            Self::Proceed => "proceed",
            Self::Keep => "keep",
            Self::Stop => "stop",
        }
    }
}

/// What a policy answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No opinion.
    Pass,
    /// Change these fields.
    Adjust(Vec<Adjustment>),
    /// Refuse.
    Deny(Denial),
    /// Do these things, in order; for `pre-stop` then wait once.
    Act {
        /// In order.
        actions: Vec<Action>,
        /// Milliseconds.
        delay_ms: Option<u32>,
    },
    /// For `cleanup`.
    Sweep(Vec<SweepVerdict>),
}

impl Verdict {
    /// One word for people and programs: `pass`, `adjust`, `deny`, `act` or `sweep`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Adjust(_) => "adjust",
            Self::Deny(_) => "deny",
            Self::Act { .. } => "act",
            Self::Sweep(_) => "sweep",
        }
    }
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// One line for people.
    pub reason: String,
    /// A short stable word for programs.
    pub code: String,
}

/// Something that the host is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Run a command in the workspace.
    Run {
        /// The command and its arguments.
        command: Vec<String>,
        /// It is ended after this time.
        timeout_ms: u64,
    },
    /// Keep a line with the workspace.
    Note(String),
    /// Stop the workspace, and why.
    Stop(String),
}

/// What a policy says about one candidate of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepVerdict {
    /// The candidate's id.
    pub id: String,
    /// Keep, stop or remove.
    pub choice: SweepChoice,
    /// One line for people.
    pub reason: String,
    /// The policy that says it; the chain fills it in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// Choice of a [`SweepVerdict`], from the mildest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum SweepChoice {
    Keep,
    Stop,
    Remove,
}

/// What kind of policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// A WebAssembly component.
    Plugin,
    /// A Rhai script.
    Script,
}

impl PolicyKind {
    /// `plugin` or `script`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Script => "script",
        }
    }
}

/// A loaded policy. Calls block for at most the policy's deadline, so async callers use a blocking thread.
pub trait Policy: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;
    /// Plugin or script.
    fn kind(&self) -> PolicyKind;
    /// SHA-256 (hex) of its bytes.
    fn digest(&self) -> &str;
    /// The hooks that it implements, read from what it exports or defines.
    fn hooks(&self) -> &[Hook];
    /// Files of the project that it wants to see.
    fn wanted_files(&self) -> &[String];
    /// Does now what the first call would otherwise wait for. What fails, the call will say.
    fn prepare(&self) {}
    /// Decides. Never panics; a trap, a limit and a nonsensical answer are errors.
    fn evaluate(&self, request: &HookRequest) -> Result<Reply, PolicyError>;
}

/// What a policy answered, with what the record keeps about the call.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The answer.
    pub verdict: Verdict,
    /// For scripts: field -> line that set it.
    pub lines: BTreeMap<String, usize>,
    /// For scripts: the line of a denial.
    pub deny_line: Option<usize>,
    /// Lines that it logged, bounded.
    pub logs: Vec<String>,
    /// What the call cost: Rhai operations of a script, fuel of a plugin.
    pub operations: u64,
    /// Digest of what its entry granted it beside the input, if anything.
    pub granted: Option<String>,
}

impl From<Verdict> for Reply {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, lines: BTreeMap::new(), deny_line: None, logs: Vec::new(), operations: 0, granted: None }
    }
}

/// Why a policy gave no verdict: one line for people, and the rest for `--backtrace`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyError {
    /// `trap`, `timeout`, `memory-limit`, `output-limit`, `host-calls-limit`, `operations-limit`, `breaker-open`, `bad-answer`, `failed` or `script`.
    pub code: &'static str,
    /// What happened and what to do, in one line.
    pub message: String,
    /// Backtrace, or the marked source; may have many lines.
    pub detail: Option<String>,
    /// Whether the detail is a marked source line, which people see at once; a backtrace waits for `--backtrace`.
    pub marked: bool,
    /// What it had logged until then.
    pub logs: Vec<String>,
}

impl PolicyError {
    /// An error without detail.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, marked: false, logs: Vec::new() }
    }

    /// The same with detail.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// Limits of one policy's call. Every one is explicit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock deadline of one call.
    pub timeout: Duration,
    /// Bytes of linear memory (plugins), or of all strings, arrays and maps that a script can build.
    pub memory: usize,
    /// Bytes that an answer may have.
    pub output: usize,
    /// Bytes that a plugin may hand to the host's functions, all calls together.
    pub host_bytes: usize,
    /// Rhai operations.
    pub operations: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(250),
            memory: 64 << 20,
            output: 1 << 20,
            host_bytes: 1 << 20,
            operations: 1_000_000,
        }
    }
}

/// Most bytes of a plugin's file, unless its entry says otherwise: compiling one takes up to a hundred times as much memory.
pub const PLUGIN_SIZE: u64 = 8 << 20;

/// Most log lines of one call that are kept, and most bytes of one line.
pub const LOG_LINES: usize = 64;
/// See [`LOG_LINES`].
pub const LOG_LINE_BYTES: usize = 1024;

/// Keeps a log line within the bounds; what is beyond is dropped and said once.
pub fn push_log(logs: &mut Vec<String>, line: &str) {
    if logs.len() < LOG_LINES {
        let mut end = line.len().min(LOG_LINE_BYTES);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        logs.push(line.get(..end).unwrap_or_default().to_owned());
    } else if logs.len() == LOG_LINES {
        logs.push(format!("(further lines dropped: a call may log {LOG_LINES})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_one_name_that_parses_back() {
        for hook in Hook::ALL {
            assert_eq!(hook.as_str().parse::<Hook>(), Ok(hook));
            assert_eq!(hook.as_str().replace('-', "_"), hook.function());
            assert_eq!(serde_json::to_value(hook).unwrap(), hook.as_str());
        }
        assert!("precreate".parse::<Hook>().unwrap_err().contains("pre-create"));
    }

    #[test]
    fn a_flood_of_log_lines_stays_bounded_and_is_cut_between_characters() {
        let mut logs = Vec::new();
        for _ in 0..10_000 {
            push_log(&mut logs, &"é".repeat(5_000));
        }
        assert_eq!(logs.len(), LOG_LINES + 1);
        assert!(logs.iter().all(|line| line.len() <= LOG_LINE_BYTES));
    }
}
