//! The decision record: the persistent data of a hook run, enough to explain it and to replay it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::validate::FoundPaths;
use super::{Action, Adjustment, Denial, Hook, HookRequest, PolicyKind, SweepVerdict, VerdictKind};
use crate::workspace::ContainerSpec;

/// Version of the record's JSON form. Version 2 added the data that a replay needs besides the input: owners and host
/// paths.
pub const VERSION: u32 = 2;
/// Records from this version on contain all data for a replay.
pub const REPLAYABLE: u32 = 2;

/// One hook run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// [`VERSION`].
    pub version: u32,
    /// UUID v7: sorts by time.
    pub id: Uuid,
    /// The time of the decision.
    pub time: Timestamp,
    /// The hook.
    pub hook: Hook,
    /// Workspace id; empty for `cleanup`.
    pub workspace: String,
    /// The complete input of the policies, before the first of them ran.
    pub input: HookRequest,
    /// For the create hooks: field -> its owner before the first policy ran. Conflicts depend on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<String, Owner>,
    /// For the create hooks: the spec before the first of them, if it differs from this hook's input. The floor
    /// compares with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Box<ContainerSpec>>,
    /// The targets of host paths when the invariants were checked.
    #[serde(default, skip_serializing_if = "FoundPaths::is_empty")]
    pub paths: FoundPaths,
    /// One step per called policy, in order.
    pub steps: Vec<Step>,
    /// Conflicts: two policies wanted different values for one field.
    pub conflicts: Vec<String>,
    /// Invariants of the host that the result violates.
    pub violations: Vec<String>,
    /// The result.
    pub outcome: Outcome,
    /// For a record of shadows: the decision that they ran beside. Its steps are those of the shadows, and its
    /// outcome is the hypothetical result of the request with them. None of it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_of: Option<Uuid>,
    /// For a record of shadows: the changes that they would have made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// The way in which a policy takes part in a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepMode {
    /// Its verdict counts.
    #[default]
    Enforce,
    /// Its verdict counts because the workspace is in a canary's share.
    Canary,
    /// Its verdict is recorded only.
    Shadow,
}

impl StepMode {
    /// Returns the name in records and trails.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
        }
    }

    fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }
}

/// A result that would differ with a shadow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// The shadow's policy.
    pub policy: String,
    /// The field, e.g. `env.A`; `outcome` for a denial, `actions` for the actions of a hook, and for a sweep the kind
    /// of the candidate.
    pub field: String,
    /// The decided value.
    pub from: Value,
    /// The value with the shadow.
    pub to: Value,
    /// For a sweep, the candidate; for an outcome, the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// The result of a hook run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The request continues with this spec.
    Allowed(Box<ContainerSpec>),
    /// The request continues with this command.
    AllowedExec(super::ExecSpec),
    /// The request is refused.
    Denied(Refusal),
    /// Actions to carry out; failures of policies are in the steps.
    Actions {
        /// Policy and action, in order.
        actions: Vec<(String, Action)>,
        /// Milliseconds to wait once.
        delay_ms: u32,
    },
    /// The objects to stop or remove; all others are kept.
    Sweep(Vec<SweepVerdict>),
}

/// The origin and the reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refusal {
    /// The policy, or `host` for invariants.
    pub policy: String,
    /// `<script>:<line>` or the plugin's digest, if known.
    pub at: Option<String>,
    /// For programs: `policy-failed` if a policy gave no verdict, `conflict`, `invariant`, or the policy's own code.
    pub code: String,
    /// For users.
    pub reason: String,
}

