//! Commands in a running container, each on its own connection: raw bytes, half-close, resize.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::SocketWriter;
use super::error::{self, Error, Result};
use super::hijack::StdStream;
use super::http::Call;
use super::{Docker, containers};

mod ending;
mod kill;
mod output;
pub use output::ExecOutput;

const OPERATION: &str = "run the command";
/// Pauses between checks of a silent process: the first and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_millis(500);
/// A process that still runs this long after its terminal was closed counts as detached.
const DETACHED_AFTER: Duration = Duration::from_secs(2);

/// A command to run in a container.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The command and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// Variables in addition to the container's environment.
    pub env: BTreeMap<String, String>,
    /// User or `uid:gid`; none means the container's user.
    pub user: Option<String>,
    /// Absolute path; none means the container's working directory.
    pub working_dir: Option<String>,
    /// Whether the command gets a terminal.
    pub tty: bool,
    /// Whether the command gets an open stdin. Without one, it reads end-of-file at once.
    pub stdin: bool,
    /// Rows and columns of the terminal.
    pub size: Option<(u16, u16)>,
    /// Key sequence that detaches and leaves the command running; none means the engine's default (`ctrl-p,ctrl-q`).
    /// It needs a terminal and stdin.
    pub detach_keys: Option<String>,
}

/// A command that was started.
#[derive(Debug)]
pub struct ExecSession {
    output: ExecOutput,
    stdin: Option<ExecStdin>,
    control: ExecControl,
}

/// The known facts about the end of the output.
#[derive(Debug, Clone, Default)]
struct StreamEnd {
    ended: bool,
    /// The engine's message if the command did not start.
    refusal: Option<String>,
    /// Whether the engine reported that the detach keys were typed.
    detached: bool,
}

/// A command's stdin. Shutting it down, or dropping it, sends end-of-file.
#[derive(Debug)]
pub struct ExecStdin(SocketWriter);

/// Resizes a command's terminal and reports how the command ended.
#[derive(Debug, Clone)]
pub struct ExecControl {
    docker: Docker,
    id: String,
    /// Whether detaching is possible.
    detachable: bool,
    end: watch::Receiver<StreamEnd>,
}

/// The way in which a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEnd {
    /// The command exited with this code; 128 + n for signal n.
    Exited(i64),
    /// The engine received the detach keys. According to its API the command keeps running, but Docker 20.10 has been
    /// observed to end it. Callers that need the command to survive must handle the keys themselves, as `wharf exec`
    /// does.
    Detached,
}

/// All output of a command, see [`Docker::exec_collect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecCollected {
    /// Exit code.
    pub code: i64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Whether the output exceeded the limit.
    pub truncated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Look {
    running: bool,
    exit_code: Option<i64>,
    #[serde(default)]
    pid: i64,
    #[serde(rename = "ContainerID", default)]
    container_id: String,
}

impl Docker {
    /// Starts a command in a running container. It may run for any length of time. Dropping the session leaves it
    /// running.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotRunning`], [`Error::Conflict`] for a paused container. A missing command is
    /// only reported later, by [`ExecControl::exit`].
    pub async fn exec(&self, id: &str, request: &ExecRequest) -> Result<ExecSession> {
        let exec = self.prepare(id, request, true).await?;
        let size = request.size.filter(|_| request.tty);
        let start = serde_json::json!({ "Detach": false, "Tty": request.tty });
        let call = Call::post(OPERATION, format!("/exec/{exec}/start"));
        let call = call.about("container", id).upgrade().json(&start)?;
        let link = match self.http().hijack(&call).await {
            Ok(link) => link,
            Err(error) => return Err(self.unless_ending(id, refused(error)).await),
        };
        let (tell, end) = watch::channel(StreamEnd::default());
        let detachable = request.tty && request.stdin;
        let control = ExecControl { docker: self.clone(), id: exec, detachable, end };
        let output = ExecOutput::new(link.reader, link.first, request.tty, control.clone(), tell)?;
        if let Some((rows, columns)) = size.filter(|_| self.http().is_before(1, 42)) {
            // A command that has already ended has no terminal any more.
            let _ = control.resize(rows, columns).await;
        }
        // Without stdin the writing half is dropped here, which closes that direction. The docker CLI does the same.
        let stdin = request.stdin.then_some(ExecStdin(link.writer));
        Ok(ExecSession { output, stdin, control })
    }

    /// Starts a command without attaching to it and returns the engine's id of it. Its output is lost.
    ///
    /// # Errors
    /// The errors of [`Docker::exec`], and those for a command that does not exist or cannot be executed.
    pub async fn exec_detached(&self, id: &str, request: &ExecRequest) -> Result<String> {
        let exec = self.prepare(id, request, false).await?;
        let start = serde_json::json!({ "Detach": true, "Tty": request.tty });
        let call = Call::post(OPERATION, format!("/exec/{exec}/start")).about("container", id).json(&start)?;
        if let Err(error) = self.http().ok(&call).await {
            return Err(self.unless_ending(id, refused(error)).await);
        }
        // Engines up to the current version report here that a command could not start, but not the reason.
        let (_, end) = watch::channel(StreamEnd::default());
        let look = ExecControl { docker: self.clone(), id: exec.clone(), detachable: false, end }.look().await?;
        if !look.running && look.pid == 0 {
            ended(&look, None)?;
        }
        Ok(exec)
    }

