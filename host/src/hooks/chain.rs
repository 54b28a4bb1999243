//! The chain: one ordered list of policies, plugins and scripts mixed.
//!
//! Each policy sees the spec as adjusted so far. A field that one policy set and another wants to set to a different
//! value is a conflict, and the create is refused, unless the later one's entry says `may_override`. At
//! `security-profile` there are no conflicts: every adjustment must tighten (see `floor`), so the order cannot matter.
//! The idea of an owner per field comes from containerd's NRI (pkg/adaptation/result.go).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Draft, Refusal, Waiver, glob};
use super::redact::SecretNames;
use super::validate::{HostPaths, Invariants, Sight};
use super::{
    Action, Candidate, Decision, Facts, FailureMode, Hook, HookRequest, ImageConfig, Outcome, Policy, Subject,
    SweepChoice, SweepVerdict,
};

/// Most adjustments or actions in one answer.
const MOST_EDITS: usize = 1_000;
/// Longest wait that `pre-stop` may ask for, in milliseconds.
const MOST_DELAY_MS: u32 = 60_000;

mod again;
mod mode;
mod run;
mod shadow;
mod standing;

use mode::Pins;
pub use mode::{Mode, in_share};
use run::Run;
pub use shadow::Shadows;
use standing::Snapshot;
pub use standing::{Breaker, BreakerLimits, LookedAt, RollbackLimits, RolledBack, Standing, Standings};

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
    /// Whether its verdicts count.
    pub mode: Mode,
    /// The policy whose place it takes where its own verdicts count.
    pub replaces: Option<String>,
    /// What it may loosen.
    pub waivers: Vec<Waiver>,
    /// What its failure means at hooks where that can be chosen.
    pub on_error: BTreeMap<Hook, FailureMode>,
    /// When it is not asked any more for a while.
    pub breaker: BreakerLimits,
    /// When a canary becomes a shadow again.
    pub rollback: RollbackLimits,
}

impl Entry {
    /// A policy with all of its hooks, for all workspaces, with nothing special about it.
    pub fn new(policy: Arc<dyn Policy>) -> Self {
        Self {
            hooks: policy.hooks().to_vec(),
            policy,
            scope: Scope::default(),
            may_override: Vec::new(),
            settings_digest: String::new(),
            mode: Mode::default(),
            replaces: None,
            waivers: Vec::new(),
            on_error: BTreeMap::new(),
            breaker: BreakerLimits::default(),
            rollback: RollbackLimits::default(),
        }
    }

    /// What its standing is about: its bytes and its settings.
    pub fn version(&self) -> String {
        format!("{}/{}", self.policy.digest(), self.settings_digest)
    }
}

/// Which workspaces a policy is asked about; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// The workspace has all these labels; a value may be a glob.
    pub labels: BTreeMap<String, String>,
    /// The project's absolute path matches one of these globs.
    pub projects: Vec<String>,
}

impl Scope {
    /// Whether a workspace is among them.
    pub fn holds(&self, facts: &Facts) -> bool {
        self.has(&facts.workspace.labels, &facts.workspace.project)
    }

    /// Whether an object of a sweep is among them. What is no workspace has no project.
    pub fn holds_candidate(&self, candidate: &Candidate) -> bool {
        self.has(&candidate.labels, &candidate.project)
    }

    fn has(&self, labels: &BTreeMap<String, String>, project: &str) -> bool {
        self.labels.iter().all(|(name, pattern)| labels.get(name).is_some_and(|value| glob(pattern, value)))
            && (self.projects.is_empty() || self.projects.iter().any(|pattern| glob(pattern, project)))
    }
}

/// All policies, in order, and the invariants that come after them.
#[derive(Clone)]
pub struct Chain {
    entries: Arc<Vec<Entry>>,
    invariants: Arc<Invariants>,
    standings: Option<Arc<dyn Standings>>,
    pins: Option<Arc<Pins>>,
    secrets: Arc<Known>,
    sight: Option<Arc<Sight>>,
}

/// Secrets that policies do not see, but may say all the same.
#[derive(Default)]
struct Known {
    names: SecretNames,
    values: BTreeSet<String>,
}

/// The host's say between the choice of an image and the hooks after it.
pub type Chosen<'a> = dyn FnMut(&mut Draft) -> Result<Option<ImageConfig>, Refusal> + 'a;

/// What the three create hooks decided.
pub struct CreateDecision {
    /// The spec with its owners and history, as far as it came.
    pub draft: Draft,
    /// One per hook that ran.
    pub decisions: Vec<Decision>,
    /// Why it is refused, if it is.
    pub refusal: Option<Refusal>,
    /// The shadows to ask once the decisions are recorded.
    pub shadows: Option<Box<Shadows>>,
}

/// What one hook decided, and the shadows to ask once that is recorded.
pub struct Ruling {
    /// The record.
    pub decision: Decision,
    /// None where no shadow is asked.
    pub shadows: Option<Box<Shadows>>,
}

