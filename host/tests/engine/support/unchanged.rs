//! The engine's objects before and after a test, including those of others, and refusals that must leave all of them
//! unchanged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use wharf::workspace::{LABEL_HOST, LABEL_MANAGED};

use super::engine_api::{self as engine, BASE, label};
use super::process::Output;
use super::sandbox::{LABEL_SANDBOX, Sandbox};

/// A test ends before this time. Until then an unlabelled object, such as a container of a build, may belong to a
/// concurrent test and disappear with it.
const LONGEST_TEST: Duration = Duration::from_secs(300);

/// Within this time, a concurrent test removes its unlabelled objects with names like Wharf's.
const PATIENCE: Duration = Duration::from_secs(10);

/// The owner of an engine object.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Owner {
    /// This sandbox, according to the labels.
    Sandbox,
    /// No label, but a name that Wharf could have given.
    Unclear,
    Stranger,
}

/// The engine's objects, and whether each existed before any test that is still running.
#[derive(Debug, Clone)]
pub struct Snapshot(BTreeMap<String, (Owner, bool)>);

impl Snapshot {
    /// Returns the engine's objects: those of strangers, and those of this sandbox with their state. Objects with
    /// labels of other sandboxes are left out.
    fn of(host: &str, sandbox: &str) -> Self {
        let now = Timestamp::now();
        let counts = |object: &&Value| match (label(object, LABEL_HOST), label(object, LABEL_SANDBOX)) {
            (_, Some(owner)) => owner == sandbox,
            (Some(owner), None) => owner == host,
            (None, None) => label(object, LABEL_MANAGED).is_none(),
        };
        let mut all = BTreeMap::new();
        let mut add = |kind: &str, object: &Value, name: &str, state: &str| {
            let labelled = label(object, LABEL_HOST).or(label(object, LABEL_SANDBOX)).is_some();
            let owner = match labelled {
                true => Owner::Sandbox,
                false if name.starts_with("wharf") => Owner::Unclear,
                false => Owner::Stranger,
            };
            let id = object["Id"].as_str().unwrap_or(name);
            let state = if labelled { state } else { "" };
            all.insert(format!("{kind} {id} {name} {state}"), (owner, is_old(object, now)));
        };
        for object in engine::containers().iter().filter(counts) {
            let name = object["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
            add("container", object, &name, object["State"].as_str().unwrap_or_default());
        }
        for object in engine::networks().iter().filter(counts) {
            add("network", object, object["Name"].as_str().unwrap_or_default(), "");
        }
        for object in engine::volumes().iter().filter(counts) {
            add("volume", object, object["Name"].as_str().unwrap_or_default(), "");
        }
        Self(all)
    }

    /// Returns the objects that have disappeared, except those that may have disappeared with a concurrent test.
    fn gone<'a>(&'a self, now: &Self) -> Vec<&'a String> {
        let counts = |(owner, old): (Owner, bool)| owner == Owner::Sandbox || old;
        let missing = self.0.iter().filter(|(object, mark)| counts(**mark) && !now.0.contains_key(*object));
        missing.map(|(object, _)| object).collect()
    }

    /// Returns the new objects of these owners.
    fn added<'a>(&self, now: &'a Self, owners: &[Owner]) -> Vec<&'a String> {
        let added = now.0.iter().filter(|(object, mark)| owners.contains(&mark.0) && !self.0.contains_key(*object));
        added.map(|(object, _)| object).collect()
    }
}

/// Returns whether an object is older than any running test.
fn is_old(object: &Value, now: Timestamp) -> bool {
    let written = object["Created"].as_str().or(object["CreatedAt"].as_str());
    let created = match object["Created"].as_i64() {
        Some(seconds) => Timestamp::from_second(seconds).ok(),
        None => written.and_then(|text| text.parse().ok()),
    };
    created.is_some_and(|created| now.duration_since(created).unsigned_abs() > LONGEST_TEST && created < now)
}

