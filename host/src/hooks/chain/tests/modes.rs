//! Shadows, canaries, breakers and waivers.

use std::sync::{Mutex, atomic};

use super::plain::with_shadows;
use super::*;
use crate::hooks::Action;
use crate::hooks::record::{Difference, StepMode, Waiver};

/// Standings of a single process, in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Standing>>);

impl Standings for Memory {
    fn read(&self) -> Result<BTreeMap<String, Standing>, String> {
        Ok(self.0.lock().unwrap().clone())
    }
    fn update(&self, policy: &str, change: &mut dyn FnMut(&mut Standing)) -> Result<(), String> {
        change(self.0.lock().unwrap().entry(policy.to_owned()).or_default());
        Ok(())
    }
}

fn shadow(entry: Entry) -> Entry {
    Entry { mode: Mode::Shadow, ..entry }
}

pub(super) fn replacing(entry: Entry, replaced: &str) -> Entry {
    Entry { replaces: Some(replaced.into()), ..entry }
}

fn memory(name: &'static str, mib: u64) -> Entry {
    entry(name, Hook::PreCreate, move |_| Verdict::Adjust(vec![Adjustment::Memory(mib << 20)]))
}

pub(super) fn about(workspace: &str) -> Arc<Facts> {
    let mut facts = Facts::default();
    facts.workspace.id = workspace.into();
    Arc::new(facts)
}

fn differences(records: &[Decision]) -> Vec<(String, String, String, String)> {
    let each = |one: &Difference| (one.policy.clone(), one.field.clone(), one.from.to_string(), one.to.to_string());
    records.iter().flat_map(|record| record.differences.iter().map(each)).collect()
}

#[test]
fn a_shadow_changes_nothing_and_its_difference_is_recorded_beside_the_decision() {
    let chain =
        Chain::new(vec![memory("now", 512), shadow(entry("next", Hook::PreCreate, |_| env("1")))], invariants());
    let (result, records) = with_shadows(&chain, "w");
    assert_eq!(result.refusal, None);
    assert!(result.draft.spec.env.is_empty());
    let decision = result.decisions.last().unwrap();
    assert_eq!(decision.steps.len(), 1, "a shadow is no step of the decision");
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.shadow_of, record.steps[0].mode), (Some(decision.id), StepMode::Shadow));
    assert_eq!(differences(&records), [("next".into(), "env.A".into(), "null".into(), "\"1\"".into())]);
}

#[test]
fn later_shadows_see_what_earlier_ones_would_have_changed_and_enforced_policies_never_do() {
    let chain = Chain::new(
        vec![
            shadow(entry("first", Hook::SecurityProfile, |_| Verdict::Adjust(vec![Adjustment::Pids(7)]))),
            entry("enforced", Hook::PreCreate, |request| {
                assert_eq!(request.spec.resources.pids, 512);
                env("enforced")
            }),
            shadow(entry("second", Hook::PreCreate, |request| {
                assert_eq!(request.spec.resources.pids, 7, "of a shadow at an earlier hook");
                assert_eq!(request.spec.env["A"], "enforced", "and of what counts");
                Verdict::Adjust(vec![Adjustment::Label("seen".into(), Some("yes".into()))])
            })),
        ],
        invariants(),
    );
    let (result, records) = with_shadows(&chain, "w");
    assert_eq!(result.draft.spec.resources.pids, 512);
    let told = differences(&records);
    assert_eq!(told.len(), 2, "each is told once, at its own hook: {told:?}");
    assert_eq!((told[0].0.as_str(), told[0].1.as_str(), told[0].3.as_str()), ("first", "resources.pids", "7"));
    assert_eq!((told[1].0.as_str(), told[1].1.as_str()), ("second", "labels.seen"));
}

