//! Modes: which policies are asked about a workspace, and whose verdict counts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::standing::Snapshot;
use super::{Chain, Entry};
use crate::hooks::record::StepMode;
use crate::hooks::{Decision, Facts, Hook};
use crate::workspace::sha256_hex;

/// How a policy takes part in the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Its verdicts count.
    #[default]
    Enforce,
    /// It is asked after the others have decided, and what it would have changed is recorded.
    Shadow,
    /// It counts for this percentage of the workspaces, and is a shadow for the others.
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

/// Whether something is in the share of a policy: always on the same side, and once in, in at every larger share.
pub fn in_share(policy: &str, id: &str, percent: u8) -> bool {
    let digest = sha256_hex(format!("{policy}\n{id}").as_bytes());
    let number = digest.get(..8).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(u64::MAX);
    number * 100 < u64::from(percent) << 32
}

/// Of a sweep, which is about many: the candidates that a policy decides about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    policy: String,
    percent: u8,
    inside: bool,
}

impl Share {
    pub(super) fn holds(&self, id: &str) -> bool {
        in_share(&self.policy, id, self.percent) == self.inside
    }
}

/// A policy's part in one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its place in the chain.
    pub(super) index: usize,
    pub(super) mode: StepMode,
    /// Only for sweeps.
    pub(super) share: Option<Share>,
}

/// Which side a canary is on when a decision is taken again, and which policies were not asked as their breaker was open.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins {
    pub(super) canaries: std::collections::BTreeSet<String>,
    pub(super) open: std::collections::BTreeMap<String, String>,
}

impl Chain {
    /// The same chain with every canary on the side, and every breaker as, it was for a recorded decision: taking it
    /// again then depends on nothing but the record.
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

    /// The policies that are asked at a hook about a workspace, in order, shadows among them.
    pub(super) fn parts(&self, hook: Hook, facts: &Facts, snapshot: &Snapshot) -> Vec<Part> {
        let mut parts = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if !entry.hooks.contains(&hook) || !entry.scope.holds(facts) {
                continue;
            }
            let (mode, mut share) = self.side(entry, hook, facts, snapshot);
            let successor = self.successor(entry).filter(|successor| successor.scope.holds(facts));
            if let Some(successor) = successor {
                match self.side(successor, hook, facts, snapshot) {
                    (StepMode::Shadow, _) => {}
                    (_, None) => continue,
                    // What the canary does not decide about stays with the one that it replaces.
                    (_, Some(of)) => share = Some(Share { inside: !of.inside, ..of }),
                }
            }
            parts.push(Part { index, mode, share });
        }
        parts
    }

    /// The policy that takes this one's place, where it counts.
    pub(super) fn successor(&self, entry: &Entry) -> Option<&Entry> {
        self.entries.iter().find(|other| other.replaces.as_deref() == Some(entry.policy.name()))
    }

    fn side(&self, entry: &Entry, hook: Hook, facts: &Facts, snapshot: &Snapshot) -> (StepMode, Option<Share>) {
        let name = entry.policy.name();
        match entry.mode {
            Mode::Enforce => (StepMode::Enforce, None),
            Mode::Shadow => (StepMode::Shadow, None),
            Mode::Canary(percent) => {
                let in_it = match &self.pins {
                    Some(pins) => pins.canaries.contains(name),
                    None if snapshot.of(entry).is_some_and(|standing| standing.rolled_back.is_some()) => false,
                    None if hook == Hook::Cleanup => percent > 0,
                    None => in_share(name, &facts.workspace.id, percent),
                };
                let share = Share { policy: name.to_owned(), percent, inside: true };
                match in_it {
                    true => (StepMode::Canary, (hook == Hook::Cleanup).then_some(share)),
                    false => (StepMode::Shadow, None),
                }
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
