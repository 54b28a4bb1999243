//! JSON as editors write it, with comments and trailing commas, and where each value stands.
//!
//! A reader of its own, because what a project says must be traced to a line, and its mistakes to a column. Numbers and
//! texts are read by `serde_json`, so that their rules are exactly those of JSON.

/// Deepest nesting that is read: real files have at most six levels.
const DEEPEST: usize = 64;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// In bytes from the start.
    pub(super) offset: usize,
    /// 1-based.
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

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong {
    /// In bytes from the start.
    pub(super) offset: usize,
    pub(super) what: String,
}

/// Reads a whole text.
///
/// # Errors
/// At the first place that is not JSON with comments and trailing commas, or nested too deeply.
pub(super) fn parse(text: &str) -> Result<Node, Wrong> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, at: start, line: 1 };
    reader.blank()?;
    let node = reader.value(0)?;
    reader.blank()?;
    if reader.at < text.len() { Err(reader.wrong("there is more after the end")) } else { Ok(node) }
}

/// Line and column of a place, 1-based; columns count characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
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

    /// Goes past white space and comments.
    fn blank(&mut self) -> Result<(), Wrong> {
        loop {
            match self.peek() {
                Some(b'\n') => {
                    self.line += 1;
                    self.at += 1;
                }
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'/') if self.rest().starts_with("//") => {
                    self.at += self.rest().find('\n').unwrap_or(self.rest().len());
                }
                Some(b'/') if self.rest().starts_with("/*") => {
                    let body = self.rest().get(2..).unwrap_or_default();
                    let Some(end) = body.find("*/") else { return Err(self.wrong("the comment has no end")) };
                    self.line += body.get(..end).unwrap_or_default().matches('\n').count();
                    self.at += end + 4;
                }
                _ => return Ok(()),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Wrong> {
        if depth > DEEPEST {
            return Err(self.wrong(&format!("nested more than {DEEPEST} levels deep")));
        }
        let (offset, line) = (self.at, self.line);
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { offset, line, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        self.at += 1;
        loop {
            self.blank()?;
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                Some(b'"') => {}
                _ => return Err(self.unexpected("a name in double quotes or '}'")),
            }
            let begin = self.at;
            let name = self.string()?;
            if !names.insert(name.clone()) {
                return Err(Wrong { offset: begin, what: format!("{name:?} is there twice") });
            }
            self.blank()?;
            if self.peek() != Some(b':') {
                return Err(self.unexpected("':'"));
            }
            self.at += 1;
            self.blank()?;
            members.push((name, self.value(depth + 1)?));
            self.end_of_item(b'}')?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.blank()?;
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Value::List(items));
            }
            items.push(self.value(depth + 1)?);
            self.end_of_item(b']')?;
        }
    }

    /// Goes past the comma after an item; before the end it may be missing, and it may stand there.
    fn end_of_item(&mut self, end: u8) -> Result<(), Wrong> {
        self.blank()?;
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(())
            }
            Some(byte) if byte == end => Ok(()),
            _ => Err(self.unexpected(&format!("',' or '{}'", char::from(end)))),
        }
    }

    fn string(&mut self) -> Result<String, Wrong> {
        let mut escaped = false;
        let end = self.rest().bytes().skip(1).position(|byte| {
            let is_end = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            is_end || byte == b'\n'
        });
        let whole = end.and_then(|end| self.rest().get(..end + 2)).filter(|whole| whole.ends_with('"'));
        let Some(whole) = whole else { return Err(self.wrong("the text has no end on this line")) };
        let read = serde_json::from_str(whole).map_err(|_| self.wrong("the text holds what JSON does not allow"))?;
        self.at += whole.len();
        Ok(read)
    }

    fn number(&mut self) -> Result<Value, Wrong> {
        let end = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let word = self.rest().get(..end.unwrap_or(self.rest().len())).unwrap_or_default();
        let number = serde_json::from_str(word).map_err(|_| self.wrong(&format!("'{word}' is no number")))?;
        self.at += word.len();
        Ok(Value::Number(number))
    }

    fn word(&mut self) -> Result<Value, Wrong> {
        for (word, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)] {
            let after = self.rest().strip_prefix(word);
            if after.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.unexpected("a value"))
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
