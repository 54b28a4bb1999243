//! The decision record: what remains of a hook run, enough to explain it and to run it again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::validate::FoundPaths;
use super::{Action, Adjustment, Denial, Hook, HookRequest, PolicyKind, SweepVerdict};
use crate::workspace::ContainerSpec;

/// Version of the record's JSON form. 2 added what a replay needs beside the input: owners and host paths.
pub const VERSION: u32 = 2;
/// Records from this version on hold everything that a replay needs.
pub const REPLAYABLE: u32 = 2;

/// One hook run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// [`VERSION`].
    pub version: u32,
    /// UUID v7: sorts by time.
    pub id: Uuid,
    /// When it was taken.
    pub time: Timestamp,
    /// The hook.
    pub hook: Hook,
    /// Workspace id; empty for `cleanup`.
    pub workspace: String,
    /// Everything the policies saw, before the first of them ran.
    pub input: HookRequest,
    /// For the create hooks: field -> who had set it before the first policy ran. Conflicts depend on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<String, Owner>,
    /// For the create hooks: the spec before the first of them, where this one's input differs. The floor holds against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Box<ContainerSpec>>,
    /// What the host's paths led to when the invariants were checked.
    #[serde(default, skip_serializing_if = "FoundPaths::is_empty")]
    pub paths: FoundPaths,
    /// One per policy that was asked, in order.
    pub steps: Vec<Step>,
    /// Two policies that wanted different values for one field.
    pub conflicts: Vec<String>,
    /// Invariants of the host that the result violates.
    pub violations: Vec<String>,
    /// The result.
    pub outcome: Outcome,
    /// Of the record of shadows: the decision that they ran beside. Its steps are those of the shadows, and its outcome
    /// is what the request would have come to with them; nothing of it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_of: Option<Uuid>,
    /// Of the record of shadows: what they would have changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// How a policy takes part in a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepMode {
    /// Its verdict counts.
    #[default]
    Enforce,
    /// Its verdict counts, because the workspace is in the share of a canary.
    Canary,
    /// Its verdict is only recorded.
    Shadow,
}

impl StepMode {
    /// The word in records and trails.
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

/// Something that would have come out differently with a shadow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// The shadow.
    pub policy: String,
    /// The field, e.g. `env.A`; `outcome` for a denial, `actions` for what a hook asks for, and for a sweep the kind of
    /// what was decided about.
    pub field: String,
    /// As it was decided.
    pub from: Value,
    /// As it would have been.
    pub to: Value,
    /// Of a sweep, the candidate; of an outcome, the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The request goes on, with this spec.
    Allowed(Box<ContainerSpec>),
    /// The request goes on, with this command.
    AllowedExec(super::ExecSpec),
    /// The request is refused.
    Denied(Refusal),
    /// These are to be done; failures of policies are in the steps.
    Actions {
        /// Policy and action, in order.
        actions: Vec<(String, Action)>,
        /// Milliseconds to wait once.
        delay_ms: u32,
    },
    /// What is to be stopped or removed; everything else is kept.
    Sweep(Vec<SweepVerdict>),
}

/// Who refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refusal {
    /// The policy, or `host` for invariants.
    pub policy: String,
    /// `<script>:<line>` or the plugin's digest, where known.
    pub at: Option<String>,
    /// For programs. `policy-failed` when a policy gave no verdict, `conflict`, `invariant`, or the policy's own word.
    pub code: String,
    /// For people.
    pub reason: String,
}

/// What one policy did.
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
    /// Whether its verdict counts. Left out of the JSON when it does, as every policy's did before there were modes.
    #[serde(default, skip_serializing_if = "StepMode::is_enforce")]
    pub mode: StepMode,
    /// `pass`, `adjust`, `deny`, `act`, `sweep`, or `error`.
    pub verdict: String,
    /// The fields that it changed. Fields that already had the value it asked for are left out.
    pub fields: Vec<String>,
    /// What it asked for.
    pub adjustments: Vec<Adjustment>,
    /// Its denial.
    pub denial: Option<Denial>,
    /// Its actions.
    pub actions: Vec<Action>,
    /// For scripts: field -> line that set it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lines: BTreeMap<String, usize>,
    /// For `pre-stop`: the wait that it asked for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u32>,
    /// For `cleanup`: what it said about each candidate that it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<SweepVerdict>,
    /// Time of the call.
    pub microseconds: u64,
    /// What the call cost: Rhai operations of a script, fuel (about one an instruction) of a plugin.
    pub operations: u64,
    /// What it logged.
    pub logs: Vec<String>,
    /// Waivers of its entry that let it loosen something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// SHA-256 of what its entry granted it beside the input (folders, variables), if anything: the decision comes out the
    /// same only where this is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<String>,
    /// Why there is no verdict.
    pub error: Option<StepError>,
}

