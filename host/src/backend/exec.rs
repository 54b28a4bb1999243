//! Commands in workspaces: bytes in both directions, and control.
//!
//! Every method fails with [`Error`].

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{Backend, Error, named};
use crate::client::{self, Client, Message};
use crate::docker::{self, ExecStdin, StdStream};
use crate::hooks::ExecSpec;
use crate::lifecycle::{self};
use crate::records::Target;
use crate::wire::{self, ExecAnswer, ExecDetached, ExecEnded, ExecRequest, Problem, TerminalSize};

/// Channels of the conversation with a service.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// The time after a command's limit in which a service reports that it has killed the command.
const ANSWER: Duration = Duration::from_millis(250);
/// The limit of buffered output, in bytes, of a command that is past its time limit while its output is not read.
const KEPT: usize = 64 << 20;
/// The time in which a killed command ends.
const DYING: Duration = Duration::from_millis(500);
/// The time in which a service confirms that it leaves a command running.
const LEAVING: Duration = Duration::from_secs(5);

/// A running command.
pub struct ExecSession {
    /// Its output.
    pub output: ExecOutput,
    /// Its input, if it has one.
    pub input: Option<ExecInput>,
    /// The control over it.
    pub control: ExecControl,
}

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEnd {
    /// It exited with this code; 128 + n for signal n.
    Exited(i64),
    /// It continues.
    Detached,
    /// The service killed it at its time limit.
    TimedOut,
}

/// The output of a command.
pub struct ExecOutput(Output);

enum Output {
    Here(Box<docker::ExecOutput>),
    Service {
        pieces: mpsc::UnboundedReceiver<Piece>,
        end: watch::Receiver<Option<Arc<Last>>>,
        /// The permit of the last returned piece; releasing it lets the next piece through.
        held: Option<OwnedSemaphorePermit>,
    },
}

type Piece = (StdStream, Bytes, Option<OwnedSemaphorePermit>);

/// The last message of a service.
enum Last {
    Ended(ExecEnded),
    Problem(Box<Problem>),
    Broken(String),
    Silent,
}

/// The input of a command. Dropping it closes it.
pub struct ExecInput(Input);

enum Input {
    Here(ExecStdin),
    Service { to: mpsc::Sender<ToService>, end: watch::Receiver<Option<Arc<Last>>> },
}

/// A message for a service.
enum ToService {
    Bytes(Vec<u8>),
    Text(wire::ExecInput),
}

/// Control over a command.
#[derive(Clone)]
pub struct ExecControl(Control);

#[derive(Clone)]
enum Control {
    Here(docker::ExecControl),
    Service {
        server: String,
        to: mpsc::Sender<ToService>,
        end: watch::Receiver<Option<Arc<Last>>>,
        /// Whether the command is past its time limit: its output is then received even if it is not read.
        late: watch::Sender<bool>,
    },
}

impl Backend {
    /// Runs a command interactively. `size` is rows and columns of its terminal; a service kills it after `limit`.
    pub async fn exec(
        &self,
        target: &Target,
        spec: ExecSpec,
        stdin: bool,
        size: Option<(u16, u16)>,
        limit: Option<Duration>,
    ) -> Result<ExecSession, Error> {
        if let Some(client) = &self.service {
            let request = ExecRequest {
                stdin,
                rows: size.map(|(rows, _)| rows),
                cols: size.map(|(_, cols)| cols),
                timeout: limit.map(crate::config::Span),
                ..ExecRequest::of(spec)
            };
            return talk(client, &named(client, target).await?, &request).await;
        }
        let lifecycle = self.here().await?;
        let id = lifecycle.find(target).await?;
        let (output, stdin, control) = Box::pin(lifecycle.exec(&id, spec, stdin, size)).await?.into_parts();
        Ok(ExecSession {
            output: ExecOutput(Output::Here(Box::new(output))),
            input: stdin.map(|stdin| ExecInput(Input::Here(stdin))),
            control: ExecControl(Control::Here(control)),
        })
    }

