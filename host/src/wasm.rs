//! Plugins: policies as WebAssembly components.
//!
//! Every call gets a fresh instance of the precompiled code, an epoch deadline, and limits on memory, tables,
//! instances and the bytes that an answer may copy to the host. WASI 0.2 is linked with an empty context, so that
//! components from any language load: no files, environment, arguments or network. The clock stands still and the
//! randomness is always the same. Both derive from the decision, so that a recorded decision can be replayed.
//!
//! May touch: the compiled-code cache. No wasmtime type leaves this module.

use std::sync::Arc;

use serde_json::Value;
use wasmtime::Store;
use wasmtime::component::{Component, Instance, InstancePre};

use crate::hooks::{Facts, Hook, HookRequest, Limits, Policy, PolicyError, PolicyKind, Reply};
use crate::workspace::sha256_hex;
pub use cache::private_folder;
pub use compile::{compile_in_processes_of, compiler_process};
pub use engine::WasmEngine;
pub use grants::Grants;
use limits::State;

mod bounds;
mod cache;
mod compile;
mod engine;
mod fit;
mod grants;
mod limits;
mod v0_1;

/// The version of the WIT package that this host supports.
pub const WIT_VERSION: &str = "0.1.0";

/// A loaded plugin with its settings.
pub struct WasmPolicy {
    name: String,
    digest: String,
    engine: Arc<WasmEngine>,
    instance: InstancePre<State>,
    exports: v0_1::Exports,
    hooks: Vec<Hook>,
    wanted_files: Vec<String>,
    settings: String,
    limits: Limits,
    grants: Grants,
}

impl WasmPolicy {
    /// Compiles a component (or takes it from the cache), reads its hooks from its exports, and lets it check its
    /// settings.
    ///
    /// # Errors
    /// Not a component, no hook of `wharf:policy`, another version of that package, an import that the host lacks,
    /// refused settings, or a trap while checking them.
    pub fn load(
        engine: &Arc<WasmEngine>,
        name: &str,
        bytes: &[u8],
        settings: &Value,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        let mut policy = Self::read(engine, name, (bytes, sha256_hex(bytes)), settings, limits)?;
        // Check all exports now, not at the first call of a hook.
        policy.fits(v0_1::Exports::fit_settings)?;
        policy.call((0, &[], None), |exports, store, instance, settings| exports.check(store, instance, settings))?.2?;
        policy.fits(v0_1::Exports::fit_hooks)?;
        policy.wanted_files = policy
            .call((0, &[], None), |exports, store, instance, settings| exports.wanted_files(store, instance, settings))?
            .2;
        policy.wanted_files.truncate(64);
        Ok(policy)
    }

    /// Does the same for a component that was loaded before with the same settings. `component` holds its bytes and
    /// its digest (SHA-256, hex). The component need not check the settings again, and its wanted files are known
    /// from that time.
    ///
    /// # Errors
    /// The errors of [`WasmPolicy::load`], except for those from the component itself.
    pub fn load_again(
        engine: &Arc<WasmEngine>,
        name: &str,
        component: (&[u8], String),
        settings: &Value,
        limits: Limits,
        wanted_files: &[String],
    ) -> Result<Self, PolicyError> {
        Ok(Self { wanted_files: wanted_files.to_vec(), ..Self::read(engine, name, component, settings, limits)? })
    }

    fn read(
        engine: &Arc<WasmEngine>,
        name: &str,
        (bytes, digest): (&[u8], String),
        settings: &Value,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        let refuse = |text: String| PolicyError::new("plugin", format!("{name}: {text}"));
        let component = engine.compile(name, bytes, &digest).map_err(&refuse)?;
        let hooks = read_exports(engine, &component).map_err(&refuse)?;
        let instance = engine.link(&component).map_err(&refuse)?;
        let exports = v0_1::Exports::read(&instance, &hooks).map_err(&refuse)?;
        Ok(Self {
            name: name.to_owned(),
            digest,
            engine: engine.clone(),
            instance,
            exports,
            hooks,
            wanted_files: Vec::new(),
            settings: settings.to_string(),
            limits,
            grants: Grants::default(),
        })
    }

