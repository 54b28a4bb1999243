//! Merges several containers in the order of their times.
//!
//! Each source runs in a separate task and waits until its lines are taken, so memory is bounded. A line is returned
//! when no source can have an older one: every source that has not ended has a line here. While following, a silent
//! source must not delay the others: once nothing has come from it for the time of the window, it counts as having
//! nothing older than that window. No line waits longer than the window, whatever the clocks say.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::source::Source;
use super::{Line, LogEvent};
use crate::lifecycle::Error;

/// The time that a line waits for older lines while following.
const WINDOW: Duration = Duration::from_millis(100);
/// The limit of lines that are returned at once.
const BATCH: usize = 4096;

pub(super) struct Merge {
    inputs: Vec<Input>,
    follow: bool,
}

struct Input {
    events: mpsc::Receiver<Result<LogEvent, Error>>,
    task: JoinHandle<()>,
    lines: VecDeque<Line>,
    /// The time when these lines arrived.
    arrived: Instant,
    /// The time since when it is known to have nothing.
    silent_since: Option<Instant>,
    ended: bool,
}

impl Drop for Input {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Input {
    /// Returns whether another line may come, while there is none.
    fn is_awaited(&self) -> bool {
        self.lines.is_empty() && !self.ended
    }
}

/// The lines that can be returned now.
enum Ordered {
    Lines(Vec<Line>),
    /// None, before more arrives or this time.
    Wait(Option<Instant>),
    End,
}

impl Merge {
    pub(super) fn new(sources: Vec<Source>, follow: bool) -> Self {
        let inputs = sources.into_iter().map(|mut source| {
            let (to, events) = mpsc::channel(1);
            let task = tokio::spawn(async move {
                while let Some(event) = source.next().await {
                    if to.send(event).await.is_err() {
                        break;
                    }
                }
            });
            Input::new(events, task)
        });
        Self { inputs: inputs.collect(), follow }
    }

    /// Returns the next event, or `None` when all have ended.
    pub(super) async fn next(&mut self) -> Option<Result<LogEvent, Error>> {
        loop {
            // All available lines are received first, before a source counts as silent.
            let there = std::future::poll_fn(|cx| Poll::Ready(self.receive(cx))).await;
            if let Poll::Ready(Some(event)) = there {
                return Some(event);
            }
            match self.ordered(Instant::now(), Timestamp::now()) {
                Ordered::Lines(lines) => return Some(Ok(LogEvent::Lines(lines))),
                Ordered::End => return None,
                Ordered::Wait(until) => {
                    let more = std::future::poll_fn(|cx| self.receive(cx));
                    let event = match until {
                        Some(until) => tokio::time::timeout_at(until, more).await.unwrap_or(None),
                        None => more.await,
                    };
                    if event.is_some() {
                        return event;
                    }
                }
            }
        }
    }

