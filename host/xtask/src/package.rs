//! `cargo xtask package`: the published packages, each built only from its own content.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{command, guest};

/// The packages, in the order of their dependencies.
const PACKAGES: [&str; 2] = ["wharf-plugin-sdk", "wharf"];

/// The plugins that are built into the program; `host/build.rs` has the same list.
const BUILT_IN: [&str; 3] = ["image-selector", "security-baseline", "cleanup-policy"];

/// The time limit for building a package from nothing.
const LIMIT: Duration = Duration::from_secs(3600);

/// Builds the plugins, puts them into the package of the host, and makes and verifies the packages. Nothing is
/// published.
///
/// # Errors
/// When a plugin or a package cannot be built.
pub fn run(root: &Path) -> Result<()> {
    guest::build(root, guest::Source::Any)?;
    let folder = root.join("host/plugins");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in BUILT_IN {
        let file = format!("{name}.wasm");
        let from = root.join("target/plugins").join(&file);
        fs::copy(&from, folder.join(&file)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    for package in PACKAGES {
        let mut cargo = command::native_cargo(root);
        // The plugins are in the package but not in the repository.
        cargo.args(["package", "--locked", "--allow-dirty", "--package", package]);
        command::run_within(&mut cargo, LIMIT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_built_in_plugins_are_those_of_the_build_script() {
        let script = std::fs::read_to_string(crate::root().unwrap().join("host/build.rs")).unwrap();
        let list = script.split("const PLUGINS").nth(1).and_then(|rest| rest.split(';').nth(1)).unwrap();
        let names: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(names, super::BUILT_IN);
    }
}
