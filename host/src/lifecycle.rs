//! The verbs: one public method each. Each follows the pattern journal -> hooks -> engine -> journal, with its undo.
//!
//! The engine knows the running containers, the store knows the intended state. Only objects with this installation's
//! label (`wharf.host`) are ever touched.
//!
//! May touch: hooks, docker, store. It uses domain types; no type of the engine, of Wasm or of Rhai appears here.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Loaded;
use crate::docker::{self, Docker, EngineInfo};
use crate::hooks::chain::Shadows;
use crate::hooks::redact::{SecretNames, Values};
use crate::hooks::{Chain, Decision, HookRequest, LocalTime};
use crate::store::{self, Store};
use crate::workspace::{Container, LABEL_HOST, LABEL_WORKSPACE, WorkspaceId};

mod caller;
mod cleanup;
mod create;
mod error;
mod observe;
mod recovery;
mod run;
mod secrets;
mod shadows;
mod snapshot;

pub use caller::{acting_for, for_this_caller};
pub use cleanup::idle::{IdleView, Idleness, Usage};
pub use cleanup::sweep::{SweepLine, SweepOutcome, SweepReport};
pub use create::binds::invariants;
pub use create::facts::engine_facts;
pub use create::images::ImageView;
pub use create::owner::{wants_root, ways_to_root};
pub use create::plan::{Plan, Planner};
pub use create::plan_diff::{FieldChange, PlanDiff};
pub use create::project::{Parent, Project};
pub use create::up::Recreate;
pub use create::volumes::VolumeView;
pub use error::{Difference, Error, Missing};
pub use observe::collect::{Collector, Readings};
pub use observe::disk::{DiskMode, DiskView};
pub use observe::events::{Notice, WorkspaceEvents};
pub use observe::find::find_listed;
pub use observe::logs::{Cursor, Grep, Line, LineView, LogContainer, LogEvent, LogQuery, Logs};
pub use observe::stats::StatsWatch;
pub use observe::view::{Ending, StatsView, WorkspaceView};
pub use recovery::react::Reaction;
pub use recovery::recover::Trouble;
pub use run::copy::{CopyIn, CopyOut, PathView};
pub use run::wait::{WaitView, Waited};
pub use secrets::files::secrets_dir;

use create::resolved_request::ResolvedRequest;

/// Maximum wait for another process that works on the same workspace.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// The time after which the wait for a lock is worth a line.
const LOCK_TELL: Duration = Duration::from_secs(1);
/// Minimum and maximum run time (milliseconds) of a command that a policy requests.
const ACTION_TIME: (u64, u64) = (100, 600_000);

/// Loads the chain on first use: most reading verbs need none, and a broken policy must not keep a user from listing
/// or removing workspaces.
pub type LoadChain = dyn Fn() -> Result<Chain, Error> + Send + Sync;

/// The state that a reload replaces, both parts at once.
struct Live {
    loaded: Arc<Loaded>,
    chain: Option<Chain>,
}

/// Receives the actions of policies and sweeps after they are recorded.
pub trait Observer: Send + Sync {
    /// Reports recorded decisions.
    fn decided(&self, decisions: &[Decision]);
    /// A sweep that was not a dry run has ended.
    fn swept(&self, report: &SweepReport);
}

/// Carries out verbs.
pub struct Lifecycle {
    live: RwLock<Live>,
    load_chain: Arc<LoadChain>,
    loading: tokio::sync::Mutex<()>,
    gate: secrets::gate::Gate,
    /// Held while the mounts of a running container are checked.
    looking: tokio::sync::Mutex<()>,
    shadows: shadows::Queue,
    observer: OnceLock<Arc<dyn Observer>>,
    store: Arc<Store>,
    docker: Docker,
    secrets: SecretNames,
    /// The caller for actions without another caller.
    own_caller: crate::hooks::Caller,
    stop: watch::Receiver<bool>,
    stopper: watch::Sender<bool>,
}

