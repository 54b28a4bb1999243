//! The program `wharf`: parse, set up logging, run one command, give its exit code.

use std::process::ExitCode;

/// Values of scripts and records are many small allocations, which take it a fifth to a third less time than the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = wharf::wasm::compiler_process() {
        end(code);
    }
    // This very program, also when another one has its path by now.
    wharf::wasm::compile_in_processes_of(std::path::Path::new("/proc/self/exe"));
    let cli = match wharf::cli::Cli::of_process() {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let telemetry = match cli.begin_telemetry() {
        Ok(telemetry) => telemetry,
        Err(code) => return ExitCode::from(code),
    };
    // One thread is enough to wait for the engine, and starts faster; policies run on threads of their own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("wharf: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // What all verbs keep while they wait is too much for a stack.
    let code = runtime.block_on(Box::pin(wharf::cli::run(cli)));
    telemetry.end();
    end(code)
}

/// Ends the process as it is. A thread may still be reading the terminal, or writing to a reader that does not read, and must
/// not keep the program alive; and to give memory back piece by piece that the kernel takes at once would be a tenth of a
/// short command's time. Nothing waits in standard output: what writes there ends with a line end or flushes.
fn end(code: u8) -> ! {
    #[allow(unsafe_code)]
    // SAFETY: it takes any number and does not come back.
    unsafe {
        libc::_exit(code.into())
    }
}
