//! Operating the service: notifications to the service manager and sockets from it, the log, backups, and the check
//! before a start.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Stdio;

use serde_json::{Value, json};

use super::events::Lines;
use super::serve::Serving;
use crate::support::https::{self, Https, token};
use crate::support::sandbox::{Running, Sandbox, until};
use crate::support::service_api::{get, post, send};

/// A service manager, with the messages that it received.
struct Manager(UnixDatagram);

impl Manager {
    fn new(sandbox: &mut Sandbox) -> Self {
        let path = sandbox.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        sandbox.env("NOTIFY_SOCKET", path.to_str().unwrap());
        Self(socket)
    }

    #[track_caller]
    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let count = self.0.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    /// Returns the next message that is not a watchdog message.
    #[track_caller]
    fn news(&self) -> String {
        loop {
            let told = self.told();
            if told != "WATCHDOG=1" {
                return told;
            }
        }
    }
}

#[test]
fn the_service_manager_is_told_of_everything_it_waits_for() {
    let mut sandbox = Sandbox::new();
    let manager = Manager::new(&mut sandbox);
    sandbox.env("WATCHDOG_USEC", "200000");
    let mut serving = Serving::start(&sandbox, &[]);
    assert_eq!(manager.news(), "READY=1");
    assert_eq!((manager.told(), manager.told()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    serving.signal("HUP");
    let reloading = manager.news();
    let (first, second) = reloading.split_once('\n').unwrap();
    assert_eq!(first, "RELOADING=1");
    assert!(second.strip_prefix("MONOTONIC_USEC=").is_some_and(|micros| micros.parse::<u64>().is_ok()), "{second}");
    assert_eq!(manager.news(), "READY=1");
    // A refused reload has also ended.
    sandbox.config("nonsense = 1\n");
    serving.signal("HUP");
    assert!(manager.news().starts_with("RELOADING=1"));
    assert_eq!(manager.news(), "READY=1");
    sandbox.config("");
    serving.terminate();
    until("it says that it stops", || manager.told() == "STOPPING=1");
}

#[test]
fn a_socket_that_the_service_manager_hands_down_is_answered_at_and_left_in_its_place() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("handed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let start = |input: Stdio, count: &str| {
        let mut command = sandbox.command(&[]);
        let program = command.get_program().to_owned();
        // As a service manager does: the socket is descriptor 3 of the very same process.
        let line = format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" serve 3<&0 </dev/null");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line]).arg(program).current_dir(sandbox.project()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(Stdio::null());
        Running::new(shell.spawn().unwrap())
    };
    // A client that connected before the service started is answered, too.
    let early = std::thread::spawn({
        let path = path.clone();
        move || send(&path, "GET", "/v1/health", "host: localhost\r\n", "").ok()
    });
    let copy = || Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    let mut running = start(copy(), "1");
    let lines = Lines::of(&mut running);
    let ready = lines.next();
    assert!(ready.contains(&format!("API unix://{}", path.display())), "{ready}");
    assert_eq!(early.join().unwrap(), json!({ "status": "alive" }));
    send(&path, "GET", "/v1/workspaces", "host: localhost\r\n", "").ok();
    assert!(!sandbox.path("state/wharf.sock").exists());
    running.signal("TERM");
    assert_eq!(running.finish().code, 0);
    assert!(path.exists(), "it is the manager's");
    // A descriptor that is no socket, and more than one.
    let file = std::fs::File::open(sandbox.path("config/wharf.toml")).unwrap();
    for (input, count) in [(Stdio::from(file), "1"), (copy(), "2")] {
        let refused = start(input, count).finish();
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains("service manager"), "{}", refused.stderr);
    }
}

