//! Events of workspaces: one line of their history.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{State, WorkspaceId};

/// An event of a workspace's container, as seen by the engine or Wharf's service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// The time, with nanoseconds if the engine reports them.
    pub time: Timestamp,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// For a sidecar: the workspace that it belongs to.
    pub part_of: Option<WorkspaceId>,
    /// The engine's id of the container.
    pub container_id: String,
    /// The kind of event.
    pub what: Happening,
    /// The exit code for `exited`.
    pub exit_code: Option<i64>,
    /// Details for users: the signal, the new name, the reason.
    pub detail: Option<String>,
}

impl Event {
    /// Returns whether the event is about a workspace or one of its sidecars.
    pub fn concerns(&self, id: &WorkspaceId) -> bool {
        self.workspace == *id || self.part_of.as_ref() == Some(id)
    }
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Happening {
    Created,
    Started,
    Exited,
    /// The kernel killed a process of the container for lack of memory.
    OutOfMemory,
    Healthy,
    Unhealthy,
    Paused,
    Unpaused,
    /// Its first process received a signal through the engine.
    Signalled,
    /// A stop through the engine is complete.
    Stopped,
    Renamed,
    /// Its limits were changed.
    Updated,
    Removed,
    /// The service restarted it, because it was unhealthy or had ended.
    Recovered,
    /// The service no longer restarts it.
    GivenUp,
    /// The service stopped it, because it was idle.
    Idle,
    /// The service stopped it, because its time to live had expired.
    Expired,
    /// It exceeded a limit that is only monitored.
    Threshold,
}

impl Happening {
    /// Events of Wharf's own actions, which the engine does not report.
    pub const OWN: [Self; 5] = [Self::Recovered, Self::GivenUp, Self::Idle, Self::Expired, Self::Threshold];

    const ALL: [Self; 18] = [
        Self::Created,
        Self::Started,
        Self::Exited,
        Self::OutOfMemory,
        Self::Healthy,
        Self::Unhealthy,
        Self::Paused,
        Self::Unpaused,
        Self::Signalled,
        Self::Stopped,
        Self::Renamed,
        Self::Updated,
        Self::Removed,
        Self::Recovered,
        Self::GivenUp,
        Self::Idle,
        Self::Expired,
        Self::Threshold,
    ];

    /// Returns the name used in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Exited => "exited",
            Self::OutOfMemory => "out-of-memory",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Paused => "paused",
            Self::Unpaused => "unpaused",
            Self::Signalled => "signalled",
            Self::Stopped => "stopped",
            Self::Renamed => "renamed",
            Self::Updated => "updated",
            Self::Removed => "removed",
            Self::Recovered => "recovered",
            Self::GivenUp => "given-up",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::Threshold => "threshold",
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Happening {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|what| what.as_str() == text);
        known.ok_or_else(|| format!("'{text}' is not an event of a workspace"))
    }
}

/// The state of one container, derived from its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The engine's id of the container.
    pub container_id: String,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// For a sidecar: the workspace that it belongs to.
    pub part_of: Option<WorkspaceId>,
    /// Its state.
    pub state: State,
    /// Its last start.
    pub started_at: Option<Timestamp>,
    /// Its last end, if it has ended since its last start.
    pub finished_at: Option<Timestamp>,
    /// Exit code of the last run; none while it runs or if it never ran.
    pub exit_code: Option<i64>,
    /// Whether one of its processes was killed for lack of memory since its last start.
    pub oom_killed: bool,
    /// `starting`, `healthy` or `unhealthy`; none if there is no health check or no result yet.
    pub health: Option<String>,
    /// Whether its end was requested since its last start: such an end is not unexpected.
    pub end_requested: bool,
    /// Time of the last event that was applied.
    pub event_at: Timestamp,
}

impl ContainerState {
    /// Returns the state of a newly created container.
    pub fn new(container_id: String, workspace: WorkspaceId, event_at: Timestamp) -> Self {
        Self {
            container_id,
            workspace,
            part_of: None,
            state: State::Created,
            started_at: None,
            finished_at: None,
            exit_code: None,
            oom_killed: false,
            health: None,
            end_requested: false,
            event_at,
        }
    }

    /// Applies an event. An event older than the last one is ignored, because a list was more recent.
    pub fn apply(&mut self, event: &Event) {
        // Wharf's own clock may differ from the engine's.
        if event.time < self.event_at || Happening::OWN.contains(&event.what) {
            return;
        }
        self.event_at = event.time;
        match event.what {
            Happening::Started => {
                let started_at = Some(event.time);
                let (id, workspace, part_of) = (self.container_id.clone(), self.workspace.clone(), self.part_of.take());
                *self = Self { state: State::Running, part_of, started_at, ..Self::new(id, workspace, event.time) };
            }
            Happening::Exited => {
                self.state = State::Exited;
                self.finished_at = Some(event.time);
                self.exit_code = event.exit_code;
                self.health = None;
            }
            Happening::OutOfMemory => self.oom_killed = true,
            Happening::Healthy | Happening::Unhealthy => self.health = Some(event.what.to_string()),
            Happening::Paused => self.state = State::Paused,
            Happening::Unpaused => self.state = State::Running,
            Happening::Signalled => self.end_requested = true,
            Happening::Removed => self.state = State::Missing,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: i64, what: Happening, exit_code: Option<i64>) -> Event {
        Event {
            time: Timestamp::from_second(second).unwrap(),
            workspace: WorkspaceId::derive("a", "/a"),
            part_of: None,
            container_id: "c".into(),
            what,
            exit_code,
            detail: None,
        }
    }

    #[test]
    fn every_happening_has_one_word_that_parses_back() {
        for what in Happening::ALL {
            assert_eq!(what.as_str().parse(), Ok(what));
            assert_eq!(serde_json::to_value(what).unwrap(), what.as_str());
        }
        assert!("die".parse::<Happening>().is_err());
    }

    #[test]
    fn a_state_follows_its_events_and_a_start_forgets_the_run_before() {
        let first = event(1, Happening::Created, None);
        let mut state = ContainerState::new("c".into(), first.workspace.clone(), first.time);
        for (second, what, code) in [
            (2, Happening::Started, None),
            (3, Happening::Unhealthy, None),
            (4, Happening::OutOfMemory, None),
            (5, Happening::Signalled, None),
            (6, Happening::Exited, Some(137)),
        ] {
            state.apply(&event(second, what, code));
        }
        assert_eq!((state.state, state.exit_code), (State::Exited, Some(137)));
        assert!(state.oom_killed && state.end_requested && state.health.is_none());
        assert_eq!(state.finished_at, Some(Timestamp::from_second(6).unwrap()));
        state.apply(&event(7, Happening::Started, None));
        assert_eq!((state.state, state.exit_code, state.finished_at), (State::Running, None, None));
        assert!(!state.oom_killed && !state.end_requested);
        assert_eq!(state.started_at, Some(Timestamp::from_second(7).unwrap()));
    }

    #[test]
    fn an_event_that_comes_late_does_not_undo_a_newer_state() {
        let first = event(5, Happening::Created, None);
        let mut state = ContainerState::new("c".into(), first.workspace.clone(), first.time);
        state.apply(&event(9, Happening::Started, None));
        state.apply(&event(8, Happening::Exited, Some(1)));
        assert_eq!((state.state, state.exit_code), (State::Running, None));
    }
}