#[test]
fn denials_errors_conflicts_and_invariants_of_shadows_are_recorded_and_deny_nothing() {
    let denies = |_: &HookRequest| Verdict::Deny(Denial { reason: "no".into(), code: "no".into() });
    for (bad, code, by) in [
        (entry("s", Hook::PreCreate, denies), "no", "s"),
        (failing("s", Hook::PreCreate, |_| Err(PolicyError::new("trap", "it trapped"))), "policy-failed", "s"),
        (entry("s", Hook::PreCreate, |_| env("2")), "conflict", "s"),
        (memory("s", 1 << 20), "invariant", "host"),
        (entry("s", Hook::SecurityProfile, |_| Verdict::Adjust(vec![Adjustment::Pids(600)])), "policy-failed", "s"),
    ] {
        let chain = Chain::new(vec![entry("now", Hook::PreCreate, |_| env("1")), shadow(bad)], invariants());
        let (result, records) = with_shadows(&chain, "w");
        assert_eq!(result.refusal, None, "{code}");
        assert_eq!(result.draft.spec.env["A"], "1");
        let Outcome::Denied(refusal) = &records[0].outcome else { panic!("{code}: {records:?}") };
        assert_eq!((refusal.code.as_str(), refusal.policy.as_str()), (code, by));
        let all = differences(&records);
        let outcome = all.iter().find(|one| one.1 == "outcome").unwrap();
        assert_eq!((outcome.0.as_str(), outcome.2.as_str()), ("s", "\"allowed\""));
    }
}

#[test]
fn a_shadow_that_replaces_a_policy_is_compared_with_it_and_meets_no_conflict() {
    let chain = Chain::new(vec![memory("old", 512), replacing(shadow(memory("new", 256)), "old")], invariants());
    let (result, records) = with_shadows(&chain, "w");
    assert_eq!(result.draft.spec.resources.memory, 512 << 20);
    let (from, to) = ((512u64 << 20).to_string(), (256u64 << 20).to_string());
    assert_eq!(differences(&records), [("new".into(), "resources.memory".into(), from, to)]);
    let denies = entry("old", Hook::PreCreate, |_| Verdict::Deny(Denial { reason: "no".into(), code: "no".into() }));
    let chain = Chain::new(vec![denies, replacing(shadow(memory("new", 256)), "old")], invariants());
    let (result, records) = with_shadows(&chain, "w");
    assert!(result.refusal.is_some());
    let lifted = ("new".into(), "outcome".into(), "\"denied: no by old\"".into(), "\"allowed\"".into());
    assert_eq!(differences(&records), [lifted]);
}

#[test]
fn a_replaced_policy_is_not_asked_where_its_successor_counts() {
    let old = entry("old", Hook::PreCreate, |_| unreachable!("it was replaced"));
    let chain = Chain::new(vec![old, replacing(memory("new", 256), "old")], invariants());
    assert_eq!(with_shadows(&chain, "w").0.draft.spec.resources.memory, 256 << 20);
}

#[test]
fn a_canary_counts_for_its_share_and_the_others_keep_the_one_it_replaces() {
    let canary = Entry { mode: Mode::Canary(30), ..replacing(memory("new", 256), "old") };
    let chain = Chain::new(vec![memory("old", 512), canary], invariants());
    let mut within = 0;
    for number in 0..200 {
        let workspace = format!("shop-{number}");
        let (result, records) = with_shadows(&chain, &workspace);
        let step = &result.decisions.last().unwrap().steps;
        assert_eq!(step.len(), 1, "one of the two is asked");
        if in_share("new", &workspace, 30) {
            within += 1;
            assert_eq!((result.draft.spec.resources.memory, step[0].mode), (256 << 20, StepMode::Canary));
            assert!(records.is_empty());
        } else {
            assert_eq!((result.draft.spec.resources.memory, step[0].mode), (512 << 20, StepMode::Enforce));
            assert_eq!(differences(&records).len(), 1);
        }
    }
    assert!((30..100).contains(&within), "{within} of 200");
}

/// Returns ids in the canary's share.
fn within_share(policy: &str, percent: u8) -> impl Iterator<Item = String> {
    let policy = policy.to_owned();
    (0..).map(|number| format!("shop-{number}")).filter(move |id| in_share(&policy, id, percent))
}

