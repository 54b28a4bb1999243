//! The forms of a value in other texts: in quotes, escaped, in a URL, encoded.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The two Base64 alphabets, without padding.
const BASE64: [GeneralPurpose; 2] = [STANDARD_NO_PAD, URL_SAFE_NO_PAD];
/// The characters that programs escape in a URL; each set keeps different characters.
static ESCAPED: [AsciiSet; 5] =
    [all_but(b"-_.~"), all_but(b"-_.~!*'()"), all_but(b"-_.~/"), all_but(b"-_.~:/?#[]@!$&'()*+,;="), all_but(b"*-._")];
/// Minimum digits of an encoded value; fewer are not distinctive and may be a word.
const LEAST_ENCODED: usize = 8;

/// Returns a text as it appears between the quotes of JSON.
pub(super) fn quoted(text: &str) -> Option<String> {
    let text = serde_json::to_string(text).ok()?;
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Returns the value and each form in which programs may write it.
pub(super) fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([value.to_owned()]);
    if let Some(once) = quoted(value) {
        // JSON within JSON, such as an answer within a log line.
        forms.extend(quoted(&once));
        forms.insert(once);
    }
    for upper in [false, true] {
        forms.insert(ascii_json(value, upper));
        forms.insert(if upper { hex::encode_upper(value) } else { hex::encode(value) });
        for escaped in &ESCAPED {
            forms.insert(percent(value, escaped, false, upper));
            forms.insert(percent(value, escaped, true, upper));
        }
    }
    // Rust's debug form, and shell quoting.
    let debug = format!("{value:?}");
    forms.extend(debug.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::to_owned));
    forms.insert(value.replace('\'', "'\\''"));
    forms.insert(value.replace('\'', "'\"'\"'"));
    let in_double: String = value.chars().flat_map(|c| escaped_in(c, "\\\"$`")).collect();
    forms.insert(in_double);
    let bare: String = value.chars().flat_map(|c| escaped_in(c, " \t\\\"'$`!&|;<>()[]{}*?#~")).collect();
    forms.insert(bare);
    forms.insert(value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"));
    for base64 in &BASE64 {
        forms.extend(encoded(value.as_bytes(), base64));
    }
    forms
}

fn escaped_in(c: char, which: &str) -> impl Iterator<Item = char> {
    which.contains(c).then_some('\\').into_iter().chain([c])
}

/// Returns the JSON form with only ASCII characters.
fn ascii_json(value: &str, upper: bool) -> String {
    let mut out = String::new();
    for c in quoted(value).unwrap_or_default().chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = if upper { write!(out, "\\u{unit:04X}") } else { write!(out, "\\u{unit:04x}") };
        }
    }
    out
}

/// Returns all characters except letters, digits and the given ones.
const fn all_but(kept: &[u8]) -> AsciiSet {
    let (mut set, mut at) = (NON_ALPHANUMERIC.add(b'%'), 0);
    while at < kept.len() {
        set = set.remove(kept[at]);
        at += 1;
    }
    set
}

/// Percent-encodes a value as part of a URL; `plus` writes spaces as `+`, as in a form.
fn percent(value: &str, escaped: &'static AsciiSet, plus: bool, upper: bool) -> String {
    let mut out = String::with_capacity(value.len());
    for piece in utf8_percent_encode(value, escaped) {
        match piece {
            "%20" if plus => out.push('+'),
            // No program keeps a percent sign, so this is an escape.
            piece if !upper && piece.starts_with('%') => out.push_str(&piece.to_ascii_lowercase()),
            piece => out.push_str(piece),
        }
    }
    out
}

/// Returns the Base64 forms of a value: alone, and within a longer text, where it may start at any of three offsets
/// in a group. Digits that it shares with its neighbours are left out.
fn encoded(value: &[u8], base64: &GeneralPurpose) -> impl Iterator<Item = String> {
    let mut all = Vec::new();
    let digits = base64.encode(value);
    all.push(format!("{digits}{}", "=".repeat((4 - digits.len() % 4) % 4)));
    all.push(digits);
    for before in 0..3 {
        let shifted: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
        let digits = base64.encode(&shifted);
        // Each digit has six bits: from the first whole digit to the end of the last whole digit.
        let (first, end) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        all.push(digits.get(first..end).unwrap_or_default().to_owned());
    }
    all.into_iter().filter(|digits| digits.len() >= LEAST_ENCODED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let all = forms("foobar~~~?");
        for form in ["Zm9vYmFyfn5+Pw", "Zm9vYmFyfn5+Pw==", "Zm9vYmFyfn5-Pw", "Zm9vYmFyfn5-Pw=="] {
            assert!(all.contains(form), "{form}: {all:#?}");
        }
    }

    #[test]
    fn a_value_is_found_wherever_it_begins_in_an_encoded_text() {
        let value = "super?secret>value";
        let all = forms(value);
        for before in ["", "u:", "us:", "use:", "user:"] {
            for after in ["", "@", "@h", "@ho"] {
                for base64 in &BASE64 {
                    let text = base64.encode(format!("{before}{value}{after}"));
                    assert!(all.iter().any(|form| text.contains(form)), "{before}{after}");
                }
            }
        }
    }

    #[test]
    fn quoted_escaped_and_url_forms_are_known() {
        let all = forms("a b\"c'd\\e\n\u{f6}$1/2&3");
        for form in [
            "a b\\\"c'd\\\\e\\n\u{f6}$1/2&3",
            "a b\\\"c'd\\\\e\\n\\u00f6$1/2&3",
            "a b\\\\\\\"c'd\\\\\\\\e\\\\n\u{f6}$1/2&3",
            "a%20b%22c%27d%5Ce%0A%C3%B6%241%2F2%263",
            "a%20b%22c'd%5ce%0a%c3%b6%241%2f2%263",
            "a+b%22c%27d%5Ce%0A%C3%B6%241%2F2%263",
            "a b\"c'\\''d\\e\n\u{f6}$1/2&3",
            "a b\\\"c'd\\\\e\n\u{f6}\\$1/2&3",
        ] {
            assert!(all.contains(form), "{form}: {all:#?}");
        }
        assert!(forms("geheim\u{e9}").contains("67656865696dc3a9"));
    }
}
