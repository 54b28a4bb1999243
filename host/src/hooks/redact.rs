//! Removes secrets from recorded and displayed data.
//!
//! Variables and labels with secret names are secrets, including those in a project's files, and so are secret files.
//! Policies see `***` instead, so a record lacks nothing that a replay needs. The rest are values that policies set
//! or output themselves, and secret values in other places (a command's words, a URL, a log line). These are found by
//! value, in the forms that `forms` produces.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::record::{Draft, Refusal, Step, glob};
use super::{Adjustment, Decision, Outcome, Subject};
use crate::workspace::ContainerSpec;

mod forms;
mod values;

use forms::quoted;
pub use values::Values;

/// The replacement for a secret.
pub const REDACTED: &str = "***";

/// Names of environment variables and labels whose values are secrets: globs with `*`, compared case-insensitively.
#[derive(Debug, Clone, Default)]
pub struct SecretNames(pub Vec<String>);

impl SecretNames {
    /// Returns whether the value of a variable or label is a secret.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| glob(&pattern.to_ascii_uppercase(), &name.to_ascii_uppercase()))
    }

    /// Returns whether a field of a spec holds a secret.
    pub fn contains_field(&self, field: &str) -> bool {
        ["env.", "labels."].iter().any(|group| field.strip_prefix(group).is_some_and(|name| self.contains(name)))
    }

    /// Replaces the values of secret variables or labels.
    pub fn redact_env(&self, env: &mut BTreeMap<String, String>) {
        for (name, value) in env {
            if self.contains(name) {
                REDACTED.clone_into(value);
            }
        }
    }

    /// Removes secrets from a draft, its spec and the history of its fields. It removes secrets by name, and removes
    /// the values in `known` and the values of the draft's own secret variables and labels wherever they occur.
    pub fn redact_draft(&self, draft: &mut Draft, known: &[String]) {
        let mut values: BTreeSet<String> = known.iter().cloned().collect();
        values.extend(self.values_in(&draft.spec, &[]));
        let values = Values::new(values);
        values.take_out_of_spec(&mut draft.spec);
        draft.history.iter_mut().for_each(|change| values.take_out_of_change(change));
        values.take_out_of_names(draft);
        self.redact_env(&mut draft.spec.env);
        self.redact_env(&mut draft.spec.labels);
        for change in &mut draft.history {
            if self.contains_field(&change.field) && !change.value.is_null() {
                change.value = REDACTED.into();
            }
        }
    }

    /// Removes secrets from a record before it is written: by name, and the values in `known` wherever they occur.
    pub fn redact(&self, decision: &mut Decision, known: &[String]) {
        let mut values: BTreeSet<String> = known.iter().cloned().collect();
        self.collect(decision, &mut values);
        self.redact_names(decision);
        let values = Values::new(values);
        if values.0.is_empty() {
            return;
        }
        let Ok(mut json) = serde_json::to_value(&*decision) else { return };
        let text = json.to_string();
        for value in values.0 {
            // Search by value only if the value occurs at all: most decisions contain none.
            if quoted(&value).is_some_and(|quoted| !text.contains(&quoted)) {
                continue;
            }
            let (one, mut clean) = (Values(vec![value]), json.clone());
            if one.take_out_of_record(&mut clean)
                // A value that equals a keyword of the record itself, such as `missing`, stays there.
                && let Ok(rebuilt) = serde_json::from_value(clean.clone())
            {
                (*decision, json) = (rebuilt, clean);
            }
        }
    }

    /// Removes the secrets that a refusal may contain: those that the policies of this decision set.
    pub fn redact_refusal(&self, refusal: &mut Refusal, decisions: &[Decision], known: &[String]) {
        let mut values: BTreeSet<String> = known.iter().cloned().collect();
        for decision in decisions {
            self.collect(decision, &mut values);
        }
        refusal.reason =
            Values::new(values).text(&refusal.reason).unwrap_or_else(|| std::mem::take(&mut refusal.reason));
    }

    fn redact_names(&self, decision: &mut Decision) {
        self.redact_env(&mut decision.input.spec.env);
        self.redact_env(&mut decision.input.spec.labels);
        let labels = &decision.input.facts.workspace.labels;
        if labels.keys().any(|name| self.contains(name)) {
            let facts = std::sync::Arc::make_mut(&mut decision.input.facts);
            self.redact_env(&mut facts.workspace.labels);
        }
        match &mut decision.input.subject {
            Subject::Exec(exec) => self.redact_env(&mut exec.env),
            Subject::Sweep(sweep) => sweep.candidates.iter_mut().for_each(|one| self.redact_env(&mut one.labels)),
            _ => {}
        }
        for step in &mut decision.steps {
            for adjustment in &mut step.adjustments {
                if let Adjustment::Env(name, Some(value)) | Adjustment::Label(name, Some(value)) = adjustment
                    && self.contains(name)
                {
                    REDACTED.clone_into(value);
                }
            }
        }
        for difference in &mut decision.differences {
            if self.contains_field(&difference.field) {
                for value in [&mut difference.from, &mut difference.to] {
                    if !value.is_null() {
                        *value = REDACTED.into();
                    }
                }
            }
        }
        if let Some(began) = &mut decision.began {
            self.redact_env(&mut began.env);
            self.redact_env(&mut began.labels);
        }
        match &mut decision.outcome {
            Outcome::Allowed(spec) => {
                self.redact_env(&mut spec.env);
                self.redact_env(&mut spec.labels);
            }
            Outcome::AllowedExec(exec) => self.redact_env(&mut exec.env),
            _ => {}
        }
    }

    /// Returns the secret values that policies gave, or tried to give, to variables and labels of a spec.
    pub fn values_in(&self, spec: &ContainerSpec, steps: &[Step]) -> BTreeSet<String> {
        let maps = spec.env.iter().chain(&spec.labels);
        let set =
            maps.filter(|(name, value)| self.contains(name) && *value != REDACTED).map(|(_, value)| value.clone());
        let adjusted = steps.iter().flat_map(|step| &step.adjustments).filter_map(|adjustment| match adjustment {
            Adjustment::Env(name, Some(value)) | Adjustment::Label(name, Some(value)) if self.contains(name) => {
                Some(value.clone())
            }
            _ => None,
        });
        set.chain(adjusted).collect()
    }

    /// Replaces the texts under secret names anywhere in a value.
    pub fn redact_json(&self, json: &mut Value) {
        match json {
            Value::Object(map) => {
                for (name, value) in map {
                    if self.contains(name) { blank(value) } else { self.redact_json(value) }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.redact_json(value)),
            _ => {}
        }
    }

    /// Returns the texts that [`SecretNames::redact_json`] replaces.
    pub fn texts_in(&self, json: &Value) -> Vec<String> {
        match json {
            Value::Object(map) => {
                let each = map
                    .iter()
                    .map(|(name, value)| if self.contains(name) { texts(value) } else { self.texts_in(value) });
                each.flatten().collect()
            }
            Value::Array(list) => list.iter().flat_map(|value| self.texts_in(value)).collect(),
            _ => Vec::new(),
        }
    }

    /// Collects the secret values that occur under their names in a decision.
    fn collect(&self, decision: &Decision, values: &mut BTreeSet<String>) {
        let mut of = |map: &BTreeMap<String, String>| {
            values.extend(map.iter().filter(|(name, _)| self.contains(name)).map(|(_, value)| value.clone()));
        };
        of(&decision.input.spec.env);
        of(&decision.input.spec.labels);
        of(&decision.input.facts.workspace.labels);
        if let Subject::Exec(exec) = &decision.input.subject {
            of(&exec.env);
        }
        // The values that shadows would have set are part of their outcome.
        match &decision.outcome {
            Outcome::Allowed(spec) => {
                of(&spec.env);
                of(&spec.labels);
            }
            Outcome::AllowedExec(exec) => of(&exec.env),
            _ => {}
        }
        for step in &decision.steps {
            for adjustment in &step.adjustments {
                if let Adjustment::Env(name, Some(value)) | Adjustment::Label(name, Some(value)) = adjustment
                    && self.contains(name)
                {
                    values.insert(value.clone());
                }
            }
        }
    }
}