    /// Starts a command and detaches from it; its output is lost.
    pub async fn exec_detached(&self, target: &Target, spec: ExecSpec) -> Result<ExecDetached, Error> {
        if let Some(client) = &self.service {
            let request = ExecRequest { detach: true, ..ExecRequest::of(spec) };
            return match client.exec(&named(client, target).await?, &request).await? {
                ExecAnswer::Detached(detached) => Ok(detached),
                ExecAnswer::Ended(_) => {
                    let cause = "a detached command has ended".to_owned();
                    Err(client::Error::Answer { server: client.server(), cause }.into())
                }
            };
        }
        let lifecycle = self.here().await?;
        let id = lifecycle.find(target).await?;
        let exec_id = Box::pin(lifecycle.exec_detached(&id, spec)).await?;
        Ok(ExecDetached { workspace: id, exec_id })
    }
}

async fn talk(client: &Client, workspace: &str, request: &ExecRequest) -> Result<ExecSession, Error> {
    let (mut outgoing, mut incoming) = client.exec_socket(workspace).await?;
    outgoing.text(request).await;
    let (to, mut said) = mpsc::channel::<ToService>(4);
    tokio::spawn(async move {
        while let Some(said) = said.recv().await {
            let taken = match said {
                ToService::Bytes(bytes) => outgoing.bytes(STDIN, &bytes).await,
                ToService::Text(input) => outgoing.text(&input).await,
            };
            if !taken {
                return;
            }
        }
        // Dropping the sender would end the conversation.
        std::future::pending::<()>().await;
    });
    let (pieces_to, pieces) = mpsc::unbounded_channel();
    let (end_to, end) = watch::channel(None);
    let (late, mut is_late) = watch::channel(false);
    tokio::spawn(async move {
        // Only one piece is read ahead, so a reader that does not read blocks the command.
        let ahead = Arc::new(Semaphore::new(1));
        let mut kept = 0;
        let last = loop {
            let (stream, bytes) = match incoming.next().await {
                Ok(Some(Message::Bytes(bytes))) => match written(bytes) {
                    Some(piece) => piece,
                    None => continue,
                },
                Ok(Some(Message::Text(text))) => break last_words(&text),
                Ok(None) => break Last::Silent,
                Err(error) => break Last::Broken(error.to_string()),
            };
            let permit = tokio::select! {
                biased;
                permit = ahead.clone().acquire_owned() => permit.ok(),
                _ = is_late.wait_for(|late| *late) => None,
            };
            if permit.is_none() {
                kept += bytes.len();
                if kept > KEPT {
                    break Last::Broken(
                        "the command still writes long after its timeout; its output is no longer read".into(),
                    );
                }
            }
            if pieces_to.send((stream, bytes, permit)).is_err() {
                return;
            }
        };
        end_to.send_replace(Some(Arc::new(last)));
    });
    let input = request.stdin.then(|| ExecInput(Input::Service { to: to.clone(), end: end.clone() }));
    Ok(ExecSession {
        output: ExecOutput(Output::Service { pieces, end: end.clone(), held: None }),
        input,
        control: ExecControl(Control::Service { server: client.server(), to, end, late }),
    })
}

/// Splits output from the byte that names its channel.
fn written(mut bytes: Bytes) -> Option<(StdStream, Bytes)> {
    let stream = match *bytes.first()? {
        STDOUT => StdStream::Stdout,
        STDERR => StdStream::Stderr,
        _ => return None,
    };
    bytes.advance(1);
    Some((stream, bytes))
}

fn last_words(text: &str) -> Last {
    match serde_json::from_str::<ExecEnded>(text) {
        Ok(ended) => Last::Ended(ended),
        Err(_) => match serde_json::from_str::<Problem>(text) {
            Ok(problem) => Last::Problem(Box::new(problem)),
            Err(error) => Last::Broken(error.to_string()),
        },
    }
}

impl ExecOutput {
    /// Returns the next bytes; `None` at the end of the output.
    pub async fn next(&mut self) -> Result<Option<(StdStream, Bytes)>, Error> {
        match &mut self.0 {
            Output::Here(output) => Ok(output.next().await.transpose().map_err(lifecycle::Error::from)?),
            Output::Service { pieces, held, .. } => {
                drop(held.take());
                let Some((stream, bytes, permit)) = pieces.recv().await else { return Ok(None) };
                *held = permit;
                Ok(Some((stream, bytes)))
            }
        }
    }

    /// Returns whether a process that the ended command left behind still holds its output.
    pub fn cut(&self) -> bool {
        match &self.0 {
            Output::Here(output) => output.cut(),
            Output::Service { end, .. } => match end.borrow().as_deref() {
                Some(Last::Ended(ended)) => ended.cut,
                _ => false,
            },
        }
    }
}

