//! Wharf: a workspace host that its owners program.
//!
//! Each project gets one isolated Docker container. An ordered chain of policies takes every decision about it;
//! policies are WebAssembly components (plugins) and Rhai scripts. The program `wharf` is a thin shell around this
//! library.
//!
//! # Reading order
//! 1. [`workspace`]: the definitions of a workspace and its container. [`paths`]: the targets of paths of the host.
//! 2. [`hooks`]: the inputs of policies and their possible answers; `hooks::chain` runs them.
//! 3. [`wasm`] and [`script`]: the two kinds of policies.
//! 4. [`docker`]: the engine. [`store`]: the intended state. [`archive`]: local files on their way in and out.
//!    [`devcontainer`]: a project's own configuration of its workspace.
//! 5. [`wire`]: the messages between commands, the API and its client. [`records`]: look-ups in the store.
//!    [`lifecycle`]: the verbs, which combine all of it; `lifecycle::create` is `wharf up`.
//! 6. [`trust`]: the files that may decide. [`config`], [`builtin`], [`app`]: the origin of all settings and policies.
//!    [`cli`]: the commands. [`service`]: the background work between them. [`api`]: the interface for programs;
//!    [`client`]: its client side. [`backend`]: the only choice between `lifecycle` and `client`.
//! 7. [`spans`] and [`telemetry`]: traces and log lines about all of it. [`printable`]: text that may reach a terminal.
//!
//! Imports go one way; `tests/repo` fails on any other. `ARCHITECTURE.md` follows one hook from end to end.

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
