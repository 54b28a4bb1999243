//! Converts a version expression to a tag: projects write ranges (`^20 || >=22`), while images have versions.
//!
//! npm, Composer, Bundler, Mix and PEP 440 differ in details that do not matter here. A tag such as `3` stands for
//! the newest release of that series, so the only question is which series satisfies the expression.

/// Represents the parts that a tag leaves open: `22` is the newest `22.x.y`.
const NEWEST: u32 = u32::MAX;

/// The limit of an expression, in bytes.
const MOST_EXPRESSION: usize = 256;

/// The limit of a version's parts.
const MOST_PARTS: usize = 8;

/// A version, most significant part first.
type Parts = Vec<u32>;

/// All versions from `low` up to, but not including, `high`; an absent end is open.
#[derive(Debug, Default, Clone, PartialEq)]
struct Range {
    low: Option<Parts>,
    high: Option<Parts>,
}

/// The numbers of parts that the tags of an image have: `(2, 3)` means `1.17` and `1.17.3`, but no `1`.
pub type TagParts = (usize, usize);

/// Returns the version whose image satisfies an expression, or none if the expression is invalid.
///
/// The default is used if it satisfies the expression. Otherwise the result is the shortest version of the highest
/// alternative that does: `^20.1 || ^21` gives `21`, `~20.1.3` gives `20.1`, and `20.11.1` stays unchanged.
pub fn choose(expression: &str, default: &str, (least, most): TagParts) -> Option<String> {
    let alternatives = alternatives(expression)?;
    // A default such as `lts` cannot be compared, so it only satisfies an expression that allows all versions.
    let default_fits = match parts(default) {
        Some((default, _)) => satisfies(&default, &alternatives),
        None => alternatives.contains(&Range::default()),
    };
    if default_fits {
        return Some(default.to_owned());
    }
    let answers = alternatives.iter().filter_map(|range| {
        let padded = range.candidates().into_iter().map(|mut parts| {
            parts.resize(parts.len().max(least), 0);
            parts
        });
        let mut answer = padded.into_iter().find(|parts| range.contains(parts))?;
        answer.truncate(most);
        Some((&range.low, answer))
    });
    answers.max_by_key(|(low, _)| *low).map(|(_, answer)| join(answer))
}

/// Returns whether a version satisfies an expression, or none if the expression is invalid. A version without numbers,
/// such as `lts`, satisfies an expression that has no upper end.
pub fn agrees(expression: &str, version: &str) -> Option<bool> {
    let alternatives = alternatives(expression)?;
    Some(match parts(version) {
        Some((version, _)) => satisfies(&version, &alternatives),
        None => alternatives.iter().any(|range| range.high.is_none()),
    })
}

fn alternatives(expression: &str) -> Option<Vec<Range>> {
    if expression.len() > MOST_EXPRESSION {
        return None;
    }
    let texts = expression.split('|').filter(|text| !text.trim().is_empty());
    let alternatives = texts.map(range).collect::<Option<Vec<_>>>()?;
    (!alternatives.is_empty()).then_some(alternatives)
}

fn satisfies(version: &[u32], alternatives: &[Range]) -> bool {
    alternatives.iter().any(|range| range.contains(version))
}

/// Returns the leading whole number of an expression such as `temurin-21.0.2` or `1.8`, as Java names its versions.
pub fn java_major(text: &str) -> Option<String> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let (parts, _) = parts(text.get(start..)?)?;
    let major = if parts.first() == Some(&1) { parts.get(1) } else { parts.first() };
    major.map(u32::to_string)
}

impl Range {
    fn contains(&self, parts: &[u32]) -> bool {
        let length = [Some(parts), self.low.as_deref(), self.high.as_deref()].into_iter().flatten().map(<[u32]>::len);
        let length = length.max().unwrap_or(0);
        let padded = |parts: &[u32], filler: u32| -> Parts {
            parts.iter().copied().chain(std::iter::repeat(filler)).take(length).collect()
        };
        let version = padded(parts, NEWEST);
        self.low.as_ref().is_none_or(|low| padded(low, 0) <= version)
            && self.high.as_ref().is_none_or(|high| version < padded(high, 0))
    }

