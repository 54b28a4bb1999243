//! Events, waiting and health checks, as used by a program.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine_api as engine;
use crate::support::fake_daemon;
use crate::support::sandbox::{Running, Sandbox, until};

/// The lines that a program prints, as they arrive.
pub struct Lines(Receiver<String>);

impl Lines {
    pub fn of(running: &mut Running) -> Self {
        Self::read(running.child().stdout.take().unwrap())
    }

    pub fn of_stderr(running: &mut Running) -> Self {
        Self::read(running.child().stderr.take().unwrap())
    }

    fn read(from: impl std::io::Read + Send + 'static) -> Self {
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let _ = to.send(line);
            }
        });
        Self(lines)
    }

    #[track_caller]
    pub fn next(&self) -> String {
        self.0.recv_timeout(Duration::from_secs(60)).expect("another line")
    }

    /// Returns all lines until the end.
    pub fn rest(self) -> Vec<String> {
        self.0.into_iter().collect()
    }

    /// Returns the next line that contains this text.
    #[track_caller]
    pub fn find(&self, part: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(part) {
                return line;
            }
        }
    }
}

fn whats(text: &str) -> Vec<String> {
    let value = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    text.lines().map(|line| value(line)["what"].as_str().unwrap().to_owned()).collect()
}

/// The events of a whole life. After a stop, their end depends on the engine.
const LIFE: [&str; 6] = ["created", "started", "signalled", "exited", "stopped", "removed"];

