//! Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.

use super::error::{Error, Result};

/// Rejects invalid references before they become part of a path.
pub(super) fn check(operation: &'static str, reference: &str) -> Result<()> {
    let valid = !reference.is_empty()
        && !reference.starts_with('/')
        && !reference.ends_with('/')
        && !reference.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        && reference.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:@".contains(c));
    if valid {
        return Ok(());
    }
    Err(Error::BadRequest { operation, cause: format!("'{reference}' is not an image reference") })
}

/// Returns whether a text is a valid name for a new image: `[HOST[:PORT]/]PATH[:TAG]`, as in the distribution's
/// reference specification.
pub fn is_image_name(name: &str) -> bool {
    let repository = without_tag(name);
    let tag = name.get(repository.len()..).unwrap_or_default();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_tag =
        |tag: &str| tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-');
    let (host, path) = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, repository),
    };
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        let mut between = part.split(letter).filter(|between| !between.is_empty());
        let joins = |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-');
        part.starts_with(letter) && part.ends_with(letter) && between.all(joins)
    };
    let is_host = |host: &str| {
        let (name, port) = host.split_once(':').unwrap_or((host, "0"));
        let label = |label: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric();
            label.starts_with(plain) && label.ends_with(plain) && label.chars().all(|c| plain(c) || c == '-')
        };
        name.split('.').all(label) && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit())
    };
    repository.len() <= 255
        && tag.strip_prefix(':').is_none_or(is_tag)
        && host.is_none_or(is_host)
        && path.split('/').all(is_part)
}

/// Splits a reference into repository and tag or digest. The default is `latest`, because the engine would fetch
/// every tag without one.
pub(super) fn split(reference: &str) -> (&str, &str) {
    if let Some((repository, digest)) = reference.split_once('@') {
        return (without_tag(repository), digest);
    }
    let repository = without_tag(reference);
    match reference.get(repository.len()..).and_then(|tail| tail.strip_prefix(':')) {
        Some(tag) if !tag.is_empty() => (repository, tag),
        _ => (repository, "latest"),
    }
}

/// Removes the tag. A colon before the last slash belongs to the registry's port.
fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_told_from_what_is_none() {
        for name in
            ["a", "a:B_1.x-y", "team/a__b-c.d:1", "localhost/x", "localhost:5000/x/y:z", "Host.example:80/x", "a--b"]
        {
            assert!(is_image_name(name), "{name}");
        }
        let long = "a".repeat(256);
        for name in [
            "",
            "Bad",
            "bad:Tag:x",
            "a:",
            "a:.x",
            "a/",
            "/a",
            "a//b",
            "a_-b",
            "-a",
            "a-",
            "a@sha256:0",
            "h.x:/a",
            ".x/a",
            "a b",
            &long,
        ] {
            assert!(!is_image_name(name), "{name}");
        }
    }

    #[test]
    fn references_split_into_repository_and_tag_or_digest() {
        assert_eq!(split("debian"), ("debian", "latest"));
        assert_eq!(split("debian:12"), ("debian", "12"));
        assert_eq!(split("host:5000/a/b"), ("host:5000/a/b", "latest"));
        assert_eq!(split("host:5000/a/b:1"), ("host:5000/a/b", "1"));
        assert_eq!(split("a/b:1@sha256:ff"), ("a/b", "sha256:ff"));
    }

    #[test]
    fn what_would_be_another_path_is_no_reference() {
        for bad in ["", "..", "a/../b", "/a", "a//b", "a b", "a?b", "a/"] {
            assert!(check("x", bad).is_err(), "{bad:?}");
        }
        assert!(check("x", "ghcr.io/Some_one/a.b-c:v1@sha256:00").is_ok());
    }
}
