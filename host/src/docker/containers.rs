//! Containers: create, change state, inspect, list, wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::error::{self, Error, Result};
use super::http::{Call, QUICK, SLOW, encode, filters, parse};
use super::{Docker, spec_map};
use crate::workspace::{Container, ContainerSpec, Port, State};

/// Everything that the engine is told when a container is created.
#[derive(Debug, Clone)]
pub struct CreateRequest<'a> {
    /// Name of the container.
    pub name: &'a str,
    /// What was decided. It must have an image.
    pub spec: &'a ContainerSpec,
    /// Labels beside the ones of the spec, the `wharf.` ones included; they win over the spec's.
    pub labels: &'a BTreeMap<String, String>,
    /// The network to connect it to when the spec says [`crate::workspace::Network::Shared`] or `Own`.
    pub network_name: Option<&'a str>,
    /// Whether the engine's init process reaps zombies in it.
    pub init: bool,
    /// The JSON of the seccomp profile, when the spec names one of the configuration's.
    pub seccomp_profile: Option<&'a str>,
    /// Whether the engine is asked to enforce the spec's disk limit. Where its storage driver cannot, it refuses the
    /// whole request with [`Error::Unsupported`].
    pub enforce_disk: bool,
}

/// A container that was just created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The engine's id.
    pub id: String,
    /// What the engine warns about, e.g. a limit that the kernel cannot enforce.
    pub warnings: Vec<String>,
}

/// Whether a change of state was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The state has changed.
    Done,
    /// It was in that state already.
    Already,
}

impl Docker {
    /// Creates a container; it is not started.
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

    /// Asks a container to end, and kills it after `timeout` (whole seconds).
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Timeout`] when the engine needs 60 s more than the timeout.
    pub async fn stop(&self, id: &str, timeout: Duration) -> Result<Effect> {
        let call = change("stop the container", id, &format!("stop?t={}", timeout.as_secs()))?;
        self.effect(call.within(timeout + Duration::from_secs(60))).await
    }

    /// Stops a container as [`Docker::stop`] does, and starts it again.
    ///
    /// # Errors
    /// The ones of [`Docker::stop`] and [`Docker::start`].
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
        // Before 27 an unknown signal is a plain failure.
        let cause = error::clean(&reply.message());
        if cause.to_lowercase().contains("invalid signal") {
            return Err(Error::BadRequest { operation: call.operation, cause });
        }
        Err(call.error(&reply))
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Conflict`] when it is paused already, [`Error::NotFound`].
    pub async fn pause(&self, id: &str) -> Result<()> {
        self.http().ok(&change("pause the container", id, "pause")?).await.map(drop)
    }

    /// Lets the processes of a paused container go on.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not paused, [`Error::NotFound`].
    pub async fn unpause(&self, id: &str) -> Result<()> {
        let call = change("unpause the container", id, "unpause")?;
        let reply = self.http().send(&call).await?;
        if reply.is_success() {
            return Ok(());
        }
        // Up to 28 this is a plain failure with status 500.
        let cause = error::clean(&reply.message());
        if cause.contains("is not paused") {
            return Err(Error::Conflict { operation: call.operation, cause });
        }
        Err(call.error(&reply))
    }

    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes with it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] when it runs and `force` is not set, or is being removed already.
    pub async fn remove(&self, id: &str, force: bool, volumes: bool) -> Result<()> {
        let path = format!("{}?force={force}&v={volumes}", path(id)?);
        let call = Call::delete("remove the container", path).about("container", id).within(SLOW);
        self.http().ok(&call).await.map(drop)
    }

    /// Tells everything about one container, by id or exact name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn inspect(&self, id: &str) -> Result<Container> {
        let call = Call::get("inspect the container", format!("{}/json", path(id)?)).about("container", id);
        let raw: Inspected = self.http().json(&call).await?;
        container(raw)
    }

    /// Lists the containers that have all of these labels, exactly; `all` includes the ones that do not run.
    ///
    /// # Errors
    /// The ones of a failing engine or a broken connection.
    pub async fn list(&self, labels: &[(&str, &str)], all: bool) -> Result<Vec<Container>> {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let path = format!("/containers/json?all={all}&{}", filters("label", &wanted));
        let listed: Vec<Listed> = self.http().json(&Call::get("list the containers", path)).await?;
        let has = |raw: &Listed| labels.iter().all(|(key, value)| raw.labels.get(*key).is_some_and(|v| v == value));
        listed.into_iter().filter(has).map(summary).collect()
    }

    /// Waits until a container does not run, however long that takes, and gives its exit code.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Stream`] when the engine goes away meanwhile.
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
            return Err(call.broken("it closed without an answer"));
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

/// A call that changes a container.
fn change(operation: &'static str, id: &str, verb: &str) -> Result<Call> {
    Ok(Call::post(operation, format!("{}/{verb}", path(id)?)).about("container", id))
}

