//! `wharf events`

use std::collections::BTreeSet;
use std::time::Duration;

use super::instant::instant;
use super::output::say;
use super::{Context, Failure};
use crate::client::{self, Client};
use crate::lifecycle::{Lifecycle, Notice, WorkspaceEvents};
use crate::workspace::{Event, WorkspaceId};

/// What the engine still knows of the past comes at once; after such a pause it is through.
const PAUSE: Duration = Duration::from_millis(150);

/// Longest wait before a service that went away is asked again.
const LONGEST: Duration = Duration::from_secs(5);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: all workspaces]
    workspace: Option<String>,
    /// Also what happened since a time (2026-01-31T12:00:00Z) or for a duration (10m)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<jiff::Timestamp>,
    /// Ends at a time, or shows only up to so long ago (0s: up to now)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<jiff::Timestamp>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    if let Some(client) = context.client()? {
        return by_service(context, &client, args).await;
    }
    let lifecycle = context.lifecycle().await?;
    let only = match &args.workspace {
        Some(name) => Some(context.find(&lifecycle, Some(name)).await?),
        None => None,
    };
    let only = only.as_ref();
    let shown = |event: &Event| only.is_none_or(|id| event.concerns(id));
    let mut stop = lifecycle.stopper().subscribe();
    let mut events = lifecycle.events(args.since, args.until).await?;
    if args.since.is_some() {
        let past = tokio::select! {
            past = past(&lifecycle, only, args, &mut events) => past?,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        };
        for event in past {
            print(context, &event)?;
        }
    }
    loop {
        let notice = tokio::select! {
            notice = events.next() => notice,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        };
        match notice {
            None => return Ok(0),
            Some(Notice::Event(event)) if shown(&event) => print(context, &event)?,
            Some(Notice::Event(_)) => {}
            Some(notice) => tell(&notice),
        }
    }
}

/// What happened until now: the service's history and what the engine still knows, each event once, in order.
async fn past(
    lifecycle: &Lifecycle,
    only: Option<&WorkspaceId>,
    args: &Args,
    events: &mut WorkspaceEvents,
) -> Result<Vec<Event>, Failure> {
    let mut past = lifecycle.past_events(only.cloned(), args.since, args.until)?;
    let key = |event: &Event| (event.time, event.container_id.clone(), event.what);
    let known: BTreeSet<_> = past.iter().map(key).collect();
    while let Ok(Some(notice)) = tokio::time::timeout(PAUSE, events.next()).await {
        match notice {
            Notice::Event(event) if only.is_some_and(|id| !event.concerns(id)) || known.contains(&key(&event)) => {}
            Notice::Event(event) => past.push(event),
            notice => tell(&notice),
        }
    }
    past.sort_by_key(|event| event.time);
    Ok(past)
}

/// The same from the history of a service, which follows the engine for everybody.
async fn by_service(context: &Context, client: &Client, args: &Args) -> Result<u8, Failure> {
    let mut query = Vec::new();
    if let Some(name) = &args.workspace {
        query.push(("workspace", name.clone()));
    }
    query.extend(args.since.map(|since| ("since", since.to_string())));
    if let Some(until) = args.until {
        query.push(("until", until.to_string()));
        query.push(("limit", "1000".to_owned()));
        let now = jiff::Timestamp::now();
        if let Ok(wait) = std::time::Duration::try_from(until.duration_since(now)) {
            tokio::time::sleep(wait).await;
        }
        if args.since.is_none() {
            query.push(("since", now.min(until).to_string()));
        }
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let events: Vec<Event> = client.pages("/v1/events", &query).await?;
        for event in &events {
            print(context, event)?;
        }
        return Ok(0);
    }
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut last: Option<String> = None;
    let mut wait: Option<Duration> = None;
    loop {
        let mut events = match client.events("/v1/events", &query, last.as_deref()).await {
            Ok(events) => events,
            Err(error)
                if error.is_away()
                    && let Some(time) = wait =>
            {
                tokio::time::sleep(time).await;
                wait = Some((time * 2).min(LONGEST));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if wait.take().is_some() {
            say("wharf: connected to the service again; it goes on behind what was seen");
        }
        let cause = loop {
            match events.next().await {
                Ok(Some(event)) => match event.event.as_str() {
                    "" => print(context, &event.value().map_err(std::io::Error::other)?)?,
                    "gap" => say("wharf: some of what happened meanwhile is not kept any more"),
                    "problem" => {
                        let problem = event.value().map_err(std::io::Error::other)?;
                        return Err(client::Error::Problem(Box::new(problem)).into());
                    }
                    _ => {}
                },
                Ok(None) => break "the service ended the stream".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        last = events.last_id().map(str::to_owned).or(last);
        say(format_args!("wharf: {cause}; trying again"));
        wait = Some(PAUSE);
    }
}

fn print(context: &Context, event: &Event) -> Result<(), Failure> {
    if context.out.json {
        return Ok(context.out.json_line(event)?);
    }
    let mut what = event.what.to_string();
    if let Some(code) = event.exit_code {
        what.push_str(&format!(" ({code})"));
    }
    let detail = event.detail.as_deref().unwrap_or_default();
    let container: String = event.container_id.chars().take(12).collect();
    let line = format!("{:.3}  {}  {container}  {what}  {detail}", event.time, event.workspace);
    Ok(context.out.line(line.trim_end())?)
}

/// Says on stderr what became of the connection.
fn tell(notice: &Notice) {
    match notice {
        Notice::Event(_) => {}
        Notice::Lost(why) => say(format_args!("wharf: {why}; trying again")),
        Notice::Resumed { gap: false } => say("wharf: connected to the engine again; nothing was missed"),
        Notice::Resumed { gap: true } => {
            say("wharf: connected to the engine again; what happened meanwhile may be missing here");
        }
    }
}
