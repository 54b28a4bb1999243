//! Replay: runs a recorded input through a chain again and compares the result with the recorded result.
//!
//! The comparison covers the decision itself: verdicts, adjustments, denials, actions, logs, outcome. Duration, cost,
//! digests of the policies and backtraces are not compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::record::{REPLAYABLE, VERSION, canonical};
use super::redact::SecretNames;
use super::{Chain, Decision, Hook, Outcome, Step, adjust};
use crate::workspace::ContainerSpec;

/// The result of comparing a replay with its record.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// Byte for byte identical.
    Identical,
    /// The same outcome, but different steps.
    SameOutcome,
    /// A different outcome.
    Flip(Flip),
}

/// The kind of a flip, most serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlipKind {
    /// It was allowed and would now be denied.
    NowDenied,
    /// A policy no longer gives a verdict.
    NowFails,
    /// It was denied and would now be allowed.
    NowAllowed,
    /// It was denied and would now be denied for another reason.
    DeniedOtherwise,
    /// The result would change.
    Changed,
}

impl FlipKind {
    /// Returns the words for users: `now denied`, ...
    pub fn words(self) -> &'static str {
        match self {
            Self::NowDenied => "now denied",
            Self::NowFails => "now fails",
            Self::NowAllowed => "now allowed",
            Self::DeniedOtherwise => "denied differently",
            Self::Changed => "changed",
        }
    }
}

/// A decision that would now have another outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip {
    /// Its kind.
    pub kind: FlipKind,
    /// The responsible policy: the one that denies, fails or decides now; for a request that is now allowed, the
    /// policy that denied it.
    pub policy: String,
    /// The code of a denial or failure, or the changed fields. It is the same for flips of the same kind.
    pub reason: String,
    /// A description with the values of this decision.
    pub detail: String,
}

/// The reason why a record cannot be replayed. Replays always count such records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unplayable {
    /// It lacks data that a replay needs.
    Older(u32),
    /// It may contain data that this program does not know.
    Newer(u32),
    /// A policy timed out, which its input does not explain.
    TimedOut(String),
    /// A policy of the chain that took part cannot be loaded now.
    Missing(String),
    /// The resources that a policy's entry grants it in addition to the input have changed.
    Granted(String),
    /// It is a record of shadows, not a decision.
    Shadows,
}

impl std::fmt::Display for Unplayable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Older(version) => {
                write!(f, "its version {version} is older than {REPLAYABLE} and lacks data that a replay needs")
            }
            Self::Newer(version) => write!(f, "its version {version} is newer than {VERSION}; use the newer Wharf"),
            Self::TimedOut(policy) => write!(f, "'{policy}' timed out, which does not depend on the input"),
            Self::Granted(policy) => write!(f, "the folders or variables granted to '{policy}' have changed"),
            Self::Shadows => f.write_str("it is a record of shadows"),
            Self::Missing(policy) => write!(f, "'{policy}' took part but cannot be loaded now"),
        }
    }
}

/// Returns the reason why a record cannot be replayed, if any. `missing` names policies of the chain that could not
/// be loaded.
pub fn unplayable(record: &Decision, missing: &[String]) -> Option<Unplayable> {
    if record.version < REPLAYABLE {
        return Some(Unplayable::Older(record.version));
    }
    if record.version > VERSION {
        return Some(Unplayable::Newer(record.version));
    }
    if record.shadow_of.is_some() {
        return Some(Unplayable::Shadows);
    }
    record.steps.iter().find_map(|step| {
        let timed_out = step.error.as_ref().is_some_and(|error| error.code == "timeout");
        if timed_out {
            Some(Unplayable::TimedOut(step.policy.clone()))
        } else {
            missing.contains(&step.policy).then(|| Unplayable::Missing(step.policy.clone()))
        }
    })
}

