//! The engine's API over its Unix socket, without any of Wharf's code: what tests check Wharf with.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The image that the workspaces of tests run: a static busybox.
pub const BASE: &str = "wharf-base:local";

/// The engine's socket: that of `DOCKER_HOST`, or the usual one.
pub fn socket() -> PathBuf {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => match host.strip_prefix("unix://") {
            Some(path) => path.into(),
            None => panic!("these tests talk to an engine on a Unix socket, and DOCKER_HOST is {host}"),
        },
        _ => "/var/run/docker.sock".into(),
    }
}

/// An answer of the engine.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails the test unless the engine did as it was told.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "the engine answered {}: {}", self.status, self.text());
        self
    }
}

/// One request. HTTP/1.0, so that the answer ends with the connection.
pub fn call(method: &str, path: &str, body: &[u8]) -> Answer {
    call_at(&socket(), method, path, body)
}

/// The same to the engine at another socket.
pub fn call_at(socket: &Path, method: &str, path: &str, body: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(socket)
        .unwrap_or_else(|error| panic!("these tests need a Docker engine at {}: {error}", socket.display()));
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    stream.write_all(&request).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("an HTTP answer");
    let status = std::str::from_utf8(&all[9..12]).unwrap().parse().unwrap();
    Answer { status, body: all.split_off(end + 4) }
}

pub fn get(path: &str) -> Value {
    call("GET", path, b"").ok().json()
}

pub fn post(path: &str, body: &Value) -> Answer {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    call("POST", path, text.as_bytes())
}

pub fn delete(path: &str) -> Answer {
    call("DELETE", path, b"")
}

/// All containers, running or not.
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

/// Everything about one container, by id or name.
pub fn inspect(container: &str) -> Value {
    get(&format!("/containers/{container}/json"))
}

/// The environment of a container as the engine keeps it.
pub fn env(container: &str) -> Vec<String> {
    let inspected = inspect(container);
    list(inspected["Config"]["Env"].clone()).iter().filter_map(|pair| pair.as_str().map(str::to_owned)).collect()
}
