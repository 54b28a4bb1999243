//! The service of this installation: `wharf serve` runs once per state folder.

use jiff::Timestamp;
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use super::{Error, Owner, Store, WorkspaceLock, from_json, statement, to_json};

/// The status of the service, as it last recorded it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Process id.
    pub pid: u32,
    /// Start of the process, see [`Owner`].
    pub process_start: i64,
    /// Version of the program.
    pub version: String,
    /// Start of the service.
    pub since: Timestamp,
    /// The reason that the engine is unreachable now, if it is.
    pub engine_away: Option<String>,
    /// Its loops.
    pub loops: Vec<LoopStatus>,
    /// The chain that it decides with.
    #[serde(default)]
    pub chain: ChainStatus,
}

/// The chain of the service, and the result of its last reload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChainStatus {
    /// Policy -> version (digests of its bytes and settings) that decides.
    pub policies: std::collections::BTreeMap<String, String>,
    /// Time when that chain was loaded.
    pub since: Option<Timestamp>,
    /// Number of reloads since the service started.
    pub attempts: u64,
    /// The reason that the last one was refused; the previous chain still decides.
    pub refused: Option<String>,
    /// Time of that refusal.
    pub refused_at: Option<Timestamp>,
}

/// The status of one loop of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopStatus {
    /// Its name.
    pub name: String,
    /// Failures since the service started.
    pub errors: u64,
    /// The last failure.
    pub last_error: Option<String>,
    /// Time of the last failure.
    pub last_error_at: Option<Timestamp>,
}

impl ServiceStatus {
    /// Returns whether the process that wrote the status is still alive.
    pub fn alive(&self) -> bool {
        Owner { pid: self.pid, start: self.process_start }.alive()
    }
}

impl Store {
    /// Takes the lock of this installation's service. Returns `None` when another process has it.
    ///
    /// # Errors
    /// When the lock's file is unusable.
    pub fn try_lock_service(&self) -> Result<Option<WorkspaceLock>, Error> {
        // No workspace's ID has an underscore.
        self.try_lock_file("_service", true)
    }

    /// Records the status of the service; `None` when it ends.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_service(&self, status: Option<&ServiceStatus>) -> Result<(), Error> {
        let what = "save the state of the service";
        let connection = self.connection();
        match status {
            Some(status) => connection.execute(
                "insert into meta (key, value) values ('service', ?1) on conflict (key) do update set value = ?1",
                [to_json(status, what)?],
            ),
            None => connection.execute("delete from meta where key = 'service'", []),
        }
        .map_err(statement(what))?;
        Ok(())
    }

    /// Returns the status of the running service, if there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn service(&self) -> Result<Option<ServiceStatus>, Error> {
        let what = "read the state of the service";
        let text: Option<String> = self
            .connection()
            .query_row("select value from meta where key = 'service'", [], |row| row.get(0))
            .optional()
            .map_err(statement(what))?;
        let status: Option<ServiceStatus> = text.map(|text| from_json(&text, what)).transpose()?;
        // A killed service could not remove its row.
        Ok(status.filter(ServiceStatus::alive))
    }

    /// Writes a value, to test whether writing works: on a full disk, reading still does.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn probe(&self) -> Result<(), Error> {
        self.connection()
            .execute(
                "insert into meta (key, value) values ('probe', ?1) on conflict (key) do update set value = ?1",
                [Timestamp::now().to_string()],
            )
            .map_err(statement("write"))?;
        Ok(())
    }
}
