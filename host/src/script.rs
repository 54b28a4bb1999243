//! Scripts: policies written in Rhai, and the script that edits the configuration.
//!
//! A script defines one function per hook, named like the hook with underscores, that takes `ctx`:
//! `fn pre_create(ctx) { ctx.spec.env.TEAM = "a"; }`. It edits `ctx.spec` (or `ctx.exec`), or calls methods of `ctx`
//! (`deny`, `choose`, `run`, `note`, `stop`, `keep`, `remove`, `delay`, `log`). The host compares the spec before and
//! after, so that a script's edits become the same typed adjustments that a plugin makes.
//!
//! [`check`], [`run_tests`], [`trace`] and [`reference`] are for those who write scripts.
//!
//! May touch: nothing but the script's text, and the folder that it imports others from. No Rhai type leaves this module.

use std::collections::BTreeMap;
use std::path::Path;

use rhai::{AST, CallFnOptions, Engine, EvalAltResult, Scope};
use serde_json::{Value, json};

use crate::hooks::adjust::{diff, diff_exec};
use crate::hooks::{Denial, Hook, HookRequest, Limits, Policy, PolicyError, PolicyKind, Reply, Subject, Verdict};
pub use document::Edit;
use document::{Document, Open};
use library::{Context, Denied};

mod check;
mod diagnostic;
mod document;
mod engine;
mod imports;
mod library;
mod reference;
mod shape;
mod testing;
mod trace;
mod weight;

pub use imports::Imports;
pub use reference::{Reference, reference};
pub use testing::{TestRun, Tested, run_tests};
pub use trace::{Trace, TraceLine, trace};

/// Maps whose keys are free, in what hooks see.
const OPEN_MAPS: &[&str] = &["env", "labels", "mounts", "tmpfs", "ports", "ulimits", "contents"];
/// See [`OPEN_MAPS`].
const OPEN: Open = Open::Named(OPEN_MAPS);

/// Most bytes of a script: compiling it has no deadline.
const SOURCE: usize = 1 << 20;

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

/// Says what is wrong with a script without running it, beyond what keeps it from loading; see `check`. Empty means that
/// nothing was found.
///
/// # Errors
/// A syntax error.
pub fn check(name: &str, source: &str, limits: &Limits) -> Result<Vec<PolicyError>, PolicyError> {
    check::check(name, source, limits)
}

/// The hook whose function has this name.
fn hook_of(function: &str) -> Option<Hook> {
    Hook::ALL.into_iter().find(|hook| hook.function() == function)
}

/// What a hook's function is given, as JSON.
fn input(request: &HookRequest, settings: &Value) -> Value {
    let facts = &request.facts;
    let mut root = json!({
        "workspace": facts.workspace,
        "project": facts.project,
        "engine": facts.engine,
        "images": facts.local_images,
        "now_ms": request.now_ms,
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
    }
    root
}

impl RhaiPolicy {
    /// Compiles a script and lets it check its settings (`fn check(settings)`, if it defines one).
    ///
    /// # Errors
    /// A syntax error, no hook function, a hook function with the wrong number of arguments, refused settings: with
    /// file, line and column, and the marked line as detail.
    pub fn load(name: &str, source: &str, settings: Value, limits: Limits) -> Result<Self, PolicyError> {
        Self::load_with(name, source, &Imports::default(), settings, limits)
    }

    /// The same for a script that imports others.
    ///
    /// # Errors
    /// As [`RhaiPolicy::load`].
    pub fn load_with(
        name: &str,
        source: &str,
        imports: &Imports,
        settings: Value,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        if source.len() > SOURCE {
            let text = format!("{name}: is larger than {} MiB, the most that a script may have", SOURCE >> 20);
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
        policy.call_optional("check")?;
        if let Some(files) = policy.call_optional("wanted_files")? {
            let wrong = || PolicyError::new("script", format!("{name}: fn wanted_files must return a list of texts"));
            policy.wanted_files = serde_json::from_value(files).map_err(|_| wrong())?;
        }
        Ok(policy)
    }

    /// Calls `name(settings)` if the script defines it.
    fn call_optional(&self, name: &str) -> Result<Option<Value>, PolicyError> {
        if !self.ast.iter_functions().any(|function| function.name == name && function.params.len() == 1) {
            return Ok(None);
        }
        let settings = document::to_dynamic(&self.settings);
        let (result, _, _) = engine::bounded(&self.limits, || self.call(name, settings));
        let value = result.map_err(|error| diagnostic::run(&self.name, &self.source, &error, &self.imports))?;
        document::from_dynamic(&value, &mut 0).map(Some).map_err(|text| PolicyError::new("script", text))
    }

    fn call(&self, function: &str, argument: rhai::Dynamic) -> Result<rhai::Dynamic, Box<EvalAltResult>> {
        // The statements at the top of a script are its constants (`const CEILING = gib(2);`, read as
        // `global::CEILING`), so they run before each call; the scope is fresh each time.
        let options = CallFnOptions::new().eval_ast(true).rewind_scope(true);
        self.engine.call_fn_with_options(options, &mut Scope::new(), &self.ast, function, (argument,))
    }

    /// The engine, for who watches it.
    fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn verdict(&self, request: &HookRequest, ctx: &Context) -> Result<(Verdict, BTreeMap<String, usize>), PolicyError> {
        let (mut root, edits) = ctx.document.finish();
        let asked = std::mem::take(&mut *ctx.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let (hook, name) = (request.hook, &self.name);
        let misplaced = |what: &str| PolicyError::new("bad-answer", format!("{name}: {what} means nothing at {hook}"));
        if !asked.verdicts.is_empty() && hook != Hook::Cleanup {
            return Err(misplaced("ctx.keep, ctx.stop(id, reason) or ctx.remove"));
        }
        if !asked.actions.is_empty() && !matches!(hook, Hook::PostStart | Hook::PreStop | Hook::Event) {
            return Err(misplaced("ctx.run, ctx.note or ctx.stop"));
        }
        // Reading a whole spec back costs more than all that a script does.
        let mut edited = |key: &str| root.get_mut(key).map(Value::take).unwrap_or_default();
        let adjustments = match (hook, &request.subject) {
            (Hook::PostStart | Hook::PreStop | Hook::Event, _) => {
                let verdict = match asked.actions.is_empty() && asked.delay_ms.is_none() {
                    true => Verdict::Pass,
                    false => Verdict::Act { actions: asked.actions, delay_ms: asked.delay_ms },
                };
                return Ok((verdict, BTreeMap::new()));
            }
            (Hook::Cleanup, _) => {
                let verdict = match asked.verdicts.is_empty() {
                    true => Verdict::Pass,
                    false => Verdict::Sweep(asked.verdicts),
                };
                return Ok((verdict, BTreeMap::new()));
            }
            _ if edits.is_empty() => Vec::new(),
            (Hook::PreExec, Subject::Exec(before)) => {
                diff_exec(before, &self.read_back(edited("exec"), "exec", &edits)?)
            }
            _ => diff(&request.spec, &self.read_back(edited("spec"), "spec", &edits)?),
        };
        if adjustments.is_empty() {
            return Ok((Verdict::Pass, BTreeMap::new()));
        }
        let lines = adjustments.iter().filter_map(|adjustment| {
            let field = adjustment.field();
            line_of(&edits, &field).map(|line| (field, line))
        });
        let lines = lines.collect();
        Ok((Verdict::Adjust(adjustments), lines))
    }

    /// Reads an edited value back into its type; an error names the field and the line that set it.
    fn read_back<T: serde::de::DeserializeOwned>(
        &self,
        value: Value,
        root: &str,
        edits: &[Edit],
    ) -> Result<T, PolicyError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let field = error.path().to_string();
            let at = match line_of(edits, &field) {
                Some(line) => format!("{}:{line}", self.name),
                None => self.name.clone(),
            };
            PolicyError::new("bad-answer", format!("{at}: {root}.{field}: {}", error.inner()))
        })
    }
}

