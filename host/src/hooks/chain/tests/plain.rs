//! A decision is plain data.

use super::modes::about;
use super::*;
use crate::workspace::{Mount, MountKind};

/// Returns the decision and the records of the shadows.
pub(super) fn with_shadows(chain: &Chain, workspace: &str) -> (CreateDecision, Vec<Decision>) {
    let mut result = chain.decide_create(Draft::new(spec()), &about(workspace), false, 0);
    let records = result.shadows.take().map(|shadows| shadows.run()).unwrap_or_default();
    (result, records)
}

#[test]
fn a_decision_that_was_written_and_read_is_the_same_one_with_everything_in_it() {
    let mount = Mount { kind: MountKind::Bind, source: "/usr".into(), read_only: true };
    let mounts = entry("m", Hook::PreCreate, move |_| {
        Verdict::Adjust(vec![Adjustment::Mount("/m".into(), Some(mount.clone()))])
    });
    let shadow =
        Entry { mode: Mode::Shadow, ..entry("s", Hook::PreCreate, |_| Verdict::Adjust(vec![Adjustment::Pids(7)])) };
    let chain = Chain::new(vec![mounts, shadow], invariants());
    let (result, records) = with_shadows(&chain, "w");
    assert!(result.decisions.iter().any(|decision| !decision.paths.is_empty()), "{:?}", result.refusal);
    assert_eq!(records.len(), 1);
    for decision in result.decisions.iter().chain(&records) {
        let text = serde_json::to_string(decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), *decision);
    }
}
