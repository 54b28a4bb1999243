//! `wharf why`: who set each field, who was overruled, and where. It reads the store only, so it needs no engine.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::plan::short;
use super::{Context, Failure};
use crate::hooks::record::{Change, lookup};
use crate::lifecycle::{TrailStep, find_stored, trail};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name; left out, the workspace of this folder
    workspace: Option<String>,
    /// A field such as image, env.TEAM or resources.memory; a group such as env or security
    field: Option<String>,
}

#[derive(Serialize)]
struct Why {
    id: String,
    fields: BTreeMap<String, Field>,
    trail: Vec<TrailStep>,
}

#[derive(Serialize)]
struct Field {
    value: Value,
    owner: String,
    history: Vec<Change>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let store = context.app.store()?;
    // One word may be a workspace or a field of this folder's workspace.
    let (workspace, field) = match (&args.workspace, &args.field) {
        (Some(word), None) => match find_stored(&store, &context.target(Some(word))?) {
            Ok(workspace) => (workspace, None),
            Err(first) => match find_stored(&store, &context.target(None)?) {
                Ok(workspace) => (workspace, Some(word.as_str())),
                Err(_) => return Err(first.into()),
            },
        },
        (name, field) => (find_stored(&store, &context.target(name.as_deref())?)?, field.as_deref()),
    };
    let spec = serde_json::to_value(&workspace.draft.spec).unwrap_or_default();
    let wanted = |name: &str| {
        field.is_none_or(|field| name == field || name.strip_prefix(field).is_some_and(|rest| rest.starts_with('.')))
    };
    let mut fields = BTreeMap::new();
    for (name, owner) in workspace.draft.owner_names().into_iter().filter(|(name, _)| wanted(name)) {
        let history: Vec<_> = workspace.draft.history.iter().filter(|change| change.field == name).cloned().collect();
        let value = lookup(&spec, &name).unwrap_or_default();
        fields.insert(name, Field { value, owner, history });
    }
    if let (Some(field), true) = (field, fields.is_empty()) {
        let text = format!("{} has no field '{field}'", workspace.id);
        return Err(Failure::new("no-field", text, "'wharf why' without a field lists them all", 5));
    }
    let why = Why { id: workspace.id.to_string(), fields, trail: trail(&workspace.trail) };
    if context.out.json {
        context.out.value(&why)?;
    } else {
        print(context, &why, field.is_none())?;
    }
    Ok(0)
}

fn print(context: &Context, why: &Why, all: bool) -> Result<(), Failure> {
    let out = &context.out;
    out.line(out.bold(&why.id))?;
    if all {
        for line in out.trail(&why.trail) {
            out.line(format!("  {line}"))?;
        }
    }
    for (name, field) in &why.fields {
        if field.history.is_empty() {
            // Whole lists of defaults would hide what somebody decided.
            if !all {
                out.line(format!("{name} = {}\n    default", short(&field.value)))?;
            }
            continue;
        }
        out.line(format!("{} = {}", out.bold(name), short(&field.value)))?;
        let last = field.history.len() - 1;
        for (index, change) in field.history.iter().enumerate() {
            let who = match &change.by.at {
                Some(at) if at.starts_with(&change.by.policy) => at.clone(),
                Some(at) if at.starts_with("sha256:") => format!("{}@{at}", change.by.policy),
                Some(at) => format!("{} ({at})", change.by.policy),
                None => change.by.policy.clone(),
            };
            let hook = change.hook.map_or(String::new(), |hook| format!(" at {hook}"));
            let fate = if index == last { "" } else { "  (overruled)" };
            out.line(format!("    {who}{hook}: {}{fate}", short(&change.value)))?;
        }
    }
    Ok(())
}
