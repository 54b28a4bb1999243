//! The chain's rules, tested with policies written as closures.

mod modes;
mod plain;
mod property;
mod ranges;

use super::*;
use crate::hooks::{Adjustment, Candidate, Denial, ExecSpec, PolicyError, PolicyKind, Reply, SweepFacts, Verdict};
use crate::workspace::{ContainerSpec, ImageChoice, Network, Resources, Restart, Security, State};

pub(crate) fn spec() -> ContainerSpec {
    ContainerSpec {
        image: Some(ImageChoice { reference: "base:1".into(), pull: Default::default(), reason: String::new() }),
        entrypoint: None,
        command: vec!["sh".into()],
        user: None,
        working_dir: "/workspace".into(),
        hostname: "w".into(),
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        mounts: BTreeMap::new(),
        tmpfs: BTreeMap::new(),
        ports: BTreeMap::new(),
        network: Network::Shared,
        resources: Resources {
            cpus: 1.0,
            memory: 1 << 30,
            pids: 512,
            shm_size: None,
            disk: None,
            ulimits: BTreeMap::new(),
        },
        security: Security {
            capabilities: ["CHOWN".to_owned()].into(),
            no_new_privileges: true,
            read_only_root: false,
            seccomp: "default".into(),
            apparmor: None,
            selinux: None,
            user_namespace: None,
        },
        restart: Restart::No,
        health_check: None,
        time_to_live_ms: None,
    }
}

pub(crate) fn invariants() -> Invariants {
    Invariants {
        memory: 4 << 30,
        cpus: 4.0,
        pids: 1024,
        bind_roots: vec![],
        secrets: None,
        guarded: crate::hooks::validate::engine_sockets(None).collect(),
        hostnames: ["w".to_owned()].into(),
        apparmor: Default::default(),
        selinux: Default::default(),
        docker_socket: false,
        host_network: false,
        public_ports: false,
        unconfined: false,
        capabilities: ["CHOWN".to_owned()].into(),
    }
}

type Body = Box<dyn Fn(&HookRequest) -> Result<Reply, PolicyError> + Send + Sync>;