/// Returns the reason if a policy with the same bytes and settings could read different data than during the
/// decision.
pub fn granted_otherwise(record: &Decision, again: &Decision) -> Option<Unplayable> {
    let otherwise = |step: &&Step| {
        let same = |other: &&Step| {
            (&other.policy, &other.digest, &other.settings_digest)
                == (&step.policy, &step.digest, &step.settings_digest)
        };
        again.steps.iter().find(same).is_some_and(|other| other.granted != step.granted && other.error.is_none())
    };
    record.steps.iter().find(otherwise).map(|step| Unplayable::Granted(step.policy.clone()))
}

/// Replays a record, with the same redaction as the record.
pub fn replay(chain: &Chain, secrets: &SecretNames, record: &Decision) -> Decision {
    let mut again = chain.again(record);
    secrets.redact(&mut again, &[]);
    again
}

/// Compares a replay with its record.
pub fn compare(record: &Decision, again: &Decision) -> Comparison {
    let same = match (canonical(&essence(record)), canonical(&essence(again))) {
        (Ok(before), Ok(after)) => before == after,
        _ => false,
    };
    if same {
        return Comparison::Identical;
    }
    match flip(record, again) {
        Some(flip) => Comparison::Flip(flip),
        None => Comparison::SameOutcome,
    }
}

/// Returns the essence of a decision, without values that differ from run to run.
pub fn essence(decision: &Decision) -> Value {
    let step = |step: &Step| {
        json!({
            "policy": step.policy,
            "kind": step.kind,
            "mode": step.mode,
            "waivers": step.waivers,
            "verdict": step.verdict,
            "fields": step.fields,
            "adjustments": step.adjustments,
            "lines": step.lines,
            "denial": step.denial,
            "actions": step.actions,
            "delay_ms": step.delay_ms,
            "sweep": step.sweep,
            "logs": step.logs,
            "error": step.error.as_ref().map(|error| {
                json!({ "code": error.code, "message": error.message, "means": error.means })
            }),
        })
    };
    json!({
        "hook": decision.hook,
        "steps": decision.steps.iter().map(step).collect::<Vec<_>>(),
        "conflicts": decision.conflicts,
        "violations": decision.violations,
        "outcome": decision.outcome,
    })
}

fn flip(record: &Decision, again: &Decision) -> Option<Flip> {
    use Outcome as O;
    let failed = |decision: &Decision| -> Vec<(String, String, String)> {
        let failure = |step: &Step| {
            let error = step.error.as_ref()?;
            Some((step.policy.clone(), error.code.clone(), error.message.clone()))
        };
        decision.steps.iter().filter_map(failure).collect()
    };
    match (&record.outcome, &again.outcome) {
        (O::Denied(old), O::Denied(new)) => {
            let differs = (&old.policy, &old.code, &old.reason) != (&new.policy, &new.code, &new.reason);
            differs.then(|| Flip {
                kind: FlipKind::DeniedOtherwise,
                policy: new.policy.clone(),
                reason: new.code.clone(),
                detail: format!("{} ({}); before: {} ({})", new.reason, new.code, old.reason, old.code),
            })
        }
        (_, O::Denied(new)) => Some(Flip {
            kind: if new.code == "policy-failed" { FlipKind::NowFails } else { FlipKind::NowDenied },
            policy: new.policy.clone(),
            reason: new.code.clone(),
            detail: format!("{} ({})", new.reason, new.code),
        }),
        (O::Denied(old), _) => Some(Flip {
            kind: FlipKind::NowAllowed,
            policy: old.policy.clone(),
            reason: old.code.clone(),
            detail: format!("it was denied: {} ({})", old.reason, old.code),
        }),
        _ => {
            let before = failed(record);
            let new = failed(again).into_iter().find(|(policy, ..)| !before.iter().any(|(old, ..)| old == policy));
            if let Some((policy, reason, detail)) = new {
                return Some(Flip { kind: FlipKind::NowFails, policy, reason, detail });
            }
            let changes = changes(record, again);
            let (first, _) = changes.first_key_value()?;
            let reason = changes.keys().cloned().collect::<Vec<_>>().join(", ");
            let detail = changes.iter().map(|(what, detail)| format!("{what} {detail}")).collect::<Vec<_>>().join("; ");
            let policy = decider(again, first).or_else(|| decider(record, first)).unwrap_or_else(|| "host".into());
            Some(Flip { kind: FlipKind::Changed, policy, reason, detail })
        }
    }
}

