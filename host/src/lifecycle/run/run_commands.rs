//! The commands of a `devcontainer.json`: they run in the workspace, never on the host, one after the other. A policy
//! may deny each at `pre-exec`. The first failure ends them and marks the workspace degraded; it keeps running.

use std::path::Path;

use crate::devcontainer::{Command, OWNER, Record};
use crate::docker::{ExecControl, ExecEnd, ExecRequest};
use crate::hooks::ExecSpec;
use crate::lifecycle::create::owner::hint;
use crate::lifecycle::observe::view::view;
use crate::lifecycle::{Error, Lifecycle};
use crate::store;
use crate::wire::Progress;
use crate::workspace::{Container, State, WorkspaceId};

/// Kills a command with its children; returns a text about the result.
async fn killed(control: &ExecControl) -> String {
    match control.kill().await {
        Ok(true) => " and was killed".to_owned(),
        // It has ended by itself meanwhile.
        Ok(false) => String::new(),
        Err(error) => format!(" and may still run: {error}"),
    }
}

/// Runs a command so that its background processes outlive it. The engine closes the output of an exec when its process
/// ends, and a process that writes to it then dies. So the command writes to a pipe, a loop passes its lines on until the
/// command has ended, and `cat` takes the rest. Without a shell's tools, the command runs as it is.
const KEEPING_BACKGROUND: &str = r#"
d=$(mktemp -d 2>/dev/null) && mkfifo -m 600 "$d/o" 2>/dev/null || { [ -z "$d" ] || rmdir "$d"; exec "$@"; }
m=":end of command $$:"
{
  while IFS= read -r l <&4 && [ "$l" != "$m" ]; do printf '%s\n' "$l"; done
  cat <&4 >/dev/null 2>&1 &
} 4<"$d/o" &
r=$!
exec 3>"$d/o"
rm -rf "$d"
"$@" >&3 2>&3 3>&-
c=$?
printf '\n%s\n' "$m" >&3
exec 3>&-
wait "$r"
exit "$c"
"#;

/// The limit of a command's output that is shown, in bytes.
const SHOWN: usize = 64 << 10;
/// The longest line of it.
const LINE: usize = 1 << 10;

impl Lifecycle {
    /// Stores the current content of a project's file for a workspace that need not be recreated for it.
    pub(in crate::lifecycle) fn keep_record(&self, id: &WorkspaceId, record: Option<Record>) -> Result<(), Error> {
        let stored = self.store.workspace(id)?.and_then(|workspace| workspace.devcontainer);
        let record = record.map(|record| match &stored {
            Some(old) => Record { once_done: old.once_done, failed: old.failed.clone(), ..record },
            None => record,
        });
        if record != stored {
            self.store.update_workspace(id, |workspace| workspace.devcontainer = record)?;
        }
        Ok(())
    }

