//! The bodies and answers of the API, each defined once: `api` reads bodies and writes answers, `client` does the
//! opposite, and the commands of `cli` fill bodies in.
//!
//! Every type here is data: it serialises to JSON and reads back as the same value. An absent field means the same as
//! its default. Requests with unknown fields are refused; unknown fields of answers are ignored, so that an older
//! client understands a newer service.
//!
//! A new field of `wharf up` belongs in [`WorkspaceRequest`], which also defines the command's flag, and in
//! `lifecycle::request`, which turns it into an adjustment.

mod answers;
mod exec;
mod problem;
mod progress;
mod request;
#[cfg(test)]
mod tests;
mod verbs;

pub use answers::{Empty, KeptImage, Lease, PrunedImages, SecretNames};
pub use exec::{ExecAnswer, ExecDetached, ExecEnded, ExecInput, ExecRequest, ExecResult, TerminalSize};
pub use problem::{ErrorKind, Problem, TrailStep, trail};
pub use progress::Progress;
pub use request::{HealthRequest, ImageBuild, Place, SecretBytes, SidecarRequest, SizeText, WorkspaceRequest};
pub use verbs::{
    BuildRequest, CleanupTarget, DownRequest, KillRequest, LeaseRequest, PlanDiffRequest, PullRequest, ReplayRequest,
    RestoreRequest, SnapshotRequest, StopRequest, SweepRequest, UpdateRequest, WaitRequest,
};
