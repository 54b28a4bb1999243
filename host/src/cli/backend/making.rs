//! Making workspaces, images and snapshots by a service, which tells of its progress; and waiting for workspaces.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Backend, meant, path};
use crate::cli::Failure;
use crate::client::{Client, Error, Problem, Query};
use crate::config::Span;
use crate::docker::PullProgress;
use crate::lifecycle::{Awaited, Progress, Target, WaitView};

/// A step, as a service tells it.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Told {
    Step {
        text: String,
    },
    Pull(PullProgress),
    Build {
        text: String,
    },
    /// What later services may tell.
    #[serde(other)]
    Other,
}

impl Backend {
    /// Waits until the workspace that is meant is so.
    pub(crate) async fn wait(
        &self,
        target: &Target,
        awaited: Awaited,
        timeout: Option<Span>,
    ) -> Result<WaitView, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let id = lifecycle.find(target).await?;
                let waited = lifecycle.wait(&id, awaited, timeout.map(|span| span.0), false).await?;
                Ok(waited.view(id, awaited))
            }
            Self::Service(client) => {
                let mut body = json!({ "for": awaited });
                if let Some(timeout) = timeout {
                    body["timeout"] = json!(timeout);
                }
                Ok(client.post(&path(&meant(client, target).await?, "wait"), &body).await?)
            }
        }
    }
}

/// Has a service make something, tells of its progress, and gives what was made.
///
/// The service carries it to its end, whether we wait for it or not.
pub(crate) async fn made<T: DeserializeOwned>(
    client: &Client,
    (path, query): (&str, Query<'_>),
    body: &Value,
    progress: &mut dyn FnMut(Progress),
) -> Result<T, Failure> {
    let strange = |cause: serde_json::Error| Error::Answer { server: client.server(), cause: cause.to_string() };
    let making = async {
        let mut events = client.post_events(path, query, body).await?;
        while let Some(event) = events.next().await? {
            match event.event.as_str() {
                "progress" => match event.value().map_err(strange)? {
                    Told::Step { text } => progress(Progress::Step(text)),
                    Told::Build { text } => progress(Progress::Build(text)),
                    Told::Pull(pull) => progress(Progress::Pull(pull)),
                    Told::Other => {}
                },
                "result" => return Ok(event.value().map_err(strange)?),
                "problem" => {
                    let problem: Problem = event.value().map_err(strange)?;
                    return Err(Error::Problem(Box::new(problem)).into());
                }
                _ => {}
            }
        }
        let text = format!("the service at {} ended before it said what came of it", client.server());
        Err(Failure::new("service-answer", text, "'wharf ls' shows what is there", 1))
    };
    tokio::select! {
        made = making => made,
        _ = tokio::signal::ctrl_c() => {
            let text = format!("interrupted; the service at {} carries it to its end", client.server());
            Err(Failure::new("interrupted", text, "'wharf ls' shows what came of it", 130))
        }
    }
}

/// The whole path of a folder or file that a service is to use. A relative one is meant here, so the service has to be here, too.
pub(crate) fn folder_there(client: &Client, what: &str, path: &Path) -> Result<String, Failure> {
    let path = if client.is_local() { std::path::absolute(path)? } else { path.to_path_buf() };
    if !path.is_absolute() {
        let text = format!(
            "{what} '{}' is a place on this machine, which means nothing to the service at {}",
            path.display(),
            client.server()
        );
        return Err(Failure::new("bad-request", text, "name its absolute path on the service's machine", 2));
    }
    path.into_os_string().into_string().map_err(|path| no_plain_text(&format!("{what} '{}'", path.display())))
}

/// Bytes that JSON cannot have.
pub(crate) fn no_plain_text(what: &str) -> Failure {
    let text = format!("{what} is not plain UTF-8 text, and cannot be sent to a service");
    Failure::new("bad-request", text, "run the command on the service's machine, without --server", 2)
}
