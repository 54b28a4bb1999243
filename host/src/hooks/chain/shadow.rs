//! Shadows: hypothetical results with policies whose verdicts do not count yet.
//!
//! Shadows are called after the decision is recorded, on their own thread, so none of them can delay or change the
//! decision. Each shadow sees the input that it would see if all shadows counted. The verdicts of the other policies
//! are reused (no policy is called twice) and merged by the same rules, in the order of the chain. The result is a
//! separate record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::HostPaths;
use super::mode::Part;
use super::run::Run;
use super::standing::Snapshot;
use super::{Chain, merge_sweep};
use crate::hooks::adjust::{diff, diff_exec};
use crate::hooks::record::{Difference, Draft, Owner, Refusal, StepMode, lookup};
use crate::hooks::{
    Adjustment, Decision, Denial, ExecSpec, Hook, Outcome, Reply, Step, Subject, SweepChoice, SweepVerdict, Verdict,
};
use crate::workspace::ContainerSpec;

/// The shadows still to be called for the decisions of one verb.
pub struct Shadows {
    chain: Chain,
    snapshot: Snapshot,
    /// The draft at the start of a create.
    began: Option<Draft>,
    decisions: Vec<Decision>,
    /// Each policy's verdicts in a sweep.
    verdicts: Vec<(String, Vec<SweepVerdict>)>,
}

/// Returns whether there is a shadow among these parts.
pub(super) fn any(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.mode == StepMode::Shadow)
}

impl Shadows {
    pub(super) fn of(
        chain: &Chain,
        snapshot: &Snapshot,
        began: Option<Draft>,
        decisions: Vec<Decision>,
        verdicts: Vec<(String, Vec<SweepVerdict>)>,
    ) -> Box<Self> {
        Box::new(Self { chain: chain.clone(), snapshot: snapshot.clone(), began, decisions, verdicts })
    }

    /// Calls the shadows. Blocks for as long as their deadlines allow. Returns a record for each decision with a
    /// shadow.
    pub fn run(&self) -> Vec<Decision> {
        let mut draft = self.began.clone();
        let mut began = self.began.as_ref().map(|draft| draft.spec.clone());
        let mut told = BTreeSet::new();
        let mut records = Vec::new();
        let mut before: Option<&Decision> = None;
        for decision in &self.decisions {
            if let (Some(draft), Some(Outcome::Allowed(spec))) = (&mut draft, before.map(|before| &before.outcome)) {
                fill(draft, spec, decision);
                began = began.filter(|_| decision.hook != Hook::SecurityProfile).or_else(|| Some(draft.spec.clone()));
            }
            before = Some(decision);
            let mut run = Run::with(&self.chain, decision.input.clone(), self.snapshot.clone());
            if let Some(began) = &began {
                run = run.began(began.clone());
            }
            let world = World { run, decision, first: None, shadows: Vec::new() };
            let record = match (&mut draft, &decision.input.subject) {
                (Some(draft), _) => world.create(draft, &mut told),
                (None, Subject::Exec(exec)) => world.exec(exec.clone()),
                (None, Subject::Sweep(_)) => world.sweep(&self.verdicts),
                (None, _) => world.collect(),
            };
            records.extend(record);
        }
        records
    }
}

/// Repeats the edits that the host made between two hooks: `spec` is the result of the first, `next` the decision of
/// the second.
fn fill(draft: &mut Draft, spec: &ContainerSpec, next: &Decision) {
    for edit in diff(spec, &next.input.spec) {
        let by = next.owners.get(&edit.field()).cloned().unwrap_or_else(|| Owner::host("default", None));
        draft.set(&edit, by, None);
    }
}

/// One hook run as if the shadows counted.
struct World<'a> {
    run: Run,
    decision: &'a Decision,
    first: Option<Refusal>,
    /// Names of the shadows that were called.
    shadows: Vec<String>,
}

