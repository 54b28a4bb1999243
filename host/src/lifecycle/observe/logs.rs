//! Logs of one container, of all containers of a workspace, or of all workspaces, merged in time order.
//!
//! Each container has a [`source`] that reads it, survives a restart of the engine and resumes at its position. With
//! several containers, [`merge`] orders their lines. The sources and the merge limit the memory that they use: a reader
//! that stops reading stops them all.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::docker::{LogOptions, StdStream};
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::{Container, WorkspaceId, base64};

mod lines;
mod merge;
mod position;
mod source;

pub use position::Cursor;

/// The selection of log lines.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Whether to continue with new lines until the containers end.
    pub follow: bool,
    /// Only messages that were logged at or after this time.
    pub since: Option<Timestamp>,
    /// Ends before the first message that was logged after this time.
    pub until: Option<Timestamp>,
    /// Only this many messages from the end of each container.
    pub tail: Option<u64>,
    /// Whether lines have their time and cursor.
    pub times: bool,
    /// One of the two streams; none means both.
    pub only: Option<StdStream>,
    /// The positions after which to continue, per container. Only messages that were logged later are returned.
    pub after: Vec<Cursor>,
    /// Only lines that match.
    pub grep: Option<Grep>,
}

/// A pattern for lines: a regular expression on bytes.
#[derive(Debug, Clone)]
pub struct Grep(regex::bytes::Regex);

