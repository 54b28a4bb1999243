//! The only constructor: configuration -> chain, store, engine. Each is created on first use, so that `wharf plan`
//! needs no engine and `wharf config show` no store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::builtin;
use crate::config::{self, Loaded, Origin, PolicyConfig, Sources};
use crate::docker::Docker;
use crate::hooks::chain::Entry;
use crate::hooks::validate::Guarded;
use crate::hooks::{Chain, Hook, Limits, Policy, PolicyError, PolicyKind};
use crate::lifecycle::Lifecycle;
use crate::script::RhaiPolicy;
use crate::store::Store;
use crate::wasm::{Grants, WasmEngine, WasmPolicy};
use crate::workspace::sha256_hex;
use crate::{lifecycle, store};

/// Error code of a policy whose file other users can change.
const UNTRUSTED: &str = "untrusted";
/// Error code of a built-in policy that is missing from this build of the program.
const NOT_BUILT: &str = "not-built";

pub mod cases;
mod lazy;
mod policies;
mod protected_files;
mod read;
mod replays;
pub mod scripts;

pub use policies::PolicyView;
use read::Bytes;

/// One engine for all plugins, created when the first plugin is loaded.
type SharedEngine = Arc<OnceLock<Result<Arc<WasmEngine>, String>>>;

/// The parts of a Wharf process.
#[derive(Clone)]
pub struct App {
    /// The sources of the configuration, for reloading it.
    pub sources: Sources,
    /// The checked configuration.
    pub loaded: Loaded,
    /// The state folder.
    pub state_dir: PathBuf,
    /// Whether this process makes many decisions: plugins then run in a pool, see [`WasmEngine::pooled`].
    pub long_lived: bool,
    /// Whether this process's command has just called [`App::check_trust`].
    pub checked: bool,
    /// The imported scripts of each script policy at its last reading: they are a part of the policy.
    pub(crate) imported: Arc<Mutex<BTreeMap<PathBuf, Vec<PathBuf>>>>,
}

/// A policy of the configuration, with the result of loading it.
pub struct LoadedPolicy {
    /// Its entry in the configuration.
    pub config: PolicyConfig,
    /// Its origin: a path, or `builtin`.
    pub source: String,
    /// Its entry in the chain, or the error.
    pub result: Result<Entry, PolicyError>,
}

impl App {
    /// Combines configuration and state folder.
    pub fn new(sources: Sources, loaded: Loaded, state_dir: PathBuf) -> Self {
        Self { sources, loaded, state_dir, long_lived: false, imported: Arc::default(), checked: false }
    }

    /// Returns the same app with the configuration reloaded from its sources.
    ///
    /// # Errors
    /// See [`config::load`].
    pub fn reloaded(&self) -> Result<Self, config::Error> {
        let app = Self { loaded: config::load(&self.sources)?, ..self.clone() };
        app.check_trust()?;
        Ok(app)
    }

    /// Returns the default state folder: `WHARF_STATE_DIR`, `/var/lib/wharf` for root, or `wharf` in
    /// `$XDG_STATE_HOME`.
    pub fn usual_state_dir() -> PathBuf {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(dir) = var("WHARF_STATE_DIR") {
            return dir;
        }
        if let Some(dir) = var("XDG_STATE_HOME").filter(|dir| dir.is_absolute()) {
            return dir.join("wharf");
        }
        match var("HOME") {
            Some(home) if home != Path::new("/root") && home != Path::new("/") => home.join(".local/state/wharf"),
            _ => PathBuf::from("/var/lib/wharf"),
        }
    }

    /// Loads every policy of the configuration, or the built-in policies if it names none. A policy known from an
    /// earlier load is loaded lazily, at its first call; `now` loads it immediately.
    pub fn load_policies(&self, now: bool) -> Vec<LoadedPolicy> {
        let wasm = SharedEngine::default();
        builtin::chain(&self.loaded.config).into_iter().map(|config| self.load(config, &wasm, now)).collect()
    }

