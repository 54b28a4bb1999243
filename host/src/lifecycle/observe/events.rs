//! Events of workspaces: the engine's events converted to Wharf's, and the update of the store's states from a list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::docker::{self, EventItem, EventOptions, EventStream};
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{EventQuery, Store};
use crate::workspace::{
    Container, ContainerState, Event, Happening, LABEL_HOST, LABEL_PART_OF, LABEL_WORKSPACE, State, WorkspaceId,
};

/// The limit of events of the history that are read at once.
const MOST: u32 = 100_000;

/// The engine's actions and their meaning; other actions do not concern a workspace's state.
const ACTIONS: [(&str, Happening); 13] = [
    ("create", Happening::Created),
    ("start", Happening::Started),
    ("die", Happening::Exited),
    ("oom", Happening::OutOfMemory),
    ("health_status: healthy", Happening::Healthy),
    ("health_status: unhealthy", Happening::Unhealthy),
    ("pause", Happening::Paused),
    ("unpause", Happening::Unpaused),
    ("kill", Happening::Signalled),
    ("stop", Happening::Stopped),
    ("rename", Happening::Renamed),
    ("update", Happening::Updated),
    ("destroy", Happening::Removed),
];

/// A notice about workspaces or the connection.
#[derive(Debug)]
pub enum Notice {
    /// An event.
    Event(Event),
    /// The connection to the engine broke; it is being restored.
    Lost(String),
    /// The connection is back.
    Resumed {
        /// Whether events may be missing.
        gap: bool,
    },
}

/// Events of the workspaces of this installation as they happen. The stream survives restarts of the engine.
pub struct WorkspaceEvents {
    stream: EventStream,
    store: Arc<Store>,
}

impl WorkspaceEvents {
    /// Returns the next notice; `None` after the requested end. It is safe to drop the future while it waits.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            match self.stream.next().await? {
                EventItem::Event(event) => {
                    // The engine's filter alone does not prove that an event is about this installation.
                    if event.attributes.get(LABEL_HOST).is_some_and(|host| host == self.store.host_id())
                        && !self.is_anothers(&event)
                        && let Some(event) = translate(event)
                        && let Some(event) = self.related(event)
                    {
                        return Some(Notice::Event(event));
                    }
                }
                EventItem::Lost(error) => return Some(Notice::Lost(error.to_string())),
                EventItem::Resumed { gap } => return Some(Notice::Resumed { gap }),
            }
        }
    }
}

impl WorkspaceEvents {
    /// Returns whether it is about a container that inherited Wharf's labels from an image that was committed from a
    /// workspace: its name differs from Wharf's names, and the store knows another container.
    fn is_anothers(&self, event: &docker::Event) -> bool {
        let Some(Ok(id)) = event.attributes.get(LABEL_WORKSPACE).map(|id| id.parse::<WorkspaceId>()) else {
            return true;
        };
        let name = event.attributes.get("name").is_some_and(|name| *name == id.container_name());
        // An unreadable store is reported where the store is needed.
        !name && self.store.container_id(&id).ok().flatten().is_some_and(|known| known != event.actor)
    }
}

impl WorkspaceEvents {
    /// Sets the workspace that the event's workspace is a sidecar of, according to the store.
    fn related(&self, mut event: Event) -> Option<Event> {
        // An unreadable store is reported where the store is needed.
        if let Ok(Some(part_of)) = self.store.part_of(&event.workspace) {
            event.part_of = part_of;
        }
        Some(event)
    }
}

fn translate(event: docker::Event) -> Option<Event> {
    let workspace = event.attributes.get(LABEL_WORKSPACE)?.parse().ok()?;
    let (_, what) = ACTIONS.into_iter().find(|(action, _)| *action == event.action)?;
    let attribute = |key: &str| event.attributes.get(key);
    let detail = match what {
        Happening::Signalled => attribute("signal").map(|signal| format!("signal {signal}")),
        Happening::Renamed => attribute("name").map(|name| format!("to {name}")),
        Happening::Created => attribute("image").map(|image| format!("from {image}")),
        _ => None,
    };
    let exit_code = attribute("exitCode").and_then(|code| code.parse().ok());
    let part_of = attribute(LABEL_PART_OF).and_then(|id| id.parse().ok());
    Some(Event { time: event.time, workspace, part_of, container_id: event.actor, what, exit_code, detail })
}

