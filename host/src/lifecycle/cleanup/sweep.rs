//! Sweeps: policies decide which objects are removed, and removals happen after a grace period in which people can undo
//! them.
//!
//! A removal needs a positive verdict and no veto, twice: when it is planned, and when its grace period is over.
//! Between the verdict and the removal the object is checked again, under its lock: an object that was used meanwhile
//! stays. When a policy fails, everything stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hooks::redact::Values;
use crate::hooks::{
    CandidateKind, Decision, Facts, Hook, HookRequest, LocalTime, Outcome, Subject, SweepChoice, SweepFacts,
    SweepVerdict,
};
use crate::lifecycle::cleanup::facts::{Found, Object};
use crate::lifecycle::run::stop::{Alive, lives};
use crate::lifecycle::{Error, Lifecycle, now_ms};
use crate::store::{LedgerAction, LedgerEntry, LedgerState};
use crate::workspace::{ContainerSpec, State, WorkspaceId};

/// The outcome in the ledger of a running removal.
const BEGUN: &str = "being removed";

/// The result of a sweep, or of a dry run.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct SweepReport {
    /// One line per object of this installation.
    pub lines: Vec<SweepLine>,
    /// The reason that nothing is removed, when a policy failed.
    pub failed: Option<String>,
    /// Free bytes on the engine's disk; null for an engine on another machine.
    pub disk_free: Option<u64>,
}

/// An object of this installation, and its treatment.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct SweepLine {
    /// Workspace, image, volume or network.
    pub kind: CandidateKind,
    /// A workspace's id, or e.g. `volume:pgdata`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// State of a workspace.
    pub state: Option<State>,
    /// Whether it runs, or is used by a container.
    pub used: bool,
    /// Bytes that its removal frees; null when they were not measured.
    pub bytes: Option<u64>,
    /// The verdict of the policies.
    pub choice: SweepChoice,
    /// The reason.
    pub reason: String,
    /// The policy with this verdict; null when none named it, which keeps it.
    pub policy: Option<String>,
    /// Number in the ledger, once an action is planned or done.
    pub entry: Option<i64>,
    /// Time of its planned removal.
    pub due: Option<Timestamp>,
    /// Null for a dry run.
    pub outcome: Option<SweepOutcome>,
    /// The cause of a failure.
    pub error: Option<String>,
}

/// The outcome of a sweep for one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SweepOutcome {
    /// Nothing was done.
    Kept,
    /// Its removal is planned.
    Planned,
    /// It was stopped.
    Stopped,
    /// It was removed.
    Removed,
    /// A person undid a sweep of it, so that sweeps leave it alone.
    Protected,
    /// The sweep failed at it, and goes on with the others.
    Failed,
}

impl SweepOutcome {
    /// Returns the word in JSON and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Planned => "planned",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
            Self::Protected => "protected",
            Self::Failed => "failed",
        }
    }
}

impl Lifecycle {
    /// Returns the facts of a sweep besides its subject, at the same local time.
    fn facts_beside(&self, sweep: &SweepFacts) -> Facts {
        let local_time = LocalTime { minute: sweep.local_minute, weekday: sweep.local_weekday };
        Facts { caller: Some(self.caller()), local_time: Some(local_time), ..Facts::default() }
    }

