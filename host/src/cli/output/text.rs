//! Text in columns of a terminal: its width, and how it is shortened and wrapped.

use unicode_width::UnicodeWidthChar;

/// The sign of a shortened text.
const ELLIPSIS: char = '…';

/// Returns the number of terminal columns of a text without escape sequences. Characters of East Asian scripts and most
/// emoji take two, combining marks none.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

fn width_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The part of a text that remains when it is shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Its beginning.
    Start,
    /// Its end, for paths.
    End,
}

/// Shortens a text to a number of columns, with an ellipsis in place of the rest.
pub(crate) fn cut(text: &str, room: usize, keep: Keep) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let Some(mut left) = room.checked_sub(1) else { return String::new() };
    let mut fits = |c: &char| {
        let fits = width_of(*c) <= left;
        left = left.saturating_sub(if fits { width_of(*c) } else { left });
        fits
    };
    match keep {
        Keep::Start => {
            let mut kept: String = text.chars().take_while(&mut fits).collect();
            kept.truncate(kept.trim_end().len());
            kept.push(ELLIPSIS);
            kept
        }
        Keep::End => {
            let mut kept: Vec<char> = text.chars().rev().take_while(&mut fits).collect();
            kept.push(ELLIPSIS);
            kept.into_iter().rev().collect()
        }
    }
}

/// Breaks a text between words into lines of at most `room` columns. A longer word is broken within.
pub(crate) fn wrap(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split(' ') {
        let long = width(word);
        if used > 0 && used + 1 + long > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        } else if used > 0 {
            line.push(' ');
            used += 1;
        }
        for c in word.chars() {
            if used + width_of(c) > room && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += width_of(c);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_text_fits_and_says_that_it_is_shortened() {
        assert_eq!(cut("wharf", 5, Keep::Start), "wharf");
        assert_eq!(cut("wharfs", 5, Keep::Start), "whar…");
        assert_eq!(cut("/home/ada/shop", 8, Keep::End), "…da/shop");
        assert_eq!(cut("a b", 2, Keep::Start), "a…");
        assert_eq!(cut("wharf", 1, Keep::Start), "…");
        assert_eq!(cut("wharf", 0, Keep::Start), "");
        // A wide character is never halved.
        assert_eq!((width("猫猫猫"), cut("猫猫猫", 4, Keep::Start)), (6, "猫…".to_owned()));
        assert_eq!(cut("猫猫猫", 4, Keep::End), "…猫");
        // A combining mark takes no column.
        assert_eq!((width("e\u{301}e"), cut("e\u{301}ee", 2, Keep::Start)), (2, "e\u{301}…".to_owned()));
    }

    #[test]
    fn a_wrapped_text_breaks_between_words_and_loses_nothing() {
        assert_eq!(wrap("set the team first", 8), ["set the", "team", "first"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("猫猫猫", 3), ["猫", "猫", "猫"]);
        for room in 1..30 {
            let text = "one  two three 猫猫 e\u{301} https://example.org/a/very/long/path";
            let lines = wrap(text, room);
            assert!(lines.iter().all(|line| width(line) <= room.max(2)), "{room}: {lines:?}");
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text), "{room}");
        }
    }
}
