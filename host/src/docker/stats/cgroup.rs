//! Reads a container's counters directly from the kernel: the same fields as from the engine, in a thousandth of the
//! time.
//!
//! The cgroup folder of a container comes from `/proc/<pid>/cgroup` and the mounts, never from guessed names. The
//! folder's name must contain the container's full id, so neither a reused process id nor an engine on another
//! machine leads to the counters of another container.
//!
//! Sources: Linux, Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; containerd/cgroups for the engine's choice
//! among several files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Raw, RawBlock, RawBlockEntry, RawCpu, RawMemory, RawNetwork, RawPids, RawUsage};

/// The mount points of the cgroup hierarchies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// By controller: root within the hierarchy, and mount point.
    v1: BTreeMap<String, (String, PathBuf)>,
    v2: Option<(String, PathBuf)>,
}

impl Mounts {
    /// Parses `/proc/self/mountinfo`.
    pub(super) fn parse(mountinfo: &str) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(point)) = (left.next(), left.next()) else { continue };
            let place = (root.to_owned(), PathBuf::from(point));
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup"), Some(options)) => {
                    for option in options.split(',') {
                        mounts.v1.insert(option.to_owned(), place.clone());
                    }
                }
                (Some("cgroup2"), _) => mounts.v2 = mounts.v2.or(Some(place)),
                _ => {}
            }
        }
        mounts
    }
}

/// The folders with one container's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup {
    v2: bool,
    cpu: PathBuf,
    memory: PathBuf,
    block: PathBuf,
    pids: PathBuf,
}

impl Cgroup {
    /// Finds the folders from `/proc/<pid>/cgroup`. Returns none if they do not belong to this container.
    pub(super) fn find(proc_cgroup: &str, mounts: &Mounts, id: &str) -> Option<Self> {
        let lines: Vec<(&str, &str)> = proc_cgroup
            .lines()
            .filter_map(|line| {
                let (_, rest) = line.split_once(':')?;
                rest.split_once(':')
            })
            .collect();
        let place = |(root, point): &(String, PathBuf), path: &str| {
            let inner = path.strip_prefix(root.trim_end_matches('/'))?.trim_start_matches('/');
            let own = Path::new(inner).file_name()?.to_str()?.contains(id);
            own.then(|| point.join(inner))
        };
        let v1 = |controller: &str| {
            let (_, path) = lines.iter().find(|(names, _)| names.split(',').any(|name| name == controller))?;
            place(mounts.v1.get(controller)?, path)
        };
        if id.is_empty() {
            return None;
        }
        if let (Some(cpu), Some(memory)) = (v1("cpuacct"), v1("memory")) {
            return Some(Self { v2: false, cpu, memory, block: v1("blkio")?, pids: v1("pids")? });
        }
        let (_, path) = lines.iter().find(|(names, _)| names.is_empty())?;
        let folder = place(mounts.v2.as_ref()?, path)?;
        // On a hybrid system the second hierarchy has no controllers.
        let usable = folder.join("memory.current").exists();
        usable.then(|| Self {
            v2: true,
            cpu: folder.clone(),
            memory: folder.clone(),
            block: folder.clone(),
            pids: folder,
        })
    }

    /// Returns the folders of another container that the same engine created in the same way, if they exist.
    pub(super) fn sibling(&self, id: &str, other: &str) -> Option<Self> {
        let replaced = |path: &Path| {
            let name = path.file_name()?.to_str()?.replace(id, other);
            Some(path.with_file_name(name))
        };
        let [cpu, memory] = [replaced(&self.cpu)?, replaced(&self.memory)?];
        let found = Self { v2: self.v2, cpu, memory, block: replaced(&self.block)?, pids: replaced(&self.pids)? };
        (found != *self && found.pids.join("cgroup.procs").exists()).then_some(found)
    }

