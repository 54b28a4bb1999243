//! Joins pieces into whole lines if necessary: for merging containers, and for matching a pattern.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::{Grep, Line};
use crate::docker::StdStream;

/// A longer line is split into parts of this size.
const LONGEST: usize = 256 * 1024;

/// The processing of a source's pieces.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) container: usize,
    whole: bool,
    grep: Option<Grep>,
    stdout: Part,
    stderr: Part,
}

/// A line whose end has not arrived.
#[derive(Debug, Default)]
struct Part {
    time: Option<Timestamp>,
    data: BytesMut,
}

impl Lines {
    /// Creates the processing; with `merged`, or a pattern, it returns only whole lines.
    pub(super) fn new(container: usize, merged: bool, grep: Option<Grep>) -> Self {
        let whole = merged || grep.is_some();
        Self { container, whole, grep, stdout: Part::default(), stderr: Part::default() }
    }

    /// Processes pieces in the order of their arrival.
    pub(super) fn push(&mut self, pieces: Vec<Line>) -> Vec<Line> {
        if !self.whole {
            return pieces;
        }
        let mut lines = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (part, other) = match piece.stream {
                StdStream::Stdout => (&mut self.stdout, &self.stderr),
                StdStream::Stderr => (&mut self.stderr, &self.stdout),
            };
            let mut line = piece;
            line.position = line.position.filter(|_| other.data.is_empty());
            // With a terminal too, a piece can contain a line break only as its last byte.
            if line.is_partial() && part.data.len() + line.message.len() < LONGEST {
                if part.data.is_empty() {
                    part.time = line.time;
                }
                part.data.extend_from_slice(&line.message);
                continue;
            }
            if !part.data.is_empty() {
                part.data.extend_from_slice(&line.message);
                line.message = part.data.split().freeze();
                line.time = part.time;
            }
            lines.extend(self.matching(line));
        }
        lines
    }

    /// Returns the remaining lines without a line break.
    pub(super) fn finish(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for stream in [StdStream::Stdout, StdStream::Stderr] {
            let part = if stream == StdStream::Stdout { &mut self.stdout } else { &mut self.stderr };
            if !part.data.is_empty() {
                let message: Bytes = part.data.split().freeze();
                let line = Line { container: self.container, time: part.time, stream, message, position: None };
                lines.extend(self.matching(line));
            }
        }
        lines
    }

    fn matching(&self, line: Line) -> Option<Line> {
        self.grep.as_ref().is_none_or(|grep| grep.matches(&line.message)).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::position::Tally;
    use super::*;
    use StdStream::{Stderr, Stdout};

    fn pieces(all: &[(StdStream, &'static str)]) -> Vec<Line> {
        let mut tally = Tally::default();
        let piece = |(index, (stream, text)): (usize, &(StdStream, &'static str))| {
            let time = Some(Timestamp::from_second(index as i64).unwrap());
            let position = tally.count(time, *stream, text.len());
            Line { container: 0, time, stream: *stream, message: Bytes::from_static(text.as_bytes()), position }
        };
        all.iter().enumerate().map(piece).collect()
    }

    #[test]
    fn pieces_of_both_streams_become_whole_lines_with_the_time_of_their_beginning() {
        let all = pieces(&[(Stdout, "a"), (Stderr, "x\n"), (Stdout, "b\n"), (Stderr, "y"), (Stdout, "c\n")]);
        let mut lines = Lines::new(0, true, None);
        let mut got = lines.push(all.clone());
        got.extend(lines.finish());
        let texts: Vec<_> = got.iter().map(|line| (line.stream, &line.message[..])).collect();
        assert_eq!(texts, [(Stderr, &b"x\n"[..]), (Stdout, b"ab\n"), (Stdout, b"c\n"), (Stderr, b"y")]);
        assert_eq!(got[1].time, all[0].time);
        assert_eq!(got[1].position, all[2].position);
        // Continuing after these would lose the incomplete line.
        assert_eq!((got[0].position, got[2].position), (None, None));
    }

    #[test]
    fn one_container_without_a_pattern_passes_pieces_at_once() {
        let all = pieces(&[(Stdout, "10%\r"), (Stdout, "prompt> ")]);
        assert_eq!(Lines::new(0, false, None).push(all.clone()), all);
    }

    #[test]
    fn a_pattern_is_matched_on_whole_lines_and_an_endless_one_is_bounded() {
        let grep = Grep::new("ab", false).unwrap();
        let mut lines = Lines::new(0, false, Some(grep.clone()));
        let got = lines.push(pieces(&[(Stdout, "xa"), (Stdout, "b\n"), (Stdout, "a\n"), (Stdout, "b\n")]));
        assert_eq!(got.iter().map(|line| &line.message[..]).collect::<Vec<_>>(), [b"xab\n"]);
        let mut lines = Lines::new(0, true, None);
        let long = Bytes::from(vec![b'x'; 16 * 1024]);
        let piece = Line { container: 0, time: None, stream: Stdout, message: long, position: None };
        let got: Vec<_> = (0..64).flat_map(|_| lines.push(vec![piece.clone()])).collect();
        assert_eq!(got.iter().map(|line| line.message.len()).collect::<Vec<_>>(), [LONGEST; 4]);
    }
}