/// One policy's part in a hook run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the configuration.
    pub policy: String,
    /// Plugin or script.
    pub kind: PolicyKind,
    /// SHA-256 of its bytes.
    pub digest: String,
    /// SHA-256 of its settings.
    pub settings_digest: String,
    /// The hook.
    pub hook: Hook,
    /// Whether its verdict counts. Omitted from the JSON if it does, as in records from before there were modes.
    #[serde(default, skip_serializing_if = "StepMode::is_enforce")]
    pub mode: StepMode,
    /// The kind of its answer.
    pub verdict: VerdictKind,
    /// The fields that it changed, without fields that already had the requested value.
    pub fields: Vec<String>,
    /// The adjustments that it requested.
    pub adjustments: Vec<Adjustment>,
    /// Its denial.
    pub denial: Option<Denial>,
    /// Its actions.
    pub actions: Vec<Action>,
    /// For scripts: field -> line that set it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lines: BTreeMap<String, usize>,
    /// For `pre-stop`: the requested wait in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u32>,
    /// For `cleanup`: its verdict about each candidate that it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<SweepVerdict>,
    /// Duration of the call.
    pub microseconds: u64,
    /// Cost of the call: Rhai operations of a script, fuel (about one per instruction) of a plugin.
    pub operations: u64,
    /// The lines that it logged.
    pub logs: Vec<String>,
    /// Waivers of its entry that let it loosen a field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// SHA-256 of the resources that its entry granted it in addition to the input (folders, variables), if any. A
    /// replay can only give the same decision if this digest is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<String>,
    /// The reason why there is no verdict.
    pub error: Option<StepError>,
}

impl Step {
    /// Creates a step of a policy that has not answered yet.
    pub fn empty(policy: &str, kind: PolicyKind, hook: Hook) -> Self {
        Self {
            policy: policy.to_owned(),
            kind,
            digest: String::new(),
            settings_digest: String::new(),
            hook,
            mode: StepMode::Enforce,
            verdict: VerdictKind::Error,
            fields: Vec::new(),
            adjustments: Vec::new(),
            denial: None,
            actions: Vec::new(),
            lines: BTreeMap::new(),
            delay_ms: None,
            sweep: Vec::new(),
            microseconds: 0,
            operations: 0,
            logs: Vec::new(),
            waivers: Vec::new(),
            granted: None,
            error: None,
        }
    }
}

/// The reason why a policy gave no verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StepError {
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    /// See `PolicyError`.
    #[serde(default)]
    pub marked: bool,
    /// The meaning of the failure, if the policy's entry overrides the hook's failure mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<super::FailureMode>,
}

/// Permission for one policy to loosen one field to one value until a given day, from its entry in the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The field, e.g. `security.seccomp`.
    pub field: String,
    /// The only value that it may be loosened to, as in the spec's JSON.
    pub value: Value,
    /// The last day (UTC) on which it is valid.
    pub until: jiff::civil::Date,
    /// The reason for the waiver.
    pub reason: String,
}

/// The origin of a field's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Owner {
    /// A policy's name, or `default`, `config` or `request`.
    pub policy: String,
    /// Location: `<script>:<line>`, `<file>:<line>`, or `sha256:<digest>` of a plugin.
    pub at: Option<String>,
}

impl Owner {
    /// Creates an owner that is not a policy.
    pub fn host(name: &str, at: Option<String>) -> Self {
        Self { policy: name.to_owned(), at }
    }
}

/// One change of one field. `why` prints the changes in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// The field.
    pub field: String,
    /// Its value after the change; null if it was removed.
    pub value: Value,
    /// The origin of the change.
    pub by: Owner,
    /// The hook; none for defaults, configuration and request.
    pub hook: Option<Hook>,
}

/// A spec under construction, with an owner and a history per field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The spec as decided so far.
    pub spec: ContainerSpec,
    /// Field -> its last owner.
    pub owners: BTreeMap<String, Owner>,
    /// All changes, in order.
    pub history: Vec<Change>,
}

impl Draft {
    /// Creates a draft from a spec whose fields are the host's defaults.
    pub fn new(spec: ContainerSpec) -> Self {
        Self { spec, owners: BTreeMap::new(), history: Vec::new() }
    }

    /// Applies an adjustment for an owner. Returns whether it changed a value.
    pub fn set(&mut self, adjustment: &Adjustment, by: Owner, hook: Option<Hook>) -> bool {
        let before = self.spec.clone();
        adjustment.apply(&mut self.spec);
        if self.spec == before && hook.is_some() {
            return false;
        }
        let field = adjustment.field();
        if !self.owners.contains_key(&field)
            && let Some(value) = serde_json::to_value(&before).ok().and_then(|json| lookup(&json, &field))
            && !value.is_null()
        {
            // The field's value before the first decision about it.
            let by = Owner::host("default", None);
            self.history.push(Change { field: field.clone(), value, by, hook: None });
        }
        self.history.push(Change { field: field.clone(), value: adjustment.value(), by: by.clone(), hook });
        self.owners.insert(field, by);
        true
    }

