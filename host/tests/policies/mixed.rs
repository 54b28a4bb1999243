//! The same policy as a plugin and as a script, in a mixed chain, with the same expectations.

use std::sync::Arc;

use serde_json::json;
use wharf::hooks::record::Draft;
use wharf::hooks::{
    Action, Candidate, Chain, Entry, Facts, Hook, HookRequest, Limits, Outcome, Subject, SweepChoice, SweepFacts,
};
use wharf::workspace::State;

use super::{entry, invariants, plugin, script, spec};

fn kinds() -> [(&'static str, Entry); 2] {
    [
        ("plugin", entry(plugin("test-plugins/mirror", json!({}), Limits::default()).unwrap())),
        ("script", entry(script("host/tests/scripts/mirror.rhai", json!({})))),
    ]
}

/// Returns a chain of both kinds with the policy in the middle, as in production.
fn chain(middle: Entry) -> Chain {
    let entries = vec![
        entry(plugin("plugins/image-selector", json!({ "default_image": "debian:12" }), Limits::default()).unwrap()),
        entry(plugin("plugins/security-baseline", json!({ "profile": "strict" }), Limits::default()).unwrap()),
        middle,
        entry(script("policies/pre-create.rhai", json!({}))),
        entry(script("policies/post-start.rhai", json!({}))),
        entry(plugin("plugins/cleanup-policy", json!({}), Limits::default()).unwrap()),
    ];
    Chain::new(entries, invariants())
}

fn facts(labels: &[(&str, &str)]) -> Arc<Facts> {
    let mut facts = Facts::default();
    facts.workspace.name = "shop".into();
    facts.workspace.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Arc::new(facts)
}

#[test]
fn a_mixed_chain_decides_the_same_whether_a_policy_is_wasm_or_rhai() {
    let mut specs = Vec::new();
    for (kind, middle) in kinds() {
        let name = middle.policy.name().to_owned();
        let chain = chain(middle);
        let mut draft = spec();
        draft.image = None;
        let decided = chain.decide_create(Draft::new(draft), &facts(&[("owner", "ann"), ("team", "pay")]), false, 7);
        assert_eq!(decided.refusal, None, "{kind}");
        let spec = &decided.draft.spec;
        assert_eq!(spec.image.as_ref().unwrap().reference, "debian:12", "{kind}");
        assert!(spec.security.capabilities.is_empty() && spec.security.read_only_root, "{kind}");
        assert_eq!(spec.env.get("TEAM").map(String::as_str), Some("pay"), "{kind}");
        assert_eq!(spec.labels.get("cost-center").map(String::as_str), Some("cc-pay"), "{kind}");
        assert_eq!(spec.resources.memory, 512 << 20, "{kind}");
        let owners = decided.draft.owner_names();
        for field in ["env.TEAM", "labels.cost-center", "resources.memory"] {
            assert_eq!(owners.get(field), Some(&name), "{kind}: {field}");
        }
        assert_eq!(owners.get("image").unwrap(), "image-selector");
        assert_eq!(owners.get("security.read_only_root").unwrap(), "security-baseline");
        specs.push(decided.draft.spec);
    }
    assert_eq!(specs[0], specs[1]);
}

#[test]
fn a_denial_has_the_same_words_from_both_kinds() {
    for (kind, middle) in kinds() {
        let decided = chain(middle).decide_create(Draft::new(spec()), &facts(&[("team", "pay")]), false, 7);
        let refusal = decided.refusal.unwrap();
        assert_eq!(
            (refusal.code.as_str(), refusal.reason.as_str()),
            ("owner-missing", "set the label owner"),
            "{kind}"
        );
    }
}

#[test]
fn both_kinds_note_the_first_start_only() {
    for (kind, middle) in kinds() {
        let chain = chain(middle);
        let mut notes = Vec::new();
        for first_start in [true, false] {
            let ruling = chain.collect(HookRequest {
                hook: Hook::PostStart,
                now_ms: 7,
                facts: facts(&[("team", "pay")]),
                spec: spec(),
                subject: Subject::Start { first_start },
            });
            let Outcome::Actions { actions, .. } = ruling.decision.outcome else { panic!("{kind}") };
            notes.push(actions.into_iter().map(|(_, action)| action).collect::<Vec<_>>());
        }
        assert_eq!(notes, [vec![Action::Note("team pay started".into())], vec![]], "{kind}");
    }
}

#[test]
fn both_kinds_sweep_the_same_candidates() {
    let candidate = |id: &str, state, labels: &[(&str, &str)]| Candidate {
        part_of: None,
        kind: Default::default(),
        id: id.into(),
        name: id.into(),
        project: format!("/{id}"),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        state: Some(state),
        used: state == State::Running,
        exit_code: Some(0),
        created_ms: 0,
        started_ms: Some(0),
        finished_ms: Some(1),
        last_activity_ms: None,
        size: None,
    };
    let sweep = SweepFacts {
        candidates: vec![
            candidate("ended", State::Exited, &[]),
            candidate("kept", State::Exited, &[("keep", "true")]),
            candidate("alive", State::Running, &[]),
        ],
        ..SweepFacts::default()
    };
    for (kind, middle) in kinds() {
        let chain = Chain::new(vec![middle], invariants());
        let ruling = chain.sweep(HookRequest {
            hook: Hook::Cleanup,
            now_ms: 7,
            facts: Arc::default(),
            spec: spec(),
            subject: Subject::Sweep(sweep.clone()),
        });
        let Outcome::Sweep(verdicts) = ruling.decision.outcome else { panic!("{kind}") };
        let choices: Vec<_> = verdicts.iter().map(|verdict| (verdict.id.as_str(), verdict.choice)).collect();
        assert_eq!(choices, [("ended", SweepChoice::Remove), ("kept", SweepChoice::Keep)], "{kind}");
    }
}
