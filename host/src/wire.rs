//! The bodies and answers of the API, each once: `api` reads and writes them, `client` writes and reads them, and the commands of
//! `cli` fill them in.
//!
//! Every type here is data: it serialises to JSON and reads back as the same value. A field that is absent means the same as its
//! default. Requests refuse fields that they do not know; answers pass over them, so that an older client reads a newer service.
//!
//! A new field of `wharf up` stands in [`WorkspaceRequest`], which is also the command's flag, and in
//! `lifecycle::request`, which makes an adjustment of it.

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
