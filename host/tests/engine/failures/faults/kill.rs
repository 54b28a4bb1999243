//! Kills a command at a chosen request to the engine, or at a chosen write of the store.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::engine_api as engine;
use crate::support::sandbox::{Output, Sandbox};

/// The moment of the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before: the engine never receives the request.
    Before,
    /// After: the engine has started to answer it.
    After,
}

/// Relays all traffic to the engine, counts the requests, and kills a process at one of them.
pub(super) struct Killer {
    pub(super) endpoint: String,
    pub(super) shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) requests: AtomicUsize,
    /// The number of the request, the moment, and the process.
    at: Mutex<Option<(usize, When, u32)>>,
    /// Connections with a request that contains these words are closed.
    pub(super) refused: Mutex<Option<&'static str>>,
}

impl Killer {
    pub(super) fn new(socket: &Path) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = of_thread.clone();
                std::thread::spawn(move || pass_on(client, &shared));
            }
        });
        Self { endpoint: format!("unix://{}", socket.display()), shared }
    }
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

/// Copies one connection in both directions. Each request of Wharf starts with a separate read.
fn pass_on(mut client: UnixStream, shared: &Arc<Shared>) {
    let mut engine = UnixStream::connect(engine::socket()).unwrap();
    let kill_at_answer = Arc::new(Mutex::new(None::<u32>));
    let (mut back, mut to) = (engine.try_clone().unwrap(), client.try_clone().unwrap());
    let answered = kill_at_answer.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(count @ 1..) = back.read(&mut bytes) {
            if let Some(pid) = answered.lock().unwrap().take() {
                kill(pid);
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let mut bytes = [0; 65536];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        let begins = ["GET ", "POST ", "PUT ", "DELETE ", "HEAD "].iter().any(|m| bytes.starts_with(m.as_bytes()));
        let refused = *shared.refused.lock().unwrap();
        if refused.is_some_and(|words| String::from_utf8_lossy(&bytes[..count]).contains(words)) {
            let _ = client.shutdown(std::net::Shutdown::Both);
            break;
        }
        if begins {
            let number = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
            // The process has just been started; its number may not be known yet.
            let target = shared.at.lock().unwrap().filter(|(at, _, _)| *at == number);
            match target {
                Some((_, When::Before, pid)) => {
                    kill(pid);
                    return;
                }
                Some((_, When::After, pid)) => *kill_at_answer.lock().unwrap() = Some(pid),
                None => {}
            }
        }
        if engine.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = engine.shutdown(std::net::Shutdown::Write);
}

/// Runs a command through a killer. Returns the number of its requests, and whether it was killed.
pub(super) fn run(sandbox: &Sandbox, args: &[&str], at: Option<(usize, When)>) -> (usize, bool) {
    let killer = Killer::new(&sandbox.path("killer.sock"));
    let mut all = vec!["--engine", killer.endpoint.as_str()];
    all.extend(args);
    // Locked until the process is known, so that no earlier request gets through.
    let mut target = killer.shared.at.lock().unwrap();
    let mut command = sandbox.command(&all);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    *target = at.map(|(number, when)| (number, when, child.id()));
    drop(target);
    let output = Output::of(child.wait_with_output().unwrap());
    let killed = output.code == 1009;
    assert!(killed || output.code == 0, "{args:?}: {} {}", output.code, output.stderr);
    (killer.shared.requests.load(Ordering::SeqCst), killed)
}

/// Runs a command and kills it before its `at`th write to the store. Returns the number of writes, and whether it was
/// killed. SQLite writes its log with `pwrite64`, and no other code uses that call.
pub(super) fn run_writing(sandbox: &Sandbox, args: &[&str], at: Option<usize>) -> (usize, bool) {
    let plain = sandbox.command(args);
    let calls = sandbox.path("writes");
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "-qq", "-e", "trace=pwrite64", "-o"]).arg(&calls);
    if let Some(number) = at {
        command.args(["-e", &format!("inject=pwrite64:signal=KILL:when={number}")]);
    }
    command.arg("--").arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = plain.get_current_dir() {
        command.current_dir(folder);
    }
    let output = Output::of(command.output().expect("strace is missing (Debian: apt-get install strace)"));
    let killed = output.code == 1009;
    assert!(killed || output.code == 0, "{args:?}: {} {}", output.code, output.stderr);
    (std::fs::read_to_string(&calls).unwrap().matches("pwrite64(").count(), killed)
}
