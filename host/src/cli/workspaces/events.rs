//! `wharf events`

use crate::backend::EventItem;
use crate::cli::instant::instant;
use crate::cli::output::{Cell, Column, Look, clock, column, say};
use crate::cli::{Context, Failure, terminal};
use crate::workspace::{Event, Happening};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: all workspaces]
    workspace: Option<String>,
    /// Also events since a time (2026-01-31T12:00:00Z) or for a duration (10m)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<jiff::Timestamp>,
    /// End at a time, or show only up to so long ago (0s: up to now)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<jiff::Timestamp>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    let target = args.workspace.as_deref().map(|name| context.target(Some(name))).transpose()?;
    let mut stop = backend.stopper().await?.subscribe();
    let mut events = tokio::select! {
        events = backend.events(target.as_ref(), args.since, args.until) => events?,
        _ = stop.wait_for(|stop| *stop) => return Ok(130),
    };
    loop {
        let item = tokio::select! {
            item = events.next() => item?,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        };
        match item {
            None => return Ok(0),
            Some(EventItem::Event(event)) => print(context, &event)?,
            Some(EventItem::Notice(text)) => say(format_args!("wharf: {text}")),
        }
    }
}

/// The columns on a terminal; each event is printed as it comes.
const COLUMNS: [Column; 4] =
    [column("").padded(8), column("").cut(16).padded(26), column("").padded(12), column("").wrapped(20)];

fn print(context: &Context, event: &Event) -> Result<(), Failure> {
    if context.out.json {
        return Ok(context.out.json_line(event)?);
    }
    let mut what = event.what.to_string();
    if let Some(code) = event.exit_code {
        what.push_str(&format!(" ({code})"));
    }
    let detail = event.detail.as_deref().unwrap_or_default();
    if terminal::is_out() {
        let look = match event.what {
            Happening::Exited if event.exit_code.is_some_and(|code| code != 0) => Some(Look::Warn),
            Happening::OutOfMemory | Happening::Unhealthy | Happening::GivenUp => Some(Look::Bad),
            Happening::Threshold | Happening::Recovered => Some(Look::Warn),
            Happening::Started | Happening::Healthy => Some(Look::Good),
            _ => None,
        };
        let (time, workspace) = (clock(event.time), event.workspace.as_str());
        let row = vec![time.into(), workspace.into(), Cell::from(what).look(look), detail.into()];
        return Ok(context.out.rows("", &COLUMNS, vec![row])?);
    }
    let container: String = event.container_id.chars().take(12).collect();
    let line = format!("{:.3}  {}  {container}  {what}  {detail}", event.time, event.workspace);
    Ok(context.out.line(line.trim_end())?)
}