impl Step {
    /// A step of a policy that has not answered yet.
    pub fn empty(policy: &str, kind: PolicyKind, hook: Hook) -> Self {
        Self {
            policy: policy.to_owned(),
            kind,
            digest: String::new(),
            settings_digest: String::new(),
            hook,
            mode: StepMode::Enforce,
            verdict: String::new(),
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

/// Why a policy gave no verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StepError {
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    /// As in `PolicyError`.
    #[serde(default)]
    pub marked: bool,
    /// What it meant, where the policy's entry says something else than the hook's own failure mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<super::FailureMode>,
}

/// Leave for one policy to loosen one field to one value until a day: from its entry in the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The field, e.g. `security.seccomp`.
    pub field: String,
    /// The only value that it may be loosened to, as in the spec's JSON.
    pub value: Value,
    /// The last day (UTC) on which it holds.
    pub until: jiff::civil::Date,
    /// Why it was given.
    pub reason: String,
}

/// Who set a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Owner {
    /// A policy's name, or `default`, `config` or `request`.
    pub policy: String,
    /// Where: `<script>:<line>`, `<file>:<line>`, or `sha256:<digest>` of a plugin.
    pub at: Option<String>,
}

impl Owner {
    /// An owner that is no policy.
    pub fn host(name: &str, at: Option<String>) -> Self {
        Self { policy: name.to_owned(), at }
    }
}

/// One change of one field, in the order they were made: what `why` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// The field.
    pub field: String,
    /// Its value after the change; null when it was taken away.
    pub value: Value,
    /// Who made it.
    pub by: Owner,
    /// At which hook; none for defaults, configuration and request.
    pub hook: Option<Hook>,
}

/// A spec in the making: with an owner per field and the history of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The spec as decided so far.
    pub spec: ContainerSpec,
    /// Field -> who set it last.
    pub owners: BTreeMap<String, Owner>,
    /// All changes, in order.
    pub history: Vec<Change>,
}

impl Draft {
    /// Begins with a spec whose fields are the host's defaults.
    pub fn new(spec: ContainerSpec) -> Self {
        Self { spec, owners: BTreeMap::new(), history: Vec::new() }
    }

    /// Applies an adjustment for an owner. Returns whether it changed anything.
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
            // The field before the first decision about it.
            let by = Owner::host("default", None);
            self.history.push(Change { field: field.clone(), value, by, hook: None });
        }
        self.history.push(Change { field: field.clone(), value: adjustment.value(), by: by.clone(), hook });
        self.owners.insert(field, by);
        true
    }

    /// Field -> name of who set it, for every field of the spec, defaults included.
    pub fn owner_names(&self) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for field in self.spec.fields() {
            let owner = self.owners.get(&field).map_or("default", |owner| owner.policy.as_str());
            names.insert(field, owner.to_owned());
        }
        // A field that a policy took away is not in the spec, but was decided.
        for (field, owner) in &self.owners {
            names.entry(field.clone()).or_insert_with(|| owner.policy.clone());
        }
        names
    }
}

/// The value of a field by its path; keys of maps may hold dots.
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

/// A value as canonical JSON: keys sorted, no blanks, so that the same value always has the same bytes.
///
/// # Errors
/// When the value has no JSON form.
pub fn canonical<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    // `Value` keeps its keys sorted; the test below fails should a dependency ever change that.
    serde_json::to_string(&serde_json::to_value(value)?)
}

impl Outcome {
    /// One word: `allowed`, `denied`, `actions` or `sweep`.
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
    /// Whether a policy that was asked gave no verdict.
    pub fn failed(&self) -> bool {
        self.steps.iter().any(|step| step.error.is_some())
    }
}

/// Matches a text against a pattern in which `*` stands for any text.
///
/// Not with `globset`: there `?`, `[`, `{`, `\` and `**` have a meaning as well, and a pattern becomes a regular expression
/// first. That takes 6 to 21 us each (54 us for a set of eight), and this 0.01 to 0.15 us; scripts call it
/// with patterns that are made while they run.
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