    /// Checks that a part of its exports has the types of the contract.
    fn fits(
        &self,
        part: impl FnOnce(&v0_1::Exports, &mut Store<State>, &Instance) -> Result<(), (String, wasmtime::Error)>,
    ) -> Result<(), PolicyError> {
        let (_, _, fits) =
            self.call((0, &[], None), |exports, store, instance, _| Ok(part(exports, store, instance)))?;
        fits.map_err(|(interface, why)| {
            let text = fit::explain(self.engine.raw(), self.instance.component(), &interface, &why);
            PolicyError::new("plugin", format!("{}: {text}", self.name)).detail(format!("{why:?}"))
        })
    }

    /// Returns the same policy with capabilities. They are available when it is called, but not while it checks its
    /// settings.
    pub fn with_grants(self, grants: Grants) -> Self {
        Self { grants, ..self }
    }

    /// Creates a fresh instance, runs a function in it, and converts every kind of failure to one line.
    fn call<T>(
        &self,
        (now_ms, seed, facts): (u64, &[u8], Option<&Arc<Facts>>),
        run: impl FnOnce(&v0_1::Exports, &mut Store<State>, &Instance, &String) -> wasmtime::Result<T>,
    ) -> Result<(Vec<String>, u64, T), PolicyError> {
        let mut store = self.engine.store(&self.limits, &self.grants, now_ms, seed, facts.cloned())?;
        let _ticking = self.engine.tick();
        let result = self
            .instance
            .instantiate(&mut store)
            .and_then(|instance| run(&self.exports, &mut store, &instance, &self.settings));
        // Fuel never runs out, because deadlines end a plugin. It measures the cost of a call independently of the
        // machine.
        let fuel = u64::MAX - store.get_fuel().unwrap_or(u64::MAX);
        let state = store.into_data();
        match result {
            Ok(value) => Ok((state.logs, fuel, value)),
            Err(error) => Err(limits::explain(&self.limits, &state, &error)),
        }
    }
}

/// Returns whether a version of `wharf:policy` is later than the host's.
fn newer(version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> { text.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    numbers(version) > numbers(WIT_VERSION)
}

/// Reads the hooks from the component's own exports.
fn read_exports(engine: &WasmEngine, component: &Component) -> Result<Vec<Hook>, String> {
    let (mut hooks, mut seen) = (Vec::new(), Vec::new());
    for (export, _) in component.component_type().exports(engine.raw()) {
        seen.push(export.to_owned());
        let Some(rest) = export.strip_prefix("wharf:policy/") else { continue };
        let Some((interface, version)) = rest.split_once('@') else { continue };
        if !version.starts_with("0.1.") {
            let what = if newer(version) { "use a newer Wharf that has it" } else { "build it against wit/v0.1" };
            return Err(format!(
                "needs wharf:policy {version}, but this host (Wharf {}) has {WIT_VERSION}: {what}",
                env!("CARGO_PKG_VERSION")
            ));
        }
        hooks.extend(v0_1::hook_of(interface));
    }
    hooks.sort_unstable();
    if hooks.is_empty() {
        let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
        return Err(format!(
            "is not a Wharf plugin: it exports {seen}, but none of the hook interfaces of wharf:policy@{WIT_VERSION}"
        ));
    }
    Ok(hooks)
}

impl Policy for WasmPolicy {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> PolicyKind {
        PolicyKind::Plugin
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    fn wanted_files(&self) -> &[String] {
        &self.wanted_files
    }

    fn evaluate(&self, request: &HookRequest) -> Result<Reply, PolicyError> {
        let granted = if self.grants.is_empty() { None } else { Some(self.grants.digest()?) };
        let seed = crate::workspace::sha256_hex(
            format!("{}\n{}\n{}", request.hook, request.now_ms, request.facts.workspace.id).as_bytes(),
        );
        let (logs, operations, answer) = self
            .call((request.now_ms, seed.as_bytes(), Some(&request.facts)), |exports, store, instance, settings| {
                exports.evaluate(store, instance, settings, request)
            })?;
        let failed = |text: String| {
            let mut error = PolicyError::new(
                "failed",
                format!("it returned an error instead of a verdict: {}", text.replace('\n', " ")),
            );
            error.logs.clone_from(&logs);
            error
        };
        let verdict = answer.map_err(failed)?;
        // The data that it read must match the digest in the record.
        if granted.is_some() && granted != Some(self.grants.digest()?) {
            return Err(failed(
                "the files or variables that its entry grants changed during the call; try again".to_owned(),
            ));
        }
        Ok(Reply { logs: logs.clone(), operations, granted, ..Reply::from(verdict) })
    }
}
