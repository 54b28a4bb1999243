//! Checks the licence of every package that is built in, against the list in `.deny.toml`.
//!
//! `cargo deny` does the same and more, but it is not installed everywhere, and this check must never be skipped.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};

use crate::command;

/// Checks all packages of the lock file. Returns their number.
///
/// # Errors
/// The packages whose licence is not on the list, one per line.
pub fn check(root: &Path) -> Result<usize> {
    let file = root.join(".deny.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let allowed = allowed(&text)?;
    let mut cargo = command::native_cargo(root);
    let metadata = command::output(cargo.args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cannot read what cargo metadata printed")?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata lists no packages")?;
    let refused: Vec<String> = packages.iter().filter_map(|package| refusal(package, &allowed)).collect();
    if !refused.is_empty() {
        bail!("{} (use another crate, or let the project's owners add the licence to .deny.toml)", refused.join("; "));
    }
    Ok(packages.len())
}

fn allowed(text: &str) -> Result<Vec<Licensee>> {
    let table: toml::Table = text.parse().context("cannot parse .deny.toml")?;
    let list = table.get("licenses").and_then(|licenses| licenses.get("allow")?.as_array());
    let list = list.context(".deny.toml has no [licenses] allow")?;
    list.iter()
        .map(|one| {
            let name = one.as_str().unwrap_or_default();
            Licensee::parse(name).map_err(|error| anyhow::anyhow!("{name} in .deny.toml: {}", error.reason))
        })
        .collect()
}

/// Returns the reason that a package may not be used, if there is one.
fn refusal(package: &Value, allowed: &[Licensee]) -> Option<String> {
    let text = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, licence) = (format!("{} {}", text("name"), text("version")), text("license"));
    if licence.is_empty() {
        return Some(format!("{name} names no licence"));
    }
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("{name} has a licence that cannot be read ({licence}: {})", error.reason)),
    };
    let fits = expression.evaluate(|wanted| allowed.iter().any(|licence| licence.satisfies(wanted)));
    (!fits).then(|| format!("{name} is under {licence}, which .deny.toml does not allow"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_refused_unless_one_way_through_its_licence_is_allowed() {
        let allowed =
            allowed("[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"MPL-2.0\", \"Apache-2.0 WITH LLVM-exception\"]")
                .unwrap();
        let refused = |licence: &str| {
            let package = serde_json::json!({ "name": "a", "version": "1.0.0", "license": licence });
            refusal(&package, &allowed).is_some()
        };
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "MPL-2.0+", "Apache-2.0 WITH LLVM-exception"] {
            assert!(!refused(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "nonsense"] {
            assert!(refused(bad), "{bad}");
        }
    }
}
