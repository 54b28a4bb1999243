//! Containers: create, change state, inspect, list, wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::error::{self, Error, Result};
use super::http::{Call, QUICK, SLOW, encode, filters, parse};
use super::{Docker, spec_map};
use crate::workspace::{Container, ContainerSpec, LABEL_HOST, Resources, Restart};

mod report;
pub(super) use report::time;
use report::{Inspected, Listed, container, summary};

/// The parameters of a container's creation.
#[derive(Debug, Clone)]
pub struct CreateRequest<'a> {
    /// Name of the container.
    pub name: &'a str,
    /// The decided spec. It must have an image.
    pub spec: &'a ContainerSpec,
    /// Labels in addition to the spec's, including the `wharf.` labels. They override the spec's.
    pub labels: &'a BTreeMap<String, String>,
    /// The network to connect to if the spec says [`crate::workspace::Network::Shared`] or `Own`.
    pub network_name: Option<&'a str>,
    /// Additional names of the container on that network.
    pub aliases: &'a [String],
    /// Whether the engine adds its init process, which reaps zombies.
    pub init: bool,
    /// The JSON of the seccomp profile, if the spec names a profile of the configuration.
    pub seccomp_profile: Option<&'a str>,
    /// Whether the engine must enforce the spec's disk limit. If its storage driver cannot, it refuses the whole
    /// request with [`Error::Unsupported`].
    pub enforce_disk: bool,
}

/// A container that was just created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The engine's id.
    pub id: String,
    /// The engine's warnings, e.g. about a limit that the kernel cannot enforce.
    pub warnings: Vec<String>,
}

/// Whether a call changed the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The state has changed.
    Done,
    /// The container was already in that state.
    Already,
}

