//! `cargo xtask bench`: `wharf` compared with the docker CLI, as whole processes in one interleaved run, and with
//! direct requests to the engine.
//!
//! Timings fluctuate, so only ratios of medians of the same run are worth comparing. All files are below
//! `target/bench`, with a separate state, and are removed afterwards. The goals are those of `host/TESTING.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

mod raw;

use crate::command;
use crate::setup;
use crate::stage::Stages;

/// The image that everything runs.
const IMAGE: &str = "wharf-base:local";
/// Lines of the log that is read, 58 bytes each.
const LINES: u32 = 200_000;
/// The number of workspaces in the measurement of many.
const MANY: usize = 20;
/// The number of workspaces that are made concurrently. By measurement, the engine gets no faster with more.
const AT_ONCE: usize = 4;

/// One operation, measured in each way.
struct Row {
    what: &'static str,
    goal: f64,
    wharf: Vec<Duration>,
    docker: Vec<Duration>,
    /// The engine alone; empty if there is no equivalent request.
    raw: Vec<Duration>,
}

/// Runs everything `rounds` times.
///
/// # Errors
/// When a part cannot be set up, or one of the commands fails.
pub fn run(root: &Path, rounds: usize) -> Result<()> {
    let mut stages = Stages::new();
    setup::run(root, false, &mut stages)?;
    let wharf = setup::release(root, &mut stages)?;
    if !command::exists("docker") {
        bail!("the docker CLI is missing: it is what wharf is compared with (Debian: apt-get install docker-cli)");
    }
    let bench = Bench::new(root, wharf)?;
    let rows = stages.run("measure", || bench.measure(rounds));
    let cleared = bench.clear();
    let rows = rows?;
    cleared?;
    println!("{}\n", stages.summary());
    println!(
        "| what | wharf | docker | ratio | goal | the engine alone, ratio |\n| --- | --- | --- | --- | --- | --- |"
    );
    for row in &rows {
        let (ours, theirs) = (median(&row.wharf), median(&row.docker));
        let raw = match row.raw.as_slice() {
            [] => String::new(),
            times => format!("{:.1} ms, {:.2}", median(times), median(times) / theirs),
        };
        println!("| {} | {ours:.1} ms | {theirs:.1} ms | {:.2} | {:.2} | {raw} |", row.what, ours / theirs, row.goal);
    }
    println!("\nMedians of {rounds} rounds, interleaved; a ratio below 1 means that wharf is faster.");
    Ok(())
}

/// Returns the median in milliseconds.
fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

struct Bench {
    wharf: PathBuf,
    folder: PathBuf,
    raw: raw::Raw,
}

impl Bench {
    fn new(root: &Path, wharf: PathBuf) -> Result<Self> {
        let folder = root.join("target/bench");
        let bench = Self { wharf, folder, raw: raw::Raw::find()? };
        // Removes the leftovers of an interrupted run.
        bench.clear()?;
        // It is copied, so that it is laid out like the installed docker CLI: a linker's output lies in the page cache
        // in small pieces, and takes a fifth longer to start until it is read from the disk again.
        fs::create_dir_all(&bench.folder).context("cannot make target/bench")?;
        let installed = bench.folder.join("wharf");
        fs::copy(&bench.wharf, &installed).context("cannot copy wharf to target/bench")?;
        let bench = Self { wharf: installed, ..bench };
        for number in 0..MANY {
            fs::create_dir_all(bench.folder.join(format!("p{number}"))).context("cannot make the folders")?;
        }
        fs::create_dir_all(bench.folder.join("one")).context("cannot make the folders")?;
        Ok(bench)
    }