#[test]
fn what_happens_to_a_workspace_is_told_as_it_happens_and_afterwards() {
    let sandbox = Sandbox::new();
    let mut following = sandbox.spawn(&["--json", "events"]);
    let lines = Lines::of(&mut following);
    // It prints nothing until an event occurs, so the test causes some.
    let other = sandbox.folder("other");
    let id = sandbox.up()["id"].as_str().unwrap().to_owned();
    sandbox.run_in(&other, &["up"]).ok();
    sandbox.json(&["stop"]);
    sandbox.json(&["down"]);
    let past = sandbox.run(&["--json", "events", "--since", "5m", "--until", "0s"]).ok().text();
    let of: Vec<String> = past.lines().filter(|line| line.contains(&id)).map(str::to_owned).collect();
    assert_eq!(whats(&of.join("\n")), LIFE, "{past}");
    let exited: Value = serde_json::from_str(&of[3]).unwrap();
    assert_eq!((&exited["exit_code"], &exited["workspace"]), (&json!(143), &json!(id)));
    assert!(exited["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok() && exited["container_id"].is_string());
    // A follower has seen the removal, too. It only has all events if it listened before the first one.
    let removed: Value = serde_json::from_str(&lines.find("removed")).unwrap();
    assert_eq!(removed["workspace"], json!(id));
    following.signal("INT");
    assert_eq!(following.finish().code, 130);

    let one = sandbox.run_in(&other, &["events", "other", "--since", "5m", "--until", "0s"]).ok().text();
    assert_eq!(one.lines().count(), 2, "{one}");
    assert!(one.lines().all(|line| line.contains(&sandbox.id_of("other", &other))), "{one}");
}

#[test]
fn a_follower_outlives_a_break_of_the_engine_and_says_so() {
    let sandbox = Sandbox::new();
    let id = sandbox.up()["id"].as_str().unwrap().to_owned();
    let relay = fake_daemon::Outage::new(&sandbox.path("relay.sock"));
    let mut following = sandbox.spawn(&["--json", "--engine", &relay.endpoint, "events", &id]);
    let (lines, said) = (Lines::of(&mut following), Lines::of_stderr(&mut following));
    until("it listens", || relay.count("/events") == 1);
    sandbox.json(&["stop"]);
    assert!(lines.find("stopped").contains(&id));
    relay.set_away(true);
    assert!(said.next().contains("trying again"));
    sandbox.json(&["start"]);
    relay.set_away(false);
    let back = said.next();
    assert!(back.contains("nothing was missed"), "{back}");
    assert_eq!(whats(&lines.next()), ["started"], "and nothing twice");
    following.signal("INT");
    assert_eq!(following.finish().code, 130);
}

#[test]
fn wait_ends_when_it_is_so_and_gives_the_exit_code() {
    let sandbox = Sandbox::new();
    let up = sandbox.json(&["up", "--", "sh", "-c", "while ! test -e /tmp/end; do sleep 0.05; done; exit 7"]);
    let container = up["container_id"].as_str().unwrap();
    assert_eq!(sandbox.json(&["wait"])["health"], Value::Null, "what has no check is healthy when it runs");
    let late = sandbox.run(&["--json", "wait", "--for", "exited", "--timeout", "300ms"]);
    assert_eq!((late.code, &late.error()["code"]), (1, &json!("timeout")));
    assert!(late.error()["message"].as_str().unwrap().contains("it is running"), "{}", late.stderr);
    let waiting = sandbox.spawn(&["wait", "--for", "exited", "--exit-code"]);
    sandbox.sh("touch /tmp/end");
    let ended = waiting.finish();
    assert_eq!((ended.code, ended.text().as_str()), (7, "7\n"));
    // It has already ended.
    let again = sandbox.json(&["wait", "--for", "exited"]);
    assert_eq!((&again["state"], &again["exit_code"]), (&json!("exited"), &json!(7)));

    // It ends a few milliseconds after this start: only its events show that it ran.
    let mut running = sandbox.spawn(&["-vv", "wait", "--for", "running"]);
    let mut removed = sandbox.spawn(&["-vv", "wait", "--for", "removed"]);
    for waiting in [&mut running, &mut removed] {
        Lines::of_stderr(waiting).find(&format!("/containers/{container}/json"));
    }
    sandbox.json(&["start"]);
    assert_eq!(running.finish().ok().text(), format!("{} is running\n", sandbox.id()));
    sandbox.json(&["down"]);
    assert_eq!(removed.finish().ok().text(), format!("{} is removed\n", sandbox.id()));
    assert_eq!(sandbox.run(&["wait", "project"]).code, 5);
    assert_eq!(sandbox.run(&["wait", "--exit-code"]).code, 2);
}

#[test]
fn ctrl_c_ends_a_wait() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let mut waiting = sandbox.spawn(&["-vv", "wait", "--for", "exited"]);
    let said = Lines::of_stderr(&mut waiting);
    said.find("/containers/json");
    waiting.signal("INT");
    assert_eq!(waiting.finish().code, 130);
}

#[test]
fn up_waits_for_a_health_check_of_flags_and_shows_its_last_output_without_secrets() {
    let sandbox = Sandbox::new();
    let check = ["--health-cmd", "echo checking $API_TOKEN; test -e /tmp/ok", "--health-interval", "300ms"];
    let mut up = vec!["--json", "up", "--wait=2s", "-e", "API_TOKEN=hunter22", "--health-retries", "2"];
    up.extend(check);
    let refused = sandbox.run(&up);
    assert_eq!((refused.code, &refused.error()["code"]), (1, &json!("timeout")));
    assert!(refused.error()["message"].as_str().unwrap().contains("unhealthy"), "{}", refused.stderr);
    let inspected = sandbox.json(&["inspect"]);
    assert_eq!((&inspected["state"], &inspected["health"]), (&json!("running"), &json!("unhealthy")));
    let last = &inspected["last_check"];
    assert_eq!((&last["exit_code"], &last["output"]), (&json!(1), &json!("checking ***\n")), "{last}");
    assert!(last["failures"].as_u64() >= Some(2) && last["at"].is_string(), "{last}");
    assert!(sandbox.run(&["inspect"]).ok().text().contains("checking ***"));
    assert!(sandbox.run(&["ls"]).ok().text().contains("running  unhealthy"));
    sandbox.sh("touch /tmp/ok");
    assert_eq!(sandbox.json(&["wait", "--timeout", "30s"])["health"], "healthy");
    assert_eq!(sandbox.json(&["inspect"])["last_check"]["failures"], 0);

    let args = ["--json", "up", "--recreate", "--wait", "--health-cmd", "true", "--health-interval", "30s"];
    let ended = sandbox.run(&[&args[..], &["--", "sh", "-c", "exit 3"]].concat());
    assert_eq!((ended.code, &ended.error()["code"]), (1, &json!("not-running")));
    assert!(ended.error()["message"].as_str().unwrap().contains("exited (3)"), "{}", ended.stderr);
}

#[test]
fn a_health_check_of_the_configuration_is_decided_like_any_other_field() {
    let sandbox = Sandbox::new();
    sandbox.config("[workspace.health_check]\ncommand = [\"test\", \"-d\", \"/workspace\"]\ninterval = \"200ms\"\n");
    let up = sandbox.json(&["up", "--wait"]);
    assert_eq!(up["health"], "healthy");
    let inspected = engine::inspect(up["container_id"].as_str().unwrap());
    let check = &inspected["Config"]["Healthcheck"];
    assert_eq!(
        (&check["Test"], &check["Interval"]),
        (&json!(["CMD", "test", "-d", "/workspace"]), &json!(200_000_000))
    );
    assert!(sandbox.run(&["why", "health_check"]).ok().text().contains("wharf.toml:2"));
    // A flag changes a part of the health check.
    let plan = sandbox.json(&["plan", "--health-retries", "9"]);
    assert_eq!(
        (&plan["spec"]["health_check"]["retries"], &plan["owners"]["health_check"]),
        (&json!(9), &json!("request"))
    );
    for (text, words) in [("command = []", "needs a command"), ("retries = 0", "command"), ("interval = 5", "duration")]
    {
        sandbox.config(&format!("[workspace.health_check]\n{text}\n"));
        let refused = sandbox.run(&["plan"]);
        assert!(refused.code == 3 || refused.code == 2, "{text}: {}", refused.code);
        assert!(refused.stderr.contains(words) && refused.stderr.contains("wharf.toml:"), "{text}: {}", refused.stderr);
    }
}
