//! `cargo bench -p wharf --bench decisions`: the cost of policies. Run `cargo xtask plugins` first.
//!
//! The request has ten labels and ten variables. Every plugin call uses a fresh instance, limits and a deadline. The
//! end shows the calls per second on all cores, and the memory that loading plugins adds to the process.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use serde_json::json;
use wharf::builtin::{ALL, BuiltIn};
use wharf::config::Config;
use wharf::hooks::record::Draft;
use wharf::hooks::{Chain, Entry, Facts, Hook, HookRequest, Limits, Policy, Subject};
use wharf::script::RhaiPolicy;
use wharf::store::Store;
use wharf::wasm::{WasmEngine, WasmPolicy};
use wharf::workspace::{ContainerSpec, ImageChoice};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn component(path: &str) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target").join(path).with_extension("wasm");
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; run 'cargo xtask plugins'", file.display()))
}

fn plugin(engine: &Arc<WasmEngine>, path: &str, name: &str) -> WasmPolicy {
    WasmPolicy::load(engine, name, &component(path), &json!({}), Limits::default()).unwrap()
}

fn script(text: &str, name: &str) -> RhaiPolicy {
    RhaiPolicy::load(name, text, json!({}), Limits::default()).unwrap()
}

fn built_in(engine: &Arc<WasmEngine>) -> Vec<Entry> {
    let each = ALL.iter().map(|(name, policy)| match policy {
        BuiltIn::Plugin(bytes, _) => {
            Entry::new(Arc::new(WasmPolicy::load(engine, name, bytes, &json!({}), Limits::default()).unwrap()))
        }
        BuiltIn::Script(text) => Entry::new(Arc::new(script(text, name))),
    });
    each.collect()
}

fn spec() -> ContainerSpec {
    let mut spec = ContainerSpec::empty();
    spec.image = Some(ImageChoice { reference: "base:1".into(), pull: Default::default(), reason: "asked for".into() });
    spec.command = vec!["sleep".into(), "600".into()];
    spec.working_dir = "/workspace".into();
    spec.resources.memory = 2 << 30;
    spec.resources.cpus = 2.0;
    spec.resources.pids = 512;
    for n in 0..10 {
        spec.labels.insert(format!("team.label-{n}"), format!("value {n}"));
        spec.env.insert(format!("VARIABLE_{n}"), format!("value {n}"));
    }
    spec
}

fn facts() -> Arc<Facts> {
    let mut facts = Facts::default();
    facts.workspace.id = "shop-1a2b3c".into();
    facts.workspace.name = "shop".into();
    facts.workspace.project = "/srv/shop".into();
    facts.workspace.labels = spec().labels;
    facts.project.files = vec!["Cargo.toml".into(), "README.md".into(), "src".into()];
    Arc::new(facts)
}

