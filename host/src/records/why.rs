//! `why`: which owner set each field of an existing workspace, the part of each policy, and the records that show it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Error;
use super::explain::{Explained, explain};
use crate::config::Loaded;
use crate::store::{self, Store};
use crate::wire::{TrailStep, trail};

/// Explanation of a workspace.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct Why {
    /// Its id.
    pub id: String,
    /// Its fields, explained.
    pub fields: BTreeMap<String, Explained>,
    /// Each policy's part in its creation and start.
    pub trail: Vec<TrailStep>,
    /// The records of the decisions that created it.
    pub records: Vec<RecordNumber>,
    /// The time of the last pruned record; null if all records of this workspace are present.
    #[serde(default)]
    pub pruned: Option<Timestamp>,
}

/// A record that a workspace refers to.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct RecordNumber {
    /// Its id.
    pub id: Uuid,
    /// Its number in `wharf audit`; null if it was pruned.
    pub number: Option<i64>,
}

/// Explains a workspace from the store's data, without an engine: all fields, one field (`image`, `env.TEAM`) or a
/// group of fields (`env`).
///
/// # Errors
/// [`Error::NoField`], or an error if the store cannot be read.
pub fn why(store: &Store, loaded: &Loaded, workspace: &store::Workspace, field: Option<&str>) -> Result<Why, Error> {
    let wanted = |name: &str| {
        field.is_none_or(|field| name == field || name.strip_prefix(field).is_some_and(|rest| rest.starts_with('.')))
    };
    let mut fields = explain(&workspace.draft, loaded, &[], &workspace.trail);
    fields.retain(|name, _| wanted(name));
    if let (Some(field), true) = (field, fields.is_empty()) {
        return Err(Error::NoField { id: workspace.id.to_string(), field: field.to_owned() });
    }
    let mut records = Vec::with_capacity(workspace.decisions.len());
    for id in &workspace.decisions {
        let number = store.decision(&id.to_string())?.map(|stored| stored.number);
        records.push(RecordNumber { id: *id, number });
    }
    let lacks = records.iter().any(|record| record.number.is_none());
    let pruned = if lacks { store.checkpoint()?.map(|checkpoint| checkpoint.time) } else { None };
    Ok(Why { id: workspace.id.to_string(), fields, trail: trail(&workspace.trail), records, pruned })
}
