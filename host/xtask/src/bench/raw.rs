//! Direct requests to the engine: a lower bound for the times of both `wharf` and the docker CLI.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::engine::Engine;

/// The version of Docker 20.10.
const API: &str = "/v1.41";
/// The time limit of an answer.
const LIMIT: Duration = Duration::from_secs(60);

/// The engine that the docker CLI uses too: that of `DOCKER_HOST` or the Docker context.
pub struct Raw(Engine);

impl Raw {
    /// Finds the engine.
    pub fn find() -> Result<Self> {
        Engine::find().map(Self)
    }

    /// Makes and starts a container with the same network and limits as the others.
    pub fn up(&self, name: &str, image: &str, network: &str, project: &str) -> Result<()> {
        let body = json!({
            "Image": image, "Cmd": ["sleep", "600"], "WorkingDir": "/workspace",
            "HostConfig": {
                "Init": true, "NetworkMode": network, "Binds": [format!("{project}:/workspace")],
                "Memory": 2_147_483_648_u64, "MemorySwap": 2_147_483_648_u64, "NanoCpus": 2_000_000_000_u64,
                "PidsLimit": 512, "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"],
            },
        });
        self.call("POST", &format!("/containers/create?name={name}"), Some(&body))?;
        self.call("POST", &format!("/containers/{name}/start"), None).map(drop)
    }

    /// Runs `true` in a container, up to its exit code.
    pub fn exec(&self, name: &str) -> Result<()> {
        let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": ["true"] });
        let made: Value =
            serde_json::from_slice(&self.call("POST", &format!("/containers/{name}/exec"), Some(&body))?)?;
        let id = made["Id"].as_str().context("an exec without an id")?;
        self.call("POST", &format!("/exec/{id}/start"), Some(&json!({ "Detach": false, "Tty": false })))?;
        let end: Value = serde_json::from_slice(&self.call("GET", &format!("/exec/{id}/json"), None)?)?;
        if end["ExitCode"] != 0 {
            bail!("`true` ended with {}", end["ExitCode"]);
        }
        Ok(())
    }

    /// Stops a container at once.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.call("POST", &format!("/containers/{name}/stop?t=0"), None).map(drop)
    }

    /// Removes a container.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        self.call("DELETE", &format!("/containers/{name}?force={force}"), None).map(drop)
    }

    /// Reads the whole log of a container.
    pub fn logs(&self, container: &str) -> Result<()> {
        self.call("GET", &format!("/containers/{container}/logs?stdout=true&stderr=true"), None).map(drop)
    }

    /// Makes one call on a new connection; returns the body unchanged.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.0.call_json(method, &format!("{API}{path}"), &body, LIMIT)?;
        match answer.status {
            // 101: the connection was taken over for the output of a command.
            101 | 200..=299 => Ok(answer.body),
            status => bail!("{method} {path}: {status} {}", answer.message()),
        }
    }
}
