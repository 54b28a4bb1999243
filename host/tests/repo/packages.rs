//! Published packages contain the files that they are built from.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::{code_of, files, read, root, shown};

#[test]
fn every_shipped_script_is_built_in_as_it_stands() {
    let built_in: BTreeMap<_, _> = wharf::builtin::ALL.into_iter().collect();
    let tests = |file: &PathBuf| file.display().to_string().ends_with(".test.rhai");
    for file in files(&root().join("policies"), ".rhai").into_iter().filter(|file| !tests(file)) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        match built_in.get(name.as_str()) {
            Some(wharf::builtin::BuiltIn::Script(text)) => assert_eq!(*text, read(&file), "{name}"),
            _ => panic!("{name} is not built in as a script"),
        }
    }
}

/// The published packages.
const PACKAGES: [&str; 2] = ["host", "plugin-sdk"];

#[test]
fn what_a_package_repeats_is_the_same_as_at_the_top() {
    for (own, top, end) in [
        ("host/wit/v0.1", "wit/v0.1", ".wit"),
        ("plugin-sdk/wit/v0.1", "wit/v0.1", ".wit"),
        ("host/policies", "policies", ".rhai"),
    ] {
        let shipped = |path: &PathBuf| !path.display().to_string().ends_with(".test.rhai");
        let read_all = |folder: &str| -> BTreeMap<String, String> {
            let all = files(&root().join(folder), end).into_iter().filter(shipped);
            all.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(&path))).collect()
        };
        let (own_files, top_files) = (read_all(own), read_all(top));
        assert!(!top_files.is_empty(), "{top} is empty");
        assert!(own_files == top_files, "{own} is not the same as {top}: link what is missing");
    }
    for package in PACKAGES {
        assert_eq!(read(&root().join(package).join("LICENSE")), read(&root().join("LICENSE")), "{package}");
    }
}

/// Returns the files that a source includes at compile time, as it names them, each on the line of its macro. Tests
/// and files of the build script in `OUT_DIR` are excluded.
fn taken_in(source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut paths = Vec::new();
    // Texts are blanked out in the code: the code locates a macro, and the source shows its argument.
    for (code, source) in code.lines().zip(source.lines()) {
        for mark in ["include_str!(", "include_bytes!(", "path: "] {
            let Some((_, rest)) = code.contains(mark).then(|| source.split_once(mark)).flatten() else { continue };
            let name = rest.trim_start_matches('[').strip_prefix('"').and_then(|rest| rest.split('"').next());
            paths.extend(name.map(str::to_owned));
        }
    }
    paths
}

#[test]
fn a_package_is_built_from_nothing_above_it() {
    let mut count = 0;
    for package in PACKAGES {
        let package = root().join(package);
        for file in files(&package.join("src"), ".rs") {
            for path in taken_in(&read(&file)) {
                count += 1;
                let macros = file.parent().unwrap().strip_prefix(&package).unwrap().join(&path);
                // Macros that generate bindings resolve paths from the package's folder.
                let places = [macros, PathBuf::from(&path)];
                let inside = |path: &PathBuf| stays_below(path) && package.join(path).exists();
                assert!(places.iter().any(inside), "{} takes in {path}, which is not in its package", shown(&file));
            }
        }
    }
    assert!(count > 10, "only {count} files were found");
}

/// Returns whether a relative path never leaves its starting folder.
fn stays_below(path: &Path) -> bool {
    let mut depth = 0;
    path.components().all(|part| {
        depth += if part == Component::ParentDir { -1 } else { 1 };
        depth >= 0
    })
}

#[test]
fn a_path_that_leaves_its_package_is_found() {
    let source = "const A: &str = include_str!(\"../x.toml\");\nbindgen!({ path: \"../wit\" });\n// include_str!(\"no\")\n\
                  #[cfg(test)]\nmod tests { const B: &str = include_str!(\"../../docs/api.md\"); }\n";
    assert_eq!(taken_in(source), ["../x.toml", "../wit"]);
    assert!(stays_below(Path::new("src/../wit")) && !stays_below(Path::new("src/../../wit")));
}
