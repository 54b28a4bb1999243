//! `wharf logs`

use std::io::Write;

use serde::Serialize;

use super::instant::instant;
use super::{Context, Failure};
use crate::docker::{LogOptions, StdStream};
use crate::lifecycle::Error;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
    /// Goes on with new lines until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only since a time (2026-01-31T12:00:00Z) or for a duration (10m)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<jiff::Timestamp>,
    /// Only before a time, or up to so long ago
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<jiff::Timestamp>,
    /// Only this many lines from the end
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
    /// Prints when each line was written
    #[arg(short, long)]
    timestamps: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    time: Option<jiff::Timestamp>,
    stream: &'a str,
    message: std::borrow::Cow<'a, str>,
    container_id: &'a str,
    /// Present on a piece of a line that goes on in the next object.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let lifecycle = context.lifecycle().await?;
    let id = context.find(&lifecycle, args.workspace.as_deref()).await?;
    let stopper = lifecycle.stopper();
    for (_, container) in lifecycle.containers_of(Some(&id)).await? {
        let options = LogOptions {
            follow: args.follow,
            since: args.since,
            until: args.until,
            tail: args.tail,
            timestamps: args.timestamps || context.out.json,
            ..LogOptions::default()
        };
        let tty = false;
        let mut stream = lifecycle.docker().logs(&container.id, tty, &options).await?;
        let mut stop = stopper.subscribe();
        loop {
            let batch = tokio::select! {
                batch = stream.next() => batch,
                _ = stop.wait_for(|stop| *stop) => return Ok(130),
            };
            let Some(batch) = batch else { break };
            print(context, args, &container.id, &batch.map_err(Error::from)?)?;
        }
    }
    Ok(0)
}

fn print(context: &Context, args: &Args, container_id: &str, lines: &[crate::docker::LogLine]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let mut err = std::io::stderr().lock();
    for line in lines {
        if context.out.json {
            let text = line.message.strip_suffix(b"\n").unwrap_or(&line.message);
            let json = Line {
                time: line.time,
                stream: if line.stream == StdStream::Stdout { "stdout" } else { "stderr" },
                message: String::from_utf8_lossy(text),
                container_id,
                partial: line.is_partial(),
            };
            writeln!(out, "{}", serde_json::to_string(&json).map_err(std::io::Error::other)?)?;
            continue;
        }
        let to: &mut dyn Write = if line.stream == StdStream::Stdout { &mut out } else { &mut err };
        if let (true, Some(time)) = (args.timestamps, line.time) {
            write!(to, "{time} ")?;
        }
        to.write_all(&line.message)?;
    }
    out.flush()?;
    Ok(err.flush()?)
}