impl ExecInput {
    /// Writes bytes. Returns whether the command still accepts input.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        match &mut self.0 {
            Input::Here(stdin) => stdin.write_all(bytes).await.is_ok(),
            Input::Service { to, .. } => to.send(ToService::Bytes(bytes.to_vec())).await.is_ok(),
        }
    }

    /// Ends the input.
    pub async fn close(mut self) {
        match &mut self.0 {
            // The command may have ended meanwhile.
            Input::Here(stdin) => drop(stdin.shutdown().await),
            Input::Service { to, .. } => {
                let end = wire::ExecInput { stdin_end: true, ..wire::ExecInput::default() };
                drop(to.send(ToService::Text(end)).await);
            }
        }
    }

    /// Leaves the command running. The caller must keep the input: its end would be the end of the command's input.
    pub async fn detach(&mut self) {
        if let Input::Service { to, end } = &mut self.0 {
            let detach = wire::ExecInput { detach: true, ..wire::ExecInput::default() };
            if to.send(ToService::Text(detach)).await.is_ok() {
                // Until the service confirms, the end of the connection would kill the command.
                let _ = tokio::time::timeout(LEAVING, end.wait_for(Option::is_some)).await;
            }
        }
    }
}

impl ExecControl {
    /// Sets the size of the command's terminal. A command that has just ended has no terminal.
    pub async fn resize(&self, rows: u16, cols: u16) {
        match &self.0 {
            Control::Here(control) => drop(control.resize(rows, cols).await),
            Control::Service { to, .. } => {
                let resize = Some(TerminalSize { rows, cols });
                let size = wire::ExecInput { resize, ..wire::ExecInput::default() };
                drop(to.send(ToService::Text(size)).await);
            }
        }
    }

    /// Returns the time after the command's limit before [`ExecControl::kill_late`] must be called.
    pub fn patience(&self) -> Duration {
        match &self.0 {
            Control::Here(_) => Duration::ZERO,
            Control::Service { .. } => ANSWER,
        }
    }

    /// Kills a command that is past its time limit. Returns `false` when the command ended by itself meanwhile. A
    /// service kills the command itself; its message is read after all output that is still unread.
    pub async fn kill_late(&self) -> Result<bool, Error> {
        match &self.0 {
            Control::Here(control) => loop {
                if control.kill().await.map_err(lifecycle::Error::from)? {
                    return Ok(true);
                }
                // The command has ended, or the engine is only about to start it.
                if tokio::time::timeout(DYING, control.exit()).await.is_ok() {
                    return Ok(false);
                }
            },
            Control::Service { late, .. } => {
                late.send_replace(true);
                Ok(self.end().await? == ExecEnd::TimedOut)
            }
        }
    }

    /// Kills a command whose output is no longer read. A service does so itself when the connection ends.
    pub async fn abandon(&self) -> Result<(), Error> {
        match &self.0 {
            Control::Here(_) => self.kill_late().await.map(drop),
            Control::Service { .. } => Ok(()),
        }
    }

    /// Waits for the end.
    pub async fn end(&self) -> Result<ExecEnd, Error> {
        match &self.0 {
            Control::Here(control) => Ok(match control.exit().await.map_err(lifecycle::Error::from)? {
                docker::ExecEnd::Exited(code) => ExecEnd::Exited(code),
                docker::ExecEnd::Detached => ExecEnd::Detached,
            }),
            Control::Service { server, end, .. } => {
                let last = end.clone().wait_for(Option::is_some).await.ok().and_then(|last| last.clone());
                let answer = |cause: String| client::Error::Answer { server: server.clone(), cause };
                Ok(match last.as_deref() {
                    Some(Last::Ended(ended)) if ended.detached => ExecEnd::Detached,
                    Some(Last::Ended(ended)) => ExecEnd::Exited(ended.exit_code),
                    Some(Last::Problem(problem)) if problem.code == "timeout" => ExecEnd::TimedOut,
                    Some(Last::Problem(problem)) => return Err(client::Error::Problem(problem.clone()).into()),
                    Some(Last::Broken(cause)) => return Err(answer(cause.clone()).into()),
                    Some(Last::Silent) | None => {
                        return Err(answer("it closed the connection without an exit code".to_owned()).into());
                    }
                })
            }
        }
    }
}
