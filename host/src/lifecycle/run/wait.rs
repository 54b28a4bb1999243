//! Waiting until a workspace is in a state. It subscribes to events first and then checks the state, so that no change
//! in between is missed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::docker;
use crate::lifecycle::{Error, Lifecycle, Notice, WorkspaceEvents, WorkspaceView};
use crate::workspace::{Awaited, Container, Happening, State, WorkspaceId};

/// The result of a wait.
#[derive(Debug, Clone)]
pub struct Waited {
    /// The workspace as it is now; none when nothing of it is left.
    pub workspace: Option<WorkspaceView>,
    /// For [`Awaited::Exited`]: the exit code that was seen.
    pub exit_code: Option<i64>,
}

/// The result of a wait, for programs.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct WaitView {
    /// The workspace.
    pub id: WorkspaceId,
    /// The awaited state.
    pub r#for: Awaited,
    /// Its state; null when nothing of it is left.
    pub state: Option<State>,
    /// State of its health check, if it has one.
    pub health: Option<String>,
    /// For `exited`: the exit code that was seen.
    pub exit_code: Option<i64>,
}

impl Waited {
    /// Converts the result into its form for programs.
    pub fn view(self, id: WorkspaceId, awaited: Awaited) -> WaitView {
        let (state, health) = self.workspace.map_or((None, None), |view| (Some(view.state), view.health));
        WaitView { id, r#for: awaited, state, health, exit_code: self.exit_code }
    }
}

/// Pause between checks of a workspace that is being replaced.
const ASIDE: Duration = Duration::from_millis(50);

/// The result of a check of a workspace's containers.
enum Look {
    Reached(Option<i64>),
    /// The current state.
    Not(String),
}

impl Lifecycle {
    /// Waits until a workspace is in a state; without a limit, indefinitely.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::LeftOff`], [`Error::NotRunning`] when it has no container, and with `stay_up` also
    /// when it ends instead. A break of the connection to the engine is waited out.
    pub async fn wait(
        &self,
        id: &WorkspaceId,
        awaited: Awaited,
        limit: Option<Duration>,
        stay_up: bool,
    ) -> Result<Waited, Error> {
        let mut events = self.events(None, None).await?;
        let (mut last, begin) = (String::new(), tokio::time::Instant::now());
        let late = async {
            match limit {
                Some(limit) => tokio::time::sleep_until(begin + limit).await,
                None => std::future::pending().await,
            }
        };
        let code = tokio::select! {
            code = self.until(id, awaited, stay_up, &mut events, &mut last) => code?,
            () = self.interrupted() => return Err(Error::LeftOff(format!("{id} is unchanged"))),
            () = late => {
                let (id, awaited) = (id.to_string(), awaited.as_str());
                return Err(Error::TimedOut { id, awaited, after: limit.unwrap_or_default(), state: last });
            }
        };
        let workspace = match self.inspect(id).await {
            Ok(view) => Some(view),
            Err(Error::Records(crate::records::Error::NotFound(_))) => None,
            Err(error) => return Err(error),
        };
        Ok(Waited { workspace, exit_code: code })
    }

    async fn until(
        &self,
        id: &WorkspaceId,
        awaited: Awaited,
        stay_up: bool,
        events: &mut WorkspaceEvents,
        last: &mut String,
    ) -> Result<Option<i64>, Error> {
        loop {
            let listed = match self.containers_of(Some(id)).await {
                Ok(containers) => containers,
                Err(Error::NotRunning { .. }) if self.is_replaced(id).await? => {
                    tokio::time::sleep(ASIDE).await;
                    continue;
                }
                Err(Error::NotRunning { .. }) if awaited == Awaited::Removed => return Ok(None),
                Err(error) => return Err(error),
            };
            // While the engine sends the event, a list still has the earlier state; an inspection does not.
            let mut containers = Vec::new();
            for (id, container) in listed {
                match self.docker.inspect(&container.id).await {
                    Ok(container) => containers.push((id, container)),
                    Err(docker::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if containers.is_empty() && self.is_replaced(id).await? {
                tokio::time::sleep(ASIDE).await;
                continue;
            }
            if containers.is_empty() && awaited != Awaited::Removed {
                return Err(Error::NotRunning { id: id.to_string(), state: State::Missing.to_string() });
            }
            match look(id, &containers, awaited) {
                Look::Reached(code) => return Ok(code),
                Look::Not(state) => *last = state,
            }
            if stay_up && let Some((id, container)) = containers.iter().find(|(_, container)| has_ended(container)) {
                let code = container.exit_code.map_or(String::new(), |code| format!(" ({code})"));
                return Err(Error::NotRunning { id: id.to_string(), state: format!("{}{code}", container.state) });
            }
            loop {
                match events.next().await {
                    Some(Notice::Event(event)) if event.concerns(id) => {
                        // By the next check it may run again.
                        let ended = event.what == Happening::Exited && event.workspace == *id;
                        if ended && awaited == Awaited::Exited {
                            return Ok(event.exit_code);
                        }
                        // Likewise, by then it may have ended.
                        let others = containers.iter().filter(|(this, _)| *this != event.workspace);
                        let mut others = others.map(|(_, container)| container.state);
                        let started = event.what == Happening::Started && others.all(|state| state == State::Running);
                        if started && awaited == Awaited::Running {
                            return Ok(None);
                        }
                        break;
                    }
                    Some(Notice::Event(_)) => {}
                    Some(Notice::Lost(why)) => tracing::warn!("{why}; trying again"),
                    Some(Notice::Resumed { .. }) => break,
                    None => return Err(Error::Internal("the event stream ended unexpectedly".into())),
                }
            }
        }
    }
}

fn has_ended(container: &Container) -> bool {
    matches!(container.state, State::Exited | State::Dead)
}

fn look(id: &WorkspaceId, containers: &[(WorkspaceId, Container)], awaited: Awaited) -> Look {
    let running = |container: &Container| container.state == State::Running;
    let healthy = |container: &Container| {
        running(container) && container.health.as_deref().is_none_or(|health| health == "healthy")
    };
    let all = |so: &dyn Fn(&Container) -> bool| containers.iter().all(|(_, container)| so(container));
    let main = containers.iter().find(|(this, _)| this == id).map(|(_, container)| container);
    let reached = match awaited {
        Awaited::Running => all(&running),
        Awaited::Healthy => all(&healthy),
        Awaited::Exited => main.is_some_and(has_ended),
        Awaited::Removed => containers.is_empty(),
    };
    if reached {
        return Look::Reached(main.and_then(|container| container.exit_code).filter(|_| awaited == Awaited::Exited));
    }
    let state = |(this, container): &(WorkspaceId, Container)| {
        let health = container.health.as_ref().map_or(String::new(), |health| format!(", {health}"));
        let prefix = if this == id { String::new() } else { format!("{this} is ") };
        format!("{prefix}{}{health}", container.state)
    };
    Look::Not(containers.iter().map(state).collect::<Vec<_>>().join("; "))
}
