//! Texts of projects, images, policies and workspaces that reach a terminal (number 5).

use serde_json::Value;

use crate::support::engine_api::BASE;
use crate::support::sandbox::{Output, Sandbox};

/// A title, a cleared screen, a colour, a C1 sequence, a direction change, an invisible character, and a forged line.
const BAD: &str = "x\x1b]0;PWNED\x07\x1b[2J\x1b[31m\u{9b}5m\u{202e}y\u{200b}\u{2066}\u{61c}\u{2028}wharf: forged\rwharf: forged\u{85}\u{7f}z";

/// Checks that every character of an output is only text.
#[track_caller]
fn harmless(what: &str, output: &Output) -> String {
    let all = format!("{}\n{}", output.text(), output.stderr);
    let harmful = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}')
    };
    let found: Vec<_> = all.lines().filter(|line| line.chars().any(harmful)).collect();
    assert!(found.is_empty(), "{what}: {found:?}");
    let forged: Vec<_> = all.lines().filter(|line| line.starts_with("wharf: forged")).collect();
    assert!(forged.is_empty(), "{what}: {all}");
    all
}

/// Returns a script that outputs hostile text at each of its hooks.
fn hostile_script() -> String {
    let bad: String = BAD.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    format!(
        "fn pre_create(ctx) {{ ctx.log(\"{bad}\"); ctx.spec.labels.bad = \"{bad}\\nwharf: forged\"; }}\n\
         fn post_start(ctx) {{ ctx.note(\"{bad}\\nwharf: forged\"); }}\n\
         fn pre_exec(ctx) {{ ctx.log(\"{bad}\"); throw \"{bad}\\nwharf: forged\"; }}\n"
    )
}

#[test]
fn no_word_of_a_project_an_image_or_a_policy_moves_the_terminal_in_any_command() {
    let sandbox = Sandbox::new();
    sandbox.script("hostile.rhai", &hostile_script());
    sandbox.write(
        "project/wharf-setup.sh",
        "printf 'a\\033]0;PWNED\\007\\033[2J\\033[31m\\302\\233red\\nwharf: forged\\n' >&2; exit 1",
    );
    sandbox.append_config("[[policy]]\nname = \"post-start\"\nbuiltin = \"post-start.rhai\"");
    let label = format!("note={BAD}");
    let env = format!("NOTE={BAD}\nwharf: forged");
    let up = sandbox.run(&["-vv", "up", "--image", BASE, "--label", &label, "-e", &env]);
    assert_eq!(up.code, 8, "its set-up fails: {}", up.stderr);
    let text = harmless("up", &up);
    assert!(text.contains("note:") && text.contains("PWNED"), "the words themselves are told: {text}");
    let text = harmless("inspect", &sandbox.run(&["inspect"]).ok());
    let is_label = |line: &str| line.trim_start().starts_with("note ") && line.contains("x]0;PWNED");
    assert!(text.lines().any(is_label), "{text}");
    for args in [
        vec!["ls"],
        vec!["why"],
        vec!["why", "env.NOTE"],
        vec!["plan", "-e", &env, "--label", &label],
        vec!["plan", "--diff", "-e", &env],
        vec!["up", "--image", BASE, "--label", "note=other"],
        vec!["audit"],
        vec!["audit", "show", "1"],
        vec!["audit", "show", "2"],
        vec!["events", "--since", "10m", "--until", "0s"],
        vec!["policy", "ls"],
        vec!["doctor"],
        vec!["exec", "--", "true"],
        vec!["--backtrace", "-vv", "exec", "--", "sh", "-c", BAD],
        vec!["stop", BAD],
        vec!["cleanup", "--dry-run"],
        vec!["policy", "check"],
        vec!["config", "show", "--set", &format!("workspace.labels.a=\"{}\"", "q\u{202e}")],
        vec![BAD],
    ] {
        harmless(&args.join(" "), &sandbox.run(&args));
        // Programs get the same text, escaped.
        let mut json = vec!["--json"];
        json.extend(&args);
        harmless(&json.join(" "), &sandbox.run(&json));
    }
    let label: Value = sandbox.json(&["inspect"])["labels"]["note"].clone();
    assert_eq!(label, BAD, "JSON has the value as it is");
}

#[test]
fn a_source_line_keeps_its_caret_and_cannot_be_a_line_of_wharf() {
    let sandbox = Sandbox::new();
    sandbox.script("broken.rhai", "fn pre_create(ctx) {\n  let x = \"\u{202e}\x1b[2J\"; nothing(;\n}\n");
    let check = sandbox.run(&["policy", "check"]);
    let text = harmless("policy check", &check);
    let caret = text.lines().position(|line| line.trim_end().ends_with('^')).expect("a caret");
    assert!(text.lines().nth(caret - 1).unwrap().contains("nothing("), "{text}");
    harmless("up", &sandbox.run(&["up"]));
    harmless("script check", &sandbox.run(&["script", "check", "../config/policies/broken.rhai"]));
}

#[test]
fn a_line_of_a_log_cannot_forge_the_prefix_of_another_workspace() {
    let sandbox = Sandbox::new();
    let other = sandbox.folder("other");
    let hostile =
        r"printf 'one\rother-000000 | forged\n\033[1A\033[2Kother | forged\n\302\233A\342\200\256x\n'; sleep 600";
    sandbox.run(&["up", "--image", BASE, "--", "sh", "-c", hostile]).ok();
    sandbox.run_in(&other, &["up", "--image", BASE, "--", "sh", "-c", "echo two; sleep 600"]).ok();
    let (first, second) = (sandbox.id(), sandbox.id_of("other", &other));
    let read = |names: &[&str]| sandbox.run(&[&["logs"], names].concat()).ok();
    crate::support::sandbox::until("both have written", || {
        let merged = read(&[&first, &second]).text();
        merged.contains("two") && merged.lines().count() >= 4
    });
    let merged = harmless("logs of two", &read(&[&first, &second]));
    let prefixes = [first.as_str(), second.as_str()];
    for line in merged.lines().filter(|line| !line.is_empty()) {
        assert!(prefixes.iter().any(|id| line.starts_with(id)), "{line:?}");
        assert!(!(line.contains("forged") && line.starts_with(second.as_str())), "{line:?}");
    }
    // Alone it is the workspace's own stream, unchanged from the engine.
    assert!(read(&[&first]).text().contains("\x1b[2K"));
}
