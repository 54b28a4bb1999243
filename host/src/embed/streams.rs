//! Logs and events as streams.

use std::collections::VecDeque;

use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use jiff::Timestamp;

use crate::backend::{Backend, Error, EventItem, LogItem, LogOptions};
use crate::docker::StdStream;
use crate::lifecycle::{LineView, LogQuery};
use crate::records::Target;

/// A word about a stream: a connection that broke and is tried again, or one that is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The connection broke; it is tried again until it works. The cause.
    Interrupted(String),
    /// The connection is back; with `true`, something may be missing.
    Resumed(bool),
}

/// An item of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// A line.
    Line(Box<LineView>),
    /// A word about the connection to a workspace, or to a service: its name.
    Notice(String, Notice),
}

/// Logs that are to be read: finished by [`Logs::open`].
#[must_use = "call open to start it"]
pub struct Logs<'a> {
    backend: &'a Backend,
    targets: Vec<Target>,
    options: LogOptions,
}

impl<'a> Logs<'a> {
    pub(super) fn new(backend: &'a Backend, target: Target) -> Self {
        let query = LogQuery { times: true, ..LogQuery::default() };
        Self { backend, targets: vec![target], options: LogOptions { query, grep: None } }
    }

    /// Reads another workspace, too: lines come in the order of their times.
    pub fn and(mut self, workspace: impl Into<Target>) -> Self {
        self.targets.push(workspace.into());
        self
    }

    /// Goes on with new lines until the containers end.
    pub fn follow(mut self) -> Self {
        self.options.query.follow = true;
        self
    }

    /// Gives only this many lines from the end of each container.
    pub fn tail(mut self, lines: u64) -> Self {
        self.options.query.tail = Some(lines);
        self
    }

    /// Gives only lines that were written at or after this time.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.options.query.since = Some(time);
        self
    }

    /// Gives only lines that were written at or before this time.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.options.query.until = Some(time);
        self
    }

    /// Gives only lines of this output.
    pub fn only(mut self, stream: StdStream) -> Self {
        self.options.query.only = Some(stream);
        self
    }

    /// Gives only lines that match a regular expression.
    pub fn grep(mut self, pattern: impl Into<String>) -> Self {
        self.options.grep = Some((pattern.into(), false));
        self
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// See [`crate::Wharf`]; a pattern that is no regular expression has the code `bad-request`.
    pub async fn open(self) -> Result<BoxStream<'static, Result<LogEntry, Error>>, Error> {
        let stream = Box::pin(self.backend.logs(&self.targets, self.options)).await?;
        let entries = try_unfold((stream, VecDeque::new()), async |(mut stream, mut ready)| {
            loop {
                if let Some(entry) = ready.pop_front() {
                    return Ok(Some((entry, (stream, ready))));
                }
                match stream.next().await? {
                    None => return Ok(None),
                    Some(LogItem::Lines(lines)) => {
                        let views = lines.iter().filter_map(|line| stream.view(line));
                        ready.extend(views.map(|view| LogEntry::Line(Box::new(view))));
                    }
                    Some(LogItem::Interrupted(lost, cause)) => {
                        ready.push_back(LogEntry::Notice(lost.name, Notice::Interrupted(cause)));
                    }
                    Some(LogItem::Resumed(lost, gap)) => {
                        ready.push_back(LogEntry::Notice(lost.name, Notice::Resumed(gap)));
                    }
                }
            }
        });
        Ok(entries.boxed())
    }
}

/// A stream of events, and of words about the connection.
pub type EventItems = BoxStream<'static, Result<EventItem, Error>>;

/// Events that are to be listened for: finished by [`Events::open`].
#[must_use = "call open to start it"]
pub struct Events<'a> {
    backend: &'a Backend,
    target: Option<Target>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> Events<'a> {
    pub(super) fn new(backend: &'a Backend) -> Self {
        Self { backend, target: None, since: None, until: None }
    }

    /// Gives only events of this workspace.
    pub fn of(mut self, workspace: impl Into<Target>) -> Self {
        self.target = Some(workspace.into());
        self
    }

    /// Begins at this time instead of now.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Ends at this time instead of never.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    /// Opens the stream: an event that happens after this call is in it.
    ///
    /// # Errors
    /// See [`crate::Wharf`].
    pub async fn open(self) -> Result<EventItems, Error> {
        let stream = Box::pin(self.backend.events(self.target.as_ref(), self.since, self.until)).await?;
        Ok(try_unfold(stream, async |mut stream| Ok(stream.next().await?.map(|item| (item, stream)))).boxed())
    }
}
