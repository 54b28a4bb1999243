//! Looks up single values in TOML, from the events of its parser. Building the whole document would take three times
//! the code.

use std::borrow::Cow;

use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind, RecursionGuard, parse_document};
use toml_parser::{ParseError, Source};

use super::Value;

/// The limit of arrays and inline tables within each other.
const MOST_DEPTH: u32 = 80;

/// Takes the place of a key in the path of an array's elements. It is no valid key.
const ELEMENT: &str = "\0";

/// Returns the value at a path of keys in TOML.
///
/// # Errors
/// An error if the text cannot be parsed as TOML.
pub fn toml(text: &str, wanted: &[&str]) -> Result<Option<Value>, String> {
    let mut found = None;
    search(text, &mut |path, value| {
        if let Some(below) = below(path, wanted) {
            take(&mut found, below, value);
        }
    })?;
    Ok(found)
}

/// Returns the entries of a table at the top of a document. A table inside counts by its `version`.
///
/// # Errors
/// See [`toml`].
pub fn toml_entries(text: &str, table: &str) -> Result<Vec<(String, Value)>, String> {
    let mut found: Vec<(String, Option<Value>)> = Vec::new();
    search(text, &mut |path, value| {
        let Some((key, below)) = below(path, &[table]).and_then(<[_]>::split_first) else { return };
        let below = if below.first().is_some_and(|name| name == "version") { below.get(1..) } else { Some(below) };
        // The values of one entry stand together.
        if found.last().is_none_or(|(known, _)| known != key) {
            found.push((key.to_string(), None));
        }
        if let Some((_, entry)) = found.last_mut() {
            take(entry, below.unwrap_or_default(), value);
        }
    })?;
    Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// Returns the rest of a path below another one.
fn below<'p, 't>(path: &'p [Cow<'t, str>], wanted: &[&str]) -> Option<&'p [Cow<'t, str>]> {
    let (start, rest) = path.split_at_checked(wanted.len())?;
    start.iter().eq(wanted).then_some(rest)
}

/// Takes a value that stands at a path or below it. Of a list, the first string counts.
fn take(found: &mut Option<Value>, below: &[Cow<str>], value: Value) {
    match below {
        [] => *found = Some(value),
        [element] if element == ELEMENT && *found == Some(Value::List(None)) => {
            *found = Some(Value::List(value.text()));
        }
        _ => {
            found.get_or_insert(Value::Other);
        }
    }
}

/// Calls a function with each value and its path.
fn search<'t>(text: &'t str, visit: &mut dyn FnMut(&[Cow<'t, str>], Value)) -> Result<(), String> {
    let source = Source::new(text.trim_start_matches('\u{feff}'));
    let tokens = source.lex().into_vec();
    let mut search = Search { source, visit, path: Vec::new(), after_dot: false, open: Vec::new(), error: None };
    let mut error: Option<ParseError> = None;
    let mut receive = |event: Event| search.event(event);
    parse_document(&tokens, &mut RecursionGuard::new(&mut receive, MOST_DEPTH), &mut error);
    match error.or(search.error) {
        Some(error) => Err(format!("it can't be read as TOML: {}", error.description())),
        None => Ok(()),
    }
}

struct Search<'t, 'v> {
    source: Source<'t>,
    visit: &'v mut dyn FnMut(&[Cow<'t, str>], Value),
    /// The keys down to the current value.
    path: Vec<Cow<'t, str>>,
    /// Whether the next key continues the key before it: `a.b`.
    after_dot: bool,
    /// The open table, arrays and inline tables, each with the length of its own path.
    open: Vec<(Kind, usize)>,
    error: Option<ParseError>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Table,
    Array,
}

