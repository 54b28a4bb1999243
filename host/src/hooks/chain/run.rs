//! One hook run: asking each policy in turn, and merging what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use uuid::Uuid;

use super::mode::Part;
use super::standing::{self, Snapshot};
use super::{Chain, Entry, MOST_DELAY_MS, MOST_EDITS};
use crate::hooks::floor::Floor;
use crate::hooks::record::{Draft, Owner, Refusal, StepError, StepMode, VERSION, Waiver};
use crate::hooks::validate::Invariants;
use crate::hooks::{
    Action, Adjustment, Decision, Denial, ExecSpec, FailureMode, Hook, HookRequest, Outcome, PolicyError, PolicyKind,
    Reply, Step, Subject, SweepVerdict, Verdict, record,
};
use crate::workspace::ContainerSpec;

/// One hook run in progress.
pub(super) struct Run {
    chain: Chain,
    snapshot: Snapshot,
    parts: Vec<Part>,
    request: HookRequest,
    input: HookRequest,
    /// The spec as the decision began: what the floor holds against.
    began: Option<ContainerSpec>,
    pub(super) steps: Vec<Step>,
    conflicts: Vec<String>,
    pub(super) violations: Vec<String>,
    pub(super) refusal: Option<Refusal>,
}

impl Run {
    pub(super) fn with(chain: &Chain, request: HookRequest, snapshot: Snapshot) -> Self {
        Self {
            chain: chain.clone(),
            parts: chain.parts(request.hook, &request.facts, &snapshot),
            snapshot,
            input: request.clone(),
            request,
            began: None,
            steps: Vec::new(),
            conflicts: Vec::new(),
            violations: Vec::new(),
            refusal: None,
        }
    }

    /// The same, with the spec as the decision began where that was before this hook.
    pub(super) fn began(mut self, spec: ContainerSpec) -> Self {
        self.began = Some(spec);
        self
    }

    pub(super) fn hook(&self) -> Hook {
        self.request.hook
    }

    /// All that are asked at this hook about this workspace, shadows among them.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Those whose verdicts count.
    pub(super) fn enforced(&self) -> Vec<Part> {
        self.parts.iter().filter(|part| part.mode != StepMode::Shadow).cloned().collect()
    }

    pub(super) fn entry(&self, part: &Part) -> &Entry {
        // Parts are made from the entries of the same chain.
        #[allow(clippy::indexing_slicing)]
        &self.chain.entries[part.index]
    }

    pub(super) fn invariants(&self) -> &Invariants {
        &self.chain.invariants
    }

    /// The policy that would take another's place.
    pub(super) fn replacer(&self, replaced: &str) -> Option<String> {
        let entry = self.chain.entries.iter().find(|entry| entry.policy.name() == replaced)?;
        self.chain.successor(entry).map(|successor| successor.policy.name().to_owned())
    }

    /// What the next policy is shown.
    pub(super) fn see(&mut self, spec: ContainerSpec) {
        self.request.spec = spec;
    }

    /// The same for a command.
    pub(super) fn see_exec(&mut self, exec: ExecSpec) {
        self.request.subject = Subject::Exec(exec);
    }