    fn wharf(&self, project: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.wharf);
        command.args(args).current_dir(self.folder.join(project));
        command
            .env("WHARF_STATE_DIR", self.folder.join("state"))
            .env("WHARF_CONFIG", "")
            .env("WHARF_WORKSPACE_IMAGE", IMAGE);
        command
    }

    fn measure(&self, rounds: usize) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        // The first plugin compile and the creation of the network are not everyday work.
        quiet(&mut self.wharf("one", &["up", "-q"]))?;
        quiet(&mut self.wharf("one", &["down"]))?;
        let docker_run = ["run", "-d", "--init", "--name", NAME, "--memory", "2g", IMAGE, "sleep", "600"];
        for number in 0..MANY {
            quiet(&mut self.wharf(&format!("p{number}"), &["up", "-q"]))?;
        }
        // The engine takes 40 to 90 ms longer to put a container on a network with names, so that is compared
        // separately.
        let network = self.network()?;
        let one = self.folder.join("one").display().to_string();
        let project = format!("{one}:/workspace");
        let mut docker_same = docker_run.to_vec();
        docker_same.truncate(5);
        docker_same.extend(["--memory", "2g", "--memory-swap", "2g", "--cpus", "2", "--pids-limit", "512"]);
        docker_same.extend(["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", &network]);
        docker_same.extend(["-v", &project, "-w", "/workspace", IMAGE, "sleep", "600"]);
        let mut same = Row::new("`up` / `docker run -d` with the same network and limits", 1.0);
        let mut up = Row::new("`up` of a ready image / `docker run -d`", 1.0);
        let mut exec = Row::new("`exec -- true` / `docker exec true`", 0.72);
        let mut ls = Row::new("`ls` of 20 / `docker ps`", 0.7);
        let mut stop = Row::new("`stop -t 0s` / `docker stop -t 0`", 0.95);
        let mut remove = Row::new("`rm` / `docker rm`", 0.95);
        let mut plan = Row::new("`plan --offline` / `docker --version`", 0.8);
        for _ in 0..rounds {
            up.time(&mut self.wharf("one", &["up", "-q"]), &mut docker(&docker_run))?;
            quiet(&mut self.wharf("one", &["rm", "--force", "one"]))?;
            quiet(&mut docker(&["rm", "-f", NAME]))?;
            // Other operations on a container also cost the engine more on such a network, so the same network is used.
            let raw_up = || self.raw.up(RAW, IMAGE, &network, &one);
            same.time_all(&mut self.wharf("one", &["up", "-q"]), &mut docker(&docker_same), raw_up)?;
            let mut run = self.wharf("one", &["exec", "--", "true"]);
            exec.time_all(&mut run, &mut docker(&["exec", NAME, "true"]), || self.raw.exec(RAW))?;
            let mut end = self.wharf("one", &["stop", "-t", "0s"]);
            stop.time_all(&mut end, &mut docker(&["stop", "-t", "0", NAME]), || self.raw.stop(RAW))?;
            let mut rm = self.wharf("one", &["rm", "one"]);
            remove.time_all(&mut rm, &mut docker(&["rm", NAME]), || self.raw.remove(RAW, false))?;
        }
        // Separate from starts and stops, whose ends the engine still works on afterwards.
        for _ in 0..rounds * 4 {
            ls.time(&mut self.wharf("one", &["ls"]), &mut docker(&["ps"]))?;
        }
        for _ in 0..rounds * 4 {
            plan.time(&mut self.wharf("one", &["plan", "--offline"]), &mut docker(&["--version"]))?;
        }
        let many = self.many(rounds.min(5), &docker_same, (&network, &one))?;
        let mut stream = Row::new("`exec` of 500 MB / `docker exec`", 1.0);
        quiet(&mut self.wharf("one", &["up", "-q"]))?;
        let container = self.container()?;
        for _ in 0..rounds.min(5) {
            let bytes = ["head", "-c", "500000000", "/dev/zero"];
            let (mut ours, mut theirs) = (vec!["exec", "one", "--"], vec!["exec", &container]);
            ours.extend(bytes);
            theirs.extend(bytes);
            stream.time(&mut self.wharf("one", &ours), &mut docker(&theirs))?;
        }
        quiet(&mut self.wharf("one", &["rm", "--force", "one"]))?;
        let mut stats = Row::new("`stats --no-stream` of 20 / `docker stats --no-stream`", 0.08);
        for _ in 0..rounds.min(5) {
            stats.time(&mut self.wharf("one", &["stats", "--no-stream"]), &mut docker(&["stats", "--no-stream"]))?;
        }
        let line = "i=0; while [ $i -lt $N ]; do echo \"line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"; i=$((i+1)); done; sleep 600";
        let count = format!("N={LINES}");
        quiet(&mut self.wharf("one", &["up", "-q", "-e", &count, "--", "sh", "-c", line]))?;
        let container = self.container()?;
        self.until_written(&container)?;
        let mut files = Row::new("`logs` of 200,000 lines from the files / `docker logs`", 0.05);
        let mut api = Row::new("`logs` of 200,000 lines from the API / `docker logs`", 0.71);
        for _ in 0..rounds.min(7) {
            files.time(&mut self.wharf("one", &["logs"]), &mut docker(&["logs", &container]))?;
            let set = ["--set", "engine.local_files=false", "logs"];
            let raw = || self.raw.logs(&container);
            api.time_all(&mut self.wharf("one", &set), &mut docker(&["logs", &container]), raw)?;
        }
        rows.extend([up, same, many, exec, stream, ls, stop, remove, plan, stats, files, api]);
        Ok(rows)
    }

    /// Makes twenty workspaces, four at a time, beside the existing ones.
    fn many(&self, rounds: usize, docker_same: &[&str], (network, project): (&str, &str)) -> Result<Row> {
        let mut row = Row::new("20 x `up` / 20 x `docker run -d` the same, four at a time", 1.0);
        let (ours, theirs, alone) = (
            |number: usize| format!("many{number}"),
            |number: usize| format!("{NAME}-{number}"),
            |number: usize| format!("{RAW}-{number}"),
        );
        for number in 0..MANY {
            fs::create_dir_all(self.folder.join(ours(number))).context("cannot make the folders")?;
        }
        let run = |number| {
            let name = theirs(number);
            let args: Vec<&str> =
                docker_same.iter().map(|word| if *word == NAME { name.as_str() } else { word }).collect();
            quiet(&mut docker(&args)).map(drop)
        };
        for _ in 0..rounds {
            row.wharf.push(at_once(&|number| quiet(&mut self.wharf(&ours(number), &["up", "-q"])).map(drop))?);
            row.docker.push(at_once(&run)?);
            row.raw.push(at_once(&|number| self.raw.up(&alone(number), IMAGE, network, project))?);
            at_once(&|number| {
                quiet(&mut self.wharf("one", &["rm", "--force", &ours(number)]))?;
                self.raw.remove(&theirs(number), true)?;
                self.raw.remove(&alone(number), true)
            })?;
        }
        Ok(row)
    }

    /// Returns the network of the workspaces.
    fn network(&self) -> Result<String> {
        let state = command::output(&mut self.wharf("one", &["--json", "inspect", "p0"]))?;
        let view: serde_json::Value = serde_json::from_str(&state)?;
        let id = view.get("container_id").and_then(|id| id.as_str()).context("a workspace without a container")?;
        let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}";
        Ok(command::output(&mut docker(&["inspect", "--format", format, id]))?.trim().to_owned())
    }

    /// Returns the ID of the container of the workspace `one`.
    fn container(&self) -> Result<String> {
        let text = command::output(&mut self.wharf("one", &["--json", "inspect"]))?;
        let view: serde_json::Value = serde_json::from_str(&text)?;
        Ok(view.get("container_id").and_then(|id| id.as_str()).context("a workspace without a container")?.to_owned())
    }

    fn until_written(&self, container: &str) -> Result<()> {
        let begin = Instant::now();
        let last = format!("line {} ", LINES - 1);
        while !command::output(docker(&["logs", "--tail", "1", container]).stderr(Stdio::null()))?.starts_with(&last) {
            if begin.elapsed() > Duration::from_secs(300) {
                bail!("the workspace did not write its lines within five minutes");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        if self.folder.join("state").exists() {
            quiet(&mut self.wharf("one", &["rm", "--all", "--force"]))?;
        }
        // There are none unless a run was interrupted.
        let peers = docker(&["ps", "--all", "--quiet", "--filter", "name=^wharf-bench-(peer|raw)(-[0-9]+)?$"]).output();
        let peers = peers.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let peers: Vec<&str> = ["rm", "-f"].into_iter().chain(peers.split_whitespace()).collect();
        let _ = docker(&peers).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).context("cannot clear target/bench")?;
        }
        Ok(())
    }
}

