//! Traces a script line by line: the executed statements and the changed values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rhai::debugger::DebuggerCommand;
use rhai::{ASTNode, Dynamic, Engine};

use super::library::Context;
use super::{Imports, RhaiPolicy};
use crate::hooks::{HookRequest, Limits, Policy, PolicyError, Reply};

/// Maximum lines of a trace: an endless loop must not fill the memory.
const MOST_LINES: usize = 10_000;
/// Maximum length of a shown value, in characters.
const VALUE: usize = 100;

/// One executed statement.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TraceLine {
    /// The imported script that contains it; none for the script itself.
    pub file: Option<String>,
    /// 1-based line.
    pub line: usize,
    /// The source line.
    pub text: String,
    /// The depth of function calls.
    pub depth: usize,
    /// Variables that are new, or changed since the last line ran.
    pub values: Vec<(String, String)>,
}

/// A trace, and the result of the call.
pub struct Trace<T = Reply> {
    /// The lines in order of execution.
    pub lines: Vec<TraceLine>,
    /// Whether the trace was truncated.
    pub cut: bool,
    /// The same result as without a trace.
    pub result: Result<T, PolicyError>,
}

/// The lines that an observed engine has executed.
#[derive(Default)]
pub(super) struct Seen {
    lines: Vec<TraceLine>,
    cut: bool,
    /// (Depth, variable) -> the value last shown.
    values: BTreeMap<(usize, String), String>,
    last: Option<(Option<String>, usize, usize)>,
}

/// Runs a script on a request, statement by statement. It gets extra time, because a trace is slower than a normal
/// run.
///
/// # Errors
/// An error if the script does not load. An error of the call itself is in the result.
pub fn trace(
    name: &str,
    source: &str,
    imports: &Imports,
    settings: serde_json::Value,
    limits: Limits,
    request: &HookRequest,
) -> Result<Trace, PolicyError> {
    let limits = Limits { timeout: limits.timeout * 20, ..limits };
    let mut policy = RhaiPolicy::load_with(name, source, imports, settings, limits)?;
    let seen = observe(policy.engine_mut(), source, imports);
    let result = policy.evaluate(request);
    Ok(Seen::finish(&seen, result))
}

/// Makes an engine note each statement that it executes from now on.
#[allow(deprecated)] // Rhai marks its debugger so, because it may change.
pub(super) fn observe(engine: &mut Engine, source: &str, imports: &Imports) -> Arc<Mutex<Seen>> {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (noted, main) = (seen.clone(), source.to_owned());
    let files = imports.clone();
    engine.register_debugger(
        |_, debugger| debugger,
        move |context, _, node, file, at| {
            let begins = !matches!(node, ASTNode::Stmt(rhai::Stmt::Noop(_) | rhai::Stmt::Block(_)));
            if let (true, Some(line)) = (begins, at.line()) {
                let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let file = file.filter(|file| !file.is_empty()).map(str::to_owned);
                let text = file.as_deref().map_or(Some(main.as_str()), |file| files.source(file));
                let text = text.and_then(|text| text.lines().nth(line - 1)).unwrap_or_default().to_owned();
                let variables = context.scope().iter_raw().map(|(name, _, value)| (name.to_owned(), shown(value)));
                seen.note(file, line, text, context.call_level(), variables.collect());
            }
            Ok(DebuggerCommand::StepInto)
        },
    );
    seen
}

impl Seen {
    /// Combines the lines with the result of the call.
    pub(super) fn finish<T>(seen: &Mutex<Self>, result: Result<T, PolicyError>) -> Trace<T> {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        Trace { lines: std::mem::take(&mut seen.lines), cut: seen.cut, result }
    }

    fn note(
        &mut self,
        file: Option<String>,
        line: usize,
        text: String,
        depth: usize,
        variables: Vec<(String, String)>,
    ) {
        let mut values = Vec::new();
        for (name, value) in variables.into_iter().rev() {
            let key = (depth, name);
            if self.values.get(&key) != Some(&value) {
                values.push((key.1.clone(), value.clone()));
                self.values.insert(key, value);
            }
        }
        // The effect of a line shows when the next line begins. Of several statements on one line, the first is
        // shown.
        let place = (file.clone(), line, depth);
        if self.lines.len() >= MOST_LINES {
            self.cut = true;
            return;
        }
        if self.last.as_ref() == Some(&place) && values.is_empty() {
            return;
        }
        self.last = Some(place);
        self.lines.push(TraceLine { file, line, text, depth, values });
    }
}

/// Formats a value on one line, truncated.
fn shown(value: &Dynamic) -> String {
    let text = if value.is::<Context>() {
        "(input of the hook)".to_owned()
    } else if let Some(document) = value.read_lock::<super::Document>() {
        // Only a configuration script has the whole document as a variable.
        if document.is_root() { "(the configuration)".to_owned() } else { document.value().to_string() }
    } else {
        match super::document::from_dynamic(value, &mut 0) {
            Ok(json) => json.to_string(),
            Err(_) => value.type_name().to_owned(),
        }
    };
    if text.chars().count() > VALUE { format!("{}...", text.chars().take(VALUE - 3).collect::<String>()) } else { text }
}
