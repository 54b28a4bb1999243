//! One wasmtime engine for all plugins: its configuration, the linker, and the ticker that enforces deadlines.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::component::{Component, HasSelf, InstancePre, Linker, Resource, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtxBuilder, WasiView};

use super::cache::Cache;
use super::grants::Grants;
use super::limits::State;
use super::v0_1;
use super::{bounds, compile};
use crate::hooks::{Facts, Limits, PolicyError, push_log};

/// Length of an epoch, which is the precision of deadlines.
const TICK: Duration = Duration::from_millis(5);
/// Stack size of a plugin.
const STACK: usize = 512 << 10;

/// Maximum WASI resources (streams, timers, descriptors) that one call may hold.
const RESOURCES: usize = 1_000;
/// Maximum concurrent plugins of a pooled engine, more than decisions ever need: see `lifecycle`.
const POOL: u32 = 256;
/// Bytes of an instance's memory and tables that the pool keeps resident.
const KEPT: usize = 256 << 10;

/// The engine that plugins run in. Create one and share it.
pub struct WasmEngine {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    ticker: Arc<Ticker>,
}

/// Counts running calls; the ticker's thread sleeps while there are none.
#[derive(Default)]
struct Ticker {
    running: Mutex<usize>,
    wake: Condvar,
}

/// Epochs advance while it exists.
pub(super) struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

impl WasmEngine {
    /// Creates an engine. `cache` is a folder for compiled code that only this user can read or write. Without it, or
    /// if the folder is not private, every start compiles again.
    ///
    /// # Errors
    /// One line, if this machine cannot run WebAssembly.
    pub fn new(cache: Option<&Path>) -> Result<Self, String> {
        Self::with(cache, InstanceAllocationStrategy::OnDemand)
    }

