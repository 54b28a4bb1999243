//! Explains the value of a field: from the default to the last policy, which owner overruled which, and the limits
//! from the configuration. `plan` and `why` show the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Loaded;
use crate::hooks::record::{Change, Draft, Owner, lookup};
use crate::hooks::{Hook, Step};

/// One field of a spec, explained.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct Explained {
    /// Its value; null if it was removed.
    pub value: Value,
    /// Its last owner: a policy, or `default`, `project`, `config` or `request`.
    pub owner: String,
    /// All values that were set, in order; empty for an unchanged default.
    pub history: Vec<Link>,
    /// The limit from the configuration that no policy and no request can exceed.
    pub bound: Option<Bound>,
    /// Description of the waiver that permits a looser value than the floor allows.
    pub waiver: Option<String>,
}

/// One value in the history of a field.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
#[schema(as = FieldLink)]
pub struct Link {
    /// The field.
    pub field: String,
    /// The value.
    pub value: Value,
    /// The owner that set it, and the location.
    pub by: Owner,
    /// The hook; null for defaults, configuration and request.
    pub hook: Option<Hook>,
    /// The owner that set another value afterwards.
    pub overruled_by: Option<String>,
}

/// A setting that limits a field.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
#[schema(as = FieldBound)]
pub struct Bound {
    /// Its key in the configuration.
    pub setting: String,
    /// Its value.
    pub allows: Value,
    /// The location where it was set.
    pub origin: String,
    /// Whether the field has its maximum value.
    pub reached: bool,
    /// The violation, if the field exceeds the limit.
    pub violated: Option<String>,
}

/// Explains every field of a draft. `violations` come from the invariants, `steps` from the policies.
pub fn explain(draft: &Draft, loaded: &Loaded, violations: &[String], steps: &[Step]) -> BTreeMap<String, Explained> {
    let spec = serde_json::to_value(&draft.spec).unwrap_or_default();
    let mut fields = BTreeMap::new();
    for (field, owner) in draft.owner_names() {
        let changes: Vec<&Change> = draft.history.iter().filter(|change| change.field == field).collect();
        let history = changes.iter().enumerate().map(|(index, change)| Link {
            field: field.clone(),
            value: change.value.clone(),
            by: change.by.clone(),
            hook: change.hook,
            overruled_by: changes.get(index + 1).map(|next| place(&next.by)),
        });
        let value = lookup(&spec, &field).unwrap_or_default();
        let bound = bound(&field, &value, loaded, violations);
        let waiver = steps.iter().find_map(|step| {
            let waiver = step.waivers.iter().find(|waiver| waiver.field == field)?;
            Some(format!("{} may set {} until {}: {}", step.policy, waiver.value, waiver.until, waiver.reason))
        });
        fields.insert(field.clone(), Explained { value, owner, history: history.collect(), bound, waiver });
    }
    // Violations caused by a missing field, such as an image.
    for violation in violations {
        let (field, _) = violation.split_once(": ").unwrap_or((violation, ""));
        fields.entry(field.to_owned()).or_insert_with(|| Explained {
            value: Value::Null,
            owner: "default".into(),
            history: Vec::new(),
            bound: bound(field, &Value::Null, loaded, violations),
            waiver: None,
        });
    }
    fields
}

/// Formats a location for users: `<script>:<line>`, `<plugin>@sha256:<digest>`, `request (--memory 4GiB)`.
pub fn place(owner: &Owner) -> String {
    match &owner.at {
        Some(at) if at.starts_with(&owner.policy) => at.clone(),
        Some(at) if at.starts_with("sha256:") => format!("{}@{at}", owner.policy),
        Some(at) => format!("{} ({at})", owner.policy),
        None => owner.policy.clone(),
    }
}

fn bound(field: &str, value: &Value, loaded: &Loaded, violations: &[String]) -> Option<Bound> {
    let (limits, allow) = (&loaded.config.limits, &loaded.config.allow);
    let number = |is: f64| value.as_f64().is_some_and(|value| value >= is);
    let group = field.split('.').next().unwrap_or_default();
    let (setting, allows, reached) = match (field, group) {
        ("resources.memory", _) => {
            ("limits.memory", json!(limits.memory), value.as_u64().is_some_and(|value| value >= limits.memory.0))
        }
        ("resources.cpus", _) => ("limits.cpus", json!(limits.cpus), number(limits.cpus)),
        ("resources.pids", _) => ("limits.pids", json!(limits.pids), number(limits.pids.into())),
        ("security.capabilities", _) => {
            let all = json!(allow.capabilities);
            ("allow.capabilities", all.clone(), *value == all)
        }
        ("security.seccomp" | "security.apparmor" | "security.selinux" | "security.user_namespace", _) => {
            ("allow.unconfined", json!(allow.unconfined), false)
        }
        ("network", _) => ("allow.host_network", json!(allow.host_network), false),
        (_, "ports") => ("allow.public_ports", json!(allow.public_ports), false),
        (_, "mounts") if value.get("kind").is_none_or(|kind| kind == "bind") => {
            ("allow.bind_roots", json!(allow.bind_roots), false)
        }
        _ => return None,
    };
    let violated = violations.iter().find_map(|text| Some(text.strip_prefix(field)?.strip_prefix(": ")?.to_owned()));
    let origin = loaded.origin(setting).to_string();
    Some(Bound { setting: setting.to_owned(), allows, origin, reached, violated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Adjustment;
    use crate::hooks::chain::tests::spec;

    #[test]
    fn a_field_is_explained_from_its_default_to_its_bound() {
        let mut loaded = crate::config::load(&Default::default()).unwrap();
        loaded.config.limits.memory = crate::config::Size(3 << 30);
        let mut draft = Draft::new(spec());
        let by = |policy: &str, at: &str| Owner { policy: policy.into(), at: Some(at.into()) };
        draft.set(&Adjustment::Memory(9 << 30), by("request", "--memory 9GiB"), None);
        draft.set(&Adjustment::Memory(3 << 30), by("cap.rhai", "cap.rhai:4"), Some(Hook::PreCreate));
        let violations = ["image: no policy chose one".to_owned(), "resources.memory: is too much".to_owned()];
        draft.spec.image = None;
        let all = explain(&draft, &loaded, &violations, &[]);
        let memory = &all["resources.memory"];
        assert_eq!((memory.owner.as_str(), &memory.value), ("cap.rhai", &json!(3_u64 << 30)));
        let way: Vec<_> = memory.history.iter().map(|link| (place(&link.by), link.overruled_by.clone())).collect();
        assert_eq!(
            way,
            [
                ("default".into(), Some("request (--memory 9GiB)".into())),
                ("request (--memory 9GiB)".into(), Some("cap.rhai:4".into())),
                ("cap.rhai:4".into(), None),
            ]
        );
        let bound = memory.bound.as_ref().unwrap();
        assert_eq!((bound.setting.as_str(), bound.reached), ("limits.memory", true));
        assert_eq!(bound.violated.as_deref(), Some("is too much"));
        assert!(all["resources.pids"].bound.as_ref().is_some_and(|bound| !bound.reached && bound.violated.is_none()));
        assert!(all["hostname"].bound.is_none() && all.contains_key("image"));
    }
}
