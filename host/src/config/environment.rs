//! The layer of the environment: `WHARF_<KEY>` with `_` for dots.

use std::collections::BTreeMap;

use serde_json::Value;

use super::layers::leaves;

const PREFIX: &str = "WHARF_";
/// Variables with a meaning that are not keys of the configuration; the last one is set in workspaces.
const OWN: [&str; 6] = ["WHARF_CONFIG", "WHARF_STATE_DIR", "WHARF_SERVER", "WHARF_TOKEN", "WHARF_LOG", "WHARF_MANAGED"];
/// The number of wrong letters up to which a correction is suggested.
const SLIPS: usize = 2;

/// The settings of the environment.
pub(super) struct Environment {
    /// Key, name of the variable, and value.
    pub set: Vec<(String, String, String)>,
    /// Messages about other variables that begin with `WHARF_`. They may belong to another program, so they are not
    /// errors.
    pub ignored: Vec<String>,
}

impl Environment {
    /// Reads the variables; `known` has every key.
    pub fn of(known: &Value, env: &BTreeMap<String, String>) -> Self {
        // Name of the variable -> key, and whether it takes a plain value.
        let mut keys = BTreeMap::new();
        leaves("", known, &mut |key, value| {
            let plain = !value.is_object() && !value.is_array();
            keys.insert(format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase()), (key.to_owned(), plain));
        });
        let (mut set, mut ignored) = (Vec::new(), Vec::new());
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with(PREFIX) && !OWN.contains(&name.as_str())) {
            match keys.get(name) {
                Some((key, true)) => set.push((key.clone(), name.clone(), value.clone())),
                Some((key, false)) => ignored.push(format!(
                    "the variable {name} is ignored: '{key}' is not a plain value; use --set '{key}=...'"
                )),
                None => {
                    let names = keys.keys().map(String::as_str).chain(OWN);
                    let near = names.map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
                    let hint = match near {
                        Some((slips, near)) if slips <= SLIPS => format!("; did you mean {near}?"),
                        _ => "; see 'wharf config show' for all settings".to_owned(),
                    };
                    ignored.push(format!("the variable {name} is ignored: it is not a setting{hint}"));
                }
            }
        }
        Self { set, ignored }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_sets_nothing_is_told_with_what_was_meant() {
        let known = serde_json::json!({ "limits": { "memory": null, "pids": 512 }, "allow": { "volumes": [] } });
        let env = [
            ("WHARF_LIMITS_PIDS", "300"),
            ("WHARF_LIMITS_MEMROY", "2GiB"),
            ("WHARF_ALLOW_VOLUMES", "a"),
            ("WHARF_STATE_DRI", "/x"),
            ("WHARF_BUILD_NUMBER", "7"),
            ("WHARF_TOKEN", "t"),
            ("OTHER", "x"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let Environment { set, ignored } = Environment::of(&known, &env);
        assert_eq!(set, [("limits.pids".to_owned(), "WHARF_LIMITS_PIDS".to_owned(), "300".to_owned())]);
        assert_eq!(
            ignored,
            [
                "the variable WHARF_ALLOW_VOLUMES is ignored: 'allow.volumes' is not a plain value; use \
                 --set 'allow.volumes=...'",
                "the variable WHARF_BUILD_NUMBER is ignored: it is not a setting; see \
                 'wharf config show' for all settings",
                "the variable WHARF_LIMITS_MEMROY is ignored: it is not a setting; did you mean WHARF_LIMITS_MEMORY?",
                "the variable WHARF_STATE_DRI is ignored: it is not a setting; did you mean WHARF_STATE_DIR?",
            ]
        );
    }
}
