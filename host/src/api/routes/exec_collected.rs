//! Running a command to its end, with its output as the answer; and the parts shared with the WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Args, Json, Named};
use crate::api::http::error::Problem;
use crate::api::http::middleware::Turn;
use crate::api::http::stream::Seat;
use crate::api::routes::health::answer;
use crate::docker::{ExecControl, ExecEnd, StdStream};
use crate::lifecycle::{Error, Lifecycle, for_this_caller};
use crate::service::stopped;
use crate::wire::{ExecAnswer, ExecDetached, ExecRequest, ExecResult};
use crate::workspace::{WorkspaceId, base64};

/// The time limit of a command whose request sets none.
const USUAL_LIMIT: Duration = Duration::from_secs(60);
/// The number of attempts to kill an abandoned command, and the time limit of each.
const KILLS: usize = 10;
const DYING: Duration = Duration::from_millis(500);
/// The time limit for the remaining output of a command that ended in time.
pub(in crate::api) const REST: Duration = Duration::from_secs(2);
/// The limit of collected output per stream, in bytes.
const COLLECTED: usize = 1 << 20;

/// Refuses a request without a command.
pub(in crate::api) fn check(request: &ExecRequest) -> Result<(), Problem> {
    match request.command.is_empty() {
        true => Err(Problem::request("command: it is missing")),
        false => Ok(()),
    }
}

/// A running command; dropping it kills the command.
pub(in crate::api) struct Running(Option<(ExecControl, Arc<Seat>)>);

impl Running {
    pub(in crate::api) fn new(control: ExecControl, seat: Arc<Seat>) -> Self {
        Self(Some((control, seat)))
    }

    /// Marks the command as ended: there is nothing to kill.
    pub(in crate::api) fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((control, seat)) = self.0.take() {
            tokio::spawn(async move {
                // The service waits for the slots of streams when it ends.
                let _seat = seat;
                // A command that the engine is about to start cannot be killed yet.
                for _ in 0..KILLS {
                    if let Err(error) = control.kill().await {
                        tracing::warn!("api: cannot end a command whose client has disconnected: {error}");
                        return;
                    }
                    if tokio::time::timeout(DYING, control.exit()).await.is_ok() {
                        return;
                    }
                }
                tracing::warn!("api: a command whose client has disconnected does not end");
            });
        }
    }
}

/// Kills a command that has exceeded its time limit. Returns the problem for the client: that the command was killed,
/// or why it continues. Returns `None` if it has ended by itself meanwhile.
pub(in crate::api) async fn too_late(control: &ExecControl, limit: Duration) -> Option<Problem> {
    for _ in 0..KILLS {
        match control.kill().await {
            Ok(true) => return Some(Problem::took_longer(limit)),
            // The command has ended, or the engine is only about to start it.
            Ok(false) if tokio::time::timeout(DYING, control.exit()).await.is_ok() => return None,
            Ok(false) => {}
            Err(error) => return Some(Error::from(error).into()),
        }
    }
    Some(Problem::internal("the command took longer than its timeout and cannot be ended; it keeps running"))
}

/// Waits for the end of a command and returns its exit code; 0 if the client has detached.
pub(in crate::api) async fn exit_code(control: &ExecControl) -> Result<i64, Problem> {
    match control.exit().await.map_err(Error::from)? {
        ExecEnd::Exited(code) => Ok(code),
        ExecEnd::Detached => Ok(0),
    }
}

