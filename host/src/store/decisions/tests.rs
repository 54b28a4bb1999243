//! The chain of records, on a real file that is tampered with in every way.

mod loss;

use super::*;
use crate::hooks::chain::tests::spec;
use crate::hooks::record::VERSION;
use crate::hooks::{HookRequest, Outcome, Subject};
use crate::store::tests::Dir;

/// A decision of a day, counted back from now.
fn decision(workspace: &str, days_ago: i64) -> Decision {
    let time = Timestamp::now() - jiff::SignedDuration::from_hours(24 * days_ago);
    let (seconds, nanos) = (u64::try_from(time.as_second()).unwrap(), u32::try_from(time.subsec_nanosecond()).unwrap());
    Decision {
        version: VERSION,
        id: uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)),
        time,
        hook: Hook::PreCreate,
        workspace: workspace.into(),
        input: HookRequest {
            hook: Hook::PreCreate,
            now_ms: 1,
            facts: Default::default(),
            spec: spec(),
            subject: Subject::Container,
        },
        owners: Default::default(),
        began: None,
        shadow_of: None,
        differences: vec![],
        paths: Default::default(),
        steps: vec![],
        conflicts: vec![],
        violations: vec![],
        outcome: Outcome::Allowed(Box::new(spec())),
    }
}

fn store_of(name: &str, count: usize) -> (Dir, Store) {
    let dir = Dir::new(name);
    let store = Store::open(&dir.0).unwrap();
    for chunk in (0..count).map(|_| decision("w", 0)).collect::<Vec<_>>().chunks(3) {
        store.append(chunk).unwrap();
    }
    (dir, store)
}

/// A copy of a store, with the same key, damaged.
fn damaged(store: &Store, name: &str, sql: &str) -> (Dir, Store) {
    let copy = Dir::new(name);
    std::fs::create_dir_all(&copy.0).unwrap();
    store.connection().execute(&format!("vacuum into '{}'", copy.0.join("wharf.db").display()), []).unwrap();
    for file in ["installation.key", outside::FILE] {
        std::fs::copy(store.dir().join(file), copy.0.join(file)).unwrap();
    }
    let copied = Store::open(&copy.0).unwrap();
    assert_eq!(copied.verify(None).unwrap().damages, []);
    copied.connection().execute_batch(sql).unwrap();
    (copy, copied)
}

fn said(store: &Store) -> String {
    store.verify(None).unwrap().damages.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn every_way_to_tamper_with_the_records_is_found_and_names_the_record() {
    let (_dir, store) = store_of("chain", 7);
    assert_eq!(store.verify(None).unwrap().records, 7);
    let cases = [
        ("update decisions set body = replace(body, '\"w\"', '\"v\"') where number = 3", "record 3 was changed"),
        ("update decisions set hash = 'ab' where number = 3", "record 3 was changed"),
        ("update decisions set workspace = 'v' where number = 3", "record 3 was changed: it is listed under the workspace 'v'"),
        ("update decisions set hook = 'cleanup' where number = 3", "listed under the hook 'cleanup'"),
        ("delete from decisions where number = 2", "record 2 is missing"),
        ("delete from decisions where number in (3, 4)", "record 3 and all up to 4 are missing"),
        ("delete from decisions where number = 1", "record 1 is missing"),
        ("delete from decisions where number = 7", "record 7 is missing"),
        ("delete from decisions where number > 5; update sqlite_sequence set seq = 5 where name = 'decisions'",
         "record 6 and all up to 7 are missing"),
        ("delete from decisions", "record 1 and all up to 7 are missing"),
        ("delete from meta where key = 'decisions-head'", "its signed end is missing"),
        ("update meta set value = replace(value, '\\\"number\\\":7', '\\\"number\\\":5') where key = 'decisions-head';
          delete from decisions where number > 5; update sqlite_sequence set seq = 5 where name = 'decisions'",
         "its signed end was changed"),
        ("insert into decisions (id, time, hook, workspace, body, previous, hash)
          select 'x', time, hook, workspace, body, hash, hash from decisions where number = 7",
         "record 8 was changed"),
    ];
    for (index, (sql, expected)) in cases.iter().enumerate() {
        let (_copy, copied) = damaged(&store, &format!("chain-copy-{index}"), sql);
        let said = said(&copied);
        assert!(said.contains(expected), "{sql}: {said}");
    }
    assert_eq!(said(&store), "");
}

#[test]
fn a_removed_end_stays_to_be_seen_when_the_chain_goes_on() {
    let (_dir, store) = store_of("tail", 5);
    let sql = "delete from decisions where number > 3; update sqlite_sequence set seq = 3 where name = 'decisions'";
    let (_copy, copied) = damaged(&store, "tail-copy", sql);
    copied.append(&[decision("w", 0), decision("w", 0), decision("w", 0)]).unwrap();
    assert!(said(&copied).contains("record 4 and all up to 5 are missing"), "{}", said(&copied));
}

#[test]
fn one_who_makes_up_records_needs_the_installations_key() {
    let (_dir, store) = store_of("forged", 3);
    let own = store.verify(None).unwrap().public_key;
    // A complete chain of another installation, in place of the true one.
    let (_other, forged) = store_of("forger", 3);
    assert_eq!(said(&forged), "");
    let verified = forged.verify(Some(&own)).unwrap();
    let said: Vec<_> = verified.damages.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|what| what.contains("signed with another key")), "{said:?}");
    // In the state folder of this installation, it also names another installation.
    let key = "installation.key";
    std::fs::copy(store.dir().join(key), forged.dir().join(key)).unwrap();
    let again = Store::open(forged.dir()).unwrap();
    assert!(super::tests::said(&again).contains("another key"), "{}", super::tests::said(&again));
}