    /// Creates an engine for a process that makes many decisions: instances come from a pool that keeps used pages
    /// resident. It starts more slowly and decides faster. `memory` is the largest memory limit of all plugins, in
    /// bytes.
    ///
    /// # Errors
    /// The errors of [`WasmEngine::new`].
    pub fn pooled(cache: Option<&Path>, memory: usize) -> Result<Self, String> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(POOL)
            .total_core_instances(POOL * 4)
            .total_memories(POOL * 2)
            .total_tables(POOL * 4)
            .max_memory_size(memory)
            .max_memories_per_module(bounds::MEMORIES)
            .max_tables_per_module(bounds::TABLES)
            .linear_memory_keep_resident(KEPT)
            .table_keep_resident(KEPT)
            .pagemap_scan(Enabled::Auto);
        Self::with(cache, InstanceAllocationStrategy::Pooling(pool)).or_else(|error| {
            // The pool's address space may be unavailable, where it is limited per process.
            tracing::warn!("plugins run slower, without a pool: {error}");
            Self::new(cache)
        })
    }

    fn with(cache: Option<&Path>, allocation: InstanceAllocationStrategy) -> Result<Self, String> {
        let mut config = Config::new();
        config.allocation_strategy(allocation);
        config.epoch_interruption(true);
        config.consume_fuel(true);
        config.max_wasm_stack(STACK);
        config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
        let engine = Engine::new(&config).map_err(|error| format!("this machine cannot run plugins: {error:#}"))?;
        let mut linker = Linker::new(&engine);
        link_host(&mut linker).map_err(|error| format!("the host functions for plugins do not match: {error:#}"))?;
        let ticker = Arc::new(Ticker::default());
        spawn_ticker(&engine, &ticker).map_err(|error| format!("cannot start the deadline thread: {error}"))?;
        let cache = cache.and_then(|dir| match Cache::open(dir, &engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!("cannot cache compiled plugins; they are compiled at every start: {error}");
                None
            }
        });
        Ok(Self { engine, linker, cache, ticker })
    }

    pub(super) fn raw(&self) -> &Engine {
        &self.engine
    }

    /// Compiles a component of this name, or takes it from the cache.
    pub(super) fn compile(&self, name: &str, bytes: &[u8], digest: &str) -> Result<Component, String> {
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.get(&self.engine, digest)) {
            return Ok(component);
        }
        // Only source formats are accepted: precompiled code from outside could do anything.
        if !bytes.starts_with(b"\0asm") {
            return Err("is not a WebAssembly component (it does not begin with \\0asm)".to_owned());
        }
        if bytes.get(4..8) == Some([1, 0, 0, 0].as_slice()) {
            return Err("is a core WebAssembly module, not a component; build it with the plugin SDK's tooling \
                        ('cargo xtask plugins' shows how)"
                .to_owned());
        }
        bounds::check(bytes)?;
        let component = compile::apart(&self.engine, name, bytes)?;
        if let Some(cache) = &self.cache {
            cache.put(&component, digest);
        }
        Ok(component)
    }

    /// Checks that the host provides all imports of a component.
    pub(super) fn link(&self, component: &Component) -> Result<InstancePre<State>, String> {
        self.linker.instantiate_pre(component).map_err(|error| {
            let why = format!("{error:#}").replace('\n', " ");
            let needs = lacking(&why).unwrap_or_else(|| "needs a feature that this host does not have".to_owned());
            format!("{needs} ({why})")
        })
    }

    /// Creates a fresh store with all limits set. Time and randomness derive from the decision, so that it can be
    /// replayed.
    pub(super) fn store(
        &self,
        limits: &Limits,
        grants: &Grants,
        now_ms: u64,
        seed: &[u8],
        facts: Option<Arc<Facts>>,
    ) -> Result<Store<State>, PolicyError> {
        let seed = if seed.is_empty() { &[4] } else { seed };
        let number = seed.iter().take(16).fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_tcp(false)
            .allow_udp(false)
            .secure_random(Deterministic::new(seed.to_vec()))
            .insecure_random(Deterministic::new(seed.to_vec()))
            .insecure_random_seed(number)
            .max_random_size(64 << 10)
            .wall_clock(Frozen(now_ms))
            .monotonic_clock(Frozen(0));
        grants.give(&mut wasi)?;
        let mut table = ResourceTable::new();
        // Resources in the host do not count as the plugin's memory, so they have a separate limit.
        table.set_max_capacity(RESOURCES);
        let state = State {
            logs: Vec::new(),
            memory_limit: limits.memory,
            memory: 0,
            elements: 0,
            host_limit: limits.host_bytes,
            host_bytes: 0,
            hit: None,
            facts,
            wasi: wasi.build(),
            table,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(limits.output);
        if let Err(error) = store.set_fuel(u64::MAX) {
            tracing::debug!("calls are not measured: {error}");
        }
        let ticks = limits.timeout.as_millis().div_ceil(TICK.as_millis()) + 1;
        store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX / 2));
        Ok(store)
    }

    /// Lets epochs advance until the guard is dropped.
    pub(super) fn tick(&self) -> Ticking {
        *self.ticker.running.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.ticker.wake.notify_one();
        Ticking(self.ticker.clone())
    }
}

