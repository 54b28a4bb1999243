//! Commands in a workspace: the request, the conversation over a WebSocket, and the results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Span;
use crate::hooks::ExecSpec;
use crate::workspace::WorkspaceId;

/// A command, as the first message of a WebSocket, or as a body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The command and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// Environment, in addition to that of the workspace.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// User or `uid:gid`.
    pub user: Option<String>,
    /// Folder in the workspace.
    pub workdir: Option<String>,
    /// Whether it gets a terminal; only over a WebSocket.
    #[serde(default)]
    pub tty: bool,
    /// Rows of the terminal.
    pub rows: Option<u16>,
    /// Columns of the terminal.
    pub cols: Option<u16>,
    /// Over a WebSocket, whether the client sends bytes for its input.
    #[serde(default)]
    pub stdin: bool,
    /// Its input, for a request that collects its output.
    pub input: Option<String>,
    /// Time limit after which it is killed, e.g. `30s`; for a request that collects its output, the default is 60
    /// seconds.
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Span>,
    /// Whether to start it without waiting for it; its output is lost.
    #[serde(default)]
    pub detach: bool,
}

impl ExecRequest {
    /// Returns the request for a command.
    pub fn of(spec: ExecSpec) -> Self {
        let ExecSpec { command, env, user, working_dir, tty } = spec;
        Self { command, env, user, workdir: working_dir, tty, ..Self::default() }
    }

    /// Returns the command.
    pub fn spec(&self) -> ExecSpec {
        let Self { command, env, user, workdir, tty, .. } = self.clone();
        ExecSpec { command, env, user, working_dir: workdir, tty }
    }

    /// Returns rows and columns of the terminal.
    pub fn size(&self) -> Option<(u16, u16)> {
        self.rows.zip(self.cols)
    }
}

/// A text message of the client while the command runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExecInput {
    /// New size of the terminal.
    pub resize: Option<TerminalSize>,
    /// Whether the input has ended.
    #[serde(default)]
    pub stdin_end: bool,
    /// Whether to leave the command running.
    #[serde(default)]
    pub detach: bool,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub cols: u16,
}

/// The service's last message, unless it is a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecEnded {
    /// The command's exit code; 128 + n for signal n.
    pub exit_code: i64,
    /// Whether a process that it left behind still holds its output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Whether it continues to run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
}

/// The answer to a command without interaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ExecAnswer {
    /// The result of a command that has ended.
    Ended(ExecResult),
    /// A detached command.
    Detached(ExecDetached),
}

/// The result of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// Its exit code; 128 + n for signal n.
    pub exit_code: i64,
    /// Its stdout; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Its stderr, likewise.
    pub stderr: String,
    /// The bytes of stdout, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// The bytes of stderr, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// Whether one of them exceeded 1 MiB.
    pub truncated: bool,
    /// Whether a process that it left behind still holds its output; later output is lost.
    pub cut: bool,
}

/// A detached command, which continues to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecDetached {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The engine's id of the command.
    pub exec_id: String,
}
