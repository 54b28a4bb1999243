//! The output of a command: read, split into streams, and ended even if the engine fails to close it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::connect::SocketReader;
use super::super::error::{Error, Result};
use super::super::hijack::{Frames, StdStream};
use super::{ExecControl, FIRST_LOOK, LAST_LOOK, OPERATION, StreamEnd};

/// Buffer size of one read.
const READ: usize = 64 * 1024;
/// A stream that stays silent for this long after its process has ended counts as closed (moby 24974).
const GRACE: Duration = Duration::from_secs(1);
/// The message that Docker 20.10 writes to the terminal after the detach keys. It then also reports exit code 126 and
/// has been observed to end the command, so `wharf` handles the keys itself. Newer engines just close the stream.
const DETACHED: &[u8] = b"exec attach failed: error on attach stdin: read escape sequence\r\n";

/// The output of a command. See [`ExecOutput::next`].
#[derive(Debug)]
pub struct ExecOutput {
    reader: SocketReader,
    buffer: BytesMut,
    /// None with a terminal, where the bytes are raw.
    frames: Option<Frames>,
    ready: VecDeque<(StdStream, Bytes)>,
    /// The very first output, while it may be the engine's message about a command that did not start.
    held: Option<Bytes>,
    started: bool,
    finished: bool,
    cut: bool,
    ended_at: Option<Instant>,
    next_look: Instant,
    pause: Duration,
    control: ExecControl,
    /// Reports the state of the stream to [`ExecControl::exit`].
    tell: watch::Sender<StreamEnd>,
}

impl ExecOutput {
    pub(super) fn new(
        reader: SocketReader,
        first: Bytes,
        tty: bool,
        control: ExecControl,
        tell: watch::Sender<StreamEnd>,
    ) -> Result<Self> {
        let mut output = Self {
            reader,
            buffer: BytesMut::with_capacity(READ),
            frames: (!tty).then(Frames::default),
            ready: VecDeque::new(),
            held: None,
            started: false,
            finished: false,
            cut: false,
            ended_at: None,
            next_look: Instant::now() + FIRST_LOOK,
            pause: FIRST_LOOK,
            control,
            tell,
        };
        output.take_apart(first)?;
        Ok(output)
    }

