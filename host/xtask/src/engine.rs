//! The Docker engine for tests and quickstart: checks whether one answers, and installs one on request.
//!
//! Requests go to its socket directly, so that no `docker` program is needed. HTTP/1.0 is sufficient: the engine
//! answers such a request without chunks and closes the connection.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command;

/// The engine's socket, unless `DOCKER_HOST` or a Docker context names another one.
const SOCKET: &str = "/var/run/docker.sock";

/// The time limit of a ping, after which an engine counts as absent.
const PING: Duration = Duration::from_secs(5);

/// The time limit for the first answer of a fresh engine.
const START: Duration = Duration::from_secs(90);

/// The time limit of an installation.
const INSTALL: Duration = Duration::from_secs(600);

/// The address of an engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Engine {
    /// A socket's path.
    Unix(String),
    /// `host:port`
    Tcp(String),
}

/// The engine's answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the engine's message about an error.
    pub fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let said = json.as_ref().and_then(|json| json.get("message")?.as_str());
        said.unwrap_or_else(|| text.trim()).to_owned()
    }
}

impl Engine {
    /// Finds an engine that answers.
    ///
    /// With `install`, an engine is installed and started on Debian if none answers.
    ///
    /// # Errors
    /// One line with a remedy.
    pub fn ready(root: &Path, install: bool) -> Result<Self> {
        let engine = Self::find()?;
        let Err(why) = engine.ping() else { return Ok(engine) };
        let chosen = env::var_os("DOCKER_HOST").is_some();
        if chosen {
            bail!("no Docker engine answers at DOCKER_HOST ({engine}: {why:#}); correct or unset DOCKER_HOST");
        }
        let kind = why.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::PermissionDenied) {
            bail!("you may not use the Docker engine at {engine}: `sudo usermod -aG docker $USER`, then log in again");
        }
        if !install {
            bail!(
                "no Docker engine answers at {engine} ({why:#}); start one with `sudo systemctl start docker`, or as \
                 root on Debian let this command install it with --install-engine"
            );
        }
        install_on_debian()?;
        start(root, &engine)?;
        Ok(engine)
    }

    /// Returns the engine that `DOCKER_HOST` or the Docker context names, or the usual one; it need not answer.
    ///
    /// # Errors
    /// When Wharf cannot use the address.
    pub fn find() -> Result<Self> {
        if let Some(host) = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
            return Self::parse(&host).with_context(|| format!("DOCKER_HOST={host}"));
        }
        // Only the docker program knows the chosen context.
        let mut docker = Command::new("docker");
        docker.args(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]);
        let context = if command::exists("docker") { command::output(&mut docker).ok() } else { None };
        match context.as_deref().map(str::trim) {
            Some(host) if !host.is_empty() => Self::parse(host).with_context(|| format!("the Docker context's {host}")),
            _ => Ok(Self::Unix(SOCKET.to_owned())),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        match text.split_once("://") {
            Some(("unix", path)) => Ok(Self::Unix(path.to_owned())),
            Some(("tcp" | "http", address)) => {
                let address = address.trim_end_matches('/');
                let port = if address.contains(':') { "" } else { ":2375" };
                Ok(Self::Tcp(format!("{address}{port}")))
            }
            _ => bail!("Wharf speaks to an engine through unix:///path/to/docker.sock or tcp://host:port only"),
        }
    }

    fn ping(&self) -> Result<()> {
        let answer = self.call("GET", "/_ping", &[], PING)?;
        if answer.status != 200 {
            bail!("it answers with status {}: {}", answer.status, answer.message());
        }
        Ok(())
    }

    /// Sends one request, with an archive as its body if it has one, and reads the answer.
    ///
    /// # Errors
    /// When there is no answer within `limit`.
    pub fn call(&self, method: &str, path: &str, body: &[u8], limit: Duration) -> Result<Answer> {
        self.send(method, path, ("application/x-tar", body), limit)
    }

    /// Sends a request like [`Engine::call`], with JSON.
    ///
    /// # Errors
    /// When there is no answer within `limit`.
    pub fn call_json(&self, method: &str, path: &str, body: &str, limit: Duration) -> Result<Answer> {
        self.send(method, path, ("application/json", body.as_bytes()), limit)
    }

    fn send(&self, method: &str, path: &str, (kind, body): (&str, &[u8]), limit: Duration) -> Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let until = Instant::now() + limit;
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(limit))?;
                exchange(stream, &head, body, until, |stream, left| stream.set_read_timeout(Some(left)))
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_write_timeout(Some(limit))?;
                exchange(stream, &head, body, until, |stream, left| stream.set_read_timeout(Some(left)))
            }
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

