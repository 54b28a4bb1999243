//! Parsers for project files, each of which reads single values.
//!
//! JSON and TOML have parsers of their own. XML, YAML and the languages of build scripts have small ones here: full
//! parsers would make the component several times as large. These know comments and strings, so a value that is
//! commented out does not count.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub mod tokens;
mod toml;
pub mod xml;
pub mod yaml;

pub use toml::{toml, toml_entries};

/// A value in a JSON or TOML document.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A list, with its first string.
    List(Option<String>),
    /// Any other value.
    Other,
}

impl Value {
    /// Returns the string.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) | Self::Other => None,
        }
    }

    /// Returns the string, or the first of a list.
    pub fn first_text(self) -> Option<String> {
        match self {
            Self::Text(text) | Self::List(Some(text)) => Some(text),
            Self::List(None) | Self::Other => None,
        }
    }
}

/// Returns the value at a path of keys in JSON as editors write it, with comments and trailing commas.
///
/// # Errors
/// An error if the text cannot be parsed as JSON.
pub fn json(text: &str, path: &[&str]) -> Result<Option<Value>, String> {
    let plain = plain_json(text);
    let mut json = serde_json::Deserializer::from_str(&plain);
    let found = At(path).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    found.map_err(|error| format!("it can't be read as JSON: {error}"))
}

/// Returns the string at a path of keys in JSON. A value that is not a string counts as absent.
///
/// # Errors
/// See [`json`].
pub fn json_string(text: &str, path: &[&str]) -> Result<Option<String>, String> {
    Ok(json(text, path)?.and_then(Value::text))
}

/// Looks up one value without building the rest of the document. One such visitor for all paths takes half the code
/// of a derived struct per file.
struct At<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl At<'_> {
    fn here<E>(&self, value: Value) -> Result<Option<Value>, E> {
        Ok(self.0.is_empty().then_some(value))
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        self.here(Value::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((first, rest)) if **first == key => found = map.next_value_seed(At(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if self.0.is_empty() { self.here(Value::Other) } else { Ok(found) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut first = None;
        while let Some(element) = list.next_element_seed(At(&[]))? {
            first = first.or(element.and_then(Value::text));
        }
        self.here(Value::List(first))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        self.here(Value::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        self.here(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        self.here(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        self.here(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        self.here(Value::Other)
    }
}

/// Converts JSON with comments and trailing commas, as editors write it, to plain JSON.
fn plain_json(text: &str) -> String {
    let text = text.trim_start_matches('\u{feff}');
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            _ if in_string => {
                plain.push(c);
                if c == '\\' {
                    plain.extend(chars.next());
                } else if c == '"' {
                    in_string = false;
                }
            }
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                let mut last = ' ';
                for c in chars.by_ref() {
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            '}' | ']' => {
                let end = plain.trim_end().len();
                if plain.get(..end).is_some_and(|before| before.ends_with(',')) {
                    plain.truncate(end - 1);
                }
                plain.push(c);
            }
            _ => {
                in_string = c == '"';
                plain.push(c);
            }
        }
    }
    plain
}

/// Returns the first line that is neither empty nor a comment.
pub fn first_line(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}');
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_taken_out_of_json() {
        let text = "\u{feff}// top\n{ \"a\": \"x // \\\" /* no */ ,}\", /* b */ \"c\": [1, 2, /* last */ ], // end\n}";
        let value: serde_json::Value = serde_json::from_str(&plain_json(text)).unwrap();
        assert_eq!(value, serde_json::json!({"a": "x // \" /* no */ ,}", "c": [1, 2]}));
    }

    #[test]
    fn a_string_is_found_at_its_path_and_nowhere_else() {
        let text = r#"{"image": [1, {"x": null}], "node": "no", "engines": {"npm": 1.5, "node": "20"}, "z": true}"#;
        assert_eq!(json_string(text, &["engines", "node"]), Ok(Some("20".to_owned())));
        for path in [&["engines"][..], &["image"], &["z"], &["node", "x"], &["engines", "npm"], &["none"]] {
            assert_eq!(json_string(text, path), Ok(None), "{path:?}");
        }
        for text in ["[]", "1", "-1", "null", "\"node\""] {
            assert_eq!(json_string(text, &["node"]), Ok(None), "{text}");
        }
        for text in ["{", "{} {}", "{\"node\": \"20\"} x"] {
            assert!(json_string(text, &["node"]).is_err_and(|error| error.contains("can't be read as JSON")), "{text}");
        }
    }

    #[test]
    fn json_that_breaks_off_does_no_harm() {
        for text in ["/", "/*", "/* *", "//", "\"", "\"\\", "{,", ",]"] {
            plain_json(text);
        }
    }

    #[test]
    fn comments_and_empty_lines_before_the_first_line_are_skipped() {
        assert_eq!(first_line("# pinned\n\n  20.1 # here\n21"), Some("20.1"));
        assert_eq!(first_line("\n#\n"), None);
    }
}
