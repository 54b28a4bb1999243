//! A small reader of YAML: single values in nested block mappings.

/// Returns the value at a path of keys. An empty text stands for a key without a value on its line. Flow mappings
/// (`{a: b}`), anchors and block texts are not read.
pub fn value(text: &str, path: &[&str]) -> Option<String> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut block = None;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = without_comment(line).trim_end();
        let content = line.trim_start();
        let indent = line.len() - content.len();
        // The lines of a block text (`key: |`) are deeper than its key.
        if content.is_empty() || block.is_some_and(|key| indent > key) {
            continue;
        }
        block = None;
        if content == "---" {
            open.clear();
        }
        let Some((key, value)) = entry(content) else { continue };
        while open.last().is_some_and(|(outer, _)| *outer >= indent) {
            open.pop();
        }
        open.push((indent, unquoted(key)));
        if value.starts_with(['|', '>']) && value.len() <= 3 {
            block = Some(indent);
        } else if open.iter().map(|(_, key)| key.as_str()).eq(path.iter().copied()) {
            return Some(unquoted(value));
        }
    }
    None
}

/// Splits a line `key: value`.
fn entry(line: &str) -> Option<(&str, &str)> {
    if line.starts_with("- ") {
        return None;
    }
    let (key, value) = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))?;
    Some((key.trim(), value.trim()))
}

/// Takes away a comment: a `#` at the beginning or after a blank, outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return line.get(..at).unwrap_or_default(),
            (None, '"' | '\'') if before.is_whitespace() => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        before = c;
    }
    line
}

fn unquoted(text: &str) -> String {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_value_is_found_at_its_path_and_nowhere_else() {
        let text = "# environment:\nname: shop # sdk\nother:\n  sdk: no\nenvironment:\n  'sdk': '>=3.0.0 <4.0.0' # why\n\
                    dependencies:\n  - sdk: no\n";
        assert_eq!(value(text, &["environment", "sdk"]).as_deref(), Some(">=3.0.0 <4.0.0"));
        assert_eq!(value(text, &["name"]).as_deref(), Some("shop"));
        assert_eq!(value(text, &["dependencies"]).as_deref(), Some(""));
        assert_eq!(value(text, &["sdk"]), None);
    }

    #[test]
    fn the_lines_of_a_block_text_are_no_keys() {
        let text = "environment:\n  about: |\n    sdk: no\n  note: >-\n     sdk: no\n  sdk: 3\n";
        assert_eq!(value(text, &["environment", "sdk"]).as_deref(), Some("3"));
        assert_eq!(value("about: |\n environment:\n  sdk: 2\n", &["environment", "sdk"]), None);
    }
}
