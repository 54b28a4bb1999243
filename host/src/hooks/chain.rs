//! The chain: one ordered list of policies, plugins and scripts mixed.
//!
//! Each policy sees the spec as adjusted so far. A field that one policy set and another wants to set to a different
//! value is a conflict, and the create is refused, unless the later one's entry says `may_override`. At
//! `security-profile` there are no conflicts: every adjustment must tighten (see `floor`), so the order cannot matter.
//! The idea of an owner per field comes from containerd's NRI (pkg/adaptation/result.go).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::record::{Draft, Refusal, glob};
use super::validate::Invariants;
use super::{Decision, Facts, Hook, HookRequest, Outcome, Policy, Subject, SweepChoice, SweepVerdict, Verdict};

/// Most adjustments or actions in one answer.
const MOST_EDITS: usize = 1_000;
/// Longest wait that `pre-stop` may ask for, in milliseconds.
const MOST_DELAY_MS: u32 = 60_000;

mod run;

use run::Run;

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

    /// Prepares the policies of these hooks, the last one first: who asks them meanwhile begins at the other end.
    pub fn prepare(&self, hooks: &[Hook]) {
        for entry in self.entries.iter().rev() {
            if entry.hooks.iter().any(|hook| hooks.contains(hook)) {
                entry.policy.prepare();
            }
        }
    }

    /// Whether any policy is asked at a hook about a workspace.
    pub fn asks(&self, hook: Hook, facts: &Facts) -> bool {
        self.entries.iter().any(|entry| entry.hooks.contains(&hook) && entry.scope.holds(facts))
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
                run.violations = {
                    let workspace = &facts.workspace;
                    self.invariants.violations(&draft.spec, &workspace.id, Path::new(&workspace.project))
                };
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
                        verdict.by.clone_from(&step.policy);
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

#[cfg(test)]
pub(crate) mod tests;
