//! What would change in a workspace that exists, were it made again today: field by field, with who decides each.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hooks::adjust::diff;
use crate::hooks::record::{Change, Draft};
use crate::hooks::{Adjustment, Hook};
use crate::lifecycle::Plan;
use crate::lifecycle::ResolvedRequest;
use crate::lifecycle::create::resolved::DevcontainerChoice;
use crate::records::place;
use crate::store::Workspace;
use crate::workspace::{ContainerSpec, PullPolicy};

/// One field that would change.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct FieldChange {
    /// The field.
    pub field: String,
    /// As it is; null when it is not there.
    pub is: Value,
    /// As it would be.
    pub decided: Value,
    /// Who set it then, and where.
    pub was_by: String,
    /// Who sets it now, and where.
    pub by: String,
    /// At which hook; null when no policy does.
    pub hook: Option<Hook>,
}

/// What would change in a workspace, and whether it could be made again at all.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct PlanDiff {
    /// Its id.
    pub id: String,
    /// The fields that would be others.
    pub changes: Vec<FieldChange>,
    /// Why it would be refused, if it would.
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

/// The request that a workspace was made with, as far as its record tells, with what is asked for now over it. Values of
/// secrets are not remembered.
pub(in crate::lifecycle) fn remembered(stored: &Workspace, now: ResolvedRequest) -> ResolvedRequest {
    let mut request = now;
    request.project = std::path::PathBuf::from(&stored.project);
    request.name = Some(stored.name.clone());
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
            // Mounted because there are secret files, not because the request names the mount.
            Adjustment::Mount(..) if words == "--secret" => {}
            edit if given.contains(&edit.field()) => {}
            edit => request.fields.push((edit, words)),
        }
    }
    if let (DevcontainerChoice::Usual, Some(record)) = (&request.devcontainer, &stored.devcontainer) {
        let named = record.file.strip_prefix(".devcontainer/").and_then(|rest| rest.strip_suffix("/devcontainer.json"));
        if let Some(name) = named {
            request.devcontainer = DevcontainerChoice::Named(name.to_owned());
        }
    }
    request
}

/// The last that the request said about each field.
fn asked(draft: &Draft) -> Vec<&Change> {
    let mut last: std::collections::BTreeMap<&str, &Change> = std::collections::BTreeMap::new();
    for change in draft.history.iter().filter(|change| change.by.policy == "request") {
        last.insert(&change.field, change);
    }
    last.into_values().collect()
}

/// What would change.
fn plan_diff(stored: &Workspace, plan: &Plan) -> Vec<FieldChange> {
    let plain = |spec: &ContainerSpec| {
        let mut spec = spec.clone();
        // Why an image was chosen, and when it is fetched, does not change the container.
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
