//! Running commands: `pre-exec` decides, the engine runs, the exit code is the command's.

use crate::docker::{self, ExecRequest, ExecSession};
use crate::hooks::{Adjustment, ExecSpec, Hook, Outcome, Subject};
use crate::lifecycle::secrets::withheld_values::WithheldExec;
use crate::lifecycle::{Error, Lifecycle};
use crate::workspace::{Container, WorkspaceId};

impl Lifecycle {
    /// Starts a command in a running workspace.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Denied`], or the engine's.
    pub async fn exec(
        &self,
        id: &WorkspaceId,
        spec: ExecSpec,
        stdin: bool,
        size: Option<(u16, u16)>,
    ) -> Result<ExecSession, Error> {
        let (container, exec) = self.ready_for(id, spec).await?;
        let request = ExecRequest { stdin, size, ..of(exec) };
        match self.docker.exec(&container.id, &request).await {
            Err(error @ docker::Error::NotRunning { .. }) => {
                self.run_again(id, error).await?;
                Ok(self.docker.exec(&container.id, &request).await?)
            }
            other => Ok(other?),
        }
    }

    /// Starts a command in a running workspace and detaches from it; returns the engine's ID of the command.
    ///
    /// # Errors
    /// As [`Lifecycle::exec`], and that the command does not exist or cannot be executed.
    pub async fn exec_detached(&self, id: &WorkspaceId, spec: ExecSpec) -> Result<String, Error> {
        let (container, exec) = self.ready_for(id, spec).await?;
        let request = of(exec);
        match self.docker.exec_detached(&container.id, &request).await {
            Err(error @ docker::Error::NotRunning { .. }) => {
                self.run_again(id, error).await?;
                Ok(self.docker.exec_detached(&container.id, &request).await?)
            }
            other => Ok(other?),
        }
    }

    /// Starts a workspace again that was just being stopped as idle. For any other workspace, the error has its state.
    async fn run_again(&self, id: &WorkspaceId, error: docker::Error) -> Result<(), Error> {
        if self.resume(id).await? {
            return Ok(());
        }
        self.running(id).await?;
        Err(error.into())
    }

    /// Returns the running container, started again if it was stopped as idle, and the command as `pre-exec` allows it.
    async fn ready_for(&self, id: &WorkspaceId, spec: ExecSpec) -> Result<(Container, ExecSpec), Error> {
        let container = match self.running(id).await {
            Err(Error::NotRunning { .. }) if self.resume(id).await? => self.running(id).await?,
            other => other?,
        };
        let spec = self.allow_exec(id, &container, spec).await?;
        Ok((container, spec))
    }

    /// Runs `pre-exec`, and returns the command with the adjustments of its policies.
    pub(in crate::lifecycle) async fn allow_exec(
        &self,
        id: &WorkspaceId,
        container: &Container,
        spec: ExecSpec,
    ) -> Result<ExecSpec, Error> {
        check(&spec)?;
        // Policies see secrets as `***`, and the values are restored afterwards: values of secret variables of the
        // workspace or of this command, also where they occur in the words of the command.
        let secret = spec.env.iter().filter(|(name, _)| self.secrets.contains(name));
        let own = secret.map(|(_, value)| value.clone());
        let values: Vec<String> = own.chain(self.secret_values(container)).collect();
        let withheld = WithheldExec::hide(spec, &self.secrets, &values);
        let mut exec = withheld.shown.clone();
        if let Some(workspace) = self.store.workspace(id)? {
            let request = self.request_about(&workspace, Hook::PreExec, Subject::Exec(exec.clone()));
            let ruling = self.decide_without(request, &values, |chain, request| chain.decide_exec(request)).await?;
            let (mut decisions, shadows) = ([ruling.decision], ruling.shadows);
            // Redaction also removes values that a policy set, but the command needs the real values.
            let mut outcome = decisions.first().map(|decision| decision.outcome.clone());
            if let Some(Outcome::Denied(refusal)) = &mut outcome {
                self.secrets.redact_refusal(refusal, &decisions, &values);
            }
            self.record_without(&mut decisions, shadows, &values)?;
            match outcome {
                Some(Outcome::AllowedExec(allowed)) => exec = allowed,
                Some(Outcome::Denied(refusal)) => {
                    let trail = decisions.into_iter().flat_map(|decision| decision.steps).collect();
                    return Err(Error::Denied { refusal, trail });
                }
                other => return Err(Error::Internal(format!("unexpected outcome of pre-exec: {other:?}"))),
            }
            self.store.update_workspace(id, |workspace| workspace.last_activity = Some(jiff::Timestamp::now()))?;
        }
        withheld.fill_in(&mut exec);
        Ok(exec)
    }
}

/// Checks a command in itself. A name such as `A=B` would be another variable than policies see.
fn check(exec: &ExecSpec) -> Result<(), Error> {
    let env = exec.env.iter().map(|(name, value)| Adjustment::Env(name.clone(), Some(value.clone())));
    let command = std::iter::once(Adjustment::Command(exec.command.clone()));
    let user = exec.user.iter().map(|user| Adjustment::User(Some(user.clone())));
    let folder = exec.working_dir.iter().map(|folder| Adjustment::WorkingDir(folder.clone()));
    env.chain(command).chain(user).chain(folder).try_for_each(|field| field.check().map_err(Error::Request))
}

fn of(exec: ExecSpec) -> ExecRequest {
    let ExecSpec { command, env, user, working_dir, tty } = exec;
    ExecRequest { command, env, user, working_dir, tty, ..ExecRequest::default() }
}
