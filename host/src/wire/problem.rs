//! Failures as the API tells them (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hooks::record::{StepMode, Waiver};
use crate::hooks::{Hook, PolicyKind, Step};

/// The kind of a failure. The exit code of a command and the HTTP status of an answer are one match each over it, so both doors
/// agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request makes no sense in itself.
    BadRequest,
    /// The project's `devcontainer.json` cannot be used.
    ProjectFile,
    /// The project folder cannot be used.
    Project,
    /// A policy or an invariant refused it.
    Denied,
    /// The caller may not ask for it: token, role, labels or origin.
    Refused,
    /// The store knows no such workspace, snapshot, secret, policy, record or field.
    NotFound,
    /// The engine has no such image, volume or path.
    NoObject,
    /// The name means several workspaces.
    Ambiguous,
    /// The workspace differs from today's decision.
    Differs,
    /// The state of something forbids it: running, stopped, in use, taken.
    Conflict,
    /// The engine cannot use what the workspace needs: image, mount, command.
    Unusable,
    /// It was interrupted.
    Interrupted,
    /// It did not come about in the time that the request gave.
    TimedOut,
    /// The service has no place for it now, or ends.
    Unavailable,
    /// The engine is unreachable, too old, or its address cannot be used.
    EngineUnreachable,
    /// The connection to the engine broke.
    EngineLost,
    /// The engine did not answer in time.
    EngineTimeout,
    /// The engine failed, or did something else than was decided.
    Engine,
    /// The configuration, or a policy in it, cannot be used.
    Configuration,
    /// A reload was refused; the chain before it decides on.
    ReloadRefused,
    /// A verb failed, and so did undoing it.
    NotUndone,
    /// The store failed, or Wharf has a defect.
    Internal,
    /// A kind that only a later version knows.
    #[serde(other)]
    Unknown,
}

impl ErrorKind {
    /// The kind behind the HTTP status of a service that names none.
    pub fn of_status(status: u16) -> Self {
        match status {
            400 => Self::BadRequest,
            403 => Self::Denied,
            404 => Self::NotFound,
            _ => Self::Unknown,
        }
    }
}

/// Why a request was not carried out (RFC 9457)
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells problems apart.
    #[serde(rename = "type", default)]
    pub about: String,
    /// The words of the status.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The verb, its object, and the cause.
    pub detail: String,
    /// A stable word for programs.
    pub code: String,
    /// The kind of the failure, of which the exit code of a command depends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The remedy.
    #[serde(default)]
    pub remedy: String,
    /// Steps of the policies until a denial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trail: Vec<TrailStep>,
    /// Parts that a service lacks which is not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Problem {
    /// The kind; of a service that names none, its status tells it.
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
    /// `enforce`; `canary` when it counts for a share of the workspaces only, `shadow` when it counts for nothing.
    pub mode: StepMode,
    /// `pass`, `adjust`, `deny`, `act`, `sweep` or `error`.
    pub verdict: String,
    /// The fields that it set.
    pub fields: Vec<String>,
    /// Time of the call.
    pub microseconds: u64,
    /// The reason of a denial or error, the image's reason, or what was asked for.
    pub detail: Option<String>,
    /// Waivers that let it loosen something.
    pub waivers: Vec<Waiver>,
    /// What it logged.
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
            verdict: step.verdict.clone(),
            fields: step.fields.clone(),
            microseconds: step.microseconds,
            detail: denial.or(error).or(image).or_else(actions),
            waivers: step.waivers.clone(),
            logs: step.logs.clone(),
        }
    }
}

/// Steps as people and programs see them.
pub fn trail(steps: &[Step]) -> Vec<TrailStep> {
    steps.iter().map(TrailStep::from).collect()
}
