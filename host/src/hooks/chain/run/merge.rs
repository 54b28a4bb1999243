//! Merges a policy's answer: checks its validity and its conflicts, and updates the draft.

use std::collections::{BTreeMap, BTreeSet};

use super::super::mode::Part;
use super::super::{Entry, MOST_DELAY_MS, MOST_EDITS};
use super::Run;
use crate::hooks::floor::Floor;
use crate::hooks::record::{Draft, Owner, Refusal, Waiver};
use crate::hooks::{
    Action, Adjustment, Candidate, Denial, ExecSpec, Hook, PolicyKind, Reply, Step, SweepVerdict, Verdict, record,
};
use crate::workspace::ContainerSpec;

impl Run {
    /// Merges an answer into the draft. Returns whether the request continues. If not, the refusal holds the reason,
    /// and the draft may contain a part of the answer.
    pub(in crate::hooks::chain) fn merge_create(
        &mut self,
        part: &Part,
        reply: Reply,
        mut step: Step,
        draft: &mut Draft,
        owned: &mut BTreeSet<String>,
    ) -> bool {
        let adjustments = match reply.verdict {
            Verdict::Pass => Vec::new(),
            Verdict::Deny(denial) => {
                self.deny(step, denial, reply.deny_line);
                return false;
            }
            Verdict::Adjust(adjustments) => adjustments,
            other => {
                self.reject(step, format!("answered '{}', which {} does not accept", other.kind(), self.hook()));
                return false;
            }
        };
        let entries = self.entries();
        let entry = super::of(&entries, part);
        match self.admissible(entry, &adjustments, &draft.spec) {
            Ok(waivers) => step.waivers = waivers,
            Err((field, reason)) => {
                let line = reply.lines.get(&field).copied();
                self.reject(step, reason);
                if let Some(refusal) = &mut self.refusal {
                    refusal.at = line.and_then(|line| owner_of(entry, Some(line)).at);
                }
                return false;
            }
        }
        step.fields.clear();
        step.adjustments.clone_from(&adjustments);
        for adjustment in adjustments {
            let field = adjustment.field();
            let owner = owner_of(entry, reply.lines.get(&field).copied());
            if self.in_conflict(entry, &adjustment, draft, owned) {
                let was = draft.owners.get(&field).map_or("", |owner| owner.policy.as_str());
                let now = serde_json::to_value(&draft.spec).ok();
                let now = now.and_then(|json| record::lookup(&json, &field)).unwrap_or_default();
                let text = format!(
                    "'{was}' set {field} to {now} and '{}' wants {}; give '{}' may_override = [\"{field}\"] \
                     or change one of them",
                    step.policy,
                    adjustment.value(),
                    step.policy,
                );
                self.conflict(step, owner.at, text);
                return false;
            }
            if draft.set(&adjustment, owner, Some(self.hook())) {
                owned.insert(field.clone());
                step.fields.push(field);
            }
        }
        self.steps.push(step);
        true
    }

    /// Does the same as [`Self::merge_create`] for a command; `owned` is field -> policy.
    pub(in crate::hooks::chain) fn merge_exec(
        &mut self,
        part: &Part,
        reply: Reply,
        mut step: Step,
        exec: &mut ExecSpec,
        owned: &mut BTreeMap<String, String>,
    ) -> bool {
        let adjustments = match reply.verdict {
            Verdict::Pass => Vec::new(),
            Verdict::Deny(denial) => {
                self.deny(step, denial, reply.deny_line);
                return false;
            }
            Verdict::Adjust(adjustments) => adjustments,
            other => {
                self.reject(step, format!("answered '{}', which pre-exec does not accept", other.kind()));
                return false;
            }
        };
        let entries = self.entries();
        let entry = super::of(&entries, part);
        // A command without a user runs as the container's user.
        let as_spec = |exec: &ExecSpec| {
            let mut spec = self.request.spec.clone();
            spec.user = exec.user.clone().or(spec.user);
            spec
        };
        match self.admissible(entry, &adjustments, &as_spec(exec)) {
            Ok(waivers) => step.waivers = waivers,
            Err((field, reason)) => {
                let line = reply.lines.get(&field).copied();
                self.reject(step, reason);
                if let Some(refusal) = &mut self.refusal {
                    refusal.at = line.and_then(|line| owner_of(entry, Some(line)).at);
                }
                return false;
            }
        }
        step.fields.clear();
        step.adjustments.clone_from(&adjustments);
        for adjustment in adjustments {
            let (field, before) = (adjustment.field(), exec.clone());
            adjustment.apply_exec(exec);
            if *exec == before {
                continue;
            }
            if let Some(was) = owned.get(&field).filter(|was| **was != step.policy)
                && !may_override(entry, &field)
            {
                let text = format!("'{was}' and '{}' set different values for {field}", step.policy);
                self.conflict(step, None, text);
                return false;
            }
            owned.insert(field.clone(), step.policy.clone());
            step.fields.push(field);
        }
        self.steps.push(step);
        true
    }

