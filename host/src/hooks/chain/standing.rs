//! Standings of policies: breakers and the results of canaries. Commands are short-lived, so standings are stored
//! between decisions in a place shared by all processes (the store). This module only has the rules.
//!
//! A breaker opens when a policy fails several times in a row at one hook. Until its pause is over, the policy is not
//! called there, and the meaning of its failure applies at once: at a create hook a denial. Then one caller tries the
//! policy again. Success closes the breaker, failure doubles the pause. Failures for one workspace open the breaker
//! only for that workspace, so that one workspace cannot break a policy for the others. Failures for several
//! workspaces open it for all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::hooks::record::{Step, StepMode};
use crate::hooks::{Hook, HookRequest};

/// Error code of a policy that was not called because its breaker is open.
pub(super) const OPEN: &str = "breaker-open";
/// Maximum pause of a breaker, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 600_000;
/// Maximum number of breakers stored for one policy.
const MOST_BREAKERS: usize = 256;

/// The conditions under which a policy's breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Consecutive failures; 0 means never.
    pub failures: u32,
    /// Milliseconds until the first retry.
    pub pause_ms: u64,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { failures: 5, pause_ms: 30_000 }
    }
}

/// The conditions under which a canary is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollbackLimits {
    /// Roll back above this percentage of failed calls.
    pub percent: u8,
    /// Minimum number of calls.
    pub calls: u32,
}

impl Default for RollbackLimits {
    fn default() -> Self {
        Self { percent: 10, calls: 20 }
    }
}

/// The standing of one policy. Another version of it (other bytes or settings) starts from zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Standing {
    /// Digests of its bytes and settings.
    pub version: String,
    /// By hook, and by hook and workspace (`pre-create shop-1a2b3c`); for a shadow with the prefix `shadow `.
    pub breakers: BTreeMap<String, Breaker>,
    /// Calls as a canary.
    pub calls: u32,
    /// Number of failed calls among them.
    pub errors: u32,
    /// The rollback, if the canary is now a shadow for all workspaces.
    pub rolled_back: Option<RolledBack>,
}

/// The rollback of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolledBack {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The reason, in one line for users.
    pub why: String,
}

/// Consecutive failures at one hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Breaker {
    /// Number of failures.
    pub failures: u32,
    /// The workspaces of the failures, at most two.
    pub workspaces: BTreeSet<String>,
    /// The time at which it opened (milliseconds since 1970).
    pub opened_ms: Option<u64>,
    /// Duration of the pause in milliseconds.
    pub pause_ms: u64,
    /// The end of the time in which one caller tries the policy again.
    pub probe_ms: Option<u64>,
    /// The message of the last failure.
    pub last: String,
    /// The time of the last failure (milliseconds since 1970).
    pub last_ms: u64,
}

impl Breaker {
    /// Returns the time of the next retry in milliseconds since 1970, if the breaker is open.
    pub fn open_until(&self) -> Option<u64> {
        self.opened_ms.map(|opened| self.probe_ms.unwrap_or(0).max(opened.saturating_add(self.pause_ms)))
    }

    fn failed(&mut self, workspace: &str, why: &str, least: usize, limits: BreakerLimits, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        if self.workspaces.len() < 2 {
            self.workspaces.insert(workspace.to_owned());
        }
        why.clone_into(&mut self.last);
        self.last_ms = now_ms;
        self.probe_ms = None;
        if limits.failures > 0 && self.failures >= limits.failures && self.workspaces.len() >= least {
            self.pause_ms = match self.opened_ms {
                Some(_) => self.pause_ms.saturating_mul(2).min(LONGEST_PAUSE_MS.max(limits.pause_ms)),
                None => limits.pause_ms,
            };
            self.opened_ms = Some(now_ms);
        }
    }
}

/// The storage of standings.
pub trait Standings: Send + Sync {
    /// Returns all standings, by policy.
    ///
    /// # Errors
    /// One line, if they cannot be read.
    fn read(&self) -> Result<BTreeMap<String, Standing>, String>;

    /// Changes one standing atomically, so that concurrent writes of other processes are not lost.
    ///
    /// # Errors
    /// One line, if it cannot be written.
    fn update(&self, policy: &str, change: &mut dyn FnMut(&mut Standing)) -> Result<(), String>;
}

/// Read-only standings, for decisions that are not carried out.
pub struct LookedAt(pub std::sync::Arc<dyn Standings>);

impl Standings for LookedAt {
    fn read(&self) -> Result<BTreeMap<String, Standing>, String> {
        self.0.read()
    }
    fn update(&self, _: &str, _: &mut dyn FnMut(&mut Standing)) -> Result<(), String> {
        Ok(())
    }
}

/// The standings at the start of a decision.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot(BTreeMap<String, Standing>);

impl Snapshot {
    pub(super) fn of_store(standings: Option<&dyn Standings>) -> Self {
        let Some(standings) = standings else { return Self::default() };
        Self(standings.read().unwrap_or_else(|error| {
            tracing::warn!("cannot read the standing of the policies: {error}");
            BTreeMap::new()
        }))
    }

    /// Returns the standing of this version of a policy.
    pub(super) fn of(&self, entry: &Entry) -> Option<&Standing> {
        self.0.get(entry.policy.name()).filter(|standing| standing.version == entry.version())
    }
}

/// Returns the keys of the breakers that apply to one call: for all workspaces, and for this workspace.
fn keys(hook: Hook, mode: StepMode, workspace: &str) -> (String, Option<String>) {
    let shadow = if mode == StepMode::Shadow { "shadow " } else { "" };
    let all = format!("{shadow}{hook}");
    let one = (!workspace.is_empty()).then(|| format!("{all} {workspace}"));
    (all, one)
}

