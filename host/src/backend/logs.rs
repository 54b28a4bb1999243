//! Logs of workspaces and their sidecars.
//!
//! Every method fails with [`Error`].

use std::collections::BTreeMap;

use super::{Backend, Error, named};
use crate::client::{Client, Followed, Follower};
use crate::docker::StdStream;
use crate::lifecycle::{Grep, Line, LineView, LogContainer, LogEvent, LogQuery, Logs, WorkspaceView};
use crate::records::Target;
use crate::workspace::{Container, WorkspaceId};

/// The selection of log lines. `grep` is a regular expression, and whether it ignores the case of letters.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct LogOptions {
    pub query: LogQuery,
    pub grep: Option<(String, bool)>,
}

/// An item of a log stream.
#[derive(Debug)]
pub enum LogItem {
    /// Lines of one container after another.
    Lines(Vec<Line>),
    /// The stream of a workspace, or of a service, broke off for this cause.
    Interrupted(Lost, String),
    /// The stream continues; with `true`, lines may be missing.
    Resumed(Lost, bool),
}

/// A stream that broke off.
#[derive(Debug)]
pub struct Lost {
    /// The workspace, or the address of the service.
    pub name: String,
    /// The side that does not answer: `the engine`, or `the service`.
    pub by: &'static str,
}

impl Lost {
    fn engine(name: String) -> Self {
        Self { name, by: "the engine" }
    }

    fn service(follower: &Follower) -> Self {
        Self { name: follower.client().server(), by: "the service" }
    }
}

/// Lines of several containers in order of time.
pub struct LogStream {
    containers: Vec<LogContainer>,
    source: Source,
}

enum Source {
    Here(Box<Logs>),
    Service {
        follower: Box<Follower>,
        /// The last cursor of each container.
        cursors: BTreeMap<String, String>,
        /// The last returned line.
        last: Option<Box<LineView>>,
        ended: bool,
    },
}

impl Backend {
    /// Reads the logs of workspaces with their sidecars.
    pub async fn logs(&self, targets: &[Target], options: LogOptions) -> Result<LogStream, Error> {
        // The pattern is checked here first, so that an error marks its position.
        let grep = options.grep.as_ref().map(|(pattern, ignore_case)| Grep::new(pattern, *ignore_case)).transpose()?;
        let all = self.list().await?;
        if let Some(client) = &self.service {
            return of_service(client, targets, &all, &options).await;
        }
        let containers = self.containers(targets, &all).await?;
        let logs = self.here().await?.logs(containers, &LogQuery { grep, ..options.query }).await?;
        Ok(LogStream { containers: logs.containers().to_vec(), source: Source::Here(Box::new(logs)) })
    }

    /// Returns all containers of workspaces, each once.
    async fn containers(
        &self,
        targets: &[Target],
        all: &[WorkspaceView],
    ) -> Result<Vec<(WorkspaceId, Container)>, Error> {
        let lifecycle = self.here().await?;
        let mut wanted = Vec::new();
        for target in targets {
            wanted.push(lifecycle.find(target).await?);
        }
        if let [id] = wanted.as_slice() {
            return Ok(lifecycle.containers_of(Some(id)).await?);
        }
        let meant = |(id, _): &(WorkspaceId, Container)| {
            let parent = all.iter().find(|view| view.id == *id).and_then(|view| view.part_of.as_ref());
            wanted.iter().any(|wanted| wanted == id || parent == Some(wanted))
        };
        Ok(lifecycle.containers_of(None).await?.into_iter().filter(meant).collect())
    }
}

async fn of_service(
    client: &Client,
    targets: &[Target],
    all: &[WorkspaceView],
    options: &LogOptions,
) -> Result<LogStream, Error> {
    let mut wanted: Vec<String> = Vec::new();
    for target in targets {
        let name = named(client, target).await?;
        let found = all.iter().find(|view| view.id.as_str() == name || view.name == name);
        wanted.push(found.map_or(name, |view| view.id.to_string()));
    }
    // Sidecars follow their workspaces.
    let meant = |view: &&WorkspaceView| {
        wanted.iter().any(|id| *id == view.id.as_str() || view.part_of.as_ref().is_some_and(|of| of.as_str() == id))
    };
    let container =
        |view: &WorkspaceView| Some(LogContainer { id: view.id.clone(), container_id: view.container_id.clone()? });
    let containers = all.iter().filter(meant).filter_map(container).collect();
    let mut words = words(options);
    let ended = wanted.is_empty();
    words.extend(wanted.into_iter().map(|id| ("workspace", id)));
    let follower = client.read_logs(words, options.query.follow);
    Ok(LogStream {
        containers,
        source: Source::Service { follower: Box::new(follower), cursors: BTreeMap::new(), last: None, ended },
    })
}