    /// Runs the due commands: those of the creation that have not all succeeded yet, and after a start those of each
    /// start. Returns the workspace as it is stored then.
    pub(in crate::lifecycle) async fn run_commands(
        &self,
        workspace: store::Workspace,
        container: &Container,
        started: bool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<store::Workspace, Error> {
        let id = workspace.id.clone();
        let Some(mut record) = workspace.devcontainer.clone() else { return Ok(workspace) };
        record.commands.fill_in(&self.secret_variables(container));
        let (once, each) = (&record.commands.once, &record.commands.each_start);
        let user = record.commands.user.as_deref();
        let due = !record.once_done || record.failed.is_some() || (started && !each.is_empty());
        if !due || container.state != State::Running {
            return Ok(workspace);
        }
        let mut failed = None;
        let mut done = record.once_done;
        if !done {
            failed = self.run_each(&workspace, container, (once, user), progress).await;
            done = failed.is_none();
            self.store.update_workspace(&id, |workspace| {
                workspace.devcontainer.iter_mut().for_each(|record| record.once_done = done);
            })?;
        }
        if done {
            failed = self.run_each(&workspace, container, (each, user), progress).await;
        }
        if let Some(reason) = &failed {
            tracing::warn!("{id}: {reason}");
        }
        self.store.update_workspace(&id, |workspace| {
            workspace.devcontainer.iter_mut().for_each(|record| record.failed.clone_from(&failed));
        })?;
        // The workspace is made; the next 'up' runs the remaining commands.
        if self.check_interrupt().is_err() {
            return Err(Error::LeftOff(format!("{id} is created and running; 'wharf up' runs the remaining commands")));
        }
        Ok(self.store.workspace(&id)?.unwrap_or(workspace))
    }

    /// Runs the remaining commands when `up` is called for a running workspace.
    pub(in crate::lifecycle) async fn finish_commands(
        &self,
        stored: Option<store::Workspace>,
        container: &Container,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<crate::lifecycle::WorkspaceView, Error> {
        let stored = match stored {
            Some(workspace) => Some(self.run_commands(workspace, container, false, progress).await?),
            None => None,
        };
        view(stored.as_ref(), Some(container)).ok_or_else(|| Error::not_found(container.name.clone()))
    }

    async fn run_each(
        &self,
        workspace: &store::Workspace,
        container: &Container,
        (commands, user): (&[Command], Option<&str>),
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Option<String> {
        let scrub = self.scrubs(container);
        for command in commands {
            let shown = match command.words.as_slice() {
                [shell, flag, line] if shell == "/bin/sh" && flag == "-c" => line.clone(),
                words => words.join(" "),
            };
            let shown = scrub.text(&clean(&shown));
            progress(Progress::step(format!("{}: {shown}", command.property)));
            if let Err(reason) = self.run_command(workspace, container, (command, user), progress).await {
                return Some(self.without_secrets(container, format!("{} failed: {reason}", command.property)));
            }
        }
        None
    }

    async fn run_command(
        &self,
        workspace: &store::Workspace,
        container: &Container,
        (command, user): (&Command, Option<&str>),
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), String> {
        let draft = &workspace.draft;
        // The project must not change a user that was decided elsewhere.
        let own = draft.owners.get("user").is_none_or(|owner| owner.policy == OWNER);
        let user = user.filter(|_| own).map(str::to_owned);
        let working_dir = crate::lifecycle::secrets::scrub::working_dir(workspace, container);
        let spec = ExecSpec { command: command.words.clone(), user, working_dir, ..ExecSpec::default() };
        let allowed = self.allow_exec(&workspace.id, container, spec).await.map_err(|error| error.to_string())?;
        let shell = ["/bin/sh", "-c", KEEPING_BACKGROUND, "wharf"].map(str::to_owned);
        // A command without a shell may run in an image without one.
        let in_shell = allowed.command.first().is_some_and(|program| program == "/bin/sh");
        let request = ExecRequest {
            command: match in_shell {
                true => shell.into_iter().chain(allowed.command).collect(),
                false => allowed.command,
            },
            env: allowed.env,
            user: allowed.user,
            working_dir: allowed.working_dir,
            ..ExecRequest::default()
        };
        let limit = self.loaded().config.devcontainer.command_timeout.0;
        let (mut said, scrub) = (Said::default(), self.scrubs(container));
        let session = self.docker.exec(&container.id, &request).await.map_err(|error| error.to_string())?;
        let (mut output, stdin, control) = session.into_parts();
        drop(stdin);
        let run = async {
            while let Some(item) = output.next().await {
                let (_, bytes) = item?;
                said.add(&bytes, &mut |line| progress(Progress::build(scrub.text(line))));
            }
            control.exit().await
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, run) => ended,
            () = self.interrupted() => {
                return Err(format!("it was interrupted{}", killed(&control).await));
            }
        };
        said.end(&mut |line| progress(Progress::build(scrub.text(line))));
        match ended {
            Err(_) => Err(format!(
                "it took longer than {} (devcontainer.command_timeout){}",
                crate::config::Span(limit),
                killed(&control).await
            )),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(ExecEnd::Exited(0) | ExecEnd::Detached)) => Ok(()),
            Ok(Ok(ExecEnd::Exited(code))) => {
                let last = scrub.text(&said.last);
                let hint = hint(draft, Path::new(&workspace.project), &last);
                Err(format!("it exited with code {code}{}{last}{hint}", if last.is_empty() { "" } else { ": " }))
            }
        }
    }
}

/// The output of a command in whole lines, up to the limit.
#[derive(Default)]
struct Said {
    line: Vec<u8>,
    shown: usize,
    /// The last line that is not empty.
    last: String,
}

impl Said {
    fn add(&mut self, bytes: &[u8], show: &mut dyn FnMut(&str)) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end(show),
                // The rest of a longer line is left out.
                _ if self.line.len() < LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end(&mut self, show: &mut dyn FnMut(&str)) {
        let line = clean(&String::from_utf8_lossy(&self.line));
        self.line.clear();
        if line.trim().is_empty() {
            return;
        }
        if self.shown < SHOWN {
            self.shown += line.len();
            show(&line);
            if self.shown >= SHOWN {
                show("... further output is not shown");
            }
        }
        self.last = line;
    }
}

/// Makes the output of a project's command safe for a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_shown_in_whole_lines_and_only_so_much_of_it() {
        let mut said = Said::default();
        let mut lines = Vec::new();
        let mut show = |line: &str| lines.push(line.to_owned());
        said.add(b"one\ntw", &mut show);
        said.add(b"o\r\n\n\x1b[31mred", &mut show);
        said.end(&mut show);
        said.add(&vec![b'x'; 1 << 20], &mut show);
        said.end(&mut show);
        for _ in 0..10_000 {
            said.add(b"0123456789\n", &mut show);
        }
        said.add(b"last", &mut show);
        said.end(&mut show);
        assert_eq!(lines[..3], ["one", "two", " [31mred"]);
        assert_eq!((lines[3].len(), said.last.as_str()), (LINE, "last"));
        let all: usize = lines.iter().map(String::len).sum();
        assert!(all < SHOWN + 200 && lines.last().unwrap().contains("further"), "{all}");
    }
}