/// The path of a container. What cannot be an id or name is not sent: `..` or an empty name would be another path.
pub(super) fn path(id: &str) -> Result<String> {
    let valid = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if valid { Ok(format!("/containers/{id}")) } else { Err(Error::NotFound { what: "container", name: id.to_owned() }) }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    created: String,
    image: String,
    state: RawState,
    config: bollard::models::ContainerConfig,
    host_config: bollard::models::HostConfig,
    network_settings: Option<RawNetworks>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    status: String,
    #[serde(rename = "OOMKilled", default)]
    oom_killed: bool,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    finished_at: String,
    health: Option<RawHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealth {
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNetworks {
    #[serde(default)]
    ports: Option<BTreeMap<String, Option<Vec<RawBinding>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawBinding {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

/// Reads a time of the engine; its zero (`0001-01-01T00:00:00Z`) means never.
pub(super) fn time(text: &str) -> Option<jiff::Timestamp> {
    text.parse::<jiff::Timestamp>().ok().filter(|time| time.as_second() > 0)
}

fn state(text: &str) -> Result<State> {
    text.parse().map_err(|cause| Error::Protocol { operation: "read the state of the container", cause })
}

fn container(raw: Inspected) -> Result<Container> {
    let state = state(&raw.state.status)?;
    let running = matches!(state, State::Running | State::Paused);
    let started_at = time(&raw.state.started_at);
    let ended = started_at.is_some() && !running;
    let mut ports = Vec::new();
    for (key, bindings) in raw.network_settings.and_then(|networks| networks.ports).unwrap_or_default() {
        let Some((container_port, protocol)) = spec_map::port_key(&key) else { continue };
        for binding in bindings.unwrap_or_default() {
            let Ok(port) = binding.host_port.parse() else { continue };
            ports.push(Port { container_port, protocol: protocol.to_owned(), address: binding.host_ip, port });
        }
    }
    Ok(Container {
        id: raw.id,
        name: raw.name.trim_start_matches('/').to_owned(),
        image: raw.config.image.clone().unwrap_or_default(),
        image_id: raw.image,
        state,
        created_at: time(&raw.created),
        started_at,
        finished_at: if ended { time(&raw.state.finished_at) } else { None },
        exit_code: ended.then_some(raw.state.exit_code),
        oom_killed: raw.state.oom_killed,
        health: raw.state.health.map(|health| health.status).filter(|status| !status.is_empty() && status != "none"),
        labels: raw.config.labels.clone().unwrap_or_default().into_iter().collect(),
        ports,
        actual: Some(spec_map::actual(&raw.config, &raw.host_config)),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    created: i64,
    #[serde(default)]
    ports: Option<Vec<ListedPort>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    state: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPort {
    #[serde(rename = "IP", default)]
    ip: String,
    private_port: u16,
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: String,
}

fn summary(raw: Listed) -> Result<Container> {
    let state = state(&raw.state)?;
    // A link to a container is one more of its names, with a second slash.
    let name = raw.names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    let ports = raw.ports.unwrap_or_default().into_iter().filter_map(|port| {
        let (container_port, protocol, address) = (port.private_port, port.protocol, port.ip);
        Some(Port { container_port, protocol, address, port: port.public_port? })
    });
    let (exit_code, health) = from_status(state, &raw.status);
    Ok(Container {
        name: name.unwrap_or_default().to_owned(),
        id: raw.id,
        image: raw.image,
        image_id: raw.image_id,
        state,
        created_at: jiff::Timestamp::from_second(raw.created).ok(),
        started_at: None,
        finished_at: None,
        exit_code,
        oom_killed: false,
        health,
        labels: raw.labels,
        ports: ports.collect(),
        actual: None,
    })
}

/// A list tells exit code and health only in its text for people: `Exited (1) 2 hours ago`, `Up 5 s (healthy)`.
fn from_status(state: State, status: &str) -> (Option<i64>, Option<String>) {
    let inner = status.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inner, _)| inner);
    let Some(inner) = inner else { return (None, None) };
    match state {
        State::Exited | State::Restarting | State::Dead => (inner.parse().ok(), None),
        State::Running => {
            let word = inner.strip_prefix("health: ").unwrap_or(inner);
            (None, matches!(word, "healthy" | "unhealthy" | "starting").then(|| word.to_owned()))
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_and_health_are_read_from_the_status_text_of_a_list() {
        let health = |word: &str| (None, Some(word.to_owned()));
        assert_eq!(from_status(State::Exited, "Exited (0) 3 minutes ago"), (Some(0), None));
        assert_eq!(from_status(State::Exited, "Exited (137) About an hour ago"), (Some(137), None));
        assert_eq!(from_status(State::Running, "Up 2 seconds (health: starting)"), health("starting"));
        assert_eq!(from_status(State::Running, "Up 2 days (unhealthy)"), health("unhealthy"));
        assert_eq!(from_status(State::Paused, "Up 2 days (Paused)"), (None, None));
        assert_eq!(from_status(State::Created, "Created"), (None, None));
    }

    #[test]
    fn what_cannot_be_a_container_is_not_sent_to_the_engine() {
        for bad in ["", "..", "a/b", "../networks/x", "a?force=1", "-x", "a b"] {
            assert_eq!(path(bad).unwrap_err().code(), "not-found", "{bad:?}");
        }
        assert_eq!(path("wharf-shop-1a2b3c").unwrap(), "/containers/wharf-shop-1a2b3c");
    }

    #[test]
    fn the_engines_zero_time_is_no_time() {
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert!(time("2026-11-22T00:48:26.123456789Z").is_some());
    }
}
