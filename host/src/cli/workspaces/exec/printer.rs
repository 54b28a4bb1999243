//! The output of a command, on its way to the reader. It uses a separate thread: a slow reader blocks the command, but
//! neither its deadline nor the keys for detaching.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::terminal::{raw_err, raw_out};
use crate::docker::StdStream;

/// The limit of pieces that wait for the reader, of at most 64 KiB each.
const WAITING: usize = 16;

/// The number of last bytes of stderr that are remembered.
const LAST: usize = 1 << 10;

/// Writes to stdout and stderr, in the order of the pieces.
pub(super) struct Printer {
    /// None at the end.
    to: Option<mpsc::Sender<(StdStream, Bytes)>>,
    /// None after its end is known.
    writing: Option<JoinHandle<io::Result<()>>>,
    /// The last bytes of stderr.
    last_errors: Vec<u8>,
}

impl Printer {
    pub(super) fn start() -> io::Result<Self> {
        // These have no buffer and no lock: a blocked write would hold those of the usual ones.
        let mut out = File::from(raw_out().as_fd().try_clone_to_owned()?);
        let mut err = File::from(raw_err().as_fd().try_clone_to_owned()?);
        let (to, mut from) = mpsc::channel::<(StdStream, Bytes)>(WAITING);
        // The program does not wait for this thread when it exits.
        let writing = tokio::task::spawn_blocking(move || {
            // All waiting pieces are written together: each change of threads costs as much as a write.
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

    /// Hands a piece over; waits while the queue is full.
    ///
    /// # Errors
    /// The reason that writing is no longer possible.
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

    /// Returns the last bytes of stderr as text.
    pub(super) fn last_errors(&self) -> String {
        String::from_utf8_lossy(&self.last_errors).into_owned()
    }

    /// Waits until everything is written. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The first error of writing.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.to = None;
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let written = writing.await;
        self.writing = None;
        written.map_err(io::Error::other)?
    }
}