/// Returns the last policy that decided a field (or, for actions and sweeps, that requested anything).
fn decider(decision: &Decision, field: &str) -> Option<String> {
    let decided = |step: &&Step| match decision.hook {
        Hook::PostStart | Hook::PreStop | Hook::Event => !step.actions.is_empty() || step.delay_ms.is_some(),
        Hook::Cleanup => !step.sweep.is_empty(),
        _ => step.fields.iter().any(|known| known == field),
    };
    decision.steps.iter().rev().find(decided).map(|step| step.policy.clone())
}

/// Returns the changed results by field: `from -> to`. The reason for the choice of an image and the wording of a
/// verdict do not count.
fn changes(record: &Decision, again: &Decision) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut differ = |what: &str, before: Value, after: Value| {
        if before != after {
            found.insert(what.to_owned(), format!("{before} -> {after}"));
        }
    };
    match (&record.outcome, &again.outcome) {
        (Outcome::Allowed(before), Outcome::Allowed(after)) => {
            let (before, after) = (plain(before), plain(after));
            let backwards = adjust::diff(&after, &before);
            for edit in adjust::diff(&before, &after) {
                let field = edit.field();
                let was = backwards.iter().find(|edit| edit.field() == field).map(adjust::Adjustment::value);
                differ(&field, was.unwrap_or_default(), edit.value());
            }
            // An image can only disappear if no policy is called for one.
            if before.image.is_some() != after.image.is_some() {
                differ("image", json!(before.image), json!(after.image));
            }
        }
        (Outcome::AllowedExec(before), Outcome::AllowedExec(after)) => {
            differ("env", json!(before.env), json!(after.env));
            differ("user", json!(before.user), json!(after.user));
            differ("working_dir", json!(before.working_dir), json!(after.working_dir));
        }
        (Outcome::Actions { actions: before, delay_ms: old }, Outcome::Actions { actions: after, delay_ms: new }) => {
            let only =
                |list: &[(String, super::Action)]| json!(list.iter().map(|(_, action)| action).collect::<Vec<_>>());
            differ("actions", only(before), only(after));
            differ("delay_ms", json!(old), json!(new));
        }
        (Outcome::Sweep(before), Outcome::Sweep(after)) => {
            let choices = |list: &[super::SweepVerdict]| -> BTreeMap<String, Value> {
                list.iter().map(|verdict| (verdict.id.clone(), json!(verdict.choice))).collect()
            };
            let (before, after) = (choices(before), choices(after));
            let keep = json!(super::SweepChoice::Keep);
            for id in before.keys().chain(after.keys()) {
                let of = |map: &BTreeMap<String, Value>| map.get(id).unwrap_or(&keep).clone();
                let (was, is) = (of(&before), of(&after));
                if was != is {
                    let what = format!("{} -> {}", was.as_str().unwrap_or_default(), is.as_str().unwrap_or_default());
                    let ids = found.entry(what).or_insert_with(String::new);
                    if !ids.split(' ').any(|known| known == id) {
                        ids.push_str(if ids.is_empty() { "" } else { " " });
                        ids.push_str(id);
                    }
                }
            }
        }
        (before, after) => differ("outcome", before.word().into(), after.word().into()),
    }
    found
}

