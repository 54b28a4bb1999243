//! The journal: each intent is recorded before it is carried out, so that a process that dies leaves a trace of it.

use rusqlite::params;

use super::{Error, JournalEntry, Owner, Store, Verb, statement};
use crate::workspace::WorkspaceId;

impl Store {
    /// Records an intent before it is carried out. Returns the entry's number.
    ///
    /// # Errors
    /// When the store cannot be written; then the intent must not be carried out.
    pub fn begin(&self, workspace: &WorkspaceId, verb: Verb) -> Result<i64, Error> {
        self.begin_with(workspace, verb, None)
    }

    /// Records an intent like [`Self::begin`], with the details for finishing or undoing it; see
    /// [`JournalEntry::detail`].
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn begin_with(&self, workspace: &WorkspaceId, verb: Verb, detail: Option<&str>) -> Result<i64, Error> {
        let owner = Owner::this_process();
        let connection = self.connection();
        connection
            .execute(
                "insert into journal (workspace, verb, begun, pid, process_start, detail) values (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    workspace.as_str(),
                    verb.as_str(),
                    jiff::Timestamp::now().to_string(),
                    owner.pid,
                    owner.start,
                    detail
                ],
            )
            .map_err(statement("write the journal"))?;
        Ok(connection.last_insert_rowid())
    }

    /// Marks an intent as carried out or undone.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn done(&self, entry: i64, result: &str) -> Result<(), Error> {
        self.connection()
            .execute(
                "update journal set ended = ?2, result = ?3 where id = ?1",
                params![entry, jiff::Timestamp::now().to_string(), result],
            )
            .map_err(statement("write the journal"))?;
        Ok(())
    }

    /// Marks an intent of a dead process as undone, and leaves it open: the engine may still be about to carry out a
    /// request of that process.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn undone(&self, entry: i64) -> Result<(), Error> {
        self.connection()
            .execute(
                "update journal set undone = ?2 where id = ?1 and undone is null",
                params![entry, jiff::Timestamp::now().to_string()],
            )
            .map_err(statement("write the journal"))?;
        Ok(())
    }

    /// Takes an intent away from this process, which could not complete it: the next process undoes or finishes it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn abandon(&self, entry: i64) -> Result<(), Error> {
        // No process has the number 0.
        self.connection()
            .execute("update journal set pid = 0, process_start = 0 where id = ?1", [entry])
            .map_err(statement("write the journal"))?;
        Ok(())
    }

    /// Returns intents without an end, oldest first: a process works on them, or it died.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_entries(&self) -> Result<Vec<JournalEntry>, Error> {
        let what = "read the journal";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(
                "select id, workspace, verb, pid, process_start, undone, detail, begun from journal where ended is null order by id",
            )
            .map_err(statement(what))?;
        let rows = query
            .query_map([], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get::<_, Option<String>>(5)?,
                    row.get(6)?,
                    row.get::<_, String>(7)?,
                ))
            })
            .map_err(statement(what))?;
        let mut entries = Vec::new();
        for row in rows {
            let (id, workspace, verb, pid, start, undone, detail, begun) = row.map_err(statement(what))?;
            let damaged = |cause: String| Error::Statement { what, cause };
            entries.push(JournalEntry {
                id,
                workspace: workspace.parse().map_err(damaged)?,
                verb: verb.parse().map_err(damaged)?,
                begun: begun.parse().map_err(|error: jiff::Error| damaged(error.to_string()))?,
                owner: Owner { pid, start },
                undone: undone.and_then(|time| time.parse().ok()),
                detail,
            });
        }
        Ok(entries)
    }

    /// Returns whether an intent has not ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_open(&self, entry: i64) -> Result<bool, Error> {
        self.connection()
            .query_row("select ended is null from journal where id = ?1", [entry], |row| row.get(0))
            .map_err(statement("read the journal"))
    }
}
