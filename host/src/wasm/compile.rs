//! Compiling, within bounds: one component at a time in a process, and not for longer than a while.

use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::Component;

/// Longest time that a component is waited for. One of 18 MiB (an interpreter for Python) takes half a minute on two cores.
const TIME: Duration = Duration::from_secs(120);

/// Held while one is compiled: each takes up to a hundred times its size in memory.
static TURN: Mutex<()> = Mutex::new(());

enum Told {
    Begun,
    Done(wasmtime::Result<Component>),
}

/// Compiles in threads of its own, and gives the memory back that this took (tens of MiB): threads that stay, and an
/// allocator that nobody asks, would keep it for as long as a service lives.
///
/// # Errors
/// One line: it is no component, or takes too long. The compiler cannot be interrupted, so one that takes too long goes on by
/// itself, and no other is compiled until it ends.
pub(super) fn apart(engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    within(TIME, engine, bytes)
}

fn within(time: Duration, engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    let (to, from) = mpsc::channel();
    let (its_engine, its_bytes) = (engine.clone(), bytes.to_vec());
    let run = move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Its asker may have given up meanwhile.
        if to.send(Told::Begun).is_ok() {
            let component = in_threads(&its_engine, &its_bytes);
            drop((its_engine, its_bytes));
            let _ = to.send(Told::Done(component));
        }
    };
    if std::thread::Builder::new().name("wharf-compiler".into()).spawn(run).is_err() {
        // Where no thread can be had, it takes longer.
        return Component::new(engine, bytes).map_err(|error| invalid(&error));
    }
    let seconds = time.as_secs();
    match from.recv_timeout(time) {
        Ok(Told::Begun) => {}
        Ok(Told::Done(component)) => return component.map_err(|error| invalid(&error)),
        Err(_) => return Err(format!("another plugin has been compiling for {seconds} s; try again when it is done")),
    }
    match from.recv_timeout(time) {
        Ok(Told::Done(component)) => component.map_err(|error| invalid(&error)),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("cannot be compiled: the compiler panicked".into()),
        _ => Err(format!("takes longer than {seconds} s to compile; make it smaller, or compile it for less")),
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
}
