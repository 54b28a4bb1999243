//! Running commands over a WebSocket, with full terminal support.
//!
//! The client's first message on the WebSocket is the command as JSON. After that, binary messages carry bytes,
//! preceded by the number of their channel (0 stdin, 1 stdout, 2 stderr). Text messages are JSON: the client's `resize`
//! and `stdin-end`, and finally the server's `exit_code` or a problem. A client that does not read blocks the command,
//! and a command that does not read blocks the client. A command is killed when its client disconnects.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tracing::Instrument;

use crate::api::Api;
use crate::api::http::access::{Caller, Peer};
use crate::api::http::args::{Args, Named, read};
use crate::api::http::error::Problem;
use crate::api::http::stream::Seat;
use crate::api::routes::exec_collected::{REST, Running, check, exit_code, too_late};
use crate::docker::{ExecControl, ExecOutput, ExecStdin, StdStream};
use crate::lifecycle::{Error, acting_for, for_this_caller};
use crate::service::stopped;
use crate::wire::{ExecEnded, ExecInput, ExecRequest, TerminalSize};
use crate::workspace::WorkspaceId;

/// The limit of a message of the client, in bytes.
const MESSAGE: usize = 1 << 20;
/// The time limit for the first message.
const FIRST: Duration = Duration::from_secs(10);
/// The interval of the server's pings. A client that is silent for three times as long counts as disconnected.
const PING: Duration = Duration::from_secs(20);

/// Run a command interactively over a WebSocket (`wharf exec`)
///
/// The first message is an `ExecRequest`. Binary messages begin with the number of their channel: 0 stdin, 1 stdout, 2
/// stderr. Text messages of the client are `{"resize": {"rows": 24, "cols": 80}}`, `{"stdin-end": true}`, and
/// `{"detach": true}`, which leaves the command running. The only text message of the server is its last:
/// `{"exit_code": 0}` or a problem. The former has `"cut": true` if a process that the command left behind still holds
/// its output, and `"detached": true` if the command continues.
#[utoipa::path(get, path = "/v1/workspaces/{id}/exec", params(("id" = String, Path, description = "Id or name")),
    responses((status = 101, description = "Upgrade to a WebSocket")))]
pub(in crate::api) async fn talk(
    State(api): State<Api>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    name: Named,
    args: Args,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    args.end()?;
    let upgrade = upgrade.map_err(|_| Problem::only_websocket())?;
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    let seat = api.seat(&caller)?;
    let upgrade = upgrade.max_message_size(MESSAGE).max_frame_size(MESSAGE);
    // The session continues as a part of the request's trace.
    let span = tracing::Span::current();
    // An upgraded connection continues in a separate task.
    let talk = move |socket| {
        acting_for(caller.of_decisions(), session(api, (caller, peer), id, socket, Arc::new(seat))).instrument(span)
    };
    Ok(upgrade.on_upgrade(talk).into_response())
}

/// Runs a session over a WebSocket to its end; the slot is held until then.
async fn session(api: Api, (caller, peer): (Caller, Peer), id: WorkspaceId, socket: WebSocket, seat: Arc<Seat>) {
    let (mut to, mut from) = socket.split();
    let mut stop = api.stop.clone();
    let ran = tokio::select! {
        ran = run(&api, &id, &mut to, &mut from, (&seat, &caller, peer)) => ran,
        () = stopped(&mut stop) => Ok(End::Problem(Problem::stopping())),
        () = caller.revoked(&api.handle) => Ok(End::Problem(Problem::bad_token())),
    };
    let (last, code) = match ran {
        Ok(End::Exited { code, cut }) => (ended(code, cut, false), close_code::NORMAL),
        Ok(End::Left) => (ended(0, false, true), close_code::NORMAL),
        Ok(End::Problem(problem)) | Err(problem) => (json!(problem), close_code::ERROR),
        Ok(End::Gone) => {
            tracing::debug!("api: the client of a command in {id} has disconnected");
            drop(seat);
            return;
        }
    };
    let farewell = async {
        to.send(Message::Text(last.to_string().into())).await?;
        to.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await?;
        // Waits for the client's close message: without it, the last messages could be lost.
        while let Some(Ok(message)) = from.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
        }
        Ok::<_, axum::Error>(())
    };
    match tokio::time::timeout(crate::api::FAREWELL, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("api: cannot report the end of a command in {id}: {error}"),
        Err(_) => tracing::debug!("api: the client missed the end of a command in {id}"),
    }
    drop(seat);
}

