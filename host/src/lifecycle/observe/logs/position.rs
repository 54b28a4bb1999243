//! The position of a reader in a container's log.
//!
//! The engine's log has no numbers, only times, and messages can share a time. So a position is a time and the number
//! of bytes with that time and stream that were read. Both streams are stamped before they are written, so they can be
//! a little out of order: to find a position again, reading starts some time before it.

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;

use super::Line;
use crate::docker::StdStream;

/// A position after some bytes of a container's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Time of the message before it.
    pub time: Timestamp,
    /// Its stream.
    pub stream: StdStream,
    /// Bytes with that time and stream before it.
    pub bytes: u64,
}

/// A position in the log of one container, as text: `<container id>:<nanoseconds since 1970>:<o or e><bytes>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The engine's ID of the container.
    pub container_id: String,
    /// The position.
    pub position: Position,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = if self.position.stream == StdStream::Stdout { 'o' } else { 'e' };
        let Position { time, bytes, .. } = self.position;
        write!(f, "{}:{}:{stream}{bytes}", self.container_id, time.as_nanosecond())
    }
}

pub(super) fn parse(text: &str) -> Option<Cursor> {
    let (rest, place) = text.rsplit_once(':')?;
    let (container_id, time) = rest.rsplit_once(':')?;
    let (stream, bytes) = match place.split_at_checked(1)? {
        ("o", bytes) => (StdStream::Stdout, bytes),
        ("e", bytes) => (StdStream::Stderr, bytes),
        _ => return None,
    };
    if container_id.is_empty() || !container_id.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let time = Timestamp::from_nanosecond(time.parse().ok()?).ok()?;
    let position = Position { time, stream, bytes: bytes.parse().ok()? };
    Some(Cursor { container_id: container_id.to_owned(), position })
}

/// Counts bytes per time and stream. Counting the same messages again, from any position well before, gives the same
/// counts.
#[derive(Debug, Default)]
pub(super) struct Tally(VecDeque<Position>);

impl Tally {
    /// The number of times whose messages can be out of order.
    const TIMES: usize = 8;

    /// Counts a message or a piece of one, and returns the position of its end; a message without a time has no
    /// position.
    pub(super) fn count(&mut self, time: Option<Timestamp>, stream: StdStream, bytes: usize) -> Option<Position> {
        let time = time?;
        let known = self.0.iter_mut().rev().find(|known| known.time == time && known.stream == stream);
        if let Some(known) = known {
            known.bytes += bytes as u64;
            return Some(*known);
        }
        if self.0.len() == Self::TIMES {
            self.0.pop_front();
        }
        self.0.push_back(Position { time, stream, bytes: bytes as u64 });
        self.0.back().copied()
    }
}

/// The lines to skip for a reader that starts before a position.
#[derive(Debug)]
pub(super) struct Skip {
    to: Position,
    /// Lines after the time of the position, kept for the case that the position is not found.
    held: Vec<Line>,
    size: usize,
}

/// The state of a search for a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// The position is not reached yet.
    Before,
    /// The position is found; these are the first lines after it.
    Found(Vec<Line>),
    /// The position is gone, because the log was rotated; these lines are later than it.
    Gone(Vec<Line>),
}

