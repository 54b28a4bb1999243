//! Replays ten thousand records of the built-in chain, and records of random requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use wharf::hooks::record::{Draft, Owner};
use wharf::hooks::redact::SecretNames;
use wharf::hooks::{
    Adjustment, Candidate, CandidateKind, Chain, Decision, ExecSpec, Facts, FileContent, Hook, HookRequest, Limits,
    Subject, SweepFacts,
};
use wharf::records::replay_decisions;
use wharf::store::{DecisionQuery, Store};
use wharf::workspace::{HostPort, Mount, MountKind, State};

use super::{builtin, entry, invariants, plugin, script, spec};

/// Random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    /// xorshift64*
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

fn facts(dice: &mut Dice) -> Arc<Facts> {
    let mut facts = Facts::default();
    let name = dice.one(&["shop", "a-name-that-is-much-longer-than-forty-characters-are", "x", "café"]);
    facts.workspace.id = format!("{}-{:06x}", "w", dice.below(1 << 24));
    facts.workspace.name = name.to_owned();
    facts.workspace.project = format!("/srv/{}", dice.below(9));
    for label in ["team", "owner", "keep", "sidecar"] {
        if dice.below(3) == 0 {
            facts.workspace.labels.insert(label.into(), dice.one(&["a", "payments", ""]).to_owned());
        }
    }
    for (file, text) in [
        ("package.json", "{ \"engines\": { \"node\": \"20\" } }"),
        ("go.mod", "module x\n\ngo 1.24.1\n"),
        (".python-version", "3.12\n"),
        ("wharf-setup.sh", "true"),
        ("Cargo.toml", "[package]\nname = \"\u{e9}\""),
    ] {
        if dice.below(3) == 0 {
            facts.project.files.push(file.into());
            facts
                .project
                .contents
                .insert(file.into(), FileContent { text: text.into(), truncated: dice.below(9) == 0 });
        }
    }
    facts.engine.cpus = u32::try_from(dice.below(16)).unwrap();
    Arc::new(facts)
}

/// Returns a draft with odd numbers, fields with other owners, and mounts that exist or not.
fn draft(dice: &mut Dice) -> Draft {
    let mut spec = spec();
    if dice.below(2) == 0 {
        spec.image = None;
    }
    let mut draft = Draft::new(spec);
    let by = |policy: &str| Owner { policy: policy.into(), at: None };
    let cpus = dice.below(1_000_000) as f64 / 99_999.0 + 0.01;
    let mut edits = vec![
        Adjustment::Cpus(cpus),
        Adjustment::Memory((6 << 20) + dice.below(40 << 30)),
        Adjustment::Env("A".into(), Some(format!("v{}", dice.below(5)))),
        Adjustment::Env("API_TOKEN".into(), Some("***".into())),
    ];
    if dice.below(3) == 0 {
        let source = dice.one(&["/etc", "/srv/0", "/no/such/path", "/", "/tmp"]).to_owned();
        edits.push(Adjustment::Mount("/x".into(), Some(Mount { kind: MountKind::Bind, source, read_only: true })));
    }
    if dice.below(5) == 0 {
        edits.push(Adjustment::Port("80/tcp".into(), Some(HostPort { address: "0.0.0.0".into(), port: None })));
    }
    for edit in edits {
        let owner = dice.one(&["request", "config", "pre-create.rhai", "security-baseline"]);
        draft.set(&edit, by(owner), None);
    }
    draft
}

fn candidates(dice: &mut Dice) -> Vec<Candidate> {
    let states = [State::Running, State::Exited, State::Paused, State::Dead];
    (0..dice.below(6))
        .map(|number| Candidate {
            part_of: None,
            kind: [CandidateKind::Workspace, CandidateKind::Image, CandidateKind::Volume]
                [usize::try_from(dice.below(3)).unwrap()],
            id: format!("c{number}"),
            name: format!("c{number}"),
            project: "/srv/1".into(),
            labels: if dice.below(3) == 0 { [("keep".to_owned(), "true".to_owned())].into() } else { BTreeMap::new() },
            state: Some(states[usize::try_from(dice.below(4)).unwrap()]),
            used: dice.below(2) == 0,
            exit_code: Some(0),
            created_ms: dice.below(1 << 41),
            started_ms: None,
            finished_ms: (dice.below(2) == 0).then(|| dice.below(1 << 41)),
            last_activity_ms: None,
            size: Some(dice.below(1 << 40)),
        })
        .collect()
}

