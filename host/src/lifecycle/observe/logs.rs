//! Logs of one container, of all containers of a workspace, or of all workspaces, merged in time order.
//!
//! Each container has a [`source`] that reads it, survives a restart of the engine and resumes where it was; with more
//! than one, [`merge`] orders their lines. Memory is bounded by what the sources and the merge may hold: a reader that
//! stops reading stops them all.

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

/// Which part of which logs.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Goes on with new lines until the containers end.
    pub follow: bool,
    /// Only what was logged at or after this time.
    pub since: Option<Timestamp>,
    /// Ends before the first message that was logged after this time.
    pub until: Option<Timestamp>,
    /// Only this many messages from the end of each container.
    pub tail: Option<u64>,
    /// Gives the time and the cursor of each line.
    pub times: bool,
    /// One of the two streams; none means both.
    pub only: Option<StdStream>,
    /// Where to go on, per container. What was logged later is given, and nothing else.
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
    /// [`Error::Request`] with a mark where the pattern is wrong.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, Error> {
        let regex = regex::bytes::RegexBuilder::new(pattern).case_insensitive(ignore_case).size_limit(8 << 20).build();
        regex.map(Self).map_err(|error| Error::Request(format!("the pattern '{pattern}' cannot be used: {error}")))
    }

    /// Whether a line matches; its line end does not count.
    fn matches(&self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.0.is_match(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// A container whose logs are read.
#[derive(Debug, Clone)]
pub struct LogContainer {
    /// The id of its workspace.
    pub id: WorkspaceId,
    /// The engine's id.
    pub container_id: String,
}

/// A line. With one container and no pattern it may be a piece of one, handed over as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its container: an index into [`Logs::containers`].
    pub container: usize,
    /// When it was logged, if that was asked for.
    pub time: Option<Timestamp>,
    /// Where it was written to; with a terminal always stdout.
    pub stream: StdStream,
    /// The bytes as they were written, with the line end if this piece has it.
    pub message: Bytes,
    /// What follows it, if times were asked for. None behind a line while an older one of the other stream is not
    /// complete: to go on behind this one would lose that one.
    pub position: Option<position::Position>,
}

impl Line {
    /// Whether the line goes on in another item.
    pub fn is_partial(&self) -> bool {
        self.message.last() != Some(&b'\n')
    }
}

/// A line as programs see it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[schema(as = LogLine)]
pub struct LineView {
    /// When it was logged.
    pub time: Option<Timestamp>,
    /// Where it was written to; with a terminal always stdout.
    pub stream: StdStream,
    /// The line without its end; bytes that are no text are replaced.
    pub message: String,
    /// The bytes as they are, where they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The engine's id of the container.
    pub container_id: String,
    /// Where to go on behind it.
    pub cursor: Option<String>,
    /// Present on a piece of a line that goes on in the next object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// What happens while logs are read.
#[derive(Debug)]
pub enum LogEvent {
    /// Lines, in order.
    Lines(Vec<Line>),
    /// The connection to the engine broke, and is tried again until it works. Said once per container.
    Interrupted {
        /// Index into [`Logs::containers`].
        container: usize,
        /// Why.
        cause: String,
    },
    /// Reading goes on where it was.
    Resumed {
        /// Index into [`Logs::containers`].
        container: usize,
        /// Whether the place was not found any more, because the log was rotated: lines may be missing.
        lost: bool,
    },
}

/// Logs as they are read.
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
    /// Reads the logs of containers, as [`Lifecycle::containers_of`] gives them, merged in time order. Dropping the
    /// result ends it.
    ///
    /// # Errors
    /// [`Error::Request`] for a cursor of another container; and when the engine cannot read one of the logs.
    pub async fn logs(&self, containers: Vec<(WorkspaceId, Container)>, query: &LogQuery) -> Result<Logs, Error> {
        let containers: Vec<_> =
            containers.into_iter().map(|(id, container)| LogContainer { id, container_id: container.id }).collect();
        for cursor in &query.after {
            if !containers.iter().any(|container| container.container_id == cursor.container_id) {
                return Err(Error::Request(format!(
                    "the cursor {cursor} is of a container of another workspace, or of one that was made anew since; \
                     leave it out to read from the beginning"
                )));
            }
        }
        let merged = containers.len() > 1;
        // What is over is only read.
        let follow = query.follow && query.until.is_none_or(|until| until > Timestamp::now());
        let options = LogOptions {
            follow,
            since: query.since,
            until: query.until,
            tail: query.tail,
            // Without times there is no order and no place to go on.
            timestamps: query.times || follow || merged || !query.after.is_empty(),
            stdout: query.only != Some(StdStream::Stderr),
            stderr: query.only != Some(StdStream::Stdout),
        };
        let opened = containers.iter().enumerate().map(|(index, container)| {
            let after = query.after.iter().find(|cursor| cursor.container_id == container.container_id);
            let lines = lines::Lines::new(index, merged, query.grep.clone());
            source::Source::open(&self.docker, index, &container.container_id, options.clone(), after, lines)
        });
        // All at once: with many containers the engine takes its time for each.
        let mut sources = futures_util::future::try_join_all(opened).await?;
        let feed = match (sources.len(), sources.pop()) {
            (1, Some(source)) => Feed::One(Box::new(source)),
            (_, last) => Feed::Many(merge::Merge::new(sources.into_iter().chain(last).collect(), follow)),
        };
        Ok(Logs { containers, feed })
    }
}

impl Logs {
    /// The containers, in the order of their indexes.
    pub fn containers(&self) -> &[LogContainer] {
        &self.containers
    }

    /// The cursor behind a line, if there is one.
    pub fn cursor(&self, line: &Line) -> Option<Cursor> {
        let container_id = self.containers.get(line.container)?.container_id.clone();
        Some(Cursor { container_id, position: line.position? })
    }

    /// A line as programs see it; none of a container that is not read.
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

    /// What comes next, or none at the end.
    ///
    /// # Errors
    /// When the engine fails; it is the last item.
    pub async fn next(&mut self) -> Option<Result<LogEvent, Error>> {
        match &mut self.feed {
            Feed::One(source) => source.next().await,
            Feed::Many(merge) => merge.next().await,
        }
    }
}

/// Bytes as text, and as they are where they are none.
fn text_of(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(base64(bytes))),
    }
}

impl FromStr for Cursor {
    type Err = String;

    /// Reads what `Display` wrote.
    fn from_str(text: &str) -> Result<Self, String> {
        position::parse(text)
            .ok_or_else(|| format!("'{text}' is not a cursor; take one from the lines of 'logs --json'"))
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
