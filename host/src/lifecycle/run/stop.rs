//! `stop`, `restart`, `rm` and `down`.

use std::time::Duration;

use crate::hooks::{Decision, Hook, Outcome, Subject};
use crate::lifecycle::observe::view::view;
use crate::lifecycle::{Error, Lifecycle, WorkspaceView};
use crate::store::{JournalEntry, Verb};
use crate::workspace::{Container, Happening, State, WorkspaceId};

/// The treatment of a running workspace when it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lifecycle) enum Alive {
    Refuse,
    Stop,
    Kill,
}

impl Lifecycle {
    /// Stops a workspace. A workspace that is not running stays as it is.
    ///
    /// # Errors
    /// [`Error::Records`], or the engine's.
    pub async fn stop(&self, id: &WorkspaceId, timeout: Option<Duration>) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        self.stop_with_sidecars(id, "stop", timeout).await?;
        // A user's stop is deliberate, even after a stop by the service.
        if self.store.workspace(id)?.is_some_and(|workspace| workspace.stopped.is_some()) {
            self.mark_stopped(id, |_| true);
        }
        self.inspect(id).await
    }

    /// Stops a workspace and starts it again.
    ///
    /// # Errors
    /// [`Error::Records`], or the engine's.
    pub async fn restart(&self, id: &WorkspaceId, timeout: Option<Duration>) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        // A workspace that cannot be started again must not be stopped.
        self.chain().await?;
        self.check_all_mounts(id).await?;
        let both = async {
            let sidecars = self.stop_with_sidecars(id, "restart", timeout).await?;
            self.start_sidecars(&sidecars).await?;
            match self.container(id).await? {
                Some(container) => self.start_existing(id, &container, &mut |_| {}).await,
                None => Err(Error::NotRunning { id: id.to_string(), state: State::Missing.to_string() }),
            }
        };
        self.starting(id, Some(JournalEntry::RESTART), both).await
    }

    /// Removes a workspace: container, sidecars, volumes without a name, its own network, secrets. `force` kills
    /// running processes; `volumes` also removes the named volumes that were made for it, with their data.
    ///
    /// # Errors
    /// [`Error::Running`] without `force`, [`Error::Records`], or the engine's.
    pub async fn remove(&self, id: &WorkspaceId, force: bool, volumes: bool) -> Result<WorkspaceView, Error> {
        self.remove_with(id, if force { Alive::Kill } else { Alive::Refuse }, volumes).await
    }

    /// Stops and removes a workspace as [`Lifecycle::remove`] does.
    ///
    /// # Errors
    /// [`Error::Records`], or the engine's.
    pub async fn down(&self, id: &WorkspaceId, volumes: bool) -> Result<WorkspaceView, Error> {
        self.remove_with(id, Alive::Stop, volumes).await
    }

    async fn remove_with(&self, id: &WorkspaceId, alive: Alive, volumes: bool) -> Result<WorkspaceView, Error> {
        let _lock = self.lock(id).await?;
        self.remove_locked(id, alive, volumes).await
    }

    /// Removes a workspace whose lock is held.
    pub(in crate::lifecycle) async fn remove_locked(
        &self,
        id: &WorkspaceId,
        alive: Alive,
        volumes: bool,
    ) -> Result<WorkspaceView, Error> {
        let (sidecars, container) = tokio::join!(self.sidecars(id), self.container(id));
        let (sidecars, container) = (sidecars?, container?);
        if alive == Alive::Refuse {
            // A running sidecar refuses the whole removal, before anything is removed.
            for sidecar in &sidecars {
                if let Some(container) = self.container(sidecar).await?.filter(lives) {
                    return Err(Error::Running { id: sidecar.to_string(), state: container.state });
                }
            }
        }
        self.remove_one(id, container, alive, &sidecars, volumes).await
    }

    /// Removes a container with its record. For a workspace, it also removes the sidecars, and with `volumes` the named
    /// volumes of all of them. Its lock is held.
    async fn remove_one(
        &self,
        id: &WorkspaceId,
        container: Option<Container>,
        alive: Alive,
        sidecars: &[WorkspaceId],
        volumes: bool,
    ) -> Result<WorkspaceView, Error> {
        let stored = self.store.workspace(id)?;
        let last = view(stored.as_ref(), container.as_ref()).ok_or_else(|| Error::not_found(id.to_string()))?;
        if let Some(container) = &container {
            match (lives(container), alive) {
                (true, Alive::Refuse) => {
                    return Err(Error::Running { id: id.to_string(), state: container.state });
                }
                (true, Alive::Stop) => self.stop_locked(id, "remove", None).await?,
                _ => self.before_stop(id, container, "remove").await?,
            }
        }
        // A process that finishes this must know the owners of the volumes: by then the sidecars may be gone.
        let owners: Vec<WorkspaceId> = std::iter::once(id).chain(sidecars).filter(|_| volumes).cloned().collect();
        let words = owners.iter().map(WorkspaceId::as_str).collect::<Vec<_>>().join(" ");
        // The locks are taken first: once the removal has started, it is not interrupted.
        let mut locks = Vec::with_capacity(sidecars.len());
        for sidecar in sidecars {
            locks.push(self.lock(sidecar).await?);
        }
        let entry = self.store.begin_with(id, Verb::Remove, volumes.then_some(words.as_str()))?;
        let gone = self.remove_parts(id, container.as_ref(), alive, sidecars).await;
        if let Err(error) = gone {
            // The caller learns of the failure. An open entry would one day be applied to a new workspace with the same
            // ID.
            self.store.done(entry, "failed")?;
            return Err(error);
        }
        let removed = self.remove_volumes(&owners, Some(&last.project), None).await;
        self.store.done(entry, "done")?;
        removed.map(|()| last)
    }

    /// Removes sidecars, container, networks, record and secrets of a workspace; the locks of all are held.
    async fn remove_parts(
        &self,
        id: &WorkspaceId,
        container: Option<&Container>,
        alive: Alive,
        sidecars: &[WorkspaceId],
    ) -> Result<(), Error> {
        for sidecar in sidecars {
            let container = self.container(sidecar).await?;
            let none = Box::pin(self.remove_one(sidecar, container, alive, &[], false)).await;
            if !matches!(none, Err(Error::Records(crate::records::Error::NotFound(_)))) {
                none?;
            }
        }
        match container {
            Some(container) => self.remove_from_engine(id, container).await?,
            // Another client removed the container, and left the network.
            None => self.drop_networks(id).await?,
        }
        self.store.remove_workspace(id)?;
        self.remove_secrets(id)
    }

    pub(in crate::lifecycle) async fn stop_locked(
        &self,
        id: &WorkspaceId,
        verb: &str,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        let Some(container) = self.container(id).await? else {
            return match self.store.workspace(id)? {
                Some(_) => Ok(()),
                None => Err(Error::not_found(id.to_string())),
            };
        };
        if matches!(container.state, State::Exited | State::Created | State::Dead) {
            return Ok(());
        }
        self.before_stop(id, &container, verb).await?;
        let timeout = timeout.unwrap_or(self.loaded().config.engine.stop_timeout.0);
        self.stop_container(id, &container, timeout).await?;
        if verb == "stop" {
            // The service has noted its own reason before.
            self.mark_stopped(id, |before| before.is_none());
        }
        Ok(())
    }

    /// Notes that a workspace did not end by itself. A stop succeeds even when the disk is full.
    fn mark_stopped(&self, id: &WorkspaceId, replaces: impl Fn(Option<Happening>) -> bool) {
        let mark = |workspace: &mut crate::store::Workspace| {
            if replaces(workspace.stopped) {
                workspace.stopped = Some(Happening::Stopped);
            }
        };
        if let Err(error) = self.store.update_workspace(id, mark) {
            tracing::warn!("{id} is stopped, but cannot record this: {error}");
        }
    }

    /// Runs `pre-stop`: its actions, then its single delay. No action or failure of a policy prevents the stop.
    pub(in crate::lifecycle) async fn before_stop(
        &self,
        id: &WorkspaceId,
        container: &Container,
        verb: &str,
    ) -> Result<(), Error> {
        let Some(mut workspace) = self.store.workspace(id)? else { return Ok(()) };
        let request = self.request_about(&workspace, Hook::PreStop, Subject::Stop { verb: verb.to_owned() });
        let values = self.secret_values(container);
        let ruling = match self.decide_without(request, &values, |chain, request| chain.collect(request)).await {
            Ok(ruling) => ruling,
            Err(error @ Error::PolicyNotLoaded { .. }) => {
                // A policy that fails here never prevents the stop, nor does a policy that cannot be loaded.
                tracing::warn!("stopping {id} without asking its policies: {error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (mut decisions, shadows) = ([ruling.decision], ruling.shadows);
        // The record has no secret values, but the actions may need them.
        let [Decision { outcome, .. }] = &decisions;
        let outcome = outcome.clone();
        if let Err(error) = self.record_without(&mut decisions, shadows, &values) {
            // Unrecorded actions are not carried out, but a workspace can be stopped even when the disk is full.
            tracing::warn!("stopping {id} without its policies' actions: {error}");
            return Ok(());
        }
        let Outcome::Actions { actions, delay_ms } = outcome else { return Ok(()) };
        if actions.is_empty() && delay_ms == 0 {
            return Ok(());
        }
        if container.state == State::Paused && !actions.is_empty() {
            // It is about to end, and while frozen it cannot run the actions.
            self.go_on(&container.id).await?;
        }
        let known = workspace.notes.len();
        if matches!(container.state, State::Running | State::Paused) {
            let container = self.docker.inspect(&container.id).await?;
            for (policy, action) in actions {
                if let Err(reason) = self.act(&mut workspace, &container, &policy, action).await {
                    tracing::warn!("{reason}");
                    workspace.notes.push(reason);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(delay_ms.into())) => {}
                () = self.interrupted() => {}
            }
        }
        // Only the new notes are written: a command may have run in it meanwhile, and a sweep must see that.
        let notes = workspace.notes.split_off(known);
        if !notes.is_empty() {
            self.store.update_workspace(id, |workspace| workspace.notes.extend(notes))?;
        }
        Ok(())
    }

    /// Removes container and networks from the engine. A missing object is no error.
    pub(in crate::lifecycle) async fn remove_from_engine(
        &self,
        id: &WorkspaceId,
        container: &Container,
    ) -> Result<(), Error> {
        self.remove_container(&container.id).await?;
        self.drop_networks(&self.network_owner(id, container)?).await
    }
}

pub(in crate::lifecycle) fn lives(container: &Container) -> bool {
    matches!(container.state, State::Running | State::Paused | State::Restarting)
}
