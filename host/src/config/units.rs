//! Sizes and times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes. Written `"512MiB"`, `"2GB"`, or as a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.trim()
            .parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| format!("'{text}' is not a size such as 512MiB or 2GiB"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that divides the number without a remainder, so that the text parses to the same number.
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A duration. Written `"250ms"`, `"10s"`, `"2h 30m"`, `"7d"` (a day has 24 hours).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Creates a duration of whole seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a duration such as 250ms, 10s, 2h or 7d");
        let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
        let day = jiff::SpanRelativeTo::days_are_24_hours();
        let duration = span.to_duration(day).map_err(|_| wrong())?;
        Duration::try_from(duration).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

/// A number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Raw::deserialize(from) {
            Ok(Raw::Number(bytes)) => Ok(Self(bytes)),
            Ok(Raw::Text(text)) => text.parse().map_err(serde::de::Error::custom),
            Err(_) => Err(serde::de::Error::custom("takes a size such as \"512MiB\"")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Raw::deserialize(from) {
            Ok(Raw::Text(text)) => text.parse().map_err(serde::de::Error::custom),
            _ => Err(serde::de::Error::custom("takes a duration such as \"10s\", with its unit")),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Parses a time, or how long ago it was (`10m`), in the forms of docker: with a zone (`2026-01-31T12:00:00Z`), a local
/// time (`2026-01-31T12:00:00`), a local day (`2026-01-31`), or seconds since 1970 (`1769860800.5`).
///
/// # Errors
/// One line that describes the accepted forms.
pub fn instant(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        let zoned = local.to_zoned(jiff::tz::TimeZone::system()).map_err(|error| error.to_string())?;
        return Ok(zoned.timestamp());
    }
    if let Some(time) = unix_time(text) {
        return Ok(time);
    }
    let span: Span = text.parse().map_err(|_| {
        format!(
            "'{text}' is neither a time such as 2026-01-31T12:00:00Z, 2026-01-31 or 1769860800, nor a duration such as 10m"
        )
    })?;
    jiff::Timestamp::now().checked_sub(span.0).map_err(|error| error.to_string())
}

/// Parses seconds since 1970 with at most nine digits of a fraction.
fn unix_time(text: &str) -> Option<jiff::Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || fraction.len() > 9 || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    jiff::Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

/// Formats the time since a point in time for people, such as `3 minutes ago`; `-` if there is none.
pub fn ago(time: Option<jiff::Timestamp>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{} ago", seconds_in_words(seconds_since(time))))
}

/// Formats the time until a point in time for people, such as `in 3 minutes`, or `now` if it has come.
pub fn until(time: jiff::Timestamp) -> String {
    match -seconds_since(time) {
        ..=0 => "now".into(),
        seconds => format!("in {}", seconds_in_words(seconds)),
    }
}

fn seconds_since(time: jiff::Timestamp) -> i64 {
    jiff::Timestamp::now().as_second().saturating_sub(time.as_second())
}

/// Formats a duration with its largest unit.
fn seconds_in_words(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let (count, unit) = match seconds.max(0) {
        seconds @ ..MINUTE => (seconds, "second"),
        seconds @ ..HOUR => (seconds / MINUTE, "minute"),
        // Up to two days, hours tell more than "1 day".
        seconds if seconds < 2 * DAY => (seconds / HOUR, "hour"),
        seconds if seconds < 60 * DAY => (seconds / DAY, "day"),
        seconds if seconds < 730 * DAY => (seconds / (30 * DAY), "month"),
        seconds => (seconds / (365 * DAY), "year"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_with_its_largest_unit() {
        for (seconds, words) in [
            (-5, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7_199, "1 hour"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
            (60 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(seconds_in_words(seconds), words);
        }
        let now = jiff::Timestamp::now();
        assert_eq!(ago(None), "-");
        assert_eq!(ago(Some(now - jiff::SignedDuration::from_secs(150))), "2 minutes ago");
        assert_eq!(until(now + jiff::SignedDuration::from_secs(3_630)), "in 1 hour");
        assert_eq!(until(now - jiff::SignedDuration::from_secs(1)), "now");
    }

    #[test]
    fn a_time_has_the_forms_of_docker() {
        let at = |text: &str| instant(text).unwrap_or_else(|error| panic!("{error}"));
        let zoned = at("2026-01-31T12:00:00Z");
        for same in ["2026-01-31T13:00:00+01:00", "1769860800", "1769860800.0", "2026-01-31T05:00:00-07:00"] {
            assert_eq!(at(same), zoned, "{same}");
        }
        assert_eq!(at("1769860800.25").subsec_nanosecond(), 250_000_000);
        let system = jiff::tz::TimeZone::system();
        for (local, hour) in [("2026-01-31", 0), ("2026-01-31T12:30:00", 12)] {
            let zoned = at(local).to_zoned(system.clone());
            assert_eq!((zoned.date().to_string().as_str(), zoned.hour()), ("2026-01-31", hour), "{local}");
        }
        for wrong in ["", "yesterday", "12:00", "2026-13-01", "1.2.3", "-5", "1769860800.1234567890"] {
            assert!(instant(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_times_read_back_as_they_are_printed() {
        for bytes in [0, 1, 1023, 1 << 10, 1 << 20, 3 << 29, 1 << 41] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)), "{bytes}");
        }
        for ms in [1, 250, 1_000, 90_000, 3_600_000, 604_800_000] {
            let span = Span(Duration::from_millis(ms));
            assert_eq!(span.to_string().parse(), Ok(span), "{ms}");
        }
        assert_eq!("1.5GiB".parse(), Ok(Size(3 << 29)));
        assert_eq!("2h 30m".parse(), Ok(Span::seconds(9_000)));
    }

    #[test]
    fn nonsense_says_what_is_taken() {
        for bad in ["", "much", "-1", "1 parsec"] {
            assert!(bad.parse::<Size>().unwrap_err().contains("512MiB"), "{bad}");
            assert!(bad.parse::<Span>().unwrap_err().contains("10s"), "{bad}");
        }
        assert!("-5s".parse::<Span>().is_err());
    }
}