#[test]
fn a_canary_that_fails_too_often_is_rolled_back_and_its_next_version_begins_anew() {
    let memory = Arc::new(Memory::default());
    let failing = failing("new", Hook::PreCreate, |_| Err(PolicyError::new("trap", "it trapped")));
    let canary = Entry { mode: Mode::Canary(50), ..replacing(failing, "old") };
    let chain = |canary: &Entry| {
        Chain::new(vec![super::modes::memory("old", 512), canary.clone()], invariants()).with_standings(memory.clone())
    };
    let ids: Vec<_> = within_share("new", 50).take(4).collect();
    for id in &ids[..3] {
        assert!(with_shadows(&chain(&canary), id).0.refusal.is_some(), "a failure of a canary denies, too");
    }
    // 10 % of at least 20 calls: the third failure is too many.
    let rolled_back = memory.0.lock().unwrap()["new"].rolled_back.clone().unwrap();
    assert!(rolled_back.why.contains("3 of 3 calls failed") && rolled_back.why.contains("trapped"), "{rolled_back:?}");
    let (result, records) = with_shadows(&chain(&canary), &ids[3]);
    assert_eq!(result.draft.spec.resources.memory, 512 << 20, "the one that it replaces is back");
    assert_eq!(records[0].steps[0].mode, StepMode::Shadow);
    let corrected = Entry { settings_digest: "another".into(), ..canary };
    assert!(with_shadows(&chain(&corrected), &ids[3]).0.refusal.is_some(), "another version is asked again");
}

#[test]
fn in_a_sweep_a_canary_decides_about_its_share_of_the_candidates() {
    let all: Vec<String> = (0..50).map(|number| format!("shop-{number}")).collect();
    let says = |name, choice| {
        let all = all.clone();
        entry(name, Hook::Cleanup, move |_| {
            let one = |id: &String| SweepVerdict { id: id.clone(), choice, reason: "so".into(), by: String::new() };
            Verdict::Sweep(all.iter().map(one).collect())
        })
    };
    let canary = Entry { mode: Mode::Canary(40), ..replacing(says("new", SweepChoice::Remove), "old") };
    let chain = Chain::new(vec![says("old", SweepChoice::Stop), canary], invariants());
    let candidates = all.iter().map(|id| Candidate { id: id.clone(), ..candidate() }).collect();
    let decision = chain.sweep(sweep_request(candidates)).decision;
    let Outcome::Sweep(verdicts) = &decision.outcome else { panic!("{decision:?}") };
    assert_eq!(verdicts.len(), all.len());
    for verdict in verdicts {
        let new = in_share("new", &verdict.id, 40);
        assert_eq!(verdict.choice, if new { SweepChoice::Remove } else { SweepChoice::Stop }, "{}", verdict.id);
    }
}

#[test]
fn a_shadow_of_a_sweep_tells_what_it_would_have_chosen() {
    let Ruling { decision, shadows } =
        Chain::new(vec![says("a", SweepChoice::Stop), shadow(says("s", SweepChoice::Keep))], invariants())
            .sweep(sweep_request(vec![candidate()]));
    assert!(matches!(&decision.outcome, Outcome::Sweep(all) if all[0].choice == SweepChoice::Stop));
    let records = shadows.unwrap().run();
    let told = ("s".into(), "workspace".into(), "\"stop\"".into(), "\"keep\"".into());
    assert_eq!(differences(&records), [told]);
}

#[test]
fn a_shadow_of_a_command_tells_what_it_would_have_changed_or_denied() {
    let exec = |entries| {
        let subject = Subject::Exec(ExecSpec { command: vec!["ls".into()], ..Default::default() });
        let request = HookRequest { hook: Hook::PreExec, now_ms: 0, facts: about("w"), spec: spec(), subject };
        let Ruling { decision, shadows } = Chain::new(entries, invariants()).decide_exec(request);
        let records = shadows.unwrap().run();
        (decision.outcome, records)
    };
    let (outcome, records) = exec(vec![shadow(entry("s", Hook::PreExec, |_| env("1")))]);
    assert!(matches!(outcome, Outcome::AllowedExec(exec) if exec.env.is_empty()));
    assert_eq!(differences(&records), [("s".into(), "env.A".into(), "null".into(), "\"1\"".into())]);
    let denies = entry("s", Hook::PreExec, |_| Verdict::Deny(Denial { reason: "no".into(), code: "no".into() }));
    let (outcome, records) = exec(vec![shadow(denies)]);
    assert!(matches!(outcome, Outcome::AllowedExec(_)));
    assert_eq!(differences(&records)[0].3, "\"denied: no by s\"");
}