fn request(hook: Hook) -> HookRequest {
    HookRequest { hook, now_ms: 7, facts: facts(), spec: spec(), subject: Subject::Container }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wharf-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn calls(criterion: &mut Criterion, pooled: &Arc<WasmEngine>, on_demand: &Arc<WasmEngine>) {
    let mut group = criterion.benchmark_group("one decision");
    for (how, engine) in [("plugin, pooled", pooled), ("plugin, on demand", on_demand)] {
        let policy = plugin(engine, "plugins/security-baseline", "p");
        let request = request(Hook::SecurityProfile);
        group.bench_function(how, |b| b.iter(|| policy.evaluate(black_box(&request)).unwrap()));
    }
    let text = include_str!("../../policies/pre-create.rhai");
    let policy = script(text, "pre-create.rhai");
    let request = request(Hook::PreCreate);
    group.bench_function("script", |b| b.iter(|| policy.evaluate(black_box(&request)).unwrap()));
    group.finish();
}

fn chains(criterion: &mut Criterion, engine: &Arc<WasmEngine>) {
    let mut group = criterion.benchmark_group("chain");
    let mirror = include_str!("../tests/scripts/mirror.rhai");
    let mixed: Vec<Entry> = (0..5)
        .flat_map(|n| {
            [
                Entry::new(Arc::new(plugin(engine, "test-plugins/mirror", &format!("plugin-{n}")))),
                Entry::new(Arc::new(script(mirror, &format!("script-{n}")))),
            ]
        })
        .collect();
    let invariants = Config::default().invariants();
    let mixed = Chain::new(mixed, invariants.clone());
    group.bench_function("ten policies, plugins and scripts", |b| {
        b.iter(|| mixed.decide_create(Draft::new(spec()), &facts(), true, 7));
    });
    let default = Chain::new(built_in(engine), invariants);
    group.bench_function("the built-in six on an up", |b| {
        b.iter(|| default.decide_create(Draft::new(spec()), &facts(), true, 7));
    });
    let folder = Folder::new("store");
    let store = Store::open(&folder.0).unwrap();
    group.bench_function("the built-in six on an up, recorded", |b| {
        b.iter(|| {
            let decided = default.decide_create(Draft::new(spec()), &facts(), true, 7);
            store.append(&decided.decisions).unwrap();
        });
    });
    group.finish();
}

fn loads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    let bytes = component("plugins/security-baseline");
    let load = |engine: &Arc<WasmEngine>| WasmPolicy::load(engine, "p", &bytes, &json!({}), Limits::default()).unwrap();
    let without = Arc::new(WasmEngine::new(None).unwrap());
    group.bench_function("a plugin, compiled", |b| b.iter(|| load(&without)));
    let folder = Folder::new("cache");
    let cached = folder.0.join("compiled");
    let with = Arc::new(WasmEngine::new(Some(&cached)).unwrap());
    load(&with);
    group.bench_function("a plugin, from the cache", |b| b.iter(|| load(&with)));
    group.bench_function("an engine", |b| b.iter(|| WasmEngine::new(Some(&cached)).unwrap()));
    let text = include_str!("../../policies/pre-create.rhai");
    group.bench_function("a script", |b| b.iter(|| script(text, "p")));
    group.finish();
}

/// Returns the calls per second on a number of threads.
fn throughput(policy: &(dyn Policy + 'static), request: &HookRequest, threads: usize) -> f64 {
    let time = Duration::from_secs(3);
    let begin = Instant::now();
    let count: u64 = std::thread::scope(|scope| {
        let run = || {
            let mut count = 0;
            while begin.elapsed() < time {
                for _ in 0..100 {
                    policy.evaluate(request).unwrap();
                }
                count += 100;
            }
            count
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    count as f64 / begin.elapsed().as_secs_f64()
}

/// Returns the resident memory of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let folder = Folder::new("main");
    let cache = folder.0.join("compiled");
    // The plugins are already compiled, as at every start except the first.
    drop(built_in(&Arc::new(WasmEngine::new(Some(&cache)).unwrap())));
    let before = resident();
    let on_demand = Arc::new(WasmEngine::new(Some(&cache)).unwrap());
    let kept = built_in(&on_demand);
    let after = resident();
    let pooled = Arc::new(WasmEngine::pooled(Some(&cache), 64 << 20).unwrap());

    let mut criterion = Criterion::default().configure_from_args();
    calls(&mut criterion, &pooled, &on_demand);
    chains(&mut criterion, &pooled);
    loads(&mut criterion);
    criterion.final_summary();

    println!("\n| calls a second | threads | calls |\n| --- | --- | --- |");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (how, engine) in [("plugin, pooled", &pooled), ("plugin, on demand", &on_demand)] {
        let policy = plugin(engine, "plugins/security-baseline", "p");
        for threads in [1, cores] {
            println!("| {how} | {threads} | {:.0} |", throughput(&policy, &request(Hook::SecurityProfile), threads));
        }
    }
    let policy = script(include_str!("../../policies/pre-create.rhai"), "p");
    for threads in [1, cores] {
        println!("| script | {threads} | {:.0} |", throughput(&policy, &request(Hook::PreCreate), threads));
    }
    println!("\nthe built-in six take {:.1} MiB of memory beside {before:.1} MiB", after - before);
    drop(kept);
}