    /// Loads one policy, which need not be in the chain.
    pub fn load_policy(&self, config: PolicyConfig) -> LoadedPolicy {
        self.load(config, &SharedEngine::default(), true)
    }

    fn load(&self, config: PolicyConfig, wasm: &SharedEngine, now: bool) -> LoadedPolicy {
        let (source, bytes) = self.read(&config);
        let result = bytes.and_then(|bytes| {
            let settings = serde_json::Value::Object(config.settings.clone());
            let (name, limits, folder) = (config.name.clone(), config.limits(), self.state_dir.join("compiled"));
            let (kind, digest) = match &bytes {
                Bytes::Script(text, imports) => (PolicyKind::Script, imports.digest(text)),
                Bytes::Plugin(_, digest) => (PolicyKind::Plugin, digest.clone()),
            };
            let (wasm, given, compiled) = (wasm.clone(), settings.clone(), folder.clone());
            // A caller that checks whether it loads gets the result that a service would get.
            let pool = (self.long_lived || now).then(|| self.most_memory());
            let (base, capabilities) = (self.loaded.base(), config.capabilities.clone());
            let known = digest.clone();
            let load = move |wanted: Option<&[String]>| -> Result<Arc<dyn Policy>, PolicyError> {
                Ok(match &bytes {
                    Bytes::Script(text, imports) => {
                        // A policy that was loaded before was already checked then.
                        let load = if wanted.is_none() { RhaiPolicy::load_checked } else { RhaiPolicy::load_with };
                        Arc::new(load(&name, text, imports, given.clone(), limits)?)
                    }
                    Bytes::Plugin(bytes, _) => {
                        // Created only at the first plugin: users of scripts alone should not pay for it.
                        let make = || match pool {
                            Some(memory) => WasmEngine::pooled(Some(&compiled), memory).map(Arc::new),
                            None => WasmEngine::new(Some(&compiled)).map(Arc::new),
                        };
                        let engine = wasm.get_or_init(make);
                        let engine = engine.as_ref().map_err(|text| PolicyError::new("plugin", text.clone()))?;
                        let dirs = capabilities.dirs.iter().map(|(path, dir)| (path.clone(), base.join(dir))).collect();
                        let grants = Grants::new(dirs, &capabilities.env);
                        let policy = match wanted {
                            None => WasmPolicy::load(engine, &name, bytes, &given, limits)?,
                            Some(wanted) => {
                                let component = (&bytes[..], known.clone());
                                WasmPolicy::load_again(engine, &name, component, &given, limits, wanted)?
                            }
                        };
                        Arc::new(policy.with_grants(grants))
                    }
                })
            };
            let policy = match now {
                true => load(None)?,
                false => {
                    let identity = lazy::Identity { name: &config.name, kind, digest, settings: &settings, limits };
                    lazy::policy(&identity, &folder, Box::new(load))?
                }
            };
            entry(&config, policy, &settings)
        });
        let result = result.map_err(|error| self.with_place(&config.name, error));
        LoadedPolicy { config, source, result }
    }

    /// Adds the line of `wharf.toml` to an error about a policy's settings, and the setting that was probably meant.
    fn with_place(&self, policy: &str, error: PolicyError) -> PolicyError {
        if error.code != "settings" {
            return error;
        }
        let hint = if error.message.contains("did you mean") { None } else { meant(&error.message) };
        let hint = hint.map_or(String::new(), |known| format!("; did you mean '{known}'?"));
        let place = self.loaded.place_of_settings(policy, &error.message).filter(|place| *place != Origin::Default);
        let place = place.map_or(String::new(), |place| format!("{place}: "));
        PolicyError { message: format!("{place}{}{hint}", error.message), ..error }
    }

    /// Returns the highest memory limit of all configured policies, in bytes.
    fn most_memory(&self) -> usize {
        let configured = self.loaded.config.policy.iter().map(|policy| policy.limits().memory);
        configured.chain([Limits::default().memory]).max().unwrap_or_default().min(4 << 30)
    }

