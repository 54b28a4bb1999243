//! Files that do not decide, and files that cannot be read.

use super::{decide, image, project, reason, reason_of};
use wharf_plugin_sdk::select_image::{Input, SelectImage, Verdict};
use wharf_plugin_sdk::testing;

use crate::ImageSelector;

/// Adds a name that the host lists without a text.
fn listed(mut input: Input, name: &str) -> Input {
    input.project.files.push(name.to_owned());
    input.project.files.sort();
    input
}

#[test]
fn a_marker_that_cannot_be_read_does_not_count_and_is_named() {
    let input = listed(project(&[("package.json", "{}")]), "go.mod");
    assert_eq!(
        reason_of(input, "{}"),
        "package.json is there, without a version: node 22, the default; go.mod can't be read"
    );
    let input = listed(listed(project(&[]), "pom.xml"), ".nvmrc");
    assert_eq!(
        decide(input, "{}"),
        Verdict::choose("debian:stable-slim", "nothing in the project asks for another; pom.xml, .nvmrc can't be read")
    );
    let input = listed(project(&[]), "shop.toml");
    let settings = r#"{"languages": {"zig": {"image": "zig:{version}", "version": "1", "files": ["shop.toml"]}}}"#;
    assert!(reason_of(input, settings).ends_with("shop.toml can't be read"));
    // Without the content of a development container the host says that it does not count.
    let input = listed(project(&[]), ".devcontainer.json");
    assert_eq!(reason_of(input, "{}"), "nothing in the project asks for another");
}

#[test]
fn a_marker_counts_though_a_cut_list_of_names_hides_it() {
    let mut input = project(&[("go.mod", "go 1.24")]);
    input.project.files = (0..1_000).map(|number| format!("a{number:04}")).collect();
    assert_eq!(reason_of(input, "{}"), "go.mod asks for go 1.24");
}

#[test]
fn a_dockerfile_is_named_with_the_flag_that_uses_it() {
    let go = ("go.mod", "go 1.24");
    for (file, flag) in [
        ("Dockerfile", ""),
        ("Containerfile", " --dockerfile Containerfile"),
        ("Dockerfile.dev", " --dockerfile Dockerfile.dev"),
        ("dev.Dockerfile", " --dockerfile dev.Dockerfile"),
    ] {
        let note = format!("`wharf up --build .{flag}` builds the {file}");
        assert_eq!(reason(&[(file, ""), go], "{}"), format!("go.mod asks for go 1.24; {note}"));
        assert_eq!(reason(&[(file, "")], "{}"), format!("nothing in the project asks for another; {note}"));
    }
    for file in ["Dockerfile.dockerignore", "Dockerfile.a b", "Dockerfile.$(x)", "dockerfiles", "-x.Dockerfile"] {
        assert_eq!(reason(&[(file, "")], "{}"), "nothing in the project asks for another", "{file}");
    }
}

#[test]
fn a_compose_file_is_named() {
    for file in ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml", "docker-compose.prod.yml"]
    {
        assert_eq!(
            reason(&[(file, "services: {}")], "{}"),
            format!("nothing in the project asks for another; {file}: compose files are not read")
        );
    }
    assert_eq!(reason(&[("composer.yml", "")], "{}"), "nothing in the project asks for another");
}

#[test]
fn a_long_file_that_was_cut_is_named() {
    let mut input = project(&[("package.json", r#"{"engines": {"node": "20"}, "x": "#)]);
    input.project.contents.iter_mut().for_each(|file| file.truncated = true);
    assert_eq!(
        reason_of(input, "{}"),
        "package.json is there, without a version: node 22, the default; package.json is too long to be read"
    );
}

#[test]
fn files_of_the_settings_are_asked_for_and_none_is_lost_to_the_limit() {
    let json = r#"{"languages": {"dotnet": {"files": ["Shop.csproj"]}}}"#;
    let settings = testing::settings::<ImageSelector>(json).unwrap();
    let wanted = ImageSelector::wanted_files(&settings);
    assert!(wanted.len() <= 64 && wanted.contains(&"Shop.csproj".to_owned()), "{wanted:?}");
    let names: Vec<String> = (0..70).map(|number| format!("\"m{number}\"")).collect();
    let json = format!(r#"{{"languages": {{"node": {{"files": [{}]}}}}}}"#, names.join(","));
    let settings = testing::settings::<ImageSelector>(&json).unwrap();
    assert_eq!(ImageSelector::wanted_files(&settings).len(), 64);
    // A file that is not asked for counts by its name.
    let input = listed(listed(project(&[("go.mod", "go 1.24")]), "bun.lockb"), "compose.yaml");
    assert!(reason_of(input, "{}").contains("also bun (bun.lockb): go comes first; compose.yaml: compose files"));
    let input = listed(project(&[]), "m69");
    assert!(matches!(decide(input, &json), Verdict::Choose(choice) if choice.reference == "node:22-slim"));
    assert_eq!(image(&[("m0", "")], &json), "node:22-slim");
}

#[test]
fn hostile_texts_do_no_harm() {
    let settings = testing::settings::<ImageSelector>("{}").unwrap();
    let wanted = ImageSelector::wanted_files(&settings);
    let patterns = [
        "[",
        "{",
        "{\"a\":",
        "[a]\n",
        "a.",
        "a.b = 1\n",
        "a = [",
        "1.",
        "1||",
        ">=1 ",
        "<a>",
        "<a>x</a>",
        "'",
        "\"",
        "\"\"\"",
        "(",
        "ruby ",
        "#",
        "//",
        "/*",
        "- a:\n ",
        " a: b\n",
        "\\",
        "}",
        " }",
        ",}",
        "é",
        "\u{fffd}",
        "\n",
        "elixir: @",
        "<!--",
        "Package: a\nDepends: R (",
        "nodejs 1 2\n",
        "go 1\n",
    ];
    for pattern in patterns {
        let text = pattern.repeat((16 << 10) / pattern.len());
        let files = wanted.iter().filter(|path| !path.contains("devcontainer"));
        let input = files.fold(Input::for_test(), |input, path| input.file(path, &text));
        let reason = reason_of(input, "{}");
        assert!(reason.chars().count() <= 200 && !reason.contains(char::is_control), "{pattern:?}: {reason}");
    }
}
