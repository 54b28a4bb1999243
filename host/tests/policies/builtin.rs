//! The built-in policies.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use wharf::builtin::{ALL, BuiltIn};
use wharf::hooks::record::Draft;
use wharf::hooks::{Chain, Facts, Hook, HookRequest, Limits, Policy, Subject, Verdict};
use wharf::script::RhaiPolicy;
use wharf::wasm::WasmPolicy;

use super::{ENGINE, entry, invariants, script, spec};

pub(crate) fn chain() -> Vec<wharf::hooks::Entry> {
    let each = ALL.iter().map(|(name, policy)| match policy {
        BuiltIn::Plugin(bytes, _) => {
            entry(WasmPolicy::load(&ENGINE, name, bytes, &json!({}), Limits::default()).unwrap())
        }
        BuiltIn::Script(text) => entry(RhaiPolicy::load(name, text, json!({}), Limits::default()).unwrap()),
    });
    each.collect()
}

#[test]
fn the_built_in_policies_load_without_settings_and_cover_create_start_and_cleanup() {
    let hooks: BTreeSet<Hook> = chain().iter().flat_map(|entry| entry.hooks.clone()).collect();
    let expected = [Hook::SelectImage, Hook::SecurityProfile, Hook::PreCreate, Hook::PostStart, Hook::Cleanup];
    assert_eq!(hooks, expected.into());
}

#[test]
fn the_same_input_gives_the_same_decision_every_time() {
    let chain = Chain::new(chain(), invariants());
    let mut facts = Facts::default();
    facts.workspace.name = "shop".into();
    facts.project.files = vec!["go.mod".into()];
    let facts = Arc::new(facts);
    let decide = || {
        let mut begin = spec();
        begin.image = None;
        let decided = chain.decide_create(Draft::new(begin), &facts, false, 7);
        assert_eq!(decided.refusal, None);
        decided.draft
    };
    let first = decide();
    assert!((0..20).all(|_| decide() == first));
}

#[test]
fn pre_create_brings_large_requests_down_and_gives_teams_their_environment() {
    let policy = script("policies/pre-create.rhai", json!({}));
    let mut request = HookRequest {
        hook: Hook::PreCreate,
        now_ms: 0,
        facts: Arc::default(),
        spec: spec(),
        subject: Subject::Container,
    };
    assert_eq!(policy.evaluate(&request).unwrap().verdict, Verdict::Pass);
    request.spec.resources.memory = 64 << 30;
    request.spec.resources.cpus = 12.0;
    let reply = policy.evaluate(&request).unwrap();
    let Verdict::Adjust(edits) = reply.verdict else { panic!("{:?}", reply.verdict) };
    let fields: Vec<_> = edits.iter().map(|edit| edit.field()).collect();
    assert_eq!(fields, ["resources.cpus", "resources.memory"]);
    assert!(reply.lines.contains_key("resources.memory") && !reply.logs.is_empty());
    let mut facts = Facts::default();
    facts.workspace.name = "x".repeat(41);
    request.facts = Arc::new(facts);
    assert!(
        matches!(policy.evaluate(&request).unwrap().verdict, Verdict::Deny(denial) if denial.code == "name-too-long")
    );
}

#[test]
fn cleanup_keeps_what_runs_in_working_hours_and_what_has_just_ended() {
    use wharf::hooks::{Candidate, SweepChoice, SweepFacts};
    use wharf::workspace::State;
    let policy = script("policies/cleanup.rhai", json!({}));
    let hour = 3_600_000;
    let candidate = |id: &str, state, finished_ms| Candidate {
        part_of: None,
        kind: Default::default(),
        id: id.into(),
        name: id.into(),
        project: "/p".into(),
        labels: Default::default(),
        state: Some(state),
        used: state == State::Running,
        exit_code: None,
        created_ms: 0,
        started_ms: Some(0),
        finished_ms,
        last_activity_ms: None,
        size: None,
    };
    let kept = |weekday, minute| -> Vec<String> {
        let sweep = SweepFacts {
            candidates: vec![
                candidate("runs", State::Running, None),
                candidate("just-ended", State::Exited, Some(99 * hour)),
                candidate("long-ended", State::Exited, Some(hour)),
            ],
            local_weekday: weekday,
            local_minute: minute,
            ..SweepFacts::default()
        };
        let request = HookRequest {
            hook: Hook::Cleanup,
            now_ms: 100 * hour,
            facts: Arc::default(),
            spec: spec(),
            subject: Subject::Sweep(sweep),
        };
        match policy.evaluate(&request).unwrap().verdict {
            Verdict::Sweep(verdicts) => {
                assert!(verdicts.iter().all(|verdict| verdict.choice == SweepChoice::Keep));
                verdicts.into_iter().map(|verdict| verdict.id).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(kept(1, 9 * 60), ["runs", "just-ended"]);
    assert_eq!(kept(6, 9 * 60), ["just-ended"]);
    assert_eq!(kept(1, 20 * 60), ["just-ended"]);
}

#[test]
fn the_built_in_policies_hold_the_cases_in_policies_cases() {
    let state = std::env::temp_dir().join(format!("wharf-cases-{}", std::process::id()));
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["policy", "test", "policies/cases"])
        .current_dir(super::root())
        .env_clear()
        .env("HOME", &state)
        .env("WHARF_STATE_DIR", &state)
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(&state);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    let count = std::fs::read_dir(super::root().join("policies/cases")).unwrap().count();
    assert!(text.contains(&format!("{count} cases: {count} passed")), "{text}");
}
