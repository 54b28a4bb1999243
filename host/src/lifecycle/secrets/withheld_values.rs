//! Secrets of a request and of the configuration, which bypass the policies: a draft contains `***` in their place, and
//! only the container gets them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::devcontainer::Commands;
use crate::hooks::ExecSpec;
use crate::hooks::record::Draft;
use crate::hooks::redact::{REDACTED, SecretNames, Values};
use crate::lifecycle::Error;
use crate::workspace::ContainerSpec;

/// Real values of secrets; a draft, and with it every policy and record, contains `***`.
#[derive(Default)]
pub(in crate::lifecycle) struct Withheld {
    pub(in crate::lifecycle) env: BTreeMap<String, String>,
    pub(in crate::lifecycle) labels: BTreeMap<String, String>,
    /// The texts of secret files.
    pub(in crate::lifecycle) files: Vec<String>,
    /// Secret inputs of policies besides their normal input.
    pub(in crate::lifecycle) policies: Vec<String>,
    /// The displayed and the real settings, if some of their texts contain a secret value.
    texts: Option<Box<(ContainerSpec, ContainerSpec)>>,
}

impl Withheld {
    /// Removes secret values from the texts of a draft that policies, records and people would see.
    pub(in crate::lifecycle) fn hide(&mut self, draft: &mut Draft, secrets: &SecretNames) {
        let real = draft.spec.clone();
        secrets.redact_draft(draft, &self.values());
        if draft.spec != real {
            self.texts = Some(Box::new((draft.spec.clone(), real)));
        }
    }

    /// Returns all values, to keep them out of other texts.
    pub(in crate::lifecycle) fn values(&self) -> Vec<String> {
        let given = self.env.values().chain(self.labels.values());
        given.chain(&self.files).chain(&self.policies).cloned().collect()
    }

    /// Refuses settings with a value in a place where it cannot be removed: the engine needs a name unchanged, and
    /// every user who lists containers sees it.
    ///
    /// # Errors
    /// [`Error::Request`] with the field, the owner of the value, and a remedy.
    pub(in crate::lifecycle) fn refuse_names(&self, spec: &ContainerSpec) -> Result<(), Error> {
        match Values::of(&self.values()).names_with(spec).first() {
            Some(field) => {
                Err(Error::Request(in_name(field, &self.whose(|values| !values.names_with(spec).is_empty()))))
            }
            None => Ok(()),
        }
    }

    /// Refuses commands of a project's file with a value that cannot be removed. Their record has the names of
    /// variables in place of their values, but nothing in place of other values.
    ///
    /// # Errors
    /// [`Error::ProjectFile`] with the command, the owner of the value, and a remedy.
    pub(in crate::lifecycle) fn refuse_commands(&self, file: &str, commands: &Commands) -> Result<(), Error> {
        let mut kept = commands.clone();
        kept.hide(&self.env);
        let stands = |values: &Values, words: &[String]| {
            let telling = values.telling();
            words.iter().any(|word| telling.stand_in(word))
        };
        let all = Values::of(&self.values());
        let user: Vec<String> = kept.user.iter().cloned().collect();
        let each = kept.once.iter().chain(&kept.each_start).map(|command| (command.property.as_str(), &command.words));
        match each.chain([("remoteUser", &user)]).find(|(_, words)| stands(&all, words)) {
            Some((property, words)) => {
                let whose = self.whose(|values| stands(values, words));
                Err(Error::ProjectFile(format!(
                    "{file}: {property} contains the value of {whose}, but commands are stored and shown; read the \
                     variable, or the file in /run/secrets, inside the command"
                )))
            }
            None => Ok(()),
        }
    }

    /// Returns the owner of the value that a test finds.
    fn whose(&self, found: impl Fn(&Values) -> bool) -> String {
        let is = |value: &String| found(&Values::of(std::slice::from_ref(value)));
        let named = self.env.iter().chain(&self.labels).find(|(_, value)| is(value));
        match named {
            Some((name, _)) => format!("the secret {name}"),
            None if self.files.iter().any(is) => "a secret file".to_owned(),
            None => "a secret of a policy".to_owned(),
        }
    }

    /// Fills the values into a spec. A policy may have replaced or removed one; only values whose placeholder remains
    /// are filled in.
    pub(in crate::lifecycle) fn fill_in(&self, spec: &mut ContainerSpec) {
        if let Some((shown, real)) = self.texts.as_deref() {
            fill_in(spec, shown, real);
        }
        for (shown, real) in [(&mut spec.env, &self.env), (&mut spec.labels, &self.labels)] {
            for (name, value) in shown.iter_mut().filter(|(_, value)| *value == REDACTED) {
                if let Some(real) = real.get(name) {
                    value.clone_from(real);
                }
            }
        }
    }
}