struct Native(&'static str, Body);

impl Policy for Native {
    fn name(&self) -> &str {
        self.0
    }
    fn kind(&self) -> PolicyKind {
        PolicyKind::Script
    }
    fn digest(&self) -> &str {
        "0"
    }
    fn hooks(&self) -> &[Hook] {
        &Hook::ALL
    }
    fn wanted_files(&self) -> &[String] {
        &[]
    }
    fn evaluate(&self, request: &HookRequest) -> Result<Reply, PolicyError> {
        (self.1)(request)
    }
}

pub(crate) fn chain_of(entries: Vec<Entry>) -> Chain {
    Chain::new(entries, invariants())
}

pub(crate) fn entry(
    name: &'static str,
    hook: Hook,
    body: impl Fn(&HookRequest) -> Verdict + Send + Sync + 'static,
) -> Entry {
    failing(name, hook, move |request| Ok(body(request).into()))
}

fn failing(
    name: &'static str,
    hook: Hook,
    body: impl Fn(&HookRequest) -> Result<Reply, PolicyError> + Send + Sync + 'static,
) -> Entry {
    Entry { hooks: vec![hook], ..Entry::new(Arc::new(Native(name, Box::new(body)))) }
}

fn create(entries: Vec<Entry>) -> CreateDecision {
    Chain::new(entries, invariants()).decide_create(Draft::new(spec()), &Arc::default(), false, 0)
}

fn env(value: &str) -> Verdict {
    Verdict::Adjust(vec![Adjustment::Env("A".into(), Some(value.into()))])
}

#[test]
fn each_policy_sees_the_spec_as_adjusted_so_far_and_owns_what_it_changed() {
    let result = create(vec![
        entry("first", Hook::PreCreate, |_| env("1")),
        entry("second", Hook::PreCreate, |request| {
            assert_eq!(request.spec.env.get("A").map(String::as_str), Some("1"));
            Verdict::Adjust(vec![Adjustment::Memory(64 << 20)])
        }),
    ]);
    assert_eq!(result.refusal, None);
    assert_eq!(result.draft.owners.get("env.A").unwrap().policy, "first");
    assert_eq!(result.draft.owners.get("resources.memory").unwrap().policy, "second");
    assert_eq!(result.draft.owner_names().get("hostname").unwrap(), "default");
}

#[test]
fn two_policies_that_want_different_values_are_a_conflict_that_names_both_the_field_and_the_values() {
    let result =
        create(vec![entry("first", Hook::PreCreate, |_| env("1")), entry("second", Hook::PreCreate, |_| env("2"))]);
    let refusal = result.refusal.unwrap();
    assert_eq!(refusal.code, "conflict");
    for part in ["'first'", "'second'", "env.A", "\"1\"", "\"2\"", "may_override"] {
        assert!(refusal.reason.contains(part), "{}", refusal.reason);
    }
}

#[test]
fn the_same_value_is_no_conflict_and_may_override_lets_the_later_one_win() {
    let same = create(vec![entry("a", Hook::PreCreate, |_| env("1")), entry("b", Hook::PreCreate, |_| env("1"))]);
    assert_eq!(same.refusal, None);
    assert_eq!(same.draft.owners.get("env.A").unwrap().policy, "a");
    for allowed in ["env.A", "env"] {
        let mut later = entry("b", Hook::PreCreate, |_| env("2"));
        later.may_override = vec![allowed.into()];
        let result = create(vec![entry("a", Hook::PreCreate, |_| env("1")), later]);
        assert_eq!(result.refusal, None);
        assert_eq!(result.draft.spec.env.get("A").unwrap(), "2");
        assert_eq!(result.draft.history.len(), 2, "who was overruled stays visible");
    }
}

#[test]
fn an_error_before_create_is_a_denial_and_the_policies_after_it_are_not_asked() {
    for hook in Hook::CREATE {
        let result = create(vec![
            failing("broken", hook, |_| Err(PolicyError::new("trap", "it trapped"))),
            entry("after", hook, |_| unreachable!("a policy after the failure was asked")),
        ]);
        let refusal = result.refusal.unwrap();
        assert_eq!((refusal.code.as_str(), refusal.policy.as_str()), ("policy-failed", "broken"));
        assert!(refusal.reason.contains("it trapped") && refusal.reason.contains(hook.as_str()));
    }
}

#[test]
fn a_policy_cannot_touch_fields_that_its_hook_does_not_decide() {
    let image = Adjustment::Image(ImageChoice { reference: "x".into(), pull: Default::default(), reason: "".into() });
    for (hook, edit) in [
        (Hook::PreCreate, image.clone()),
        (Hook::PreCreate, Adjustment::NoNewPrivileges(true)),
        (Hook::SecurityProfile, image),
        (Hook::SecurityProfile, Adjustment::Env("A".into(), None)),
        (Hook::SelectImage, Adjustment::Memory(64 << 20)),
    ] {
        let result = create(vec![entry("p", hook, move |_| Verdict::Adjust(vec![edit.clone()]))]);
        assert!(result.refusal.unwrap().reason.contains("may not set"));
        assert_eq!(result.draft.spec, spec());
    }
}

#[test]
fn an_answer_is_taken_whole_or_not_at_all() {
    let result = create(vec![entry("p", Hook::PreCreate, |_| {
        Verdict::Adjust(vec![Adjustment::Env("A".into(), Some("1".into())), Adjustment::Memory(0)])
    })]);
    assert!(result.refusal.unwrap().reason.contains("resources.memory"));
    assert!(result.draft.spec.env.is_empty());
}

#[test]
fn security_policies_tighten_in_any_order_and_a_loosening_one_is_refused() {
    let tight = |pids| entry("t", Hook::SecurityProfile, move |_| Verdict::Adjust(vec![Adjustment::Pids(pids)]));
    let result = create(vec![tight(100), tight(50)]);
    assert_eq!(result.draft.spec.resources.pids, 50);
    let refusal = create(vec![tight(50), tight(100)]).refusal.unwrap();
    assert!(refusal.reason.contains("only be tightened"), "{}", refusal.reason);
}

#[test]
fn the_hosts_invariants_come_last_and_name_who_set_the_field() {
    let result = create(vec![entry("greedy", Hook::PreCreate, |_| Verdict::Adjust(vec![Adjustment::Memory(1 << 40)]))]);
    let refusal = result.refusal.unwrap();
    assert_eq!((refusal.policy.as_str(), refusal.code.as_str()), ("host", "invariant"));
    assert!(refusal.reason.contains("limits.memory") && refusal.reason.contains("greedy"), "{}", refusal.reason);
}

#[test]
fn a_denial_carries_the_policys_own_words() {
    let denial = Denial { reason: "not on Fridays".into(), code: "friday".into() };
    let result = create(vec![entry("p", Hook::PreCreate, move |_| Verdict::Deny(denial.clone()))]);
    let refusal = result.refusal.unwrap();
    assert_eq!((refusal.code.as_str(), refusal.reason.as_str()), ("friday", "not on Fridays"));
}

#[test]
fn a_policy_is_asked_only_about_workspaces_in_its_scope() {
    let mut scoped = entry("p", Hook::PreCreate, |_| env("1"));
    scoped.scope.labels.insert("team".into(), "pay*".into());
    let chain = Chain::new(vec![scoped], invariants());
    let mut facts = Facts::default();
    for (team, asked) in [("payments", true), ("search", false)] {
        facts.workspace.labels.insert("team".into(), team.into());
        let result = chain.decide_create(Draft::new(spec()), &Arc::new(facts.clone()), false, 0);
        assert_eq!(result.draft.spec.env.contains_key("A"), asked);
    }
}

fn candidate() -> Candidate {
    Candidate {
        kind: Default::default(),
        id: "w".into(),
        name: "w".into(),
        part_of: None,
        project: "/w".into(),
        labels: BTreeMap::new(),
        state: Some(State::Exited),
        used: false,
        exit_code: Some(0),
        created_ms: 0,
        started_ms: None,
        finished_ms: None,
        last_activity_ms: None,
        size: None,
    }
}

fn sweep_request(candidates: Vec<Candidate>) -> HookRequest {
    let facts = SweepFacts { candidates, ..Default::default() };
    HookRequest { hook: Hook::Cleanup, now_ms: 0, facts: Arc::default(), spec: spec(), subject: Subject::Sweep(facts) }
}

fn sweep(entries: Vec<Entry>) -> Decision {
    Chain::new(entries, invariants()).sweep(sweep_request(vec![candidate()])).decision
}

fn says(name: &'static str, choice: SweepChoice) -> Entry {
    entry(name, Hook::Cleanup, move |_| {
        Verdict::Sweep(vec![SweepVerdict { id: "w".into(), choice, reason: "so".into(), by: String::new() }])
    })
}

#[test]
fn in_cleanup_any_keep_wins_and_any_failure_keeps_everything() {
    let choice = |entries| match sweep(entries).outcome {
        Outcome::Sweep(verdicts) => verdicts.first().map(|verdict| verdict.choice),
        other => panic!("{other:?}"),
    };
    let broken = || failing("broken", Hook::Cleanup, |_| Err(PolicyError::new("trap", "x")));
    use SweepChoice::{Keep, Remove, Stop};
    assert_eq!(choice(vec![says("a", Remove)]), Some(Remove));
    assert_eq!(choice(vec![says("a", Remove), says("b", Keep)]), Some(Keep));
    assert_eq!(choice(vec![says("b", Keep), says("a", Remove)]), Some(Keep));
    assert_eq!(choice(vec![says("a", Remove), says("b", Stop)]), Some(Stop));
    assert_eq!(choice(vec![]), None, "a candidate that no policy names is kept");
    assert_eq!(choice(vec![says("a", Remove), broken()]), None);
    assert_eq!(choice(vec![broken(), says("a", Remove)]), None);
}

#[test]
fn a_sweep_verdict_about_a_stranger_is_refused() {
    let stranger = entry("p", Hook::Cleanup, |_| {
        Verdict::Sweep(vec![SweepVerdict {
            id: "other".into(),
            choice: SweepChoice::Remove,
            reason: "".into(),
            by: String::new(),
        }])
    });
    let decision = sweep(vec![says("a", SweepChoice::Remove), stranger]);
    assert_eq!(decision.outcome, Outcome::Sweep(vec![]));
    assert!(decision.steps[1].error.as_ref().unwrap().message.contains("not a candidate"));
}

#[test]
fn actions_of_all_policies_are_collected_in_order_even_when_one_fails() {
    let note = |name: &'static str| {
        entry(name, Hook::PostStart, move |_| Verdict::Act { actions: vec![Action::Note(name.into())], delay_ms: None })
    };
    let broken = failing("broken", Hook::PostStart, |_| Err(PolicyError::new("trap", "x")));
    let decision = Chain::new(vec![note("a"), broken, note("b")], invariants())
        .collect(HookRequest {
            hook: Hook::PostStart,
            now_ms: 0,
            facts: Arc::default(),
            spec: spec(),
            subject: Subject::Start { first_start: true },
        })
        .decision;
    let Outcome::Actions { actions, .. } = &decision.outcome else { panic!("{decision:?}") };
    let names: Vec<_> = actions.iter().map(|(policy, _)| policy.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(decision.steps.iter().filter(|step| step.error.is_some()).count(), 1);
}
