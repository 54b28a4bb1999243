//! Secrets in the files of a project that policies read: a careful project has none, but records are kept for a long
//! time.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::hooks::redact::{REDACTED, SecretNames};

/// Returns a text of a configuration file with `***` in place of each value whose name marks it as a secret: a pair of
/// JSON, an assignment of a shell or a Dockerfile, or a line of YAML. Other notations are not recognized.
pub(in crate::lifecycle) fn without_secrets(text: &str, secrets: &SecretNames) -> String {
    let mut text = text.to_owned();
    for pairs in PAIRS.iter() {
        let clean = pairs.replace_all(&text, |found: &Captures<'_>| {
            let part = |name: &str| found.name(name).map_or("", |part| part.as_str());
            let (before, name, between, value) = (part("before"), part("name"), part("between"), part("value"));
            let quote = value.chars().next().filter(|first| ['"', '\''].contains(first)).map(String::from);
            let quote = quote.unwrap_or_default();
            match secrets.contains(name) {
                true => format!("{before}{name}{between}{quote}{REDACTED}{quote}"),
                false => format!("{before}{name}{between}{value}"),
            }
        });
        text = clean.into_owned();
    }
    text
}

/// Names with their values: in JSON, in assignments, and in YAML.
static PAIRS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let quoted = r#""(?:[^"\\]|\\.)*""#;
    [
        format!(r#"(?<before>")(?<name>[^"\\\n]+)(?<between>"\s*:\s*)(?<value>{quoted})"#),
        format!(r#"(?<before>\b)(?<name>[A-Za-z_][A-Za-z0-9_]*)(?<between>=)(?<value>{quoted}|'[^'\n]*'|[^\s"']+)"#),
        r#"(?m)(?<before>^[ \t]*(?:- )?)(?<name>[A-Za-z_][A-Za-z0-9_.-]*)(?<between>:[ \t]+)(?<value>[^\s"'|>{\[&*#][^\n]*|"[^"\n]*"|'[^'\n]*')"#
            .to_owned(),
    ]
    .iter()
    .filter_map(|pattern| Regex::new(pattern).ok())
    .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_files_are_hidden_by_their_names_however_they_are_written() {
        let secrets = SecretNames(vec!["*token*".into(), "*password*".into()]);
        assert_eq!(PAIRS.len(), 3, "every pattern is one");
        for (text, clean) in [
            (r#"{"API_TOKEN": "sec\"ret\\value\/77", "b": "c"}"#, r#"{"API_TOKEN": "***", "b": "c"}"#),
            ("{ // x\n\"a.token\"\n:\n\"v\"}", "{ // x\n\"a.token\"\n:\n\"***\"}"),
            ("ENV API_TOKEN=abc B=c\nARG db_password='a b'", "ENV API_TOKEN=*** B=c\nARG db_password='***'"),
            ("export TOKEN=\"a b\"; x", "export TOKEN=\"***\"; x"),
            (
                "a:\n  - TOKEN: some words\n  b_password: \"x\"\nc: d\n",
                "a:\n  - TOKEN: ***\n  b_password: \"***\"\nc: d\n",
            ),
            ("tokens: [a]\nname: token\n\"token\"", "tokens: [a]\nname: token\n\"token\""),
        ] {
            assert_eq!(without_secrets(text, &secrets), clean);
        }
    }
}