#[test]
fn a_policy_that_keeps_failing_is_not_asked_until_its_pause_is_over_and_then_by_one_caller() {
    let (memory, asked) = (Arc::new(Memory::default()), Arc::new(atomic::AtomicUsize::new(0)));
    let well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let broken = {
        let (asked, well) = (asked.clone(), well.clone());
        failing("p", Hook::PreCreate, move |_| {
            asked.fetch_add(1, atomic::Ordering::SeqCst);
            match well.load(atomic::Ordering::SeqCst) {
                true => Ok(Verdict::Pass.into()),
                false => Err(PolicyError::new("timeout", "it looped")),
            }
        })
    };
    let chain = Chain::new(vec![broken], invariants()).with_standings(memory.clone());
    let at = |workspace: &str, ms| chain.decide_create(Draft::new(spec()), &about(workspace), false, ms).refusal;
    for call in 0..5 {
        assert!(at("a", call).unwrap().reason.contains("it looped"));
    }
    // Open only for this workspace: no other workspace has had a failure.
    let refusal = at("a", 10).unwrap();
    assert_eq!(
        (refusal.code.as_str(), asked.load(atomic::Ordering::SeqCst)),
        ("policy-failed", 5),
        "denied without a call"
    );
    for part in ["breaker is open", "5 failures in a row", "about this workspace", "30 s", "it looped"] {
        assert!(refusal.reason.contains(part), "{}", refusal.reason);
    }
    assert!(at("b", 10).unwrap().reason.ends_with("it looped"));
    assert_eq!(asked.load(atomic::Ordering::SeqCst), 6);
    // Two workspaces in a row: now it is open for all, and denies at once.
    assert!(at("c", 11).unwrap().reason.contains("breaker is open"));
    assert_eq!(asked.load(atomic::Ordering::SeqCst), 6);
    // After the pause one caller tries again, and its failure doubles the pause.
    assert!(at("c", 30_011).unwrap().reason.ends_with("it looped"));
    assert_eq!(asked.load(atomic::Ordering::SeqCst), 7);
    assert!(at("c", 60_020).unwrap().reason.contains("30 s"));
    well.store(true, atomic::Ordering::SeqCst);
    assert_eq!(at("c", 95_000), None);
    assert_eq!(at("b", 95_001), None, "its success closed the breaker");
    assert_eq!(at("a", 95_002), None);
    assert!(memory.0.lock().unwrap()["p"].breakers.is_empty(), "nothing is left to be remembered");
}

#[test]
fn a_decision_is_taken_again_as_it_was_recorded_whatever_breakers_and_canaries_are_by_then() {
    let memory = Arc::new(Memory::default());
    let broken = failing("p", Hook::PreCreate, |_| Err(PolicyError::new("trap", "x")));
    let chain = Chain::new(vec![broken], invariants()).with_standings(memory.clone());
    let mut last = None;
    for call in 0..6 {
        last = Some(chain.decide_create(Draft::new(spec()), &about("a"), false, call));
    }
    let recorded = last.unwrap();
    assert!(recorded.refusal.as_ref().unwrap().reason.contains("breaker is open"));
    let again = chain.as_recorded(recorded.decisions.last().unwrap());
    memory.0.lock().unwrap().clear();
    let again = again.decide_create(Draft::new(spec()), &about("a"), false, 5);
    assert_eq!(again.refusal, recorded.refusal);
    assert!(memory.0.lock().unwrap().is_empty(), "taking it again teaches nothing");

    let canary = Entry { mode: Mode::Canary(50), ..replacing(super::modes::memory("new", 256), "old") };
    let was = Chain::new(vec![super::modes::memory("old", 512), canary.clone()], invariants());
    let inside = within_share("new", 50).next().unwrap();
    let (recorded, _) = with_shadows(&was, &inside);
    let none = Entry { mode: Mode::Canary(0), ..canary };
    let now = Chain::new(vec![super::modes::memory("old", 512), none], invariants());
    let again = now.as_recorded(recorded.decisions.last().unwrap());
    assert_eq!(with_shadows(&again, &inside).0.draft.spec, recorded.draft.spec);
}

#[test]
fn an_open_breaker_keeps_the_failure_mode_of_its_hook() {
    let memory = Arc::new(Memory::default());
    let broken = failing("broken", Hook::Cleanup, |_| Err(PolicyError::new("trap", "x")));
    let chain = Chain::new(vec![says("a", SweepChoice::Remove), broken], invariants()).with_standings(memory);
    for _ in 0..8 {
        let decision = chain.sweep(sweep_request(vec![candidate()])).decision;
        assert_eq!(decision.outcome, Outcome::Sweep(vec![]), "everything is kept");
    }
    let last = chain.sweep(sweep_request(vec![candidate()])).decision;
    assert_eq!(last.steps[1].error.as_ref().unwrap().code, "breaker-open");
}

