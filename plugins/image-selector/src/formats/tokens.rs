//! Splits build scripts into words, strings and signs, without their comments.

/// The comments of a language.
pub struct Comments {
    /// The text that begins a comment up to the end of the line.
    pub line: &'static str,
    /// Whether `/*` and `*/` enclose comments.
    pub block: bool,
}

/// Groovy and Kotlin, as Gradle reads them.
pub const SLASHES: Comments = Comments { line: "//", block: true };
/// Ruby, Elixir, Perl, Make and others.
pub const HASH: Comments = Comments { line: "#", block: false };
/// Erlang.
pub const PERCENT: Comments = Comments { line: "%", block: false };
/// Lisps and Dune.
pub const SEMICOLON: Comments = Comments { line: ";", block: false };

/// A part of a script.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'t> {
    /// Letters, digits, dots, dashes within and underscores, e.g. `JavaLanguageVersion.of` or `1.8`.
    Word(&'t str),
    /// The inside of a string, as written.
    Text(&'t str),
    /// Any other character except blanks.
    Sign(char),
}

impl<'t> Token<'t> {
    /// Returns the content of a word or a string.
    pub fn value(self) -> Option<&'t str> {
        match self {
            Self::Word(text) | Self::Text(text) => Some(text),
            Self::Sign(_) => None,
        }
    }
}

/// Splits a script. A string or comment that breaks off ends the script.
pub fn tokens<'t>(script: &'t str, comments: &Comments) -> Vec<Token<'t>> {
    let mut found = Vec::new();
    let mut rest = script;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        if rest.starts_with(comments.line) {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if comments.block && rest.starts_with("/*") {
            rest = rest.get(2..).and_then(|inside| inside.split_once("*/")).map_or("", |(_, after)| after);
        } else if c == '"' || c == '\'' {
            let triple = if c == '"' { "\"\"\"" } else { "'''" };
            let (inside, after) = match rest.strip_prefix(triple) {
                Some(long) => long.split_once(triple).unwrap_or((long, "")),
                None => string(after, c),
            };
            found.push(Token::Text(inside));
            rest = after;
        } else if is_word(c) {
            let end = rest.find(|c: char| !is_word(c) && c != '-').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            found.push(Token::Word(word));
            rest = after;
        } else {
            if !c.is_whitespace() {
                found.push(Token::Sign(c));
            }
            rest = after;
        }
    }
    found
}

/// Returns the first value that directly follows a sequence of words and signs, such as `jvmToolchain (`.
pub fn after<'t>(tokens: &[Token<'t>], sequence: &[Token<'_>]) -> Option<&'t str> {
    let mut places = tokens.windows(sequence.len()).enumerate().filter(|(_, window)| *window == sequence);
    places.find_map(|(at, _)| tokens.get(at + sequence.len())?.value())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

/// Splits at the closing quote of a string. One after a backslash belongs to the string.
fn string(text: &str, quote: char) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !escaped {
            let (inside, after) = text.split_at(at);
            return (inside, after.get(1..).unwrap_or_default());
        }
        escaped = c == '\\' && !escaped;
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::Token::{Sign, Text, Word};
    use super::*;

    #[test]
    fn comments_are_left_out_and_strings_keep_them() {
        let script = "// of(8)\nof(17) /* of(11) */ 'a // b' \"c \\\" /* d\" \"\"\"e \"f\" \"\"\" x-y = 1.8";
        let expected = [
            Word("of"),
            Sign('('),
            Word("17"),
            Sign(')'),
            Text("a // b"),
            Text("c \\\" /* d"),
            Text("e \"f\" "),
            Word("x-y"),
            Sign('='),
            Word("1.8"),
        ];
        assert_eq!(tokens(script, &SLASHES), expected);
        assert_eq!(tokens("a # b\n%c", &HASH), [Word("a"), Sign('%'), Word("c")]);
    }

    #[test]
    fn a_script_that_breaks_off_does_no_harm() {
        for script in ["'", "\"\\", "\"\"\"", "/*", "/* *", "é'é", "//"] {
            tokens(script, &SLASHES);
        }
    }

    #[test]
    fn the_value_after_a_sequence_is_found() {
        let script = tokens("x of 1 of(-1) of(17)", &SLASHES);
        assert_eq!(after(&script, &[Word("of"), Sign('(')]), Some("17"));
        assert_eq!(after(&script, &[Word("of"), Sign(')')]), None);
    }
}
