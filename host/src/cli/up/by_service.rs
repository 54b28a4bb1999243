//! `wharf up` through a service: the flags as the API takes them. What they read of this machine is read here.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Args, ProjectArgs, RequestArgs};
use crate::cli::backend::{folder_there, made, no_plain_text};
use crate::cli::{Context, Failure};
use crate::client::Client;
use crate::lifecycle::{DevcontainerChoice, Progress, SecretBytes, WorkspaceView};
use crate::workspace::{Network, Restart};

/// Has a service make the workspace.
pub(super) async fn up(
    context: &Context,
    client: &Client,
    args: Args,
    progress: &mut dyn FnMut(Progress),
) -> Result<WorkspaceView, Failure> {
    let body = args.project.body(context, client)?;
    let wait = args.wait.map(|limit| limit.to_string());
    let mut query = Vec::new();
    query.extend(args.recreate.then_some(("recreate", "true")));
    query.extend(wait.as_deref().map(|limit| ("wait", limit)));
    made(client, ("/v1/workspaces", &query), &body, progress).await
}

impl ProjectArgs {
    /// What is asked for, as a service takes it.
    pub(crate) fn body(self, context: &Context, client: &Client) -> Result<Value, Failure> {
        let project = self.path.clone().unwrap_or_else(|| context.project_folder());
        let project = folder_there(client, "the project folder", &project)?;
        self.body_of(client, project)
    }

    /// The same for a project that the service knows.
    pub(crate) fn body_of(self, client: &Client, project: String) -> Result<Value, Failure> {
        let mut body = self.request.body(client)?;
        put(&mut body, "project", Some(project));
        put(&mut body, "name", self.name);
        match self.devcontainer.choice() {
            DevcontainerChoice::Usual => {}
            DevcontainerChoice::Off => put(&mut body, "no_devcontainer", Some(true)),
            DevcontainerChoice::Named(name) => put(&mut body, "devcontainer", Some(name)),
        }
        Ok(Value::Object(body))
    }
}

impl RequestArgs {
    /// The same without the project. What makes no sense is refused here, in the words of the flags.
    pub(crate) fn body(mut self, client: &Client) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        // Only the service knows the check that its configuration names.
        put(&mut body, "health", std::mem::take(&mut self.health).body());
        many(&mut body, "publish", &self.publish);
        many(&mut body, "tmpfs", &self.tmpfs);
        many(&mut body, "ulimits", &self.ulimit);
        let mounts: Result<Vec<String>, Failure> = self.mount.iter().map(|text| mount(client, text)).collect();
        many(&mut body, "mounts", &mounts?);
        put(&mut body, "memory", self.memory);
        put(&mut body, "cpus", self.cpus);
        put(&mut body, "pids", self.pids);
        put(&mut body, "shm_size", self.shm_size);
        put(&mut body, "disk", self.disk);
        put(&mut body, "network", self.network.map(Network::from));
        put(&mut body, "restart", self.restart.map(restart));
        put(&mut body, "ttl", self.ttl);
        put(&mut body, "user", self.user.clone());
        let request = self.request(None)?;
        put(&mut body, "image", request.image);
        put(&mut body, "pull", request.pull);
        if let Some(build) = &request.build {
            put(&mut body, "build", Some(crate::cli::image::body(client, build)?));
        }
        many(&mut body, "command", &request.command);
        put(&mut body, "env", Some(request.env));
        put(&mut body, "labels", Some(request.labels));
        let mut secrets = Map::new();
        for (name, SecretBytes(value)) in request.secrets {
            let value = String::from_utf8(value).map_err(|_| no_plain_text(&format!("the secret '{name}'")))?;
            secrets.insert(name, Value::String(value));
        }
        put(&mut body, "secrets", Some(secrets));
        Ok(body)
    }
}

fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Serialize>) {
    body.extend(value.map(|value| (name.to_owned(), json!(value))));
}

fn many(body: &mut Map<String, Value>, name: &str, values: &[String]) {
    if !values.is_empty() {
        body.insert(name.to_owned(), json!(values));
    }
}

/// `./data:/data` names a folder here.
fn mount(client: &Client, text: &str) -> Result<String, Failure> {
    match text.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            // As the command by itself would name it.
            let real = std::fs::canonicalize(source).ok().filter(|_| client.is_local());
            let source = folder_there(client, "the mount's source", real.as_deref().unwrap_or(source.as_ref()))?;
            Ok(format!("{source}:{rest}"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// As it is written.
fn restart(policy: Restart) -> String {
    match policy {
        Restart::No => "no".to_owned(),
        Restart::OnFailure(0) => "on-failure".to_owned(),
        Restart::OnFailure(most) => format!("on-failure:{most}"),
        Restart::Always => "always".to_owned(),
        Restart::UnlessStopped => "unless-stopped".to_owned(),
    }
}