impl Sandbox {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.host(), &self.name())
    }

    /// Checks that the engine's objects are unchanged: none has disappeared or changed, and new ones belong to
    /// others.
    #[track_caller]
    pub fn assert_unchanged(&self, before: &Snapshot, what: &str) {
        let begin = Instant::now();
        loop {
            let now = self.snapshot();
            let (gone, new) = (before.gone(&now), before.added(&now, &[Owner::Sandbox]));
            assert!(gone.is_empty() && new.is_empty(), "{what}: gone are {gone:?}, new are {new:?}");
            let unclear = before.added(&now, &[Owner::Unclear]);
            if unclear.is_empty() {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: new are {unclear:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Creates a container with the engine's API, as another program would. It is removed with the sandbox.
    #[track_caller]
    pub fn bystander(&self, name: &str, labels: &[(&str, &str)], start: bool) -> String {
        let mut all = json!({ LABEL_SANDBOX: self.name() });
        for (key, value) in labels {
            all[*key] = json!(value);
        }
        let body = json!({ "Image": BASE, "Cmd": ["sleep", "1000000"], "Labels": all, "HostConfig": { "Init": true } });
        let made = engine::post(&format!("/containers/create?name={name}"), &body).done().json();
        let id = made["Id"].as_str().unwrap().to_owned();
        if start {
            engine::post(&format!("/containers/{id}/start"), &Value::Null).done();
        }
        id
    }

    #[track_caller]
    pub fn bystander_network(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let mut all = json!({ LABEL_SANDBOX: self.name() });
        for (key, value) in labels {
            all[*key] = json!(value);
        }
        let made = engine::post("/networks/create", &json!({ "Name": name, "Labels": all })).done().json();
        made["Id"].as_str().unwrap().to_owned()
    }

    /// Runs a command that must fail, as text and as JSON. Expects this exit code and error code, one line that
    /// contains `words`, a remedy, and an unchanged state: the same containers, networks and workspaces as before.
    #[track_caller]
    pub fn refused(&self, args: &[&str], exit: i32, code: &str, words: &[&str]) -> Output {
        let (before, workspaces) = (self.snapshot(), self.store().workspaces().unwrap());
        let text = self.run(args);
        assert_eq!(text.code, exit, "{args:?}: {}{}", text.text(), text.stderr);
        let line = text.stderr.lines().find(|line| line.starts_with("wharf: "));
        let line = line.unwrap_or_else(|| panic!("{args:?}: no line of wharf's own in {}", text.stderr));
        for word in words {
            assert!(line.contains(word), "{args:?}: {word:?} is not in {line:?}");
        }
        assert_eq!(text.stderr.matches("\nwharf: ").count() + usize::from(text.stderr.starts_with("wharf: ")), 1);
        assert!(!text.stderr.contains("WARN"), "said twice: {}", text.stderr);
        let remedy = text.stderr.lines().find_map(|line| line.trim().strip_prefix("remedy: "));
        assert!(remedy.is_some_and(|remedy| remedy.len() > 10), "{args:?}: no remedy in {}", text.stderr);

        let mut with_json = vec!["--json"];
        with_json.extend(args);
        let json = self.run(&with_json);
        assert_eq!(json.code, exit, "{with_json:?}: {}", json.stderr);
        assert_eq!(json.stderr.lines().count(), 1, "only the error is for programs: {}", json.stderr);
        let error = json.error();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10), "{error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(!message.contains('\n') && words.iter().all(|word| message.contains(word)), "{error}");

        self.assert_unchanged(&before, &args.join(" "));
        assert_eq!(self.store().workspaces().unwrap(), workspaces, "{args:?} changed a workspace in the store");
        assert_eq!(self.store().open_entries().unwrap(), [], "{args:?} left an open entry in the journal");
        text
    }
}

#[test]
fn a_neighbours_build_container_may_go_and_what_is_this_sandboxs_may_not() {
    let sandbox = Sandbox::new();
    let bystander = sandbox.bystander(&format!("{}-bystander", sandbox.name()), &[], false);
    let made = engine::post("/containers/create", &json!({ "Image": BASE, "Cmd": ["true"] })).done().json();
    let before = sandbox.snapshot();
    engine::delete(&format!("/containers/{}", made["Id"].as_str().unwrap())).done();
    sandbox.assert_unchanged(&before, "a neighbour's build");
    engine::delete(&format!("/containers/{bystander}")).done();
    let gone = before.gone(&sandbox.snapshot()).len();
    assert_eq!(gone, 1);
}

#[test]
fn what_is_older_than_any_test_is_no_neighbours() {
    let now: Timestamp = "2026-01-02T03:10:00Z".parse().unwrap();
    let ages = [
        (json!({ "Created": now.as_second() - 301 }), true),
        (json!({ "Created": now.as_second() - 200 }), false),
        (json!({ "Created": "2026-01-02T03:00:00.123456789+00:00" }), true),
        (json!({ "CreatedAt": "2026-01-02T03:09:00Z" }), false),
        (json!({ "CreatedAt": "2026-01-01T00:00:00Z" }), true),
        (json!({}), false),
    ];
    for (object, old) in ages {
        assert_eq!(is_old(&object, now), old, "{object}");
    }
}
