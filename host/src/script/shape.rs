//! The shape of `ctx` at each hook, as known before a script runs: the same input that hooks get, with one of
//! everything. Checks and the reference are derived from it, so they always match the real input.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{OPEN_MAPS, input};
use crate::hooks::{
    Caller, CallerRole, Candidate, Door, EventFacts, EventKind, ExecSpec, Facts, FileContent, FolderOwner, Hook,
    HookRequest, ImageConfig, LocalImage, LocalTime, Subject, SweepFacts,
};
use crate::workspace::{ContainerSpec, HealthCheck, HostPort, ImageChoice, Mount, MountKind, State, Tmpfs, Ulimit};

/// A part of a hook's input, and its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) value: Value,
    pub(super) name: String,
    /// Whether it is one of the script's own values, which are fully known: a constant, or its settings.
    pub(super) plain: bool,
}

impl Shape {
    /// Returns the `ctx` of a hook.
    pub(super) fn of(hook: Hook) -> Self {
        Self { value: sample(hook), name: String::new(), plain: false }
    }

    /// Returns a field. None: its shape is unknown. An error: there is no such field, with the existing fields.
    pub(super) fn member(&self, name: &str) -> Result<Option<Self>, Vec<String>> {
        let shown = if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) };
        let Value::Object(map) = &self.value else { return Ok(None) };
        if self.plain {
            // An empty map accepts any keys.
            let part = |value: &Value| Self { value: value.clone(), name: shown, plain: true };
            return match map.get(name) {
                Some(Value::Null) => Ok(None),
                Some(value) => Ok(Some(part(value))),
                None if map.is_empty() => Ok(None),
                None => Err(map.keys().cloned().collect()),
            };
        }
        // The script itself defines its settings.
        if shown == "settings" {
            return Ok(None);
        }
        let last = self.name.rsplit('.').next().unwrap_or_default();
        if OPEN_MAPS.contains(&last) {
            return Ok(map.values().next().map(|value| Self { value: value.clone(), name: shown, plain: false }));
        }
        match map.get(name) {
            Some(Value::Null) => Ok(None),
            Some(value) => Ok(Some(Self { value: value.clone(), name: shown, plain: false })),
            None => Err(map.keys().cloned().collect()),
        }
    }

    /// Returns the part at a path with dots; none if it has no such part, or its shape is unknown.
    pub(super) fn at(self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self, |shape, name| shape.member(name).ok().flatten())
    }

    /// Returns an element of a list, or of a plain map, with all keys that any element has.
    pub(super) fn element(&self) -> Option<Self> {
        let name = format!("{}[]", self.name);
        if !self.plain {
            let first = self.value.as_array()?.first()?;
            return Some(Self { value: first.clone(), name, plain: false });
        }
        let all: Vec<&Value> = match &self.value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => return None,
        };
        let mut keys = serde_json::Map::new();
        for value in all {
            keys.extend(value.as_object()?.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        Some(Self { value: Value::Object(keys), name, plain: true })
    }
}

/// Returns all fields of `ctx` at a hook, sorted, with the type of each.
pub(super) fn fields(hook: Hook) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    collect(&Shape::of(hook), &mut found);
    found
}

fn collect(shape: &Shape, found: &mut BTreeMap<String, &'static str>) {
    let open = OPEN_MAPS.contains(&shape.name.rsplit('.').next().unwrap_or_default());
    let Value::Object(map) = &shape.value else { return };
    for (key, value) in map {
        let key = if open { "*" } else { key };
        let name = if shape.name.is_empty() { key.to_owned() } else { format!("{}.{key}", shape.name) };
        let kind = match value {
            Value::Null => "any",
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_f64() => "float",
            Value::Number(_) => "int",
            Value::String(_) => "text",
            Value::Array(_) => "list",
            Value::Object(_) => "map",
        };
        found.insert(name.clone(), kind);
        let below = Shape { value: value.clone(), name, plain: false };
        match below.element() {
            Some(element) => collect(&element, found),
            None => collect(&below, found),
        }
    }
}

