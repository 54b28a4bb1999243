//! `Document`: a JSON value for scripts that remembers the line of every edit.
//!
//! A script that writes `ctx.spec.env.TEAM = "a"` uses nested handles on one shared value. Each handle is a path into
//! it. Reading a name that cannot exist is an error (a typo must not count as "not set"), and so is reading a setting
//! without a value. Reading a missing key of an open map (`env`, `labels`, ...) returns a marked `()`, which cannot
//! be used by mistake, see `nothing`.

use std::sync::{Arc, RwLock};

use rhai::{Dynamic, EvalAltResult, ImmutableString, Position};
use serde_json::{Map, Value};

/// Maximum number of elements in one edit, so that a script cannot build a value that overloads the host.
const MOST_NODES: usize = 10_000;

/// One edit: its path in the value, and its line in the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Keys from the root.
    pub path: Vec<String>,
    /// 1-based line; 0 if unknown.
    pub line: usize,
}

#[derive(Debug)]
struct Shared {
    root: Value,
    edits: Vec<Edit>,
    /// Path prefixes that the script may write; an empty path allows everything.
    writable: Vec<Vec<String>>,
    /// Names of maps whose keys are free.
    open: Open,
}

/// Selects the objects that are maps with free keys.
#[derive(Debug, Clone, Copy)]
pub enum Open {
    /// Every object: for the configuration, which is checked as a whole afterwards.
    All,
    /// Objects with these names.
    Named(&'static [&'static str]),
}

/// A handle to a part of a shared JSON value.
#[derive(Debug, Clone)]
pub struct Document {
    shared: Arc<RwLock<Shared>>,
    path: Vec<String>,
}

type Fallible<T> = Result<T, Box<EvalAltResult>>;

fn error<T>(text: impl Into<String>, at: Position) -> Fallible<T> {
    Err(Box::new(EvalAltResult::ErrorRuntime(text.into().into(), at)))
}

impl Document {
    /// Wraps a value.
    pub fn new(root: Value, writable: Vec<Vec<String>>, open: Open) -> Self {
        let shared = Shared { root, edits: Vec::new(), writable, open };
        Self { shared: Arc::new(RwLock::new(shared)), path: Vec::new() }
    }

    /// Returns the current value and all edits in order. Without edits the value is unchanged. Handles that a script
    /// still holds are empty afterwards.
    pub fn finish(&self) -> (Value, Vec<Edit>) {
        let mut shared = self.shared.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        (std::mem::take(&mut shared.root), std::mem::take(&mut shared.edits))
    }

    /// Returns the part that this handle refers to.
    pub fn value(&self) -> Value {
        let shared = self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        walk(&shared.root, &self.path).cloned().unwrap_or_default()
    }

    fn child(&self, key: &str) -> Self {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Self { shared: self.shared.clone(), path }
    }

    /// Returns a handle to a copy of the whole value, without edits.
    pub(super) fn copy(&self) -> Self {
        let shared = self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let copy = Shared {
            root: shared.root.clone(),
            edits: Vec::new(),
            writable: shared.writable.clone(),
            open: shared.open,
        };
        Self { shared: Arc::new(RwLock::new(copy)), path: Vec::new() }
    }

    /// Returns whether this handle refers to the whole value.
    pub(super) fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    fn name(&self, key: &str) -> String {
        let mut all = self.path.clone();
        all.push(key.to_owned());
        all.join(".")
    }

    /// Reads a key or index.
    pub(super) fn get(&self, key: &str, at: Position) -> Fallible<Dynamic> {
        let shared = self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(here) = walk(&shared.root, &self.path) else {
            return error(format!("{} no longer exists", self.path.join(".")), at);
        };
        let found = match here {
            Value::Object(map) => match map.get(key) {
                Some(value) => value,
                None if matches!(shared.open, Open::All) && self.path == ["vars"] => {
                    return error(undeclared_variable(key), at);
                }
                None if self.is_open(&shared.open) && !self.in_settings(&shared.open) => {
                    return Ok(super::nothing::missing());
                }
                None if map.is_empty() => {
                    let text = format!("there is no '{}'; {} is empty", self.name(key), self.path.join("."));
                    return error(text, at);
                }
                None => {
                    let known: Vec<_> = map.keys().map(String::as_str).collect();
                    return error(format!("there is no '{}'; the keys are {}", self.name(key), known.join(", ")), at);
                }
            },
            Value::Array(list) => match key.parse::<usize>().ok().and_then(|index| list.get(index)) {
                Some(value) => value,
                None => return error(format!("{} has {} elements, no [{key}]", self.path.join("."), list.len()), at),
            },
            _ => return error(format!("{} has no keys or elements", self.path.join(".")), at),
        };
        match found {
            Value::Object(_) | Value::Array(_) => {
                drop(shared);
                Ok(Dynamic::from(self.child(key)))
            }
            scalar => Ok(to_dynamic(scalar)),
        }
    }