    /// Returns one of the container's processes. Its first process, while it runs, is the oldest and is in the
    /// container's own network.
    pub(super) fn process(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.pids.join("cgroup.procs")).ok()?;
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).min()
    }

    /// Reads all counters. `networks` are added. `system` is the CPU base: nanoseconds of available time of one core.
    pub(super) fn read(&self, machine_memory: u64, networks: Option<Networks>, system: u64) -> io::Result<Raw> {
        let (total, usage, limit, entries) = if self.v2 {
            (
                field(&self.cpu, "cpu.stat", "usage_usec")?.saturating_mul(1000),
                number(&self.memory, "memory.current")?,
                limit(&self.memory, "memory.max")?,
                io_v2(&read(&self.block, "io.stat")?),
            )
        } else {
            // Kernels with the CFQ scheduler have this file, and the engine prefers it.
            let block = read(&self.block, "blkio.io_service_bytes_recursive")
                .or_else(|_| read(&self.block, "blkio.throttle.io_service_bytes"))?;
            (
                number(&self.cpu, "cpuacct.usage")?,
                number(&self.memory, "memory.usage_in_bytes")?,
                limit(&self.memory, "memory.limit_in_bytes")?,
                io_v1(&block),
            )
        };
        let key = if self.v2 { "inactive_file" } else { "total_inactive_file" };
        let inactive = field(&self.memory, "memory.stat", key)?;
        Ok(Raw {
            read: jiff::Timestamp::now().to_string(),
            cpu_stats: RawCpu {
                cpu_usage: RawUsage { total_usage: Some(total), percpu_usage: None },
                system_cpu_usage: Some(system),
                online_cpus: Some(1),
            },
            precpu_stats: RawCpu::default(),
            memory_stats: RawMemory {
                usage: Some(usage),
                limit: Some(limit.min(machine_memory)),
                stats: Some(BTreeMap::from([(key.to_owned(), inactive)])),
            },
            networks,
            blkio_stats: RawBlock { io_service_bytes_recursive: Some(entries) },
            pids_stats: RawPids { current: Some(number(&self.pids, "pids.current")?) },
        })
    }
}

/// Network counters by interface.
pub(super) type Networks = BTreeMap<String, RawNetwork>;

/// Parses `/proc/<pid>/net/dev`. Returns the interfaces that the engine created, or, if no interface has such a name,
/// all except the loopback.
pub(super) fn networks(text: &str) -> Networks {
    let all: Networks = text
        .lines()
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let mut counters = counters.split_whitespace().map(str::parse::<u64>);
            let (rx_bytes, tx_bytes) = (counters.next()?.ok()?, counters.nth(7)?.ok()?);
            Some((name.trim().to_owned(), RawNetwork { rx_bytes, tx_bytes }))
        })
        .filter(|(name, _)| name != "lo")
        .collect();
    let made = |name: &str| name.strip_prefix("eth").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let any = all.keys().any(|name| made(name));
    all.into_iter().filter(|(name, _)| !any || made(name)).collect()
}

/// Returns the machine's memory in bytes, from `/proc/meminfo`.
pub(super) fn machine_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn read(folder: &Path, file: &str) -> io::Result<String> {
    std::fs::read_to_string(folder.join(file))
}

fn wrong(folder: &Path, file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is not as expected", folder.join(file).display()))
}

fn number(folder: &Path, file: &str) -> io::Result<u64> {
    read(folder, file)?.trim().parse().map_err(|_| wrong(folder, file))
}

fn limit(folder: &Path, file: &str) -> io::Result<u64> {
    let text = read(folder, file)?;
    if text.trim() == "max" { Ok(u64::MAX) } else { text.trim().parse().map_err(|_| wrong(folder, file)) }
}

fn field(folder: &Path, file: &str, key: &str) -> io::Result<u64> {
    let text = read(folder, file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok());
    value.ok_or_else(|| wrong(folder, file))
}

