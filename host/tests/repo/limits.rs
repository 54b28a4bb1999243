//! Folders and functions stay small.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{code_of, read, root, shown};

/// Maximum files in one folder.
const FILES: usize = 25;

/// Maximum lines of a function.
const LINES: usize = 80;

/// Folders that still have more files. A folder that is in order again leaves this list, and no folder is added. Each
/// module of the library is a file.
const FULL: [&str; 1] = ["host/src"];

/// Functions that are still longer, as `path: name`. The same rules apply.
const LONG: [&str; 0] = [];

/// Returns each folder's path and number of files, for a folder and all folders below, without built and hidden
/// folders.
fn folders(folder: &Path) -> Vec<(String, usize)> {
    let (mut all, mut files) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() {
            files += 1;
        } else if name != "target" && !name.starts_with('.') {
            all.extend(folders(&path));
        }
    }
    all.push((shown(folder), files));
    all
}

/// Returns the functions of a source: name, line of the `fn`, and last line; both are 0-based.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // `fn(` is a type, and `impl Fn ` is another word.
        if name.is_empty() || before.is_alphanumeric() || before == '_' {
            continue;
        }
        let (mut braces, mut brackets, mut end) = (0, 0, None);
        for (offset, c) in code[at..].char_indices() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                '{' => braces += 1,
                '}' => braces -= 1,
                // A trait's declaration has no body.
                ';' if braces == 0 && brackets == 0 => break,
                _ => {}
            }
            if c == '}' && braces == 0 {
                end = Some(at + offset);
                break;
            }
        }
        let line = |at: usize| code[..at].matches('\n').count();
        found.extend(end.map(|end| (name, line(at), line(end))));
    }
    found
}

/// Returns the functions of a source with too many lines, except those with a stated reason.
fn too_long(source: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let long = functions(&code_of(source)).into_iter().filter(|(_, first, last)| last - first + 1 > LINES);
    let unsaid = long.filter(|(_, first, last)| {
        let above = lines[..*first].iter().rev().take_while(|line| line.trim_start().starts_with(['/', '#'])).count();
        !lines[first - above..=*last].iter().any(|line| line.trim_start().starts_with("// Long because "))
    });
    unsaid.map(|(name, first, last)| (name, last - first + 1)).collect()
}

/// Compares the oversized items with the list of exceptions, and reports which of both is wrong.
fn compare(found: &BTreeSet<String>, known: &[&str], remedy: &str) {
    let known: BTreeSet<String> = known.iter().map(|name| (*name).to_owned()).collect();
    let new: Vec<_> = found.difference(&known).cloned().collect();
    assert!(new.is_empty(), "{remedy}:\n{}", new.join("\n"));
    let mended: Vec<_> = known.difference(found).cloned().collect();
    assert!(mended.is_empty(), "these are in order now, take them off the list in limits.rs:\n{}", mended.join("\n"));
}

#[test]
fn a_folder_has_at_most_25_files() {
    let full = folders(&root()).into_iter().filter(|(_, files)| *files > FILES).map(|(path, _)| path).collect();
    compare(&full, &FULL, "more than 25 files; make folders by topic");
}

#[test]
fn a_function_has_at_most_80_lines_or_says_why() {
    let mut long = BTreeSet::new();
    for file in ["host", "plugin-sdk", "plugins"].iter().flat_map(|folder| crate::files(&root().join(folder), ".rs")) {
        long.extend(too_long(&read(&file)).into_iter().map(|(name, _)| format!("{}: {name}", shown(&file))));
    }
    compare(&long, &LONG, "more than 80 lines; split them, or say why with '// Long because ...'");
}

#[test]
fn the_length_of_a_function_is_counted_to_its_last_brace() {
    let body = "    let text = \"}\"; // }\n".repeat(LINES);
    let long = format!(
        "trait T {{ fn short(&self, x: [u8; 4]); }}\nfn f<'a>(x: &'a str) -> Vec<fn(u8)> {{\n{body}}}\nfn g() {{}}\n"
    );
    assert_eq!(too_long(&long), [("f".to_owned(), LINES + 2)]);
    assert_eq!(too_long(&long.replacen(&body, &body[body.len() / LINES * 2..], 1)), []);
    let said = long.replacen("fn f", "// Long because it is a table.\n#[inline]\nfn f", 1);
    assert_eq!(too_long(&said), []);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(too_long(&tests), []);
}
