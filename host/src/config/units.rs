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

/// Parses a time (`2026-01-31T12:00:00Z`), or how long ago it was (`10m`).
///
/// # Errors
/// One line that describes the accepted forms.
pub fn instant(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    let span: Span = text
        .parse()
        .map_err(|_| format!("'{text}' is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 10m"))?;
    jiff::Timestamp::now().checked_sub(span.0).map_err(|error| error.to_string())
}

/// Formats a time for people: how long ago it was.
pub fn ago(time: Option<jiff::Timestamp>) -> String {
    let Some(time) = time else { return "-".into() };
    let seconds = jiff::Timestamp::now().as_second().saturating_sub(time.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..172_800 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