/// The container of the docker CLI.
const NAME: &str = "wharf-bench-peer";
/// The container of direct requests to the engine.
const RAW: &str = "wharf-bench-raw";

/// Runs a job for each of many, some concurrently, and returns the total time.
fn at_once(job: &(dyn Fn(usize) -> Result<()> + Sync)) -> Result<Duration> {
    let next = AtomicUsize::new(0);
    let lane = || -> Result<()> {
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                number if number < MANY => job(number)?,
                _ => return Ok(()),
            }
        }
    };
    let begin = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let lanes: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(lane)).collect();
        for lane in lanes {
            lane.join().map_err(|_| anyhow!("a thread of the bench panicked"))??;
        }
        Ok(())
    })?;
    Ok(begin.elapsed())
}

fn docker(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(args);
    command
}

fn quiet(command: &mut Command) -> Result<Duration> {
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().context("cannot run a command")?;
    let took = begin.elapsed();
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(took)
}

impl Row {
    fn new(what: &'static str, goal: f64) -> Self {
        Self { what, goal, wharf: Vec::new(), docker: Vec::new(), raw: Vec::new() }
    }

    /// Measures one of each, so that a drift of the machine affects both. They alternate in being first, because the
    /// second finds the engine still busy with the work of the first.
    fn time(&mut self, wharf: &mut Command, docker: &mut Command) -> Result<()> {
        let turn = self.wharf.len();
        for way in 0..2 {
            match (turn + way) % 2 {
                0 => self.wharf.push(quiet(wharf)?),
                _ => self.docker.push(quiet(docker)?),
            }
        }
        Ok(())
    }

    /// Measures all three ways, with the engine alone as the third.
    fn time_all(&mut self, wharf: &mut Command, docker: &mut Command, raw: impl Fn() -> Result<()>) -> Result<()> {
        let turn = self.wharf.len();
        for way in 0..3 {
            match (turn + way) % 3 {
                0 => self.wharf.push(quiet(wharf)?),
                1 => self.docker.push(quiet(docker)?),
                _ => {
                    let begin = Instant::now();
                    raw()?;
                    self.raw.push(begin.elapsed());
                }
            }
        }
        Ok(())
    }
}
