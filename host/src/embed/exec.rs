//! Commands in workspaces.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt, TryStreamExt, try_unfold};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backend::{Backend, Error, ExecControl, ExecEnd, ExecInput, ExecSession};
use crate::docker::StdStream;
use crate::hooks::ExecSpec;
use crate::records::Target;
use crate::wire::ExecDetached;

/// A command that is to run: finished by [`Exec::output`], [`Exec::spawn`] or [`Exec::detach`].
#[must_use = "call output, spawn or detach to start it"]
pub struct Exec<'a> {
    backend: &'a Backend,
    target: Target,
    spec: ExecSpec,
    stdin: bool,
    size: Option<(u16, u16)>,
    limit: Option<Duration>,
}

/// The collected output of a command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The end of the command; [`ExecEnd::Exited`] with its code, or [`ExecEnd::TimedOut`].
    pub end: ExecEnd,
    /// Everything that it wrote to its standard output; with a terminal, to standard error, too.
    pub stdout: Vec<u8>,
    /// Everything that it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the command exited with 0.
    pub fn success(&self) -> bool {
        self.end == ExecEnd::Exited(0)
    }
}

/// A command that runs: a [`Stream`] of its output, which ends with it.
///
/// A reader that does not read holds the command up. Dropping it leaves a command of this process running; a service kills it.
pub struct Running {
    output: BoxStream<'static, Result<(StdStream, Bytes), Error>>,
    /// The standard input, if [`Exec::stdin`] asked for one. Dropping it ends the command's input.
    pub stdin: Option<ExecInput>,
    control: ExecControl,
    late: Option<Late>,
}

/// The task that kills a command after its time, and whether it did.
struct Late {
    due: Instant,
    kill: JoinHandle<Result<bool, Error>>,
}

impl Drop for Late {
    fn drop(&mut self) {
        self.kill.abort();
    }
}

impl<'a> Exec<'a> {
    pub(super) fn new(backend: &'a Backend, target: Target, command: Vec<String>) -> Self {
        let spec = ExecSpec { command, ..ExecSpec::default() };
        Self { backend, target, spec, stdin: false, size: None, limit: None }
    }

    /// Adds a variable to its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.env.insert(name.into(), value.into());
        self
    }

    /// Runs it as this user: a name or `uid:gid`.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.spec.user = Some(user.into());
        self
    }

    /// Runs it in this folder of the workspace.
    pub fn working_dir(mut self, folder: impl Into<String>) -> Self {
        self.spec.working_dir = Some(folder.into());
        self
    }

    /// Gives it a terminal of this size.
    pub fn terminal(mut self, rows: u16, columns: u16) -> Self {
        self.spec.tty = true;
        self.size = Some((rows, columns));
        self
    }

    /// Gives it a standard input; for [`Exec::spawn`].
    pub fn stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// Kills it with its process group when it takes longer.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// See [`crate::Wharf`]. The code `command-not-found` means that the workspace has no such program.
    pub async fn spawn(self) -> Result<Running, Error> {
        let Self { backend, target, spec, stdin, size, limit } = self;
        let session = Box::pin(backend.exec(&target, spec, stdin, size, limit)).await?;
        let ExecSession { output, input, control } = session;
        let late = limit.map(|limit| {
            let control = control.clone();
            let due = Instant::now() + limit + control.patience();
            let kill = tokio::spawn(async move {
                tokio::time::sleep_until(due).await;
                control.kill_late().await
            });
            Late { due, kill }
        });
        let output = try_unfold(output, async |mut output| Ok(output.next().await?.map(|item| (item, output))));
        Ok(Running { output: output.boxed(), stdin: input, control, late })
    }

    /// Runs it to its end and collects its output. A given input is empty.
    ///
    /// # Errors
    /// As [`Exec::spawn`]. A command that fails is no error: see [`Output::end`].
    pub async fn output(self) -> Result<Output, Error> {
        let mut running = self.spawn().await?;
        drop(running.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some((stream, bytes)) = running.try_next().await? {
            match stream {
                StdStream::Stdout => stdout.extend_from_slice(&bytes),
                StdStream::Stderr => stderr.extend_from_slice(&bytes),
            }
        }
        Ok(Output { end: running.wait().await?, stdout, stderr })
    }

    /// Starts it and does not wait for it; its output is lost.
    ///
    /// # Errors
    /// As [`Exec::spawn`].
    pub async fn detach(self) -> Result<ExecDetached, Error> {
        Box::pin(self.backend.exec_detached(&self.target, self.spec)).await
    }
}

impl Running {
    /// Tells the command the size of its terminal.
    pub async fn resize(&self, rows: u16, columns: u16) {
        self.control.resize(rows, columns).await;
    }

    /// Kills the command with its process group; `false` when it has ended before.
    ///
    /// # Errors
    /// When engine or service does not do it.
    pub async fn kill(&self) -> Result<bool, Error> {
        self.control.kill_late().await
    }

    /// Waits for the end of the command. Its output has to be read first: a full pipe holds it up.
    ///
    /// # Errors
    /// When the connection to the engine or the service breaks.
    pub async fn wait(mut self) -> Result<ExecEnd, Error> {
        let end = self.control.end().await?;
        let killed = match &mut self.late {
            // The end may arrive before the task that killed the command has finished.
            Some(late) if Instant::now() >= late.due => {
                (&mut late.kill).await.is_ok_and(|killed| killed.unwrap_or(false))
            }
            _ => false,
        };
        Ok(if killed { ExecEnd::TimedOut } else { end })
    }
}

impl Stream for Running {
    type Item = Result<(StdStream, Bytes), Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.output.as_mut().poll_next(context)
    }
}
