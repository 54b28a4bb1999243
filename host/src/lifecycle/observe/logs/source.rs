//! One container's log: it is read in the fastest way, and resumed at its position when the engine is unreachable or
//! its file turns out to be unusual.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::lines::Lines;
use super::position::{Cursor, Position, Search, Skip, Tally};
use super::{Line, LogEvent};
use crate::docker::{self, Docker, LogLine, LogOptions, LogSource, LogStream, StdStream};
use crate::lifecycle::Error;

/// Pauses between attempts to reach the engine: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The time without any message after which a follower stops searching for its position.
const QUIET: Duration = Duration::from_secs(3);

/// The delay with which a line may arrive after its time.
const LATE: Duration = Duration::from_secs(2);

/// A container's log, from its starting position.
pub(super) struct Source {
    docker: Docker,
    container: usize,
    id: String,
    options: LogOptions,
    /// The end of following: a silent container would never show that a time has passed.
    ends: Option<Instant>,
    stream: Option<LogStream>,
    /// False once the engine's file turned out to be unusual.
    local: bool,
    tally: Tally,
    position: Option<Position>,
    skip: Option<Skip>,
    /// Whether a break of the connection was reported.
    interrupted: bool,
    lines: Lines,
    events: VecDeque<LogEvent>,
    done: bool,
}

impl Source {
    /// Starts to read; `after` is a position to continue from.
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

    /// Returns the next event, or `None` at the end. Cancelling it loses nothing.
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

    /// Ends following at its time: the remaining lines up to it are read from the current position.
    fn end_following(&mut self) {
        self.options.follow = false;
        if self.position.is_none() && self.options.tail.is_some() {
            // Nothing has come since the end from which it started.
            self.finish();
        }
        self.stream = None;
    }

    async fn connect(&mut self, facts: &LogSource) -> Result<(), docker::Error> {
        let mut options = self.options.clone();
        if let Some(position) = self.position {
            let skip = Skip::new(position);
            (options.since, options.tail) = (Some(skip.since()), None);
            // Without its time a line has no position.
            options.timestamps = true;
            // The position may be after a message of the other stream, and is only found if that stream is read too.
            match position.stream {
                StdStream::Stdout => options.stdout = true,
                StdStream::Stderr => options.stderr = true,
            }
            self.skip = Some(skip);
        }
        self.tally = Tally::default();
        let stream = if self.local {
            // Times cost nothing there, and are needed if the engine must continue.
            let with_times = LogOptions { timestamps: options.timestamps || facts.has_file(), ..options };
            self.docker.read_logs(facts, &with_times).await?
        } else {
            self.docker.logs(&facts.id, facts.tty, &options).await?
        };
        self.stream = Some(stream);
        Ok(())
    }

    /// Retries until the engine answers, or the container is gone.
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
                Err(error) => tracing::debug!(%error, container = self.id, "cannot follow the log yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Processes a batch of lines.
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

    /// Reports that reading continues, if an interruption was reported or lines may be missing.
    fn resumed(&mut self, lost: bool) {
        if std::mem::take(&mut self.interrupted) || lost {
            self.events.push_back(LogEvent::Resumed { container: self.container, lost });
        }
    }

    /// An empty batch is passed on too: it shows that this source is active.
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

    /// Handles a failed stream. A local read continues through the engine; a follower waits for the engine.
    fn broken(&mut self, error: docker::Error) -> Result<(), Error> {
        let was_local = self.stream.take().is_some_and(|stream| stream.is_local());
        if was_local {
            tracing::debug!(%error, "reading the rest of the log from the engine");
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

    /// Handles the end of the stream: the container ended, or an engine that is shutting down closed it. An engine
    /// stops accepting connections before it ends its containers.
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
