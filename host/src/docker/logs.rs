//! Logs: the engine's stream or its log file, decoded where the bytes arrive and returned in batches.
//!
//! Without a terminal, every log message is one frame. The engine splits a line that is longer than 16 KiB into
//! several messages, each with its own time. A message without a line ending is therefore continued by the next
//! message of its stream. With a terminal there are no frames, only the concatenated bytes of the messages.
//!
//! If the engine is on this machine and its log file is readable, [`Docker::read_logs`] reads the file: the same
//! messages in the same order, many times faster than from the engine. Unusual cases are left to the engine.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use jiff::Timestamp;
use serde::Deserialize;

use bytes::Bytes;

use super::connect::Endpoint;
use super::error::{Error, Result};
use super::hijack::StdStream;
use super::http::{Body, Call, SLOW};
use super::{Docker, containers};

mod decode;
mod file;
mod json_line;
mod segments;

use decode::Decoder;

const OPERATION: &str = "read the logs";
/// A batch of this size is returned even if more has arrived.
const BATCH: usize = 256 * 1024;

/// Selects a part of the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Continues with new lines until the container ends.
    pub follow: bool,
    /// Includes only messages that were logged at or after this time.
    pub since: Option<Timestamp>,
    /// Ends before the first message that was logged after this time.
    pub until: Option<Timestamp>,
    /// Includes only this many messages from the end.
    pub tail: Option<u64>,
    /// Includes the time of each line.
    pub timestamps: bool,
    /// Includes stdout.
    pub stdout: bool,
    /// Includes stderr.
    pub stderr: bool,
}

impl Default for LogOptions {
    /// Selects everything that was logged so far, without times.
    fn default() -> Self {
        Self { follow: false, since: None, until: None, tail: None, timestamps: false, stdout: true, stderr: true }
    }
}

/// A line, or a piece of a long line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The time when it was logged, if requested.
    pub time: Option<Timestamp>,
    /// The stream that it was written to; with a terminal always stdout.
    pub stream: StdStream,
    /// The original bytes, including the line ending if this piece has it.
    pub message: Bytes,
}

impl LogLine {
    /// Returns whether the line continues in the next item of the same stream.
    pub fn is_partial(&self) -> bool {
        self.message.last() != Some(&b'\n')
    }
}

/// The facts about a container that are needed to read its logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    /// The engine's id of the container.
    pub id: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it runs.
    pub running: bool,
    /// The engine's log file, and the maximum number of files including rotated ones. None if the file is not on this
    /// machine, belongs to another log driver, or is rotated in a way that a reader cannot follow.
    file: Option<(PathBuf, u32)>,
}

impl LogSource {
    /// Returns whether the engine has a log file that may be read.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }
}

/// Lines as they arrive. All lines of one read come together.
#[derive(Debug)]
pub struct LogStream {
    from: From,
    failure: Option<Error>,
    done: bool,
}