impl Chain {
    /// Puts policies and invariants together.
    pub fn new(entries: Vec<Entry>, invariants: Invariants) -> Self {
        Self {
            entries: Arc::new(entries),
            invariants: Arc::new(invariants),
            standings: None,
            pins: None,
            secrets: Arc::default(),
            sight: None,
        }
    }

    /// The same chain, whose log lines, failures and standings have none of these values, and none that a policy sets under such
    /// a name.
    pub fn knowing(self, names: &SecretNames, values: &[String]) -> Self {
        let known = Known { names: names.clone(), values: values.iter().cloned().collect() };
        Self { secrets: Arc::new(known), ..self }
    }

    /// The same chain, whose invariants tell a caller nothing of the host beside this.
    pub fn seeing(self, sight: Sight) -> Self {
        Self { sight: Some(Arc::new(sight)), ..self }
    }

    /// The same chain, which knows how its policies have been doing, and remembers it.
    pub fn with_standings(self, standings: Arc<dyn Standings>) -> Self {
        Self { standings: Some(standings), ..self }
    }

    fn standings(&self) -> Option<&dyn Standings> {
        self.standings.as_deref()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of_store(self.standings().filter(|_| self.pins.is_none()))
    }

    /// The same chain with only these policies.
    ///
    /// # Errors
    /// The name of one that it has not.
    pub fn only(&self, names: &[String]) -> Result<Self, String> {
        let has = |name: &str| self.entries.iter().any(|entry| entry.policy.name() == name);
        if let Some(unknown) = names.iter().find(|name| !has(name)) {
            let all: Vec<_> = self.entries.iter().map(|entry| entry.policy.name()).collect();
            return Err(format!("the chain has no policy '{unknown}'; it has {}", all.join(", ")));
        }
        let wanted = |entry: &&Entry| names.iter().any(|name| name == entry.policy.name());
        let entries = self.entries.iter().filter(wanted).cloned().collect();
        Ok(Self { entries: Arc::new(entries), ..self.clone() })
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
        self.entries.iter().any(|entry| entry.hooks.contains(&hook) && entry.concerns(hook, facts))
    }

    /// The project files that policies of these hooks want to see.
    pub fn wanted_files(&self) -> BTreeSet<String> {
        self.entries.iter().flat_map(|entry| entry.policy.wanted_files()).cloned().collect()
    }

    /// Runs `select-image`, `security-profile` and `pre-create` over a draft, then the invariants.
    pub fn decide_create(&self, draft: Draft, facts: &Arc<Facts>, requested: bool, now_ms: u64) -> CreateDecision {
        self.decide_create_with(draft, facts, (requested, now_ms), &mut |_| Ok(None))
    }

    /// The same, with the host's say once the image is chosen: `chosen` fills in what the image decides, and gives what policies
    /// are told of it. `asked` is whether the request names the image, and the time.
    pub fn decide_create_with(
        &self,
        draft: Draft,
        facts: &Arc<Facts>,
        asked: (bool, u64),
        chosen: &mut Chosen<'_>,
    ) -> CreateDecision {
        let snapshot = self.snapshot();
        // Only a shadow needs it.
        let began = self.entries.iter().any(|entry| entry.mode != Mode::Enforce).then(|| draft.clone());
        let (mut result, shadows) = self.create(draft, facts, asked, chosen, &snapshot);
        result.shadows = shadows.then(|| Shadows::of(self, &snapshot, began, result.decisions.clone(), Vec::new()));
        result
    }

    /// The same without the shadows; says whether there are any to be asked.
    fn create(
        &self,
        mut draft: Draft,
        facts: &Arc<Facts>,
        (requested, now_ms): (bool, u64),
        chosen: &mut Chosen<'_>,
        snapshot: &Snapshot,
    ) -> (CreateDecision, bool) {
        let mut decisions = Vec::with_capacity(3);
        let mut facts = facts.clone();
        let mut began = draft.spec.clone();
        let mut shadows = false;
        for hook in Hook::CREATE {
            let subject = match hook {
                Hook::SelectImage => Subject::Image { requested },
                _ => Subject::Container,
            };
            let request = HookRequest { hook, now_ms, facts: facts.clone(), spec: draft.spec.clone(), subject };
            let run = Run::with(self, request, snapshot.clone()).began(began.clone()).traced();
            shadows |= shadow::any(run.parts());
            let (decision, refusal) = self.create_hook(run, &mut draft, HostPaths::of_host_in(self.sight.clone()));
            decisions.push(decision);
            if refusal.is_some() {
                return (CreateDecision { draft, decisions, refusal, shadows: None }, shadows);
            }
            if hook == Hook::SelectImage {
                match chosen(&mut draft) {
                    Ok(None) => {}
                    Ok(config) => facts = Arc::new(Facts { image_config: config, ..facts.as_ref().clone() }),
                    Err(refusal) => {
                        let refusal = Some(refusal);
                        return (CreateDecision { draft, decisions, refusal, shadows: None }, shadows);
                    }
                }
                // What the image decides is where the floor begins.
                began.clone_from(&draft.spec);
            }
        }
        (CreateDecision { draft, decisions, refusal: None, shadows: None }, shadows)
    }

