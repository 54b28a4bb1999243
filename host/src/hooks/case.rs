//! Golden cases of policies: an input and the expected result, one case per file. `wharf policy test` runs them, and
//! `wharf audit show --as-case` creates one from a recorded decision.
//!
//! A case contains only the relevant values. Omitted parts of `facts`, `spec` and `subject` have their usual values,
//! and only the keys in `expect` are compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::record::{Owner, VERSION};
use super::validate::FoundPaths;
use super::{
    Action, Caller, CallerRole, Chain, Decision, Door, ExecSpec, Facts, FolderOwner, Hook, HookRequest, LocalTime,
    Outcome, Subject, adjust,
};
use crate::workspace::{ContainerSpec, ImageChoice};

/// The keys that `expect` may contain.
pub const EXPECTED: [&str; 11] = [
    "outcome",
    "policy",
    "code",
    "reason",
    "changed",
    "actions",
    "delay_ms",
    "sweep",
    "failed",
    "conflicts",
    "violations",
];

/// A golden case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The purpose of the case, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The recorded decision that it was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<uuid::Uuid>,
    /// The hook.
    pub hook: Hook,
    /// Names of the policies to call, in the order of the chain; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The time of the decision in milliseconds since 1970.
    #[serde(default = "usual_time")]
    pub now_ms: u64,
    /// The differences from the usual facts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
    /// The differences from the usual spec.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub spec: Map<String, Value>,
    /// The differences from the hook's usual subject: the command for `pre-exec`, the candidates for `cleanup`, ...
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub subject: Map<String, Value>,
    /// Field -> its owner before the decision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<String, Owner>,
    /// The spec before the first create hook, if different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Value>,
    /// The targets of host paths; other paths are used unchanged.
    #[serde(default, skip_serializing_if = "FoundPaths::is_empty")]
    pub paths: FoundPaths,
    /// The expected result.
    pub expect: Map<String, Value>,
}

/// A key of the result with an unexpected value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// The key; for `changed` with the field: `changed.env.TEAM`.
    pub what: String,
    /// The expected value; null if none was expected.
    pub expected: Value,
    /// The actual value; null if there is none.
    pub actual: Value,
}

/// Returns 2026-01-01, noon.
fn usual_time() -> u64 {
    1_767_268_800_000
}

impl Case {
    /// Creates a case that matches a recorded decision.
    pub fn of(decision: &Decision) -> Self {
        let map = |value: Value| if let Value::Object(map) = value { map } else { Map::new() };
        let input = &decision.input;
        Self {
            about: format!("{} of {} at {}", decision.hook, decision.workspace, decision.time),
            from: Some(decision.id),
            hook: decision.hook,
            policies: Vec::new(),
            now_ms: input.now_ms,
            facts: map(json!(input.facts.as_ref())),
            spec: map(json!(input.spec)),
            subject: map(plain_subject(&input.subject)),
            owners: decision.owners.clone(),
            began: decision.began.as_ref().map(|spec| json!(spec)),
            paths: decision.paths.clone(),
            expect: result(decision),
        }
    }

    /// Returns the input of the case, in the form of a record.
    ///
    /// # Errors
    /// One line that names the invalid key.
    pub fn record(&self) -> Result<Decision, String> {
        if let Some(unknown) = self.expect.keys().find(|key| !EXPECTED.contains(&key.as_str())) {
            return Err(format!("expect.{unknown} is unknown; the keys are {}", EXPECTED.join(", ")));
        }
        if self.expect.is_empty() {
            return Err("expect is empty: such a case cannot fail".into());
        }
        let facts: Facts = over("facts", json!(usual_facts()), &self.facts)?;
        let spec: ContainerSpec = over("spec", json!(usual_spec()), &self.spec)?;
        let subject = self.subject()?;
        let input = HookRequest { hook: self.hook, now_ms: self.now_ms, facts: Arc::new(facts), spec, subject };
        Ok(Decision {
            version: VERSION,
            id: self.from.unwrap_or_default(),
            time: jiff::Timestamp::UNIX_EPOCH,
            hook: self.hook,
            workspace: input.facts.workspace.id.clone(),
            outcome: Outcome::Allowed(Box::new(input.spec.clone())),
            input,
            owners: self.owners.clone(),
            began: self
                .began
                .clone()
                .map(serde_json::from_value)
                .transpose()
                .map_err(|error| format!("began: {error}"))?,
            paths: self.paths.clone(),
            shadow_of: None,
            differences: Vec::new(),
            steps: Vec::new(),
            conflicts: Vec::new(),
            violations: Vec::new(),
        })
    }

