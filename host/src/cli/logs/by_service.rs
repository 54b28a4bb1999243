//! `wharf logs` through a service.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Args, Look, until};
use crate::cli::logs::printer::Printer;
use crate::cli::{Context, Failure, backend};
use crate::client::{Client, Error, Events};
use crate::lifecycle::{Grep, Line, LineView, LogContainer, WorkspaceView};

/// Waits before a stream that broke is followed again: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Two clocks that differ by more are not the same: a date has whole seconds, and an answer takes its time.
const SKEW: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);

/// What comes.
enum Piece {
    Line(Box<LineView>),
    /// The service has lost the engine, or we have lost the service.
    Interrupted(String, String),
    /// It goes on; lines may be missing.
    Resumed(String, bool),
}

/// Reads, and when it follows, goes on where it was when the stream broke.
struct Following {
    client: Client,
    query: Vec<(&'static str, String)>,
    follow: bool,
    /// When it was first asked for, by the service's clock.
    opened: Option<jiff::Timestamp>,
    events: Option<Events>,
    /// The last cursor of each container.
    cursors: BTreeMap<String, String>,
    /// How long is waited before the next attempt, while the service does not answer.
    wait: Option<Duration>,
    ended: bool,
}

impl Following {
    async fn open(&mut self) -> Result<(), Error> {
        let now = jiff::Timestamp::now();
        match &self.opened {
            None => {}
            // Of containers that had said nothing yet, all that they have said since then is new.
            Some(opened) if self.query.iter().any(|(name, _)| *name == "tail") => {
                let since = opened.to_string();
                self.query.retain(|(name, _)| !matches!(*name, "tail" | "since"));
                self.query.push(("since", since));
            }
            Some(_) => {}
        }
        let query: Vec<(&str, &str)> = self.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let last = self.cursors.values().map(String::as_str).collect::<Vec<_>>().join(",");
        let last = Some(last.as_str()).filter(|last| !last.is_empty());
        let events = self.client.events("/v1/logs", &query, last).await?;
        // By the service's clock where that is another one; it tells whole seconds only.
        let told = events.date().filter(|date| date.duration_since(now).abs() > SKEW);
        self.opened.get_or_insert(told.unwrap_or(now));
        self.events = Some(events);
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        if self.ended {
            return None;
        }
        loop {
            if self.events.is_none() {
                if let Some(wait) = self.wait {
                    tokio::time::sleep(wait).await;
                }
                match self.open().await {
                    Ok(()) if self.wait.take().is_some() => {
                        return Some(Ok(Piece::Resumed(self.client.server(), false)));
                    }
                    Ok(()) => {}
                    Err(error) if self.wait.is_some() && error.is_away() => {
                        self.wait = self.wait.map(|wait| (wait * 2).min(AGAIN.1));
                        continue;
                    }
                    Err(error) => return self.failed(error),
                }
            }
            let Some(events) = &mut self.events else { continue };
            let event = match events.next().await {
                Ok(Some(event)) => event,
                // Lines that just break off would look like all of them.
                Ok(None) if !self.follow => {
                    let cause = "it ended the stream before the log was read to its end".to_owned();
                    return self.failed(Error::Answer { server: self.client.server(), cause });
                }
                // A service that ends ends its streams.
                Ok(None) => return Some(Ok(self.lost("the service ended the stream".to_owned()))),
                Err(error) if self.follow => return Some(Ok(self.lost(error.to_string()))),
                Err(error) => return self.failed(error),
            };
            let said = |key: &str| {
                let value: Option<serde_json::Value> = serde_json::from_str(&event.data).ok();
                value.and_then(|value| value.get(key).cloned())
            };
            let word = |key: &str| said(key).and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
            match event.event.as_str() {
                "" => match serde_json::from_str::<LineView>(&event.data) {
                    Ok(line) => {
                        if let Some(cursor) = &line.cursor {
                            self.cursors.insert(line.container_id.clone(), cursor.clone());
                        }
                        return Some(Ok(Piece::Line(Box::new(line))));
                    }
                    Err(error) => {
                        return self.failed(Error::Answer { server: self.client.server(), cause: error.to_string() });
                    }
                },
                "interrupted" => {
                    return Some(Ok(Piece::Interrupted(word("workspace"), word("cause"))));
                }
                "resumed" => {
                    let lost = said("lost").and_then(|lost| lost.as_bool()).unwrap_or(true);
                    return Some(Ok(Piece::Resumed(word("workspace"), lost)));
                }
                "problem" => match serde_json::from_str(&event.data) {
                    Ok(problem) => return self.failed(Error::Problem(Box::new(problem))),
                    Err(error) => {
                        return self.failed(Error::Answer { server: self.client.server(), cause: error.to_string() });
                    }
                },
                "end" => {
                    self.ended = true;
                    return None;
                }
                // Where the stream is, and what later services may say.
                _ => {}
            }
        }
    }