    /// Returns versions that may satisfy the range, shortest first.
    fn candidates(&self) -> Vec<Parts> {
        match (&self.low, &self.high) {
            (Some(low), _) => (1..=low.len()).filter_map(|length| low.get(..length).map(<[u32]>::to_vec)).collect(),
            // Below 20 is 19, or the series that contains the bound: below 3.12 is 3.11.
            (None, Some(high)) => (1..=high.len())
                .filter_map(|length| {
                    let mut parts = high.get(..length)?.to_vec();
                    let last = parts.last_mut()?;
                    *last = last.checked_sub(1)?;
                    Some(parts)
                })
                .rev()
                .collect(),
            (None, None) => Vec::new(),
        }
    }

    fn and(self, other: Self) -> Self {
        let high = match (self.high, other.high) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { low: self.low.max(other.low), high }
    }
}

/// Parses one alternative: comparisons that must all hold, e.g. `>=3.10,<4` or `18 - 20`.
fn range(text: &str) -> Option<Range> {
    let mut whole = Range::default();
    let mut words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let number_at = word.find(|c: char| !"<>=^~!".contains(c));
        let (operator, version) = match number_at {
            Some(at) => word.split_at(at),
            // `>= 3.10`: the version is the next word.
            None => (word, words.next()?),
        };
        let next = if operator.is_empty() && words.peek() == Some(&"-") {
            words.next();
            comparison(">=", version)?.and(comparison("<=", words.next()?)?)
        } else {
            comparison(operator, version)?
        };
        whole = whole.and(next);
    }
    Some(whole)
}

fn comparison(operator: &str, version: &str) -> Option<Range> {
    if matches!(version, "*" | "x" | "X") {
        return Some(Range::default());
    }
    let (parts, _) = parts(version)?;
    let up_to = |high: Parts| Some(Range { low: Some(parts.clone()), high: Some(high) });
    match operator {
        "" | "=" | "==" | "===" => up_to(after(&parts)),
        ">=" => Some(Range { low: Some(parts), high: None }),
        ">" => Some(Range { low: Some(after(&parts)), high: None }),
        "<" => Some(Range { low: None, high: Some(parts) }),
        "<=" => Some(Range { low: None, high: Some(after(&parts)) }),
        // The first part that is not zero must not change.
        "^" => {
            let fixed = parts.iter().position(|part| *part != 0).map_or(parts.len(), |at| at + 1);
            up_to(after(parts.get(..fixed)?))
        }
        "~" => up_to(after(parts.get(..parts.len().min(2))?)),
        // Only the last part may change.
        "~>" | "~=" => up_to(after(parts.get(..parts.len().saturating_sub(1).max(1))?)),
        // A single excluded release does not decide on a series.
        "!=" => Some(Range::default()),
        _ => None,
    }
}

/// Parses a version and returns the rest after its numbers: `v20.11.1` is 20, 11, 1; so is `20.11.1-rc.1`; `20.x` is
/// 20.
fn parts(text: &str) -> Option<(Parts, &str)> {
    let mut rest = text.trim().trim_start_matches(['v', 'V']);
    let mut parts = Vec::new();
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        // A larger number is no version, and `after` could not increment it.
        match digits.parse::<u32>() {
            Ok(part) if part < NEWEST && parts.len() < MOST_PARTS => parts.push(part),
            _ => break,
        }
        rest = after;
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None => break,
        }
    }
    let ends_well = rest.is_empty() || rest.starts_with(['x', 'X', '*', '-', '+', '@']);
    (!parts.is_empty() && ends_well).then_some((parts, rest))
}

/// Returns the first version after all those that begin with these parts.
fn after(parts: &[u32]) -> Parts {
    let mut next = parts.to_vec();
    if let Some(last) = next.last_mut() {
        *last += 1;
    }
    next
}

fn join(parts: Parts) -> String {
    let words: Vec<String> = parts.iter().map(u32::to_string).collect();
    words.join(".")
}

#[cfg(test)]
mod tests {
    use super::{TagParts, agrees, java_major};

    const ANY: TagParts = (1, 4);

