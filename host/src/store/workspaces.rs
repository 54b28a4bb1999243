//! Workspaces in their intended state.
//!
//! A record is some tens of kilobytes of JSON, and a service lists all records many times a second. So decoded records
//! are cached until their text changes. Functions that only look up a workspace read columns.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{Error, Store, Workspace, from_json, statement, to_json};
use crate::workspace::WorkspaceId;

/// The values by which a workspace is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWorkspace {
    /// Its ID.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Absolute path of the project folder.
    pub project: String,
    /// For a sidecar, the workspace that it belongs to.
    pub part_of: Option<WorkspaceId>,
}

/// Cached records, by ID.
pub(super) type Read = HashMap<String, (String, Arc<Workspace>)>;

impl Store {
    /// Writes or replaces a workspace.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_workspace(&self, workspace: &Workspace) -> Result<(), Error> {
        put(&self.connection(), workspace)
    }

    /// Reads a workspace.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn workspace(&self, id: &WorkspaceId) -> Result<Option<Workspace>, Error> {
        read(&self.connection(), id, "read a workspace")
    }

    /// Returns the engine's ID of a workspace's container.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn container_id(&self, of: &WorkspaceId) -> Result<Option<String>, Error> {
        self.connection()
            .prepare_cached("select json_extract(body, '$.container_id') from workspaces where id = ?1")
            .and_then(|mut query| query.query_row([of.as_str()], |row| row.get(0)).optional())
            .map_err(statement("find a container"))
    }

    /// Returns the workspace that a sidecar belongs to, or an inner `None` for a workspace that is not a sidecar. The
    /// outer `None` means that the ID is unknown.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn part_of(&self, id: &WorkspaceId) -> Result<Option<Option<WorkspaceId>>, Error> {
        let found: Option<Option<String>> = self
            .connection()
            .prepare_cached("select part_of from workspaces where id = ?1")
            .and_then(|mut query| query.query_row([id.as_str()], |row| row.get(0)).optional())
            .map_err(statement("find a workspace"))?;
        Ok(found.map(|part_of| part_of.and_then(|id| id.parse().ok())))
    }

    /// Changes a workspace atomically, so that no concurrent write of another process is lost. Returns whether it is
    /// known.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn update_workspace(&self, id: &WorkspaceId, edit: impl FnOnce(&mut Workspace)) -> Result<bool, Error> {
        let what = "change a workspace";
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        let Some(mut workspace) = read(&transaction, id, what)? else { return Ok(false) };
        edit(&mut workspace);
        put(&transaction, &workspace)?;
        transaction.commit().map_err(statement(what))?;
        Ok(true)
    }

    /// Returns all workspaces, sorted by ID.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn workspaces(&self) -> Result<Vec<Arc<Workspace>>, Error> {
        let what = "list workspaces";
        let connection = self.connection();
        let mut query =
            connection.prepare_cached("select id, body from workspaces order by id").map_err(statement(what))?;
        let mut rows = query.query([]).map_err(statement(what))?;
        let mut before = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut now, mut all) = (Read::with_capacity(before.len()), Vec::with_capacity(before.len()));
        while let Some(row) = rows.next().map_err(statement(what))? {
            let id: String = row.get(0).map_err(statement(what))?;
            let text = row.get_ref(1).map_err(statement(what))?;
            let text = text.as_str().map_err(|error| statement(what)(error.into()))?;
            let known = before.remove(&id).filter(|(read, _)| read == text);
            let (text, workspace) = match known {
                Some(known) => known,
                None => (text.to_owned(), Arc::new(from_json(text, what)?)),
            };
            all.push(workspace.clone());
            now.insert(id, (text, workspace));
        }
        *before = now;
        Ok(all)
    }

    /// Returns the look-up values of all workspaces, sorted by ID.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn known_workspaces(&self) -> Result<Vec<KnownWorkspace>, Error> {
        self.known("select id, name, project, part_of from workspaces order by id", [])
    }

    /// Returns the sidecars of a workspace, sorted by ID.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn sidecars(&self, of: &WorkspaceId) -> Result<Vec<KnownWorkspace>, Error> {
        self.known("select id, name, project, part_of from workspaces where part_of = ?1 order by id", [of.as_str()])
    }

    fn known(&self, query: &str, values: impl rusqlite::Params) -> Result<Vec<KnownWorkspace>, Error> {
        let what = "find a workspace";
        let connection = self.connection();
        let mut query = connection.prepare_cached(query).map_err(statement(what))?;
        let rows = query.query_map(values, columns).map_err(statement(what))?;
        rows.map(|row| {
            let (id, name, project, part_of) = row.map_err(statement(what))?;
            let parsed = |text: String| {
                text.parse().map_err(|cause| Error::Statement { what, cause: format!("a damaged record: {cause}") })
            };
            Ok(KnownWorkspace { id: parsed(id)?, name, project, part_of: part_of.map(parsed).transpose()? })
        })
        .collect()
    }

    /// Removes a workspace. Its decisions stay.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_workspace(&self, id: &WorkspaceId) -> Result<(), Error> {
        let what = "delete a workspace";
        let connection = self.connection();
        for forget in ["delete from workspaces where id = ?1", "delete from signals where workspace = ?1"] {
            connection.execute(forget, [id.as_str()]).map_err(statement(what))?;
        }
        Ok(())
    }
}

fn columns(row: &Row<'_>) -> rusqlite::Result<(String, String, String, Option<String>)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn put(connection: &Connection, workspace: &Workspace) -> Result<(), Error> {
    let what = "save a workspace";
    let json = to_json(workspace, what)?;
    let part_of = workspace.part_of.as_ref().map(WorkspaceId::as_str);
    connection
        .prepare_cached(
            "insert into workspaces (id, name, project, part_of, body) values (?1, ?2, ?3, ?4, ?5)
             on conflict (id) do update set name = ?2, project = ?3, part_of = ?4, body = ?5",
        )
        .and_then(|mut write| {
            write.execute(params![workspace.id.as_str(), workspace.name, workspace.project, part_of, json])
        })
        .map_err(statement(what))?;
    Ok(())
}

fn read(connection: &Connection, id: &WorkspaceId, what: &'static str) -> Result<Option<Workspace>, Error> {
    let text: Option<String> = connection
        .prepare_cached("select body from workspaces where id = ?1")
        .and_then(|mut query| query.query_row([id.as_str()], |row| row.get(0)).optional())
        .map_err(statement(what))?;
    text.map(|text| from_json(&text, what)).transpose()
}