/// Returns the reason why a policy is not called now, if a breaker is open. After its pause this caller may try
/// again, and other callers wait for the result.
pub(super) fn blocked(
    snapshot: &Snapshot,
    standings: Option<&dyn Standings>,
    entry: &Entry,
    mode: StepMode,
    request: &HookRequest,
) -> Option<String> {
    let (all, one) = keys(request.hook, mode, &request.facts.workspace.id);
    let now = request.now_ms;
    for key in std::iter::once(all).chain(one) {
        let Some(breaker) = snapshot.of(entry).and_then(|standing| standing.breakers.get(&key)) else { continue };
        let Some(until) = breaker.open_until() else { continue };
        let mut wait = until.saturating_sub(now);
        if wait == 0
            && let Some(standings) = standings
        {
            let mut mine = true;
            let claimed = standings.update(entry.policy.name(), &mut |standing| {
                let Some(breaker) = standing.breakers.get_mut(&key) else { return };
                mine = breaker.open_until().is_none_or(|until| until <= now);
                if mine && breaker.opened_ms.is_some() {
                    breaker.probe_ms = Some(now.saturating_add(breaker.pause_ms));
                }
                wait = breaker.open_until().unwrap_or(0).saturating_sub(now);
            });
            if let Err(error) = claimed {
                tracing::warn!("cannot test the breaker of '{}': {error}", entry.policy.name());
            }
            if mine {
                continue;
            }
        }
        if wait > 0 {
            let whom = if key.ends_with(request.hook.as_str()) { "" } else { " about this workspace" };
            return Some(format!(
                "its breaker is open after {} failures in a row{whom}; it is asked again in {} s; last failure: {}",
                breaker.failures,
                wait.div_ceil(1_000),
                breaker.last
            ));
        }
    }
    None
}

/// Stores the results of one hook run's calls.
pub(super) fn observe(
    snapshot: &Snapshot,
    standings: &dyn Standings,
    entries: &[Entry],
    steps: &[Step],
    request: &HookRequest,
) {
    let workspace = request.facts.workspace.id.as_str();
    for step in steps {
        let failed = match &step.error {
            // It was not called.
            Some(error) if error.code == OPEN => continue,
            other => other.as_ref().map(|error| error.message.as_str()),
        };
        let Some(entry) = entries.iter().find(|entry| entry.policy.name() == step.policy) else { continue };
        let (all, one) = keys(step.hook, step.mode, workspace);
        let known = snapshot.of(entry);
        let troubled = known.is_some_and(|standing| {
            standing.breakers.contains_key(&all) || one.as_ref().is_some_and(|one| standing.breakers.contains_key(one))
        });
        if failed.is_none() && !troubled && step.mode != StepMode::Canary {
            continue;
        }
        let now = request.now_ms;
        let mut change = |standing: &mut Standing| {
            if standing.version != entry.version() {
                *standing = Standing { version: entry.version(), ..Standing::default() };
            }
            let mut opened = None;
            match failed {
                None => {
                    standing.breakers.remove(&all);
                    one.as_ref().map(|one| standing.breakers.remove(one));
                }
                Some(why) => {
                    let least = if workspace.is_empty() { 1 } else { 2 };
                    for (key, least) in std::iter::once((&all, least)).chain(one.iter().map(|one| (one, 1))) {
                        standing.make_room(key);
                        let breaker = standing.breakers.entry(key.clone()).or_default();
                        breaker.failed(workspace, why, least, entry.breaker, now);
                        if breaker.opened_ms.is_some() {
                            opened = Some(breaker.failures);
                        }
                    }
                }
            }
            if step.mode == StepMode::Canary {
                standing.canary_called(failed, opened, entry.rollback, now);
            }
        };
        if let Err(error) = standings.update(&step.policy, &mut change) {
            tracing::warn!("cannot save the standing of '{}': {error}", step.policy);
        }
    }
}

impl Standing {
    /// Drops the oldest failure to make room for another: a removed workspace never succeeds.
    fn make_room(&mut self, key: &str) {
        if self.breakers.len() < MOST_BREAKERS || self.breakers.contains_key(key) {
            return;
        }
        let oldest = self.breakers.iter().min_by_key(|(_, breaker)| breaker.last_ms).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.breakers.remove(&oldest);
        }
    }

    fn canary_called(&mut self, failed: Option<&str>, opened: Option<u32>, limits: RollbackLimits, now_ms: u64) {
        // Old calls count less and less.
        if self.calls >= limits.calls.saturating_mul(50).max(1_000) {
            self.calls /= 2;
            self.errors /= 2;
        }
        self.calls += 1;
        let Some(why) = failed else { return };
        self.errors += 1;
        let many = u64::from(self.errors) * 100 > u64::from(limits.percent) * u64::from(self.calls.max(limits.calls));
        if self.rolled_back.is_some() || !(many || opened.is_some()) {
            return;
        }
        let how = match opened {
            Some(failures) if !many => format!("{failures} calls in a row failed"),
            _ => format!("{} of {} calls failed", self.errors, self.calls),
        };
        self.rolled_back = Some(RolledBack { at_ms: now_ms, why: format!("{how}; last: {why}") });
    }

    /// Returns the open breakers, with their keys and end times (milliseconds since 1970).
    pub fn open<'a>(&'a self) -> Vec<(&'a str, &'a Breaker, u64)> {
        let open = |(key, breaker): (&'a String, &'a Breaker)| Some((key.as_str(), breaker, breaker.open_until()?));
        self.breakers.iter().filter_map(open).collect()
    }
}
