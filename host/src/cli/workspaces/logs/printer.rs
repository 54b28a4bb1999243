//! Writes large amounts of bytes to stdout and stderr, in order, without ever keeping a command from being interrupted:
//! a thread writes, and who has something to write waits for it asynchronously.

use std::io::{self, Write};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cli::terminal::{raw_err, raw_out};
use crate::docker::StdStream;

/// Bytes that are collected before they are written.
const BUFFER: usize = 128 * 1024;
/// How long less than that may be collected. The engine sends each line by itself; waking a thread for each of a hundred
/// thousand would take longer than everything else.
const PATIENCE: Duration = Duration::from_millis(2);

/// The writing thread, and what is collected for it.
pub(super) struct Printer {
    buffer: Vec<u8>,
    /// When something was handed over last.
    flushed: Instant,
    stream: StdStream,
    to: mpsc::Sender<(StdStream, Vec<u8>)>,
    failed: mpsc::Receiver<io::Error>,
}

impl Printer {
    pub(super) fn new() -> Self {
        let (to, mut from) = mpsc::channel::<(StdStream, Vec<u8>)>(1);
        let (fail, failed) = mpsc::channel(1);
        // It ends with the process if its output is not read.
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

    /// Where to put what goes to a stream. What was collected for the other one is written before it.
    pub(super) async fn to(&mut self, stream: StdStream) -> io::Result<&mut Vec<u8>> {
        if stream != self.stream || self.buffer.len() >= BUFFER {
            self.flush().await?;
            self.stream = stream;
        }
        Ok(&mut self.buffer)
    }

    /// When what was collected has to be handed over; none when nothing was.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.buffer.is_empty()).then(|| self.flushed + PATIENCE)
    }

    /// Hands over what was collected, if it is time.
    pub(super) async fn flush_if_due(&mut self) -> io::Result<()> {
        match self.due() {
            Some(due) if due <= Instant::now() => self.flush().await,
            _ => Ok(()),
        }
    }

    /// Hands over what was collected.
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
        // The thread ends, and with it its end of the channel.
        failed.recv().await.map_or(Ok(()), Err)
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