    /// Runs the case. Returns the mismatches; an empty list means that the case passes.
    ///
    /// # Errors
    /// An error if the case is invalid, or names a policy that is not in the chain.
    pub fn run(&self, chain: &Chain) -> Result<Vec<Mismatch>, String> {
        let record = self.record()?;
        let chain = if self.policies.is_empty() { chain.clone() } else { chain.only(&self.policies)? };
        let asked = chain.entries().iter().any(|entry| entry.hooks.contains(&self.hook));
        if !asked && !self.policies.is_empty() {
            return Err(format!("none of {} implements the hook {}", self.policies.join(", "), self.hook));
        }
        Ok(mismatches(&self.expect, &result(&chain.again(&record))))
    }

    fn subject(&self) -> Result<Subject, String> {
        let given = &self.subject;
        let one = |name: &str, usual: Value| over::<Map<String, Value>>("subject", json!({ name: usual }), given);
        Ok(match self.hook {
            Hook::SelectImage => Subject::Image { requested: flag(&one("requested", false.into())?, "requested")? },
            Hook::SecurityProfile | Hook::PreCreate => {
                if let Some(key) = given.keys().next() {
                    return Err(format!("subject.{key}: {} has no subject", self.hook));
                }
                Subject::Container
            }
            Hook::PostStart => Subject::Start { first_start: flag(&one("first_start", true.into())?, "first_start")? },
            Hook::PreExec => {
                let usual = ExecSpec { command: vec!["true".into()], ..ExecSpec::default() };
                Subject::Exec(over("subject", json!(usual), given)?)
            }
            Hook::PreStop => {
                let verb = one("verb", "stop".into())?.get("verb").and_then(Value::as_str).map(str::to_owned);
                Subject::Stop { verb: verb.ok_or("subject.verb must be one of stop, restart, kill and remove")? }
            }
            Hook::Event => {
                Subject::Event(over("subject", json!({ "kind": "exited", "exit_code": null, "detail": "" }), given)?)
            }
            Hook::Cleanup => {
                let mut given = given.clone();
                if let Some(Value::Array(candidates)) = given.get_mut("candidates") {
                    for candidate in candidates {
                        let mut whole = usual_candidate();
                        merge(&mut whole, candidate);
                        *candidate = whole;
                    }
                }
                Subject::Sweep(over("subject", json!(super::SweepFacts::default()), &given)?)
            }
        })
    }
}

fn flag(map: &Map<String, Value>, name: &str) -> Result<bool, String> {
    map.get(name).and_then(Value::as_bool).ok_or_else(|| format!("subject.{name} must be true or false"))
}

/// Overlays the given values on the usual ones. Unknown names are errors, except in maps with free keys.
fn over<T: serde::de::DeserializeOwned + Serialize>(
    group: &str,
    usual: Value,
    given: &Map<String, Value>,
) -> Result<T, String> {
    let mut whole = usual;
    merge(&mut whole, &Value::Object(given.clone()));
    let read: T = serde_path_to_error::deserialize(&whole)
        .map_err(|error| format!("{group}.{}: {}", error.path(), error.inner()))?;
    // Fields unknown to the type are lost in the round trip. A typo must not count as "not given".
    let back = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    match lost(&whole, &back) {
        Some(path) => Err(format!("{group}.{path} is unknown")),
        None => Ok(read),
    }
}

fn lost(whole: &Value, back: &Value) -> Option<String> {
    match (whole, back) {
        (Value::Object(whole), Value::Object(back)) => whole.iter().find_map(|(key, value)| match back.get(key) {
            Some(back) => lost(value, back).map(|path| format!("{key}.{path}")),
            None if value.is_null() => None,
            None => Some(key.clone()),
        }),
        (Value::Array(whole), Value::Array(back)) => whole
            .iter()
            .zip(back)
            .enumerate()
            .find_map(|(index, (a, b))| lost(a, b).map(|path| format!("{index}.{path}"))),
        _ => None,
    }
}

fn merge(whole: &mut Value, given: &Value) {
    match (whole, given) {
        (Value::Object(whole), Value::Object(given)) => {
            for (key, value) in given {
                merge(whole.entry(key).or_insert(Value::Null), value);
            }
        }
        (whole, given) => whole.clone_from(given),
    }
}

