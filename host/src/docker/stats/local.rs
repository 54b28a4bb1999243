//! Statistics of many containers at once, without the engine. See [`super::cgroup`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::StreamExt;
use serde::Deserialize;

use super::cgroup::{Cgroup, Mounts, machine_memory, networks};
use super::{RawCpu, Stats, from_raw};
use crate::docker::connect::Endpoint;
use crate::docker::http::Call;
use crate::docker::{Docker, containers};

/// Maximum number of containers to inspect through the engine at the same time.
const PARALLEL: usize = 8;

/// Reads the kernel's counters of containers. It remembers the last reading of each container for its CPU figure.
#[derive(Debug)]
pub struct LocalStats {
    docker: Docker,
    /// None if the kernel's files do not exist, or do not belong to the engine's machine.
    machine: Option<Machine>,
    known: BTreeMap<String, Known>,
    /// Containers not found here, so that the engine is not queried for them each time.
    elsewhere: BTreeSet<String>,
    begin: Instant,
}

#[derive(Debug)]
struct Machine {
    mounts: Mounts,
    memory: u64,
}

#[derive(Debug, Clone)]
struct Known {
    cgroup: Cgroup,
    process: u32,
    before: RawCpu,
}

/// One reading of several containers.
#[derive(Debug, Default)]
pub struct LocalReading {
    /// The readings, by the engine's container id.
    pub stats: BTreeMap<String, Stats>,
    /// Containers whose counters cannot be read here: they have ended, or only the engine can report on them.
    pub elsewhere: Vec<String>,
}

impl LocalStats {
    /// Prepares a reader. If the engine is not on this machine, the reader finds no containers.
    pub fn new(docker: &Docker) -> Self {
        let local = docker.local_files && matches!(docker.http().endpoint, Endpoint::Unix(_));
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let machine = || {
            let memory = machine_memory(&read("/proc/meminfo")?)?;
            Some(Machine { mounts: Mounts::parse(&read("/proc/self/mountinfo")?), memory })
        };
        Self {
            docker: docker.clone(),
            machine: local.then(machine).flatten(),
            known: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            begin: Instant::now(),
        }
    }

    /// Reads containers by their full ids. The first reading of a container has no CPU figure. Containers not in
    /// `ids` are forgotten.
    pub async fn read(&mut self, ids: &[String]) -> LocalReading {
        let wanted: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        self.known.retain(|id, _| wanted.contains(id.as_str()));
        self.elsewhere.retain(|id| wanted.contains(id.as_str()));
        let Some(machine) = &self.machine else {
            return LocalReading { stats: BTreeMap::new(), elsewhere: ids.to_vec() };
        };
        let new: Vec<String> =
            ids.iter().filter(|id| !self.known.contains_key(*id) && !self.elsewhere.contains(*id)).cloned().collect();
        let found = find(&self.docker, &machine.mounts, self.known.iter().next(), new).await;
        for (id, cgroup) in found {
            match cgroup {
                Some((cgroup, process)) => {
                    self.known.insert(id, Known { cgroup, process, before: RawCpu::default() });
                }
                None => {
                    self.elsewhere.insert(id);
                }
            }
        }
        let mut reading = LocalReading::default();
        let (memory, begin) = (machine.memory, self.begin);
        // Each takes about 60 microseconds. The files are in the kernel's memory, so no disk can block the read.
        self.known.retain(|id, known| match read(known, memory, begin) {
            Some(stats) => {
                reading.stats.insert(id.clone(), stats);
                true
            }
            None => false,
        });
        reading.elsewhere = ids.iter().filter(|id| !self.known.contains_key(*id)).cloned().collect();
        reading
    }
}

fn read(known: &mut Known, memory: u64, begin: Instant) -> Option<Stats> {
    let net = |process: u32| {
        let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let own = namespace(&process.to_string())?;
        // The machine's network counters are not the container's.
        if Some(&own) == namespace("1").as_ref() || Some(&own) == namespace("self").as_ref() {
            return Some(None);
        }
        Some(Some(networks(&std::fs::read_to_string(format!("/proc/{process}/net/dev")).ok()?)))
    };
    let networks = net(known.process).or_else(|| {
        known.process = known.cgroup.process()?;
        net(known.process)
    });
    // At least 1, because the engine's formula treats a base of zero as missing.
    let system = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
    let mut raw = known.cgroup.read(memory, networks.flatten(), system).ok()?;
    raw.precpu_stats = std::mem::replace(&mut known.before, raw.cpu_stats.clone());
    from_raw(&raw)
}

type Place = Option<(Cgroup, u32)>;

/// Finds the folders of containers: the first through the engine, the others beside it, and through the engine again
/// if they are not there.
async fn find(
    docker: &Docker,
    mounts: &Mounts,
    known: Option<(&String, &Known)>,
    new: Vec<String>,
) -> Vec<(String, Place)> {
    let mut model = known.map(|(id, known)| (id.clone(), known.cgroup.clone()));
    let mut rest = new.into_iter();
    let mut found = Vec::new();
    if model.is_none() {
        for id in rest.by_ref() {
            let place = ask(docker, mounts, &id).await;
            model = place.as_ref().map(|(cgroup, _)| (id.clone(), cgroup.clone()));
            found.push((id, place));
            if model.is_some() {
                break;
            }
        }
    }
    let beside = |id: &str| {
        let (from, cgroup) = model.as_ref()?;
        let cgroup = cgroup.sibling(from, id)?;
        let process = cgroup.process()?;
        Some((cgroup, process))
    };
    let mut left = Vec::new();
    for id in rest {
        match beside(&id) {
            Some(place) => found.push((id, Some(place))),
            None => left.push(id),
        }
    }
    let asked = futures_util::stream::iter(left).map(async |id| {
        let place = ask(docker, mounts, &id).await;
        (id, place)
    });
    found.extend(asked.buffer_unordered(PARALLEL).collect::<Vec<_>>().await);
    found
}

/// Asks the engine for a container's first process and finds its folders.
async fn ask(docker: &Docker, mounts: &Mounts, id: &str) -> Place {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        state: State,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct State {
        pid: u32,
    }
    let call =
        Call::get("inspect the container", format!("{}/json", containers::path(id).ok()?)).about("container", id);
    let inspected: Inspected = docker.http().json(&call).await.ok()?;
    let process = Some(inspected.state.pid).filter(|pid| *pid > 0)?;
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    Some((Cgroup::find(&text, mounts, id)?, process))
}
