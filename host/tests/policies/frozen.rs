//! Components that were built once keep loading and deciding forever: see `host/tests/frozen/README.md`.

use std::sync::Arc;

use serde_json::json;
use wharf::hooks::{
    Action, Adjustment, Candidate, EventFacts, EventKind, ExecSpec, Facts, FileContent, Hook, HookRequest, Limits,
    Policy, Subject, SweepChoice, SweepFacts, Verdict,
};
use wharf::wasm::WasmPolicy;
use wharf::workspace::State;

use super::{ENGINE, root, spec};

const DIGEST: &str = "d15606112b69635afcfc9ca4e8dc3ddbaa9e9d48954bcff0665f18911f9642ca";

fn candidate(id: &str, used: bool) -> Candidate {
    Candidate {
        part_of: None,
        kind: Default::default(),
        id: id.into(),
        name: id.into(),
        project: "/p".into(),
        labels: Default::default(),
        state: Some(State::Exited),
        used,
        exit_code: Some(0),
        created_ms: 1,
        started_ms: None,
        finished_ms: None,
        last_activity_ms: None,
        size: None,
    }
}

#[test]
fn a_component_of_0_1_0_with_every_kind_loads_and_decides_as_it_always_did() {
    let bytes = std::fs::read(root().join("host/tests/frozen/wharf-policy-0.1.0/every-kind.wasm")).unwrap();
    let policy = WasmPolicy::load(&ENGINE, "frozen", &bytes, &json!({}), Limits::default()).unwrap();
    assert_eq!(policy.digest(), DIGEST, "a frozen component is never built again");
    assert_eq!(policy.hooks(), Hook::ALL);
    assert_eq!(policy.wanted_files(), ["package.json"]);

    let mut facts = Facts::default();
    let file = FileContent { text: "{ \"engines\": { \"node\": \"22\" } }".into(), truncated: false };
    facts.project.contents.insert("package.json".into(), file);
    facts.workspace.labels.insert("team".into(), "pay".into());
    let facts = Arc::new(facts);
    let ask = |hook, subject| {
        let request = HookRequest { hook, now_ms: 7, facts: facts.clone(), spec: spec(), subject };
        policy.evaluate(&request).unwrap()
    };

    let reply = ask(Hook::SelectImage, Subject::Image { requested: false });
    let Verdict::Adjust(edits) = &reply.verdict else { panic!("{reply:?}") };
    assert!(matches!(&edits[..], [Adjustment::Image(image)] if image.reference == "node:22"), "{edits:?}");
    assert_eq!(reply.logs, ["info: choosing"]);
    let adjusts = |hook, subject, edit| assert_eq!(ask(hook, subject).verdict, Verdict::Adjust(vec![edit]), "{hook}");
    adjusts(Hook::SecurityProfile, Subject::Container, Adjustment::Pids(256));
    adjusts(Hook::PreCreate, Subject::Container, Adjustment::Env("TEAM".into(), Some("pay".into())));
    let exec = ExecSpec { command: vec!["ls".into(), "-l".into()], ..Default::default() };
    adjusts(Hook::PreExec, Subject::Exec(exec), Adjustment::Env("WORDS".into(), Some("2".into())));
    let notes = |hook, subject, text: &str, delay_ms| {
        let actions = vec![Action::Note(text.into())];
        assert_eq!(ask(hook, subject).verdict, Verdict::Act { actions, delay_ms }, "{hook}");
    };
    notes(Hook::PostStart, Subject::Start { first_start: true }, "started base:1 at 7", None);
    notes(Hook::PreStop, Subject::Stop { verb: "stop".into() }, "stop", Some(5));
    let event = EventFacts { kind: EventKind::Exited, exit_code: Some(3), detail: String::new() };
    notes(Hook::Event, Subject::Event(event), "Some(3)", None);
    let sweep = SweepFacts { candidates: vec![candidate("a", true), candidate("b", false)], ..Default::default() };
    let Verdict::Sweep(verdicts) = ask(Hook::Cleanup, Subject::Sweep(sweep)).verdict else { panic!("no sweep") };
    let said: Vec<_> = verdicts.iter().map(|one| (one.id.as_str(), one.choice)).collect();
    assert_eq!(said, [("b", SweepChoice::Remove)]);
}