fn exchange<S: Read + Write>(
    mut stream: S,
    head: &str,
    body: &[u8],
    until: Instant,
    limit: impl Fn(&S, Duration) -> std::io::Result<()>,
) -> Result<Answer> {
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("no whole answer in time");
        }
        limit(&stream, left)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => bail!("no whole answer in time"),
            Err(error) => return Err(error.into()),
        }
    }
    parse_answer(&bytes).context("what answers is not a Docker engine")
}

fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: bytes[end + 4..].to_vec() })
}

fn install_on_debian() -> Result<()> {
    if command::exists("dockerd") {
        return Ok(());
    }
    if !Path::new("/etc/debian_version").exists() || !command::exists("apt-get") {
        bail!("no Docker engine, and this is no Debian: install one, see https://docs.docker.com/engine/install/");
    }
    let root = fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::uid(&data)).ok() == Some(0);
    if !root {
        bail!("no Docker engine, and installing one takes root: run `sudo apt-get install docker.io`");
    }
    eprintln!("installing a Docker engine (Debian's docker.io)");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command::run_within(&mut apt, INSTALL)
    };
    // If this fails, the existing package lists may suffice; otherwise the installation reports the missing package.
    let _ = apt(&["update", "-qq"]);
    apt(&["install", "-y", "-qq", "--no-install-recommends", "docker.io"])
        .context("cannot install the package docker.io")
}

/// Starts the engine: as a service if there is a service manager, otherwise as a separate process.
fn start(root: &Path, engine: &Engine) -> Result<()> {
    if engine.answers_within(Duration::from_secs(3)) {
        return Ok(());
    }
    let minute = Duration::from_secs(60);
    let service: Option<&[&str]> = if Path::new("/run/systemd/system").exists() {
        Some(&["systemctl", "start", "docker"])
    } else if Path::new("/etc/init.d/docker").exists() {
        Some(&["service", "docker", "start"])
    } else {
        None
    };
    if let Some(words) = service {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        // A container may have the service's script and yet no way to run it.
        if command::succeeds_within(&mut command, minute) && engine.answers_within(START) {
            return Ok(());
        }
    }
    let folder = root.join("target/xtask");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let log = folder.join("dockerd.log");
    let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut dockerd = Command::new("dockerd");
    // It has its own process group: it must outlive this command, and Ctrl-C here is not meant for it.
    dockerd.process_group(0).stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
    dockerd.spawn().context("cannot run dockerd")?;
    if engine.answers_within(START) {
        return Ok(());
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it wrote nothing");
    bail!("the Docker engine does not start: {last} (the rest is in {})", log.display())
}

impl Engine {
    fn answers_within(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        loop {
            if self.ping().is_ok() {
                return true;
            }
            if begin.elapsed() >= limit {
                return false;
            }
            thread::sleep(Duration::from_millis(250));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_the_docker_program_does() {
        assert_eq!(Engine::parse("unix:///run/d.sock").unwrap(), Engine::Unix("/run/d.sock".into()));
        assert_eq!(Engine::parse("tcp://127.0.0.1").unwrap(), Engine::Tcp("127.0.0.1:2375".into()));
        assert_eq!(Engine::parse("tcp://127.0.0.1:1/").unwrap(), Engine::Tcp("127.0.0.1:1".into()));
        assert!(Engine::parse("ssh://ada@host").unwrap_err().to_string().contains("unix://"));
    }

    #[test]
    fn an_answer_is_taken_apart_and_anything_else_is_none() {
        let answer = parse_answer(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{\"message\":\"gone\"}").unwrap();
        assert_eq!((answer.status, answer.message().as_str()), (404, "gone"));
        assert!(parse_answer(b"SSH-2.0-OpenSSH\r\n\r\n").is_none());
        assert!(parse_answer(b"").is_none());
    }

    #[test]
    fn something_that_never_answers_is_given_up_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::Tcp(listener.local_addr().unwrap().to_string());
        let begin = Instant::now();
        assert!(engine.call("GET", "/_ping", &[], Duration::from_millis(100)).is_err());
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
