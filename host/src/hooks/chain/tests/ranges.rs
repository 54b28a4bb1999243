//! The range of a policy's decisions: its scope, and the range of the policy that it replaces.

use super::modes::{about, replacing};
use super::*;

#[test]
fn in_a_sweep_a_policy_decides_about_what_is_in_its_scope_and_leaves_the_rest_to_the_one_that_it_replaces() {
    let all = ["pay", "shop"].map(str::to_owned);
    let says = |name, choice| {
        let all = all.clone();
        entry(name, Hook::Cleanup, move |_| {
            let one = |id: &String| SweepVerdict { id: id.clone(), choice, reason: "so".into(), by: String::new() };
            Verdict::Sweep(all.iter().map(one).collect())
        })
    };
    let pay = crate::hooks::chain::Scope { labels: [("team".into(), "pay*".into())].into(), ..Default::default() };
    let candidates = || {
        let of =
            |id: &String| Candidate { id: id.clone(), labels: [("team".into(), id.clone())].into(), ..candidate() };
        all.iter().map(of).collect()
    };
    let choices = |entries| {
        let decision = Chain::new(entries, invariants()).sweep(sweep_request(candidates())).decision;
        let Outcome::Sweep(verdicts) = decision.outcome else { panic!("{decision:?}") };
        verdicts.into_iter().map(|verdict| (verdict.id, verdict.choice)).collect::<Vec<_>>()
    };
    let keeps = Entry { scope: pay.clone(), ..says("keep-pay", SweepChoice::Keep) };
    let removes = says("old", SweepChoice::Remove);
    let expected = [("pay".to_owned(), SweepChoice::Keep), ("shop".to_owned(), SweepChoice::Remove)];
    assert_eq!(choices(vec![removes.clone(), keeps]), expected);
    let successor = Entry { scope: pay, ..replacing(says("new", SweepChoice::Keep), "old") };
    assert_eq!(choices(vec![removes, successor]), expected);
}

#[test]
fn a_policy_is_replaced_only_at_the_hooks_that_its_successor_has() {
    let passes = |name: &'static str| entry(name, Hook::PreCreate, |_| Verdict::Pass);
    let mut old = passes("old");
    old.hooks = [Hook::SecurityProfile, Hook::PreCreate].into();
    let chain = Chain::new(vec![old, replacing(passes("new"), "old")], invariants());
    let result = chain.decide_create(Draft::new(spec()), &about("w"), false, 0);
    let asked: Vec<_> = result
        .decisions
        .iter()
        .flat_map(|decision| decision.steps.iter().map(|step| (step.hook, step.policy.as_str())))
        .collect();
    assert_eq!(asked, [(Hook::SecurityProfile, "old"), (Hook::PreCreate, "new")]);
}
