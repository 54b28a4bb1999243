//! Secret values, found by what they are wherever they stand.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::forms::forms;
use super::{REDACTED, is_free, is_name, is_word};
use crate::hooks::HookRequest;
use crate::hooks::record::Change;
use crate::hooks::request::Subject;
use crate::workspace::ContainerSpec;

/// Shorter values are taken out by name only: as a part of another text they would be found everywhere.
const LEAST_BYTES: usize = 6;
/// Shorter values may be a user's or a host's name by chance.
const LEAST_STRONG: usize = 12;

/// Secret values in all forms of theirs, the longest first: one may be a part of another.
#[derive(Debug, Clone, Default)]
pub struct Values(pub(super) Vec<String>);

impl Values {
    /// Those that are long enough to be told from other text.
    pub fn new(values: BTreeSet<String>) -> Self {
        let long = values.iter().filter(|value| value.len() >= LEAST_BYTES);
        let all: BTreeSet<String> = long.flat_map(|value| forms(value)).collect();
        let mut values: Vec<_> = all.into_iter().filter(|form| form.len() >= LEAST_BYTES).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// The same of a list.
    pub fn of(values: &[String]) -> Self {
        Self::new(values.iter().cloned().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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

    /// Takes them out of a text.
    pub fn clean(&self, text: &mut String) {
        if let Some(clean) = self.text(text) {
            *text = clean;
        }
    }

    /// Takes them out of every text of a value. Says whether there was one. Names of fields stay as they are.
    pub fn take_out(&self, json: &mut Value) -> bool {
        self.take_out_but(json, &mut Vec::new(), &|_| false)
    }

    /// Takes them out of a record, but not out of its names.
    pub(super) fn take_out_of_record(&self, json: &mut Value) -> bool {
        self.take_out_but(json, &mut Vec::new(), &is_name)
    }

    /// Takes them out of a value that Wharf keeps or shows. One that could not be read any more stays as it is.
    pub fn take_out_of<T: serde::Serialize + serde::de::DeserializeOwned>(&self, value: &mut T) {
        if self.is_empty() {
            return;
        }
        if let Ok(mut json) = serde_json::to_value(&*value)
            && self.take_out(&mut json)
            && let Ok(clean) = serde_json::from_value(json)
        {
            *value = clean;
        }
    }

    /// Takes them out of a container's settings, but not out of what names something: an image, a mount's source, an id.
    pub fn take_out_of_spec(&self, spec: &mut ContainerSpec) {
        if self.is_empty() {
            return;
        }
        if let Ok(mut json) = serde_json::to_value(&*spec)
            && self.take_out_of_fields(&mut json, &mut Vec::new())
            && let Ok(clean) = serde_json::from_value(json)
        {
            *spec = clean;
        }
    }

    /// The same of what a field was in the course of a decision.
    pub(super) fn take_out_of_change(&self, change: &mut Change) {
        let mut path: Vec<String> = match change.field.split_once('.') {
            Some((group, rest)) => vec![group.to_owned(), rest.to_owned()],
            None => vec![change.field.clone()],
        };
        self.take_out_of_fields(&mut change.value, &mut path);
    }

    fn take_out_of_fields(&self, json: &mut Value, path: &mut Vec<String>) -> bool {
        let free = self.take_out_but(json, path, &|path| !is_free(path));
        let strong = Self(self.0.iter().filter(|form| form.len() >= LEAST_STRONG).cloned().collect());
        strong.take_out_but(json, path, &|path| !is_word(path)) || free
    }

    /// Takes them out of what a policy is told.
    pub fn take_out_of_request(&self, request: &mut HookRequest) {
        if self.is_empty() {
            return;
        }
        self.take_out_of_spec(&mut request.spec);
        let facts = &request.facts;
        let of_map = |map: &BTreeMap<String, String>| map.values().any(|text| self.text(text).is_some());
        let of_files = facts.project.contents.values().any(|file| self.text(&file.text).is_some());
        if of_files || of_map(&facts.workspace.labels) {
            let facts = std::sync::Arc::make_mut(&mut request.facts);
            facts.workspace.labels.values_mut().for_each(|text| self.clean(text));
            facts.project.contents.values_mut().for_each(|file| self.clean(&mut file.text));
        }
        if let Subject::Event(event) = &mut request.subject {
            self.clean(&mut event.detail);
        }
    }

    fn take_out_but(&self, json: &mut Value, path: &mut Vec<String>, is_kept: &dyn Fn(&[&str]) -> bool) -> bool {
        match json {
            Value::String(text) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                match self.text(text).filter(|_| !is_kept(&path)) {
                    Some(clean) => {
                        *text = clean;
                        true
                    }
                    None => false,
                }
            }
            Value::Array(list) => {
                list.iter_mut().filter_map(|one| self.take_out_but(one, path, is_kept).then_some(())).count() > 0
            }
            Value::Object(map) => {
                let mut found = false;
                for (key, value) in map {
                    path.push(key.clone());
                    found |= self.take_out_but(value, path, is_kept);
                    path.pop();
                }
                found
            }
            _ => false,
        }
    }
}
