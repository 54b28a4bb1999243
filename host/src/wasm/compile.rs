//! Compiling, within bounds: one component at a time in a process, and not for longer than a while.
//!
//! The compiler cannot be interrupted. So the program compiles in a process of its own that is killed when its time is over: it
//! reads the component, writes the code, and touches nothing else. Where no program is named (in tests, and in programs that
//! have Wharf as a library), it compiles in threads, which go on by themselves.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::WasmEngine;

/// Longest time that a component is waited for. One of 18 MiB (an interpreter for Python) takes half a minute on two cores.
const TIME: Duration = Duration::from_secs(120);
/// Beyond its time a process of the compiler has so much to be ended.
const END: Duration = Duration::from_secs(10);

/// Held while one is compiled: each takes up to a hundred times its size in memory.
static TURN: Mutex<()> = Mutex::new(());
/// The program that compiles.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
/// The only argument of a process that compiles.
const WORD: &str = "compile-component-from-stdin";

enum Compiling {
    Begun,
    Done(Result<Component, String>),
}

/// Has components compiled by processes of a program whose `main` begins with [`compiler_process`]. The first one stays.
pub fn compile_in_processes_of(program: &Path) {
    let _ = PROGRAM.set(program.to_owned());
}

/// What a process does that was started to compile: it reads a component from its standard input and writes the code to its
/// standard output, or one line and ends with 1. None for any other process.
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
    // It ends with the process that waits for it, and by itself where no process could end it; and where memory runs out, it is the one to go.
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

/// Compiles a component by a process that is killed after a while.
///
/// # Errors
/// One line: it is no component, takes too long or too much. The outer error: there is no such process.
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
        // One that has closed its output has nothing more to do.
        let _ = child.kill();
        let status = child.wait()?;
        Ok(match said {
            Err(_) => Err(too_long(time)),
            Ok(Ok(code)) if status.success() => Ok(code),
            Ok(Ok(line)) if status.code() == Some(1) => Err(String::from_utf8_lossy(&line).into_owned()),
            Ok(_) => Err(format!("cannot be compiled: the compiler ended with {status}")),
        })
    })
}

fn too_long(time: Duration) -> String {
    format!("takes longer than {} s to compile; make it smaller, or compile it for less", time.as_secs())
}

/// Compiles a component where it can be ended, if there is such a place.
fn compiled(time: Duration, engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    let by_process = PROGRAM.get().map(|program| by_process(Command::new(program).arg(WORD), time, bytes));
    match by_process {
        Some(Ok(code)) => {
            #[allow(unsafe_code)]
            // SAFETY: the bytes are those that this very program wrote a moment ago, to a pipe that no other process has.
            unsafe { Component::deserialize(engine, code?) }.map_err(|error| format!("cannot be compiled: {error:#}"))
        }
        Some(Err(error)) => {
            tracing::warn!("a plugin is compiled without a bound in time: no process can be started for it: {error}");
            in_threads(engine, bytes).map_err(|error| invalid(&error))
        }
        None => in_threads(engine, bytes).map_err(|error| invalid(&error)),
    }
}

/// Compiles in threads of its own, and gives the memory back that this took (tens of MiB): threads that stay, and an
/// allocator that is not asked, would keep it for as long as a service lives.
///
/// # Errors
/// One line: it is no component, or takes too long. Without a process one that takes too long goes on by itself, and no other is
/// compiled until it ends.
pub(super) fn apart(engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    within(TIME, engine, bytes)
}

fn within(time: Duration, engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    let (to, from) = mpsc::channel();
    let (its_engine, its_bytes) = (engine.clone(), bytes.to_vec());
    let run = move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Its asker may have given up meanwhile.
        if to.send(Compiling::Begun).is_ok() {
            let component = compiled(time, &its_engine, &its_bytes);
            drop((its_engine, its_bytes));
            let _ = to.send(Compiling::Done(component));
        }
    };
    if std::thread::Builder::new().name("wharf-compiler".into()).spawn(run).is_err() {
        // Where no thread can be had, it takes longer.
        return Component::new(engine, bytes).map_err(|error| invalid(&error));
    }
    let seconds = time.as_secs();
    match from.recv_timeout(time) {
        Ok(Compiling::Begun) => {}
        Ok(Compiling::Done(component)) => return component,
        Err(_) => return Err(format!("another plugin has been compiling for {seconds} s; try again when it is done")),
    }
    // A process is ended at the end of its time, which is waited for.
    let more = PROGRAM.get().map_or(Duration::ZERO, |_| END);
    match from.recv_timeout(time + more) {
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
    // SAFETY: it takes free memory only, from any thread and at any time.
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
        // Some 100 ms of work in any build, and no time to do it in.
        let functions = "(func (param i32) (result i32) local.get 0 i32.const 1 i32.add)".repeat(20_000);
        let large = wat::parse_str(format!("(component (core module {functions}))")).unwrap();
        let small = wat::parse_str("(component)").unwrap();
        let refused = within(Duration::from_millis(1), &engine, &large).err().unwrap();
        assert!(refused.contains("to compile") || refused.contains("has been compiling"), "{refused}");
        assert!(apart(&engine, &small).is_ok());
        assert!(apart(&engine, b"\0asm\x0d\0\x01\0rubbish").err().unwrap().contains("not a valid component"));
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
        // Long enough for a shell to begin, however busy the machine is.
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
