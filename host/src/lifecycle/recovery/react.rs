//! The hook `event`: policies are told what happened to a workspace, and what they ask for is done.

use crate::hooks::{Action, Decision, EventFacts, EventKind, FailureMode, Hook, Outcome, Subject};
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::{Event, Happening, WorkspaceId};
use crate::{docker, store};

/// Most notes of a workspace: an event can come again and again.
const MOST_NOTES: usize = 50;

/// What came of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaction {
    /// How many policies were asked.
    pub asked: usize,
    /// The policy that stopped the workspace, if one did.
    pub stopped_by: Option<String>,
    /// What failed, each in one line.
    pub failures: Vec<String>,
}

/// Events that policies are told.
fn kind(what: Happening) -> Option<EventKind> {
    Some(match what {
        Happening::Started => EventKind::Started,
        Happening::Exited => EventKind::Exited,
        Happening::OutOfMemory => EventKind::OutOfMemory,
        Happening::Healthy => EventKind::Healthy,
        Happening::Unhealthy => EventKind::Unhealthy,
        Happening::Threshold => EventKind::Threshold,
        _ => return None,
    })
}

impl Lifecycle {
    /// Runs the hook `event` for something that happened, and carries out its actions. What fails is kept with the
    /// workspace as a note; it prevents nothing.
    ///
    /// # Errors
    /// When the chain cannot be loaded, or the store fails: a decision that cannot be recorded is not carried out.
    pub async fn react(&self, event: &Event) -> Result<Reaction, Error> {
        let Some(kind) = kind(event.what) else { return Ok(Reaction::default()) };
        let id = &event.workspace;
        let chain = self.chain().await?;
        // A verb that is under way writes the workspace at its end; one that takes too long is not waited for.
        match self.lock(id).await {
            Ok(lock) => drop(lock),
            Err(Error::Store(store::Error::Locked(_))) => {}
            Err(error) => return Err(error),
        }
        let Some(mut workspace) = self.store.workspace(id)? else { return Ok(Reaction::default()) };
        // A container that was replaced is no news any more.
        if workspace.container_id != event.container_id {
            return Ok(Reaction::default());
        }
        let detail = event.detail.clone().unwrap_or_default();
        let facts = EventFacts { kind, exit_code: event.exit_code, detail };
        let request = self.request_about(&workspace, Hook::Event, Subject::Event(facts));
        if !chain.asks(Hook::Event, &request.facts) {
            return Ok(Reaction::default());
        }
        // Where secret values stand in what policies see, only the container tells.
        let container = match self.docker.inspect(&event.container_id).await {
            Ok(container) => container,
            Err(docker::Error::NotFound { .. }) => return Ok(Reaction::default()),
            Err(error) => return Err(error.into()),
        };
        let values = self.secret_values(&container);
        let ruling = self.decide_without(request, &values, |chain, request| chain.collect(request)).await?;
        let (mut decisions, shadows) = ([ruling.decision], ruling.shadows);
        let [Decision { outcome, .. }] = &decisions;
        let outcome = outcome.clone();
        self.record_without(&mut decisions, shadows, &values)?;
        let [decision] = decisions;
        let mut reaction = Reaction { asked: decision.steps.len(), ..Reaction::default() };
        let mut degraded = None;
        for step in &decision.steps {
            if let Some(error) = &step.error {
                let (kind, policy) = (step.kind.as_str(), &step.policy);
                let text = format!("the {kind} '{policy}' failed at event {}: {}", event.what, error.message);
                if error.means == Some(FailureMode::Degrade) {
                    degraded.get_or_insert_with(|| text.clone());
                }
                reaction.failures.push(text);
            }
        }
        let told = workspace.notes.len();
        if let Outcome::Actions { actions, .. } = outcome
            && !actions.is_empty()
        {
            let container = self.docker.inspect(&event.container_id).await?;
            for (policy, action) in actions {
                let stops = matches!(action, Action::Stop(_));
                match self.act(&mut workspace, &container, &policy, action).await {
                    Ok(_) if stops => reaction.stopped_by = Some(policy),
                    Ok(_) => {}
                    Err(reason) => reaction.failures.push(self.without_secrets(&container, reason)),
                }
            }
        }
        let mut notes = workspace.notes.split_off(told);
        notes.extend(reaction.failures.iter().cloned());
        self.add_notes(id, notes)?;
        if degraded.is_some() {
            self.store.update_workspace(id, |workspace| workspace.degraded = degraded)?;
        }
        Ok(reaction)
    }

    /// Adds notes to a workspace; of more than it may have the newest stay, and one that is there is not repeated.
    pub(in crate::lifecycle) fn add_notes(&self, id: &WorkspaceId, notes: Vec<String>) -> Result<(), Error> {
        if notes.is_empty() {
            return Ok(());
        }
        self.store.update_workspace(id, |workspace| {
            for note in notes {
                workspace.notes.retain(|old| *old != note);
                workspace.notes.push(note);
            }
            let over = workspace.notes.len().saturating_sub(MOST_NOTES);
            workspace.notes.drain(..over);
        })?;
        Ok(())
    }
}
