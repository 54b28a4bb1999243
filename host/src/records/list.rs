//! Look-up of decision records by users and programs: a filtered list, newest first, or one record by number or id.

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

/// Records read at once.
const PAGE: u32 = 64;

/// Selects records.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Only records about this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only records of this hook.
    pub hook: Option<Hook>,
    /// Only records in which this policy was called.
    pub policy: Option<String>,
    /// Only records with this outcome.
    pub outcome: Option<OutcomeKind>,
    /// Only records from this time on.
    pub since: Option<Timestamp>,
    /// Only records up to this time.
    pub until: Option<Timestamp>,
    /// Only records about one of these workspaces.
    pub among: Option<BTreeSet<WorkspaceId>>,
    /// Only records about a workspace that had all these labels at that time: an id may be reused.
    pub labels: BTreeMap<String, String>,
}

/// Outcomes that a filter can select.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutcomeKind {
    /// The request continued.
    Allowed,
    /// The request was refused.
    Denied,
    /// A policy gave no verdict, whatever the result.
    Failed,
    /// Policies requested actions.
    Actions,
    /// A sweep stopped or removed an object.
    Sweep,
}

impl FromStr for OutcomeKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(text, false)
            .map_err(|_| format!("'{text}' is not one of allowed, denied, failed, actions, sweep"))
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
    /// Returns the part of the filter that the store evaluates itself.
    pub fn query(&self) -> DecisionQuery {
        let Self { workspace, hook, since, until, .. } = self.clone();
        DecisionQuery { workspace, hook, since, until, counting: false }
    }

    /// Evaluates the other part of the filter.
    pub fn holds(&self, decision: &Decision) -> bool {
        let asked = |name: &String| decision.steps.iter().any(|step| step.policy == *name);
        let among = |ids: &BTreeSet<WorkspaceId>| ids.iter().any(|id| id.as_str() == decision.workspace);
        self.among.as_ref().is_none_or(among)
            && had(decision, &self.labels)
            && self.policy.as_ref().is_none_or(asked)
            && self.outcome.is_none_or(|outcome| outcome.holds(decision))
    }
}

/// Returns whether the workspace of a decision had these labels then, or got them through the decision.
fn had(decision: &Decision, labels: &BTreeMap<String, String>) -> bool {
    let all = |of: &BTreeMap<String, String>| labels.iter().all(|(name, value)| of.get(name) == Some(value));
    let made = |outcome: &Outcome| matches!(outcome, Outcome::Allowed(spec) if all(&spec.labels));
    all(&decision.input.facts.workspace.labels) || made(&decision.outcome)
}

/// A page of the newest records.
#[derive(Debug, Clone, Default)]
pub struct RecordPage {
    /// The records, newest first.
    pub records: Vec<StoredDecision>,
    /// The start of the next page: it begins before the record with this number. None at the end.
    pub next: Option<i64>,
}

/// Returns the newest records before a number that match a filter: at most `most`, from at most `looked` examined
/// records. An unreadable record is skipped.
///
/// # Errors
/// An error if the store cannot be read.
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

/// Returns the workspace that a filter names: an existing one, or an id with remaining records.
///
/// # Errors
/// The errors of [`find_stored`].
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

/// Returns a record by number or id.
///
/// # Errors
/// [`Error::NoRecord`], or an error if the store cannot be read.
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

/// A record for programs: its number and hash, followed by the recorded decision.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RecordView {
    /// Its number in the chain of records.
    pub number: i64,
    /// Its hash.
    pub hash: String,
    /// The decision as recorded.
    #[serde(flatten)]
    pub decision: Value,
}

impl RecordView {
    /// Parses a record.
    ///
    /// # Errors
    /// An error if it is not JSON.
    pub fn of(stored: &StoredDecision) -> Result<Self, Error> {
        let StoredDecision { number, hash, body } = stored;
        let damaged = |error: serde_json::Error| {
            let what = format!("cannot read record {number}: {error}");
            Error::Store(crate::store::Error::Damaged { what })
        };
        Ok(Self { number: *number, hash: hash.clone(), decision: serde_json::from_str(body).map_err(damaged)? })
    }
}
