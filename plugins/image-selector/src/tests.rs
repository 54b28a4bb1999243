//! The plugin's choices for whole projects.

use wharf_plugin_sdk::select_image::{ImageChoice, Input, SelectImage, Verdict};
use wharf_plugin_sdk::testing;
use wharf_plugin_sdk::types::PullPolicy;

use crate::ImageSelector;

mod languages;
mod notes;
mod sources;

const DIGEST: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

fn decide(input: Input, settings: &str) -> Verdict {
    let settings = testing::settings::<ImageSelector>(settings).unwrap();
    ImageSelector::select_image(input, settings).unwrap()
}

fn project(files: &[(&str, &str)]) -> Input {
    files.iter().fold(Input::for_test(), |input, (path, text)| input.file(path, text))
}

#[track_caller]
fn image(files: &[(&str, &str)], settings: &str) -> String {
    match decide(project(files), settings) {
        Verdict::Choose(choice) => choice.reference,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn code(verdict: Verdict) -> String {
    match verdict {
        Verdict::Deny(denial) => denial.code,
        other => panic!("{other:?}"),
    }
}

fn current(reference: &str, requested: bool) -> Input {
    let mut input = Input::for_test();
    let reason = "--image".to_owned();
    input.current = Some(ImageChoice { reference: reference.into(), pull: PullPolicy::Missing, reason });
    input.requested = requested;
    input
}

#[test]
fn what_a_person_asked_for_stands() {
    let input = current("fedora:41", true).file("go.mod", "go 1.24");
    assert_eq!(decide(input, "{}"), Verdict::Pass);
}

#[test]
fn a_choice_that_nobody_asked_for_yields_to_the_project_but_not_to_the_default() {
    assert_eq!(decide(current("fedora:41", false), "{}"), Verdict::Pass);
    let input = current("fedora:41", false).file("go.mod", "go 1.24");
    assert_eq!(decide(input, "{}"), Verdict::choose("golang:1.24", "go.mod asks for go 1.24"));
}

#[track_caller]
fn reason(files: &[(&str, &str)], settings: &str) -> String {
    reason_of(project(files), settings)
}

#[track_caller]
fn reason_of(input: Input, settings: &str) -> String {
    match decide(input, settings) {
        Verdict::Choose(choice) => choice.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_development_container_wins_over_tool_versions_and_those_over_markers() {
    let marker = ("package.json", r#"{"engines": {"node": "20"}}"#);
    let tools = (".tool-versions", "# team\nnodejs 18.1.0\n");
    let container = (".devcontainer/devcontainer.json", "{ // ours\n \"image\": \"acme/dev:1\", }");
    assert_eq!(image(&[marker, tools, container], "{}"), "acme/dev:1");
    assert_eq!(image(&[marker, tools], "{}"), "node:18.1.0-slim");
    assert_eq!(image(&[marker], "{}"), "node:20-slim");
    assert_eq!(image(&[], "{}"), "debian:stable-slim");
}

#[test]
fn a_development_container_that_is_broken_or_builds_its_image_is_passed_over() {
    let go = ("go.mod", "go 1.24");
    for text in ["{", "[]", r#"{"build": {}}"#, r#"{"image": "${localEnv:X}"}"#, r#"{"image": ""}"#, r#"{"image": 1}"#]
    {
        assert_eq!(image(&[(".devcontainer.json", text), go], "{}"), "golang:1.24", "{text}");
    }
}

#[test]
fn garbage_falls_to_the_default_version_and_never_into_the_reference() {
    let cases = [
        (".nvmrc", "22; rm -rf /"),
        (".nvmrc", "lts/../../evil"),
        (".nvmrc", ""),
        ("package.json", "not json"),
        ("package.json", r#"{"engines": {"node": "workspace:*"}}"#),
        ("package.json", r#"{"engines": [1]}"#),
    ];
    for (file, text) in cases {
        assert_eq!(image(&[(file, text)], "{}"), "node:22-slim", "{text}");
    }
    assert_eq!(image(&[("rust-toolchain", "nightly-2026-01-01")], "{}"), "rust:1-slim");
    assert_eq!(image(&[("go.mod", "go \n")], "{}"), "golang:1");
}

#[test]
fn a_file_that_pins_no_version_leaves_it_to_one_that_does() {
    assert_eq!(image(&[(".nvmrc", "# soon"), ("package.json", r#"{"engines":{"node":"20"}}"#)], "{}"), "node:20-slim");
}

#[test]
fn of_several_languages_the_preferred_one_wins_and_then_the_documented_order() {
    let files = [("package.json", "{}"), ("requirements.txt", ""), ("Cargo.toml", "")];
    assert_eq!(image(&files, "{}"), "rust:1-slim");
    assert_eq!(image(&files, r#"{"prefer": ["node", "python"]}"#), "node:22-slim");
    let tools = [(".tool-versions", "nodejs 20\npython 3.12")];
    assert_eq!(image(&tools, "{}"), "python:3.12-slim");
    assert_eq!(image(&tools, r#"{"prefer": ["node"]}"#), "node:20-slim");
}

#[test]
fn settings_change_the_image_of_a_language_and_add_others() {
    let settings = r#"{"languages": {
        "node": {"version": "24"},
        "zig": {"image": "registry.example/zig:{version}", "version": "0.13", "files": ["build.zig"]}}}"#;
    assert_eq!(image(&[("package.json", "{}")], settings), "node:24-slim");
    assert_eq!(image(&[("build.zig", "")], settings), "registry.example/zig:0.13");
    assert_eq!(image(&[(".tool-versions", "zig 0.12.1")], settings), "registry.example/zig:0.12.1");
}

#[test]
fn only_allowed_images_are_chosen_or_left() {
    let settings = r#"{"allow": ["node:*"]}"#;
    assert_eq!(image(&[("package.json", "{}")], settings), "node:22-slim");
    assert_eq!(code(decide(project(&[("go.mod", "go 1.24")]), settings)), "image-not-allowed");
    assert_eq!(code(decide(project(&[]), settings)), "image-not-allowed");
    assert_eq!(code(decide(current("fedora:41", true), settings)), "image-not-allowed");
    assert_eq!(code(decide(current("node:5000/evil", true), settings)), "image-not-allowed");
    assert_eq!(decide(current("docker.io/library/node:18", true), settings), Verdict::Pass);
}

#[test]
fn a_known_digest_pins_the_reference() {
    let settings = format!(r#"{{"digests": {{"node:22-slim": "{DIGEST}"}}, "allow": ["node:*"]}}"#);
    let reason = "package.json is there, without a version: node 22, the default (node:22-slim, pinned)";
    let expected = Verdict::choose(format!("node@{DIGEST}"), reason);
    assert_eq!(decide(project(&[("package.json", "{}")]), &settings), expected);
    // Its pinned form is allowed like the tag; another digest is not.
    assert_eq!(decide(current(&format!("node@{DIGEST}"), true), &settings), Verdict::Pass);
    let other = format!("node@{}", DIGEST.replace("aa", "bb"));
    assert_eq!(code(decide(current(&other, true), &settings)), "image-not-allowed");
}

#[test]
fn an_image_without_a_digest_is_denied_where_one_is_required() {
    let settings = format!(r#"{{"digests": {{"node:22-slim": "{DIGEST}"}}, "require_digest": true}}"#);
    assert_eq!(image(&[("package.json", "{}")], &settings), format!("node@{DIGEST}"));
    assert_eq!(code(decide(project(&[]), &settings)), "image-not-pinned");
    let Verdict::Deny(denial) = decide(current("node:22-slim", true), &settings) else { panic!("not denied") };
    assert_eq!(denial.reason, format!("the image `node:22-slim` has no digest; ask for `node@{DIGEST}`"));
    assert_eq!(decide(current(&format!("fedora@{DIGEST}"), true), &settings), Verdict::Pass);
}

#[test]
fn the_reason_says_who_asked_for_what() {
    assert_eq!(reason(&[(".nvmrc", "20")], "{}"), ".nvmrc asks for node 20");
    assert_eq!(
        reason(&[("package.json", r#"{"engines":{"node":"^20 || >=22"}}"#)], "{}"),
        "package.json asks for node `^20 || >=22`: 22"
    );
    assert_eq!(reason(&[(".devcontainer.json", r#"{"image":"a/b"}"#)], "{}"), ".devcontainer.json names it");
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let refused = |json: &str| testing::settings::<ImageSelector>(json).unwrap_err();
    assert!(refused(r#"{"defaultimage": "x"}"#).contains("unknown field `defaultimage`"));
    assert!(refused(r#"{"default_image": "a b"}"#).starts_with("setting `default_image`"));
    assert!(refused(r#"{"prefer": ["cobol"]}"#).contains("`cobol` is no language; known are rust, go"));
    assert!(refused(r#"{"languages": {"zig": {"image": "zig:{version}"}}}"#).starts_with("setting `languages.zig`"));
    assert!(refused(r#"{"languages": {"node": {"image": "{nope}"}}}"#).starts_with("setting `languages.node.image`"));
    assert!(refused(r#"{"digests": {"node:22": "sha256:12"}}"#).starts_with("setting `digests.\"node:22\"`"));
}

#[test]
fn the_host_is_asked_for_fewer_files_than_it_honours() {
    let settings = testing::settings::<ImageSelector>("{}").unwrap();
    assert!(ImageSelector::wanted_files(&settings).len() <= 64);
}
