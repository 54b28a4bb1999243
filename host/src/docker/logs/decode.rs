//! Decodes the engine's bytes to lines as they arrive, without waiting for line endings.

use bytes::{Buf, Bytes, BytesMut};
use jiff::Timestamp;

use super::LogLine;
use crate::docker::hijack::{Frames, Piece, StdStream};

/// A frame that arrives in several reads is passed on in pieces of this size.
const PIECE: usize = 64 * 1024;
/// The engine splits messages at this size (moby, daemon/logger/copier.go).
const MESSAGE: usize = 16 * 1024;
/// The maximum length of a time: `2026-11-22T01:02:03.000000000+00:00 `.
const LONGEST_TIME: usize = 36;

pub(super) type Decoded = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Decodes the engine's bytes to lines.
#[derive(Debug)]
pub(super) enum Decoder {
    Framed(Framed),
    Raw(Raw),
}

impl Decoder {
    pub(super) fn new(tty: bool, timestamps: bool) -> Self {
        if tty {
            Self::Raw(Raw { timestamps, at: At::Start, time: None, length: 0, carry: BytesMut::new() })
        } else {
            Self::Framed(Framed { timestamps, frames: Frames::default(), part: None })
        }
    }

    pub(super) fn push(&mut self, chunk: Bytes, lines: &mut Vec<LogLine>) -> Decoded {
        match self {
            Self::Framed(framed) => framed.push(chunk, lines),
            Self::Raw(raw) => {
                raw.push(chunk, lines, false);
                Ok(())
            }
        }
    }

