//! How a value stands in other texts: between quotes, escaped, in a URL, encoded.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Digits of base64, without the last two, in which its two kinds differ.
const DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Fewer digits of an encoded value tell nothing, and may be a word.
const LEAST_ENCODED: usize = 8;

/// A text as it stands between the quotes of JSON.
pub(super) fn quoted(text: &str) -> Option<String> {
    let text = serde_json::to_string(text).ok()?;
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// The value, and each form of it that programs give to texts.
pub(super) fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([value.to_owned()]);
    if let Some(once) = quoted(value) {
        // JSON within JSON, as an answer within a log line.
        forms.extend(quoted(&once));
        forms.insert(once);
    }
    for upper in [false, true] {
        forms.insert(ascii_json(value, upper));
        forms.insert(hex(value, upper));
        // Programs differ in what they leave as it is.
        for kept in ["-_.~", "-_.~!*'()", "-_.~/", "-_.~:/?#[]@!$&'()*+,;=", "*-._"] {
            forms.insert(percent(value, kept, false, upper));
            forms.insert(percent(value, kept, true, upper));
        }
    }
    // Rust's own, and a shell's.
    let debug = format!("{value:?}");
    forms.extend(debug.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::to_owned));
    forms.insert(value.replace('\'', "'\\''"));
    forms.insert(value.replace('\'', "'\"'\"'"));
    let in_double: String = value.chars().flat_map(|c| escaped_in(c, "\\\"$`")).collect();
    forms.insert(in_double);
    let bare: String = value.chars().flat_map(|c| escaped_in(c, " \t\\\"'$`!&|;<>()[]{}*?#~")).collect();
    forms.insert(bare);
    forms.insert(value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"));
    for last in [*b"+/", *b"-_"] {
        forms.extend(encoded(value.as_bytes(), last));
    }
    forms
}

fn escaped_in(c: char, which: &str) -> impl Iterator<Item = char> {
    which.contains(c).then_some('\\').into_iter().chain([c])
}

/// JSON with nothing but ASCII in it.
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

fn hex(value: &str, upper: bool) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        let _ = if upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") };
    }
    out
}

/// As a part of a URL; `plus` for a blank, as in a form.
fn percent(value: &str, kept: &str, plus: bool, upper: bool) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || (byte.is_ascii() && kept.contains(c)) {
            out.push(c);
        } else if plus && byte == b' ' {
            out.push('+');
        } else {
            let _ = if upper { write!(out, "%{byte:02X}") } else { write!(out, "%{byte:02x}") };
        }
    }
    out
}

/// The value in base64: by itself, and within a longer text, where it begins at any of three places of a group. There the
/// digits that it shares with its neighbours are not among them.
fn encoded(value: &[u8], last: [u8; 2]) -> impl Iterator<Item = String> {
    let mut all = Vec::new();
    let digits = base64(value, last);
    all.push(format!("{digits}{}", "=".repeat((4 - digits.len() % 4) % 4)));
    all.push(digits);
    for before in 0..3 {
        let shifted: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
        let digits = base64(&shifted, last);
        // Six bits a digit: the first whole one, and the end of the last whole one.
        let (first, end) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        all.push(digits.get(first..end).unwrap_or_default().to_owned());
    }
    all.into_iter().filter(|digits| digits.len() >= LEAST_ENCODED)
}

/// Base64 without padding.
fn base64(bytes: &[u8], last: [u8; 2]) -> String {
    let digit = |bits: u32| {
        let place = (bits & 63) as usize;
        let digit = DIGITS.get(place).copied().or_else(|| last.get(place.saturating_sub(62)).copied());
        char::from(digit.unwrap_or(b'A'))
    };
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        out.extend((0..=group.len()).map(|place| digit(bits >> (18 - 6 * place))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let plain = |text: &str| base64(text.as_bytes(), *b"+/");
        assert_eq!(
            [plain(""), plain("f"), plain("fo"), plain("foo"), plain("foobar")],
            ["", "Zg", "Zm8", "Zm9v", "Zm9vYmFy"]
        );
        assert_eq!((base64(&[0xfb, 0xff], *b"+/"), base64(&[0xfb, 0xff], *b"-_")), ("+/8".into(), "-_8".into()));
    }

    #[test]
    fn a_value_is_found_wherever_it_begins_in_an_encoded_text() {
        let value = "super?secret>value";
        let all = forms(value);
        for before in ["", "u:", "us:", "use:", "user:"] {
            for after in ["", "@", "@h", "@ho"] {
                for last in [*b"+/", *b"-_"] {
                    let text = base64(format!("{before}{value}{after}").as_bytes(), last);
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
