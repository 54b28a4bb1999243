//! Why a command failed: what people read, what programs read, and the exit code.

use crate::{client, config, docker, lifecycle, store};

/// Why a command failed, as the person or program who called it sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) remedy: String,
    /// More lines, and whether they are shown without `--backtrace`.
    pub(crate) detail: Option<(String, bool)>,
    pub(crate) exit: u8,
    /// For programs: the trail until a denial.
    pub(crate) trail: Vec<lifecycle::TrailStep>,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>, remedy: impl Into<String>, exit: u8) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { code: code.to_owned(), message, remedy, detail: None, exit, trail: Vec::new() }
    }
}

/// What went wrong with a terminal or pipe; a reader that went away is no failure of Wharf.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new("broken-pipe", "", "", 0),
            _ => Self::new("output", format!("cannot write: {error}"), "see that the disk is not full", 1),
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let mut failure = Self::new("configuration", error.message, error.remedy, 3);
        failure.detail = error.detail.map(|text| (text, true));
        failure
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        lifecycle::Error::from(error).into()
    }
}

impl From<docker::Error> for Failure {
    fn from(error: docker::Error) -> Self {
        lifecycle::Error::from(error).into()
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let text = error.to_string();
        match error {
            client::Error::Problem(problem) => {
                // As the command by itself would have ended.
                let exit = match (problem.status, problem.code.as_str()) {
                    // A policy's own denial has a trail, and a word that it chose.
                    (_, "cross-site" | "wrong-host" | "role" | "label-scope") if problem.trail.is_empty() => 1,
                    (403, _) => 4,
                    (_, "configuration" | "policy-not-loaded" | "reload-refused") => 3,
                    (
                        _,
                        "workspace-not-found"
                        | "workspace-ambiguous"
                        | "project-unusable"
                        | "no-field"
                        | "snapshot-not-found"
                        | "secret-not-found"
                        | "policy-not-found"
                        | "record-not-found",
                    ) => 5,
                    (_, "bad-request" | "devcontainer") => 2,
                    (_, "spec-differs") => 7,
                    (_, "engine-unreachable" | "engine-too-old" | "engine-endpoint") => 6,
                    (_, "interrupted") => 130,
                    _ => 1,
                };
                let mut failure = Self::new(&problem.code, text, problem.remedy, exit);
                failure.trail = problem.trail;
                failure
            }
            client::Error::Setting { remedy, .. } => Self::new("server", text, remedy, 2),
            client::Error::Unreachable { .. } => {
                let remedy = "see that 'wharf serve' runs there, and that --server names it";
                Self::new("service-unreachable", text, remedy, 6)
            }
            client::Error::Answer { .. } => {
                Self::new("service-answer", text, "see that a service of the same version answers there", 1)
            }
        }
    }
}

impl From<lifecycle::Error> for Failure {
    fn from(error: lifecycle::Error) -> Self {
        use lifecycle::Error as E;
        let exit = match &error {
            E::Denied { .. } => 4,
            E::PolicyNotLoaded { .. } | E::Store(store::Error::Untrusted(_)) => 3,
            E::NotFound(_)
            | E::Missing { .. }
            | E::NoRecord { .. }
            | E::NoField { .. }
            | E::Project { .. }
            | E::Ambiguous { .. } => 5,
            E::Request(_)
            | E::ProjectFile(_)
            | E::Store(store::Error::BadAnchor { .. })
            | E::Docker(docker::Error::BadRequest { .. }) => 2,
            E::Differs { .. } => 7,
            E::Interrupted | E::LeftOff(_) => 130,
            E::Docker(
                docker::Error::Unreachable { .. }
                | docker::Error::TooOld { .. }
                | docker::Error::UnsupportedEndpoint { .. },
            ) => 6,
            _ => 1,
        };
        let mut failure = Self::new(error.code(), error.to_string(), error.remedy(), exit);
        failure.detail = error.detail();
        if let E::Denied { trail, .. } = &error {
            failure.trail = lifecycle::trail(trail);
        }
        failure
    }
}
