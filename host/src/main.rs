//! The program `wharf`: parses arguments, sets up logging, runs one command, returns its exit code.

use std::process::ExitCode;

/// Values of scripts and records are many small allocations, which take a fifth to a third less time than with the C
/// library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = wharf::wasm::compiler_process() {
        end(code);
    }
    // This very program, even if another one has its path by now.
    wharf::wasm::compile_in_processes_of(std::path::Path::new("/proc/self/exe"));
    let cli = match wharf::cli::Cli::of_process() {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let telemetry = match cli.begin_telemetry() {
        Ok(telemetry) => telemetry,
        Err(code) => return ExitCode::from(code),
    };
    // One thread is enough to wait for the engine, and starts faster. Policies run on separate threads.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("wharf: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The combined state of all verbs across waits is too large for the stack.
    let code = runtime.block_on(Box::pin(wharf::cli::run(cli)));
    telemetry.end();
    end(code)
}

/// Ends the process immediately. A thread may still be reading the terminal, or writing to a reader that does not
/// read, and must not keep the program alive. Freeing memory piece by piece, which the kernel reclaims at once, would
/// take a tenth of a short command's time. No data waits in standard output: all writers end with a newline or flush.
fn end(code: u8) -> ! {
    #[allow(unsafe_code)]
    // SAFETY: it takes any number and does not return.
    unsafe {
        libc::_exit(code.into())
    }
}
