//! The chain: one ordered list of policies, with plugins and scripts mixed.
//!
//! Each policy sees the spec with all earlier adjustments. If one policy set a field and another wants a different
//! value, this is a conflict, and the create is refused, unless the later policy's entry says `may_override`. At
//! `security-profile` there are no conflicts: every adjustment must tighten (see `floor`), so the order cannot
//! matter. The idea of an owner per field comes from containerd's NRI (pkg/adaptation/result.go).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Draft, Refusal, Waiver, glob};
use super::redact::SecretNames;
use super::validate::{HostPaths, Invariants, Sight};
use super::{
    Action, Candidate, Decision, Facts, FailureMode, Hook, HookRequest, ImageConfig, Outcome, Policy, Subject,
    SweepChoice, SweepVerdict,
};

/// Maximum number of adjustments or actions in one answer.
const MOST_EDITS: usize = 1_000;
/// Maximum wait that `pre-stop` may request, in milliseconds.
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

/// A policy in its place in the chain: the policy and all settings of its config entry.
#[derive(Clone)]
pub struct Entry {
    /// The loaded policy.
    pub policy: Arc<dyn Policy>,
    /// The hooks at which it is called: a subset of the hooks that it implements.
    pub hooks: Vec<Hook>,
    /// The workspaces for which it is called.
    pub scope: Scope,
    /// Fields (or groups such as `env`) that it may set even if another policy owns them.
    pub may_override: Vec<String>,
    /// SHA-256 (hex) of its settings as canonical JSON.
    pub settings_digest: String,
    /// Whether its verdicts count.
    pub mode: Mode,
    /// The policy that it replaces wherever its own verdicts count.
    pub replaces: Option<String>,
    /// The fields that it may loosen.
    pub waivers: Vec<Waiver>,
    /// The meaning of its failure at hooks that offer a choice.
    pub on_error: BTreeMap<Hook, FailureMode>,
    /// When calls of it are suspended for a while.
    pub breaker: BreakerLimits,
    /// When a canary becomes a shadow again.
    pub rollback: RollbackLimits,
}

impl Entry {
    /// Creates an entry for a policy with all of its hooks, for all workspaces, with default settings.
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

    /// Returns the version that its standing refers to: its bytes and its settings.
    pub fn version(&self) -> String {
        format!("{}/{}", self.policy.digest(), self.settings_digest)
    }
}

/// The workspaces for which a policy is called; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Labels that the workspace must all have; a value may be a glob.
    pub labels: BTreeMap<String, String>,
    /// Globs of which one must match the project's absolute path.
    pub projects: Vec<String>,
}

impl Scope {
    /// Returns whether a workspace is in scope.
    pub fn holds(&self, facts: &Facts) -> bool {
        self.has(&facts.workspace.labels, &facts.workspace.project)
    }

    /// Returns whether an object of a sweep is in scope. An object that is not a workspace has no project.
    pub fn holds_candidate(&self, candidate: &Candidate) -> bool {
        self.has(&candidate.labels, &candidate.project)
    }

    fn has(&self, labels: &BTreeMap<String, String>, project: &str) -> bool {
        self.labels.iter().all(|(name, pattern)| labels.get(name).is_some_and(|value| glob(pattern, value)))
            && (self.projects.is_empty() || self.projects.iter().any(|pattern| glob(pattern, project)))
    }
}

/// All policies, in order, and the invariants that are checked after them.
#[derive(Clone)]
pub struct Chain {
    entries: Arc<Vec<Entry>>,
    invariants: Arc<Invariants>,
    standings: Option<Arc<dyn Standings>>,
    pins: Option<Arc<Pins>>,
    secrets: Arc<Known>,
    sight: Option<Arc<Sight>>,
}

/// Secrets that are hidden from policies but may still appear in their output.
#[derive(Default)]
struct Known {
    names: SecretNames,
    values: BTreeSet<String>,
}

/// The host's part between the choice of an image and the later hooks.
pub type Chosen<'a> = dyn FnMut(&mut Draft) -> Result<Option<ImageConfig>, Refusal> + 'a;

/// The decision of the three create hooks.
pub struct CreateDecision {
    /// The spec with its owners and history, up to the point that the hooks reached.
    pub draft: Draft,
    /// One decision per hook that ran.
    pub decisions: Vec<Decision>,
    /// The refusal, if any.
    pub refusal: Option<Refusal>,
    /// The shadows to call after the decisions are recorded.
    pub shadows: Option<Box<Shadows>>,
}

/// The decision of one hook, and the shadows to call after it is recorded.
pub struct Ruling {
    /// The record.
    pub decision: Decision,
    /// None if no shadow is called.
    pub shadows: Option<Box<Shadows>>,
}

impl Chain {
    /// Combines policies and invariants to a chain.
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

    /// Returns the same chain with redaction: its log lines, failures and standings contain none of these values, and
    /// no values that a policy sets under these names.
    pub fn knowing(self, names: &SecretNames, values: &[String]) -> Self {
        let known = Known { names: names.clone(), values: values.iter().cloned().collect() };
        Self { secrets: Arc::new(known), ..self }
    }

    /// Returns the same chain with invariants that reveal nothing of the host to a caller except this.
    pub fn seeing(self, sight: Sight) -> Self {
        Self { sight: Some(Arc::new(sight)), ..self }
    }

