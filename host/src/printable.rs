//! Text that may reach a terminal. Projects, images, policies, engines and services choose names, labels, messages
//! and reasons. A terminal interprets some of their characters as commands, or shows them in another order or not at
//! all. A [`Printable`] contains none of them, and `cli` and `telemetry` print nothing else.
//!
//! May touch: nothing.

use std::fmt;
use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

/// Characters that change how the surrounding text is shown, or are invisible themselves.
const UNSEEN: [(char, char); 14] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Returns whether a character must not reach a terminal as part of a line.
fn is_harmful(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&c)))
}

/// Returns the replacement of a character: newlines and tabs become a space, so that words stay apart; the other
/// harmful characters are removed.
fn instead(c: char) -> Option<char> {
    match c {
        '\n' | '\t' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        c if is_harmful(c) => None,
        c => Some(c),
    }
}

/// One line of text without control characters, direction characters, invisible characters and newlines. Escape
/// sequences only come from [`Printable::styled`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printable(String);

impl Printable {
    /// Returns the same text with a style of Wharf: the number of an SGR sequence, such as 1 for bold.
    #[must_use]
    pub fn styled(self, look: u8) -> Self {
        Self(format!("\x1b[{look}m{}\x1b[0m", self.0))
    }

    /// Returns whether a text is already a printable line.
    #[must_use]
    pub fn is(text: &str) -> bool {
        !text.chars().any(is_harmful)
    }

    /// Returns each line of a text that Wharf laid out in lines.
    pub fn lines(text: &str) -> impl Iterator<Item = Self> {
        text.lines().map(Self::from)
    }

    /// Returns the text without trailing whitespace.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        self.0.truncate(self.0.trim_end().len());
        self
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Printable {
    fn from(text: &str) -> Self {
        Self(if text.chars().any(is_harmful) { text.chars().filter_map(instead).collect() } else { text.to_owned() })
    }
}

impl From<String> for Printable {
    fn from(text: String) -> Self {
        if text.chars().any(is_harmful) { Self::from(text.as_str()) } else { Self(text) }
    }
}

impl From<&String> for Printable {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<fmt::Arguments<'_>> for Printable {
    fn from(text: fmt::Arguments<'_>) -> Self {
        Self::from(text.to_string())
    }
}

impl<T: Into<Self>> std::ops::Add<T> for Printable {
    type Output = Self;

    fn add(mut self, more: T) -> Self {
        self.0.push_str(&more.into().0);
        self
    }
}

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Appends a line of bytes that a workspace wrote, after a prefix of Wharf. It keeps its tabs, but no other character
/// that could move the cursor, change a colour or end the line: otherwise the prefix could be forged.
pub fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    let plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    if line.iter().all(plain) {
        return out.extend_from_slice(line);
    }
    let text = String::from_utf8_lossy(line);
    let mut encoded = [0; 4];
    for c in text.chars().filter_map(|c| if c == '\t' { Some(c) } else { instead(c) }) {
        out.extend_from_slice(c.encode_utf8(&mut encoded).as_bytes());
    }
}

/// Returns a value as one line of JSON, with the harmful characters of its texts escaped: the value stays the same,
/// the terminal is safe.
///
/// # Errors
/// An error if the value cannot be represented as JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let mut out = Vec::with_capacity(128);
    write_json(&mut out, value)?;
    // The serializer only writes UTF-8.
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Appends a value in the form of [`json`].
///
/// # Errors
/// An error if the value cannot be represented as JSON.
pub fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, Escaping(serde_json::ser::CompactFormatter)))
}

/// Returns a value as indented JSON, escaped like [`json`].
///
/// # Errors
/// An error if the value cannot be represented as JSON.
pub fn pretty_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let mut out = Vec::with_capacity(128);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Escaping(PrettyFormatter::new())))?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Escapes the harmful characters of JSON from elsewhere. They can only occur in its texts.
#[must_use]
pub fn escaped(json: &str) -> String {
    let mut out = Vec::with_capacity(json.len());
    // Writing to a vector cannot fail.
    let _ = escape(&mut out, json);
    String::from_utf8(out).unwrap_or_default()
}

/// Writes a piece of a JSON text.
fn escape<W: ?Sized + io::Write>(out: &mut W, text: &str) -> io::Result<()> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return out.write_all(text.as_bytes());
    }
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_harmful(*c)) {
        let (before, from) = rest.split_at(at);
        out.write_all(before.as_bytes())?;
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}")?;
        }
        rest = from.get(c.len_utf8()..).unwrap_or_default();
    }
    out.write_all(rest.as_bytes())
}

/// Serializes like another formatter, and also escapes characters that `serde_json` leaves unchanged: DEL, C1 and
/// invisible ones.
struct Escaping<F>(F);

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        escape(writer, fragment)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of character that must be removed, each between two letters.
    const BAD: &str = "a\x1b[2Jb\u{9b}1mc\r\n\td\u{7f}e\u{202e}f\u{2066}g\u{200f}h\u{61c}i\u{200b}j\u{2028}k\u{85}l\u{feff}m\u{e0041}n\u{8}o";

    #[test]
    fn a_printable_text_is_one_line_without_control_direction_and_unseen_characters() {
        assert_eq!(Printable::from(BAD).as_str(), "a[2Jb1mc  defghij k lmno");
        assert_eq!(Printable::from(BAD.to_owned()), Printable::from(BAD));
        for c in ('\0'..=char::MAX).filter(|c| is_harmful(*c)) {
            let shown = Printable::from(format!("x{c}y"));
            assert!(!shown.as_str().chars().any(is_harmful), "{c:?}");
        }
        // Words of other languages stay unchanged.
        for good in ["größe, 猫, καλημέρα, שלום, مرحبا", "-> … µs ▁█ 🚢"] {
            assert_eq!(Printable::from(good).as_str(), good);
        }
    }

    #[test]
    fn a_look_of_ours_stays_and_one_of_others_does_not_come_with_it() {
        let line = Printable::from("a\x1b[31m").styled(1) + ": \x1b[5mb\n" + "c\u{202e}".to_owned();
        assert_eq!(line.as_str(), "\x1b[1ma[31m\x1b[0m: [5mb c");
    }

    #[test]
    fn a_line_of_a_workspace_cannot_leave_its_prefix() {
        let pushed = |line: &[u8]| {
            let mut out = b"web | ".to_vec();
            push_line(&mut out, line);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(pushed(b"a\tb"), "web | a\tb");
        assert_eq!(pushed(b"x\rdb | forged\x1b[1A\x1b[31m\xc2\x9b1m\xff"), "web | xdb | forged[1A[31m1m\u{fffd}");
    }

    #[test]
    fn json_keeps_its_value_and_has_no_harmful_character() {
        let value = serde_json::json!({ BAD: [BAD, 1.5, null, true, {}, []], "b": { "c": "x" } });
        for text in [json(&value).unwrap(), pretty_json(&value).unwrap(), escaped(&value.to_string())] {
            assert!(!text.chars().any(|c| is_harmful(c) && c != '\n'), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
        assert_eq!(json(&serde_json::json!({ "a": [1, "b"] })).unwrap(), r#"{"a":[1,"b"]}"#);
        let plain = serde_json::json!({ "a": [1, "b"], "c": {} });
        assert_eq!(pretty_json(&plain).unwrap(), serde_json::to_string_pretty(&plain).unwrap());
    }
}