    /// Reads a key that may be missing; a missing key gives `()` in any map.
    pub(super) fn find(&self, key: &str, at: Position) -> Fallible<Dynamic> {
        let there = {
            let shared = self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            matches!(walk(&shared.root, &self.path), Some(Value::Object(map)) if !map.contains_key(key))
        };
        if there { Ok(Dynamic::UNIT) } else { self.get(key, at) }
    }

    /// Writes a key or index. `()` removes a key of an open map, and empties any other.
    pub(super) fn set(&self, key: &str, value: Dynamic, at: Position) -> Fallible<()> {
        // Rhai writes the inner handle back after `a.b.c = 1`; that is not an edit.
        if let Some(document) = value.read_lock::<Self>()
            && Arc::ptr_eq(&document.shared, &self.shared)
            && document.path.split_last().is_some_and(|(last, head)| last == key && head == self.path)
        {
            return Ok(());
        }
        super::weight::charge_value(&value, at)?;
        let json = given(&value).or_else(|text| error(format!("{}: {text}", self.name(key)), at))?;
        let mut shared = self.shared.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let open = self.is_open(&shared.open);
        let mut path = self.path.clone();
        path.push(key.to_owned());
        // It also writes the value back after `a.b.method()`; an unchanged value is not an edit either.
        let unchanged = |old: &Value| *old == json;
        if walk(&shared.root, &path).is_some_and(unchanged) {
            return Ok(());
        }
        if !shared.writable.iter().any(|prefix| path.starts_with(prefix)) {
            return error(format!("{} cannot be changed here", path.join(".")), at);
        }
        let name = path.join(".");
        let Some(here) = walk_mut(&mut shared.root, &self.path) else {
            return error(format!("{} no longer exists", self.path.join(".")), at);
        };
        match here {
            Value::Object(map) => {
                if open && json.is_null() {
                    map.remove(key);
                } else if open || map.contains_key(key) {
                    map.insert(key.to_owned(), json);
                } else {
                    let known: Vec<_> = map.keys().map(String::as_str).collect();
                    return error(format!("there is no '{name}'; the keys are {}", known.join(", ")), at);
                }
            }
            Value::Array(list) => match key.parse::<usize>().ok().and_then(|index| list.get_mut(index)) {
                Some(slot) => *slot = json,
                None => return error(format!("{name}: no such element"), at),
            },
            _ => return error(format!("{} has no keys or elements", self.path.join(".")), at),
        }
        shared.edits.push(Edit { path, line: at.line().unwrap_or(0) });
        Ok(())
    }

    /// Appends to a list.
    pub(super) fn push(&self, value: Dynamic, at: Position) -> Fallible<()> {
        super::weight::charge_value(&value, at)?;
        let json = given(&value).or_else(|text| error(text, at))?;
        let mut shared = self.shared.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !shared.writable.iter().any(|prefix| self.path.starts_with(prefix)) {
            return error(format!("{} cannot be changed here", self.path.join(".")), at);
        }
        match walk_mut(&mut shared.root, &self.path) {
            Some(Value::Array(list)) if list.len() < MOST_NODES => list.push(json),
            Some(Value::Array(_)) => return error(format!("a list can have at most {MOST_NODES} elements"), at),
            _ => return error(format!("{} is not a list", self.path.join(".")), at),
        }
        let edit = Edit { path: self.path.clone(), line: at.line().unwrap_or(0) };
        shared.edits.push(edit);
        Ok(())
    }

