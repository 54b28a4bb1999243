//! `wharf logs` through a service: one stream for each workspace, merged here.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{Peekable, select_all, unfold};
use futures_util::{Stream, StreamExt};

use super::{Args, Look, until};
use crate::cli::logs::printer::Printer;
use crate::cli::{Context, Failure, backend};
use crate::client::{Client, Error, Events};
use crate::lifecycle::{Line, LineView, LogContainer, WorkspaceView};

/// Waits before a stream that broke is followed again: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What comes of one workspace.
enum Piece {
    Line(Box<LineView>),
    /// The service has lost the engine, or we have lost the service.
    Interrupted(String, String),
    /// It goes on; lines may be missing.
    Resumed(String, bool),
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, Failure>>>>;

/// Follows one workspace.
struct Following {
    client: Client,
    name: String,
    path: String,
    query: Vec<(&'static str, String)>,
    follow: bool,
    events: Option<Events>,
    last: Option<String>,
    /// How long is waited before the next attempt, while the service does not answer.
    wait: Option<Duration>,
    ended: bool,
}

impl Following {
    async fn open(&mut self) -> Result<(), Error> {
        let query: Vec<(&str, &str)> = self.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.events = Some(self.client.events(&self.path, &query, self.last.as_deref()).await?);
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
                        return Some(Ok(Piece::Resumed(self.name.clone(), false)));
                    }
                    Ok(()) => {}
                    Err(Error::Unreachable { .. }) if self.wait.is_some() => {
                        self.wait = self.wait.map(|wait| (wait * 2).min(AGAIN.1));
                        continue;
                    }
                    Err(error) => return self.failed(error),
                }
            }
            let Some(events) = &mut self.events else { continue };
            let event = match events.next().await {
                Ok(Some(event)) => event,
                Ok(None) if !self.follow => {
                    self.ended = true;
                    return None;
                }
                // A service that ends ends its streams.
                Ok(None) => return Some(Ok(self.lost("the service ended the stream".to_owned()))),
                Err(error) if self.follow => return Some(Ok(self.lost(error.to_string()))),
                Err(error) => return self.failed(error),
            };
            self.last = events.last_id().map(str::to_owned).or(self.last.take());
            let said = |key: &str| {
                let value: Option<serde_json::Value> = serde_json::from_str(&event.data).ok();
                value.and_then(|value| value.get(key).cloned())
            };
            match event.event.as_str() {
                "" => match serde_json::from_str::<LineView>(&event.data) {
                    Ok(line) => return Some(Ok(Piece::Line(Box::new(line)))),
                    Err(error) => {
                        return self.failed(Error::Answer { server: self.client.server(), cause: error.to_string() });
                    }
                },
                "interrupted" => {
                    let cause = said("cause").and_then(|cause| cause.as_str().map(str::to_owned)).unwrap_or_default();
                    return Some(Ok(Piece::Interrupted(self.name.clone(), cause)));
                }
                "resumed" => {
                    let lost = said("lost").and_then(|lost| lost.as_bool()).unwrap_or(true);
                    return Some(Ok(Piece::Resumed(self.name.clone(), lost)));
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
        Piece::Interrupted(self.name.clone(), cause)
    }

    fn failed(&mut self, error: Error) -> Option<Result<Piece, Failure>> {
        self.ended = true;
        Some(Err(error.into()))
    }
}

/// Runs the command.
pub(super) async fn run(context: &Context, client: &Client, args: &Args) -> Result<u8, Failure> {
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
    let streams = wanted.iter().map(|id| {
        let following = Following {
            client: client.clone(),
            name: id.clone(),
            path: backend::path(id, "logs"),
            query: query(args),
            follow: args.follow,
            events: None,
            last: None,
            wait: None,
            ended: false,
        };
        let pieces = unfold(following, async |mut following| Some((following.next().await?, following)));
        Box::pin(pieces) as Pieces
    });
    let mut pieces: Pieces = match args.follow {
        // What is new is as new as what comes from the others.
        true => Box::pin(select_all(streams)),
        false => Box::pin(merged(streams.map(StreamExt::peekable).collect())),
    };
    let mut look = Look::new(context, args, &containers);
    let mut printer = Printer::new();
    loop {
        let piece = tokio::select! {
            biased;
            piece = pieces.next() => piece,
            () = until(printer.due()), if printer.due().is_some() => {
                printer.flush().await?;
                continue;
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

/// The workspaces that are meant, without the sidecars that come with them.
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
    let chosen: BTreeSet<String> = wanted.iter().cloned().collect();
    let within = |id: &String| {
        let view = all.iter().find(|view| view.id.as_str() == id);
        view.and_then(|view| view.part_of.as_ref()).is_some_and(|of| chosen.contains(of.as_str()))
    };
    wanted.retain(|id| !within(id));
    wanted.dedup();
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

/// Several streams in the order of their times.
fn merged(streams: Vec<Peekable<Pieces>>) -> impl Stream<Item = Result<Piece, Failure>> {
    unfold(streams, async |mut streams| {
        let mut first: Option<(usize, Option<jiff::Timestamp>)> = None;
        for (index, stream) in streams.iter_mut().enumerate() {
            let time = match Pin::new(stream).peek().await {
                None => continue,
                Some(Ok(Piece::Line(view))) => view.time,
                // What is no line has no time, and is told at once.
                Some(_) => None,
            };
            if first.is_none_or(|(_, earliest)| time < earliest) {
                first = Some((index, time));
            }
        }
        let (index, _) = first?;
        let piece = streams.get_mut(index)?.next().await?;
        Some((piece, streams))
    })
}
