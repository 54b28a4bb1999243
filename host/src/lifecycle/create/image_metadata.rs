//! The label `devcontainer.metadata` of an image: settings that the image's maker chose for development containers.
//!
//! Source: Development Container Specification, "Image Metadata". The label holds an object or a list of objects with
//! properties of `devcontainer.json`; a later object wins. Images of the devcontainers project name their user only
//! there. A label comes from a stranger, so only the user and the environment count; the rest is listed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::hooks::Adjustment;
use crate::hooks::record::{Draft, Owner};
use crate::lifecycle::create::image_config::{BY_IMAGE, is_root};

/// The label's name.
const LABEL: &str = "devcontainer.metadata";
/// Properties that ask nothing of a workspace, or of which Wharf does the same for every workspace.
const WITHOUT_EFFECT: [&str; 6] =
    ["id", "customizations", "updateRemoteUserUID", "overrideCommand", "userEnvProbe", "waitFor"];
/// Maximum number of properties in the note.
const MOST: usize = 20;

/// The settings of a label.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metadata {
    remote_user: Option<String>,
    container_user: Option<String>,
    env: BTreeMap<String, String>,
    /// Properties that have no effect.
    unused: BTreeSet<String>,
}

/// Writes user and environment of the label into a draft, for fields that nothing else decided. A user `root` is ignored,
/// as that of the image itself is: an image cannot make a workspace run as root. Returns a note about the rest of the
/// label, and about a label that cannot be read.
pub(in crate::lifecycle) fn fill(draft: &mut Draft, labels: &BTreeMap<String, String>) -> Option<String> {
    let metadata = match read(labels.get(LABEL)?) {
        Ok(metadata) => metadata,
        Err(why) => return Some(format!("the image's label {LABEL} is ignored: {why}")),
    };
    let Metadata { remote_user, container_user, env, mut unused } = metadata;
    let by = || Owner::host("default", Some(BY_IMAGE.to_owned()));
    let own = draft.owners.get("user").is_none_or(|owner| owner.policy == "default");
    if let Some(user) = remote_user.or(container_user).filter(|user| own && !is_root(user)) {
        let edit = Adjustment::User(Some(user));
        if edit.check().is_err() {
            unused.insert("remoteUser".to_owned());
        } else {
            draft.set(&edit, by(), None);
        }
    }
    for (name, value) in env {
        let edit = Adjustment::Env(name.clone(), Some(value));
        if edit.check().is_err() {
            unused.insert(format!("containerEnv.{name}"));
        } else if !draft.spec.env.contains_key(&name) {
            draft.set(&edit, by(), None);
        }
    }
    let plain = |name: &String| name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect::<String>();
    let names: Vec<String> = unused.iter().map(plain).take(MOST).collect();
    let more = if unused.len() > MOST { ", ..." } else { "" };
    (!names.is_empty()).then(|| format!("not honoured in the image's label {LABEL}: {}{more}", names.join(", ")))
}

fn read(label: &str) -> Result<Metadata, String> {
    let value: Value = serde_json::from_str(label).map_err(|error| format!("it is not JSON: {error}"))?;
    let objects = match value {
        Value::Object(object) => vec![object],
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::Object(object) => Ok(object),
                _ => Err("an item is not an object".to_owned()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err("it is neither an object nor a list of objects".to_owned()),
    };
    let mut metadata = Metadata::default();
    for object in objects {
        metadata.add(object);
    }
    Ok(metadata)
}

impl Metadata {
    fn add(&mut self, object: Map<String, Value>) {
        for (name, value) in object {
            match (name.as_str(), value) {
                ("remoteUser", Value::String(user)) => self.remote_user = Some(user),
                ("containerUser", Value::String(user)) => self.container_user = Some(user),
                ("containerEnv", Value::Object(env)) => env.into_iter().for_each(|(name, value)| match value {
                    // Its variables have no value before the container exists.
                    Value::String(value) if !value.contains("${") => drop(self.env.insert(name, value)),
                    _ => drop(self.unused.insert(format!("containerEnv.{name}"))),
                }),
                // Every workspace has an init process where its engine has one.
                ("init", Value::Bool(_)) | ("privileged", Value::Bool(false)) => {}
                (name, _) if WITHOUT_EFFECT.contains(&name) => {}
                (_, Value::Null) => {}
                (_, Value::Array(items)) if items.is_empty() => {}
                (_, Value::Object(members)) if members.is_empty() => {}
                _ => drop(self.unused.insert(name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::chain::tests::spec;

    fn filled(draft: &mut Draft, label: &str) -> Option<String> {
        fill(draft, &BTreeMap::from([(LABEL.to_owned(), label.to_owned())]))
    }

    #[test]
    fn a_later_object_wins_and_the_rest_is_listed() {
        let mut draft = Draft::new(spec());
        let label = r#"[{"id": "a", "remoteUser": "one", "containerEnv": {"A": "1", "P": "${containerEnv:PATH}:/x"}},
                        {"remoteUser": "dev", "privileged": true, "mounts": ["x"], "customizations": {"v": {}}}]"#;
        let note = filled(&mut draft, label).unwrap();
        assert_eq!(note, "not honoured in the image's label devcontainer.metadata: containerEnv.P, mounts, privileged");
        assert_eq!((draft.spec.user.as_deref(), draft.spec.env["A"].as_str()), (Some("dev"), "1"));
        assert_eq!(filled(&mut Draft::new(spec()), r#"{"containerUser": "dev", "init": true}"#), None);
    }

    #[test]
    fn a_decided_user_and_variable_stay() {
        let mut draft = Draft::new(spec());
        draft.set(&Adjustment::User(Some("1:1".into())), Owner::host("project", None), None);
        draft.set(&Adjustment::Env("A".into(), Some("mine".into())), Owner::host("request", None), None);
        assert_eq!(filled(&mut draft, r#"{"remoteUser": "dev", "containerEnv": {"A": "1"}}"#), None);
        assert_eq!((draft.spec.user.as_deref(), draft.spec.env["A"].as_str()), (Some("1:1"), "mine"));
    }

    #[test]
    fn a_label_cannot_make_a_workspace_run_as_root() {
        for user in ["root", "0", "+0", "00:5", "root:root", ""] {
            let mut draft = Draft::new(spec());
            draft.set(&Adjustment::User(Some("1577:100".into())), Owner::host("default", None), None);
            assert_eq!(filled(&mut draft, &format!("{{\"remoteUser\": \"{user}\"}}")), None);
            assert_eq!(draft.spec.user.as_deref(), Some("1577:100"), "{user}");
        }
    }

    #[test]
    fn a_label_that_makes_no_sense_is_ignored_with_a_note() {
        for label in ["", "[1]", "7", "{\"remoteUser\": \"dev\"", "\"x\""] {
            let mut draft = Draft::new(spec());
            assert!(filled(&mut draft, label).unwrap().contains("is ignored: "), "{label}");
            assert_eq!(draft.spec, spec());
        }
        let note = filled(&mut Draft::new(spec()), "{\"remoteUser\": \"a\\nb\", \"x\\u001b[31m\": 1}").unwrap();
        assert!(note.ends_with(": remoteUser, x [31m"), "{note:?}");
    }
}
