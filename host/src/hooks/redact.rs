//! Taking secrets out of what is recorded and shown.
//!
//! Variables and labels whose names say so are secrets, those in the files of a project too. Policies see `***` in their
//! place, so a record loses nothing that a replay needs. What remains is what policies set and say themselves, and secret values that stand in other
//! places (a command's words, a log line): these are found by value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::record::{Draft, Refusal, glob};
use super::{Adjustment, Decision, Outcome, Subject};

/// What stands in the place of a secret.
pub const REDACTED: &str = "***";

/// Shorter values are taken out by name only: as a part of another text they would be found everywhere.
const LEAST_BYTES: usize = 6;

/// Names of environment variables and labels whose values are secrets: globs with `*`, compared without case.
#[derive(Debug, Clone, Default)]
pub struct SecretNames(pub Vec<String>);

impl SecretNames {
    /// Whether the value of a variable or label is a secret.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| glob(&pattern.to_ascii_uppercase(), &name.to_ascii_uppercase()))
    }

    /// Whether a field of a spec holds a secret.
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

    /// Takes secrets out of a draft: its spec and the history of its fields.
    pub fn redact_draft(&self, draft: &mut Draft) {
        self.redact_env(&mut draft.spec.env);
        self.redact_env(&mut draft.spec.labels);
        for change in &mut draft.history {
            if self.contains_field(&change.field) && !change.value.is_null() {
                change.value = REDACTED.into();
            }
        }
    }

    /// Takes secrets out of a record before it is written: by name, and the values in `known` wherever they stand.
    pub fn redact(&self, decision: &mut Decision, known: &[String]) {
        let mut values: BTreeSet<String> = known.iter().cloned().collect();
        self.collect(decision, &mut values);
        self.redact_names(decision);
        let values = Values::new(values);
        if values.0.is_empty() {
            return;
        }
        // By value only where one stands somewhere: most decisions have none.
        let Ok(mut json) = serde_json::to_value(&*decision) else { return };
        if values.take_out(&mut json)
            && let Ok(clean) = serde_json::from_value(json)
        {
            *decision = clean;
        }
    }

    /// The secrets that a refusal may name: those that the policies of this decision set.
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

    /// The secret values that stand in a decision under their names.
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
        // What shadows would have set is known from what they would have come to.
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

/// Secret values, the longest first: one may be a part of another.
pub struct Values(Vec<String>);

impl Values {
    /// Those that are long enough to be told from other text.
    pub fn new(values: BTreeSet<String>) -> Self {
        let mut values: Vec<_> = values.into_iter().filter(|value| value.len() >= LEAST_BYTES).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// The text without them; none when it has none.
    pub fn text(&self, text: &str) -> Option<String> {
        let mut clean: Option<String> = None;
        for value in &self.0 {
            let now = clean.as_deref().unwrap_or(text);
            if now.contains(value.as_str()) {
                clean = Some(now.replace(value.as_str(), REDACTED));
            }
        }
        clean
    }

    /// Takes them out of every text of a value. Says whether there was one. Names of fields stay as they are.
    pub fn take_out(&self, json: &mut Value) -> bool {
        match json {
            Value::String(text) => match self.text(text) {
                Some(clean) => {
                    *text = clean;
                    true
                }
                None => false,
            },
            Value::Array(list) => list.iter_mut().filter_map(|one| self.take_out(one).then_some(())).count() > 0,
            Value::Object(map) => map.values_mut().filter_map(|one| self.take_out(one).then_some(())).count() > 0,
            _ => false,
        }
    }
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
            shadows: Default::default(),
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
    fn a_short_value_is_taken_out_by_name_only() {
        let values = Values::new(["abc".to_owned(), "longer".to_owned(), "longer-still".to_owned()].into());
        assert_eq!(values.text("abc longer longer-still").as_deref(), Some("abc *** ***"));
        assert_eq!(values.text("abc"), None);
    }
}
