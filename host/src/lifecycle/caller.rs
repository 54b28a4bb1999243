//! The caller of the running work. It is a part of the facts of every decision, and so of every record.
//!
//! Verbs do not pass it on to each other. The entry point sets it once for the task that carries out a request. Tasks
//! that are spawned for that request inherit it with [`for_this_caller`].

use std::future::Future;
use std::os::unix::fs::MetadataExt;

use super::Lifecycle;
use crate::hooks::{Caller, CallerRole, Door};

tokio::task_local! {
    static CALLER: Caller;
}

/// Runs work for a caller.
pub async fn acting_for<F: Future>(caller: Caller, work: F) -> F::Output {
    CALLER.scope(caller, work).await
}

/// Wraps a future for a separate task: it acts for the caller of the current task.
pub fn for_this_caller<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let caller = CALLER.try_with(Clone::clone).ok();
    async move {
        match caller {
            Some(caller) => CALLER.scope(caller, work).await,
            None => work.await,
        }
    }
}

/// Returns the user who runs a command without a service.
pub(super) fn of_this_process() -> Caller {
    // The owner of a process's own proc folder is its effective user; the standard library has no geteuid.
    let uid = std::fs::metadata("/proc/self").ok().map(|meta| meta.uid());
    let name = uid.map_or_else(|| "user".into(), |uid| format!("user {uid}"));
    Caller { name, uid, role: CallerRole::Admin, door: Door::CommandLine }
}

/// Returns the caller of this task, or else the user of this process.
pub(super) fn now() -> Caller {
    CALLER.try_with(Clone::clone).unwrap_or_else(|_| of_this_process())
}

impl Lifecycle {
    /// Marks a lifecycle as that of a service, which is the caller of all work without another caller.
    #[must_use]
    pub fn of_a_service(self) -> Self {
        let caller = Caller { name: "wharf serve".into(), uid: None, role: CallerRole::Admin, door: Door::Service };
        Self { own_caller: caller, ..self }
    }

    /// Returns the caller of this task.
    pub(super) fn caller(&self) -> Caller {
        CALLER.try_with(Clone::clone).unwrap_or_else(|_| self.own_caller.clone())
    }
}
