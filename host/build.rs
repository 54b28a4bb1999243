//! Puts the built-in plugins where `src/builtin.rs` includes them from, with their digests: no start of the program has to
//! compute them.
//!
//! `cargo xtask plugins` builds the plugins. Where that was not run, this script runs it, so that a fresh clone needs no
//! step before `cargo check`. Without a toolchain for the plugins the program is built without them: it then refuses to
//! decide with them.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const PLUGINS: [&str; 3] = ["image-selector", "security-baseline", "cleanup-policy"];

/// What plugins are built for.
const GUEST: &str = "wasm32-unknown-unknown";

fn main() {
    let host = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WHARF_PLUGINS_DIR");
    let repository = host.parent().filter(|root| root.join("host/xtask/Cargo.toml").is_file());
    let plugins = match (std::env::var_os("WHARF_PLUGINS_DIR"), repository) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(root)) => root.join("target/plugins"),
        // A package that was published has them.
        (None, None) => host.join("plugins"),
    };
    let file = |name: &str| plugins.join(format!("{name}.wasm"));
    let mut why = String::new();
    if let Some(root) = repository
        && std::env::var_os("WHARF_PLUGINS_DIR").is_none()
        && !PLUGINS.iter().all(|name| file(name).is_file())
    {
        why = build(root).err().map(|why| format!(" ({why})")).unwrap_or_default();
    }
    let mut missing = Vec::new();
    for name in PLUGINS {
        println!("cargo::rerun-if-changed={}", file(name).display());
        // An empty plugin is one that is missing.
        let bytes = std::fs::read(file(name)).unwrap_or_default();
        if bytes.is_empty() {
            missing.push(name);
        }
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let written = std::fs::write(out.join(format!("{name}.sha256")), digest)
            .and_then(|()| std::fs::write(out.join(format!("{name}.wasm")), bytes));
        if let Err(error) = written {
            println!("cargo::error=the plugin {name} cannot be written to {}: {error}", out.display());
        }
    }
    if !missing.is_empty() {
        println!(
            "cargo::warning=this program is built without the plugins {}{why} and will refuse to decide with them: run \
             'cargo xtask plugins', then build it again",
            missing.join(", ")
        );
    }
}

/// Builds the plugins as `cargo xtask plugins` does. The helper gets a target folder of its own: the cargo that runs this
/// script holds the usual one.
fn build(root: &Path) -> Result<(), String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = Command::new(rustc).args(["--print", "target-libdir", "--target", GUEST]).output();
    let library = library.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if !Path::new(&library).is_dir() {
        return Err(format!("the toolchain has no target {GUEST}"));
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let outer =
            ["CARGO_CFG_", "CARGO_ENCODED_", "CARGO_FEATURE_", "CARGO_MAKEFLAGS", "CARGO_MANIFEST_", "CARGO_PKG_"];
        let outer = outer.iter().chain(&["RUSTC", "RUSTDOC", "WHARF_XTASK_"]).any(|prefix| text.starts_with(prefix));
        // The flags and wrappers of this build are not meant for that one.
        let other =
            ["CARGO_TARGET_DIR", "CLIPPY_ARGS", "HOST", "MAKEFLAGS", "OUT_DIR", "PROFILE", "RUSTFLAGS", "TARGET"];
        if outer || other.contains(&&*text) {
            cargo.env_remove(&name);
        }
    }
    let folder = root.join("target/plugins-helper");
    cargo.current_dir(root).args(["run", "--quiet", "--locked", "--package", "xtask", "--target-dir"]).arg(folder);
    let output = cargo.args(["--", "plugins"]).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().last().unwrap_or("it said nothing");
    if output.status.success() { Ok(()) } else { Err(format!("'cargo xtask plugins' failed: {last}")) }
}
