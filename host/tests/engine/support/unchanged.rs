//! What the engine has before and after, others' objects beside ours, and refusals that must leave all of it as it was.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf::workspace::{LABEL_HOST, LABEL_MANAGED};

use super::engine_api::{self as engine, BASE, label};
use super::process::Output;
use super::sandbox::{LABEL_SANDBOX, Sandbox};

/// What the engine has: object -> whether it is a stranger's for sure.
pub struct Snapshot(BTreeMap<String, bool>);

impl Sandbox {
    /// What the engine has: somebody else's objects, and this sandbox's with their state. Left out is what tests that
    /// run at the same time make.
    pub fn snapshot(&self) -> Snapshot {
        let (host, name) = (self.host(), self.name());
        let counts = |object: &&Value| match (label(object, LABEL_HOST), label(object, LABEL_SANDBOX)) {
            (_, Some(sandbox)) => sandbox == name,
            (Some(owner), None) => owner == host,
            (None, None) => label(object, LABEL_MANAGED).is_none(),
        };
        let mut all = BTreeMap::new();
        let mut add = |kind: &str, object: &Value, name: &str, state: &str| {
            let stranger = label(object, LABEL_HOST).or(label(object, LABEL_SANDBOX)).is_none();
            let id = object["Id"].as_str().unwrap_or(name);
            let state = if stranger { "" } else { state };
            all.insert(format!("{kind} {id} {name} {state}"), stranger && !name.starts_with("wharf"));
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
        Snapshot(all)
    }

    /// The engine has what it had: nothing is gone or changed, and nothing is new but what strangers made meanwhile.
    #[track_caller]
    pub fn assert_unchanged(&self, before: &Snapshot, what: &str) {
        let now = self.snapshot();
        let gone: Vec<_> = before.0.keys().filter(|object| !now.0.contains_key(*object)).collect();
        let new: Vec<_> =
            now.0.iter().filter(|(object, stranger)| !**stranger && !before.0.contains_key(*object)).collect();
        assert!(gone.is_empty() && new.is_empty(), "{what}: gone are {gone:?}, new are {new:?}");
    }

    /// Makes a container with the engine's API, as another program would. It is removed with the sandbox.
    #[track_caller]
    pub fn bystander(&self, name: &str, labels: &[(&str, &str)], start: bool) -> String {
        let mut all = json!({ LABEL_SANDBOX: self.name() });
        for (key, value) in labels {
            all[*key] = json!(value);
        }
        let body = json!({ "Image": BASE, "Cmd": ["sleep", "1000000"], "Labels": all, "HostConfig": { "Init": true } });
        let made = engine::post(&format!("/containers/create?name={name}"), &body).ok().json();
        let id = made["Id"].as_str().unwrap().to_owned();
        if start {
            engine::post(&format!("/containers/{id}/start"), &Value::Null).ok();
        }
        id
    }

    #[track_caller]
    pub fn bystander_network(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let mut all = json!({ LABEL_SANDBOX: self.name() });
        for (key, value) in labels {
            all[*key] = json!(value);
        }
        let made = engine::post("/networks/create", &json!({ "Name": name, "Labels": all })).ok().json();
        made["Id"].as_str().unwrap().to_owned()
    }

    /// Runs something that must fail, as text and as JSON: with this exit code and error code, one line that says
    /// `words`, a remedy, and everything as it was: no other container, network or workspace than before.
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
        let remedy = text.stderr.lines().find_map(|line| line.trim().strip_prefix("what to do: "));
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
