//! Shared helpers for tests of the engine module: specs, labels, and containers created through the library.

use std::collections::{BTreeMap, BTreeSet};

use wharf::docker::{CreateRequest, Created, Docker, ExecRequest, Result};
use wharf::workspace::{
    ContainerSpec, ImageChoice, LABEL_HOST, LABEL_MANAGED, Network, PullPolicy, Resources, Restart, Security,
};

use super::engine_api::BASE;
use super::sandbox::Sandbox;

/// A connection on behalf of a sandbox's installation, whose guard removes the created objects.
pub struct Lab {
    pub sandbox: Sandbox,
    pub docker: Docker,
    pub host: String,
}

impl Lab {
    pub async fn new() -> Self {
        let sandbox = Sandbox::new();
        let host = sandbox.host();
        let docker = Docker::connect(None, &host).await.unwrap();
        Self { sandbox, docker, host }
    }

    /// Returns a name that no other test has.
    pub fn name(&self, suffix: &str) -> String {
        format!("wharf-test-{}-{suffix}", &self.host[self.host.len() - 12..])
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL_MANAGED.to_owned(), "true".to_owned()), (LABEL_HOST.to_owned(), self.host.clone())])
    }

    pub async fn create(&self, suffix: &str, spec: &ContainerSpec, init: bool) -> Result<Created> {
        self.create_on(suffix, spec, init, None).await
    }

    pub async fn create_on(
        &self,
        suffix: &str,
        spec: &ContainerSpec,
        init: bool,
        network: Option<&str>,
    ) -> Result<Created> {
        let (name, labels) = (self.name(suffix), self.labels());
        let request = CreateRequest {
            name: &name,
            spec,
            labels: &labels,
            network_name: network,
            aliases: &[],
            init,
            seccomp_profile: None,
            enforce_disk: spec.resources.disk.is_some(),
        };
        self.docker.create(&request).await
    }

    /// Returns the id of a running container.
    pub async fn run(&self, suffix: &str, command: &[&str]) -> String {
        let created = self.create(suffix, &spec(command), false).await.unwrap();
        self.docker.start(&created.id).await.unwrap();
        created.id
    }

    /// Returns the id of a container that has run to its end.
    pub async fn ran(&self, suffix: &str, command: &[&str]) -> String {
        let id = self.run(suffix, command).await;
        self.docker.wait(&id).await.unwrap();
        id
    }
}

pub fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

pub fn command(list: &[&str]) -> ExecRequest {
    ExecRequest { command: words(list), ..ExecRequest::default() }
}

/// Returns the spec of a container of the base image with no network and no capability.
pub fn spec(command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        image: Some(ImageChoice { reference: BASE.into(), pull: PullPolicy::Missing, reason: String::new() }),
        entrypoint: None,
        command: words(command),
        user: None,
        working_dir: "/tmp".into(),
        hostname: "lab".into(),
        env: BTreeMap::from([("A".into(), "1".into())]),
        labels: BTreeMap::new(),
        mounts: BTreeMap::new(),
        tmpfs: BTreeMap::new(),
        ports: BTreeMap::new(),
        network: Network::None,
        resources: Resources {
            cpus: 0.5,
            memory: 256 << 20,
            pids: 200,
            shm_size: None,
            disk: None,
            ulimits: BTreeMap::new(),
        },
        security: Security {
            capabilities: BTreeSet::new(),
            no_new_privileges: true,
            read_only_root: false,
            seccomp: "default".into(),
            apparmor: None,
            selinux: None,
            user_namespace: None,
        },
        restart: Restart::No,
        health_check: None,
        time_to_live_ms: None,
    }
}
