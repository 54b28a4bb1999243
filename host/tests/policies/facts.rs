//! What policies may ask about a request besides their input: who asked.

use std::sync::Arc;

use serde_json::json;
use wharf::hooks::record::Draft;
use wharf::hooks::{
    Adjustment, Caller, CallerRole, Chain, Decision, Door, Facts, Hook, HookRequest, Limits, Policy, Subject, Verdict,
};
use wharf::script::RhaiPolicy;

use super::{entry, invariants, plugin, spec};

const SCRIPT: &str = r#"
fn pre_create(ctx) {
    let caller = ctx.caller;
    if caller == () {
        ctx.spec.env.ASKED_BY = "nobody";
        return;
    }
    if caller.role == "viewer" { ctx.deny("viewer", `${caller.name} only looks`); }
    ctx.spec.env.ASKED_BY = `${caller.name} (${caller.role}, ${caller.door})`;
}
"#;

fn request(caller: Option<Caller>) -> HookRequest {
    let facts = Facts { caller, ..Facts::default() };
    HookRequest { hook: Hook::PreCreate, now_ms: 7, facts: Arc::new(facts), spec: spec(), subject: Subject::Container }
}

#[test]
fn a_plugin_and_a_script_learn_who_asked() {
    let asker = plugin("test-plugins/asker", json!({}), Limits::default()).unwrap();
    let script = RhaiPolicy::load("asker.rhai", SCRIPT, json!({}), Limits::default()).unwrap();
    let by = |name: &str, role, door| Some(Caller { name: name.into(), role, door });
    for (caller, expected) in [
        (None, "nobody"),
        (by("user 0", CallerRole::Admin, Door::CommandLine), "user 0 (admin, command-line)"),
        (by("user 1000", CallerRole::Admin, Door::Socket), "user 1000 (admin, socket)"),
        (by("ci", CallerRole::Operator, Door::Network), "ci (operator, network)"),
        (by("wharf serve", CallerRole::Admin, Door::Service), "wharf serve (admin, service)"),
    ] {
        let wanted = Verdict::Adjust(vec![Adjustment::Env("ASKED_BY".into(), Some(expected.into()))]);
        assert_eq!(asker.evaluate(&request(caller.clone())).unwrap().verdict, wanted);
        assert_eq!(script.evaluate(&request(caller)).unwrap().verdict, wanted);
    }
    let viewer = request(by("bob", CallerRole::Viewer, Door::Network));
    for verdict in [asker.evaluate(&viewer).unwrap().verdict, script.evaluate(&viewer).unwrap().verdict] {
        assert!(matches!(&verdict, Verdict::Deny(denial) if denial.reason == "bob only looks"), "{verdict:?}");
    }
}

#[test]
fn a_record_has_the_caller_so_a_replay_gives_the_same_and_one_without_still_reads() {
    let asker = plugin("test-plugins/asker", json!({}), Limits::default()).unwrap();
    let chain = Chain::new(vec![entry(asker)], invariants());
    let caller = Caller { name: "ci".into(), role: CallerRole::Operator, door: Door::Network };
    let facts = Arc::new(Facts { caller: Some(caller.clone()), ..Facts::default() });
    let decided = chain.decide_create(Draft::new(spec()), &facts, false, 7);
    let record = decided.decisions.iter().find(|decision| decision.hook == Hook::PreCreate).unwrap();
    let text = serde_json::to_value(record).unwrap();
    assert_eq!(text["input"]["facts"]["caller"], json!({ "name": "ci", "role": "operator", "door": "network" }));
    let read: Decision = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(read.input.facts.caller, Some(caller));
    assert_eq!(chain.again(&read).outcome, record.outcome);
    // As an older Wharf has written it.
    let mut old = text;
    old["input"]["facts"].as_object_mut().unwrap().remove("caller");
    let old: Decision = serde_json::from_value(old).unwrap();
    assert_eq!(old.input.facts.caller, None);
    assert!(serde_json::to_value(&old).unwrap()["input"]["facts"].get("caller").is_none());
    let again = chain.again(&old);
    assert!(serde_json::to_string(&again.outcome).unwrap().contains("nobody"), "{:?}", again.outcome);
}
