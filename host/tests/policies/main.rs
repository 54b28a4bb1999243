//! Policies as the host loads them, without an engine: real components and real scripts, good and hostile.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod builtin;
mod capabilities;
mod facts;
mod frozen;
mod hostile;
mod mixed;
mod replay;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use wharf::hooks::chain::Entry;
use wharf::hooks::validate::Invariants;
use wharf::hooks::{Limits, Policy, PolicyError};
use wharf::script::RhaiPolicy;
use wharf::wasm::{WasmEngine, WasmPolicy};
use wharf::workspace::{ContainerSpec, ImageChoice, Network, Resources, Restart, Security};

static ENGINE: LazyLock<Arc<WasmEngine>> = LazyLock::new(|| Arc::new(WasmEngine::new(None).unwrap()));

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the bytes of a built component: `plugins/...` or `test-plugins/...` below `target`.
fn component(path: &str) -> Vec<u8> {
    let file = root().join("target").join(path).with_extension("wasm");
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; run 'cargo xtask plugins'", file.display()))
}

fn plugin(path: &str, settings: Value, limits: Limits) -> Result<WasmPolicy, PolicyError> {
    WasmPolicy::load(&ENGINE, path.rsplit('/').next().unwrap(), &component(path), &settings, limits)
}

fn script(path: &str, settings: Value) -> RhaiPolicy {
    let source = std::fs::read_to_string(root().join(path)).unwrap();
    RhaiPolicy::load(path.rsplit('/').next().unwrap(), &source, settings, Limits::default()).unwrap()
}

fn entry(policy: impl Policy + 'static) -> Entry {
    Entry::new(Arc::new(policy))
}

fn capabilities() -> std::collections::BTreeSet<String> {
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"].map(str::to_owned).into()
}

fn invariants() -> Invariants {
    Invariants {
        memory: 16 << 30,
        cpus: 16.0,
        pids: 4096,
        bind_roots: vec![],
        secrets: None,
        guarded: Vec::new(),
        hostnames: ["w".to_owned()].into(),
        apparmor: Default::default(),
        selinux: Default::default(),
        docker_socket: false,
        host_network: false,
        public_ports: false,
        unconfined: false,
        capabilities: capabilities(),
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        image: Some(ImageChoice { reference: "base:1".into(), pull: Default::default(), reason: String::new() }),
        entrypoint: None,
        command: vec!["sh".into()],
        user: None,
        working_dir: "/workspace".into(),
        hostname: "w".into(),
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        mounts: BTreeMap::new(),
        tmpfs: BTreeMap::new(),
        ports: BTreeMap::new(),
        network: Network::Shared,
        resources: Resources {
            cpus: 2.0,
            memory: 2 << 30,
            pids: 512,
            shm_size: None,
            disk: None,
            ulimits: BTreeMap::new(),
        },
        security: Security {
            capabilities: capabilities(),
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
