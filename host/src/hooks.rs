//! Hooks, policies and verdicts: the types that the chain and every policy share.
//!
//! A policy is a pure function from a [`HookRequest`] to a [`Verdict`]. This module is independent of Wasm, Rhai,
//! Docker and the store. [`chain`] runs the policies in order, [`adjust`] merges their adjustments with an owner per
//! field, [`validate`] enforces the host's invariants, which no policy can change, and [`record`] is the persistent
//! record of a decision.

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
    FileContent, FolderOwner, HookRequest, ImageConfig, LocalImage, LocalTime, ProjectFacts, Subject, SweepFacts,
    WorkspaceFacts,
};

/// A point at which policies are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// The choice of the image.
    SelectImage,
    /// The container's privileges.
    SecurityProfile,
    /// All other settings of the container.
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

    /// The hooks that decide on a container, in order.
    pub const CREATE: [Self; 3] = [Self::SelectImage, Self::SecurityProfile, Self::PreCreate];

    /// Returns the name in the configuration, in records and in WIT.
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

    /// Returns the name of the function that a script defines for this hook.
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

    /// Returns the allowed meanings of a policy's error, trap or timeout at this hook, the default first. A single
    /// entry means that there is no choice: before create a failure is a denial, and a sweep removes nothing if a
    /// policy could not be called for it.
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

    /// Returns the meaning of a policy's error, trap or timeout at this hook, unless the policy's entry overrides it.
    pub fn failure_mode(self) -> FailureMode {
        match self {
            Self::SelectImage | Self::SecurityProfile | Self::PreCreate | Self::PreExec => FailureMode::Deny,
            Self::PostStart => FailureMode::Degrade,
            Self::PreStop | Self::Event => FailureMode::Proceed,
            Self::Cleanup => FailureMode::Keep,
        }
    }
}

impl Hook {
    /// Returns the hook with this name in any spelling: `pre-create`, `pre_create` or `PreCreate`.
    pub fn of_any_spelling(name: &str) -> Option<Self> {
        let letters = |text: &str| {
            text.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect::<String>()
        };
        let plain = letters(name);
        Self::ALL.into_iter().find(|hook| letters(hook.as_str()) == plain)
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

/// The meaning of a policy's failure. Security fails closed, deletion fails safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureMode {
    /// The request is denied.
    Deny,
    /// The workspace runs, marked as degraded, and the reason is stored.
    Degrade,
    /// The verb continues, and the reason is stored.
    Proceed,
    /// A sweep keeps all objects.
    Keep,
    /// The workspace is stopped, and the reason is stored.
    Stop,
}

impl FailureMode {
    /// Returns the name in the configuration and in records.
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

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No opinion.
    Pass,
    /// Changes these fields.
    Adjust(Vec<Adjustment>),
    /// Refuses the request.
    Deny(Denial),
    /// Carries out these actions, in order; for `pre-stop`, then waits once.
    Act {
        /// The actions, in order.
        actions: Vec<Action>,
        /// The wait in milliseconds.
        delay_ms: Option<u32>,
    },
    /// Verdicts for `cleanup`.
    Sweep(Vec<SweepVerdict>),
}

impl Verdict {
    /// Returns its kind.
    pub fn kind(&self) -> VerdictKind {
        match self {
            Self::Pass => VerdictKind::Pass,
            Self::Adjust(_) => VerdictKind::Adjust,
            Self::Deny(_) => VerdictKind::Deny,
            Self::Act { .. } => VerdictKind::Act,
            Self::Sweep(_) => VerdictKind::Sweep,
        }
    }
}

/// The kind of a policy's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum VerdictKind {
    Pass,
    Adjust,
    Deny,
    Act,
    Sweep,
    /// The policy gave no verdict.
    Error,
}

impl VerdictKind {
    /// Returns the name in records and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Adjust => "adjust",
            Self::Deny => "deny",
            Self::Act => "act",
            Self::Sweep => "sweep",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for VerdictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason for a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// One line for users.
    pub reason: String,
    /// A short stable identifier for programs.
    pub code: String,
}

