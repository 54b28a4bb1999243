//! Summary of the changes that shadows would have made: `wharf policy diff`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use crate::config::PolicyConfig;
use crate::hooks::Hook;
use crate::hooks::record::Difference;
use crate::store::Store;

/// Number of example decisions per difference.
const EXAMPLES: usize = 3;
/// Maximum number of separate differences per policy.
const MOST_GROUPS: usize = 200;

/// The results of one shadow.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::ToSchema)]
pub struct ShadowSummary {
    /// Number of calls.
    pub asked: u64,
    /// Number of calls without a verdict.
    pub failed: u64,
    /// The last failure.
    pub last_failure: Option<String>,
    /// Decisions that would have come out differently.
    pub changed: u64,
    /// The differences, most frequent first, with new denials before all others.
    pub differences: Vec<ShadowDifference>,
}

/// One difference with its frequency.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct ShadowDifference {
    /// The hook.
    pub hook: Hook,
    /// The field, or `outcome`.
    pub field: String,
    /// The decided value.
    pub from: Value,
    /// The value with the shadow.
    pub to: Value,
    /// Number of occurrences.
    pub count: u64,
    /// The last reason, or the last candidate of a sweep.
    pub about: Option<String>,
    /// Ids of example decisions, newest last.
    pub examples: Vec<String>,
}

impl ShadowDifference {
    fn denies(&self) -> bool {
        self.field == "outcome" && self.from == "allowed"
    }
}

impl ShadowSummary {
    fn add(&mut self, hook: Hook, one: Difference, id: &str) {
        let Difference { field, mut from, mut to, about, .. } = one;
        let known = |group: &ShadowDifference, from: &Value, to: &Value| {
            group.hook == hook && group.field == field && group.from == *from && group.to == *to
        };
        if self.differences.len() >= MOST_GROUPS && !self.differences.iter().any(|group| known(group, &from, &to)) {
            // A value that changes each time, such as a date, is not worth listing separately.
            (from, to) = ("(other values)".into(), "(other values)".into());
        }
        let group = match self.differences.iter_mut().find(|group| known(group, &from, &to)) {
            Some(group) => group,
            None => {
                let examples = Vec::new();
                self.differences.push(ShadowDifference { hook, field, from, to, count: 0, about: None, examples });
                let Some(last) = self.differences.last_mut() else { return };
                last
            }
        };
        group.count += 1;
        group.about = about.or(group.about.take());
        group.examples.push(id.to_owned());
        if group.examples.len() > EXAMPLES {
            group.examples.remove(0);
        }
    }
}

/// Summarizes the records of shadows since a time, for one policy or for all.
///
/// # Errors
/// [`Error::NoPolicy`] for a policy that is not in `chain` and has no records; an error if the store cannot be read.
pub fn shadow_report(
    store: &Store,
    chain: &[PolicyConfig],
    policy: Option<&str>,
    since: Timestamp,
) -> Result<BTreeMap<String, ShadowSummary>, Error> {
    let mut all: BTreeMap<String, ShadowSummary> = BTreeMap::new();
    let wanted = |name: &str| policy.is_none_or(|wanted| wanted == name);
    store.each_shadow(since, |record| {
        for step in record.steps.iter().filter(|step| wanted(&step.policy)) {
            let summary = all.entry(step.policy.clone()).or_default();
            summary.asked += 1;
            if let Some(error) = &step.error {
                summary.failed += 1;
                summary.last_failure = Some(error.message.clone());
            }
            summary.changed += u64::from(record.differences.iter().any(|one| one.policy == step.policy));
        }
        let id = record.shadow_of.map(|id| id.to_string()).unwrap_or_default();
        for one in record.differences.into_iter().filter(|one| wanted(&one.policy)) {
            all.entry(one.policy.clone()).or_default().add(record.hook, one, &id);
        }
    })?;
    // A policy that has left the chain may have been called before.
    if let Some(name) = policy
        && all.is_empty()
        && !chain.iter().any(|known| known.name == name)
    {
        return Err(Error::NoPolicy(name.to_owned()));
    }
    for summary in all.values_mut() {
        summary.differences.sort_by_key(|group| (!group.denies(), std::cmp::Reverse(group.count)));
    }
    Ok(all)
}