impl Skip {
    /// The time before the position at which reading starts.
    pub(super) const MARGIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);
    /// The limit of kept lines, in bytes.
    const MOST: usize = 4 << 20;

    pub(super) fn new(to: Position) -> Self {
        Self { to, held: Vec::new(), size: 0 }
    }

    /// Returns the time from which to read.
    pub(super) fn since(&self) -> Timestamp {
        self.to.time.checked_sub(Self::MARGIN).unwrap_or(Timestamp::MIN)
    }

    /// Processes the next lines, with their positions.
    pub(super) fn take(&mut self, lines: Vec<Line>) -> Search {
        let mut lines = lines.into_iter();
        while let Some(mut line) = lines.next() {
            let Some(end) = line.position else {
                self.hold(line);
                if self.size > Self::MOST {
                    self.held.extend(lines);
                    return self.give_up();
                }
                continue;
            };
            if end.time == self.to.time && end.stream == self.to.stream && end.bytes >= self.to.bytes {
                let mut behind = Vec::new();
                // The position can be inside a message that was read in pieces.
                let rest = usize::try_from(end.bytes - self.to.bytes).unwrap_or(usize::MAX);
                if rest > 0 {
                    let done = line.message.len().saturating_sub(rest);
                    line.message = line.message.slice(done..);
                    behind.push(line);
                }
                behind.extend(lines);
                return Search::Found(behind);
            }
            if end.time > self.to.time {
                let late = end.time.duration_since(self.to.time) > Self::MARGIN;
                self.hold(line);
                if late || self.size > Self::MOST {
                    self.held.extend(lines);
                    return self.give_up();
                }
            }
        }
        Search::Before
    }

    fn hold(&mut self, line: Line) {
        self.size += line.message.len() + size_of::<Line>();
        self.held.push(line);
    }

    /// Ends the search: the position will not come any more.
    pub(super) fn give_up(&mut self) -> Search {
        Search::Gone(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StdStream::{Stderr, Stdout};

    /// `(seconds, stream, text)` as lines with their positions.
    fn log(messages: &[(i64, StdStream, &'static str)]) -> Vec<Line> {
        let mut tally = Tally::default();
        let line = |(second, stream, text): &(i64, StdStream, &'static str)| {
            let time = Some(Timestamp::from_second(*second).unwrap());
            let position = tally.count(time, *stream, text.len());
            Line { container: 0, time, stream: *stream, message: (*text).into(), position }
        };
        messages.iter().map(line).collect()
    }

    #[test]
    fn a_place_is_found_again_among_messages_of_one_time_and_out_of_order() {
        let all = log(&[
            (10, Stdout, "a\n"),
            (10, Stdout, "b\n"),
            (10, Stderr, "b\n"),
            (10, Stdout, "b\n"),
            (12, Stderr, "c\n"),
            (11, Stdout, "late\n"),
            (12, Stderr, "d\n"),
        ]);
        for (index, line) in all.iter().enumerate() {
            let mut skip = Skip::new(line.position.unwrap());
            assert_eq!(skip.take(all.clone()), Search::Found(all[index + 1..].to_vec()), "behind {index}");
            // Line by line, the result is the same.
            let mut skip = Skip::new(line.position.unwrap());
            let found = all.iter().position(|line| skip.take(vec![line.clone()]) == Search::Found(vec![]));
            assert_eq!(found, Some(index));
        }
    }

    #[test]
    fn a_place_inside_a_message_gives_the_rest_of_it() {
        let all = log(&[(10, Stdout, "abcdef\n"), (10, Stdout, "g\n")]);
        let to = Position { bytes: 4, ..all[0].position.unwrap() };
        let Search::Found(rest) = Skip::new(to).take(all) else { panic!("not found") };
        assert_eq!(rest.iter().map(|line| line.message.clone()).collect::<Vec<_>>(), ["ef\n", "g\n"]);
    }

    #[test]
    fn behind_a_place_that_is_gone_comes_everything_that_is_later() {
        let gone = log(&[(10, Stdout, "gone\n")])[0].position.unwrap();
        let all = log(&[(9, Stdout, "before\n"), (11, Stdout, "x\n"), (16, Stdout, "y\n"), (16, Stderr, "z\n")]);
        assert_eq!(Skip::new(gone).take(all.clone()), Search::Gone(all[1..].to_vec()));
        let mut skip = Skip::new(gone);
        assert_eq!(skip.take(all[..2].to_vec()), Search::Before);
        assert_eq!(skip.give_up(), Search::Gone(all[1..2].to_vec()));
    }

    #[test]
    fn a_search_does_not_hold_more_than_its_bound() {
        let gone = log(&[(10, Stdout, "gone\n")])[0].position.unwrap();
        let line = &log(&[(11, Stdout, "x\n")])[0];
        let mut skip = Skip::new(gone);
        let many = Skip::MOST / size_of::<Line>() + 1;
        let stopped = (0..many).any(|_| matches!(skip.take(vec![line.clone()]), Search::Gone(_)));
        assert!(stopped);
    }

    #[test]
    fn cursors_read_back_as_they_are_printed() {
        let position = Position { time: "2026-11-22T01:02:03.000000004Z".parse().unwrap(), stream: Stderr, bytes: 77 };
        let cursor = Cursor { container_id: "0af3".into(), position };
        assert_eq!(cursor.to_string(), "0af3:1795309323000000004:e77");
        assert_eq!(parse(&cursor.to_string()), Some(cursor));
        for bad in ["", "x", "0af3:1:o", "0af3:1:x1", "0af3:one:o1", ":1:o1", "../x:1:o1", "0af3:1:o-1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
