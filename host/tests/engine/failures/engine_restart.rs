//! A real engine that is stopped, killed and restarted. It belongs to this test alone and runs in its own namespaces:
//! its effects on networks, processes and mounts end with it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::events::Lines;
use crate::service::serve::Serving;
use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::{Sandbox, until};

/// The first process of the namespaces. It starts and ends engines on command from stdin. When stdin ends, all
/// processes in the namespaces end.
const SUPERVISOR: &str = r#"
while read -r word; do
    case $word in
        start) dockerd --data-root "$HOME/data" --exec-root "$HOME/exec" --pidfile "$HOME/pid" --config-file "$HOME/config" --host "unix://$HOME/s" \
            --storage-driver vfs --cgroup-parent "/wharf-test-$$" >>"$HOME/log" 2>&1 & engine=$! ;;
        stop) kill "$engine"; wait "$engine" ;;
        kill) kill -9 "$engine"; wait "$engine" ;;
    esac
    echo "$word"
done
"#;

/// An engine that belongs to this test.
struct OwnEngine {
    supervisor: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// Short, because a socket path may have 108 bytes.
    folder: PathBuf,
}

impl OwnEngine {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("wh-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // Not the machine's configuration, which may refer to the machine's engine.
        std::fs::write(folder.join("config"), "{}").unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", SUPERVISOR]);
        unshare.env("HOME", &folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut supervisor = unshare.spawn().unwrap();
        let (to, from) = (supervisor.stdin.take(), BufReader::new(supervisor.stdout.take().unwrap()));
        let mut engine = Self { supervisor, to, from, folder };
        engine.tell("start");
        engine.answers();
        engine
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    #[track_caller]
    fn tell(&mut self, word: &str) {
        writeln!(self.to.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), word);
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    #[track_caller]
    fn answers(&self) {
        let begin = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(60), "the engine does not start: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        // It listens before it has found its containers again, and answers afterwards.
        engine::call_at(&self.socket(), "GET", "/version", b"").done();
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if let Some(to) = &mut self.to {
            let _ = writeln!(to, "stop");
            let _ = self.from.read_line(&mut String::new());
        }
        // The first process of the namespaces ends, and the kernel ends the others.
        self.to = None;
        let _ = self.supervisor.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns the numbers of the lines `line N`.
fn numbers(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
}

#[test]
fn service_followers_and_commands_get_over_an_engine_that_is_stopped_or_killed_and_started_again() {
    let mut own = OwnEngine::start();
    let image = engine::call("GET", &format!("/images/{BASE}/get"), b"").done();
    engine::call_at(&own.socket(), "POST", "/images/load", &image.body).done();

    let mut sandbox = Sandbox::new();
    sandbox.env("DOCKER_HOST", &own.endpoint());
    let serving = Serving::start(&sandbox, &[]);
    let lines = "trap exit TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    sandbox.json(&["up", "--image", BASE, "--", "sh", "-c", lines]);
    let other = sandbox.folder("other");
    sandbox.run_in(&other, &["up", "-q", "--image", BASE, "--restart", "always"]).ok();
    let state = |sandbox: &Sandbox, name: &str| -> Value {
        let views = sandbox.json(&["ls"]);
        views.as_array().unwrap().iter().find(|view| view["name"] == name).unwrap()["state"].clone()
    };

    for how in ["stop", "kill"] {
        let mut from_files = sandbox.spawn(&["logs", "--follow"]);
        let mut from_engine = sandbox.spawn(&["--set", "engine.local_files=false", "logs", "--follow"]);
        let followers = [Lines::of(&mut from_files), Lines::of(&mut from_engine)];
        for follower in &followers {
            follower.find("line 20");
        }
        own.tell(how);
        let away = sandbox.run(&["--json", "ls"]);
        assert_eq!((away.code, &away.error()["code"]), (6, &json!("engine-unreachable")), "{how}");
        // Long enough to be noticed, and for a failed retry.
        std::thread::sleep(Duration::from_secs(3));
        own.tell("start");
        own.answers();

        // The engine restarts the container that requests it; the other has ended.
        until("the engine starts the other again", || state(&sandbox, "other") == "running");
        until("the first is known to have ended", || state(&sandbox, "project") == "exited");
        let states = || sandbox.store().states().unwrap();
        until("the service knows both", || {
            let states = states();
            let of =
                |running: bool| states.iter().filter(|state| (state.state.as_str() == "running") == running).count();
            of(true) == 1 && of(false) == 1
        });
        // Followers end with their containers, and have every line once.
        let all = numbers(&sandbox.run(&["logs"]).ok().text());
        assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "{how}");
        for (follower, rest) in [from_files, from_engine].into_iter().zip(followers) {
            let ended = follower.finish();
            assert_eq!(ended.code, 0, "{how}: {}", ended.stderr);
            let mut seen: Vec<u64> = (1..=20).collect();
            seen.extend(numbers(&rest.rest().join("\n")));
            assert_eq!(seen, all, "{how}: {}", ended.stderr);
        }
        assert_eq!(sandbox.run(&["doctor"]).ok().code, 0);
        sandbox.run(&["rm", "project"]).ok();
        sandbox.json(&["up", "--image", BASE, "--", "sh", "-c", lines]);
        assert_eq!(sandbox.sh("echo works"), "works\n", "{how}");
    }
    for _ in ["stop", "kill"] {
        serving.lines.find("the engine is unreachable");
        serving.lines.find("the engine is reachable again");
    }
    serving.terminate();
    sandbox.run(&["rm", "--all", "--force"]).ok();
}