#[test]
fn pruning_keeps_the_chain_provable_and_a_forged_beginning_is_found() {
    let dir = Dir::new("prune");
    let store = Store::open(&dir.0).unwrap();
    let all: Vec<_> = (0..10).rev().map(|days| decision("w", days)).collect();
    store.append(&all).unwrap();
    let before = |days: i64| Timestamp::now() - jiff::SignedDuration::from_hours(24 * days - 1);
    assert_eq!(store.prune_decisions(before(20), 100).unwrap(), 0);
    assert_eq!(store.checkpoint().unwrap(), None);
    assert_eq!(store.prune_decisions(before(7), 100).unwrap(), 3);
    assert_eq!(store.prune_decisions(before(100), 5).unwrap(), 2);
    let verified = store.verify(None).unwrap();
    assert_eq!((verified.records, &verified.damages), (5, &vec![]));
    let checkpoint = verified.checkpoint.unwrap();
    assert_eq!((checkpoint.number, checkpoint.count), (5, 5));
    assert_eq!(store.recorded(&[all[0].id, all[9].id]).unwrap(), [all[9].id]);
    for (index, (sql, expected)) in [
        ("delete from decisions where number = 6", "record 6 is missing"),
        ("delete from meta where key = 'decisions-checkpoint'", "record 1 and all up to 5 are missing"),
        ("update meta set value = replace(value, '\\\"number\\\":5', '\\\"number\\\":6') where key = 'decisions-checkpoint';
          delete from decisions where number = 6", "the checkpoint at its start was changed"),
        ("update meta set value = (select value from meta where key = 'decisions-head') where key = 'decisions-checkpoint'",
         "record"),
    ].iter().enumerate() {
        let (_copy, copied) = damaged(&store, &format!("prune-copy-{index}"), sql);
        assert!(said(&copied).contains(expected), "{sql}: {}", said(&copied));
    }
    // All records may be pruned, and the chain continues from there.
    assert_eq!(store.prune_decisions(before(0), 100).unwrap(), 5);
    store.append(&[decision("w", 0)]).unwrap();
    let verified = store.verify(None).unwrap();
    assert_eq!((verified.records, verified.damages), (1, vec![]));
    assert_eq!(verified.checkpoint.unwrap().count, 10);
}

#[test]
fn pruning_never_hides_damage() {
    let (_dir, store) = store_of("prune-damaged", 6);
    store.connection().execute("update decisions set body = body || ' ' where number = 2", []).unwrap();
    let error = store.prune_decisions(Timestamp::MIN, 2).unwrap_err();
    assert!(error.to_string().contains("record 2 was changed"), "{error}");
    assert_eq!(store.verify(None).unwrap().records, 6);
    // Records before the damage are pruned as usual.
    assert_eq!(store.prune_decisions(Timestamp::MIN, 5).unwrap(), 1);
}

#[test]
fn records_are_found_by_number_id_time_hook_and_workspace() {
    let dir = Dir::new("query");
    let store = Store::open(&dir.0).unwrap();
    let (a, b) = (WorkspaceId::derive("a", "/a"), WorkspaceId::derive("b", "/b"));
    let mut all: Vec<_> =
        (0..150).rev().map(|days| decision(if days % 2 == 0 { a.as_str() } else { b.as_str() }, days)).collect();
    all[149].hook = Hook::Cleanup;
    store.append(&all).unwrap();
    assert_eq!(store.decision("3").unwrap(), store.decision(&all[2].id.to_string()).unwrap());
    assert_eq!(store.decision("#150").unwrap().unwrap().decision().unwrap(), all[149]);
    assert_eq!(store.decision("151").unwrap(), None);
    let count =
        |query: DecisionQuery| store.decision_pages(query).map(|one| one.unwrap().number).collect::<Vec<_>>().len();
    assert_eq!(count(DecisionQuery::default()), 150);
    assert_eq!(count(DecisionQuery { workspace: Some(a.clone()), ..Default::default() }), 75);
    assert_eq!(count(DecisionQuery { hook: Some(Hook::Cleanup), ..Default::default() }), 1);
    assert_eq!(count(DecisionQuery { since: Some(all[140].time), ..Default::default() }), 10);
    assert_eq!(count(DecisionQuery { until: Some(all[140].time), ..Default::default() }), 141);
    let newest = store.decisions(&a, 2).unwrap();
    assert_eq!(newest.len(), 2);
    assert!(newest[0].time > newest[1].time);
}

#[test]
fn many_processes_append_at_once_and_the_chain_is_whole() {
    let dir = Dir::new("many");
    drop(Store::open(&dir.0).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(&dir.0).unwrap();
                for _ in 0..10 {
                    store.append(&[decision("w", 0), decision("w", 0)]).unwrap();
                }
            });
        }
    });
    let verified = Store::open(&dir.0).unwrap().verify(None).unwrap();
    assert_eq!((verified.records, verified.damages), (80, vec![]));
}
