//! `why`: who set each field of a workspace that exists, what each policy did, and in which records that is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Error;
use super::explain::{Explained, explain};
use crate::config::Loaded;
use crate::store::{self, Store};
use crate::wire::{TrailStep, trail};

/// Why a workspace is what it is.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct Why {
    /// Its id.
    pub id: String,
    /// Its fields, explained.
    pub fields: BTreeMap<String, Explained>,
    /// What each policy did when it was created and started.
    pub trail: Vec<TrailStep>,
    /// The records of the decisions that made it.
    pub records: Vec<RecordNumber>,
    /// When the last of the records that were pruned was taken; null when all of its own are there.
    #[serde(default)]
    pub pruned: Option<Timestamp>,
}

/// A record that a workspace names.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct RecordNumber {
    /// Its id.
    pub id: Uuid,
    /// Its number in `wharf audit`; null when it was pruned.
    pub number: Option<i64>,
}

/// Explains a workspace from what the store keeps of it, without an engine: all of it, or one field (`image`,
/// `env.TEAM`) or group of fields (`env`).
///
/// # Errors
/// [`Error::NoField`], or when the store cannot be read.
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
