//! The API of a sandbox's service, over its socket.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub use super::http::Answer;
use super::http::{exchange, request};
use super::sandbox::Sandbox;

pub fn socket(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("state/wharf.sock")
}

/// Sends bytes unchanged.
#[track_caller]
pub fn raw(socket: &Path, request: &[u8]) -> Answer {
    exchange(UnixStream::connect(socket).unwrap(), request)
}

#[track_caller]
pub fn send(socket: &Path, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    raw(socket, &request(method, path, headers, body.as_bytes()))
}

#[track_caller]
pub fn get(sandbox: &Sandbox, path: &str) -> Answer {
    send(&socket(sandbox), "GET", path, "host: localhost\r\n", "")
}

#[track_caller]
pub fn post(sandbox: &Sandbox, path: &str, body: &str) -> Answer {
    send(&socket(sandbox), "POST", path, "host: localhost\r\ncontent-type: application/json\r\n", body)
}
