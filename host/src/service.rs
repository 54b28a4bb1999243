//! `wharf serve`: what runs between commands. A foreground process that keeps the store's states and history true, runs
//! the hook `event`, restarts what is in trouble, and finishes what dead processes have left. What answers programs is
//! attached to it from outside, see [`Attach`].
//!
//! Each loop is a function `run(.., stop)` in a file of its own: it counts and logs its failures (see `status`), backs
//! off, and ends soon when it is told to stop. The list of them is in [`run`].
//!
//! May touch: what lifecycle and store offer.

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

mod status;
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
mod sweep;
mod time_to_live;
mod watch_events;

use status::Status;
pub use handle::{Failed, Handle};
pub use metrics::{Held, Metrics};

/// How long loops have to end what they are doing.
const GRACE: Duration = Duration::from_secs(15);
/// Waits between attempts to reach an engine that is away: the first, and the longest.
const ENGINE_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Events that wait for their reactions; the store has them already.
const WAITING_EVENTS: usize = 1_024;

/// What is done meanwhile, each by a loop of its own.
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

/// Told to the person or program who started the service.
#[derive(Debug, Clone)]
pub enum ServiceEvent {
    /// It serves. ServiceEvent once.
    Ready {
        /// The engine, or why it is not there yet.
        engine: Result<String, String>,
        /// Names of the loops.
        loops: Vec<&'static str>,
        /// Where its API listens, if it has one.
        api: Option<String>,
    },
    /// The engine cannot be reached. ServiceEvent once until it is back.
    EngineAway(String),
    /// The engine is back.
    EngineBack,
    /// Something was done to a workspace.
    Done(String),
}

/// Why the service ended.
#[derive(Debug)]
pub enum Error {
    /// Another one serves this state folder.
    Runs(Option<ServiceStatus>),
    /// What was to be attached cannot begin: what is wrong, and what to do.
    NotAttached {
        /// One line.
        message: String,
        /// One line.
        remedy: String,
    },
    /// It cannot begin, or a loop ended by a defect.
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

/// Whether to stop.
pub type Stop = watch::Receiver<bool>;

/// A loop at work.
pub type Loop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens something that runs beside the loops, such as the API: when this process has the place of the service, and
/// before the engine is there. Gives where it listens, and its loop, which ends when it is told to stop.
pub type Attach = Box<dyn FnOnce(Handle, Stop) -> Result<(String, Loop), Error> + Send>;

/// What all loops have.
struct Shared {
    lifecycle: Arc<Lifecycle>,
    config: crate::config::Config,
    status: Status,
    metrics: Arc<Metrics>,
    notify: Arc<notify::Notify>,
}

/// Ends when the service is told to stop.
pub async fn stopped(stop: &mut Stop) {
    // Without a sender it cannot be said any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Sleeps, or ends at once when the service is told to stop. Says whether it slept to the end.
async fn slept(time: Duration, stop: &mut Stop) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = stopped(stop) => false,
    }
}

/// Serves until it is told to stop.
///
/// # Errors
/// When another service runs, when store or policies cannot be used, or when a loop ended by a defect. An engine that
/// is away is waited for.
// Long because it registers every part of the service, in the order in which they start and end.
pub async fn run(
    app: &App,
    mut stop: Stop,
    attach: Option<Attach>,
    say: Box<dyn Fn(&ServiceEvent) + Send + Sync>,
) -> Result<(), Error> {
    let store = app.store()?;
    let Some(_lock) = store.try_lock_service()? else { return Err(Error::Runs(store.service()?)) };
    // A signal that asks for a reload must not end a service that is not ready yet.
    let hangups = signal(SignalKind::hangup()).map_err(|error| lifecycle::Error::Internal(error.to_string()))?;
    // Half a chain decides nothing; better now than at the first event.
    let checked = app.clone();
    let seen = policies::Seen::now(app);
    let chain = tokio::task::spawn_blocking(move || checked.checked_chain(&BTreeMap::new())).await;
    let chain = chain.map_err(|error| lifecycle::Error::Internal(error.to_string()))??;
    // What the policies import is known from here on.
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
    // Ended with the runtime; without a manager that asks it has ended already.
    tokio::spawn(async move { alive.watchdog(until).await });
    let status = Status::new(store, &LOOPS, metrics.clone(), say)?;
    let mut said = false;
    let mut ready = |engine| {
        if std::mem::replace(&mut said, true) {
            return;
        }
        status.say(&ServiceEvent::Ready { engine, loops: LOOPS.into(), api: api.clone() });
        if let Err(error) = notify.send("READY=1") {
            tracing::warn!("the service manager cannot be told that the service is ready: {error}");
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
    // Each by its name in `LOOPS`.
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
    // A loop that ends before it was told to has a defect.
    let defect = tokio::select! {
        () = stopped(&mut stop) => None,
        ended = tasks.join_next() => Some(match ended {
            Some(Err(error)) => format!("a loop of the service ended: {error}"),
            Some(Ok(name)) => format!("the loop '{name}' of the service ended by itself"),
            None => "the service has no loops".to_owned(),
        }),
    };
    if let Err(error) = notify.send("STOPPING=1") {
        tracing::debug!("the service manager cannot be told: {error}");
    }
    halt.send_replace(true);
    if !drained(&mut tasks).await {
        // What is under way is undone, as at Ctrl-C.
        interrupt.send_replace(true);
        if !drained(&mut tasks).await {
            tracing::warn!("not everything ended in time; what was begun is undone by the next command");
        }
    }
    shared.status.end()?;
    match defect {
        Some(text) => Err(lifecycle::Error::Internal(text).into()),
        None => Ok(()),
    }
}

/// Connects to the engine, again and again while it is unreachable; `None` when the service is told to stop before. The
/// service is ready with an engine that is unreachable, too.
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

/// Waits for the loops to end. Says whether they did in time.
async fn drained(tasks: &mut JoinSet<&'static str>) -> bool {
    tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await.is_ok()
}

/// Ends before the loops have begun.
async fn end(status: &Status, halt: &watch::Sender<bool>, tasks: &mut JoinSet<&'static str>) -> Result<(), Error> {
    halt.send_replace(true);
    if !drained(tasks).await {
        tracing::warn!("the API did not end in time");
    }
    status.end().map_err(Error::from)
}

/// Whether an engine that fails so may be there later.
fn may_come_back(error: &docker::Error) -> bool {
    !matches!(error, docker::Error::UnsupportedEndpoint { .. } | docker::Error::TooOld { .. })
}
