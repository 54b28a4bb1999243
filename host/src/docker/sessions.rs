//! Commands that run in a container in addition to its own command.

use serde::Deserialize;

use super::error::{Error, Result};
use super::http::{Call, encode};
use super::{Docker, containers};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "ExecIDs", default)]
    exec_ids: Option<Vec<String>>,
    config: RawConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    #[serde(default)]
    healthcheck: Option<RawCheck>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck {
    #[serde(default)]
    test: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawExec {
    running: bool,
    #[serde(default)]
    open_stdin: bool,
    process_config: RawProcess,
}

#[derive(Deserialize)]
struct RawProcess {
    #[serde(default)]
    tty: bool,
    entrypoint: String,
    #[serde(default)]
    arguments: Option<Vec<String>>,
}

impl Docker {
    /// Counts the commands that run in a container in addition to its own command and its health check, of all
    /// clients.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn sessions(&self, id: &str) -> Result<u32> {
        let call = Call::get("inspect the container", format!("{}/json", containers::path(id)?));
        let inspected: Inspected = self.http().json(&call.about("container", id)).await?;
        let check = inspected.config.healthcheck.and_then(|check| check.test).unwrap_or_default();
        let mut count = 0;
        for exec in inspected.exec_ids.unwrap_or_default() {
            let call = Call::get("inspect the command", format!("/exec/{}/json", encode(&exec)));
            match self.http().json::<RawExec>(&call.about("command", &exec)).await {
                Ok(exec) => count += u32::from(exec.running && !is_check(&exec, &check)),
                // The command ended between the two calls.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

/// Returns whether a command is a run of the health check: the same words, without a terminal or input.
fn is_check(exec: &RawExec, check: &[String]) -> bool {
    let Some((kind, words)) = check.split_first() else { return false };
    let mut runs = vec![exec.process_config.entrypoint.clone()];
    runs.extend(exec.process_config.arguments.iter().flatten().cloned());
    let same = match kind.as_str() {
        "CMD" => runs == words,
        // The engine puts the image's shell in front.
        "CMD-SHELL" => runs.last() == words.first(),
        _ => false,
    };
    same && !exec.process_config.tty && !exec.open_stdin
}
