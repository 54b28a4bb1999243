//! Rules for the repository itself: imports go in one direction, folders and functions stay small, every test file is
//! compiled, packages contain the files they need, and the documentation is correct.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod documents;
mod generated;
mod imports;
mod limits;
mod packages;
mod terminal;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Returns all files below a folder with the given ending, without built and hidden folders.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, end));
            }
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Blanks out comments, texts and test-only items of a source; line numbers stay the same.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('/', Some('/')) => {
                while let Some(next) = chars.next_if(|next| *next != '\n') {
                    code.push(blank(next));
                }
            }
            ('/', Some('*')) => {
                let mut last = ' ';
                for next in chars.by_ref() {
                    code.push(blank(next));
                    if (last, next) == ('*', '/') {
                        break;
                    }
                    last = next;
                }
            }
            // A raw string: r"..", r#".."#.
            ('r', Some('"' | '#')) if !(before.is_alphanumeric() || before == '_') => {
                let mut hashes = 0;
                while chars.next_if_eq(&'#').is_some() {
                    hashes += 1;
                }
                if chars.next_if_eq(&'"').is_some() {
                    let end = format!("\"{}", "#".repeat(hashes));
                    let mut text = String::new();
                    while !text.ends_with(&end) {
                        let Some(next) = chars.next() else { break };
                        text.push(next);
                        code.push(blank(next));
                    }
                }
            }
            ('"', _) => {
                while let Some(next) = chars.next() {
                    code.push(blank(next));
                    if next == '\\' {
                        code.extend(chars.next().map(blank));
                    } else if next == '"' {
                        break;
                    }
                }
            }
            // A character literal, not a lifetime.
            ('\'', Some(next)) => {
                let mut ahead = chars.clone();
                ahead.next();
                if next == '\\' {
                    chars.next();
                    chars.next();
                    while chars.next().is_some_and(|next| next != '\'') {}
                } else if ahead.peek() == Some(&'\'') {
                    chars.next();
                    chars.next();
                }
                code.push(' ');
            }
            _ => code.push(c),
        }
        before = c;
    }
    without_tests(&code)
}

/// Blanks out the item after each `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut code = code.to_owned();
    while let Some(start) = code.find(MARK) {
        let (mut depth, mut end) = (0, code.len());
        for (at, c) in code[start + MARK.len()..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == '}' || c == ';') && depth == 0 {
                end = start + MARK.len() + at + c.len_utf8();
                break;
            }
        }
        let blanked: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blanked);
    }
    code
}

#[test]
fn every_file_in_the_tests_folder_is_compiled() {
    let folder = root().join("host/tests");
    let manifest = read(&root().join("host/Cargo.toml"));
    let own_crates = folder.join("plugins");
    let targets = manifest.lines().filter_map(|line| line.strip_prefix("path = \"tests/")?.strip_suffix('"'));
    let mut queue: Vec<(PathBuf, bool)> = targets.map(|path| (folder.join(path), true)).collect();
    assert!(!queue.is_empty(), "host/Cargo.toml names no test");
    let mut reached = BTreeSet::new();
    while let Some((file, target)) = queue.pop() {
        assert!(file.is_file(), "{} is named and not there", shown(&file));
        // Modules of a target's first file are beside it, those of another file in the folder of its name.
        let place = if target { file.parent().unwrap().to_path_buf() } else { file.with_extension("") };
        for line in code_of(&read(&file)).lines() {
            let words = line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some(name) = words.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                let options = [place.join(format!("{name}.rs")), place.join(name).join("mod.rs")];
                queue.extend(options.into_iter().filter(|path| path.is_file()).take(1).map(|path| (path, false)));
            }
        }
        reached.insert(file);
    }
    let all = files(&folder, ".rs").into_iter().filter(|path| !path.starts_with(&own_crates));
    let left: Vec<_> = all.filter(|path| !reached.contains(path)).map(|path| shown(&path)).collect();
    assert!(left.is_empty(), "no [[test]] of host/Cargo.toml and no mod names {}", left.join(", "));
}

#[test]
fn nothing_is_left_unfinished_and_no_machine_is_named() {
    let this = Path::new(file!()).file_name().unwrap();
    let here = root().display().to_string();
    let ends = [".rs", ".rhai", ".toml", ".md", ".wit", ".sh", ".json"];
    let mut wrong = Vec::new();
    for file in ends.iter().flat_map(|end| files(&root(), end)).filter(|file| file.file_name() != Some(this)) {
        for (number, line) in read(&file).lines().enumerate() {
            // Users in examples are called ada or user.
            let home = line.split("/home/").nth(1).is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_lowercase())
                    && !["ada", "user"].iter().any(|name| rest.starts_with(name))
            });
            let unfinished = ["todo!(", "unimplemented!(", "dbg!(", "FIXME"].iter().any(|word| line.contains(word));
            if home || unfinished || line.contains("/Users/") || (here.len() > 4 && line.contains(&format!("{here}/")))
            {
                wrong.push(format!("{}:{}: {}", shown(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
