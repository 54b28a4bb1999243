//! Scripts: policies written in Rhai, and the script that edits the configuration.
//!
//! A script defines one function per hook, named like the hook with underscores, that takes `ctx`: `fn
//! pre_create(ctx) { ctx.spec.env.TEAM = "a"; }`. It edits `ctx.spec` (or `ctx.exec`), or calls methods of `ctx`
//! (`deny`, `choose`, `run`, `note`, `stop`, `keep`, `remove`, `delay`, `log`). The host compares the spec before and
//! after the call, so that a script's edits become the same typed adjustments as a plugin's.
//!
//! [`check`], [`run_tests`], [`trace`] and [`reference()`] are tools for script authors.
//!
//! May touch: only the script's text, and the folder of its imports. No Rhai type leaves this module.

use std::collections::BTreeMap;

use rhai::{AST, CallFnOptions, Engine, EvalAltResult, Scope};
use serde_json::{Value, json};

use crate::hooks::{Denial, Hook, HookRequest, Limits, Policy, PolicyError, PolicyKind, Reply, Subject, Verdict};
pub use document::Edit;
use document::{Document, Open};
use library::{Context, Denied};

mod check;
mod configuration;
mod diagnostic;
mod document;
mod engine;
mod explanation;
mod fields;
mod files;
mod imports;
mod library;
mod missing;
mod nothing;
mod reference;
mod settings;
mod shape;
mod strict;
mod testing;
mod trace;
mod verdict;
mod weight;

pub use configuration::{ConfigInput, check_config, edit_config, trace_config};
pub use files::read_bounded;
pub use imports::Imports;
pub use reference::{Reference, reference};
pub use testing::{TestRun, Tested, run_tests};
pub use trace::{Trace, TraceLine, trace};

/// Maps with free keys in the input of hooks.
const OPEN_MAPS: &[&str] = &["env", "labels", "mounts", "tmpfs", "ports", "ulimits", "contents"];
/// See [`OPEN_MAPS`].
const OPEN: Open = Open::Named(OPEN_MAPS);

/// Maximum bytes of a script: compiling it has no deadline.
pub const SOURCE: usize = 1 << 20;

/// A compiled script with its limits and settings.
pub struct RhaiPolicy {
    name: String,
    source: String,
    digest: String,
    engine: Engine,
    ast: AST,
    hooks: Vec<Hook>,
    wanted_files: Vec<String>,
    settings: Value,
    limits: Limits,
    imports: Imports,
}

/// Returns the problems of a script and its imports without running it, in addition to errors that prevent loading;
/// see `check`. An empty list means that no problem was found.
///
/// # Errors
/// A syntax error.
pub fn check(
    name: &str,
    source: &str,
    imports: &Imports,
    settings: Option<&Value>,
    limits: &Limits,
) -> Result<Vec<PolicyError>, PolicyError> {
    let mut found = check::check(name, source, imports, settings, limits)?;
    for name in imports.names() {
        found.extend(check::check(name, imports.source(name).unwrap_or_default(), imports, None, limits)?);
    }
    Ok(found)
}

/// Returns the hook whose function has this name.
fn hook_of(function: &str) -> Option<Hook> {
    Hook::ALL.into_iter().find(|hook| hook.function() == function)
}

/// Returns the input of a hook's function, as JSON.
fn input(request: &HookRequest, settings: &Value) -> Value {
    let facts = &request.facts;
    let mut root = json!({
        "workspace": facts.workspace,
        "project": facts.project,
        "engine": facts.engine,
        "caller": facts.caller,
        "image_config": facts.image_config,
        "images": facts.local_images,
        "now_ms": request.now_ms,
        "local_minute": facts.local_time.map(|time| time.minute),
        "local_hour": facts.local_time.map(|time| time.minute / 60),
        "local_weekday": facts.local_time.map(|time| time.weekday),
        "settings": settings,
        "spec": request.spec,
    });
    let extra = match &request.subject {
        Subject::Image { requested } => json!({ "requested": requested }),
        Subject::Container => json!({}),
        Subject::Start { first_start } => json!({ "first_start": first_start }),
        Subject::Exec(exec) => json!({ "exec": exec }),
        Subject::Stop { verb } => json!({ "verb": verb }),
        Subject::Event(event) => json!({ "event": event }),
        Subject::Sweep(sweep) => json!(sweep),
    };
    if let (Value::Object(root), Value::Object(extra)) = (&mut root, extra) {
        root.extend(extra);
        // A sweep of an older Wharf has a local time too.
        if let Some(minute) = root.get("local_minute").and_then(Value::as_u64) {
            root.insert("local_hour".into(), (minute / 60).into());
        }
    }
    // A key that is left out of records is `()` for a script, not an error.
    for (part, key) in [("/caller", "uid"), ("/workspace", "owner")] {
        if let Some(Value::Object(part)) = root.pointer_mut(part) {
            part.entry(key).or_insert(Value::Null);
        }
    }
    root
}