    /// Receives the lines of the awaited inputs. Ready when something arrived; with an event if it is not a line.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<LogEvent, Error>>> {
        let mut came = false;
        for input in &mut self.inputs {
            while input.is_awaited() {
                match input.events.poll_recv(cx) {
                    Poll::Pending => {
                        input.silent_since.get_or_insert_with(Instant::now);
                        break;
                    }
                    Poll::Ready(None) => input.ended = true,
                    Poll::Ready(Some(Ok(LogEvent::Lines(lines)))) => {
                        input.lines = lines.into();
                        input.arrived = Instant::now();
                        input.silent_since = None;
                    }
                    Poll::Ready(Some(other)) => return Poll::Ready(Some(other)),
                }
                came = true;
            }
        }
        if came { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Returns the lines before which no older line can come.
    fn ordered(&mut self, now: Instant, wall: Timestamp) -> Ordered {
        let first = |input: &Input| input.lines.front().map(|line| line.time);
        let mut heads: BinaryHeap<_> =
            self.inputs.iter().enumerate().filter_map(|(index, input)| Some(Reverse((first(input)?, index)))).collect();
        if heads.is_empty() && self.inputs.iter().all(|input| input.ended) {
            return Ordered::End;
        }
        let mut lines = Vec::new();
        let mut limit = self.frontier(now, wall);
        while let Some(Reverse((time, index))) = heads.pop() {
            let Some(input) = self.inputs.get_mut(index) else { break };
            let free = match limit {
                Frontier::Free => true,
                Frontier::UpTo(limit) => time.is_none_or(|time| time <= limit),
                Frontier::Closed => false,
            };
            let old = self.follow && now.duration_since(input.arrived) >= WINDOW;
            if !(free || old) || lines.len() >= BATCH {
                break;
            }
            lines.extend(input.lines.pop_front());
            match first(input) {
                Some(next) => heads.push(Reverse((next, index))),
                // It may have more lines that belong before those of the others.
                None if !input.ended => limit = Frontier::Closed,
                None => {}
            }
        }
        if !lines.is_empty() {
            return Ordered::Lines(lines);
        }
        if !self.follow || self.inputs.iter().all(|input| input.lines.is_empty()) {
            return Ordered::Wait(None);
        }
        Ordered::Wait(Some(now + WINDOW / 4))
    }

    /// Returns the time up to which lines can be returned, as far as the inputs without lines determine it.
    fn frontier(&self, now: Instant, wall: Timestamp) -> Frontier {
        let mut awaited = self.inputs.iter().filter(|input| input.is_awaited()).peekable();
        if awaited.peek().is_none() {
            return Frontier::Free;
        }
        let silent = |input: &Input| input.silent_since.is_some_and(|since| now.duration_since(since) >= WINDOW);
        if self.follow && awaited.all(silent) {
            Frontier::UpTo(wall.checked_sub(WINDOW).unwrap_or(Timestamp::MIN))
        } else {
            Frontier::Closed
        }
    }
}

#[derive(Clone, Copy)]
enum Frontier {
    Free,
    UpTo(Timestamp),
    Closed,
}

impl Input {
    fn new(events: mpsc::Receiver<Result<LogEvent, Error>>, task: JoinHandle<()>) -> Self {
        Self { events, task, lines: VecDeque::new(), arrived: Instant::now(), silent_since: None, ended: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::StdStream;

    fn line(container: usize, ms: i64) -> Line {
        let time = Some(Timestamp::from_millisecond(ms).unwrap());
        let message = format!("{container}:{ms}\n").into();
        Line { container, time, stream: StdStream::Stdout, message, position: None }
    }

    /// A merge of inputs that a test feeds.
    fn merge(count: usize, follow: bool) -> (Merge, Vec<mpsc::Sender<Result<LogEvent, Error>>>) {
        let (mut inputs, mut feeds) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (to, events) = mpsc::channel(64);
            inputs.push(Input::new(events, tokio::spawn(async {})));
            feeds.push(to);
        }
        (Merge { inputs, follow }, feeds)
    }

    async fn all(merge: &mut Merge) -> Vec<i64> {
        let mut times = Vec::new();
        while let Some(event) = merge.next().await {
            if let LogEvent::Lines(lines) = event.unwrap() {
                times.extend(lines.iter().map(|line| line.time.unwrap().as_millisecond()));
            }
        }
        times
    }

    #[tokio::test]
    async fn lines_of_many_containers_come_in_the_order_of_their_times() {
        let (mut merge, feeds) = merge(7, false);
        let mut expected = Vec::new();
        let mut seed = 1_u64;
        for (container, feed) in feeds.into_iter().enumerate() {
            let (mut ms, mut sent) = (0, 0);
            while sent < 40 {
                let mut batch = Vec::new();
                for _ in 0..seed % 5 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
                    ms += i64::try_from(seed % 50).unwrap();
                    batch.push(line(container, ms));
                    expected.push(ms);
                }
                seed += 1;
                sent += 1;
                feed.send(Ok(LogEvent::Lines(batch))).await.unwrap();
            }
        }
        expected.sort_unstable();
        assert!(expected.len() > 300);
        assert_eq!(all(&mut merge).await, expected);
    }

    #[tokio::test]
    async fn a_silent_container_does_not_hold_up_the_others_while_following() {
        let (mut merge, feeds) = merge(3, true);
        let old = Timestamp::now().as_millisecond() - 60_000;
        feeds[0].send(Ok(LogEvent::Lines(vec![line(0, old + 2), line(0, old + 4)]))).await.unwrap();
        feeds[1].send(Ok(LogEvent::Lines(vec![line(1, old + 1), line(1, old + 3)]))).await.unwrap();
        let mut times = Vec::new();
        while times.len() < 4 {
            let Some(Ok(LogEvent::Lines(lines))) = merge.next().await else { panic!("lines") };
            times.extend(lines.iter().map(|line| line.time.unwrap().as_millisecond() - old));
        }
        assert_eq!(times, [1, 2, 3, 4]);
        // A clock that is ahead delays a line by the window, no more.
        feeds[2].send(Ok(LogEvent::Lines(vec![line(2, old + 3_600_000)]))).await.unwrap();
        assert!(matches!(merge.next().await, Some(Ok(LogEvent::Lines(lines))) if lines.len() == 1));
        drop(feeds);
        assert!(merge.next().await.is_none());
    }

    #[tokio::test]
    async fn a_failure_of_one_comes_through() {
        let (mut merge, feeds) = merge(2, false);
        feeds[1].send(Err(Error::Interrupted)).await.unwrap();
        assert!(matches!(merge.next().await, Some(Err(Error::Interrupted))));
    }
}