fn decide(chain: &Chain, dice: &mut Dice) -> Vec<Decision> {
    let now_ms = 1_767_268_800_000 + dice.below(1 << 36);
    let facts = facts(dice);
    let request = |hook, subject| HookRequest { hook, now_ms, facts: facts.clone(), spec: spec(), subject };
    match dice.below(7) {
        0..3 => chain.decide_create(draft(dice), &facts, dice.below(2) == 0, now_ms).decisions,
        3 => vec![chain.collect(request(Hook::PostStart, Subject::Start { first_start: dice.below(2) == 0 })).decision],
        4 => vec![
            chain
                .collect(request(Hook::PreStop, Subject::Stop { verb: dice.one(&["stop", "remove"]).to_owned() }))
                .decision,
        ],
        5 => {
            let env = [("A".to_owned(), dice.below(9).to_string())].into();
            let command = vec![dice.one(&["ls", "rm", "sh"]).to_owned()];
            vec![
                chain
                    .decide_exec(request(
                        Hook::PreExec,
                        Subject::Exec(ExecSpec { command, env, ..ExecSpec::default() }),
                    ))
                    .decision,
            ]
        }
        _ => {
            let sweep = SweepFacts {
                candidates: candidates(dice),
                disk_free: dice.below(1 << 40),
                disk_total: 1 << 40,
                local_minute: u16::try_from(dice.below(1440)).unwrap(),
                local_weekday: u8::try_from(dice.below(7) + 1).unwrap(),
            };
            vec![
                chain
                    .sweep(HookRequest { facts: Arc::default(), ..request(Hook::Cleanup, Subject::Sweep(sweep)) })
                    .decision,
            ]
        }
    }
}

/// Returns a store with at least `count` records of a chain, redacted as by the program.
fn recorded(name: &str, chain: &Chain, seed: u64, count: usize) -> (Folder, Store) {
    let folder = Folder(std::env::temp_dir().join(format!("wharf-replay-{name}-{}", std::process::id())));
    let _ = std::fs::remove_dir_all(&folder.0);
    let store = Store::open(&folder.0).unwrap();
    let (mut dice, mut written) = (Dice(seed), 0);
    while written < count {
        let mut batch = Vec::new();
        while batch.len() < 200 {
            batch.extend(decide(chain, &mut dice));
        }
        batch.iter_mut().for_each(|decision| secrets().redact(decision, &[]));
        written += batch.len();
        store.append(&batch).unwrap();
    }
    (folder, store)
}

fn secrets() -> SecretNames {
    SecretNames(vec!["*TOKEN*".into(), "*SECRET*".into()])
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn ten_thousand_records_of_the_built_in_chain_are_replayed_byte_for_byte() {
    let chain = Chain::new(builtin::chain(), invariants());
    let (_folder, store) = recorded("many", &chain, 42, 10_000);
    assert!(store.verify(None).unwrap().whole().unwrap() >= 10_000);
    let pages = store.decision_pages(DecisionQuery::default());
    // A freshly loaded chain, as in another process.
    let again = Chain::new(builtin::chain(), invariants());
    let replayed = replay_decisions(&again, &secrets(), &[], pages).unwrap();
    assert_eq!(
        (replayed.identical, replayed.flipped, replayed.same_outcome),
        (replayed.replayed, 0, 0),
        "{replayed:?}"
    );
    assert!(replayed.replayed >= 10_000 && replayed.not_replayed.is_empty(), "{replayed:?}");
    println!("{} decisions, {:.0} decisions/s", replayed.replayed, replayed.per_second);
    // The records vary: they include denials, conflicts, violations and sweeps.
    let all: Vec<Decision> = store
        .decisions_after(&DecisionQuery::default(), 0, 2_000)
        .unwrap()
        .iter()
        .map(|stored| stored.decision().unwrap())
        .collect();
    for word in ["allowed", "denied", "actions", "sweep"] {
        assert!(all.iter().any(|decision| decision.outcome.word() == word), "{word}");
    }
    assert!(all.iter().any(|decision| !decision.violations.is_empty()));
    assert!(all.iter().any(|decision| !decision.conflicts.is_empty()));
}

#[test]
fn whatever_chance_makes_up_is_replayed_byte_for_byte_by_other_chains_too() {
    let chains = || {
        let mirror = || entry(script("host/tests/scripts/mirror.rhai", json!({})));
        let wasm = || entry(plugin("test-plugins/mirror", json!({}), Limits::default()).unwrap());
        let mut backwards = builtin::chain();
        backwards.reverse();
        let mut mixed = builtin::chain();
        mixed.insert(2, mirror());
        [vec![mirror()], vec![wasm()], vec![wasm(), mirror()], backwards, mixed, vec![]]
            .map(|entries| Chain::new(entries, invariants()))
    };
    for (index, (chain, again)) in chains().into_iter().zip(chains()).enumerate() {
        let (_folder, store) = recorded(&format!("chance-{index}"), &chain, 7 + index as u64, 400);
        let pages = store.decision_pages(DecisionQuery::default());
        let replayed = replay_decisions(&again, &secrets(), &[], pages).unwrap();
        assert_eq!(replayed.identical, replayed.replayed, "{index}: {replayed:?}");
        // A different chain gives a different result: a replay can distinguish chains.
        if index > 0 {
            let pages = store.decision_pages(DecisionQuery::default());
            let other = replay_decisions(&chains()[0], &secrets(), &[], pages).unwrap();
            assert!(other.identical < other.replayed, "{index}: {other:?}");
        }
    }
}
