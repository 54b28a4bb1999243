//! Secret values, found by value wherever they occur.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::forms::forms;
use super::{REDACTED, is_fixed, is_free, is_name, is_word};
use crate::hooks::HookRequest;
use crate::hooks::record::{Change, Draft};
use crate::hooks::request::Subject;
use crate::workspace::ContainerSpec;

/// Shorter values are removed by name only: as parts of other texts they would match everywhere.
const LEAST_BYTES: usize = 6;
/// Shorter values that are letters only may be a name by chance: `postgres` is a user, an image and a weak password.
const LEAST_STRONG: usize = 12;
/// Maps whose keys are chosen by users and policies.
const FREE_KEYS: [&str; 7] = ["env", "labels", "mounts", "tmpfs", "lines", "owners", "contents"];

/// Returns whether a text cannot be a name by chance.
pub(super) fn is_telling(form: &str) -> bool {
    form.len() >= LEAST_STRONG || !form.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Secret values in all their forms, longest first, because one may be a part of another.
#[derive(Debug, Clone, Default)]
pub struct Values(pub(super) Vec<String>);

impl Values {
    /// Creates the set from the values that are long enough to be distinguished from other text.
    pub fn new(values: BTreeSet<String>) -> Self {
        let long = values.iter().filter(|value| value.len() >= LEAST_BYTES);
        let all: BTreeSet<String> = long.flat_map(|value| forms(value)).collect();
        let mut values: Vec<_> = all.into_iter().filter(|form| form.len() >= LEAST_BYTES).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// Does the same as [`Values::new`] for a list.
    pub fn of(values: &[String]) -> Self {
        Self::new(values.iter().cloned().collect())
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the text without the values; none if it contains none.
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

    /// Removes the values from a text.
    pub fn clean(&self, text: &mut String) {
        if let Some(clean) = self.text(text) {
            *text = clean;
        }
    }

    /// Removes the values from every text of a JSON value. Returns whether there was a match. Field names stay
    /// unchanged.
    pub fn take_out(&self, json: &mut Value) -> bool {
        self.take_out_but(json, &mut Vec::new(), &|_| false)
    }

    /// Returns the values that cannot be a name by chance.
    pub fn telling(&self) -> Self {
        Self(self.0.iter().filter(|form| is_telling(form)).cloned().collect())
    }

    /// Returns whether a text contains one of the values.
    pub fn stand_in(&self, text: &str) -> bool {
        self.0.iter().any(|form| text.contains(form.as_str()))
    }

    /// Removes the values from a record. Data for finding and replaying the record stays unchanged, and so do words
    /// within its other names.
    pub(super) fn take_out_of_record(&self, json: &mut Value) -> bool {
        let (telling, words): (Vec<_>, Vec<_>) = self.0.iter().cloned().partition(|form| is_telling(form));
        let telling = Self(telling);
        let found = Self(words).take_out_but(json, &mut Vec::new(), &is_name);
        let keys = telling.take_out_of_keys(json, &[]);
        telling.take_out_but(json, &mut Vec::new(), &is_fixed) || keys || found
    }

    /// Returns the fields of a container's settings whose names contain one of the values. The engine needs these
    /// names unchanged, and they are stored and shown unchanged.
    pub fn names_with(&self, spec: &ContainerSpec) -> Vec<String> {
        let telling = self.telling();
        if telling.is_empty() {
            return Vec::new();
        }
        let shown = |field: &str| telling.text(field).unwrap_or_else(|| field.to_owned());
        let mut found = Vec::new();
        if spec.image.as_ref().is_some_and(|image| telling.stand_in(&image.reference)) {
            found.push("image".to_owned());
        }
        if telling.stand_in(&spec.hostname) {
            found.push("hostname".to_owned());
        }
        for (target, mount) in &spec.mounts {
            if telling.stand_in(target) || telling.stand_in(&mount.source) {
                found.push(format!("mounts.{}", shown(target)));
            }
        }
        let keys = [("tmpfs", spec.tmpfs.keys().collect::<Vec<_>>()), ("env", spec.env.keys().collect())];
        for (group, names) in keys.into_iter().chain([("labels", spec.labels.keys().collect())]) {
            let with = names.into_iter().filter(|name| telling.stand_in(name));
            found.extend(with.map(|name| format!("{group}.{}", shown(name))));
        }
        found
    }

    /// Removes the values from data that Wharf stores or shows. Data that could not be parsed afterwards stays
    /// unchanged.
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

    /// Removes the values from a container's settings, except from names: an image, a mount's source, an id.
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

    /// Removes the values from a recorded change of a field.
    pub(super) fn take_out_of_change(&self, change: &mut Change) {
        let mut path: Vec<String> = match change.field.split_once('.') {
            Some((group, rest)) => vec![group.to_owned(), rest.to_owned()],
            None => vec![change.field.clone()],
        };
        self.take_out_of_fields(&mut change.value, &mut path);
    }

    fn take_out_of_fields(&self, json: &mut Value, path: &mut Vec<String>) -> bool {
        let free = self.take_out_but(json, path, &|path| !is_free(path));
        self.telling().take_out_but(json, path, &|path| !is_word(path)) || free
    }

    /// Removes the values that cannot be a word by chance from every name in a draft. Creating the container needs
    /// the real names, so this is for stored and displayed drafts.
    pub(super) fn take_out_of_names(&self, draft: &mut Draft) {
        if self.is_empty() {
            return;
        }
        if let Ok(mut json) = serde_json::to_value(&*draft)
            && self.take_out_of_names_in(&mut json)
            && let Ok(clean) = serde_json::from_value(json)
        {
            *draft = clean;
        }
    }

    /// Removes the values that cannot be a word by chance from every text of a JSON value, and from keys chosen by
    /// users and policies.
    pub fn take_out_of_names_in(&self, json: &mut Value) -> bool {
        let telling = self.telling();
        let keys = telling.take_out_of_keys(json, &[]);
        telling.take_out(json) || keys
    }

    /// Removes the values from keys chosen by users and policies.
    fn take_out_of_keys(&self, json: &mut Value, path: &[&str]) -> bool {
        let mut found = false;
        match json {
            Value::Object(map) => {
                if path.last().is_some_and(|last| FREE_KEYS.contains(last)) {
                    let bad: Vec<String> = map.keys().filter(|key| self.stand_in(key)).cloned().collect();
                    for key in bad {
                        if let (Some(value), Some(clean)) = (map.remove(&key), self.text(&key)) {
                            map.insert(clean, value);
                            found = true;
                        }
                    }
                }
                for (key, value) in map {
                    let inner: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
                    found |= self.take_out_of_keys(value, &inner);
                }
            }
            Value::Array(list) => {
                for value in list {
                    found |= self.take_out_of_keys(value, path);
                }
            }
            _ => {}
        }
        found
    }

    /// Removes the values from a policy's input.
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
        match &mut request.subject {
            Subject::Event(event) => self.clean(&mut event.detail),
            Subject::Sweep(sweep) => {
                for candidate in &mut sweep.candidates {
                    candidate.labels.values_mut().for_each(|text| self.clean(text));
                }
            }
            _ => {}
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
