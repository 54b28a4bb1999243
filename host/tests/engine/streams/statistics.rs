//! Statistics from the kernel's files equal those of the engine; collected, they become history.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use wharf::app::App;
use wharf::config::{self, Sources};
use wharf::docker::{LocalStats, Stats};
use wharf::lifecycle::Collector;

use crate::support::docker_lab::Lab;
use crate::support::engine_api as engine;
use crate::support::fake_daemon::Outage;
use crate::support::sandbox::{Sandbox, until};

/// Returns containers with a network and some work.
async fn busy(lab: &Lab, count: usize) -> Vec<String> {
    let network = lab.name("net");
    let body = json!({ "Name": network, "Labels": lab.labels() });
    engine::post("/networks/create", &body).done();
    let line = "echo x > /tmp/f; while :; do head -c 100000 /dev/urandom > /tmp/f; done";
    let mut ids = Vec::new();
    for _ in 0..count {
        let body = json!({
            "Image": engine::BASE, "Cmd": ["sh", "-c", line], "Labels": lab.labels(),
            "HostConfig": { "NetworkMode": network, "NanoCpus": 200_000_000, "Memory": 64 << 20 },
        });
        let made = engine::post("/containers/create", &body).done().json();
        let id = made["Id"].as_str().unwrap().to_owned();
        lab.docker.start(&id).await.unwrap();
        ids.push(id);
    }
    ids
}

async fn one(local: &mut LocalStats, id: &String) -> Stats {
    let mut reading = local.read(std::slice::from_ref(id)).await;
    reading.stats.remove(id).expect("the kernel's files of a container on this machine")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernels_counters_are_those_of_the_engine() {
    let lab = Lab::new().await;
    let id = busy(&lab, 1).await.remove(0);
    let mut local = LocalStats::new(&lab.docker);
    let before = one(&mut local, &id).await;
    assert_eq!(before.cpu_percent, None, "there is nothing to compare a first reading with");
    let engine = lab.docker.stats(&id).await.unwrap();
    let after = one(&mut local, &id).await;
    let between = |what: &str, get: fn(&Stats) -> Option<u64>| {
        let [a, b, c] = [&before, &engine, &after].map(get);
        assert!(a.is_some() && a <= b && b <= c, "{what}: {a:?} <= {b:?} <= {c:?}");
    };
    between("CPU time", |stats| stats.cpu_total_ns);
    between("received", |stats| stats.network_rx);
    between("sent", |stats| stats.network_tx);
    between("read", |stats| stats.block_read);
    between("written", |stats| stats.block_write);
    assert_eq!(engine.memory_limit, after.memory_limit);
    let used = [engine.memory_used.unwrap(), after.memory_used.unwrap()];
    assert!(used[0].abs_diff(used[1]) < 4 << 20, "memory: {used:?}");
    let pids = [engine.pids.unwrap(), after.pids.unwrap()];
    assert!(pids[0].abs_diff(pids[1]) <= 1, "processes: {pids:?}");
    // Limited to a fifth of a core, and less on a busy machine. The engine's own figure covers about a second.
    let cpu = [engine.cpu_percent.unwrap(), after.cpu_percent.unwrap()];
    assert!((cpu[0] - cpu[1]).abs() < 10.0 && (0.1..45.0).contains(&cpu[1]), "CPU: {cpu:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_containers_are_read_at_once_and_those_that_end_are_left_out() {
    let lab = Lab::new().await;
    let ids = busy(&lab, 5).await;
    let mut all = ids.clone();
    all.push(lab.ran("ended", &["true"]).await);
    all.push(lab.run("alone", &["sleep", "1000"]).await);
    let mut local = LocalStats::new(&lab.docker);
    let first = local.read(&all).await;
    assert_eq!(first.elsewhere, [all[5].clone()]);
    assert_eq!(first.stats.len(), 6);
    assert_eq!(first.stats[&all[6]].network_rx, None, "it has no network");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = local.read(&all).await;
    assert!(ids.iter().all(|id| second.stats[id].cpu_percent.is_some_and(|percent| percent > 1.0)));
    lab.docker.stop(&all[0], Duration::ZERO).await.unwrap();
    let third = local.read(&all).await;
    assert_eq!((third.stats.len(), third.elsewhere), (5, vec![all[0].clone(), all[5].clone()]));
    // No counters are found if the configuration forbids it.
    let mut none = LocalStats::new(&lab.docker.clone().with_local_files(false));
    assert_eq!(none.read(&ids).await.elsewhere, ids);
}

#[test]
fn stats_of_several_workspaces_are_the_same_by_both_ways() {
    let sandbox = Sandbox::new();
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        let folder = sandbox.folder(name).display().to_string();
        ids.push(sandbox.json(&["up", &folder, "--", "sh", "-c", "while :; do :; done"])["id"].clone());
    }
    let stopped = sandbox.folder("c").display().to_string();
    sandbox.json(&["up", &stopped, "--", "true"]);
    let mut shapes = Vec::new();
    for way in ["engine.local_files=true", "engine.local_files=false"] {
        // On a busy machine a workspace may get no processor for the whole time between two readings.
        let mut all = Vec::new();
        crate::support::process::until("both were given a processor", || {
            all = sandbox.json(&["--set", way, "stats"]).as_array().unwrap().clone();
            assert_eq!(all.iter().map(|stats| stats["id"].clone()).collect::<Vec<_>>(), ids, "{way}");
            all.iter().all(|stats| stats["cpu_percent"].as_f64().is_some_and(|percent| percent > 1.0))
        });
        let shape = |stats: &Value| -> BTreeMap<String, bool> {
            stats.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.is_null())).collect()
        };
        shapes.push(all.iter().map(shape).collect::<Vec<_>>());
        let one = sandbox.json(&["--set", way, "stats", ids[1].as_str().unwrap()]);
        assert_eq!(one.as_array().unwrap().len(), 1);
    }
    assert_eq!(shapes[0], shapes[1]);
    let refused = sandbox.run(&["--json", "stats", "c"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (1, Some("not-running")));
}

