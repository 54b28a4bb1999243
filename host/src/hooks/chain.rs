//! The chain: one ordered list of policies, plugins and scripts mixed.
//!
//! Each policy sees the spec as adjusted so far. A field that one policy set and another wants to set to a different
//! value is a conflict, and the create is refused, unless the later one's entry says `may_override`. At
//! `security-profile` there are no conflicts: every adjustment must tighten (see `floor`), so the order cannot matter.
//! The idea of an owner per field comes from containerd's NRI (pkg/adaptation/result.go).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::record::{Draft, Owner, Refusal, StepError, VERSION, glob};
use super::validate::Invariants;
use super::{
    Adjustment, Decision, ExecSpec, Facts, FailureMode, Hook, HookRequest, Outcome, Policy, PolicyError, Reply, Step,
    Subject, SweepChoice, SweepVerdict, Verdict,
};

/// Most adjustments or actions in one answer.
const MOST_EDITS: usize = 1_000;
/// Longest wait that `pre-stop` may ask for, in milliseconds.
const MOST_DELAY_MS: u32 = 60_000;

/// A policy in its place in the chain: the policy and everything that its config entry says about it.
#[derive(Clone)]
pub struct Entry {
    /// The loaded policy.
    pub policy: Arc<dyn Policy>,
    /// The hooks at which it is asked: a part of what it implements.
    pub hooks: Vec<Hook>,
    /// The workspaces it is asked about.
    pub scope: Scope,
    /// Fields (or groups such as `env`) that it may set although another policy owns them.
    pub may_override: Vec<String>,
    /// SHA-256 (hex) of its settings as canonical JSON.
    pub settings_digest: String,
}

/// Which workspaces a policy is asked about; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// The workspace has all these labels; a value may be a glob.
    pub labels: BTreeMap<String, String>,
    /// The project's absolute path matches one of these globs.
    pub projects: Vec<String>,
}

impl Scope {
    fn holds(&self, facts: &Facts) -> bool {
        let labels = &facts.workspace.labels;
        self.labels.iter().all(|(name, pattern)| labels.get(name).is_some_and(|value| glob(pattern, value)))
            && (self.projects.is_empty() || self.projects.iter().any(|pattern| glob(pattern, &facts.workspace.project)))
    }
}

/// All policies, in order, and the invariants that come after them.
#[derive(Clone)]
pub struct Chain {
    entries: Arc<Vec<Entry>>,
    invariants: Arc<Invariants>,
}

/// What the three create hooks decided.
pub struct CreateDecision {
    /// The spec with its owners and history, as far as it came.
    pub draft: Draft,
    /// One per hook that ran.
    pub decisions: Vec<Decision>,
    /// Why it is refused, if it is.
    pub refusal: Option<Refusal>,
}

impl Chain {
    /// Puts policies and invariants together.
    pub fn new(entries: Vec<Entry>, invariants: Invariants) -> Self {
        Self { entries: Arc::new(entries), invariants: Arc::new(invariants) }
    }

    /// The policies, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The project files that policies of these hooks want to see.
    pub fn wanted_files(&self) -> BTreeSet<String> {
        self.entries.iter().flat_map(|entry| entry.policy.wanted_files()).cloned().collect()
    }

    /// Runs `select-image`, `security-profile` and `pre-create` over a draft, then the invariants.
    pub fn decide_create(&self, mut draft: Draft, facts: &Arc<Facts>, requested: bool, now_ms: u64) -> CreateDecision {
        let mut decisions = Vec::with_capacity(3);
        for hook in Hook::CREATE {
            let subject = match hook {
                Hook::SelectImage => Subject::Image { requested },
                _ => Subject::Container,
            };
            let request = HookRequest { hook, now_ms, facts: facts.clone(), spec: draft.spec.clone(), subject };
            let mut run = Run::new(self, request);
            run.create(&mut draft);
            if hook == Hook::PreCreate && run.refusal.is_none() {
                run.violations = self.invariants.violations(&draft.spec, Path::new(&facts.workspace.project));
                if let Some(first) = run.violations.first() {
                    let field = first.split(':').next().unwrap_or_default();
                    let by = draft.owners.get(field);
                    let asked = by.map_or(String::new(), |owner| format!(" (set by {})", owner.policy));
                    let more = match run.violations.len() - 1 {
                        0 => String::new(),
                        more => format!(" (and {more} more)"),
                    };
                    run.refusal = Some(Refusal {
                        policy: "host".into(),
                        at: by.and_then(|owner| owner.at.clone()),
                        code: "invariant".into(),
                        reason: format!("{first}{asked}{more}"),
                    });
                }
            }
            let outcome = match &run.refusal {
                Some(refusal) => Outcome::Denied(refusal.clone()),
                None => Outcome::Allowed(Box::new(draft.spec.clone())),
            };
            let refusal = run.refusal.clone();
            decisions.push(run.finish(outcome));
            if refusal.is_some() {
                return CreateDecision { draft, decisions, refusal };
            }
        }
        CreateDecision { draft, decisions, refusal: None }
    }

    /// Runs `pre-exec` over a command.
    pub fn decide_exec(&self, request: HookRequest) -> Decision {
        let Subject::Exec(mut exec) = request.subject.clone() else {
            let refusal = Refusal {
                policy: "host".into(),
                at: None,
                code: "internal".into(),
                reason: "pre-exec was asked without a command; this is a defect of Wharf".into(),
            };
            return Run::new(self, request).finish(Outcome::Denied(refusal));
        };
        let mut run = Run::new(self, request);
        run.exec(&mut exec);
        let outcome = run.refusal.clone().map_or(Outcome::AllowedExec(exec), Outcome::Denied);
        run.finish(outcome)
    }