fn usual_facts() -> Facts {
    let mut facts = Facts::default();
    facts.workspace.id = "case-000000".into();
    facts.workspace.name = "case".into();
    facts.workspace.project = "/case".into();
    facts.workspace.owner = Some(FolderOwner { uid: 1000, gid: 1000 });
    // The usual time in UTC: Thursday at noon.
    facts.local_time = Some(LocalTime { minute: 12 * 60, weekday: 4 });
    facts.caller =
        Some(Caller { name: "user 1000".into(), uid: Some(1000), role: CallerRole::Admin, door: Door::CommandLine });
    facts
}

/// Returns the initial spec of a workspace without any configuration or request.
fn usual_spec() -> ContainerSpec {
    let image = ImageChoice { reference: "debian:stable-slim".into(), pull: Default::default(), reason: String::new() };
    let mut spec = ContainerSpec { image: Some(image), command: vec!["sh".into()], ..ContainerSpec::empty() };
    spec.working_dir = "/workspace".into();
    spec.hostname = "case-000000".into();
    spec.network = crate::workspace::Network::Shared;
    spec.security.read_only_root = false;
    spec.resources.cpus = 2.0;
    spec.resources.memory = 2 << 30;
    spec.resources.pids = 512;
    spec.security.no_new_privileges = true;
    spec.security.seccomp = "default".into();
    spec.security.capabilities =
        ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"].map(str::to_owned).into();
    spec
}

fn usual_candidate() -> Value {
    json!({
        "kind": "workspace", "id": "", "name": "", "project": "", "labels": {}, "state": "exited", "used": false,
        "exit_code": 0, "created_ms": 0, "started_ms": 0, "finished_ms": 0, "last_activity_ms": null, "size": null,
    })
}

fn plain_subject(subject: &Subject) -> Value {
    match subject {
        Subject::Image { requested } => json!({ "requested": requested }),
        Subject::Container => json!({}),
        Subject::Start { first_start } => json!({ "first_start": first_start }),
        Subject::Exec(exec) => json!(exec),
        Subject::Stop { verb } => json!({ "verb": verb }),
        Subject::Event(event) => json!(event),
        Subject::Sweep(sweep) => json!(sweep),
    }
}

/// Returns the result of a decision, in the keys of `expect`.
pub fn result(decision: &Decision) -> Map<String, Value> {
    let mut found = Map::new();
    let mut put = |key: &str, value: Value| drop(found.insert(key.to_owned(), value));
    put("outcome", decision.outcome.word().into());
    let fields = |edits: Vec<adjust::Adjustment>| -> Map<String, Value> {
        edits.iter().map(|edit| (edit.field(), edit.value())).collect()
    };
    match &decision.outcome {
        Outcome::Allowed(spec) => put("changed", fields(adjust::diff(&decision.input.spec, spec)).into()),
        Outcome::AllowedExec(after) => {
            if let Subject::Exec(before) = &decision.input.subject {
                put("changed", fields(adjust::diff_exec(before, after)).into());
            }
        }
        Outcome::Denied(refusal) => {
            put("policy", refusal.policy.as_str().into());
            put("code", refusal.code.as_str().into());
            put("reason", refusal.reason.as_str().into());
        }
        Outcome::Actions { actions, delay_ms } => {
            let shown = actions.iter().map(|(policy, action)| match action {
                Action::Run { command, timeout_ms } => {
                    json!({ "policy": policy, "run": command, "timeout_ms": timeout_ms })
                }
                Action::Note(text) => json!({ "policy": policy, "note": text }),
                Action::Stop(why) => json!({ "policy": policy, "stop": why }),
            });
            put("actions", shown.collect());
            put("delay_ms", (*delay_ms).into());
        }
        Outcome::Sweep(verdicts) => {
            let choices: Map<_, _> =
                verdicts.iter().map(|verdict| (verdict.id.clone(), json!(verdict.choice))).collect();
            put("sweep", choices.into());
        }
    }
    let failed: Map<String, Value> = decision
        .steps
        .iter()
        .filter_map(|step| Some((step.policy.clone(), step.error.as_ref()?.code.as_str().into())))
        .collect();
    put("failed", failed.into());
    put("conflicts", json!(decision.conflicts));
    put("violations", json!(decision.violations));
    found
}

