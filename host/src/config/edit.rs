//! Editing `wharf.toml` from a command: one value changes, and everything else stays as people wrote it, including
//! comments.
//!
//! A command writes its change into the file and nowhere else, so that the file remains the complete configuration:
//! people can read it, review it and keep it under version control, and a service reloads it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml_edit::{DocumentMut, Item, Value};

use crate::hooks::chain::Mode;

/// Sets the mode of a policy in a configuration file.
///
/// # Errors
/// One line: the file cannot be read, is not TOML, does not name the policy, or cannot be written.
pub fn set_mode(path: &Path, policy: &str, mode: Mode) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} '{}': {error}", path.display());
    // A link is resolved, so that the file behind it is replaced and not the link.
    let real = path.canonicalize().map_err(|error| failed("read", &error))?;
    let text = std::fs::read_to_string(&real).map_err(|error| failed("read", &error))?;
    let next = with_mode(&text, policy, mode).map_err(|error| format!("{}: {error}", path.display()))?;
    let permissions = std::fs::metadata(&real).map_err(|error| failed("read", &error))?.permissions();
    let aside = real.with_extension(format!("toml.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&aside)?;
        file.set_permissions(std::fs::Permissions::from_mode(permissions.mode()))?;
        file.write_all(next.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, &real)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&aside);
        failed("write", &error)
    })
}

/// Returns the text with another mode for one policy.
fn with_mode(text: &str, policy: &str, mode: Mode) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("it is not valid TOML: {error}"))?;
    let value: Value = match mode {
        Mode::Enforce => "enforce".into(),
        Mode::Shadow => "shadow".into(),
        Mode::Canary(percent) => {
            let mut table = toml_edit::InlineTable::new();
            table.insert("canary", i64::from(percent).into());
            table.into()
        }
    };
    let missing = || format!("has no [[policy]] named '{policy}'");
    match document.get_mut("policy") {
        Some(Item::ArrayOfTables(tables)) => {
            let named = |table: &&mut toml_edit::Table| table.get("name").and_then(Item::as_str) == Some(policy);
            let table = tables.iter_mut().find(named).ok_or_else(missing)?;
            put(table, value);
        }
        Some(Item::Value(Value::Array(list))) => {
            let named = |table: &&mut toml_edit::InlineTable| table.get("name").and_then(Value::as_str) == Some(policy);
            let table = list.iter_mut().filter_map(Value::as_inline_table_mut).find(named).ok_or_else(missing)?;
            put(table, value);
        }
        _ => return Err(missing()),
    }
    Ok(document.to_string())
}

fn put(table: &mut dyn toml_edit::TableLike, mut value: Value) {
    match table.get_mut("mode") {
        Some(Item::Value(old)) => {
            // The surrounding spaces and the trailing comment stay.
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        // This also replaces a mode that was written as a separate table.
        _ => drop(table.insert("mode", Item::Value(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# ours\n[limits]\nmemory = \"4GiB\" # enough\n\n# the new one\n[[policy]]\nname = \"next\"\n\
        script = \"next.rhai\"\nmode = \"shadow\" # since Monday\nsettings = { a = 1 }\n\n[[policy]]\nname = \"old\"\n\
        builtin = \"cleanup.rhai\"\n\n[policy.settings]\ndays = 3 # three\n";

    #[test]
    fn only_the_mode_changes_and_every_comment_stays() {
        let after = with_mode(BEFORE, "next", Mode::Canary(10)).unwrap();
        assert_eq!(after, BEFORE.replace("\"shadow\" #", "{ canary = 10 } #"));
        let back = with_mode(&after, "next", Mode::Shadow).unwrap();
        assert_eq!(back, BEFORE);
    }

    #[test]
    fn a_policy_without_a_mode_gets_one_before_its_tables() {
        let after = with_mode(BEFORE, "old", Mode::Shadow).unwrap();
        let read: toml::Table = after.parse().unwrap();
        let old = read["policy"][1].as_table().unwrap();
        assert_eq!(old["mode"].as_str(), Some("shadow"));
        assert_eq!(old["settings"]["days"].as_integer(), Some(3));
        assert!(after.contains("# three") && after.contains("# since Monday"));
        let list = "policy = [{ name = \"a\", builtin = \"cleanup.rhai\" }] # one\n";
        let after = with_mode(list, "a", Mode::Shadow).unwrap();
        assert!(after.contains("mode = \"shadow\"") && after.ends_with("# one\n"), "{after}");
    }

    #[test]
    fn a_policy_that_the_file_does_not_name_is_not_invented() {
        for text in [BEFORE, "", "[limits]\npids = 3\n"] {
            assert!(with_mode(text, "stranger", Mode::Shadow).unwrap_err().contains("'stranger'"));
        }
    }
}