impl Grep {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`Error::Request`] with a mark at the error in the pattern.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, Error> {
        let regex = regex::bytes::RegexBuilder::new(pattern).case_insensitive(ignore_case).size_limit(8 << 20).build();
        regex.map(Self).map_err(|error| Error::Request(format!("the pattern '{pattern}' is invalid: {error}")))
    }

    /// Returns whether a line matches; its line break does not count.
    fn matches(&self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.0.is_match(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// A container whose logs are read.
#[derive(Debug, Clone)]
pub struct LogContainer {
    /// The ID of its workspace.
    pub id: WorkspaceId,
    /// The engine's ID.
    pub container_id: String,
}

/// A line. With one container and no pattern it may be a piece of a line, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its container: an index into [`Logs::containers`].
    pub container: usize,
    /// The time of the message, if times were requested.
    pub time: Option<Timestamp>,
    /// Its stream; with a terminal always stdout.
    pub stream: StdStream,
    /// The bytes as they were written, including the line break if this piece has it.
    pub message: Bytes,
    /// The position after it, if times were requested. None for a line while an older line of the other stream is
    /// incomplete: to continue after this line would lose the older one.
    pub position: Option<position::Position>,
}

impl Line {
    /// Returns whether the line continues in another item.
    pub fn is_partial(&self) -> bool {
        self.message.last() != Some(&b'\n')
    }
}

/// A line for programs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[schema(as = LogLine)]
pub struct LineView {
    /// Time of the message.
    pub time: Option<Timestamp>,
    /// Its stream; with a terminal always stdout.
    pub stream: StdStream,
    /// The line without its line break; bytes that are not UTF-8 are replaced.
    pub message: String,
    /// The bytes, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The engine's id of the container.
    pub container_id: String,
    /// The cursor after it.
    pub cursor: Option<String>,
    /// Present on a piece of a line that continues in the next object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// An event while logs are read.
#[derive(Debug)]
pub enum LogEvent {
    /// Lines, in order.
    Lines(Vec<Line>),
    /// The connection to the engine broke, and is retried until it works. Reported once per container.
    Interrupted {
        /// Index into [`Logs::containers`].
        container: usize,
        /// The cause.
        cause: String,
    },
    /// Reading continues at its position.
    Resumed {
        /// Index into [`Logs::containers`].
        container: usize,
        /// Whether the position was not found any more, because the log was rotated: lines may be missing.
        lost: bool,
    },
}

/// The logs of some containers.
pub struct Logs {
    containers: Vec<LogContainer>,
    feed: Feed,
}

enum Feed {
    One(Box<source::Source>),
    Many(merge::Merge),
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("containers", &self.containers).finish_non_exhaustive()
    }
}

impl Lifecycle {
    /// Reads the logs of containers from [`Lifecycle::containers_of`], merged in time order. Dropping the result ends
    /// it.
    ///
    /// # Errors
    /// [`Error::Request`] for a cursor of another container; and when the engine cannot read one of the logs.
    pub async fn logs(&self, containers: Vec<(WorkspaceId, Container)>, query: &LogQuery) -> Result<Logs, Error> {
        let containers: Vec<_> =
            containers.into_iter().map(|(id, container)| LogContainer { id, container_id: container.id }).collect();
        for cursor in &query.after {
            if !containers.iter().any(|container| container.container_id == cursor.container_id) {
                return Err(Error::Request(format!(
                    "the cursor '{cursor}' belongs to a container of another workspace, or to a container that was \
                     recreated since; omit it to read from the beginning"
                )));
            }
        }
        let merged = containers.len() > 1;
        // A period that is over is read without following.
        let follow = query.follow && query.until.is_none_or(|until| until > Timestamp::now());
        let options = LogOptions {
            follow,
            since: query.since,
            until: query.until,
            tail: query.tail,
            // Without times there is neither an order nor a position.
            timestamps: query.times || follow || merged || !query.after.is_empty(),
            stdout: query.only != Some(StdStream::Stderr),
            stderr: query.only != Some(StdStream::Stdout),
        };
        let opened = containers.iter().enumerate().map(|(index, container)| {
            let after = query.after.iter().find(|cursor| cursor.container_id == container.container_id);
            let lines = lines::Lines::new(index, merged, query.grep.clone());
            source::Source::open(&self.docker, index, &container.container_id, options.clone(), after, lines)
        });
        // All sources are opened concurrently, because the engine takes some time for each.
        let mut sources = futures_util::future::try_join_all(opened).await?;
        let feed = match (sources.len(), sources.pop()) {
            (1, Some(source)) => Feed::One(Box::new(source)),
            (_, last) => Feed::Many(merge::Merge::new(sources.into_iter().chain(last).collect(), follow)),
        };
        Ok(Logs { containers, feed })
    }
}

impl Logs {
    /// Returns the containers, in the order of their indexes.
    pub fn containers(&self) -> &[LogContainer] {
        &self.containers
    }

    /// Returns the cursor after a line, if there is one.
    pub fn cursor(&self, line: &Line) -> Option<Cursor> {
        let container_id = self.containers.get(line.container)?.container_id.clone();
        Some(Cursor { container_id, position: line.position? })
    }

    /// Returns a line for programs; `None` for a container that is not read.
    pub fn view(&self, line: &Line) -> Option<LineView> {
        let container = self.containers.get(line.container)?;
        let bytes = line.message.strip_suffix(b"\n").unwrap_or(&line.message);
        let (message, base64) = text_of(bytes);
        Some(LineView {
            time: line.time,
            stream: line.stream,
            message,
            base64,
            workspace: container.id.clone(),
            container_id: container.container_id.clone(),
            cursor: self.cursor(line).map(|cursor| cursor.to_string()),
            partial: line.is_partial(),
        })
    }

    /// Returns the next event, or `None` at the end.
    ///
    /// # Errors
    /// When the engine fails; the error is the last item.
    pub async fn next(&mut self) -> Option<Result<LogEvent, Error>> {
        match &mut self.feed {
            Feed::One(source) => source.next().await,
            Feed::Many(merge) => merge.next().await,
        }
    }
}

/// Converts bytes to text, and also returns the bytes if they are not UTF-8.
fn text_of(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(base64(bytes))),
    }
}

impl FromStr for Cursor {
    type Err = String;

    /// Parses the output of `Display`.
    fn from_str(text: &str) -> Result<Self, String> {
        position::parse(text)
            .ok_or_else(|| format!("'{text}' is not a cursor; use one from the lines of 'logs --json'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_not_lost() {
        assert_eq!(text_of("ü".as_bytes()), ("ü".to_owned(), None));
        assert_eq!(text_of(&[b'a', 0xff]), ("a\u{fffd}".to_owned(), Some("Yf8=".to_owned())));
    }

    #[test]
    fn a_pattern_sees_a_line_without_its_end_and_bytes_that_are_no_text() {
        let grep = |pattern: &str, line: &[u8]| Grep::new(pattern, false).unwrap().matches(line);
        assert!(grep("end$", b"the end\n") && grep("end$", b"the end\r\n") && !grep("END", b"the end\n"));
        assert!(Grep::new("END", true).unwrap().matches(b"the end"));
        assert!(grep(r"(?-u)\xff b", b"a \xff b\n") && grep("^$", b"\n") && !grep("^$", b"x\n"));
        let error = Grep::new("a(b", false).unwrap_err().to_string();
        assert!(error.contains("unclosed group"), "{error}");
    }
}
