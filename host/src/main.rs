//! The program `wharf`: parse, set up logging, run one command, return its exit code.

use std::process::ExitCode;

/// Values of scripts and records are many small allocations. This allocator takes a fifth to a third less time for them
/// than the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = wharf::wasm::compiler_process() {
        end(code);
    }
    // This path leads to the running program even after another file has taken its place.
    wharf::wasm::compile_in_processes_of(std::path::Path::new("/proc/self/exe"));
    let cli = match wharf::cli::Cli::of_process() {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let telemetry = match cli.begin_telemetry() {
        Ok(telemetry) => telemetry,
        Err(code) => return ExitCode::from(code),
    };
    // One thread is enough to wait for the engine, and starts faster; policies run on separate threads.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("wharf: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The future is boxed: the state of all verbs is too large for the stack.
    let code = runtime.block_on(Box::pin(wharf::cli::run(cli)));
    telemetry.end();
    end(code)
}

/// Ends the process immediately. A thread that still reads the terminal, or writes to a reader that does not read, must
/// not keep the program alive. Freeing memory piece by piece would also take a tenth of a short command's time, while
/// the kernel frees it at once. Standard output holds no buffered data: every writer ends with a line break or flushes.
fn end(code: u8) -> ! {
    #[allow(unsafe_code)]
    // SAFETY: `_exit` takes any number and never returns.
    unsafe {
        libc::_exit(code.into())
    }
}