/// Returns the missing import of a component, and which version of the host has it. It parses the linker's error,
/// which names the import first.
fn lacking(why: &str) -> Option<String> {
    let name = why.split('`').nth(1)?;
    let (package, version) = match name.split_once('@') {
        Some((path, version)) => (path.split('/').next().unwrap_or(path), version),
        None => (name.split('/').next().unwrap_or(name), ""),
    };
    Some(match package {
        "wharf:policy" => {
            let newer = super::newer(version);
            let what = match why.split('`').nth(3).filter(|_| why.contains("missing")) {
                Some(part) => format!("'{part}' of {name}"),
                None => name.to_owned(),
            };
            match newer {
                true => format!(
                    "needs {what}, but this host (Wharf {}) has wharf:policy {}: use a newer Wharf that has \
                     wharf:policy {version}",
                    env!("CARGO_PKG_VERSION"),
                    super::WIT_VERSION
                ),
                false => {
                    format!("needs {what}, which no Wharf has in wharf:policy {version}; build it against wit/v0.1")
                }
            }
        }
        package if package.starts_with("wasi:") && !version.starts_with("0.2.") => {
            format!("needs {name}, but this host has WASI 0.2; build it for wasm32-wasip2 or wasm32-unknown-unknown")
        }
        package if package.starts_with("wasi:") => {
            format!(
                "needs {name}, which no Wharf has: a policy has no access to the outside world, the host passes it \
                 the facts"
            )
        }
        _ => format!(
            "needs {name}, which no Wharf has: a plugin may import wharf:policy/host, wharf:policy/facts and WASI 0.2"
        ),
    })
}

fn spawn_ticker(engine: &Engine, ticker: &Arc<Ticker>) -> std::io::Result<()> {
    let (engine, ticker) = (engine.weak(), Arc::downgrade(ticker));
    let run = move || {
        loop {
            let (Some(engine), Some(ticker)) = (engine.upgrade(), ticker.upgrade()) else { return };
            let running = ticker.running.lock().unwrap_or_else(PoisonError::into_inner);
            if *running == 0 {
                // Woken by the next call, or after a while to check whether the engine is gone.
                drop(ticker.wake.wait_timeout(running, Duration::from_secs(1)));
                continue;
            }
            drop(running);
            drop(ticker);
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    };
    std::thread::Builder::new().name("wharf-epochs".into()).spawn(run).map(drop)
}

/// A clock that stands still: milliseconds since 1970.
struct Frozen(u64);

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }
    fn now(&self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl HostMonotonicClock for Frozen {
    fn resolution(&self) -> u64 {
        1_000_000
    }
    fn now(&self) -> u64 {
        self.0
    }
}

/// A timer that fires at once. Time does not pass within a decision, so no plugin can sleep in the host, out of reach
/// of an epoch deadline.
struct Over;

#[wasmtime_wasi::async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

fn link_host(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    let over =
        |mut store: wasmtime::StoreContextMut<'_, State>, _: (u64,)| -> wasmtime::Result<(Resource<DynPollable>,)> {
            let table = store.data_mut().ctx().table;
            let timer = table.push(Over)?;
            Ok((subscribe(table, timer)?,))
        };
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    clock.func_wrap("subscribe-duration", over)?;
    clock.func_wrap("subscribe-instant", over)?;
    linker.allow_shadowing(false);
    v0_1::host::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    v0_1::facts::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl v0_1::facts::Host for State {
    fn caller(&mut self) -> wasmtime::Result<Option<v0_1::facts::CallerInfo>> {
        Ok(self.facts.as_ref().and_then(|facts| facts.caller.as_ref()).map(v0_1::caller))
    }

    fn image_config(&mut self) -> wasmtime::Result<Option<v0_1::facts::ImageInfo>> {
        Ok(self.facts.as_ref().and_then(|facts| facts.image_config.as_ref()).map(v0_1::image_config))
    }
}

impl v0_1::host::Host for State {
    fn log(&mut self, level: v0_1::host::Level, message: String) -> wasmtime::Result<()> {
        // Fuel limits the bytes that the host copies for one call; this limits all calls together.
        self.host_bytes = self.host_bytes.saturating_add(message.len());
        if self.host_bytes > self.host_limit {
            self.hit = Some("host-calls");
            return Err(wasmtime::Error::msg("too much data was passed to the host"));
        }
        let level = match level {
            v0_1::host::Level::Debug => "debug",
            v0_1::host::Level::Info => "info",
            v0_1::host::Level::Warn => "warn",
            v0_1::host::Level::Error => "error",
        };
        push_log(&mut self.logs, &format!("{level}: {message}"));
        Ok(())
    }
}