impl Lifecycle {
    /// Combines the parts, and finishes or undoes the leftovers of a process that died.
    ///
    /// # Errors
    /// An error if the store or the engine fails meanwhile.
    pub async fn new(loaded: Loaded, load_chain: Arc<LoadChain>, store: Store, docker: Docker) -> Result<Self, Error> {
        let secrets = SecretNames(loaded.config.secrets.env.clone());
        let (stopper, stop) = watch::channel(false);
        let store = Arc::new(store);
        let this = Self {
            live: RwLock::new(Live { loaded: Arc::new(loaded), chain: None }),
            load_chain,
            loading: tokio::sync::Mutex::default(),
            gate: secrets::gate::Gate::default(),
            looking: tokio::sync::Mutex::default(),
            shadows: shadows::Queue::new(store.clone(), secrets.clone()),
            observer: OnceLock::new(),
            store,
            docker,
            secrets,
            own_caller: caller::of_this_process(),
            stop,
            stopper,
        };
        let all = secrets_dir(this.store.dir());
        secrets::files::close(&all).map_err(|error| secrets::files::unusable(&all, &error))?;
        for failure in this.reconcile().await? {
            tracing::warn!("{failure}");
        }
        if let Err(error) = this.clean_earlier().await {
            tracing::warn!("records of an earlier version may still contain the values of secrets: {error}");
        }
        Ok(this)
    }

    /// Returns the sender that ends long waits: send `true`, and the current verb undoes its work and fails as
    /// interrupted.
    pub fn stopper(&self) -> watch::Sender<bool> {
        self.stopper.clone()
    }

