//! Script errors for users: one line with file, line and cause as the message, and the source line with a caret as the
//! detail. The detail does not repeat the message, since both are printed.

use rhai::{EvalAltResult, ParseError, Position};

use super::missing::Again;
use super::{Imports, explanation};
use crate::hooks::{Limits, PolicyError};

/// Converts a syntax error.
pub(super) fn parse(name: &str, source: &str, error: &ParseError) -> PolicyError {
    located("script", name, source, error.position(), &error.err_type().to_string(), &[])
}

/// A script, for its run-time errors.
#[derive(Clone, Copy)]
pub(super) struct Script<'a> {
    pub(super) name: &'a str,
    pub(super) source: &'a str,
    pub(super) imports: &'a Imports,
    /// Whether an entry of the configuration can raise its limits.
    pub(super) has_entry: bool,
    /// The limits of the call.
    pub(super) limits: Limits,
}

/// Converts a run-time error: the innermost position, and the chain of function calls that led there. `keys` are those
/// of the map in which a key was missing, and `again` repeats the call, to find an endless loop.
pub(super) fn run(
    script: &Script,
    error: &EvalAltResult,
    keys: Option<Vec<String>>,
    again: Option<&Again>,
) -> PolicyError {
    let mut calls = Vec::new();
    let mut at = error;
    // The file of the innermost function.
    let (mut name, mut source) = (script.name, script.source);
    loop {
        match at {
            EvalAltResult::ErrorInFunctionCall(function, file, inner, position) => {
                calls.push((function.clone(), *position));
                if let Some(text) = script.imports.source(file) {
                    (name, source) = (file, text);
                }
                at = inner;
            }
            EvalAltResult::ErrorInModule(file, inner, _) => {
                if let Some(text) = script.imports.source(file) {
                    (name, source) = (file, text);
                }
                at = inner;
            }
            _ => break,
        }
    }
    let (code, text) = words(script, at, source, keys.as_deref());
    if !["operations-limit", "timeout"].contains(&code) {
        return located(code, name, source, at.position(), &text, &calls);
    }
    let (name, source, begin) = explanation::endless(script, at.position(), again);
    located(code, name, source, begin, &text, &calls)
}

/// Returns code and text of an error.
fn words(script: &Script, at: &EvalAltResult, source: &str, keys: Option<&[String]>) -> (&'static str, String) {
    let raise = |setting: &str| if script.has_entry { format!("raise '{setting}' or ") } else { String::new() };
    let too_many = || {
        let text = format!("ran more operations than allowed; {}look for an endless loop", raise("operations"));
        ("operations-limit", text)
    };
    match at {
        EvalAltResult::ErrorTooManyOperations(_) => too_many(),
        EvalAltResult::ErrorTerminated(token, _) if token.is::<super::engine::TooMany>() => too_many(),
        EvalAltResult::ErrorTerminated(_, _) => {
            ("timeout", format!("ran longer than allowed; {}look for an endless loop", raise("timeout")))
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            ("stack-limit", "called functions too deeply; look for a recursion".into())
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => {
            ("memory-limit", format!("built a value that is too large ({what})"))
        }
        EvalAltResult::ErrorTooManyVariables(_) => ("memory-limit", "has too many variables".into()),
        EvalAltResult::ErrorRuntime(value, _) => ("script", value.to_string()),
        EvalAltResult::ErrorModuleNotFound(path, _) => {
            ("script", format!("import \"{path}\": this script has no folder to import from"))
        }
        EvalAltResult::ErrorPropertyNotFound(key, _) => ("script", no_key(key, keys)),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => ("script", explanation::no_function(signature, source)),
        other => ("script", explanation::other(other)),
    }
}

/// Maximum number of map keys in a message.
const KEYS: usize = 20;

fn no_key(key: &str, keys: Option<&[String]>) -> String {
    let there_are = match keys {
        None => String::new(),
        Some([]) => ", which is empty".to_owned(),
        Some(keys) => {
            let more = if keys.len() > KEYS { ", ..." } else { "" };
            format!(", which has {}{more}", keys.iter().take(KEYS).map(String::as_str).collect::<Vec<_>>().join(", "))
        }
    };
    format!(
        "there is no '{key}' in this map{there_are}; if the key may be missing, test '\"{key}\" in map' or use \
         map.get(\"{key}\")"
    )
}

/// Maximum length of the shown part of a source line, in characters. [`BEFORE`] is the part before the caret.
const WIDTH: usize = 100;
/// See [`WIDTH`].
const BEFORE: usize = 60;
/// Maximum length of a message in bytes: a thrown text may be as long as the script's longest text.
const MESSAGE: usize = 2_000;

/// Returns the part of a line around a column (1-based), and the padding before the column.
fn around(line: &str, column: usize) -> (String, String) {
    let length = line.chars().count();
    let first = if length <= WIDTH { 0 } else { column.saturating_sub(BEFORE).min(length - WIDTH) };
    let (lead, tail) = (if first > 0 { "..." } else { "" }, if first + WIDTH < length { "..." } else { "" });
    let part: String = line.chars().skip(first).take(WIDTH).collect();
    let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
    let before = lead.chars().chain(part.chars().take(column.saturating_sub(1 + first))).map(blank).collect();
    (format!("{lead}{part}{tail}"), before)
}

fn cut(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= MESSAGE) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Combines name, line and text, with the marked source line as detail.
pub(super) fn located(
    code: &'static str,
    name: &str,
    source: &str,
    at: Position,
    text: &str,
    calls: &[(String, Position)],
) -> PolicyError {
    let one_line = cut(&text.replace('\n', " "));
    let Some(line) = at.line() else { return PolicyError::new(code, format!("{name}: {one_line}")) };
    let column = at.position().unwrap_or(1);
    let (shown, lead) = around(source.lines().nth(line - 1).unwrap_or_default(), column);
    let number = line.to_string();
    let gap = " ".repeat(number.len());
    let mut picture = format!("{gap} |\n{number} | {shown}\n{gap} | {lead}^");
    // The outermost call is the hook itself, called by the host.
    for (function, position) in calls.iter().rev() {
        match position.line() {
            Some(line) => picture.push_str(&format!("\n  in {function}(), called at {name}:{line}")),
            None => picture.push_str(&format!("\n  in {function}(), called by the host")),
        }
    }
    let error = PolicyError::new(code, format!("{name}:{line}:{column}: {one_line}")).detail(picture);
    PolicyError { marked: true, ..error }
}
