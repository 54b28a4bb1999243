//! One line of the engine's json-file: `{"log":"text\n","stream":"stdout","time":"2026-11-22T01:02:03.4Z"}`.
//!
//! The format that the engine writes (moby, daemon/logger/jsonfilelog/jsonlog) is parsed by hand. Any other valid
//! JSON, such as the attributes of a container with log labels, is left to serde. A line that neither parser
//! understands is an error and is never output.

use bytes::BytesMut;
use jiff::Timestamp;
use serde::Deserialize;

use crate::docker::hijack::StdStream;

/// Length of `2026-11-22T01:02:03`.
const SECONDS: usize = 19;

/// Parses times. It remembers the last second, because most lines share it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    text: Vec<u8>,
    second: i64,
}

impl Clock {
    /// Parses `2026-11-22T01:02:03.000000001Z`, with 0 to 9 digits after the point.
    fn read(&mut self, text: &[u8]) -> Option<Timestamp> {
        let (seconds, rest) = text.split_at_checked(SECONDS)?;
        let fraction = match rest {
            b"Z" => 0,
            [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
                let mut value: i32 = 0;
                for place in 0..9 {
                    let digit = digits.get(place).copied().unwrap_or(b'0');
                    value = value * 10 + i32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
                }
                value
            }
            _ => return std::str::from_utf8(text).ok()?.parse().ok(),
        };
        if self.text != seconds {
            let time: Timestamp = format!("{}Z", std::str::from_utf8(seconds).ok()?).parse().ok()?;
            self.second = time.as_second();
            self.text.clear();
            self.text.extend_from_slice(seconds);
        }
        Timestamp::new(self.second, fraction).ok()
    }
}

/// Parses one line without its line ending and appends the message to `out`. Returns none for a line that cannot be
/// understood, and leaves `out` unchanged.
pub(super) fn read(line: &[u8], clock: &mut Clock, out: &mut BytesMut) -> Option<(StdStream, Timestamp)> {
    let start = out.len();
    plain(line, clock, out).or_else(|| {
        out.truncate(start);
        any(line, out)
    })
}

/// Parses the usual format.
fn plain(line: &[u8], clock: &mut Clock, out: &mut BytesMut) -> Option<(StdStream, Timestamp)> {
    let body = line.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}")?;
    let quote = memchr::memrchr(b'"', body)?;
    let (body, time) = body.split_at_checked(quote)?;
    let time = clock.read(time.get(1..)?)?;
    let body = body.strip_suffix(b"\",\"time\":")?;
    let (stream, text) = if let Some(text) = body.strip_suffix(b"\",\"stream\":\"stdout") {
        (StdStream::Stdout, text)
    } else {
        (StdStream::Stderr, body.strip_suffix(b"\",\"stream\":\"stderr")?)
    };
    unescape(text, out)?;
    Some((stream, time))
}

/// Removes the escapes from a JSON text. Returns none for text that needs a full parser.
fn unescape(text: &[u8], out: &mut BytesMut) -> Option<()> {
    std::str::from_utf8(text).ok()?;
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\\', b'"', rest) {
        let (before, escape) = rest.split_at_checked(at)?;
        out.extend_from_slice(before);
        let [b'\\', kind, after @ ..] = escape else { return None };
        rest = after;
        let byte = match kind {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'"' | b'\\' | b'/' => *kind,
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let (digits, after) = rest.split_at_checked(4)?;
                rest = after;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                // Half of a surrogate pair is no character.
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        };
        out.extend_from_slice(&[byte]);
    }
    out.extend_from_slice(rest);
    Some(())
}

