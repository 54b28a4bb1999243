//! One hook run: asking each policy in turn, and merging what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::{Chain, Entry, MOST_EDITS};
use crate::hooks::record::{Draft, Owner, Refusal, StepError, VERSION};
use crate::hooks::{
    Adjustment, Decision, Denial, ExecSpec, FailureMode, Hook, HookRequest, Outcome, PolicyError, PolicyKind, Reply,
    Step, Subject, Verdict, floor, record,
};

/// One hook run in progress.
pub(super) struct Run {
    entries: Arc<Vec<Entry>>,
    request: HookRequest,
    input: HookRequest,
    pub(super) steps: Vec<Step>,
    conflicts: Vec<String>,
    pub(super) violations: Vec<String>,
    pub(super) refusal: Option<Refusal>,
}

impl Run {
    pub(super) fn new(chain: &Chain, request: HookRequest) -> Self {
        Self {
            entries: chain.entries.clone(),
            input: request.clone(),
            request,
            steps: Vec::new(),
            conflicts: Vec::new(),
            violations: Vec::new(),
            refusal: None,
        }
    }

    pub(super) fn hook(&self) -> Hook {
        self.request.hook
    }

    /// The entries that are asked at this hook about this workspace.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let asked = |entry: &&Entry| entry.hooks.contains(&self.hook()) && entry.scope.holds(&self.request.facts);
        self.entries.iter().filter(asked).cloned().collect()
    }

    /// Asks one policy. A failure is kept in the steps, and refuses where the hook fails closed.
    pub(super) fn ask(&mut self, entry: &Entry) -> Option<(Reply, Step)> {
        let begin = Instant::now();
        let answer = entry.policy.evaluate(&self.request);
        let mut step = Step {
            policy: entry.policy.name().to_owned(),
            kind: entry.policy.kind(),
            digest: entry.policy.digest().to_owned(),
            settings_digest: entry.settings_digest.clone(),
            hook: self.hook(),
            verdict: String::new(),
            fields: Vec::new(),
            adjustments: Vec::new(),
            denial: None,
            actions: Vec::new(),
            microseconds: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            operations: 0,
            logs: Vec::new(),
            error: None,
        };
        match answer {
            Ok(mut reply) => {
                reply.verdict.word().clone_into(&mut step.verdict);
                step.operations = reply.operations;
                step.logs = std::mem::take(&mut reply.logs);
                Some((reply, step))
            }
            Err(error) => {
                self.fail(step, error);
                None
            }
        }
    }

    fn fail(&mut self, mut step: Step, error: PolicyError) {
        let PolicyError { code, message, detail, marked, logs } = error;
        "error".clone_into(&mut step.verdict);
        step.fields.clear();
        step.logs.extend(logs);
        if self.hook().failure_mode() == FailureMode::Deny {
            self.refusal = Some(Refusal {
                policy: step.policy.clone(),
                at: None,
                code: "policy-failed".into(),
                reason: format!("the {} '{}' failed at {}: {message}", step.kind.as_str(), step.policy, step.hook),
            });
            // The refusal says it to whoever asked; once is enough.
            tracing::debug!(policy = step.policy, hook = %step.hook, code, "{message}");
        } else {
            tracing::warn!(policy = step.policy, hook = %step.hook, code, "{message}");
        }
        step.error = Some(StepError { code: code.to_owned(), message, detail, marked });
        self.steps.push(step);
    }

    /// A verdict that makes no sense here counts as a failure.
    pub(super) fn reject(&mut self, step: Step, what: String) {
        self.fail(step, PolicyError::new("bad-answer", what));
    }

    pub(super) fn create(&mut self, draft: &mut Draft) {
        let mut policy_owned: BTreeSet<String> = self
            .entries
            .iter()
            .flat_map(|entry| {
                let name = entry.policy.name();
                draft.owners.iter().filter(move |(_, owner)| owner.policy == name).map(|(field, _)| field.clone())
            })
            .collect();
        for entry in self.entries() {
            self.request.spec = draft.spec.clone();
            let Some((reply, mut step)) = self.ask(&entry) else { return };
            match reply.verdict {
                Verdict::Pass => self.steps.push(step),
                Verdict::Deny(denial) => {
                    self.deny(step, denial, reply.deny_line);
                    return;
                }
                Verdict::Adjust(adjustments) => {
                    if let Err(reason) = self.admissible(&adjustments, Some(draft)) {
                        self.reject(step, reason);
                        return;
                    }
                    step.adjustments.clone_from(&adjustments);
                    for adjustment in adjustments {
                        let field = adjustment.field();
                        let owner = owner_of(&entry, reply.lines.get(&field).copied());
                        if self.in_conflict(&entry, &adjustment, draft, &policy_owned) {
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
                            self.conflicts.push(text.clone());
                            self.refusal = Some(Refusal {
                                policy: step.policy.clone(),
                                at: owner.at,
                                code: "conflict".into(),
                                reason: text,
                            });
                            self.steps.push(step);
                            return;
                        }
                        if draft.set(&adjustment, owner, Some(self.hook())) {
                            policy_owned.insert(field.clone());
                            step.fields.push(field);
                        }
                    }
                    self.steps.push(step);
                }
                other => {
                    self.reject(step, format!("answered '{}', which {} does not take", other.word(), self.hook()));
                    return;
                }
            }
        }
    }

    pub(super) fn exec(&mut self, exec: &mut ExecSpec) {
        let mut owned: BTreeMap<String, String> = BTreeMap::new();
        for entry in self.entries() {
            self.request.subject = Subject::Exec(exec.clone());
            let Some((reply, mut step)) = self.ask(&entry) else { return };
            match reply.verdict {
                Verdict::Pass => self.steps.push(step),
                Verdict::Deny(denial) => {
                    self.deny(step, denial, reply.deny_line);
                    return;
                }
                Verdict::Adjust(adjustments) => {
                    if let Err(reason) = self.admissible(&adjustments, None) {
                        self.reject(step, reason);
                        return;
                    }
                    step.adjustments.clone_from(&adjustments);
                    for adjustment in adjustments {
                        let (field, before) = (adjustment.field(), exec.clone());
                        adjustment.apply_exec(exec);
                        if *exec == before {
                            continue;
                        }
                        if let Some(was) = owned.get(&field).filter(|was| **was != step.policy)
                            && !may_override(&entry, &field)
                        {
                            let text = format!("'{was}' and '{}' want different values for {field}", step.policy);
                            self.conflicts.push(text.clone());
                            self.refusal = Some(Refusal {
                                policy: step.policy.clone(),
                                at: None,
                                code: "conflict".into(),
                                reason: text,
                            });
                            self.steps.push(step);
                            return;
                        }
                        owned.insert(field.clone(), step.policy.clone());
                        step.fields.push(field);
                    }
                    self.steps.push(step);
                }
                other => {
                    self.reject(step, format!("answered '{}', which pre-exec does not take", other.word()));
                    return;
                }
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

    /// Whether an answer makes sense at this hook: an answer is taken whole or not at all.
    fn admissible(&self, adjustments: &[Adjustment], draft: Option<&Draft>) -> Result<(), String> {
        if adjustments.len() > MOST_EDITS {
            return Err(format!("made {} adjustments; the most is {MOST_EDITS}", adjustments.len()));
        }
        let mut seen = BTreeSet::new();
        for adjustment in adjustments {
            if !adjustment.allowed_at(self.hook()) {
                return Err(format!("set {}, which {} may not set", adjustment.field(), self.hook()));
            }
            if !seen.insert(adjustment.field()) {
                return Err(format!("set {} twice in one answer", adjustment.field()));
            }
            adjustment.check()?;
            if let (Hook::SecurityProfile, Some(draft)) = (self.hook(), draft) {
                floor::check(&draft.spec, adjustment)?;
            }
        }
        Ok(())
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

    pub(super) fn finish(self, outcome: Outcome) -> Decision {
        Decision {
            version: VERSION,
            id: Uuid::now_v7(),
            time: jiff::Timestamp::now(),
            hook: self.input.hook,
            workspace: self.input.facts.workspace.id.clone(),
            input: self.input,
            steps: self.steps,
            conflicts: self.conflicts,
            violations: self.violations,
            outcome,
        }
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