/// Run a command to its end, and return its output (`wharf exec`)
///
/// Without a terminal. The command is killed when it exceeds its time limit, or when its client disconnects.
#[utoipa::path(post, path = "/v1/workspaces/{id}/exec", request_body = ExecRequest,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The result of the command", body = ExecAnswer)))]
pub(in crate::api) async fn run(
    State(api): State<Api>,
    caller: Caller,
    name: Named,
    turn: Turn,
    args: Args,
    Json(body): Json<ExecRequest>,
) -> Result<Response, Problem> {
    args.end()?;
    check(&body)?;
    if body.tty || body.stdin || body.rows.is_some() || body.cols.is_some() {
        return Err(Problem::request("'tty', 'stdin', 'rows' and 'cols' need a WebSocket"));
    }
    if body.detach && (body.input.is_some() || body.timeout.is_some()) {
        return Err(Problem::request("'detach' excludes 'input' and 'timeout'"));
    }
    let lifecycle = api.lifecycle()?;
    let id = name.find(&lifecycle).await?;
    lifecycle.check_exec_user(&id, body.user.as_deref()).await?;
    if body.detach {
        let begin = lifecycle.exec_detached(&id, body.spec());
        let begun = api.handle.metrics().verb("exec", begin).await;
        let exec_id = begun.map_err(|error| Problem::told_of_command(error, &caller))?;
        return answer(&ExecAnswer::Detached(ExecDetached { workspace: id, exec_id }));
    }
    let seat = Arc::new(api.seat(&caller)?);
    turn.give_back();
    answer(&ExecAnswer::Ended(collect(&api, &caller, lifecycle, id, &body, seat).await?))
}

/// Runs a command to its end and collects its output. The time limit and the end of the service kill it; a client that
/// disconnects drops this future, which kills it, too.
async fn collect(
    api: &Api,
    caller: &Caller,
    lifecycle: Arc<Lifecycle>,
    id: WorkspaceId,
    body: &ExecRequest,
    seat: Arc<Seat>,
) -> Result<ExecResult, Problem> {
    let (spec, fed) = (body.spec(), body.input.is_some());
    let (to, begun) = oneshot::channel();
    // The client may disconnect while the engine starts the command. The started command is then dropped, and so
    // killed.
    let handle = api.handle.clone();
    let begin = async move {
        let begun = handle.metrics().verb("exec", lifecycle.exec(&id, spec, fed, None)).await.map(|session| {
            let (output, stdin, control) = session.into_parts();
            (output, stdin, control.clone(), Running::new(control, seat))
        });
        drop(to.send(begun));
    };
    tokio::spawn(for_this_caller(begin).in_current_span());
    let begun = begun.await.map_err(Problem::internal)?;
    let (mut output, stdin, control, running) = begun.map_err(|error| Problem::told_of_command(error, caller))?;
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, &body.input) {
            // A command may ignore its input.
            let _ = stdin.write_all(input.as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
        std::future::pending::<()>().await
    };
    let (mut all, mut truncated) = ([Vec::new(), Vec::new()], false);
    let gather = async {
        while let Some(item) = output.next().await {
            let (stream, bytes) = item.map_err(Error::from)?;
            let [stdout, stderr] = &mut all;
            let into = if stream == StdStream::Stdout { stdout } else { stderr };
            let room = COLLECTED.saturating_sub(into.len());
            truncated |= bytes.len() > room;
            into.extend(bytes.iter().take(room));
        }
        exit_code(&control).await
    };
    let limit = body.timeout.map_or(USUAL_LIMIT, |span| span.0);
    let mut stop = api.stop.clone();
    let (exit_code, endless) = {
        tokio::pin!(gather);
        tokio::select! {
            code = &mut gather => (code?, false),
            () = feed => return Err(Problem::internal("the input of a command ended twice")),
            () = tokio::time::sleep(limit) => match too_late(&control, limit).await {
                Some(problem) => return Err(problem),
                // The command ended in time, but a process that it left behind may write for ever.
                None => match tokio::time::timeout(REST, gather).await {
                    Ok(code) => (code?, false),
                    Err(_) => (exit_code(&control).await?, true),
                },
            },
            () = stopped(&mut stop) => return Err(Problem::stopping()),
        }
    };
    running.ended();
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(base64(error.as_bytes()))),
    };
    let [stdout, stderr] = all;
    let ((stdout, stdout_base64), (stderr, stderr_base64)) = (text(stdout), text(stderr));
    let cut = endless || output.cut();
    Ok(ExecResult { exit_code, stdout, stderr, stdout_base64, stderr_base64, truncated, cut })
}