    /// Returns the same chain with access to the standings of its policies, which it reads and updates.
    pub fn with_standings(self, standings: Arc<dyn Standings>) -> Self {
        Self { standings: Some(standings), ..self }
    }

    fn standings(&self) -> Option<&dyn Standings> {
        self.standings.as_deref()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of_store(self.standings().filter(|_| self.pins.is_none()))
    }

    /// Returns the same chain with only these policies.
    ///
    /// # Errors
    /// The name of a policy that the chain does not have.
    pub fn only(&self, names: &[String]) -> Result<Self, String> {
        let has = |name: &str| self.entries.iter().any(|entry| entry.policy.name() == name);
        if let Some(unknown) = names.iter().find(|name| !has(name)) {
            let all: Vec<_> = self.entries.iter().map(|entry| entry.policy.name()).collect();
            return Err(format!("the chain has no policy '{unknown}'; its policies are {}", all.join(", ")));
        }
        let wanted = |entry: &&Entry| names.iter().any(|name| name == entry.policy.name());
        let entries = self.entries.iter().filter(wanted).cloned().collect();
        Ok(Self { entries: Arc::new(entries), ..self.clone() })
    }

    /// Returns the policies, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Prepares the policies of these hooks, last one first: a concurrent caller starts at the other end.
    pub fn prepare(&self, hooks: &[Hook]) {
        for entry in self.entries.iter().rev() {
            if entry.hooks.iter().any(|hook| hooks.contains(hook)) {
                entry.policy.prepare();
            }
        }
    }

    /// Returns whether any policy is called at a hook for a workspace.
    pub fn asks(&self, hook: Hook, facts: &Facts) -> bool {
        self.entries.iter().any(|entry| entry.hooks.contains(&hook) && entry.concerns(hook, facts))
    }

    /// Returns the project files that the policies want to read.
    pub fn wanted_files(&self) -> BTreeSet<String> {
        self.entries.iter().flat_map(|entry| entry.policy.wanted_files()).cloned().collect()
    }

    /// Runs `select-image`, `security-profile` and `pre-create` on a draft, then checks the invariants.
    pub fn decide_create(&self, draft: Draft, facts: &Arc<Facts>, requested: bool, now_ms: u64) -> CreateDecision {
        self.decide_create_with(draft, facts, (requested, now_ms), &mut |_| Ok(None))
    }

    /// Does the same as [`Chain::decide_create`], with the host's part once the image is chosen: `chosen` fills in
    /// the values that depend on the image, and returns the image's configuration for the policies. `asked` holds
    /// whether the request names the image, and the time.
    pub fn decide_create_with(
        &self,
        draft: Draft,
        facts: &Arc<Facts>,
        asked: (bool, u64),
        chosen: &mut Chosen<'_>,
    ) -> CreateDecision {
        let snapshot = self.snapshot();
        // Only needed for shadows.
        let began = self.entries.iter().any(|entry| entry.mode != Mode::Enforce).then(|| draft.clone());
        let (mut result, shadows) = self.create(draft, facts, asked, chosen, &snapshot);
        result.shadows = shadows.then(|| Shadows::of(self, &snapshot, began, result.decisions.clone(), Vec::new()));
        result
    }

    /// Does the same without the shadows. Also returns whether there are shadows to call.
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
                // The floor starts with the values that depend on the image.
                began.clone_from(&draft.spec);
            }
        }
        (CreateDecision { draft, decisions, refusal: None, shadows: None }, shadows)
    }

    /// Runs `pre-exec` on a command.
    pub fn decide_exec(&self, request: HookRequest) -> Ruling {
        let snapshot = self.snapshot();
        let mut run = Run::with(self, request.clone(), snapshot.clone()).traced();
        let Subject::Exec(mut exec) = request.subject else {
            let refusal = Refusal {
                policy: "host".into(),
                at: None,
                code: "internal".into(),
                reason: "pre-exec was asked without a command; this is a bug in Wharf".into(),
            };
            return Ruling { decision: run.finish(Outcome::Denied(refusal)), shadows: None };
        };
        let shadows = shadow::any(run.parts());
        run.exec(&mut exec);
        let outcome = run.refusal.clone().map_or(Outcome::AllowedExec(exec), Outcome::Denied);
        self.with_shadows(run.finish(outcome), &snapshot, shadows, Vec::new())
    }

    /// Runs `post-start`, `pre-stop` or `event`: collects the actions of all policies, in order. A failed policy
    /// appears in the steps with its error, which has the meaning of the hook's failure mode.
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
            // A failure that means a stop adds an action.
            if let Some(error) = step.error.as_ref().filter(|error| error.means == Some(FailureMode::Stop)) {
                let why = format!("the {} '{}' failed: {}", step.kind.as_str(), step.policy, error.message);
                actions.push((step.policy.clone(), Action::Stop(why)));
            }
        }
        self.with_shadows(run.finish(Outcome::Actions { actions, delay_ms }), &snapshot, shadows, Vec::new())
    }

    /// Runs `cleanup`: any keep wins, and a failed policy keeps all objects.
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

/// Merges verdicts of a sweep: any keep wins, and between stop and remove the milder choice wins.
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
