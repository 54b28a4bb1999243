//! Snapshots of workspaces.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Error, Store, from_json, statement, to_json};
use crate::workspace::{ContainerSpec, WorkspaceId};

/// A workspace's writable layer as an image, and its volumes as copies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Snapshot {
    /// Its name, `<workspace id>/<name>`.
    pub name: String,
    /// The workspace that it was made of.
    pub workspace: WorkspaceId,
    /// The workspace's name.
    pub workspace_name: String,
    /// Absolute path of the project.
    pub project: String,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// Name of the image.
    pub image: String,
    /// Content id of the image.
    pub image_id: String,
    /// Volume of the workspace -> its copy.
    pub volumes: BTreeMap<String, String>,
    /// The decided spec of the workspace. Values of secrets read `***`.
    pub spec: ContainerSpec,
}

impl Store {
    /// Writes a snapshot.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let what = "save a snapshot";
        let body = to_json(snapshot, what)?;
        self.connection()
            .execute(
                "insert or replace into snapshots (name, workspace, body) values (?1, ?2, ?3)",
                params![snapshot.name, snapshot.workspace.as_str(), body],
            )
            .map_err(statement(what))?;
        Ok(())
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshot(&self, name: &str) -> Result<Option<Snapshot>, Error> {
        let what = "read a snapshot";
        let text: Option<String> = self
            .connection()
            .query_row("select body from snapshots where name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(statement(what))?;
        text.map(|text| from_json(&text, what)).transpose()
    }

    /// Returns all snapshots, or those of a workspace, sorted by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshots(&self, workspace: Option<&WorkspaceId>) -> Result<Vec<Snapshot>, Error> {
        let what = "list snapshots";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached("select body from snapshots where ?1 is null or workspace = ?1 order by name")
            .map_err(statement(what))?;
        let rows = query
            .query_map([workspace.map(WorkspaceId::as_str)], |row| row.get::<_, String>(0))
            .map_err(statement(what))?;
        rows.map(|text| from_json(&text.map_err(statement(what))?, what)).collect()
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_snapshot(&self, name: &str) -> Result<(), Error> {
        self.connection()
            .execute("delete from snapshots where name = ?1", [name])
            .map_err(statement("delete a snapshot"))?;
        Ok(())
    }
}
