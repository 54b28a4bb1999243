//! Running commands: `pre-exec` decides, the engine runs, the exit code is the command's.

use super::{Error, Lifecycle};
use crate::docker::{self, ExecRequest, ExecSession};
use crate::hooks::{ExecSpec, Hook, Outcome, Subject};
use crate::workspace::WorkspaceId;

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
        let container = match self.running(id).await {
            Err(Error::NotRunning { .. }) if self.resume(id).await? => self.running(id).await?,
            other => other?,
        };
        let exec = self.allow_exec(id, spec).await?;
        let request = ExecRequest {
            command: exec.command,
            env: exec.env,
            user: exec.user,
            working_dir: exec.working_dir,
            tty: exec.tty,
            stdin,
            size,
            detach_keys: None,
        };
        match self.docker.exec(&container.id, &request).await {
            // It was being stopped as idle just then.
            Err(docker::Error::NotRunning { .. }) if self.resume(id).await? => {
                Ok(self.docker.exec(&container.id, &request).await?)
            }
            other => Ok(other?),
        }
    }

    /// Runs `pre-exec`, and gives the command as its policies adjusted it.
    pub(super) async fn allow_exec(&self, id: &WorkspaceId, spec: ExecSpec) -> Result<ExecSpec, Error> {
        // Secrets are shown to policies as `***` and put back afterwards.
        let real = spec.env.clone();
        let mut shown = spec;
        self.secrets.redact_env(&mut shown.env);
        let mut exec = shown.clone();
        if let Some(workspace) = self.store.workspace(id)? {
            let request = self.request_about(&workspace, Hook::PreExec, Subject::Exec(shown));
            let mut decisions = [self.decide(move |chain| chain.decide_exec(request)).await?];
            // Redaction blanks what a policy set, too; what runs needs the real values.
            let outcome = decisions.first().map(|decision| decision.outcome.clone());
            self.record(&mut decisions)?;
            match outcome {
                Some(Outcome::AllowedExec(allowed)) => exec = allowed,
                Some(Outcome::Denied(refusal)) => {
                    let trail = decisions.into_iter().flat_map(|decision| decision.steps).collect();
                    return Err(Error::Denied { refusal, trail });
                }
                other => return Err(Error::Internal(format!("pre-exec came out as {other:?}"))),
            }
            self.store.update_workspace(id, |workspace| workspace.last_activity = Some(jiff::Timestamp::now()))?;
        }
        for (name, value) in &mut exec.env {
            if value == crate::hooks::record::REDACTED
                && let Some(real) = real.get(name)
            {
                value.clone_from(real);
            }
        }
        Ok(exec)
    }
}
