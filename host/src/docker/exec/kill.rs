//! Ends a command. The engine has no call for that, so its process group gets a signal.
//!
//! With a local engine, its processes are visible in /proc. If this process has the permission, it signals them
//! directly. Otherwise the container's shell sends the signal from inside. An engine on a local socket may still run
//! its processes elsewhere: behind a forwarded socket, in a virtual machine, or outside the container that this
//! process runs in.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::{ExecControl, ExecRequest, Look};
use crate::docker::containers;
use crate::docker::error::{Error, Result};
use crate::docker::http::Call;

const OPERATION: &str = "end the command";

/// The only field needed from a container: the number of its first process.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: InspectedState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    #[serde(default)]
    pid: i64,
}

/// Pause before a second check: a process that is just ending is in no group.
const AGAIN: Duration = Duration::from_millis(100);

/// Returns whether a process of this machine is in a container's control group.
fn is_of(pid: i64, container: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    !container.is_empty() && groups.contains(container)
}

/// Returns whether a process belongs to the container with this first process. It serves engines whose control groups
/// do not name containers (a rootless engine that may not create any). Both processes must share a PID namespace that
/// is not ours, and `first` must be its init process.
fn is_beside(pid: i64, first: i64) -> bool {
    let space = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|meta| (meta.dev(), meta.ino()));
    let theirs = space(&first.to_string());
    theirs.is_some() && theirs == space(&pid.to_string()) && theirs != space("self") && inner(first) == Some(1)
}

/// Returns the process number within the process's own PID namespace: the last number of `NSpid`.
fn inner(pid: i64) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok())
}

fn unsupported(cause: &str) -> Error {
    Error::Unsupported { operation: OPERATION, cause: cause.to_owned() }
}

impl ExecControl {
    /// Kills the command and its whole process group, and returns whether there was a process to kill. There is none
    /// if the command has ended, or if the engine has not started it yet. Processes that left the group (`setsid`)
    /// survive.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the engine's processes are not visible from here, as on another machine, or in a
    /// container without a shell where only root may signal from outside. The command then keeps running.
    pub async fn kill(&self) -> Result<bool> {
        for wait in [Duration::ZERO, AGAIN] {
            tokio::time::sleep(wait).await;
            if let Some(killed) = self.kill_seen().await? {
                return Ok(killed);
            }
        }
        Err(unsupported("the processes of the engine are not visible from here, so the command keeps running"))
    }

    /// Kills the command as [`ExecControl::kill`] does. Returns none if neither the command nor its container is
    /// visible.
    async fn kill_seen(&self) -> Result<Option<bool>> {
        let look = self.look().await?;
        if !look.running || look.pid <= 0 {
            return Ok(Some(false));
        }
        if !self.docker.is_local() {
            return Err(unsupported("the engine is on another machine, so the command keeps running"));
        }
        // The number may belong to another process by now, or may always have belonged to one.
        if is_of(look.pid, &look.container_id) {
            return self.signal(&look).await.map(Some);
        }
        // The command has ended (the engine may report that late) or is about to start, unless nothing of the
        // container is visible here.
        let call = Call::get(OPERATION, format!("{}/json", containers::path(&look.container_id)?));
        let first: Inspected = match self.docker.http().json(&call.about("container", &look.container_id)).await {
            // The command ended with its container.
            Err(Error::NotFound { .. }) => return Ok(Some(false)),
            first => first?,
        };
        if is_beside(look.pid, first.state.pid) {
            return self.signal(&look).await.map(Some);
        }
        let seen = first.state.pid <= 0 || is_of(first.state.pid, &look.container_id);
        Ok(seen.then_some(false))
    }

    async fn signal(&self, look: &Look) -> Result<bool> {
        if let Some(pid) = i32::try_from(look.pid).ok().and_then(Pid::from_raw)
            && kill_process_group(pid, Signal::KILL).is_ok()
        {
            return Ok(true);
        }
        let Some(inner) = inner(look.pid) else { return Ok(false) };
        let command = ["sh".to_owned(), "-c".to_owned(), format!("kill -KILL -{inner} || kill -KILL {inner}")].into();
        let request = ExecRequest { command, ..ExecRequest::default() };
        match self.docker.exec_collect(&look.container_id, &request, 1 << 10).await {
            Ok(done) if done.code == 0 => Ok(true),
            Ok(_) | Err(Error::CommandNotFound { .. }) => {
                Err(unsupported("cannot signal it from outside or inside the container, so it keeps running"))
            }
            Err(error) => Err(error),
        }
    }
}