fn ended(exit_code: i64, cut: bool, detached: bool) -> serde_json::Value {
    json!(ExecEnded { exit_code, cut, detached })
}

/// The end of a session.
enum End {
    /// The command exited with this code; `cut`: its output was still open.
    Exited {
        code: i64,
        cut: bool,
    },
    Problem(Problem),
    /// The client has detached, and the command continues.
    Left,
    /// The client has disconnected.
    Gone,
}

type Outgoing = SplitSink<WebSocket, Message>;
type Incoming = SplitStream<WebSocket>;

async fn run(
    api: &Api,
    id: &WorkspaceId,
    to: &mut Outgoing,
    from: &mut Incoming,
    (seat, caller, peer): (&Arc<Seat>, &Caller, Peer),
) -> Result<End, Problem> {
    let Some(body) = first(from).await? else { return Ok(End::Gone) };
    check(&body)?;
    if body.detach || body.input.is_some() {
        return Err(Problem::request("'detach' and 'input' are only for POST, not for a WebSocket"));
    }
    let lifecycle = api.lifecycle()?;
    lifecycle.check_exec_user(id, body.user.as_deref()).await?;
    // The start runs in a separate task: if the session is dropped meanwhile, as when the service stops, the command
    // must not be left unattended.
    let begun = {
        let (api, id, seat, caller) = (api.clone(), id.clone(), seat.clone(), caller.clone());
        let (spec, stdin, size) = (body.spec(), body.stdin, body.size());
        async move {
            let begun = api.handle.metrics().verb("exec", lifecycle.exec(&id, spec, stdin, size)).await;
            let session = begun.map_err(|error| Problem::told_of_command(error, &caller))?;
            let (output, stdin, control) = session.into_parts();
            let running = Running::new(control.clone(), seat);
            Ok::<_, Problem>((output, stdin, control, running))
        }
    };
    let begun = tokio::spawn(for_this_caller(begun).in_current_span()).await.map_err(Problem::internal)?;
    let (mut output, mut stdin, control, running) = begun?;
    let limit = body.timeout.map(|span| span.0);
    let late = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = {
        let writing = write(&mut output, to, &control);
        tokio::pin!(writing);
        tokio::select! {
            ended = &mut writing => ended,
            ended = listen(from, &mut stdin, &control, peer) => ended,
            () = late => match too_late(&control, limit.unwrap_or_default()).await {
                Some(problem) => Ok(End::Problem(problem)),
                None => match tokio::time::timeout(REST, writing).await {
                    Ok(ended) => ended,
                    // The command ended in time, but a process that it left behind may write for ever.
                    Err(_) => exit_code(&control).await.map(|code| End::Exited { code, cut: true }),
                },
            },
        }
    };
    if matches!(ended, Ok(End::Exited { .. } | End::Left)) {
        running.ended();
    }
    if matches!(ended, Ok(End::Left)) {
        // The end of its input or of its terminal would end the command, so both stay open.
        tokio::spawn(async move {
            let _stdin = stdin;
            while output.next().await.is_some_and(|item| item.is_ok()) {}
        });
    }
    // Otherwise the command still runs, and dropping `running` kills it.
    ended
}

