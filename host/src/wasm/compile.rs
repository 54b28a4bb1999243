//! Compiles with limits: one component at a time per process, and with a time limit.
//!
//! The compiler cannot be interrupted. So the program compiles in a child process that is killed when its time is
//! over. The child reads the component, writes the code, and touches nothing else. If no program is set (in tests,
//! and in programs that use Wharf as a library), it compiles in threads, which cannot be stopped.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::WasmEngine;
use crate::spans;

/// Time limit for one component. A component of 18 MiB (an interpreter for Python) takes half a minute on two cores.
const TIME: Duration = Duration::from_secs(120);
/// The time after which a compilation is worth a line.
const TELL: Duration = Duration::from_secs(1);
/// Extra time to end a compiler process after its time limit.
const END: Duration = Duration::from_secs(10);

/// Held during a compilation: each takes up to a hundred times its size in memory.
static TURN: Mutex<()> = Mutex::new(());
/// The program that compiles.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
/// The only argument of a compiler process.
const WORD: &str = "compile-component-from-stdin";

enum Compiling {
    Begun,
    Done(Result<Component, String>),
}

/// Runs compilations in child processes of a program whose `main` begins with [`compiler_process`]. Only the first
/// call has an effect.
pub fn compile_in_processes_of(program: &Path) {
    let _ = PROGRAM.set(program.to_owned());
}

/// Does the work of a compiler process: reads a component from its standard input and writes the code to its standard
/// output, or writes one line and exits with 1. Returns none in any other process.
pub fn compiler_process() -> Option<u8> {
    if !std::env::args_os().skip(1).eq([WORD]) {
        return None;
    }
    let (code, said) = match compile_for_parent() {
        Ok(code) => (0, code),
        Err(error) => (1, error.into_bytes()),
    };
    let mut out = std::io::stdout();
    Some(if out.write_all(&said).and_then(|()| out.flush()).is_ok() { code } else { 1 })
}

fn compile_for_parent() -> Result<Vec<u8>, String> {
    // The process ends with its parent, and by itself if no process is left to end it. If memory runs out, it is the
    // first to be killed.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let seconds = Some((TIME + END).as_secs() * cores);
    let _ = rustix::process::setrlimit(Resource::Cpu, Rlimit { current: seconds, maximum: seconds });
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    let engine = WasmEngine::new(None)?;
    engine.raw().precompile_component(&bytes).map_err(|error| invalid(&error))
}

/// Compiles a component in a process that is killed after `time`.
///
/// # Errors
/// The inner error has one line: the bytes are no component, or need too much time or memory. The outer error: the
/// process cannot be started.
fn by_process(command: &mut Command, time: Duration, bytes: &[u8]) -> std::io::Result<Result<Vec<u8>, String>> {
    let mut child = command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(bytes)));
        let (to, from) = mpsc::channel();
        scope.spawn(move || {
            let mut said = Vec::new();
            let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut said));
            let _ = to.send(read.map(|_| said));
        });
        let said = from.recv_timeout(time);
        // A process that has closed its output has no more work to do.
        let _ = child.kill();
        let status = child.wait()?;
        Ok(match said {
            Err(_) => Err(too_long(time)),
            Ok(Ok(code)) if status.success() => Ok(code),
            Ok(Ok(line)) if status.code() == Some(1) => Err(String::from_utf8_lossy(&line).into_owned()),
            Ok(_) => Err(format!("cannot be compiled: the compiler exited with {status}")),
        })
    })
}

fn too_long(time: Duration) -> String {
    format!("takes longer than {} s to compile; make it smaller, or compile it with less optimization", time.as_secs())
}

/// Compiles a component in a process, if one is available.
fn compiled(time: Duration, engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    let by_process = PROGRAM.get().map(|program| by_process(Command::new(program).arg(WORD), time, bytes));
    match by_process {
        Some(Ok(code)) => {
            #[allow(unsafe_code)]
            // SAFETY: this very program wrote the bytes a moment ago, to a pipe that no other process has.
            unsafe { Component::deserialize(engine, code?) }.map_err(|error| format!("cannot be compiled: {error:#}"))
        }
        Some(Err(error)) => {
            tracing::warn!("compiling a plugin without a time limit: cannot start a process for it: {error}");
            in_threads(engine, bytes).map_err(|error| invalid(&error))
        }
        None => in_threads(engine, bytes).map_err(|error| invalid(&error)),
    }
}

