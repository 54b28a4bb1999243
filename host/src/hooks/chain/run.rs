//! One hook run: calls each policy in turn and merges its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tracing::Span;
use uuid::Uuid;

use super::mode::Part;
use super::standing::{self, Snapshot};
use super::{Chain, Entry};
use crate::hooks::record::{Draft, Owner, Refusal, StepError, StepMode, VERSION};
use crate::hooks::redact::Values;
use crate::hooks::validate::{FoundPaths, Invariants};
use crate::hooks::{
    Decision, ExecSpec, Facts, FailureMode, Hook, HookRequest, Outcome, PolicyError, Reply, Step, Subject, VerdictKind,
};
use crate::spans;
use crate::workspace::ContainerSpec;

mod merge;

/// One hook run in progress.
pub(super) struct Run {
    chain: Chain,
    snapshot: Snapshot,
    parts: Vec<Part>,
    request: HookRequest,
    input: HookRequest,
    /// The spec at the start of the decision, for the floor.
    began: Option<ContainerSpec>,
    pub(super) steps: Vec<Step>,
    conflicts: Vec<String>,
    pub(super) violations: Vec<String>,
    pub(super) refusal: Option<Refusal>,
    /// The owner of each field before the first policy was called.
    pub(super) owners: BTreeMap<String, Owner>,
    /// The host paths that the invariants resolved.
    pub(super) paths: FoundPaths,
    /// None if the run is not a decision.
    span: Span,
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
            owners: BTreeMap::new(),
            paths: FoundPaths::default(),
            span: Span::none(),
        }
    }

    /// Returns the run as part of a trace.
    pub(super) fn traced(mut self) -> Self {
        if self.chain.pins.is_none() {
            self.span = spans::hook_run(self.hook().as_str(), &self.input.facts.workspace.id);
        }
        self
    }

    /// Returns the run with the spec at the start of the decision, if the decision started before this hook.
    pub(super) fn began(mut self, spec: ContainerSpec) -> Self {
        self.began = Some(spec);
        self
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.input.facts
    }

    pub(super) fn hook(&self) -> Hook {
        self.request.hook
    }

    /// Returns all policies to call at this hook for this workspace, including shadows.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the policies whose verdicts count.
    pub(super) fn enforced(&self) -> Vec<Part> {
        self.parts.iter().filter(|part| part.mode != StepMode::Shadow).cloned().collect()
    }

    pub(super) fn entry(&self, part: &Part) -> &Entry {
        of(&self.chain.entries, part)
    }

    /// Returns a handle to the entries that stays valid while the run changes.
    fn entries(&self) -> Arc<Vec<Entry>> {
        self.chain.entries.clone()
    }

    pub(super) fn invariants(&self) -> &Invariants {
        &self.chain.invariants
    }

    /// Returns the policy that would replace the given policy.
    pub(super) fn replacer(&self, replaced: &str) -> Option<String> {
        let entry = self.chain.entries.iter().find(|entry| entry.policy.name() == replaced)?;
        self.chain.successor(entry).map(|successor| successor.policy.name().to_owned())
    }

    /// Sets the spec that the next policy sees.
    pub(super) fn see(&mut self, spec: ContainerSpec) {
        self.request.spec = spec;
    }

    /// Sets the command that the next policy sees.
    pub(super) fn see_exec(&mut self, exec: ExecSpec) {
        self.request.subject = Subject::Exec(exec);
    }

    /// Calls one policy. A failure is stored in the steps, and refuses the request if the hook fails closed.
    pub(super) fn ask(&mut self, part: &Part) -> Option<(Reply, Step)> {
        let entries = self.entries();
        let entry = of(&entries, part);
        let (name, kind) = (entry.policy.name(), entry.policy.kind());
        let span = spans::policy_call(&self.span, name, kind.as_str(), part.mode.as_str());
        let begin = Instant::now();
        let answer = match self.blocked(entry, part) {
            Some(why) => Err(PolicyError::new(standing::OPEN, why)),
            None => span.in_scope(|| entry.policy.evaluate(&self.request)),
        };
        spans::said(&span, answer.as_ref().map(|reply| reply.verdict.kind().as_str()).map_err(|error| error.code));
        let mut step = Step {
            digest: entry.policy.digest().to_owned(),
            settings_digest: entry.settings_digest.clone(),
            mode: part.mode,
            microseconds: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            ..Step::empty(name, kind, self.hook())
        };
        match answer {
            Ok(mut reply) => {
                step.verdict = reply.verdict.kind();
                step.operations = reply.operations;
                step.granted.clone_from(&reply.granted);
                step.logs = std::mem::take(&mut reply.logs);
                step.lines.clone_from(&reply.lines);
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
        let PolicyError { code, mut message, mut detail, marked, mut logs } = error;
        // Redact before any further use: in a refusal, a log line, or the policy's standing.
        let values = self.secret_values(&step);
        logs.iter_mut().chain(&mut step.logs).chain(&mut detail).for_each(|text| values.clean(text));
        values.clean(&mut message);
        step.verdict = VerdictKind::Error;
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
            // The refusal already reports it to the caller, and a shadow's failure has no effect yet.
            tracing::debug!(policy = step.policy, hook = %step.hook, code, "{message}");
        } else {
            tracing::warn!(policy = step.policy, hook = %step.hook, code, "{message}");
        }
        let entry = self.chain.entries.iter().find(|entry| entry.policy.name() == step.policy);
        let means = entry.and_then(|entry| entry.on_error.get(&step.hook).copied());
        step.error = Some(StepError { code: code.to_owned(), message, detail, marked, means });
        self.steps.push(step);
    }

    /// Returns the secret values that may occur in this run.
    fn secret_values(&self, step: &Step) -> Values {
        let known = &self.chain.secrets;
        let mut values = known.values.clone();
        for spec in [&self.request.spec, &self.input.spec] {
            values.extend(known.names.values_in(spec, &self.steps));
        }
        values.extend(known.names.values_in(&self.request.spec, std::slice::from_ref(step)));
        Values::new(values)
    }

    /// Treats an invalid verdict as a failure.
    pub(super) fn reject(&mut self, step: Step, what: String) {
        self.fail(step, PolicyError::new("bad-answer", what));
    }

    /// Returns the fields that policies of this chain own.
    pub(super) fn owned(&self, draft: &Draft) -> BTreeSet<String> {
        let ours = |owner: &Owner| self.chain.entries.iter().any(|entry| entry.policy.name() == owner.policy);
        draft.owners.iter().filter(|(_, owner)| ours(owner)).map(|(field, _)| field.clone()).collect()
    }

    /// Calls the policies whose verdicts count, until one refuses.
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

    /// Creates the record and updates the standings of the policies.
    pub(super) fn finish(self, outcome: Outcome) -> Decision {
        if let (Some(standings), None) = (self.chain.standings(), &self.chain.pins) {
            standing::observe(&self.snapshot, standings, &self.chain.entries, &self.steps, &self.input);
        }
        let id = Uuid::now_v7();
        spans::decided(&self.span, outcome.word(), id);
        let began = self.began.filter(|spec| *spec != self.input.spec).map(Box::new);
        Decision {
            version: VERSION,
            id,
            time: jiff::Timestamp::now(),
            hook: self.input.hook,
            workspace: self.input.facts.workspace.id.clone(),
            input: self.input,
            began,
            owners: self.owners,
            paths: self.paths,
            steps: self.steps,
            conflicts: self.conflicts,
            violations: self.violations,
            outcome,
            shadow_of: None,
            differences: Vec::new(),
        }
    }
}

/// Returns the entry of a part. Parts always refer to entries of the same chain.
#[allow(clippy::indexing_slicing)]
fn of<'a>(entries: &'a [Entry], part: &Part) -> &'a Entry {
    &entries[part.index]
}