/// Receives the first message; `None` when the client disconnected before it.
async fn first(from: &mut Incoming) -> Result<Option<ExecRequest>, Problem> {
    let message = async {
        loop {
            match from.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    };
    match tokio::time::timeout(FIRST, message).await {
        Err(_) => Err(Problem::too_slow(FIRST)),
        Ok(Some(Ok(Message::Text(text)))) => read(text.as_bytes()).map(Some),
        Ok(Some(Ok(Message::Binary(_)))) => Err(Problem::request("the first message is not the command as text")),
        Ok(Some(Err(error))) => Err(Problem::request(format!("the first message: {error}"))),
        Ok(None | Some(Ok(_))) => Ok(None),
    }
}

/// Sends the output of the command, and pings. It completes when the command ends.
async fn write(output: &mut ExecOutput, to: &mut Outgoing, control: &ExecControl) -> Result<End, Problem> {
    let mut pings = tokio::time::interval(PING);
    pings.tick().await;
    loop {
        let message = tokio::select! {
            biased;
            item = output.next() => match item {
                Some(item) => {
                    let (stream, bytes) = item.map_err(Error::from)?;
                    let mut framed = BytesMut::with_capacity(bytes.len() + 1);
                    framed.put_u8(if stream == StdStream::Stdout { 1 } else { 2 });
                    framed.put(bytes);
                    Message::Binary(framed.freeze())
                }
                None => break,
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if to.send(message).await.is_err() {
            return Ok(End::Gone);
        }
    }
    // The command may run for long after it has closed its output.
    let exit = exit_code(control);
    tokio::pin!(exit);
    loop {
        tokio::select! {
            code = &mut exit => return Ok(End::Exited { code: code?, cut: output.cut() }),
            _ = pings.tick() => {
                if to.send(Message::Ping(Bytes::new())).await.is_err() {
                    return Ok(End::Gone);
                }
            }
        }
    }
}

/// Forwards the client's messages to the command. It completes when the client disconnects.
async fn listen(
    from: &mut Incoming,
    stdin: &mut Option<ExecStdin>,
    control: &ExecControl,
    peer: Peer,
) -> Result<End, Problem> {
    let mut ahead = None;
    // On this machine a disconnect is noticed at once; a silent client may be waiting for a slow reader.
    let silence = if peer.is_remote() { PING * 3 } else { Duration::MAX };
    loop {
        // While the command does not read, nothing more of the client is read either.
        let message = match ahead.take() {
            Some(message) => Some(message),
            None => match tokio::time::timeout(silence, from.next()).await {
                Ok(message) => message,
                Err(_) => return Ok(End::Gone),
            },
        };
        match message {
            None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(End::Gone),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(bytes))) => match bytes.split_first() {
                Some((0, bytes)) => {
                    // A command that has closed its input may continue; the input is dropped.
                    let Some(open) = stdin.as_mut() else { continue };
                    let writing = open.write_all(bytes);
                    tokio::pin!(writing);
                    let written = loop {
                        tokio::select! {
                            written = &mut writing => break written,
                            // Reads one message ahead, to notice a disconnect while the command does not read.
                            message = from.next(), if ahead.is_none() => match message {
                                None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(End::Gone),
                                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                                Some(message) => ahead = Some(message),
                            },
                        }
                    };
                    if written.is_err() {
                        *stdin = None;
                    }
                }
                _ => return Err(Problem::request("a binary message does not start with channel 0")),
            },
            Some(Ok(Message::Text(text))) => {
                let ExecInput { resize, stdin_end, detach } = read::<ExecInput>(text.as_bytes())?;
                if let Some(TerminalSize { rows, cols }) = resize {
                    // A command that has just ended has no terminal to resize.
                    let _ = control.resize(rows, cols).await;
                }
                if detach {
                    return Ok(End::Left);
                }
                if let Some(mut open) = stdin.take_if(|_| stdin_end) {
                    let _ = open.shutdown().await;
                }
            }
        }
    }
}
