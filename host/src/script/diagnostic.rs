//! Errors of scripts as people want them: one line with file, line and cause, and a picture with a caret.

use rhai::{EvalAltResult, ParseError, Position};

use super::Imports;
use crate::hooks::PolicyError;

/// A syntax error.
pub(super) fn parse(name: &str, source: &str, error: &ParseError) -> PolicyError {
    located("script", name, source, error.position(), &error.err_type().to_string(), &[])
}

/// An error while a script ran: the innermost position, and the chain of function calls that led there.
pub(super) fn run(name: &str, source: &str, error: &EvalAltResult, imports: &Imports) -> PolicyError {
    let mut calls = Vec::new();
    let mut at = error;
    // The file that the innermost function stands in.
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
    let (code, text) = match at {
        EvalAltResult::ErrorTooManyOperations(_) => (
            "operations-limit",
            "ran more operations than allowed; raise 'operations' or look for an endless loop".into(),
        ),
        EvalAltResult::ErrorTerminated(_, _) => {
            ("timeout", "ran longer than allowed; raise 'timeout' or look for an endless loop".into())
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            ("stack-limit", "called functions too deeply; look for a recursion".into())
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => ("memory-limit", format!("built something too large ({what})")),
        EvalAltResult::ErrorTooManyVariables(_) => ("memory-limit", "has too many variables".into()),
        EvalAltResult::ErrorRuntime(value, _) => ("script", value.to_string()),
        EvalAltResult::ErrorModuleNotFound(path, _) => {
            ("script", format!("import \"{path}\": this script has no folder that it could import from"))
        }
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

/// Puts name, line and text together, with the marked source line as detail.
pub(super) fn located(
    code: &'static str,
    name: &str,
    source: &str,
    at: Position,
    text: &str,
    calls: &[(String, Position)],
) -> PolicyError {
    let one_line = text.replace('\n', " ");
    let Some(line) = at.line() else { return PolicyError::new(code, format!("{name}: {one_line}")) };
    let column = at.position().unwrap_or(1);
    let mut picture = format!("{name}:{line}:{column}: {one_line}\n");
    let shown = source.lines().nth(line - 1).unwrap_or_default();
    let number = line.to_string();
    let gap = " ".repeat(number.len());
    let lead: String =
        shown.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
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