    /// Evaluates the policies on every object of this installation. Unless it is a dry run, it stops workspaces, plans
    /// removals, and carries out removals that were planned at least `grace` ago (0 removes at once).
    ///
    /// # Errors
    /// When another process sweeps, or when the engine or the store fails. The failure for one object is in its line.
    pub async fn sweep(&self, dry_run: bool, grace: Duration) -> Result<SweepReport, Error> {
        let _alone = match self.store.try_lock_sweeps()? {
            Some(lock) => lock,
            None => return Err(crate::store::Error::Locked("a sweep".into()).into()),
        };
        let (mut facts, found, values) = self.sweep_facts(!dry_run).await?;
        for candidate in &mut facts.candidates {
            self.secrets.redact_env(&mut candidate.labels);
        }
        let disk_free = (facts.disk_total > 0).then_some(facts.disk_free);
        let request = HookRequest {
            hook: Hook::Cleanup,
            now_ms: now_ms(),
            facts: Arc::new(self.facts_beside(&facts)),
            spec: ContainerSpec::empty(),
            subject: Subject::Sweep(facts),
        };
        let ruling = self.decide_without(request, &values, |chain, request| chain.sweep(request)).await?;
        let (mut decisions, shadows) = ([ruling.decision], ruling.shadows);
        if let [Decision { outcome: Outcome::Sweep(verdicts), .. }] = &mut decisions {
            // The reasons go into the ledger and to the caller.
            let known = Values::of(&values);
            verdicts.iter_mut().for_each(|verdict| known.clean(&mut verdict.reason));
        }
        if !dry_run {
            self.record_without(&mut decisions, shadows, &values)?;
        }
        let [decision] = decisions;
        let failed = decision.steps.iter().find_map(|step| {
            let error = step.error.as_ref()?;
            Some(format!("the {} '{}' failed: {}", step.kind.as_str(), step.policy, error.message))
        });
        let mut verdicts: BTreeMap<String, SweepVerdict> = match decision.outcome {
            Outcome::Sweep(verdicts) => verdicts.into_iter().map(|verdict| (verdict.id.clone(), verdict)).collect(),
            _ => BTreeMap::new(),
        };
        if !dry_run {
            self.end_begun(&found)?;
        }
        let pending = self.store.ledger(Some(LedgerState::Pending), u32::MAX)?;
        spare_sidecars(&found, &mut verdicts, &self.store.ledger(Some(LedgerState::Undone), u32::MAX)?);
        let mut lines = Vec::new();
        for found in &found {
            self.check_interrupt()?;
            let planned = pending.iter().find(|entry| removes(entry, found));
            let mut line = line(found, verdicts.remove(&found.candidate.id), failed.as_deref());
            line.entry = planned.map(|entry| entry.id);
            line.due = planned.map(|entry| entry.due);
            if line.choice != SweepChoice::Keep && self.is_protected(found)? {
                protect(&mut line);
            } else if !dry_run {
                line.outcome = Some(match self.carry_out(found, &mut line, planned, grace).await {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        tracing::warn!("cannot clean up {}: {error}", line.id);
                        line.error = Some(error.to_string());
                        SweepOutcome::Failed
                    }
                });
            }
            lines.push(line);
        }
        if !dry_run {
            let there = |entry: &LedgerEntry| {
                found.iter().any(|found| entry.object == found.candidate.id && entry.identity == found.identity)
            };
            for entry in pending.iter().filter(|entry| !there(entry)) {
                let cancelled = (LedgerState::Pending, LedgerState::Cancelled);
                self.store.ledger_turn(entry.id, cancelled, Some("it was already gone"))?;
            }
            self.store.ledger_forget()?;
        }
        let report = SweepReport { lines, failed, disk_free };
        if let (Some(observer), false) = (self.observer.get(), dry_run) {
            observer.swept(&report);
        }
        Ok(report)
    }

    async fn carry_out(
        &self,
        found: &Found,
        line: &mut SweepLine,
        planned: Option<&LedgerEntry>,
        grace: Duration,
    ) -> Result<SweepOutcome, Error> {
        let cancelled = (LedgerState::Pending, LedgerState::Cancelled);
        let cancel = |why: &str| match planned {
            Some(entry) => self.store.ledger_turn(entry.id, cancelled, Some(why)),
            None => Ok(false),
        };
        match line.choice {
            SweepChoice::Keep => {
                cancel(&line.reason)?;
                Ok(SweepOutcome::Kept)
            }
            SweepChoice::Stop => {
                cancel("the policies now only stop it")?;
                match &found.object {
                    Object::Workspace(id) if found.candidate.used => self.sweep_stop(id, found, line).await,
                    _ => Ok(SweepOutcome::Kept),
                }
            }
            SweepChoice::Remove if !found.candidate.used => self.plan_or_remove(found, line, planned, grace).await,
            SweepChoice::Remove => {
                let Object::Workspace(id) = &found.object else {
                    cancel("it is in use")?;
                    "it is in use".clone_into(&mut line.reason);
                    line.choice = SweepChoice::Keep;
                    return Ok(SweepOutcome::Kept);
                };
                match self.sweep_stop(id, found, line).await? {
                    SweepOutcome::Stopped => {}
                    SweepOutcome::Removed => {
                        if let Some(entry) = planned {
                            let done = (LedgerState::Pending, LedgerState::Done);
                            self.store.ledger_turn(entry.id, done, Some("removed"))?;
                        }
                        return Ok(SweepOutcome::Removed);
                    }
                    other => return Ok(other),
                }
                // A stop may take long. If the plan was undone meanwhile, the workspace is started again.
                if self.is_protected(found)? {
                    protect(line);
                    return Ok(SweepOutcome::Protected);
                }
                self.plan_or_remove(found, line, planned, grace).await
            }
        }
    }

    /// Plans the removal of an object that is not in use, or removes it when its grace period is over.
    async fn plan_or_remove(
        &self,
        found: &Found,
        line: &mut SweepLine,
        planned: Option<&LedgerEntry>,
        grace: Duration,
    ) -> Result<SweepOutcome, Error> {
        let now = Timestamp::now();
        let (entry, due) = match planned {
            Some(entry) => (entry.id, entry.due),
            None => {
                let due = now.saturating_add(jiff::SignedDuration::try_from(grace).unwrap_or_default());
                let due = due.unwrap_or(Timestamp::MAX);
                (self.store.ledger_add(&entry_of(found, line, LedgerAction::Remove, now, due))?, due)
            }
        };
        (line.entry, line.due) = (Some(entry), Some(due));
        if due > now && !grace.is_zero() {
            return Ok(SweepOutcome::Planned);
        }
        // From here on the removal cannot be undone; it may have been undone before.
        let (pending, done) = (LedgerState::Pending, LedgerState::Done);
        if !self.store.ledger_turn(entry, (pending, done), Some(BEGUN))? {
            protect(line);
            return Ok(SweepOutcome::Protected);
        }
        match self.sweep_remove(found).await {
            Ok(true) => {
                self.store.ledger_turn(entry, (done, done), Some("removed"))?;
                Ok(SweepOutcome::Removed)
            }
            Ok(false) => {
                let cancelled = (done, LedgerState::Cancelled);
                self.store.ledger_turn(entry, cancelled, Some("it was used since"))?;
                Ok(SweepOutcome::Kept)
            }
            Err(error) => {
                self.store.ledger_turn(entry, (done, pending), None)?;
                Err(error)
            }
        }
    }

    /// Records the outcome of a removal whose process died.
    fn end_begun(&self, found: &[Found]) -> Result<(), Error> {
        let done = self.store.ledger(Some(LedgerState::Done), u32::MAX)?;
        for entry in done.iter().filter(|entry| entry.outcome.as_deref() == Some(BEGUN)) {
            let (to, outcome) = match found.iter().any(|found| removes(entry, found)) {
                true => (LedgerState::Cancelled, "it was interrupted"),
                false => (LedgerState::Done, "removed"),
            };
            self.store.ledger_turn(entry.id, (LedgerState::Done, to), Some(outcome))?;
        }
        Ok(())
    }

    /// Returns whether the removal of an object was undone.
    fn is_protected(&self, found: &Found) -> Result<bool, Error> {
        Ok(self.store.ledger(Some(LedgerState::Undone), u32::MAX)?.iter().any(|entry| removes(entry, found)))
    }

    /// Stops a workspace, unless it was used or the sweep's plan was undone since the policies were evaluated. Returns
    /// the outcome.
    async fn sweep_stop(&self, id: &WorkspaceId, found: &Found, line: &mut SweepLine) -> Result<SweepOutcome, Error> {
        let _lock = self.lock(id).await?;
        if self.is_protected(found)? {
            protect(line);
            return Ok(SweepOutcome::Protected);
        }
        if self.went_with_its_workspace(id, found).await? {
            return Ok(SweepOutcome::Removed);
        }
        if !self.is_as_before(id, found).await? {
            return Ok(SweepOutcome::Kept);
        }
        self.stop_with_sidecars(id, "stop", None).await?;
        let by = line.policy.as_deref().unwrap_or_default();
        let note = format!("stopped by a sweep: {} ({by})", line.reason);
        self.store.update_workspace(id, |stored| stored.notes.push(note))?;
        let now = Timestamp::now();
        let mut entry = entry_of(found, line, LedgerAction::Stop, now, now);
        (entry.state, entry.ended) = (LedgerState::Done, Some(now));
        entry.outcome = Some("stopped".into());
        line.entry = Some(self.store.ledger_add(&entry)?);
        Ok(SweepOutcome::Stopped)
    }

    /// Returns whether a workspace is the one that the policies judged, and was not used since.
    async fn is_as_before(&self, id: &WorkspaceId, found: &Found) -> Result<bool, Error> {
        let container = self.container(id).await?;
        let activity = self.store.workspace(id)?.and_then(|stored| stored.last_activity);
        let activity = activity.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        Ok(container.map(|container| container.id).unwrap_or_default() == found.identity
            && activity == found.candidate.last_activity_ms)
    }

    /// Returns whether it is a sidecar that was removed with its workspace, by the same sweep or another client.
    async fn went_with_its_workspace(&self, id: &WorkspaceId, found: &Found) -> Result<bool, Error> {
        Ok(found.part_of.is_some() && self.container(id).await?.is_none() && self.store.workspace(id)?.is_none())
    }

    /// Removes an object if it is still the one that the policies judged. Returns whether it did.
    async fn sweep_remove(&self, found: &Found) -> Result<bool, Error> {
        match &found.object {
            Object::Workspace(id) => {
                let _lock = self.lock(id).await?;
                if self.went_with_its_workspace(id, found).await? {
                    return Ok(true);
                }
                if !self.is_as_before(id, found).await? || self.container(id).await?.is_some_and(|c| lives(&c)) {
                    return Ok(false);
                }
                self.remove_locked(id, Alive::Refuse, false).await?;
                Ok(true)
            }
            Object::Image(name) => {
                if self.docker.image(name).await?.is_none_or(|image| image.id != found.identity) {
                    return Ok(false);
                }
                self.sweep_image(name, &found.identity).await?;
                self.store.forget_pulled_image(name)?;
                Ok(true)
            }
            Object::Volume(name) => {
                let created = self.docker.volume(name).await?.map(|volume| volume.created_at);
                let identity = created.map(|time| time.map(|time| time.to_string()).unwrap_or_default());
                if identity.as_ref() != Some(&found.identity) {
                    return Ok(false);
                }
                Ok(self.docker.remove_volume(name).await?)
            }
            Object::Network(name) => {
                let _networks = self.lock_networks(true).await?;
                Ok(self.docker.remove_network_if_unused(name).await?)
            }
        }
    }
}

