//! Minimal parsers for project files, enough to read one value from each.
//!
//! Full parsers of TOML, XML and Groovy would make the component several times as large, although these values are
//! almost always written in the same way. A value that these functions cannot read counts as absent.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Returns the string at a path of keys in JSON as editors write it, with comments and trailing commas. A value that
/// is not a string counts as absent.
///
/// # Errors
/// An error if the text cannot be parsed as JSON.
pub fn json_string(text: &str, path: &[&str]) -> Result<Option<String>, String> {
    let plain = plain_json(text);
    let mut json = serde_json::Deserializer::from_str(&plain);
    At(path).deserialize(&mut json).map_err(|error| format!("it can't be read as JSON: {error}"))
}

/// Looks up one string without building the rest of the document. One such visitor for all paths takes half the code
/// of a derived struct per file format.
struct At<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.is_empty().then(|| text.to_owned()))
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
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
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

/// Returns the string value of a key in a TOML table; the table is `""` for the top level.
pub fn toml_string<'a>(text: &'a str, table: &str, key: &str) -> Option<&'a str> {
    let mut current = "";
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            current = header.split(']').next().unwrap_or_default().trim();
        } else if current == table
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return quoted(value);
        }
    }
    None
}

/// Returns the text within the first pair of quotes.
pub fn quoted(text: &str) -> Option<&str> {
    let start = text.find(['"', '\''])?;
    let quote = text.get(start..=start)?;
    text.get(start + 1..)?.split_once(quote).map(|(inside, _)| inside)
}

/// Returns the text of the first XML element with this name, unless it contains a `${property}`.
pub fn xml_text<'a>(text: &'a str, element: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{element}>"))?;
    let value = after.split('<').next()?.trim();
    (!value.is_empty() && !value.contains('$')).then_some(value)
}

/// Returns the first line that is neither empty nor a comment.
pub fn first_line(text: &str) -> Option<&str> {
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
        assert!(json_string("{", &["node"]).is_err_and(|error| error.contains("can't be read as JSON")));
    }

    #[test]
    fn json_that_breaks_off_does_no_harm() {
        for text in ["/", "/*", "/* *", "//", "\"", "\"\\", "{,", ",]"] {
            plain_json(text);
        }
    }

    #[test]
    fn a_toml_string_is_read_from_its_own_table_only() {
        let text = "name = 'top'\n[package] # here\nname = \"shop\" # = no\n[tool.x]\nname=\"other\"\n";
        assert_eq!(toml_string(text, "", "name"), Some("top"));
        assert_eq!(toml_string(text, "package", "name"), Some("shop"));
        assert_eq!(toml_string(text, "tool.x", "name"), Some("other"));
        assert_eq!(toml_string(text, "package", "version"), None);
        assert_eq!(toml_string("[package]\nrust-version.workspace = true", "package", "rust-version"), None);
    }

    #[test]
    fn an_xml_property_that_refers_to_another_is_as_good_as_absent() {
        assert_eq!(xml_text("<p><java.version> 21 </java.version></p>", "java.version"), Some("21"));
        assert_eq!(xml_text("<java.version>${jdk}</java.version>", "java.version"), None);
    }

    #[test]
    fn comments_and_empty_lines_before_the_first_line_are_skipped() {
        assert_eq!(first_line("# pinned\n\n  20.1 # here\n21"), Some("20.1"));
        assert_eq!(first_line("\n#\n"), None);
    }
}
