//! `wharf exec` through a service: the same bytes over a WebSocket.

use std::time::Duration;

use bytes::{Buf, Bytes};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::printer::Printer;
use super::{CUT, LAST_WORDS, RawMode, TIMED_OUT, hint, say_late, typed, until, wharf_failed};
use crate::cli::{Context, Failure, backend, terminal};
use crate::client::{Client, Listen, Problem, Said};
use crate::docker::StdStream;
use crate::hooks::ExecSpec;

/// Channels of the conversation.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// Most bytes of input in one message.
const PIECE: usize = 64 << 10;

/// How long after a command's time the service may take to say that it has killed it.
const ANSWER: Duration = Duration::from_millis(250);
/// Most bytes that are kept of a command that is over while nobody reads.
const KEPT: usize = 64 << 20;

/// What is said to the service.
enum Typed {
    Bytes(Vec<u8>),
    Text(Value),
}

/// The request as the API takes it.
pub(super) fn body(spec: &ExecSpec, limit: Option<Duration>) -> Value {
    let mut body = json!({ "command": spec.command, "env": spec.env });
    if let Some(user) = &spec.user {
        body["user"] = json!(user);
    }
    if let Some(folder) = &spec.working_dir {
        body["workdir"] = json!(folder);
    }
    if let Some(limit) = limit {
        body["timeout"] = json!(crate::config::Span(limit));
    }
    body
}

/// Starts a command there and leaves it to itself.
pub(super) async fn detached(
    context: &Context,
    client: &Client,
    name: Option<&str>,
    spec: &ExecSpec,
) -> Result<u8, Failure> {
    let name = backend::meant(client, &context.target(name)?).await?;
    let mut body = body(spec, None);
    body["detach"] = json!(true);
    let answer: Value = client.post(&backend::path(&name, "exec"), &body).await?;
    if context.out.json {
        context.out.value(&answer)?;
    }
    Ok(0)
}

/// Runs a command there.
pub(super) async fn session(
    context: &Context,
    client: &Client,
    name: Option<&str>,
    (spec, interactive, limit): (&ExecSpec, bool, Option<Duration>),
) -> Result<u8, Failure> {
    let name = backend::meant(client, &context.target(name)?).await?;
    let mut first = body(spec, limit);
    first["tty"] = json!(spec.tty);
    first["stdin"] = json!(interactive);
    if spec.tty
        && terminal::is_out()
        && let Ok((columns, rows)) = crossterm::terminal::size()
    {
        first["rows"] = json!(rows);
        first["cols"] = json!(columns);
    }
    let (mut talk, mut listen) = client.socket(&backend::path(&name, "exec")).await?;
    talk.text(&first).await;
    let raw = if spec.tty && interactive { Some(RawMode::enter()?) } else { None };
    let (to, mut typed) = mpsc::channel(4);
    if interactive {
        tokio::spawn(read(to.clone(), raw.is_some()));
    }
    if spec.tty {
        tokio::spawn(sizes(to.clone()));
    }
    // It ends with the channel, and the channel with this function.
    drop(to);
    tokio::spawn(async move {
        while let Some(typed) = typed.recv().await {
            let heard = match typed {
                Typed::Bytes(bytes) => talk.bytes(STDIN, &bytes).await,
                Typed::Text(value) => talk.text(&value).await,
            };
            if !heard {
                return;
            }
        }
        // Dropped, it would end the conversation.
        std::future::pending::<()>().await;
    });
    let mut printer = Printer::start()?;
    let mut unread = Vec::new();
    let end = tokio::select! {
        biased;
        end = show(&mut listen, &mut printer, &mut unread) => end?,
        // The service has killed it, or it was in time; behind what nobody reads stands which.
        () = until(limit.map(|limit| tokio::time::Instant::now() + limit + ANSWER)) => {
            keep(&mut listen, &mut unread).await?
        }
    };
    let Some(end) = end else {
        let text = format!("the service at {} ended the conversation without an exit code", client.server());
        return Err(Failure::new("service-answer", text, "see its log; what the command did is not known", 1));
    };
    let end: Value = serde_json::from_str(&end).map_err(std::io::Error::other)?;
    let finish = async {
        for (stream, bytes) in unread {
            printer.print(stream, bytes).await?;
        }
        printer.end().await
    };
    if end["code"] == "timeout" {
        // A reader who does not read must hold up neither the end nor the message about it.
        let _ = tokio::time::timeout(LAST_WORDS, finish).await;
    } else {
        finish.await?;
    }
    drop(raw);
    if end["detached"].as_bool() == Some(true) {
        return Ok(super::detached());
    }
    if let Some(code) = end["exit_code"].as_i64() {
        if end["cut"].as_bool() == Some(true) {
            context.out.notice(CUT);
        }
        if hint::applies(spec) {
            hint::there(context, client, &name, code, &printer).await;
        }
        return Ok(u8::try_from(code).unwrap_or(1));
    }
    let problem: Problem = serde_json::from_value(end).map_err(std::io::Error::other)?;
    if problem.code == "timeout"
        && let Some(limit) = limit
    {
        say_late(limit).await;
        return Ok(TIMED_OUT);
    }
    Err(wharf_failed(crate::client::Error::Problem(Box::new(problem)).into()))
}