impl Docker {
    /// Creates a container without starting it.
    ///
    /// # Errors
    /// [`Error::ImageMissing`], [`Error::NameTaken`], [`Error::MountSourceMissing`], [`Error::Unsupported`] (disk
    /// limit), [`Error::BadRequest`].
    pub async fn create(&self, request: &CreateRequest<'_>) -> Result<Created> {
        const OPERATION: &str = "create the container";
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            id: String,
            warnings: Option<Vec<String>>,
        }
        let body = spec_map::create_body(request)?;
        let call = Call::post(OPERATION, format!("/containers/create?name={}", encode(request.name)))
            .about("container", request.name)
            .within(SLOW)
            .json(&body)?;
        let reply = self.http().send(&call).await?;
        if reply.is_success() {
            let answer: Answer = parse(OPERATION, &reply.body)?;
            return Ok(Created { id: answer.id, warnings: answer.warnings.unwrap_or_default() });
        }
        let cause = error::clean(&reply.message());
        let image = || request.spec.image.as_ref().map(|image| image.reference.clone()).unwrap_or_default();
        if reply.status == 404 && cause.contains("No such image") {
            return Err(Error::ImageMissing { reference: image() });
        }
        if reply.status == 409 && cause.contains("name") && cause.contains("in use") {
            return Err(Error::NameTaken { name: request.name.to_owned() });
        }
        if let Some((_, path)) = cause.split_once("bind source path does not exist: ") {
            return Err(Error::MountSourceMissing { operation: OPERATION, path: path.to_owned() });
        }
        if cause.contains("storage-opt") || cause.contains("storage driver does not support") {
            return Err(Error::Unsupported { operation: OPERATION, cause });
        }
        Err(call.error(&reply))
    }

    /// Starts a container.
    ///
    /// # Errors
    /// [`Error::CommandNotFound`], [`Error::CommandNotExecutable`], [`Error::PortInUse`], [`Error::StartFailed`],
    /// [`Error::NotFound`].
    pub async fn start(&self, id: &str) -> Result<Effect> {
        let call = change("start the container", id, "start")?.within(SLOW);
        let reply = self.http().send(&call).await?;
        match reply.status {
            304 => Ok(Effect::Already),
            _ if reply.is_success() => Ok(Effect::Done),
            404 if reply.message().contains("No such container") => Err(call.error(&reply)),
            status => Err(error::start_error(status, &reply.message())),
        }
    }

    /// Asks a container to end and kills it after `timeout` (whole seconds).
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Timeout`] if the engine takes more than 60 s longer than the timeout.
    pub async fn stop(&self, id: &str, timeout: Duration) -> Result<Effect> {
        let call = change("stop the container", id, &format!("stop?t={}", timeout.as_secs()))?;
        self.effect(call.within(timeout + Duration::from_secs(60))).await
    }

    /// Renames a container.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NameTaken`].
    pub async fn rename(&self, id: &str, name: &str) -> Result<()> {
        let call = change("rename the container", id, &format!("rename?name={}", encode(name)))?;
        let reply = self.http().send(&call).await?;
        match reply.status {
            _ if reply.is_success() => Ok(()),
            409 => Err(Error::NameTaken { name: name.to_owned() }),
            _ => Err(call.error(&reply)),
        }
    }

    /// Stops a container as [`Docker::stop`] does, and starts it again.
    ///
    /// # Errors
    /// The errors of [`Docker::stop`] and [`Docker::start`].
    pub async fn restart(&self, id: &str, timeout: Duration) -> Result<()> {
        let call = change("restart the container", id, &format!("restart?t={}", timeout.as_secs()))?;
        let call = call.within(timeout + SLOW);
        let reply = self.http().send(&call).await?;
        match reply.status {
            _ if reply.is_success() => Ok(()),
            404 if reply.message().contains("No such container") => Err(call.error(&reply)),
            status => Err(error::start_error(status, &reply.message())),
        }
    }

    /// Changes the limits and the restart policy of a container, running or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unsupported`], [`Error::Engine`] if the kernel refuses, e.g. a memory limit
    /// below the current use.
    pub async fn update(&self, id: &str, resources: &Resources, restart: Restart) -> Result<()> {
        let body = spec_map::update_body(resources, restart);
        let call = change("update the limits of the container", id, "update")?.json(&body)?;
        let reply = self.http().send(&call).await?;
        match reply.status {
            _ if reply.is_success() => Ok(()),
            // Podman before 5 has no such call.
            404 if !reply.message().to_lowercase().contains("no such container") => {
                let cause = "this engine cannot change the limits of an existing container".to_owned();
                Err(Error::Unsupported { operation: call.operation, cause })
            }
            _ => Err(call.error(&reply)),
        }
    }

    /// Sends a signal (`SIGHUP`, `HUP` or a number) to the first process of a container.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NotFound`], [`Error::BadRequest`] for an unknown signal.
    pub async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        let call = change("send a signal to the container", id, &format!("kill?signal={}", encode(signal)))?;
        let reply = self.http().send(&call).await?;
        if reply.is_success() {
            return Ok(());
        }
        // Before 27, an unknown signal is reported as a plain failure.
        let cause = error::clean(&reply.message());
        if cause.to_lowercase().contains("invalid signal") {
            return Err(Error::BadRequest { operation: call.operation, cause });
        }
        Err(call.error(&reply))
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Conflict`] if the container is already paused, [`Error::NotFound`].
    pub async fn pause(&self, id: &str) -> Result<()> {
        self.http().ok(&change("pause the container", id, "pause")?).await.map(drop)
    }

    /// Resumes the processes of a paused container.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the container is not paused, [`Error::NotFound`].
    pub async fn unpause(&self, id: &str) -> Result<()> {
        let call = change("unpause the container", id, "unpause")?;
        let reply = self.http().send(&call).await?;
        if reply.is_success() {
            return Ok(());
        }
        // Up to 28 this is a plain failure with status 500. Just after a pause and an unpause the engine may still
        // consider the container paused, because it processes the runtime's events late. The runtime then reports
        // that it is running.
        let cause = error::clean(&reply.message());
        if cause.contains("is not paused") || cause.contains("cannot resume a running process") {
            return Err(Error::Conflict { operation: call.operation, cause });
        }
        Err(call.error(&reply))
    }

    /// Removes a container. `force` kills it first. `volumes` also removes its anonymous volumes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] if the container runs without `force`, or is already being removed.
    pub async fn remove(&self, id: &str, force: bool, volumes: bool) -> Result<()> {
        let path = format!("{}?force={force}&v={volumes}", path(id)?);
        let call = Call::delete("remove the container", path).about("container", id).within(SLOW);
        self.http().ok(&call).await.map(drop)
    }

    /// Returns the details of one container, by id or exact name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn inspect(&self, id: &str) -> Result<Container> {
        Ok(self.inspect_with_pid(id).await?.0)
    }

    /// Returns the same as [`Docker::inspect`], plus the number of the container's first process on the engine's
    /// machine while it runs.
    pub(super) async fn inspect_with_pid(&self, id: &str) -> Result<(Container, Option<u32>)> {
        let call = Call::get("inspect the container", format!("{}/json", path(id)?)).about("container", id);
        let raw: Inspected = self.http().json(&call).await?;
        let pid = raw.pid();
        Ok((container(raw)?, pid))
    }

    /// Returns the size of a container's writable layer in bytes; none if the engine does not report it. The engine
    /// walks all files for it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn writable_size(&self, id: &str) -> Result<Option<u64>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "SizeRw")]
            size: Option<i64>,
        }
        let path = format!("{}/json?size=true", path(id)?);
        let call = Call::get("measure the container", path).about("container", id).within(SLOW);
        let answer: Answer = self.http().json(&call).await?;
        Ok(answer.size.and_then(|size| u64::try_from(size).ok()))
    }

    /// Lists the containers that have all of these labels with exactly these values. `all` includes containers that
    /// do not run.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn list(&self, labels: &[(&str, &str)], all: bool) -> Result<Vec<Container>> {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let path = format!("/containers/json?all={all}&{}", filters("label", &wanted));
        let listed: Vec<Listed> = self.http().json(&Call::get("list the containers", path)).await?;
        let has = |raw: &Listed| labels.iter().all(|(key, value)| raw.labels.get(*key).is_some_and(|v| v == value));
        listed.into_iter().filter(has).map(summary).collect()
    }

    /// Lists all containers of this installation, including those that do not run. A caller that arrives while a list
    /// is in progress shares the next list with all other waiting callers. That list starts after each of them
    /// called.
    ///
    /// # Errors
    /// The errors of [`Docker::list`].
    pub async fn list_ours(&self) -> Result<Arc<Vec<Container>>> {
        let list = async || Ok(Arc::new(self.list(&[(LABEL_HOST, &self.inner.host_id)], true).await?));
        self.inner.ours.ask(list).await
    }

    /// Waits until a container does not run, for as long as that takes, and returns its exit code.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Stream`] if the connection to the engine is lost meanwhile.
    pub async fn wait(&self, id: &str) -> Result<i64> {
        const OPERATION: &str = "wait for the container";
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            status_code: i64,
            error: Option<Failure>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Failure {
            message: String,
        }
        let call = change(OPERATION, id, "wait?condition=not-running")?.within(QUICK);
        let mut body = self.http().stream(&call).await?;
        let mut text = Vec::new();
        while let Some(chunk) = body.chunk().await {
            text.extend_from_slice(&chunk.map_err(|error| call.broken(error))?);
        }
        if text.is_empty() {
            return Err(call.broken("it closed the connection without a response"));
        }
        let answer: Answer = parse(OPERATION, &text)?;
        match answer.error {
            Some(error) if !error.message.is_empty() => {
                Err(Error::Engine { operation: OPERATION, status: 200, message: error.message })
            }
            _ => Ok(answer.status_code),
        }
    }

    async fn effect(&self, call: Call) -> Result<Effect> {
        let reply = self.http().ok(&call).await?;
        Ok(if reply.status == 304 { Effect::Already } else { Effect::Done })
    }
}

/// Builds a call that changes a container.
fn change(operation: &'static str, id: &str, verb: &str) -> Result<Call> {
    Ok(Call::post(operation, format!("{}/{verb}", path(id)?)).about("container", id))
}

/// Returns the API path of a container. Text that cannot be an id or name is rejected: `..` or an empty name would be
/// another path.
pub(super) fn path(id: &str) -> Result<String> {
    let valid = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if valid {
        Ok(format!("/containers/{id}"))
    } else {
        Err(Error::NotFound { what: "container", name: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_container_is_not_sent_to_the_engine() {
        for bad in ["", "..", "a/b", "../networks/x", "a?force=1", "-x", "a b"] {
            assert_eq!(path(bad).unwrap_err().code(), "not-found", "{bad:?}");
        }
        assert_eq!(path("wharf-shop-1a2b3c").unwrap(), "/containers/wharf-shop-1a2b3c");
    }
}
