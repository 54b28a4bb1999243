//! Durations in their written form: `7d`, `12h`, `1d12h`, and `never`.

use std::fmt;

use serde::Deserialize;

/// Units from longest to shortest, in milliseconds.
const UNITS: [(char, u64); 5] = [('w', 604_800_000), ('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];

/// A waiting time; never is the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Age(u64);

impl Age {
    /// An age that is never reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// Creates an age from a number of days.
    pub const fn days(days: u64) -> Self {
        Self(days * 86_400_000)
    }

    /// Creates an age from milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse(text.trim()).ok_or_else(|| format!("`{text}` is no duration; write e.g. `7d`, `12h`, `1d12h` or `never`"))
    }
}

/// Shows the two largest units: an age of 8 days, 3 hours and 12 minutes is `8d3h`.
impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("never");
        }
        let mut rest = self.0;
        let mut shown = 0;
        // Weeks are accepted but not shown: an age of `2w1d` is harder to read than `15d`.
        for (unit, length) in UNITS.into_iter().skip(1) {
            let count = rest / length;
            rest %= length;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
            if count > 0 || shown > 0 {
                shown += 1;
            }
            if shown == 2 {
                break;
            }
        }
        if shown == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

/// Parses numbers with units, each unit at most once and from longest to shortest.
fn parse(text: &str) -> Option<Age> {
    if text == "never" {
        return Some(Age::NEVER);
    }
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, after) = rest.split_at(end);
        let unit = after.chars().next()?;
        let (_, length) = units.find(|(name, _)| *name == unit)?;
        total = digits.parse::<u64>().ok()?.checked_mul(*length)?.checked_add(total)?;
        rest = after.get(1..)?;
    }
    (!text.is_empty()).then_some(Age(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Age, String> {
        Age::try_from(text.to_owned())
    }

    #[test]
    fn durations_are_sums_of_units() {
        assert_eq!(read("7d"), Ok(Age::days(7)));
        assert_eq!(read("2w"), Ok(Age::days(14)));
        assert_eq!(read(" 1d12h "), Ok(Age(36 * 3_600_000)));
        assert_eq!(read("90m"), Ok(Age(5_400_000)));
        assert_eq!(read("0s"), Ok(Age(0)));
        assert_eq!(read("never"), Ok(Age::NEVER));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in
            ["", "7", "d", "7 days", "-1d", "1.5h", "12h1d", "1d1d", "7é", "99999999999999999999d", "9999999999999999d"]
        {
            let error = read(text).unwrap_err();
            assert!(error.contains("is no duration; write e.g. `7d`"), "{text}: {error}");
        }
    }

    #[test]
    fn an_age_is_shown_in_its_two_greatest_units() {
        assert_eq!(Age::days(8).to_string(), "8d");
        assert_eq!(Age(8 * 86_400_000 + 3 * 3_600_000 + 12 * 60_000).to_string(), "8d3h");
        assert_eq!(Age(86_400_000 + 60_000).to_string(), "1d");
        assert_eq!(Age(61_500).to_string(), "1m1s");
        assert_eq!(Age(5).to_string(), "0s");
        assert_eq!(Age::NEVER.to_string(), "never");
    }

    #[test]
    fn never_is_longer_than_everything() {
        assert!(Age::days(1_000_000) < Age::NEVER);
    }
}
