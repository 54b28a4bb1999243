use super::*;
use crate::hooks::chain::tests::spec;
use crate::workspace::{Mount, MountKind, Tmpfs};

fn floor<'a>(began: &'a ContainerSpec, waivers: &'a [Waiver]) -> Floor<'a> {
    // 2026-07-01T00:00:00Z
    Floor { began, waivers, now_ms: 1_782_864_000_000 }
}

fn check(spec: &ContainerSpec, adjustment: &Adjustment) -> Result<Option<Waiver>, String> {
    floor(spec, &[]).check(spec, adjustment)
}

#[test]
fn every_security_field_can_be_tightened_and_none_can_be_loosened() {
    let mut spec = spec();
    spec.security.capabilities = ["CHOWN".to_owned(), "KILL".to_owned()].into();
    spec.user = None;
    let mount = |read_only| Some(Mount { kind: MountKind::Volume, source: "v".into(), read_only });
    spec.mounts.insert("/m".into(), mount(false).unwrap());
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let pairs = [
        (Adjustment::Capabilities(set(&["CHOWN"])), Adjustment::Capabilities(set(&["CHOWN", "SYS_ADMIN"]))),
        (Adjustment::NoNewPrivileges(true), Adjustment::NoNewPrivileges(false)),
        (Adjustment::ReadOnlyRoot(true), Adjustment::ReadOnlyRoot(false)),
        (Adjustment::Seccomp("mine".into()), Adjustment::Seccomp("unconfined".into())),
        (Adjustment::Apparmor(Some("mine".into())), Adjustment::Apparmor(Some("unconfined".into()))),
        (Adjustment::Selinux(Some("type:x".into())), Adjustment::Selinux(Some("disable".into()))),
        (Adjustment::UserNamespace(None), Adjustment::UserNamespace(Some("host".into()))),
        (Adjustment::Pids(10), Adjustment::Pids(u32::MAX)),
        (Adjustment::User(Some("1000:1000".into())), Adjustment::User(Some("0:5".into()))),
        (Adjustment::Mount("/m".into(), mount(true)), Adjustment::Mount("/m".into(), mount(false))),
        (Adjustment::Tmpfs("/tmp".into(), Some(Tmpfs { size: Some(1) })), Adjustment::Tmpfs("/tmp".into(), None)),
    ];
    let mut covered = std::collections::BTreeSet::new();
    for (tighter, looser) in pairs {
        assert_eq!(check(&spec, &tighter), Ok(None), "{tighter:?}");
        let mut tightened = spec.clone();
        tighter.apply(&mut tightened);
        assert_eq!(check(&tightened, &tighter), Ok(None), "again: {tighter:?}");
        let said = check(&tightened, &looser).unwrap_err();
        assert!(said.starts_with(&looser.field()), "{said}");
        covered.extend(ORDER.iter().map(|(field, _)| *field).find(|field| looser.field().starts_with(field)));
    }
    assert_eq!(covered.len(), ORDER.len(), "every field of the order is shown: {covered:?}");
}

#[test]
fn root_is_recognised_in_every_spelling() {
    for root in [None, Some("root"), Some("0"), Some("0:0"), Some("00"), Some("root:staff"), Some(":5")] {
        assert!(is_root(root), "{root:?}");
    }
    for other in ["1000", "node", "1000:0", "rooty"] {
        assert!(!is_root(Some(other)), "{other}");
    }
}

#[test]
fn what_was_taken_away_and_comes_back_is_held_against_how_it_began() {
    let mount = |read_only| Some(Mount { kind: MountKind::Volume, source: "v".into(), read_only });
    let mut began = spec();
    began.mounts.insert("/m".into(), mount(true).unwrap());
    let mut gone = began.clone();
    gone.mounts.clear();
    let said = floor(&began, &[]).check(&gone, &Adjustment::Mount("/m".into(), mount(false))).unwrap_err();
    assert!(said.contains("it was originally"), "{said}");
    assert_eq!(floor(&began, &[]).check(&gone, &Adjustment::Mount("/m".into(), mount(true))), Ok(None));
    assert_eq!(floor(&began, &[]).check(&gone, &Adjustment::Mount("/new".into(), mount(false))), Ok(None));
}

#[test]
fn a_waiver_allows_exactly_its_value_until_the_end_of_its_day() {
    let spec = spec();
    let waiver = |until: &str, value: &str| Waiver {
        field: "security.seccomp".into(),
        value: value.into(),
        until: until.parse().unwrap(),
        reason: "strace for the trainees".into(),
    };
    let loose = Adjustment::Seccomp("unconfined".into());
    let with = |waiver: &Waiver| floor(&spec, std::slice::from_ref(waiver)).check(&spec, &loose);
    let good = waiver("2026-07-01", "unconfined");
    assert_eq!(with(&good), Ok(Some(good.clone())));
    let said = with(&waiver("2026-06-30", "unconfined")).unwrap_err();
    assert!(said.contains("expired on 2026-06-30") && said.contains("trainees"), "{said}");
    let said = with(&waiver("2027-01-01", "other")).unwrap_err();
    assert!(said.contains("only"), "{said}");
    // A policy that tightens needs no waiver, and the waiver does not count as used.
    assert_eq!(floor(&spec, &[good]).check(&spec, &Adjustment::Seccomp("mine".into())), Ok(None));
    let caps = Waiver {
        field: "security.capabilities".into(),
        value: serde_json::json!(["SYS_PTRACE", "CHOWN"]),
        ..waiver("2026-12-31", "")
    };
    let more = Adjustment::Capabilities(["CHOWN", "SYS_PTRACE"].map(str::to_owned).into());
    assert!(floor(&spec, &[caps]).check(&spec, &more).unwrap().is_some(), "the order of a list says nothing");
}