#[test]
fn a_failure_means_what_the_entry_says_where_the_hook_leaves_a_choice() {
    let broken = failing("broken", Hook::PostStart, |_| Err(PolicyError::new("trap", "x")));
    let stops = Entry { on_error: [(Hook::PostStart, FailureMode::Stop)].into(), ..broken };
    let decision = Chain::new(vec![stops], invariants())
        .collect(HookRequest {
            hook: Hook::PostStart,
            now_ms: 0,
            facts: Arc::default(),
            spec: spec(),
            subject: Subject::Start { first_start: true },
        })
        .decision;
    assert_eq!(decision.steps[0].error.as_ref().unwrap().means, Some(FailureMode::Stop));
    let Outcome::Actions { actions, .. } = &decision.outcome else { panic!("{decision:?}") };
    assert!(
        matches!(actions.as_slice(), [(policy, Action::Stop(why))] if policy == "broken" && why.contains("failed"))
    );
}

#[test]
fn a_waiver_lets_one_policy_loosen_one_field_and_shows_in_its_step() {
    let waiver = Waiver {
        field: "security.seccomp".into(),
        value: "unconfined".into(),
        until: "2099-01-01".parse().unwrap(),
        reason: "strace".into(),
    };
    let loosens =
        |name| entry(name, Hook::SecurityProfile, |_| Verdict::Adjust(vec![Adjustment::Seccomp("unconfined".into())]));
    let invariants = || Invariants { unconfined: true, ..invariants() };
    let with = Entry { waivers: vec![waiver.clone()], ..loosens("with") };
    let chain = Chain::new(vec![with.clone()], invariants());
    let result = chain.decide_create(Draft::new(spec()), &Arc::default(), false, 0);
    assert_eq!((result.refusal, result.draft.spec.security.seccomp.as_str()), (None, "unconfined"));
    assert_eq!(result.decisions[1].steps[0].waivers, [waiver]);
    // Another policy does not benefit from the waiver.
    let chain = Chain::new(vec![loosens("without"), with], invariants());
    let refusal = chain.decide_create(Draft::new(spec()), &Arc::default(), false, 0).refusal.unwrap();
    assert_eq!(refusal.policy, "without");
}

#[test]
fn the_floor_holds_at_every_hook_that_can_set_a_security_field() {
    for edit in [Adjustment::Pids(1_000), Adjustment::User(Some("root".into()))] {
        let result = create(vec![entry("p", Hook::PreCreate, {
            let edit = edit.clone();
            move |_| Verdict::Adjust(vec![edit.clone()])
        })]);
        assert!(result.refusal.unwrap().reason.contains("only be tightened"), "{edit:?}");
    }
    let mut container = spec();
    container.user = Some("1000".into());
    let root = entry("p", Hook::PreExec, |_| Verdict::Adjust(vec![Adjustment::User(Some("root".into()))]));
    let ruling = Chain::new(vec![root], invariants()).decide_exec(HookRequest {
        hook: Hook::PreExec,
        now_ms: 0,
        facts: Arc::default(),
        spec: container,
        subject: Subject::Exec(ExecSpec::default()),
    });
    assert!(
        matches!(ruling.decision.outcome, Outcome::Denied(refusal) if refusal.reason.contains("only be tightened"))
    );
}

#[test]
fn failures_about_workspaces_that_are_gone_make_room_for_those_of_others() {
    let memory = Arc::new(Memory::default());
    let broken = failing("p", Hook::PreExec, |_| Err(PolicyError::new("trap", "x")));
    let chain = Chain::new(vec![broken], invariants()).with_standings(memory.clone());
    let ask = |workspace: &str, now_ms| {
        let subject = Subject::Exec(ExecSpec::default());
        chain.decide_exec(HookRequest { hook: Hook::PreExec, now_ms, facts: about(workspace), spec: spec(), subject })
    };
    // The second failure opens the breaker for all; this test is about the breakers of single workspaces.
    for number in 0..400u64 {
        memory.0.lock().unwrap().entry("p".into()).or_default().breakers.remove("pre-exec");
        ask(&format!("w-{number}"), number);
    }
    let breakers = memory.0.lock().unwrap()["p"].breakers.clone();
    assert!(breakers.len() <= 256 && breakers.contains_key("pre-exec w-399") && !breakers.contains_key("pre-exec w-0"));
}