impl Search<'_, '_> {
    fn event(&mut self, event: Event) {
        match event.kind() {
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                self.open.clear();
                self.path.clear();
                self.after_dot = true;
            }
            EventKind::StdTableClose | EventKind::ArrayTableClose => {
                self.open = vec![(Kind::Table, self.path.len())];
                self.after_dot = false;
                self.visit(Value::Other);
            }
            EventKind::SimpleKey => self.key(&event),
            EventKind::KeySep => self.after_dot = true,
            EventKind::Scalar => self.scalar(&event),
            EventKind::ArrayOpen => {
                self.visit(Value::List(None));
                self.path.push(Cow::Borrowed(ELEMENT));
                self.open.push((Kind::Array, self.path.len()));
            }
            EventKind::InlineTableOpen => {
                self.visit(Value::Other);
                self.open.push((Kind::Table, self.path.len()));
            }
            EventKind::ArrayClose | EventKind::InlineTableClose => {
                self.open.pop();
            }
            _ => {}
        }
    }

    fn key(&mut self, event: &Event) {
        if !std::mem::take(&mut self.after_dot) {
            let (_, length) = self.open.last().copied().unwrap_or((Kind::Table, 0));
            self.path.truncate(length);
        }
        let mut key = Cow::Borrowed("");
        if let Some(raw) = self.source.get(event) {
            raw.decode_key(&mut key, &mut self.error);
        }
        self.path.push(key);
    }

    fn scalar(&mut self, event: &Event) {
        if let Some((Kind::Array, length)) = self.open.last().copied() {
            self.path.truncate(length);
        }
        let mut text = Cow::Borrowed("");
        let Some(raw) = self.source.get(event) else { return };
        let kind = raw.decode_scalar(&mut text, &mut self.error);
        self.visit(if kind == ScalarKind::String { Value::Text(text.into_owned()) } else { Value::Other });
    }

    fn visit(&mut self, value: Value) {
        (self.visit)(&self.path, value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, toml, toml_entries};

    #[test]
    fn a_value_is_found_however_it_is_written() {
        let found = |text: &str| toml(text, &["tool", "node"]).map(|value| value.and_then(Value::first_text));
        for text in [
            "[tool]\nnode = '20'",
            "tool.node = \"20\"",
            "a = 1\ntool = { x = '1', node = '20' }\nnode = '18'",
            "tool = { x = [{ node = '18' }, 2], node = '20', y = '1' }",
            "[tool] # node = '18'\n# node = '18'\n\"node\" = \"\"\"20\"\"\"",
            "text = \"\"\"\n[tool]\nnode = '18'\n\"\"\"\n[tool]\nx = [\n 'y' ]\nnode = ['20', '22']\n",
            "[tool.x]\nnode = '18'\n[tool]\nnode = \"\\u0032\\u0030\"\n[x]\nnode = '18'\n",
            "[[tool.x]]\nnode = '18'\n[tool]\nnode = '20'\n",
        ] {
            assert_eq!(found(text), Ok(Some("20".to_owned())), "{text}");
        }
        for text in ["", "[tool.node]\nworkspace = true", "node = '20'\nday = 2026-01-01\nfar = -1.5", "tool.node = 20"]
        {
            assert_eq!(found(text), Ok(None), "{text}");
        }
        assert_eq!(found("tool.node = [['18'], 1, '20', '22']"), Ok(Some("20".to_owned())));
    }

    #[test]
    fn a_table_is_there() {
        for text in ["[deps]\n", "[deps.a]\nb = 1", "deps.a = 1", "deps = {}", "[[deps]]", "[x]\n[deps.'a.b']"] {
            assert_eq!(toml(text, &["deps"]), Ok(Some(Value::Other)), "{text}");
        }
        assert_eq!(toml("[x.deps]\n[dep]", &["deps"]), Ok(None));
    }

    #[test]
    fn the_entries_of_a_table_are_found() {
        let text = "a = 1\n[tools]\nnode = '20'\ngo = { version = '1.23', x = 'y' }\npython = ['3.12', '3.11']\n\
                    'npm:x' = true\n[tools.ruby]\nversion = '3.3'\n[env]\nrust = '1'";
        let found = toml_entries(text, "tools").unwrap();
        let found: Vec<_> = found.into_iter().map(|(key, value)| (key, value.first_text())).collect();
        let entry = |key: &str, text: Option<&str>| (key.to_owned(), text.map(str::to_owned));
        let expected = [("node", "20"), ("go", "1.23"), ("python", "3.12")].map(|(key, text)| entry(key, Some(text)));
        assert_eq!(found.get(..3), Some(&expected[..]));
        assert_eq!(found.get(3..), Some(&[entry("npm:x", None), entry("ruby", Some("3.3"))][..]));
        assert!(toml_entries("[tools", "tools").is_err());
    }

    #[test]
    fn a_broken_or_too_deep_text_is_an_error() {
        let deep = format!("a = {}", "[".repeat(30_000));
        for text in ["[tool\nnode = '20'", "a", "a = ", "a = x", "a = 'b", "a = \"\\z\"", "= 1", "a = 1 b = 2", &deep] {
            let error = toml(text, &["a"]).unwrap_err();
            assert!(error.starts_with("it can't be read as TOML"), "{text}: {error}");
        }
    }
}
