//! Wharf: a workspace host that its owners program.
//!
//! One isolated Docker container per project; every decision about it is taken by an ordered chain of policies:
//! WebAssembly components (plugins) and Rhai scripts. The program `wharf` is a thin shell around this library.
//!
//! # Reading order
//! 1. [`workspace`]: what a workspace and its container are. [`paths`]: where a path of the host leads.
//! 2. [`hooks`]: what policies are asked and may answer; `hooks::chain` runs them.
//! 3. [`wasm`] and [`script`]: the two kinds of policies.
//! 4. [`docker`]: the engine. [`store`]: what was meant. [`archive`]: local files on their way in and out.
//!    [`devcontainer`]: what a project says about its own workspace.
//! 5. [`wire`]: what commands, the API and its client say to each other. [`records`]: what the store keeps, looked up. [`lifecycle`]: the verbs, which put all of it together; `lifecycle::create` is `wharf up`.
//! 6. [`trust`]: which files may decide. [`config`], [`builtin`], [`app`]: where everything comes from. [`cli`]: the commands. [`service`]: what runs
//!    between them. [`api`]: how programs call it; [`client`]: the same from the other side. [`backend`]: the one choice
//!    between `lifecycle` and `client`.
//! 7. [`spans`] and [`telemetry`]: traces and log lines about all of it. [`printable`]: text that may reach a terminal.
//!
//! Imports go one way; `tests/repo` fails on one that doesn't. `ARCHITECTURE.md` follows one hook from end to end.

#![warn(clippy::print_stderr)]
#![deny(rustdoc::broken_intra_doc_links)]

pub mod api;
pub mod app;
pub mod archive;
pub mod backend;
pub mod builtin;
pub mod cli;
pub mod client;
pub mod config;
pub mod devcontainer;
pub mod docker;
pub mod embed;
pub mod hooks;
pub mod lifecycle;
pub mod paths;
pub mod printable;
pub mod records;
pub mod script;
pub mod service;
pub mod spans;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod wasm;
pub mod wire;
pub mod workspace;

pub use backend::Error;
pub use embed::{Exec, LogEntry, Notice, Options, Output, Running, Up, Wharf};
