//! Rhai's own errors in the words of this project: no names of its types, and a remedy where there is one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rhai::debugger::DebuggerCommand;
use rhai::{AST, ASTNode, EvalAltResult, Position, Stmt};

use super::check::nearest;
use super::diagnostic::Script;
use super::engine;
use super::imports::Resolver;
use super::missing::Again;
use crate::hooks::Limits;

/// Describes an error of the engine that has no words of its own in `diagnostic`.
pub(super) fn other(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorMismatchDataType(expected, given, _) => {
            format!("expected {}, not {}", type_word(expected), type_word(given))
        }
        EvalAltResult::ErrorDotExpr(text, _) => property(text).unwrap_or_else(|| cut(error)),
        _ => cut(error),
    }
}

/// Returns Rhai's words without its own "(line 3, position 7)".
fn cut(error: &EvalAltResult) -> String {
    let mut plain = error.to_string();
    if let Some(cut) = plain.rfind(" (line ") {
        plain.truncate(cut);
    }
    plain
}

/// Describes a property of a value that has none: "Unknown property 'memory' - a getter is not registered for type
/// '()'".
fn property(text: &str) -> Option<String> {
    let mut quoted = text.split('\'').skip(1).step_by(2);
    let (name, kind) = (quoted.next()?, quoted.next()?);
    let known = text.starts_with("Unknown property") || text.starts_with("No writable property");
    known.then(|| match kind {
        "()" => format!("there is no '{name}' here: the value before it is (), so its own name may be wrong"),
        kind => format!("{} has no '{name}'", type_word(kind)),
    })
}

/// Describes a call that no function takes; `signature` is Rhai's, such as `gb (i64)`.
pub(super) fn no_function(signature: &str, source: &str) -> String {
    let (name, arguments) = signature.split_once(" (").unwrap_or((signature, ""));
    let words: Vec<_> = arguments
        .strip_suffix(')')
        .unwrap_or(arguments)
        .split(", ")
        .filter(|kind| !kind.is_empty())
        .map(type_word)
        .collect();
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return format!("'{name}' cannot be used with {}", words.join(" and "));
    }
    let engine = engine::engine(&Limits::default());
    let mut names: BTreeSet<String> =
        engine.collect_fn_metadata(None, |info| Some(info.metadata.name.to_string()), true).into_iter().collect();
    if let Ok(ast) = engine.compile(source) {
        names.extend(ast.iter_functions().map(|function| function.name.to_owned()));
    }
    if names.contains(name) {
        let given = if words.is_empty() { "no arguments".to_owned() } else { words.join(", ") };
        return format!("{name} does not take ({given})");
    }
    format!("there is no function {name}{}", nearest(names.iter().map(String::as_str), name))
}

/// Returns the word for one of Rhai's types.
fn type_word(name: &str) -> String {
    match name {
        "i64" => "an integer",
        "f64" => "a float",
        "bool" => "true or false",
        "array" => "a list",
        "map" => "a map",
        "Fn" => "a function",
        "Document" => "a part of ctx",
        "Context" => "ctx",
        "()" => "()",
        _ if name.contains("str") || name.contains("String") || name == "char" => "a text",
        _ => return format!("a value of type {name}"),
    }
    .to_owned()
}

/// Returns the loop in which a script was ended, or else the statement: the name of its file, its text and the position.
///
/// Rhai tells neither the file nor, for many operations, the position. So the call is repeated with an observer of its
/// statements; it has no input except its request, and ends in the same loop again.
pub(super) fn endless<'a>(script: &Script<'a>, at: Position, again: Option<&Again>) -> (&'a str, &'a str, Position) {
    let main = (script.name, script.source, at);
    let Some((file, last)) = again.and_then(|again| last_statement(script, again)) else { return main };
    let (name, source) = match script.imports.names().find(|name| *name == file) {
        Some(name) => (name, script.imports.source(name).unwrap_or_default()),
        None => (script.name, script.source),
    };
    let ast = engine::engine(&Limits::default()).compile(source).ok();
    let begin = ast.and_then(|ast| innermost_loop(&ast, last));
    (name, source, begin.unwrap_or(last))
}

/// Repeats a call, and returns the file and the position of the statement that it executed last.
#[allow(deprecated)] // Rhai marks its debugger so, because it may change.
fn last_statement(script: &Script, again: &Again) -> Option<(String, Position)> {
    let mut engine = engine::engine(&script.limits);
    engine.set_module_resolver(Resolver::new(script.imports));
    let last: Arc<Mutex<Option<(String, Position)>>> = Arc::default();
    let noted = last.clone();
    engine.register_debugger(
        |_, debugger| debugger,
        move |_, _, node, file, at| {
            let begins = !matches!(node, ASTNode::Stmt(Stmt::Noop(_) | Stmt::Block(_)));
            if begins && !at.is_none() {
                let file = file.unwrap_or_default().to_owned();
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some((file, at));
            }
            Ok(DebuggerCommand::StepInto)
        },
    );
    let (result, _, _) = engine::bounded(&script.limits, || again(&engine));
    // A call that ends now is not endless in the same place.
    if result.is_ok() {
        return None;
    }
    last.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn innermost_loop(ast: &AST, at: Position) -> Option<Position> {
    let mut found = None;
    ast.walk(&mut |path: &[ASTNode]| {
        let (body, begin) = match path.last() {
            Some(ASTNode::Stmt(Stmt::While(flow, begin) | Stmt::Do(flow, _, begin))) => (&flow.body, *begin),
            Some(ASTNode::Stmt(Stmt::For(each, begin))) => (&each.2.body, *begin),
            _ => return true,
        };
        if begin == at || (begin <= at && at <= body.end_position()) {
            found = Some(begin);
        }
        true
    });
    found
}