    /// Returns the next output as it arrives, or none at its end. Dropping the future loses nothing.
    ///
    /// If the stream is not closed, it ends 1 s after the last output of a process that has ended, see
    /// [`ExecOutput::cut`].
    ///
    /// # Errors
    /// [`Error::Stream`] when the connection breaks.
    pub async fn next(&mut self) -> Option<Result<(StdStream, Bytes)>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.finished {
                return None;
            }
            let wake = self.ended_at.map_or(self.next_look, |ended| ended + GRACE);
            self.buffer.reserve(READ);
            let read = tokio::select! {
                biased;
                read = self.reader.read_buf(&mut self.buffer) => Some(read),
                () = tokio::time::sleep_until(wake) => None,
            };
            match read {
                Some(Ok(0)) => self.finish().await,
                Some(Ok(_)) => {
                    self.pause = FIRST_LOOK;
                    self.next_look = Instant::now() + FIRST_LOOK;
                    self.ended_at = self.ended_at.map(|_| Instant::now());
                    let chunk = self.buffer.split().freeze();
                    if let Err(error) = self.take_apart(chunk) {
                        self.finished = true;
                        return Some(Err(error));
                    }
                }
                Some(Err(source)) => {
                    self.finished = true;
                    return Some(Err(Error::Stream { operation: OPERATION, source: source.into() }));
                }
                None if self.ended_at.is_some() => {
                    self.cut = true;
                    self.finish().await;
                }
                None => self.look().await,
            }
        }
    }

    /// Returns whether Wharf, not the engine, ended the output: the command had ended while its stream was still
    /// open. Either a process that the command left behind holds the stream, and its later output is lost, or the
    /// engine forgot to close it. The engine does not report which. Waiting could take as long as a server that was
    /// started in the background runs.
    pub fn cut(&self) -> bool {
        self.cut
    }

    /// Returns the output as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<(StdStream, Bytes)>> {
        futures_util::stream::unfold(self, |mut output| async {
            let item = output.next().await?;
            Some((item, output))
        })
    }

    /// Checks whether the silent process has ended.
    async fn look(&mut self) {
        let look = self.control.look().await;
        // The command runs or ran, so the held output is its own: the user must see a prompt before answering it.
        if look.as_ref().is_ok_and(|look| look.pid > 0)
            && let Some(words) = self.held.take_if(|words| words != DETACHED)
        {
            self.ready.push_back((StdStream::Stdout, words));
        }
        match look {
            Ok(look) if look.running || look.exit_code.is_none() => {}
            Ok(_) | Err(Error::NotFound { .. }) => self.ended_at = Some(Instant::now()),
            // The stream itself breaks if the engine is gone.
            Err(error) => tracing::debug!(%error, "cannot look at a silent command"),
        }
        self.pause = (self.pause * 3 / 2).min(LAST_LOOK);
        self.next_look = Instant::now() + self.pause;
    }

    fn take_apart(&mut self, chunk: Bytes) -> Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        let Self { frames, ready, held, started, .. } = self;
        let detachable = self.control.detachable;
        let terminal = frames.is_none();
        let mut sink = |stream: StdStream, mut data: Bytes| {
            if data.is_empty() {
                return;
            }
            let first = !std::mem::replace(started, true);
            if detachable && data.ends_with(DETACHED) {
                let words = data.split_off(data.len() - DETACHED.len());
                ready.extend([held.replace(words).unwrap_or_default(), data].map(|data| (StdStream::Stdout, data)));
                ready.retain(|(_, data)| !data.is_empty());
                return;
            }
            if first && stream == StdStream::Stdout && may_be_refusal(&data, terminal) {
                *held = Some(data);
                return;
            }
            ready.extend(held.take().map(|words| (StdStream::Stdout, words)));
            ready.push_back((stream, data));
        };
        match frames {
            None => sink(StdStream::Stdout, chunk),
            Some(frames) => frames
                .push(chunk, &mut |piece| sink(piece.stream, piece.data))
                .map_err(|bad| Error::Stream { operation: OPERATION, source: Box::new(bad) })?,
        }
        Ok(())
    }

    /// Handles the end of the stream: held output is either the engine's message or real output.
    async fn finish(&mut self) {
        self.finished = true;
        let mut end = StreamEnd { ended: true, ..StreamEnd::default() };
        if let Some(words) = self.held.take() {
            // Process id 0 means that the command never ran.
            if words == DETACHED {
                end.detached = true;
            } else if self.control.look().await.is_ok_and(|look| !look.running && look.pid == 0) {
                end.refusal = Some(String::from_utf8_lossy(&words).trim().to_owned());
            } else {
                self.ready.push_back((StdStream::Stdout, words));
            }
        }
        self.tell.send_replace(end);
    }
}

/// Returns whether output may be the engine's message about a command that did not start. Engines up to the current
/// version write it to stdout, in one piece with a terminal's line ending, before they close the stream. Output of a
/// terminal has the same line ending and must not be held back, so with a terminal only the wording counts.
fn may_be_refusal(data: &[u8], terminal: bool) -> bool {
    const WORDS: [&[u8]; 9] = [
        b"OCI runtime exec failed",
        b"unable to find ",
        b"failed to exec in container",
        b"rpc error: ",
        b"cannot exec",
        b"uids and gids must be in range",
        // The container is just ending.
        b"task ",
        b"Container ",
        b"container ",
    ];
    data.len() < 8192 && (!terminal && data.ends_with(b"\r\n") || WORDS.iter().any(|words| data.starts_with(words)))
}
