//! Secret values in the output of commands of a workspace.

use std::collections::BTreeMap;

use crate::hooks::redact::{REDACTED, Values};
use crate::lifecycle::Lifecycle;
use crate::store;
use crate::workspace::Container;

/// The number of bytes from which the end of a text counts as the beginning of a value that was cut off.
const BEGINNING: usize = 4;

/// Removes the secret values of one container from texts.
pub(in crate::lifecycle) struct Scrub {
    /// Longest first, because a shorter value may be a part of a longer one.
    values: Vec<String>,
    /// The same values in the forms in which programs print them.
    forms: Values,
}

impl Scrub {
    fn new(mut values: Vec<String>) -> Self {
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { forms: Values::of(&values), values }
    }

    /// Returns the text without the values.
    pub(in crate::lifecycle) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // An incomplete character at the end is the remains of a cut one.
        let end = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let begins = |at: &usize| {
            let piece = end.get(*at..).unwrap_or_default();
            piece.len() >= BEGINNING && self.values.iter().any(|value| value.starts_with(piece))
        };
        if let Some(at) = end.char_indices().map(|(at, _)| at).find(begins) {
            text.truncate(at);
            text.push_str(REDACTED);
        }
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), REDACTED);
            }
        }
        self.forms.clean(&mut text);
        text
    }
}

impl Lifecycle {
    /// Returns the values of an inspected container's secret variables and labels, of the workspace's secret files, and
    /// of policies.
    pub(in crate::lifecycle) fn secret_values(&self, container: &Container) -> Vec<String> {
        let spec = container.actual.iter();
        let all = spec.flat_map(|spec| spec.env.iter().chain(&spec.labels));
        let secret = all.filter(|(name, value)| self.secrets.contains(name) && !value.is_empty());
        let own = secret.map(|(_, value)| value.clone()).chain(self.secret_texts(container));
        own.chain(self.loaded().policy_secrets().into_iter().filter(|value| !value.is_empty())).collect()
    }

    /// Returns the secret variables of an inspected container, with their values.
    pub(in crate::lifecycle) fn secret_variables(&self, container: &Container) -> BTreeMap<String, String> {
        let env = container.actual.iter().flat_map(|spec| &spec.env);
        let secret = env.filter(|(name, _)| self.secrets.contains(name));
        secret.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Returns a policy's text about a container without secrets, so that it can be stored.
    pub(in crate::lifecycle) fn without_secrets(&self, container: &Container, text: String) -> String {
        Values::new(self.secret_values(container).into_iter().collect()).text(&text).unwrap_or(text)
    }

    /// Returns a scrubber for several texts of one container.
    pub(in crate::lifecycle) fn scrubs(&self, container: &Container) -> Scrub {
        Scrub::new(self.secret_values(container))
    }

    /// Removes the values of a container's secrets from the output of its commands, before it is stored or shown.
    pub(in crate::lifecycle) fn scrub(&self, container: &Container, text: &str) -> String {
        self.scrubs(container).text(text)
    }
}

/// Returns the folder in which the commands of a workspace run. If the stored one is redacted, the container's is used.
pub(in crate::lifecycle) fn working_dir(workspace: &store::Workspace, container: &Container) -> Option<String> {
    let kept = &workspace.draft.spec.working_dir;
    let actual = container.actual.as_ref().map(|spec| &spec.working_dir).filter(|_| kept.contains(REDACTED));
    Some(actual.unwrap_or(kept)).filter(|folder| !folder.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_value_within_another_nor_one_that_was_cut_is_left() {
        let scrub = Scrub::new(vec!["abc".into(), "abcdef".into(), "t\u{f6}ken-value".into()]);
        assert_eq!(scrub.text("x abcdef y abc z"), "x *** y *** z");
        assert_eq!(scrub.text("the t\u{f6}ken-va"), "the ***");
        assert_eq!(scrub.text("the t\u{f6}ke\u{fffd}"), "the ***");
        assert_eq!(scrub.text("abcd"), "***");
        assert_eq!(scrub.text("abcx"), "***x");
        assert_eq!(scrub.text("that is all t\u{f6}"), "that is all t\u{f6}");
        assert_eq!(Scrub::new(Vec::new()).text("as it is"), "as it is");
    }
}
