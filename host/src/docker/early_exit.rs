//! Finds out why a container ended right after its start.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::error::{Error, Result};
use super::http::Call;
use super::logs::LogOptions;
use super::{Docker, containers};
use crate::workspace::{Container, State};

/// The message of the engine's init process (tini) when it cannot execute the command: `[FATAL tini (7)] exec nope
/// failed: No such file or directory`.
const INIT: &str = "[FATAL tini (";

/// Maximum time for a container's init process to start the command, on a very busy machine.
const TAKE_OFF: Duration = Duration::from_secs(5);
/// How long a failing process list is retried.
const LISTING: Duration = Duration::from_millis(200);
/// Pause between two checks through the engine.
const PAUSE: Duration = Duration::from_millis(5);

/// Pause between two checks of the kernel's files.
const GLANCE: Duration = Duration::from_millis(1);

/// The activity in a container right after its start.
enum Inside {
    /// The command runs.
    Command,
    /// Only the init process runs, or no process yet.
    Init,
    /// The container does not run.
    Nothing,
}

impl Docker {
    /// Waits until a container's init process has started the command, and returns the container's state at that
    /// time: running or ended. Use it after [`Docker::start`] of a container with an init process. The engine reports
    /// the end of such a container up to 40 ms late if the command does not exist, so a check right after the start
    /// would still say running.
    ///
    /// # Errors
    /// The errors of [`Docker::inspect`].
    pub async fn started(&self, id: &str) -> Result<Container> {
        let begin = Instant::now();
        if self.is_local()
            && let Some(container) = self.started_here(id, begin).await?
        {
            return Ok(container);
        }
        loop {
            let inside = self.inside(id).await;
            let container = self.inspect(id).await?;
            match inside {
                // A container without processes has ended, but the engine has not noticed yet.
                Ok(Inside::Init | Inside::Nothing)
                    if container.state == State::Running && begin.elapsed() < TAKE_OFF => {}
                // The processes may have disappeared while they were listed.
                Err(_) if container.state == State::Running && begin.elapsed() < LISTING => {}
                // If the engine cannot list processes (no `ps` on its machine), its report stands.
                _ => return Ok(container),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Does the same through the kernel's view of the container's processes, because the engine takes 20 ms to list
    /// them. Returns none if the kernel does not show them, e.g. because Wharf itself runs in a container.
    async fn started_here(&self, id: &str, begin: Instant) -> Result<Option<Container>> {
        let (container, pid) = self.inspect_with_pid(id).await?;
        let Some(init) = pid.filter(|_| container.state == State::Running) else { return Ok(None) };
        let mut waited = false;
        while begin.elapsed() < TAKE_OFF {
            match has_command(init, &container.id) {
                // A report from before the command ran may be outdated.
                Some(true) if waited => return Ok(Some(self.inspect(id).await?)),
                Some(true) => return Ok(Some(container)),
                Some(false) => tokio::time::sleep(GLANCE).await,
                None => return Ok(None),
            }
            waited = true;
        }
        Ok(None)
    }

    async fn inside(&self, id: &str) -> Result<Inside> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Top {
            processes: Option<Vec<Vec<String>>>,
        }
        let path = format!("{}/top?ps_args=-o%20pid,comm", containers::path(id)?);
        let call = Call::get("list the processes of the container", path).about("container", id);
        match self.http().json::<Top>(&call).await {
            Ok(top) => {
                let names: Vec<_> =
                    top.processes.unwrap_or_default().into_iter().filter_map(|mut row| row.pop()).collect();
                // The init process comes first. A second process is its child, before or after it became the command.
                let command = names.iter().any(|name| !is_init(name));
                Ok(if command { Inside::Command } else { Inside::Init })
            }
            Err(Error::Conflict { .. } | Error::NotRunning { .. }) => Ok(Inside::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Checks whether a container has ended because its command could not be executed.
    ///
    /// Without an init process, [`Docker::start`] fails in that case. With one, the start succeeds because the init
    /// process runs. A few milliseconds later the container ends with exit code 126 or 127 and a line on stderr.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection. The refused command itself is the result, not an error.
    pub async fn refused_command(&self, container: &Container) -> Result<Option<Error>> {
        let ended = matches!(container.state, State::Exited | State::Restarting);
        if !ended || !matches!(container.exit_code, Some(126 | 127)) {
            return Ok(None);
        }
        let options = LogOptions { tail: Some(3), stdout: false, ..LogOptions::default() };
        // Wharf's containers have no terminal.
        let mut logs = match self.logs(&container.id, false, &options).await {
            Ok(logs) => logs,
            // This log driver cannot be read.
            Err(Error::Unsupported { .. } | Error::Engine { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut cause = None;
        while let Some(lines) = logs.next().await {
            for line in lines? {
                let text = String::from_utf8_lossy(&line.message);
                if let Some((_, words)) = text.strip_prefix(INIT).and_then(|rest| rest.split_once(")] ")) {
                    cause = Some(words.trim().to_owned());
                }
            }
        }
        Ok(cause.map(|cause| match container.exit_code {
            Some(127) => Error::CommandNotFound { cause },
            _ => Error::CommandNotExecutable { cause },
        }))
    }
}

fn is_init(name: &str) -> bool {
    name.contains("init") || name.contains("tini")
}

/// Returns whether the init process with this number has started the command. Returns none if it has ended, or if the
/// kernel shows another container's process or no children (`CONFIG_PROC_CHILDREN`).
fn has_command(init: u32, container: &str) -> Option<bool> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{init}/{file}")).ok();
    // The number belongs to a different process if Wharf and the engine do not share a PID namespace.
    if !read("cgroup")?.contains(container) {
        return None;
    }
    // Between fork and exec, the child still has the init process's name.
    Some(read(&format!("task/{init}/children"))?.split_whitespace().any(|child| {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm"));
        name.is_ok_and(|name| !is_init(name.trim()))
    }))
}
