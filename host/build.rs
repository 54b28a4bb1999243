//! Puts the plugins that the program carries where `src/carried.rs` includes them from, with their digests: no start of
//! the program has to compute them.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

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
        let copied = std::fs::read(&from).and_then(|bytes| {
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            std::fs::write(out.join(format!("{name}.sha256")), digest)?;
            std::fs::write(out.join(format!("{name}.wasm")), bytes)
        });
        if let Err(error) = copied {
            println!("cargo::error=the plugin {name} is not built ({error}): run 'cargo xtask plugins' first");
        }
    }
}
