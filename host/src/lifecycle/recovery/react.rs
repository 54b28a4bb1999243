//! The hook `event`: policies are called with an event of a workspace, and the actions that they request are carried
//! out.

use crate::hooks::{Action, Decision, EventFacts, EventKind, FailureMode, Hook, Outcome, Subject};
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::{Event, Happening, WorkspaceId};
use crate::{docker, store};

/// The limit of notes of a workspace: an event can recur many times.
const MOST_NOTES: usize = 50;

/// The result of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaction {
    /// The number of called policies.
    pub asked: usize,
    /// The policy that stopped the workspace, if one did.
    pub stopped_by: Option<String>,
    /// The failures, each in one line.
    pub failures: Vec<String>,
}

/// Returns the kind of an event for policies; `None` for events that they do not receive.
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
    /// Runs the hook `event` for an event, and carries out its actions. Failures become notes of the workspace; they
    /// prevent nothing.
    ///
    /// # Errors
    /// When the chain cannot be loaded, or the store fails: a decision that cannot be recorded is not carried out.
    pub async fn react(&self, event: &Event) -> Result<Reaction, Error> {
        let Some(kind) = kind(event.what) else { return Ok(Reaction::default()) };
        let id = &event.workspace;
        let chain = self.chain().await?;
        // A running verb writes the workspace at its end, so it is waited for, but not for too long.
        match self.lock(id).await {
            Ok(lock) => drop(lock),
            Err(Error::Store(store::Error::Locked(_))) => {}
            Err(error) => return Err(error),
        }
        let Some(mut workspace) = self.store.workspace(id)? else { return Ok(Reaction::default()) };
        // An event of a replaced container is outdated.
        if workspace.container_id != event.container_id {
            return Ok(Reaction::default());
        }
        let detail = event.detail.clone().unwrap_or_default();
        let facts = EventFacts { kind, exit_code: event.exit_code, detail };
        let request = self.request_about(&workspace, Hook::Event, Subject::Event(facts));
        if !chain.asks(Hook::Event, &request.facts) {
            return Ok(Reaction::default());
        }
        // Only the container has the secret values that must be removed from the facts for policies.
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
                let text = format!("the {kind} '{policy}' failed at the event {}: {}", event.what, error.message);
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

    /// Adds notes to a workspace. Beyond the limit the newest stay, and an existing note is not repeated.
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