fn words(LogOptions { query, grep }: &LogOptions) -> Vec<(&'static str, String)> {
    let mut words = Vec::new();
    words.extend(query.follow.then(|| ("follow", "true".to_owned())));
    words.extend(query.since.map(|time| ("since", time.to_string())));
    words.extend(query.until.map(|time| ("until", time.to_string())));
    words.extend(query.tail.map(|tail| ("tail", tail.to_string())));
    words.extend(query.only.map(|only| {
        let name = if only == StdStream::Stdout { "stdout" } else { "stderr" };
        ("stream", name.to_owned())
    }));
    if let Some((pattern, ignore_case)) = grep {
        words.push(("grep", pattern.clone()));
        words.extend(ignore_case.then(|| ("ignore_case", "true".to_owned())));
    }
    words.extend(query.after.iter().map(|after| ("after", after.to_string())));
    words
}

impl LogStream {
    /// Returns the containers that are read; lines refer to them by index.
    pub fn containers(&self) -> &[LogContainer] {
        &self.containers
    }

    /// Returns a line in its form for programs. With a service, it is always the last returned line.
    pub fn view(&self, line: &Line) -> Option<LineView> {
        match &self.source {
            Source::Here(logs) => logs.view(line),
            Source::Service { last, .. } => last.as_deref().cloned(),
        }
    }

    /// Returns the next item; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LogItem>, Error> {
        let name = |containers: &[LogContainer], index: usize| {
            containers.get(index).map_or(String::new(), |container| container.id.to_string())
        };
        let (follower, cursors, last, ended) = match &mut self.source {
            Source::Here(logs) => {
                return Ok(match logs.next().await.transpose()? {
                    None => None,
                    Some(LogEvent::Lines(lines)) => Some(LogItem::Lines(lines)),
                    Some(LogEvent::Interrupted { container, cause }) => {
                        Some(LogItem::Interrupted(Lost::engine(name(&self.containers, container)), cause))
                    }
                    Some(LogEvent::Resumed { container, lost }) => {
                        Some(LogItem::Resumed(Lost::engine(name(&self.containers, container)), lost))
                    }
                });
            }
            Source::Service { follower, cursors, last, ended } => (follower, cursors, last, ended),
        };
        if *ended {
            return Ok(None);
        }
        loop {
            let event = match follower.next().await? {
                Followed::Event(event) => event,
                Followed::Lost(cause) => {
                    return Ok(Some(LogItem::Interrupted(Lost::service(follower), cause)));
                }
                Followed::Resumed => return Ok(Some(LogItem::Resumed(Lost::service(follower), false))),
            };
            match event.event.as_str() {
                "" => {
                    let view: LineView = follower.read(&event)?;
                    if let Some(cursor) = &view.cursor {
                        cursors.insert(view.container_id.clone(), cursor.clone());
                        follower.seen(cursors.values().map(String::as_str).collect::<Vec<_>>().join(","));
                    }
                    let line = line(&self.containers, &view);
                    *last = Some(Box::new(view));
                    return Ok(Some(LogItem::Lines(vec![line])));
                }
                "interrupted" => {
                    let told: ServiceNotice = follower.read(&event)?;
                    return Ok(Some(LogItem::Interrupted(Lost::engine(told.workspace), told.cause)));
                }
                "resumed" => {
                    let told: ServiceNotice = follower.read(&event)?;
                    return Ok(Some(LogItem::Resumed(Lost::engine(told.workspace), told.lost.unwrap_or(true))));
                }
                "end" => {
                    *ended = true;
                    return Ok(None);
                }
                // The ID of the stream's position, and events of later services.
                _ => {}
            }
        }
    }
}

/// A message of a service about its connection to the engine.
#[derive(serde::Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ServiceNotice {
    workspace: String,
    cause: String,
    lost: Option<bool>,
}

/// Converts a line of a service into the form of the engine's lines.
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
