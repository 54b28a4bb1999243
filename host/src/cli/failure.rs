//! The failure of a command: text for people, values for programs, and the exit code.

use crate::wire::{ErrorKind, TrailStep};
use crate::{backend, config, docker, lifecycle, records, store};

/// The failure of a command, as its user or the calling program sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) remedy: String,
    /// Extra lines, and whether they are shown without `--backtrace`.
    pub(crate) detail: Option<(String, bool)>,
    pub(crate) exit: u8,
    /// For programs: the trail up to a denial.
    pub(crate) trail: Vec<TrailStep>,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>, remedy: impl Into<String>, exit: u8) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { code: code.to_owned(), message, remedy, detail: None, exit, trail: Vec::new() }
    }
}

/// Converts an error of a terminal or pipe; a closed reader is not a failure of Wharf.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new("broken-pipe", "", "", 0),
            _ => Self::new("output", format!("cannot write: {error}"), "check that the disk is not full", 1),
        }
    }
}

impl From<backend::Error> for Failure {
    fn from(error: backend::Error) -> Self {
        let mut failure = Self::new(error.code(), error.to_string(), error.remedy(), exit_code(error.kind()));
        failure.detail = error.detail();
        failure.trail = error.trail();
        failure
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        backend::Error::from(error).into()
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        backend::Error::from(error).into()
    }
}

impl From<docker::Error> for Failure {
    fn from(error: docker::Error) -> Self {
        backend::Error::from(error).into()
    }
}

impl From<lifecycle::Error> for Failure {
    fn from(error: lifecycle::Error) -> Self {
        backend::Error::from(error).into()
    }
}

impl From<records::Error> for Failure {
    fn from(error: records::Error) -> Self {
        backend::Error::from(error).into()
    }
}

/// Returns the exit code for a kind of failure, see docs/cli.md.
fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::BadRequest | ErrorKind::ProjectFile => 2,
        ErrorKind::Configuration | ErrorKind::ReloadRefused => 3,
        ErrorKind::Denied => 4,
        ErrorKind::NotFound | ErrorKind::Ambiguous | ErrorKind::Project => 5,
        ErrorKind::EngineUnreachable => 6,
        ErrorKind::Differs => 7,
        ErrorKind::Interrupted => 130,
        ErrorKind::Refused
        | ErrorKind::NoObject
        | ErrorKind::Conflict
        | ErrorKind::Unusable
        | ErrorKind::TimedOut
        | ErrorKind::Unavailable
        | ErrorKind::EngineLost
        | ErrorKind::EngineTimeout
        | ErrorKind::Engine
        | ErrorKind::NotUndone
        | ErrorKind::Internal
        | ErrorKind::Unknown => 1,
    }
}