    fn lost(&mut self, cause: String) -> Piece {
        self.events = None;
        self.wait = Some(AGAIN.0);
        Piece::Interrupted(self.client.server(), cause)
    }

    fn failed(&mut self, error: Error) -> Option<Result<Piece, Failure>> {
        self.ended = true;
        Some(Err(error.into()))
    }
}

/// Runs the command.
pub(super) async fn run(context: &Context, client: &Client, args: &Args) -> Result<u8, Failure> {
    // Here the place of an error can be marked under the pattern.
    args.grep.as_deref().map(|pattern| Grep::new(pattern, args.ignore_case)).transpose()?;
    let all = backend::list(client).await?;
    let wanted = wanted(context, client, args, &all).await?;
    // Sidecars come with theirs.
    let containers: Vec<LogContainer> = all
        .iter()
        .filter(|view| {
            wanted.iter().any(|id| *id == view.id.as_str() || view.part_of.as_ref().is_some_and(|of| of.as_str() == id))
        })
        .filter_map(|view| Some(LogContainer { id: view.id.clone(), container_id: view.container_id.clone()? }))
        .collect();
    if wanted.is_empty() {
        return Ok(0);
    }
    let mut query = query(args);
    query.extend(wanted.into_iter().map(|id| ("workspace", id)));
    let mut following = Following {
        client: client.clone(),
        query,
        follow: args.follow,
        opened: None,
        events: None,
        cursors: BTreeMap::new(),
        wait: None,
        ended: false,
    };
    let mut look = Look::new(context, args, &containers);
    let mut printer = Printer::new();
    loop {
        let piece = {
            let mut next = std::pin::pin!(following.next());
            loop {
                tokio::select! {
                    biased;
                    piece = &mut next => break piece,
                    () = until(printer.due()), if printer.due().is_some() => printer.flush().await?,
                }
            }
        };
        match piece.transpose()? {
            None => break,
            Some(Piece::Line(view)) => look.one(&mut printer, &line(&containers, &view), Some(&view)).await?,
            Some(Piece::Interrupted(name, cause)) => {
                printer.flush().await?;
                context.out.notice(&format!("{name}: {cause}; trying again until it answers"));
            }
            Some(Piece::Resumed(name, lost)) => {
                printer.flush().await?;
                context.out.notice(&match lost {
                    true => format!("{name}: the log was rotated meanwhile; lines may be missing here"),
                    false => format!("{name}: it answers again; going on where it was"),
                });
            }
        }
    }
    printer.finish().await?;
    Ok(0)
}

/// The ids of the workspaces that are meant.
async fn wanted(
    context: &Context,
    client: &Client,
    args: &Args,
    all: &[WorkspaceView],
) -> Result<Vec<String>, Failure> {
    let mut wanted: Vec<String> = Vec::new();
    for target in args.targets.meant(context, all)? {
        let name = backend::meant(client, &target).await?;
        let found = all.iter().find(|view| view.id.as_str() == name || view.name == name);
        wanted.push(found.map_or(name, |view| view.id.to_string()));
    }
    Ok(wanted)
}

fn query(args: &Args) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    query.extend(args.follow.then(|| ("follow", "true".to_owned())));
    query.extend(args.since.map(|time| ("since", time.to_string())));
    query.extend(args.until.map(|time| ("until", time.to_string())));
    query.extend(args.tail.map(|tail| ("tail", tail.to_string())));
    query.extend(args.stdout.then(|| ("stream", "stdout".to_owned())));
    query.extend(args.stderr.then(|| ("stream", "stderr".to_owned())));
    query.extend(args.grep.iter().map(|grep| ("grep", grep.clone())));
    query.extend(args.ignore_case.then(|| ("ignore_case", "true".to_owned())));
    query.extend(args.after.iter().map(|after| ("after", after.to_string())));
    query
}

/// A line as the engine's own are.
fn line(containers: &[LogContainer], view: &LineView) -> Line {
    let container = containers.iter().position(|container| container.container_id == view.container_id);
    let mut message = match view.base64.as_deref().and_then(crate::workspace::base64_bytes) {
        Some(bytes) => bytes,
        None => view.message.clone().into_bytes(),
    };
    if !view.partial {
        message.push(b'\n');
    }
    Line {
        container: container.unwrap_or_default(),
        time: view.time,
        stream: view.stream,
        message: message.into(),
        position: None,
    }
}
