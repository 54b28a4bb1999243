//! Who asked for what is under way: a part of the facts of every decision, and so of every record.
//!
//! Verbs do not hand it on from one to the next. The door says it once, for the task that carries out a request; what is
//! spawned for that request takes it along with [`for_this_caller`].

use std::future::Future;
use std::os::unix::fs::MetadataExt;

use super::Lifecycle;
use crate::hooks::{Caller, CallerRole, Door};

tokio::task_local! {
    static CALLER: Caller;
}

/// Carries something out for a caller.
pub async fn acting_for<F: Future>(caller: Caller, work: F) -> F::Output {
    CALLER.scope(caller, work).await
}

/// The same future for a task of its own: it acts for the caller of this one.
pub fn for_this_caller<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let caller = CALLER.try_with(Clone::clone).ok();
    async move {
        match caller {
            Some(caller) => CALLER.scope(caller, work).await,
            None => work.await,
        }
    }
}

/// Who runs a command without a service.
pub(super) fn of_this_process() -> Caller {
    // The owner of a process's own proc folder is its effective user; the standard library has no geteuid.
    let name = std::fs::metadata("/proc/self").map_or_else(|_| "user".into(), |meta| format!("user {}", meta.uid()));
    Caller { name, role: CallerRole::Admin, door: Door::CommandLine }
}

/// Who asked for what this task does, or else runs this process.
pub(super) fn now() -> Caller {
    CALLER.try_with(Clone::clone).unwrap_or_else(|_| of_this_process())
}

impl Lifecycle {
    /// The same for a service: it does by itself whatever no caller asked for.
    #[must_use]
    pub fn of_a_service(self) -> Self {
        let caller = Caller { name: "wharf serve".into(), role: CallerRole::Admin, door: Door::Service };
        Self { own_caller: caller, ..self }
    }

    /// Who asked for what this task does.
    pub(super) fn caller(&self) -> Caller {
        CALLER.try_with(Clone::clone).unwrap_or_else(|_| self.own_caller.clone())
    }
}
