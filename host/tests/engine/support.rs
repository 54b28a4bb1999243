//! The foundation of the tests: sandboxes, runs of the program, and stand-ins for engines, registries and networks.

pub mod docker_lab;
pub mod engine_api;
pub mod fake_daemon;
pub mod http;
pub mod https;
mod masked;
pub mod process;
pub mod registry;
pub mod sandbox;
pub mod service_api;
pub mod terminal;
mod unchanged;
