//! Failures as the API reports them (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hooks::record::{StepMode, Waiver};
use crate::hooks::{Hook, PolicyKind, Step, VerdictKind};

/// The kind of a failure. The exit code of a command and the HTTP status of an answer are each derived from it in one
/// match, so that the CLI and the API agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request is invalid in itself.
    BadRequest,
    /// The project's `devcontainer.json` is unusable.
    ProjectFile,
    /// The project folder is unusable.
    Project,
    /// A policy or an invariant refused it.
    Denied,
    /// The caller has no permission for it: token, role, labels or origin.
    Refused,
    /// The store knows no such workspace, snapshot, secret, policy, record or field.
    NotFound,
    /// The engine has no such image, volume or path.
    NoObject,
    /// The name means several workspaces.
    Ambiguous,
    /// The workspace differs from today's decision.
    Differs,
    /// The state of an object forbids it: running, stopped, in use, taken.
    Conflict,
    /// The engine cannot use something that the workspace needs: image, mount, command.
    Unusable,
    /// It was interrupted.
    Interrupted,
    /// It was not done within the time limit of the request.
    TimedOut,
    /// The service is at its limit of concurrent work, or ends.
    Unavailable,
    /// The engine is unreachable, too old, or its address is unusable.
    EngineUnreachable,
    /// The connection to the engine broke.
    EngineLost,
    /// The engine did not answer in time.
    EngineTimeout,
    /// The engine failed, or deviated from the decision.
    Engine,
    /// The configuration, or a policy in it, is unusable.
    Configuration,
    /// A reload was refused; the previous chain continues to decide.
    ReloadRefused,
    /// A verb failed, and so did its undo.
    NotUndone,
    /// The store failed, or Wharf has a defect.
    Internal,
    /// A kind that only a later version knows.
    #[serde(other)]
    Unknown,
}

impl ErrorKind {
    /// Returns the kind for an HTTP status, for a service that names no kind.
    pub fn of_status(status: u16) -> Self {
        match status {
            400 => Self::BadRequest,
            403 => Self::Denied,
            404 => Self::NotFound,
            _ => Self::Unknown,
        }
    }
}

/// The reason that a request was not carried out (RFC 9457)
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` distinguishes problems.
    #[serde(rename = "type", default)]
    pub about: String,
    /// The words of the status.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The verb, its object, and the cause.
    pub detail: String,
    /// A stable code for programs.
    pub code: String,
    /// The kind of the failure, which determines the exit code of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The remedy.
    #[serde(default)]
    pub remedy: String,
    /// Steps of the policies up to a denial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trail: Vec<TrailStep>,
    /// Missing parts of a service that is not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Problem {
    /// Returns the kind; if the service names none, it is derived from the status.
    pub fn kind(&self) -> ErrorKind {
        self.kind.unwrap_or_else(|| ErrorKind::of_status(self.status))
    }
}

/// One policy's part in a decision.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct TrailStep {
    /// Its name.
    pub policy: String,
    /// `plugin` or `script`.
    pub kind: PolicyKind,
    /// The hook.
    pub hook: Hook,
    /// `enforce`; `canary` if it counts only for a share of the workspaces; `shadow` if it does not count.
    pub mode: StepMode,
    /// `pass`, `adjust`, `deny`, `act`, `sweep` or `error`.
    pub verdict: VerdictKind,
    /// The fields that it set.
    pub fields: Vec<String>,
    /// Duration of the call.
    pub microseconds: u64,
    /// The reason of a denial or error, the image's reason, or the requested actions.
    pub detail: Option<String>,
    /// Waivers that let it loosen a limit.
    pub waivers: Vec<Waiver>,
    /// Its log lines.
    pub logs: Vec<String>,
}

impl From<&Step> for TrailStep {
    fn from(step: &Step) -> Self {
        use crate::hooks::{Action, Adjustment};
        let denial = step.denial.as_ref().map(|denial| format!("{} ({})", denial.reason, denial.code));
        let error = step.error.as_ref().map(|error| error.message.clone());
        let image = step.adjustments.iter().find_map(|adjustment| match adjustment {
            Adjustment::Image(choice) if choice.reason.is_empty() => Some(choice.reference.clone()),
            Adjustment::Image(choice) => Some(format!("{}: {}", choice.reference, choice.reason)),
            _ => None,
        });
        let actions = || {
            let each = step.actions.iter().map(|action| match action {
                Action::Run { command, .. } => format!("run {}", command.join(" ")),
                Action::Note(text) => format!("note: {text}"),
                Action::Stop(why) => format!("stop: {why}"),
            });
            let all: Vec<_> = each.collect();
            (!all.is_empty()).then(|| all.join("; "))
        };
        Self {
            policy: step.policy.clone(),
            kind: step.kind,
            hook: step.hook,
            mode: step.mode,
            verdict: step.verdict,
            fields: step.fields.clone(),
            microseconds: step.microseconds,
            detail: denial.or(error).or(image).or_else(actions),
            waivers: step.waivers.clone(),
            logs: step.logs.clone(),
        }
    }
}

/// Converts steps into their form for people and programs.
pub fn trail(steps: &[Step]) -> Vec<TrailStep> {
    steps.iter().map(TrailStep::from).collect()
}