impl Lifecycle {
    /// Subscribes to the events of the workspaces of this installation: after this returns, no later event is missed.
    /// With `since`, it also returns the events since then that the engine still has (its last 256 events, and none
    /// from before its restart). With `until`, it ends then.
    ///
    /// # Errors
    /// When the engine is unreachable now.
    pub async fn events(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<WorkspaceEvents, Error> {
        let host = self.store.host_id().to_owned();
        let mut actions: Vec<_> =
            ACTIONS.iter().map(|(action, _)| action.split(':').next().unwrap_or(action)).collect();
        actions.dedup();
        let labels = vec![(LABEL_HOST.to_owned(), host)];
        let options = EventOptions { labels, kinds: vec!["container"], actions, since, until };
        Ok(WorkspaceEvents { stream: self.docker.events(options).await?, store: self.store.clone() })
    }

    /// Returns the history that the service has recorded, oldest first, of one workspace and its sidecars, or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn past_events(
        &self,
        workspace: Option<WorkspaceId>,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<Event>, Error> {
        Ok(self.store.events(&EventQuery { workspace, since, until }, MOST)?)
    }

    /// Returns the current states of the containers of this installation, for [`Lifecycle::settle`].
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn look(&self) -> Result<Vec<ContainerState>, Error> {
        let mut states = Vec::new();
        for container in self.docker.list(&[(LABEL_HOST, self.store.host_id())], true).await? {
            let Some(Ok(workspace)) = container.labels.get(LABEL_WORKSPACE).map(|id| id.parse::<WorkspaceId>()) else {
                continue;
            };
            if !self.is_ours(&container)? {
                continue;
            }
            // The list has no times; a container that looks the same may have been restarted meanwhile.
            match self.docker.inspect(&container.id).await {
                Ok(container) => {
                    let mut state = state_of(&container, workspace);
                    state.part_of = self.parent_of(&container)?;
                    states.push(state);
                }
                Err(docker::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(states)
    }

    /// Sets the states in the store to those of an earlier look, except for containers with events since then. Events
    /// that were on their way at the look must have arrived. Returns changes that must have happened unseen, as
    /// recorded events. For a container that the store did not know, this is only that it is unhealthy, if it is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn settle(&self, looked: &[ContainerState], touched: &BTreeSet<String>) -> Result<Vec<Event>, Error> {
        let now = Timestamp::now();
        let known: BTreeMap<String, ContainerState> =
            self.store.states()?.into_iter().map(|state| (state.container_id.clone(), state)).collect();
        let untouched = |state: &&ContainerState| !touched.contains(&state.container_id);
        let mut events = Vec::new();
        for state in looked.iter().filter(untouched) {
            let before = known.get(&state.container_id);
            let unseen = missed(before, state, now);
            for event in &unseen {
                self.store.note_event(event)?;
            }
            let mut state = state.clone();
            if let Some(before) = before {
                state.event_at = state.event_at.max(before.event_at);
                let same_run = same_time(before.started_at, state.started_at);
                state.end_requested = before.end_requested && same_run;
            }
            self.store.put_state(&state)?;
            events.extend(unseen);
        }
        let there: BTreeSet<&str> = looked.iter().map(|state| state.container_id.as_str()).collect();
        for gone in known.values().filter(untouched).filter(|state| !there.contains(state.container_id.as_str())) {
            let event = event_of(gone, Happening::Removed, now);
            self.store.note_event(&event)?;
            events.push(event);
        }
        Ok(events)
    }
}

fn state_of(container: &Container, workspace: WorkspaceId) -> ContainerState {
    // These are times of the engine's clock only, so that its next event counts even if the clocks differ.
    let times = [container.created_at, container.started_at, container.finished_at];
    ContainerState {
        part_of: container.labels.get(LABEL_PART_OF).and_then(|id| id.parse().ok()),
        state: container.state,
        started_at: container.started_at,
        finished_at: container.finished_at,
        exit_code: container.exit_code,
        oom_killed: container.oom_killed,
        health: container.health.clone().filter(|_| container.state == State::Running),
        ..ContainerState::new(
            container.id.clone(),
            workspace,
            times.into_iter().flatten().max().unwrap_or(Timestamp::MIN),
        )
    }
}

/// Returns whether two starts, or two ends, are the same one: the engine records it up to a second away from the
/// event's time.
pub(in crate::lifecycle) fn same_time(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.duration_since(b).unsigned_abs().as_millis() < 1_000,
        (None, None) => true,
        _ => false,
    }
}

fn event_of(state: &ContainerState, what: Happening, time: Timestamp) -> Event {
    Event {
        time,
        workspace: state.workspace.clone(),
        part_of: state.part_of.clone(),
        container_id: state.container_id.clone(),
        what,
        exit_code: state.exit_code.filter(|_| what == Happening::Exited),
        detail: Some("found by listing".to_owned()),
    }
}

/// Returns the events that must have happened between two looks.
fn missed(before: Option<&ContainerState>, now: &ContainerState, time: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    let unhealthy = now.health.as_deref() == Some("unhealthy");
    let Some(before) = before else {
        if unhealthy {
            events.push(event_of(now, Happening::Unhealthy, time));
        }
        return events;
    };
    let restarted = !same_time(before.started_at, now.started_at);
    if restarted && let Some(started) = now.started_at {
        events.push(event_of(now, Happening::Started, started));
    }
    let ended = matches!(now.state, State::Exited | State::Dead);
    if ended && (restarted || !matches!(before.state, State::Exited | State::Dead)) {
        if now.oom_killed && !before.oom_killed {
            events.push(event_of(now, Happening::OutOfMemory, time));
        }
        events.push(event_of(now, Happening::Exited, now.finished_at.unwrap_or(time)));
    }
    match (before.state, now.state) {
        (State::Running, State::Paused) => events.push(event_of(now, Happening::Paused, time)),
        (State::Paused, State::Running) => events.push(event_of(now, Happening::Unpaused, time)),
        _ => {}
    }
    let was = before.health.as_deref().filter(|_| !restarted);
    if unhealthy && was != Some("unhealthy") {
        events.push(event_of(now, Happening::Unhealthy, time));
    }
    if now.health.as_deref() == Some("healthy") && was != Some("healthy") {
        events.push(event_of(now, Happening::Healthy, time));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(started: i64, state: State, health: Option<&str>) -> ContainerState {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut this = ContainerState::new("c".into(), WorkspaceId::derive("a", "/a"), at(100));
        this.started_at = Some(at(started));
        this.state = state;
        this.health = health.map(str::to_owned);
        if state == State::Exited {
            (this.exit_code, this.finished_at) = (Some(3), Some(at(started + 5)));
        }
        this
    }

    #[test]
    fn what_happened_between_two_looks_is_told_from_their_difference() {
        use Happening as H;
        let whats = |before: Option<&ContainerState>, now: &ContainerState| -> Vec<Happening> {
            missed(before, now, now.event_at).iter().map(|event| event.what).collect()
        };
        let running = state(10, State::Running, None);
        assert_eq!(whats(Some(&running), &running), []);
        assert_eq!(whats(Some(&running), &state(10, State::Exited, None)), [H::Exited]);
        assert_eq!(whats(Some(&running), &state(50, State::Running, None)), [H::Started]);
        assert_eq!(whats(Some(&running), &state(50, State::Exited, None)), [H::Started, H::Exited]);
        assert_eq!(whats(Some(&running), &state(10, State::Paused, None)), [H::Paused]);
        assert_eq!(whats(Some(&running), &state(10, State::Running, Some("unhealthy"))), [H::Unhealthy]);
        let bad = state(10, State::Running, Some("unhealthy"));
        assert_eq!(whats(Some(&bad), &bad), []);
        assert_eq!(whats(Some(&bad), &state(50, State::Running, Some("unhealthy"))), [H::Started, H::Unhealthy]);
        assert_eq!(whats(None, &bad), [H::Unhealthy]);
        assert_eq!(whats(None, &running), []);
        let exited = missed(Some(&running), &state(10, State::Exited, None), running.event_at);
        assert_eq!((exited[0].exit_code, exited[0].time.as_second()), (Some(3), 15));
    }
}
