//! Secret values, found by what they are wherever they stand.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::forms::forms;
use super::{REDACTED, is_fixed, is_free, is_name, is_word};
use crate::hooks::HookRequest;
use crate::hooks::record::{Change, Draft};
use crate::hooks::request::Subject;
use crate::workspace::ContainerSpec;

/// Shorter values are taken out by name only: as a part of another text they would be found everywhere.
const LEAST_BYTES: usize = 6;
/// Shorter values may be a name by chance, where they are letters alone: `postgres` is a user, an image and a weak password.
const LEAST_STRONG: usize = 12;
/// Maps whose keys people and policies choose.
const FREE_KEYS: [&str; 7] = ["env", "labels", "mounts", "tmpfs", "lines", "owners", "contents"];

/// Whether a text cannot be a name by chance.
pub(super) fn is_telling(form: &str) -> bool {
    form.len() >= LEAST_STRONG || !form.bytes().all(|byte| byte.is_ascii_alphabetic())
}

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

    /// Those that are no name by chance.
    pub fn telling(&self) -> Self {
        Self(self.0.iter().filter(|form| is_telling(form)).cloned().collect())
    }

    /// Whether one of them stands in a text.
    pub fn stand_in(&self, text: &str) -> bool {
        self.0.iter().any(|form| text.contains(form.as_str()))
    }

    /// Takes them out of a record. What a record is found and run again by stays as it is, and a word of its other names, too.
    pub(super) fn take_out_of_record(&self, json: &mut Value) -> bool {
        let (telling, words): (Vec<_>, Vec<_>) = self.0.iter().cloned().partition(|form| is_telling(form));
        let telling = Self(telling);
        let found = Self(words).take_out_but(json, &mut Vec::new(), &is_name);
        let keys = telling.take_out_of_keys(json, &[]);
        telling.take_out_but(json, &mut Vec::new(), &is_fixed) || keys || found
    }

    /// The names in a container's settings that one of them stands in: what the engine needs as it is, and what is stored and
    /// shown as it is. Each as its field.
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
        self.telling().take_out_but(json, path, &|path| !is_word(path)) || free
    }

    /// Takes those that are no word by chance out of every name in a draft. What is made of it needs the true names, so this is
    /// for what is kept and shown.
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

    /// Takes those that are no word by chance out of every text of a value, and out of the keys that people and policies choose.
    pub fn take_out_of_names_in(&self, json: &mut Value) -> bool {
        let telling = self.telling();
        let keys = telling.take_out_of_keys(json, &[]);
        telling.take_out(json) || keys
    }

    /// Takes them out of the keys that people and policies choose.
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