    /// Returns the chain for decisions.
    ///
    /// # Errors
    /// An error if a policy that is not optional cannot be loaded: Wharf does not decide with half a chain.
    pub fn chain(&self) -> Result<Chain, lifecycle::Error> {
        self.chain_of(self.load_policies(false))
    }

    /// Returns the chain with every policy compiled and its settings checked in advance. The policies in `running`
    /// are not optional: a policy that decides now is not skipped because its file was broken meanwhile.
    ///
    /// # Errors
    /// The errors of [`App::chain`].
    pub fn checked_chain(&self, running: &BTreeMap<String, String>) -> Result<Chain, lifecycle::Error> {
        let mut policies = self.load_policies(true);
        for policy in &mut policies {
            policy.config.optional &= !running.contains_key(&policy.config.name);
        }
        self.chain_of(policies)
    }

    fn chain_of(&self, policies: Vec<LoadedPolicy>) -> Result<Chain, lifecycle::Error> {
        let mut entries = Vec::new();
        for policy in policies {
            match policy.result {
                Ok(entry) => entries.push(entry),
                // A file that others can write does not count as absent, and a program without a built-in policy is
                // incomplete.
                Err(error) if policy.config.optional && ![UNTRUSTED, NOT_BUILT].contains(&error.code) => {
                    tracing::warn!(policy = policy.config.name, "skipped, because it is optional: {error}");
                }
                Err(error) => {
                    return Err(lifecycle::Error::PolicyNotLoaded {
                        policy: policy.config.name,
                        from: policy.source,
                        error,
                    });
                }
            }
        }
        let mut invariants = lifecycle::invariants(&self.loaded, &self.state_dir);
        // The imports are only known after the policies were read.
        let guarded =
            |path| Guarded { path, because: "contains a script that a policy imports".to_owned(), engine: false };
        invariants.guarded.extend(self.imports().into_iter().map(guarded));
        Ok(Chain::new(entries, invariants))
    }

    /// Returns the chain for a process that ends with its verb. The chain is never freed, because that would take 3
    /// ms.
    ///
    /// # Errors
    /// The errors of [`App::chain`].
    fn lasting_chain(&self) -> Result<Chain, lifecycle::Error> {
        let chain = self.chain()?;
        std::mem::forget(chain.clone());
        Ok(chain)
    }

    /// Opens the store, unless other users can change it.
    ///
    /// # Errors
    /// See [`store::check`] and [`Store::open`].
    pub fn store(&self) -> Result<Store, store::Error> {
        // A command has just checked; a service checks each time.
        if self.long_lived || !self.checked {
            store::check(&self.state_dir)?;
        }
        Store::open(&self.state_dir)
    }

    /// Connects to the engine.
    ///
    /// # Errors
    /// See [`Docker::connect`].
    pub async fn docker(&self, host_id: &str) -> Result<Docker, crate::docker::Error> {
        let engine = &self.loaded.config.engine;
        let docker = Docker::connect(engine.endpoint.as_deref(), host_id).await?;
        Ok(docker.with_local_files(engine.local_files).with_memory(self.state_dir.join("engine.json")))
    }

    /// Combines all parts to a lifecycle, which carries out verbs.
    ///
    /// # Errors
    /// An error if the store or the engine is not available. The chain is loaded when a verb first calls it.
    pub async fn lifecycle(&self) -> Result<Lifecycle, lifecycle::Error> {
        let app = self.clone();
        self.lifecycle_with(Arc::new(move || app.chain())).await
    }