impl RhaiPolicy {
    /// Compiles a script and lets it check its settings (`fn check(settings)`, if it defines that function).
    ///
    /// # Errors
    /// A syntax error, no hook function, a hook function with the wrong number of arguments, or refused settings.
    /// Each has file, line and column, and the marked line as detail.
    pub fn load(name: &str, source: &str, settings: Value, limits: Limits) -> Result<Self, PolicyError> {
        Self::load_with(name, source, &Imports::default(), settings, limits)
    }

    /// Does the same as [`RhaiPolicy::load`] for a script with imports.
    ///
    /// # Errors
    /// The errors of [`RhaiPolicy::load`].
    pub fn load_with(
        name: &str,
        source: &str,
        imports: &Imports,
        settings: Value,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        if source.len() > SOURCE {
            let text = format!("{name}: is larger than {} MiB, the maximum for a script", SOURCE >> 20);
            return Err(PolicyError::new("script", text));
        }
        let mut engine = engine::engine(&limits);
        engine.set_module_resolver(imports::Resolver::new(imports));
        let ast = engine.compile(source).map_err(|error| diagnostic::parse(name, source, &error))?;
        let mut hooks = Vec::new();
        for hook in Hook::ALL {
            let Some(function) = ast.iter_functions().find(|function| function.name == hook.function()) else {
                continue;
            };
            if function.params.len() != 1 {
                return Err(PolicyError::new(
                    "script",
                    format!(
                        "{name}: fn {} takes {} arguments; a hook takes one, ctx",
                        function.name,
                        function.params.len()
                    ),
                ));
            }
            hooks.push(hook);
        }
        if hooks.is_empty() {
            let all: Vec<_> = Hook::ALL.iter().map(|hook| hook.function()).collect();
            return Err(PolicyError::new(
                "script",
                format!(
                    "{name}: defines no hook; define a function such as fn pre_create(ctx), one of {}",
                    all.join(", ")
                ),
            ));
        }
        let (constants, _, _) = engine::bounded(&limits, || settings::constants(&engine, &ast));
        let script = diagnostic::Script { name, source, imports, has_entry: true, limits };
        let constants = constants
            .map_err(|error| diagnostic::run(&script, &error, None, Some(&|engine| settings::rerun(engine, &ast))))?;
        let refused = |text: String| PolicyError::new("settings", format!("{name}: its settings are invalid: {text}"));
        let settings = match settings::declared(&constants)
            .map_err(|text| PolicyError::new("script", format!("{name}: {text}")))?
        {
            Some(declared) => settings::complete(&declared, &settings).map_err(refused)?,
            None => settings,
        };
        let mut policy = Self {
            name: name.to_owned(),
            source: source.to_owned(),
            digest: imports.digest(source),
            engine,
            ast,
            hooks,
            wanted_files: Vec::new(),
            settings,
            limits,
            imports: imports.clone(),
        };
        if policy.call_optional("check")?.is_some_and(|answer| !answer.is_null()) {
            let text = format!(
                "{name}: fn check returns a value; it must reject settings with throw \"why\", and return nothing"
            );
            return Err(PolicyError::new("script", text));
        }
        if let Some(files) = policy.call_optional("wanted_files")? {
            let wrong = || PolicyError::new("script", format!("{name}: fn wanted_files must return a list of texts"));
            policy.wanted_files = serde_json::from_value(files).map_err(|_| wrong())?;
        }
        Ok(policy)
    }

    /// Does the same as [`RhaiPolicy::load_with`], but also refuses a script for which `check` finds a problem.
    ///
    /// # Errors
    /// The errors of [`RhaiPolicy::load`], and the first problem that [`check`] finds.
    pub fn load_checked(
        name: &str,
        source: &str,
        imports: &Imports,
        settings: Value,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        if source.len() <= SOURCE {
            let mut found = check(name, source, imports, Some(&settings), &limits)?.into_iter();
            if let Some(first) = found.next() {
                let others: Vec<PolicyError> = found.collect();
                if others.is_empty() {
                    return Err(first);
                }
                let message = format!("{} (and {} more: 'wharf script check' shows all)", first.message, others.len());
                let mut detail = first.detail.clone().unwrap_or_default();
                for other in others {
                    detail.push_str(&format!("\n{}\n{}", other.message, other.detail.unwrap_or_default()));
                }
                return Err(PolicyError { message, detail: Some(detail), ..first });
            }
        }
        Self::load_with(name, source, imports, settings, limits)
    }

