//! Builds the guests: every crate below `plugins/` and `host/tests/plugins/` becomes a WebAssembly component.
//!
//! Cargo makes a core module for `wasm32-unknown-unknown`, which needs no WASI and so can't request anything from the
//! host beyond the contract; wit-component wraps it into a component. Cargo's own freshness check determines the crates
//! to build. An unchanged component is not written again, so that its dependents are not rebuilt either.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wit_component::ComponentEncoder;

use crate::command;

mod debian;
mod toolchain;

pub use toolchain::Source;
use toolchain::{TARGET, Toolchain};

/// The folders of guests and of their components, both below the workspace root.
const GUESTS: [(&str, &str); 2] = [("plugins", "target/plugins"), ("host/tests/plugins", "target/test-plugins")];

/// The custom profile of the root `Cargo.toml`; it also names cargo's output folder.
const PROFILE: &str = "guest";

/// One guest crate.
struct Guest {
    package: String,
    component: PathBuf,
}

/// Builds all guests of the workspace at `root`, and prints the size of each component.
///
/// # Errors
/// When there is no toolchain for the target (the text names the packages to install), when a crate does not build, or
/// when a core module does not match its embedded WIT.
pub fn build(root: &Path, source: Source) -> Result<()> {
    let mut guests = Vec::new();
    for (source, output) in GUESTS {
        guests.extend(find(&root.join(source), &root.join(output))?);
    }
    if guests.is_empty() {
        bail!("found no guest crates below {}", root.display());
    }
    let target_dir = root.join("target/guest");
    compile(root, &target_dir, &guests, source)?;
    for guest in &guests {
        let module = target_dir.join(TARGET).join(PROFILE).join(format!("{}.wasm", guest.package.replace('-', "_")));
        let component =
            componentize(&module).with_context(|| format!("cannot make a component of {}", guest.package))?;
        let written = write_if_changed(&guest.component, &component)?;
        let shown = guest.component.strip_prefix(root).unwrap_or(&guest.component).display();
        println!("{shown}  {} KiB{}", component.len().div_ceil(1024), if written { "" } else { " (unchanged)" });
    }
    for (_, output) in GUESTS {
        remove_orphans(&root.join(output), &guests)?;
    }
    Ok(())
}

/// Lists the crates in `folder`, sorted by folder name.
fn find(folder: &Path, output: &Path) -> Result<Vec<Guest>> {
    let mut manifests: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.path().join("Cargo.toml"))).collect::<std::io::Result<Vec<_>>>()?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
    };
    manifests.retain(|path| path.is_file());
    manifests.sort();
    manifests
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let manifest: toml::Table = text.parse().with_context(|| format!("cannot parse {}", path.display()))?;
            let package = manifest
                .get("package")
                .and_then(|package| package.get("name"))
                .and_then(toml::Value::as_str)
                .with_context(|| format!("{} has no package.name", path.display()))?
                .to_owned();
            let component = output.join(format!("{package}.wasm"));
            Ok(Guest { package, component })
        })
        .collect()
}

/// Builds all guests in one cargo call, so that they share their dependencies.
fn compile(root: &Path, target_dir: &Path, guests: &[Guest], source: Source) -> Result<()> {
    let toolchain = Toolchain::find(source)?;
    let mut cargo = command::cargo();
    cargo.current_dir(root).args(["build", "--profile", PROFILE, "--target", TARGET, "--target-dir"]).arg(target_dir);
    for guest in guests {
        cargo.args(["--package", &guest.package]);
    }
    toolchain.apply(&mut cargo, root);
    command::run(&mut cargo)
}

/// Converts a core module into a component, and validates it.
fn componentize(module: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    ComponentEncoder::default().module(&bytes)?.validate(true).encode()
}

/// Writes a file unless it already has that content. It is replaced in one step, so that a reader never sees an
/// incomplete file.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let folder = path.parent().context("the component has no folder")?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, content))
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Removes components whose crate is gone: a test that still loads one would pass here and fail in a fresh clone.
fn remove_orphans(folder: &Path, guests: &[Guest]) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let component = path.extension().is_some_and(|extension| extension == "wasm");
        if component && !guests.iter().any(|guest| guest.component == path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