/// What is written, apart from the byte that names its channel.
fn written(mut bytes: Bytes) -> Option<(StdStream, Bytes)> {
    let stream = match *bytes.first()? {
        STDOUT => StdStream::Stdout,
        STDERR => StdStream::Stderr,
        _ => return None,
    };
    bytes.advance(1);
    Some((stream, bytes))
}

/// Writes what the command writes until the service says how it ended; none when it does not. A piece that waits for the
/// reader is in `unread`.
async fn show(
    listen: &mut Listen,
    printer: &mut Printer,
    unread: &mut Vec<(StdStream, Bytes)>,
) -> Result<Option<String>, Failure> {
    loop {
        match listen.next().await? {
            Some(Said::Bytes(bytes)) => {
                let Some((stream, bytes)) = written(bytes) else { continue };
                unread.push((stream, bytes.clone()));
                printer.print(stream, bytes).await?;
                unread.clear();
            }
            Some(Said::Text(text)) => return Ok(Some(text)),
            None => return Ok(None),
        }
    }
}

/// Reads on without a reader until the service says how the command ended. It has ended, so what it wrote is what the
/// connection holds.
async fn keep(listen: &mut Listen, unread: &mut Vec<(StdStream, Bytes)>) -> Result<Option<String>, Failure> {
    let mut size = 0;
    loop {
        match listen.next().await? {
            Some(Said::Bytes(bytes)) => {
                size += bytes.len();
                if size > KEPT {
                    let text = "the command writes on long after its time, and nobody reads it";
                    return Err(Failure::new("service-answer", text, "see the log of the service", 1));
                }
                unread.extend(written(bytes));
            }
            Some(Said::Text(text)) => return Ok(Some(text)),
            None => return Ok(None),
        }
    }
}

/// Input, and its end; from a terminal, the keys for detaching are taken out.
async fn read(to: mpsc::Sender<Typed>, keys: bool) {
    let mut from = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    let mut held = false;
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                let (bytes, leave) = if keys { typed(bytes, &mut held) } else { (bytes.into(), false) };
                if to.send(Typed::Bytes(bytes.into_owned())).await.is_err() {
                    return;
                }
                if leave {
                    let _ = to.send(Typed::Text(json!({ "detach": true }))).await;
                    return;
                }
            }
        }
    }
    // The command may have ended meanwhile.
    let _ = to.send(Typed::Text(json!({ "stdin-end": true }))).await;
}

/// Changes of the terminal's size.
async fn sizes(to: mpsc::Sender<Typed>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        if let Ok((columns, rows)) = crossterm::terminal::size()
            && to.send(Typed::Text(json!({ "resize": { "rows": rows, "cols": columns } }))).await.is_err()
        {
            return;
        }
    }
}