    /// Calls `name(settings)` if the script defines it.
    fn call_optional(&self, name: &str) -> Result<Option<Value>, PolicyError> {
        if !self.ast.iter_functions().any(|function| function.name == name && function.params.len() == 1) {
            return Ok(None);
        }
        let settings = || document::to_dynamic(&self.settings);
        let (result, _, _) = engine::bounded(&self.limits, || self.call(&self.engine, name, settings()));
        let value = result.map_err(|error| self.explained(&error, &|engine| self.call(engine, name, settings())))?;
        document::from_dynamic(&value, &mut 0).map(Some).map_err(|text| PolicyError::new("script", text))
    }

    fn call(
        &self,
        engine: &Engine,
        function: &str,
        argument: rhai::Dynamic,
    ) -> Result<rhai::Dynamic, Box<EvalAltResult>> {
        // The top-level statements of a script define its constants (`const CEILING = gib(2);`, read as
        // `global::CEILING`), so they run before each call. The scope is fresh each time.
        let options = CallFnOptions::new().eval_ast(true).rewind_scope(true);
        engine.call_fn_with_options(options, &mut Scope::new(), &self.ast, function, (argument,))
    }

    /// Converts an error for users. Rhai does not report the keys of the map in which a key is missing, so the call
    /// is repeated to find them.
    fn explained(&self, error: &EvalAltResult, again: &missing::Again) -> PolicyError {
        let keys = missing::keys(error, &self.limits, &self.imports, again);
        let script = diagnostic::Script {
            name: &self.name,
            source: &self.source,
            imports: &self.imports,
            has_entry: true,
            limits: self.limits,
        };
        diagnostic::run(&script, error, keys, Some(again))
    }

    /// Returns the engine, for an observer.
    fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

impl Policy for RhaiPolicy {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> PolicyKind {
        PolicyKind::Script
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
        let writable = match request.hook {
            Hook::SelectImage | Hook::SecurityProfile | Hook::PreCreate => vec![vec!["spec".to_owned()]],
            Hook::PreExec => vec![vec!["exec".to_owned()]],
            _ => vec![],
        };
        let fresh = || Context::new(Document::new(input(request, &self.settings), writable.clone(), OPEN));
        let ctx = fresh();
        let function = request.hook.function();
        let argument = rhai::Dynamic::from(ctx.clone());
        let (result, operations, logs) = engine::bounded(&self.limits, || {
            nothing::missed();
            self.call(&self.engine, function, argument)
        });
        // Even a denial's text may have used a missing key.
        if let Some(text) = nothing::missed() {
            return Err(PolicyError { logs, ..PolicyError::new("script", format!("{}: {text}", self.name)) });
        }
        let reply = |verdict, lines, deny_line| Reply {
            verdict,
            lines,
            deny_line,
            logs: logs.clone(),
            operations,
            granted: None,
        };
        match result {
            Ok(value) if !value.is_unit() => {
                let (kind, answers) = (strict::kind(&value), verdict::answers(request.hook));
                let text = format!(
                    "{}: fn {function} returns {kind}, which the host ignores; a hook {answers}, and returns (): end \
                     it with 'return;'",
                    self.name
                );
                Err(PolicyError { logs, ..PolicyError::new("bad-answer", text) })
            }
            Ok(_) => {
                let (verdict, lines) =
                    self.verdict(request, &ctx).map_err(|error| PolicyError { logs: logs.clone(), ..error })?;
                Ok(reply(verdict, lines, None))
            }
            Err(error) => {
                let denial = if is_denial(&error) {
                    ctx.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).denial.take()
                } else {
                    None
                };
                match denial {
                    Some((code, reason, line)) => {
                        Ok(reply(Verdict::Deny(Denial { reason, code }), BTreeMap::new(), Some(line)))
                    }
                    None => {
                        let again = |engine: &Engine| self.call(engine, function, rhai::Dynamic::from(fresh()));
                        Err(PolicyError { logs, ..self.explained(&error, &again) })
                    }
                }
            }
        }
    }
}

/// Returns whether an error is the termination by `ctx.deny`, and not a deadline.
fn is_denial(error: &EvalAltResult) -> bool {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => is_denial(inner),
        EvalAltResult::ErrorTerminated(token, _) => token.is::<Denied>(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
