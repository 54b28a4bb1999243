//! The output of a command, on its way to the reader. On a thread of its own: a reader that is slow holds the command up,
//! but neither its deadline nor the keys for detaching.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::terminal::{raw_err, raw_out};
use crate::docker::StdStream;

/// Pieces that wait for the reader, of 64 KiB at most each.
const WAITING: usize = 16;

/// So many bytes of stderr are remembered.
const LAST: usize = 1 << 10;

/// Writes to stdout and stderr, in the order in which it is told.
pub(super) struct Printer {
    /// None at the end.
    to: Option<mpsc::Sender<(StdStream, Bytes)>>,
    /// None when its end is known.
    writing: Option<JoinHandle<io::Result<()>>>,
    /// The end of what went to stderr.
    last_errors: Vec<u8>,
}

impl Printer {
    pub(super) fn start() -> io::Result<Self> {
        // Without the buffers and locks of the usual ones, which a write that blocks would hold.
        let mut out = File::from(raw_out().as_fd().try_clone_to_owned()?);
        let mut err = File::from(raw_err().as_fd().try_clone_to_owned()?);
        let (to, mut from) = mpsc::channel::<(StdStream, Bytes)>(WAITING);
        // The program does not wait for it in the end.
        let writing = tokio::task::spawn_blocking(move || {
            // All that wait at once: each change of threads costs as much as a write.
            let mut pieces = Vec::with_capacity(WAITING);
            while from.blocking_recv_many(&mut pieces, WAITING) > 0 {
                for (stream, bytes) in pieces.drain(..) {
                    match stream {
                        StdStream::Stdout => out.write_all(&bytes)?,
                        StdStream::Stderr => err.write_all(&bytes)?,
                    }
                }
            }
            Ok(())
        });
        Ok(Self { to: Some(to), writing: Some(writing), last_errors: Vec::new() })
    }

    /// Hands a piece over; waits while too many wait already.
    ///
    /// # Errors
    /// Why nothing can be written any more.
    pub(super) async fn print(&mut self, stream: StdStream, bytes: Bytes) -> io::Result<()> {
        if stream == StdStream::Stderr {
            let new = bytes.get(bytes.len().saturating_sub(LAST)..).unwrap_or_default();
            self.last_errors.drain(..(self.last_errors.len() + new.len()).saturating_sub(LAST));
            self.last_errors.extend_from_slice(new);
        }
        if let Some(to) = &self.to
            && to.send((stream, bytes)).await.is_ok()
        {
            return Ok(());
        }
        self.end().await?;
        Err(io::ErrorKind::BrokenPipe.into())
    }

    /// The end of what went to stderr.
    pub(super) fn last_errors(&self) -> String {
        String::from_utf8_lossy(&self.last_errors).into_owned()
    }

    /// Waits until everything is written. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The first one of writing.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.to = None;
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let written = writing.await;
        self.writing = None;
        written.map_err(io::Error::other)?
    }
}