    /// Runs `pre-exec` over a command.
    pub fn decide_exec(&self, request: HookRequest) -> Ruling {
        let snapshot = self.snapshot();
        let mut run = Run::with(self, request.clone(), snapshot.clone()).traced();
        let Subject::Exec(mut exec) = request.subject else {
            let refusal = Refusal {
                policy: "host".into(),
                at: None,
                code: "internal".into(),
                reason: "pre-exec was asked without a command; this is a defect of Wharf".into(),
            };
            return Ruling { decision: run.finish(Outcome::Denied(refusal)), shadows: None };
        };
        let shadows = shadow::any(run.parts());
        run.exec(&mut exec);
        let outcome = run.refusal.clone().map_or(Outcome::AllowedExec(exec), Outcome::Denied);
        self.with_shadows(run.finish(outcome), &snapshot, shadows, Vec::new())
    }

    /// Runs `post-start`, `pre-stop` or `event`: collects the actions of all policies, in order. A policy that fails
    /// stands in the steps with its error; what that means is the hook's failure mode.
    pub fn collect(&self, request: HookRequest) -> Ruling {
        let snapshot = self.snapshot();
        let mut run = Run::with(self, request, snapshot.clone()).traced();
        let shadows = shadow::any(run.parts());
        let (mut actions, mut delay_ms) = (Vec::new(), 0);
        for part in run.enforced() {
            let Some((reply, step)) = run.ask(&part) else { continue };
            let name = step.policy.clone();
            let Some((wanted, delay)) = run.merge_actions(reply, step) else { continue };
            delay_ms = delay_ms.max(delay);
            actions.extend(wanted.into_iter().map(|action| (name.clone(), action)));
        }
        for step in &run.steps {
            // A failure that means a stop is one more action.
            if let Some(error) = step.error.as_ref().filter(|error| error.means == Some(FailureMode::Stop)) {
                let why = format!("the {} '{}' failed: {}", step.kind.as_str(), step.policy, error.message);
                actions.push((step.policy.clone(), Action::Stop(why)));
            }
        }
        self.with_shadows(run.finish(Outcome::Actions { actions, delay_ms }), &snapshot, shadows, Vec::new())
    }

    /// Runs `cleanup`: any keep wins, and a policy that fails keeps everything.
    pub fn sweep(&self, request: HookRequest) -> Ruling {
        let known: BTreeMap<String, Candidate> = match &request.subject {
            Subject::Sweep(facts) => facts.candidates.iter().map(|one| (one.id.clone(), one.clone())).collect(),
            _ => BTreeMap::new(),
        };
        let snapshot = self.snapshot();
        let mut run = Run::with(self, request, snapshot.clone()).traced();
        let shadows = shadow::any(run.parts());
        let mut merged: BTreeMap<String, SweepVerdict> = BTreeMap::new();
        let mut said = Vec::new();
        for part in run.enforced() {
            let Some((reply, step)) = run.ask(&part) else { continue };
            let name = step.policy.clone();
            let Some(verdicts) = run.merge_verdicts(&part, reply, step, &known) else { continue };
            if shadows {
                said.push((name, verdicts.clone()));
            }
            merge_sweep(&mut merged, verdicts);
        }
        if run.steps.iter().any(|step| step.error.is_some()) {
            merged.clear();
        }
        let decision = run.finish(Outcome::Sweep(merged.into_values().collect()));
        self.with_shadows(decision, &snapshot, shadows, said)
    }

    fn with_shadows(
        &self,
        decision: Decision,
        snapshot: &Snapshot,
        shadows: bool,
        said: Vec<(String, Vec<SweepVerdict>)>,
    ) -> Ruling {
        let shadows = shadows.then(|| Shadows::of(self, snapshot, None, vec![decision.clone()], said));
        Ruling { decision, shadows }
    }
}

/// Merges verdicts about a sweep: any keep wins, and between stop and remove the milder one stands.
fn merge_sweep(merged: &mut BTreeMap<String, SweepVerdict>, verdicts: Vec<SweepVerdict>) {
    for verdict in verdicts {
        let stronger = |a: SweepChoice, b: SweepChoice| match (a, b) {
            (SweepChoice::Keep, _) => false,
            (_, SweepChoice::Keep) => true,
            (SweepChoice::Remove, SweepChoice::Stop) => true,
            _ => false,
        };
        match merged.get(&verdict.id) {
            Some(old) if !stronger(old.choice, verdict.choice) => {}
            _ => drop(merged.insert(verdict.id.clone(), verdict)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