/// Compiles in dedicated threads and returns the memory that this took (tens of MiB). Long-lived threads, and an
/// allocator without an explicit request, would keep that memory for the lifetime of a service.
///
/// # Errors
/// One line: the bytes are no component, or take too long. Without a compiler process, a compilation that takes too
/// long continues in the background, and no other component is compiled until it ends.
pub(super) fn apart(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Component, String> {
    within(TIME, engine, name, bytes)
}

fn within(time: Duration, engine: &Engine, name: &str, bytes: &[u8]) -> Result<Component, String> {
    let (to, from) = mpsc::channel();
    let (its_engine, its_bytes) = (engine.clone(), bytes.to_vec());
    let run = move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The caller may have given up meanwhile.
        if to.send(Compiling::Begun).is_ok() {
            let component = compiled(time, &its_engine, &its_bytes);
            drop((its_engine, its_bytes));
            let _ = to.send(Compiling::Done(component));
        }
    };
    if std::thread::Builder::new().name("wharf-compiler".into()).spawn(run).is_err() {
        // Without a thread, compile here without a time limit.
        return Component::new(engine, bytes).map_err(|error| invalid(&error));
    }
    let seconds = time.as_secs();
    match from.recv_timeout(time) {
        Ok(Compiling::Begun) => {}
        Ok(Compiling::Done(component)) => return component,
        Err(_) => {
            return Err(format!("another plugin has been compiling for {seconds} s; try again when it has finished"));
        }
    }
    // Wait until the process is ended after its time limit.
    let more = PROGRAM.get().map_or(Duration::ZERO, |_| END);
    let limit = time + more;
    let mut done = from.recv_timeout(TELL.min(limit));
    if limit > TELL && matches!(done, Err(mpsc::RecvTimeoutError::Timeout)) {
        tracing::info!(target: spans::WAIT, "compiling {name}; only its first use takes this long");
        done = from.recv_timeout(limit - TELL);
    }
    match done {
        Ok(Compiling::Done(component)) => component,
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("cannot be compiled: the compiler panicked".into()),
        _ => Err(too_long(time)),
    }
}

fn invalid(error: &wasmtime::Error) -> String {
    format!("is not a valid component: {}", error.root_cause().to_string().replace('\n', " "))
}

fn in_threads(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    let pool = rayon::ThreadPoolBuilder::new().thread_name(|_| "wharf-compile".to_owned());
    let compiled = pool.build_scoped(rayon::ThreadBuilder::run, |pool| pool.install(|| Component::new(engine, bytes)));
    let component = compiled.unwrap_or_else(|_| Component::new(engine, bytes));
    #[allow(unsafe_code)]
    // SAFETY: the call only collects free memory, and is allowed from any thread at any time.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_refused_and_what_comes_after_it_waits_for_its_turn() {
        let engine = Engine::default();
        // About 100 ms of work in any build, with no time to do it.
        let functions = "(func (param i32) (result i32) local.get 0 i32.const 1 i32.add)".repeat(20_000);
        let large = wat::parse_str(format!("(component (core module {functions}))")).unwrap();
        let small = wat::parse_str("(component)").unwrap();
        let refused = within(Duration::from_millis(1), &engine, "large", &large).err().unwrap();
        assert!(refused.contains("to compile") || refused.contains("has been compiling"), "{refused}");
        assert!(apart(&engine, "small", &small).is_ok());
        assert!(
            apart(&engine, "rubbish", b"\0asm\x0d\0\x01\0rubbish").err().unwrap().contains("not a valid component")
        );
    }

    #[test]
    fn a_process_that_takes_too_long_is_gone_afterwards_and_one_that_fails_says_why() {
        let place = std::env::temp_dir().join(format!("wharf-compiler-{}", std::process::id()));
        let shell = |line: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", line]);
            command
        };
        let mut endless = shell(&format!("echo $$ >{}; exec /bin/sleep 600", place.display()));
        // Long enough for a shell to start, even on a busy machine.
        let refused = by_process(&mut endless, Duration::from_secs(2), b"x").unwrap().unwrap_err();
        assert!(refused.contains("takes longer than 2 s"), "{refused}");
        let process = std::fs::read_to_string(&place).unwrap();
        assert!(!Path::new(&format!("/proc/{}", process.trim())).exists(), "{process} runs on");
        std::fs::remove_file(&place).unwrap();
        let said = |line: &str| by_process(&mut shell(line), Duration::from_secs(60), b"abc").unwrap();
        assert_eq!(said("read line; echo is no component; exit 1").unwrap_err(), "is no component\n");
        assert!(said("kill -9 $$").unwrap_err().contains("signal: 9"));
        assert_eq!(said("/bin/cat").unwrap(), b"abc");
        assert!(by_process(&mut Command::new("/no/such/program"), TIME, b"").is_err());
    }
}
