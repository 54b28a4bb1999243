//! Writes large amounts of bytes to stdout and stderr, in order, while a command stays interruptible: a thread writes,
//! and callers wait for it asynchronously.

use std::io::{self, Write};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cli::terminal::{raw_err, raw_out};
use crate::docker::StdStream;

/// Bytes that are collected before they are written.
const BUFFER: usize = 128 * 1024;
/// The longest time that fewer bytes are collected. The engine sends each line by itself; waking a thread for each of a
/// hundred thousand lines would take longer than everything else.
const PATIENCE: Duration = Duration::from_millis(2);

/// The writing thread, and the bytes collected for it.
pub(super) struct Printer {
    buffer: Vec<u8>,
    /// The time of the last hand-over.
    flushed: Instant,
    stream: StdStream,
    to: mpsc::Sender<(StdStream, Vec<u8>)>,
    failed: mpsc::Receiver<io::Error>,
}

impl Printer {
    pub(super) fn new() -> Self {
        let (to, mut from) = mpsc::channel::<(StdStream, Vec<u8>)>(1);
        let (fail, failed) = mpsc::channel(1);
        // The thread ends with the process if its output is not read.
        std::thread::spawn(move || {
            while let Some((stream, bytes)) = from.blocking_recv() {
                let written = match stream {
                    StdStream::Stdout => write(&mut raw_out().lock(), &bytes),
                    StdStream::Stderr => write(&mut raw_err().lock(), &bytes),
                };
                if let Err(error) = written {
                    let _ = fail.try_send(error);
                    return;
                }
            }
        });
        Self { buffer: Vec::with_capacity(BUFFER), flushed: Instant::now(), stream: StdStream::Stdout, to, failed }
    }

    /// Returns the buffer for a stream. Bytes that were collected for the other stream are written before it.
    pub(super) async fn to(&mut self, stream: StdStream) -> io::Result<&mut Vec<u8>> {
        if stream != self.stream || self.buffer.len() >= BUFFER {
            self.flush().await?;
            self.stream = stream;
        }
        Ok(&mut self.buffer)
    }

    /// Returns the time when the collected bytes must be handed over; `None` when there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.buffer.is_empty()).then(|| self.flushed + PATIENCE)
    }

    /// Hands over the collected bytes if their time has come.
    pub(super) async fn flush_if_due(&mut self) -> io::Result<()> {
        match self.due() {
            Some(due) if due <= Instant::now() => self.flush().await,
            _ => Ok(()),
        }
    }

    /// Hands over the collected bytes.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.flushed = Instant::now();
        let bytes = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
        match self.to.send((self.stream, bytes)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failed.recv().await.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Writes everything.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.flush().await?;
        let Self { to, mut failed, .. } = self;
        drop(to);
        // The thread ends, and drops its end of the channel.
        failed.recv().await.map_or(Ok(()), Err)
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