    pub(super) fn finish(&mut self, lines: &mut Vec<LogLine>) -> Decoded {
        match self {
            Self::Framed(framed) if framed.frames.is_between_frames() => Ok(()),
            Self::Framed(_) => Err("the stream ended in the middle of a message".into()),
            Self::Raw(raw) => {
                raw.push(Bytes::new(), lines, true);
                Ok(())
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Framed {
    timestamps: bool,
    frames: Frames,
    part: Option<Part>,
}

/// A frame that has arrived only in part.
#[derive(Debug, Default)]
struct Part {
    time: Option<Timestamp>,
    /// Whether the time was removed and a piece was passed on.
    begun: bool,
    data: BytesMut,
}

impl Framed {
    fn push(&mut self, chunk: Bytes, lines: &mut Vec<LogLine>) -> Decoded {
        let Self { timestamps, frames, part } = self;
        let mut sink = |piece: Piece| {
            let stream = piece.stream;
            if piece.begins && piece.ends {
                let (time, message) = take_time(*timestamps, piece.data);
                return lines.push(LogLine { time, stream, message });
            }
            let current = part.get_or_insert_default();
            current.data.extend_from_slice(&piece.data);
            if piece.ends || current.data.len() >= PIECE {
                let mut message = current.data.split().freeze();
                if !std::mem::replace(&mut current.begun, true) {
                    (current.time, message) = take_time(*timestamps, message);
                }
                if !message.is_empty() {
                    lines.push(LogLine { time: current.time, stream, message });
                }
            }
            if piece.ends {
                *part = None;
            }
        };
        frames.push(chunk, &mut sink).map_err(Into::into)
    }
}

/// Removes the time from the beginning of a message.
fn take_time(timestamps: bool, mut message: Bytes) -> (Option<Timestamp>, Bytes) {
    if !timestamps {
        return (None, message);
    }
    match time_at_start(&message) {
        Some((time, length)) => {
            message.advance(length);
            (Some(time), message)
        }
        None => (None, message),
    }
}

/// Parses a time and the space after it. Returns the time and the number of bytes of both.
fn time_at_start(bytes: &[u8]) -> Option<(Timestamp, usize)> {
    let space = bytes.iter().take(LONGEST_TIME).position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(bytes.get(..space)?).ok()?;
    Some((text.parse().ok()?, space + 1))
}

/// The position of the next byte within a terminal's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start, where the time is.
    Start,
    /// After the time.
    Middle,
    /// At the point where the engine splits long messages: another time may follow.
    Cut,
}

/// The log of a terminal.
#[derive(Debug)]
pub(super) struct Raw {
    timestamps: bool,
    at: At,
    time: Option<Timestamp>,
    /// Bytes of the message so far, not counting the time.
    length: usize,
    /// Bytes that may be the beginning of a time.
    carry: BytesMut,
}

impl Raw {
    fn push(&mut self, chunk: Bytes, lines: &mut Vec<LogLine>, last: bool) {
        let mut chunk = chunk;
        if !self.carry.is_empty() {
            self.carry.extend_from_slice(&chunk);
            chunk = self.carry.split().freeze();
        }
        while !chunk.is_empty() {
            if self.timestamps && self.at != At::Middle {
                match time_at_start(&chunk) {
                    Some((time, length)) => {
                        self.time = Some(time);
                        chunk.advance(length);
                    }
                    None if chunk.len() < LONGEST_TIME && !last => {
                        self.carry.extend_from_slice(&chunk);
                        return;
                    }
                    // Without a time after a split, the same message continues.
                    None if self.at == At::Start => self.time = None,
                    None => {}
                }
                self.at = At::Middle;
                self.length = 0;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n').map_or(chunk.len(), |at| at + 1);
            let room = if self.timestamps { MESSAGE - self.length } else { usize::MAX };
            let message = chunk.split_to(end.min(room));
            self.length += message.len();
            self.at = match message.last() {
                Some(b'\n') => At::Start,
                _ if self.length == MESSAGE => At::Cut,
                Some(_) => At::Middle,
                None => self.at,
            };
            if !message.is_empty() {
                lines.push(LogLine { time: self.time, stream: StdStream::Stdout, message });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "2026-11-22T01:02:03.000000001Z ";

    fn decode(tty: bool, timestamps: bool, reads: &[&[u8]]) -> Vec<LogLine> {
        let mut decoder = Decoder::new(tty, timestamps);
        let mut lines = Vec::new();
        for read in reads {
            decoder.push(Bytes::copy_from_slice(read), &mut lines).unwrap();
        }
        decoder.finish(&mut lines).unwrap();
        lines
    }

    /// Joins pieces to (time, line) pairs.
    fn joined(lines: &[LogLine]) -> Vec<(Option<Timestamp>, Vec<u8>)> {
        let mut out: Vec<(Option<Timestamp>, Vec<u8>)> = Vec::new();
        let mut open = false;
        for line in lines {
            if !open {
                out.push((line.time, Vec::new()));
            }
            out.last_mut().unwrap().1.extend(&line.message);
            open = line.is_partial();
        }
        out
    }

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn lines_are_the_same_wherever_the_network_cuts() {
        let mut framed = frame(1, format!("{T}one\n").as_bytes());
        framed.extend(frame(2, format!("{T}\x00\x01 two\r\n").as_bytes()));
        let raw = format!("{T}one\n{T}two 2026 \r\n{T}prompt");
        for (tty, bytes) in [(false, framed.as_slice()), (true, raw.as_bytes())] {
            let whole = joined(&decode(tty, true, &[bytes]));
            assert_eq!(whole[0].1, b"one\n");
            assert_eq!(whole[0].0, Some("2026-11-22T01:02:03.000000001Z".parse().unwrap()));
            for cut in 0..bytes.len() {
                let (a, b) = bytes.split_at(cut);
                assert_eq!(joined(&decode(tty, true, &[a, b])), whole, "tty {tty}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_line_that_the_engine_logged_in_pieces_is_one_line_without_times_in_it() {
        let long = vec![b'x'; MESSAGE];
        let raw = [T.as_bytes(), &long, T.as_bytes(), b"tail\n"].concat();
        let framed =
            [frame(1, &[T.as_bytes(), &long].concat()), frame(1, &[T.as_bytes(), b"tail\n"].concat())].concat();
        for (tty, bytes) in [(true, raw), (false, framed)] {
            for size in [bytes.len(), 4096, 7] {
                let reads: Vec<&[u8]> = bytes.chunks(size).collect();
                let lines = joined(&decode(tty, true, &reads));
                assert_eq!(lines.len(), 1, "tty {tty}, reads of {size}");
                assert_eq!(lines[0].1.len(), MESSAGE + 5);
            }
        }
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let mut decoder = Decoder::new(false, false);
        let mut lines = Vec::new();
        decoder.push(Bytes::from_static(&[2, 0, 0, 0, 0, 0x10, 0, 0]), &mut lines).unwrap();
        for _ in 0..256 {
            decoder.push(Bytes::from_static(&[b'y'; 4096]), &mut lines).unwrap();
        }
        decoder.finish(&mut lines).unwrap();
        assert_eq!(lines.iter().map(|line| line.message.len()).max(), Some(PIECE));
        assert_eq!(lines.iter().map(|line| line.message.len()).sum::<usize>(), 1 << 20);
        assert!(lines.iter().all(|line| line.is_partial() && line.stream == StdStream::Stderr));
    }

    #[test]
    fn a_message_without_a_time_is_kept_as_it_is() {
        let lines = decode(false, true, &[&frame(1, b"no time here\n")]);
        assert_eq!(lines[0].time, None);
        assert_eq!(&lines[0].message[..], b"no time here\n");
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let mut decoder = Decoder::new(false, false);
        let mut lines = Vec::new();
        decoder.push(Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 9, 65]), &mut lines).unwrap();
        assert!(decoder.finish(&mut lines).is_err());
    }
}
