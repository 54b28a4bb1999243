//! Misbehaves in every way that the host must survive. `settings = { do = "loop" }` selects the way.
//!
//! The hooks are `pre-create`, where a failure must deny, and `cleanup`, where it must keep.

use std::hint::black_box;

use serde::Deserialize;
use wharf_plugin_sdk::cleanup::{self, Choice, Cleanup};
use wharf_plugin_sdk::pre_create::{self, Adjustment, PreCreate, Verdict};
use wharf_plugin_sdk::types::{Mount, MountKind, Port, Protocol};
use wharf_plugin_sdk::{Plugin, export_plugin, log};

/// Larger than any limit on a plugin's answer.
const HUGE: usize = 100 << 20;

/// The plugin's behaviour when a hook calls it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Do {
    /// Passes.
    #[default]
    Pass,
    /// Denies; in cleanup it removes all candidates.
    Deny,
    /// Executes the `unreachable` instruction.
    Trap,
    /// Panics, with a message that should reach the log.
    Panic,
    /// Never returns.
    Loop,
    /// Allocates until the memory is exhausted.
    Grow,
    /// Recurses until the stack is exhausted.
    Recurse,
    /// Answers with a text of 100 MiB.
    HugeAnswer,
    /// Answers with a million adjustments or verdicts.
    HugeList,
    /// Logs ten thousand lines, and one of 100 MiB.
    HugeLog,
    /// Answers with adjustments that no host may accept, see [`Settings::which`].
    Nonsense,
    /// Gives no verdict.
    Error,
    /// Is refused at load.
    BadSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    r#do: Do,
    /// For `nonsense`: `label`, `mount`, `memory`, `cpus`, `port`, `env`, or none for all of them.
    which: Option<String>,
}

struct Hostile;

export_plugin!(Hostile: pre_create, cleanup);

impl Plugin for Hostile {
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.r#do == Do::BadSettings {
            return Err("setting `do`: `bad-settings` is refused; it takes e.g. `pass`".to_owned());
        }
        Ok(())
    }
}

impl PreCreate for Hostile {
    fn pre_create(_: pre_create::Input, settings: Settings) -> Result<Verdict, String> {
        misbehave(settings.r#do)?;
        Ok(match settings.r#do {
            Do::Deny => Verdict::deny("hostile", "it always denies"),
            Do::HugeAnswer => Verdict::adjust([Adjustment::env("HUGE", "x".repeat(HUGE))]),
            Do::HugeList => Verdict::adjust((0..1_000_000).map(|n| Adjustment::env(format!("N{n}"), "x"))),
            Do::Nonsense => Verdict::adjust(
                nonsense()
                    .into_iter()
                    .filter(|(name, _)| settings.which.as_deref().is_none_or(|which| which == *name))
                    .map(|(_, one)| one),
            ),
            _ => Verdict::Pass,
        })
    }
}

impl Cleanup for Hostile {
    fn cleanup(input: cleanup::Input, settings: Settings) -> Result<Vec<cleanup::Verdict>, String> {
        misbehave(settings.r#do)?;
        let remove = |id: String| cleanup::Verdict { id, choice: Choice::Remove, reason: "hostile".to_owned() };
        Ok(match settings.r#do {
            Do::Deny => input.candidates.into_iter().map(|candidate| remove(candidate.id)).collect(),
            Do::HugeAnswer => vec![remove("x".repeat(HUGE))],
            Do::HugeList => (0..1_000_000).map(|n| remove(n.to_string())).collect(),
            Do::Nonsense => vec![remove("no-such-workspace".to_owned()), remove(String::new())],
            _ => Vec::new(),
        })
    }
}

/// Does the misbehaviours that do not depend on the hook; most never return.
fn misbehave(how: Do) -> Result<(), String> {
    match how {
        Do::Trap => trap(),
        Do::Panic => panics(),
        Do::Loop => while black_box(true) {},
        Do::Grow => grow(),
        Do::Recurse => {
            black_box(recurse(0));
        }
        Do::HugeLog => {
            for line in 0..10_000 {
                log::info(format!("line {line}"));
            }
            log::warn("x".repeat(HUGE));
        }
        Do::Error => return Err("it never has a verdict".to_owned()),
        _ => {}
    }
    Ok(())
}

/// Returns one invalid adjustment of each kind, by name.
fn nonsense() -> Vec<(&'static str, Adjustment)> {
    let mount = Mount { kind: MountKind::Bind, source: "/".into(), target: "not/absolute".into(), read_only: false };
    let port =
        Port { container_port: 0, protocol: Protocol::Tcp, host_address: "localhorst".into(), host_port: Some(0) };
    vec![
        ("label", Adjustment::label("wharf.x", "stolen")),
        ("mount", Adjustment::AddMount(mount)),
        ("memory", Adjustment::SetMemory(0)),
        ("cpus", Adjustment::SetCpus(f64::NAN)),
        ("port", Adjustment::PublishPort(port)),
        ("env", Adjustment::env("A=B\0", "\n")),
    ]
}

#[cfg(target_family = "wasm")]
fn trap() {
    core::arch::wasm32::unreachable();
}

#[cfg(not(target_family = "wasm"))]
fn trap() {
    std::process::abort();
}

// The panic is intended.
#[allow(clippy::panic)]
fn panics() {
    panic!("the hostile plugin panics");
}

fn grow() {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        // Written to, so that the pages are really allocated.
        all.push(black_box(vec![1; 1 << 20]));
    }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    // The condition hides from the compiler that the recursion never ends.
    if black_box(true) { recurse(depth + 1) + frame[0] } else { depth }
}

#[cfg(test)]
mod tests {
    use wharf_plugin_sdk::testing;

    use super::*;

    fn decide(settings: &str) -> Result<Verdict, String> {
        Hostile::pre_create(pre_create::Input::for_test(), testing::settings::<Hostile>(settings)?)
    }

    #[test]
    fn it_can_behave() {
        assert_eq!(decide("{}"), Ok(Verdict::Pass));
        assert_eq!(decide(r#"{"do": "pass"}"#), Ok(Verdict::Pass));
        assert_eq!(decide(r#"{"do": "deny"}"#), Ok(Verdict::deny("hostile", "it always denies")));
        assert_eq!(decide(r#"{"do": "error"}"#), Err("it never has a verdict".to_owned()));
    }

    #[test]
    fn bad_settings_are_refused() {
        assert!(decide(r#"{"do": "bad-settings"}"#).unwrap_err().contains("is refused"));
        assert!(decide(r#"{"do": "dance"}"#).unwrap_err().starts_with("setting `do`: unknown variant `dance`"));
    }

    #[test]
    fn nonsense_comes_alone_or_all_at_once() {
        let count = |settings: &str| match decide(settings) {
            Ok(Verdict::Adjust(list)) => list.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(count(r#"{"do": "nonsense"}"#), 6);
        assert_eq!(count(r#"{"do": "nonsense", "which": "memory"}"#), 1);
    }
}
