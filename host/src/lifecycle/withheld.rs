//! Secrets of a request and of the configuration, on their way around the policies: a draft holds `***` in their place,
//! and only the container gets them.

use std::collections::BTreeMap;

use crate::hooks::record::Draft;
use crate::hooks::redact::{REDACTED, Values};
use crate::workspace::ContainerSpec;

/// Real values of secret variables and labels; a draft, and with it every policy and record, holds `***`.
#[derive(Default)]
pub(super) struct Withheld {
    pub(super) env: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    /// The command as it is shown and as it is, where a secret value stands in its words.
    pub(super) command: Option<(Vec<String>, Vec<String>)>,
}

impl Withheld {
    /// Takes secret values out of the words of a draft's command, where policies, records and people would see them.
    pub(super) fn hide_command(&mut self, draft: &mut Draft) {
        let values = Values::new(self.values().into_iter().collect());
        let real = draft.spec.command.clone();
        for word in &mut draft.spec.command {
            *word = values.text(word).unwrap_or_else(|| std::mem::take(word));
        }
        if draft.spec.command != real {
            self.command = Some((draft.spec.command.clone(), real));
            for change in draft.history.iter_mut().filter(|change| change.field == "command") {
                values.take_out(&mut change.value);
            }
        }
    }

    /// All of them, for what else they must not stand in.
    pub(super) fn values(&self) -> Vec<String> {
        self.env.values().chain(self.labels.values()).cloned().collect()
    }

    /// Puts them into a spec. A policy may have replaced or removed one; only what still stands for it is filled in.
    pub(super) fn fill_in(&self, spec: &mut ContainerSpec) {
        if let Some((_, real)) = self.command.as_ref().filter(|(shown, _)| *shown == spec.command) {
            spec.command.clone_from(real);
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