fn blank(json: &mut Value) {
    match json {
        Value::String(text) => REDACTED.clone_into(text),
        Value::Object(map) => map.values_mut().for_each(blank),
        Value::Array(list) => list.iter_mut().for_each(blank),
        _ => {}
    }
}

fn texts(json: &Value) -> Vec<String> {
    match json {
        Value::String(text) => vec![text.clone()],
        Value::Object(map) => map.values().flat_map(texts).collect(),
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Places of a record's ids, digests and keywords. They are needed to find and replay the record, and never contain
/// text of a project or a policy.
const FIXED: [&[&str]; 20] = [
    &["id"],
    &["time"],
    &["workspace"],
    &["hook"],
    &["shadow_of"],
    &["owners", "*", "policy"],
    &["input", "hook"],
    &["input", "facts", "workspace", "id"],
    &["outcome", "denied", "policy"],
    &["outcome", "sweep", "id"],
    &["outcome", "sweep", "by"],
    &["steps", "policy"],
    &["steps", "kind"],
    &["steps", "digest"],
    &["steps", "settings_digest"],
    &["steps", "granted"],
    &["steps", "hook"],
    &["steps", "mode"],
    &["steps", "verdict"],
    &["differences", "policy"],
];

/// Places of a record's names, which are needed to find and replay it, and of its keywords. They are not secrets,
/// although a weak secret may occur in them: `postgres` in a workspace's id. `*` is any key; lists do not count.
const NAMES: [&[&str]; 29] = [
    &["id"],
    &["time"],
    &["workspace"],
    &["hook"],
    &["shadow_of"],
    &["owners", "*", "policy"],
    &["owners", "*", "at"],
    &["input", "hook"],
    &["input", "facts", "workspace", "id"],
    &["input", "facts", "workspace", "name"],
    &["input", "facts", "workspace", "project"],
    &["input", "facts", "local_images", "references"],
    &["outcome", "denied", "policy"],
    &["outcome", "denied", "at"],
    // A policy and its action.
    &["outcome", "actions", "actions"],
    &["outcome", "sweep", "id"],
    &["outcome", "sweep", "by"],
    &["steps", "policy"],
    &["steps", "kind"],
    &["steps", "digest"],
    &["steps", "settings_digest"],
    &["steps", "hook"],
    &["steps", "mode"],
    &["steps", "verdict"],
    &["steps", "fields"],
    &["steps", "adjustments", "field"],
    &["steps", "adjustments", "value", "reference"],
    &["differences", "policy"],
    &["differences", "field"],
];

/// The places of names in a container's settings, wherever [`SPECS`] locates such settings in a record.
const SPEC_NAMES: [&[&str]; 5] = [
    &["image", "reference"],
    &["hostname"],
    &["mounts", "*", "source"],
    &["env", "WORKSPACE_ID"],
    &["env", "WORKSPACE_NAME"],
];
const SPECS: [&[&str]; 3] = [&["input", "spec"], &["began"], &["outcome", "allowed"]];

/// Returns whether a text at this place of a record is an id or a keyword.
fn is_fixed(path: &[&str]) -> bool {
    let id = |path: &&[&str]| **path == ["env", "WORKSPACE_ID"] || **path == ["env", "WORKSPACE_NAME"];
    among(&FIXED, path) || SPECS.iter().filter_map(|spec| path.strip_prefix(*spec)).any(|path| id(&path))
}

/// Returns whether a text at this place of a record is a name.
fn is_name(path: &[&str]) -> bool {
    among(&NAMES, path) || SPECS.iter().filter_map(|spec| path.strip_prefix(*spec)).any(is_spec_name)
}

/// Returns whether a text at this place of a container's settings is a name.
fn is_spec_name(path: &[&str]) -> bool {
    among(&SPEC_NAMES, path)
}

/// Returns whether a text of a container's settings is free text: no policy and no check interprets it.
fn is_free(path: &[&str]) -> bool {
    let group = path.first().copied().unwrap_or_default();
    (["env", "labels", "command", "health_check"].contains(&group) || path == ["image", "reason"])
        && !is_spec_name(path)
}

/// Returns whether only a value that cannot be a word is removed from a text of a container's settings.
fn is_word(path: &[&str]) -> bool {
    [["user"], ["working_dir"], ["hostname"]].iter().any(|word| path == word)
}

fn among(names: &[&[&str]], path: &[&str]) -> bool {
    let is = |name: &&[&str]| {
        name.len() == path.len() && name.iter().zip(path).all(|(name, key)| *name == "*" || name == key)
    };
    names.iter().any(is)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::hooks::record::{Difference, StepError, VERSION};
    use crate::hooks::{ExecSpec, Hook, HookRequest, PolicyKind, Step};

    #[test]
    fn a_secret_reaches_no_part_of_a_record() {
        let secrets = SecretNames(vec!["*token*".into()]);
        let mut spec = crate::hooks::chain::tests::spec();
        spec.env.insert("GITHUB_TOKEN".into(), "hunter-env".into());
        spec.labels.insert("my.token".into(), "hunter-label".into());
        let mut facts = crate::hooks::Facts::default();
        facts.workspace.labels.insert("my.token".into(), "hunter-label".into());
        let input = HookRequest {
            hook: Hook::PreExec,
            now_ms: 1,
            facts: std::sync::Arc::new(facts),
            spec: spec.clone(),
            subject: Subject::Exec(ExecSpec {
                command: vec!["curl".into(), "-H".into(), "Bearer hunter-exec".into()],
                env: [("TOKEN".to_owned(), "hunter-exec".to_owned())].into(),
                ..Default::default()
            }),
        };
        let mut decision = Decision {
            version: VERSION,
            id: Uuid::nil(),
            time: Timestamp::UNIX_EPOCH,
            hook: Hook::PreExec,
            workspace: "w".into(),
            input,
            owners: BTreeMap::new(),
            began: None,
            paths: Default::default(),
            shadow_of: None,
            differences: vec![Difference {
                policy: "p".into(),
                field: "env.B_TOKEN".into(),
                from: Value::Null,
                to: "hunter-shadow".into(),
                about: None,
            }],
            steps: vec![Step {
                adjustments: vec![Adjustment::Env("A_TOKEN".into(), Some("hunter-policy".into()))],
                logs: vec!["I set hunter-policy".into()],
                error: Some(StepError {
                    means: None,
                    code: "script".into(),
                    message: "bad".into(),
                    detail: Some("3 | ctx.spec.env.A_TOKEN = \"hunter-policy\"".into()),
                    marked: true,
                }),
                ..Step::empty("p", PolicyKind::Script, Hook::PreExec)
            }],
            conflicts: vec!["'a' set env.A_TOKEN to \"hunter-policy\"".into()],
            violations: vec![],
            outcome: Outcome::Allowed(Box::new(spec)),
        };
        secrets.redact(&mut decision, &["hunter-given".into()]);
        let text = serde_json::to_string(&decision).unwrap();
        assert!(!text.contains("hunter") && text.contains("Bearer ***"), "{text}");
    }

    #[test]
    fn a_weak_secret_leaves_the_record_to_be_found_and_the_shadows_to_be_asked() {
        let secrets = SecretNames(vec!["*password*".into()]);
        let mut spec = crate::hooks::chain::tests::spec();
        spec.env.insert("DB_PASSWORD".into(), "postgres".into());
        spec.env.insert("APP_PASSWORD".into(), "missing".into());
        spec.env.insert("KEY_PASSWORD".into(), "two\nlines \"quoted\"".into());
        spec.command = vec!["psql".into(), "-U".into(), "postgres".into()];
        spec.hostname = "postgres-1a2b3c".into();
        spec.env.insert("WORKSPACE_ID".into(), "postgres-1a2b3c".into());
        let mut facts = crate::hooks::Facts::default();
        facts.workspace.id = "postgres-1a2b3c".into();
        let input = HookRequest {
            hook: Hook::PreCreate,
            now_ms: 1,
            facts: std::sync::Arc::new(facts),
            spec: spec.clone(),
            subject: Subject::Container,
        };
        let said = serde_json::to_string("two\nlines \"quoted\"").unwrap();
        let mut decision = Decision {
            version: VERSION,
            id: Uuid::nil(),
            time: Timestamp::UNIX_EPOCH,
            hook: Hook::PreCreate,
            workspace: "postgres-1a2b3c".into(),
            input,
            owners: BTreeMap::new(),
            began: None,
            paths: Default::default(),
            shadow_of: None,
            differences: vec![],
            steps: vec![Step::empty("postgres", PolicyKind::Script, Hook::PreCreate)],
            conflicts: vec![format!("'a' set env.X to {said}")],
            violations: vec![],
            outcome: Outcome::Allowed(Box::new(spec)),
        };
        secrets.redact(&mut decision, &[]);
        assert_eq!((decision.workspace.as_str(), decision.steps[0].policy.as_str()), ("postgres-1a2b3c", "postgres"));
        assert_eq!(decision.input.facts.workspace.id, "postgres-1a2b3c");
        // A replay compares it with the id.
        assert_eq!(decision.input.spec.hostname, "postgres-1a2b3c");
        assert_eq!(decision.input.spec.env["WORKSPACE_ID"], "postgres-1a2b3c");
        let Outcome::Allowed(allowed) = &decision.outcome else { panic!("{:?}", decision.outcome) };
        assert_eq!((allowed.hostname.as_str(), allowed.command.last().unwrap().as_str()), ("postgres-1a2b3c", "***"));
        assert_eq!(decision.input.spec.command, ["psql", "-U", "***"]);
        assert!(!decision.conflicts[0].contains("lines"), "{}", decision.conflicts[0]);
    }

    #[test]
    fn a_value_in_a_name_is_told_unless_it_is_a_word_and_never_kept() {
        let mut spec = crate::hooks::chain::tests::spec();
        spec.image = Some(crate::workspace::ImageChoice {
            reference: "registry/hunter22:postgres".into(),
            pull: Default::default(),
            reason: String::new(),
        });
        spec.tmpfs.insert("/run/hunter22".into(), Default::default());
        spec.labels.insert("of-hunter22".into(), "x".into());
        spec.user = Some("hunter22".into());
        let values = |all: &[&str]| Values::new(all.iter().map(|value| (*value).to_owned()).collect());
        assert_eq!(values(&["hunter22"]).names_with(&spec), ["image", "tmpfs./run/***", "labels.of-***"]);
        assert_eq!(values(&["postgres"]).names_with(&spec), Vec::<String>::new());
        let mut draft = Draft::new(spec);
        draft.owners.insert("tmpfs./run/hunter22".into(), crate::hooks::record::Owner::host("request", None));
        SecretNames::default().redact_draft(&mut draft, &["hunter22".to_owned(), "postgres".to_owned()]);
        let kept = serde_json::to_string(&draft).unwrap();
        assert!(!kept.contains("hunter22") && kept.contains("registry/***:postgres"), "{kept}");
        assert_eq!(draft.spec.user.as_deref(), Some("***"));
    }

    #[test]
    fn texts_under_secret_names_are_found_at_every_depth_of_settings() {
        let names = SecretNames(vec!["*token*".into()]);
        let mut settings =
            serde_json::json!({ "a": [{ "api_token": { "b": ["one", 2] } }], "token": "two", "c": "three" });
        assert_eq!(names.texts_in(&settings), ["one", "two"]);
        names.redact_json(&mut settings);
        assert_eq!(
            settings,
            serde_json::json!({ "a": [{ "api_token": { "b": ["***", 2] } }], "token": "***", "c": "three" })
        );
    }

    #[test]
    fn a_short_value_is_taken_out_by_name_only() {
        let values = Values::new(["abc".to_owned(), "longer".to_owned(), "longer-still".to_owned()].into());
        assert_eq!(values.text("abc longer longer-still").as_deref(), Some("abc *** ***"));
        assert_eq!(values.text("abc"), None);
    }
}