/// The line of the last edit at, above or below a field. The first key of an edit's path (`spec`) is not in the field.
fn line_of(edits: &[Edit], field: &str) -> Option<usize> {
    edits.iter().rev().filter(|edit| edit.line > 0).find_map(|edit| {
        let path = edit.path.get(1..)?.join(".");
        let related = path == field
            || field.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'))
            || path.strip_prefix(field).is_some_and(|rest| rest.starts_with('.'));
        related.then_some(edit.line)
    })
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
        let ctx = Context::new(Document::new(input(request, &self.settings), writable, OPEN));
        let argument = rhai::Dynamic::from(ctx.clone());
        let (result, operations, logs) = engine::bounded(&self.limits, || self.call(request.hook.function(), argument));
        let reply = |verdict, lines, deny_line| Reply {
            verdict,
            lines,
            deny_line,
            logs: logs.clone(),
            operations,
            granted: None,
        };
        match result {
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
                        Err(PolicyError { logs, ..diagnostic::run(&self.name, &self.source, &error, &self.imports) })
                    }
                }
            }
        }
    }
}

/// Whether an error is the end that `ctx.deny` makes, and not a deadline.
fn is_denial(error: &EvalAltResult) -> bool {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => is_denial(inner),
        EvalAltResult::ErrorTerminated(token, _) => token.is::<Denied>(),
        _ => false,
    }
}

/// Runs `config(c)` of a configuration script over the loaded configuration. `c.host` and `c.vars` can only be read.
///
/// # Errors
/// As for policies; a script without `fn config(c)` is refused.
pub fn edit_config(path: &Path, source: &str, config: Value, given: Value) -> Result<(Value, Vec<Edit>), PolicyError> {
    let name = path.display().to_string();
    let limits = Limits::default();
    let engine = engine::engine(&limits);
    let ast = engine.compile(source).map_err(|error| diagnostic::parse(&name, source, &error))?;
    if !ast.iter_functions().any(|function| function.name == "config" && function.params.len() == 1) {
        return Err(PolicyError::new(
            "script",
            format!("{name}: defines no fn config(c); write one or take the file away"),
        ));
    }
    let mut root = config;
    let mut writable = Vec::new();
    if let (Value::Object(root), Value::Object(given)) = (&mut root, given) {
        writable.extend(root.keys().map(|key| vec![key.clone()]));
        root.extend(given);
    }
    let document = Document::new(root, writable, Open::All);
    let argument = rhai::Dynamic::from(document.clone());
    let options = CallFnOptions::new().eval_ast(true);
    let (result, _, _) = engine::bounded(&limits, || {
        engine.call_fn_with_options::<rhai::Dynamic>(options, &mut Scope::new(), &ast, "config", (argument,))
    });
    let _ = result.map_err(|error| diagnostic::run(&name, source, &error, &Imports::default()))?;
    let (mut root, edits) = document.finish();
    if let Value::Object(root) = &mut root {
        root.remove("host");
        root.remove("vars");
    }
    Ok((root, edits))
}

#[cfg(test)]
mod tests;
