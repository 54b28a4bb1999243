//! Ending a command: the engine has no call for that, so its process group is signalled.
//!
//! Where the engine is local, its processes are seen in /proc. With the right to, they are signalled from here; otherwise
//! from inside the container, with its shell.

use rustix::process::{Pid, Signal, kill_process_group};

use super::{ExecControl, ExecRequest};
use crate::docker::error::{Error, Result};

const OPERATION: &str = "end the command";

impl ExecControl {
    /// Kills the command with everything in its process group, and says whether there was something to kill: not where it
    /// has ended, nor where the engine is only about to start it. What has left its group (`setsid`) lives on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with an engine on another machine, or in a container without a shell where only root may
    /// signal from outside; the command then runs on.
    pub async fn kill(&self) -> Result<bool> {
        let look = self.look().await?;
        if !look.running || look.pid <= 0 {
            return Ok(false);
        }
        let unsupported = |cause: &str| Error::Unsupported { operation: OPERATION, cause: cause.to_owned() };
        if !self.docker.is_local() {
            return Err(unsupported("the engine is on another machine, so the command runs on"));
        }
        // The number may mean another process by now: only one in this container's control group is meant.
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", look.pid));
        let Ok(groups) = read("cgroup") else { return Ok(false) };
        let v2_namespace = groups.lines().all(|line| line.starts_with("0::"));
        if !groups.contains(&look.container_id) && !v2_namespace {
            return Ok(false);
        }
        if let Some(pid) = i32::try_from(look.pid).ok().and_then(Pid::from_raw)
            && groups.contains(&look.container_id)
            && kill_process_group(pid, Signal::KILL).is_ok()
        {
            return Ok(true);
        }
        // Its number in the container's own namespace is the last one.
        let status = read("status").unwrap_or_default();
        let inner =
            status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse::<u32>().ok());
        let Some(inner) = inner else { return Ok(false) };
        let command = ["sh".to_owned(), "-c".to_owned(), format!("kill -KILL -{inner} || kill -KILL {inner}")].into();
        let request = ExecRequest { command, ..ExecRequest::default() };
        match self.docker.exec_collect(&look.container_id, &request, 1 << 10).await {
            Ok(done) if done.code == 0 => Ok(true),
            Ok(_) | Err(Error::CommandNotFound { .. }) => {
                Err(unsupported("it could be signalled neither from outside nor from inside, so it runs on"))
            }
            Err(error) => Err(error),
        }
    }
}
