//! Image references: equality, matching of patterns, and pinning.

/// Returns whether a text has the form of a reference. Any user may write to project files, so their values are
/// checked before any further use.
pub fn is_valid(reference: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    !reference.is_empty()
        && reference.len() <= 512
        && reference.chars().all(allowed)
        && reference.starts_with(|c: char| c.is_ascii_alphanumeric())
        && reference.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// Returns the short form: `docker.io/library/node` and `node` are both `node:latest`.
pub fn normalized(reference: &str) -> String {
    let short = ["docker.io/", "index.docker.io/"].iter().find_map(|hub| reference.strip_prefix(hub));
    let short = short.unwrap_or(reference);
    let short = short.strip_prefix("library/").unwrap_or(short);
    if is_pinned(short) || tag_at(short).is_some() { short.to_owned() } else { format!("{short}:latest") }
}

/// Returns whether a reference names an image by its digest.
pub fn is_pinned(reference: &str) -> bool {
    reference.contains("@sha256:")
}

/// Returns the reference by digest: `node:22-slim` becomes `node@sha256:...`.
pub fn pinned(reference: &str, digest: &str) -> String {
    let name = tag_at(reference).and_then(|at| reference.get(..at)).unwrap_or(reference);
    format!("{name}@{digest}")
}

/// Returns whether a text is a digest: `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

/// Returns whether a pattern matches a whole text. `*` stands for any number of characters except `/`, and `**` for
/// any characters.
///
/// Because `*` stops at a slash, `node:*` does not match `node:5000/evil`, an image of a registry called node.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some(at) = pattern.find('*') else { return pattern == text };
    let (literal, stars) = pattern.split_at(at);
    let Some(rest) = text.strip_prefix(literal) else { return false };
    let (crosses_slash, pattern) = match stars.strip_prefix("**") {
        Some(after) => (true, after),
        None => (false, stars.get(1..).unwrap_or_default()),
    };
    let reach = if crosses_slash { rest.len() } else { rest.find('/').unwrap_or(rest.len()) };
    (0..=reach).filter_map(|skipped| rest.get(skipped..)).any(|rest| matches(pattern, rest))
}

/// Returns the position of the colon before the tag. A colon before a slash belongs to a port.
fn tag_at(reference: &str) -> Option<usize> {
    reference.rfind(':').filter(|at| reference.get(*at..).is_some_and(|tag| !tag.contains('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_forms_are_the_same_reference() {
        assert_eq!(normalized("docker.io/library/node"), "node:latest");
        assert_eq!(normalized("node:22"), "node:22");
        assert_eq!(normalized("localhost:5000/shop"), "localhost:5000/shop:latest");
        assert_eq!(normalized("docker.io/acme/shop:1"), "acme/shop:1");
        assert_eq!(normalized("node@sha256:00"), "node@sha256:00");
    }

    #[test]
    fn pinning_replaces_the_tag() {
        assert_eq!(pinned("node:22-slim", "sha256:00"), "node@sha256:00");
        assert_eq!(pinned("localhost:5000/shop", "sha256:00"), "localhost:5000/shop@sha256:00");
    }

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        assert!(matches("node:*", "node:22-slim"));
        assert!(matches("node:*-slim", "node:22-slim"));
        assert!(matches("*", "debian:12"));
        assert!(matches("registry.example/**", "registry.example/team/shop:1"));
        assert!(!matches("node:*", "node:5000/evil"));
        assert!(!matches("node:*", "evil/node:22"));
        assert!(!matches("node:*", "nodes:22"));
        assert!(!matches("registry.example/*", "registry.example/team/shop:1"));
        assert!(!matches("node:22", "node:22-slim"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        assert!(is_valid("ghcr.io/acme/shop:1.2_3@sha256:00"));
        for text in ["", "a b", "${localEnv:IMAGE}", "-v/:/host", "node:", "a\nb", "é"] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn a_digest_has_64_hexadecimal_digits() {
        assert!(is_digest(&format!("sha256:{}", "0a".repeat(32))));
        assert!(!is_digest("sha256:00") && !is_digest(&"0a".repeat(32)));
    }
}
