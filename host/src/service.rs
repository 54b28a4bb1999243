//! `wharf serve`: the work between commands. A foreground process that keeps the store's states and history up to
//! date, runs the hook `event`, restarts failing workspaces, and finishes the work of dead processes. Servers for
//! programs are attached from outside, see [`Attach`].
//!
//! Each loop is a function `run(.., stop)` in a separate file. It counts and logs its failures (see `status`), backs
//! off, and ends soon after it is told to stop. [`run`] has the list of loops.
//!
//! May touch: the interfaces of lifecycle and store.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::app::App;
pub use crate::app::PolicyView;
use crate::docker;
use crate::lifecycle::{self, Lifecycle};
use crate::store::{self, ServiceStatus};

mod collect;
mod decisions;
mod disk;
mod handle;
mod history;
mod idle;
mod journal;
mod keyed_queue;
mod metrics;
mod notify;
mod policies;
mod react;
mod recover;
mod status;
mod sweep;
mod time_to_live;
mod watch_events;

pub use handle::{Failed, Handle};
pub use metrics::{Held, Metrics};
use status::Status;

/// Time for loops to finish their current work.
const GRACE: Duration = Duration::from_secs(15);
/// Pauses between attempts to reach an unreachable engine: first and longest.
const ENGINE_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Maximum number of events that wait for their reactions; the store already has them.
const WAITING_EVENTS: usize = 1_024;

/// The background tasks, each in its own loop.
const LOOPS: [&str; 11] = [
    "events",
    "reactions",
    "journal",
    "history",
    "decisions",
    "statistics",
    "sweeps",
    "time-to-live",
    "idle",
    "disk",
    "policies",
];

/// Messages to the user or program that started the service.
#[derive(Debug, Clone)]
pub enum ServiceEvent {
    /// The service is running. Sent once.
    Ready {
        /// The engine, or the reason why it is not reachable yet.
        engine: Result<String, String>,
        /// Names of the loops.
        loops: Vec<&'static str>,
        /// The address of its API, if it has one.
        api: Option<String>,
    },
    /// The engine is unreachable. Sent once until it is back.
    EngineAway(String),
    /// The engine is back.
    EngineBack,
    /// A workspace was changed.
    Done(String),
}

/// The reason why the service ended.
#[derive(Debug)]
pub enum Error {
    /// Another service runs for this state folder.
    Runs(Option<ServiceStatus>),
    /// An attached part cannot start: the error and the remedy.
    NotAttached {
        /// The error, in one line.
        message: String,
        /// The remedy, in one line.
        remedy: String,
    },
    /// The service cannot start, or a loop ended because of a defect.
    Failed(lifecycle::Error),
}