/// Returns whether an entry is about the removal of this very object.
fn removes(entry: &LedgerEntry, found: &Found) -> bool {
    entry.object == found.candidate.id && entry.identity == found.identity && entry.action == LedgerAction::Remove
}

/// A workspace is removed with its sidecars, so it gets the mildest verdict among theirs and its own. A sidecar that
/// must be kept, or whose removal was undone, is thus not lost with its workspace. A sidecar that no policy names
/// prevents the removal, but not a stop. A sidecar without a container has nothing to lose.
fn spare_sidecars(found: &[Found], verdicts: &mut BTreeMap<String, SweepVerdict>, protected: &[LedgerEntry]) {
    let remove = |(id, verdict): (&String, &SweepVerdict)| (verdict.choice == SweepChoice::Remove).then(|| id.clone());
    let removed: BTreeSet<String> = verdicts.iter().filter_map(remove).collect();
    for part in found {
        let (Some(parent), candidate) = (&part.part_of, &part.candidate) else { continue };
        let own = verdicts.get(&candidate.id);
        let (most, reason) = match own {
            _ if protected.iter().any(|entry| removes(entry, part)) => (SweepChoice::Keep, "its removal was undone"),
            Some(verdict) if verdict.choice == SweepChoice::Remove => continue,
            Some(verdict) => (verdict.choice, &*verdict.reason),
            None if part.identity.is_empty() => continue,
            None if !removed.contains(parent.as_str()) => continue,
            None => (SweepChoice::Keep, "no policy names it"),
        };
        let spared = format!("its sidecar {} is kept: {reason}", candidate.name);
        let by = own.map(|verdict| verdict.by.clone());
        if let Some(verdict) = verdicts.get_mut(parent.as_str()).filter(|verdict| verdict.choice > most) {
            (verdict.choice, verdict.reason) = (most, spared);
            verdict.by = by.unwrap_or_else(|| std::mem::take(&mut verdict.by));
        }
    }
}

