//! `wharf exec` through a service: the same bytes over a WebSocket.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{CUT, RawMode, TIMED_OUT, wharf_failed};
use crate::cli::{Context, Failure, backend};
use crate::client::{Client, Problem, Said};
use crate::hooks::ExecSpec;

/// Channels of the conversation.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// Most bytes of input in one message.
const PIECE: usize = 64 << 10;

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
        && std::io::stdout().is_terminal()
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
        tokio::spawn(read(to.clone()));
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
    let end = loop {
        match listen.next().await? {
            Some(Said::Bytes(bytes)) => match bytes.split_first() {
                Some((&STDOUT, rest)) => context.out.bytes(rest)?,
                Some((&STDERR, rest)) => {
                    let mut err = std::io::stderr().lock();
                    err.write_all(rest)?;
                    err.flush()?;
                }
                _ => {}
            },
            Some(Said::Text(text)) => break text,
            None => {
                let text = format!("the service at {} ended the conversation without an exit code", client.server());
                return Err(Failure::new("service-answer", text, "see its log; what the command did is not known", 1));
            }
        }
    };
    drop(raw);
    let end: Value = serde_json::from_str(&end).map_err(std::io::Error::other)?;
    if let Some(code) = end["exit_code"].as_i64() {
        if end["cut"].as_bool() == Some(true) {
            context.out.notice(CUT);
        }
        return Ok(u8::try_from(code).unwrap_or(1));
    }
    let problem: Problem = serde_json::from_value(end).map_err(std::io::Error::other)?;
    if problem.code == "timeout"
        && let Some(limit) = limit
    {
        eprintln!("wharf: the command took longer than {} s and was killed", limit.as_secs_f64());
        return Ok(TIMED_OUT);
    }
    Err(wharf_failed(crate::client::Error::Problem(Box::new(problem)).into()))
}

/// Input, and its end.
async fn read(to: mpsc::Sender<Typed>) {
    let mut from = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if to.send(Typed::Bytes(bytes)).await.is_err() {
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