/// Parses every other format with serde.
fn any(line: &[u8], out: &mut BytesMut) -> Option<(StdStream, Timestamp)> {
    #[derive(Deserialize)]
    struct Line {
        log: String,
        stream: StdStream,
        time: Timestamp,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    out.extend_from_slice(line.log.as_bytes());
    Some((line.stream, line.time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Option<(StdStream, Timestamp, Vec<u8>)> {
        let mut out = BytesMut::from(&b"before"[..]);
        let read = read(line.as_bytes(), &mut Clock::default(), &mut out);
        match read {
            Some((stream, time)) => Some((stream, time, out.split_off(6).to_vec())),
            None => {
                assert_eq!(&out[..], b"before", "a line that is not understood leaves nothing");
                None
            }
        }
    }

    fn serde(line: &str) -> Option<(StdStream, Timestamp, Vec<u8>)> {
        let mut out = BytesMut::new();
        let (stream, time) = any(line.as_bytes(), &mut out)?;
        Some((stream, time, out.to_vec()))
    }

    #[test]
    fn what_is_read_by_hand_is_what_a_json_parser_reads() {
        let texts = [
            r"plain\n",
            r"",
            r"\n",
            r"a\u001b\u003c\u003e\u0026\u2028\ufffd\n",
            r#"quote \" slash \\ \/ \b\f\r\t end\\"#,
            r#"\",\"stream\":\"stderr\",\"time\":\"x\"}"#,
            "é 😀 \u{7f}",
            r"pair \ud83d\ude00 of surrogates\n",
        ];
        let times = ["2026-11-22T01:02:03Z", "2026-11-22T01:02:03.1Z", "2026-11-22T01:02:59.000000001Z"];
        for text in texts {
            for stream in ["stdout", "stderr"] {
                for time in times {
                    let line = format!(r#"{{"log":"{text}","stream":"{stream}","time":"{time}"}}"#);
                    assert!(one(&line).is_some(), "{line}");
                    assert_eq!(one(&line), serde(&line), "{line}");
                }
            }
        }
    }

    #[test]
    fn other_forms_of_the_same_object_are_understood_too() {
        let plain = one(r#"{"log":"x\n","stream":"stdout","time":"2026-11-22T01:02:03.5Z"}"#);
        for line in [
            r#"{"log":"x\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-11-22T01:02:03.5Z"}"#,
            r#"{ "time" : "2026-11-22T02:02:03.5+01:00", "stream" : "stdout", "log" : "x\n" }"#,
        ] {
            assert_eq!(one(line), plain, "{line}");
        }
    }

    #[test]
    fn what_is_no_log_line_is_refused() {
        for line in [
            "",
            "{",
            r#"{"log":"x","stream":"stdout","time":"2026-11-22T01:02:03.5Z""#,
            r#"{"log":"x","stream":"stdin","time":"2026-11-22T01:02:03.5Z"}"#,
            r#"{"log":"x","stream":"stdout","time":"yesterday"}"#,
            r#"{"log":"half \ud83d","stream":"stdout","time":"2026-11-22T01:02:03.5Z"}"#,
            r#"{"log":"\x","stream":"stdout","time":"2026-11-22T01:02:03.5Z"}"#,
            r#"{"log":"\u00+1","stream":"stdout","time":"2026-11-22T01:02:03.5Z"}"#,
            "\0\0\0\0",
        ] {
            assert_eq!(one(line), None, "{line}");
        }
    }

    #[test]
    fn times_are_those_that_the_library_for_times_reads() {
        let mut clock = Clock::default();
        for text in [
            "2026-11-22T01:02:03.5Z",
            "2026-11-22T01:02:03.000000009Z",
            "1970-01-01T00:00:00Z",
            "2024-02-29T23:59:59.999999999Z",
        ] {
            assert_eq!(clock.read(text.as_bytes()), Some(text.parse().unwrap()), "{text}");
        }
        for bad in ["2026-11-22T01:02:03.Z", "2026-11-22T01:02:03.1x3Z", "2026-11-22T01:02:03", "2026-13-22T01:02:03Z"]
        {
            assert_eq!(clock.read(bad.as_bytes()), None, "{bad}");
        }
    }
}
