//! Names available to a script: functions, its constants, its settings.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTNode, Engine, Expr, Stmt};
use serde_json::Value;

use super::super::shape::Shape;
use super::super::{document, engine, settings};
use crate::hooks::Limits;

/// Callable functions: name -> numbers of arguments.
pub(super) struct Known {
    functions: BTreeMap<String, BTreeSet<usize>>,
    own: BTreeMap<String, BTreeSet<usize>>,
    /// Top-level constants, and the settings, as far as they are known.
    pub(super) constants: BTreeMap<String, Shape>,
    pub(super) settings: Option<Shape>,
    /// Texts passed to functions: a key queried with `"key" in map` may be missing.
    pub(super) texts: BTreeSet<String>,
}

impl Known {
    pub(super) fn new(engine: &Engine, ast: &AST, given: Option<&Value>, limits: &Limits) -> Self {
        let mut functions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let registered = engine.collect_fn_metadata(
            None,
            |info| Some((info.metadata.name.to_string(), info.metadata.num_params)),
            true,
        );
        for (name, count) in registered {
            functions.entry(name).or_default().insert(count);
        }
        let mut own: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for function in ast.iter_functions() {
            own.entry(function.name.to_owned()).or_default().insert(function.params.len());
        }
        // An error here is reported when the script is loaded.
        let (scope, _, _) = engine::bounded(limits, || settings::constants(engine, ast));
        let scope = scope.unwrap_or_default();
        let declared = settings::declared(&scope).ok().flatten();
        let plain = |name: String, value: Value| Shape { value, name, plain: true };
        let constants = scope.iter().filter_map(|(name, _, value)| {
            let value = document::from_dynamic(&value, &mut 0).ok()?;
            Some((name.to_owned(), plain(name.to_owned(), value)))
        });
        let constants = constants.collect();
        let settings = declared.or_else(|| given.cloned()).map(|value| plain("settings".into(), value));
        Self { functions, own, constants, settings, texts: texts(ast) }
    }

    /// Returns the problem of a call, if any.
    pub(super) fn wrong(&self, name: &str, arguments: usize, method: bool) -> Option<String> {
        let shown = if method { arguments.saturating_sub(1) } else { arguments };
        let mut counts: BTreeSet<usize> = self.functions.get(name).cloned().unwrap_or_default();
        counts.extend(self.own.get(name).into_iter().flatten().map(|count| if method { count + 1 } else { *count }));
        if counts.is_empty() {
            let names = self.functions.keys().chain(self.own.keys()).map(String::as_str);
            return Some(format!("there is no function {name}{}", nearest(names, name)));
        }
        if counts.contains(&arguments) {
            return None;
        }
        let takes: Vec<_> =
            counts.iter().map(|count| if method { count.saturating_sub(1) } else { *count }.to_string()).collect();
        Some(format!("{name} is called with {shown} arguments; it takes {}", takes.join(" or ")))
    }
}

/// Collects the texts, see [`Known::texts`].
fn texts(ast: &AST) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    ast.walk(&mut |path: &[ASTNode]| {
        let call = match path.last() {
            Some(
                ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)),
            ) => call,
            _ => return true,
        };
        for argument in &call.args {
            if let Expr::StringConstant(text, _) = argument {
                found.insert(text.to_string());
            }
        }
        true
    });
    found
}

/// Names that other languages and tools have for a function.
const ALIASES: [(&str, &str); 12] = [
    ("refuse", "deny"),
    ("reject", "deny"),
    ("forbid", "deny"),
    ("block", "deny"),
    ("fail", "deny"),
    ("warn", "log"),
    ("info", "log"),
    ("length", "len"),
    ("size", "len"),
    ("count", "len"),
    ("has", "contains"),
    ("includes", "contains"),
];

/// Returns "; did you mean NAME?" for a function that does not exist, or nothing.
pub(in crate::script) fn nearest<'a>(names: impl Iterator<Item = &'a str> + Clone, name: &str) -> String {
    let alias = ALIASES.iter().find(|(other, _)| *other == name).map(|(_, known)| *known);
    // A short name such as `gib` counts only when a letter is missing: `gb`.
    let short = |known: &&str| known.len() == 3 && name.len() == 2 && strsim::levenshtein(known, name) == 1;
    let found = alias.or_else(|| names.clone().find(|known| near(known, name))).or_else(|| {
        let mut all = names.filter(short);
        all.clone().find(|known| ["kib", "mib", "gib"].contains(known)).or_else(|| all.next())
    });
    found.map_or(String::new(), |known| format!("; did you mean {known}?"))
}

/// Returns whether two names differ by a typo: one letter more, less or changed, or two swapped letters.
pub(in crate::script) fn near(known: &str, name: &str) -> bool {
    known.chars().count() >= 4 && strsim::damerau_levenshtein(known, name) <= 1
}
