//! Finds a toolchain that can build guests.
//!
//! The order is: the installed one if it has the target's standard library; an unpacked Debian one from an earlier run;
//! the installed one after `rustup target add`; a Debian one that is fetched now.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::debian::Unpacked;
use crate::command;

/// The target of guests. Without WASI a guest can't even try to reach a file, clock or socket.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The time limit of rustup; if its server is unreachable it would try for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_secs(30);

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const UNIT_SEPARATOR: &str = "\u{1f}";

/// The permitted origin of a toolchain.
#[derive(Clone, Copy, PartialEq)]
pub enum Source {
    /// Any origin, in the order above.
    Any,
    /// Debian's packages only, for testing the fallback on a machine that does not need it.
    Debian,
}

/// The way that guests are compiled.
pub enum Toolchain {
    /// The installed toolchain has the target.
    Installed,
    /// Debian's rustc builds the standard library from its sources, and this linker links.
    Debian { unpacked: Unpacked, linker: PathBuf },
}

impl Toolchain {
    /// Finds a toolchain, and fetches one if there is none.
    ///
    /// # Errors
    /// One line that names the packages to install.
    pub fn find(source: Source) -> Result<Self> {
        let any = source == Source::Any;
        if any && installed_has_target() {
            return Ok(Self::Installed);
        }
        if let Some(unpacked) = Unpacked::cached()? {
            return Ok(Self::Debian { unpacked, linker: linker()? });
        }
        let mut rustup = Command::new("rustup");
        rustup.args(["target", "add", TARGET]);
        if any && command::succeeds_within(&mut rustup, RUSTUP_LIMIT) && installed_has_target() {
            return Ok(Self::Installed);
        }
        let linker = linker()?;
        let unpacked = Unpacked::fetch().with_context(|| {
            format!(
                "no Rust standard library for {TARGET}: run `rustup target add {TARGET}`, or on Debian make the packages \
                 rustc-web and rust-web-src available to apt"
            )
        })?;
        Ok(Self::Debian { unpacked, linker })
    }

    /// Makes a cargo command use this toolchain.
    pub fn apply(&self, cargo: &mut Command, root: &Path) {
        // A component must not depend on the folder that it was built in, because that would change its digest.
        let mut hidden = vec![root.to_owned()];
        hidden.extend(registry_sources());
        if let Self::Debian { unpacked, linker } = self {
            cargo
                .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"])
                .env("RUSTC", unpacked.rustc())
                .env("LD_LIBRARY_PATH", unpacked.libraries())
                // Unlocks `-Z`; both compiler and library are a release.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            hidden.push(unpacked.sources());
        }
        let flags: Vec<String> =
            hidden.iter().map(|folder| format!("--remap-path-prefix={}/=", folder.display())).collect();
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join(UNIT_SEPARATOR));
    }
}

fn rustc(args: &[&str]) -> Result<String> {
    Ok(command::output(Command::new("rustc").args(args))?.trim().to_owned())
}

fn installed_has_target() -> bool {
    rustc(&["--print", "target-libdir", "--target", TARGET]).is_ok_and(|folder| Path::new(&folder).is_dir())
}

/// Finds a linker for WebAssembly: that of the installed toolchain, or `wasm-ld` of an installed LLVM.
fn linker() -> Result<PathBuf> {
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let lld = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    if lld.is_file() {
        return Ok(lld);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|folder| folder.join("wasm-ld")).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("no linker for {TARGET}: install the package lld"),
    }
}

/// Returns the folders where cargo unpacks crates: one per registry, whose name depends on the mirror in use.
fn registry_sources() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let entries = home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    let mut folders: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // Cargo compares the flags, so their order must not depend on the file system.
    folders.sort();
    folders
}
