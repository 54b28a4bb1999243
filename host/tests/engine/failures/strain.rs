//! A full disk, and a slow engine.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::engine_api::{self as engine, BASE};
use crate::support::fake_daemon::relay;
use crate::support::sandbox::{Output, Sandbox, until};

/// A state folder on a separate file system, which only commands run through this can see.
struct SmallDisk<'a> {
    sandbox: &'a Sandbox,
    keeper: Child,
}

impl<'a> SmallDisk<'a> {
    fn mount(sandbox: &'a Sandbox, size: &str) -> Self {
        let state = sandbox.folder("state");
        let script = format!("mount -t tmpfs -o size={size},mode=700 none {} && echo mounted && cat", state.display());
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--kill-child", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = unshare.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "mounting takes root");
        Self { sandbox, keeper }
    }

    fn within(&self, command: &Command) -> Command {
        let mut all = Command::new("nsenter");
        all.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id())).arg("--");
        // Entering the namespace changes to its root folder.
        all.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(command.get_current_dir().unwrap());
        all.arg(command.get_program()).args(command.get_args()).env_clear();
        all.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        all
    }

    fn run(&self, args: &[&str]) -> Output {
        Output::of(self.within(&self.sandbox.command(args)).output().unwrap())
    }

    fn run_in(&self, folder: &str, args: &[&str]) -> Output {
        let folder = self.sandbox.folder(folder);
        Output::of(self.within(&self.sandbox.command_in(&folder, args)).output().unwrap())
    }

    fn sh(&self, line: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.sandbox.path("state")).env("PATH", std::env::var_os("PATH").unwrap());
        Output::of(self.within(&shell).output().unwrap())
    }

    fn fill(&self) {
        let full = self.sh(&format!("cat /dev/zero > {}/filler", self.sandbox.path("state").display()));
        assert!(full.stderr.contains("No space left"), "{}", full.stderr);
    }

    fn free(&self) {
        self.sh(&format!("rm {}/filler", self.sandbox.path("state").display())).ok();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // The mount ends with the last process of its namespace.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[test]
fn on_a_full_disk_nothing_is_made_or_lost_what_runs_can_be_stopped_and_space_heals_it() {
    let sandbox = Sandbox::new();
    // A script: the compiled code of plugins would fill most of such a small disk.
    sandbox.script(
        "team.rhai",
        "fn pre_create(ctx) { ctx.spec.env.TEAM = \"a\"; } fn pre_stop(ctx) { ctx.note(\"bye\"); }",
    );
    let disk = SmallDisk::mount(&sandbox, "2m");
    disk.run(&["up", "--image", BASE]).ok();
    let id = sandbox.id();
    let count = || engine::containers().iter().filter(|one| one["Names"][0].as_str().unwrap().contains(&id)).count();
    assert_eq!(count(), 1);

    disk.fill();
    let before = sandbox.snapshot();
    for args in [&["up", "--image", BASE][..], &["--json", "up", "--image", BASE]] {
        let output = disk.run_in("other", args);
        assert_eq!(output.code, 1, "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains("disk"), "{}", output.stderr);
        sandbox.assert_unchanged(&before, "up on a full disk");
    }
    // A decision that cannot be recorded is not carried out.
    let exec = disk.run(&["--json", "exec", "--", "true"]);
    assert_eq!((exec.code, &exec.error()["code"]), (125, &json!("store")), "{}", exec.stderr);
    // Reading works, and so does stopping.
    assert_eq!(disk.run(&["--json", "ls"]).ok().json()[0]["state"], "running");
    let stop = disk.run(&["stop", "-t", "0s"]).ok();
    assert!(stop.stderr.contains("disk"), "what could not be recorded is told: {}", stop.stderr);
    assert_eq!(disk.run(&["--json", "ls"]).ok().json()[0]["state"], "exited");
    // A start that cannot be recorded is undone.
    let start = disk.run(&["--json", "start"]);
    assert_eq!((start.code, &start.error()["code"]), (1, &json!("store")), "{}", start.stderr);
    assert_eq!(disk.run(&["--json", "ls"]).ok().json()[0]["state"], "exited");

    disk.free();
    disk.run(&["start"]).ok();
    assert_eq!(disk.run(&["exec", "--", "echo", "works"]).ok().text(), "works\n");
    disk.run_in("other", &["up", "--image", BASE]).ok();
    assert_eq!(disk.run(&["--json", "ls"]).ok().json().as_array().map(Vec::len), Some(2));
    disk.run(&["rm", "--all", "--force"]).ok();
    assert_eq!(count(), 0);
}

#[test]
fn a_service_on_a_full_disk_says_so_and_goes_on_when_there_is_space() {
    let sandbox = Sandbox::new();
    sandbox.script("team.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"a\"; }");
    sandbox.append_config("[metrics]\ninterval = \"1s\"");
    let disk = SmallDisk::mount(&sandbox, "2m");
    let up = disk.run(&["--json", "up", "--image", BASE]).ok().json();
    let container = up["container_id"].as_str().unwrap();
    let mut serve = disk.within(&sandbox.command(&["serve"]));
    let log = sandbox.path("serve.log");
    let mut service = serve.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    // A list only gets this time from the service.
    let ended = || disk.run(&["--json", "ls"]).json()[0]["finished_at"].is_string();
    until("the service works", || disk.run(&["doctor"]).text().contains("wharf serve is running"));
    disk.fill();
    until("it says so", || said().contains("disk is full"));
    engine::post(&format!("/containers/{container}/kill?signal=KILL"), &json!(null)).done();
    std::thread::sleep(Duration::from_secs(2));
    assert!(service.try_wait().unwrap().is_none(), "it ended: {}", said());
    disk.free();
    until("it knows what happened meanwhile", ended);
    Command::new("kill").arg(service.id().to_string()).status().unwrap();
    assert!(service.wait().unwrap().success(), "{}", said());
    disk.run(&["rm", "--all", "--force"]).ok();
}

#[test]
fn with_an_engine_that_takes_its_time_every_verb_works_and_an_interrupted_one_leaves_nothing() {
    let sandbox = Sandbox::new();
    let slow = relay(&sandbox.path("slow.sock"), |_| {
        std::thread::sleep(Duration::from_millis(300));
        true
    });
    let run = |args: &[&str]| sandbox.run(&[&["--engine", slow.as_str()], args].concat());
    let begin = Instant::now();
    run(&["up", "--image", BASE]).ok();
    assert!(begin.elapsed() > Duration::from_secs(2), "it was not slow");
    assert_eq!(run(&["exec", "--", "echo", "works"]).ok().text(), "works\n");
    for args in
        [&["restart", "-t", "0s"][..], &["stats", "--no-stream"], &["logs"], &["stop", "-t", "0s"], &["rm", "project"]]
    {
        run(args).ok();
    }
    sandbox.assert_nothing_left();

    // Ctrl-C in the middle.
    let mut up = sandbox.spawn(&["--engine", slow.as_str(), "up", "--image", BASE]);
    until("it has begun", || !sandbox.own_containers().is_empty());
    up.signal("INT");
    let ended = up.finish();
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    sandbox.assert_nothing_left();
}