#[derive(Debug)]
enum From {
    Engine { body: Body, decoder: Decoder },
    File(file::Tailer),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    log_path: String,
    config: InspectedConfig,
    host_config: InspectedHost,
    state: InspectedState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    tty: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHost {
    log_config: LogConfig,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct LogConfig {
    #[serde(rename = "Type", default)]
    driver: String,
    config: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    running: bool,
}

/// Returns how many files the engine keeps, if they are readable as they are: uncompressed, and renamed when full.
/// With a single file of bounded size the engine truncates the file in place, which a concurrent reader cannot tell
/// from new lines.
fn readable_files(config: &LogConfig) -> Option<u32> {
    let get = |key: &str| config.config.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let files: u32 = get("max-file").map_or(Some(1), |text| text.parse().ok())?;
    let bounded = get("max-size").is_some_and(|size| size != "-1");
    (config.driver == "json-file" && files >= 1 && (files > 1 || !bounded)).then_some(files)
}

impl Docker {
    /// Collects the facts about a container that are needed to read its logs.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn log_source(&self, id: &str) -> Result<LogSource> {
        let call = Call::get("inspect the container", format!("{}/json", containers::path(id)?));
        let raw: Inspected = self.http().json(&call.about("container", id)).await?;
        let local = matches!(self.http().endpoint, Endpoint::Unix(_)) && self.local_files;
        let files = if local { readable_files(&raw.host_config.log_config) } else { None };
        let file = files.filter(|_| raw.log_path.starts_with('/')).map(|files| (raw.log_path.into(), files));
        Ok(LogSource { id: raw.id, tty: raw.config.tty, running: raw.state.running, file })
    }

    /// Reads the logs of a container in the fastest complete way: from the engine's file if it is readable, otherwise
    /// from the engine. Dropping the stream ends it.
    ///
    /// # Errors
    /// As [`Docker::logs`].
    pub async fn read_logs(&self, source: &LogSource, options: &LogOptions) -> Result<LogStream> {
        if let Some((path, files)) = &source.file {
            match file::Tailer::open(self, source, path, *files, options) {
                Ok(tailer) => return Ok(LogStream { from: From::File(tailer), failure: None, done: false }),
                // Expected for every user except root.
                Err(error) => tracing::debug!(%error, file = %path.display(), "cannot read the log file of the engine"),
            }
        }
        self.logs(&source.id, source.tty, options).await
    }

    /// Reads the logs of a container from the engine. `tty` says whether the container has a terminal. Dropping the
    /// stream ends it.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Unsupported`] or [`Error::Engine`] for a log driver that cannot be read.
    pub async fn logs(&self, id: &str, tty: bool, options: &LogOptions) -> Result<LogStream> {
        let LogOptions { follow, timestamps, stdout, stderr, .. } = options;
        let mut path = format!(
            "{}/logs?follow={follow}&timestamps={timestamps}&stdout={stdout}&stderr={stderr}",
            containers::path(id)?
        );
        let mut add = |key: &str, time: Option<Timestamp>| {
            if let Some(time) = time {
                path.push_str(&format!("&{key}={}.{:09}", time.as_second(), time.subsec_nanosecond()));
            }
        };
        add("since", options.since);
        add("until", options.until);
        if let Some(tail) = options.tail {
            path.push_str(&format!("&tail={tail}"));
        }
        // A follower of a silent container gets the response head at once, but a search through long logs takes time.
        let call = Call::get(OPERATION, path).about("container", id).within(SLOW);
        let body = self.http().stream(&call).await?;
        let from = From::Engine { body, decoder: Decoder::new(tty, *timestamps) };
        Ok(LogStream { from, failure: None, done: false })
    }
}

impl LogStream {
    /// Returns the next lines, or none at the end.
    ///
    /// # Errors
    /// [`Error::Stream`] when the connection breaks, the engine reports a failure, or its file holds something that
    /// only the engine understands. An error is the last item.
    pub async fn next(&mut self) -> Option<Result<Vec<LogLine>>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Returns whether the lines come from the engine's file, without the engine.
    pub fn is_local(&self) -> bool {
        matches!(self.from, From::File(_))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<LogLine>>>> {
        let (body, decoder) = match &mut self.from {
            From::Engine { body, decoder } => (body, decoder),
            From::File(tailer) => return tailer.poll(cx),
        };
        let mut lines = Vec::new();
        let mut size = 0;
        while !self.done && size < BATCH {
            let failed = match body.poll_chunk(cx) {
                Poll::Pending if lines.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(Ok(chunk))) => {
                    size += chunk.len();
                    decoder.push(chunk, &mut lines)
                }
                Poll::Ready(Some(Err(error))) => Err(error.into()),
                Poll::Ready(None) => {
                    self.done = true;
                    decoder.finish(&mut lines)
                }
            };
            if let Err(source) = failed {
                self.done = true;
                self.failure = Some(Error::Stream { operation: OPERATION, source });
            }
        }
        if lines.is_empty() { Poll::Ready(self.failure.take().map(Err)) } else { Poll::Ready(Some(Ok(lines))) }
    }
}

impl Stream for LogStream {
    type Item = Result<Vec<LogLine>>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(driver: &str, config: &[(&str, &str)]) -> Option<u32> {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        readable_files(&LogConfig { driver: driver.to_owned(), config: Some(config) })
    }

    #[test]
    fn a_log_file_is_read_only_where_its_rotation_can_be_followed() {
        assert_eq!(files("json-file", &[]), Some(1));
        assert_eq!(files("json-file", &[("max-file", "3"), ("max-size", "10m")]), Some(3));
        assert_eq!(files("json-file", &[("max-size", "-1")]), Some(1));
        assert_eq!(files("json-file", &[("max-size", "10m")]), None);
        assert_eq!(files("json-file", &[("max-file", "many")]), None);
        assert_eq!(files("local", &[]), None);
        assert_eq!(readable_files(&LogConfig::default()), None);
    }
}
