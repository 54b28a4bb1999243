//! Connections that the engine switches to raw bytes, and the frames on them.
//!
//! Without a terminal the engine interleaves stdout and stderr: an 8-byte header (stream, three zeros, length in big
//! endian), then that many bytes (API documentation, "Attach to a container"). With a terminal the bytes are raw.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};

use super::connect::{Socket, SocketReader, SocketWriter};
use super::error::{Error, Result};
use super::http::{Call, Http, Reply};

/// One of a process's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdStream {
    /// Standard output; with a terminal, all output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A connection that carries raw bytes.
pub(super) struct Hijacked {
    pub(super) reader: SocketReader,
    pub(super) writer: SocketWriter,
    /// Bytes that arrived together with the head of the answer.
    pub(super) first: Bytes,
}

impl Http {
    /// Makes a call that switches its connection to raw bytes in both directions.
    pub(super) async fn hijack(&self, call: &Call) -> Result<Hijacked> {
        let attempt = async {
            let (_sender, response) = self.head(call).await?;
            let status = response.status().as_u16();
            if (200..300).contains(&status) {
                let cause = format!("status {status} instead of an upgrade to a raw stream");
                return Err(Error::Protocol { operation: call.operation, cause });
            }
            if status != 101 {
                let body = response.into_body().collect().await.map_err(|error| call.broken(error))?.to_bytes();
                return Err(call.error(&Reply { status, body }));
            }
            let upgraded = hyper::upgrade::on(response).await.map_err(|error| call.broken(error))?;
            let parts = upgraded.downcast::<TokioIo<Socket>>().map_err(|_| call.broken("it is of an unknown kind"))?;
            let (reader, writer) = parts.io.into_inner().into_split();
            Ok(Hijacked { reader, writer, first: parts.read_buf })
        };
        tokio::time::timeout(call.within, attempt).await.map_err(|_| call.late())?
    }
}

/// A piece of a frame; a frame can arrive in several reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) stream: StdStream,
    pub(super) data: Bytes,
    /// Whether the frame begins with this piece.
    pub(super) begins: bool,
    /// Whether the frame ends with this piece.
    pub(super) ends: bool,
}

/// The reason why a stream cannot be parsed further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadFrame {
    /// These bytes are no header: the stream has no frames, or bytes were lost.
    Header([u8; 8]),
    /// The engine reports a failure in the middle of a stream.
    Engine(String),
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(bytes) => write!(f, "{bytes:02x?} is not a frame header"),
            Self::Engine(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for BadFrame {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Output(StdStream),
    /// A message from the engine itself.
    Engine,
}

/// Splits the stream into frames as bytes arrive, without copying. Memory use does not grow with the frame size.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; 8],
    /// Number of header bytes received.
    filled: usize,
    /// The current frame and its number of missing bytes.
    frame: Option<(Kind, usize)>,
    begins: bool,
    message: Vec<u8>,
}

impl Frames {
    /// Passes the pieces of a read to `sink`.
    pub(super) fn push(&mut self, mut chunk: Bytes, sink: &mut impl FnMut(Piece)) -> std::result::Result<(), BadFrame> {
        loop {
            let Some((kind, missing)) = self.frame else {
                if chunk.is_empty() {
                    return Ok(());
                }
                self.read_header(&mut chunk)?;
                continue;
            };
            // An empty frame also gets a piece, since it ends at once.
            if chunk.is_empty() && missing > 0 {
                return Ok(());
            }
            let data = chunk.split_to(missing.min(chunk.len()));
            let missing = missing - data.len();
            match kind {
                Kind::Output(stream) => sink(Piece { stream, data, begins: self.begins, ends: missing == 0 }),
                // Engine messages are short; no engine sends 4 KiB.
                Kind::Engine if self.message.len() < 4096 => self.message.extend_from_slice(&data),
                Kind::Engine => {}
            }
            self.begins = false;
            self.frame = (missing > 0).then_some((kind, missing));
            if missing == 0 && kind == Kind::Engine {
                let message = String::from_utf8_lossy(&self.message).trim().to_owned();
                return Err(BadFrame::Engine(message));
            }
        }
    }

    /// Returns whether the stream may end here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.filled == 0
    }

    fn read_header(&mut self, chunk: &mut Bytes) -> std::result::Result<(), BadFrame> {
        let wanted = self.header.len() - self.filled;
        let head = chunk.split_to(wanted.min(chunk.len()));
        for (place, byte) in self.header.iter_mut().skip(self.filled).zip(&head) {
            *place = *byte;
        }
        self.filled += head.len();
        if self.filled < self.header.len() {
            return Ok(());
        }
        self.filled = 0;
        let [kind, 0, 0, 0, a, b, c, d] = self.header else { return Err(BadFrame::Header(self.header)) };
        let kind = match kind {
            // 0 is stdin, which the engine writes to stdout.
            0 | 1 => Kind::Output(StdStream::Stdout),
            2 => Kind::Output(StdStream::Stderr),
            3 => Kind::Engine,
            _ => return Err(BadFrame::Header(self.header)),
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        self.frame = Some((kind, usize::try_from(length).unwrap_or(usize::MAX)));
        self.begins = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn joined(reads: &[&[u8]]) -> std::result::Result<Vec<(StdStream, Vec<u8>)>, BadFrame> {
        let mut frames = Frames::default();
        let mut out: Vec<(StdStream, Vec<u8>)> = Vec::new();
        for read in reads {
            frames.push(Bytes::copy_from_slice(read), &mut |piece| {
                if piece.begins {
                    out.push((piece.stream, Vec::new()));
                }
                out.last_mut().unwrap().1.extend(&piece.data);
            })?;
        }
        assert!(frames.is_between_frames());
        Ok(out)
    }

    #[test]
    fn a_frame_split_over_reads_is_put_together_wherever_it_is_split() {
        let mut bytes = frame(1, b"hello\n");
        bytes.extend(frame(2, b"\x00\x01\x02binary"));
        bytes.extend(frame(1, b""));
        bytes.extend(frame(1, b"end"));
        let whole = joined(&[&bytes]).unwrap();
        assert_eq!(whole[1], (StdStream::Stderr, b"\x00\x01\x02binary".to_vec()));
        assert_eq!(whole.len(), 4);
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(joined(&[a, b]).unwrap(), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(joined(&single).unwrap(), whole);
    }

    #[test]
    fn bytes_that_are_no_header_are_an_error_and_not_output() {
        assert!(matches!(joined(&[b"plain text of a terminal"]), Err(BadFrame::Header(_))));
        assert!(matches!(joined(&[&[9, 0, 0, 0, 0, 0, 0, 1, 65]]), Err(BadFrame::Header(_))));
    }

    #[test]
    fn a_failure_of_the_engine_inside_a_stream_is_an_error() {
        let bytes = frame(3, b"error grabbing logs\n");
        assert_eq!(joined(&[&bytes]), Err(BadFrame::Engine("error grabbing logs".to_owned())));
    }

    #[test]
    fn a_frame_of_four_gigabytes_is_handed_over_as_it_arrives() {
        let mut frames = Frames::default();
        let mut seen = 0;
        frames.push(Bytes::from_static(&[1, 0, 0, 0, 255, 255, 255, 255]), &mut |_| {}).unwrap();
        for _ in 0..100 {
            frames.push(Bytes::from_static(&[7; 1000]), &mut |piece| seen += piece.data.len()).unwrap();
        }
        assert_eq!(seen, 100_000);
        assert!(!frames.is_between_frames());
    }
}