    /// Merges the actions of an answer, and returns them with the milliseconds to wait.
    pub(in crate::hooks::chain) fn merge_actions(
        &mut self,
        reply: Reply,
        mut step: Step,
    ) -> Option<(Vec<Action>, u32)> {
        match reply.verdict {
            Verdict::Pass => {
                self.steps.push(step);
                Some((Vec::new(), 0))
            }
            Verdict::Act { actions, delay_ms } => {
                if actions.len() > MOST_EDITS {
                    self.reject(step, format!("requested {} actions; the maximum is {MOST_EDITS}", actions.len()));
                    return None;
                }
                step.actions.clone_from(&actions);
                step.delay_ms = delay_ms;
                self.steps.push(step);
                Some((actions, delay_ms.unwrap_or(0).min(MOST_DELAY_MS)))
            }
            other => {
                self.reject(step, format!("answered '{}', which {} does not accept", other.kind(), self.hook()));
                None
            }
        }
    }

    /// Merges the verdicts of an answer in a sweep.
    pub(in crate::hooks::chain) fn merge_verdicts(
        &mut self,
        part: &Part,
        reply: Reply,
        mut step: Step,
        known: &BTreeMap<String, Candidate>,
    ) -> Option<Vec<SweepVerdict>> {
        match reply.verdict {
            Verdict::Pass => {
                self.steps.push(step);
                Some(Vec::new())
            }
            Verdict::Sweep(mut verdicts) => {
                if let Some(stranger) = verdicts.iter().find(|verdict| !known.contains_key(&verdict.id)) {
                    self.reject(step, format!("named '{}', which is not a candidate", stranger.id));
                    return None;
                }
                verdicts.retain(|verdict| known.get(&verdict.id).is_some_and(|candidate| part.decides(candidate)));
                step.sweep.clone_from(&verdicts);
                verdicts.iter_mut().for_each(|verdict| verdict.by.clone_from(&step.policy));
                self.steps.push(step);
                Some(verdicts)
            }
            other => {
                self.reject(step, format!("answered '{}', which cleanup does not accept", other.kind()));
                None
            }
        }
    }

    fn deny(&mut self, mut step: Step, denial: Denial, line: Option<usize>) {
        self.refusal = Some(Refusal {
            policy: step.policy.clone(),
            at: line.map(|line| format!("{}:{line}", step.policy)),
            code: denial.code.clone(),
            reason: denial.reason.clone(),
        });
        step.denial = Some(denial);
        self.steps.push(step);
    }

    fn conflict(&mut self, step: Step, at: Option<String>, text: String) {
        self.conflicts.push(text.clone());
        let policy = step.policy.clone();
        self.refusal = Some(Refusal { policy, at, code: "conflict".into(), reason: text });
        self.steps.push(step);
    }

    /// Checks whether an answer is valid at this hook: an answer is accepted as a whole or not at all. Returns the
    /// waivers that it needs, or the invalid field and the reason.
    fn admissible(
        &self,
        entry: &Entry,
        adjustments: &[Adjustment],
        spec: &ContainerSpec,
    ) -> Result<Vec<Waiver>, (String, String)> {
        if adjustments.len() > MOST_EDITS {
            let reason = format!("made {} adjustments; the maximum is {MOST_EDITS}", adjustments.len());
            return Err((String::new(), reason));
        }
        let began = self.began.as_ref().unwrap_or(&self.input.spec);
        let floor = Floor { began, waivers: &entry.waivers, now_ms: self.request.now_ms };
        let (mut seen, mut waivers) = (BTreeSet::new(), Vec::new());
        for adjustment in adjustments {
            let field = adjustment.field();
            let mut check = || {
                if !adjustment.allowed_at(self.hook()) {
                    return Err(format!("set {field}, which {} may not set", self.hook()));
                }
                if !seen.insert(field.clone()) {
                    return Err(format!("set {field} twice in one answer"));
                }
                adjustment.check()?;
                floor.check(spec, adjustment)
            };
            waivers.extend(check().map_err(|reason| (field.clone(), reason))?);
        }
        Ok(waivers)
    }

    fn in_conflict(&self, entry: &Entry, wanted: &Adjustment, draft: &Draft, owned: &BTreeSet<String>) -> bool {
        let field = wanted.field();
        if self.hook() == Hook::SecurityProfile || !owned.contains(&field) || may_override(entry, &field) {
            return false;
        }
        let other = draft.owners.get(&field).is_some_and(|owner| owner.policy != entry.policy.name());
        let mut next = draft.spec.clone();
        wanted.apply(&mut next);
        other && next != draft.spec
    }
}

fn may_override(entry: &Entry, field: &str) -> bool {
    entry.may_override.iter().any(|allowed| {
        field == allowed || field.strip_prefix(allowed.as_str()).is_some_and(|rest| rest.starts_with('.'))
    })
}

fn owner_of(entry: &Entry, line: Option<usize>) -> Owner {
    let policy = entry.policy.name().to_owned();
    let at = match (entry.policy.kind(), line) {
        (PolicyKind::Script, Some(line)) => Some(format!("{policy}:{line}")),
        (PolicyKind::Script, None) => Some(policy.clone()),
        (PolicyKind::Plugin, _) => Some(format!("sha256:{}", entry.policy.digest().get(..12).unwrap_or_default())),
    };
    Owner { policy, at }
}
