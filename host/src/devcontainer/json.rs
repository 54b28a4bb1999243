//! JSON as editors write it, with comments and trailing commas, and with the position of each value.
//!
//! `jsonc_parser` splits the text into tokens, but its tree is not used. Its parser nests 512 levels deep, keeps
//! duplicate names, accepts `[1 [2]]` as a list, and accepts a newline within a text. This module gives each value
//! its line and each error its column. `serde_json` parses numbers and texts, so their rules are exactly those of
//! JSON.

use jsonc_parser::tokens::Token;
use jsonc_parser::{Scanner, ScannerOptions};

/// Maximum nesting depth: real files have at most six levels.
const DEEPEST: usize = 64;

/// A value and its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Offset in bytes from the start.
    pub(super) offset: usize,
    /// 1-based line.
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// An error and its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong {
    /// Offset in bytes from the start.
    pub(super) offset: usize,
    pub(super) what: String,
}

/// No extensions of JSON5.
const STRICT: ScannerOptions = ScannerOptions {
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses a whole text.
///
/// # Errors
/// An error at the first place that is not JSON with comments and trailing commas, or is nested too deeply.
pub(super) fn parse(text: &str) -> Result<Node, Wrong> {
    // Offsets count from the start of the file, so skip its byte order mark explicitly.
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let scanner = Scanner::new(text.get(start..).unwrap_or_default(), &STRICT);
    let mut reader = Reader { text, start, scanner, token: None, at: start, line: 1 };
    reader.advance()?;
    let node = reader.value(0)?;
    if reader.token.is_some() { Err(reader.wrong("unexpected data after the end")) } else { Ok(node) }
}

/// Returns line and column of an offset, both 1-based; columns count characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

struct Reader<'t> {
    text: &'t str,
    /// The scanner's start offset.
    start: usize,
    scanner: Scanner<'t>,
    /// The next token; none at the end.
    token: Option<Token<'t>>,
    /// The token's start in bytes from the start of the file. `line` is its line.
    at: usize,
    line: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, what: &str) -> Wrong {
        Wrong { offset: self.at, what: what.to_owned() }
    }

    fn unexpected(&self, wanted: &str) -> Wrong {
        match self.rest().chars().next() {
            Some(c) => self.wrong(&format!("expected {wanted}, found {c:?}")),
            None => self.wrong(&format!("expected {wanted}, found the end of the file")),
        }
    }

    /// Advances to the next token that is not a comment.
    fn advance(&mut self) -> Result<(), Wrong> {
        loop {
            let end = self.start + self.scanner.token_end();
            let scanned = self.scanner.scan();
            let at = self.start + self.scanner.token_start();
            // The scanner skips all Unicode whitespace.
            let blank = self.text.get(end..at).unwrap_or_default();
            if let Some((odd, c)) = blank.char_indices().find(|(_, c)| !matches!(c, ' ' | '\t' | '\r' | '\n')) {
                return Err(Wrong { offset: end + odd, what: format!("{c:?} is not JSON whitespace") });
            }
            self.line += self.text.get(self.at..at).unwrap_or_default().matches('\n').count();
            self.at = at;
            self.token = scanned.map_err(|error| self.wrong(&error.kind().to_string().to_lowercase()))?;
            if !matches!(self.token, Some(Token::CommentLine(_) | Token::CommentBlock(_))) {
                return Ok(());
            }
        }
    }

    /// Parses a value and advances past it.
    fn value(&mut self, depth: usize) -> Result<Node, Wrong> {
        if depth > DEEPEST {
            return Err(self.wrong(&format!("nested more than {DEEPEST} levels deep")));
        }
        let (offset, line) = (self.at, self.line);
        let value = match &self.token {
            Some(Token::OpenBrace) => self.object(depth)?,
            Some(Token::OpenBracket) => self.list(depth)?,
            Some(Token::String(_)) => Value::Text(self.string()?),
            Some(Token::Number(_)) => self.number()?,
            Some(Token::Boolean(value)) => Value::Bool(*value),
            Some(Token::Null) => Value::Null,
            _ => return Err(self.unexpected("a value")),
        };
        self.advance()?;
        Ok(Node { offset, line, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        self.advance()?;
        while self.token != Some(Token::CloseBrace) {
            if !matches!(self.token, Some(Token::String(_))) {
                return Err(self.unexpected("a name in double quotes or '}'"));
            }
            let name = self.string()?;
            if !names.insert(name.clone()) {
                return Err(self.wrong(&format!("{name:?} is set twice")));
            }
            self.advance()?;
            if self.token != Some(Token::Colon) {
                return Err(self.unexpected("':'"));
            }
            self.advance()?;
            members.push((name, self.value(depth + 1)?));
            self.end_of_item(&Token::CloseBrace)?;
        }
        Ok(Value::Object(members))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut items = Vec::new();
        self.advance()?;
        while self.token != Some(Token::CloseBracket) {
            items.push(self.value(depth + 1)?);
            self.end_of_item(&Token::CloseBracket)?;
        }
        Ok(Value::List(items))
    }

    /// Advances past the comma after an item. Before the closing bracket the comma is optional.
    fn end_of_item(&mut self, end: &Token<'_>) -> Result<(), Wrong> {
        match &self.token {
            Some(Token::Comma) => self.advance(),
            Some(token) if token == end => Ok(()),
            _ => Err(self.unexpected(&format!("',' or '{}'", end.as_str()))),
        }
    }

    /// Returns the text of the current token. The scanner accepts newlines and other control characters in it.
    fn string(&self) -> Result<String, Wrong> {
        let whole = self.text.get(self.at..self.start + self.scanner.token_end()).unwrap_or_default();
        serde_json::from_str(whole).map_err(|_| self.wrong("the string contains characters that JSON does not allow"))
    }

    /// Parses the number that starts with the current token. For `01` the token ends after the first digit.
    fn number(&self) -> Result<Value, Wrong> {
        let end = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let word = self.rest().get(..end.unwrap_or(self.rest().len())).unwrap_or_default();
        let number = serde_json::from_str(word).map_err(|_| self.wrong(&format!("'{word}' is not a number")))?;
        Ok(Value::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(value) => value.clone().into(),
            Value::Text(value) => value.clone().into(),
            Value::List(items) => items.iter().map(plain).collect(),
            Value::Object(members) => members.iter().map(|(name, node)| (name.clone(), plain(node))).collect(),
        }
    }

    #[test]
    fn comments_and_trailing_commas_are_read_and_each_value_has_its_line() {
        let text = "\u{feff}// top\n{ \"a\": \"x // \\\" /* no */ ,}\", /* b\n */ \"c\": [1, -2.5e1, /* last */ ], // end\n\
                    \"d\": {\"e\": null, \"f\": true,},\n}\n// bye";
        let node = parse(text).unwrap();
        let expected = serde_json::json!({"a": "x // \" /* no */ ,}", "c": [1, -25.0], "d": {"e": null, "f": true}});
        assert_eq!(plain(&node), expected);
        let Value::Object(members) = &node.value else { panic!("{node:?}") };
        let lines: Vec<_> = members.iter().map(|(name, node)| (name.as_str(), node.line)).collect();
        assert_eq!(lines, [("a", 2), ("c", 3), ("d", 4)]);
        for text in ["{}", "[]", " 1 ", "\"\\u00e9\\n\"", "{\"a\":[{}]}", "false"] {
            let strict: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(plain(&parse(text).unwrap()), strict, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for (text, line, column) in [
            ("", 1, 1),
            ("{", 1, 2),
            ("{\n  \"a\" 1\n}", 2, 7),
            ("{\n  \"a\": 1\n  \"b\": 2\n}", 3, 3),
            ("{\"a\": 1,, }", 1, 9),
            ("{\"é\": tru}", 1, 7),
            ("{\"a\": truely}", 1, 7),
            ("{\"a\": 01}", 1, 7),
            ("{\"a\": \"x\ny\"}", 1, 7),
            ("{\"a\": \"\\q\"}", 1, 7),
            ("{\"a\": \"\\", 1, 7),
            ("{a: 1}", 1, 2),
            ("{'a': 1}", 1, 2),
            ("{} {}", 1, 4),
            ("/* x", 1, 1),
            ("/*/", 1, 1),
            ("[1 2]", 1, 4),
            ("[,]", 1, 2),
            ("{\"a\": 1,\n \"a\": 2}", 2, 2),
            ("/", 1, 1),
            ("-", 1, 1),
            ("[1 [2]]", 1, 4),
            ("{\"a\":\u{a0}1}", 1, 6),
            ("[1,\u{b}2]", 1, 4),
            ("[0x1F]", 1, 2),
            ("[.5]", 1, 2),
            ("[NaN]", 1, 2),
        ] {
            let wrong = parse(text).expect_err(text);
            assert_eq!(position(text, wrong.offset), (line, column), "{text:?}: {wrong:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_it_fills_the_stack() {
        for open in ["[", "{\"a\":"] {
            let wrong = parse(&open.repeat(10_000)).unwrap_err();
            assert!(wrong.what.contains("64 levels"), "{wrong:?}");
        }
        assert!(parse(&format!("{}{}", "[".repeat(60), "]".repeat(60))).is_ok());
    }
}