    /// Asks one policy. A failure is kept in the steps, and refuses where the hook fails closed.
    pub(super) fn ask(&mut self, part: &Part) -> Option<(Reply, Step)> {
        let entry = self.entry(part).clone();
        let begin = Instant::now();
        let answer = match self.blocked(&entry, part) {
            Some(why) => Err(PolicyError::new(standing::OPEN, why)),
            None => entry.policy.evaluate(&self.request),
        };
        let mut step = Step {
            policy: entry.policy.name().to_owned(),
            kind: entry.policy.kind(),
            digest: entry.policy.digest().to_owned(),
            settings_digest: entry.settings_digest.clone(),
            hook: self.hook(),
            mode: part.mode,
            verdict: String::new(),
            fields: Vec::new(),
            adjustments: Vec::new(),
            denial: None,
            actions: Vec::new(),
            microseconds: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            operations: 0,
            logs: Vec::new(),
            waivers: Vec::new(),
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

    fn blocked(&self, entry: &Entry, part: &Part) -> Option<String> {
        match &self.chain.pins {
            Some(pins) => pins.open.get(entry.policy.name()).cloned(),
            None => standing::blocked(&self.snapshot, self.chain.standings(), entry, part.mode, &self.request),
        }
    }

    fn fail(&mut self, mut step: Step, error: PolicyError) {
        let PolicyError { code, message, detail, marked, logs } = error;
        "error".clone_into(&mut step.verdict);
        step.fields.clear();
        step.adjustments.clear();
        step.logs.extend(logs);
        if self.hook().failure_mode() == FailureMode::Deny {
            self.refusal = Some(Refusal {
                policy: step.policy.clone(),
                at: None,
                code: "policy-failed".into(),
                reason: format!("the {} '{}' failed at {}: {message}", step.kind.as_str(), step.policy, step.hook),
            });
        }
        if self.hook().failure_mode() == FailureMode::Deny || step.mode == StepMode::Shadow {
            // The refusal says it to whoever asked, once is enough; and a shadow's failure means nothing to anybody yet.
            tracing::debug!(policy = step.policy, hook = %step.hook, code, "{message}");
        } else {
            tracing::warn!(policy = step.policy, hook = %step.hook, code, "{message}");
        }
        let entry = self.chain.entries.iter().find(|entry| entry.policy.name() == step.policy);
        let means = entry.and_then(|entry| entry.on_error.get(&step.hook).copied());
        step.error = Some(StepError { code: code.to_owned(), message, detail, marked, means });
        self.steps.push(step);
    }

    /// A verdict that makes no sense here counts as a failure.
    pub(super) fn reject(&mut self, step: Step, what: String) {
        self.fail(step, PolicyError::new("bad-answer", what));
    }

    /// The fields that policies of this chain own.
    pub(super) fn owned(&self, draft: &Draft) -> BTreeSet<String> {
        let ours = |owner: &Owner| self.chain.entries.iter().any(|entry| entry.policy.name() == owner.policy);
        draft.owners.iter().filter(|(_, owner)| ours(owner)).map(|(field, _)| field.clone()).collect()
    }

    /// Asks those whose verdicts count, until one refuses.
    pub(super) fn create(&mut self, draft: &mut Draft) {
        let mut owned = self.owned(draft);
        for part in self.enforced() {
            self.see(draft.spec.clone());
            let Some((reply, step)) = self.ask(&part) else { return };
            if !self.merge_create(&part, reply, step, draft, &mut owned) {
                return;
            }
        }
    }

    /// Takes an answer into the draft. Says whether the request goes on; if not, the refusal says why, and the draft may
    /// hold a part of the answer.
    pub(super) fn merge_create(
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
                self.reject(step, format!("answered '{}', which {} does not take", other.word(), self.hook()));
                return false;
            }
        };
        let entry = self.entry(part).clone();
        match self.admissible(&entry, &adjustments, &draft.spec) {
            Ok(waivers) => step.waivers = waivers,
            Err(reason) => {
                self.reject(step, reason);
                return false;
            }
        }
        step.fields.clear();
        step.adjustments.clone_from(&adjustments);
        for adjustment in adjustments {
            let field = adjustment.field();
            let owner = owner_of(&entry, reply.lines.get(&field).copied());
            if self.in_conflict(&entry, &adjustment, draft, owned) {
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

    pub(super) fn exec(&mut self, exec: &mut ExecSpec) {
        let mut owned: BTreeMap<String, String> = BTreeMap::new();
        for part in self.enforced() {
            self.see_exec(exec.clone());
            let Some((reply, step)) = self.ask(&part) else { return };
            if !self.merge_exec(&part, reply, step, exec, &mut owned) {
                return;
            }
        }
    }

    /// The same as [`Self::merge_create`] for a command; `owned` is field -> policy.
    pub(super) fn merge_exec(
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
                self.reject(step, format!("answered '{}', which pre-exec does not take", other.word()));
                return false;
            }
        };
        let entry = self.entry(part).clone();
        // A command that names no user runs as the container's.
        let as_spec = |exec: &ExecSpec| {
            let mut spec = self.request.spec.clone();
            spec.user = exec.user.clone().or(spec.user);
            spec
        };
        match self.admissible(&entry, &adjustments, &as_spec(exec)) {
            Ok(waivers) => step.waivers = waivers,
            Err(reason) => {
                self.reject(step, reason);
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
                && !may_override(&entry, &field)
            {
                let text = format!("'{was}' and '{}' want different values for {field}", step.policy);
                self.conflict(step, None, text);
                return false;
            }
            owned.insert(field.clone(), step.policy.clone());
            step.fields.push(field);
        }
        self.steps.push(step);
        true
    }

    /// Takes the actions of an answer, with the milliseconds to wait.
    pub(super) fn merge_actions(&mut self, reply: Reply, mut step: Step) -> Option<(Vec<Action>, u32)> {
        match reply.verdict {
            Verdict::Pass => {
                self.steps.push(step);
                Some((Vec::new(), 0))
            }
            Verdict::Act { actions, delay_ms } => {
                if actions.len() > MOST_EDITS {
                    self.reject(step, format!("asked for {} actions; the most is {MOST_EDITS}", actions.len()));
                    return None;
                }
                step.actions.clone_from(&actions);
                self.steps.push(step);
                Some((actions, delay_ms.unwrap_or(0).min(MOST_DELAY_MS)))
            }
            other => {
                self.reject(step, format!("answered '{}', which {} does not take", other.word(), self.hook()));
                None
            }
        }
    }

    /// Takes the verdicts of an answer about a sweep.
    pub(super) fn merge_verdicts(
        &mut self,
        part: &Part,
        reply: Reply,
        step: Step,
        known: &BTreeSet<String>,
    ) -> Option<Vec<SweepVerdict>> {
        match reply.verdict {
            Verdict::Pass => {
                self.steps.push(step);
                Some(Vec::new())
            }
            Verdict::Sweep(mut verdicts) => {
                if let Some(stranger) = verdicts.iter().find(|verdict| !known.contains(&verdict.id)) {
                    self.reject(step, format!("named '{}', which is no candidate", stranger.id));
                    return None;
                }
                verdicts.retain(|verdict| part.share.as_ref().is_none_or(|share| share.holds(&verdict.id)));
                verdicts.iter_mut().for_each(|verdict| verdict.by.clone_from(&step.policy));
                self.steps.push(step);
                Some(verdicts)
            }
            other => {
                self.reject(step, format!("answered '{}', which cleanup does not take", other.word()));
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

    /// Whether an answer makes sense at this hook: an answer is taken whole or not at all. Gives the waivers that it needs.
    fn admissible(
        &self,
        entry: &Entry,
        adjustments: &[Adjustment],
        spec: &ContainerSpec,
    ) -> Result<Vec<Waiver>, String> {
        if adjustments.len() > MOST_EDITS {
            return Err(format!("made {} adjustments; the most is {MOST_EDITS}", adjustments.len()));
        }
        let began = self.began.as_ref().unwrap_or(&self.input.spec);
        let floor = Floor { began, waivers: &entry.waivers, now_ms: self.request.now_ms };
        let (mut seen, mut waivers) = (BTreeSet::new(), Vec::new());
        for adjustment in adjustments {
            if !adjustment.allowed_at(self.hook()) {
                return Err(format!("set {}, which {} may not set", adjustment.field(), self.hook()));
            }
            if !seen.insert(adjustment.field()) {
                return Err(format!("set {} twice in one answer", adjustment.field()));
            }
            adjustment.check()?;
            waivers.extend(floor.check(spec, adjustment)?);
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

    /// Makes the record, and remembers how the policies have been doing.
    pub(super) fn finish(self, outcome: Outcome) -> Decision {
        if let (Some(standings), None) = (self.chain.standings(), &self.chain.pins) {
            standing::observe(&self.snapshot, standings, &self.chain.entries, &self.steps, &self.input);
        }
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
            shadow_of: None,
            differences: Vec::new(),
            shadows: super::Pending::default(),
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
