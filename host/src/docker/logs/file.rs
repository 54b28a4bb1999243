//! Reads the engine's json-file directly: history, tail, rotation, and new lines as they are written.
//!
//! The result equals the engine's stream: the same messages in the same order. The engine reads the rotated files
//! from the oldest on and then the current file, counts `tail` in messages over all of them, skips messages older
//! than `since` and ends at the first message after `until` (moby, daemon/logger/loggerutils/logfile.go). In unusual
//! cases, such as compressed or damaged files, opening or reading fails, and the caller falls back to the engine.
//!
//! A dedicated thread reads the files, because a disk may block. Its channel is short, so a slow consumer pauses the
//! thread.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc;

use super::json_line::{self, Clock};
use super::segments::{Part, open_all, tail_start};
use super::{LogLine, LogOptions, LogSource, OPERATION};
use crate::docker::Docker;
use crate::docker::error::{Error, Result};
use crate::docker::hijack::StdStream;

/// Bytes read from a file at once.
const BLOCK: usize = 128 * 1024;
/// The longest valid line. A message has at most 16 KiB, and JSON needs up to 6 bytes for each of them; a longer line
/// is no log line.
const LONGEST_LINE: usize = 1024 * 1024;
/// Batches that wait for the consumer.
const QUEUE: usize = 1;
/// The number of checks for the rest of an unfinished line.
const UNFINISHED: usize = 40;
/// Pauses between checks of a file that does not grow: first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// Lines of the engine's files, as they are read.
#[derive(Debug)]
pub(super) struct Tailer {
    lines: mpsc::Receiver<Result<Vec<LogLine>>>,
    /// Waits for the end of the container when following.
    watch: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Tailer {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

impl Tailer {
    pub(super) fn open(
        docker: &Docker,
        source: &LogSource,
        path: &Path,
        most: u32,
        options: &LogOptions,
    ) -> io::Result<Self> {
        let parts = open_all(path, most)?;
        let (to, lines) = mpsc::channel(QUEUE);
        let follow = options.follow && source.running;
        let ended = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            path: path.to_path_buf(),
            most,
            options: LogOptions { follow, ..options.clone() },
            clock: Clock::default(),
            buffer: vec![0; BLOCK],
            filled: 0,
            used: 0,
            ended: ended.clone(),
            to,
        };
        std::thread::Builder::new().name("wharf-log-file".into()).spawn(move || reader.run(parts))?;
        let watch = follow.then(|| {
            let (docker, id) = (docker.clone(), source.id.clone());
            tokio::spawn(async move { until_ended(&docker, &id, &ended).await })
        });
        Ok(Self { lines, watch })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<LogLine>>>> {
        self.lines.poll_recv(cx)
    }
}

/// Returns when the container has ended, however often the engine restarts meanwhile.
async fn until_ended(docker: &Docker, id: &str, ended: &AtomicBool) {
    let mut pause = Duration::from_millis(200);
    while let Err(error) = docker.wait(id).await {
        if matches!(error, Error::NotFound { .. }) {
            break;
        }
        tracing::debug!(%error, "waiting for the end of a container whose log is followed");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
    // The engine writes the whole log before it reports that the container does not run.
    ended.store(true, Ordering::Release);
}

/// The reason why reading stopped before the end of the files.
enum Stop {
    /// Nothing more is needed: the consumer is gone, or `until` was reached.
    Enough,
    /// The file holds something that only the engine understands.
    Failed(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

struct Reader {
    path: PathBuf,
    most: u32,
    options: LogOptions,
    clock: Clock,
    /// The first `filled` bytes were read and not yet passed on.
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of the whole lines that were passed on last.
    used: usize,
    ended: Arc<AtomicBool>,
    to: mpsc::Sender<Result<Vec<LogLine>>>,
}

impl Reader {
    fn run(mut self, parts: Vec<Part>) {
        if let Err(Stop::Failed(cause)) = self.read(parts) {
            let source = format!("{}: {cause}", self.path.display()).into();
            let _ = self.to.blocking_send(Err(Error::Stream { operation: OPERATION, source }));
        }
    }

    fn read(&mut self, mut parts: Vec<Part>) -> std::result::Result<(), Stop> {
        self.seek_tail(&mut parts)?;
        let Some(mut current) = parts.pop() else { return Ok(()) };
        for mut part in parts {
            self.finish(&mut part)?;
        }
        self.history(&mut current)?;
        if self.options.follow { self.follow(current) } else { self.end_line(&mut current) }
    }

    /// Skips the files, and the parts of files, before the requested tail.
    fn seek_tail(&self, parts: &mut Vec<Part>) -> io::Result<()> {
        let Some(mut wanted) = self.options.tail else { return Ok(()) };
        let last = parts.len().saturating_sub(1);
        let mut first = parts.len();
        for (index, part) in parts.iter_mut().enumerate().rev() {
            if wanted == 0 {
                // The current file is needed for following.
                if index < last {
                    break;
                }
                part.file.seek(SeekFrom::Start(part.size))?;
            } else {
                let (start, found) = tail_start(part, wanted)?;
                part.file.seek(SeekFrom::Start(start))?;
                wanted -= found.min(wanted);
            }
            first = index;
        }
        parts.drain(..first);
        Ok(())
    }

    /// Reads a file up to its size at opening.
    fn history(&mut self, part: &mut Part) -> std::result::Result<(), Stop> {
        let mut position = part.file.stream_position()?;
        while position < part.size {
            let count = self.block(&mut part.file, part.size - position)?;
            if count == 0 {
                return Err(Stop::Failed("the file was truncated".into()));
            }
            position += count;
        }
        Ok(())
    }

    /// Reads a file that nothing writes to any more, up to its end.
    fn finish(&mut self, part: &mut Part) -> std::result::Result<(), Stop> {
        while self.block(&mut part.file, u64::MAX)? > 0 {}
        self.between_lines()
    }

    /// Reads to the end of a line that was unfinished when the file was opened. Everything after that line is newer.
    fn end_line(&mut self, current: &mut Part) -> std::result::Result<(), Stop> {
        for _ in 0..UNFINISHED {
            if self.filled == 0 {
                return Ok(());
            }
            self.used = 0;
            if self.block(&mut current.file, BLOCK as u64)? == 0 {
                std::thread::sleep(PAUSES.0);
            } else if self.used > 0 {
                return Ok(());
            }
        }
        self.between_lines()
    }

    fn between_lines(&self) -> std::result::Result<(), Stop> {
        if self.filled == 0 { Ok(()) } else { Err(Stop::Failed("it ends in the middle of a line".into())) }
    }

    /// Passes on new lines until the container has ended.
    fn follow(&mut self, mut current: Part) -> std::result::Result<(), Stop> {
        let mut pause = PAUSES.0;
        loop {
            // Loaded before reading: everything written before this load is read below.
            let ended = self.ended.load(Ordering::Acquire);
            if self.block(&mut current.file, u64::MAX)? > 0 {
                pause = PAUSES.0;
                continue;
            }
            match std::fs::metadata(&self.path) {
                Ok(meta) if (meta.dev(), meta.ino()) == current.identity => {
                    if meta.len() < current.file.stream_position()? {
                        return Err(Stop::Failed("the file was truncated".into()));
                    }
                }
                // The engine renames a file only after writing its last line.
                Ok(_) => {
                    self.finish(&mut current)?;
                    current = self.switch(&current)?;
                    continue;
                }
                // Either the old file was just renamed and the new one does not exist yet, or the file was removed
                // with its container.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            if ended {
                return self.between_lines();
            }
            if self.to.is_closed() {
                return Err(Stop::Enough);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Reads the files between the given file and the current file, and returns the current file.
    fn switch(&mut self, read: &Part) -> std::result::Result<Part, Stop> {
        let mut parts = open_all(&self.path, self.most)?;
        let Some(index) = parts.iter().position(|part| part.identity == read.identity) else {
            return Err(Stop::Failed("it was rotated before it was read".into()));
        };
        let mut newer = parts.split_off(index + 1);
        let Some(current) = newer.pop() else { return Err(Stop::Failed("it was renamed back".into())) };
        for mut part in newer {
            self.finish(&mut part)?;
        }
        Ok(current)
    }

    /// Reads a block of at most `most` bytes and passes on its lines. Returns the number of bytes read.
    fn block(&mut self, file: &mut File, most: u64) -> std::result::Result<u64, Stop> {
        if self.filled == self.buffer.len() {
            if self.filled >= LONGEST_LINE {
                return Err(Stop::Failed("a line is too long".into()));
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let free = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let wanted = usize::try_from(most).unwrap_or(usize::MAX).min(free.len());
        let count = match file.read(free.get_mut(..wanted).unwrap_or_default()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.block(file, most),
            other => other?,
        };
        self.filled += count;
        self.hand_over()?;
        Ok(count as u64)
    }

    /// Passes on the whole lines of the buffer and keeps the rest.
    fn hand_over(&mut self) -> std::result::Result<(), Stop> {
        let LogOptions { since, until, timestamps, stdout, stderr, .. } = self.options;
        let text = self.buffer.get(..self.filled).unwrap_or_default();
        let mut messages = BytesMut::with_capacity(text.len());
        let mut ends: Vec<(StdStream, jiff::Timestamp, usize)> = Vec::with_capacity(text.len() / 128);
        let (mut used, mut enough) = (0, false);
        for end in memchr::memchr_iter(b'\n', text) {
            let start = messages.len();
            let line = text.get(used..end).unwrap_or_default();
            let Some((stream, time)) = json_line::read(line, &mut self.clock, &mut messages) else {
                // Pass on the lines understood so far, so that the engine only has to deliver the rest.
                self.send(messages, &ends, timestamps)?;
                return Err(Stop::Failed("a line is not in the format of the engine".into()));
            };
            used = end + 1;
            if until.is_some_and(|until| time > until) {
                messages.truncate(start);
                enough = true;
                break;
            }
            let wanted = if stream == StdStream::Stdout { stdout } else { stderr };
            if wanted && since.is_none_or(|since| time >= since) {
                ends.push((stream, time, messages.len()));
            } else {
                messages.truncate(start);
            }
        }
        self.used = used;
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.send(messages, &ends, timestamps)?;
        if enough { Err(Stop::Enough) } else { Ok(()) }
    }

    fn send(
        &self,
        messages: BytesMut,
        ends: &[(StdStream, jiff::Timestamp, usize)],
        timestamps: bool,
    ) -> std::result::Result<(), Stop> {
        if ends.is_empty() {
            // A long search without matches must end when its consumer is gone.
            return if self.to.is_closed() { Err(Stop::Enough) } else { Ok(()) };
        }
        let messages = messages.freeze();
        let mut start = 0;
        let lines = ends.iter().map(|(stream, time, end)| {
            let message = messages.slice(start..*end);
            start = *end;
            LogLine { time: timestamps.then_some(*time), stream: *stream, message }
        });
        self.to.blocking_send(Ok(lines.collect())).map_err(|_| Stop::Enough)
    }
}
