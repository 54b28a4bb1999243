//! Lines for the decision record, which users read with `wharf why`.
//!
//! The host stores at most 64 lines of 1 KiB per call. Never write a secret. In native tests the lines go to stderr.

use crate::bindings::host_imports::wharf::policy::host::Level;

/// Writes a line that only matters for debugging the plugin itself.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// Writes a line that explains a decision.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// Writes a line about an unexpected condition that the plugin worked around.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// Writes a line about an error.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}

#[cfg(target_family = "wasm")]
fn write(level: Level, message: &str) {
    crate::bindings::host_imports::wharf::policy::host::log(level, message);
}

#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