#[test]
fn each_request_is_a_line_of_the_log_without_what_may_be_secret() {
    let sandbox = Sandbox::new();
    sandbox.up();
    https::certificate(&sandbox);
    sandbox.config(&https::lines(&sandbox));
    let mut running = sandbox.spawn(&["-vv", "serve", "--log-format", "json"]);
    let lines = Lines::of(&mut running);
    let ready = lines.next();
    let address = ready.split_once("https://").unwrap().1.split(';').next().unwrap().to_owned();
    let https = Https { address, config: https::client(&sandbox.path("tls/cert.pem"), None) };
    let text = token(&sandbox, &["ci", "--role", "operator"]);
    let headers = format!("host: localhost\r\nauthorization: Bearer {text}\r\nx-request-id: my-request.1\r\n");
    let headers = format!("{headers}content-type: application/json\r\n");
    let answer = https.send("POST", "/v1/workspaces/project/stop", &headers, "{\"timeout\": \"hunter2\"}");
    answer.problem(400);
    assert_eq!(answer.header("x-request-id"), Some("my-request.1"));
    let answer = get(&sandbox, "/v1/workspaces?label=hunter3");
    let own = answer.header("x-request-id").unwrap().to_owned();
    assert_eq!(own.len(), 36);
    get(&sandbox, "/hunter4").problem(404);
    running.signal("TERM");
    let log = running.finish().stderr;
    let logged: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |id: &str| {
        let found = logged.iter().find(|line| line["fields"]["id"] == id);
        found.unwrap_or_else(|| panic!("{id} in {log}"))["fields"].clone()
    };
    let (asked, read) = (of("my-request.1"), of(&own));
    assert_eq!(asked["caller"], "ci");
    assert_eq!((&asked["method"], &asked["status"]), (&json!("POST"), &json!(400)));
    assert_eq!(asked["route"], "/v1/workspaces/{id}/stop");
    assert!(asked["ms"].is_u64());
    assert!(read["caller"].as_str().unwrap().starts_with("user "), "{read}");
    assert_eq!(read["route"], "/v1/workspaces");
    assert!(!log.contains("hunter") && !log.contains(text.rsplit('_').next().unwrap()), "{log}");
}

#[test]
fn a_backup_is_made_while_the_service_runs_and_can_be_restored() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    let up = sandbox.up();
    let file = sandbox.path("copy.db");
    let made = sandbox.json(&["backup", file.to_str().unwrap()]);
    let about = std::fs::metadata(&file).unwrap();
    assert_eq!((about.permissions().mode() & 0o777, made["bytes"].as_u64()), (0o600, Some(about.size())));
    assert!(made["decisions"].as_u64().unwrap() >= 3, "{made}");
    let again = sandbox.run(&["backup", file.to_str().unwrap()]);
    assert!(again.code == 1 && again.stderr.contains("it already exists"), "{}", again.stderr);
    serving.end();

    // As documented in docs/service.md.
    for name in ["wharf.db", "wharf.db-wal", "wharf.db-shm"] {
        let _ = std::fs::remove_file(sandbox.path("state").join(name));
    }
    assert_eq!(sandbox.run(&["why"]).code, 5, "nothing is known any more");
    for name in ["wharf.db", "wharf.db-wal", "wharf.db-shm"] {
        let _ = std::fs::remove_file(sandbox.path("state").join(name));
    }
    std::fs::copy(&file, sandbox.path("state/wharf.db")).unwrap();
    assert_eq!(sandbox.json(&["inspect"])["id"], up["id"]);
    sandbox.run(&["audit", "verify"]).ok();
    let serving = Serving::start(&sandbox, &[]);
    assert_eq!(post(&sandbox, "/v1/workspaces/project/restart", "").ok()["container_id"], up["container_id"]);
    serving.end();
}

#[test]
fn a_start_is_checked_before_it_is_made() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn event(ctx) { }");
    let serving = Serving::start(&sandbox, &[]);
    assert_eq!(sandbox.json(&["serve", "--check"])["policies"], 1);
    https::certificate(&sandbox);
    let key = sandbox.path("tls/key.pem");
    sandbox.append_config(&https::lines(&sandbox));
    assert!(sandbox.run(&["serve", "--check"]).ok().text().contains("can start"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = sandbox.run(&["serve", "--check"]);
    assert!(refused.code == 1 && refused.stderr.contains("chmod 600"), "{}", refused.stderr);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.write("config/policies/rule.rhai", "fn event(ctx) {");
    assert_eq!(sandbox.run(&["serve", "--check"]).code, 3);
    serving.terminate();
}
