//! The engine asked without any program in between: what neither `wharf` nor the docker CLI can be faster than.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

const SOCKET: &str = "/var/run/docker.sock";
/// Docker 20.10's.
const API: &str = "/v1.41";
/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes and starts a container with the network and the limits that the others get.
pub fn up(name: &str, image: &str, network: &str, project: &str) -> Result<()> {
    let body = json!({
        "Image": image, "Cmd": ["sleep", "600"], "WorkingDir": "/workspace",
        "HostConfig": {
            "Init": true, "NetworkMode": network, "Binds": [format!("{project}:/workspace")],
            "Memory": 2_147_483_648_u64, "MemorySwap": 2_147_483_648_u64, "NanoCpus": 2_000_000_000_u64,
            "PidsLimit": 512, "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"],
        },
    });
    call("POST", &format!("/containers/create?name={name}"), Some(&body))?;
    call("POST", &format!("/containers/{name}/start"), None).map(drop)
}

/// Runs `true` in it, to its exit code.
pub fn exec(name: &str) -> Result<()> {
    let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": ["true"] });
    let made: Value = serde_json::from_slice(&call("POST", &format!("/containers/{name}/exec"), Some(&body))?)?;
    let id = made["Id"].as_str().context("an exec without an id")?;
    call("POST", &format!("/exec/{id}/start"), Some(&json!({ "Detach": false, "Tty": false })))?;
    let end: Value = serde_json::from_slice(&call("GET", &format!("/exec/{id}/json"), None)?)?;
    if end["ExitCode"] != 0 {
        bail!("`true` ended with {}", end["ExitCode"]);
    }
    Ok(())
}

/// Stops it, at once.
pub fn stop(name: &str) -> Result<()> {
    call("POST", &format!("/containers/{name}/stop?t=0"), None).map(drop)
}

/// Removes it.
pub fn remove(name: &str, force: bool) -> Result<()> {
    call("DELETE", &format!("/containers/{name}?force={force}"), None).map(drop)
}

/// Reads the whole log of a container.
pub fn logs(container: &str) -> Result<()> {
    call("GET", &format!("/containers/{container}/logs?stdout=true&stderr=true"), None).map(drop)
}

/// One call on a connection of its own; gives the body as it came.
fn call(method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(SOCKET).with_context(|| format!("cannot reach {SOCKET}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    write!(stream, "{method} {API}{path} HTTP/1.0\r\nHost: docker\r\n{kind}Content-Length: {length}\r\n\r\n{body}")?;
    let (mut head, mut rest, mut buffer) = (Vec::new(), Vec::new(), vec![0; 1 << 20]);
    let mut whole = false;
    loop {
        let count = stream.read(&mut buffer).with_context(|| format!("{method} {path}"))?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        if whole {
            rest.extend_from_slice(bytes);
            continue;
        }
        head.extend_from_slice(bytes);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            rest = head.split_off(end + 4);
            whole = true;
        }
    }
    let head = String::from_utf8_lossy(&head);
    match head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()) {
        Some(101 | 200..=299) => Ok(rest),
        _ => bail!("{method} {path}: {} {}", head.lines().next().unwrap_or_default(), String::from_utf8_lossy(&rest)),
    }
}