    /// Returns field -> name of its owner, for every field of the spec, including defaults.
    pub fn owner_names(&self) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for field in self.spec.fields() {
            let owner = self.owners.get(&field).map_or("default", |owner| owner.policy.as_str());
            names.insert(field, owner.to_owned());
        }
        // A field that a policy removed is not in the spec, but has an owner.
        for (field, owner) in &self.owners {
            names.entry(field.clone()).or_insert_with(|| owner.policy.clone());
        }
        names
    }
}

/// Returns the value of a field by its path; keys of maps may contain dots.
pub fn lookup(json: &Value, field: &str) -> Option<Value> {
    let mut at = json;
    let mut rest = field;
    while !rest.is_empty() {
        let object = at.as_object()?;
        if let Some(value) = object.get(rest) {
            return Some(value.clone());
        }
        let (head, tail) = rest.split_once('.')?;
        at = object.get(head)?;
        rest = tail;
    }
    Some(at.clone())
}

/// Converts a value to canonical JSON: keys sorted, no whitespace, so that the same value always has the same bytes.
///
/// # Errors
/// An error if the value has no JSON form.
pub fn canonical<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    // `Value` keeps its keys sorted; the test below fails if a dependency ever changes that.
    serde_json::to_string(&serde_json::to_value(value)?)
}

impl Outcome {
    /// Returns the outcome's name: `allowed`, `denied`, `actions` or `sweep`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allowed(_) | Self::AllowedExec(_) => "allowed",
            Self::Denied(_) => "denied",
            Self::Actions { .. } => "actions",
            Self::Sweep(_) => "sweep",
        }
    }
}

impl Decision {
    /// Returns whether a called policy gave no verdict.
    pub fn failed(&self) -> bool {
        self.steps.iter().any(|step| step.error.is_some())
    }
}

/// Matches a text against a pattern in which `*` stands for any text.
///
/// The crate `globset` is not used: it also gives a meaning to `?`, `[`, `{`, `\` and `**`, and converts a pattern to
/// a regular expression first. That takes 6 to 21 us per pattern (54 us for a set of eight), while this function
/// takes 0.01 to 0.15 us. Scripts call it with patterns that are built at run time.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let mut parts: Vec<_> = parts.collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_has_sorted_keys_at_every_depth() {
        #[derive(Serialize)]
        struct Wild {
            z: u8,
            a: std::collections::HashMap<&'static str, f64>,
        }
        let value = Wild { z: 1, a: [("y", 0.1), ("x", 1e21), ("b", 2.0)].into() };
        assert_eq!(canonical(&value).unwrap(), r#"{"a":{"b":2.0,"x":1e+21,"y":0.1},"z":1}"#);
    }

    #[test]
    fn a_number_read_back_from_a_record_has_the_same_bytes() {
        for number in [0.1, 0.3, 1.0 / 3.0, 2.2250738585072014e-308, 1.1, 5e-324, 0.30000000000000004, 3.7] {
            let text = canonical(&number).unwrap();
            let back: f64 = serde_json::from_str(&text).unwrap();
            assert_eq!(canonical(&back).unwrap(), text);
        }
    }

    #[test]
    fn globs_match_whole_texts_only() {
        for (pattern, text, yes) in [
            ("*TOKEN*", "MY_TOKEN_2", true),
            ("*_KEY", "API_KEY", true),
            ("*_KEY", "KEYS", false),
            ("A*B*C", "AxxBxxC", true),
            ("A*B*C", "AxxC", false),
            ("A", "AB", false),
            ("*", "", true),
            ("AB*B", "AB", false),
        ] {
            assert_eq!(glob(pattern, text), yes, "{pattern} {text}");
        }
    }
}
