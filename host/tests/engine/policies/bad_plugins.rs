//! Plugins that cannot be loaded, and plugins that misbehave.

use crate::support::sandbox::{Sandbox, component};

const WASM_POLICY: &str = "[[policy]]\nname = \"broken\"\nwasm = \"policies/broken.wasm\"\n";

/// Returns a chain with these bytes as a plugin.
fn with_plugin(bytes: &[u8]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("config/policies/broken.wasm", bytes);
    sandbox.append_config(WASM_POLICY);
    sandbox
}

#[track_caller]
fn not_loaded(bytes: &[u8], words: &str) {
    let sandbox = with_plugin(bytes);
    sandbox.refused(&["up"], 3, "policy-not-loaded", &["'broken'", "broken.wasm", words]);
}

#[test]
fn a_file_that_is_no_component_is_not_loaded() {
    not_loaded(b"#!/bin/sh\necho hello\n", "not a WebAssembly component");
    not_loaded(b"", "not a WebAssembly component");
    not_loaded(&wat::parse_str("(module)").unwrap(), "core WebAssembly module");
}

#[test]
fn a_component_of_another_kind_or_a_newer_version_is_not_loaded() {
    not_loaded(&wat::parse_str("(component)").unwrap(), "not a Wharf plugin");
    let newer = "(component (instance $i) (export \"wharf:policy/pre-create@0.9.0\" (instance $i)))";
    not_loaded(&wat::parse_str(newer).unwrap(), "0.9.0");
}

#[test]
fn a_truncated_plugin_is_not_loaded() {
    let bytes = std::fs::read(component("plugins/image-selector")).unwrap();
    not_loaded(&bytes[..bytes.len() / 2], "not a valid component");
}

#[test]
fn a_plugin_that_is_missing_has_another_digest_or_refuses_its_settings_is_not_loaded() {
    let sandbox = Sandbox::new();
    sandbox.config(WASM_POLICY);
    sandbox.refused(&["up"], 3, "policy-not-loaded", &["broken.wasm", "cannot be read"]);
    sandbox.config("[[policy]]\nname = \"x\"\nbuiltin = \"no-such-policy\"\n");
    sandbox.refused(&["up"], 3, "policy-not-loaded", &["no-such-policy", "image-selector"]);
    let wasm = component("plugins/image-selector");
    let entry = format!("[[policy]]\nname = \"images\"\nwasm = \"{}\"\n", wasm.display());
    sandbox.config(&format!("{entry}digest = \"sha256:0000\"\n"));
    sandbox.refused(&["up"], 3, "policy-not-loaded", &["images", "sha256:0000"]);
    sandbox.config(&format!("{entry}settings = {{ defualt_image = \"x\" }}\n"));
    sandbox.refused(&["up"], 3, "policy-not-loaded", &["images", "defualt_image"]);
    sandbox.config(&format!("{entry}hooks = [\"cleanup\"]\n"));
    sandbox.refused(&["up"], 3, "policy-not-loaded", &["images", "does not implement cleanup", "select-image"]);
}

#[test]
fn an_optional_policy_that_cannot_be_loaded_is_left_out() {
    let sandbox = Sandbox::new();
    sandbox.config(&format!("{WASM_POLICY}optional = true\n"));
    let up = sandbox.run(&["up"]).ok();
    assert!(up.stderr.contains("skipped") && up.stderr.contains("broken"), "{}", up.stderr);
}

#[test]
fn a_plugin_that_misbehaves_denies_the_create() {
    for (what, words) in [
        ("trap", "trapped"),
        ("panic", "panicked"),
        ("loop", "deadline of 250 ms"),
        ("grow", "64 MiB"),
        ("recurse", "recursion"),
        ("error", "instead of a verdict"),
    ] {
        let sandbox = Sandbox::new();
        // On a busy machine, the other failures may take a while.
        let patience = if what == "loop" { "" } else { "\ntimeout = \"60s\"" };
        sandbox.plugin("test-plugins/hostile", &format!("{{ do = \"{what}\" }}{patience}"));
        let words = ["hostile", "pre-create", words, "policy-failed"];
        let refused = sandbox.run(&["up"]);
        assert_eq!(refused.code, 4, "{what}: {}", refused.stderr);
        sandbox.refused(&["up"], 4, "policy-failed", &words);
    }
}

#[test]
fn a_plugin_that_answers_nonsense_denies_the_create() {
    for (which, field) in [
        ("label", "labels.wharf."),
        ("mount", "mounts."),
        ("memory", "resources.memory"),
        ("port", "ports."),
        ("env", "env."),
    ] {
        let sandbox = Sandbox::new();
        sandbox.plugin("test-plugins/hostile", &format!("{{ do = \"nonsense\", which = \"{which}\" }}"));
        sandbox.refused(&["up"], 4, "policy-failed", &["hostile", field]);
    }
}

#[test]
fn a_backtrace_is_shown_only_when_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.plugin("test-plugins/hostile", "{ do = \"trap\" }");
    let plain = sandbox.run(&["up"]);
    let full = sandbox.run(&["--backtrace", "up"]);
    assert!(full.stderr.contains("wasm backtrace"), "{}", full.stderr);
    assert!(!plain.stderr.contains("wasm backtrace"), "{}", plain.stderr);
}

#[test]
fn a_plugin_that_denies_says_so_and_the_trail_shows_it() {
    let sandbox = Sandbox::new();
    sandbox.plugin("test-plugins/hostile", "{ do = \"deny\" }");
    let refused = sandbox.refused(&["up"], 4, "hostile", &["denied by hostile", "it always denies"]);
    assert!(refused.stderr.contains("pre-create") && refused.stderr.contains("deny"), "{}", refused.stderr);
    let trail = sandbox.run(&["--json", "up"]).error()["trail"].take();
    assert_eq!((&trail[0]["policy"], &trail[0]["verdict"]), (&"hostile".into(), &"deny".into()));
}
