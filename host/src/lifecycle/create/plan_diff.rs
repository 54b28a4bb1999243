//! The changes that recreating an existing workspace today would make: field by field, with the owner of each.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hooks::adjust::diff;
use crate::hooks::record::{Change, Draft};
use crate::hooks::{Adjustment, Hook};
use crate::lifecycle::Plan;
use crate::lifecycle::ResolvedRequest;
use crate::lifecycle::create::resolved_request::DevcontainerChoice;
use crate::records::place;
use crate::store::Workspace;
use crate::workspace::{ContainerSpec, PullPolicy};

/// One field that would change.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct FieldChange {
    /// The field.
    pub field: String,
    /// The existing value; null when it is missing.
    pub is: Value,
    /// The new value.
    pub decided: Value,
    /// Owner of the existing value, and the place.
    pub was_by: String,
    /// Owner of the new value, and the place.
    pub by: String,
    /// The hook; null when no policy sets it.
    pub hook: Option<Hook>,
}

/// The changes in a workspace, and whether it could be recreated at all.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct PlanDiff {
    /// Its id.
    pub id: String,
    /// The fields that would change.
    pub changes: Vec<FieldChange>,
    /// The refusal, if it would be refused.
    pub denied: Option<crate::hooks::record::Refusal>,
    /// Whether the facts came from an engine.
    pub engine: bool,
}

impl PlanDiff {
    /// Compares a workspace with the plan for it.
    pub fn of(stored: &Workspace, plan: &Plan) -> Self {
        let (id, changes) = (plan.id.to_string(), plan_diff(stored, plan));
        Self { id, changes, denied: plan.denied.clone(), engine: plan.engine }
    }
}

/// Returns the request that a workspace was made with, as far as its record has it, overridden by the new request.
/// Values of secrets are not in the record.
pub(in crate::lifecycle) fn remembered(stored: &Workspace, now: ResolvedRequest) -> ResolvedRequest {
    let mut request = now;
    request.project = std::path::PathBuf::from(&stored.project);
    request.name = Some(stored.name.clone());
    if request.fresh {
        return request;
    }
    let given: Vec<String> = request.fields.iter().map(|(edit, _)| edit.field()).collect();
    for change in asked(&stored.draft) {
        let words = change.by.at.clone().unwrap_or_default();
        let Some(edit) = Adjustment::from_field(&change.field, &change.value) else { continue };
        match edit {
            Adjustment::Image(choice) => {
                if request.image.is_none() && request.build.is_none() {
                    let then = stored.draft.spec.image.as_ref().filter(|then| then.reference == choice.reference);
                    request.pull = request.pull.or(then.map(|then| then.pull));
                    request.image = Some(choice.reference);
                }
            }
            Adjustment::Command(words) if request.command.is_empty() => request.command = words,
            Adjustment::Command(_) => {}
            Adjustment::Env(name, Some(value)) => drop(request.env.entry(name).or_insert(value)),
            Adjustment::Label(name, Some(value)) => drop(request.labels.entry(name).or_insert(value)),
            // It is mounted for the secret files, not because the request names the mount.
            Adjustment::Mount(..) if words == "--secret" => {}
            edit if given.contains(&edit.field()) => {}
            edit => request.fields.push((edit, words)),
        }
    }
    if request.devcontainer == DevcontainerChoice::Usual && stored.no_devcontainer {
        request.devcontainer = DevcontainerChoice::Off;
    }
    if let (DevcontainerChoice::Usual, Some(record)) = (&request.devcontainer, &stored.devcontainer) {
        let named = record.file.strip_prefix(".devcontainer/").and_then(|rest| rest.strip_suffix("/devcontainer.json"));
        if let Some(name) = named {
            request.devcontainer = DevcontainerChoice::Named(name.to_owned());
        }
    }
    request
}

/// Returns the last change of each field by the request.
fn asked(draft: &Draft) -> Vec<&Change> {
    let mut last: std::collections::BTreeMap<&str, &Change> = std::collections::BTreeMap::new();
    for change in draft.history.iter().filter(|change| change.by.policy == "request") {
        last.insert(&change.field, change);
    }
    last.into_values().collect()
}

/// Returns the changes.
fn plan_diff(stored: &Workspace, plan: &Plan) -> Vec<FieldChange> {
    let plain = |spec: &ContainerSpec| {
        let mut spec = spec.clone();
        // The reason for an image's choice, and its pull policy, do not change the container.
        if let Some(image) = &mut spec.image {
            image.reason.clear();
            image.pull = PullPolicy::Missing;
        }
        spec
    };
    let (is, wanted) = (plain(&stored.draft.spec), plain(&plan.spec));
    let backwards = diff(&wanted, &is);
    let last = |history: &[Change], field: &str| history.iter().rfind(|change| change.field == field).cloned();
    let by = |change: Option<&Change>| change.map_or("default".to_owned(), |change| place(&change.by));
    let mut all: Vec<FieldChange> = diff(&is, &wanted)
        .iter()
        .map(|edit| {
            let field = edit.field();
            let (then, now) = (last(&stored.draft.history, &field), last(&plan.history, &field));
            let was = backwards.iter().find(|edit| edit.field() == field).map(Adjustment::value).unwrap_or_default();
            FieldChange {
                is: was,
                decided: edit.value(),
                was_by: by(then.as_ref()),
                by: by(now.as_ref()),
                hook: now.and_then(|now| now.hook),
                field,
            }
        })
        .collect();
    let commands = |record: Option<&crate::devcontainer::Record>| -> Vec<(String, Value)> {
        let once = record.map(|record| record.commands.once.as_slice()).unwrap_or_default();
        once.iter()
            .map(|command| (format!("devcontainer.{}", command.property), Value::from(command.words.clone())))
            .collect()
    };
    let (then, now) = (commands(stored.devcontainer.as_ref()), commands(plan.devcontainer.as_ref()));
    let of = |list: &[(String, Value)], field: &str| {
        list.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone())
    };
    let mut names: Vec<&String> = then.iter().chain(&now).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    for field in names {
        let (is, decided) = (of(&then, field).unwrap_or_default(), of(&now, field).unwrap_or_default());
        if is != decided {
            let by = "project".to_owned();
            all.push(FieldChange { field: field.clone(), is, decided, was_by: by.clone(), by, hook: None });
        }
    }
    all
}
