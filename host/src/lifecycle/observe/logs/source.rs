//! One container's log: read by the fastest way, resumed where it was when the engine goes away or its file turns out to
//! be unusual.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::lines::Lines;
use super::position::{Cursor, Position, Search, Skip, Tally};
use super::{Line, LogEvent};
use crate::docker::{self, Docker, LogLine, LogOptions, LogSource, LogStream, StdStream};
use crate::lifecycle::Error;

/// Between attempts to reach the engine: first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A follower that waits for its place this long, without anything coming, will not find it.
const QUIET: Duration = Duration::from_secs(3);

/// How long after its time a line may come.
const LATE: Duration = Duration::from_secs(2);

/// A container's log, from where it should begin.
pub(super) struct Source {
    docker: Docker,
    container: usize,
    id: String,
    options: LogOptions,
    /// When following ends: a container that is silent would never tell that a time is over.
    ends: Option<Instant>,
    stream: Option<LogStream>,
    /// False once the engine's file turned out to be unusual.
    local: bool,
    tally: Tally,
    position: Option<Position>,
    skip: Option<Skip>,
    /// Whether it was told that the connection broke.
    interrupted: bool,
    lines: Lines,
    events: VecDeque<LogEvent>,
    done: bool,
}

impl Source {
    /// Begins to read; `after` is a place to go on.
    pub(super) async fn open(
        docker: &Docker,
        container: usize,
        id: &str,
        options: LogOptions,
        after: Option<&Cursor>,
        lines: Lines,
    ) -> Result<Self, Error> {
        let left = options.until.filter(|_| options.follow).map(|until| until.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        let mut this = Self {
            ends: left.and_then(|left| Instant::now().checked_add(left + LATE)),
            docker: docker.clone(),
            container,
            id: id.to_owned(),
            options,
            stream: None,
            local: true,
            tally: Tally::default(),
            position: after.map(|cursor| cursor.position),
            skip: None,
            interrupted: false,
            lines,
            events: VecDeque::new(),
            done: false,
        };
        let facts = docker.log_source(id).await?;
        this.connect(&facts).await?;
        Ok(this)
    }

    /// What comes next, or none at the end. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Option<Result<LogEvent, Error>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if self.done {
                return None;
            }
            let Some(stream) = &mut self.stream else {
                if let Err(error) = self.reconnect().await {
                    self.done = true;
                    return Some(Err(error));
                }
                continue;
            };
            let next = if self.skip.is_some() && self.options.follow {
                match tokio::time::timeout(QUIET, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.give_up_search();
                        continue;
                    }
                }
            } else if let Some(ends) = self.ends.filter(|_| self.options.follow) {
                match tokio::time::timeout_at(ends, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.end_following();
                        continue;
                    }
                }
            } else {
                stream.next().await
            };
            match next {
                Some(Ok(batch)) => self.take(batch),
                Some(Err(error)) => {
                    if let Err(error) = self.broken(error) {
                        self.done = true;
                        return Some(Err(error));
                    }
                }
                None => self.at_end().await,
            }
        }
    }

    /// The time is over: what there may still be up to it is read from the place where this is.
    fn end_following(&mut self) {
        self.options.follow = false;
        if self.position.is_none() && self.options.tail.is_some() {
            // Nothing has come since the end from which it began.
            self.finish();
        }
        self.stream = None;
    }

    async fn connect(&mut self, facts: &LogSource) -> Result<(), docker::Error> {
        let mut options = self.options.clone();
        if let Some(position) = self.position {
            let skip = Skip::new(position);
            (options.since, options.tail) = (Some(skip.since()), None);
            // Without its time a line has no place.
            options.timestamps = true;
            // The place may be behind a message of the other stream, and is only found if that is read too.
            match position.stream {
                StdStream::Stdout => options.stdout = true,
                StdStream::Stderr => options.stderr = true,
            }
            self.skip = Some(skip);
        }
        self.tally = Tally::default();
        let stream = if self.local {
            // The times cost nothing there, and are needed when the engine has to go on.
            let with_times = LogOptions { timestamps: options.timestamps || facts.has_file(), ..options };
            self.docker.read_logs(facts, &with_times).await?
        } else {
            self.docker.logs(&facts.id, facts.tty, &options).await?
        };
        self.stream = Some(stream);
        Ok(())
    }

    /// Tries until the engine answers, or the container is gone.
    async fn reconnect(&mut self) -> Result<(), Error> {
        let mut pause = PAUSES.0;
        loop {
            let attempt = match self.docker.log_source(&self.id).await {
                Ok(facts) => self.connect(&facts).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(()) => {
                    if self.skip.is_none() {
                        self.resumed(false);
                    }
                    return Ok(());
                }
                Err(docker::Error::NotFound { .. }) => {
                    self.finish();
                    return Ok(());
                }
                Err(error) if !self.options.follow => return Err(error.into()),
                Err(error) => tracing::debug!(%error, container = self.id, "the log cannot be followed yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Takes what was read.
    fn take(&mut self, batch: Vec<LogLine>) {
        let (container, tally) = (self.container, &mut self.tally);
        let lines = batch.into_iter().map(|LogLine { time, stream, message }| {
            let position = tally.count(time, stream, message.len());
            Line { container, time, stream, message, position }
        });
        let lines: Vec<_> = lines.collect();
        match &mut self.skip {
            None => self.hand_over(lines),
            Some(skip) => {
                let search = skip.take(lines);
                self.settle(search);
            }
        }
    }

    fn settle(&mut self, search: Search) {
        let (lines, lost) = match search {
            Search::Before => return,
            Search::Found(lines) => (lines, false),
            Search::Gone(lines) => (lines, true),
        };
        self.skip = None;
        self.resumed(lost);
        self.hand_over(lines);
    }

    fn give_up_search(&mut self) {
        if let Some(mut skip) = self.skip.take() {
            self.settle(skip.give_up());
        }
    }

    /// Says that reading goes on, to whom was told that it did not, or that something may be missing.
    fn resumed(&mut self, lost: bool) {
        if std::mem::take(&mut self.interrupted) || lost {
            self.events.push_back(LogEvent::Resumed { container: self.container, lost });
        }
    }

    /// An empty batch is handed over too: it says that this source is at work.
    fn hand_over(&mut self, mut lines: Vec<Line>) {
        if let Some(position) = lines.iter().rev().find_map(|line| line.position) {
            self.position = Some(position);
        }
        let LogOptions { stdout, stderr, .. } = self.options;
        if !(stdout && stderr) {
            lines.retain(|line| if line.stream == StdStream::Stdout { stdout } else { stderr });
        }
        self.events.push_back(LogEvent::Lines(self.lines.push(lines)));
    }

    /// The stream failed. What was read locally is read on from the engine; a follower waits for it.
    fn broken(&mut self, error: docker::Error) -> Result<(), Error> {
        let was_local = self.stream.take().is_some_and(|stream| stream.is_local());
        if was_local {
            tracing::debug!(%error, "the engine is asked for the rest of the log");
            self.local = false;
            return Ok(());
        }
        if !self.options.follow {
            return Err(error.into());
        }
        self.lost_connection(&error);
        Ok(())
    }

    fn lost_connection(&mut self, cause: &dyn std::fmt::Display) {
        self.stream = None;
        if !std::mem::replace(&mut self.interrupted, true) {
            self.events.push_back(LogEvent::Interrupted { container: self.container, cause: cause.to_string() });
        }
    }

    /// The stream ended: the container did, or the engine that is shutting down closed it. An engine stops to take
    /// connections before it ends its containers.
    async fn at_end(&mut self) {
        let from_engine = self.stream.as_ref().is_some_and(|stream| !stream.is_local());
        if self.options.follow
            && from_engine
            && let Err(error) = self.docker.check_new_connection().await
        {
            self.lost_connection(&error);
            return;
        }
        self.give_up_search();
        self.finish();
    }

    fn finish(&mut self) {
        let rest = self.lines.finish();
        self.events.push_back(LogEvent::Lines(rest));
        self.stream = None;
        self.done = true;
    }
}