fn app(sandbox: &Sandbox, set: &[&str]) -> App {
    let sources = Sources {
        file: Some(sandbox.path("config/wharf.toml")),
        set: set.iter().map(|text| (*text).to_owned()).collect(),
        ..Sources::default()
    };
    App::new(sources.clone(), config::load(&sources).unwrap(), sandbox.path("state"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_collected_is_shown_as_history_also_over_an_outage_of_the_engine() {
    let sandbox = Sandbox::new();
    let id = tokio::task::block_in_place(|| sandbox.json(&["up", "--", "sh", "-c", "while :; do :; done"]));
    let id = id["id"].as_str().unwrap();
    let none = sandbox.run(&["metrics"]).ok();
    assert!(none.text().is_empty() && none.stderr.contains("no data"), "{}", none.stderr);
    assert_eq!(sandbox.json(&["metrics"]), json!([]));

    let relay = Outage::new(&sandbox.path("relay.sock"));
    let endpoint = format!("engine.endpoint={}", relay.endpoint);
    let app = app(&sandbox, &["metrics.interval=1s", "engine.local_files=false", &endpoint]);
    let lifecycle = app.lifecycle().await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let collector = Collector::default();
    let collect = collector.run(&lifecycle, stopped, |_| {});
    let script = async {
        let cpu = || collector.latest().first().and_then(|stats| stats.cpu_percent);
        let wait = async |so: &dyn Fn() -> bool| {
            while !so() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        wait(&|| cpu().is_some_and(|percent| percent > 1.0)).await;
        relay.set_away(true);
        wait(&|| collector.failures() > 0).await;
        relay.set_away(false);
        let mut news = collector.subscribe();
        news.next().await.unwrap();
        wait(&|| cpu().is_some_and(|percent| percent > 1.0)).await;
        // The readings reach the store a moment after the memory.
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.send(true).unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(collect, script) }).await.unwrap();

    let rows = sandbox.json(&["metrics", "--since", "5m", "--step", "5m"]);
    assert!(!rows.as_array().unwrap().is_empty());
    for row in rows.as_array().unwrap() {
        assert_eq!(row["id"], id);
        assert!(row["cpu_percent"].as_f64().is_none_or(|percent| percent > 1.0), "{row}");
        assert!(row["memory_used"].is_u64() && row["memory_limit"].is_u64() && row["pids"].is_u64(), "{row}");
        assert!(row["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{row}");
    }
    let shown = sandbox.run(&["metrics", id]).ok().text();
    assert!(shown.starts_with("TIME") && shown.lines().count() > 1, "{shown}");
    // The command needs no engine.
    let without = sandbox.run(&["--engine", "unix:///nowhere.sock", "metrics"]).ok();
    assert_eq!(without.text().lines().next(), shown.lines().next());
}

#[test]
fn metrics_refuses_what_makes_no_sense() {
    let sandbox = Sandbox::new();
    let unknown = sandbox.run(&["--json", "metrics", "nope"]);
    assert_eq!((unknown.code, unknown.error()["code"].as_str()), (5, Some("workspace-not-found")));
    sandbox.up();
    for args in [&["metrics", "--since", "1h", "--until", "2h"][..], &["metrics", "--since", "30d", "--step", "1s"]] {
        let mut all = vec!["--json"];
        all.extend(args);
        let refused = sandbox.run(&all);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (2, Some("bad-request")), "{args:?}");
    }
    assert_eq!(sandbox.run(&["metrics", "--since", "yesterday"]).code, 2);
    let wrong = sandbox.run(&["--json", "--set", "metrics.interval=10ms", "metrics"]);
    assert!(wrong.code == 3 && wrong.error()["message"].as_str().unwrap().contains("less than 1s"));
    until("nothing is collected", || sandbox.json(&["metrics"]) == json!([]));
}
