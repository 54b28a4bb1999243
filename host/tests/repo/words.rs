//! Sentences name their subjects: pronouns such as these make readers ask which program, user or object is meant.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{files, read, root, shown};

const PRONOUNS: [&str; 4] = ["anybody", "nobody", "somebody", "whoever"];

/// The number of these words in each part of the repository. The numbers may only fall.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/repo/words.txt");

/// Counts these words in a text, except names between backticks: `nobody` is also a user.
fn count(text: &str) -> usize {
    let plain = text.lines().flat_map(|line| line.split('`').step_by(2));
    let words = plain.flat_map(|part| part.split(|c: char| !(c.is_alphanumeric() || c == '_')));
    words.filter(|word| PRONOUNS.contains(&word.to_lowercase().as_str())).count()
}

/// Returns the part of the repository that a file belongs to: `host/src`, or the first folder.
fn part_of(path: &str) -> &str {
    if path.starts_with("host/src/") { "host/src" } else { path.split('/').next().unwrap() }
}

/// Parses lines with a part and its count.
fn parse(text: &str) -> BTreeMap<String, usize> {
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    pairs.map(|(part, number)| (part.to_owned(), number.parse().unwrap())).collect()
}

#[test]
fn pronouns_in_place_of_subjects_become_fewer() {
    let mut now: BTreeMap<String, usize> = BTreeMap::new();
    let sources = ["host/src", "plugin-sdk/src", "plugins"].map(|folder| (folder, ".rs"));
    let others = [("docs", ".md"), ("docs", ".json"), ("policies", ".rhai"), ("wit", ".wit"), ("host/src", ".html")];
    let all = sources.iter().chain(&others).flat_map(|(folder, end)| files(&root().join(folder), end));
    for file in all.chain([root().join("README.md")]) {
        *now.entry(part_of(&shown(&file)).to_owned()).or_default() += count(&read(&file));
    }
    now.retain(|_, number| *number > 0);
    let kept = parse(&std::fs::read_to_string(KEPT).unwrap_or_default());
    let renew = std::env::var_os("WHARF_RENEW").is_some();
    let more = now.iter().filter(|(part, number)| **number > kept.get(*part).copied().unwrap_or_default());
    let more: Vec<_> = more.map(|(part, number)| format!("{part}: {number}")).collect();
    assert!(
        more.is_empty() || (renew && kept.is_empty()),
        "name the subject in place of {}:\n{}",
        PRONOUNS.join(", "),
        more.join("\n")
    );
    if renew {
        let mut text = "# How often each part has nobody, somebody, anybody or whoever; see words.rs.\n".to_owned();
        now.iter().for_each(|(part, number)| writeln!(text, "{part} {number}").unwrap());
        std::fs::write(KEPT, text).unwrap();
        return;
    }
    assert!(now == kept, "there are fewer than words.txt says: renew it with WHARF_RENEW=1, see words.rs");
}

#[test]
fn a_pronoun_is_counted_as_a_word_and_not_as_a_name() {
    let text = "Nobody asks, and `nobody` is a user.\nSomebody's folder; whoever_it_is, anybody: `a` nobody";
    assert_eq!(count(text), 4);
    assert_eq!(part_of("host/src/cli/up.rs"), "host/src");
    assert_eq!(part_of("docs/cli.md"), "docs");
}