/// An action that the host should carry out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Runs a command in the workspace.
    Run {
        /// The command and its arguments.
        command: Vec<String>,
        /// The command is ended after this time.
        timeout_ms: u64,
    },
    /// Stores a note with the workspace.
    Note(String),
    /// Stops the workspace for this reason.
    Stop(String),
}

/// A policy's verdict about one candidate of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepVerdict {
    /// The candidate's id.
    pub id: String,
    /// Keep, stop or remove.
    pub choice: SweepChoice,
    /// One line for users.
    pub reason: String,
    /// The policy that gave the verdict; the chain fills it in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// The choice in a [`SweepVerdict`], mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum SweepChoice {
    Keep,
    Stop,
    Remove,
}

/// The kind of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// A WebAssembly component.
    Plugin,
    /// A Rhai script.
    Script,
}

impl PolicyKind {
    /// Returns `plugin` or `script`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Script => "script",
        }
    }
}

/// A loaded policy. Calls block for at most the policy's deadline, so async callers use a blocking thread.
pub trait Policy: Send + Sync {
    /// Returns its name in the configuration.
    fn name(&self) -> &str;
    /// Returns its kind.
    fn kind(&self) -> PolicyKind;
    /// Returns the SHA-256 (hex) of its bytes.
    fn digest(&self) -> &str;
    /// Returns the hooks that it implements, read from its exports or functions.
    fn hooks(&self) -> &[Hook];
    /// Returns the project files that it wants to read.
    fn wanted_files(&self) -> &[String];
    /// Does preparation ahead of time that would otherwise delay the first call. A failure is reported by that call.
    fn prepare(&self) {}
    /// Evaluates a request. Never panics; traps, exceeded limits and invalid answers are errors.
    fn evaluate(&self, request: &HookRequest) -> Result<Reply, PolicyError>;
}

/// A policy's answer, with the data about the call that the record stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The verdict.
    pub verdict: Verdict,
    /// For scripts: field -> line that set it.
    pub lines: BTreeMap<String, usize>,
    /// For scripts: the line of a denial.
    pub deny_line: Option<usize>,
    /// Lines that it logged, up to a limit.
    pub logs: Vec<String>,
    /// The cost of the call: Rhai operations of a script, fuel of a plugin.
    pub operations: u64,
    /// Digest of the resources that its entry granted it in addition to the input, if any.
    pub granted: Option<String>,
}

impl From<Verdict> for Reply {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, lines: BTreeMap::new(), deny_line: None, logs: Vec::new(), operations: 0, granted: None }
    }
}

/// The reason why a policy gave no verdict: one line for users, and details for `--backtrace`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyError {
    /// `trap`, `timeout`, `memory-limit`, `output-limit`, `host-calls-limit`, `operations-limit`, `breaker-open`,
    /// `bad-answer`, `failed` or `script`.
    pub code: &'static str,
    /// The cause and the remedy, in one line.
    pub message: String,
    /// Backtrace or marked source; may have many lines.
    pub detail: Option<String>,
    /// Whether the detail is a marked source line, which is always shown. A backtrace is only shown with
    /// `--backtrace`.
    pub marked: bool,
    /// The lines that it had logged before the error.
    pub logs: Vec<String>,
}

impl PolicyError {
    /// Creates an error without detail.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, marked: false, logs: Vec::new() }
    }

    /// Returns the error with detail.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// Limits of one call of a policy. Each has an explicit value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock deadline of one call.
    pub timeout: Duration,
    /// Bytes of linear memory (plugins), or of all strings, arrays and maps that a script can build.
    pub memory: usize,
    /// Maximum bytes of an answer.
    pub output: usize,
    /// Maximum bytes that a plugin may pass to the host's functions, over all calls together.
    pub host_bytes: usize,
    /// Maximum Rhai operations.
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

/// Maximum bytes of a plugin's file, unless its entry overrides it. Compiling a plugin takes up to a hundred times as
/// much memory.
pub const PLUGIN_SIZE: u64 = 8 << 20;

/// Maximum log lines of one call that are stored. [`LOG_LINE_BYTES`] limits each line.
pub const LOG_LINES: usize = 64;
/// Maximum bytes of one log line, see [`LOG_LINES`].
pub const LOG_LINE_BYTES: usize = 1024;

/// Stores a log line within the limits. Excess lines are dropped, which is noted once.
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
