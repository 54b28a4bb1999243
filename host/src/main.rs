//! The program `wharf`: parse, set up logging, run one command, give its exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = wharf::cli::Cli::parse();
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
    let code = runtime.block_on(wharf::cli::run(cli));
    // A thread may still be reading the terminal; it must not keep the program alive.
    runtime.shutdown_background();
    telemetry.end();
    ExitCode::from(code)
}
