//! Script errors for users: one line with file, line and cause, and the source line with a caret.

use rhai::{EvalAltResult, ParseError, Position};

use super::Imports;
use crate::hooks::PolicyError;

/// Converts a syntax error.
pub(super) fn parse(name: &str, source: &str, error: &ParseError) -> PolicyError {
    located("script", name, source, error.position(), &error.err_type().to_string(), &[])
}

/// Converts a run-time error: the innermost position, and the chain of function calls that led there.
pub(super) fn run(name: &str, source: &str, error: &EvalAltResult, imports: &Imports) -> PolicyError {
    run_with_keys(name, source, error, imports, None)
}

/// Does the same as [`run`], and also names the keys of the map in which a key was missing.
pub(super) fn run_with_keys(
    name: &str,
    source: &str,
    error: &EvalAltResult,
    imports: &Imports,
    keys: Option<Vec<String>>,
) -> PolicyError {
    let mut calls = Vec::new();
    let mut at = error;
    // The file of the innermost function.
    let (mut name, mut source) = (name, source);
    loop {
        match at {
            EvalAltResult::ErrorInFunctionCall(function, file, inner, position) => {
                calls.push((function.clone(), *position));
                if let Some(text) = imports.source(file) {
                    (name, source) = (file, text);
                }
                at = inner;
            }
            EvalAltResult::ErrorInModule(file, inner, _) => {
                if let Some(text) = imports.source(file) {
                    (name, source) = (file, text);
                }
                at = inner;
            }
            _ => break,
        }
    }
    let too_many = || {
        let text = "ran more operations than allowed; raise 'operations' or look for an endless loop";
        ("operations-limit", text.to_owned())
    };
    let (code, text) = match at {
        EvalAltResult::ErrorTooManyOperations(_) => too_many(),
        EvalAltResult::ErrorTerminated(token, _) if token.is::<super::engine::TooMany>() => too_many(),
        EvalAltResult::ErrorTerminated(_, _) => {
            ("timeout", "ran longer than allowed; raise 'timeout' or look for an endless loop".into())
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
        EvalAltResult::ErrorPropertyNotFound(key, _) => ("script", no_key(key, keys.as_deref())),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => ("script", format!("there is no function {signature}")),
        other => {
            let mut plain = other.to_string();
            // Rhai appends its own "(line 3, position 7)".
            if let Some(cut) = plain.rfind(" (line ") {
                plain.truncate(cut);
            }
            ("script", plain)
        }
    };
    located(code, name, source, at.position(), &text, &calls)
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
    let mut picture = format!("{name}:{line}:{column}: {one_line}\n");
    let (shown, lead) = around(source.lines().nth(line - 1).unwrap_or_default(), column);
    let number = line.to_string();
    let gap = " ".repeat(number.len());
    picture.push_str(&format!("{gap} |\n{number} | {shown}\n{gap} | {lead}^"));
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
