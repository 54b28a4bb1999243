//! The engine's API over its Unix socket, without any of Wharf's code: tests check Wharf with it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::http::{Answer, exchange, request_without_chunks};

/// The image that the workspaces of tests run: a static busybox.
pub const BASE: &str = "wharf-base:local";

/// The default socket of an engine.
pub const SOCKET: &str = "/var/run/docker.sock";

/// Returns the engine's socket: from `DOCKER_HOST`, from the Docker context, or the default.
pub fn socket() -> PathBuf {
    wharf::docker::socket(None).expect("DOCKER_HOST or the Docker context names an engine on a Unix socket")
}

/// Sends one request on a separate connection.
#[track_caller]
pub fn call(method: &str, path: &str, body: &[u8]) -> Answer {
    call_at(&socket(), method, path, body)
}

/// Sends one request to the engine at another socket.
#[track_caller]
pub fn call_at(socket: &Path, method: &str, path: &str, body: &[u8]) -> Answer {
    let stream = UnixStream::connect(socket)
        .unwrap_or_else(|error| panic!("these tests need a Docker engine at {}: {error}", socket.display()));
    exchange(stream, &request_without_chunks(method, path, body))
}

pub fn get(path: &str) -> Value {
    call("GET", path, b"").done().json()
}

pub fn post(path: &str, body: &Value) -> Answer {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    call("POST", path, text.as_bytes())
}

pub fn delete(path: &str) -> Answer {
    call("DELETE", path, b"")
}

/// Returns all containers, running or not.
pub fn containers() -> Vec<Value> {
    list(get("/containers/json?all=1"))
}

pub fn networks() -> Vec<Value> {
    list(get("/networks"))
}

pub fn volumes() -> Vec<Value> {
    list(get("/volumes")["Volumes"].take())
}

fn list(value: Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["Labels"][key].as_str()
}

/// Returns the details of one container, by id or name.
pub fn inspect(container: &str) -> Value {
    get(&format!("/containers/{container}/json"))
}

/// Returns the environment of a container as the engine stores it.
pub fn env(container: &str) -> Vec<String> {
    let inspected = inspect(container);
    list(inspected["Config"]["Env"].clone()).iter().filter_map(|pair| pair.as_str().map(str::to_owned)).collect()
}
