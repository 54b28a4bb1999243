//! Modes: which policies are called for a workspace, and which verdicts count.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::standing::Snapshot;
use super::{Chain, Entry, Scope};
use crate::hooks::record::StepMode;
use crate::hooks::{Candidate, Decision, Facts, Hook};
use crate::workspace::sha256_hex;

/// The way in which a policy takes part in the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Its verdicts count.
    #[default]
    Enforce,
    /// It is called after the others have decided, and the changes that it would have made are recorded.
    Shadow,
    /// Its verdicts count for this percentage of the workspaces. For the others it is a shadow.
    Canary(u8),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforce => f.write_str("enforce"),
            Self::Shadow => f.write_str("shadow"),
            Self::Canary(percent) => write!(f, "canary {percent}%"),
        }
    }
}

/// Returns whether an id is in a policy's share. The result is stable, and an id in the share stays in every larger
/// share.
pub fn in_share(policy: &str, id: &str, percent: u8) -> bool {
    let digest = sha256_hex(format!("{policy}\n{id}").as_bytes());
    let number = digest.get(..8).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(u64::MAX);
    number * 100 < u64::from(percent) << 32
}

/// For sweeps, which cover many objects: the candidates that a policy decides on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Range {
    scope: Scope,
    /// The name and the percentage of a canary.
    share: Option<(String, u8)>,
}

impl Range {
    fn holds(&self, candidate: &Candidate) -> bool {
        // A workspace and its sidecars belong together.
        let whole = candidate.part_of.as_ref().unwrap_or(&candidate.id);
        let in_share = self.share.as_ref().is_none_or(|(policy, percent)| in_share(policy, whole, *percent));
        in_share && self.scope.holds_candidate(candidate)
    }
}

/// A policy's part in one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its place in the chain.
    pub(super) index: usize,
    pub(super) mode: StepMode,
    /// For sweeps: the candidates that it decides on.
    within: Range,
    /// For sweeps: the candidates that its replacement decides on instead.
    without: Option<Range>,
}

impl Part {
    /// Returns whether its verdict about a candidate counts.
    pub(super) fn decides(&self, candidate: &Candidate) -> bool {
        self.within.holds(candidate) && !self.without.as_ref().is_some_and(|without| without.holds(candidate))
    }
}

impl Entry {
    /// Returns whether it is called for a workspace. A sweep covers all workspaces, and its verdicts are filtered
    /// instead.
    pub fn concerns(&self, hook: Hook, facts: &Facts) -> bool {
        hook == Hook::Cleanup || self.scope.holds(facts)
    }
}

/// The recorded side of each canary for a replay, and the policies that were not called because their breaker was
/// open.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins {
    pub(super) canaries: std::collections::BTreeSet<String>,
    pub(super) open: std::collections::BTreeMap<String, String>,
}

impl Chain {
    /// Returns the same chain with every canary on the recorded side and every breaker in the recorded state. A
    /// replay then depends only on the record.
    pub fn as_recorded(&self, decision: &Decision) -> Self {
        let mut pins = Pins::default();
        for step in &decision.steps {
            if step.mode == StepMode::Canary {
                pins.canaries.insert(step.policy.clone());
            }
            if let Some(error) = step.error.as_ref().filter(|error| error.code == super::standing::OPEN) {
                pins.open.insert(step.policy.clone(), error.message.clone());
            }
        }
        Self { standings: None, pins: Some(pins.into()), ..self.clone() }
    }

    /// Returns the policies to call at a hook for a workspace, in order, including shadows.
    pub(super) fn parts(&self, hook: Hook, facts: &Facts, snapshot: &Snapshot) -> Vec<Part> {
        let mut parts = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let asked = |entry: &Entry| entry.hooks.contains(&hook) && entry.concerns(hook, facts);
            if !asked(entry) {
                continue;
            }
            let (mode, within) = self.side(entry, hook, facts, snapshot);
            let mut without = None;
            // Candidates that its successor does not decide on stay with this policy.
            if let Some(successor) = self.successor(entry).filter(|successor| asked(successor)) {
                match self.side(successor, hook, facts, snapshot) {
                    (StepMode::Shadow, _) => {}
                    (_, range) if range == Range::default() => continue,
                    (_, range) => without = Some(range),
                }
            }
            parts.push(Part { index, mode, within, without });
        }
        parts
    }

    /// Returns the policy that replaces this one where its own verdicts count.
    pub(super) fn successor(&self, entry: &Entry) -> Option<&Entry> {
        self.entries.iter().find(|other| other.replaces.as_deref() == Some(entry.policy.name()))
    }

    fn side(&self, entry: &Entry, hook: Hook, facts: &Facts, snapshot: &Snapshot) -> (StepMode, Range) {
        let name = entry.policy.name();
        let sweeps = hook == Hook::Cleanup;
        let scope = if sweeps { entry.scope.clone() } else { Scope::default() };
        let mut range = Range { scope, share: None };
        match entry.mode {
            Mode::Enforce => (StepMode::Enforce, range),
            Mode::Shadow => (StepMode::Shadow, range),
            Mode::Canary(percent) => {
                let in_it = match &self.pins {
                    Some(pins) => pins.canaries.contains(name),
                    None if snapshot.of(entry).is_some_and(|standing| standing.rolled_back.is_some()) => false,
                    None if sweeps => percent > 0,
                    None => in_share(name, &facts.workspace.id, percent),
                };
                if !in_it {
                    return (StepMode::Shadow, range);
                }
                range.share = sweeps.then(|| (name.to_owned(), percent));
                (StepMode::Canary, range)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_stable_grows_without_changing_sides_and_is_about_as_large_as_it_says() {
        let ids: Vec<_> = (0..2_000).map(|n| format!("shop-{n}")).collect();
        for id in &ids {
            assert!(!in_share("p", id, 0) && in_share("p", id, 100));
            assert_eq!(in_share("p", id, 10), in_share("p", id, 10));
            assert!(!in_share("p", id, 10) || in_share("p", id, 11), "{id} left when the share grew");
        }
        let within = ids.iter().filter(|id| in_share("p", id, 10)).count();
        assert!((120..280).contains(&within), "{within} of 2000 are in a share of 10 %");
        let other = ids.iter().filter(|id| in_share("q", id, 10) && in_share("p", id, 10)).count();
        assert!(other < within / 2, "two policies do not share their share");
    }
}
