//! Converts settings from the JSON text of the contract to the plugin's own type, with errors that name the setting.

use serde::de::DeserializeOwned;

/// Parses settings. An empty text counts as `{}`.
///
/// # Errors
/// One line that names the setting and its error, e.g. ``setting `languages.node`: missing field `image` ``.
pub(crate) fn parse<S: DeserializeOwned>(json: &str) -> Result<S, String> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| {
        let text = error.to_string();
        // Users write TOML; a position in the JSON derived from it is meaningless to them.
        let problem = text.split(" at line ").next().unwrap_or(&text);
        // These errors concern a key of a table. The last key read is either the culprit, which the message names, or
        // an unrelated neighbour.
        let about_table = ["missing field", "unknown field", "duplicate field"].iter().any(|p| problem.starts_with(p));
        let mut offset = byte_offset(json, error.line(), error.column());
        // A missing key is reported at the end of its table, after the closing brace.
        if about_table && json.as_bytes().get(offset.wrapping_sub(1)) == Some(&b'}') {
            offset -= 1;
        }
        let (mut path, table) = path_at(json, offset);
        if about_table {
            path.truncate(table);
        }
        if path.is_empty() {
            format!("settings: {problem}")
        } else {
            format!("setting `{}`: {problem}", path.join("."))
        }
    })
}

/// Returns the wanted files. That function cannot report an error, and the settings were checked when the plugin was
/// loaded. If they are refused nevertheless, the hook itself reports that a moment later.
pub(crate) fn for_files<S: DeserializeOwned>(json: &str, wanted: impl FnOnce(&S) -> Vec<String>) -> Vec<String> {
    parse(json).map(|settings| wanted(&settings)).unwrap_or_default()
}

/// Converts serde_json's position (1-based lines, columns in bytes) to an offset.
fn byte_offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column).min(text.len())
}

/// Returns the keys that lead to the value at `offset`, and how many of them lead to the table around it.
///
/// serde_json's errors contain a position but not the key, and a crate that tracks the path doubles the size of a
/// small plugin. The text is available here, so it is scanned again up to the error's position.
fn path_at(json: &str, offset: usize) -> (Vec<String>, usize) {
    let mut path: Vec<String> = Vec::new();
    // Per open bracket: the depth of the path outside it, and whether it is an object.
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut expects_key = false;
    let mut at = 0;
    let bytes = json.as_bytes();
    while at < offset {
        match bytes[at] {
            b'{' => {
                open.push((path.len(), true));
                expects_key = true;
            }
            b'[' => open.push((path.len(), false)),
            b'}' | b']' => {
                open.pop();
                expects_key = false;
            }
            b',' => {
                let (depth, object) = open.last().copied().unwrap_or((0, false));
                path.truncate(depth);
                expects_key = object;
            }
            b'"' => {
                let start = at + 1;
                at = start;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if expects_key {
                    path.push(json.get(start..at).unwrap_or_default().to_owned());
                    expects_key = false;
                }
            }
            _ => {}
        }
        at += 1;
    }
    (path, open.last().map_or(0, |(depth, _)| *depth))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::parse;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(default)]
        limit: u32,
        #[serde(default)]
        languages: BTreeMap<String, Language>,
        #[serde(default)]
        allow: Vec<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Language {
        #[serde(rename = "image")]
        _image: String,
        #[serde(default, rename = "version")]
        _version: String,
    }

    fn error(json: &str) -> String {
        parse::<Settings>(json).unwrap_err()
    }

    #[test]
    fn absent_settings_read_as_an_empty_table() {
        let settings: Settings = parse("").unwrap();
        assert!(settings.limit == 0 && settings.languages.is_empty() && settings.allow.is_empty());
        assert!(parse::<Settings>("{}").is_ok());
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_its_path() {
        assert_eq!(error(r#"{"limit":"much"}"#), r#"setting `limit`: invalid type: string "much", expected u32"#);
        assert_eq!(
            error(r#"{"limit": 1, "languages":{"node":{"image":22}}}"#),
            "setting `languages.node.image`: invalid type: integer `22`, expected a string"
        );
        assert_eq!(
            error("{\n  \"limit\": 1,\n  \"allow\": [\"a\",\n 7]\n}"),
            "setting `allow`: invalid type: integer `7`, expected a string"
        );
        assert_eq!(
            error(r#"{"languages":{"a":{"image":"x"},"b":{"image":"\"}{"},"c":true}}"#),
            "setting `languages.c`: invalid type: boolean `true`, expected struct Language"
        );
    }

    #[test]
    fn a_missing_or_unknown_key_is_named_with_its_table() {
        assert_eq!(
            error(r#"{"limit":1,"languages":{"node":{"version":"1"}}}"#),
            "setting `languages.node`: missing field `image`"
        );
        assert_eq!(
            error(r#"{"languages":{"node":{"image":"x","colour":1}}}"#),
            "setting `languages.node`: unknown field `colour`, expected `image` or `version`"
        );
        assert_eq!(
            error(r#"{"colour":1}"#),
            "settings: unknown field `colour`, expected one of `limit`, `languages`, `allow`"
        );
    }

    #[test]
    fn an_empty_table_that_lacks_a_key_is_named_itself() {
        assert_eq!(error(r#"{"languages":{"node":{}}}"#), "setting `languages.node`: missing field `image`");
    }

    #[test]
    fn text_that_is_no_json_is_refused_without_a_panic() {
        for text in ["{", "{\"", "[1", "{\"a\\", "nonsense", "\u{1F4A9}"] {
            assert!(error(text).starts_with("setting"), "{text}");
        }
    }
}