    /// Creates the command in the engine without starting it.
    async fn prepare(&self, id: &str, request: &ExecRequest, attach: bool) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            id: String,
        }
        let env: Vec<String> = request.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut body = serde_json::json!({
            "AttachStdin": request.stdin && attach,
            "AttachStdout": attach,
            "AttachStderr": attach,
            "Tty": request.tty,
            "Cmd": request.command,
            "Env": env,
        });
        let mut set = |key: &str, value: serde_json::Value| {
            body.as_object_mut().map(|fields| fields.insert(key.to_owned(), value));
        };
        if let Some(user) = &request.user {
            set("User", user.as_str().into());
        }
        if let Some(folder) = request.working_dir.as_ref().filter(|folder| !folder.is_empty()) {
            set("WorkingDir", folder.as_str().into());
        }
        if let Some(keys) = &request.detach_keys {
            set("DetachKeys", keys.as_str().into());
        }
        if let Some((rows, columns)) = request.size.filter(|_| request.tty) {
            // Engines before API 1.42 do not know this field and get a resize after the start.
            set("ConsoleSize", serde_json::json!([rows, columns]));
        }
        let call = Call::post(OPERATION, format!("{}/exec", containers::path(id)?)).about("container", id);
        let answer: Answer = self.http().json(&call.json(&body)?).await?;
        Ok(answer.id)
    }

    /// Runs a command to its end and returns its output, at most `limit` bytes of each stream. Bytes beyond the limit
    /// are read and dropped. Callers should add a timeout: the engine has no call to end a command, so it may run on.
    ///
    /// # Errors
    /// The errors of [`Docker::exec`] and [`ExecControl::exit`].
    pub async fn exec_collect(&self, id: &str, request: &ExecRequest, limit: usize) -> Result<ExecCollected> {
        let (mut output, stdin, control) = self.exec(id, request).await?.into_parts();
        drop(stdin);
        let mut all = ExecCollected { code: 0, stdout: Vec::new(), stderr: Vec::new(), truncated: false };
        while let Some(item) = output.next().await {
            let (stream, bytes) = item?;
            let into = match stream {
                StdStream::Stdout => &mut all.stdout,
                StdStream::Stderr => &mut all.stderr,
            };
            let room = limit.saturating_sub(into.len());
            all.truncated |= bytes.len() > room;
            into.extend(bytes.iter().take(room));
        }
        all.code = match control.exit().await? {
            ExecEnd::Exited(code) => code,
            ExecEnd::Detached => 0,
        };
        Ok(all)
    }
}

/// Maps the error of a start call. Newer engines report there what older engines write to stdout.
fn refused(error: Error) -> Error {
    match error {
        Error::BadRequest { cause, .. } | Error::Engine { message: cause, .. } => not_started(&cause),
        other => other,
    }
}

fn not_started(words: &str) -> Error {
    error::start_error(400, words)
}

impl ExecSession {
    /// Splits the session into reader, writer and control, so that each can have its own task.
    pub fn into_parts(self) -> (ExecOutput, Option<ExecStdin>, ExecControl) {
        (self.output, self.stdin, self.control)
    }

    /// Returns the engine's id of this command.
    pub fn id(&self) -> &str {
        &self.control.id
    }
}

impl ExecControl {
    /// Sets the size of the command's terminal.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Engine`] when the command has ended or has no terminal.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let path = format!("/exec/{}/resize?h={rows}&w={columns}", self.id);
        let call = Call::post("resize the terminal", path).about("command", &self.id);
        self.docker.http().ok(&call).await.map(drop)
    }

    /// Waits until the command has ended. Read the output concurrently or before: a command whose output is not read
    /// blocks.
    ///
    /// # Errors
    /// [`Error::CommandNotFound`] and [`Error::CommandNotExecutable`] (by convention the exit codes 127 and 126, see
    /// [`Error::exit_code`]), [`Error::NotRunning`] when the container ended while the command was starting,
    /// [`Error::StartFailed`], and [`Error::NotFound`] when the container is gone.
    pub async fn exit(&self) -> Result<ExecEnd> {
        let mut end = self.end.clone();
        let mut closed_at = None;
        let mut pause = FIRST_LOOK;
        loop {
            let state = end.borrow_and_update().clone();
            if state.ended && closed_at.is_none() {
                closed_at = Some(Instant::now());
                pause = Duration::from_millis(1);
            }
            if state.detached {
                return Ok(ExecEnd::Detached);
            }
            if state.ended || pause > FIRST_LOOK {
                let look = self.look().await?;
                if !look.running && (look.exit_code.is_some() || state.ended) {
                    return match ended(&look, state.refusal.as_deref()) {
                        Err(error) => Err(self.docker.unless_ending(&look.container_id, error).await),
                        end => end,
                    };
                }
            }
            if self.detachable && closed_at.is_some_and(|at| at.elapsed() > DETACHED_AFTER) {
                return Ok(ExecEnd::Detached);
            }
            tokio::select! {
                Ok(()) = end.changed() => {}
                () = tokio::time::sleep(pause) => pause = (pause * 3 / 2).max(pause + Duration::from_millis(1)).min(LAST_LOOK),
            }
        }
    }

    async fn look(&self) -> Result<Look> {
        let call = Call::get("inspect the command", format!("/exec/{}/json", self.id)).about("command", &self.id);
        self.docker.http().json(&call).await
    }
}

fn ended(look: &Look, refusal: Option<&str>) -> Result<ExecEnd> {
    match (look.exit_code, refusal) {
        (_, Some(words)) => Err(not_started(words)),
        (Some(127), None) if look.pid == 0 => Err(Error::CommandNotFound { cause: "exit code 127".to_owned() }),
        (Some(126), None) if look.pid == 0 => Err(Error::CommandNotExecutable { cause: "exit code 126".to_owned() }),
        (Some(code), None) => Ok(ExecEnd::Exited(code)),
        (None, None) => Err(Error::StartFailed { cause: "the engine gave no reason".to_owned() }),
    }
}

impl AsyncWrite for ExecStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
