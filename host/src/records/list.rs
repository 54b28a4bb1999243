//! The decision records as people and programs look them up: filtered, the newest first, and one by number or id.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Target, find_stored};
use crate::hooks::{Decision, Hook, Outcome, SweepChoice};
use crate::store::{DecisionQuery, Store, StoredDecision};
use crate::workspace::WorkspaceId;

/// Records that are read at once.
const PAGE: u32 = 64;

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// About a workspace.
    pub workspace: Option<WorkspaceId>,
    /// Of a hook.
    pub hook: Option<Hook>,
    /// In which this policy was asked.
    pub policy: Option<String>,
    /// That came out so.
    pub outcome: Option<OutcomeKind>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// About one of these only.
    pub among: Option<BTreeSet<WorkspaceId>>,
    /// About a workspace that had all these labels then: an id may be used again.
    pub labels: BTreeMap<String, String>,
}

/// Outcomes that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutcomeKind {
    /// The request went on.
    Allowed,
    /// It was refused.
    Denied,
    /// A policy gave no verdict, whatever came of it.
    Failed,
    /// Policies asked for actions.
    Actions,
    /// A sweep stopped or removed something.
    Sweep,
}

impl FromStr for OutcomeKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(text, false)
            .map_err(|_| format!("'{text}' is none of allowed, denied, failed, actions, sweep"))
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Actions => "actions",
            Self::Sweep => "sweep",
        })
    }
}

impl OutcomeKind {
    fn holds(self, decision: &Decision) -> bool {
        match (self, &decision.outcome) {
            (Self::Failed, _) => decision.failed(),
            (Self::Allowed, Outcome::Allowed(_) | Outcome::AllowedExec(_)) | (Self::Denied, Outcome::Denied(_)) => true,
            (Self::Actions, Outcome::Actions { actions, delay_ms }) => !actions.is_empty() || *delay_ms > 0,
            (Self::Sweep, Outcome::Sweep(verdicts)) => {
                verdicts.iter().any(|verdict| verdict.choice != SweepChoice::Keep)
            }
            _ => false,
        }
    }
}

impl RecordFilter {
    /// What of it the store looks for by itself.
    pub fn query(&self) -> DecisionQuery {
        let Self { workspace, hook, since, until, .. } = self.clone();
        DecisionQuery { workspace, hook, since, until, counting: false }
    }

    /// The rest of it.
    pub fn holds(&self, decision: &Decision) -> bool {
        let asked = |name: &String| decision.steps.iter().any(|step| step.policy == *name);
        let among = |ids: &BTreeSet<WorkspaceId>| ids.iter().any(|id| id.as_str() == decision.workspace);
        self.among.as_ref().is_none_or(among)
            && had(decision, &self.labels)
            && self.policy.as_ref().is_none_or(asked)
            && self.outcome.is_none_or(|outcome| outcome.holds(decision))
    }
}

/// Whether the workspace of a decision had these labels then, or got them by it.
fn had(decision: &Decision, labels: &BTreeMap<String, String>) -> bool {
    let all = |of: &BTreeMap<String, String>| labels.iter().all(|(name, value)| of.get(name) == Some(value));
    let made = |outcome: &Outcome| matches!(outcome, Outcome::Allowed(spec) if all(&spec.labels));
    all(&decision.input.facts.workspace.labels) || made(&decision.outcome)
}

/// Some of the newest records.
#[derive(Debug, Clone, Default)]
pub struct RecordPage {
    /// The newest first.
    pub records: Vec<StoredDecision>,
    /// Where the next page begins: before the record of this number. None at the end.
    pub next: Option<i64>,
}

/// The newest records before a number that a filter lets through; at most `most`, of at most `looked` that are looked at.
/// One that cannot be read is left out.
///
/// # Errors
/// When the store cannot be read.
pub fn newest_records(
    store: &Store,
    filter: &RecordFilter,
    before: i64,
    most: usize,
    looked: usize,
) -> Result<RecordPage, Error> {
    let (query, mut page, mut next, mut seen) = (filter.query(), RecordPage::default(), before, 0);
    loop {
        let some = store.decisions_before(&query, next, PAGE)?;
        if some.is_empty() {
            return Ok(page);
        }
        for stored in some {
            if page.records.len() == most || seen == looked {
                page.next = Some(next);
                return Ok(page);
            }
            (next, seen) = (stored.number, seen + 1);
            if stored.decision().is_ok_and(|decision| filter.holds(&decision)) {
                page.records.push(stored);
            }
        }
    }
}

/// The workspace that a filter names: one that exists, or an id whose records are left.
///
/// # Errors
/// As [`find_stored`].
pub fn recorded_workspace(store: &Store, target: &Target) -> Result<WorkspaceId, Error> {
    let error = match find_stored(store, target) {
        Ok(workspace) => return Ok(workspace.id),
        Err(error) => error,
    };
    if let Target::Named(name) = target
        && let Ok(id) = name.parse::<WorkspaceId>()
        && !store.decisions(&id, 1)?.is_empty()
    {
        return Ok(id);
    }
    Err(error)
}

/// A record by number or id.
///
/// # Errors
/// [`Error::NoRecord`], or when the store cannot be read.
pub fn find_record(store: &Store, wanted: &str) -> Result<StoredDecision, Error> {
    if let Some(stored) = store.decision(wanted)? {
        return Ok(stored);
    }
    let pruned = store.checkpoint()?.is_some_and(|checkpoint| {
        let number = wanted.trim_start_matches('#').parse::<i64>();
        number.is_ok_and(|number| number > 0 && number <= checkpoint.number)
    });
    Err(Error::NoRecord { wanted: wanted.to_owned(), pruned })
}

/// A record as programs see it: its number and hash before everything that was recorded.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RecordView {
    /// Its number in the chain of records.
    pub number: i64,
    /// Its hash.
    pub hash: String,
    /// The decision as it was recorded.
    #[serde(flatten)]
    pub decision: Value,
}

impl RecordView {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn of(stored: &StoredDecision) -> Result<Self, Error> {
        let StoredDecision { number, hash, body } = stored;
        let damaged = |error: serde_json::Error| {
            let what = format!("record {number} cannot be read: {error}");
            Error::Store(crate::store::Error::Damaged { what })
        };
        Ok(Self { number: *number, hash: hash.clone(), decision: serde_json::from_str(body).map_err(damaged)? })
    }
}