    /// Does the same as [`App::lifecycle`] for a verb that calls policies at these hooks. They are loaded on a
    /// separate thread while the store is opened and the engine is queried. A loading error appears when a policy is
    /// called.
    ///
    /// # Errors
    /// The errors of [`App::lifecycle`].
    pub async fn deciding(&self, hooks: &'static [Hook]) -> Result<Lifecycle, lifecycle::Error> {
        let (early, late) = (self.clone(), self.clone());
        let (to, chain) = std::sync::mpsc::channel();
        let load = move || {
            let chain = early.lasting_chain();
            let loaded = chain.as_ref().ok().cloned();
            // The receiver is gone if the verb has already failed.
            let _ = to.send(chain);
            if let Some(chain) = loaded {
                chain.prepare(hooks);
            }
        };
        // Without a thread, the chain is loaded on first use.
        let early = std::thread::Builder::new().name("wharf-chain".into()).spawn(load).is_ok();
        let chain = Mutex::new(early.then_some(chain));
        let load = move || match chain.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(chain) => chain
                .recv()
                .unwrap_or_else(|_| Err(lifecycle::Error::Internal("a panic while loading the policies".to_owned()))),
            None => late.lasting_chain(),
        };
        self.lifecycle_with(Arc::new(load)).await
    }

    /// Returns the chain for a process that ends with its verb and calls the chain at these hooks. The policies are
    /// prepared on a separate thread.
    ///
    /// # Errors
    /// The errors of [`App::chain`].
    pub fn prepared_chain(&self, hooks: &'static [Hook]) -> Result<Chain, lifecycle::Error> {
        let chain = self.lasting_chain()?;
        let preparing = chain.clone();
        // Without a thread it just takes longer.
        let _ = std::thread::Builder::new().name("wharf-chain".into()).spawn(move || preparing.prepare(hooks));
        Ok(chain)
    }

    async fn lifecycle_with(&self, load_chain: Arc<lifecycle::LoadChain>) -> Result<Lifecycle, lifecycle::Error> {
        let store = self.store()?;
        let docker = self.docker(store.host_id()).await?;
        let lifecycle = Lifecycle::new(self.loaded.clone(), load_chain, store, docker).await?;
        Ok(if self.long_lived { lifecycle.of_a_service() } else { lifecycle })
    }
}

/// Returns the setting that was probably meant, from a plugin's words: "unknown field `trustd`, expected `trusted`".
fn meant(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown field ")?;
    let quote = rest.chars().next().filter(|quote| ['`', '\''].contains(quote))?;
    let mut quoted = rest.split(quote).skip(1).step_by(2);
    let unknown = quoted.next()?;
    let (slips, near) = quoted.map(|known| (strsim::damerau_levenshtein(known, unknown), known)).min()?;
    (slips <= 2 && slips < unknown.len()).then(|| near.to_owned())
}

/// Creates the chain entry of a loaded policy, with the hooks to use.
fn entry(config: &PolicyConfig, policy: Arc<dyn Policy>, settings: &serde_json::Value) -> Result<Entry, PolicyError> {
    let has = policy.hooks();
    let hooks = match &config.hooks {
        None => has.to_vec(),
        Some(wanted) => {
            let wanted: Vec<Hook> = wanted.iter().filter_map(|name| name.parse().ok()).collect();
            if let Some(lacking) = wanted.iter().find(|hook| !has.contains(hook)) {
                let has: Vec<_> = has.iter().map(|hook| hook.as_str()).collect();
                return Err(PolicyError::new(
                    "kind",
                    format!("{}: it does not implement {lacking}; it implements {}", config.name, has.join(", ")),
                ));
            }
            wanted
        }
    };
    if let Some((hook, _)) = config.on_error().into_iter().find(|(hook, _)| !hooks.contains(hook)) {
        return Err(PolicyError::new(
            "kind",
            format!("{}: on_error names {hook}, but the policy is not asked at that hook", config.name),
        ));
    }
    Ok(Entry {
        hooks,
        scope: config.scope.clone(),
        may_override: config.may_override.clone(),
        settings_digest: sha256_hex(settings.to_string().as_bytes()),
        mode: config.mode,
        replaces: config.replaces.clone(),
        waivers: config.waivers.clone(),
        on_error: config.on_error(),
        breaker: config.breaker(),
        rollback: config.rollback(),
        ..Entry::new(policy)
    })
}