    /// Runs `post-start`, `pre-stop` or `event`: collects the actions of all policies, in order. A policy that fails
    /// stands in the steps with its error; what that means is the hook's failure mode.
    pub fn collect(&self, request: HookRequest) -> Decision {
        let mut run = Run::new(self, request);
        let (mut actions, mut delay_ms) = (Vec::new(), 0);
        for entry in run.entries() {
            let Some((reply, mut step)) = run.ask(&entry) else { continue };
            match reply.verdict {
                Verdict::Pass => run.steps.push(step),
                Verdict::Act { actions: mut wanted, delay_ms: delay } => {
                    if wanted.len() > MOST_EDITS {
                        run.reject(step, format!("asked for {} actions; the most is {MOST_EDITS}", wanted.len()));
                        continue;
                    }
                    step.actions.clone_from(&wanted);
                    delay_ms = delay_ms.max(delay.unwrap_or(0).min(MOST_DELAY_MS));
                    actions.extend(wanted.drain(..).map(|action| (step.policy.clone(), action)));
                    run.steps.push(step);
                }
                other => run.reject(step, format!("answered '{}', which {} does not take", other.word(), run.hook())),
            }
        }
        run.finish(Outcome::Actions { actions, delay_ms })
    }

    /// Runs `cleanup`: any keep wins, and a policy that fails keeps everything.
    pub fn sweep(&self, request: HookRequest) -> Decision {
        let known: BTreeSet<String> = match &request.subject {
            Subject::Sweep(facts) => facts.candidates.iter().map(|candidate| candidate.id.clone()).collect(),
            _ => BTreeSet::new(),
        };
        let mut run = Run::new(self, request);
        let mut merged: BTreeMap<String, SweepVerdict> = BTreeMap::new();
        for entry in run.entries() {
            let Some((reply, step)) = run.ask(&entry) else { continue };
            match reply.verdict {
                Verdict::Pass => run.steps.push(step),
                Verdict::Sweep(verdicts) => {
                    if let Some(stranger) = verdicts.iter().find(|verdict| !known.contains(&verdict.id)) {
                        run.reject(step, format!("named '{}', which is no candidate", stranger.id));
                        continue;
                    }
                    for mut verdict in verdicts {
                        verdict.reason = format!("{}: {}", step.policy, verdict.reason);
                        let stronger = |a: SweepChoice, b: SweepChoice| match (a, b) {
                            (SweepChoice::Keep, _) => false,
                            (_, SweepChoice::Keep) => true,
                            // Between stop and remove the milder one stands.
                            (SweepChoice::Remove, SweepChoice::Stop) => true,
                            _ => false,
                        };
                        match merged.get(&verdict.id) {
                            Some(old) if !stronger(old.choice, verdict.choice) => {}
                            _ => drop(merged.insert(verdict.id.clone(), verdict)),
                        }
                    }
                    run.steps.push(step);
                }
                other => run.reject(step, format!("answered '{}', which cleanup does not take", other.word())),
            }
        }
        if run.steps.iter().any(|step| step.error.is_some()) {
            merged.clear();
        }
        run.finish(Outcome::Sweep(merged.into_values().collect()))
    }
}

/// One hook run in progress.
struct Run {
    entries: Arc<Vec<Entry>>,
    request: HookRequest,
    input: HookRequest,
    steps: Vec<Step>,
    conflicts: Vec<String>,
    violations: Vec<String>,
    refusal: Option<Refusal>,
}

impl Run {
    fn new(chain: &Chain, request: HookRequest) -> Self {
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

    fn hook(&self) -> Hook {
        self.request.hook
    }

    /// The entries that are asked at this hook about this workspace.
    fn entries(&self) -> Vec<Entry> {
        let asked = |entry: &&Entry| entry.hooks.contains(&self.hook()) && entry.scope.holds(&self.request.facts);
        self.entries.iter().filter(asked).cloned().collect()
    }

    /// Asks one policy. A failure is kept in the steps, and refuses where the hook fails closed.
    fn ask(&mut self, entry: &Entry) -> Option<(Reply, Step)> {
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
        tracing::warn!(policy = step.policy, hook = %step.hook, code, "{message}");
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
        }
        step.error = Some(StepError { code: code.to_owned(), message, detail, marked });
        self.steps.push(step);
    }

    /// A verdict that makes no sense here counts as a failure.
    fn reject(&mut self, step: Step, what: String) {
        self.fail(step, PolicyError::new("bad-answer", what));
    }

    fn create(&mut self, draft: &mut Draft) {
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
                            let now = now.and_then(|json| super::record::lookup(&json, &field)).unwrap_or_default();
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

    fn exec(&mut self, exec: &mut ExecSpec) {
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

    fn deny(&mut self, mut step: Step, denial: super::Denial, line: Option<usize>) {
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
                super::floor::check(&draft.spec, adjustment)?;
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

    fn finish(self, outcome: Outcome) -> Decision {
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
        (super::PolicyKind::Script, Some(line)) => Some(format!("{policy}:{line}")),
        (super::PolicyKind::Script, None) => Some(policy.clone()),
        (super::PolicyKind::Plugin, _) => {
            Some(format!("sha256:{}", entry.policy.digest().get(..12).unwrap_or_default()))
        }
    };
    Owner { policy, at }
}

#[cfg(test)]
pub(crate) mod tests;