impl From<lifecycle::Error> for Error {
    fn from(error: lifecycle::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The stop signal.
pub type Stop = watch::Receiver<bool>;

/// A running loop.
pub type Loop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts a task beside the loops, such as the API. It is called when this process holds the role of the service, and
/// before the engine is reachable. Returns its address and its loop, which ends when it is told to stop.
pub type Attach = Box<dyn FnOnce(Handle, Stop) -> Result<(String, Loop), Error> + Send>;

/// The state shared by all loops.
struct Shared {
    lifecycle: Arc<Lifecycle>,
    config: crate::config::Config,
    status: Status,
    metrics: Arc<Metrics>,
    notify: Arc<notify::Notify>,
}

/// Returns when the service is told to stop.
pub async fn stopped(stop: &mut Stop) {
    // Without a sender no stop signal can arrive any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Sleeps, or returns at once when the service is told to stop. Returns whether it slept to the end.
async fn slept(time: Duration, stop: &mut Stop) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = stopped(stop) => false,
    }
}

/// Runs the service until a stop is requested.
///
/// # Errors
/// An error if another service runs, if store or policies are unusable, or if a loop ended because of a defect. The
/// service waits for an unreachable engine.
// Long because it registers every part of the service, in the order in which they start and end.
pub async fn run(
    app: &App,
    mut stop: Stop,
    attach: Option<Attach>,
    say: Box<dyn Fn(&ServiceEvent) + Send + Sync>,
) -> Result<(), Error> {
    let store = app.store()?;
    let Some(_lock) = store.try_lock_service()? else { return Err(Error::Runs(store.service()?)) };
    // A reload signal must not end a service that is not ready yet.
    let hangups = signal(SignalKind::hangup()).map_err(|error| lifecycle::Error::Internal(error.to_string()))?;
    // An incomplete chain must not decide. It is better to fail now than at the first event.
    let checked = app.clone();
    let seen = policies::Seen::now(app);
    let chain = tokio::task::spawn_blocking(move || checked.checked_chain(&BTreeMap::new())).await;
    let chain = chain.map_err(|error| lifecycle::Error::Internal(error.to_string()))??;
    // From here on the imports of the policies are known.
    let seen = policies::Seen::now(app).but(&seen);

    let metrics = Arc::new(Metrics::default());
    let (handle, reloads) = Handle::new(app, metrics.clone())?;
    let (halt, halted) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut api = None;
    if let Some(attach) = attach {
        let (place, run) = attach(handle.clone(), halted.clone())?;
        api = Some(place);
        tasks.spawn(named("api", run));
    }
    let notify = Arc::new(notify::Notify::of_process());
    let alive = notify.clone();
    let until = halted.clone();
    // It ends with the runtime; without a service manager that expects signals it has already ended.
    tokio::spawn(async move { alive.watchdog(until).await });
    let status = Status::new(store, &LOOPS, metrics.clone(), say)?;
    let mut said = false;
    let mut ready = |engine| {
        if std::mem::replace(&mut said, true) {
            return;
        }
        status.say(&ServiceEvent::Ready { engine, loops: LOOPS.into(), api: api.clone() });
        if let Err(error) = notify.send("READY=1") {
            tracing::warn!("cannot notify the service manager that the service is ready: {error}");
        }
    };
    let lifecycle = match connect(app, &handle, &status, &mut stop, &mut ready).await {
        Ok(Some(lifecycle)) => lifecycle,
        Ok(None) => return end(&status, &halt, &mut tasks).await,
        Err(error) => {
            end(&status, &halt, &mut tasks).await?;
            return Err(error.into());
        }
    };
    status.chain_loaded(policies::versions(&chain), false);
    lifecycle.replace_chain(app.loaded.clone(), chain);
    lifecycle.observe(metrics.clone());
    let lifecycle = Arc::new(lifecycle);
    handle.set_lifecycle(lifecycle.clone());
    status.engine_back();
    let docker = lifecycle.docker();
    ready(Ok(format!("{} ({})", docker.endpoint(), docker.engine_version())));

    let interrupt = lifecycle.stopper();
    let shared =
        Arc::new(Shared { lifecycle, config: app.loaded.config.clone(), status, metrics, notify: notify.clone() });
    let (told, to_tell) = mpsc::channel(WAITING_EVENTS);
    // Each loop by its name in `LOOPS`.
    let loops: Vec<(&str, Loop)> = vec![
        ("events", Box::pin(watch_events::run(shared.clone(), told.clone(), halted.clone()))),
        ("reactions", Box::pin(react::run(shared.clone(), to_tell, halted.clone()))),
        ("journal", Box::pin(journal::run(shared.clone(), halted.clone()))),
        ("history", Box::pin(history::run(shared.clone(), halted.clone()))),
        ("decisions", Box::pin(decisions::run(shared.clone(), halted.clone()))),
        ("statistics", Box::pin(collect::run(shared.clone(), handle.collector(), halted.clone()))),
        ("sweeps", Box::pin(sweep::run(shared.clone(), halted.clone()))),
        ("time-to-live", Box::pin(time_to_live::run(shared.clone(), halted.clone()))),
        ("idle", Box::pin(idle::run(shared.clone(), halted.clone()))),
        ("disk", Box::pin(disk::run(shared.clone(), told, halted.clone()))),
        ("policies", Box::pin(policies::run(shared.clone(), app.clone(), seen, (hangups, reloads), halted.clone()))),
    ];
    for (name, run) in loops {
        tasks.spawn(named(name, run));
    }
    // A loop that ends before it is told to has a defect.
    let defect = tokio::select! {
        () = stopped(&mut stop) => None,
        ended = tasks.join_next() => Some(match ended {
            Some(Err(error)) => format!("a loop of the service panicked: {error}"),
            Some(Ok(name)) => format!("the loop '{name}' of the service ended unexpectedly"),
            None => "the service has no loops".to_owned(),
        }),
    };
    if let Err(error) = notify.send("STOPPING=1") {
        tracing::debug!("cannot notify the service manager: {error}");
    }
    halt.send_replace(true);
    if !drained(&mut tasks).await {
        // Undo the current work, as at Ctrl-C.
        interrupt.send_replace(true);
        if !drained(&mut tasks).await {
            tracing::warn!("not all work ended in time; the next command undoes unfinished work");
        }
    }
    shared.status.end()?;
    match defect {
        Some(text) => Err(lifecycle::Error::Internal(text).into()),
        None => Ok(()),
    }
}

/// Connects to the engine, and retries while it is unreachable. Returns `None` if the service is told to stop first.
/// The service also becomes ready with an unreachable engine.
async fn connect(
    app: &App,
    handle: &Handle,
    status: &Status,
    stop: &mut Stop,
    ready: &mut (dyn FnMut(Result<String, String>) + Send),
) -> Result<Option<Lifecycle>, lifecycle::Error> {
    let mut wait = ENGINE_BACKOFF.0;
    loop {
        let attempt = tokio::select! {
            attempt = app.lifecycle() => attempt,
            () = stopped(stop) => return Ok(None),
        };
        if attempt.is_err() {
            handle.set_tried();
        }
        match attempt {
            Err(lifecycle::Error::Docker(error)) if may_come_back(&error) => {
                ready(Err(error.to_string()));
                status.engine_away(&error.to_string());
                if !slept(wait, stop).await {
                    return Ok(None);
                }
                wait = (wait * 2).min(ENGINE_BACKOFF.1);
            }
            attempt => return attempt.map(Some),
        }
    }
}

async fn named(name: &'static str, run: Loop) -> &'static str {
    run.await;
    name
}

/// Waits for the loops to end. Returns whether they ended in time.
async fn drained(tasks: &mut JoinSet<&'static str>) -> bool {
    tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await.is_ok()
}

/// Ends the service before the loops have started.
async fn end(status: &Status, halt: &watch::Sender<bool>, tasks: &mut JoinSet<&'static str>) -> Result<(), Error> {
    halt.send_replace(true);
    if !drained(tasks).await {
        tracing::warn!("the API did not end in time");
    }
    status.end().map_err(Error::from)
}

/// Returns whether an engine with this error may become reachable later.
fn may_come_back(error: &docker::Error) -> bool {
    !matches!(error, docker::Error::UnsupportedEndpoint { .. } | docker::Error::TooOld { .. })
}
