//! What sweeps do with workspaces that have sidecars.

use std::collections::{BTreeMap, BTreeSet};

use crate::hooks::{SweepChoice, SweepVerdict};
use crate::lifecycle::cleanup::facts::Found;
use crate::lifecycle::cleanup::sweep::removes;
use crate::store::LedgerEntry;

/// A workspace goes with its sidecars, so it gets the mildest verdict among theirs and its own: what somebody wants kept,
/// or has taken back, is not lost with it. One that no policy names keeps it from being removed, not from being stopped, and
/// one that has no container any more has nothing to lose.
pub(in crate::lifecycle) fn spare_sidecars(
    found: &[Found],
    verdicts: &mut BTreeMap<String, SweepVerdict>,
    protected: &[LedgerEntry],
) {
    let remove = |(id, verdict): (&String, &SweepVerdict)| (verdict.choice == SweepChoice::Remove).then(|| id.clone());
    let removed: BTreeSet<String> = verdicts.iter().filter_map(remove).collect();
    for part in found {
        let (Some(parent), candidate) = (&part.part_of, &part.candidate) else { continue };
        let own = verdicts.get(&candidate.id);
        let (most, reason) = match own {
            _ if protected.iter().any(|entry| removes(entry, part)) => {
                (SweepChoice::Keep, "its removal was taken back")
            }
            Some(verdict) if verdict.choice == SweepChoice::Remove => continue,
            Some(verdict) => (verdict.choice, &*verdict.reason),
            None if part.identity.is_empty() => continue,
            None if !removed.contains(parent.as_str()) => continue,
            None => (SweepChoice::Keep, "no policy names it"),
        };
        let spared = format!("its sidecar {} stays: {reason}", candidate.name);
        let by = own.map(|verdict| verdict.by.clone());
        if let Some(verdict) = verdicts.get_mut(parent.as_str()).filter(|verdict| verdict.choice > most) {
            (verdict.choice, verdict.reason) = (most, spared);
            verdict.by = by.unwrap_or_else(|| std::mem::take(&mut verdict.by));
        }
    }
}
