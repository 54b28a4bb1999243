//! No sequence of adjustments, by any policies at any hooks, ends looser than it began.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::hooks::record::StepMode;
use crate::workspace::{Mount, MountKind, Tmpfs};

/// Returns the looseness of a spec, field by field, without using the floor's table. A spec with a greater value in
/// any place is looser.
fn looseness(spec: &ContainerSpec) -> Vec<(String, i64)> {
    let security = &spec.security;
    let profile = |value: Option<&str>, off: &str, default: Option<&str>| match value {
        value if value == Some(off) => 2,
        value if value == default => 1,
        _ => 0,
    };
    let root =
        |user: Option<&str>| user.is_none_or(|user| ["root", "0", ""].contains(&user.split(':').next().unwrap()));
    let mut all = vec![
        ("nnp".to_owned(), i64::from(!security.no_new_privileges)),
        ("root".into(), i64::from(!security.read_only_root)),
        ("seccomp".into(), profile(Some(&security.seccomp), "unconfined", Some("default"))),
        ("apparmor".into(), profile(security.apparmor.as_deref(), "unconfined", None)),
        ("selinux".into(), profile(security.selinux.as_deref(), "disable", None)),
        ("userns".into(), i64::from(security.user_namespace.is_some())),
        ("pids".into(), i64::from(spec.resources.pids)),
        ("user".into(), i64::from(root(spec.user.as_deref()))),
    ];
    for name in ["CHOWN", "KILL", "SYS_ADMIN"] {
        all.push((name.into(), i64::from(security.capabilities.contains(name))));
    }
    for target in ["/a", "/b"] {
        let size = spec.tmpfs.get(target).map_or(i64::MAX, |tmpfs| tmpfs.size.map_or(i64::MAX - 1, |s| s as i64));
        all.push((format!("tmpfs {target}"), size));
        // A mount may come and go, but a read-only mount never becomes writable.
        let writable = spec.mounts.get(target).is_some_and(|mount| !mount.read_only);
        all.push((format!("mount {target}"), i64::from(writable)));
    }
    all
}

fn names() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::sample::subsequence(vec!["CHOWN", "KILL", "SYS_ADMIN"], 0..=3)
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(words).prop_map(str::to_owned)
}

fn target() -> impl Strategy<Value = String> {
    one_of(&["/a", "/b"])
}

fn adjustment() -> impl Strategy<Value = Adjustment> {
    let mount = any::<bool>().prop_map(|read_only| Mount { kind: MountKind::Volume, source: "v".into(), read_only });
    let tmpfs = proptest::option::of(1u64..5).prop_map(|size| Tmpfs { size });
    prop_oneof![
        names().prop_map(Adjustment::Capabilities),
        any::<bool>().prop_map(Adjustment::NoNewPrivileges),
        any::<bool>().prop_map(Adjustment::ReadOnlyRoot),
        one_of(&["default", "unconfined", "tight", "other"]).prop_map(Adjustment::Seccomp),
        proptest::option::of(one_of(&["unconfined", "tight", "other"])).prop_map(Adjustment::Apparmor),
        proptest::option::of(one_of(&["disable", "type:x"])).prop_map(Adjustment::Selinux),
        proptest::option::of(one_of(&["host"])).prop_map(Adjustment::UserNamespace),
        (1u32..1_000).prop_map(Adjustment::Pids),
        proptest::option::of(one_of(&["root", "0:5", "1000", "node"])).prop_map(Adjustment::User),
        (target(), proptest::option::of(tmpfs)).prop_map(|(target, tmpfs)| Adjustment::Tmpfs(target, tmpfs)),
        (target(), proptest::option::of(mount)).prop_map(|(target, mount)| Adjustment::Mount(target, mount)),
        Just(Adjustment::Env("A".into(), Some("1".into()))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_sequence_of_adjustments_ends_looser_than_it_began(
        begin in proptest::collection::vec(adjustment(), 0..6),
        edits in proptest::collection::vec((adjustment(), any::<bool>()), 1..12),
    ) {
        let mut began = spec();
        begin.iter().for_each(|edit| edit.apply(&mut began));
        // Each edit has its own policy, and all may override. A refusal discards the policy's whole answer.
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut draft = Draft::new(began.clone());
        for ((edit, late), name) in edits.into_iter().zip(names) {
            let hook = if late { Hook::PreCreate } else { Hook::SecurityProfile };
            let one = edit.clone();
            let mut policy = entry(name, hook, move |_| Verdict::Adjust(vec![one.clone()]));
            policy.may_override = vec![edit.field()];
            let chain = Chain::new(vec![policy], invariants());
            // The sequence is one decision: it is compared with the spec at its very start.
            let request = HookRequest {
                hook, now_ms: 0, facts: Arc::default(), spec: draft.spec.clone(), subject: Subject::Container,
            };
            let mut run = Run::with(&chain, request, Snapshot::default()).began(began.clone());
            let before = draft.clone();
            run.create(&mut draft);
            if run.refusal.is_some() {
                draft = before;
            }
            for ((field, was), (_, is)) in looseness(&began).into_iter().zip(looseness(&draft.spec)) {
                let new_mount = field.strip_prefix("mount ").is_some_and(|target| !began.mounts.contains_key(target));
                prop_assert!(is <= was || new_mount, "{field}: {was} became {is} by {edit:?}");
            }
        }
    }

    #[test]
    fn shadows_whatever_they_say_change_nothing_about_a_decision(
        edits in proptest::collection::vec((adjustment(), 0u8..6, any::<bool>()), 1..12),
    ) {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut all = Vec::new();
        for ((edit, kind, late), name) in edits.into_iter().zip(names) {
            let hook = if late { Hook::PreCreate } else { Hook::SecurityProfile };
            let mut policy = failing(name, hook, move |_| match kind {
                0 => Err(PolicyError::new("trap", "it trapped")),
                1 => Ok(Verdict::Deny(Denial { reason: "no".into(), code: "no".into() }).into()),
                _ => Ok(Verdict::Adjust(vec![edit.clone()]).into()),
            });
            // Policies that fail or deny are shadows here: otherwise hardly any request would be decided.
            if kind < 4 {
                policy.mode = Mode::Shadow;
            }
            all.push(policy);
        }
        let count: Vec<_> = all.iter().filter(|entry| entry.mode == Mode::Enforce).cloned().collect();
        let with = create(all);
        let without = create(count);
        prop_assert_eq!(&with.draft, &without.draft);
        prop_assert_eq!(&with.refusal, &without.refusal);
        for record in with.shadows.map(|shadows| shadows.run()).unwrap_or_default() {
            prop_assert!(record.shadow_of.is_some() && record.steps.iter().all(|step| step.mode == StepMode::Shadow));
        }
    }
}