    /// Returns the names of a map's keys, or the positions of a list.
    pub(super) fn keys(&self) -> Vec<String> {
        let shared = self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match walk(&shared.root, &self.path) {
            Some(Value::Object(map)) => map.keys().cloned().collect(),
            Some(Value::Array(list)) => (0..list.len()).map(|index| index.to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns whether a map has this key, or a list this element.
    pub(super) fn contains(&self, wanted: &str) -> bool {
        let shared = self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match walk(&shared.root, &self.path) {
            Some(Value::Object(map)) => map.contains_key(wanted),
            Some(Value::Array(list)) => list.iter().any(|value| value.as_str() == Some(wanted)),
            _ => false,
        }
    }

    fn is_open(&self, open: &Open) -> bool {
        match open {
            Open::All => true,
            Open::Named(names) => {
                // Everything below `settings` has free keys; the other open maps hold typed records or scalars.
                self.path.last().is_some_and(|last| names.contains(&last.as_str())) || self.in_settings(open)
            }
        }
    }

    /// Returns whether this is part of a policy's settings. Their names belong to the policy, and reading a missing
    /// one is an error.
    fn in_settings(&self, open: &Open) -> bool {
        matches!(open, Open::Named(_)) && self.path.first().is_some_and(|part| part == "settings")
    }
}

/// Returns the message about a variable that `[script]` does not pass to the configuration script.
pub(super) fn undeclared_variable(name: &str) -> String {
    format!("vars.{name} is not given to this script; add \"{name}\" to vars in [script] of wharf.toml")
}

impl IntoIterator for Document {
    type Item = Dynamic;
    type IntoIter = std::vec::IntoIter<Dynamic>;

    /// Iterates over the elements of a list, or the keys of a map.
    fn into_iter(self) -> Self::IntoIter {
        let all: Vec<Dynamic> = match self.value() {
            Value::Array(list) => {
                (0..list.len()).filter_map(|index| self.get(&index.to_string(), Position::NONE).ok()).collect()
            }
            Value::Object(map) => map.keys().map(|key| Dynamic::from(ImmutableString::from(key))).collect(),
            _ => Vec::new(),
        };
        all.into_iter()
    }
}

fn walk<'a>(mut at: &'a Value, path: &[String]) -> Option<&'a Value> {
    for key in path {
        at = match at {
            Value::Object(map) => map.get(key)?,
            Value::Array(list) => list.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(at)
}

fn walk_mut<'a>(mut at: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    for key in path {
        at = match at {
            Value::Object(map) => map.get_mut(key)?,
            Value::Array(list) => list.get_mut(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(at)
}

/// Converts a whole JSON value to plain Rhai values.
pub(super) fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(v) => Dynamic::from(*v),
        // Rhai has no unsigned numbers; a number that is too large becomes the largest signed one.
        Value::Number(v) => match (v.as_i64(), v.as_u64(), v.as_f64()) {
            (Some(int), _, _) => Dynamic::from(int),
            (_, Some(_), _) => Dynamic::from(i64::MAX),
            (_, _, float) => Dynamic::from(float.unwrap_or_default()),
        },
        Value::String(v) => Dynamic::from(ImmutableString::from(v)),
        Value::Array(list) => Dynamic::from(list.iter().map(to_dynamic).collect::<rhai::Array>()),
        Value::Object(map) => Dynamic::from(
            map.iter().map(|(key, value)| (key.as_str().into(), to_dynamic(value))).collect::<rhai::Map>(),
        ),
    }
}

/// Converts a value that a script assigns.
fn given(value: &Dynamic) -> Result<Value, String> {
    if super::nothing::holds_missing(value) {
        return Err(format!("the value is a missing key; {}", super::nothing::INSTEAD));
    }
    from_dynamic(value, &mut 0)
}

/// Converts Rhai values back to JSON, with a size limit.
pub(super) fn from_dynamic(value: &Dynamic, nodes: &mut usize) -> Result<Value, String> {
    *nodes += 1;
    if *nodes > MOST_NODES {
        return Err(format!("a value may have at most {MOST_NODES} keys and elements"));
    }
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(v) = value.as_bool() {
        return Ok(v.into());
    }
    if let Ok(v) = value.as_int() {
        return Ok(v.into());
    }
    if let Ok(v) = value.as_float() {
        return serde_json::Number::from_f64(v).map(Value::Number).ok_or_else(|| format!("{v} is not a number"));
    }
    if let Some(v) = value.read_lock::<ImmutableString>() {
        return Ok(v.as_str().into());
    }
    if let Ok(v) = value.as_char() {
        return Ok(v.to_string().into());
    }
    if let Some(list) = value.read_lock::<rhai::Array>() {
        return list.iter().map(|value| from_dynamic(value, nodes)).collect::<Result<Vec<_>, _>>().map(Value::Array);
    }
    if let Some(map) = value.read_lock::<rhai::Map>() {
        let pairs = map.iter().map(|(key, value)| Ok((key.to_string(), from_dynamic(value, nodes)?)));
        return pairs.collect::<Result<Map<_, _>, String>>().map(Value::Object);
    }
    if let Some(document) = value.read_lock::<Document>() {
        return Ok(document.value());
    }
    Err(format!("a value of type {} cannot be used here", value.type_name()))
}