fn mismatches(expect: &Map<String, Value>, actual: &Map<String, Value>) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for (key, expected) in expect {
        let is = actual.get(key).cloned().unwrap_or_default();
        match (expected, &is) {
            // Maps are compared entry by entry, so that each line of the difference is one field.
            (Value::Object(expected), Value::Object(actual)) => {
                let keys: std::collections::BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
                for name in keys.into_iter().filter(|name| expected.get(*name) != actual.get(*name)) {
                    found.push(Mismatch {
                        what: format!("{key}.{name}"),
                        expected: expected.get(name).cloned().unwrap_or_default(),
                        actual: actual.get(name).cloned().unwrap_or_default(),
                    });
                }
            }
            (expected, is) if expected == is => {}
            (expected, _) => {
                found.push(Mismatch { what: key.clone(), expected: expected.clone(), actual: is });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::chain::tests::{chain_of, entry};
    use crate::hooks::{Adjustment, Verdict};

    fn case(json: Value) -> Case {
        serde_json::from_value(json).unwrap()
    }

    fn chain() -> Chain {
        chain_of(vec![
            entry("a", Hook::PreCreate, |request| {
                let name = request.facts.workspace.name.clone();
                Verdict::Adjust(vec![Adjustment::Env("NAME".into(), Some(name)), Adjustment::Memory(1 << 30)])
            }),
            entry("b", Hook::PreCreate, |_| Verdict::Adjust(vec![Adjustment::Pids(100)])),
        ])
    }

    #[test]
    fn a_case_says_only_what_matters_and_a_mismatch_names_the_field() {
        let short = |expect: Value| {
            case(json!({
                "hook": "pre-create", "policies": ["a"], "facts": { "workspace": { "name": "shop" } },
                "expect": expect,
            }))
        };
        let good = short(json!({ "changed": { "env.NAME": "shop", "resources.memory": 1 << 30 } }));
        // The usual spec has capabilities that these invariants do not allow.
        let good = Case { spec: json!({ "security": { "capabilities": [] } }).as_object().unwrap().clone(), ..good };
        assert_eq!(good.run(&chain()), Ok(vec![]));
        let bad = Case { expect: short(json!({ "changed": { "env.NAME": "x" } })).expect, ..good };
        let told = bad.run(&chain()).unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].what.as_str(), &told[0].actual), ("changed.env.NAME", &json!("shop")));
        assert_eq!((told[1].what.as_str(), &told[1].expected), ("changed.resources.memory", &Value::Null));
    }

    #[test]
    fn a_case_that_makes_no_sense_is_refused_with_the_key() {
        for (json, part) in [
            (json!({ "hook": "pre-create", "expect": {} }), "cannot fail"),
            (json!({ "hook": "pre-create", "expect": { "verdict": "x" } }), "expect.verdict is unknown"),
            (json!({ "hook": "pre-create", "spec": { "memroy": 1 }, "expect": { "outcome": "x" } }), "spec.memroy"),
            (
                json!({ "hook": "pre-create", "spec": { "resources": { "memory": "x" } }, "expect": { "outcome": "x" } }),
                "spec.resources.memory",
            ),
            (
                json!({ "hook": "pre-create", "facts": { "workspace": { "nmae": "" } }, "expect": { "outcome": "x" } }),
                "facts.workspace.nmae",
            ),
            (json!({ "hook": "pre-create", "subject": { "x": 1 }, "expect": { "outcome": "x" } }), "has no subject"),
            (json!({ "hook": "pre-create", "policies": ["zz"], "expect": { "outcome": "x" } }), "'zz'"),
            (json!({ "hook": "post-start", "policies": ["a"], "expect": { "outcome": "x" } }), "none of a implements"),
        ] {
            let error = case(json.clone()).run(&chain()).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn a_recorded_decision_is_a_case_that_holds_with_the_same_chain() {
        let whole = case(json!({
            "hook": "pre-create", "spec": { "security": { "capabilities": [] } }, "expect": { "outcome": "allowed" },
        }));
        let record = chain().again(&whole.record().unwrap());
        let made = Case::of(&record);
        let text = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<Case>(&text).unwrap().run(&chain()), Ok(vec![]));
        for hook in Hook::ALL {
            let case = case(json!({ "hook": hook, "expect": { "outcome": "x" } }));
            let record = case.record().unwrap();
            assert_eq!(Case::of(&record).record().unwrap().input, record.input, "{hook}");
        }
    }
}
