//! `cargo xtask bench`: `wharf` against the docker CLI, as whole processes, in one interleaved run.
//!
//! Timings wobble, so only ratios of medians of the same run are worth comparing. Everything is made below
//! `target/bench`, with a state of its own, and removed afterwards. The goals are those of `docs/engine.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::setup;
use crate::stage::Stages;

/// The image that everything runs.
const IMAGE: &str = "wharf-base:local";
/// Lines of the log that is read, 58 bytes each.
const LINES: u32 = 200_000;
/// Workspaces that are measured at once.
const MANY: usize = 20;

/// One thing measured in both ways.
struct Row {
    what: &'static str,
    goal: f64,
    wharf: Vec<Duration>,
    docker: Vec<Duration>,
}

/// Runs everything `rounds` times.
///
/// # Errors
/// When something cannot be set up, or one of the commands fails.
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
    println!("| what | wharf | docker | ratio | goal |\n| --- | --- | --- | --- | --- |");
    for row in &rows {
        let (ours, theirs) = (median(&row.wharf), median(&row.docker));
        let ratio = ours / theirs;
        println!("| {} | {ours:.1} ms | {theirs:.1} ms | {ratio:.2} | {:.2} |", row.what, row.goal);
    }
    println!("\nMedians of {rounds} rounds, interleaved; a ratio below 1 means that wharf is faster.");
    Ok(())
}

/// Milliseconds.
fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

struct Bench {
    wharf: PathBuf,
    folder: PathBuf,
}

impl Bench {
    fn new(root: &Path, wharf: PathBuf) -> Result<Self> {
        let folder = root.join("target/bench");
        let bench = Self { wharf, folder };
        // What a run that was interrupted has left.
        bench.clear()?;
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
        // The first plugin compile and the network are nobody's everyday.
        quiet(&mut self.wharf("one", &["up", "-q"]))?;
        quiet(&mut self.wharf("one", &["down"]))?;
        let docker_run = ["run", "-d", "--init", "--name", NAME, "--memory", "2g", IMAGE, "sleep", "600"];
        for number in 0..MANY {
            quiet(&mut self.wharf(&format!("p{number}"), &["up", "-q"]))?;
        }
        // The engine takes 40 to 90 ms longer to put a container on a network with names, so that is compared apart.
        let network = self.network()?;
        let project = format!("{}:/workspace", self.folder.join("one").display());
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
            same.time(&mut self.wharf("one", &["up", "-q"]), &mut docker(&docker_same))?;
            quiet(&mut self.wharf("one", &["rm", "--force", "one"]))?;
            quiet(&mut docker(&["rm", "-f", NAME]))?;
            up.time(&mut self.wharf("one", &["up", "-q"]), &mut docker(&docker_run))?;
            exec.time(&mut self.wharf("one", &["exec", "--", "true"]), &mut docker(&["exec", NAME, "true"]))?;
            ls.time(&mut self.wharf("one", &["ls"]), &mut docker(&["ps"]))?;
            plan.time(&mut self.wharf("one", &["plan", "--offline"]), &mut docker(&["--version"]))?;
            stop.time(&mut self.wharf("one", &["stop", "-t", "0s"]), &mut docker(&["stop", "-t", "0", NAME]))?;
            remove.time(&mut self.wharf("one", &["rm", "one"]), &mut docker(&["rm", NAME]))?;
        }
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
            api.time(&mut self.wharf("one", &set), &mut docker(&["logs", &container]))?;
        }
        rows.extend([up, same, exec, stream, ls, stop, remove, plan, stats, files, api]);
        Ok(rows)
    }

    /// The network of the workspaces.
    fn network(&self) -> Result<String> {
        let state = command::output(&mut self.wharf("one", &["--json", "inspect", "p0"]))?;
        let view: serde_json::Value = serde_json::from_str(&state)?;
        let id = view.get("container_id").and_then(|id| id.as_str()).context("a workspace without a container")?;
        let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}";
        Ok(command::output(&mut docker(&["inspect", "--format", format, id]))?.trim().to_owned())
    }

    /// The container of the workspace `one`.
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
        // There is none unless a run was interrupted.
        let _ = docker(&["rm", "-f", NAME]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).context("cannot clear target/bench")?;
        }
        Ok(())
    }
}

/// The container of the docker CLI.
const NAME: &str = "wharf-bench-peer";

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
        Self { what, goal, wharf: Vec::new(), docker: Vec::new() }
    }

    /// One of each, so that a drift of the machine meets both.
    fn time(&mut self, wharf: &mut Command, docker: &mut Command) -> Result<()> {
        self.wharf.push(quiet(wharf)?);
        self.docker.push(quiet(docker)?);
        Ok(())
    }
}