fn protect(line: &mut SweepLine) {
    line.outcome = Some(SweepOutcome::Protected);
    line.due = None;
}

fn line(found: &Found, verdict: Option<SweepVerdict>, failed: Option<&str>) -> SweepLine {
    let candidate = &found.candidate;
    let (choice, reason, policy) = match verdict {
        Some(verdict) => (verdict.choice, verdict.reason, Some(verdict.by)),
        None => (SweepChoice::Keep, failed.unwrap_or("no policy names it").to_owned(), None),
    };
    SweepLine {
        kind: candidate.kind,
        id: candidate.id.clone(),
        name: candidate.name.clone(),
        state: candidate.state,
        used: candidate.used,
        bytes: candidate.size,
        choice,
        reason,
        policy,
        entry: None,
        due: None,
        outcome: None,
        error: None,
    }
}

fn entry_of(found: &Found, line: &SweepLine, action: LedgerAction, planned: Timestamp, due: Timestamp) -> LedgerEntry {
    let kind = match line.kind {
        CandidateKind::Workspace => "workspace",
        CandidateKind::Image => "image",
        CandidateKind::Volume => "volume",
        CandidateKind::Network => "network",
    };
    LedgerEntry {
        id: 0,
        kind: kind.to_owned(),
        object: line.id.clone(),
        name: line.name.clone(),
        identity: found.identity.clone(),
        action,
        reason: line.reason.clone(),
        policy: line.policy.clone().unwrap_or_default(),
        bytes: line.bytes,
        planned,
        due,
        state: LedgerState::Pending,
        ended: None,
        outcome: None,
    }
}