/// One policy's contribution to the shadows' run.
enum Given {
    /// A new answer of a shadow.
    Fresh(Reply, Step),
    /// The recorded answer of an enforced policy.
    Known(Step),
    /// A shadow that failed.
    Failed,
    /// No further answers are known from here on.
    End,
}

impl World<'_> {
    fn parts(&self) -> Vec<Part> {
        // A policy that a shadow would replace does not count here.
        let replaced = |part: &Part| {
            let name = |part: &Part| self.run.entry(part).policy.name().to_owned();
            let shadow = self.run.parts().iter().filter(|other| other.mode == StepMode::Shadow);
            part.mode != StepMode::Shadow
                && shadow.into_iter().any(|other| self.run.entry(other).replaces.as_ref() == Some(&name(part)))
        };
        self.run.parts().iter().filter(|part| !replaced(part)).cloned().collect()
    }

    fn ask(&mut self, part: &Part) -> Given {
        if part.mode == StepMode::Shadow {
            self.shadows.push(self.run.entry(part).policy.name().to_owned());
            let answer = self.run.ask(part);
            self.keep_first();
            return match answer {
                Some((reply, step)) => Given::Fresh(reply, step),
                None => Given::Failed,
            };
        }
        let name = self.run.entry(part).policy.name();
        match self.decision.steps.iter().find(|step| step.policy == name) {
            Some(step) => Given::Known(step.clone()),
            None => Given::End,
        }
    }

    /// Keeps the first refusal, because that is the one a user would see.
    fn keep_first(&mut self) {
        if let Some(refusal) = self.run.refusal.take() {
            self.first.get_or_insert(refusal);
        }
    }

    /// Returns whether an enforced policy refused or failed. That ends this run as it ended the decision.
    fn ended_by(&mut self, step: &Step) -> bool {
        let ended = step.denial.is_some() || step.error.is_some();
        if let (true, Outcome::Denied(refusal)) = (ended, &self.decision.outcome) {
            self.first.get_or_insert(refusal.clone());
        }
        ended
    }

    fn create(mut self, draft: &mut Draft, told: &mut BTreeSet<(String, String)>) -> Option<Decision> {
        let mut owned = self.run.owned(draft);
        self.run.see(draft.spec.clone());
        for part in self.parts() {
            self.run.see(draft.spec.clone());
            let (step, verdict, reply) = match self.ask(&part) {
                Given::Fresh(reply, step) => (step, reply.verdict.clone(), reply),
                Given::Known(step) => {
                    if self.ended_by(&step) {
                        break;
                    }
                    let verdict = known_verdict(&step);
                    (step, verdict.clone(), verdict.into())
                }
                Given::Failed => continue,
                Given::End => break,
            };
            let before = draft.clone();
            let reply = Reply { verdict, ..reply };
            if !self.run.merge_create(&part, reply, step, draft, &mut owned) {
                *draft = before;
            }
            self.keep_first();
        }
        if self.run.hook() == Hook::PreCreate && self.first.is_none() {
            let workspace = &self.decision.input.facts.workspace;
            let (invariants, mut paths) = (self.run.invariants(), HostPaths::of_host());
            let project = Path::new(&workspace.project);
            let found = invariants.violations(&draft.spec, &workspace.id, project, &mut paths);
            if found.is_empty() {
                invariants.resolve_sources(&mut draft.spec, &workspace.id, &mut paths);
            }
            if let Some(first) = found.first() {
                self.first =
                    Some(Refusal { policy: "host".into(), at: None, code: "invariant".into(), reason: first.clone() });
            }
            self.run.violations = found;
        }
        let differences = match &self.decision.outcome {
            Outcome::Allowed(spec) => {
                let was = spec.as_ref();
                let mut all = self.fields(was, &draft.spec, &diff(was, &draft.spec), |field| {
                    draft.owners.get(field).map(|owner| owner.policy.clone())
                });
                // The hooks of one create share the spec, so a difference reported at an earlier hook is not
                // repeated.
                all.retain(|one| told.insert((one.field.clone(), one.to.to_string())));
                all
            }
            _ => Vec::new(),
        };
        let outcome = Outcome::Allowed(Box::new(draft.spec.clone()));
        self.finish(outcome, differences)
    }

    fn exec(mut self, mut exec: ExecSpec) -> Option<Decision> {
        let mut owned = BTreeMap::new();
        for part in self.parts() {
            self.run.see_exec(exec.clone());
            let (step, reply) = match self.ask(&part) {
                Given::Fresh(reply, step) => (step, reply),
                Given::Known(step) => {
                    if self.ended_by(&step) {
                        break;
                    }
                    let verdict = known_verdict(&step);
                    (step, verdict.into())
                }
                Given::Failed => continue,
                Given::End => break,
            };
            let before = exec.clone();
            if !self.run.merge_exec(&part, reply, step, &mut exec, &mut owned) {
                exec = before;
            }
            self.keep_first();
        }
        let differences = match &self.decision.outcome {
            Outcome::AllowedExec(was) => {
                self.fields(was, &exec, &diff_exec(was, &exec), |field| owned.get(field).cloned())
            }
            _ => Vec::new(),
        };
        self.finish(Outcome::AllowedExec(exec), differences)
    }

    fn collect(mut self) -> Option<Decision> {
        let (mut actions, mut differences) = (Vec::new(), Vec::new());
        for part in self.parts() {
            let entry = self.run.entry(&part);
            let (name, replaces) = (entry.policy.name().to_owned(), entry.replaces.clone());
            match self.ask(&part) {
                Given::Fresh(reply, step) => {
                    let Some((wanted, _)) = self.run.merge_actions(reply, step) else { continue };
                    let of = |step: &&Step| Some(&step.policy) == replaces.as_ref();
                    let was = self.decision.steps.iter().find(of).map(|step| step.actions.clone()).unwrap_or_default();
                    if was != wanted {
                        differences.push(Difference {
                            policy: name.clone(),
                            field: "actions".into(),
                            from: json!(was),
                            to: json!(wanted),
                            about: None,
                        });
                    }
                    actions.extend(wanted.into_iter().map(|action| (name.clone(), action)));
                }
                Given::Known(step) => {
                    actions.extend(step.actions.iter().map(|action| (name.clone(), action.clone())));
                }
                Given::Failed | Given::End => {}
            }
        }
        self.finish(Outcome::Actions { actions, delay_ms: 0 }, differences)
    }

    fn sweep(mut self, said: &[(String, Vec<SweepVerdict>)]) -> Option<Decision> {
        let Subject::Sweep(facts) = &self.decision.input.subject else { return None };
        let kinds: BTreeMap<_, _> = facts.candidates.iter().map(|one| (one.id.clone(), one.kind)).collect();
        let known: BTreeMap<_, _> = facts.candidates.iter().map(|one| (one.id.clone(), one.clone())).collect();
        let mut merged = BTreeMap::new();
        for part in self.parts() {
            match self.ask(&part) {
                Given::Fresh(reply, step) => {
                    let verdicts = self.run.merge_verdicts(&part, reply, step, &known);
                    merge_sweep(&mut merged, verdicts.unwrap_or_default());
                }
                Given::Known(step) => {
                    let of = said.iter().filter(|(policy, _)| *policy == step.policy);
                    of.for_each(|(_, verdicts)| merge_sweep(&mut merged, verdicts.clone()));
                }
                Given::Failed | Given::End => {}
            }
        }
        let failed = |steps: &[Step]| steps.iter().any(|step| step.error.is_some());
        if failed(&self.run.steps) || failed(&self.decision.steps) {
            merged.clear();
        }
        let Outcome::Sweep(was) = &self.decision.outcome else { return None };
        let choice = |of: Option<&SweepVerdict>| of.map_or(SweepChoice::Keep, |verdict| verdict.choice);
        let mut differences = Vec::new();
        for (id, kind) in &kinds {
            let (from, to) = (choice(was.iter().find(|verdict| verdict.id == *id)), choice(merged.get(id)));
            if from != to {
                let by = merged.get(id).map(|verdict| verdict.by.clone()).filter(|by| self.shadows.contains(by));
                differences.push(Difference {
                    policy: by.or_else(|| self.shadows.first().cloned()).unwrap_or_default(),
                    field: serde_json::to_value(kind)
                        .ok()
                        .and_then(|k| k.as_str().map(str::to_owned))
                        .unwrap_or_default(),
                    from: json!(from),
                    to: json!(to),
                    about: Some(id.clone()),
                });
            }
        }
        self.finish(Outcome::Sweep(merged.into_values().collect()), differences)
    }

    /// Returns the fields that differ, each with the responsible shadow.
    fn fields<T: serde::Serialize>(
        &self,
        was: &T,
        is: &T,
        edits: &[Adjustment],
        owner: impl Fn(&str) -> Option<String>,
    ) -> Vec<Difference> {
        let json = |value: &T| serde_json::to_value(value).unwrap_or_default();
        let (was, is) = (json(was), json(is));
        let one = |edit: &Adjustment| {
            let field = edit.field();
            // A field that is no longer set was set by the policy that a shadow would replace.
            let of_replaced = || {
                let by = |step: &&Step| step.fields.contains(&field);
                let replaced = &self.decision.steps.iter().find(by)?.policy;
                self.run.replacer(replaced)
            };
            let shadow = owner(&field).filter(|name| self.shadows.contains(name)).or_else(of_replaced);
            let at = |json: &Value| match &field {
                field if field == "image" => lookup(json, "image.reference").unwrap_or_default(),
                field => lookup(json, field).unwrap_or_default(),
            };
            Difference {
                policy: shadow.or_else(|| self.shadows.first().cloned()).unwrap_or_default(),
                from: at(&was),
                to: at(&is),
                field,
                about: None,
            }
        };
        edits.iter().map(one).collect()
    }

    fn finish(mut self, outcome: Outcome, mut differences: Vec<Difference>) -> Option<Decision> {
        if self.shadows.is_empty() {
            return None;
        }
        let word = |refusal: Option<&Refusal>| match refusal {
            Some(refusal) => json!(format!("denied: {} by {}", refusal.code, refusal.policy)),
            None => json!("allowed"),
        };
        let was = match &self.decision.outcome {
            Outcome::Denied(refusal) => Some(refusal),
            _ => None,
        };
        let (from, to) = (word(was), word(self.first.as_ref()));
        if from != to {
            let shadow = |name: Option<&String>| name.filter(|name| self.shadows.contains(name)).cloned();
            let by = shadow(self.first.as_ref().map(|refusal| &refusal.policy));
            let lifted = was.and_then(|refusal| self.run.replacer(&refusal.policy));
            differences.push(Difference {
                policy: by.or(lifted).or_else(|| self.shadows.first().cloned()).unwrap_or_default(),
                field: "outcome".into(),
                from,
                to,
                about: self.first.as_ref().or(was).map(|refusal| refusal.reason.clone()),
            });
        }
        self.run.steps.retain(|step| step.mode == StepMode::Shadow);
        let outcome = self.first.take().map_or(outcome, Outcome::Denied);
        let mut record = self.run.finish(outcome);
        // Its input is the decision's input, regardless of later changes in this run.
        record.input = self.decision.input.clone();
        record.shadow_of = Some(self.decision.id);
        record.differences = differences;
        Some(record)
    }
}

/// Reconstructs the verdict of an enforced policy at create or exec from its step.
fn known_verdict(step: &Step) -> Verdict {
    match &step.denial {
        Some(denial) => Verdict::Deny(Denial { reason: denial.reason.clone(), code: denial.code.clone() }),
        None if step.adjustments.is_empty() => Verdict::Pass,
        None => Verdict::Adjust(step.adjustments.clone()),
    }
}