    fn choose(expression: &str, default: &str) -> Option<String> {
        super::choose(expression, default, ANY)
    }

    #[track_caller]
    fn gives(expression: &str, default: &str, expected: &str) {
        assert_eq!(choose(expression, default).as_deref(), Some(expected), "{expression} with default {default}");
    }

    #[test]
    fn a_pinned_version_stays_as_it_is() {
        gives("20.11.1", "22", "20.11.1");
        gives("v20.11.1", "22", "20.11.1");
        gives("20", "22", "20");
        gives("3.10", "3", "3.10");
        gives("==3.12.4", "3", "3.12.4");
        gives("1.16.2-otp-26", "1", "1.16.2");
    }

    #[test]
    fn the_default_is_taken_when_it_satisfies_the_range() {
        gives(">=18", "22", "22");
        gives("^20 || >=22", "22", "22");
        gives(">=3.10,<4", "3", "3");
        gives(">= 3.10, < 4", "3", "3");
        gives("*", "lts", "lts");
        gives(">=18", "22-bookworm", "22-bookworm");
    }

    #[test]
    fn otherwise_the_shortest_version_of_the_highest_alternative_is_taken() {
        gives("^20 || >=22", "18", "22");
        gives("^20.1.0 || ^21.2", "22", "21");
        gives("~20.1.3", "22", "20.1");
        gives("18 - 20", "22", "18");
        gives("20.x", "22", "20");
        gives("^7.4|^8.0", "9", "8");
        gives(">=3.10,<3.13", "3", "3.10");
        gives("~=3.11", "2", "3");
        gives("~> 3.2.1", "3", "3.2");
        gives("==3.12.*", "3", "3.12");
        gives("^0.13.1", "1", "0.13");
        gives(">20", "20", "21");
    }

    #[test]
    fn a_range_without_a_lower_end_gives_the_series_below_its_upper_end() {
        gives("<20", "22", "19");
        gives("<=20", "22", "20");
        gives("<3.12", "3", "3.11");
        gives("<4,!=3.9.0", "3", "3");
    }

    #[test]
    fn a_version_has_as_many_parts_as_the_tags_of_its_image() {
        let with = |expression, parts| super::choose(expression, "none", parts);
        assert_eq!(with("8", (2, 3)).as_deref(), Some("8.0"));
        assert_eq!(with("~> 1.14", (2, 3)).as_deref(), Some("1.14"));
        assert_eq!(with("2.1", (3, 3)).as_deref(), Some("2.1.0"));
        assert_eq!(with("5.1.1", (2, 2)).as_deref(), Some("5.1"));
    }

    #[test]
    fn a_version_agrees_with_an_expression_that_it_satisfies() {
        assert_eq!(agrees("^20 || >=22", "20"), Some(true));
        assert_eq!(agrees("20", "20.11.1"), Some(true));
        assert_eq!(agrees("20.11.1", "20"), Some(false));
        assert_eq!(agrees("<20", "22"), Some(false));
        assert_eq!(agrees(">=18", "lts"), Some(true));
        assert_eq!(agrees("18", "lts"), Some(false));
        assert_eq!(agrees("pypy", "3"), None);
    }

    #[test]
    fn garbage_gives_nothing() {
        let long = "9".repeat(40);
        let many = "1.".repeat(30_000);
        for text in [
            "",
            "latest",
            "workspace:*",
            "pypy3.10",
            "20abc",
            "||",
            ">=",
            "20 ||| abc",
            "^",
            "4294967295",
            &long,
            &many,
            "1.2.3.4.5.6.7.8.9",
        ] {
            assert_eq!(choose(text, "22"), None, "{text}");
        }
        assert_eq!(choose(">=5,<3", "1"), None);
        assert_eq!(choose(&"1||".repeat(100), "1"), None);
    }

    #[test]
    fn java_is_known_by_its_major_version() {
        assert_eq!(java_major("temurin-21.0.2+13.0.LTS").as_deref(), Some("21"));
        assert_eq!(java_major("1.8").as_deref(), Some("8"));
        assert_eq!(java_major("17").as_deref(), Some("17"));
        assert_eq!(java_major("latest"), None);
    }
}
