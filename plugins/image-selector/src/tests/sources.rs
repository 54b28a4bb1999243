//! Several statements on one version, and several languages in one project.

use super::{image, reason};

const NODE: (&str, &str) = ("package.json", r#"{"engines": {"node": "22"}}"#);

#[test]
fn the_first_source_wins_and_the_reason_names_those_that_it_overrules() {
    #[rustfmt::skip]
    let cases: [(&[(&str, &str)], &str); 13] = [
        (&[(".nvmrc", "20"), NODE], ".nvmrc asks for node 20 (package.json says 22, overruled)"),
        (&[(".nvmrc", "20"), (".node-version", "18"), (".tool-versions", "nodejs 16")],
            ".tool-versions asks for node 16 (.nvmrc says 20, overruled, .node-version says 18, overruled)"),
        (&[(".nvmrc", "20.11.1"), ("package.json", r#"{"engines": {"node": ">=20"}}"#)], ".nvmrc asks for node 20.11.1"),
        (&[("package.json", r#"{"engines": {"node": "22"}, "volta": {"node": "20.1.0"}}"#)],
            "package.json (volta) asks for node 20.1.0 (package.json says 22, overruled)"),
        (&[("mise.toml", "tools.node = '20'"), (".tool-versions", "nodejs 18")],
            ".tool-versions asks for node 18 (mise.toml says 20, overruled)"),
        (&[("go.mod", "go 1.23\ntoolchain go1.24.3")],
            "go.mod (toolchain) asks for go 1.24 (go.mod says 1.23, overruled)"),
        (&[("go.mod", "go 1.24.1\ntoolchain go1.24.3")], "go.mod (toolchain) asks for go 1.24"),
        (&[("go.mod", "go 1.24\ntoolchain default")], "go.mod asks for go 1.24"),
        (&[(".python-version", "3.11"), ("pyproject.toml", "project.requires-python = '>=3.12'"),
                ("runtime.txt", "python-3.10.2")],
            ".python-version asks for python 3.11 (runtime.txt says 3.10.2, overruled, \
                pyproject.toml says >=3.12, overruled)"),
        (&[("rust-toolchain", "1.79"), ("rust-toolchain.toml", "[toolchain]\nchannel = '1.80'")],
            "rust-toolchain asks for rust 1.79 (rust-toolchain.toml says 1.80, overruled)"),
        (&[("rust-toolchain", "1.70"), ("Cargo.toml", "package.rust-version = '1.80'")],
            "rust-toolchain asks for rust 1.70 (Cargo.toml says >=1.80, overruled)"),
        (&[(".java-version", "17"), ("build.gradle", "sourceCompatibility = 11")],
            ".java-version asks for java 17 (build.gradle says 11, overruled)"),
        (&[("Manifest.toml", "julia_version = '1.10.4'"), ("Project.toml", "compat.julia = '1.6'")],
            "Manifest.toml asks for julia 1.10.4"),
    ];
    for (files, expected) in cases {
        assert_eq!(reason(files, "{}"), expected, "{files:?}");
    }
}

#[test]
fn a_version_that_cannot_be_read_leaves_it_to_the_next_source() {
    let files = [(".nvmrc", "nightly; x"), NODE];
    assert_eq!(image(&files, "{}"), "node:22-slim");
    assert_eq!(reason(&files, "{}"), "package.json asks for node 22 (.nvmrc says nightly; x, which can't be read)");
    assert_eq!(
        reason(&[(".python-version", "pypy3.10")], "{}"),
        "python 3, the default (.python-version says pypy3.10, which can't be read)"
    );
}

#[test]
fn all_languages_are_named_with_the_reason_for_the_choice() {
    let files = [("package.json", "{}"), ("requirements.txt", ""), ("Cargo.toml", "")];
    assert_eq!(
        reason(&files, "{}"),
        "Cargo.toml is there, without a version: rust 1, the default; \
         also python (requirements.txt), node (package.json): rust comes first"
    );
    let preferred = "also rust (Cargo.toml), python (requirements.txt): `prefer` puts node first";
    assert!(reason(&files, r#"{"prefer": ["node"]}"#).ends_with(preferred));
    let tools = "nodejs 20.1.0\npython 3.12.1\nruby 3.3.0\ngolang 1.24.0\nterraform 1.5\nrust 1.80.1";
    assert_eq!(
        reason(&[(".tool-versions", tools)], "{}"),
        ".tool-versions asks for rust 1.80.1; also go, ruby, python, node: rust comes first"
    );
}

#[test]
fn a_language_whose_version_cannot_be_read_leaves_it_to_one_whose_can() {
    let python = (".python-version", "pypy3.10");
    assert_eq!(image(&[python, NODE], "{}"), "node:22-slim");
    assert_eq!(
        reason(&[python, NODE], "{}"),
        "package.json asks for node 22; also python (.python-version): the version of python can't be read"
    );
    assert_eq!(image(&[python, NODE], r#"{"prefer": ["python"]}"#), "node:22-slim");
    assert_eq!(image(&[python, ("package.json", "{}")], "{}"), "python:3-slim");
    assert_eq!(image(&[(".tool-versions", "rust nightly\ngolang 1.24.0\n")], "{}"), "golang:1.24.0");
}

#[test]
fn a_reason_is_one_line_of_at_most_two_hundred_characters() {
    let long = "9.".repeat(400);
    let odd = format!(">=18 `\u{1b}[31m{}", "x".repeat(300));
    let engines = format!(r#"{{"engines": {{"node": "{}"}}}}"#, odd.replace('\u{1b}', "\\u001b"));
    let files = [
        (".nvmrc", odd.as_str()),
        (".node-version", &long),
        ("package.json", &engines),
        (".tool-versions", "nodejs 20"),
        ("Dockerfile", ""),
        ("compose.yaml", ""),
        ("build.zig", ""),
        ("build.sbt", ""),
        ("a-very-long-name-of-a-library-that-is-written-in-lua-and-published-1.0.rockspec", ""),
    ];
    let reason = reason(&files, "{}");
    assert!(reason.chars().count() <= 200 && !reason.contains(char::is_control), "{reason}");
    assert!(reason.starts_with(".tool-versions asks for node 20 ("), "{reason}");
    assert!(reason.ends_with("; more in `wharf why`"), "{reason}");
}