    /// Notifies an observer of decisions and sweeps. Only the first observer is kept.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    /// Returns the engine.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the current configuration. A verb keeps the configuration that it started with.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).loaded.clone()
    }

    /// Replaces the configuration and its chain. Running decisions keep those that they started with.
    pub fn replace_chain(&self, loaded: Loaded, chain: Chain) {
        let chain = chain.with_standings(self.store.clone());
        let next = Live { loaded: Arc::new(loaded), chain: Some(chain) };
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Runs a function with the chain for a workspace, on a thread where it may block: policies run up to their
    /// deadlines.
    async fn decide<T: Send + 'static>(
        &self,
        about: &str,
        run: impl FnOnce(&Chain) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let chain = self.chain().await?;
        self.gate.run(about, move || run(&chain)).await.map_err(|error| Error::Internal(error.to_string()))
    }

    /// Does the same as `decide` with a request about a workspace, from which these values are removed first. No
    /// policy sees them, and they appear neither in its log lines nor in its standing.
    async fn decide_without<T: Send + 'static>(
        &self,
        mut request: HookRequest,
        values: &[String],
        run: impl FnOnce(&Chain, HookRequest) -> T + Send + 'static,
    ) -> Result<T, Error> {
        Values::of(values).take_out_of_request(&mut request);
        let (secrets, values) = (self.secrets.clone(), values.to_vec());
        let about = request.facts.workspace.id.clone();
        self.decide(&about, move |chain| run(&chain.clone().knowing(&secrets, &values), request)).await
    }

    /// Returns the chain, which is loaded at the first call.
    async fn chain(&self) -> Result<Chain, Error> {
        let there = || self.live.read().unwrap_or_else(PoisonError::into_inner).chain.clone();
        if let Some(chain) = there() {
            return Ok(chain);
        }
        let _loading = self.loading.lock().await;
        if let Some(chain) = there() {
            return Ok(chain);
        }
        let load = self.load_chain.clone();
        let chain = tokio::task::spawn_blocking(move || load()).await;
        let chain = chain.map_err(|error| Error::Internal(error.to_string()))??.with_standings(self.store.clone());
        // A reload that finished first is newer.
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        Ok(live.chain.get_or_insert(chain).clone())
    }

    /// Records decisions without secrets: these values are removed wherever they occur. A decision that cannot be
    /// recorded is not carried out. The shadows are called afterwards; no verb waits for them.
    fn record_without(
        &self,
        decisions: &mut [Decision],
        shadows: Option<Box<Shadows>>,
        values: &[String],
    ) -> Result<(), Error> {
        for decision in decisions.iter_mut() {
            self.secrets.redact(decision, values);
        }
        self.store.append(decisions)?;
        if let Some(observer) = self.observer.get() {
            observer.decided(decisions);
        }
        if let Some(shadows) = shadows {
            self.shadows.ask(shadows, values.to_vec());
        }
        Ok(())
    }

    async fn engine_info(&self) -> Result<EngineInfo, Error> {
        Ok(self.docker.info().await?)
    }

    /// Returns the container of a workspace: the container that the store names, which the engine finds quickly, or
    /// otherwise the container with its exact labels. A container set aside for replacement does not count, nor does
    /// one whose creation was undone.
    async fn container(&self, id: &WorkspaceId) -> Result<Option<Container>, Error> {
        let labels = [(LABEL_HOST, self.store.host_id()), (LABEL_WORKSPACE, id.as_str())];
        let labelled = |container: &Container| {
            labels.iter().all(|(key, value)| container.labels.get(*key).is_some_and(|is| is == value))
        };
        if let Some(known) = self.store.container_id(id)? {
            match self.docker.inspect(&known).await {
                Ok(container) if labelled(&container) && is_current(&container, &self.undone_attempts()?) => {
                    return Ok(Some(container));
                }
                Ok(_) | Err(docker::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let found = self.docker.list(&labels, true).await?;
        Ok(self.current(found)?.into_iter().next())
    }

    /// Returns the current containers of their workspaces among these labelled containers: ours, not set aside for
    /// replacement, and not from a creation that was undone.
    fn current(&self, labelled: Vec<Container>) -> Result<Vec<Container>, Error> {
        let undone = self.undone_attempts()?;
        let mut current = Vec::with_capacity(labelled.len());
        for container in labelled {
            if is_current(&container, &undone) && self.is_ours(&container)? {
                current.push(container);
            }
        }
        Ok(current)
    }

    /// Returns the container of a workspace with all details from the engine.
    async fn container_in_full(&self, id: &WorkspaceId) -> Result<Option<Container>, Error> {
        match self.container(id).await? {
            // It comes from a list.
            Some(container) if container.actual.is_none() => Ok(Some(self.docker.inspect(&container.id).await?)),
            found => Ok(found),
        }
    }

    /// Returns all containers of this installation by workspace id.
    async fn containers(&self) -> Result<BTreeMap<String, Container>, Error> {
        let current = self.current(self.docker.list_ours().await?.to_vec())?;
        Ok(current.into_iter().filter_map(|c| Some((c.labels.get(LABEL_WORKSPACE)?.clone(), c))).collect())
    }

    /// Returns an error if an interruption was requested.
    fn check_interrupt(&self) -> Result<(), Error> {
        if *self.stop.borrow() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Returns when an interruption is requested.
    async fn interrupted(&self) {
        let mut stop = self.stop.clone();
        // The sender lives as long as self, so this cannot fail.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Takes the lock of a workspace, and waits for another process that works on it. Unfinished work is then
    /// repaired at once, because a later repair would affect objects created from now on.
    async fn lock(&self, id: &WorkspaceId) -> Result<store::WorkspaceLock, Error> {
        let lock = self.wait_for_lock(id.as_str(), true, || self.store.try_lock(id)).await?;
        self.put_right_first(id).await?;
        Ok(lock)
    }

    /// Takes the lock of the networks: shared to connect a container, exclusive to remove a network. Otherwise the
    /// last leaving container could remove a network that another container is joining.
    async fn lock_networks(&self, alone: bool) -> Result<store::WorkspaceLock, Error> {
        // An undo runs to its end, so an interruption must not prevent the removal of a network.
        self.wait_for_lock("the networks", !alone, || self.store.try_lock_networks(alone)).await
    }

    async fn wait_for_lock(
        &self,
        what: &str,
        interruptible: bool,
        take: impl Fn() -> Result<Option<store::WorkspaceLock>, store::Error>,
    ) -> Result<store::WorkspaceLock, Error> {
        let begin = tokio::time::Instant::now();
        let mut told = false;
        loop {
            if let Some(lock) = take()? {
                return Ok(lock);
            }
            if !told && begin.elapsed() > LOCK_TELL {
                told = true;
                tracing::info!(target: crate::spans::WAIT, "waiting for another command that works on {what}");
            }
            if begin.elapsed() > LOCK_PATIENCE {
                return Err(store::Error::Locked(what.to_owned()).into());
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                () = self.interrupted(), if interruptible => return Err(Error::Interrupted),
            }
        }
    }
}

/// Returns whether a container is the current one of its workspace: not set aside for replacement, and not from a
/// creation that was undone.
fn is_current(container: &Container, undone: &recovery::reconcile::UndoneAttempts) -> bool {
    !create::replace::is_aside(container) && !undone.holds(container)
}

/// Returns the time of day and of week in the time zone of this process.
fn local_time() -> LocalTime {
    let now = jiff::Zoned::now();
    LocalTime {
        minute: u16::try_from(i32::from(now.hour()) * 60 + i32::from(now.minute())).unwrap_or_default(),
        weekday: u8::try_from(now.weekday().to_monday_one_offset()).unwrap_or_default(),
    }
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