/// Parses lines such as `8:0 Read 4096`.
fn io_v1(text: &str) -> Vec<RawBlockEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some(RawBlockEntry { op: words.next()?.to_owned(), value: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// Parses lines such as `8:0 rbytes=4096 wbytes=0 rios=1 ...`.
fn io_v2(text: &str) -> Vec<RawBlockEntry> {
    let words = text.lines().flat_map(|line| line.split(' '));
    let entry = |word: &str| {
        let (key, value) = word.split_once('=')?;
        let op = match key {
            "rbytes" => "read",
            "wbytes" => "write",
            _ => return None,
        };
        Some(RawBlockEntry { op: op.to_owned(), value: value.parse().ok()? })
    };
    words.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Stats, from_raw};
    use super::*;

    const ID: &str = "f6dbf4e70cdef88d566866056f3b79110ba3430cd8600b40060af9efb660ba09";
    const OTHER: &str = "0000f4e70cdef88d566866056f3b79110ba3430cd8600b40060af9efb660ba09";

    /// A folder that is removed on drop.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("wharf-cgroup-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn write(&self, folder: &str, files: &[(&str, &str)]) {
            let folder = self.0.join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            for (name, text) in files {
                std::fs::write(folder.join(name), text).unwrap();
            }
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn stats(cgroup: &Cgroup, before: (u64, u64), now: u64) -> Stats {
        let dev = "Inter-|   Receive\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
                   eth0: 200 2 0 0 0 0 0 0 40 1 0 0 0 0 0 0\n  tun0: 100 2 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        let mut raw = cgroup.read(16 << 30, Some(networks(dev)), now).unwrap();
        raw.precpu_stats = RawCpu {
            cpu_usage: RawUsage { total_usage: Some(before.0), percpu_usage: None },
            system_cpu_usage: Some(before.1),
            online_cpus: Some(1),
        };
        from_raw(&raw).unwrap()
    }

    /// Recorded from Linux 5.10 with one hierarchy per controller, shortened.
    #[test]
    fn the_first_version_is_read_from_one_folder_per_controller() {
        let dir = Dir::new("v1");
        let point = dir.0.display();
        let own = format!("docker/{ID}");
        dir.write(&format!("cpuacct/{own}"), &[("cpuacct.usage", "3000000000\n")]);
        dir.write(
            &format!("memory/{own}"),
            &[
                ("memory.usage_in_bytes", "1000000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.stat", "cache 600\ninactive_file 200\ntotal_cache 600\ntotal_inactive_file 300\n"),
            ],
        );
        let block = "8:0 Read 100\n8:0 Write 50\n8:0 Sync 150\n8:0 Total 150\n9:0 Read 1\nTotal 151\n";
        dir.write(&format!("blkio/{own}"), &[("blkio.throttle.io_service_bytes", block)]);
        dir.write(&format!("pids/{own}"), &[("pids.current", "3\n"), ("cgroup.procs", "812\n77\n90\n")]);
        let mounts = format!(
            "31 23 0:28 / {point} rw,relatime - tmpfs tmpfs rw,mode=755\n\
             33 31 0:30 / {point}/cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / {point}/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
             38 31 0:35 / {point}/blkio rw,relatime - cgroup cgroup rw,blkio\n\
             39 31 0:36 / {point}/pids rw,relatime - cgroup cgroup rw,pids\n\
             41 31 0:38 / {point}/unified rw,relatime - cgroup2 cgroup2 rw\n"
        );
        let mounts = Mounts::parse(&mounts);
        let proc = format!(
            "9:name=systemd:/{own}\n8:pids:/{own}\n7:blkio:/{own}\n4:memory:/{own}\n2:cpu,cpuacct:/{own}\n0::/{own}\n"
        );
        let cgroup = Cgroup::find(&proc, &mounts, ID).unwrap();
        let stats = stats(&cgroup, (2_000_000_000, 5_000_000_000), 6_000_000_000);
        assert_eq!(stats.cpu_percent, Some(100.0));
        assert_eq!((stats.memory_used, stats.memory_limit), (Some(999_700), Some(16 << 30)));
        assert_eq!((stats.network_rx, stats.network_tx), (Some(200), Some(40)));
        assert_eq!((stats.block_read, stats.block_write, stats.pids), (Some(101), Some(50), Some(3)));
        assert_eq!(cgroup.process(), Some(77));
        // It accepts neither another container nor a reused process id.
        assert_eq!(Cgroup::find(&proc, &mounts, OTHER), None);
        assert_eq!(Cgroup::find("4:memory:/\n2:cpuacct:/\n0::/\n", &mounts, ID), None);
        assert_eq!(cgroup.sibling(ID, OTHER), None);
        dir.write(&format!("pids/docker/{OTHER}"), &[("cgroup.procs", "5\n")]);
        assert_eq!(cgroup.sibling(ID, OTHER).unwrap().process(), Some(5));
    }

    /// The layout of systemd's driver on Linux 6.1, shortened. The mount shows a part of the hierarchy.
    #[test]
    fn the_second_version_is_read_from_one_folder() {
        let dir = Dir::new("v2");
        let own = format!("system.slice/docker-{ID}.scope");
        dir.write(
            &own,
            &[
                ("cpu.stat", "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 0\n"),
                ("memory.current", "1000\n"),
                ("memory.max", "5000\n"),
                ("memory.stat", "anon 300\nfile 600\ninactive_anon 1\ninactive_file 200\nactive_file 400\n"),
                ("io.stat", "8:0 rbytes=100 wbytes=50 rios=1 wios=2 dbytes=0 dios=0\n253:0 rbytes=1 wbytes=0\n"),
                ("pids.current", "3\n"),
                ("cgroup.procs", "77\n"),
            ],
        );
        let mounts = format!("30 23 0:26 /outer {} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", dir.0.display());
        let mounts = Mounts::parse(&mounts);
        let cgroup = Cgroup::find(&format!("0::/outer/{own}\n"), &mounts, ID).unwrap();
        let stats = stats(&cgroup, (2_000_000_000, 1_000_000_000), 1_500_000_000);
        assert_eq!(stats.cpu_percent, Some(200.0));
        assert_eq!((stats.memory_used, stats.memory_limit), (Some(800), Some(5000)));
        assert_eq!((stats.block_read, stats.block_write, stats.pids), (Some(101), Some(50), Some(3)));
        dir.write(&own, &[("memory.max", "max\n"), ("memory.stat", "anon 1\n")]);
        assert!(cgroup.read(1 << 30, None, 1).is_err(), "a file without its field is not zero");
    }

    /// Recorded twice from Linux 6.1 with one hierarchy. The group may use half a processor and 64 MiB. Its shell
    /// read 8 MiB from an NVMe disk, wrote 4 MiB and then counts.
    #[test]
    fn what_linux_6_1_showed_of_the_second_version_gives_what_was_done() {
        const RECORDED: &str = include_str!("cgroup_v2.recorded");
        let parts: BTreeMap<&str, &str> = RECORDED.split("=== ").filter_map(|part| part.split_once('\n')).collect();
        let dir = Dir::new("v2-recorded");
        let proc = parts["proc-cgroup"];
        let own = proc.trim().trim_start_matches("0::/").to_owned();
        let put = |which: &str| {
            let all = parts.iter().filter_map(|(name, text)| Some((name.strip_prefix(which)?.trim(), *text)));
            dir.write(&own, &all.collect::<Vec<_>>());
        };
        let nanoseconds = |which: &str| {
            let (usage, uptime) = (parts[&*format!("{which} cpu.stat")], parts[&*format!("{which} uptime")]);
            let usage: u64 = usage.lines().next().unwrap().strip_prefix("usage_usec ").unwrap().parse().unwrap();
            let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
            (usage * 1000, (uptime * 1e9) as u64)
        };
        let mounts = Mounts::parse(&parts["mountinfo"].replace("/sys/fs/cgroup", &dir.0.display().to_string()));
        put("second");
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let cgroup = Cgroup::find(proc, &mounts, id).unwrap();
        let stats = stats(&cgroup, nanoseconds("first"), nanoseconds("second").1);
        let cpu = stats.cpu_percent.unwrap();
        assert!((45.0..55.0).contains(&cpu), "{cpu}");
        assert_eq!((stats.memory_used, stats.memory_limit), (Some(13_352_960 - 12_582_912), Some(64 << 20)));
        assert_eq!((stats.block_read, stats.block_write, stats.pids), (Some(8_406_016), Some(4_213_760), Some(2)));
        assert_eq!(Cgroup::find(proc, &mounts, ID), None);
    }

    #[test]
    fn a_container_without_a_network_of_its_own_has_no_counters() {
        assert!(networks("Inter-|\n face |\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n").is_empty());
        let renamed = networks("  lan0: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n");
        assert_eq!(renamed.values().map(|n| (n.rx_bytes, n.tx_bytes)).collect::<Vec<_>>(), [(5, 6)]);
        assert_eq!(machine_memory("MemTotal:       24098484 kB\nMemFree: 1 kB\n"), Some(24_098_484 << 10));
    }
}
