//! `wharf policy diff`: what shadows would have changed, summed up.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::super::instant::instant;
use super::super::plan::short;
use super::super::{Context, Failure};
use crate::hooks::Hook;
use crate::hooks::record::Difference;

/// Decisions that are named as examples of one difference.
const EXAMPLES: usize = 3;
/// Differences of one policy that are told apart.
const MOST_GROUPS: usize = 200;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this policy
    policy: Option<String>,
    /// Since then: a time, or how long ago
    #[arg(long, value_name = "WHEN", default_value = "7d", value_parser = instant)]
    since: jiff::Timestamp,
}

/// How one shadow has been doing.
#[derive(Default, Serialize)]
struct Summary {
    /// Calls.
    asked: u64,
    /// Those of them that gave no verdict.
    failed: u64,
    /// The last failure.
    last_failure: Option<String>,
    /// Decisions that would have come out differently.
    changed: u64,
    /// The most frequent first; new denials before everything else.
    differences: Vec<Group>,
}

impl Summary {
    fn add(&mut self, hook: Hook, one: Difference, id: &str) {
        let Difference { field, mut from, mut to, about, .. } = one;
        let known = |group: &Group, from: &Value, to: &Value| {
            group.hook == hook && group.field == field && group.from == *from && group.to == *to
        };
        if self.differences.len() >= MOST_GROUPS && !self.differences.iter().any(|group| known(group, &from, &to)) {
            // A value that is another one each time, such as a date, tells nothing by itself.
            (from, to) = ("(further values)".into(), "(further values)".into());
        }
        let group = match self.differences.iter_mut().find(|group| known(group, &from, &to)) {
            Some(group) => group,
            None => {
                self.differences.push(Group { hook, field, from, to, count: 0, about: None, examples: Vec::new() });
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

/// One difference, as often as it came.
#[derive(Serialize)]
struct Group {
    hook: Hook,
    field: String,
    from: Value,
    to: Value,
    count: u64,
    /// The last reason, or the last candidate of a sweep.
    about: Option<String>,
    /// Ids of decisions, the newest last.
    examples: Vec<String>,
}

impl Group {
    fn denies(&self) -> bool {
        self.field == "outcome" && self.from == "allowed"
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let store = context.app.store()?;
    let mut all: BTreeMap<String, Summary> = BTreeMap::new();
    let wanted = |policy: &str| args.policy.as_deref().is_none_or(|wanted| wanted == policy);
    store.each_shadow(args.since, |record| {
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
    for summary in all.values_mut() {
        summary.differences.sort_by_key(|group| (!group.denies(), std::cmp::Reverse(group.count)));
    }
    if context.out.json {
        context.out.value(&all)?;
    } else {
        print(context, &all)?;
    }
    Ok(0)
}

fn print(context: &Context, all: &BTreeMap<String, Summary>) -> Result<(), Failure> {
    let out = &context.out;
    if all.is_empty() {
        out.line("no shadow was asked in that time; give a policy mode = \"shadow\" (see docs/configuration.md)")?;
    }
    for (policy, summary) in all {
        let Summary { asked, failed, changed, .. } = summary;
        out.line(format!("{}: asked {asked} times, would have changed {changed}, failed {failed}", out.bold(policy)))?;
        if let Some(last) = &summary.last_failure {
            out.line(format!("  last failure: {last}"))?;
        }
        let row = |group: &Group| {
            let change = format!("{} -> {}", short(&group.from), short(&group.to));
            let about = group.about.clone().map(Value::from).map(|about| short(&about)).unwrap_or_default();
            let example = group.examples.last().cloned().unwrap_or_default();
            vec![group.count.to_string(), group.hook.to_string(), group.field.clone(), change, about, example]
        };
        let rows: Vec<_> = summary.differences.iter().map(row).collect();
        if !rows.is_empty() {
            out.table(&["COUNT", "HOOK", "FIELD", "CHANGE", "ABOUT", "LAST DECISION"], rows)?;
        }
    }
    Ok(())
}
