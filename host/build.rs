//! Puts the plugins and scripts that the program carries where `src/carried.rs` includes them from.

use std::path::{Path, PathBuf};

const PLUGINS: [&str; 3] = ["image-selector", "security-baseline", "cleanup-policy"];

fn main() {
    let host = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let root = host.parent().unwrap_or(Path::new(".."));
    println!("cargo::rerun-if-env-changed=WHARF_PLUGINS_DIR");
    let plugins = std::env::var_os("WHARF_PLUGINS_DIR").map_or_else(|| root.join("target/plugins"), PathBuf::from);
    for name in PLUGINS {
        let from = plugins.join(format!("{name}.wasm"));
        println!("cargo::rerun-if-changed={}", from.display());
        if let Err(error) = std::fs::copy(&from, out.join(format!("{name}.wasm"))) {
            println!("cargo::error=the plugin {name} is not built ({error}): run 'cargo xtask plugins' first");
        }
    }
}
