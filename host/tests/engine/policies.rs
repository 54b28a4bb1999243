//! Policies in the program: hooks, failures, modes and tools.

mod as_decided;
mod bad_plugins;
mod bad_scripts;
mod every_hook;
mod hooks;
mod modes;
mod replay;
mod script_tools;