fn plain(spec: &ContainerSpec) -> ContainerSpec {
    let mut spec = spec.clone();
    if let Some(image) = &mut spec.image {
        image.reason.clear();
    }
    spec
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hooks::chain::tests::{chain_of, entry, spec};
    use crate::hooks::record::Draft;
    use crate::hooks::{Action, Adjustment, Denial, Facts, HookRequest, Subject, Verdict};

    fn create(entries: Vec<crate::hooks::Entry>) -> Decision {
        let decided = chain_of(entries).decide_create(Draft::new(spec()), &Arc::new(Facts::default()), false, 7);
        decided.decisions.into_iter().last().unwrap()
    }

    fn compared(record: &Decision, entries: Vec<crate::hooks::Entry>) -> Comparison {
        let again = replay(&chain_of(entries), &SecretNames::default(), record);
        assert_eq!((again.id, again.time, &again.workspace), (record.id, record.time, &record.workspace));
        compare(record, &again)
    }

    fn kind(comparison: Comparison) -> (FlipKind, String, String) {
        match comparison {
            Comparison::Flip(flip) => (flip.kind, flip.policy, flip.reason),
            other => panic!("{other:?}"),
        }
    }

    fn sets(value: &'static str) -> crate::hooks::Entry {
        entry("a", Hook::PreCreate, move |_| Verdict::Adjust(vec![Adjustment::Env("A".into(), Some(value.into()))]))
    }

    fn denies(reason: &'static str) -> crate::hooks::Entry {
        let denial = move || Denial { reason: reason.into(), code: "closed".into() };
        entry("a", Hook::PreCreate, move |_| Verdict::Deny(denial()))
    }

    #[test]
    fn each_kind_of_flip_is_told_with_the_policy_behind_it() {
        let passes = || entry("a", Hook::PreCreate, |_| Verdict::Pass);
        let (allowed, denied) = (create(vec![sets("1")]), create(vec![denies("no")]));
        assert_eq!(compared(&allowed, vec![sets("1")]), Comparison::Identical);
        assert_eq!(compared(&denied, vec![denies("no")]), Comparison::Identical);
        let closed = |kind| (kind, "a".to_owned(), "closed".to_owned());
        assert_eq!(kind(compared(&allowed, vec![denies("no")])), closed(FlipKind::NowDenied));
        assert_eq!(kind(compared(&denied, vec![passes()])), closed(FlipKind::NowAllowed));
        assert_eq!(kind(compared(&denied, vec![denies("never")])), closed(FlipKind::DeniedOtherwise));
        let changed = (FlipKind::Changed, "a".to_owned(), "env.A".to_owned());
        assert_eq!(kind(compared(&allowed, vec![sets("2")])), changed);
        assert_eq!(kind(compared(&allowed, vec![passes()])), changed);
        let other = entry("b", Hook::PreCreate, |_| Verdict::Pass);
        assert_eq!(compared(&allowed, vec![sets("1"), other]), Comparison::SameOutcome);
    }

    #[test]
    fn a_conflict_is_found_again_because_the_owners_are_recorded() {
        let pids = |name, hook, count| entry(name, hook, move |_| Verdict::Adjust(vec![Adjustment::Pids(count)]));
        let chain = || vec![pids("a", Hook::SecurityProfile, 100), pids("b", Hook::PreCreate, 50)];
        let record = create(chain());
        assert_eq!(record.conflicts.len(), 1, "{record:?}");
        assert_eq!(compared(&record, chain()), Comparison::Identical);
    }

    #[test]
    fn other_actions_are_a_flip_whoever_asks_for_them() {
        let notes = |name, text: &'static str| {
            entry(name, Hook::PostStart, move |_| Verdict::Act {
                actions: vec![Action::Note(text.into())],
                delay_ms: None,
            })
        };
        let record = chain_of(vec![notes("a", "x")])
            .collect(HookRequest {
                hook: Hook::PostStart,
                now_ms: 7,
                facts: Arc::default(),
                spec: spec(),
                subject: Subject::Start { first_start: true },
            })
            .decision;
        assert_eq!(compared(&record, vec![notes("b", "x")]), Comparison::SameOutcome);
        assert_eq!(kind(compared(&record, vec![notes("b", "y")])).2, "actions");
    }

    #[test]
    fn what_cannot_be_replayed_says_why() {
        let mut record = create(vec![sets("1")]);
        assert_eq!(unplayable(&record, &[]), None);
        assert_eq!(unplayable(&record, &["a".into()]), Some(Unplayable::Missing("a".into())));
        record.version = 1;
        assert_eq!(unplayable(&record, &[]), Some(Unplayable::Older(1)));
        record.version = VERSION + 1;
        assert_eq!(unplayable(&record, &[]), Some(Unplayable::Newer(VERSION + 1)));
    }
}
