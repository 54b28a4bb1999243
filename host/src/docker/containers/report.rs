//! Converts the engine's report about a container to a [`Container`].

use crate::docker::images::content_id;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::error::{Error, Result};
use super::super::spec_map;
use crate::workspace::{Container, HealthReport, Port, State};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
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
    #[serde(default)]
    pid: u32,
    health: Option<RawHealth>,
}

impl Inspected {
    /// Returns the number of the first process on the engine's machine; none while the container does not run.
    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.state.pid).filter(|pid| *pid > 0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealth {
    status: String,
    #[serde(default)]
    failing_streak: u32,
    #[serde(default)]
    log: Option<Vec<RawCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck {
    #[serde(default)]
    end: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    output: String,
}

/// Maximum bytes of a health check's output to keep; newer engines keep the same amount.
const OUTPUT: usize = 4 << 10;

fn last_check(health: &RawHealth) -> Option<HealthReport> {
    let check = health.log.as_ref()?.last()?;
    let mut end = check.output.len().min(OUTPUT);
    while !check.output.is_char_boundary(end) {
        end -= 1;
    }
    Some(HealthReport {
        // Its UTC offset is the engine's machine's.
        at: time(&check.end),
        exit_code: check.exit_code,
        output: check.output.get(..end).unwrap_or_default().to_owned(),
        failures: health.failing_streak,
    })
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

/// Parses a time of the engine. The zero value (`0001-01-01T00:00:00Z`) means never.
pub(in crate::docker) fn time(text: &str) -> Option<jiff::Timestamp> {
    text.parse::<jiff::Timestamp>().ok().filter(|time| time.as_second() > 0)
}

fn state(text: &str) -> Result<State> {
    // Podman has more words.
    let text = match text {
        "stopped" => "exited",
        "configured" | "initialized" => "created",
        // It may still run, and nothing that runs is removed.
        "stopping" => "running",
        text => text,
    };
    text.parse().map_err(|cause| Error::Protocol { operation: "read the state of the container", cause })
}

pub(super) fn container(raw: Inspected) -> Result<Container> {
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
        image_id: content_id(raw.image),
        state,
        created_at: time(&raw.created),
        started_at,
        finished_at: if ended { time(&raw.state.finished_at) } else { None },
        exit_code: ended.then_some(raw.state.exit_code),
        oom_killed: raw.state.oom_killed,
        last_check: raw.state.health.as_ref().and_then(last_check),
        health: raw.state.health.map(|health| health.status).filter(|status| !status.is_empty() && status != "none"),
        labels: raw.config.labels.clone().unwrap_or_default().into_iter().collect(),
        ports,
        actual: Some(spec_map::actual(&raw.config, &raw.host_config)),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
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
    pub(super) labels: BTreeMap<String, String>,
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

pub(super) fn summary(raw: Listed) -> Result<Container> {
    let state = state(&raw.state)?;
    // A link to a container appears as an additional name with a second slash.
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
        image_id: content_id(raw.image_id),
        state,
        created_at: jiff::Timestamp::from_second(raw.created).ok(),
        started_at: None,
        finished_at: None,
        exit_code,
        oom_killed: false,
        health,
        last_check: None,
        labels: raw.labels,
        ports: ports.collect(),
        actual: None,
    })
}

/// Parses exit code and health. A list reports them only in its human-readable text: `Exited (1) 2 hours ago`, `Up 5
/// s (healthy)`.
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
    fn the_states_and_ids_of_podman_are_those_of_docker() {
        for (word, is) in [("stopped", State::Exited), ("configured", State::Created), ("stopping", State::Running)] {
            assert_eq!(state(word).unwrap(), is);
        }
        assert!(state("sleeping").is_err());
        let bare = "a".repeat(64);
        assert_eq!(content_id(bare.clone()), format!("sha256:{bare}"));
        for same in [format!("sha256:{bare}"), "wharf-base:local".to_owned(), String::new()] {
            assert_eq!(content_id(same.clone()), same);
        }
    }

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
    fn the_engines_zero_time_is_no_time() {
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert!(time("2026-11-22T00:48:26.123456789Z").is_some());
    }
}