/// Returns the message about a value in a name, in one line.
pub(in crate::lifecycle) fn in_name(field: &str, whose: &str) -> String {
    format!(
        "{field}: it contains the value of {whose}, but names are stored, shown and passed to the engine unchanged; \
         choose another name, or another value"
    )
}

/// A command as policies may see it, and with its real values.
pub(in crate::lifecycle) struct WithheldExec {
    pub(in crate::lifecycle) shown: ExecSpec,
    real: ExecSpec,
}

impl WithheldExec {
    /// Hides the values of secret variables, and `values` in the other texts.
    pub(in crate::lifecycle) fn hide(exec: ExecSpec, secrets: &SecretNames, values: &[String]) -> Self {
        let (mut shown, values) = (exec.clone(), Values::of(values));
        secrets.redact_env(&mut shown.env);
        for text in shown.env.values_mut().chain(&mut shown.command).chain(&mut shown.working_dir) {
            values.clean(text);
        }
        // A short word may match a user's name by chance.
        shown.user.iter_mut().for_each(|user| values.telling().clean(user));
        Self { shown, real: exec }
    }

    /// Restores the real texts where policies left the displayed ones.
    pub(in crate::lifecycle) fn fill_in(&self, exec: &mut ExecSpec) {
        fill_in(exec, &self.shown, &self.real);
    }
}

/// Replaces the texts of a value that still equal the displayed ones with the real ones.
fn fill_in<T: serde::Serialize + serde::de::DeserializeOwned>(value: &mut T, shown: &T, real: &T) {
    let json = |value: &T| serde_json::to_value(value);
    if let (Ok(mut filled), Ok(shown), Ok(real)) = (json(value), json(shown), json(real)) {
        fill(&mut filled, &shown, &real);
        if let Ok(filled) = serde_json::from_value(filled) {
            *value = filled;
        }
    }
}

fn fill(value: &mut Value, shown: &Value, real: &Value) {
    if value == shown {
        return value.clone_from(real);
    }
    match (value, shown, real) {
        (Value::Object(value), Value::Object(shown), Value::Object(real)) => {
            for (name, value) in value {
                if let (Some(shown), Some(real)) = (shown.get(name), real.get(name)) {
                    fill(value, shown, real);
                }
            }
        }
        // Words that a policy inserted before or between them moved the others.
        (Value::Array(value), Value::Array(shown), Value::Array(real)) => {
            for word in value {
                let mut places = shown.iter().zip(real).filter(|(shown, real)| *shown == word && shown != real);
                // If two placeholders look alike but stand for different values, neither is filled in.
                if let Some((_, first)) = places.next()
                    && places.all(|(_, other)| other == first)
                {
                    word.clone_from(first);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(words: &[&str]) -> ExecSpec {
        ExecSpec { command: words.iter().map(|word| (*word).to_owned()).collect(), ..ExecSpec::default() }
    }

    #[test]
    fn policies_see_no_value_and_what_they_leave_is_filled_in_again() {
        let secrets = SecretNames(vec!["*token*".into()]);
        let mut asked = exec(&["curl", "-H", "Bearer hunter2-long", "aHVudGVyMi1sb25n"]);
        asked.env = [("A_TOKEN", "hunter2-long"), ("URL", "http://u:hunter2-long@h")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let withheld = WithheldExec::hide(asked.clone(), &secrets, &["hunter2-long".to_owned()]);
        assert_eq!(withheld.shown.command, ["curl", "-H", "Bearer ***", "***"]);
        assert_eq!(withheld.shown.env["URL"], "http://u:***@h");
        let mut same = withheld.shown.clone();
        withheld.fill_in(&mut same);
        assert_eq!(same, asked);
        let mut more = withheld.shown.clone();
        more.command.insert(0, "nice".into());
        more.env.insert("URL".into(), "http://other".into());
        withheld.fill_in(&mut more);
        assert_eq!(more.command, ["nice", "curl", "-H", "Bearer hunter2-long", "aHVudGVyMi1sb25n"]);
        assert_eq!((more.env["URL"].as_str(), more.env["A_TOKEN"].as_str()), ("http://other", "hunter2-long"));
    }

    #[test]
    fn words_that_look_alike_are_not_exchanged() {
        let withheld = WithheldExec::hide(
            exec(&["a", "first-secret", "other-secret"]),
            &SecretNames::default(),
            &["first-secret".to_owned(), "other-secret".to_owned()],
        );
        let mut moved = exec(&["x", "a", "***", "***"]);
        withheld.fill_in(&mut moved);
        assert_eq!(moved.command, ["x", "a", "***", "***"]);
    }
}