// Long because it is the table of everything in a script's input at each hook.
fn sample(hook: Hook) -> Value {
    let text = || "text".to_owned();
    let one = || BTreeMap::from([(text(), text())]);
    let check = || HealthCheck { command: vec![text()], interval_ms: 1, timeout_ms: 1, start_period_ms: 1, retries: 1 };
    let mut facts = Facts::default();
    facts.workspace.labels = one();
    facts.workspace.owner = Some(FolderOwner { uid: 1, gid: 1 });
    facts.local_time = Some(LocalTime { minute: 1, weekday: 1 });
    facts.project.files = vec![text()];
    facts.project.contents = [(text(), FileContent::default())].into();
    facts.engine.security = vec![text()];
    facts.caller = Some(Caller { name: text(), uid: Some(1), role: CallerRole::Admin, door: Door::CommandLine });
    facts.image_config = Some(ImageConfig {
        id: text(),
        entrypoint: vec![text()],
        command: vec![text()],
        user: text(),
        working_dir: text(),
        volumes: vec![text()],
        health_check: Some(check()),
        labels: one(),
        platform: text(),
    });
    facts.local_images = vec![LocalImage { references: vec![text()], digests: vec![text()], size: 1 }];
    let mut spec = ContainerSpec {
        image: Some(ImageChoice { reference: text(), pull: Default::default(), reason: text() }),
        entrypoint: Some(vec![text()]),
        command: vec![text()],
        user: Some(text()),
        env: one(),
        labels: one(),
        mounts: [(text(), Mount { kind: MountKind::Bind, source: text(), read_only: true })].into(),
        tmpfs: [(text(), Tmpfs { size: Some(1) })].into(),
        ports: [(text(), HostPort { address: text(), port: Some(1) })].into(),
        health_check: Some(check()),
        time_to_live_ms: Some(1),
        ..ContainerSpec::empty()
    };
    spec.resources.shm_size = Some(1);
    spec.resources.disk = Some(1);
    spec.resources.ulimits = [(text(), Ulimit { soft: 1, hard: 1 })].into();
    spec.security.capabilities = [text()].into();
    spec.security.apparmor = Some(text());
    spec.security.selinux = Some(text());
    spec.security.user_namespace = Some(text());
    let subject = match hook {
        Hook::SelectImage => Subject::Image { requested: false },
        Hook::SecurityProfile | Hook::PreCreate => Subject::Container,
        Hook::PostStart => Subject::Start { first_start: true },
        Hook::PreExec => Subject::Exec(ExecSpec {
            command: vec![text()],
            env: one(),
            user: Some(text()),
            working_dir: Some(text()),
            tty: false,
        }),
        Hook::PreStop => Subject::Stop { verb: text() },
        Hook::Event => Subject::Event(EventFacts { kind: EventKind::Exited, exit_code: Some(1), detail: text() }),
        Hook::Cleanup => Subject::Sweep(SweepFacts {
            candidates: vec![Candidate {
                kind: Default::default(),
                id: text(),
                name: text(),
                part_of: Some(text()),
                project: text(),
                labels: one(),
                state: Some(State::Exited),
                used: false,
                exit_code: Some(1),
                created_ms: 1,
                started_ms: Some(1),
                finished_ms: Some(1),
                last_activity_ms: Some(1),
                size: Some(1),
            }],
            ..SweepFacts::default()
        }),
    };
    let mut root = input(&HookRequest { hook, now_ms: 1, facts: Arc::new(facts), spec, subject }, &json!({}));
    // A text or a map, so its current value says nothing.
    if let Some(restart) = root.pointer_mut("/spec/restart") {
        *restart = Value::Null;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_known_as_far_as_they_can_be_told() {
        let ctx = Shape::of(Hook::PreCreate);
        let spec = ctx.member("spec").unwrap().unwrap();
        assert!(spec.member("memroy").unwrap_err().contains(&"resources".to_owned()));
        let env = spec.member("env").unwrap().unwrap();
        assert_eq!(env.member("ANYTHING").unwrap().unwrap().name, "spec.env.ANYTHING");
        assert_eq!(ctx.member("settings"), Ok(None));
        assert!(ctx.member("exec").is_err());
        let candidates = Shape::of(Hook::Cleanup).member("candidates").unwrap().unwrap();
        assert!(candidates.element().unwrap().member("finished_ms").is_ok());
        assert_eq!(fields(Hook::PreExec).get("exec.env.*"), Some(&"text"));
        assert_eq!(fields(Hook::Cleanup).get("candidates[].used"), Some(&"bool"));
    }
}
