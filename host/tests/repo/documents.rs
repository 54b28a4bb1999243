//! Links and names in the documentation have targets.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::{files, read, root, shown};

/// Returns the Markdown files of the repository.
fn documents() -> Vec<PathBuf> {
    files(&root(), ".md")
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in documents() {
        let text = read(&file);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ']).next().unwrap();
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            if !place.exists() {
                wrong.push(format!("{}: {target}", shown(&file)));
            } else if !anchor.is_empty() && !anchors(&read(&place)).contains(anchor) {
                wrong.push(format!("{}: {target} (no such heading)", shown(&file)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 5, "only {count} links were found");
}

/// Returns the anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn the_summary_of_the_book_lists_every_page_once() {
    let docs = root().join("docs");
    let summary = read(&docs.join("SUMMARY.md"));
    for page in files(&docs, ".md") {
        let path = page.strip_prefix(&docs).unwrap().display().to_string();
        if path != "SUMMARY.md" && !path.starts_with("examples/") {
            assert_eq!(summary.matches(&format!("]({path})")).count(), 1, "{path}");
        }
    }
}

#[test]
fn the_readme_stays_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= 150, "README.md has {lines} lines; move details to docs");
}

#[test]
fn the_functions_that_architecture_md_names_exist_where_it_says() {
    let text = read(&root().join("host/ARCHITECTURE.md"));
    // `src/lifecycle/create/up.rs`: `up`, `decide_create`
    let mut count = 0;
    for (at, _) in text.match_indices("`src/") {
        let rest = &text[at + 1..];
        let (path, after) = rest.split_once('`').unwrap();
        let file = root().join("host").join(path);
        assert!(file.exists(), "ARCHITECTURE.md names {path}");
        // Names after a colon, up to the end of the cell or sentence.
        let Some(names) = after.strip_prefix(": ") else { continue };
        let names = names.split(['|', '.', ';', '\n']).next().unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            let last = name.rsplit("::").next().unwrap().trim_end_matches("()");
            let source = read(&file);
            let defined = ["fn", "struct", "enum", "trait", "const", "mod"]
                .iter()
                .any(|kind| source.contains(&format!("{kind} {last}")));
            assert!(defined, "ARCHITECTURE.md says that {path} has {name}");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} names were found");
}
